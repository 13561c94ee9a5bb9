//! Sealing a mail: draws up the terms, locks the mail, signs the NRO. Purely local; nobody is asked.

use std::io::{self, Read, Seek, Write};

use fairpost_proto::cose::Signed;
use fairpost_proto::evidence::{self, Nro};
use fairpost_proto::ids::{Digest, ExchangeId, Protocol, Span, Timestamp};
use fairpost_proto::sealed::{self, Access, Salt, Sealing};
use fairpost_proto::terms::{self, Fields, Recipient, Sender, Terms};
use fairpost_proto::trust::Trust;
use fairpost_proto::{cbor, letter};
use rand::RngCore as _;
use rand::rngs::OsRng;

use crate::card::{self, Card};
use crate::identity::{self, Identity};
use crate::spool::Spool;

/// Why a mail was not sealed. Nothing that counts has left the caller's hands.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The identity can't sign.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// The recipient's card does not convince.
    #[error(transparent)]
    Card(#[from] card::Error),
    /// The terms do not go together.
    #[error(transparent)]
    Terms(#[from] terms::Error),
    /// The cluster would not take them.
    #[error("the cluster would refuse this mail: {0}")]
    Refused(#[from] evidence::Error),
    /// The mail was not the same when it was read the second time.
    #[error("the mail changed while it was sealed: first its digest was {first}, then {second}")]
    Changed {
        /// The content's digest at the first reading.
        first: Digest,
        /// At the second.
        second: Digest,
    },
    /// The mail can't be sealed.
    #[error(transparent)]
    Sealed(#[from] sealed::Error),
    /// The header can't be written.
    #[error(transparent)]
    Header(#[from] cbor::Error),
    /// Reading, writing or spooling failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// How to seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Who can read the mail once it is released. CMP2.
    pub protocol: Protocol,
    /// How long the recipient has to accept; whole seconds. Three days.
    pub lifetime: Span,
    /// The sender's clock: the terms begin with it, and certificates must be valid at it.
    pub now: Timestamp,
}

impl Default for Options {
    fn default() -> Self {
        Self { protocol: Protocol::Cmp2, lifetime: Span::from_seconds(3 * 86_400), now: crate::now() }
    }
}

/// What was sealed.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// The terms.
    pub terms: Terms,
    /// The exchange that they make.
    pub exchange: ExchangeId,
    /// The sender's NRO, which is in the sealed mail, too.
    pub nro: Signed<Nro>,
    /// The length of the sealed body in bytes.
    pub length: u64,
}

/// Seals `mail` from `identity` to the owner of `card`: writes the sealed part to `out`.
///
/// Reads the mail twice, and spools the sealed body to disk; memory does not grow with the mail. To send the sealed
/// part as a mail, pass it through [`crate::mail::pack()`].
///
/// # Errors
///
/// Any [`Error`]. What the cluster would refuse is refused here, with the same error; then nothing is written.
pub fn seal(
    identity: &Identity,
    card: &Card,
    trust: &Trust,
    options: Options,
    mut mail: impl Read + Seek,
    mut out: impl Write,
) -> Result<Sealed, Error> {
    let Options { protocol, lifetime, now } = options;
    card.check(trust, now)?;
    let salt = Salt::generate(&mut OsRng);
    let begin = mail.stream_position()?;
    let content = sealed::content_commitment(&salt, &mut mail)?;
    mail.seek(io::SeekFrom::Start(begin))?;

    let mut nonce = [0; 16];
    OsRng.fill_bytes(&mut nonce);
    let created = Timestamp::from_seconds(now.seconds()).unwrap_or(now);
    let terms = Terms::new(Fields {
        protocol,
        cluster: trust.cluster(),
        nonce,
        sender: Sender { address: identity.address().clone(), key: identity.key_id() },
        recipient: Recipient { address: card.address().clone(), key: Some(card.key_id()) },
        content,
        created,
        expires: created.plus(lifetime),
    })?;

    let exchange = terms.exchange();
    let access = match protocol {
        Protocol::Cmp1 => Access::Cmp1,
        Protocol::Cmp2 => {
            Access::Cmp2 { recipient: card.sealing_key(), sender: identity.sealing_key().public() }
        }
    };
    let sealing = Sealing { cluster: trust.cluster(), key: trust.public_key(), exchange, access };
    let mut body = Spool::new()?;
    let made = sealed::seal(&sealing, &salt, mail, io::BufWriter::new(&mut body))?;
    if made.content != content {
        return Err(Error::Changed { first: content, second: made.content });
    }

    let nro = identity.sign(Nro { terms: terms.clone(), sealed: made.digest })?;
    evidence::check_nro(trust.view(), nro.bytes(), now)?;
    sealed::write_header(&letter::write_header(&nro), &mut out)?;
    body.rewind()?;
    io::copy(&mut body, &mut out)?;
    out.flush()?;
    Ok(Sealed { terms, exchange, nro, length: made.length })
}
