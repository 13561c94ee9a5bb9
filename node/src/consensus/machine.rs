//! The seam between the log and the machine that it drives: the ledger knows this file, and no other of this
//! room.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::mpsc;

/// Why the machine cannot go on. The node stops: it must not act on a state that it could not store.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {source}")]
pub struct Error {
    /// What the machine was doing.
    pub doing: &'static str,
    /// What went wrong.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl Error {
    /// The machine failed while `doing` something.
    pub fn new(doing: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { doing, source: source.into() }
    }
}

/// One entry that a majority has stored: it will be applied by every node, in this place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its place in the log.
    pub index: u64,
    /// What the leader proposed; none for an entry that Raft made for itself.
    pub proposal: Option<Bytes>,
    /// To be stored with the entry's effects, as [`Applied::position`].
    pub position: Bytes,
    /// If there is one, to be stored with the entry's effects as [`Applied::membership`].
    pub membership: Option<Bytes>,
}

/// How far the machine has come. Opaque bytes, which the machine stores and hands back unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The position of the last entry that was applied, if any was.
    pub position: Option<Bytes>,
    /// The last membership that was applied, if any was.
    pub membership: Option<Bytes>,
}

/// Takes the records of a snapshot, in their order.
pub type Sink<'a> = dyn FnMut(&[u8]) -> Result<(), Error> + 'a;

/// Where the records of a snapshot are read from, once or more, by whoever sends it.
pub trait Source: Send + Sync {
    /// Hands all records to `sink`, in their order. It blocks, and goes on for as long as the sink takes them: nothing
    /// in it grows with the number of records.
    ///
    /// # Errors
    ///
    /// If the state cannot be read, or what `sink` returned.
    fn read(&self, sink: &mut Sink<'_>) -> Result<(), Error>;
}

/// The state at one moment, not read yet: what it takes to read it later.
#[derive(Clone)]
pub struct Snapshot {
    /// How far the machine had come at that moment.
    pub applied: Applied,
    /// Gives the records.
    pub source: Arc<dyn Source>,
}

/// The records of a snapshot on their way in, in their order. Whoever sends them may lie.
#[derive(Debug)]
pub struct Records(mpsc::Receiver<Option<Bytes>>);

/// The other end of [`Records`]: each record, and none once the end has come and the checksum was right.
pub(super) type Feed = mpsc::Sender<Option<Bytes>>;

/// How many records may wait to be verified.
const WAITING: usize = 64;

impl Records {
    pub(super) fn channel() -> (Feed, Self) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (sender, Self(receiver))
    }

    /// The next record, or none at the end. It awaits the record.
    ///
    /// # Errors
    ///
    /// If the snapshot broke off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        self.0.recv().await.ok_or_else(broke_off)
    }

    /// As [`Records::next`], on a thread that may block.
    ///
    /// # Errors
    ///
    /// If the snapshot broke off.
    pub fn blocking_next(&mut self) -> Result<Option<Bytes>, Error> {
        self.0.blocking_recv().ok_or_else(broke_off)
    }
}

fn broke_off() -> Error {
    Error::new("taking a snapshot", "it broke off before its end")
}

/// A snapshot that was verified and lies ready, synced. Dropped, it is gone.
pub trait Staged: Send + Sync {
    /// Makes it the machine's state, together or not at all, and synced: the log behind it is purged next.
    fn install(self: Box<Self>) -> BoxFuture<'static, Result<(), Error>>;
}

/// The machine's own side of snapshots, behind a pointer for those who take them in.
pub trait Snapshots: Send + Sync + 'static {
    /// Verifies a snapshot that claims to have come as far as `applied`, and lays it ready beside the state, which it
    /// does not touch.
    fn stage(&self, applied: Applied, records: Records) -> BoxFuture<'_, Result<Box<dyn Staged>, Error>>;
}

/// The replicated machine that the log drives.
///
/// # Relies on
///
/// Calls of [`apply`](Machine::apply) and [`Staged::install`] come one after the other. When a node
/// starts, entries that were applied but lost with an unsynced write are applied once more, before
/// [`start`](super::start) returns.
pub trait Machine: Snapshots {
    /// Applies the entries in their order, and returns one outcome for each; empty where `proposal` is none.
    ///
    /// The effects of one entry and its position are written together or not at all. They need not be synced:
    /// the log has the entries, and is purged only behind a [`sync`](Machine::sync).
    ///
    /// # Errors
    ///
    /// An entry that is wrong is no error, its outcome says so. An error is a machine that cannot store: the
    /// node stops.
    fn apply(&self, entries: Vec<Committed>) -> impl Future<Output = Result<Vec<Bytes>, Error>> + Send;

    /// How far the machine has come, as stored.
    ///
    /// # Errors
    ///
    /// If that cannot be read.
    fn applied(&self) -> Result<Applied, Error>;

    /// The state as it is now, to be read later, while entries go on being applied. It costs next to nothing.
    ///
    /// # Errors
    ///
    /// If the state cannot be read.
    fn snapshot(&self) -> Result<Snapshot, Error>;

    /// Syncs all that was applied before the call.
    ///
    /// # Errors
    ///
    /// If it cannot be stored: the node stops.
    fn sync(&self) -> impl Future<Output = Result<(), Error>> + Send;
}
