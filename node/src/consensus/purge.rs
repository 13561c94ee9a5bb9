//! Purging the log: what it holds no longer than it is needed.
//!
//! # Specification
//!
//! The log is purged when it has more bytes than it keeps, or entries older than it keeps ([`Keep`](super::Keep)); but
//! never beyond
//!
//! - what was applied, and is synced in the machine: a snapshot stands for it;
//! - what somebody on this node still needs of it ([`Needed`]);
//! - a snapshot that is being sent: its receiver goes on from the entry behind it.
//!
//! A follower that is further behind gets a snapshot.
//!
//! # Guarantees
//!
//! The space of purged entries is given back ([`LogStore`](super::LogStore)'s `purge`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{debug, warn};

use super::{Handle, metrics};

/// How often it is looked whether there is too much log.
const EVERY: Duration = Duration::from_secs(1);
/// How long Raft may take for one step.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who else reads the log on this node.
pub trait Needed: Send + Sync + 'static {
    /// The first entry, by index, that is still needed; none if all may go.
    ///
    /// # Errors
    ///
    /// If that can't be told now: nothing is purged then.
    fn needed(&self) -> Result<Option<u64>, String>;
}

/// What it takes.
pub struct Options {
    /// Raft.
    pub consensus: Handle,
    /// What may not go yet.
    pub needed: Arc<dyn Needed>,
}

/// The task that purges.
pub struct Service {
    options: Options,
}

/// What became of one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// There is not too much.
    Enough,
    /// There is too much, but it is needed.
    Needed,
    /// The log was purged up to this index, inclusive.
    Purged(u64),
}

impl Service {
    /// A task over these.
    pub const fn new(options: Options) -> Self {
        Self { options }
    }

    /// Runs until `stop` says so, or Raft stops.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // A sender that is gone is a node that stops.
                _ = stop.wait_for(|stop| *stop) => return,
                _ = ticks.tick() => {}
            }
            match self.look().await {
                Ok(look) => debug!(?look, "looked at the log's size"),
                Err(error) => warn!(error, "the log was not purged"),
            }
            let consensus = &self.options.consensus;
            metrics::log(consensus.inner().log.bytes(), consensus.status().purged_index);
        }
    }

    async fn look(&self) -> Result<Look, String> {
        let inner = self.options.consensus.inner();
        let Some(surplus) = inner.log.surplus() else { return Ok(Look::Enough) };
        if inner.sending.any() {
            return Ok(Look::Needed);
        }
        let Some(applied) = inner.raft.metrics().borrow().last_applied else { return Ok(Look::Needed) };
        let needed = self.options.needed.needed()?.unwrap_or(u64::MAX);
        let Some(last) = needed.checked_sub(1) else { return Ok(Look::Needed) };
        let to = surplus.min(last).min(applied.index);
        let first = inner.log.first_kept().map_err(|error| error.to_string())?;
        if to < first {
            return Ok(Look::Needed);
        }
        let fail = |error: &dyn std::fmt::Display| error.to_string();
        // Building it syncs the machine, which is why it is built though there may be one that would do.
        let trigger = inner.raft.trigger();
        trigger.snapshot().await.map_err(|error| fail(&error))?;
        let wait = || inner.raft.wait(Some(PATIENCE));
        let far = |index: Option<u64>| index.is_some_and(|index| index >= to);
        let made = wait().metrics(|now| far(now.snapshot.map(|id| id.index)), "a snapshot").await;
        made.map_err(|error| fail(&error))?;
        trigger.purge_log(to).await.map_err(|error| fail(&error))?;
        let purged = wait().metrics(|now| far(now.purged.map(|id| id.index)), "a purged log").await;
        purged.map_err(|error| fail(&error))?;
        Ok(Look::Purged(to))
    }
}
