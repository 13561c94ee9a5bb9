//! Membership: who this node is, and where its share of the cluster's key comes from.
//!
//! The first share is made in a key [`ceremony`]; a resharing will be another source. Nothing else knows where a share came
//! from: to all others it is a [`KeySource`].

pub mod ceremony;
pub(crate) mod share_file;

use fairpost_proto::threshold::{Commitment, KeyShare};

pub use share_file::{Error, ShareFile, read_private, write_private};

/// What a key ceremony leaves with a member.
pub trait KeySource: Send {
    /// The public commitment to the key's polynomial.
    fn commitment(&self) -> &Commitment;
    /// This member's share, if it has one.
    fn share(&self) -> Option<&KeyShare>;
    /// The epoch of the view that the share belongs to.
    fn epoch(&self) -> u32;
    /// The id of the witness store that the share lives and dies with; none before the share's first use.
    fn witness(&self) -> Option<[u8; 16]>;
    /// Binds the share to its witness store, durably, before its first use.
    fn bind(&mut self, witness: [u8; 16]) -> Result<(), Error>;
}

/// What a member has that was left out of the key ceremony.
pub struct NoShare(pub Commitment);

impl KeySource for NoShare {
    fn commitment(&self) -> &Commitment {
        &self.0
    }

    fn share(&self) -> Option<&KeyShare> {
        None
    }

    fn epoch(&self) -> u32 {
        0
    }

    fn witness(&self) -> Option<[u8; 16]> {
        None
    }

    fn bind(&mut self, _: [u8; 16]) -> Result<(), Error> {
        Ok(())
    }
}
