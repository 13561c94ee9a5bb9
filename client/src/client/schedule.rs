//! Which node to ask when, within one call. Pure: the caller has the clock.
//!
//! # Specification
//!
//! A call goes to one node first. When that has not answered within the hedge delay, the next is asked as well, and so on,
//! up to a number that may be under way at once. Whoever fails makes place for the next immediately, and is asked again
//! after a pause that doubles, or after as long as it has told: whichever is longer. Others are asked meanwhile, those
//! first that have been asked the least.

use std::time::Duration;

use tokio::time::Instant;

use super::ask::{FIRST_PAUSE, LONGEST_PAUSE};

/// The nodes as one call sees them.
pub(super) struct Schedule {
    slots: Vec<Slot>,
    most: usize,
    hedge: Duration,
    /// Until then no further node is asked, unless one fails.
    next: Instant,
}

#[derive(Clone, Copy)]
struct Slot {
    busy: bool,
    asked: u32,
    ready: Instant,
    pause: Duration,
}

impl Schedule {
    /// For so many nodes, of which `most` are asked at once, the next one after `hedge`.
    pub(super) fn new(nodes: usize, most: usize, hedge: Duration, now: Instant) -> Self {
        let slot = Slot { busy: false, asked: 0, ready: now, pause: FIRST_PAUSE };
        Self { slots: vec![slot; nodes], most: most.max(1), hedge, next: now }
    }

    /// The place of the node to ask now, if one is to be asked; it is under way from then on. `order` has the places in
    /// the order in which they are preferred.
    pub(super) fn pick(&mut self, order: &[usize], now: Instant) -> Option<usize> {
        if now < self.next || self.under_way().count() >= self.most {
            return None;
        }
        let free = order.iter().filter_map(|place| Some((*place, self.slots.get(*place)?)));
        let ready = free.filter(|(_, slot)| !slot.busy && slot.ready <= now);
        let (place, _) = ready.min_by_key(|(_, slot)| slot.asked)?;
        let slot = self.slots.get_mut(place)?;
        (slot.busy, slot.asked) = (true, slot.asked + 1);
        self.next = now + self.hedge;
        Some(place)
    }

    /// From now on all are asked at once.
    pub(super) fn hasten(&mut self, now: Instant) {
        (self.most, self.hedge, self.next) = (self.slots.len().max(1), Duration::ZERO, now);
    }

    /// The node at `place` gave no answer that ends the call, and told to wait for `told`. `share` of the pause is taken:
    /// so that clients do not come back all at once.
    pub(super) fn failed(&mut self, place: usize, now: Instant, told: Duration, share: f64) {
        if let Some(slot) = self.slots.get_mut(place) {
            slot.busy = false;
            slot.ready = now + slot.pause.mul_f64(share).max(told);
            slot.pause = (slot.pause * 2).min(LONGEST_PAUSE);
        }
        self.next = now;
    }

    /// When [`Schedule::pick`] gives a node, if nothing happens before; none if something must.
    pub(super) fn wake(&self) -> Option<Instant> {
        if self.under_way().count() >= self.most {
            return None;
        }
        let free = self.slots.iter().filter(|slot| !slot.busy);
        free.map(|slot| slot.ready.max(self.next)).min()
    }

    /// The places that are under way.
    pub(super) fn under_way(&self) -> impl Iterator<Item = usize> {
        self.slots.iter().enumerate().filter(|(_, slot)| slot.busy).map(|(place, _)| place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEDGE: Duration = Duration::from_millis(50);
    const MILLI: Duration = Duration::from_millis(1);
    const ORDER: [usize; 4] = [2, 3, 0, 1];

    #[test]
    fn the_next_is_asked_after_the_hedge_delay_and_only_so_many_at_once() {
        let now = Instant::now();
        let mut schedule = Schedule::new(4, 2, HEDGE, now);
        assert_eq!(schedule.pick(&ORDER, now), Some(2));
        assert_eq!(schedule.pick(&ORDER, now), None);
        assert_eq!(schedule.wake(), Some(now + HEDGE));
        assert_eq!(schedule.pick(&ORDER, now + HEDGE), Some(3));
        assert_eq!(schedule.wake(), None, "two are under way, and that is all");
        assert_eq!(schedule.pick(&ORDER, now + 9 * HEDGE), None);
        assert_eq!(schedule.under_way().collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn who_fails_makes_place_at_once_and_is_asked_again_after_its_pause_or_as_it_told() {
        let now = Instant::now();
        let mut schedule = Schedule::new(2, 1, HEDGE, now);
        assert_eq!(schedule.pick(&[0, 1], now), Some(0));
        schedule.failed(0, now + MILLI, Duration::from_secs(1), 1.0);
        assert_eq!(schedule.pick(&[0, 1], now + MILLI), Some(1));
        schedule.failed(1, now + MILLI, Duration::ZERO, 0.5);
        assert_eq!(schedule.wake(), Some(now + MILLI + FIRST_PAUSE / 2));
        assert_eq!(schedule.pick(&[0, 1], now + FIRST_PAUSE), Some(1), "0 has told to wait");
        schedule.failed(1, now + FIRST_PAUSE, Duration::ZERO, 1.0);
        assert_eq!(schedule.wake(), Some(now + 3 * FIRST_PAUSE), "its pause has doubled");
        assert_eq!(
            schedule.pick(&[0, 1], now + 2 * Duration::from_secs(1)),
            Some(0),
            "it was asked less often"
        );
    }

    #[test]
    fn a_call_in_haste_goes_to_all_that_were_not_asked_yet() {
        let now = Instant::now();
        let mut schedule = Schedule::new(4, 2, HEDGE, now);
        assert_eq!(schedule.pick(&ORDER, now), Some(2));
        schedule.hasten(now + MILLI);
        let picked: Vec<_> = std::iter::from_fn(|| schedule.pick(&ORDER, now + MILLI)).collect();
        assert_eq!(picked, [3, 0, 1]);
    }

    #[test]
    fn without_a_hedge_delay_all_are_asked_at_once() {
        let now = Instant::now();
        let mut schedule = Schedule::new(4, 4, Duration::ZERO, now);
        let picked: Vec<_> = std::iter::from_fn(|| schedule.pick(&ORDER, now)).collect();
        assert_eq!(picked, ORDER);
    }
}
