//! Opening a sealed mail with the release token.

use std::io::{self, BufRead, BufReader, Cursor, Read, Write};
use std::iter;

use age::{DecryptError, Decryptor, Identity};
use age_core::format::{FileKey, Stanza as AgeStanza};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::header::{self, Header};
use super::{Error, Garbage, Salt, Stanza, each_piece};
use crate::ids::Digest;
use crate::lock::Locked;
use crate::threshold::Token;

/// A mail that was opened, and is what the terms commit to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The mail's length in bytes.
    pub bytes: u64,
}

/// Opens a body: writes the mail, and compares it at its end with the `content` that the terms commit to.
///
/// `lock` is the stanza's ([`Stanza::lock_in_the_open`], [`Stanza::lock_for`], or what a party disclosed of it), and
/// `token` is the cluster's for the release of this exchange, which the caller has verified. Until this returns `Ok`,
/// nothing that it wrote may be handed on.
///
/// # Errors
///
/// [`Error::Garbage`] if the sender sealed something else than the terms say. [`Error::OtherLock`] if `lock` is not the
/// stanza's, and those of [`inspect`](super::inspect), [`Error::Read`] and [`Error::Write`], none of which say
/// anything about the sender.
pub fn open<R: Read, W: Write>(
    body: R,
    lock: &Locked,
    token: &Token,
    content: Digest,
    out: W,
) -> Result<Opened, Error> {
    let mut watched = Watched { reader: body, error: None };
    let outcome = open_watched(BufReader::new(&mut watched), lock, token, content, out);
    match watched.error {
        Some(error) => Err(Error::Read(error)),
        None => outcome,
    }
}

fn open_watched(
    mut body: impl BufRead,
    lock: &Locked,
    token: &Token,
    content: Digest,
    mut out: impl Write,
) -> Result<Opened, Error> {
    let header = header::read(&mut body)?;
    let stanza = Stanza::from_header(&Header::parse(&header)?)?;
    let (expected, found) = (stanza.lock_digest(), lock.digest());
    if expected != found {
        return Err(Error::OtherLock { expected, found });
    }

    let file_key = KnownKey(lock.unlock(token).map_err(Garbage::Lock)?);
    let payload = Decryptor::new_buffered(Cursor::new(header).chain(body))
        .and_then(|age| age.decrypt(iter::once(&file_key as &dyn Identity)))
        .map_err(|error| match error {
            DecryptError::InvalidMac => Garbage::HeaderMac,
            // The header is in order: so the body ends before the payload's nonce does.
            _ => Garbage::Payload { after: 0 },
        })?;

    let mut salt = Salt::SIZE;
    let mut hasher = Sha256::new();
    let write = |piece: &[u8]| {
        hasher.update(piece);
        let mail = piece.get(salt..).unwrap_or_default();
        salt = salt.saturating_sub(piece.len());
        out.write_all(mail).map_err(Error::Write)
    };
    let total = each_piece(payload, write, |after, _| Error::Garbage(Garbage::Payload { after }))?;
    out.flush().map_err(Error::Write)?;

    let expected = Salt::SIZE as u64;
    let bytes = total.checked_sub(expected).ok_or(Garbage::NoSalt { expected, found: total })?;
    match Digest::new(hasher.finalize().into()) {
        found if found == content => Ok(Opened { bytes }),
        found => Err(Garbage::Content { committed: content, found }.into()),
    }
}

/// The file key that came out of the lock.
struct KnownKey(Zeroizing<[u8; 16]>);

impl Identity for KnownKey {
    fn unwrap_stanza(&self, _: &AgeStanza) -> Option<Result<FileKey, DecryptError>> {
        Some(Ok(FileKey::init_with_mut(|key| *key = *self.0)))
    }
}

/// Keeps the error of a reader that fails: whoever reads through age could not tell it from garbage.
struct Watched<R> {
    reader: R,
    error: Option<io::Error>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            kind => {
                self.error = Some(error);
                kind.into()
            }
        })
    }
}
