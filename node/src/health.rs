//! Whether this node would answer a request: a leader is known, Raft lives, the share works, the disk takes writes.

use std::sync::Arc;
use std::time::Duration;

use fairpost_api::v1::exchange_server::ExchangeServer;
use metrics::gauge;
use parking_lot::Mutex;
use tokio::sync::watch;
use tonic_health::server::HealthReporter;
use tracing::{info, warn};

use crate::api::exchange::ExchangeService;
use crate::consensus;
use crate::store::Ledger;
use crate::witness::service;

/// How often it is looked at.
const EVERY: Duration = Duration::from_millis(200);
/// How long a synced write may take before the disk counts as stuck.
const DISK: Duration = Duration::from_secs(5);
/// Every so many looks, the disk is tried.
const DISK_EVERY: u32 = 10;

/// Why this node is not ready, if it is not.
#[derive(Clone)]
pub struct Health(Arc<Mutex<Option<String>>>);

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Some("it has just started".into()))))
    }
}

impl Health {
    /// Why this node is not ready; none if it is.
    pub fn not_ready(&self) -> Option<String> {
        self.0.lock().clone()
    }

    fn set(&self, not_ready: Option<String>) {
        let mut held = self.0.lock();
        if *held != not_ready {
            match &not_ready {
                None => info!("ready"),
                Some(reason) => warn!(reason, "not ready"),
            }
        }
        *held = not_ready;
    }
}

/// What is looked at.
pub struct Service {
    /// What it finds.
    pub health: Health,
    /// Raft.
    pub consensus: consensus::Handle,
    /// The share.
    pub witness: service::Handle,
    /// The disk.
    pub ledger: Ledger,
    /// Where gRPC health is reported.
    pub reporter: HealthReporter,
}

impl Service {
    /// Runs until `stop`.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut disk = None;
        for look in 0_u32.. {
            if look % DISK_EVERY == 0 {
                disk = self.try_disk().await;
            }
            let not_ready = self.look().await.or_else(|| disk.clone());
            gauge!("fairpost_has_leader").set(if self.consensus.leader().is_some() { 1.0 } else { 0.0 });
            self.report(not_ready.is_none()).await;
            self.health.set(not_ready);
            tokio::select! {
                () = service::halted(&mut stop) => break,
                () = self.consensus.leader_changed(EVERY) => {}
            }
        }
        self.report(false).await;
    }

    async fn look(&self) -> Option<String> {
        if !self.consensus.is_healthy().await {
            return Some("Raft does not answer: it has stopped, and this node's log says why, or it waits for a disk that hangs".into());
        }
        if let Some(reason) = self.consensus.recovering() {
            return Some(reason);
        }
        // What no leader changes comes first.
        if self.witness.is_closed() {
            return self.witness.closed_because();
        }
        if self.consensus.leader().is_none() {
            return Some("no leader is known".into());
        }
        self.witness.closed_because().or_else(|| self.consensus.clock_problem())
    }

    async fn try_disk(&self) -> Option<String> {
        match tokio::time::timeout(DISK, self.ledger.probe()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("the disk has not taken a write for {} s", DISK.as_secs())),
        }
    }

    async fn report(&self, ready: bool) {
        if ready {
            self.reporter.set_serving::<ExchangeServer<ExchangeService>>().await;
            self.reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
        } else {
            self.reporter.set_not_serving::<ExchangeServer<ExchangeService>>().await;
            self.reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
        }
    }
}

/// Describes this file's metrics to the exporter.
pub fn describe() {
    metrics::describe_gauge!("fairpost_has_leader", "1 if this node knows a leader.");
}
