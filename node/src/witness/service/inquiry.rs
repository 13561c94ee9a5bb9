//! The question after a start: what do others hold that this server has signed?

use std::sync::Arc;
use std::time::Duration;

use fairpost_proto::chain;
use fairpost_proto::ids::KeyId;
use fairpost_proto::quorum::Quorum;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tracing::{debug, error, info, warn};

use super::{Error, Inner, Standing};
use crate::witness::metrics;
use crate::witness::newest::{self, Numbered};
use crate::witness::rules::{self, Start};

/// How long after a member gave no answer it is asked again, the first time; each time after that, twice as long.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest that it takes until it is asked again.
const LONGEST: Duration = Duration::from_millis(500);

/// A member, and what it holds.
type Told = (u16, Option<Vec<u8>>);

/// How a server with an open share stands before anybody has told anything.
pub(super) fn begin(quorum: Quorum) -> Standing {
    // Nothing told is nothing newer.
    match rules::start(0, &[], quorum) {
        Start::Waits { told, needed } => Standing::Waits { told, needed },
        _ => Standing::Open,
    }
}

impl Inner {
    /// Whether it is not known yet if this server may sign.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(*self.standing.lock(), Standing::Waits { .. })
    }

    /// Asks all others, each until it answers: also those that are not waited for may know better.
    pub(super) fn inquire(&self) -> FuturesUnordered<BoxFuture<'static, Told>> {
        let answers = FuturesUnordered::new();
        if !self.is_waiting() {
            return answers;
        }
        let own = self.options.index;
        for member in (0..self.options.view.quorum().n() as u16).filter(|member| *member != own) {
            let peers = Arc::clone(&self.options.peers);
            let asking = async move {
                let mut pause = PAUSE;
                loop {
                    match peers.newest(member).await {
                        Ok(newest) => return (member, newest),
                        Err(problem) => debug!(member, problem, "a member does not tell what it holds"),
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST);
                }
            };
            answers.push(Box::pin(asking) as BoxFuture<'static, Told>);
        }
        answers
    }

    /// Takes a member's answer; `true` if this server may sign from now on, and might not before.
    pub(super) fn hear(&self, member: u16, newest: Option<Vec<u8>>) -> Result<bool, Error> {
        let number = newest.map_or(0, |bytes| self.number_of(member, &bytes));
        let own = self.store.number()?;
        let all: Vec<u64> = {
            let mut told = self.told.lock();
            told.insert(member, number);
            told.values().copied().collect()
        };
        if let Some(found) = all.iter().copied().max().filter(|found| *found > own) {
            self.close(own, found);
            return Ok(false);
        }
        let mut standing = self.standing.lock();
        if !matches!(*standing, Standing::Waits { .. }) {
            return Ok(false);
        }
        match rules::start(own, &all, self.options.view.quorum()) {
            Start::Waits { told, needed } => *standing = Standing::Waits { told, needed },
            Start::RolledBack { .. } => {}
            Start::Cleared => {
                *standing = Standing::Open;
                metrics::share_usable(true);
                info!(own, "no member holds anything newer of this node: it votes and signs");
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The number of what a member shows; 0 if this server did not sign it.
    fn number_of(&self, member: u16, bytes: &[u8]) -> u64 {
        let own = self.own_key();
        let checked = Numbered::parse(bytes).map_err(newest::Error::from);
        match checked.and_then(|object| object.check(&self.options.view, own)) {
            Ok(number) => number,
            Err(problem) => {
                warn!(member, %problem, "a member shows what this node never signed");
                0
            }
        }
    }

    /// Keeps an object that a member has signed, and that was checked. If it is this server's own, and newer than anything that
    /// it knows of, it was rolled back.
    pub(super) fn note(&self, signer: KeyId, number: u64, bytes: &[u8]) -> Result<(), Error> {
        if signer != self.own_key() {
            self.store.note(signer, number, bytes);
            return Ok(());
        }
        let own = self.store.number()?;
        if number > own {
            self.close(own, number);
        }
        Ok(())
    }

    fn own_key(&self) -> KeyId {
        chain::key_id(&self.options.identity.verifying_key())
    }

    /// This server was rolled back: it signs nothing from now on.
    fn close(&self, own: u64, found: u64) {
        let mut standing = self.standing.lock();
        if !matches!(*standing, Standing::Open | Standing::Waits { .. }) {
            return;
        }
        *standing = Standing::RolledBack { own, found };
        *self.unwritten.lock() = Some((own, found));
        metrics::share_usable(false);
        error!(
            own,
            found,
            "this node was rolled back: a member holds what it signed under a number that it does not know of; it serves and \
             signs nothing"
        );
    }

    /// Keeps it so after a restart.
    pub(super) async fn write_roll_back(&self) -> Result<(), Error> {
        let unwritten = self.unwritten.lock().take();
        if let Some((own, found)) = unwritten {
            self.store.roll_back(own, found).await?;
        }
        Ok(())
    }

    /// Counts the own votes on entries that were taken up before this server might sign; gives their sequences.
    pub(super) fn add_own_votes(&self) -> Result<Vec<u64>, Error> {
        let sequences: Vec<u64> = self.tallies.lock().keys().copied().collect();
        for sequence in &sequences {
            let Some(block) = self.options.ledger.block(*sequence)? else { continue };
            let Some(own) = self.sign(&block)? else { continue };
            if let Some(tally) = self.tallies.lock().get_mut(sequence) {
                tally.add_own(&self.options.view, own);
            }
        }
        Ok(sequences)
    }
}

#[cfg(test)]
mod tests;
