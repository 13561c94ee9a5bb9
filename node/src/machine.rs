//! The shell around the ledger: takes entries from the consensus layer, has them decided, and writes what they did.
//!
//! It has no rules: [`crate::ledger`] decides, [`crate::store`] keeps.

use std::sync::Arc;

use bytes::Bytes;
use fairpost_api::v1::command_result::Kind;
use fairpost_api::v1::{CommandResult, ForwardResponse};
use fairpost_proto::entry::Entry;
use fairpost_proto::ids::Verdict;
use fairpost_proto::view::View;
use prost::Message as _;
use tracing::warn;

use crate::consensus::machine::{Applied, Committed, Error, Machine, Records, Sink};
use crate::ledger::{self, Outcome, Rebuild};
use crate::store::{Ledger, Reached, Record};

/// The ledger as the machine that Raft's log drives.
#[derive(Clone)]
pub struct LedgerMachine {
    view: Arc<View>,
    ledger: Ledger,
}

impl LedgerMachine {
    /// The machine over this ledger.
    pub const fn new(view: Arc<View>, ledger: Ledger) -> Self {
        Self { view, ledger }
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

    fn snapshot(&self, sink: &mut Sink<'_>) -> Result<Applied, Error> {
        let read = self.ledger.records(&mut |record| {
            let (kind, bytes) = match record {
                Record::Block(bytes) => (BLOCK, bytes),
                Record::Exchange(bytes) => (EXCHANGE, bytes),
                Record::State(bytes) => (STATE, bytes),
            };
            sink([&[kind][..], bytes].concat().into()).map_err(Failed)
        });
        let Reached { position, membership } = read.map_err(|Failed(error)| error)?;
        Ok(Applied { position: position.map(Bytes::from), membership: membership.map(Bytes::from) })
    }

    async fn install(&self, applied: Applied, records: Records) -> Result<(), Error> {
        let refused = |error: ledger::Error| Error::new("taking a snapshot", error);
        let mut rebuild = Rebuild::default();
        let mut state = None;
        for record in records {
            match record.split_first() {
                Some((&BLOCK, bytes)) if state.is_none() => rebuild.block(bytes).map_err(refused)?,
                Some((&EXCHANGE, bytes)) if state.is_none() => rebuild.exchange(bytes).map_err(refused)?,
                Some((&STATE, bytes)) if state.is_none() => state = Some(bytes.to_vec()),
                _ => {
                    return Err(Error::new(
                        "taking a snapshot",
                        "a record of no known kind, or behind the state",
                    ));
                }
            }
        }
        let rebuilt = match state {
            Some(state) => rebuild.finish(&state).map_err(refused)?,
            None => Rebuild::empty(),
        };
        let replaced = self.ledger.replace(applied.position, applied.membership, rebuilt).await;
        replaced.map_err(|error| Error::new("writing a snapshot", error))
    }
}

const BLOCK: u8 = 1;
const EXCHANGE: u8 = 2;
const STATE: u8 = 3;

/// Either side's failure while a snapshot is read.
struct Failed(Error);

impl From<crate::store::Error> for Failed {
    fn from(error: crate::store::Error) -> Self {
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
    }
}
