//! From what was seen in a run to the report.

use std::time::{Duration, Instant};

use fairpost_proto::view::View;

use super::load::Done;
use super::report::{self, Report};
use super::watch::Look;
use super::{Options, bound, numbers};

/// What the clock saw.
pub(super) struct Clock {
    pub(super) started: Instant,
    pub(super) stopped: Instant,
    /// Each node when it started.
    pub(super) before: Vec<Look>,
    /// Each node when it stopped.
    pub(super) after: Vec<Look>,
    /// Processor time that this process used meanwhile.
    pub(super) cpu: Duration,
    /// How many processors of this machine were busy meanwhile, with whatever.
    pub(super) busy: Option<f64>,
    /// This process's memory at the end.
    pub(super) resident: Option<u64>,
}

/// What was seen in a run.
pub(super) struct Seen {
    /// The exchanges that were answered while the clock ran.
    pub(super) counted: Vec<Done>,
    /// How many were answered at all.
    pub(super) answered: usize,
    /// How many calls were made again.
    pub(super) again: u64,
    pub(super) clock: Clock,
    pub(super) checked: report::Checked,
    /// Seconds for a synced write.
    pub(super) sync: f64,
    /// How many certificates the people have.
    pub(super) certificates: usize,
}

/// Writes the report.
pub(super) fn report(options: &Options, view: &View, seen: &Seen, bench: &bound::Bench<'_>) -> Report {
    let (clock, counted) = (&seen.clock, &seen.counted);
    let seconds = (clock.stopped - clock.started).as_secs_f64();
    let rate = counted.len() as f64 / seconds;
    let (quorum, token_batch) = (view.quorum(), clock.token_batch());
    let shape = bound::Shape {
        n: quorum.n(),
        q: quorum.q(),
        batch: batch(clock),
        tokens: whole(token_batch),
        certificates: (seen.certificates as f64 / seen.answered as f64).min(2.0),
        proof: options.proof,
    };
    let cores = cores();
    let operations = bench.costs(&shape);
    let seconds_per_exchange: f64 = operations.iter().map(|cost| cost.seconds_per_exchange).sum();
    let bound_per_second = cores as f64 / seconds_per_exchange;
    let latency_seconds = numbers::latency(counted.iter().map(|done| done.redeem));
    let proofs: Vec<Duration> = counted.iter().filter_map(|done| done.proof).collect();
    let nodes: Vec<report::Node> =
        clock.before.iter().zip(&clock.after).map(|(before, after)| node(before, after, rate)).collect();
    let own = clock.cpu.as_secs_f64() / seconds + nodes.iter().map(|node| node.cpu).sum::<f64>();
    Report {
        version: report::VERSION,
        cluster: view.cluster().to_string(),
        clients: options.clients,
        seconds,
        exchanges: counted.len(),
        answered: seen.answered,
        calls_again: seen.again,
        proof: options.proof,
        batch: shape.batch,
        token_batch,
        exchanges_per_second: rate,
        bound_per_second,
        share_of_bound: rate / bound_per_second,
        latency_seconds,
        proof_latency_seconds: options.proof.then(|| numbers::latency(proofs.into_iter())),
        stages: stages(clock),
        bound: report::Bound { cores, seconds_per_exchange, operations },
        unavoidable: options.disk.as_ref().map(|_| {
            let parts = bench.way(&shape, seen.sync);
            let seconds = parts.iter().map(|part| part.seconds_together).sum();
            report::Unavoidable { seconds, latency_ratio: latency_seconds.p50 / seconds, parts }
        }),
        nodes,
        client: report::Client {
            cpu_seconds_per_exchange: clock.cpu.as_secs_f64() / counted.len() as f64,
            resident_bytes: clock.resident,
        },
        others_cpu: clock.busy.map(|busy| (busy - own).max(0.0)),
        checked: seen.checked,
    }
}

/// Exchanges in an entry: what the node that decided most has added to its log.
fn batch(clock: &Clock) -> f64 {
    let grown = clock.before.iter().zip(&clock.after).map(|(before, after)| {
        let entries = after.status.sequence.saturating_sub(before.status.sequence);
        (entries, after.status.evidence_log_size.saturating_sub(before.status.evidence_log_size))
    });
    grown.max().map_or(1.0, |(entries, leaves)| leaves as f64 / entries.max(1) as f64).max(1.0)
}

fn node(before: &Look, after: &Look, rate: f64) -> report::Node {
    let time = (after.at - before.at).as_secs_f64();
    let cpu = (after.status.cpu_seconds - before.status.cpu_seconds) / time;
    report::Node {
        name: after.status.name.clone(),
        role: after.status.role.clone(),
        cpu_seconds_per_exchange: cpu / rate,
        cpu,
        resident_bytes: after.status.resident_bytes,
    }
}

impl Clock {
    /// What all nodes measured while it ran.
    fn histograms(&self) -> numbers::Histograms {
        let mut all = numbers::Histograms::new();
        for (before, after) in self.before.iter().zip(&self.after) {
            for (name, histogram) in &after.histograms {
                let since = histogram.clone().since(before.histograms.get(name));
                all.entry(name.clone()).or_default().add(&since);
            }
        }
        all
    }

    /// How many tokens a node verified together, on average; one where nothing tells.
    pub(super) fn token_batch(&self) -> f64 {
        self.histograms().get("fairpost_token_batch_size").map_or(1.0, |sizes| sizes.mean().max(1.0))
    }
}

/// How many processors this process may use.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The nearest whole number of a size.
pub(super) fn whole(size: f64) -> usize {
    (size.round() as usize).clamp(1, bound::MOST_TOKENS)
}

fn stages(clock: &Clock) -> Vec<report::Stage> {
    let durations = clock.histograms().into_iter().filter(|(name, histogram)| {
        let name = name.split('{').next().unwrap_or_default();
        name.ends_with("_seconds") && histogram.count > 0.0
    });
    durations
        .map(|(stage, histogram)| report::Stage {
            stage,
            count: histogram.count,
            mean: histogram.mean(),
            p50: histogram.quantile(0.5),
            p99: histogram.quantile(0.99),
        })
        .collect()
}
