//! Who waits for the certificate of an exchange.
//!
//! Each waits for its own exchange: what is certified wakes nobody else.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use fairpost_proto::ids::ExchangeId;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The exchanges that somebody waits for.
#[derive(Default)]
pub(super) struct Waiting(Mutex<HashMap<ExchangeId, Waiters>>);

struct Waiters {
    count: usize,
    woken: Arc<Notify>,
}

impl Waiting {
    /// Waits for this exchange from now on, until the value is dropped.
    pub(super) fn join(&self, exchange: ExchangeId) -> Waiter<'_> {
        let mut waiting = self.0.lock();
        let waiters = waiting.entry(exchange).or_insert_with(|| Waiters { count: 0, woken: Arc::default() });
        waiters.count += 1;
        Waiter { waiting: self, exchange, woken: Arc::clone(&waiters.woken) }
    }

    /// Whether anybody waits for this exchange.
    pub(super) fn any(&self, exchange: &ExchangeId) -> bool {
        self.0.lock().contains_key(exchange)
    }

    /// For how many exchanges somebody waits.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Wakes those who wait for this exchange.
    pub(super) fn wake(&self, exchange: &ExchangeId) {
        if let Some(waiters) = self.0.lock().get(exchange) {
            waiters.woken.notify_waiters();
        }
    }
}

/// One who waits.
pub(super) struct Waiter<'w> {
    waiting: &'w Waiting,
    exchange: ExchangeId,
    woken: Arc<Notify>,
}

impl Waiter<'_> {
    /// What wakes it: whoever is woken between a call of `enable` on this and the `await` is not left waiting.
    pub(super) fn woken(&self) -> tokio::sync::futures::Notified<'_> {
        self.woken.notified()
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if let Entry::Occupied(mut waiters) = self.waiting.0.lock().entry(self.exchange) {
            waiters.get_mut().count -= 1;
            if waiters.get().count == 0 {
                waiters.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_is_woken_for_its_own_exchange_and_leaves_nothing_behind() {
        let (waiting, one, other) = (Waiting::default(), ExchangeId::new([1; 32]), ExchangeId::new([2; 32]));
        let (waiter, second) = (waiting.join(one), waiting.join(one));
        let (mut woken, mut second_woken) = (Box::pin(waiter.woken()), Box::pin(second.woken()));
        woken.as_mut().enable();
        second_woken.as_mut().enable();
        waiting.wake(&other);
        assert!(futures::poll!(woken.as_mut()).is_pending());
        waiting.wake(&one);
        woken.await;
        second_woken.await;
        drop(waiter);
        assert!(waiting.any(&one) && !waiting.any(&other));
        drop(second);
        assert!(!waiting.any(&one) && waiting.0.lock().is_empty());
    }
}
