//! The shell around the ledger: takes entries from the consensus layer, has them decided, and writes what they did.
//!
//! It has no rules: [`crate::ledger`] decides, [`crate::store`] keeps.

mod intake;

use std::sync::Arc;

use bytes::Bytes;
use fairpost_api::v1::command_result::Kind;
use fairpost_api::v1::{CommandResult, ForwardResponse};
use fairpost_proto::entry::Entry;
use fairpost_proto::ids::Verdict;
use fairpost_proto::view::View;
use futures::TryFutureExt as _;
use futures::future::BoxFuture;
use prost::Message as _;
use tracing::warn;

#[cfg(test)]
pub(crate) use self::intake::Reading;
use self::intake::{BLOCK, EXCHANGE, STATE};
pub use self::intake::{Error as IntakeError, Vouchers, describe};
use crate::consensus::machine::{
    Applied, Committed, Error, Machine, Records, Sink, Snapshot, Snapshots, Source, Staged,
};
use crate::ledger::{self, Outcome};
use crate::store::{self, Ledger, Record};

/// The ledger as the machine that Raft's log drives.
#[derive(Clone)]
pub struct LedgerMachine {
    view: Arc<View>,
    ledger: Ledger,
    vouchers: Arc<dyn Vouchers>,
}

impl LedgerMachine {
    /// The machine over this ledger; snapshots are vouched for by these.
    pub const fn new(view: Arc<View>, ledger: Ledger, vouchers: Arc<dyn Vouchers>) -> Self {
        Self { view, ledger, vouchers }
    }

    async fn apply_one(&self, entry: Committed) -> Result<Bytes, Error> {
        let Committed { index, proposal, position, membership } = entry;
        let Some(proposal) = proposal else {
            self.commit(position, membership, None).await?;
            return Ok(Bytes::new());
        };
        let this = self.clone();
        // Checking signatures takes a while: not on the threads that keep the network going.
        let decided = tokio::task::spawn_blocking(move || this.decide(&proposal, index))
            .await
            .map_err(|error| Error::new("deciding an entry", error))??;
        let (applied, results) = match decided {
            Ok(applied) => {
                let results =
                    applied.outcomes.iter().map(|outcome| result(outcome, applied.block.sequence)).collect();
                (Some(applied), results)
            }
            Err(commands) => (None, vec![of_kind(Kind::Void); commands]),
        };
        self.commit(position, membership, applied.as_ref()).await?;
        if let Some(applied) = &applied {
            ledger::metrics::decided(&applied.outcomes);
        }
        Ok(ForwardResponse { results }.encode_to_vec().into())
    }

    /// What the entry does; or, if it changes nothing, for how many commands.
    fn decide(&self, proposal: &[u8], index: u64) -> Result<Result<ledger::Applied, usize>, Error> {
        let entry = match Entry::parse(proposal) {
            Ok(entry) => entry,
            Err(error) => {
                warn!(index, %error, "an entry that is none changes nothing");
                return Ok(Err(0));
            }
        };
        let applied = ledger::apply(&self.view, &self.ledger.state(), &entry, index, &self.ledger)
            .map_err(|error| Error::new("reading the ledger", error))?;
        Ok(applied.map_err(|void| {
            warn!(index, %void, "an entry changes nothing");
            entry.commands.len()
        }))
    }

    async fn commit(
        &self,
        position: Bytes,
        membership: Option<Bytes>,
        applied: Option<&ledger::Applied>,
    ) -> Result<(), Error> {
        let written = self.ledger.commit(position, membership, applied).await;
        written.map_err(|error| Error::new("writing the ledger", error))
    }
}

impl Machine for LedgerMachine {
    async fn apply(&self, entries: Vec<Committed>) -> Result<Vec<Bytes>, Error> {
        let mut outcomes = Vec::with_capacity(entries.len());
        for entry in entries {
            outcomes.push(self.apply_one(entry).await?);
        }
        Ok(outcomes)
    }

    fn applied(&self) -> Result<Applied, Error> {
        let read = |error| Error::new("reading the ledger's position", error);
        let position = self.ledger.position().map_err(read)?.map(Bytes::from);
        let membership = self.ledger.membership().map_err(read)?.map(Bytes::from);
        Ok(Applied { position, membership })
    }

    fn snapshot(&self) -> Result<Snapshot, Error> {
        let records = self.ledger.records().map_err(|error| Error::new("reading the ledger", error))?;
        let (position, membership) = (records.position.clone(), records.membership.clone());
        let applied =
            Applied { position: position.map(Bytes::from), membership: membership.map(Bytes::from) };
        Ok(Snapshot { applied, source: Arc::new(Kept(records)) })
    }

    async fn sync(&self) -> Result<(), Error> {
        self.ledger.probe().await.map_err(|error| Error::new("syncing the ledger", error))
    }
}

/// The ledger's records as a snapshot's: behind a byte that says what each is.
struct Kept(store::Records);

impl Source for Kept {
    fn read(&self, sink: &mut Sink<'_>) -> Result<(), Error> {
        let read = self.0.read(&mut |record| {
            let (kind, bytes) = match record {
                Record::State(bytes) => (STATE, bytes),
                Record::Block(bytes) => (BLOCK, bytes),
                Record::Exchange(bytes) => (EXCHANGE, bytes),
            };
            sink(&[&[kind][..], bytes].concat()).map_err(Failed)
        });
        read.map_err(|Failed(error)| error)
    }
}

impl Snapshots for LedgerMachine {
    fn stage(&self, applied: Applied, records: Records) -> BoxFuture<'_, Result<Box<dyn Staged>, Error>> {
        Box::pin(async move {
            let options =
                intake::Options { view: &self.view, ledger: &self.ledger, vouchers: &*self.vouchers };
            let ready = intake::take(&options, applied, records).await;
            let ready = ready.map_err(|error| Error::new("taking a snapshot", error))?;
            Ok(Box::new(Taken(ready)) as Box<dyn Staged>)
        })
    }
}

/// A verified snapshot beside the ledger.
struct Taken(store::Ready);

impl Staged for Taken {
    fn install(self: Box<Self>) -> BoxFuture<'static, Result<(), Error>> {
        let installed = async move { self.0.install().await };
        Box::pin(installed.map_err(|error| Error::new("installing a snapshot", error)))
    }
}

/// Either side's failure while a snapshot is read.
struct Failed(Error);

impl From<store::Error> for Failed {
    fn from(error: store::Error) -> Self {
        Self(Error::new("reading the ledger", error))
    }
}

fn of_kind(kind: Kind) -> CommandResult {
    CommandResult { kind: kind.into(), ..CommandResult::default() }
}

fn result(outcome: &Outcome, carried: u64) -> CommandResult {
    let answer = |kind, time_millis| CommandResult { sequence: carried, time_millis, ..of_kind(kind) };
    match outcome {
        Outcome::Decided { verdict, sequence } => CommandResult {
            verdict: u32::from(Verdict::code(*verdict)),
            sequence: *sequence,
            ..of_kind(Kind::Decided)
        },
        Outcome::TooLate { time } => answer(Kind::TooLate, time.millis()),
        Outcome::TooEarly { time } => answer(Kind::TooEarly, time.millis()),
        Outcome::Invalid(error) => {
            CommandResult { sequence: carried, reason: error.to_string(), ..of_kind(Kind::Invalid) }
        }
        Outcome::NotOpened(error) => {
            CommandResult { sequence: carried, reason: error.to_string(), ..of_kind(Kind::Invalid) }
        }
    }
}
