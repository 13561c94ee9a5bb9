//! The ledger's database, and another one beside it that a snapshot is written to, until it takes its place.
//!
//! # Specification
//!
//! A **generation** is one database of the ledger. The first lies in `ledger`, later ones in `ledger-2` and so on;
//! `ledger.json` says which of them is the ledger (without that file, the first). A snapshot goes into a new generation.
//! Once it is whole and synced, `ledger.json` is replaced, and with that it is the ledger.
//!
//! # Guarantees
//!
//! - After a crash at any moment the ledger is the old one or the new one, as a whole ([`Staging::install`]; test
//!   `a_node_killed_while_it_takes_a_snapshot_starts_with_the_old_ledger_or_the_new_one`).
//! - What is not the ledger is removed: at the start, and when its last reader is gone ([`Generation`]).

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use bytes::Bytes;
use fairpost_proto::ids::ExchangeId;
use fairpost_proto::leaf::{Leaf, Round};
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;
use tracing::warn;

use super::ledger::{MEMBERSHIP, META, POSITION, STATE, TAKEN, TOKENS, put_block, put_exchange, put_nodes};
use super::{Column, Database, Durability, Error, Folder, Handle, Ledger, Memory, Ops, Order, Store, Writer};
use crate::ledger::{Exchange, State, Verified};

/// How many bytes of a snapshot are written at once.
const BATCH_BYTES: usize = 2 << 20;

/// Where generations are opened.
#[derive(Clone)]
pub struct Home {
    folder: Arc<Folder>,
    memory: Memory,
    on_fatal: Arc<dyn Fn(&Error) + Send + Sync>,
}

impl Home {
    /// In this folder, with this memory; `on_fatal` hears of a database that can't be written.
    pub fn new(
        folder: Arc<Folder>,
        memory: Memory,
        on_fatal: impl Fn(&Error) + Send + Sync + 'static,
    ) -> Self {
        Self { folder, memory, on_fatal: Arc::new(on_fatal) }
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The generation that is the ledger; others are removed.
    pub(super) fn current(&self) -> Result<Generation, Error> {
        let number = self.folder.generation()?;
        self.folder.tidy(number)?;
        let generation = self.open(number)?;
        generation.leftover.0.store(false, Ordering::SeqCst);
        Ok(generation)
    }

    fn open(&self, number: u32) -> Result<Generation, Error> {
        let path = self.folder.ledger(number);
        let database = Database::open(&path, Ledger::COLUMNS, &self.memory)?;
        let on_fatal = Arc::clone(&self.on_fatal);
        let (writer, thread) = Writer::start(database.clone(), Store::Ledger, move |error| on_fatal(error))?;
        let (thread, leftover) = (Mutex::new(Some(thread)), Leftover(AtomicBool::new(true), path));
        Ok(Generation { number, database, writer, thread, leftover })
    }
}

/// One database of the ledger. It is removed when it is dropped, unless it is the ledger.
pub(super) struct Generation {
    pub(super) number: u32,
    pub(super) database: Database,
    pub(super) writer: Handle,
    thread: Mutex<Option<JoinHandle<Result<(), Error>>>>,
    // Last, so that the database is closed before it.
    leftover: Leftover,
}

impl Generation {
    /// It has ceased to be the ledger.
    fn retire(&self) {
        self.leftover.0.store(true, Ordering::SeqCst);
    }

    /// Has all that is queued written and synced.
    pub(super) async fn close(&self) -> Result<(), Error> {
        self.writer.close().await;
        let Some(thread) = self.thread.lock().take() else { return Ok(()) };
        let ended = tokio::task::spawn_blocking(move || thread.join()).await;
        match ended {
            Ok(Ok(ended)) => ended,
            _ => Err(Error::Panicked { store: Store::Ledger.name() }),
        }
    }
}

/// The path of a database, and whether it is to be removed.
struct Leftover(AtomicBool, PathBuf);

impl Drop for Leftover {
    fn drop(&mut self) {
        if self.0.load(Ordering::SeqCst)
            && let Err(error) = std::fs::remove_dir_all(&self.1)
        {
            warn!(path = %self.1.display(), %error, "a ledger that is not in use was not removed; the next start will");
        }
    }
}

/// A generation on its way. Dropped before `Staging::install`, it is removed.
pub struct Staging {
    ledger: Ledger,
    generation: Generation,
    ops: Ops,
    /// The exchanges in `ops`, and their last rounds.
    fresh: HashMap<ExchangeId, Round>,
    // Last, so that the next one begins when this one is gone.
    turn: OwnedMutexGuard<()>,
}

impl Staging {
    pub(super) fn new(ledger: Ledger, turn: OwnedMutexGuard<()>) -> Result<Self, Error> {
        let (home, number) = (ledger.home(), ledger.generation().number.saturating_add(1));
        let path = home.folder.ledger(number);
        if path.exists() {
            std::fs::remove_dir_all(&path).map_err(|error| Error::io(&path, &error))?;
        }
        let generation = home.open(number)?;
        Ok(Self { ledger, generation, ops: Ops::new(), fresh: HashMap::new(), turn })
    }

