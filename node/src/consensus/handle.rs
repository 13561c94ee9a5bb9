//! What the rest of the node does with Raft.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use fairpost_proto::ids::Timestamp;
use futures::{Stream, StreamExt as _};
use openraft::error::{ClientWriteError, Fatal, InitializeError, RaftError};
use openraft::metrics::RaftServerMetrics;
use openraft::{EntryPayload, Raft, Snapshot};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{info, warn};

use super::clocks::{Clocks, Unfit};
use super::codec::{self, Encode};
use super::doubts::Doubts;
use super::grants::Grants;
use super::guard::{self, Violation};
use super::log_store::{self, LogStore};
use super::machine::{Feed, Records, Snapshots, Staged};
use super::message::{self, Append, Appended, Elect, Elected, Front, Install, Installed};
use super::network::{CHUNK_BYTES, Sending};
use super::node::Options;
use super::snapshot::{self, Piece, SnapshotData, Unpacker};
use super::twice::{self, Told};
use super::types::{Leader, LogId, Member, Proposal, SnapshotMeta, TypeConfig, Vote};
use super::{metrics, state_machine};

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
    /// What the snapshot says does not hold, or it could not be stored.
    #[error("the snapshot was not taken: {0}")]
    NotTaken(String),
    /// Another snapshot is on its way in.
    #[error("another snapshot is being taken in; this one is refused")]
    Busy,
    /// This node lost its ledger, and may have forgotten what it confirmed.
    #[error("this node gives no vote until its ledger is back: {0}")]
    Recovering(String),
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

/// How long the next part of a snapshot may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Raft on this node. Clones are the same Raft.
#[derive(Clone)]
pub struct Handle(Arc<Inner>);

/// What a handle works with.
pub(super) struct Inner {
    pub(super) options: Options,
    pub(super) raft: Raft<TypeConfig>,
    pub(super) log: LogStore,
    pub(super) machine: Arc<dyn Snapshots>,
    pub(super) leader: watch::Receiver<Option<Leader>>,
    /// The last entry that this node had, while its machine has not come as far again.
    pub(super) lost: watch::Receiver<Option<LogId>>,
    pub(super) sending: Sending,
    /// Held by the one snapshot that is being taken in.
    pub(super) taking: tokio::sync::Mutex<()>,
    pub(super) clocks: Clocks,
    pub(super) grants: Grants,
    /// Who hears of two entries for one term and sequence.
    pub(super) told: OnceLock<Told>,
    pub(super) doubts: Doubts,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("id", &self.0.options.id).finish_non_exhaustive()
    }
}

impl Handle {
    pub(super) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// This node's number among the members.
    pub fn id(&self) -> u64 {
        self.0.options.id
    }

    /// Has the entry stored by a majority and applied here, and returns its outcome. Only the leader can.
    ///
    /// # Errors
    ///
    /// [`Error::NotLeader`], [`Error::Unavailable`], [`Error::TooLarge`] or [`Error::Fatal`]. After any but
    /// [`Error::TooLarge`] the entry may still be applied later: whoever proposes it again must recognize it.
    pub async fn propose(&self, proposal: Bytes) -> Result<Bytes, Error> {
        let (expected, found) = (self.0.options.proposal_bytes, proposal.len());
        if found > expected {
            return Err(Error::TooLarge { expected, found });
        }
        let wait = self.0.options.proposal_timeout;
        let written = timeout(wait, Box::pin(self.0.raft.client_write(Proposal(proposal)))).await;
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
        self.0.leader.borrow().clone()
    }

    /// Whether this node leads, as far as it knows.
    pub fn is_leader(&self) -> bool {
        self.0.leader.borrow().as_ref().is_some_and(|leader| leader.id == self.0.options.id)
    }

    /// Why this node is not fit to stamp entries just now, if it is not: its clock, or that too many members suspect it. To be
    /// asked right before it does.
    pub fn unfit(&self) -> Option<Unfit> {
        self.0.clocks.unfit(None).or_else(|| self.is_suspected().then_some(Unfit::Suspected))
    }

    /// What is wrong with this node's clock, or with the leader's: an alarm for operators.
    pub fn clock_problem(&self) -> Option<String> {
        let leader = self.leader()?.id;
        if leader == self.id() {
            return self.unfit().map(|unfit| unfit.to_string());
        }
        let ahead = self.0.clocks.ahead(leader)?;
        let skew = self.0.options.agreement.skew;
        (ahead.unsigned_abs() > skew.millis()).then(|| {
            format!(
                "the leader's clock is {ahead:+} ms from this node's, and at most {skew} are allowed: this node votes for nothing; \
                 set the clocks right (NTP)"
            )
        })
    }

    /// Tells who leads whenever that changes from now on; none when Raft has stopped.
    pub fn watch_leader(&self) -> watch::Receiver<Option<Leader>> {
        let mut leader = self.0.leader.clone();
        // A clone would count all changes since the start as new.
        leader.mark_unchanged();
        leader
    }

