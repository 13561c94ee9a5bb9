//! The services' metrics.

use std::time::Duration;

use fairpost_proto::ids::Verdict;
use metrics::{counter, describe_counter, describe_histogram, histogram};

/// Describes them to the exporter.
pub fn describe() {
    describe_counter!("fairpost_verdicts_total", "Verdicts that this node has answered with, by verdict.");
    describe_counter!("fairpost_rejections_total", "Requests that this node has not taken, by reason.");
    describe_histogram!(
        "fairpost_release_seconds",
        metrics::Unit::Seconds,
        "Time from a request to its answer, by stage: admit, order, finish."
    );
}

pub(super) fn verdict(verdict: Verdict) {
    let verdict = match verdict {
        Verdict::Released => "released",
        Verdict::Withdrawn => "withdrawn",
        Verdict::Refused => "refused",
        Verdict::Expired => "expired",
    };
    counter!("fairpost_verdicts_total", "verdict" => verdict).increment(1);
}

pub(super) fn rejected(reason: &'static str) {
    counter!("fairpost_rejections_total", "reason" => reason).increment(1);
}

pub(super) fn stage(stage: &'static str, took: Duration) {
    histogram!("fairpost_release_seconds", "stage" => stage).record(took.as_secs_f64());
}
