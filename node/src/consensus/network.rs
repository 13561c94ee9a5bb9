//! openraft's network over any [`Transport`].

use std::future::Future;
use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use openraft::error::{
    Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft::network::{Backoff, RPCOption};
use openraft::{OptionalSend, RaftNetwork, RaftNetworkFactory, Snapshot};

use tokio::sync::watch;
use tokio::time::timeout;

use super::clocks::Clocks;
use super::codec::{self, Encode};
use super::doubts::Doubts;
use super::grants::Grants;
use super::guard::{self, Violation};
use super::message::{self, Append, Appended, Elect, Elected, Front, Install, Installed};
use super::snapshot::{self, SnapshotData};
use super::transport::{Error, Transport};
use super::types::{Member, TypeConfig, Vote};

/// The largest chunk of a snapshot.
pub const CHUNK_BYTES: usize = 1 << 20;

/// How long a receiver of a snapshot may take for a chunk, or for its answer at the end.
const PATIENCE: Duration = Duration::from_secs(120);

/// Returns when there was no progress for too long.
async fn stalled(mut progress: watch::Receiver<()>) {
    let mut all_taken = false;
    loop {
        let next = async { if all_taken { std::future::pending().await } else { progress.changed().await } };
        match timeout(PATIENCE, next).await {
            Ok(changed) => all_taken = changed.is_err(),
            Err(_) => return,
        }
    }
}

/// Makes a connection to each member.
#[derive(Clone)]
pub(super) struct Network<T> {
    transport: T,
    pause: Duration,
    sending: Sending,
    known: Known,
}

/// What this node knows of the others.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) clocks: Clocks,
    pub(super) grants: Grants,
    pub(super) doubts: Doubts,
}

/// Counts the snapshots that are being sent: meanwhile the log behind them is not purged, so that their receivers can go
/// on from there.
#[derive(Clone, Default)]
pub(super) struct Sending(Arc<AtomicUsize>);

/// Held as long as a snapshot is being sent.
struct Sent(Sending);

impl Sending {
    fn one(&self) -> Sent {
        self.0.fetch_add(1, Ordering::SeqCst);
        Sent(self.clone())
    }

