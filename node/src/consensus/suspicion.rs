//! Who suspects which leader, and what follows from it.
//!
//! # Specification
//!
//! A member whose command does not come about in time suspects the leader of that term, by its signature
//! ([`fairpost_proto::suspicion`]), and members pass on what they have. What this node does about them
//! (docs/decisions/027-suspicion.md):
//!
//! - Once `f + 1` members suspect the leader of a term, so at least one honest one does, it takes nothing from that
//!   leader in that term any more. Raft then elects another, when the leader's lease has lapsed. A leader that hears of it
//!   makes room by itself.
//! - A member that calls an election for a later term says, too, that it hears no leader: for this node, while the call is
//!   fresh, that counts like a suspicion. So a leader that keeps just some of its followers can't bind these by its
//!   heartbeats. (Where no member may be compromised, calls do not count: there the lease alone decides.)
//! - Of each author the suspicion of the latest term counts, and nothing of a member that is convicted of misconduct, which is
//!   followed no more either.
//! - A leader that was dropped gets no vote for a while, longer each time. At most `f` members are kept from leading
//!   so at a time, those dropped last, and none for ever: so there is always somebody to elect.
//! - With each leader that was dropped lately, commands have twice the time, up to [`MOST_PATIENCE`] times: a
//!   cluster that is slow is not faster with another leader.
//!
//! # Guarantees
//!
//! - `f` members alone have no leader dropped, whatever they sign and call (test `f_liars_drop_nobody`).
//! - Somebody may lead at all times (test `somebody_may_always_lead`).
//! - What is kept is bounded by the number of members.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;

/// Within how many times the longest election a command must come about, when no leader was dropped lately.
pub(super) const PATIENCE: u32 = 3;
/// By how much that grows at most.
pub(super) const MOST_PATIENCE: u32 = 32;
/// After how many times the longest election one dropped leader is forgotten, as far as patience goes.
const QUIET: u32 = 60;
/// For how many times the longest election a call is fresh: a member that hears no leader calls more often.
const FRESH: u32 = 3;
/// For how many times the longest election a leader that was dropped gets no vote.
const BAN: u32 = 20;
/// How often that doubles.
const MOST_BANS: u32 = 4;
/// How many leaders that were dropped are kept in mind.
const DROPPED: usize = 8;

/// Why a member is not to lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It was convicted of misconduct.
    Convicted,
    /// So many members suspect it in this term.
    Suspected { found: usize },
    /// It was dropped, and gets no vote for so long.
    Dropped { left: Duration },
}

struct Held {
    suspect: u64,
    term: u64,
    bytes: Bytes,
}

#[derive(Clone, Copy)]
struct Ban {
    since: Instant,
    until: Instant,
    times: u32,
}

/// What this node knows of suspicions.
pub(super) struct Suspicions {
    faulty: usize,
    /// The longest time after which an election is called: a leader's lease.
    election: Duration,
    held: BTreeMap<u64, Held>,
    calls: BTreeMap<u64, (u64, Instant)>,
    dropped: BTreeSet<(u64, u64)>,
    bans: BTreeMap<u64, Ban>,
    convicted: BTreeSet<u64>,
    drops: u64,
    level: u32,
    /// When the level changed last.
    changed: Option<Instant>,
}

impl Suspicions {
    /// Where so many members may be compromised, and an election takes at most so long to be called.
    pub(super) fn new(faulty: usize, election: Duration) -> Self {
        Self {
            faulty,
            election,
            held: BTreeMap::new(),
            calls: BTreeMap::new(),
            dropped: BTreeSet::new(),
            bans: BTreeMap::new(),
            convicted: BTreeSet::new(),
            drops: 0,
            level: 0,
            changed: None,
        }
    }

    /// Whether these very bytes are held already.
    pub(super) fn has(&self, bytes: &[u8]) -> bool {
        self.held.values().any(|held| held.bytes == bytes)
    }

