//! Approvals: the operators' word that a proposal is to become a cluster.
//!
//! # Specification
//!
//! An operator that the proposal names signs its digest. The proposal and the approvals that were collected travel
//! together, as one file. Members begin a key ceremony for a proposal that `k` of its operators agreed to
//! ([`ApprovedProposal::agreed`]), and for no other.
//!
//! # Guarantees
//!
//! - What [`ApprovedProposal::agreed`] gives was signed by so many distinct operators of its own (vectors
//!   `approved_proposal.json`).
//! - An approval says nothing of any other proposal: it names the digest.

use crate::cbor::{self, Map, Reader, Writer};
use crate::chain::key_id;
use crate::cose::{self, Payload, Signed};
use crate::ids::{Digest, KeyId};
use crate::proposal::{self, Proposal};

const TAG: &str = "fairpost/approved-proposal/v1";
/// At least as many as a proposal has operators.
const MOST: u64 = 64;

/// Why a proposal does not count as approved.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not the deterministic CBOR that the format gives.
    #[error("approved proposal: {0}")]
    Cbor(#[from] cbor::Error),
    /// The proposal is none.
    #[error(transparent)]
    Proposal(#[from] proposal::Error),
    /// An approval is not well-formed, or its signature does not hold.
    #[error("approval: {0}")]
    Cose(#[from] cose::Error),
    /// An approval is for another proposal.
    #[error("the approval is for proposal {found}, and this one is {expected}")]
    Other {
        /// The digest of this proposal.
        expected: Digest,
        /// What was approved.
        found: Digest,
    },
    /// Somebody approved who is not asked.
    #[error("{found} is none of the proposal's {operators} operators")]
    NoOperator {
        /// How many there are.
        operators: usize,
        /// Who signed.
        found: KeyId,
    },
    /// The approvals are not in order, or one is there twice.
    #[error("the approval of {found} does not come after that of {last}")]
    Order {
        /// The one before.
        last: KeyId,
        /// The one out of place.
        found: KeyId,
    },
    /// Too few operators agreed.
    #[error("{found} of the proposal's operators approved it, and it takes {expected}")]
    TooFew {
        /// As many as the proposal itself says.
        expected: u64,
        /// As many as there are.
        found: u64,
    },
}

/// An operator agrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Approval {
    /// The proposal.
    pub proposal: Digest,
}

impl Payload for Approval {
    const TYP: &'static str = "application/vnd.fairpost.approval+cose";
    const TAG: &'static str = "fairpost/approval/v1";
    const KEYS: usize = 2;
    type Signer = KeyId;

    fn read(map: &mut Map, reader: &mut Reader<'_>) -> Result<Self, cose::Error> {
        map.key(reader, 1)?;
        Ok(Self { proposal: Digest::new(reader.bytes32("the proposal's digest")?) })
    }

    fn write(&self, writer: &mut Writer) {
        writer.uint(1).bytes(self.proposal.as_bytes());
    }
}

/// A proposal, and valid approvals by operators of its own; perhaps not enough yet.
#[derive(Clone, Debug)]
pub struct ApprovedProposal {
    proposal: Proposal,
    /// By ascending key id.
    approvals: Vec<Signed<Approval>>,
}

impl ApprovedProposal {
    /// A proposal that nobody has approved yet.
    pub const fn new(proposal: Proposal) -> Self {
        Self { proposal, approvals: Vec::new() }
    }

    /// Parses the one encoding, and checks each approval.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let mut map = reader.map()?;
        map.tagged(&mut reader, TAG)?;
        map.key(&mut reader, 1)?;
        let mut approved = Self::new(Proposal::parse(reader.bytes()?)?);
        map.key(&mut reader, 2)?;
        for _ in 0..reader.array("the approvals", MOST)? {
            let approval = Signed::parse(reader.bytes()?)?;
            let found = *approval.signer();
            if let Some(last) =
                approved.approvals.last().map(|last| *last.signer()).filter(|last| *last >= found)
            {
                return Err(Error::Order { last, found });
            }
            approved.check(&approval)?;
            approved.approvals.push(approval);
        }
        map.finish(&reader)?;
        reader.finish()?;
        Ok(approved)
    }

    /// Its one encoding.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer
            .map(3)
            .uint(0)
            .text(TAG)
            .uint(1)
            .bytes(self.proposal.bytes())
            .uint(2)
            .array(self.approvals.len());
        for approval in &self.approvals {
            writer.bytes(approval.bytes());
        }
        writer.finish()
    }

    /// Adds the approval of the operator with this key. One that was there already stays as it was.
    pub fn approve(&mut self, operator: &ed25519_dalek::SigningKey) -> Result<(), Error> {
        let signer = key_id(&operator.verifying_key());
        let approval = Signed::sign(Approval { proposal: self.proposal.digest() }, signer, operator);
        self.check(&approval)?;
        if let Err(place) = self.approvals.binary_search_by(|approval| approval.signer().cmp(&signer)) {
            self.approvals.insert(place, approval);
        }
        Ok(())
    }

    /// Adds what another copy of the same proposal has.
    pub fn merge(&mut self, other: Self) -> Result<(), Error> {
        for approval in other.approvals {
            self.check(&approval)?;
            let signer = *approval.signer();
            if let Err(place) = self.approvals.binary_search_by(|approval| approval.signer().cmp(&signer)) {
                self.approvals.insert(place, approval);
            }
        }
        Ok(())
    }

    fn check(&self, approval: &Signed<Approval>) -> Result<(), Error> {
        let (expected, found) = (self.proposal.digest(), approval.payload().proposal);
        if expected != found {
            return Err(Error::Other { expected, found });
        }
        let (operators, found) = (self.proposal.draft().operators.len(), *approval.signer());
        let operator = self.proposal.operator(found).ok_or(Error::NoOperator { operators, found })?;
        Ok(approval.verify(operator)?)
    }

    /// The proposal, whether or not enough approved.
    pub const fn proposal(&self) -> &Proposal {
        &self.proposal
    }

    /// Who approved it.
    pub fn approvers(&self) -> impl Iterator<Item = KeyId> {
        self.approvals.iter().map(|approval| *approval.signer())
    }

    /// The proposal, if as many of its operators approved as it asks for.
    pub fn agreed(&self) -> Result<&Proposal, Error> {
        let (expected, found) = (self.proposal.draft().agreeing, self.approvals.len() as u64);
        if found < expected { Err(Error::TooFew { expected, found }) } else { Ok(&self.proposal) }
    }
}
