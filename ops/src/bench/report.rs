//! What a run has found. Serialised, this is the JSON form: see docs/json.md.

use serde::Serialize;

/// The version of the JSON form.
pub const VERSION: u32 = 1;

/// What a run has found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of this form: 1.
    pub version: u32,
    /// The cluster's id.
    pub cluster: String,
    /// Clients that asked at once.
    pub clients: usize,
    /// How long the clock ran.
    pub seconds: f64,
    /// Exchanges that were answered in full while the clock ran.
    pub exchanges: usize,
    /// All exchanges that were answered, with those before the clock started and after it stopped.
    pub answered: usize,
    /// Calls that a node had no room or no quorum for, and that were made again.
    pub calls_again: u64,
    /// Whether an exchange ends with the proof, or with the token.
    pub proof: bool,
    /// Exchanges in an entry, on average.
    pub batch: f64,
    /// Tokens that a node verified together, on average.
    pub token_batch: f64,
    /// Full exchanges a second.
    pub exchanges_per_second: f64,
    /// What the cryptography alone would allow on this machine.
    pub bound_per_second: f64,
    /// The first by the second.
    pub share_of_bound: f64,
    /// From the recipient's request to the token, as the client sees it.
    pub latency_seconds: Latency,
    /// From the sender's request to the proof, as the client sees it; null without proofs.
    pub proof_latency_seconds: Option<Latency>,
    /// What the nodes measured, all together.
    pub stages: Vec<Stage>,
    /// The cryptographic bound, in its parts.
    pub bound: Bound,
    /// What a single exchange has to wait for.
    pub unavoidable: Option<Unavoidable>,
    /// Each node.
    pub nodes: Vec<Node>,
    /// This process.
    pub client: Client,
    /// How many of this machine's processors anything else used meanwhile, if the nodes are on it; null where that is
    /// not known.
    pub others_cpu: Option<f64>,
    /// What was looked at after the clock had stopped, and held.
    pub checked: Checked,
}

/// What so many latencies were like, in seconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Latency {
    /// The mean.
    pub mean: f64,
    /// Half of them took at most this.
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
    /// All.
    pub max: f64,
}

/// One of the nodes' histograms, while the clock ran.
#[derive(Clone, Debug, Serialize)]
pub struct Stage {
    /// Its name in the metrics, with its labels.
    pub stage: String,
    /// How often it happened.
    pub count: f64,
    /// Mean, in seconds.
    pub mean: f64,
    /// Half of them took about at most this.
    pub p50: f64,
    /// 99 %.
    pub p99: f64,
}

/// The cryptographic bound, in its parts.
#[derive(Clone, Debug, Serialize)]
pub struct Bound {
    /// Processors.
    pub cores: usize,
    /// All operations of one exchange, over all servers.
    pub seconds_per_exchange: f64,
    /// The operations.
    pub operations: Vec<Cost>,
}

/// What one operation costs an exchange.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// The operation.
    pub operation: String,
    /// How long it takes once.
    pub seconds: f64,
    /// How often an exchange needs it, over all servers.
    pub per_exchange: f64,
    /// Both together.
    pub seconds_per_exchange: f64,
}

/// What a single exchange has to wait for.
#[derive(Clone, Debug, Serialize)]
pub struct Unavoidable {
    /// All of it.
    pub seconds: f64,
    /// The median latency by that.
    pub latency_ratio: f64,
    /// Its parts.
    pub parts: Vec<Part>,
}

/// One thing that a single exchange has to wait for.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    /// What.
    pub part: &'static str,
    /// How long it takes once.
    pub seconds: f64,
    /// How often it happens, one after the other.
    pub times: f64,
    /// Both together.
    pub seconds_together: f64,
}

/// A node.
#[derive(Clone, Debug, Serialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its role at the end.
    pub role: String,
    /// Processor time that it used for one exchange.
    pub cpu_seconds_per_exchange: f64,
    /// The share of one processor that it used.
    pub cpu: f64,
    /// Its memory at the end; null where it does not know.
    pub resident_bytes: Option<u64>,
}

/// This process.
#[derive(Clone, Debug, Serialize)]
pub struct Client {
    /// Processor time that it used for one exchange.
    pub cpu_seconds_per_exchange: f64,
    /// Its memory at the end; null where that is not known.
    pub resident_bytes: Option<u64>,
}

/// What was looked at after the clock had stopped, and held.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Checked {
    /// Tokens: all.
    pub tokens: usize,
    /// Proofs with the mails that they open.
    pub proofs: usize,
}
