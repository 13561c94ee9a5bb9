//! The ledger's records on disk: exchanges, blocks, the evidence log's nodes, tokens, and where the ledger stands.
//!
//! # Relies on
//!
//! Writes here need no sync of their own: all but the tokens is a function of Raft's log, which is synced, and the
//! position up to which it was applied is written in the same batch as its effects.
//!
//! # Guarantees
//!
//! After a crash the ledger stands after some entry as a whole, and Raft applies again from there
//! ([`Ledger::commit`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use fairpost_proto::ids::{Digest, ExchangeId, Span, Timestamp, Verdict};
use fairpost_proto::leaf::{Leaf, Round};
use fairpost_proto::merkle::Nodes;
use fairpost_proto::threshold::Token;
use parking_lot::RwLock;
use tokio::sync::{Mutex, watch};

use super::generation::Generation;
use super::{Column, Database, Durability, Error, Home, Ops, Order, Staging, packed};
use crate::ledger::{Applied, Block, Exchange, Exchanges, Standing, State};

/// Each exchange as its last round has it.
const EXCHANGES: Column = Column::new("exchanges");
/// Exchanges as earlier rounds had them, by exchange and round.
const EARLIER: Column = Column::new("earlier");
const CERTIFICATES: Column = Column::new("certificates");
const BLOCKS: Column = Column::new("blocks");
const NODES: Column = Column::new("nodes");
pub(super) const TOKENS: Column = Column::new("tokens");
pub(super) const META: Column = Column::new("meta");

pub(super) const STATE: &[u8] = b"state";
pub(super) const POSITION: &[u8] = b"position";
pub(super) const MEMBERSHIP: &[u8] = b"membership";
/// Sequence of the last entry that came by snapshot.
pub(super) const TAKEN: &[u8] = b"taken";
const PROBE: &[u8] = b"probe";
/// Sequence of the first block whose exchanges still have their signed bytes.
const DROPPED: &[u8] = b"dropped";

/// A token that this node has verified, in its encoding: whoever is given it verifies it anew, so here it is not parsed
/// again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedToken([u8; Token::SIZE]);

impl VerifiedToken {
    /// Its encoding.
    pub const fn to_bytes(&self) -> [u8; Token::SIZE] {
        self.0
    }
}

/// The ledger's records. Clones are the same ledger.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

struct Inner {
    home: Home,
    current: ArcSwap<Generation>,
    state: RwLock<State>,
    sequence: watch::Sender<u64>,
    /// Snapshots that are being read: meanwhile nothing that they may still read is dropped.
    read: Arc<AtomicUsize>,
    taken: AtomicU64,
    /// Held by the one database beside this one.
    staging: Arc<Mutex<()>>,
}

impl Ledger {
    /// The columns of its database.
    pub const COLUMNS: &[Column] = &[EXCHANGES, EARLIER, CERTIFICATES, BLOCKS, NODES, TOKENS, META];

    /// Opens the ledger of this folder, and reads where it stands.
    pub fn open(home: Home) -> Result<Self, Error> {
        let current = home.current()?;
        let state = stored_state(&current.database)?;
        let taken = current.database.get(META, TAKEN)?.and_then(|bytes| bytes.try_into().ok());
        let taken = AtomicU64::new(taken.map_or(0, u64::from_be_bytes));
        let (sequence, current) = (watch::Sender::new(state.sequence), ArcSwap::from_pointee(current));
        let (state, read, staging) = (RwLock::new(state), Arc::default(), Arc::default());
        Ok(Self(Arc::new(Inner { home, current, state, sequence, read, taken, staging })))
    }

    /// Its database and writer, for tests that spoil what is stored.
    #[cfg(test)]
    pub(crate) fn raw(&self) -> (Database, super::Handle) {
        let current = self.generation();
        (current.database.clone(), current.writer.clone())
    }

    /// The state as it is stored, for the same tests.
    #[cfg(test)]
    pub(crate) fn stored_state(&self) -> Result<State, Error> {
        stored_state(&self.generation().database)
    }

    /// Writes and syncs what is queued; nothing is written after that.
    pub async fn close(&self) -> Result<(), Error> {
        self.generation().close().await
    }

    pub(super) fn home(&self) -> &Home {
        &self.0.home
    }

    pub(super) fn generation(&self) -> Arc<Generation> {
        self.0.current.load_full()
    }

    /// Begins with another database, beside this one. There is one at a time: it waits until the last one is gone.
    pub async fn stage(&self) -> Result<Staging, Error> {
        let turn = Arc::clone(&self.0.staging).lock_owned().await;
        Staging::new(self.clone(), turn)
    }

