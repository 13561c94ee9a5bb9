//! [`Fair`] for tasks: who takes a turn waits until it has it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::fair::{Bounds, Fair, Full};

type Answer = oneshot::Sender<Result<(), Full>>;

struct State<G, W> {
    fair: Fair<G, W>,
    next: u64,
    /// Of all tickets. With a sender it waits, with none it works; who is not in here was pushed out.
    tickets: HashMap<u64, Option<Answer>>,
}

impl<G: Copy + Eq + Hash, W: Copy + Eq + Hash> State<G, W> {
    fn begin(&mut self) {
        while let Some(ticket) = self.fair.next() {
            // If nobody waits any more, the turn is being dropped, and gives up what it never used.
            if let Some(answer) = self.tickets.get_mut(&ticket).and_then(Option::take) {
                let _ = answer.send(Ok(()));
            }
        }
    }
}

/// Turns at something that few can do at once.
pub(crate) struct Turns<G, W>(Arc<Mutex<State<G, W>>>);

impl<G, W> Clone for Turns<G, W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<G: Copy + Eq + Hash, W: Copy + Eq + Hash> Turns<G, W> {
    /// Within these bounds.
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self(Arc::new(Mutex::new(State { fair: Fair::new(bounds), next: 0, tickets: HashMap::new() })))
    }

    /// How many wait, and how many have their turn.
    pub(crate) fn depth(&self) -> (usize, usize) {
        let state = self.0.lock();
        (state.fair.waiting(), state.fair.working())
    }

    /// Waits for a turn. It lasts until it is dropped.
    pub(crate) async fn take(&self, from: G, who: W) -> Result<Turn<G, W>, Full> {
        let (answer, answered) = oneshot::channel();
        let turn = {
            let mut state = self.0.lock();
            let ticket = state.next;
            let pushed_out = state.fair.enter(from, who, ticket)?;
            state.next += 1;
            state.tickets.insert(ticket, Some(answer));
            if let Some((other, full)) = pushed_out
                && let Some(Some(answer)) = state.tickets.remove(&other)
            {
                let _ = answer.send(Err(full));
            }
            state.begin();
            Turn { turns: self.clone(), from, who, ticket }
        };
        match answered.await {
            Ok(Ok(())) => Ok(turn),
            Ok(Err(full)) => Err(full),
            Err(_) => Err(Full::All),
        }
    }
}

/// A turn, or the wait for one.
pub(crate) struct Turn<G: Copy + Eq + Hash, W: Copy + Eq + Hash> {
    turns: Turns<G, W>,
    from: G,
    who: W,
    ticket: u64,
}

impl<G: Copy + Eq + Hash, W: Copy + Eq + Hash> Drop for Turn<G, W> {
    fn drop(&mut self) {
        let mut state = self.turns.0.lock();
        match state.tickets.remove(&self.ticket) {
            Some(Some(_waits)) => state.fair.abandon(self.from, self.who, self.ticket),
            Some(None) => state.fair.leave(self.from, self.who),
            None => return,
        }
        state.begin();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::super::fair::Bound;
    use super::*;

    #[test]
    fn turns_pass_on_and_who_gives_up_leaves_no_trace() {
        let bound = |working, held| Bound { working, held };
        let turns: Turns<u8, u8> =
            Turns::new(Bounds { lane: bound(1, 3), group: bound(1, 4), all: bound(1, 4) });
        let first = turns.take(1, 1).now_or_never().unwrap().unwrap();
        let mut second = Box::pin(turns.take(1, 1));
        let mut third = Box::pin(turns.take(1, 1));
        assert!(second.as_mut().now_or_never().is_none() && third.as_mut().now_or_never().is_none());
        assert!(matches!(turns.take(1, 1).now_or_never(), Some(Err(Full::Lane))));
        let mut other = Box::pin(turns.take(1, 2));
        assert!(other.as_mut().now_or_never().is_none());
        // The group is full, and lane 1 waits with two.
        let mut newcomer = Box::pin(turns.take(1, 3));
        assert!(newcomer.as_mut().now_or_never().is_none());
        assert!(matches!(third.as_mut().now_or_never(), Some(Err(Full::Group))));
        assert_eq!(turns.depth(), (3, 1));

        drop(first);
        drop(second); // It has its turn, and does not know yet.
        drop(newcomer);
        drop(other.now_or_never().unwrap().unwrap());
        assert_eq!(turns.depth(), (0, 0));
        assert!(turns.0.lock().tickets.is_empty());
    }
}