    /// The last round of this exchange that was put.
    pub fn round(&self, exchange: &ExchangeId) -> Result<Option<Round>, Error> {
        match self.fresh.get(exchange) {
            Some(round) => Ok(Some(*round)),
            None => {
                let standing = super::ledger::standing(&self.generation.database, exchange)?;
                Ok(standing.map(|standing| standing.round))
            }
        }
    }

    /// Puts a block.
    pub async fn put_block(&mut self, verified: &Verified) -> Result<(), Error> {
        put_block(&mut self.ops, &verified.block);
        put_nodes(&mut self.ops, &verified.nodes);
        self.write_if_large().await
    }

    /// Puts an exchange as one of its rounds had it: the first one first.
    pub async fn put_exchange(&mut self, exchange: &Exchange) -> Result<(), Error> {
        let Leaf { exchange: id, round, .. } = exchange.leaf;
        if self.fresh.contains_key(&id) {
            // What takes another's place must be able to find it.
            self.write().await?;
        }
        put_exchange(&mut self.ops, &self.generation.database, exchange)?;
        self.fresh.insert(id, round);
        self.write_if_large().await
    }

    /// Puts what belongs to the whole, takes the tokens along that are here already, and syncs. It is ready then.
    pub async fn finish(
        mut self,
        position: Option<Bytes>,
        membership: Option<Bytes>,
        state: State,
    ) -> Result<Ready, Error> {
        let from = Arc::clone(&self.ledger.generation());
        let mut next: Option<Vec<u8>> = Some(Vec::new());
        while let Some(start) = next {
            next = self.copy(&from.database, TOKENS, &start)?;
            self.write().await?;
        }
        for (key, value) in [(POSITION, position), (MEMBERSHIP, membership)] {
            if let Some(value) = value {
                self.ops.put(META, key, value);
            }
        }
        self.ops.put(META, STATE, state.to_bytes());
        self.ops.put(META, TAKEN, state.sequence.to_be_bytes().to_vec());
        self.generation.writer.write(std::mem::take(&mut self.ops), Durability::Synced).await?;
        Ok(Ready { ledger: self.ledger, generation: self.generation, state, _turn: self.turn })
    }

    /// Takes entries of another database along, up to a batch; gives the key that comes next.
    fn copy(&mut self, from: &Database, column: Column, start: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        for entry in from.range(column, start, None, Order::Ascending)? {
            let (key, value) = entry?;
            if self.ops.size() >= BATCH_BYTES {
                return Ok(Some(key.into_vec()));
            }
            self.ops.put(column, key, value.into_vec());
        }
        Ok(None)
    }

    async fn write_if_large(&mut self) -> Result<(), Error> {
        if self.ops.size() < BATCH_BYTES { Ok(()) } else { self.write().await }
    }

    async fn write(&mut self) -> Result<(), Error> {
        self.fresh.clear();
        self.generation.writer.write(std::mem::take(&mut self.ops), Durability::Buffered).await
    }
}

/// A generation that is whole and synced. Dropped before [`Ready::install`], it is removed.
pub struct Ready {
    ledger: Ledger,
    generation: Generation,
    state: State,
    _turn: OwnedMutexGuard<()>,
}

impl Ready {
    /// Makes it the ledger.
    pub async fn install(self) -> Result<(), Error> {
        let Self { ledger, generation, state, _turn } = self;
        // Nothing removes it from here on: if the file was replaced, it is the ledger, whatever was said of that.
        generation.leftover.0.store(false, Ordering::SeqCst);
        let (home, number) = (ledger.home().clone(), generation.number);
        let named = tokio::task::spawn_blocking(move || home.folder().set_generation(number)).await;
        named.unwrap_or(Err(Error::Panicked { store: Store::Ledger.name() }))?;
        let old = ledger.replace(generation, state);
        old.retire();
        // Closing a database takes a while.
        tokio::task::spawn_blocking(move || drop(old));
        Ok(())
    }
}