    /// Puts another generation in the place of this one, which it gives.
    pub(super) fn replace(&self, generation: Generation, state: State) -> Arc<Generation> {
        let sequence = state.sequence;
        let old = {
            let mut held = self.0.state.write();
            *held = state;
            self.0.taken.store(sequence, Ordering::SeqCst);
            self.0.current.swap(Arc::new(generation))
        };
        self.0.sequence.send_replace(sequence);
        old
    }

    /// Where the ledger stands.
    pub fn state(&self) -> State {
        self.0.state.read().clone()
    }

    /// Tells the sequence of the last entry, whenever there is another.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.sequence.subscribe()
    }

    /// Sequence of the last entry that this node has from a snapshot; 0 if there is none. It never applied those.
    pub fn taken(&self) -> u64 {
        self.0.taken.load(Ordering::SeqCst)
    }

    /// The exchange as its last round has it, if it is decided.
    pub fn exchange(&self, id: &ExchangeId) -> Result<Option<Exchange>, Error> {
        exchange(&self.generation().database, id)
    }

    /// The exchange as each of its rounds had it, the first one first. Most have one.
    pub fn rounds(&self, id: &ExchangeId) -> Result<Vec<Exchange>, Error> {
        let current = self.generation();
        let Some(last) = exchange(&current.database, id)? else { return Ok(Vec::new()) };
        let mut rounds = Vec::new();
        if last.leaf.round > Round::FIRST {
            for stored in current.database.prefix(EARLIER, id.as_bytes(), Order::Ascending)? {
                rounds.push(unpack(&current.database, id, &stored?.1)?);
            }
        }
        rounds.push(last);
        Ok(rounds)
    }

    /// What the entry with this sequence added.
    pub fn block(&self, sequence: u64) -> Result<Option<Block>, Error> {
        let current = self.generation();
        let bytes = current.database.get(BLOCKS, sequence.to_be_bytes())?;
        bytes.map(|bytes| parse(&current.database, Block::parse(&bytes))).transpose()
    }

    /// The token of an exchange, if it was ever combined here.
    pub fn token(&self, exchange: &ExchangeId, verdict: Verdict) -> Result<Option<VerifiedToken>, Error> {
        let bytes = self.generation().database.get(TOKENS, token_key(exchange, verdict))?;
        Ok(bytes.and_then(|bytes| Some(VerifiedToken(bytes.try_into().ok()?))))
    }

    /// Keeps a token that was verified. It can always be made again, so it is not synced.
    pub async fn put_token(
        &self,
        exchange: &ExchangeId,
        verdict: Verdict,
        token: &Token,
    ) -> Result<VerifiedToken, Error> {
        let token = VerifiedToken(token.to_bytes());
        let mut ops = Ops::new();
        ops.put(TOKENS, token_key(exchange, verdict), token.0.to_vec());
        self.write(ops, Durability::Buffered).await?;
        Ok(token)
    }

    /// Up to where Raft's log was applied, in the consensus layer's own encoding.
    pub fn position(&self) -> Result<Option<Vec<u8>>, Error> {
        self.generation().database.get(META, POSITION)
    }

    /// The last membership that Raft's log set, in the consensus layer's own encoding.
    pub fn membership(&self) -> Result<Option<Vec<u8>>, Error> {
        self.generation().database.get(META, MEMBERSHIP)
    }

    /// Writes what one entry of Raft's log did, and its position, as a whole.
    pub async fn commit(
        &self,
        position: Bytes,
        membership: Option<Bytes>,
        applied: Option<&Applied>,
    ) -> Result<(), Error> {
        let mut ops = Ops::new();
        ops.put(META, POSITION, position);
        if let Some(membership) = membership {
            ops.put(META, MEMBERSHIP, membership);
        }
        if let Some(applied) = applied {
            put_applied(&mut ops, &self.generation().database, applied)?;
        }
        self.write(ops, Durability::Buffered).await?;
        if let Some(applied) = applied {
            *self.0.state.write() = applied.state.clone();
            self.0.sequence.send_replace(applied.state.sequence);
        }
        Ok(())
    }

    /// Writes something, synced: whether the disk takes writes. All that was written before is synced with it.
    pub async fn probe(&self) -> Result<(), Error> {
        let mut ops = Ops::new();
        ops.put(META, PROBE, Bytes::new());
        self.write(ops, Durability::Synced).await
    }

    async fn write(&self, ops: Ops, durability: Durability) -> Result<(), Error> {
        self.generation().writer.write(ops, durability).await
    }

    /// All that the rest can be rebuilt from, as it is now, to be read later.
    pub fn records(&self) -> Result<Records, Error> {
        self.0.read.fetch_add(1, Ordering::SeqCst);
        let (generation, read) = (self.generation(), Reading(Arc::clone(&self.0.read)));
        let (state, position, membership) = {
            let view = generation.database.view();
            (view.get(META, STATE)?, view.get(META, POSITION)?, view.get(META, MEMBERSHIP)?)
        };
        let state = match state {
            Some(bytes) => parse(&generation.database, State::parse(&bytes))?,
            None => State::empty(),
        };
        Ok(Records { generation, state, position, membership, _read: read })
    }
}

