//! A sealed mail in hand: what it says, and everything about it that can be checked before anything is signed.
//!
//! # Specification
//!
//! [`SealedMail::read`] finds the sealed part (in a mail, a forwarded mail, or bare) and takes it only if it holds
//! together: the NRO is signed by the key of its certificate, the body is the one that the NRO is about, and the body has
//! the one stanza of this exchange. [`SealedMail::check`] asks what a cluster has to do with it: whether an anchor vouches
//! for the sender, and the terms are within the rules. [`SealedMail::lock_for`] opens, in CMP2, the reader's own copy of
//! the lock. A receipt is signed only after all three.
//!
//! # Guarantees
//!
//! What was checked is what is opened: the sealed part lies in an unlinked file of this process from the first check on
//! ([`Spool`]).

use std::io::{self, Read, Seek as _, SeekFrom, Write};

use fairpost_proto::cose::{self, Signed};
use fairpost_proto::evidence::{self, Nro};
use fairpost_proto::ids::{Digest, ExchangeId, Timestamp};
use fairpost_proto::letter;
use fairpost_proto::lock::Locked;
use fairpost_proto::sealed::{self, SealingKey, Stanza};
use fairpost_proto::terms::Terms;
use fairpost_proto::threshold::Token;
use fairpost_proto::trust::Trust;

use crate::mail;
use crate::spool::Spool;

/// Why a sealed mail is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no sealed part in it.
    #[error(transparent)]
    Mail(#[from] mail::Error),
    /// The sealed part is malformed.
    #[error(transparent)]
    Sealed(#[from] sealed::Error),
    /// Its header is malformed.
    #[error(transparent)]
    Header(#[from] letter::Error),
    /// The NRO is not signed by the key that it names.
    #[error("the sender's signature: {0}")]
    Signature(#[from] cose::Error),
    /// The body is not the one that the sender signed.
    #[error(
        "the sealed mail has digest {found}, and the sender signed {expected}: it was changed on the way"
    )]
    Body {
        /// The digest that the sender signed.
        expected: Digest,
        /// The body's.
        found: Digest,
    },
    /// It could not be spooled.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A sealed mail that holds together. Whether its sender is who it says is for [`SealedMail::check`] to say.
#[derive(Debug)]
pub struct SealedMail {
    part: Spool,
    body: u64,
    size: u64,
    nro: Signed<Nro>,
    stanza: Stanza,
}

impl SealedMail {
    /// Reads a mail, or the bare sealed part, to its end.
    pub fn read(input: impl Read) -> Result<Self, Error> {
        let mut part = Spool::new()?;
        let size = mail::find(input, &mut part)?.size;
        part.rewind()?;
        let nro = letter::parse_header(&sealed::read_header(&mut part)?)?;
        nro.verify_by_chain()?;
        let body = part.stream_position()?;
        let (expected, found) = (nro.payload().sealed, sealed::body_digest(&mut part)?);
        if expected != found {
            return Err(Error::Body { expected, found });
        }
        part.seek(SeekFrom::Start(body))?;
        let terms = &nro.payload().terms;
        let stanza = sealed::inspect(&mut part, terms.protocol, terms.exchange())?;
        Ok(Self { part, body, size, nro, stanza })
    }

    /// That it is for this cluster, within its rules, and from whom it says: an anchor vouches for the sender now.
    pub fn check(&self, trust: &Trust, now: Timestamp) -> Result<(), evidence::Error> {
        evidence::check_nro(trust.view(), self.nro.bytes(), now)?;
        Ok(())
    }

    /// The lock: in CMP2 out of the copy that `key` opens.
    pub fn lock_for(&self, key: &SealingKey) -> Result<Locked, sealed::Error> {
        self.stanza.lock_for(key)
    }

    /// What the sender signed.
    pub const fn nro(&self) -> &Signed<Nro> {
        &self.nro
    }

    /// The terms.
    pub fn terms(&self) -> &Terms {
        &self.nro.payload().terms
    }

    /// The exchange.
    pub fn exchange(&self) -> ExchangeId {
        self.terms().exchange()
    }

    /// The sealed part's length in bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The sealed part, from its first byte on.
    pub fn part(&mut self) -> io::Result<&mut Spool> {
        self.part.rewind()?;
        Ok(&mut self.part)
    }

    /// Opens it with a token that was verified. What was written to `out` counts only if this returns `Ok`: the mail's
    /// length.
    pub fn unlock(&mut self, lock: &Locked, token: &Token, out: impl Write) -> Result<u64, sealed::Error> {
        self.part.seek(SeekFrom::Start(self.body))?;
        let content = self.nro.payload().terms.content;
        Ok(sealed::open(&mut self.part, lock, token, content, out)?.bytes)
    }
}
