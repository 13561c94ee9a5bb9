//! The proof file: everything that a judge needs, but for the trust in one cluster.
//!
//! # Guarantees
//!
//! A [`Proof`] is well-formed: its trust file holds together, its points are points ([`Proof::parse`]; vectors
//! `proof.json`; test `no_flipped_bit_of_a_proof_convinces`).

use crate::cbor::{self, Reader, Writer};
use crate::lock::{self, Locked};
use crate::threshold::{self, Token};
use crate::trust::{self, Trust};
use crate::vote::{self, Certificate};

/// The largest proof that is read at all.
pub const MAX_BYTES: usize = trust::MAX_BYTES + 1024 * 1024;

/// Why bytes are no proof.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is larger than any that is read.
    #[error("the proof has {found} bytes, at most {MAX_BYTES} are read")]
    TooLarge {
        /// Its size.
        found: usize,
    },
    /// It is not the deterministic CBOR that the format gives.
    #[error("proof: {0}")]
    Cbor(#[from] cbor::Error),
    /// Its genesis and views do not hold together.
    #[error("proof: {0}")]
    Trust(#[from] trust::Error),
    /// Its certificate is not one.
    #[error("proof: {0}")]
    Certificate(#[from] vote::Error),
    /// Its token is not one.
    #[error("proof: the token: {0}")]
    Token(#[from] threshold::Error),
    /// The lock that it discloses is not one.
    #[error("proof: the disclosed lock: {0}")]
    Disclosure(#[from] lock::Error),
}

/// What a proof is meant to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The exchange has this verdict.
    Verdict,
    /// The sender locked something else than it signed.
    Fraud,
}

impl Claim {
    const fn tag(self) -> &'static str {
        match self {
            Self::Verdict => "fairpost/proof/v1",
            Self::Fraud => "fairpost/fraud/v1",
        }
    }
}

/// A well-formed proof. Whether it convinces is for [`crate::verify::verify`] to say.
#[derive(Clone, Debug)]
pub struct Proof {
    /// What it is meant to show.
    pub claim: Claim,
    /// The cluster's genesis and views.
    pub trust: Trust,
    /// The sender's NRO, as it came.
    pub nro: Vec<u8>,
    /// NRR, withdrawal or refusal, as it came; none for Expired.
    pub evidence: Option<Vec<u8>>,
    /// The votes of a quorum.
    pub certificate: Certificate,
    /// The cluster's token.
    pub token: Token,
    /// CMP2: the lock out of a party's own copy.
    pub disclosure: Option<Locked>,
}

impl Proof {
    /// Its one encoding.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.map(7).uint(0).text(self.claim.tag());
        writer.uint(1).bytes(&self.trust.to_bytes()).uint(2).bytes(&self.nro);
        writer.uint(3).bytes_or_null(self.evidence.as_deref());
        writer.uint(4).bytes(&self.certificate.to_bytes()).uint(5).bytes(&self.token.to_bytes());
        let disclosure = self.disclosure.as_ref().map(Locked::to_bytes);
        writer.uint(6).bytes_or_null(disclosure.as_ref().map(|bytes| bytes.as_slice()));
        writer.finish()
    }

    /// Parses the one encoding of a proof.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_BYTES {
            return Err(Error::TooLarge { found: bytes.len() });
        }
        let mut reader = Reader::new(bytes);
        let mut map = reader.map()?;
        map.key(&mut reader, 0)?;
        let claim = match reader.text("the tag", 64)? {
            tag if tag == Claim::Verdict.tag() => Claim::Verdict,
            tag if tag == Claim::Fraud.tag() => Claim::Fraud,
            found => {
                let expected = "fairpost/proof/v1 or fairpost/fraud/v1";
                return Err(cbor::Error::Tag { expected, found: found.to_owned() }.into());
            }
        };
        map.key(&mut reader, 1)?;
        let trust = Trust::parse(reader.bytes()?)?;
        map.key(&mut reader, 2)?;
        let nro = reader.bytes()?.to_vec();
        map.key(&mut reader, 3)?;
        let evidence = reader.bytes_or_null()?.map(<[u8]>::to_vec);
        map.key(&mut reader, 4)?;
        let certificate = Certificate::parse(reader.bytes()?)?;
        map.key(&mut reader, 5)?;
        let token = Token::parse(reader.bytes()?)?;
        map.key(&mut reader, 6)?;
        let disclosure = reader.bytes_or_null()?.map(Locked::parse).transpose()?;
        map.finish(&reader)?;
        reader.finish()?;
        Ok(Self { claim, trust, nro, evidence, certificate, token, disclosure })
    }
}
