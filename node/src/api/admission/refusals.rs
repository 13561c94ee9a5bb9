//! Who was refused lately. Pure: the time is passed in.
//!
//! A refusal comes at once, and says when to ask again. Who asks again earlier gets the next one when that time has come,
//! and not before: whoever does not wait is made to wait, and can't keep a node busy with saying no.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Remembers refusals.
#[derive(Debug)]
pub(crate) struct Refusals<K> {
    delay: Duration,
    most: usize,
    until: HashMap<K, Instant>,
}

impl<K: Eq + Hash> Refusals<K> {
    /// Who is refused should wait for `delay`; at most so many are remembered.
    pub(crate) fn new(delay: Duration, most: usize) -> Self {
        Self { delay, most, until: HashMap::new() }
    }

    /// How long the refusal of this client's request should be held back.
    pub(crate) fn refuse(&mut self, client: K, now: Instant) -> Duration {
        if let Some(until) = self.until.get(&client).filter(|until| **until > now) {
            return until.duration_since(now);
        }
        if self.until.len() >= self.most {
            self.until.retain(|_, until| *until > now);
        }
        if self.until.len() < self.most {
            self.until.insert(client, now + self.delay);
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_wait_is_made_to_wait() {
        let delay = Duration::from_millis(200);
        let mut refusals = Refusals::new(delay, 2);
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        assert_eq!(refusals.refuse(1, start), Duration::ZERO);
        assert_eq!(refusals.refuse(1, after(50)), Duration::from_millis(150));
        assert_eq!(refusals.refuse(1, after(150)), Duration::from_millis(50), "it does not add up");
        assert_eq!(refusals.refuse(2, after(150)), Duration::ZERO, "nobody pays for another");
        assert_eq!(refusals.refuse(1, after(200)), Duration::ZERO, "who waited has its answer at once");
    }

    #[test]
    fn memory_is_bounded() {
        let mut refusals = Refusals::new(Duration::from_millis(200), 2);
        let start = Instant::now();
        for client in 0..100 {
            refusals.refuse(client, start);
        }
        assert_eq!(refusals.until.len(), 2);
        refusals.refuse(100, start + Duration::from_secs(1));
        assert_eq!(refusals.until.len(), 1, "what is over is forgotten");
    }
}
