//! Raft's log and vote on disk.
//!
//! # Specification
//!
//! The database `log` has two columns. `entries`: the index, 64 bits big-endian, to {milliseconds since 1970
//! at which this node appended the entry, 64 bits big-endian; the entry}. `meta`: `vote`, `committed`,
//! `purged`, `grants`: what shows that this node was elected, and, while a lost ledger is awaited, `lost`: the last entry that this node had. Entries and values are
//! laid out as in [`codec`](super::codec).
//!
//! The time at which this node first saw an entry is written with it, because after a restart nobody could
//! tell it any more; the witness asks for it ([`LogStore::first_seen`]).
//!
//! # Relies on
//!
//! One [`store::Writer`](crate::store::Writer) for the database, which keeps the order of writes.
//!
//! # Guarantees
//!
//! - An entry or vote that was acknowledged is on disk (`append` and `save_vote` ask for
//!   [`Durability::Synced`]; test `what_was_acknowledged_survives_a_kill`).
//! - The log has no hole, and an entry that cannot be read as what was written is an error, which stops the
//!   node ([`LogStore::entries`]; test `a_damaged_or_missing_entry_is_an_error`).

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use fairpost_proto::entry;
use fairpost_proto::ids::Timestamp;
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, CommittedLeaderId, EntryPayload, LogState, OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::codec::{self, Encode, Reader};
use super::extent::{Extent, Keep};
use super::grants::Held;
use super::types::{Entry, LogId, StorageError, StorageIOError, TypeConfig, Vote};
use crate::store::{self, Column, Database, Durability, Handle, Ops, Order};

const ENTRIES: Column = Column::new("entries");
const META: Column = Column::new("meta");
const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const PURGED: &str = "purged";
const LOST: &str = "lost";
const GRANTS: &str = "grants";

/// Behind the key of every entry.
const AFTER_ALL: [u8; 9] = [0xff; 9];

/// The index of no entry.
pub(super) const NOWHERE: u64 = u64::MAX;

/// Entries are sent in messages of about this size; a larger entry goes alone.
const READ_BYTES: usize = 1 << 20;

/// Why the log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// What is stored is not what was written.
    #[error("the log's {place} is damaged: {source}")]
    Damaged {
        /// Which value.
        place: String,
        /// What is wrong with it.
        source: codec::Error,
    },
    /// An entry says that it belongs elsewhere.
    #[error("the log has entry {found} at the place of entry {expected}")]
    Misplaced {
        /// The place.
        expected: u64,
        /// What the entry says.
        found: u64,
    },
    /// An entry is missing between others.
    #[error("the log has a hole: entry {expected} expected, {found} found")]
    Hole {
        /// The missing entry.
        expected: u64,
        /// The entry after the hole.
        found: u64,
    },
    /// The stored time is none.
    #[error("the log says that entry {index} was seen {millis} ms after 1970")]
    NoTime {
        /// The entry.
        index: u64,
        /// The stored number.
        millis: u64,
    },
}

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Raft's log. Clones are the same log.
#[derive(Clone)]
pub struct LogStore {
    db: Database,
    writer: Handle,
    clock: Clock,
    extent: Arc<Mutex<Extent>>,
}

impl fmt::Debug for LogStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogStore").field(&self.db).finish()
    }
}

impl LogStore {
    /// The columns of its database.
    pub const COLUMNS: &'static [Column] = &[ENTRIES, META];

    /// The log in this database, written by this writer, which must be the database's own; it keeps so much.
    ///
    /// # Errors
    ///
    /// If the log cannot be read.
    pub fn open(db: Database, writer: Handle, clock: Clock, keep: Keep) -> Result<Self, Error> {
        let mut extent = Extent::new(keep);
        for stored in db.range(ENTRIES, &[], None, Order::Ascending)? {
            let (key, value) = stored?;
            let bytes = value.len() as u64;
            let index = u64::decode(key).map_err(|source| damaged("an index", source))?;
            extent.add(index, bytes, seen(index, value)?);
        }
        Ok(Self { db, writer, clock, extent: Arc::new(Mutex::new(extent)) })
    }

