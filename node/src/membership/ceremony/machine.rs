//! The ceremony as the machine that its log drives.
//!
//! It is all in memory: the log is never purged, and is read again from its beginning at every start.

use std::sync::Arc;

use bytes::Bytes;
use fairpost_proto::approval::ApprovedProposal;
use fairpost_proto::ceremony::{Ceremony, Message, Refusal, Transcript};
use fairpost_proto::proposal::Proposal;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::consensus::machine::{
    Applied, Committed, Error, Machine, Records, Sink, Snapshot, Snapshots, Source, Staged,
};

/// The state, and what it came from.
#[derive(Clone)]
pub struct State {
    /// The ceremony.
    pub ceremony: Ceremony,
    /// The messages that count.
    pub transcript: Transcript,
}

struct Inner {
    state: Mutex<State>,
    applied: Mutex<Applied>,
    /// Counts the changes.
    changes: watch::Sender<u64>,
}

/// The machine. Clones are the same.
#[derive(Clone)]
pub struct Log(Arc<Inner>);

impl Log {
    /// Before the first message, for a proposal that was agreed to.
    pub fn new(proposal: &Proposal, approved: ApprovedProposal) -> Self {
        let state =
            State { ceremony: Ceremony::new(proposal.clone()), transcript: Transcript::new(approved) };
        let (applied, changes) = (Mutex::default(), watch::Sender::new(0));
        Self(Arc::new(Inner { state: Mutex::new(state), applied, changes }))
    }

    /// The state as it is now.
    pub fn state(&self) -> State {
        self.0.state.lock().clone()
    }

    /// The ceremony as it is now, without its messages.
    pub fn ceremony(&self) -> Ceremony {
        self.0.state.lock().ceremony.clone()
    }

    /// Tells of changes.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// What would come of this message if it were the next.
    pub fn judge(&self, message: &Message) -> Result<(), Refusal> {
        self.ceremony().apply(message)
    }

    /// Takes the place of what the log gave: this transcript has the end that is missing here. What the log still brings
    /// changes nothing then.
    pub fn adopt(&self, ceremony: Ceremony, transcript: Transcript) {
        *self.0.state.lock() = State { ceremony, transcript };
        self.changed();
    }

    fn changed(&self) {
        self.0.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    /// What came of a proposal: empty, or why it does not count.
    fn take(&self, index: u64, proposal: &[u8]) -> String {
        let message = match Message::parse(proposal) {
            Ok(message) => message,
            Err(error) => {
                warn!(index, %error, "an entry that is no message of a ceremony changes nothing");
                return error.to_string();
            }
        };
        let mut state = self.0.state.lock();
        if let Err(refusal) = state.ceremony.apply(&message) {
            info!(index, ?message, %refusal, "a message does not count");
            return refusal.to_string();
        }
        let author = author(state.ceremony.proposal(), &message);
        info!(index, kind = %message.kind(), author, "a message of the key ceremony");
        state.transcript.push(message);
        String::new()
    }
}

/// The name of whoever says to have signed a message.
fn author(proposal: &Proposal, message: &Message) -> String {
    let member = proposal.index_of(message.author()).and_then(|index| proposal.member(index));
    member.map_or_else(|| message.author().to_string(), |(member, _)| member.name.clone())
}

impl Machine for Log {
    async fn apply(&self, entries: Vec<Committed>) -> Result<Vec<Bytes>, Error> {
        let this = self.clone();
        // Commitments and signatures are checked: not on the threads that keep the network going.
        let applying = move || {
            let take = |entry: Committed| {
                let outcome = entry.proposal.map(|proposal| this.take(entry.index, &proposal));
                let mut applied = this.0.applied.lock();
                applied.position = Some(entry.position);
                applied.membership = entry.membership.or(applied.membership.take());
                Bytes::from(outcome.unwrap_or_default())
            };
            let outcomes = entries.into_iter().map(take).collect();
            this.changed();
            outcomes
        };
        tokio::task::spawn_blocking(applying).await.map_err(|error| Error::new("applying messages", error))
    }

    fn applied(&self) -> Result<Applied, Error> {
        Ok(self.0.applied.lock().clone())
    }

    fn snapshot(&self) -> Result<Snapshot, Error> {
        Ok(Snapshot { applied: self.applied()?, source: Arc::new(Nothing) })
    }

    async fn sync(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// The log of a ceremony is never purged, so nobody needs a snapshot of it.
struct Nothing;

impl Source for Nothing {
    fn read(&self, _: &mut Sink<'_>) -> Result<(), Error> {
        Err(no_snapshots())
    }
}

impl Snapshots for Log {
    fn stage(&self, _: Applied, _: Records) -> BoxFuture<'_, Result<Box<dyn Staged>, Error>> {
        Box::pin(async { Err(no_snapshots()) })
    }
}

fn no_snapshots() -> Error {
    Error::new("exchanging a snapshot", "a key ceremony has none: its log is whole")
}
