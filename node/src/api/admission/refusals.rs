//! Who was refused lately, and who did not wait. Pure: the time is passed in.
//!
//! # Specification
//!
//! A refusal comes at once, and names a time after which to ask again. Who asks before that, and has to be refused again, is
//! *hasty*. Two things follow:
//!
//! - The refusal is held back for as long as it would have been right to wait, and those of one source go out one after the
//!   other, `STEP` apart. Saying no must not become the work.
//! - The source's *haste* grows by `STEP`. It wears off as time goes by, a second in a second. What is more than `TOLERANCE`
//!   makes each of the source's turns to begin come later ([`Refusals::pause`]), and the times that refusals name are longer by
//!   all of it.
//!
//! # Guarantees
//!
//! - Who waits as it is told is never held back, and its source is never slowed
//!   (test `who_waits_as_it_is_told_is_never_slowed`).
//! - Nobody pays for another source (test `who_does_not_wait_is_slowed_and_nobody_else`).
//! - However many refusals a source gets, it has no haste left after `MOST` without another
//!   (test `haste_is_bounded_and_wears_off`).
//! - Memory is bounded (test `memory_is_bounded`).

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// When who is refused, and is not hasty, should ask again.
pub(super) const RETRY: Duration = Duration::from_millis(200);
/// How much a hasty request adds to its source's haste.
const STEP: Duration = Duration::from_millis(5);
/// Haste that slows nobody: programs that send much at once, and do wait each time, meet their own refusals.
const TOLERANCE: Duration = Duration::from_millis(500);
/// The most haste that a source has.
const MOST: Duration = Duration::from_secs(4);
/// How much later a source with the most haste gets each turn.
const PAUSE: Duration = Duration::from_millis(100);

/// How a refusal goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// How long to hold it back.
    pub(crate) hold: Duration,
    /// The time that it names.
    pub(crate) retry: Duration,
}

/// Remembers refusals of clients `W`, who come from sources `S`.
#[derive(Debug)]
pub(crate) struct Refusals<S, W> {
    most: usize,
    /// Until when a client was told to wait.
    told: HashMap<(S, W), Instant>,
    /// When a source's haste has worn off. The next of its refusals that are held back goes out then, or later.
    haste: HashMap<S, Instant>,
}

impl<S: Copy + Eq + Hash, W: Eq + Hash> Refusals<S, W> {
    /// Remembers at most so many clients, and so many sources.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, told: HashMap::new(), haste: HashMap::new() }
    }

    /// A client is refused.
    pub(crate) fn refuse(&mut self, source: S, who: W, now: Instant) -> Refusal {
        let client = (source, who);
        let hasty = self.told.get(&client).is_some_and(|until| *until > now);
        let hold = if hasty { self.hurry(source, now).max(RETRY) } else { Duration::ZERO };
        let retry = RETRY + self.haste(&source, now);
        let until = now + hold + retry;
        remember(&mut self.told, self.most, client, until, now);
        Refusal { hold, retry }
    }

    /// How much later a source's next turn to begin should come.
    pub(crate) fn pause(&self, source: &S, now: Instant) -> Duration {
        let slows = self.haste(source, now).saturating_sub(TOLERANCE);
        PAUSE.mul_f64(slows.div_duration_f64(MOST - TOLERANCE).min(1.0))
    }

    fn haste(&self, source: &S, now: Instant) -> Duration {
        self.haste.get(source).map_or(Duration::ZERO, |over| over.saturating_duration_since(now))
    }

    fn hurry(&mut self, source: S, now: Instant) -> Duration {
        let haste = (self.haste(&source, now) + STEP).min(MOST);
        remember(&mut self.haste, self.most, source, now + haste, now);
        haste
    }
}

/// Sets the time of a key, if there is room for it when those are forgotten whose time is over.
fn remember<K: Eq + Hash>(
    times: &mut HashMap<K, Instant>,
    most: usize,
    key: K,
    until: Instant,
    now: Instant,
) {
    if times.len() >= most && !times.contains_key(&key) {
        times.retain(|_, until| *until > now);
    }
    if times.len() < most || times.contains_key(&key) {
        times.insert(key, until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn who_waits_as_it_is_told_is_never_slowed() {
        let mut refusals = Refusals::new(10);
        let mut now = Instant::now();
        for _ in 0..1000 {
            let refusal = refusals.refuse(1, 1, now);
            assert_eq!(refusal, Refusal { hold: Duration::ZERO, retry: RETRY });
            assert_eq!(refusals.pause(&1, now), Duration::ZERO);
            now += refusal.retry;
        }
    }

    #[test]
    fn who_does_not_wait_is_slowed_and_nobody_else() {
        let mut refusals = Refusals::new(10);
        let now = Instant::now();
        assert_eq!(refusals.refuse(1, 1, now).hold, Duration::ZERO, "the first is an answer at once");
        let next = refusals.refuse(1, 1, now + millis(50));
        assert_eq!(next.hold, RETRY, "who does not wait is made to wait");
        let now = now + millis(50);
        let holds: Vec<_> = (2..=100).map(|_| refusals.refuse(1, 1, now).hold).collect();
        assert_eq!(holds[0], RETRY);
        assert_eq!(holds[97..], [millis(495), millis(500)], "one after the other, so long apart");
        assert_eq!(refusals.pause(&1, now), Duration::ZERO, "that much is borne");

        for _ in 0..350 {
            refusals.refuse(1, 1, now);
        }
        assert_eq!(refusals.pause(&1, now), PAUSE / 2);
        assert_eq!(refusals.refuse(1, 1, now).retry, RETRY + millis(450 * 5 + 5), "it names a longer time");
        // Another client of the same source has its first refusal at once, and is told of the wait that there is.
        let other = refusals.refuse(1, 2, now);
        assert!(other.hold.is_zero() && other.retry > millis(2000), "{other:?}");
        assert_eq!(refusals.refuse(2, 1, now), Refusal { hold: Duration::ZERO, retry: RETRY });
        assert_eq!(refusals.pause(&2, now), Duration::ZERO);
    }

    #[test]
    fn haste_is_bounded_and_wears_off() {
        let mut refusals = Refusals::new(10);
        let now = Instant::now();
        let holds: Vec<_> = (0..10_000).map(|_| refusals.refuse(1, 1, now).hold).collect();
        assert_eq!(holds.iter().max(), Some(&MOST));
        let pauses = [0, 1750, 3000, 3500, 4000].map(|after| refusals.pause(&1, now + millis(after)));
        assert_eq!(pauses[..2], [PAUSE, PAUSE / 2]);
        assert!(pauses[2] > Duration::ZERO && pauses[2] < PAUSE / 6, "{pauses:?}");
        assert_eq!(pauses[3..], [Duration::ZERO; 2]);
        // The last one was told to wait until all of it is over.
        let after = refusals.refuse(1, 1, now + MOST + RETRY + MOST);
        assert_eq!(after, Refusal { hold: Duration::ZERO, retry: RETRY });
    }

    #[test]
    fn memory_is_bounded() {
        let mut refusals = Refusals::new(2);
        let now = Instant::now();
        for source in 0..100 {
            for _ in 0..3 {
                refusals.refuse(source, 1, now);
            }
        }
        assert_eq!((refusals.told.len(), refusals.haste.len()), (2, 2));
        let later = now + millis(10_000);
        refusals.refuse(100, 1, later);
        refusals.refuse(100, 1, later);
        assert_eq!((refusals.told.len(), refusals.haste.len()), (1, 1), "what is over is forgotten");
    }
}
