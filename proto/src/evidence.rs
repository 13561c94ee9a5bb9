//! What sender and recipient sign, and when it counts.
//!
//! # Specification
//!
//! - **NRO** (non-repudiation of origin), by the sender: the terms, and the digest of the sealed mail.
//! - **NRR** (of receipt), **refusal**, by the recipient, and **withdrawal**, by the sender: each names the exchange
//!   and the NRO's digest.
//!
//! [`check`] is the whole rule about persons' signatures. The server that takes a request in, every server that
//! decides it, and a judge years later call it with the same bytes, the same view and the same recorded time, and so
//! come to the same answer.
//!
//! # Relies on
//!
//! The view is the cluster's; `at` is the time that is or will be recorded in the leaf.
//!
//! # Guarantees
//!
//! A [`Checked`] command was signed by the parties that its terms name, for this cluster, with certificates that an
//! anchor of the view vouches for, and its kind is the kind of its evidence ([`check`]; each fault has a variant of
//! [`Error`], a vector in `evidence.json`, and a test in `tests/promises/evidence.rs`; test
//! `no_flipped_bit_of_evidence_counts`).

use crate::cbor::{Map, Reader, Writer};
use crate::chain::{self, Chain};
use crate::cose::{self, Payload, Signed};
use crate::ids::{ClusterId, Digest, ExchangeId, KeyId, Span, Timestamp, Verdict};
use crate::terms::{self, Address, Terms};
use crate::view::View;

/// Why evidence does not count.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not a well-formed signed object of its kind, or its signature does not hold.
    #[error("{what}: {source}")]
    Cose {
        /// Which evidence.
        what: Kind,
        /// What is wrong with it.
        source: cose::Error,
    },
    /// The signer's certificate does not convince.
    #[error("{what}: the certificate of {address}: {source}")]
    Certificate {
        /// Which evidence.
        what: Kind,
        /// Whose certificate it should be.
        address: Address,
        /// What is wrong with it.
        source: chain::Error,
    },
    /// It is signed by another key than the terms name.
    #[error("{what}: signed by key {found}, but the terms name key {expected}")]
    ForeignKey {
        /// Which evidence.
        what: Kind,
        /// The key in the terms.
        expected: KeyId,
        /// The key that signed.
        found: KeyId,
    },
    /// It is about another exchange.
    #[error("{what}: it is for exchange {found}, not for {expected}")]
    ForeignExchange {
        /// Which evidence.
        what: Kind,
        /// The exchange of the NRO.
        expected: ExchangeId,
        /// The exchange in the evidence.
        found: ExchangeId,
    },
    /// It is about another NRO of the same exchange.
    #[error("{what}: it answers the NRO {found}, not this one, {expected}")]
    ForeignNro {
        /// Which evidence.
        what: Kind,
        /// The NRO's digest.
        expected: Digest,
        /// The digest in the evidence.
        found: Digest,
    },
    /// The terms name another cluster.
    #[error("the terms are for cluster {found}, and this is {expected}")]
    ForeignCluster {
        /// This cluster.
        expected: ClusterId,
        /// The cluster in the terms.
        found: ClusterId,
    },
    /// The exchange would last shorter or longer than the view allows.
    #[error("the exchange would last {found}, and the cluster allows {least} to {most}")]
    Lifetime {
        /// The shortest lifetime.
        least: Span,
        /// The longest.
        most: Span,
        /// From `created` to `expires`.
        found: Span,
    },
    /// The terms say to be made later than now.
    #[error("the terms were created at {created}, but it is only {at} (and clocks may differ by {skew})")]
    CreatedLater {
        /// `created` in the terms.
        created: Timestamp,
        /// The recorded time.
        at: Timestamp,
        /// The skew that is allowed.
        skew: Span,
    },
    /// The sender's certificate ends before the exchange does.
    #[error("the sender's certificate ends at {not_after}, before the terms expire at {expires}")]
    CertificateTooShort {
        /// When the certificate ends.
        not_after: Timestamp,
        /// When the terms do.
        expires: Timestamp,
    },
    /// The command has evidence and needs none, or the reverse.
    #[error("a command of kind {what} comes {found} evidence")]
    Presence {
        /// The command's kind.
        what: Kind,
        /// "with" or "without".
        found: &'static str,
    },
}

/// What a piece of evidence is, and so what a command asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The sender's NRO.
    Nro,
    /// The recipient's receipt, NRR.
    Receipt,
    /// The sender's withdrawal.
    Withdrawal,
    /// The recipient's refusal.
    Refusal,
    /// Nothing but the deadline.
    Expiry,
}