/// What a step of dropping did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// How many exchanges lost their signed bytes.
    pub dropped: usize,
    /// Whether more may be due.
    pub more: bool,
}

impl Ledger {
    /// Drops the signed bytes of exchanges whose verdict is older than `retention`, by the ledger's time; looks at so
    /// many exchanges, and a block more. Does nothing while a snapshot is read: it promises what was there when it began.
    pub async fn drop_due(&self, retention: Span, most: usize) -> Result<Step, Error> {
        let (generation, now) = (self.generation(), self.state().time);
        let database = &generation.database;
        let mut step = Step { dropped: 0, more: false };
        if self.0.read.load(Ordering::SeqCst) > 0 {
            return Ok(step);
        }
        let (mut ops, mut seen) = (Ops::new(), 0);
        let from = match database.get(META, DROPPED)? {
            Some(bytes) => bytes.try_into().map_or(1, u64::from_be_bytes),
            None => 1,
        };
        for stored in database.range(BLOCKS, &from.to_be_bytes(), None, Order::Ascending)? {
            let block = parse(database, Block::parse(&stored?.1))?;
            if block.leaves.iter().map(|leaf| leaf.time).fold(block.time, Timestamp::max).plus(retention)
                > now
            {
                break;
            }
            if seen >= most {
                step.more = true;
                break;
            }
            for leaf in &block.leaves {
                seen += 1;
                let held = of_round(database, &leaf.exchange, leaf.round)?;
                if let Some((exchange, column)) = held.filter(|(held, _)| held.dropped.is_none()) {
                    put_record(&mut ops, database, column, &exchange.drop_bytes(now))?;
                    step.dropped += 1;
                }
            }
            ops.put(META, DROPPED, block.sequence.saturating_add(1).to_be_bytes().to_vec());
        }
        if !ops.is_empty() {
            generation.writer.write(ops, Durability::Buffered).await?;
        }
        Ok(step)
    }
}

