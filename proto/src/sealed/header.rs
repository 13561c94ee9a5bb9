//! The age v1 header with exactly one stanza, in its one encoding.
//!
//! The `age` crate reads headers with any number of stanzas, without a limit, and writes none without a random
//! "grease" stanza beside the recipient's. So reading and writing the header is done here; the crate still checks
//! the MAC and does all of the payload.

use std::io::{BufRead, Read as _};

use age_core::format::FileKey;
use age_core::primitives::hkdf;
use age_core::secrecy::ExposeSecret as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::Error;
use crate::shown;

/// The greatest length of an age header, in bytes.
pub const MAX_AGE_HEADER: u64 = 64 * 1024;

const VERSION: &str = "age-encryption.org/v1";
const STANZA: &str = "-> ";
const MAC: &str = "---";
/// A stanza's body is wrapped at so many columns, and its last line is shorter.
const COLUMNS: usize = 64;

/// The one stanza of a header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) tag: String,
    pub(super) args: Vec<String>,
    pub(super) body: Vec<u8>,
}

/// Reads a header's bytes, its last newline included, and not more.
pub(super) fn read(reader: &mut impl BufRead) -> Result<Vec<u8>, Error> {
    let mut limited = reader.take(MAX_AGE_HEADER);
    let mut bytes = Vec::new();
    loop {
        let start = bytes.len();
        limited.read_until(b'\n', &mut bytes)?;
        let line = bytes.get(start..).unwrap_or_default();
        if start == 0 && line.strip_suffix(b"\n") != Some(VERSION.as_bytes()) {
            let found = shown::bytes(line.get(..=VERSION.len()).unwrap_or(line));
            return Err(Error::NotAge { expected: VERSION, found });
        }
        if !line.ends_with(b"\n") {
            return Err(match limited.limit() {
                0 => Error::AgeHeaderTooLong { limit: MAX_AGE_HEADER },
                _ => Error::AgeHeaderCut { found: bytes.len() },
            });
        }
        if line.starts_with(MAC.as_bytes()) {
            return Ok(bytes);
        }
    }
}

impl Header {
    /// Parses a header's bytes, as [`read`] gives them.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut lines = Lines { rest: bytes, number: 0 };
        lines.next("version", |line| (line == VERSION.as_bytes()).then_some(()))?;
        let (tag, args) = lines.next("stanza", stanza)?;

        let mut encoded = Vec::new();
        loop {
            let line = lines.next("line of base64", |line| (line.len() <= COLUMNS).then_some(line))?;
            encoded.extend_from_slice(line);
            if line.len() < COLUMNS {
                break;
            }
        }
        // Neither padding nor stray bits in the last character pass this engine.
        let body = BASE64_STANDARD_NO_PAD.decode(&encoded).map_err(|_| lines.error("base64", &encoded))?;

        lines.next("MAC", |line| line.starts_with(b"-").then_some(line)).and_then(|line| {
            if line.starts_with(STANZA.as_bytes()) {
                return Err(Error::SecondStanza { found: shown::bytes(line) });
            }
            let mac = line.strip_prefix(MAC.as_bytes()).and_then(|rest| rest.strip_prefix(b" "));
            let mac = mac.and_then(|mac| BASE64_STANDARD_NO_PAD.decode(mac).ok());
            mac.filter(|mac| mac.len() == 32).ok_or_else(|| lines.error("MAC", line))
        })?;
        match lines.rest {
            [] => Ok(Self { tag, args, body }),
            rest => Err(Error::AgeHeaderLine {
                line: lines.number + 1,
                expected: "end",
                found: shown::bytes(rest),
            }),
        }
    }

    /// The header's bytes, with the MAC that `file_key` gives.
    pub(super) fn to_bytes(&self, file_key: &FileKey) -> Vec<u8> {
        let mut bytes = format!("{VERSION}\n{STANZA}{}", self.tag).into_bytes();
        for arg in &self.args {
            bytes.push(b' ');
            bytes.extend_from_slice(arg.as_bytes());
        }
        bytes.push(b'\n');
        let encoded = BASE64_STANDARD_NO_PAD.encode(&self.body);
        let lines = encoded.as_bytes().chunks(COLUMNS);
        let ends_short = !encoded.len().is_multiple_of(COLUMNS);
        for line in lines {
            bytes.extend_from_slice(line);
            bytes.push(b'\n');
        }
        if !ends_short {
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(MAC.as_bytes());
        let mac = mac(file_key, &bytes);
        bytes.push(b' ');
        bytes.extend_from_slice(BASE64_STANDARD_NO_PAD.encode(mac).as_bytes());
        bytes.push(b'\n');
        bytes
    }
}

/// The MAC over a header up to and including its three dashes.
fn mac(file_key: &FileKey, header: &[u8]) -> [u8; 32] {
    let key = Zeroizing::new(hkdf(&[], b"header", file_key.expose_secret()));
    // A key of 32 bytes is shorter than SHA-256's block: so it fits as it is.
    let mut block = Zeroizing::new([0; 64]);
    block.iter_mut().zip(key.iter()).for_each(|(to, from)| *to = *from);
    <Hmac<Sha256> as hmac::digest::KeyInit>::new((&*block).into())
        .chain_update(header)
        .finalize()
        .into_bytes()
        .into()
}

/// Type and arguments: one or more words of printable ASCII, one space apart.
fn stanza(line: &[u8]) -> Option<(String, Vec<String>)> {
    let words = std::str::from_utf8(line.strip_prefix(STANZA.as_bytes())?).ok()?;
    let mut words = words.split(' ').map(|word| {
        let fits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| word.to_owned())
    });
    Some((words.next()??, words.collect::<Option<_>>()?))
}

struct Lines<'b> {
    rest: &'b [u8],
    number: usize,
}

impl<'b> Lines<'b> {
    /// The next line, if it is what is expected.
    fn next<T>(
        &mut self,
        expected: &'static str,
        read: impl FnOnce(&'b [u8]) -> Option<T>,
    ) -> Result<T, Error> {
        self.number += 1;
        let line;
        (line, self.rest) = match self.rest.iter().position(|byte| *byte == b'\n') {
            Some(end) => self.rest.split_at_checked(end).map_or((self.rest, &[][..]), |(line, rest)| {
                (line, rest.strip_prefix(b"\n").unwrap_or(rest))
            }),
            None => (self.rest, &[][..]),
        };
        read(line).ok_or_else(|| self.error(expected, line))
    }

    /// That the line last read is not what is expected.
    fn error(&self, expected: &'static str, found: &[u8]) -> Error {
        Error::AgeHeaderLine { line: self.number, expected, found: shown::bytes(found) }
    }
}