impl Kind {
    /// The evidence that a verdict rests on.
    pub const fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Released => Self::Receipt,
            Verdict::Withdrawn => Self::Withdrawal,
            Verdict::Refused => Self::Refusal,
            Verdict::Expired => Self::Expiry,
        }
    }
}

impl core::fmt::Display for Kind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Nro => "NRO",
            Self::Receipt => "receipt",
            Self::Withdrawal => "withdrawal",
            Self::Refusal => "refusal",
            Self::Expiry => "expiry",
        })
    }
}

/// The sender's statement: I sent this.
#[derive(Clone, Debug)]
pub struct Nro {
    /// Under which terms.
    pub terms: Terms,
    /// SHA-256 of the sealed mail's body, the age file.
    pub sealed: Digest,
}

impl Payload for Nro {
    const TYP: &'static str = "application/vnd.fairpost.nro+cose";
    const TAG: &'static str = "fairpost/nro/v1";
    const KEYS: usize = 3;
    type Signer = Chain;

    fn read(map: &mut Map, reader: &mut Reader<'_>) -> Result<Self, cose::Error> {
        map.key(reader, 1)?;
        let terms = Terms::parse(reader.bytes()?).map_err(|error| match error {
            terms::Error::Cbor(error) => error.into(),
            other => cose::Error::Payload(other.to_string()),
        })?;
        map.key(reader, 2)?;
        Ok(Self { terms, sealed: Digest::new(reader.bytes32("the sealed mail's digest")?) })
    }

    fn write(&self, writer: &mut Writer) {
        writer.uint(1).bytes(self.terms.bytes()).uint(2).bytes(self.sealed.as_bytes());
    }
}

/// What the three answers to an NRO have in common: the exchange, and which NRO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The exchange.
    pub exchange: ExchangeId,
    /// SHA-256 of the NRO, as it came.
    pub nro: Digest,
}

impl Answer {
    /// The answer to this NRO.
    pub fn to(nro: &Signed<Nro>) -> Self {
        Self { exchange: nro.payload().terms.exchange(), nro: nro.digest() }
    }
}

macro_rules! answer {
    ($(#[$doc:meta])* $name:ident, $word:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(
            /// Exchange and NRO.
            pub Answer,
        );

        impl Payload for $name {
            const TYP: &'static str = concat!("application/vnd.fairpost.", $word, "+cose");
            const TAG: &'static str = concat!("fairpost/", $word, "/v1");
            const KEYS: usize = 3;
            type Signer = Chain;

            fn read(map: &mut Map, reader: &mut Reader<'_>) -> Result<Self, cose::Error> {
                map.key(reader, 1)?;
                let exchange = ExchangeId::new(reader.bytes32("the exchange id")?);
                map.key(reader, 2)?;
                Ok(Self(Answer { exchange, nro: Digest::new(reader.bytes32("the NRO's digest")?) }))
            }

            fn write(&self, writer: &mut Writer) {
                writer.uint(1).bytes(self.0.exchange.as_bytes()).uint(2).bytes(self.0.nro.as_bytes());
            }
        }

        impl AsRef<Answer> for $name {
            fn as_ref(&self) -> &Answer {
                &self.0
            }
        }
    };
}

answer! {
    /// The recipient's receipt (NRR): I accept it. Void without a Released token of the cluster.
    Nrr, "nrr"
}
answer! {
    /// The sender's withdrawal: if it is still undecided, call it off.
    Withdrawal, "withdrawal"
}
answer! {
    /// The recipient's refusal: I do not want it.
    Refusal, "refusal"
}

/// A command whose signatures and certificates hold: what [`check`] gives.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What it asks for.
    pub verdict: Verdict,
    /// The exchange that it is about.
    pub exchange: ExchangeId,
    /// The sender's NRO.
    pub nro: Signed<Nro>,
    /// SHA-256 of the NRR, withdrawal or refusal; none for an expiry.
    pub evidence: Option<Digest>,
}

impl Checked {
    /// The terms of the exchange.
    pub const fn terms(&self) -> &Terms {
        &self.nro.payload().terms
    }
}

/// Checks all that persons signed for one verdict: `nro` and `evidence` as they came, at the recorded time `at`.
pub fn check(
    view: &View,
    verdict: Verdict,
    nro: &[u8],
    evidence: Option<&[u8]>,
    at: Timestamp,
) -> Result<Checked, Error> {
    let nro = check_nro(view, nro, at)?;
    let exchange = nro.payload().terms.exchange();
    let evidence = check_evidence(view, verdict, &nro, evidence, at)?;
    Ok(Checked { verdict, exchange, nro, evidence })
}

