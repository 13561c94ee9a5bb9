//! The seam between the log and the machine that it drives: the ledger knows this file, and no other of this
//! room.

use std::future::Future;

use bytes::Bytes;

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
pub type Sink<'a> = dyn FnMut(Bytes) -> Result<(), Error> + Send + 'a;
/// The records of a snapshot, in their order.
pub type Records = Box<dyn Iterator<Item = Bytes> + Send>;

/// The replicated machine that the log drives.
///
/// # Relies on
///
/// Calls of [`apply`](Machine::apply) and [`install`](Machine::install) come one after the other. When a node
/// starts, entries that were applied but lost with an unsynced write are applied once more, before
/// [`start`](super::start) returns.
pub trait Machine: Send + Sync + 'static {
    /// Applies the entries in their order, and returns one outcome for each; empty where `proposal` is none.
    ///
    /// The effects of one entry and its position are written together or not at all. They need not be synced:
    /// the log has the entries, and is purged only behind a snapshot.
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

    /// Hands the whole state to `sink` as records, all from one moment, and returns how far the machine had
    /// come at that moment. It may block; entries go on being applied meanwhile.
    ///
    /// # Errors
    ///
    /// If the state cannot be read, or what `sink` returned.
    fn snapshot(&self, sink: &mut Sink<'_>) -> Result<Applied, Error>;

    /// Replaces the whole state by the records, and how far it has come by `applied`, together or not at all;
    /// synced when it returns, because the log behind it is purged next.
    ///
    /// The records arrived as they were sent, but by a sender who may lie: the machine verifies them.
    ///
    /// # Errors
    ///
    /// If the records are refused, or the new state cannot be stored; then the old state stays.
    fn install(&self, applied: Applied, records: Records) -> impl Future<Output = Result<(), Error>> + Send;
}
