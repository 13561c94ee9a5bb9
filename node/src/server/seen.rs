//! What the witness has of the log: when each entry was first seen, for as long as it has not voted on it.

use fairpost_proto::ids::Timestamp;

use crate::consensus::{self, purge};
use crate::store::Ledger;
use crate::witness::service;

/// The witness needs of the log what it has not voted on: when each entry was first seen.
pub(super) struct Unvoted {
    pub(super) witness: service::Handle,
    pub(super) ledger: Ledger,
}

impl purge::Needed for Unvoted {
    fn needed(&self) -> Result<Option<u64>, String> {
        if self.witness.is_closed() {
            return Ok(None);
        }
        let voted = self.witness.voted().map_err(|error| error.to_string())?;
        // What it has voted on goes as far as the block's own entry.
        let block = self.ledger.block(voted).map_err(|error| error.to_string())?;
        Ok(Some(block.map_or(0, |block| block.index.saturating_add(1))))
    }
}

impl service::FirstSeen for consensus::LogStore {
    fn first_seen(&self, index: u64) -> Option<Timestamp> {
        match Self::first_seen(self, index) {
            Ok(seen) => seen,
            Err(error) => {
                tracing::error!(index, %error, "the log does not tell when it first saw an entry");
                None
            }
        }
    }
}
