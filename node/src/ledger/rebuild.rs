//! Rebuilding the ledger from a snapshot's records, which come from a sender that may lie.
//!
//! # Guarantees
//!
//! What comes out is consistent: every leaf stands once, in a block whose size and root are those of a log made of just
//! these leaves; every exchange has the leaf that its block has, and the NRO and evidence that its leaf names
//! ([`Rebuild::finish`]; `a_snapshot_with_any_record_changed_is_refused`). That the final root is one that a quorum has
//! signed is for the caller to ask.

use std::collections::HashMap;

use fairpost_proto::ids::{Digest, ExchangeId};
use fairpost_proto::merkle::Frontier;

use super::{Block, Error, Exchange, State};

/// Records on their way in.
pub struct Rebuild {
    log: Frontier,
    nodes: Vec<(u8, u64, Digest)>,
    blocks: Vec<Block>,
    places: HashMap<ExchangeId, (u64, u32)>,
    exchanges: Vec<Exchange>,
}

/// A ledger as a snapshot's records make it.
pub struct Rebuilt {
    /// Where it stands.
    pub state: State,
    /// Its blocks in order.
    pub blocks: Vec<Block>,
    /// Its exchanges.
    pub exchanges: Vec<Exchange>,
    /// The evidence log's nodes.
    pub nodes: Vec<(u8, u64, Digest)>,
}

impl Default for Rebuild {
    fn default() -> Self {
        let (nodes, blocks, exchanges) = (Vec::new(), Vec::new(), Vec::new());
        Self { log: Frontier::new(), nodes, blocks, places: HashMap::new(), exchanges }
    }
}

fn wrong(problem: String) -> Error {
    Error::Inconsistent(problem)
}

impl Rebuild {
    /// Takes the next block.
    pub fn block(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let block = Block::parse(bytes)?;
        let last = self.blocks.last().map_or(0, |block| block.sequence);
        if block.sequence != last + 1 {
            return Err(wrong(format!("block {} follows block {last}", block.sequence)));
        }
        for (leaf, place) in block.leaves.iter().zip(0..) {
            if self.places.insert(leaf.exchange, (block.sequence, place)).is_some() {
                return Err(wrong(format!("exchange {} has two leaves", leaf.exchange)));
            }
            self.nodes.extend(self.log.push(leaf.hash()));
        }
        let (size, root) = (self.log.size(), self.log.root());
        if (block.log_size, block.log_root) != (size, root) {
            return Err(wrong(format!(
                "block {} says log size {} and root {}, its leaves make {size} and {root}",
                block.sequence, block.log_size, block.log_root
            )));
        }
        self.blocks.push(block);
        Ok(())
    }

    /// Takes the next exchange.
    pub fn exchange(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let exchange = Exchange::parse(bytes)?;
        let id = exchange.leaf.exchange;
        let (expected, found) = (self.places.remove(&id), (exchange.sequence, exchange.place));
        if expected != Some(found) {
            return Err(wrong(format!(
                "exchange {id} says block and place {found:?}, its leaf is at {expected:?}"
            )));
        }
        let block = self.blocks.get((exchange.sequence - 1) as usize);
        let leaf = block.and_then(|block| block.leaves.get(exchange.place as usize));
        if leaf != Some(&exchange.leaf) {
            return Err(wrong(format!("exchange {id} has another leaf than its block")));
        }
        let (nro, evidence) = (Digest::of(&exchange.nro), exchange.evidence.as_deref().map(Digest::of));
        if (nro, evidence) != (exchange.leaf.nro, exchange.leaf.evidence) {
            return Err(wrong(format!("exchange {id} has other evidence than its leaf names")));
        }
        self.exchanges.push(exchange);
        Ok(())
    }

    /// Takes the state, which comes last.
    pub fn finish(self, state: &[u8]) -> Result<Rebuilt, Error> {
        let state = State::parse(state)?;
        if let Some(id) = self.places.keys().next() {
            return Err(wrong(format!("exchange {id} has a leaf and no record")));
        }
        let last = self.blocks.last().map_or(0, |block| block.sequence);
        let (expected, found) = ((last, self.log.root()), (state.sequence, state.log.root()));
        if expected != found {
            return Err(wrong(format!(
                "the state says sequence and root {found:?}, the blocks make {expected:?}"
            )));
        }
        Ok(Rebuilt { state, blocks: self.blocks, exchanges: self.exchanges, nodes: self.nodes })
    }

    /// A ledger before its first entry: what a snapshot with no record makes.
    pub fn empty() -> Rebuilt {
        let (blocks, exchanges, nodes) = (Vec::new(), Vec::new(), Vec::new());
        Rebuilt { state: State::empty(), blocks, exchanges, nodes }
    }
}
