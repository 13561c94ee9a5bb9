//! What the rest of the node does with Raft.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use fairpost_proto::ids::Timestamp;
use futures::{Stream, StreamExt as _};
use openraft::error::{ClientWriteError, InitializeError, RaftError};
use openraft::metrics::RaftServerMetrics;
use openraft::{Raft, Snapshot};
use tokio::sync::watch;
use tokio::time::timeout;

use super::clocks::{Clocks, Unfit};
use super::codec::{self, Encode};
use super::guard::{self, Violation};
use super::log_store::{self, LogStore};
use super::message::{self, Append, Elect, Install};
use super::network::CHUNK_BYTES;
use super::node::Options;
use super::snapshot::{self, SnapshotData};
use super::types::{Leader, Member, Proposal, TypeConfig};

/// Why Raft did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another node leads, or none does: ask that one, or again in a moment.
    ///
    /// If this node led when it took the proposal, the proposal may still be applied.
    #[error("this node does not lead; the leader is {}", describe(leader.as_ref()))]
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<Leader>,
    },
    /// No majority confirmed it in time. The proposal may still be applied.
    #[error("no majority of the cluster confirmed this within {waited_millis} ms; it may still be applied")]
    Unavailable {
        /// How long this node waited.
        waited_millis: u128,
    },
    /// The proposal is too large.
    #[error("a proposal of {found} bytes is too large, at most {expected} are taken")]
    TooLarge {
        /// The limit.
        expected: usize,
        /// Its size.
        found: usize,
    },
    /// The options do not go together.
    #[error("consensus options: {0}")]
    Options(String),
    /// The members given for the first start are not a cluster with this node in it.
    #[error("cannot form a cluster: {0}")]
    Members(String),
    /// Raft has stopped: a failed disk, a fault, or a shutdown. This node cannot go on.
    #[error("consensus has stopped: {0}")]
    Fatal(String),
}

fn describe(leader: Option<&Leader>) -> String {
    match leader {
        None => "not known".into(),
        Some(Leader { id, member: None }) => format!("node {id}"),
        Some(Leader { member: Some(Member { name, address }), .. }) => format!("{name} at {address}"),
    }
}