    /// When this node appended the entry that is now at `index`; none if there is no such entry any more.
    ///
    /// # Errors
    ///
    /// If the disk fails, or what it says is damaged.
    pub fn first_seen(&self, index: u64) -> Result<Option<Timestamp>, Error> {
        let Some(value) = self.db.get(ENTRIES, index.to_be_bytes())? else { return Ok(None) };
        seen(index, value).map(Some)
    }

    /// Index of the first entry that may be here: those before were purged, or came by snapshot and never were here.
    ///
    /// # Errors
    ///
    /// If the disk fails, or what it says is damaged.
    pub(super) fn first_kept(&self) -> Result<u64, Error> {
        Ok(self.meta::<LogId>(PURGED)?.map_or(0, |purged| purged.index.saturating_add(1)))
    }

    /// The last entry that need not be kept, if there is one.
    pub(super) fn surplus(&self) -> Option<u64> {
        self.extent.lock().surplus((self.clock)())
    }

    /// The bytes of all entries, about.
    pub(super) fn bytes(&self) -> u64 {
        self.extent.lock().bytes()
    }

    /// Drops all entries if a machine that has come as far as `applied` can't go on with them, because those in between
    /// were purged. Gives the last entry that this node had, as long as the machine has not come as far again: until
    /// then it must neither vote nor stand for election, because it may have forgotten what it confirmed.
    ///
    /// openraft sends a snapshot only to a follower whose log does not match: hence the entries go. A vote stays; but
    /// if it made this node leader, it becomes a mere vote for itself, because openraft would go on leading at once.
    pub(super) async fn settle(&self, applied: Option<LogId>) -> Result<Option<LogId>, Error> {
        let (purged, lost): (Option<LogId>, Option<LogId>) = (self.meta(PURGED)?, self.meta(LOST)?);
        let last = self.last()?.or(purged);
        let mut ops = Ops::new();
        if purged > applied {
            let lost = lost.max(last);
            ops.delete_range(ENTRIES, [], AFTER_ALL).delete(META, PURGED).delete(META, COMMITTED);
            if let Some(mut vote) = self.meta::<Vote>(VOTE)? {
                vote.committed = false;
                ops.put(META, VOTE, vote.encode().map_err(|source| damaged(VOTE, source))?);
            }
            if let Some(lost) = lost {
                ops.put(META, LOST, lost.encode().map_err(|source| damaged(LOST, source))?);
            }
            self.writer.write(ops, Durability::Synced).await?;
            *self.extent.lock() = Extent::new(self.keep());
            return Ok(lost);
        }
        if lost.is_some() && applied >= lost {
            self.found().await?;
            return Ok(None);
        }
        Ok(lost)
    }

    /// The machine has come as far as this node's log was, or further.
    pub(super) async fn found(&self) -> Result<(), Error> {
        let mut ops = Ops::new();
        ops.delete(META, LOST);
        Ok(self.writer.write(ops, Durability::Synced).await?)
    }

    /// What shows that this node was elected, if it was.
    pub(super) fn grants(&self) -> Result<Option<Held>, Error> {
        self.meta(GRANTS)
    }

    /// Writes what shows that this node was elected. The next synced write, which is that it leads, syncs it as well.
    pub(super) async fn put_grants(&self, held: &Held) -> Result<(), Error> {
        let mut ops = Ops::new();
        ops.put(META, GRANTS, held.encode().map_err(|source| damaged(GRANTS, source))?);
        Ok(self.writer.write(ops, Durability::Buffered).await?)
    }

    fn keep(&self) -> Keep {
        self.extent.lock().keep()
    }

    /// The entries from `from`, inclusive, to `to`, exclusive, or to the end: as many as there are and have
    /// `limit` bytes together, but at least one if there is one.
    fn entries(&self, from: u64, to: Option<u64>, limit: usize) -> Result<Vec<Entry>, Error> {
        let to = to.map(u64::to_be_bytes);
        let to = to.as_ref().map(|key| &key[..]);
        let (mut entries, mut bytes) = (Vec::new(), 0_usize);
        let mut next = None;
        for stored in self.db.range(ENTRIES, &from.to_be_bytes(), to, Order::Ascending)? {
            let (key, value) = stored?;
            let index = u64::decode(key).map_err(|source| damaged("an index", source))?;
            bytes = bytes.saturating_add(value.len());
            if bytes > limit && !entries.is_empty() {
                break;
            }
            if let Some(expected) = next.filter(|expected| *expected != index) {
                return Err(Error::Hole { expected, found: index });
            }
            let entry = read_entry(index, value)?;
            next = index.checked_add(1);
            entries.push(entry);
        }
        Ok(entries)
    }

