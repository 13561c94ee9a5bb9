//! The members' clocks, and whether this node's own is fit to stamp entries.
//!
//! # Specification
//!
//! Every message between members' Rafts carries its sender's clock. A member votes only for entries that it saw within the
//! skew of the time that the leader stamped them with, and the ledger's time never goes back. So a leader whose clock is
//! wrong would leave every exchange without a certificate, and one whose clock is ahead would drive the ledger's time so far
//! that no later leader could do better until that time has come. Therefore:
//!
//! - A leader that knows so many clocks to differ from its own by more than the skew that fewer than `q` members would
//!   witness its entry stamps none, and sends no sign of life, so that another is elected (`Clocks::unfit`).
//! - So does one whose log has an entry, not yet applied, that lies further ahead of its clock than the skew; nor does it stand for election.
//! - A member grants no vote to a candidate whose clock differs by more than the skew (`Clocks::check_candidate`).
//! - A member does not store an entry that is stamped further ahead of its clock than the skew (`Clocks::latest`,
//!   [`guard::check_times`](super::guard)): whatever a leader says, the ledger's time never runs further ahead
//!   than a majority's clocks and the skew.
//!
//! What was heard of a clock is kept with the moment on this machine's steady clock, so that a jump of the own clock shows
//! at once, and not only with the next message.
//!
//! # Relies on
//!
//! Fewer members than `n − q + 1` have wrong clocks or lie about them: else nobody could be certified anyway.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fairpost_proto::ids::{Span, Timestamp};
use parking_lot::Mutex;

use super::guard::Violation;
use super::log_store::Clock;

/// What was heard longer ago tells nothing.
const FRESH: Duration = Duration::from_secs(5);
/// For how long a clock must seem behind, by messages that may have been under way for as long as a network is away, before
/// that is believed.
const LASTING: Duration = Duration::from_secs(2);

/// How far clocks may differ, and how many must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// How many members there are.
    pub members: usize,
    /// How many of them must witness an entry.
    pub quorum: usize,
    /// How far an entry's time may lie from a witness's clock.
    pub skew: Span,
}

impl Agreement {
    /// Any clock will do.
    pub const NONE: Self = Self { members: 1, quorum: 0, skew: Span::from_millis(u64::MAX) };
}

/// Why this node must not lead just now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Too few members would witness an entry with this node's time.
    #[error(
        "this node's clock shows {now}, and {} more than {skew} away, so that fewer than {quorum} of {members} would witness an entry; \
         set the clock right (NTP)",
        listed(away)
    )]
    Clock {
        /// This node's clock.
        now: Timestamp,
        /// The members whose clocks are away, and how far ahead of this node's in milliseconds.
        away: Vec<(u64, i64)>,
        /// How far is too far.
        skew: Span,
        /// How many must witness an entry.
        quorum: usize,
        /// How many members there are.
        members: usize,
    },
    /// The log has an entry from the future.
    #[error(
        "this node's clock shows {now}, and its log has an entry of {last}, more than {skew} ahead, that no majority took; another leader will replace it"
    )]
    Log {
        /// This node's clock.
        now: Timestamp,
        /// The entry's time.
        last: Timestamp,
        /// How far is too far.
        skew: Span,
    },
    /// Too many members suspect this node.
    #[error("more than f members suspect this node as leader, and follow it no more in this term")]
    Suspected,
}

fn listed(away: &[(u64, i64)]) -> String {
    let each = away.iter().map(|(member, ahead)| format!("member {member} is {ahead:+} ms"));
    each.collect::<Vec<_>>().join(", ")
}

struct Heard {
    /// The member's clock.
    theirs: Timestamp,
    /// At this moment.
    at: Instant,
    /// Or as much earlier; none if that is not known.
    within: Option<Duration>,
    /// Since when all that was heard has been away from this node's clock, if it is.
    away: Option<Instant>,
}

/// This node's clock and what is known of the others'. Clones know the same.
#[derive(Clone)]
pub struct Clocks {
    clock: Clock,
    agreement: Agreement,
    heard: Arc<Mutex<BTreeMap<u64, Heard>>>,
}

impl Clocks {
    pub(super) fn new(clock: Clock, agreement: Agreement) -> Self {
        Self { clock, agreement, heard: Arc::default() }
    }

    /// This node's clock.
    pub(super) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// The latest time of an entry that this node stores.
    pub(super) fn latest(&self) -> Timestamp {
        self.now().plus(self.agreement.skew)
    }

    /// A member's clock showed `theirs` when it sent what came just now; asked for at `asked`, if it was an answer.
    pub(super) fn heard(&self, member: u64, theirs: Timestamp, asked: Option<Instant>) {
        let at = Instant::now();
        let within = asked.map(|asked| at.saturating_duration_since(asked));
        let (now, skew) = (self.now(), self.agreement.skew);
        let mut heard = self.heard.lock();
        let before = heard.get(&member).filter(|before| at.saturating_duration_since(before.at) <= FRESH);
        // What took longer on its way says less than what is known already.
        if let (None, Some(before)) = (asked, before)
            && before.within.is_some()
        {
            return;
        }
        let away = (theirs.distance(now) > skew).then(|| before.and_then(|before| before.away).unwrap_or(at));
        heard.insert(member, Heard { theirs, at, within, away });
    }

    /// How far a member's clock is ahead of this node's, in milliseconds; none if that is not known.
    pub(super) fn ahead(&self, member: u64) -> Option<i64> {
        let heard = self.heard.lock();
        heard.get(&member).and_then(|heard| heard.ahead(self.now(), Instant::now()))
    }

    /// Whether a candidate's clock is near this node's.
    pub(super) fn check_candidate(&self, theirs: Timestamp) -> Result<(), Violation> {
        let (ours, skew) = (self.now(), self.agreement.skew);
        if ours.distance(theirs) > skew { Err(Violation::Clock { ours, theirs, skew }) } else { Ok(()) }
    }

