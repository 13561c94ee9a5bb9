//! Sealing a mail.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::iter;

use age::{EncryptError, Encryptor, Recipient};
use age_core::format::{FileKey, Stanza};
use age_core::secrecy::ExposeSecret as _;
use rand::rngs::OsRng;
use rand::{CryptoRng, RngCore};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{Error, SealingPublicKey, each_piece, stanza};
use crate::ids::{ClusterId, Digest, ExchangeId};
use crate::lock;
use crate::threshold::{Message, PublicKey};

/// 32 random bytes that are sealed together with the mail, so that the commitment to a mail that can be guessed
/// does not betray it. Wiped from memory when dropped.
pub struct Salt(Zeroizing<[u8; Self::SIZE]>);

impl Salt {
    /// Its length in bytes.
    pub const SIZE: usize = 32;

    /// A fresh salt.
    pub fn generate<R: RngCore + CryptoRng>(rng: &mut R) -> Self {
        let mut bytes = Zeroizing::new([0; Self::SIZE]);
        rng.fill_bytes(&mut *bytes);
        Self(bytes)
    }

    /// The salt with these bytes.
    pub fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

/// To whom a mail is sealed, and until when.
#[derive(Clone, Debug)]
pub struct Sealing {
    /// The cluster that is to release it.
    pub cluster: ClusterId,
    /// That cluster's key.
    pub key: PublicKey,
    /// The exchange that it is to be released in.
    pub exchange: ExchangeId,
    /// Who can open it then.
    pub access: Access,
}

/// Who can open a mail once it is released.
#[derive(Clone, Debug)]
pub enum Access {
    /// CMP1: whoever holds it and the token.
    Cmp1,
    /// CMP2: these two, with the token.
    Cmp2 {
        /// The recipient's key, from its card.
        recipient: SealingPublicKey,
        /// The sender's own key.
        sender: SealingPublicKey,
    },
}

/// What was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// SHA-256 of the body, which the NRO signs.
    pub digest: Digest,
    /// The body's length in bytes.
    pub length: u64,
    /// The content's digest as it was sealed. It differs from the terms' if the mail changed since they were drawn up.
    pub content: Digest,
}

/// The commitment to a mail, which goes into the terms: SHA-256(salt || mail).
///
/// # Errors
///
/// [`Error::Read`].
pub fn content_commitment<R: Read>(salt: &Salt, mail: R) -> Result<Digest, Error> {
    let mut hasher = Sha256::new_with_prefix(salt.0.as_slice());
    let take = |piece: &[u8]| {
        hasher.update(piece);
        Ok(())
    };
    each_piece(mail, take, |_, error| Error::Read(error))?;
    Ok(Digest::new(hasher.finalize().into()))
}

/// Seals a mail of any size: writes the body, and gives its digest. All randomness is the operating system's.
///
/// # Errors
///
/// [`Error::Read`], [`Error::Write`] or [`Error::Encrypt`].
pub fn seal<R: Read, W: Write>(sealing: &Sealing, salt: &Salt, mail: R, out: W) -> Result<Sealed, Error> {
    seal_plaintext(sealing, salt.0.as_slice().chain(mail), out)
}

/// Seals salt and mail as one; by itself only for tests, which seal less than a salt.
pub(super) fn seal_plaintext<R: Read, W: Write>(
    sealing: &Sealing,
    plaintext: R,
    out: W,
) -> Result<Sealed, Error> {
    let header = HeaderMaker { sealing, header: RefCell::default() };
    let encryptor = Encryptor::with_recipients(iter::once(&header as &dyn Recipient))
        .map_err(|error| Error::Encrypt(error.to_string()))?;

    let mut out = Hashing { out, hasher: Sha256::new(), length: 0 };
    out.write_all(&header.header.into_inner()).map_err(Error::Write)?;
    let mut payload = encryptor.wrap_output(AfterHeader::new(&mut out)).map_err(Error::Write)?;
    let mut content = Sha256::new();
    let write = |piece: &[u8]| {
        content.update(piece);
        payload.write_all(piece).map_err(Error::Write)
    };
    each_piece(plaintext, write, |_, error| Error::Read(error))?;
    payload.finish().and_then(|mut rest| rest.flush()).map_err(Error::Write)?;

    Ok(Sealed {
        digest: Digest::new(out.hasher.finalize().into()),
        length: out.length,
        content: Digest::new(content.finalize().into()),
    })
}

/// Makes our header from the file key that the age crate has drawn.
///
/// That crate adds a second stanza of random "grease" to every header. So it gets no stanza from here, what it
/// writes as a header is dropped ([`AfterHeader`]), and this one goes in its place: the payload depends on nothing
/// in the header but the file key.
struct HeaderMaker<'s> {
    sealing: &'s Sealing,
    header: RefCell<Vec<u8>>,
}

impl Recipient for HeaderMaker<'_> {
    fn wrap_file_key(&self, file_key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), EncryptError> {
        let Sealing { cluster, key, exchange, access } = self.sealing;
        let message = Message::released(*cluster, *exchange);
        let lock = lock::lock(key, &message, file_key.expose_secret(), &mut OsRng);
        let header = match access {
            Access::Cmp1 => stanza::cmp1(*exchange, &lock),
            Access::Cmp2 { recipient, sender } => {
                let copies: Result<Vec<_>, _> =
                    [recipient, sender].iter().map(|key| key.seal(*exchange, &lock, &mut OsRng)).collect();
                stanza::cmp2(*exchange, lock.digest(), copies.map_err(io::Error::other)?.concat())
            }
        };
        self.header.replace(header.to_bytes(file_key));
        Ok((Vec::new(), HashSet::new()))
    }
}

/// Drops an age header, and passes on what follows it.
struct AfterHeader<W> {
    out: W,
    /// The header's current line; none after its end.
    line: Option<Vec<u8>>,
}

impl<W> AfterHeader<W> {
    const fn new(out: W) -> Self {
        Self { out, line: Some(Vec::new()) }
    }
}

impl<W: Write> Write for AfterHeader<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(line) = &mut self.line else { return self.out.write(bytes) };
        let piece = bytes.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
        line.extend_from_slice(piece);
        if line.ends_with(b"\n") {
            // No base64 begins with a dash, and no stanza with three.
            let ended = line.starts_with(b"---");
            self.line = (!ended).then(Vec::new);
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Hashes and counts what passes.
struct Hashing<W> {
    out: W,
    hasher: Sha256,
    length: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or(bytes));
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