    /// The entry at `index`, if there is one. Of a place behind the end of the log that is told without reading.
    pub(super) fn held(&self, index: u64) -> Result<Option<Entry>, Error> {
        if self.extent.lock().last().is_none_or(|last| last < index) {
            return Ok(None);
        }
        let value = self.db.get(ENTRIES, index.to_be_bytes())?;
        value.map(|value| read_entry(index, value.into())).transpose()
    }

    fn meta<T: Encode>(&self, key: &'static str) -> Result<Option<T>, Error> {
        let value = self.db.get(META, key)?;
        value.map(|value| T::decode(value).map_err(|source| damaged(key, source))).transpose()
    }

    /// This node's clock.
    pub(super) fn clock(&self) -> Clock {
        Arc::clone(&self.clock)
    }

    /// The latest time with which an entry from `from` on is stamped; none if there is none.
    pub(super) fn latest_stamp(&self, from: u64) -> Result<Option<Timestamp>, Error> {
        let entries = self.entries(from, None, READ_BYTES)?;
        let stamps = entries.iter().filter_map(|entry| match &entry.payload {
            EntryPayload::Normal(proposal) => entry::stamped(&proposal.0),
            EntryPayload::Blank | EntryPayload::Membership(_) => None,
        });
        Ok(stamps.max())
    }

    fn last(&self) -> Result<Option<LogId>, Error> {
        let Some((key, value)) = self.db.last(ENTRIES)? else { return Ok(None) };
        let index = u64::decode(key).map_err(|source| damaged("an index", source))?;
        read_entry(index, value).map(|entry| Some(entry.log_id))
    }
}

/// An index is its own key.
impl Encode for u64 {
    fn write(&self, to: &mut BytesMut) -> Result<(), codec::Error> {
        to.put_u64(*self);
        Ok(())
    }

    fn read(from: &mut Reader) -> Result<Self, codec::Error> {
        from.u64()
    }
}

fn damaged(place: impl ToString, source: codec::Error) -> Error {
    Error::Damaged { place: place.to_string(), source }
}

/// When the entry with this value was appended.
fn seen(index: u64, value: impl Into<Bytes>) -> Result<Timestamp, Error> {
    let millis = Reader::new(value).u64().map_err(|source| damaged(index, source))?;
    Timestamp::from_millis(millis).ok_or(Error::NoTime { index, millis })
}

fn read_entry(index: u64, value: Box<[u8]>) -> Result<Entry, Error> {
    let damaged = |source| damaged(format!("entry {index}"), source);
    let mut value = Reader::new(value);
    let _first_seen = value.u64().map_err(damaged)?;
    let entry = Entry::decode(value.rest()).map_err(damaged)?;
    if entry.log_id.index != index {
        return Err(Error::Misplaced { expected: index, found: entry.log_id.index });
    }
    Ok(entry)
}

