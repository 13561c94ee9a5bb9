//! Suspicions: a member's signed word that a leader does nothing.
//!
//! # Specification
//!
//! A member whose command the leader of a Raft term has not brought about in time signs a suspicion of that leader, in
//! that term. Suspicions of `f + 1` members, of which one at least is honest, have the others follow that leader no more. A
//! suspicion is for one term: it says nothing about the same member in another.
//!
//! # Guarantees
//!
//! [`check`] gives `Ok` only for a member's own signature over this cluster and epoch, about another member (vectors
//! `suspicion.json`).

use ed25519_dalek::VerifyingKey;

use crate::cbor::{Map, Reader, Writer};
use crate::chain;
use crate::cose::{self, Payload, Signed};
use crate::ids::{ClusterId, KeyId};
use crate::vote;

/// Why a suspicion does not count.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not a well-formed suspicion, or its signature does not hold.
    #[error("suspicion: {0}")]
    Cose(#[from] cose::Error),
    /// It is for another cluster.
    #[error("the suspicion is for cluster {found}, expected {expected}")]
    Cluster {
        /// This cluster.
        expected: ClusterId,
        /// The suspicion's.
        found: ClusterId,
    },
    /// It is for another view.
    #[error("the suspicion is for epoch {found}, expected {expected}")]
    Epoch {
        /// The view's.
        expected: u32,
        /// The suspicion's.
        found: u32,
    },
    /// Who signed, or who is suspected, is no member.
    #[error("{role} has key {found}, and no member has")]
    NoMember {
        /// Whose key it is.
        role: &'static str,
        /// The key.
        found: KeyId,
    },
    /// A member suspects itself.
    #[error("member {member} suspects itself")]
    Itself {
        /// The member.
        member: usize,
    },
}

/// What the identity key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspicion {
    /// The cluster.
    pub cluster: ClusterId,
    /// The view's epoch.
    pub epoch: u32,
    /// The Raft term in which the member leads.
    pub term: u64,
    /// The identity key of the member that is suspected.
    pub suspect: KeyId,
}

impl Payload for Suspicion {
    const TYP: &'static str = "application/vnd.fairpost.suspicion+cose";
    const TAG: &'static str = "fairpost/suspicion/v1";
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
        Ok(Self { cluster, epoch, term, suspect: KeyId::new(reader.bytes32("the suspect's key id")?) })
    }

    fn write(&self, writer: &mut Writer) {
        writer.uint(1).bytes(self.cluster.as_bytes()).uint(2).uint(u64::from(self.epoch));
        writer.uint(3).uint(self.term).uint(4).bytes(self.suspect.as_bytes());
    }
}

/// Who suspects whom; members by their place in the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Who signed.
    pub by: usize,
    /// Who is suspected.
    pub suspect: usize,
    /// In which term.
    pub term: u64,
}

/// That a member of `members`, in their order in the view, says this about another one, in this cluster and epoch.
pub fn check(
    suspicion: &Signed<Suspicion>,
    cluster: ClusterId,
    epoch: u32,
    members: &[VerifyingKey],
) -> Result<Checked, Error> {
    let found = suspicion.payload();
    if found.cluster != cluster {
        return Err(Error::Cluster { expected: cluster, found: found.cluster });
    }
    if found.epoch != epoch {
        return Err(Error::Epoch { expected: epoch, found: found.epoch });
    }
    let member = |role, found: KeyId| {
        let place = members.iter().enumerate().find(|(_, key)| chain::key_id(key) == found);
        place.ok_or(Error::NoMember { role, found })
    };
    let (suspect, _) = member("the suspect", found.suspect)?;
    let (by, key) = member("whoever signed", *suspicion.signer())?;
    if by == suspect {
        return Err(Error::Itself { member: by });
    }
    suspicion.verify(key)?;
    Ok(Checked { by, suspect, term: found.term })
}
