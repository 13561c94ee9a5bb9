//! The sequencer: on the leader, turns queued commands into one signed entry after the other.
//!
//! # Specification
//!
//! Commands queue while an entry is in flight, and all that have come meanwhile go out as the next one: one sync, one
//! round trip, one vote per node for the whole batch. Each entry gets the sequence after the ledger's last, the digest of
//! its head, and this node's clock (never before the last entry's time), and is signed by this node's identity key.
//!
//! After an entry of several commands, so under load, the next one waits until that one is certified as well, at most
//! as long as it took to order: what each entry costs on all nodes, whatever its size, is then spread over more
//! commands. A command that comes alone never waits.
//!
//! # Guarantees
//!
//! One entry is in flight at a time, so that what it is stamped with is what it follows. If another leader's entry comes
//! in between after all, the ledger finds it void, on every node alike, and the commands are handed in again.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use fairpost_api::v1::{CommandResult, ForwardResponse};
use fairpost_proto::chain;
use fairpost_proto::cose::Signed;
use fairpost_proto::entry::{self, Command, Head};
use fairpost_proto::ids::Digest;
use fairpost_proto::view::View;
use prost::Message as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};

use super::Handle as Raft;
use crate::clock;
use crate::store::Ledger;

/// How many calls may wait.
const QUEUE: usize = 1024;
/// An entry is closed once its commands have so many bytes.
const BATCH_BYTES: usize = 2 << 20;

/// Why commands were not ordered here.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Another node leads, or none.
    #[error("this node does not lead; {}", leader.map_or("no leader is known".to_owned(), |leader| format!("member {leader} does")))]
    NotLeader {
        /// The leader's index, if it is known.
        leader: Option<u16>,
    },
    /// Too many calls wait.
    #[error("too many commands wait to be ordered")]
    Full,
    /// It is not known whether the entry was ordered: the ledger will tell.
    #[error("the entry may not have been ordered: {0}")]
    Unknown(String),
    /// The node stops.
    #[error("the node stops")]
    Stopped,
}

/// What the sequencer needs.
pub struct Options {
    /// The view.
    pub view: Arc<View>,
    /// This member's identity key.
    pub identity: Arc<SigningKey>,
    /// Where the ledger stands.
    pub ledger: Ledger,
    /// Raft.
    pub raft: Raft,
    /// The most commands in one entry.
    pub batch: usize,
    /// The last entry that is certified.
    pub certified: watch::Receiver<u64>,
}

struct Call {
    commands: Vec<Command>,
    answer: oneshot::Sender<Result<Vec<CommandResult>, Error>>,
}

/// Hands commands in.
#[derive(Clone)]
pub struct Handle {
    raft: Raft,
    queue: mpsc::Sender<Call>,
}

/// The task that orders.
pub struct Service {
    options: Options,
    queue: mpsc::Receiver<Call>,
}

impl Service {
    /// A sequencer.
    pub fn new(options: Options) -> (Self, Handle) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let handle = Handle { raft: options.raft.clone(), queue: sender };
        (Self { options, queue }, handle)
    }

    /// Runs until every handle is gone.
    pub async fn run(mut self) {
        let mut held = None;
        loop {
            let Some(first) = next(&mut held, &mut self.queue).await else { return };
            let mut calls = vec![first];
            let (mut commands, mut bytes) = measure(&calls[..]);
            while let Ok(call) = self.queue.try_recv() {
                let (more, more_bytes) = measure(std::slice::from_ref(&call));
                if commands + more > self.options.batch || bytes + more_bytes > BATCH_BYTES {
                    held = Some(call);
                    break;
                }
                (commands, bytes) = (commands + more, bytes + more_bytes);
                calls.push(call);
            }
            let (started, shared) = (Instant::now(), commands > 1);
            self.order(calls).await;
            if shared {
                let last = self.options.ledger.state().sequence;
                let certified = self.options.certified.wait_for(|certified| *certified >= last);
                // Whether it came or not: this only makes batches larger.
                let _ = timeout(started.elapsed(), certified).await;
            }
        }
    }

    async fn order(&self, calls: Vec<Call>) {
        metrics::histogram!("fairpost_batch_size").record(calls.len() as f64);
        let batch: Vec<Command> = calls.iter().flat_map(|call| call.commands.iter().cloned()).collect();
        let outcome = self.propose(&batch).await;
        let mut results = match outcome {
            Ok(results) if results.len() == batch.len() => Ok(results.into_iter()),
            Ok(results) => {
                Err(Error::Unknown(format!("{} results for {} commands", results.len(), batch.len())))
            }
            Err(error) => Err(error),
        };
        for call in calls {
            let answer = match &mut results {
                Ok(results) => Ok(results.take(call.commands.len()).collect()),
                Err(error) => Err(error.clone()),
            };
            // The caller may have given up.
            let _ = call.answer.send(answer);
        }
    }

    async fn propose(&self, commands: &[Command]) -> Result<Vec<CommandResult>, Error> {
        if let Some(unfit) = self.options.raft.unfit() {
            // Another node will lead: until then the commands are handed in again.
            tracing::debug!(%unfit, "no entry is stamped");
            return Err(Error::NotLeader { leader: None });
        }
        let state = self.options.ledger.state();
        let batch = entry::write_batch(commands);
        let head = Head {
            cluster: self.options.view.cluster(),
            epoch: self.options.view.epoch(),
            term: self.options.raft.term(),
            sequence: state.sequence + 1,
            previous: state.head,
            time: clock::now().max(state.time),
            batch: Digest::of(&batch),
        };
        let identity = &self.options.identity;
        let head = Signed::sign(head, chain::key_id(&identity.verifying_key()), identity);
        let outcome =
            self.options.raft.propose(entry::write(&head, &batch).into()).await.map_err(Error::from)?;
        let answer = ForwardResponse::decode(outcome).map_err(|error| Error::Unknown(error.to_string()))?;
        Ok(answer.results)
    }
}

async fn next(held: &mut Option<Call>, queue: &mut mpsc::Receiver<Call>) -> Option<Call> {
    match held.take() {
        Some(call) => Some(call),
        None => queue.recv().await,
    }
}

fn measure(calls: &[Call]) -> (usize, usize) {
    let commands = calls.iter().flat_map(|call| &call.commands);
    commands.fold((0, 0), |(count, bytes), command| (count + 1, bytes + command.size()))
}

impl From<super::Error> for Error {
    fn from(error: super::Error) -> Self {
        match error {
            super::Error::NotLeader { leader } => {
                Self::NotLeader { leader: leader.and_then(|leader| u16::try_from(leader.id).ok()) }
            }
            other => Self::Unknown(other.to_string()),
        }
    }
}

impl Handle {
    /// Has commands ordered and decided; gives what became of each.
    pub async fn order(&self, commands: Vec<Command>) -> Result<Vec<CommandResult>, Error> {
        if !self.raft.is_leader() {
            let leader = self.raft.leader().and_then(|leader| u16::try_from(leader.id).ok());
            return Err(Error::NotLeader { leader });
        }
        let (answer, receiver) = oneshot::channel();
        self.queue.try_send(Call { commands, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Full,
            mpsc::error::TrySendError::Closed(_) => Error::Stopped,
        })?;
        receiver.await.map_err(|_| Error::Stopped)?
    }
}