    /// Whether any is being sent.
    pub(super) fn any(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<T> Network<T> {
    /// Over this transport; a member that gives no answer is left alone for `pause`.
    pub(super) const fn new(transport: T, pause: Duration, sending: Sending, known: Known) -> Self {
        Self { transport, pause, sending, known }
    }
}

/// The way to one member.
pub(super) struct Connection<T> {
    network: Network<T>,
    to: u64,
    member: Member,
}

impl<T: Transport> RaftNetworkFactory<TypeConfig> for Network<T> {
    type Network = Connection<T>;

    async fn new_client(&mut self, to: u64, member: &Member) -> Connection<T> {
        Connection { network: self.clone(), to, member: member.clone() }
    }
}

type Failure = RPCError<u64, Member, RaftError<u64>>;

/// Any failure has openraft pause before it tries again; it would retry others at once, and forever.
fn failed(error: &Error) -> Failure {
    Unreachable::new(error).into()
}

fn garbled(error: &codec::Error) -> Failure {
    Unreachable::new(error).into()
}

/// An answer, or a message of this node's own, that breaks a rule.
fn broken(violation: &Violation) -> Failure {
    failed(&Error::Refused(violation.to_string()))
}

impl<T> Connection<T> {
    fn write(&self, message: &impl Encode, shown: Bytes) -> Result<Bytes, Failure> {
        let message = message::encode(message).map_err(|error| garbled(&error))?;
        let front = Front { time: self.network.known.clocks.now(), shown };
        front.before(&message).map_err(|error| garbled(&error))
    }

    /// The answer, and what is shown with it.
    fn read<M: Encode>(&self, answer: Result<Bytes, Error>, asked: Instant) -> Result<(M, Bytes), Failure> {
        let answer = answer.map_err(|error| failed(&error))?;
        let (front, answer) = Front::split(answer).map_err(|error| garbled(&error))?;
        self.network.known.clocks.heard(self.to, front.time, Some(asked));
        Ok((message::decode(answer).map_err(|error| garbled(&error))?, front.shown))
    }

    /// The later vote that this member names, as far as it is believed. Of one that is not believed openraft never hears: as if the
    /// member had not answered.
    fn later(&self, vote: &Vote) -> Result<Vote, Violation> {
        self.network.known.doubts.believe(self.to, vote)
    }

    /// What shows that this node was elected with this vote.
    fn shown(&self, vote: &Vote) -> Result<Bytes, Failure> {
        let shown = self.network.known.grants.shown(vote.leader_id.node_id, vote.leader_id.term);
        shown.map_err(|violation| broken(&violation))
    }
}

impl<T: Transport> RaftNetwork<TypeConfig> for Connection<T> {
    async fn append_entries(&mut self, request: Append, _: RPCOption) -> Result<Appended, Failure> {
        // The log was purged between openraft's choice of entries and its reading them: it must choose again.
        if let Some(first) = request.entries.first()
            && first.log_id.index != request.prev_log_id.map_or(0, |before| before.index.saturating_add(1))
        {
            return Err(failed(&Error::Refused(format!(
                "the entries after {:?} are purged",
                request.prev_log_id
            ))));
        }
        let (message, asked) = (self.write(&request, self.shown(&request.vote)?)?, Instant::now());
        let transport = &self.network.transport;
        let answer = transport.append_entries(self.to, &self.member, message).await;
        let (answer, _) = self.read(answer, asked)?;
        guard::check_appended(&request, &answer).map_err(|violation| broken(&violation))?;
        match answer {
            Appended::HigherVote(vote) => {
                Ok(Appended::HigherVote(self.later(&vote).map_err(|violation| broken(&violation))?))
            }
            other => Ok(other),
        }
    }

    async fn vote(&mut self, request: Elect, _: RPCOption) -> Result<Elected, Failure> {
        let (message, asked) = (self.write(&request, Bytes::new())?, Instant::now());
        let answer = self.network.transport.vote(self.to, &self.member, message).await;
        let (mut answer, shown): (Elected, _) = self.read(answer, asked)?;
        guard::check_elected(&request, &answer).map_err(|violation| broken(&violation))?;
        if answer.vote_granted {
            // Without a grant it is no vote.
            let own = request.vote.leader_id;
            let taken = self.network.known.grants.take(own.node_id, self.to, own.term, shown).await;
            taken.map_err(|error| failed(&error))?;
        }
        if answer.vote.leader_id > request.vote.leader_id {
            answer.vote = self.later(&answer.vote).map_err(|violation| broken(&violation))?;
        }
        Ok(answer)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<TypeConfig>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<Installed, StreamingError<TypeConfig, Fatal<u64>>> {
        let shown = self.network.known.grants.shown(vote.leader_id.node_id, vote.leader_id.term);
        let shown = shown.map_err(|violation| NetworkError::new(&violation))?;
        let head = message::encode(&Install { vote, meta: snapshot.meta, shown });
        let head = head.map_err(|error| NetworkError::new(&error))?;
        let SnapshotData::Made(source) = *snapshot.snapshot else {
            let foreign = Error::Refused("only a snapshot of this node's own machine is sent".into());
            return Err(NetworkError::new(&foreign).into());
        };
        let _sent = self.network.sending.one();
        let (taken, progress) = watch::channel(());
        let chunks = snapshot::chunks(source).inspect(move |_| taken.send_modify(|()| ()));
        let chunks = stream::iter(iter::once(head)).chain(chunks).boxed();
        let sent = self.network.transport.install_snapshot(self.to, &self.member, chunks);
        let answer = tokio::select! {
            closed = cancel => return Err(closed.into()),
            () = stalled(progress) => {
                let stalled = Error::Unreachable(format!("it took nothing for {} s", PATIENCE.as_secs()));
                return Err(Unreachable::new(&stalled).into());
            }
            answer = sent => answer.map_err(|error| Unreachable::new(&error))?,
        };
        let answer: Installed = message::decode(answer).map_err(|error| Unreachable::new(&error))?;
        let (own, found) = (vote.leader_id.term, answer.vote.leader_id.term);
        guard::check_ahead(own, found).map_err(|violation| Unreachable::new(&violation))?;
        if answer.vote.leader_id > vote.leader_id {
            let later = self.later(&answer.vote).map_err(|violation| Unreachable::new(&violation))?;
            return Ok(Installed::new(later));
        }
        Ok(answer)
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(iter::repeat(self.network.pause))
    }
}
