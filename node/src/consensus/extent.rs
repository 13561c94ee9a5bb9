//! How much log there is, by size and age: pure, so that what is purged can be told without reading the log.
//!
//! # Guarantees
//!
//! What is kept has at least [`Keep::bytes`], or all that is younger than [`Keep::time`], whichever is less; it exceeds
//! that by no more than a [`GRAINS`]th and one entry ([`Extent::surplus`]; tests here).

use std::collections::VecDeque;
use std::time::Duration;

use fairpost_proto::ids::Timestamp;

/// How much of the log is kept for nodes that are behind, and for nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// The log is purged when it has more bytes than this.
    pub bytes: u64,
    /// Entries older than this are purged.
    pub time: Duration,
}

impl Default for Keep {
    /// 64 MiB, one day.
    fn default() -> Self {
        Self { bytes: 64 << 20, time: Duration::from_secs(24 * 3600) }
    }
}

/// Into how many parts what is kept is divided: purging one by one entry would cost more than it gives.
const GRAINS: u64 = 16;

/// A run of entries.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: u64,
    last: u64,
    bytes: u64,
    /// When the last of them was appended.
    seen: Timestamp,
}

/// The runs of entries that make up the log.
#[derive(Debug)]
pub(super) struct Extent {
    keep: Keep,
    runs: VecDeque<Run>,
    bytes: u64,
}

impl Extent {
    pub(super) const fn new(keep: Keep) -> Self {
        Self { keep, runs: VecDeque::new(), bytes: 0 }
    }

    /// An entry was appended.
    pub(super) fn add(&mut self, index: u64, bytes: u64, seen: Timestamp) {
        self.bytes = self.bytes.saturating_add(bytes);
        match self.runs.back_mut() {
            Some(run) if run.bytes < self.keep.bytes / GRAINS => {
                (run.last, run.seen) = (index, seen);
                run.bytes = run.bytes.saturating_add(bytes);
            }
            _ => self.runs.push_back(Run { first: index, last: index, bytes, seen }),
        }
    }

    /// The last entry, if there is one.
    pub(super) fn last(&self) -> Option<u64> {
        self.runs.back().map(|run| run.last)
    }

    /// The entries from `index` on are gone.
    pub(super) fn truncate(&mut self, index: u64) {
        while let Some(run) = self.runs.pop_back() {
            if run.first < index {
                // Its bytes are over-counted, which ends when it is purged.
                let last = run.last.min(index.saturating_sub(1));
                self.runs.push_back(Run { last, ..run });
                break;
            }
            self.bytes = self.bytes.saturating_sub(run.bytes);
        }
    }

    /// The entries up to `index`, inclusive, are gone.
    pub(super) fn purge(&mut self, index: u64) {
        while let Some(run) = self.runs.pop_front() {
            if run.last > index {
                self.runs.push_front(run);
                break;
            }
            self.bytes = self.bytes.saturating_sub(run.bytes);
        }
    }

    /// The last entry that need not be kept at the time `now`, if there is one.
    pub(super) fn surplus(&self, now: Timestamp) -> Option<u64> {
        let keep = u64::try_from(self.keep.time.as_millis()).unwrap_or(u64::MAX);
        let (mut left, mut surplus) = (self.bytes, None);
        for run in &self.runs {
            let old = now.millis().saturating_sub(run.seen.millis()) > keep;
            if left <= self.keep.bytes && !old {
                break;
            }
            left = left.saturating_sub(run.bytes);
            surplus = Some(run.last);
        }
        surplus
    }

    /// How much is kept.
    pub(super) const fn keep(&self) -> Keep {
        self.keep
    }

    /// The bytes of all entries, about.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(seconds).unwrap()
    }

    fn extent(bytes: u64, seconds: u64) -> Extent {
        Extent::new(Keep { bytes, time: Duration::from_secs(seconds) })
    }

    #[test]
    fn what_exceeds_the_size_is_surplus_from_the_front() {
        let mut extent = extent(1600, 1000);
        for index in 0..16 {
            extent.add(index, 100, at(1));
        }
        assert_eq!(extent.surplus(at(2)), None, "just as much as is kept");
        extent.add(16, 250, at(1));
        assert_eq!(extent.surplus(at(2)), Some(2), "1850 bytes, three entries less make 1550");
        extent.purge(2);
        assert_eq!((extent.bytes(), extent.surplus(at(2))), (1550, None));
    }

    #[test]
    fn what_is_too_old_is_surplus_whatever_its_size() {
        let mut extent = extent(16, 60);
        extent.add(0, 1, at(100));
        extent.add(1, 1, at(150));
        assert_eq!(extent.surplus(at(160)), None, "just as old as is kept");
        assert_eq!(extent.surplus(at(161)), Some(0));
        assert_eq!(extent.surplus(at(1000)), Some(1));
    }

    #[test]
    fn a_truncated_log_is_no_longer_counted() {
        let mut extent = extent(1600, 60);
        for index in 0..8 {
            extent.add(index, 100, at(1));
        }
        extent.truncate(5);
        assert_eq!(extent.bytes(), 500);
        extent.add(5, 5000, at(1));
        assert_eq!(extent.surplus(at(1)), Some(5), "one entry alone is more than is kept");
        extent.purge(5);
        assert_eq!((extent.bytes(), extent.surplus(at(1))), (0, None));
    }
}
