//! The three databases and their writers, opened and closed together.

use std::sync::Arc;

use fairpost_proto::view::View;
use tokio::sync::watch;

use super::Error;
use crate::config::Config;
use crate::store::{self, Folder, Home, Ledger, Memory, Store, Writer};
use crate::{consensus, witness};

/// The three databases and their writers.
pub(super) struct Disks {
    pub(super) log: store::Database,
    pub(super) log_writer: store::Handle,
    pub(super) ledger: Ledger,
    pub(super) witness: store::Database,
    pub(super) witness_writer: store::Handle,
    threads: Vec<std::thread::JoinHandle<Result<(), store::Error>>>,
}

impl Disks {
    pub(super) fn open(
        config: &Config,
        view: &View,
        fatal: &watch::Sender<Option<String>>,
    ) -> Result<Self, Error> {
        let owner = store::Identity { node: config.name.clone(), cluster: view.cluster() };
        let folder = Arc::new(Folder::open(&config.data, &owner)?);
        let memory = Memory::default();
        let mut threads = Vec::new();
        let mut open = |store, columns| -> Result<_, Error> {
            let database = folder.database(store, columns, &memory)?;
            let fatal = fatal.clone();
            let (writer, thread) = Writer::start(database.clone(), store, move |error| {
                fatal.send_replace(Some(error.to_string()));
            })?;
            threads.push(thread);
            Ok((database, writer))
        };
        let (log, log_writer) = open(Store::Log, consensus::LogStore::COLUMNS)?;
        let (witness, witness_writer) = open(Store::Witness, witness::store::Store::COLUMNS)?;
        let fatal = fatal.clone();
        let home = Home::new(folder, memory.clone(), move |error| {
            fatal.send_replace(Some(error.to_string()));
        });
        let ledger = Ledger::open(home)?;
        Ok(Self { log, log_writer, ledger, witness, witness_writer, threads })
    }

    /// Writes and syncs what is queued, and ends the writers.
    pub(super) async fn close(self) -> Result<(), Error> {
        for writer in [&self.log_writer, &self.witness_writer] {
            writer.close().await;
        }
        self.ledger.close().await?;
        let threads = self.threads;
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().map(std::thread::JoinHandle::join).collect::<Vec<_>>()
        });
        for ended in joined.await.map_err(|error| Error::Fatal(error.to_string()))? {
            match ended {
                Ok(ended) => ended?,
                Err(_) => return Err(Error::Fatal("a writer's thread panicked".into())),
            }
        }
        Ok(())
    }
}
