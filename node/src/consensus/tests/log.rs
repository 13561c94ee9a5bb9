//! What the log keeps beyond openraft's suite.

use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::{RaftLogStorage as _, RaftLogStorageExt as _};
use openraft::{CommittedLeaderId, EntryPayload, RaftLogReader as _};
use parking_lot::Mutex;

use super::double::{fixed_clock, open};
use crate::consensus::Keep;
use crate::consensus::log_store::{Error, LogStore};
use crate::consensus::types::{Entry, LogId, Proposal, Vote};
use crate::store::{self, Column, Database, Durability, Handle, Ops, Sink, Store, Writer};

const ENTRIES: Column = Column::new("entries");

fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let log_id = LogId::new(CommittedLeaderId::new(term, 1), index);
    Entry { log_id, payload: EntryPayload::Normal(Proposal(Bytes::from(vec![7; bytes]))) }
}

async fn database(folder: &tempfile::TempDir) -> (Database, Handle) {
    let db = open(&folder.path().join("log"), LogStore::COLUMNS).await;
    let (writer, _) = Writer::start(db.clone(), Store::Log, |_| {}).unwrap();
    (db, writer)
}

#[tokio::test]
async fn an_entry_keeps_the_time_at_which_it_was_first_seen() {
    let folder = tempfile::tempdir().unwrap();
    let (db, writer) = database(&folder).await;
    let mut log = LogStore::open(db.clone(), writer.clone(), fixed_clock(1000), Keep::default()).unwrap();
    log.blocking_append([entry(1, 0, 1), entry(1, 1, 1)]).await.unwrap();
    // The clock goes on, this node restarts, another leader rewrites the second entry.
    let mut log = LogStore::open(db, writer, fixed_clock(2000), Keep::default()).unwrap();
    let seen = |log: &LogStore, index| log.first_seen(index).unwrap().map(|time| time.millis());
    assert_eq!((seen(&log, 0), seen(&log, 1), seen(&log, 2)), (Some(1000), Some(1000), None));
    log.truncate(LogId::new(CommittedLeaderId::new(1, 1), 1)).await.unwrap();
    assert_eq!(seen(&log, 1), None);
    log.blocking_append([entry(2, 1, 1)]).await.unwrap();
    assert_eq!((seen(&log, 0), seen(&log, 1)), (Some(1000), Some(2000)));
}

#[tokio::test]
async fn large_entries_are_read_one_by_one_and_small_ones_together() {
    let folder = tempfile::tempdir().unwrap();
    let (db, writer) = database(&folder).await;
    let mut log = LogStore::open(db, writer, fixed_clock(1), Keep::default()).unwrap();
    log.blocking_append([entry(1, 0, 2 << 20), entry(1, 1, 2 << 20), entry(1, 2, 10), entry(1, 3, 10)])
        .await
        .unwrap();
    assert_eq!(log.limited_get_log_entries(0, 4).await.unwrap().len(), 1);
    assert_eq!(log.limited_get_log_entries(1, 4).await.unwrap().len(), 1);
    assert_eq!(log.limited_get_log_entries(2, 4).await.unwrap().len(), 2);
    assert_eq!(log.try_get_log_entries(0..).await.unwrap().len(), 4, "asked for without a limit");
}

#[tokio::test]
async fn a_damaged_or_missing_entry_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (db, writer) = database(&folder).await;
    let mut log = LogStore::open(db.clone(), writer.clone(), fixed_clock(1), Keep::default()).unwrap();
    log.blocking_append((0..5).map(|index| entry(1, index, 1))).await.unwrap();
    let change = async |fill: &dyn Fn(&mut Ops)| {
        let mut ops = Ops::new();
        fill(&mut ops);
        writer.write(ops, Durability::Buffered).await.unwrap();
    };

    let whole = db.get(ENTRIES, 2_u64.to_be_bytes()).unwrap().unwrap();
    change(&|ops| _ = ops.put(ENTRIES, 2_u64.to_be_bytes(), whole[..20].to_vec())).await;
    let error = log.try_get_log_entries(1..4).await.unwrap_err().to_string();
    assert!(error.contains("entry 2 is damaged: 8 more bytes expected, 4 found"), "{error}");

    change(&|ops| _ = ops.put(ENTRIES, 2_u64.to_be_bytes(), vec![0; 7])).await;
    assert!(matches!(log.first_seen(2), Err(Error::Damaged { .. })));
    change(&|ops| _ = ops.put(ENTRIES, 2_u64.to_be_bytes(), vec![0xff; 8])).await;
    assert!(matches!(log.first_seen(2), Err(Error::NoTime { index: 2, millis: u64::MAX })));

    change(&|ops| _ = ops.delete(ENTRIES, 2_u64.to_be_bytes())).await;
    let error = log.try_get_log_entries(0..5).await.unwrap_err().to_string();
    assert!(error.contains("the log has a hole: entry 2 expected, 3 found"), "{error}");

    change(&|ops| _ = ops.put(ENTRIES, 9_u64.to_be_bytes(), whole.clone())).await;
    let error = log.get_log_state().await.unwrap_err().to_string();
    assert!(error.contains("the log has entry 2 at the place of entry 9"), "{error}");
}

/// A disk that notes what it is asked to sync.
struct Noting(Database, Arc<Mutex<Vec<Durability>>>);

impl Sink for Noting {
    fn write(
        &mut self,
        ops: &mut dyn Iterator<Item = &Ops>,
        durability: Durability,
    ) -> Result<(), store::Error> {
        self.1.lock().push(durability);
        self.0.write(ops, durability)
    }

    fn flush(&mut self) -> Result<(), store::Error> {
        self.0.flush()
    }
}

#[tokio::test]
async fn entries_votes_and_truncations_are_synced() {
    let folder = tempfile::tempdir().unwrap();
    let (db, _) = database(&folder).await;
    let noted = Arc::default();
    let disk = Noting(db.clone(), Arc::clone(&noted));
    let (writer, _) = Writer::start_with(disk, Store::Log, |_| {}).unwrap();
    let mut log = LogStore::open(db, writer, fixed_clock(1), Keep::default()).unwrap();
    let last = LogId::new(CommittedLeaderId::new(1, 1), 1);
    log.blocking_append([entry(1, 0, 1), entry(1, 1, 1)]).await.unwrap();
    log.save_vote(&Vote::new(1, 1)).await.unwrap();
    log.truncate(last).await.unwrap();
    assert_eq!(*noted.lock(), [Durability::Synced; 3]);
    log.save_committed(Some(last)).await.unwrap();
    assert_eq!(noted.lock().last(), Some(&Durability::Buffered), "what a restart can do without");
}
