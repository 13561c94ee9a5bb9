//! Leaves: the one line that the evidence log has for a verdict, and that servers vote for.
//!
//! # Guarantees
//!
//! A parsed [`Leaf`] has one of the four verdicts, a round from 1 on, and evidence unless it is Expired
//! ([`Leaf::parse`]; vectors `leaf.json`).

use core::fmt;
use core::num::NonZeroU32;

use crate::cbor::{self, Reader, Writer};
use crate::ids::{Digest, ExchangeId, Timestamp, Verdict};
use crate::{merkle, terms};

const KIND_VERDICT: u64 = 1;

/// A round of voting on one exchange, from 1. Only a contested exchange sees a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Round(NonZeroU32);

impl Round {
    /// The first round: a leader's entry, voted for as it stands.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// The round with this number; none for 0.
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// Its number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// The round after it; none after the last that can be written.
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A verdict leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Which exchange.
    pub exchange: ExchangeId,
    /// In which round.
    pub round: Round,
    /// The verdict.
    pub verdict: Verdict,
    /// When: the entry's time in round 1; in a later round what the statements that opened it give.
    pub time: Timestamp,
    /// SHA-256 of the NRO.
    pub nro: Digest,
    /// SHA-256 of the NRR, withdrawal or refusal. None if and only if the verdict is Expired.
    pub evidence: Option<Digest>,
}

impl Leaf {
    /// Its one encoding.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.map(7).uint(0).uint(KIND_VERDICT);
        writer.uint(1).bytes(self.exchange.as_bytes());
        writer.uint(2).uint(u64::from(self.round.get()));
        writer.uint(3).uint(u64::from(self.verdict.code()));
        writer.uint(4).uint(self.time.millis());
        writer.uint(5).bytes(self.nro.as_bytes());
        writer.uint(6).bytes_or_null(self.evidence.as_ref().map(|digest| digest.as_bytes().as_slice()));
        writer.finish()
    }

    /// Parses the one encoding of a verdict leaf.
    pub fn parse(bytes: &[u8]) -> Result<Self, cbor::Error> {
        let mut reader = Reader::new(bytes);
        let mut map = reader.map()?;
        map.key(&mut reader, 0)?;
        let kind = reader.uint()?;
        if kind != KIND_VERDICT {
            let (what, expected) = ("the leaf's kind", "1 (verdict)");
            return Err(cbor::Error::Value { what, expected, found: kind.to_string() });
        }
        map.key(&mut reader, 1)?;
        let exchange = ExchangeId::new(reader.bytes32("the exchange id")?);
        map.key(&mut reader, 2)?;
        let round = read_round(&mut reader)?;
        map.key(&mut reader, 3)?;
        let verdict = read_verdict(&mut reader)?;
        map.key(&mut reader, 4)?;
        let time = terms::read_millis(&mut reader, "the leaf's time")?;
        map.key(&mut reader, 5)?;
        let nro = Digest::new(reader.bytes32("the NRO's digest")?);
        map.key(&mut reader, 6)?;
        let evidence =
            if reader.null() { None } else { Some(Digest::new(reader.bytes32("the evidence's digest")?)) };
        map.finish(&reader)?;
        reader.finish()?;
        if evidence.is_none() != (verdict == Verdict::Expired) {
            return Err(cbor::Error::Value {
                what: "the leaf's evidence",
                expected: "none for Expired, a digest for every other verdict",
                found: format!("{} with {evidence:?}", verdict),
            });
        }
        Ok(Self { exchange, round, verdict, time, nro, evidence })
    }

    /// Its hash in the evidence log and in ballots (RFC 9162 §2.1.1).
    pub fn hash(&self) -> Digest {
        merkle::leaf_hash(&self.to_bytes())
    }
}

pub(crate) fn read_round(reader: &mut Reader<'_>) -> Result<Round, cbor::Error> {
    let number = reader.uint()?;
    u32::try_from(number).ok().and_then(Round::new).ok_or(cbor::Error::Value {
        what: "the round",
        expected: "1 to 4294967295",
        found: number.to_string(),
    })
}

pub(crate) fn read_verdict(reader: &mut Reader<'_>) -> Result<Verdict, cbor::Error> {
    let code = reader.uint()?;
    u8::try_from(code).ok().and_then(Verdict::from_code).ok_or(cbor::Error::Value {
        what: "the verdict",
        expected: "1 to 4",
        found: code.to_string(),
    })
}
