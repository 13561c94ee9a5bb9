//! What an entry does to the ledger.

use std::collections::HashMap;

use fairpost_proto::cose;
use fairpost_proto::entry::{Command, Demand, Entry, Opening};
use fairpost_proto::evidence::{self, Checked};
use fairpost_proto::ids::{ClusterId, Digest, ExchangeId, KeyId, Timestamp, Verdict};
use fairpost_proto::leaf::{Leaf, Round};
use fairpost_proto::view::View;

use super::{Block, Decision, Exchange, State, decide, round};

/// The exchanges decided so far.
pub trait Exchanges {
    /// Why they can't be read.
    type Error;

    /// How an exchange stands, if it was decided.
    fn standing(&self, exchange: &ExchangeId) -> Result<Option<Standing>, Self::Error>;
}

/// How a decided exchange stands: what its last round says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The verdict, provisional until it has a token.
    pub verdict: Verdict,
    /// The entry that decided it.
    pub sequence: u64,
    /// The round.
    pub round: Round,
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
    /// It opens no round.
    NotOpened(round::Error),
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
    let next =
        State { sequence: head.sequence, head: entry.head.digest(), time: head.time, log: state.log.clone() };
    let (fresh, decided, nodes) = (HashMap::new(), Vec::new(), Vec::new());
    let mut batch = Batch { view, exchanges, state: next, fresh, decided, nodes };
    let mut outcomes = Vec::with_capacity(entry.commands.len());
    for command in &entry.commands {
        outcomes.push(match command {
            Command::Party(demand) => batch.decide(demand)?,
            Command::Round(opening) => batch.open(opening)?,
        });
    }
    let Batch { state, decided, nodes, .. } = batch;
    let block = Block {
        sequence: head.sequence,
        index,
        time: head.time,
        log_size: state.log.size(),
        log_root: state.log.root(),
        leaves: decided.iter().map(|exchange| exchange.leaf).collect(),
    };
    Ok(Ok(Applied { state, outcomes, block, exchanges: decided, nodes }))
}

/// An entry that is being applied.
struct Batch<'a, E> {
    view: &'a View,
    exchanges: &'a E,
    state: State,
    /// What the entry has decided so far.
    fresh: HashMap<ExchangeId, Standing>,
    decided: Vec<Exchange>,
    nodes: Vec<(u8, u64, Digest)>,
}

impl<E: Exchanges> Batch<'_, E> {
    fn decide(&mut self, demand: &Demand) -> Result<Outcome, E::Error> {
        let time = self.state.time;
        let checked = match check(self.view, demand, time) {
            Ok(checked) => checked,
            Err(error) => return Ok(Outcome::Invalid(error)),
        };
        let standing = match self.fresh.get(&checked.exchange) {
            Some(standing) => Some(*standing),
            None => self.exchanges.standing(&checked.exchange)?,
        };
        let verdict = standing.map(|standing| standing.verdict);
        Ok(match decide(self.view.parameters(), verdict, &checked, time) {
            Decision::Decided(leaf) => self.add(leaf, &demand.nro, demand.evidence.as_deref()),
            Decision::Stands(verdict) => {
                let sequence = standing.map_or(self.state.sequence, |standing| standing.sequence);
                Outcome::Decided { verdict, sequence }
            }
            Decision::TooLate { .. } => Outcome::TooLate { time },
            Decision::TooEarly { .. } => Outcome::TooEarly { time },
        })
    }

    fn open(&mut self, opening: &Opening) -> Result<Outcome, E::Error> {
        let nro = match round::nro(opening) {
            Ok(nro) => nro,
            Err(error) => return Ok(Outcome::NotOpened(error)),
        };
        let exchange = nro.payload().terms.exchange();
        if self.fresh.contains_key(&exchange) {
            return Ok(Outcome::NotOpened(round::Error::SameEntry(exchange)));
        }
        let Some(standing) = self.exchanges.standing(&exchange)? else {
            return Ok(Outcome::NotOpened(round::Error::NoFirst(exchange)));
        };
        Ok(match round::open(self.view, &nro, standing.round, opening) {
            Ok(leaf) => self.add(leaf, &opening.nro, opening.evidence(leaf.verdict)),
            Err(error) => Outcome::NotOpened(error),
        })
    }

    fn add(&mut self, leaf: Leaf, nro: &[u8], evidence: Option<&[u8]>) -> Outcome {
        let (verdict, sequence) = (leaf.verdict, self.state.sequence);
        self.nodes.extend(self.state.log.push(leaf.hash()));
        self.fresh.insert(leaf.exchange, Standing { verdict, sequence, round: leaf.round });
        self.decided.push(Exchange {
            leaf,
            sequence,
            place: self.decided.len() as u32,
            nro: nro.to_vec(),
            evidence: evidence.map(<[u8]>::to_vec),
            dropped: None,
        });
        Outcome::Decided { verdict, sequence }
    }
}

fn check(view: &View, demand: &Demand, time: Timestamp) -> Result<Checked, evidence::Error> {
    evidence::check(view, demand.verdict, &demand.nro, demand.evidence.as_deref(), time)
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
