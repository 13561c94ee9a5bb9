//! Grants: a member's signed word that it lets another lead.
//!
//! # Specification
//!
//! Raft's members believe whoever says that it was elected; these don't. A member that votes for a candidate in an
//! election signs a grant for it and the term, and a leader shows the grants of a majority. Raft here may elect a second
//! leader in one term, in the place of the first: then members have granted both, which convicts nobody.
//!
//! # Guarantees
//!
//! [`check`] gives `Ok` only for this member's own signature over this cluster, epoch, term and candidate (vectors
//! `grant.json`).

use ed25519_dalek::VerifyingKey;

use crate::cbor::{Map, Reader, Writer};
use crate::cose::{self, Payload, Signed};
use crate::ids::{ClusterId, KeyId};
use crate::vote;

/// Why a grant does not count.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not a well-formed grant, or its signature does not hold.
    #[error("grant: {0}")]
    Cose(#[from] cose::Error),
    /// It lets somebody else lead, or at another time.
    #[error("the grant is {found:?}, expected {expected:?}")]
    Other {
        /// What it should be.
        expected: Grant,
        /// What it is.
        found: Grant,
    },
}

/// What the identity key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The cluster.
    pub cluster: ClusterId,
    /// The view's epoch.
    pub epoch: u32,
    /// The Raft term.
    pub term: u64,
    /// The identity key of the member that may lead in this term.
    pub candidate: KeyId,
}

impl Payload for Grant {
    const TYP: &'static str = "application/vnd.fairpost.grant+cose";
    const TAG: &'static str = "fairpost/grant/v1";
    const KEYS: usize = 5;
    type Signer = KeyId;

    fn read(map: &mut Map, reader: &mut Reader<'_>) -> Result<Self, cose::Error> {
        map.key(reader, 1)?;
        let cluster = ClusterId::new(reader.bytes32("the cluster id")?);
        map.key(reader, 2)?;
        let epoch = vote::read_epoch(reader)?;
        map.key(reader, 3)?;
        let term = reader.uint()?;
        map.key(reader, 4)?;
        Ok(Self { cluster, epoch, term, candidate: KeyId::new(reader.bytes32("the candidate's key id")?) })
    }

    fn write(&self, writer: &mut Writer) {
        writer.uint(1).bytes(self.cluster.as_bytes()).uint(2).uint(u64::from(self.epoch));
        writer.uint(3).uint(self.term).uint(4).bytes(self.candidate.as_bytes());
    }
}

/// That `grant` is just this one, by `voter`.
pub fn check(grant: &Signed<Grant>, expected: Grant, voter: &VerifyingKey) -> Result<(), Error> {
    let found = *grant.payload();
    if found != expected {
        return Err(Error::Other { expected, found });
    }
    Ok(grant.verify(voter)?)
}