    /// `by` suspects the leader of this term, by these signed bytes that were checked. Whether that is news.
    pub(super) fn take(&mut self, by: u64, suspect: u64, term: u64, bytes: Bytes) -> bool {
        let later = self.held.get(&by).is_none_or(|held| held.term < term);
        if by == suspect || self.convicted.contains(&by) || !later {
            return false;
        }
        self.held.insert(by, Held { suspect, term, bytes });
        true
    }

    /// `by` calls an election for this term.
    pub(super) fn called(&mut self, by: u64, term: u64, now: Instant) {
        self.calls.insert(by, (term, now));
    }

    /// These members, and no others, are convicted of misconduct.
    pub(super) fn convict(&mut self, members: BTreeSet<u64>) {
        self.held.retain(|member, _| !members.contains(member));
        self.calls.retain(|member, _| !members.contains(member));
        self.convicted = members;
    }

    /// The suspicions of this term and later ones, to be passed on.
    pub(super) fn since(&self, term: u64) -> Vec<Bytes> {
        self.held.values().filter(|held| held.term >= term).map(|held| held.bytes.clone()).collect()
    }

    /// Whether this node may follow the leader of this term, which shows that it was elected. Calls count for followers; a
    /// leader knows by itself whom it reaches.
    pub(super) fn check_leader(
        &mut self,
        leader: u64,
        term: u64,
        with_calls: bool,
        now: Instant,
    ) -> Result<(), Doubt> {
        if self.convicted.contains(&leader) {
            return Err(Doubt::Convicted);
        }
        let found = self.against(leader, term, with_calls, now);
        if self.dropped.contains(&(term, leader)) {
            return Err(Doubt::Suspected { found });
        }
        if found <= self.faulty {
            return Ok(());
        }
        self.drop_leader(leader, term, now);
        Err(Doubt::Suspected { found })
    }

    /// Whether this member may be voted for.
    pub(super) fn check_candidate(&self, candidate: u64, now: Instant) -> Result<(), Doubt> {
        if self.convicted.contains(&candidate) {
            return Err(Doubt::Convicted);
        }
        let mut banned: Vec<_> = self.bans.iter().filter(|(_, ban)| now < ban.until).collect();
        banned.sort_by_key(|(member, ban)| (std::cmp::Reverse(ban.since), **member));
        let ban = banned.into_iter().take(self.faulty).find(|(member, _)| **member == candidate);
        ban.map_or(Ok(()), |(_, ban)| Err(Doubt::Dropped { left: ban.until.saturating_duration_since(now) }))
    }

    /// How many leaders were dropped in all.
    pub(super) const fn drops(&self) -> u64 {
        self.drops
    }

    /// Within what time a command must come about before its leader is suspected.
    pub(super) fn patience(&self, now: Instant) -> Duration {
        self.election * PATIENCE * (1 << self.level_at(now)).min(MOST_PATIENCE)
    }

    fn level_at(&self, now: Instant) -> u32 {
        let Some(changed) = self.changed else { return 0 };
        let quiet =
            now.saturating_duration_since(changed).as_nanos() / (self.election * QUIET).as_nanos().max(1);
        self.level.saturating_sub(u32::try_from(quiet).unwrap_or(u32::MAX))
    }

    fn against(&self, leader: u64, term: u64, with_calls: bool, now: Instant) -> usize {
        let signed = self.held.iter().filter(|(_, held)| (held.suspect, held.term) == (leader, term));
        let mut authors: BTreeSet<u64> = signed.map(|(by, _)| *by).collect();
        if with_calls && self.faulty > 0 {
            let fresh = self.election * FRESH;
            let calls = self.calls.iter().filter(|(by, (later, at))| {
                **by != leader && *later > term && now.saturating_duration_since(*at) <= fresh
            });
            authors.extend(calls.map(|(by, _)| *by));
        }
        authors.len()
    }

