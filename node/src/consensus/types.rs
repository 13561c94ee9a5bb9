//! The types that this node has openraft work with.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::snapshot::SnapshotData;

openraft::declare_raft_types!(
    /// What openraft is instantiated with.
    pub TypeConfig:
        D = Proposal,
        R = Outcome,
        NodeId = u64,
        Node = Member,
        SnapshotData = SnapshotData,
);

/// What a leader proposes: one encoded ledger entry, opaque here.
///
/// Raft never serializes it with serde (see [`codec`](super::codec)); openraft merely demands that one could.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<u8>", into = "Vec<u8>")]
pub struct Proposal(pub Bytes);

/// What came of one entry when it was applied; opaque here, and empty for entries that Raft made for itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<u8>", into = "Vec<u8>")]
pub struct Outcome(pub Bytes);

macro_rules! as_bytes {
    ($name:ident) => {
        impl From<Vec<u8>> for $name {
            fn from(bytes: Vec<u8>) -> Self {
                Self(bytes.into())
            }
        }

        impl From<$name> for Vec<u8> {
            fn from(value: $name) -> Self {
                value.0.into()
            }
        }
    };
}

as_bytes!(Proposal);
as_bytes!(Outcome);

/// A member of the cluster as Raft knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name in the view.
    pub name: String,
    /// Where its peers reach it: host and port.
    pub address: String,
}

/// The member that leads, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Its number in Raft.
    pub id: u64,
    /// Name and address, if this node knows the member.
    pub member: Option<Member>,
}

/// An entry of the log.
pub(super) type Entry = openraft::Entry<TypeConfig>;
/// Term, leader and index of an entry.
pub(super) type LogId = openraft::LogId<u64>;
/// Who may lead or leads, and in which term.
pub(super) type Vote = openraft::Vote<u64>;
/// Who votes.
pub(super) type Membership = openraft::Membership<u64, Member>;
/// Who votes, and which entry said so.
pub(super) type StoredMembership = openraft::StoredMembership<u64, Member>;
/// Up to where a snapshot goes.
pub(super) type SnapshotMeta = openraft::SnapshotMeta<u64, Member>;
/// What makes openraft stop.
pub(super) type StorageError = openraft::StorageError<u64>;
/// What openraft was doing when the store failed.
pub(super) type StorageIOError = openraft::StorageIOError<u64>;
