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

use bytes::Bytes;
use fairpost_proto::ids::{Digest, ExchangeId, Verdict};
use fairpost_proto::merkle::Nodes;
use fairpost_proto::threshold::Token;
use parking_lot::RwLock;
use tokio::sync::watch;

use super::{Column, Database, Durability, Error, Handle, Ops, Order};
use crate::ledger::{Applied, Block, Exchange, Exchanges, Rebuilt, State};

const EXCHANGES: Column = Column::new("exchanges");
const BLOCKS: Column = Column::new("blocks");
const NODES: Column = Column::new("nodes");
const TOKENS: Column = Column::new("tokens");
const META: Column = Column::new("meta");

const STATE: &[u8] = b"state";
const POSITION: &[u8] = b"position";
const MEMBERSHIP: &[u8] = b"membership";
const PROBE: &[u8] = b"probe";

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

/// The ledger's records.
#[derive(Clone)]
pub struct Ledger {
    database: Database,
    writer: Handle,
    state: Arc<RwLock<State>>,
    sequence: watch::Sender<u64>,
}

impl Ledger {
    /// The columns of its database.
    pub const COLUMNS: &[Column] = &[EXCHANGES, BLOCKS, NODES, TOKENS, META];

    /// Reads where the ledger stands.
    pub fn open(database: Database, writer: Handle) -> Result<Self, Error> {
        let state = match database.get(META, STATE)? {
            Some(bytes) => parse(&database, State::parse(&bytes))?,
            None => State::empty(),
        };
        let sequence = watch::Sender::new(state.sequence);
        Ok(Self { database, writer, state: Arc::new(RwLock::new(state)), sequence })
    }

    /// Where the ledger stands.
    pub fn state(&self) -> State {
        self.state.read().clone()
    }

    /// Tells the sequence of the last entry, whenever there is another.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.sequence.subscribe()
    }

    /// The exchange, if it is decided.
    pub fn exchange(&self, id: &ExchangeId) -> Result<Option<Exchange>, Error> {
        let bytes = self.database.get(EXCHANGES, id.as_bytes())?;
        bytes.map(|bytes| parse(&self.database, Exchange::parse(&bytes))).transpose()
    }

    /// What the entry with this sequence added.
    pub fn block(&self, sequence: u64) -> Result<Option<Block>, Error> {
        let bytes = self.database.get(BLOCKS, sequence.to_be_bytes())?;
        bytes.map(|bytes| parse(&self.database, Block::parse(&bytes))).transpose()
    }

    /// The token of an exchange, if it was ever combined here.
    pub fn token(&self, exchange: &ExchangeId, verdict: Verdict) -> Result<Option<VerifiedToken>, Error> {
        let bytes = self.database.get(TOKENS, token_key(exchange, verdict))?;
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
        self.writer.write(ops, Durability::Buffered).await?;
        Ok(token)
    }

    /// Up to where Raft's log was applied, in the consensus layer's own encoding.
    pub fn position(&self) -> Result<Option<Vec<u8>>, Error> {
        self.database.get(META, POSITION)
    }

    /// The last membership that Raft's log set, in the consensus layer's own encoding.
    pub fn membership(&self) -> Result<Option<Vec<u8>>, Error> {
        self.database.get(META, MEMBERSHIP)
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
            put_applied(&mut ops, applied);
        }
        self.writer.write(ops, Durability::Buffered).await?;
        if let Some(applied) = applied {
            *self.state.write() = applied.state.clone();
            self.sequence.send_replace(applied.state.sequence);
        }
        Ok(())
    }

    /// Writes something, synced: whether the disk takes writes.
    pub async fn probe(&self) -> Result<(), Error> {
        let mut ops = Ops::new();
        ops.put(META, PROBE, Bytes::new());
        self.writer.write(ops, Durability::Synced).await
    }

    /// Hands every record that the rest can be rebuilt from to `sink`, all of one moment: blocks in order, exchanges, and
    /// last the state. Gives position and membership of that moment.
    pub fn records<E: From<Error>>(
        &self,
        sink: &mut dyn FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<Reached, E> {
        let view = self.database.view();
        for block in view.range(BLOCKS, &[], None, Order::Ascending)? {
            sink(Record::Block(&block?.1))?;
        }
        for exchange in view.range(EXCHANGES, &[], None, Order::Ascending)? {
            sink(Record::Exchange(&exchange?.1))?;
        }
        if let Some(state) = view.get(META, STATE)? {
            sink(Record::State(&state))?;
        }
        Ok(Reached { position: view.get(META, POSITION)?, membership: view.get(META, MEMBERSHIP)? })
    }

    /// Replaces everything but the tokens by what these hold, as a whole and synced.
    pub async fn replace(
        &self,
        position: Option<Bytes>,
        membership: Option<Bytes>,
        rebuilt: Rebuilt,
    ) -> Result<(), Error> {
        let mut ops = Ops::new();
        for column in [EXCHANGES, BLOCKS, NODES, META] {
            for record in self.database.range(column, &[], None, Order::Ascending)? {
                ops.delete(column, record?.0);
            }
        }
        for (key, value) in [(POSITION, position), (MEMBERSHIP, membership)] {
            if let Some(value) = value {
                ops.put(META, key, value);
            }
        }
        ops.put(META, STATE, rebuilt.state.to_bytes());
        for block in &rebuilt.blocks {
            ops.put(BLOCKS, block.sequence.to_be_bytes(), block.to_bytes());
        }
        put_parts(&mut ops, &rebuilt.exchanges, &rebuilt.nodes);
        self.writer.write(ops, Durability::Synced).await?;
        let sequence = rebuilt.state.sequence;
        *self.state.write() = rebuilt.state;
        self.sequence.send_replace(sequence);
        Ok(())
    }
}

