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
//! - An approval says nothing of any other proposal: it names the digest (test
//!   `an_approval_of_another_proposal_counts_for_nothing`).

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
        self.add(approval);
        Ok(())
    }

    /// Adds what another copy of the same proposal has.
    pub fn merge(&mut self, other: Self) -> Result<(), Error> {
        // A copy that nobody has approved has no approval that would tell.
        let (expected, found) = (self.proposal.digest(), other.proposal.digest());
        if expected != found {
            return Err(Error::Other { expected, found });
        }
        // Each was checked when the other copy got it.
        other.approvals.into_iter().for_each(|approval| self.add(approval));
        Ok(())
    }

    fn add(&mut self, approval: Signed<Approval>) {
        let place = self.approvals.binary_search_by(|held| held.signer().cmp(approval.signer()));
        if let Err(place) = place {
            self.approvals.insert(place, approval);
        }
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

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::proposal::Draft;
    use crate::view::{Member, Parameters};

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    /// A proposal with three operators, or none, of whom so many must agree.
    fn proposal(name: &str, operators: u8, agreeing: u64) -> ApprovedProposal {
        let member = Member {
            name: "server-1".into(),
            address: "server-1.example.net:7443".into(),
            identity: key(9).verifying_key(),
        };
        let draft = Draft {
            members: vec![member],
            faults: 0,
            operators: (1..=operators).map(|seed| key(seed).verifying_key()).collect(),
            agreeing,
            anchors: vec![],
            auditors: vec![],
            parameters: Parameters::default(),
        };
        ApprovedProposal::new(Proposal::new(name, draft).unwrap())
    }

    fn approved(mut proposal: ApprovedProposal, operators: &[u8]) -> ApprovedProposal {
        operators.iter().for_each(|operator| proposal.approve(&key(*operator)).unwrap());
        proposal
    }

    fn approvers(proposal: &ApprovedProposal) -> Vec<KeyId> {
        proposal.approvers().collect()
    }

    fn sorted(operators: &[u8]) -> Vec<KeyId> {
        let mut ids: Vec<_> =
            operators.iter().map(|operator| key_id(&key(*operator).verifying_key())).collect();
        ids.sort();
        ids
    }

    #[test]
    fn as_many_distinct_operators_must_agree_as_the_proposal_says() {
        for agreeing in 1..=3 {
            let mut proposal = proposal("test", 3, agreeing);
            for count in 0..=3_u8 {
                if count > 0 {
                    proposal.approve(&key(count)).unwrap();
                }
                match proposal.agreed() {
                    Ok(agreed) => {
                        assert!(u64::from(count) >= agreeing);
                        assert_eq!(agreed.digest(), proposal.proposal().digest());
                    }
                    Err(Error::TooFew { expected, found }) => {
                        assert!(found < agreeing);
                        assert_eq!((expected, found), (agreeing, u64::from(count)));
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    #[test]
    fn one_operator_twice_does_not_count_twice() {
        let mut twice = approved(proposal("test", 3, 2), &[2, 2]);
        assert!(matches!(twice.agreed(), Err(Error::TooFew { expected: 2, found: 1 })));
        twice.merge(approved(proposal("test", 3, 2), &[2])).unwrap();
        assert!(matches!(twice.agreed(), Err(Error::TooFew { expected: 2, found: 1 })));
        // Nor in a file that was put together by hand.
        twice.approvals.push(twice.approvals[0].clone());
        let parsed = ApprovedProposal::parse(&twice.to_bytes());
        assert!(matches!(parsed, Err(Error::Order { last, found }) if last == found));
    }

    #[test]
    fn where_there_are_no_operators_nobody_has_to_agree() {
        let nobody = proposal("test", 0, 0);
        assert_eq!(nobody.agreed().unwrap().digest(), nobody.proposal().digest());
        assert!(ApprovedProposal::parse(&nobody.to_bytes()).unwrap().agreed().is_ok());
    }

    #[test]
    fn copies_merge_whatever_the_order() {
        let copy = |operators: &[u8]| approved(proposal("test", 3, 3), operators);
        for [one, other] in [[&[1, 2][..], &[3]], [&[3], &[2, 1]], [&[1, 2], &[2, 3]], [&[], &[3, 1, 2]]] {
            let mut merged = copy(one);
            merged.merge(copy(other)).unwrap();
            assert_eq!(approvers(&merged), sorted(&[1, 2, 3]));
            let again = ApprovedProposal::parse(&merged.to_bytes()).unwrap();
            assert_eq!(again.to_bytes(), merged.to_bytes());
            assert!(again.agreed().is_ok());
        }
    }

    #[test]
    fn an_approval_of_another_proposal_counts_for_nothing() {
        let other = approved(proposal("other", 3, 2), &[1, 2]);
        let mut mixed = approved(proposal("test", 3, 2), &[3]);
        let values = (mixed.proposal.digest(), other.proposal.digest());
        mixed.approvals = other.approvals.clone();
        let error = ApprovedProposal::parse(&mixed.to_bytes()).unwrap_err();
        assert!(matches!(error, Error::Other { expected, found } if (expected, found) == values));

        // A copy of another proposal is none of this one, whether or not anybody has approved it.
        for other in [other, proposal("other", 3, 2)] {
            let mut this = approved(proposal("test", 3, 2), &[3]);
            let error = this.merge(other).unwrap_err();
            assert!(matches!(error, Error::Other { expected, found } if (expected, found) == values));
            assert_eq!(approvers(&this), sorted(&[3]));
        }
    }

    #[test]
    fn nobody_else_approves() {
        let mut proposal = proposal("test", 3, 1);
        // 9 is the member.
        for stranger in [4, 9] {
            let error = proposal.approve(&key(stranger)).unwrap_err();
            let stranger = key_id(&key(stranger).verifying_key());
            assert!(matches!(error, Error::NoOperator { operators: 3, found } if found == stranger));
        }
        let approval = Approval { proposal: proposal.proposal.digest() };
        let forged = Signed::sign(approval, key_id(&key(1).verifying_key()), &key(4));
        proposal.approvals.push(forged);
        let error = ApprovedProposal::parse(&proposal.to_bytes()).unwrap_err();
        assert!(matches!(error, Error::Cose(cose::Error::Signature { .. })), "{error}");
    }
}
