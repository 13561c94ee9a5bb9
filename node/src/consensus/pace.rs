//! How often one member may bring about an election.
//!
//! # Specification
//!
//! In Raft whoever names a later term ends the present one: in a candidate's call, and in an answer to a leader or to a candidate. A
//! member that does so again and again would keep the others electing. Therefore:
//!
//! - *Claims.* An answer that names a later term is believed if it is borne out: `f + 1` members, so an honest one, have
//!   named that term or a later one. A member alone is believed as well, because it may be one that was cut off and has called
//!   elections meanwhile, and takes part again only in a term after its own; but at once only the first time, and then
//!   after pauses that double.
//! - *Candidates.* A member is given its first vote at once, and its next ones after pauses that double, until another member has led, or
//!   for long it has not called. To have led is no credit for itself: else it could be elected and
//!   fall silent, again and again.
//!
//! # Guarantees
//!
//! One member alone brings about at most one election in each of the longest pauses, [`LONGEST`] elections' time for claims
//! (test `a_liar_is_believed_ever_more_seldom`), and leaves the others [`TURN`] elections' time to elect one of themselves
//! (test `a_candidate_that_calls_too_often_waits`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The first pause after a claim was believed, in times of the longest election.
const FIRST: u32 = 4;
/// The longest such pause.
const LONGEST: u32 = 32;
/// The longest pause of a candidate.
const TURN: u32 = 4;
/// After so many times the longest election without a claim or call a member counts as one that made none.
const FORGOTTEN: u32 = 128;

/// A term, and who would lead in it.
pub(super) type Term = (u64, u64);

struct Claimed {
    highest: Term,
    /// When it was believed alone, and for how long after that it isn't.
    believed: Option<(Instant, Duration)>,
}

/// What members have answered about later terms.
pub(super) struct Claims {
    faulty: usize,
    election: Duration,
    members: BTreeMap<u64, Claimed>,
}

impl Claims {
    /// Where so many members may be compromised, and an election takes at most so long to be called.
    pub(super) const fn new(faulty: usize, election: Duration) -> Self {
        Self { faulty, election, members: BTreeMap::new() }
    }

    /// Whether to believe this member that there was such a term, later than this node's.
    pub(super) fn believe(&mut self, member: u64, term: Term, now: Instant) -> bool {
        let claimed = self.members.entry(member).or_insert(Claimed { highest: term, believed: None });
        claimed.highest = claimed.highest.max(term);
        if self.members.values().filter(|claimed| claimed.highest >= term).count() > self.faulty {
            return true;
        }
        let election = self.election;
        let Some(claimed) = self.members.get_mut(&member) else { return false };
        let pause = match claimed.believed {
            Some((at, pause)) if now < at + pause => return false,
            Some((at, pause)) if now < at + election * FORGOTTEN => (pause * 2).min(election * LONGEST),
            _ => election * FIRST,
        };
        claimed.believed = Some((now, pause));
        true
    }
}

/// Who was given votes lately.
pub(super) struct Candidates {
    /// The shortest and the longest time after which an election is called.
    election: (Duration, Duration),
    /// How often, and when last.
    given: BTreeMap<u64, (u32, Instant)>,
}

impl Candidates {
    /// Where an honest candidate calls again after times between these.
    pub(super) const fn new(shortest: Duration, longest: Duration) -> Self {
        Self { election: (shortest, longest), given: BTreeMap::new() }
    }

    /// Whether this member may be given a vote in a new term; else, how long it has to wait.
    pub(super) fn check(&self, member: u64, now: Instant) -> Result<(), Duration> {
        let (shortest, longest) = self.election;
        let Some((times, at)) = self.counted(member, now) else { return Ok(()) };
        // An honest one never meets the first pause.
        let pause = (shortest / 2 * (1 << (times - 1).min(16))).min(longest * TURN);
        let left = (at + pause).saturating_duration_since(now);
        if left.is_zero() { Ok(()) } else { Err(left) }
    }

    /// It was given a vote in a new term.
    pub(super) fn given(&mut self, member: u64, now: Instant) {
        let times = self.counted(member, now).map_or(0, |(times, _)| times);
        self.given.insert(member, (times.saturating_add(1), now));
    }

    /// This member leads.
    pub(super) fn led(&mut self, leader: u64) {
        self.given.retain(|member, _| *member == leader);
    }

    fn counted(&self, member: u64, now: Instant) -> Option<(u32, Instant)> {
        let (_, longest) = self.election;
        self.given.get(&member).copied().filter(|(_, at)| now < *at + longest * FORGOTTEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELECTION: Duration = Duration::from_secs(1);

    #[test]
    fn what_f_plus_one_say_is_believed_at_once() {
        let (mut claims, now) = (Claims::new(1, ELECTION), Instant::now());
        assert!(claims.believe(2, (900, 2), now), "its first");
        assert!(!claims.believe(2, (901, 2), now), "it alone, again");
        assert!(claims.believe(3, (7, 4), now));
        assert!(claims.believe(3, (8, 4), now), "two: there was such a term");
        assert!(!claims.believe(2, (902, 2), now), "nobody else knows of it");
        assert!(Claims::new(0, ELECTION).believe(2, (1, 1), now), "where nobody lies");
    }

    #[test]
    fn a_liar_is_believed_ever_more_seldom() {
        let (mut claims, start) = (Claims::new(1, ELECTION), Instant::now());
        let tenths = (0..6000)
            .filter(|tenth| claims.believe(2, (u64::from(*tenth), 2), start + ELECTION / 10 * *tenth));
        let believed: Vec<u32> = tenths.map(|tenth| tenth / 10).collect();
        assert_eq!(believed[..6], [0, 4, 12, 28, 60, 92]);
        assert!(believed.windows(2).skip(5).all(|pair| pair[1] - pair[0] >= LONGEST), "{believed:?}");
        // Who is away for longer than that was perhaps not lying.
        let later = start + ELECTION * (600 + FORGOTTEN);
        assert!(claims.believe(2, (9000, 2), later));
        assert!(claims.believe(2, (9001, 2), later + ELECTION * FIRST));
    }

    #[test]
    fn a_candidate_that_calls_too_often_waits() {
        let (mut candidates, start) = (Candidates::new(ELECTION / 2, ELECTION), Instant::now());
        let mut given = Vec::new();
        for hundredth in 0..2000_u32 {
            let now = start + ELECTION / 100 * hundredth;
            if candidates.check(2, now).is_ok() {
                candidates.given(2, now);
                given.push(hundredth);
                assert!(candidates.check(3, now).is_ok(), "others don't");
            }
            // That it led is no credit to it.
            candidates.led(2);
        }
        assert_eq!(given, [0, 25, 75, 175, 375, 775, 1175, 1575, 1975]);
        let now = start + ELECTION * 20;
        assert!(candidates.check(2, now).is_err());
        candidates.led(3);
        assert_eq!(candidates.check(2, now), Ok(()), "another one leads");
        candidates.given(2, now);
        candidates.given(2, now);
        assert_eq!(candidates.check(2, now + ELECTION * FORGOTTEN), Ok(()), "long ago");
    }
}
