//! Membership: who this node is, and where its share of the cluster's key comes from.
//!
//! The key is dealt by `fairpostctl init` for now. A key ceremony without a dealer, and resharing, will be further
//! implementations of [`KeySource`]; nothing else knows where a share came from.

mod share_file;

use fairpost_proto::threshold::{Commitment, KeyShare};

pub use share_file::{Error, ShareFile, read_private, write_private};

/// What a key ceremony leaves with a member, whoever held it.
pub trait KeySource: Send {
    /// The public commitment to the key's polynomial.
    fn commitment(&self) -> &Commitment;
    /// This member's share.
    fn share(&self) -> &KeyShare;
    /// The epoch of the view that the share belongs to.
    fn epoch(&self) -> u32;
    /// The id of the witness store that the share lives and dies with; none before the share's first use.
    fn witness(&self) -> Option<[u8; 16]>;
    /// Binds the share to its witness store, durably, before its first use.
    fn bind(&mut self, witness: [u8; 16]) -> Result<(), Error>;
}
