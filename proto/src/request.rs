//! Requests: what a party signs to ask the cluster for anything about an exchange.
//!
//! # Specification
//!
//! A request names cluster, method, exchange, the digest of what comes with it, a time and a nonce. A server takes it
//! when its own clock is within [`WINDOW`] of that time, and when its signer is a party: the key that the terms name
//! (whatever has become of its certificate since), or, where the terms name none, a key with a valid certificate for
//! the recipient's address. To redeem and to refuse is for the recipient, to withdraw for the sender; status and proof
//! are for both.
//!
//! # Guarantees
//!
//! What a [`check`]ed request carries is what its signer meant to send, to this cluster, by this call, within the last
//! minutes (vectors `request.json`; `tests/promises/request.rs` reaches each variant of [`Error`]). Within its window a
//! request can be sent again by whoever saw it: all methods are safe to repeat.

use crate::cbor::{self, Map, Reader, Writer};
use crate::chain::{self, Chain};
use crate::cose::{self, Payload, Signed};
use crate::evidence::Nro;
use crate::ids::{ClusterId, Digest, ExchangeId, KeyId, Span, Timestamp};
use crate::terms;
use crate::view::View;

/// How far a request's time may lie from the server's clock, either way.
pub const WINDOW: Span = Span::from_seconds(300);

/// Why a request is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not a well-formed request, or its signature does not hold.
    #[error("request: {0}")]
    Cose(#[from] cose::Error),
    /// It is for another cluster.
    #[error("the request is for cluster {found}, and this is {expected}")]
    Cluster {
        /// This cluster.
        expected: ClusterId,
        /// The cluster in the request.
        found: ClusterId,
    },
    /// It asks for something else than the call that carried it.
    #[error("the request is to {found}, but came with a call to {expected}")]
    Method {
        /// The call.
        expected: Method,
        /// The method in the request.
        found: Method,
    },
    /// It is about another exchange than the NRO that came with it.
    #[error("the request is about exchange {found}, but the NRO with it makes {expected}")]
    Exchange {
        /// The NRO's exchange.
        expected: ExchangeId,
        /// The exchange in the request.
        found: ExchangeId,
    },
    /// What came with it is not what was signed.
    #[error("what came with the request has digest {found}, but the request was signed for {expected}")]
    Body {
        /// The digest in the request.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// Its time is too far from the server's clock.
    #[error(
        "the request was signed at {signed}, and the server's time is {server}: they may differ by {WINDOW}"
    )]
    Time {
        /// The request's time.
        signed: Timestamp,
        /// The server's clock.
        server: Timestamp,
    },
    /// Its signer is no party that may ask for this.
    #[error("{method} is for the {party}, and key {found} is not theirs")]
    Stranger {
        /// What was asked.
        method: Method,
        /// Who may ask.
        party: &'static str,
        /// The key that signed.
        found: KeyId,
    },
    /// The terms name no key for the recipient, and the certificate offered does not convince.
    #[error("the recipient's certificate: {0}")]
    Certificate(chain::Error),
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Hand in the receipt; get the release token.
    Redeem,
    /// Call the exchange off.
    Withdraw,
    /// Decline the mail.
    Refuse,
    /// Learn the verdict; after deadline and grace, bring about Expired.
    Status,
    /// Get all evidence.
    Proof,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Redeem, Self::Withdraw, Self::Refuse, Self::Status, Self::Proof];

    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redeem => "redeem",
            Self::Withdraw => "withdraw",
            Self::Refuse => "refuse",
            Self::Status => "status",
            Self::Proof => "proof",
        }
    }

    /// Who may ask: (sender, recipient).
    const fn party(self) -> (bool, bool) {
        match self {
            Self::Redeem | Self::Refuse => (false, true),
            Self::Withdraw => (true, false),
            Self::Status | Self::Proof => (true, true),
        }
    }
}

