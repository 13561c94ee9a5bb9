//! The trust file, `cluster.trust`: what a client or a judge must have of a cluster, from a source it trusts.
//!
//! One block of [`armor`] around the bytes of a [`Trust`].

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use fairpost_proto::armor;
use fairpost_proto::trust as proto;

pub use fairpost_proto::trust::Trust;

/// Why there is no trust.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The text is no trust file.
    #[error("the trust file: {0}")]
    Armor(#[from] armor::Error),
    /// What it holds can't be believed.
    #[error("the trust file: {0}")]
    Trust(#[from] proto::Error),
}

/// Reads and checks the trust file at `path`.
pub fn load(path: &Path) -> Result<Trust, Error> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let mut text = String::new();
    File::open(path).map_err(io)?.take(armor::MAX_BYTES as u64 + 1).read_to_string(&mut text).map_err(io)?;
    parse(&text)
}

/// Reads and checks the text of a trust file.
pub fn parse(text: &str) -> Result<Trust, Error> {
    Ok(Trust::parse(&armor::decode(armor::TRUST, text)?)?)
}

/// The text of a trust file.
pub fn to_text(trust: &Trust) -> String {
    armor::encode(armor::TRUST, &trust.to_bytes())
}

/// Writes a trust file.
pub fn save(path: &Path, trust: &Trust) -> Result<(), Error> {
    std::fs::write(path, to_text(trust)).map_err(|source| Error::Io { path: path.to_owned(), source })
}
