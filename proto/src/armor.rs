//! Text armour for files that people mail and paste: PEM (RFC 7468) with labels of our own.
//!
//! Reading is lenient about white space and what stands around the block, as RFC 7468 §2 allows; the bytes inside are
//! checked by whoever parses them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The label of a trust file.
pub const TRUST: &str = "FAIRPOST CLUSTER TRUST";
/// The label of a proposal with its approvals.
pub const PROPOSAL: &str = "FAIRPOST PROPOSAL";
/// The label of a node card.
pub const NODE_CARD: &str = "FAIRPOST NODE CARD";
/// The label of a card.
pub const CARD: &str = "FAIRPOST CARD";

/// The largest text that is read at all.
pub const MAX_BYTES: usize = 12 * 1024 * 1024;
const LINE: usize = 64;

/// Why a text is no armour.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is larger than any that is read.
    #[error("the file has {found} bytes, at most {MAX_BYTES} are read")]
    TooLarge {
        /// Its size.
        found: usize,
    },
    /// There is no such block in it.
    #[error("expected a block that begins with -----BEGIN {expected}-----, found {found}")]
    Missing {
        /// The label asked for.
        expected: &'static str,
        /// What begins there instead.
        found: String,
    },
    /// The block does not end.
    #[error("the block has no -----END {label}----- line: the file is cut short")]
    Unended {
        /// Its label.
        label: &'static str,
    },
    /// What is in the block is no base64.
    #[error("the {label} block is no base64: {problem}")]
    Base64 {
        /// Its label.
        label: &'static str,
        /// What is wrong.
        problem: String,
    },
}

/// `bytes` in a block of this label.
pub fn encode(label: &str, bytes: &[u8]) -> String {
    let body = STANDARD.encode(bytes);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        // Base64 is ASCII, so every place is a boundary.
        let (line, more) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// The bytes of the first block of this label in `text`.
pub fn decode(label: &'static str, text: &str) -> Result<Vec<u8>, Error> {
    if text.len() > MAX_BYTES {
        return Err(Error::TooLarge { found: text.len() });
    }
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let Some((_, rest)) = text.split_once(&begin) else {
        let other = text.lines().find(|line| line.starts_with("-----BEGIN "));
        let found = other.map_or("no block at all".to_owned(), crate::shown::plain);
        return Err(Error::Missing { expected: label, found });
    };
    let (body, _) = rest.split_once(&end).ok_or(Error::Unended { label })?;
    let compact: String = body.chars().filter(|char| !char.is_ascii_whitespace()).collect();
    STANDARD.decode(compact).map_err(|error| Error::Base64 { label, problem: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_armoured_comes_back() {
        for length in [0, 1, 47, 48, 49, 1000] {
            let bytes: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
            let text = encode(CARD, &bytes);
            assert_eq!(decode(CARD, &text), Ok(bytes.clone()));
            let mangled = format!("Hello,\r\nhere is my card:\r\n{}\r\n-- \r\n", text.replace('\n', "\r\n "));
            assert_eq!(decode(CARD, &mangled), Ok(bytes));
        }
    }

    #[test]
    fn another_block_or_half_a_block_is_named() {
        let card = encode(CARD, b"card");
        assert!(decode(TRUST, &card).unwrap_err().to_string().contains("BEGIN FAIRPOST CARD"));
        assert_eq!(decode(CARD, &card[..40]), Err(Error::Unended { label: CARD }));
        assert!(matches!(decode(CARD, &card.replace("Y2", "*")), Err(Error::Base64 { .. })));
        assert_eq!(
            decode(CARD, "").unwrap_err(),
            Error::Missing { expected: CARD, found: "no block at all".into() }
        );
    }
}
