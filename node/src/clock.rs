//! This node's clock.

use std::time::{SystemTime, UNIX_EPOCH};

use fairpost_proto::ids::Timestamp;

/// The time by this machine's clock; a clock outside 1970 to 9999 counts as its nearer end.
pub fn now() -> Timestamp {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => {
            u64::try_from(since.as_millis()).ok().and_then(Timestamp::from_millis).unwrap_or(Timestamp::MAX)
        }
        Err(_) => Timestamp::EPOCH,
    }
}