/// The second half of [`check`]: the evidence for one verdict, as it came, that answers an NRO which [`check_nro`] has
/// checked at the same time. Gives its digest; none for an expiry.
pub fn check_evidence(
    view: &View,
    verdict: Verdict,
    nro: &Signed<Nro>,
    evidence: Option<&[u8]>,
    at: Timestamp,
) -> Result<Option<Digest>, Error> {
    let what = Kind::of(verdict);
    match (verdict, evidence) {
        (Verdict::Released, Some(bytes)) => check_answer::<Nrr>(view, what, nro, bytes, at).map(Some),
        (Verdict::Withdrawn, Some(bytes)) => check_answer::<Withdrawal>(view, what, nro, bytes, at).map(Some),
        (Verdict::Refused, Some(bytes)) => check_answer::<Refusal>(view, what, nro, bytes, at).map(Some),
        (Verdict::Expired, None) => Ok(None),
        (Verdict::Expired, Some(_)) => Err(Error::Presence { what, found: "with" }),
        (_, None) => Err(Error::Presence { what, found: "without" }),
    }
}

/// Checks an NRO by itself.
///
/// The sender's chain must be valid at the deadline, so that an expiry can be proved years later, and at `at` if that is
/// before it.
pub fn check_nro(view: &View, bytes: &[u8], at: Timestamp) -> Result<Signed<Nro>, Error> {
    let what = Kind::Nro;
    let nro = Signed::<Nro>::parse(bytes).map_err(|source| Error::Cose { what, source })?;
    let terms = &nro.payload().terms;
    if terms.cluster != view.cluster() {
        return Err(Error::ForeignCluster { expected: view.cluster(), found: terms.cluster });
    }
    let parameters = view.parameters();
    let found = terms.created.distance(terms.expires);
    let (least, most) = (parameters.shortest_lifetime, parameters.longest_lifetime);
    if found < least || found > most {
        return Err(Error::Lifetime { least, most, found });
    }
    if terms.created > at.plus(parameters.skew) {
        return Err(Error::CreatedLater { created: terms.created, at, skew: parameters.skew });
    }
    let chain = nro.signer();
    let found = chain.leaf_key().key_id();
    if found != terms.sender.key {
        return Err(Error::ForeignKey { what, expected: terms.sender.key, found });
    }
    if chain.not_after() < terms.expires {
        return Err(Error::CertificateTooShort { not_after: chain.not_after(), expires: terms.expires });
    }
    let address = &terms.sender.address;
    let valid = |moment| {
        chain
            .verify_once(view.anchors(), view.memo(), address.as_str(), moment)
            .map_err(|source| Error::Certificate { what, address: address.clone(), source })
    };
    // At the deadline, too, anchors and all: else an expiry could not be proved.
    valid(terms.expires)?;
    if at < terms.expires {
        valid(at)?;
    }
    nro.verify_once(view.memo()).map_err(|source| Error::Cose { what, source })?;
    Ok(nro)
}

fn check_answer<P: Payload<Signer = Chain> + AsRef<Answer>>(
    view: &View,
    what: Kind,
    nro: &Signed<Nro>,
    bytes: &[u8],
    at: Timestamp,
) -> Result<Digest, Error> {
    let answer = Signed::<P>::parse(bytes).map_err(|source| Error::Cose { what, source })?;
    let (expected, found) = (Answer::to(nro), *answer.payload().as_ref());
    if found.exchange != expected.exchange {
        return Err(Error::ForeignExchange { what, expected: expected.exchange, found: found.exchange });
    }
    if found.nro != expected.nro {
        return Err(Error::ForeignNro { what, expected: expected.nro, found: found.nro });
    }
    let terms = &nro.payload().terms;
    let (address, key) = match what {
        Kind::Withdrawal => (&terms.sender.address, Some(terms.sender.key)),
        _ => (&terms.recipient.address, terms.recipient.key),
    };
    let found = answer.signer().leaf_key().key_id();
    if let Some(expected) = key.filter(|key| *key != found) {
        return Err(Error::ForeignKey { what, expected, found });
    }
    let chain = answer.signer();
    chain
        .verify_once(view.anchors(), view.memo(), address.as_str(), at)
        .map_err(|source| Error::Certificate { what, address: address.clone(), source })?;
    answer.verify_once(view.memo()).map_err(|source| Error::Cose { what, source })?;
    Ok(answer.digest())
}
