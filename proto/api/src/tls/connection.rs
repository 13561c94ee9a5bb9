//! What a server remembers of a connection while it is open.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fairpost_proto::ids::KeyId;

/// How many keys of parties are remembered for one connection; the oldest gives way.
const KEYS: usize = 256;

/// A connection: how busy it is, and who has proven to sign over it.
#[derive(Debug)]
pub struct Connection {
    number: u64,
    usage: Mutex<Usage>,
    proven: Mutex<VecDeque<KeyId>>,
    cut: AtomicBool,
}

#[derive(Debug)]
struct Usage {
    /// Requests that came and are not answered.
    open: usize,
    /// Whether any came.
    begun: bool,
    /// When the last one ended, or the connection was made.
    since: Instant,
}

impl Connection {
    /// A connection that was made now.
    pub fn new() -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let usage = Usage { open: 0, begun: false, since: Instant::now() };
        Arc::new(Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            usage: Mutex::new(usage),
            proven: Mutex::new(VecDeque::new()),
            cut: AtomicBool::new(false),
        })
    }

    /// No other connection of this process has this number.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Notes that a request has come. It is under way until what this gives is dropped; a connection with none under
    /// way for long is cut.
    pub fn begin(self: &Arc<Self>) -> UnderWay {
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        usage.open += 1;
        usage.begun = true;
        UnderWay(Arc::clone(self))
    }

    /// Notes that a request that came over this connection was signed by `key`, and the signature holds.
    pub fn prove(&self, key: KeyId) {
        let mut proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        if proven.contains(&key) {
            return;
        }
        if proven.len() >= KEYS {
            proven.pop_front();
        }
        proven.push_back(key);
    }

    /// Whether `key` has signed a request that came over this connection.
    pub fn has_proven(&self, key: &KeyId) -> bool {
        self.proven.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    /// Whether any key has.
    pub fn has_proven_any(&self) -> bool {
        !self.proven.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Ends the connection, with all that is under way on it, when it is next looked at: at the latest when an answer goes
    /// out.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    /// Whether it is to end.
    pub fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// How much longer the connection may stay without a request; none: its time is over.
    pub(super) fn may_idle(&self, first: Duration, next: Duration) -> Option<Duration> {
        let usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = if usage.begun { next } else { first };
        if usage.open > 0 {
            return Some(limit);
        }
        limit.checked_sub(usage.since.elapsed()).filter(|left| !left.is_zero())
    }
}

/// A request that is under way.
#[derive(Debug)]
pub struct UnderWay(Arc<Connection>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut usage = self.0.usage.lock().unwrap_or_else(PoisonError::into_inner);
        usage.open = usage.open.saturating_sub(1);
        usage.since = Instant::now();
    }
}
