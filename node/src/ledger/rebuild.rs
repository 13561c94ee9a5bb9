//! Rebuilding the ledger from a snapshot's records, one by one, which come from a sender that may lie.
//!
//! # Specification
//!
//! First comes the [`State`] that the rest must lead to; then, entry by entry, its [`Block`] followed at once by its
//! exchanges in the order of its leaves. An exchange may come without its signed bytes if by the state's time they
//! need not be kept any more.
//!
//! # Relies on
//!
//! The caller asks whether a quorum has signed the log that the state says to have ([`Rebuild::aim`]), before it takes
//! anything else; and it sees to it that each exchange comes once for each round, from the first on, because nothing here
//! grows with the ledger.
//!
//! # Guarantees
//!
//! What comes out is that very log: every leaf stands in its place, in a block whose size and root are those of a log
//! made of these leaves; every exchange has the leaf that its block has, and the NRO and evidence that its leaf names
//! ([`Rebuild::finish`]; `a_snapshot_with_any_record_changed_is_refused`). There are no more records than the state says
//! (`more_than_the_state_says_is_refused_at_once`).

use std::collections::VecDeque;

use fairpost_proto::ids::{Digest, Span, Timestamp};
use fairpost_proto::leaf::{Leaf, Round};
use fairpost_proto::merkle::Frontier;

use super::{Block, Error, Exchange, State};

/// A log as it stood after an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// The entry's sequence.
    pub sequence: u64,
    /// How many leaves.
    pub size: u64,
    /// Its root.
    pub root: Digest,
}

impl From<&Block> for Root {
    fn from(block: &Block) -> Self {
        Self { sequence: block.sequence, size: block.log_size, root: block.log_root }
    }
}

/// Records on their way in.
pub struct Rebuild {
    state: State,
    retention: Span,
    log: Frontier,
    last: (u64, u64, Timestamp),
    /// The leaves of the last block whose exchanges have not come yet.
    awaited: VecDeque<Leaf>,
    place: u32,
}

/// A block that holds so far.
pub struct Verified {
    /// The block.
    pub block: Block,
    /// The evidence log's nodes that it completed.
    pub nodes: Vec<(u8, u64, Digest)>,
}

fn wrong(problem: String) -> Error {
    Error::Inconsistent(problem)
}

impl Rebuild {
    /// Begins with the state, which comes first. Signed bytes are kept for `retention`.
    ///
    /// # Errors
    ///
    /// If it is no state.
    pub fn toward(state: &[u8], retention: Span) -> Result<Self, Error> {
        let state = State::parse(state)?;
        let (log, awaited) = (Frontier::new(), VecDeque::new());
        Ok(Self { state, retention, log, last: (0, 0, Timestamp::EPOCH), awaited, place: 0 })
    }

    /// The state that the rest leads to.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The log that the rest leads to.
    pub fn aim(&self) -> Root {
        Root { sequence: self.state.sequence, size: self.state.log.size(), root: self.state.log.root() }
    }

    /// Takes the next block.
    ///
    /// # Errors
    ///
    /// If it does not follow, or is not what it says.
    pub fn block(&mut self, bytes: &[u8]) -> Result<Verified, Error> {
        let block = Block::parse(bytes)?;
        let (sequence, index, time) = self.last;
        self.complete()?;
        if block.sequence != sequence.saturating_add(1) {
            return Err(wrong(format!("block {} follows block {sequence}", block.sequence)));
        }
        if block.sequence > self.state.sequence {
            return Err(wrong(format!(
                "block {} comes, and the state says that {} is the last",
                block.sequence, self.state.sequence
            )));
        }
        if (sequence > 0 && block.index <= index) || block.time < time || block.time > self.state.time {
            return Err(wrong(format!(
                "block {} has index {} and time {}, after {index} and {time}, up to {}",
                block.sequence, block.index, block.time, self.state.time
            )));
        }
        let mut nodes = Vec::new();
        for leaf in &block.leaves {
            if leaf.round == Round::FIRST && leaf.time != block.time {
                return Err(wrong(format!(
                    "exchange {} has time {}, and its block {}",
                    leaf.exchange, leaf.time, block.time
                )));
            }
            nodes.extend(self.log.push(leaf.hash()));
        }
        let (size, root) = (self.log.size(), self.log.root());
        if (block.log_size, block.log_root) != (size, root) {
            return Err(wrong(format!(
                "block {} says log size {} and root {}, its leaves make {size} and {root}",
                block.sequence, block.log_size, block.log_root
            )));
        }
        self.last = (block.sequence, block.index, block.time);
        self.awaited = block.leaves.iter().copied().collect();
        self.place = 0;
        Ok(Verified { block, nodes })
    }

    /// Takes the next exchange of the last block.
    ///
    /// # Errors
    ///
    /// If it is not the one that comes next, or is not what its leaf says.
    pub fn exchange(&mut self, bytes: &[u8]) -> Result<Exchange, Error> {
        let exchange = Exchange::parse(bytes)?;
        let id = exchange.leaf.exchange;
        let (expected, found) = ((self.last.0, self.place), (exchange.sequence, exchange.place));
        if expected != found {
            return Err(wrong(format!(
                "exchange {id} says block and place {found:?}, expected {expected:?}"
            )));
        }
        let leaf = self.awaited.pop_front();
        if leaf != Some(exchange.leaf) {
            return Err(wrong(format!(
                "exchange {id} has the leaf {:?}, and its block has {leaf:?}",
                exchange.leaf
            )));
        }
        self.place = self.place.saturating_add(1);
        match exchange.dropped {
            None => {
                let evidence = exchange.evidence.as_deref().map(Digest::of);
                let (expected, found) =
                    ((exchange.leaf.nro, exchange.leaf.evidence), (Digest::of(&exchange.nro), evidence));
                if expected != found {
                    return Err(wrong(format!(
                        "exchange {id} has the evidence {found:?}, and its leaf names {expected:?}"
                    )));
                }
            }
            Some(when) => {
                let due = exchange.leaf.time.plus(self.retention);
                let bytes = exchange.nro.len().saturating_add(exchange.evidence.as_ref().map_or(0, Vec::len));
                if bytes > 0 || when < due || when > self.state.time {
                    return Err(wrong(format!(
                        "exchange {id} comes without its evidence, dropped at {when}, and it is to be kept until {due}; \
                         the state is of {}",
                        self.state.time
                    )));
                }
            }
        }
        Ok(exchange)
    }

    /// Says that nothing more comes.
    ///
    /// # Errors
    ///
    /// If something is missing.
    pub fn finish(self) -> Result<State, Error> {
        self.complete()?;
        let found = Root { sequence: self.last.0, size: self.log.size(), root: self.log.root() };
        let expected = self.aim();
        // Without any entry there is no time either.
        if expected != found || self.last.2 != self.state.time {
            return Err(wrong(format!(
                "the state says {expected:?} at {}, the blocks make {found:?} at {}",
                self.state.time, self.last.2
            )));
        }
        Ok(self.state)
    }

    fn complete(&self) -> Result<(), Error> {
        match self.awaited.front() {
            None => Ok(()),
            Some(leaf) => Err(wrong(format!("exchange {} has a leaf and no record", leaf.exchange))),
        }
    }
}
