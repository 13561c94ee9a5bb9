//! Starts Raft on this node.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use openraft::{Config, Raft, SnapshotPolicy};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::clocks::{Agreement, Clocks};
use super::doubts::Doubts;
use super::fitness;
use super::grants::{Electorate, Grants};
use super::handle::{self, Error, Handle};
use super::log_store::LogStore;
use super::machine::{Machine, Snapshots};
use super::network::{self, Network, Sending};
use super::state_machine::{self, StateMachine};
use super::transport::Transport;
use super::types::LogId;

/// How this node takes part in Raft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// This node's number among the members. It never changes.
    pub id: u64,
    /// How often a leader tells its followers that it is there. An answer must come within this time as well.
    pub heartbeat: Duration,
    /// The shortest silence after which a follower calls an election. It must be longer than the heartbeat.
    pub election_min: Duration,
    /// The longest such silence; each follower draws its own between the two, so that one comes first.
    pub election_max: Duration,
    /// How many entries are sent to a follower in one message, at most.
    pub batch_entries: u64,
    /// The largest proposal that is taken, in bytes.
    pub proposal_bytes: usize,
    /// How long a proposal may wait for its outcome.
    pub proposal_timeout: Duration,
    /// How far members' clocks may differ, and how many must agree with a leader's.
    pub agreement: Agreement,
}

impl Options {
    /// The defaults for the node with this number: a dead leader is replaced in about a second.
    pub const fn new(id: u64) -> Self {
        Self {
            id,
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(1000),
            batch_entries: 64,
            proposal_bytes: 4 << 20,
            proposal_timeout: Duration::from_secs(10),
            agreement: Agreement::NONE,
        }
    }

    fn config(&self) -> Result<Config, Error> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let config = Config {
            cluster_name: "fairpost".into(),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min: millis(self.election_min),
            election_timeout_max: millis(self.election_max),
            max_payload_entries: self.batch_entries,
            // Snapshots are made, and the log behind them purged, only by `purge`, which knows what is still needed:
            // openraft would purge all that is in a snapshot.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            ..Config::default()
        };
        config.validate().map_err(|error| Error::Options(error.to_string()))
    }
}

/// Starts Raft among these members, with this log, machine and transport.
///
/// Before it returns, entries known to be committed that the machine has not stored are applied to it. A machine that
/// lacks entries which the log has no more gets them by snapshot, later: see [`Handle::recovering`].
///
/// # Errors
///
/// [`Error::Options`], or [`Error::Fatal`] if what is on disk cannot be read.
pub async fn start<M: Machine, T: Transport>(
    options: Options,
    electorate: Electorate,
    log: LogStore,
    machine: Arc<M>,
    transport: T,
) -> Result<Handle, Error> {
    let config = Arc::new(options.config()?);
    let fatal = |error: String| Error::Fatal(error);
    let (applied, _) =
        machine.applied().and_then(state_machine::position).map_err(|error| fatal(error.to_string()))?;
    let lost = log.settle(applied).await.map_err(|error| fatal(error.to_string()))?;
    let sending = Sending::default();
    let clocks = Clocks::new(log.clock(), options.agreement);
    let doubts = Doubts::new(options.id, electorate.clone(), options.election_min, options.election_max);
    let grants = Grants::new(electorate, log.clone()).map_err(|error| fatal(error.to_string()))?;
    let known = network::Known { clocks: clocks.clone(), grants: grants.clone(), doubts: doubts.clone() };
    let network = Network::new(transport, options.heartbeat, sending.clone(), known);
    let raft = Raft::new(options.id, config, network, log.clone(), StateMachine::new(Arc::clone(&machine)));
    // openraft's own future is too large for the stack of most callers.
    let raft = Box::pin(raft).await.map_err(|error| fatal(error.to_string()))?;
    let (leaders, leader) = watch::channel(None);
    tokio::spawn(handle::follow_leader(raft.server_metrics(), leaders));
    let (recovering, lost) = watch::channel(lost);
    if let Some(lost) = *recovering.borrow() {
        warn!(entry = lost.index, "the ledger was lost behind the purged log: it must come by snapshot");
        raft.runtime_config().elect(false);
    }
    let machine = machine as Arc<dyn Snapshots>;
    let taking = tokio::sync::Mutex::new(());
    let told = OnceLock::new();
    let inner = handle::Inner {
        options,
        raft,
        log,
        machine,
        leader,
        lost,
        sending,
        taking,
        clocks,
        grants,
        told,
        doubts,
    };
    let handle = Handle::new(inner);
    tokio::spawn(fitness::watch(handle.clone()));
    if recovering.borrow().is_some() {
        tokio::spawn(recover(handle.clone(), recovering));
    }
    Ok(handle)
}

/// Waits until the machine has come as far as this node's log was, and has it take part again.
async fn recover(handle: Handle, recovering: watch::Sender<Option<LogId>>) {
    let lost = *recovering.borrow();
    let (raft, log) = (handle.raft().clone(), handle.inner().log.clone());
    let far = raft.wait(None).metrics(|now| now.last_applied >= lost, "the lost ledger").await;
    // It fails when Raft stops.
    if far.is_err() {
        return;
    }
    if let Err(error) = log.found().await {
        // The disk has failed, which stops the node.
        error!(%error, "the log can't be written");
        return;
    }
    raft.runtime_config().elect(true);
    recovering.send_replace(None);
    info!("the ledger is back: this node takes part again");
}
