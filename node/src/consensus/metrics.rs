//! What this room counts.

use metrics::{counter, describe_counter, describe_gauge, gauge};

/// The log has so many bytes, and was purged up to this index.
pub(super) fn log(bytes: u64, purged: u64) {
    gauge!("fairpost_log_bytes").set(bytes as f64);
    gauge!("fairpost_log_purged_index").set(purged as f64);
}

/// A snapshot was not taken.
pub(super) fn snapshot_refused() {
    counter!("fairpost_snapshots_refused_total").increment(1);
}

/// A member suspects a leader.
pub(super) fn suspected(by: String, suspect: String) {
    counter!("fairpost_suspicions_total", "by" => by, "suspect" => suspect).increment(1);
}

/// A leader is followed no more, because too many suspect it.
pub(super) fn leader_replaced() {
    counter!("fairpost_leaders_replaced_total").increment(1);
}

/// Describes this file's metrics to the exporter.
pub fn describe() {
    describe_gauge!("fairpost_log_bytes", "Bytes of the entries in Raft's log, about.");
    describe_gauge!("fairpost_log_purged_index", "Index of the last entry that was purged from Raft's log.");
    describe_counter!("fairpost_snapshots_refused_total", "Snapshots from other members that were refused.");
    counter!("fairpost_snapshots_refused_total").absolute(0);
    describe_counter!("fairpost_suspicions_total", "Suspicions of leaders, by author and suspect.");
    describe_counter!(
        "fairpost_leaders_replaced_total",
        "Leaders that this node ceased to follow because more than f members suspected them."
    );
    counter!("fairpost_leaders_replaced_total").absolute(0);
}
