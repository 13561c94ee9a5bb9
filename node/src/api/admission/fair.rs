//! Whose turn it is. Pure: no clock, no tasks.
//!
//! # Specification
//!
//! Tickets wait in *lanes*, one for each client, and lanes stand in *groups*, one for each place that clients come from.
//! Turns go round among the groups that wait, and in a group among its lanes; in a lane who came first is first. Of
//! those that work and those that wait there are bounds for a lane, for a group, and for all.
//!
//! # Guarantees
//!
//! - A lane waits for at most one turn of every other lane of its group, and its group for one of every other group,
//!   however long their queues are (test `a_flood_delays_nobody_else_by_more_than_a_turn`).
//! - When a group is full, or all, whoever waits most gives way: the last ticket of the longest queue is pushed out for
//!   a newcomer with a shorter one (test `the_longest_queue_gives_way`).
//! - Nothing is kept of who neither waits nor works (test `nothing_is_kept_of_who_has_gone`).

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// How many may work, and how many may be there, whether they work or wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// At once, of one lane.
    pub(crate) lane: Bound,
    /// Of one group.
    pub(crate) group: Bound,
    /// Of all.
    pub(crate) all: Bound,
}

/// One bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    /// How many may work.
    pub(crate) working: usize,
    /// How many may work or wait.
    pub(crate) held: usize,
}

/// What is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The client's own lane.
    Lane,
    /// The place that it comes from.
    Group,
    /// The node.
    All,
}

#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<u64>,
    working: usize,
}

#[derive(Debug)]
struct Group<W> {
    lanes: HashMap<W, Lane>,
    /// The lanes with a ticket that waits, the next first.
    round: VecDeque<W>,
    waiting: usize,
    working: usize,
}

/// The queues.
#[derive(Debug)]
pub(crate) struct Fair<G, W> {
    bounds: Bounds,
    groups: HashMap<G, Group<W>>,
    /// The groups with a ticket that waits, the next first.
    round: VecDeque<G>,
    waiting: usize,
    working: usize,
}

impl<W: Copy + Eq + Hash> Group<W> {
    fn held(&self) -> usize {
        self.waiting + self.working
    }

    fn waiting_of(&self, who: &W) -> usize {
        self.lanes.get(who).map_or(0, |lane| lane.waiting.len())
    }

    fn longest(&self) -> Option<W> {
        self.round.iter().max_by_key(|who| self.waiting_of(who)).copied()
    }

    /// The place in the round of the next lane that may work.
    fn next(&self, bound: usize) -> Option<usize> {
        self.round.iter().position(|who| self.lanes.get(who).is_some_and(|lane| lane.working < bound))
    }
}

