//! Dropping signed bytes that need not be kept any more.
//!
//! # Specification
//!
//! NRO and evidence of an exchange are kept until the ledger's time is the verdict's time and the view's retention. Then
//! they are dropped, in small steps. Leaf, verdict, votes, certificates and tokens stay: the verdict goes on being proved
//! by its token, which can also be made later, from the certificate.
//!
//! The ledger's time, not this node's clock, says what is due; so a clock that is wrong loses nothing.

use std::time::Duration;

use fairpost_proto::ids::Span;
use metrics::{counter, describe_counter};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::store::Ledger;
use crate::witness::service::halted;

/// How often it is looked whether something is due.
const EVERY: Duration = Duration::from_secs(1);
/// How many exchanges are looked at in one step.
const STEP: usize = 256;

/// The task that drops.
pub struct Service {
    ledger: Ledger,
    retention: Span,
}

impl Service {
    /// Drops from this ledger what is older than `retention`.
    pub const fn new(ledger: Ledger, retention: Span) -> Self {
        Self { ledger, retention }
    }

    /// Runs until `stop`.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = halted(&mut stop) => return,
                _ = ticks.tick() => {}
            }
            let mut dropped = 0_usize;
            // One step after the other: what waits for the ledger comes in between.
            loop {
                match self.ledger.drop_due(self.retention, STEP).await {
                    Ok(step) => {
                        dropped = dropped.saturating_add(step.dropped);
                        if !step.more {
                            break;
                        }
                    }
                    Err(error) => {
                        // What the writer meets stops the node by itself.
                        warn!(%error, "signed bytes that are due were not dropped");
                        break;
                    }
                }
            }
            if dropped > 0 {
                info!(dropped, "signed bytes were dropped: the time for which they are kept is over");
                counter!("fairpost_evidence_dropped_total").increment(dropped as u64);
            }
        }
    }
}

/// Describes this file's metrics to the exporter.
pub fn describe() {
    describe_counter!(
        "fairpost_evidence_dropped_total",
        "Exchanges whose signed bytes were dropped, because the view's retention was over."
    );
}
