//! PEM (RFC 7468) for files that hold secrets: several blocks in one text, and no copy left behind in memory.
//!
//! For what is public see [`crate::armor`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// The label of a PKCS #8 key.
pub(crate) const PRIVATE_KEY: &str = "PRIVATE KEY";
/// The label of an X.509 certificate.
pub(crate) const CERTIFICATE: &str = "CERTIFICATE";

const LINE: usize = 64;

/// Why a text is not PEM.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A block does not end, or ends as another.
    #[error("the {label} block has no -----END {label}----- line: the file is cut short")]
    Unended {
        /// Its label.
        label: String,
    },
    /// What is in a block is no base64.
    #[error("the {label} block is no base64")]
    Base64 {
        /// Its label.
        label: String,
    },
}

/// One block.
pub(crate) struct Block {
    pub(crate) label: String,
    pub(crate) bytes: Zeroizing<Vec<u8>>,
}

/// Appends a block. `text` should have room for it, so that its memory is not moved.
pub(crate) fn append(text: &mut Zeroizing<String>, label: &str, bytes: &[u8]) {
    let mut body = Zeroizing::new(String::with_capacity(bytes.len().div_ceil(3) * 4));
    STANDARD.encode_string(bytes, &mut body);
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = body.as_str();
    while !rest.is_empty() {
        // Base64 is ASCII, so every place is a boundary.
        let (line, more) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text.push_str(&format!("-----END {label}-----\n"));
}

/// What stands before the first block, and the blocks in their order. Text between blocks is skipped.
pub(crate) fn parse(text: &str) -> Result<(&str, Vec<Block>), Error> {
    const BEGIN: &str = "-----BEGIN ";
    let mut blocks = Vec::new();
    let (preamble, mut rest) = text.split_at(text.find(BEGIN).unwrap_or(text.len()));
    while let Some((_, after)) = rest.split_once(BEGIN) {
        let (label, body) = after.split_once("-----").unwrap_or((after, ""));
        let label: String = label.chars().take(LINE).collect();
        let end = format!("-----END {label}-----");
        let (body, more) = body.split_once(&end).ok_or_else(|| Error::Unended { label: shown(&label) })?;
        let mut compact = Zeroizing::new(String::with_capacity(body.len()));
        compact.extend(body.chars().filter(|char| !char.is_ascii_whitespace()));
        let mut bytes = Zeroizing::new(Vec::with_capacity(body.len()));
        STANDARD
            .decode_vec(compact.as_bytes(), &mut bytes)
            .map_err(|_| Error::Base64 { label: shown(&label) })?;
        blocks.push(Block { label, bytes });
        rest = more;
    }
    Ok((preamble, blocks))
}

/// A label for an error, which must not steer a terminal.
fn shown(label: &str) -> String {
    label.chars().map(|char| if char.is_control() { '\u{FFFD}' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back_in_their_order() {
        let mut text = Zeroizing::new("hello\n".to_owned());
        append(&mut text, PRIVATE_KEY, &[1; 100]);
        append(&mut text, CERTIFICATE, &[]);
        let (preamble, blocks) = parse(&text).unwrap();
        assert_eq!(preamble, "hello\n");
        let found: Vec<_> = blocks.iter().map(|block| (block.label.as_str(), block.bytes.len())).collect();
        assert_eq!(found, [(PRIVATE_KEY, 100), (CERTIFICATE, 0)]);
    }

    #[test]
    fn a_block_that_is_cut_or_garbled_is_named() {
        let mut text = Zeroizing::new(String::new());
        append(&mut text, CERTIFICATE, &[7; 100]);
        let label = CERTIFICATE.to_owned();
        let cut = text.get(..60).unwrap();
        assert_eq!(parse(cut).err(), Some(Error::Unended { label: label.clone() }));
        assert_eq!(parse(&text.replace("Bw", "*w")).err(), Some(Error::Base64 { label }));
        assert_eq!(parse("-----BEGIN ").err(), Some(Error::Unended { label: String::new() }));
    }
}
