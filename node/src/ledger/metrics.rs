//! The ledger's metrics.

use metrics::{counter, describe_counter};

use super::Outcome;

/// Describes them to the exporter.
pub fn describe() {
    describe_counter!(
        "fairpost_decisions_total",
        "Commands that this node's ledger has decided, by what became of them."
    );
}

/// Counts what became of an entry's commands.
pub fn decided(outcomes: &[Outcome]) {
    for outcome in outcomes {
        let outcome = match outcome {
            Outcome::Decided { .. } => "decided",
            Outcome::TooLate { .. } => "too_late",
            Outcome::TooEarly { .. } => "too_early",
            Outcome::Invalid(_) => "invalid",
            Outcome::NotOpened(_) => "not_opened",
        };
        counter!("fairpost_decisions_total", "outcome" => outcome).increment(1);
    }
}