/// Counts a reader as long as it is there.
struct Reading(Arc<AtomicUsize>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The records of one moment.
pub struct Records {
    generation: Arc<Generation>,
    state: State,
    /// Up to where Raft's log was applied, in the consensus layer's own encoding.
    pub position: Option<Vec<u8>>,
    /// The last membership that it set.
    pub membership: Option<Vec<u8>>,
    _read: Reading,
}

impl Records {
    /// Hands every record to `sink`: first the state; then each block, followed at once by its exchanges. Blocks never
    /// change once they are written, so this may take its time.
    pub fn read<E: From<Error>>(&self, sink: &mut dyn FnMut(Record<'_>) -> Result<(), E>) -> Result<(), E> {
        let database = &self.generation.database;
        sink(Record::State(&self.state.to_bytes()))?;
        let end = self.state.sequence.saturating_add(1).to_be_bytes();
        for stored in database.range(BLOCKS, &[], Some(&end), Order::Ascending)? {
            let bytes = stored?.1;
            sink(Record::Block(&bytes))?;
            let block = parse(database, Block::parse(&bytes))?;
            for leaf in &block.leaves {
                let missing = || Error::Corrupt {
                    path: database.path().to_owned(),
                    reason: format!(
                        "block {} has exchange {}, which is missing",
                        block.sequence, leaf.exchange
                    ),
                };
                let (exchange, _) = of_round(database, &leaf.exchange, leaf.round)?.ok_or_else(missing)?;
                sink(Record::Exchange(&exchange.to_bytes()))?;
            }
        }
        Ok(())
    }
}

/// A record that a snapshot carries, as it is stored.
#[derive(Clone, Copy, Debug)]
pub enum Record<'b> {
    /// A [`Block`].
    Block(&'b [u8]),
    /// An [`Exchange`].
    Exchange(&'b [u8]),
    /// The [`State`].
    State(&'b [u8]),
}

impl Exchanges for Ledger {
    type Error = Error;

    fn standing(&self, exchange: &ExchangeId) -> Result<Option<Standing>, Error> {
        standing(&self.generation().database, exchange)
    }
}

impl Nodes for Ledger {
    fn node(&self, level: u8, index: u64) -> Option<Digest> {
        let bytes = self.generation().database.get(NODES, node_key(level, index)).ok()??;
        Digest::from_slice(&bytes)
    }
}

/// How the exchange stands, if it is decided.
pub(super) fn standing(database: &Database, id: &ExchangeId) -> Result<Option<Standing>, Error> {
    let bytes = database.get(EXCHANGES, id.as_bytes())?;
    bytes.map(|bytes| parse(database, packed::standing(&bytes))).transpose()
}

fn exchange(database: &Database, id: &ExchangeId) -> Result<Option<Exchange>, Error> {
    let record = database.get(EXCHANGES, id.as_bytes())?;
    record.map(|record| unpack(database, id, &record)).transpose()
}

/// The exchange as this round had it, and the column that has it.
fn of_round(database: &Database, id: &ExchangeId, round: Round) -> Result<Option<(Exchange, Column)>, Error> {
    let last = exchange(database, id)?.map(|exchange| (exchange, EXCHANGES));
    if let Some((exchange, _)) = &last
        && exchange.leaf.round != round
    {
        let record = database.get(EARLIER, round_key(id, round))?;
        return record.map(|record| Ok((unpack(database, id, &record)?, EARLIER))).transpose();
    }
    Ok(last)
}

fn unpack(database: &Database, id: &ExchangeId, record: &[u8]) -> Result<Exchange, Error> {
    let mut certificate = |digest: &Digest| {
        let missing = || Error::Corrupt {
            path: database.path().to_owned(),
            reason: format!("certificate {digest} of exchange {id} is missing"),
        };
        database.get(CERTIFICATES, digest.as_bytes())?.ok_or_else(missing).map_err(Unpacking::Store)
    };
    match packed::unpack(*id, record, &mut certificate) {
        Ok(exchange) => Ok(exchange),
        Err(Unpacking::Store(error)) => Err(error),
        Err(Unpacking::Record(error)) => parse(database, Err(error)),
    }
}

/// Why an exchange was not put together.
enum Unpacking {
    Store(Error),
    Record(crate::ledger::Error),
}

impl From<crate::ledger::Error> for Unpacking {
    fn from(error: crate::ledger::Error) -> Self {
        Self::Record(error)
    }
}

impl From<Error> for Unpacking {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

fn put_applied(ops: &mut Ops, database: &Database, applied: &Applied) -> Result<(), Error> {
    ops.put(META, STATE, applied.state.to_bytes());
    put_block(ops, &applied.block);
    put_nodes(ops, &applied.nodes);
    applied.exchanges.iter().try_for_each(|exchange| put_exchange(ops, database, exchange))
}

pub(super) fn put_block(ops: &mut Ops, block: &Block) {
    ops.put(BLOCKS, block.sequence.to_be_bytes(), block.to_bytes());
}

pub(super) fn put_nodes(ops: &mut Ops, nodes: &[(u8, u64, Digest)]) {
    for (level, index, hash) in nodes {
        ops.put(NODES, node_key(*level, *index), hash.as_bytes().to_vec());
    }
}

/// Puts an exchange as its last round has it. How the round before had it stays, beside it; that must be in the database
/// already.
pub(super) fn put_exchange(ops: &mut Ops, database: &Database, exchange: &Exchange) -> Result<(), Error> {
    let Leaf { exchange: id, round, .. } = exchange.leaf;
    if round > Round::FIRST
        && let Some(record) = database.get(EXCHANGES, id.as_bytes())?
    {
        let before = parse(database, packed::standing(&record))?;
        ops.put(EARLIER, round_key(&id, before.round), record);
    }
    put_record(ops, database, EXCHANGES, exchange)
}

/// Certificates that the database has already are not written again.
fn put_record(ops: &mut Ops, database: &Database, column: Column, exchange: &Exchange) -> Result<(), Error> {
    let Leaf { exchange: id, round, .. } = exchange.leaf;
    let key = if column == EARLIER { round_key(&id, round) } else { id.as_bytes().to_vec() };
    let packed = packed::pack(exchange);
    for (digest, certificate) in packed.certificates {
        if database.get(CERTIFICATES, digest.as_bytes())?.is_none() {
            ops.put(CERTIFICATES, digest.as_bytes(), certificate.to_vec());
        }
    }
    ops.put(column, key, packed.record);
    Ok(())
}

fn stored_state(database: &Database) -> Result<State, Error> {
    match database.get(META, STATE)? {
        Some(bytes) => parse(database, State::parse(&bytes)),
        None => Ok(State::empty()),
    }
}

fn node_key(level: u8, index: u64) -> Vec<u8> {
    [&[level][..], &index.to_be_bytes()].concat()
}

fn round_key(exchange: &ExchangeId, round: Round) -> Vec<u8> {
    [&exchange.as_bytes()[..], &round.get().to_be_bytes()].concat()
}

fn token_key(exchange: &ExchangeId, verdict: Verdict) -> Vec<u8> {
    [&exchange.as_bytes()[..], &[verdict.code()]].concat()
}

fn parse<T>(database: &Database, record: Result<T, crate::ledger::Error>) -> Result<T, Error> {
    record.map_err(|error| Error::Corrupt { path: database.path().to_owned(), reason: error.to_string() })
}
