//! How far a run is: told now and then, so that one that is ended from outside has told something, and said when it takes too
//! long.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often it is told.
const OFTEN: Duration = Duration::from_secs(20);

/// How far a run is.
pub(super) struct Progress {
    began: Instant,
    /// What it does, or waits for.
    at: Mutex<String>,
    pub(super) faults: AtomicUsize,
    pub(super) exchanges: AtomicUsize,
    pub(super) operations: AtomicUsize,
    /// Exchanges that the end has looked at.
    pub(super) looked: AtomicUsize,
}

impl Progress {
    pub(super) fn begin() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            at: Mutex::new("starting".to_owned()),
            faults: AtomicUsize::default(),
            exchanges: AtomicUsize::default(),
            operations: AtomicUsize::default(),
            looked: AtomicUsize::default(),
        })
    }

    /// What it does from now on.
    pub(super) fn now(&self, at: impl Into<String>) {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = at.into();
    }

    /// Tells for as long as nobody drops it.
    pub(super) async fn tell(&self) {
        loop {
            tokio::time::sleep(OFTEN).await;
            eprintln!("nemesis: {self}");
        }
    }
}

pub(super) fn count(counter: &AtomicUsize) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [&self.faults, &self.exchanges, &self.operations, &self.looked];
        let [faults, exchanges, operations, looked] = counts.map(|counter| counter.load(Ordering::Relaxed));
        let at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        write!(
            f,
            "{} s, {faults} faults, {exchanges} exchanges with {operations} answers, {looked} looked at in the end; at: {at}",
            self.began.elapsed().as_secs()
        )
    }
}