fn reading(error: Error) -> StorageError {
    StorageIOError::read_logs(AnyError::new(&error)).into()
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, StorageError>
    where
        RB: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend,
    {
        let after = |index: &u64| index.checked_add(1);
        let from = match range.start_bound() {
            Bound::Included(from) => Some(*from),
            Bound::Excluded(before) => after(before),
            Bound::Unbounded => Some(0),
        };
        let to = match range.end_bound() {
            Bound::Included(last) => after(last),
            Bound::Excluded(to) => Some(*to),
            Bound::Unbounded => None,
        };
        let Some(from) = from else { return Ok(Vec::new()) };
        self.entries(from, to, usize::MAX).map_err(reading)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        let entries = self.entries(start, Some(end), READ_BYTES).map_err(reading)?;
        if entries.is_empty() && self.first_kept().map_err(reading)? > start {
            // Purged while openraft was about to send them. Given nothing, it would ask again for ever; an entry at no
            // place makes the connection fail, and openraft look for what it can send (`network`).
            let leader_id = CommittedLeaderId::new(0, 0);
            return Ok(vec![Entry {
                log_id: LogId { leader_id, index: NOWHERE },
                payload: EntryPayload::Blank,
            }]);
        }
        Ok(entries)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let state = || {
            let purged: Option<LogId> = self.meta(PURGED)?;
            Ok(LogState { last_purged_log_id: purged, last_log_id: self.last()?.or(purged) })
        };
        state().map_err(reading)
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let fail = |error: AnyError| StorageIOError::write_vote(error);
        let value = vote.encode().map_err(|error| fail(AnyError::new(&error)))?;
        let mut ops = Ops::new();
        ops.put(META, VOTE, value);
        let written = self.writer.write(ops, Durability::Synced).await;
        Ok(written.map_err(|error| fail(AnyError::new(&error)))?)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        self.meta(VOTE).map_err(|error| StorageIOError::read_vote(AnyError::new(&error)).into())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        let fail = |error: AnyError| StorageIOError::write_logs(error);
        let mut ops = Ops::new();
        match committed {
            Some(id) => {
                let value = id.encode().map_err(|error| fail(AnyError::new(&error)))?;
                ops.put(META, COMMITTED, value)
            }
            None => ops.delete(META, COMMITTED),
        };
        // Not synced: it only spares a restarted node the wait until a leader tells it again.
        let written = self.writer.write(ops, Durability::Buffered).await;
        Ok(written.map_err(|error| fail(AnyError::new(&error)))?)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        self.meta(COMMITTED).map_err(reading)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let fail = |error: AnyError| StorageIOError::write_logs(error);
        let seen = (self.clock)();
        let mut ops = Ops::new();
        for entry in entries {
            let mut value = BytesMut::new();
            value.put_u64(seen.millis());
            entry.write(&mut value).map_err(|error| fail(AnyError::new(&error)))?;
            self.extent.lock().add(entry.log_id.index, value.len() as u64, seen);
            ops.put(ENTRIES, entry.log_id.index.to_be_bytes(), value.freeze());
        }
        let (sender, written) = oneshot::channel();
        let then = move |result: Result<(), store::Error>| {
            callback.log_io_completed(result.map_err(std::io::Error::other));
            let _ = sender.send(());
        };
        let queued = self.writer.write_then(ops, Durability::Synced, then).await;
        queued.map_err(|error| fail(AnyError::new(&error)))?;
        // The entries must be readable when this returns. Whether they were written, the callback has told.
        let _ = written.await;
        Ok(())
    }

    async fn truncate(&mut self, from: LogId) -> Result<(), StorageError> {
        let mut ops = Ops::new();
        ops.delete_range(ENTRIES, from.index.to_be_bytes(), AFTER_ALL);
        self.extent.lock().truncate(from.index);
        let written = self.writer.write(ops, Durability::Synced).await;
        Ok(written.map_err(|error| StorageIOError::write_logs(AnyError::new(&error)))?)
    }

    async fn purge(&mut self, to: LogId) -> Result<(), StorageError> {
        let fail = |error: AnyError| StorageIOError::write_logs(error);
        let mut ops = Ops::new();
        let after = to.index.saturating_add(1).to_be_bytes();
        ops.delete_range(ENTRIES, [], after);
        ops.put(META, PURGED, to.encode().map_err(|error| fail(AnyError::new(&error)))?);
        self.extent.lock().purge(to.index);
        // Synced: the files that hold the entries are removed next, and a log that has lost entries must say so.
        let written = self.writer.write(ops, Durability::Synced).await;
        written.map_err(|error| fail(AnyError::new(&error)))?;
        let db = self.db.clone();
        // Raft does not wait for it.
        tokio::task::spawn_blocking(move || {
            if let Err(error) = db.reclaim(ENTRIES, &after) {
                tracing::warn!(%error, "the space of purged entries was not given back");
            }
        });
        Ok(())
    }
}
