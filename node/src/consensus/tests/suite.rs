//! openraft's own suite for storage, against RocksDB.

use std::sync::Arc;

use openraft::testing::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::double::{Book, fixed_clock, open};
use crate::consensus::Keep;
use crate::consensus::log_store::LogStore;
use crate::consensus::state_machine::StateMachine;
use crate::consensus::types::{StorageError, TypeConfig};
use crate::store::{Store, Writer};

struct OnDisk;

impl StoreBuilder<TypeConfig, LogStore, StateMachine<Book>, TempDir> for OnDisk {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine<Book>), StorageError> {
        let folder = tempfile::tempdir().unwrap();
        let log = open(&folder.path().join("log"), LogStore::COLUMNS).await;
        let ledger = open(&folder.path().join("ledger"), Book::COLUMNS).await;
        let (log_writer, _) = Writer::start(log.clone(), Store::Log, |_| {}).unwrap();
        let (ledger_writer, _) = Writer::start(ledger.clone(), Store::Ledger, |_| {}).unwrap();
        let log = LogStore::open(log, log_writer, fixed_clock(1), Keep::default()).unwrap();
        Ok((folder, log, StateMachine::new(Arc::new(Book::new(ledger, ledger_writer)))))
    }
}

#[test]
fn the_stores_pass_openrafts_suite() {
    Suite::test_all(OnDisk).unwrap();
}
