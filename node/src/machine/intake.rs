//! Taking in a snapshot: from records that may lie to a ledger beside the own one, verified and ready.
//!
//! # Specification
//!
//! 1. The first record is the state that the snapshot leads to. Before anything else is read, a quorum must have signed
//!    the log that it says to have, and nothing of it may contradict what is here.
//! 2. All that follows is checked by [`Rebuild`], compared with the own ledger as far as that goes, and put beside it.
//!    So no more is ever written than a quorum has vouched for.
//!
//! # Guarantees
//!
//! - The own ledger is not touched, and what was put beside it is removed if the snapshot is refused (the end-to-end
//!   tests in `snapshots`).
//! - A log that contradicts the own one is a fork: it is refused and alarmed ([`Error::Fork`]).
//! - Nothing here grows with the ledger.

use std::time::Duration;

use bytes::Bytes;
use fairpost_proto::ids::{ExchangeId, Span, Timestamp};
use fairpost_proto::leaf::{Leaf, Round};
use fairpost_proto::view::View;
use futures::future::BoxFuture;
use metrics::{counter, describe_counter};
use tokio::runtime;
use tokio::time::Instant;
use tracing::{error, info};

use crate::clock;
use crate::consensus::machine::{self, Applied, Records};
use crate::ledger::{self, Exchange, Rebuild, Root, State, Verified};
use crate::store::{self, Ledger, Ready, Staging};
use crate::witness::service::Received;
use crate::witness::vouch;

pub(super) const BLOCK: u8 = 1;
pub(super) const EXCHANGE: u8 = 2;
pub(super) const STATE: u8 = 3;

/// How long a quorum's signatures may take to come.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait before the others are asked again.
const RETRY: Duration = Duration::from_millis(200);

/// Whom to ask what the others have signed.
pub trait Vouchers: Send + Sync + 'static {
    /// The votes that the other members hold on an entry, as they came.
    fn votes(&self, sequence: u64) -> BoxFuture<'static, Vec<Received>>;
}