    fn drop_leader(&mut self, leader: u64, term: u64, now: Instant) {
        self.dropped.insert((term, leader));
        while self.dropped.len() > DROPPED {
            self.dropped.pop_first();
        }
        self.drops += 1;
        self.level = (self.level_at(now) + 1).min(MOST_PATIENCE.ilog2());
        self.changed = Some(now);
        let quiet = self.election * QUIET;
        let before = self.bans.get(&leader).filter(|ban| now < ban.until + quiet).map_or(0, |ban| ban.times);
        let times = (before + 1).min(MOST_BANS + 1);
        let until = now + self.election * BAN * (1 << (times - 1));
        self.bans.insert(leader, Ban { since: now, until, times });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ELECTION: Duration = Duration::from_secs(1);

    fn of(faulty: usize) -> (Suspicions, Instant) {
        (Suspicions::new(faulty, ELECTION), Instant::now())
    }

    fn word(by: u64, term: u64) -> Bytes {
        Bytes::from(format!("{by} in {term}"))
    }

    #[test]
    fn a_leader_that_f_plus_one_suspect_is_followed_no_more_in_that_term() {
        let (mut known, now) = of(1);
        assert!(known.take(2, 1, 7, word(2, 7)));
        assert!(!known.take(2, 1, 7, word(2, 7)), "it is known");
        assert_eq!(known.check_leader(1, 7, true, now), Ok(()), "one alone");
        assert!(known.take(3, 1, 6, word(3, 6)));
        assert_eq!(known.check_leader(1, 7, true, now), Ok(()), "another term's");
        assert!(known.take(4, 3, 7, word(4, 7)));
        assert_eq!(known.check_leader(1, 7, true, now), Ok(()), "about another member");
        assert!(known.take(3, 1, 7, word(3, 7)));
        assert_eq!(known.check_leader(1, 7, true, now), Err(Doubt::Suspected { found: 2 }));
        // Its authors go on to a later term, and still.
        assert!(known.take(3, 2, 8, word(3, 8)));
        assert_eq!(known.check_leader(1, 7, true, now), Err(Doubt::Suspected { found: 1 }));
        assert_eq!(known.check_leader(1, 9, true, now), Ok(()), "elected anew");
        assert_eq!(known.since(8), [word(3, 8)]);
    }

    #[test]
    fn nobody_suspects_itself_and_a_convicted_member_counts_for_nothing() {
        let (mut known, now) = of(1);
        assert!(!known.take(1, 1, 7, word(1, 7)));
        known.take(2, 1, 7, word(2, 7));
        known.take(3, 1, 7, word(3, 7));
        known.called(3, 8, now);
        known.convict(BTreeSet::from([3]));
        assert_eq!(known.check_leader(1, 7, true, now), Ok(()));
        assert!(!known.take(3, 1, 9, word(3, 9)));
        assert_eq!(known.check_leader(3, 9, true, now), Err(Doubt::Convicted));
        assert_eq!(known.check_candidate(3, now), Err(Doubt::Convicted));
    }

    #[test]
    fn calls_for_an_election_count_while_they_are_fresh() {
        let (mut known, now) = of(1);
        known.called(2, 8, now);
        known.called(3, 8, now);
        assert_eq!(known.check_leader(1, 8, true, now), Ok(()), "a later term is meant");
        assert_eq!(known.check_leader(1, 7, true, now + ELECTION * FRESH * 2), Ok(()), "long ago");
        assert_eq!(known.check_leader(1, 7, false, now), Ok(()), "a leader knows whom it reaches");
        assert_eq!(known.check_leader(2, 7, true, now), Ok(()), "its own call does not count");
        assert_eq!(known.check_leader(1, 7, true, now), Err(Doubt::Suspected { found: 2 }));
        let later = now + ELECTION * FRESH * 2;
        assert_eq!(
            known.check_leader(1, 7, true, later),
            Err(Doubt::Suspected { found: 0 }),
            "dropped is dropped"
        );
        // With nobody to be compromised, one that calls is one that was away.
        let (mut trusting, now) = of(0);
        trusting.called(2, 8, now);
        assert_eq!(trusting.check_leader(1, 7, true, now), Ok(()));
    }

    /// Has `leader` dropped in `term`.
    fn dropped(known: &mut Suspicions, leader: u64, term: u64, now: Instant) {
        for by in (1..=10).filter(|by| *by != leader).take(known.faulty + 1) {
            known.take(by, leader, term, word(by, term));
        }
        known.check_leader(leader, term, false, now).unwrap_err();
    }

    #[test]
    fn a_dropped_leader_gets_no_vote_for_a_while_and_longer_each_time() {
        let (mut known, mut now) = of(1);
        let mut bans = Vec::new();
        for term in 1..=7 {
            dropped(&mut known, 1, term, now);
            let Err(Doubt::Dropped { left }) = known.check_candidate(1, now) else { panic!("it may lead") };
            bans.push(left / ELECTION.as_secs() as u32);
            now += left;
            assert_eq!(known.check_candidate(1, now), Ok(()), "not for ever");
        }
        assert_eq!(bans.iter().map(Duration::as_secs).collect::<Vec<_>>(), [20, 40, 80, 160, 320, 320, 320]);
        now += ELECTION * QUIET;
        dropped(&mut known, 1, 8, now);
        assert_eq!(known.check_candidate(1, now), Err(Doubt::Dropped { left: ELECTION * BAN }), "long ago");
    }

    #[test]
    fn patience_doubles_with_each_dropped_leader_and_comes_back() {
        let (mut known, mut now) = of(1);
        let mut patience = Vec::new();
        for term in 1..=7 {
            patience.push(known.patience(now).as_secs());
            dropped(&mut known, 1 + term % 3, term, now);
        }
        assert_eq!(patience, [3, 6, 12, 24, 48, 96, 96]);
        now += ELECTION * QUIET * 2;
        assert_eq!(known.level_at(now), 3, "two quiet times");
        dropped(&mut known, 1, 9, now);
        assert_eq!(known.level_at(now), 4);
        now += ELECTION * QUIET * 5;
        assert_eq!(known.patience(now), ELECTION * PATIENCE);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Take(u64, u64, u64),
        Call(u64, u64),
        Follow(u64, u64),
        Wait(u64),
    }

    /// What happens among ten members, of which `authors` sign and call.
    fn steps(authors: std::ops::RangeInclusive<u64>) -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (authors.clone(), 1_u64..=10, 0_u64..6).prop_map(|(by, who, term)| Step::Take(by, who, term)),
            (authors, 0_u64..6).prop_map(|(by, term)| Step::Call(by, term)),
            (1_u64..=10, 0_u64..6).prop_map(|(leader, term)| Step::Follow(leader, term)),
            (0_u64..200_000).prop_map(Step::Wait),
        ];
        proptest::collection::vec(step, 0..200)
    }

    fn take_step(known: &mut Suspicions, step: &Step, now: &mut Instant) -> Result<(), Doubt> {
        match *step {
            Step::Take(by, who, term) => drop(known.take(by, who, term, word(by, term))),
            Step::Call(by, term) => known.called(by, term, *now),
            Step::Follow(leader, term) => return known.check_leader(leader, term, true, *now),
            Step::Wait(millis) => *now += Duration::from_millis(millis),
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn f_liars_drop_nobody(steps in steps(1..=3)) {
            let (mut known, mut now) = of(3);
            for step in &steps {
                prop_assert_eq!(take_step(&mut known, step, &mut now), Ok(()));
                prop_assert_eq!(known.patience(now), ELECTION * PATIENCE);
            }
            prop_assert!(known.held.len() <= 3 && known.calls.len() <= 3);
        }

        #[test]
        fn somebody_may_always_lead(steps in steps(1..=10)) {
            let (mut known, mut now) = of(3);
            for step in &steps {
                let _ = take_step(&mut known, step, &mut now);
                let may = |now| (1..=10).filter(|member| known.check_candidate(*member, now).is_ok()).count();
                prop_assert!(may(now) >= 7, "no more than f are kept away");
                prop_assert_eq!(may(now + ELECTION * BAN * (1 << MOST_BANS)), 10, "and none for ever");
                prop_assert!(known.patience(now) <= ELECTION * PATIENCE * MOST_PATIENCE);
                prop_assert!(known.dropped.len() <= DROPPED && known.held.len() <= 10);
            }
        }
    }
}
