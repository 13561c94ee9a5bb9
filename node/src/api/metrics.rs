//! The services' metrics.

use std::time::Duration;

use fairpost_api::tls::Connections;
use fairpost_proto::ids::Verdict;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use super::admission::Admission;
use super::admission::layer::Arrivals;

/// How often gauges of queues are brought up to date.
const SAMPLE: Duration = Duration::from_secs(1);

/// Describes them to the exporter.
pub fn describe() {
    describe_counter!("fairpost_verdicts_total", "Verdicts that this node has answered with, by verdict.");
    describe_counter!("fairpost_rejections_total", "Requests that this node has not taken, by reason.");
    describe_gauge!("fairpost_connections", "Connections, by kind: strangers, known, handshakes.");
    describe_counter!("fairpost_connections_closed_total", "Connections closed because there were too many.");
    describe_gauge!("fairpost_queue_depth", "Requests that wait, by queue.");
    describe_gauge!("fairpost_queue_working", "Requests whose turn it is, by queue.");
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

/// Tells, for ever, how full this node is.
pub async fn sample(connections: Connections, arrivals: Arrivals, admission: std::sync::Arc<Admission>) {
    let mut ticks = tokio::time::interval(SAMPLE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let of = |kind: &'static str, count: usize| {
            gauge!("fairpost_connections", "kind" => kind).set(count as f64)
        };
        of("strangers", connections.strangers());
        of("known", connections.known());
        of("handshakes", usize::try_from(connections.handshakes()).unwrap_or(usize::MAX));
        counter!("fairpost_connections_closed_total").absolute(connections.refused());
        let (strangers, known) = arrivals.under_way();
        let arrived = [("arrivals", (0, strangers)), ("arrivals_known", (0, known))];
        for (queue, (waiting, working)) in admission.depths().into_iter().chain(arrived) {
            gauge!("fairpost_queue_depth", "queue" => queue).set(waiting as f64);
            gauge!("fairpost_queue_working", "queue" => queue).set(working as f64);
        }
    }
}
