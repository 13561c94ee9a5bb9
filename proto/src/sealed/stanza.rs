//! The one stanza of a sealed mail: everything about it that can be checked before the token is there.

use std::io::{BufReader, Read};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::header::{self, Header};
use super::key::COPY;
use super::{Error, SealingKey};
use crate::ids::{Digest, ExchangeId, Protocol};
use crate::lock::Locked;
use crate::shown;

/// A stanza in order: of our type, canonical, its parts of the right length, and in CMP1 with a valid lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stanza {
    exchange: ExchangeId,
    body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Body {
    Cmp1 { lock: Locked },
    Cmp2 { digest: Digest, copies: [[u8; COPY]; 2] },
}

/// Reads the age header of a body and checks its stanza: the protocol's type, for this exchange, and no other
/// beside it. To be done before anything is signed. More than the header may be read.
///
/// # Errors
///
/// All of [`Error`] that concern the age header and its stanza, and [`Error::Read`].
pub fn inspect<R: Read>(body: R, protocol: Protocol, exchange: ExchangeId) -> Result<Stanza, Error> {
    let header = Header::parse(&header::read(&mut BufReader::new(body))?)?;
    if header.tag != tag(protocol) {
        return Err(Error::StanzaType { expected: tag(protocol), found: shown::text(&header.tag) });
    }
    let stanza = Stanza::from_header(&header)?;
    if stanza.exchange != exchange {
        return Err(Error::Exchange { expected: exchange, found: stanza.exchange });
    }
    Ok(stanza)
}

impl Stanza {
    /// Whose stanza it is.
    pub const fn protocol(&self) -> Protocol {
        match self.body {
            Body::Cmp1 { .. } => Protocol::Cmp1,
            Body::Cmp2 { .. } => Protocol::Cmp2,
        }
    }

    /// The exchange that it is for.
    pub const fn exchange(&self) -> ExchangeId {
        self.exchange
    }

    /// SHA-256 of the lock: in CMP2 as the stanza names it.
    pub fn lock_digest(&self) -> Digest {
        match &self.body {
            Body::Cmp1 { lock } => lock.digest(),
            Body::Cmp2 { digest, .. } => *digest,
        }
    }

    /// The lock, where anybody can see it: in CMP1.
    ///
    /// # Errors
    ///
    /// [`Error::NotInTheOpen`] in CMP2.
    pub fn lock_in_the_open(&self) -> Result<Locked, Error> {
        match &self.body {
            Body::Cmp1 { lock } => Ok(lock.clone()),
            Body::Cmp2 { .. } => Err(Error::NotInTheOpen),
        }
    }

    /// The lock, for the recipient or the sender: in CMP2 out of the copy that `key` opens. To be done before
    /// anything is signed. In CMP1 the key is not needed.
    ///
    /// # Errors
    ///
    /// [`Error::NoCopy`], [`Error::OtherLock`] if the copy holds another lock than the stanza names, or
    /// [`Error::Lock`] if what it holds is none.
    pub fn lock_for(&self, key: &SealingKey) -> Result<Locked, Error> {
        let Body::Cmp2 { digest: expected, copies } = &self.body else { return self.lock_in_the_open() };
        let bytes = copies
            .iter()
            .find_map(|copy| key.open(self.exchange, copy))
            .ok_or_else(|| Error::NoCopy { key: key.public(), exchange: self.exchange })?;
        match Digest::of(&bytes) {
            found if found == *expected => Ok(Locked::parse(&bytes)?),
            found => Err(Error::OtherLock { expected: *expected, found }),
        }
    }

    pub(super) fn from_header(header: &Header) -> Result<Self, Error> {
        let Header { tag: found, args, body } = header;
        let protocols = [Protocol::Cmp1, Protocol::Cmp2];
        let protocol = protocols.into_iter().find(|protocol| tag(*protocol) == found).ok_or_else(|| {
            Error::StanzaType { expected: "fairpost-cmp1 or fairpost-cmp2", found: shown::text(found) }
        })?;
        let arguments = |expected| Error::Arguments { expected, found: args.len() };
        match protocol {
            Protocol::Cmp1 => {
                let [exchange] = args.as_slice() else { return Err(arguments(1)) };
                let exchange = ExchangeId::new(argument("an exchange id", exchange)?);
                if body.len() != Locked::SIZE {
                    return Err(Error::StanzaBody { expected: Locked::SIZE, found: body.len() });
                }
                Ok(Self { exchange, body: Body::Cmp1 { lock: Locked::parse(body)? } })
            }
            Protocol::Cmp2 => {
                let [exchange, digest] = args.as_slice() else { return Err(arguments(2)) };
                let exchange = ExchangeId::new(argument("an exchange id", exchange)?);
                let digest = Digest::new(argument("the digest of a lock", digest)?);
                let ([recipient, sender], []) = body.as_chunks::<COPY>() else {
                    return Err(Error::StanzaBody { expected: 2 * COPY, found: body.len() });
                };
                let copies = [*recipient, *sender];
                Ok(Self { exchange, body: Body::Cmp2 { digest, copies } })
            }
        }
    }
}

/// The header with a stanza of CMP1.
pub(super) fn cmp1(exchange: ExchangeId, lock: &Locked) -> Header {
    Header {
        tag: tag(Protocol::Cmp1).to_owned(),
        args: vec![BASE64_URL_SAFE_NO_PAD.encode(exchange.as_bytes())],
        body: lock.to_bytes().to_vec(),
    }
}

/// The header with a stanza of CMP2, where `copies` are the recipient's and the sender's, one after the other.
pub(super) fn cmp2(exchange: ExchangeId, digest: Digest, copies: Vec<u8>) -> Header {
    let args = [exchange.as_bytes(), digest.as_bytes()];
    Header {
        tag: tag(Protocol::Cmp2).to_owned(),
        args: args.map(|arg| BASE64_URL_SAFE_NO_PAD.encode(arg)).to_vec(),
        body: copies,
    }
}

const fn tag(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Cmp1 => "fairpost-cmp1",
        Protocol::Cmp2 => "fairpost-cmp2",
    }
}

fn argument(what: &'static str, found: &str) -> Result<[u8; 32], Error> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(found).ok();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| Error::Argument { what, found: shown::text(found) })
}