    /// Whether this node's clock is fit to stamp entries. `last` is the latest time of the entries in
    /// its log that are not applied yet.
    pub(super) fn unfit(&self, last: Option<Timestamp>) -> Option<Unfit> {
        let Agreement { members, quorum, skew } = self.agreement;
        let (now, at) = (self.now(), Instant::now());
        if let Some(last) = last.filter(|last| *last > now.plus(skew)) {
            return Some(Unfit::Log { now, last, skew });
        }
        let heard = self.heard.lock();
        let ahead = heard.iter().filter_map(|(member, heard)| Some((*member, heard.ahead(now, at)?)));
        let away: Vec<_> = ahead.filter(|(_, ahead)| ahead.unsigned_abs() > skew.millis()).collect();
        drop(heard);
        (members.saturating_sub(away.len()) < quorum).then_some(Unfit::Clock {
            now,
            away,
            skew,
            quorum,
            members,
        })
    }
}

impl Heard {
    fn ahead(&self, now: Timestamp, at: Instant) -> Option<i64> {
        let age = at.saturating_duration_since(self.at);
        if age > FRESH {
            return None;
        }
        let millis = |time: Timestamp| i64::try_from(time.millis()).unwrap_or(i64::MAX);
        let theirs = millis(self.theirs).saturating_add(age.as_millis() as i64);
        let ahead = theirs.saturating_sub(millis(now));
        // It was sent at some moment before it came: no more is claimed than that leaves.
        match self.within {
            _ if ahead >= 0 => Some(ahead),
            Some(within) => Some((ahead + within.as_millis() as i64).min(0)),
            None => {
                self.away.is_some_and(|since| at.saturating_duration_since(since) >= LASTING).then_some(ahead)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const SKEW: Span = Span::from_seconds(10);
    const START: u64 = 1_000_000_000;

    fn clocks() -> (Arc<AtomicU64>, Clocks) {
        let now = Arc::new(AtomicU64::new(START));
        let clock = Arc::clone(&now);
        let clock = Arc::new(move || Timestamp::from_millis(clock.load(Ordering::SeqCst)).unwrap());
        (now, Clocks::new(clock, Agreement { members: 4, quorum: 3, skew: SKEW }))
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis).unwrap()
    }

    /// Just now.
    fn asked() -> Option<Instant> {
        Some(Instant::now())
    }

    #[test]
    fn a_message_that_was_long_on_its_way_accuses_nobody() {
        let (_, clocks) = clocks();
        for member in 1..4 {
            clocks.heard(member, at(START - 12_000), None);
            assert_eq!(clocks.ahead(member), None, "behind, or late");
            clocks.heard(member, at(START + 12_000), None);
            assert!(clocks.ahead(member).is_some(), "no message comes before it is sent");
        }
    }

    #[test]
    fn one_clock_that_differs_is_that_members_affair() {
        let (_, clocks) = clocks();
        assert_eq!(clocks.unfit(None), None, "nothing is known of anybody");
        clocks.heard(1, at(START + 9_000), asked());
        clocks.heard(2, at(START - 9_000), asked());
        clocks.heard(3, at(START + 3_600_000), asked());
        assert_eq!(clocks.unfit(None), None);
        assert!(clocks.ahead(3).is_some_and(|ahead| (3_600_000..3_601_000).contains(&ahead)));
    }

    #[test]
    fn a_clock_that_two_of_three_others_contradict_is_wrong() {
        for wrong in [START + 3_600_000, START - 3_600_000] {
            let (_, clocks) = clocks();
            clocks.heard(1, at(wrong), asked());
            clocks.heard(2, at(wrong), asked());
            assert!(matches!(clocks.unfit(None), Some(Unfit::Clock { away, .. }) if away.len() == 2));
        }
    }

    #[test]
    fn a_jump_of_the_own_clock_shows_before_anything_more_is_heard() {
        let (now, clocks) = clocks();
        for member in 1..4 {
            clocks.heard(member, at(START), asked());
        }
        assert_eq!(clocks.unfit(None), None);
        now.store(START + 11_000, Ordering::SeqCst);
        assert!(clocks.unfit(None).is_some());
        now.store(START - 11_000, Ordering::SeqCst);
        assert!(clocks.unfit(None).is_some());
        now.store(START, Ordering::SeqCst);
        assert_eq!(clocks.unfit(None), None);
    }

    #[test]
    fn an_answer_that_took_long_proves_less() {
        let (_, clocks) = clocks();
        let asked = Instant::now().checked_sub(Duration::from_secs(4));
        for member in 1..4 {
            // Sent at any moment of the last four seconds: perhaps 8 s behind, perhaps 12.
            clocks.heard(member, at(START - 12_000), asked);
        }
        assert_eq!(clocks.unfit(None), None);
    }

    #[test]
    fn a_log_that_ends_in_the_future_is_not_led_from() {
        let (_, clocks) = clocks();
        assert_eq!(clocks.unfit(Some(at(START + 10_000))), None);
        assert!(matches!(clocks.unfit(Some(at(START + 10_001))), Some(Unfit::Log { .. })));
    }

    #[test]
    fn a_candidate_needs_a_clock_near_the_voters() {
        let (_, clocks) = clocks();
        for theirs in [START - 10_000, START + 10_000] {
            assert_eq!(clocks.check_candidate(at(theirs)), Ok(()));
        }
        for theirs in [START - 10_001, START + 10_001] {
            let refused = Violation::Clock { ours: at(START), theirs: at(theirs), skew: SKEW };
            assert_eq!(clocks.check_candidate(at(theirs)), Err(refused));
        }
    }
}