    /// Whether Raft is at work: it is asked, because after a fatal error its metrics may still say that all
    /// is well. A Raft that has not answered after an election's time counts as stuck.
    pub async fn is_healthy(&self) -> bool {
        let asked = timeout(self.0.options.election_max, self.0.raft.with_raft_state(|_| ())).await;
        matches!(asked, Ok(Ok(())))
    }

    /// When this node appended the entry that is now at `index`.
    ///
    /// # Errors
    ///
    /// As [`LogStore::first_seen`].
    pub fn first_seen(&self, index: u64) -> Result<Option<Timestamp>, log_store::Error> {
        self.0.log.first_seen(index)
    }

    /// Forms the cluster of these members, by number, on its first start. Each member may do so, with the
    /// same members; where a cluster is formed already, it does nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Members`] if this node is not among them, or [`Error::Fatal`].
    pub async fn initialize(&self, members: BTreeMap<u64, Member>) -> Result<(), Error> {
        // openraft would log an error for what is every start but the first.
        let formed = self.0.raft.is_initialized().await.map_err(|error| Error::Fatal(error.to_string()))?;
        if formed {
            return Ok(());
        }
        match Box::pin(self.0.raft.initialize(members)).await {
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
        let _ = self.0.raft.shutdown().await;
    }

    /// Answers entries, or a heartbeat, that the member `from` has proved to have sent.
    ///
    /// # Errors
    ///
    /// If the message is refused, or Raft has stopped.
    pub async fn append_entries(&self, from: u64, request: Bytes) -> Result<Bytes, Refusal> {
        let (front, request) = Front::split(request)?;
        let request: Append = message::decode(request)?;
        guard::check_append(from, &request)?;
        self.0.grants.check(&request.vote, &front.shown)?;
        self.0.doubts.check_leader(from, request.vote.leader_id.term)?;
        for entry in &request.entries {
            if let EntryPayload::Membership(found) = &entry.payload {
                self.0.grants.check_members(found)?;
            }
        }
        let (_, committed) = self.standing().await?;
        guard::check_history(committed.as_ref(), &request)?;
        self.0.clocks.heard(from, front.time, None);
        guard::check_times(&request, self.0.clocks.latest())?;
        self.compare(&request);
        let answer = Box::pin(self.0.raft.append_entries(request)).await;
        if !matches!(answer, Ok(Appended::HigherVote(_))) {
            self.0.doubts.led(from);
        }
        self.answer(&answer.map_err(|error| Refusal::Fatal(error.to_string()))?, Bytes::new())
    }

    /// Has whoever wants to know told of a leader that stamped two entries for one term and sequence.
    fn compare(&self, request: &Append) {
        let Some(told) = self.0.told.get() else { return };
        match twice::find(&self.0.log, &request.entries) {
            Ok(Some(both)) => told(both),
            Ok(None) => {}
            // Raft reads the log itself, and stops if it can't.
            Err(error) => warn!(%error, "entries can't be compared with the log's"),
        }
    }

    /// From now on `told` hears of two entries of a leader for one term and sequence; only the first call counts.
    pub fn tell_of_two(&self, told: Told) {
        let _ = self.0.told.set(told);
    }

    /// Answers a candidate's call that the member `from` has proved to have sent.
    ///
    /// # Errors
    ///
    /// If the message is refused, this node is [`recovering`](Self::recovering), or Raft has stopped.
    pub async fn vote(&self, from: u64, request: Bytes) -> Result<Bytes, Refusal> {
        let (front, request) = Front::split(request)?;
        let request: Elect = message::decode(request)?;
        guard::check_vote(from, &request)?;
        let (held, _) = self.standing().await?;
        let term = request.vote.leader_id.term;
        guard::check_ahead(held.leader_id.term, term)?;
        if let Some(reason) = self.recovering() {
            return Err(Refusal::Recovering(reason));
        }
        self.0.clocks.heard(from, front.time, None);
        self.0.clocks.check_candidate(front.time)?;
        self.0.doubts.check_candidate(from, term)?;
        if held.committed && term > held.leader_id.term {
            self.0.doubts.called(from, term);
        }
        if self.leads_firmly() {
            // As a follower answers within the lease.
            let refused = Elected { vote: held, vote_granted: false, last_log_id: None };
            return self.answer(&refused, Bytes::new());
        }
        // openraft takes the greater number of two in one term for the later candidate.
        let later = request.vote.leader_id > held.leader_id;
        if later {
            self.0.doubts.check_turn(from)?;
        }
        let answer = Box::pin(self.0.raft.vote(request)).await;
        let answer = answer.map_err(|error| Refusal::Fatal(error.to_string()))?;
        if later && answer.vote_granted {
            self.0.doubts.given(from);
        }
        // Raft has its vote on disk by now.
        let shown = if answer.vote_granted { self.0.grants.give(from, term)? } else { Bytes::new() };
        self.answer(&answer, shown)
    }

    fn answer(&self, answer: &impl Encode, shown: Bytes) -> Result<Bytes, Refusal> {
        let front = Front { time: self.0.clocks.now(), shown };
        Ok(front.before(&message::encode(answer)?)?)
    }

    /// Takes a snapshot, in the chunks in which the transport was given it, that the member `from` has proved
    /// to have sent. Raft hears of it only once it was verified and lies ready.
    ///
    /// # Errors
    ///
    /// If the snapshot is refused, damaged or not whole, or Raft has stopped. All but the last leave this node as it
    /// was.
    pub async fn install_snapshot<S, E>(&self, from: u64, chunks: S) -> Result<Bytes, Refusal>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: std::fmt::Display,
    {
        let fatal = |error: Fatal<u64>| Refusal::Fatal(error.to_string());
        let mut chunks = std::pin::pin!(chunks);
        let head = match chunks.next().await {
            Some(chunk) => small(chunk)?,
            None => return Err(Refusal::BrokenOff("nothing came".into())),
        };
        let head: Install = message::decode(head)?;
        guard::check_install(from, &head)?;
        self.0.grants.check(&head.vote, &head.shown)?;
        self.0.doubts.check_leader(from, head.vote.leader_id.term)?;
        if head.meta.last_log_id.is_some() {
            self.0.grants.check_members(head.meta.last_membership.membership())?;
        }
        let (held, committed) = self.standing().await?;
        guard::check_replaced(committed.as_ref(), &head)?;
        let Install { vote, meta, .. } = head;
        // Votes of one term may be neither: then Raft's own rule refuses it, too.
        if vote.partial_cmp(&held).is_none_or(Ordering::is_lt) {
            return Ok(message::encode(&Installed::new(held))?);
        }
        let data = if meta.last_log_id <= committed {
            // Raft answers for itself, and installs nothing.
            SnapshotData::Nothing
        } else {
            let _taking = self.0.taking.try_lock().map_err(|_| Refusal::Busy)?;
            let staged = self.stage(&meta, chunks).await;
            let staged =
                staged.inspect(|_| info!(from, position = ?meta.last_log_id, "a snapshot was verified"));
            SnapshotData::Staged(staged.inspect_err(|_| metrics::snapshot_refused())?)
        };
        let snapshot = Snapshot { meta, snapshot: Box::new(data) };
        let answer = Box::pin(self.0.raft.install_full_snapshot(vote, snapshot)).await;
        Ok(message::encode(&answer.map_err(fatal)?)?)
    }

    /// This node's vote, and up to where everything is committed, as far as it knows.
    async fn standing(&self) -> Result<(Vote, Option<LogId>), Refusal> {
        let asked = self.0.raft.with_raft_state(|state| (*state.vote_ref(), state.committed));
        Box::pin(asked).await.map_err(|error| Refusal::Fatal(error.to_string()))
    }

    /// Has the machine verify what comes, as it comes.
    async fn stage<S, E>(&self, meta: &SnapshotMeta, chunks: Pin<&mut S>) -> Result<Box<dyn Staged>, Refusal>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: std::fmt::Display,
    {
        let applied = state_machine::applied(meta)?;
        let (feed, records) = Records::channel();
        let staging = self.0.machine.stage(applied, records);
        let (fed, staged) = tokio::join!(unpack(chunks, feed), staging);
        // A snapshot that is none says so itself; the machine only knows that it broke off.
        fed?;
        staged.map_err(|error| Refusal::NotTaken(error.to_string()))
    }

    /// Why this node neither votes in elections nor leads, if that is so: its ledger is gone, and it may have forgotten
    /// what it confirmed.
    pub fn recovering(&self) -> Option<String> {
        let lost = *self.0.lost.borrow();
        lost.map(|lost| {
            let applied = self.status().applied_index;
            format!(
                "its ledger was lost, and is rebuilt from a snapshot: at entry {applied} of {}",
                lost.index
            )
        })
    }

    pub(super) fn raft(&self) -> &Raft<TypeConfig> {
        &self.0.raft
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.0
    }

    pub(super) fn log(&self) -> &LogStore {
        &self.0.log
    }

    pub(super) fn options(&self) -> &Options {
        &self.0.options
    }

    pub(super) fn clocks(&self) -> &Clocks {
        &self.0.clocks
    }
}

/// Hands the records in these chunks on, and at last that their end was right. Ends early when nobody takes them.
async fn unpack<S, E>(mut chunks: Pin<&mut S>, feed: Feed) -> Result<(), Refusal>
where
    S: Stream<Item = Result<Bytes, E>> + Send,
    E: std::fmt::Display,
{
    let mut unpacker = Unpacker::default();
    loop {
        let chunk = tokio::select! {
            chunk = timeout(PATIENCE, chunks.next()) => chunk,
            () = feed.closed() => return Ok(()),
        };
        let slow = || Refusal::BrokenOff(format!("nothing came for {} s", PATIENCE.as_secs()));
        let Some(chunk) = chunk.map_err(|_| slow())? else { break };
        unpacker.push(&small(chunk)?);
        while let Some(piece) = unpacker.next()? {
            let record = match piece {
                Piece::Record(record) => Some(record),
                Piece::End => None,
            };
            if feed.send(record).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(unpacker.finish()?)
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