impl<G: Copy + Eq + Hash, W: Copy + Eq + Hash> Fair<G, W> {
    /// Nobody is there.
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, groups: HashMap::new(), round: VecDeque::new(), waiting: 0, working: 0 }
    }

    /// How many wait.
    pub(crate) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many work.
    pub(crate) const fn working(&self) -> usize {
        self.working
    }

    /// Queues a ticket. Gives the one that was pushed out for it, if any, and what was full then.
    pub(crate) fn enter(&mut self, from: G, who: W, ticket: u64) -> Result<Option<(u64, Full)>, Full> {
        let group = self.groups.get(&from);
        let lane = group.and_then(|group| group.lanes.get(&who));
        if lane.map_or(0, |lane| lane.waiting.len() + lane.working) >= self.bounds.lane.held {
            return Err(Full::Lane);
        }
        let (mine, ours) =
            (lane.map_or(0, |lane| lane.waiting.len()), group.map_or(0, |group| group.waiting));
        let pushed = if group.map_or(0, Group::held) >= self.bounds.group.held {
            let longest = group.and_then(Group::longest);
            let longest = longest.filter(|other| group.map_or(0, |group| group.waiting_of(other)) > mine + 1);
            Some((self.push_out(from, longest.ok_or(Full::Group)?).ok_or(Full::Group)?, Full::Group))
        } else if self.waiting + self.working >= self.bounds.all.held {
            let waits = |from: &G| self.groups.get(from).map_or(0, |group| group.waiting);
            let longest = self.round.iter().copied().max_by_key(waits);
            let other = longest.filter(|other| waits(other) > ours + 1).ok_or(Full::All)?;
            let lane = self.groups.get(&other).and_then(Group::longest).ok_or(Full::All)?;
            Some((self.push_out(other, lane).ok_or(Full::All)?, Full::All))
        } else {
            None
        };
        let group = self.groups.entry(from).or_insert_with(|| Group {
            lanes: HashMap::new(),
            round: VecDeque::new(),
            waiting: 0,
            working: 0,
        });
        let lane = group.lanes.entry(who).or_default();
        if lane.waiting.is_empty() {
            group.round.push_back(who);
        }
        lane.waiting.push_back(ticket);
        if group.waiting == 0 {
            self.round.push_back(from);
        }
        group.waiting += 1;
        self.waiting += 1;
        Ok(pushed)
    }

    /// Who may begin now, if anybody may.
    pub(crate) fn next(&mut self) -> Option<u64> {
        if self.working >= self.bounds.all.working {
            return None;
        }
        let bounds = self.bounds;
        let place = self.round.iter().position(|from| {
            self.groups.get(from).is_some_and(|group| {
                group.working < bounds.group.working && group.next(bounds.lane.working).is_some()
            })
        })?;
        let from = self.round.remove(place)?;
        let group = self.groups.get_mut(&from)?;
        let who = group.next(bounds.lane.working).and_then(|place| group.round.remove(place))?;
        let lane = group.lanes.get_mut(&who)?;
        let ticket = lane.waiting.pop_front()?;
        lane.working += 1;
        group.working += 1;
        group.waiting -= 1;
        self.working += 1;
        self.waiting -= 1;
        if !lane.waiting.is_empty() {
            group.round.push_back(who);
        }
        if group.waiting > 0 {
            self.round.push_back(from);
        }
        Some(ticket)
    }

    /// One of this lane has done its work.
    pub(crate) fn leave(&mut self, from: G, who: W) {
        let Some(group) = self.groups.get_mut(&from) else { return };
        let Some(lane) = group.lanes.get_mut(&who).filter(|lane| lane.working > 0) else { return };
        lane.working -= 1;
        group.working -= 1;
        self.working -= 1;
        self.forget(from, who);
    }

    /// A ticket that waited does so no more.
    pub(crate) fn abandon(&mut self, from: G, who: W, ticket: u64) {
        let lane = self.groups.get(&from).and_then(|group| group.lanes.get(&who));
        if let Some(place) = lane.and_then(|lane| lane.waiting.iter().position(|other| *other == ticket)) {
            self.take_out(from, who, place);
        }
    }

    fn push_out(&mut self, from: G, who: W) -> Option<u64> {
        let last = self.groups.get(&from)?.waiting_of(&who).checked_sub(1)?;
        self.take_out(from, who, last)
    }

    fn take_out(&mut self, from: G, who: W, place: usize) -> Option<u64> {
        let group = self.groups.get_mut(&from)?;
        let lane = group.lanes.get_mut(&who)?;
        let ticket = lane.waiting.remove(place)?;
        if lane.waiting.is_empty() {
            group.round.retain(|other| *other != who);
        }
        group.waiting -= 1;
        self.waiting -= 1;
        if group.waiting == 0 {
            self.round.retain(|other| *other != from);
        }
        self.forget(from, who);
        Some(ticket)
    }

    fn forget(&mut self, from: G, who: W) {
        let Some(group) = self.groups.get_mut(&from) else { return };
        if group.lanes.get(&who).is_some_and(|lane| lane.working == 0 && lane.waiting.is_empty()) {
            group.lanes.remove(&who);
        }
        if group.lanes.is_empty() {
            self.groups.remove(&from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn bound(working: usize, held: usize) -> Bound {
        Bound { working, held }
    }

    fn fair(lane: Bound, group: Bound, all: Bound) -> Fair<u8, u8> {
        Fair::new(Bounds { lane, group, all })
    }

    #[test]
    fn a_flood_delays_nobody_else_by_more_than_a_turn() {
        let mut fair = fair(bound(9, 100), bound(9, 200), bound(1, 400));
        for ticket in 0..100 {
            fair.enter(1, 1, ticket).unwrap();
        }
        assert_eq!(fair.next(), Some(0));
        assert_eq!(fair.next(), None, "one works at a time");
        fair.enter(1, 2, 1000).unwrap();
        fair.enter(2, 1, 2000).unwrap();
        fair.enter(2, 1, 2001).unwrap();
        let mut order = Vec::new();
        let mut working = (1, 1);
        for _ in 0..6 {
            fair.leave(working.0, working.1);
            let ticket = fair.next().unwrap();
            working = match ticket {
                1000 => (1, 2),
                2000 | 2001 => (2, 1),
                _ => (1, 1),
            };
            order.push(ticket);
        }
        assert_eq!(order, [1, 2000, 1000, 2001, 2, 3]);
    }

    #[test]
    fn who_has_its_share_of_workers_is_passed_over_and_keeps_its_place() {
        let mut fair = fair(bound(1, 10), bound(2, 20), bound(3, 30));
        for ticket in 0..3 {
            fair.enter(1, 1, ticket).unwrap();
        }
        fair.enter(1, 2, 10).unwrap();
        fair.enter(1, 3, 20).unwrap();
        fair.enter(2, 1, 30).unwrap();
        let begun: Vec<u64> = std::iter::from_fn(|| fair.next()).collect();
        assert_eq!(begun, [0, 30, 10], "a lane works once, a group twice, all three times");
        fair.leave(2, 1);
        assert_eq!(fair.next(), None, "group 1 has its two");
        fair.leave(1, 2);
        assert_eq!(fair.next(), Some(20), "lane 1 still has its one");
        fair.leave(1, 1);
        assert_eq!(fair.next(), Some(1));
    }

    #[test]
    fn the_longest_queue_gives_way() {
        let mut fair = fair(bound(1, 4), bound(1, 5), bound(1, 7));
        for ticket in 0..4 {
            assert_eq!(fair.enter(1, 1, ticket), Ok(None));
        }
        assert_eq!(fair.enter(1, 1, 4), Err(Full::Lane));
        assert_eq!(fair.enter(1, 2, 10), Ok(None));
        // The group is full: the newcomer has the shorter queue, and the longest loses its last.
        assert_eq!(fair.enter(1, 3, 20), Ok(Some((3, Full::Group))));
        assert_eq!(fair.enter(1, 3, 21), Ok(Some((2, Full::Group))));
        assert_eq!(fair.enter(1, 3, 22), Err(Full::Group), "nobody waits for more than it would");
        assert_eq!(fair.enter(2, 1, 30), Ok(None));
        assert_eq!(fair.enter(2, 1, 31), Ok(None));
        assert_eq!(
            fair.enter(3, 1, 40),
            Ok(Some((21, Full::All))),
            "of the longest queue of the busiest group"
        );
        assert_eq!(fair.waiting(), 7);
    }

    #[test]
    fn nothing_is_kept_of_who_has_gone() {
        let mut fair = fair(bound(1, 4), bound(1, 5), bound(1, 6));
        for ticket in 0..3 {
            fair.enter(1, 1, ticket).unwrap();
        }
        fair.enter(2, 1, 3).unwrap();
        assert_eq!(fair.next(), Some(0));
        fair.abandon(1, 1, 2);
        fair.abandon(1, 1, 2);
        fair.abandon(2, 1, 3);
        fair.leave(1, 1);
        assert_eq!(fair.next(), Some(1));
        assert_eq!(fair.next(), None);
        fair.leave(1, 1);
        fair.leave(1, 1);
        assert_eq!((fair.waiting(), fair.working()), (0, 0));
        assert!(fair.groups.is_empty() && fair.round.is_empty());
    }
}
