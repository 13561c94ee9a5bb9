//! Watching an exchange: a stream that says how it stands, and ends with the verdict.
//!
//! # Specification
//!
//! The first message comes at once: the verdict, if there is one, or undecided. While there is none, undecided is said
//! again after every `SIGN_OF_LIFE`, so that the caller can tell a node that waits from one that hangs. A verdict is
//! the last message. Once deadline and grace have passed by this node's clock, it asks for Expired, and asks again with
//! every sign of life while the leader's clock says that it is too early.
//!
//! # Relies on
//!
//! [`Handle::certified`](crate::witness::service::Handle::certified) wakes who waits for an exchange, and nobody else:
//! nothing is polled.
//!
//! # Guarantees
//!
//! - A watcher costs a place of [`Watchers`], which are counted, for each party and in all; above that the call is turned
//!   away. A party is the key that signed: no number of connections or addresses gives it more places.
//! - A stream ends after `LONGEST`, and when the node is told to stop: the caller then signs anew.
//! - A caller that goes away takes its place, its waiter and its timers with it: the stream owns all of them, and no task
//!   is left.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use fairpost_api::tls::{Place, Places};
use fairpost_api::v1::Outcome;
use fairpost_proto::ids::{KeyId, Timestamp, Verdict};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, sleep_until, timeout};
use tonic::{Code, Status};

use super::contact::{Admitted, Contact};
use super::error;
use super::exchange::outcome;
use crate::clock;
use crate::config::Limits;
use crate::ledger::Exchange;
use crate::store::VerifiedToken;
use crate::witness::service::halted;

/// How often undecided is said again.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
/// How long a verdict that stands may take to be completed before undecided is said first.
const FIRST: Duration = Duration::from_secs(1);
/// When to come back if there is no place.
const RETRY: Duration = Duration::from_secs(1);
/// How long a stream lasts at most: less than the window within which its request was signed.
const LONGEST: Duration = Duration::from_secs(240);

/// The places for those who watch.
pub struct Watchers {
    contact: Contact,
    places: Seats,
    halted: watch::Receiver<bool>,
}

impl Watchers {
    /// The places that `limits` gives, until `halted`.
    pub fn new(contact: Contact, limits: &Limits, halted: watch::Receiver<bool>) -> Self {
        let places = Seats::new(limits.watchers_per_party, limits.watchers);
        Self { contact, places, halted }
    }

    /// Watches the exchange of a request that was admitted.
    pub(super) fn watch(
        &self,
        admitted: Admitted,
    ) -> Result<BoxStream<'static, Result<Outcome, Status>>, Status> {
        let place = self.places.take(admitted.party).map_err(|full| error::overloaded(&full, RETRY))?;
        let stands = self.contact.stands(&admitted.exchange)?;
        let now = Instant::now();
        let mut signs = interval_at(now, SIGN_OF_LIFE);
        signs.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watching = Watching {
            verdict: Box::pin(verdict(self.contact.clone(), admitted)),
            stands,
            signs,
            end: now + LONGEST,
            halted: self.halted.clone(),
            _place: place,
        };
        Ok(Box::pin(stream::unfold(Some(watching), Watching::step)))
    }
}

/// Places, of which each party has some at most.
struct Seats {
    each: usize,
    all: usize,
    places: Arc<Places<KeyId>>,
}

impl Seats {
    fn new(each: usize, all: usize) -> Self {
        Self { each, all, places: Places::new(each, all) }
    }

    /// A place for this party, or what is full.
    fn take(&self, party: KeyId) -> Result<Place<KeyId>, String> {
        let Self { each, all, places } = self;
        places.take(party).ok_or_else(|| {
            if places.taken() >= *all {
                format!("{all} watch at this node, and that is its limit")
            } else {
                format!("this key watches {each} times at this node, and that is the limit for one key")
            }
        })
    }
}

type Decided = (Exchange, VerifiedToken);

/// One who watches.
struct Watching {
    verdict: BoxFuture<'static, Result<Decided, Status>>,
    /// Whether there was a verdict when it began.
    stands: bool,
    signs: Interval,
    end: Instant,
    halted: watch::Receiver<bool>,
    _place: Place<KeyId>,
}

impl Watching {
    /// The next message, and who goes on after it; neither at the end.
    async fn step(watching: Option<Self>) -> Option<(Result<Outcome, Status>, Option<Self>)> {
        let mut watching = watching?;
        if std::mem::take(&mut watching.stands)
            && let Ok(decided) = timeout(FIRST, &mut watching.verdict).await
        {
            return Some((decided.map(|decided| outcome(Some(decided))), None));
        }
        tokio::select! {
            biased;
            decided = &mut watching.verdict => Some((decided.map(|decided| outcome(Some(decided))), None)),
            () = halted(&mut watching.halted) => None,
            () = sleep_until(watching.end) => None,
            _ = watching.signs.tick() => Some((Ok(outcome(None)), Some(watching))),
        }
    }
}

/// The verdict on an exchange, once there is one.
async fn verdict(contact: Contact, admitted: Admitted) -> Result<Decided, Status> {
    let certified = async {
        let certified = contact.witness.certified(&admitted.exchange).await;
        certified.map_err(|fault| error::internal(&fault))?;
        contact.finish(&admitted.exchange).await
    };
    tokio::select! {
        decided = certified => decided,
        expired = expiry(&contact, &admitted) => expired,
    }
}

/// Asks for Expired when it is due.
async fn expiry(contact: &Contact, admitted: &Admitted) -> Result<Decided, Status> {
    let due = admitted.nro.payload().terms.expires.plus(contact.view.parameters().grace);
    loop {
        // By the clock each time: it may have been set since.
        let left = until(due, clock::now());
        if left > LONGEST {
            return pending().await;
        }
        if left.is_zero() {
            let admitted = Admitted { now: clock::now(), nro: admitted.nro.clone(), ..*admitted };
            match contact.decide(&admitted, Verdict::Expired, None).await {
                // The leader's clock is behind this one: not yet.
                Err(status) if status.code() == Code::FailedPrecondition => sleep(SIGN_OF_LIFE).await,
                decided => return decided,
            }
        } else {
            sleep(left).await;
        }
    }
}

/// How long it is from `now` until `due`.
fn until(due: Timestamp, now: Timestamp) -> Duration {
    Duration::from_millis(due.millis().saturating_sub(now.millis()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_is_not_waited_for() {
        let at = |millis| Timestamp::from_millis(millis).unwrap();
        assert_eq!(until(at(1500), at(1000)), Duration::from_millis(500));
        assert_eq!(until(at(1000), at(1000)), Duration::ZERO);
        assert_eq!(until(at(1000), at(1001)), Duration::ZERO);
    }

    #[test]
    fn one_party_can_not_take_the_places_of_others() {
        let seats = Seats::new(2, 3);
        let [one, other, third] = [[1; 32], [2; 32], [3; 32]].map(KeyId::new);
        let mine = [seats.take(one).unwrap(), seats.take(one).unwrap()];
        let full = seats.take(one).unwrap_err();
        assert!(full.contains("2 times") && full.contains("one key"), "{full}");
        let theirs = seats.take(other).expect("a place that one party can't have");
        let full = seats.take(third).unwrap_err();
        assert!(full.contains("3 watch at this node"), "{full}");
        drop((mine, theirs));
        assert!(seats.take(one).is_ok(), "a place is free again when its watcher has gone");
    }
}