/// Why a peer's message was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its bytes are no message.
    #[error("malformed message: {0}")]
    Malformed(#[from] codec::Error),
    /// The guard refused it.
    #[error("refused message: {0}")]
    Guarded(#[from] Violation),
    /// The snapshot that came is not one.
    #[error(transparent)]
    Snapshot(#[from] snapshot::Error),
    /// The peer sent no snapshot to the end.
    #[error("the snapshot broke off: {0}")]
    BrokenOff(String),
    /// A part of the snapshot is too large.
    #[error("a chunk of {found} bytes is too large, at most {expected} are taken")]
    LargeChunk {
        /// The limit.
        expected: usize,
        /// Its size.
        found: usize,
    },
    /// Raft has stopped on this node.
    #[error("consensus has stopped: {0}")]
    Fatal(String),
}

/// Raft on this node. Clones are the same Raft.
#[derive(Clone)]
pub struct Handle {
    options: Arc<Options>,
    raft: Raft<TypeConfig>,
    log: LogStore,
    leader: watch::Receiver<Option<Leader>>,
    clocks: Clocks,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("id", &self.options.id).finish_non_exhaustive()
    }
}

impl Handle {
    pub(super) fn new(
        options: Options,
        raft: Raft<TypeConfig>,
        log: LogStore,
        leader: watch::Receiver<Option<Leader>>,
        clocks: Clocks,
    ) -> Self {
        Self { options: Arc::new(options), raft, log, leader, clocks }
    }

    /// This node's number among the members.
    pub fn id(&self) -> u64 {
        self.options.id
    }

    /// Has the entry stored by a majority and applied here, and returns its outcome. Only the leader can.
    ///
    /// # Errors
    ///
    /// [`Error::NotLeader`], [`Error::Unavailable`], [`Error::TooLarge`] or [`Error::Fatal`]. After any but
    /// [`Error::TooLarge`] the entry may still be applied later: whoever proposes it again must recognize it.
    pub async fn propose(&self, proposal: Bytes) -> Result<Bytes, Error> {
        let (expected, found) = (self.options.proposal_bytes, proposal.len());
        if found > expected {
            return Err(Error::TooLarge { expected, found });
        }
        let wait = self.options.proposal_timeout;
        let written = timeout(wait, Box::pin(self.raft.client_write(Proposal(proposal)))).await;
        let unavailable = Error::Unavailable { waited_millis: wait.as_millis() };
        match written.map_err(|_| unavailable)? {
            Ok(written) => Ok(written.data.0),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                let (id, member) = (forward.leader_id, forward.leader_node);
                Err(Error::NotLeader { leader: id.map(|id| Leader { id, member }) })
            }
            Err(RaftError::APIError(error @ ClientWriteError::ChangeMembershipError(_))) => {
                Err(Error::Fatal(error.to_string()))
            }
            Err(RaftError::Fatal(error)) => Err(Error::Fatal(error.to_string())),
        }
    }

    /// Who leads, as far as this node knows. It may have changed already.
    pub fn leader(&self) -> Option<Leader> {
        self.leader.borrow().clone()
    }

    /// Whether this node leads, as far as it knows.
    pub fn is_leader(&self) -> bool {
        self.leader.borrow().as_ref().is_some_and(|leader| leader.id == self.options.id)
    }

    /// Why this node's clock is not fit to stamp entries just now, if it is not. To be asked right before it is used.
    pub fn unfit(&self) -> Option<Unfit> {
        self.clocks.unfit(None)
    }

    /// What is wrong with this node's clock, or with the leader's: an alarm for operators.
    pub fn clock_problem(&self) -> Option<String> {
        let leader = self.leader()?.id;
        if leader == self.id() {
            return self.unfit().map(|unfit| unfit.to_string());
        }
        let ahead = self.clocks.ahead(leader)?;
        let skew = self.options.agreement.skew;
        (ahead.unsigned_abs() > skew.millis()).then(|| {
            format!(
                "the leader's clock is {ahead:+} ms from this node's, and at most {skew} are allowed: this node votes for nothing; \
                 set the clocks right (NTP)"
            )
        })
    }

    /// Tells who leads whenever that changes from now on; none when Raft has stopped.
    pub fn watch_leader(&self) -> watch::Receiver<Option<Leader>> {
        let mut leader = self.leader.clone();
        // A clone would count all changes since the start as new.
        leader.mark_unchanged();
        leader
    }

    /// Whether Raft is at work: it is asked, because after a fatal error its metrics may still say that all
    /// is well. A Raft that has not answered after an election's time counts as stuck.
    pub async fn is_healthy(&self) -> bool {
        let asked = timeout(self.options.election_max, self.raft.with_raft_state(|_| ())).await;
        matches!(asked, Ok(Ok(())))
    }

    /// When this node appended the entry that is now at `index`.
    ///
    /// # Errors
    ///
    /// As [`LogStore::first_seen`].
    pub fn first_seen(&self, index: u64) -> Result<Option<Timestamp>, log_store::Error> {
        self.log.first_seen(index)
    }

    /// Forms the cluster of these members, by number, on its first start. Each member may do so, with the
    /// same members; where a cluster is formed already, it does nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Members`] if this node is not among them, or [`Error::Fatal`].
    pub async fn initialize(&self, members: BTreeMap<u64, Member>) -> Result<(), Error> {
        match Box::pin(self.raft.initialize(members)).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(RaftError::APIError(error @ InitializeError::NotInMembers(_))) => {
                Err(Error::Members(error.to_string()))
            }
            Err(RaftError::Fatal(error)) => Err(Error::Fatal(error.to_string())),
        }
    }

    /// Stops Raft on this node, and returns when it has stopped.
    pub async fn shutdown(&self) {
        // It can only fail if Raft's task panicked, and then it has stopped.
        let _ = self.raft.shutdown().await;
    }

    /// Answers entries, or a heartbeat, that the member `from` has proved to have sent.
    ///
    /// # Errors
    ///
    /// If the message is refused, or Raft has stopped.
    pub async fn append_entries(&self, from: u64, request: Bytes) -> Result<Bytes, Refusal> {
        let (time, request) = message::untimed(request)?;
        let request: Append = message::decode(request)?;
        guard::check_append(from, &request)?;
        self.clocks.heard(from, time, None);
        guard::check_times(&request, self.clocks.latest())?;
        let answer = Box::pin(self.raft.append_entries(request)).await;
        self.answer(&answer.map_err(|error| Refusal::Fatal(error.to_string()))?)
    }

    /// Answers a candidate's call that the member `from` has proved to have sent.
    ///
    /// # Errors
    ///
    /// If the message is refused, or Raft has stopped.
    pub async fn vote(&self, from: u64, request: Bytes) -> Result<Bytes, Refusal> {
        let (time, request) = message::untimed(request)?;
        let request: Elect = message::decode(request)?;
        guard::check_vote(from, &request)?;
        self.clocks.heard(from, time, None);
        self.clocks.check_candidate(time)?;
        let answer = Box::pin(self.raft.vote(request)).await;
        self.answer(&answer.map_err(|error| Refusal::Fatal(error.to_string()))?)
    }

    fn answer(&self, answer: &impl Encode) -> Result<Bytes, Refusal> {
        Ok(message::timed(self.clocks.now(), &message::encode(answer)?))
    }

    /// Takes a snapshot, in the chunks in which the transport was given it, that the member `from` has proved
    /// to have sent.
    ///
    /// # Errors
    ///
    /// If the snapshot is refused, damaged, too large or not whole, or Raft has stopped.
    pub async fn install_snapshot<S, E>(&self, from: u64, chunks: S) -> Result<Bytes, Refusal>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: std::fmt::Display,
    {
        let mut chunks = std::pin::pin!(chunks);
        let head = match chunks.next().await {
            Some(chunk) => small(chunk)?,
            None => return Err(Refusal::BrokenOff("nothing came".into())),
        };
        let Install { vote, meta } = message::decode(head).map_err(Refusal::from).and_then(|head| {
            guard::check_install(from, &head)?;
            Ok(head)
        })?;
        let mut bytes = BytesMut::new();
        while let Some(chunk) = chunks.next().await {
            let chunk = small(chunk)?;
            if chunk.len() > snapshot::MAX_BYTES.saturating_sub(bytes.len()) {
                return Err(snapshot::Error::TooLarge { expected: snapshot::MAX_BYTES }.into());
            }
            bytes.extend_from_slice(&chunk);
        }
        let data = SnapshotData::new(bytes.freeze());
        // A damaged snapshot must not reach openraft, which would stop this node for it.
        data.records().map(drop)?;
        let snapshot = Snapshot { meta, snapshot: Box::new(data) };
        let answer = Box::pin(self.raft.install_full_snapshot(vote, snapshot)).await;
        Ok(message::encode(&answer.map_err(|error| Refusal::Fatal(error.to_string()))?)?)
    }

    pub(super) const fn raft(&self) -> &Raft<TypeConfig> {
        &self.raft
    }

    pub(super) const fn log(&self) -> &LogStore {
        &self.log
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    pub(super) const fn clocks(&self) -> &Clocks {
        &self.clocks
    }
}

/// The chunk, if it came and is not too large.
fn small<E: std::fmt::Display>(chunk: Result<Bytes, E>) -> Result<Bytes, Refusal> {
    let chunk = chunk.map_err(|error| Refusal::BrokenOff(error.to_string()))?;
    let found = chunk.len();
    if found > CHUNK_BYTES { Err(Refusal::LargeChunk { expected: CHUNK_BYTES, found }) } else { Ok(chunk) }
}

/// Passes on who leads, until Raft stops or nobody listens.
pub(super) async fn follow_leader(
    mut metrics: watch::Receiver<RaftServerMetrics<u64, Member>>,
    leaders: watch::Sender<Option<Leader>>,
) {
    loop {
        let now = {
            let metrics = metrics.borrow_and_update();
            metrics.current_leader.map(|id| {
                let member = metrics.membership_config.membership().get_node(&id).cloned();
                Leader { id, member }
            })
        };
        leaders.send_if_modified(|leader| {
            let changed = *leader != now;
            *leader = now;
            changed
        });
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() { break },
            () = leaders.closed() => return,
        }
    }
    leaders.send_replace(None);
}
