//! The metrics of the store, all histograms of seconds.
//!
//! | name | counts |
//! |---|---|
//! | `fairpost_log_fsync_seconds` | one synced batch to the Raft log: entries and votes |
//! | `fairpost_ledger_write_seconds` | one batch to the ledger, synced or not |
//! | `fairpost_witness_fsync_seconds` | one synced batch to the witness store |
//!
//! Every receipt waits for the first and the last of them on several nodes: a slow disk shows here first.

use std::time::Duration;

use metrics::{Unit, describe_histogram, histogram};

use super::{Durability, Store};

/// Seconds for one synced batch to the Raft log.
pub const LOG_FSYNC_SECONDS: &str = "fairpost_log_fsync_seconds";
/// Seconds for one batch to the ledger.
pub const LEDGER_WRITE_SECONDS: &str = "fairpost_ledger_write_seconds";
/// Seconds for one synced batch to the witness store.
pub const WITNESS_FSYNC_SECONDS: &str = "fairpost_witness_fsync_seconds";

/// Tells the installed recorder what the metrics of this module mean. Call it once, after installing it.
pub fn describe() {
    describe_histogram!(LOG_FSYNC_SECONDS, Unit::Seconds, "Time to write and sync one batch to the Raft log");
    describe_histogram!(LEDGER_WRITE_SECONDS, Unit::Seconds, "Time to write one batch to the ledger");
    describe_histogram!(
        WITNESS_FSYNC_SECONDS,
        Unit::Seconds,
        "Time to write and sync one batch to the witness store"
    );
}

/// Records how long one batch took.
pub(super) fn wrote(store: Store, durability: Durability, elapsed: Duration) {
    match (store, durability) {
        (Store::Log, Durability::Synced) => histogram!(LOG_FSYNC_SECONDS).record(elapsed),
        (Store::Witness, Durability::Synced) => histogram!(WITNESS_FSYNC_SECONDS).record(elapsed),
        (Store::Ledger, _) => histogram!(LEDGER_WRITE_SECONDS).record(elapsed),
        (Store::Log | Store::Witness, Durability::Buffered) => {}
    }
}