impl core::fmt::Display for Method {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// What is signed.
#[derive(Clone, Debug)]
pub struct Request {
    /// The cluster asked.
    pub cluster: ClusterId,
    /// What is asked.
    pub method: Method,
    /// The exchange.
    pub exchange: ExchangeId,
    /// [`body_digest`] of what comes with it.
    pub body: Digest,
    /// The asker's clock.
    pub time: Timestamp,
    /// Random.
    pub nonce: [u8; 16],
}

/// The digest of what comes with a request: SHA-256 of the CBOR array [NRO, evidence or null].
pub fn body_digest(nro: &[u8], evidence: Option<&[u8]>) -> Digest {
    Digest::of(&Writer::new().array(2).bytes(nro).bytes_or_null(evidence).finish())
}

/// Checks that `bytes` is a request by a party of `nro`'s exchange, for `method`, with just this NRO and evidence.
///
/// Whether the NRO itself counts is a question of its own: [`crate::evidence::check_nro`].
pub fn check(
    view: &View,
    method: Method,
    bytes: &[u8],
    nro: &Signed<Nro>,
    evidence: Option<&[u8]>,
    server: Timestamp,
) -> Result<Signed<Request>, Error> {
    let signed = Signed::<Request>::parse(bytes)?;
    let request = signed.payload();
    let terms = &nro.payload().terms;
    if request.cluster != view.cluster() {
        return Err(Error::Cluster { expected: view.cluster(), found: request.cluster });
    }
    if request.method != method {
        return Err(Error::Method { expected: method, found: request.method });
    }
    if request.exchange != terms.exchange() {
        return Err(Error::Exchange { expected: terms.exchange(), found: request.exchange });
    }
    let found = body_digest(nro.bytes(), evidence);
    if request.body != found {
        return Err(Error::Body { expected: request.body, found });
    }
    if request.time.distance(server) > WINDOW {
        return Err(Error::Time { signed: request.time, server });
    }
    let (sender, recipient) = method.party();
    let found = signed.signer().leaf_key().key_id();
    let is_sender = sender && found == terms.sender.key;
    let is_recipient = recipient && terms.recipient.key == Some(found);
    if !is_sender && !is_recipient {
        if !recipient || terms.recipient.key.is_some() {
            let party = match (sender, recipient) {
                (true, true) => "sender or recipient",
                (true, false) => "sender",
                _ => "recipient",
            };
            return Err(Error::Stranger { method, party, found });
        }
        let address = terms.recipient.address.as_str();
        signed
            .signer()
            .verify_once(view.anchors(), view.memo(), address, server)
            .map_err(Error::Certificate)?;
    }
    signed.verify_by_chain()?;
    Ok(signed)
}

impl Payload for Request {
    const TYP: &'static str = "application/vnd.fairpost.request+cose";
    const TAG: &'static str = "fairpost/request/v1";
    const KEYS: usize = 7;
    type Signer = Chain;

    fn read(map: &mut Map, reader: &mut Reader<'_>) -> Result<Self, cose::Error> {
        map.key(reader, 1)?;
        let cluster = ClusterId::new(reader.bytes32("the cluster id")?);
        map.key(reader, 2)?;
        let name = reader.text("the method", 16)?;
        let method =
            Method::ALL.into_iter().find(|method| method.name() == name).ok_or(cbor::Error::Value {
                what: "the method",
                expected: "redeem, withdraw, refuse, status or proof",
                found: crate::shown::plain(name),
            })?;
        map.key(reader, 3)?;
        let exchange = ExchangeId::new(reader.bytes32("the exchange id")?);
        map.key(reader, 4)?;
        let body = Digest::new(reader.bytes32("the body's digest")?);
        map.key(reader, 5)?;
        let time = terms::read_millis(reader, "the request's time")?;
        map.key(reader, 6)?;
        let nonce = reader.fixed("the nonce", "16 bytes")?;
        Ok(Self { cluster, method, exchange, body, time, nonce })
    }

    fn write(&self, writer: &mut Writer) {
        writer.uint(1).bytes(self.cluster.as_bytes()).uint(2).text(self.method.name());
        writer.uint(3).bytes(self.exchange.as_bytes()).uint(4).bytes(self.body.as_bytes());
        writer.uint(5).uint(self.time.millis()).uint(6).bytes(&self.nonce);
    }
}
