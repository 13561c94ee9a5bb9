//! Combining shares to tokens, and verifying the tokens many at once.
//!
//! # Specification
//!
//! While one batch is worked on, the next one gathers, and it waits a moment for those whose shares are still on their
//! way: whoever collects shares says so ([`Handle::expect`]), so that one who is alone waits for nobody. All tokens of a
//! batch are verified together ([`PublicKey::verify_batch`]). Only when that fails is each verified by itself; and only those that are wrong have
//! their shares checked one by one, to name whose are.
//!
//! # Guarantees
//!
//! - A token that comes out is the cluster's signature on its verdict, whatever the shares were
//!   (`one_wrong_share_does_not_spoil_the_others`).
//! - Whoever is named sent a share that does not verify under its own key (same test).
//!
//! [`PublicKey::verify_batch`]: fairpost_proto::threshold::PublicKey::verify_batch

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fairpost_proto::ids::{ExchangeId, Verdict};
use fairpost_proto::threshold::{self, Message, Share, Token};
use fairpost_proto::view::View;
use rand::rngs::OsRng;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::metrics;

/// How many sets of shares may wait; whoever comes next waits for a place.
const QUEUE: usize = 1024;
/// How many tokens are verified together.
const BATCH: usize = 128;
/// How long a batch waits for shares that are on their way.
const GATHER: Duration = Duration::from_millis(5);

/// Shares by their members' indices.
pub type Shares = BTreeMap<u16, Share>;
/// The token, or the members whose shares are wrong.
pub type Combined = Result<Token, Vec<u16>>;

struct Work {
    message: Message,
    shares: Shares,
    answer: oneshot::Sender<Combined>,
}

/// Has shares combined.
#[derive(Clone)]
pub struct Handle {
    view: Arc<View>,
    queue: mpsc::Sender<Work>,
    expected: Arc<AtomicUsize>,
}

/// Somebody collects shares, until the value is dropped.
pub struct Expected(Arc<AtomicUsize>);

impl Drop for Expected {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Handle {
    /// Says that shares will soon be handed in.
    pub fn expect(&self) -> Expected {
        self.expected.fetch_add(1, Ordering::Relaxed);
        Expected(Arc::clone(&self.expected))
    }

    /// Combines `q` or more shares of the token for this verdict; none when the node stops.
    pub async fn combine(&self, exchange: ExchangeId, verdict: Verdict, shares: Shares) -> Option<Combined> {
        let message = Message::Verdict { cluster: self.view.cluster(), verdict, exchange };
        let (answer, combined) = oneshot::channel();
        self.queue.send(Work { message, shares, answer }).await.ok()?;
        combined.await.ok()
    }
}

/// The task that combines.
pub struct Service {
    view: Arc<View>,
    queue: mpsc::Receiver<Work>,
    expected: Arc<AtomicUsize>,
}

impl Service {
    /// For the cluster of this view.
    pub fn new(view: Arc<View>) -> (Self, Handle) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let expected = Arc::<AtomicUsize>::default();
        let handle = Handle { view: Arc::clone(&view), queue: sender, expected: Arc::clone(&expected) };
        (Self { view, queue, expected }, handle)
    }

    /// Runs until every handle is gone.
    pub async fn run(mut self) {
        loop {
            let work = self.gather().await;
            if work.is_empty() {
                return;
            }
            metrics::token_batch(work.len());
            let view = Arc::clone(&self.view);
            let done = tokio::task::spawn_blocking(move || finish(&view, work)).await;
            if done.is_err() {
                tracing::error!("a batch of shares could not be combined: their requests fail");
            }
        }
    }

    /// The next batch; empty when every handle is gone.
    async fn gather(&mut self) -> Vec<Work> {
        let mut batch = Vec::new();
        if self.queue.recv_many(&mut batch, BATCH).await == 0 {
            return batch;
        }
        let end = Instant::now() + GATHER;
        while batch.len() < BATCH && self.expected.load(Ordering::Relaxed) > 0 {
            let left = BATCH - batch.len();
            match timeout_at(end, self.queue.recv_many(&mut batch, left)).await {
                Ok(more) if more > 0 => {}
                _ => break,
            }
        }
        batch
    }
}

fn finish(view: &View, work: Vec<Work>) {
    let combined: Vec<Option<(Message, Token)>> = work.iter().map(|work| combine(view, work)).collect();
    let tokens: Vec<(Message, Token)> = combined.iter().flatten().copied().collect();
    let key = view.public_key();
    let all_right = key.verify_batch(&tokens, &mut OsRng);
    for (work, combined) in work.into_iter().zip(combined) {
        let right = combined.filter(|(message, token)| all_right || key.verify(message, token).is_ok());
        let result = match right {
            Some((_, token)) => Ok(token),
            None => Err(wrong(view, &work)),
        };
        // Whoever asked may have given up.
        let _ = work.answer.send(result);
    }
}

fn combine(view: &View, work: &Work) -> Option<(Message, Token)> {
    let shares: Vec<(u16, Share)> = work.shares.iter().map(|(member, share)| (*member, *share)).collect();
    Some((work.message, threshold::combine(view.quorum().q(), &shares).ok()?))
}

/// The members whose shares do not verify.
fn wrong(view: &View, work: &Work) -> Vec<u16> {
    let holds = |member: u16, share: &Share| {
        let key = view.share_keys().get(usize::from(member));
        key.is_some_and(|key| key.verify(&work.message, share).is_ok())
    };
    let wrong = work.shares.iter().filter(|(member, share)| !holds(**member, share));
    wrong.map(|(member, _)| *member).collect()
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn one_wrong_share_does_not_spoil_the_others() {
        let world = World::new();
        let view = Arc::new(world.view.clone());
        let (service, handle) = Service::new(Arc::clone(&view));
        let message = |number, verdict| Message::Verdict {
            cluster: view.cluster(),
            verdict,
            exchange: ExchangeId::new([number; 32]),
        };
        let asked = (0..20_u8).map(|number| {
            let mut shares: Shares = [0_u16, 1, 3]
                .map(|member| {
                    let key = &world.shares[usize::from(member)];
                    (member, key.sign(&message(number, Verdict::Released)))
                })
                .into();
            if number == 7 {
                shares.insert(1, world.shares[1].sign(&message(number, Verdict::Withdrawn)));
            }
            let handle = handle.clone();
            async move { handle.combine(ExchangeId::new([number; 32]), Verdict::Released, shares).await }
        });
        let asked = join_all(asked.collect::<Vec<_>>());
        drop(handle);
        let (combined, ()) = tokio::join!(asked, service.run());
        for (number, combined) in (0..).zip(combined) {
            match combined.unwrap() {
                Ok(token) => {
                    let message = message(number, Verdict::Released);
                    view.public_key().verify(&message, &token).unwrap();
                    assert_ne!(number, 7);
                }
                Err(wrong) => assert_eq!((number, wrong), (7, vec![1])),
            }
        }
    }
}
