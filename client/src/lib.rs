//! What senders, recipients and judges do with Fairpost: sealing, opening, proving.

pub mod ca;
pub mod card;
pub mod client;
pub mod identity;
pub mod mail;
pub mod pem;
pub mod seal;
pub mod sealed_mail;
pub mod secret_file;
pub mod spool;
pub mod trust;
pub mod x509;

use std::time::{SystemTime, UNIX_EPOCH};

pub use fairpost_proto::armor;
use fairpost_proto::ids::Timestamp;

/// What this machine's clock says.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).ok().and_then(Timestamp::from_millis).unwrap_or(Timestamp::EPOCH)
}