/// Why a snapshot is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A record does not hold.
    #[error("{problem}; it is record {record} of the snapshot")]
    At {
        /// Which one it is: the state is the first.
        record: u64,
        /// What is wrong.
        problem: Box<Error>,
    },
    /// It broke off.
    #[error(transparent)]
    Sender(#[from] machine::Error),
    /// A record does not hold.
    #[error(transparent)]
    Record(#[from] ledger::Error),
    /// A record is not what must come next.
    #[error("record of kind {found:?} found, expected {expected}")]
    Kind {
        /// What must come.
        expected: &'static str,
        /// The kind found, if there is one.
        found: Option<u8>,
    },
    /// Its time lies ahead of this node's clock.
    #[error("the snapshot is of {found}, and here it is {expected}: more than the skew ahead")]
    Ahead {
        /// This node's time.
        expected: Timestamp,
        /// The state's.
        found: Timestamp,
    },
    /// Too few have signed the log that it leads to.
    #[error("{found} members have signed the log {root:?} within {} s, and it takes {expected}", PATIENCE.as_secs())]
    NotVouched {
        /// The log that the snapshot leads to.
        root: Root,
        /// The quorum.
        expected: usize,
        /// How many signatures came.
        found: usize,
    },
    /// An exchange's rounds do not come one after the other, from the first.
    #[error("exchange {exchange} comes with round {found}, after {} rounds", last.map_or(0, Round::get))]
    Round {
        /// The exchange.
        exchange: ExchangeId,
        /// The last round that came.
        last: Option<Round>,
        /// The round found.
        found: Round,
    },
    /// It contradicts what is here.
    #[error("the snapshot has the log {found:?}, and here it is {expected:?}: a fork")]
    Fork {
        /// The own log.
        expected: Root,
        /// The snapshot's.
        found: Root,
    },
    /// The disk fails.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// What it takes to take in a snapshot.
pub(super) struct Options<'a> {
    pub(super) view: &'a View,
    pub(super) ledger: &'a Ledger,
    pub(super) vouchers: &'a dyn Vouchers,
}

/// Takes in a snapshot that claims to have come as far as `applied`.
pub(super) async fn take(options: &Options<'_>, applied: Applied, records: Records) -> Result<Ready, Error> {
    let taken = verify(options, applied, records).await;
    if let Err(Error::Fork { expected, found }) = &taken {
        error!(?expected, ?found, "a member's snapshot contradicts this node's ledger: a fork");
        counter!("fairpost_snapshot_forks_total").increment(1);
    }
    taken
}

async fn verify(options: &Options<'_>, applied: Applied, mut records: Records) -> Result<Ready, Error> {
    let (view, ledger) = (options.view, options.ledger);
    let reading = Reading::begin(records.next().await?.as_deref(), view.parameters().retention)?;
    let (aim, expected, found) = (reading.rebuild.aim(), clock::now(), reading.rebuild.state().time);
    if found > expected.plus(view.parameters().skew) {
        return Err(Error::Ahead { expected, found });
    }
    let own = ledger.state();
    if aim.sequence < own.sequence {
        let expected = Root { sequence: own.sequence, size: own.log.size(), root: own.log.root() };
        return Err(Error::Fork { expected, found: aim });
    }
    // A ledger before its first entry is nobody's claim.
    if aim.sequence > 0 {
        vouched(options, aim).await?;
    }
    info!(
        sequence = aim.sequence,
        leaves = aim.size,
        "a quorum has signed the log of a snapshot: taking it in"
    );
    let mut intake =
        Intake { reading, staging: ledger.stage().await?, ledger: ledger.clone(), own: own.sequence };
    let work = move || {
        let runtime = runtime::Handle::current();
        while let Some(record) = records.blocking_next()? {
            runtime.block_on(intake.record(&record))?;
        }
        Ok(intake)
    };
    let stopped = |_| machine::Error::new("taking a snapshot", "the node stops");
    let Intake { reading, staging, .. } =
        tokio::task::spawn_blocking(work).await.map_err(stopped)?.inspect_err(|error: &Error| {
            info!(%error, "a snapshot is refused");
        })?;
    let state = reading.finish()?;
    Ok(staging.finish(applied.position, applied.membership, state).await?)
}

/// Waits until a quorum has signed this log.
async fn vouched(options: &Options<'_>, root: Root) -> Result<(), Error> {
    let (until, expected) = (Instant::now() + PATIENCE, options.view.quorum().q());
    loop {
        let votes = options.vouchers.votes(root.sequence).await;
        let found = vouch::signers(options.view, &root, &votes).len();
        if found >= expected {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(Error::NotVouched { root, expected, found });
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// A record that holds, by all that came before it.
pub(crate) enum Step {
    /// A block.
    Block(Verified),
    /// An exchange of the last block.
    Exchange(Exchange),
}

/// The records of a snapshot, one by one: what can be said of them without a disk.
pub(crate) struct Reading {
    rebuild: Rebuild,
    /// How many records came.
    records: u64,
}

impl Reading {
    /// Begins with the first record.
    pub(crate) fn begin(first: Option<&[u8]>, retention: Span) -> Result<Self, Error> {
        let rebuild = match first.and_then(<[u8]>::split_first) {
            Some((&STATE, state)) => Rebuild::toward(state, retention).map_err(Error::Record),
            other => Err(Error::Kind { expected: "the state", found: other.map(|(kind, _)| *kind) }),
        };
        Ok(Self { rebuild: rebuild.map_err(|problem| problem.in_record(1))?, records: 1 })
    }

    /// Takes the next record.
    pub(crate) fn next(&mut self, record: &[u8]) -> Result<Step, Error> {
        self.records = self.records.saturating_add(1);
        let step = match record.split_first() {
            Some((&BLOCK, bytes)) => self.rebuild.block(bytes).map(Step::Block).map_err(Error::Record),
            Some((&EXCHANGE, bytes)) => {
                self.rebuild.exchange(bytes).map(Step::Exchange).map_err(Error::Record)
            }
            other => {
                Err(Error::Kind { expected: "a block or an exchange", found: other.map(|(kind, _)| *kind) })
            }
        };
        step.map_err(|problem| problem.in_record(self.records))
    }

    /// Says that nothing more comes.
    pub(crate) fn finish(self) -> Result<State, Error> {
        let records = self.records;
        self.rebuild.finish().map_err(|problem| Error::Record(problem).in_record(records))
    }
}

impl Error {
    fn in_record(self, record: u64) -> Self {
        Self::At { record, problem: Box::new(self) }
    }
}

/// A snapshot half taken in.
struct Intake {
    reading: Reading,
    staging: Staging,
    ledger: Ledger,
    /// The last entry in the own ledger.
    own: u64,
}

impl Intake {
    async fn record(&mut self, record: &Bytes) -> Result<(), Error> {
        match self.reading.next(record)? {
            Step::Block(verified) => {
                let found = Root::from(&verified.block);
                if found.sequence <= self.own
                    && let Some(own) = self.ledger.block(found.sequence)?
                    && Root::from(&own) != found
                {
                    return Err(Error::Fork { expected: Root::from(&own), found });
                }
                Ok(self.staging.put_block(&verified).await?)
            }
            Step::Exchange(exchange) => {
                let Leaf { exchange: id, round: found, .. } = exchange.leaf;
                let last = self.staging.round(&id)?;
                if last.map_or(Some(Round::FIRST), Round::next) != Some(found) {
                    return Err(Error::Round { exchange: id, last, found });
                }
                Ok(self.staging.put_exchange(&exchange).await?)
            }
        }
    }
}

/// Describes this file's metrics to the exporter.
pub fn describe() {
    describe_counter!(
        "fairpost_snapshot_forks_total",
        "Snapshots from other members that contradict this node's ledger."
    );
    counter!("fairpost_snapshot_forks_total").absolute(0);
}