/// How far the ledger had come, in the consensus layer's own encoding.
pub struct Reached {
    /// Up to where Raft's log was applied.
    pub position: Option<Vec<u8>>,
    /// The last membership that it set.
    pub membership: Option<Vec<u8>>,
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

    fn standing(&self, exchange: &ExchangeId) -> Result<Option<(Verdict, u64)>, Error> {
        Ok(self.exchange(exchange)?.map(|exchange| (exchange.leaf.verdict, exchange.sequence)))
    }
}

impl Nodes for Ledger {
    fn node(&self, level: u8, index: u64) -> Option<Digest> {
        let bytes = self.database.get(NODES, node_key(level, index)).ok()??;
        Digest::from_slice(&bytes)
    }
}

fn put_applied(ops: &mut Ops, applied: &Applied) {
    ops.put(META, STATE, applied.state.to_bytes());
    ops.put(BLOCKS, applied.block.sequence.to_be_bytes(), applied.block.to_bytes());
    put_parts(ops, &applied.exchanges, &applied.nodes);
}

fn put_parts(ops: &mut Ops, exchanges: &[Exchange], nodes: &[(u8, u64, Digest)]) {
    for exchange in exchanges {
        ops.put(EXCHANGES, exchange.leaf.exchange.as_bytes(), exchange.to_bytes());
    }
    for (level, index, hash) in nodes {
        ops.put(NODES, node_key(*level, *index), hash.as_bytes().to_vec());
    }
}

fn node_key(level: u8, index: u64) -> Vec<u8> {
    [&[level][..], &index.to_be_bytes()].concat()
}

fn token_key(exchange: &ExchangeId, verdict: Verdict) -> Vec<u8> {
    [&exchange.as_bytes()[..], &[verdict.code()]].concat()
}

fn parse<T>(database: &Database, record: Result<T, crate::ledger::Error>) -> Result<T, Error> {
    record.map_err(|error| Error::Corrupt { path: database.path().to_owned(), reason: error.to_string() })
}
