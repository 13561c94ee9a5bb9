//! What an entry does to the ledger.

use std::collections::HashMap;

use fairpost_proto::cose;
use fairpost_proto::entry::{Command, Entry};
use fairpost_proto::evidence::{self, Checked};
use fairpost_proto::ids::{ClusterId, Digest, ExchangeId, KeyId, Timestamp, Verdict};
use fairpost_proto::view::View;

use super::{Block, Decision, Exchange, State, decide};

/// The exchanges decided so far.
pub trait Exchanges {
    /// Why they can't be read.
    type Error;

    /// The standing verdict of an exchange and the entry that decided it.
    fn standing(&self, exchange: &ExchangeId) -> Result<Option<(Verdict, u64)>, Self::Error>;
}

/// What became of a command.
#[derive(Debug)]
pub enum Outcome {
    /// The exchange has this verdict, by this entry or an earlier one.
    Decided {
        /// The verdict that stands.
        verdict: Verdict,
        /// The entry that decided it.
        sequence: u64,
    },
    /// A receipt at or after the deadline.
    TooLate {
        /// The entry's time.
        time: Timestamp,
    },
    /// An expiry before deadline and grace had passed.
    TooEarly {
        /// The entry's time.
        time: Timestamp,
    },
    /// It does not verify.
    Invalid(evidence::Error),
}

/// Why a whole entry changes nothing.
#[derive(Debug, thiserror::Error)]
pub enum Void {
    /// It is for another cluster.
    #[error("the entry is for cluster {found}, and this is {expected}")]
    Cluster {
        /// This cluster.
        expected: ClusterId,
        /// The entry's.
        found: ClusterId,
    },
    /// It was stamped in another view.
    #[error("the entry is of epoch {found}, and this is epoch {expected}")]
    Epoch {
        /// The view's epoch.
        expected: u32,
        /// The entry's.
        found: u32,
    },
    /// Its sequence does not follow.
    #[error("the entry has sequence {found}, expected {expected}")]
    Sequence {
        /// One above the last.
        expected: u64,
        /// The entry's.
        found: u64,
    },
    /// It follows another entry.
    #[error("the entry follows {found}, and the last head is {expected}")]
    Previous {
        /// Digest of the last head.
        expected: Digest,
        /// The digest that it names.
        found: Digest,
    },
    /// Its time lies before the last entry's.
    #[error("the entry is stamped {found}, before the last one's {last}")]
    Time {
        /// The last entry's time.
        last: Timestamp,
        /// Its time.
        found: Timestamp,
    },
    /// No member stamped it.
    #[error("the entry is stamped by {0}, who is no member")]
    NoMember(KeyId),
    /// Its head's signature does not hold.
    #[error("the entry's head: {0}")]
    Head(#[from] cose::Error),
}

/// What an entry did.
#[derive(Debug)]
pub struct Applied {
    /// Where the ledger stands now.
    pub state: State,
    /// What became of each command, in order.
    pub outcomes: Vec<Outcome>,
    /// The leaves that it added (perhaps none).
    pub block: Block,
    /// The exchanges that it decided, in the order of the leaves.
    pub exchanges: Vec<Exchange>,
    /// The evidence log's nodes that it completed: level, index, hash.
    pub nodes: Vec<(u8, u64, Digest)>,
}

/// Applies `entry`, at `index` of Raft's log, to the ledger at `state`. [`Void`] means that it changes nothing.
///
/// # Errors
///
/// The outer one if the exchanges can't be read: then nothing is known.
pub fn apply<E: Exchanges>(
    view: &View,
    state: &State,
    entry: &Entry,
    index: u64,
    exchanges: &E,
) -> Result<Result<Applied, Void>, E::Error> {
    if let Err(void) = check_head(view, state, entry) {
        return Ok(Err(void));
    }
    let head = entry.head.payload();
    let mut next =
        State { sequence: head.sequence, head: entry.head.digest(), time: head.time, log: state.log.clone() };
    let mut fresh: HashMap<ExchangeId, Verdict> = HashMap::new();
    let mut decided: Vec<Exchange> = Vec::new();
    let mut nodes = Vec::new();
    let mut outcomes = Vec::with_capacity(entry.commands.len());
    for command in &entry.commands {
        let checked = match check(view, command, head.time) {
            Ok(checked) => checked,
            Err(error) => {
                outcomes.push(Outcome::Invalid(error));
                continue;
            }
        };
        let exchange = checked.exchange;
        let standing = match fresh.get(&exchange) {
            Some(verdict) => Some((*verdict, head.sequence)),
            None => exchanges.standing(&exchange)?,
        };
        let verdict = standing.map(|(verdict, _)| verdict);
        outcomes.push(match decide(view.parameters(), verdict, &checked, head.time) {
            Decision::Decided(leaf) => {
                nodes.extend(next.log.push(leaf.hash()));
                fresh.insert(exchange, leaf.verdict);
                decided.push(Exchange {
                    leaf,
                    sequence: head.sequence,
                    place: decided.len() as u32,
                    nro: command.nro.clone(),
                    evidence: command.evidence.clone(),
                    dropped: None,
                });
                Outcome::Decided { verdict: leaf.verdict, sequence: head.sequence }
            }
            Decision::Stands(verdict) => {
                let sequence = standing.map_or(head.sequence, |(_, sequence)| sequence);
                Outcome::Decided { verdict, sequence }
            }
            Decision::TooLate { .. } => Outcome::TooLate { time: head.time },
            Decision::TooEarly { .. } => Outcome::TooEarly { time: head.time },
        });
    }
    let block = Block {
        sequence: head.sequence,
        index,
        time: head.time,
        log_size: next.log.size(),
        log_root: next.log.root(),
        leaves: decided.iter().map(|exchange| exchange.leaf).collect(),
    };
    Ok(Ok(Applied { state: next, outcomes, block, exchanges: decided, nodes }))
}

fn check(view: &View, command: &Command, time: Timestamp) -> Result<Checked, evidence::Error> {
    evidence::check(view, command.verdict, &command.nro, command.evidence.as_deref(), time)
}

fn check_head(view: &View, state: &State, entry: &Entry) -> Result<(), Void> {
    let head = entry.head.payload();
    let (expected, found) = (view.cluster(), head.cluster);
    if expected != found {
        return Err(Void::Cluster { expected, found });
    }
    let (expected, found) = (view.epoch(), head.epoch);
    if expected != found {
        return Err(Void::Epoch { expected, found });
    }
    let (expected, found) = (state.sequence + 1, head.sequence);
    if expected != found {
        return Err(Void::Sequence { expected, found });
    }
    let (expected, found) = (state.head, head.previous);
    if expected != found {
        return Err(Void::Previous { expected, found });
    }
    let (last, found) = (state.time, head.time);
    if found < last {
        return Err(Void::Time { last, found });
    }
    let stamper = *entry.head.signer();
    let (_, member) = view.member_by_key(stamper).ok_or(Void::NoMember(stamper))?;
    Ok(entry.head.verify(&member.identity)?)
}
