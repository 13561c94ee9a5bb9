//! Combining shares to tokens, and verifying the tokens many at once.
//!
//! # Specification
//!
//! While one batch is worked on, the next one gathers. All tokens of a batch are verified together
//! ([`PublicKey::verify_batch`]). Only when that fails is each verified by itself; and only those that are wrong have
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

use fairpost_proto::ids::{ExchangeId, Verdict};
use fairpost_proto::threshold::{self, Message, Share, Token};
use fairpost_proto::view::View;
use rand::rngs::OsRng;
use tokio::sync::{mpsc, oneshot};

use super::metrics;

/// How many sets of shares may wait; whoever comes next waits for a place.
const QUEUE: usize = 1024;
/// How many tokens are verified together.
const BATCH: usize = 128;

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
}

impl Handle {
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
}

impl Service {
    /// For the cluster of this view.
    pub fn new(view: Arc<View>) -> (Self, Handle) {
        let (sender, queue) = mpsc::channel(QUEUE);
        (Self { view: Arc::clone(&view), queue }, Handle { view, queue: sender })
    }

    /// Runs until every handle is gone.
    pub async fn run(mut self) {
        let mut batch = Vec::new();
        while self.queue.recv_many(&mut batch, BATCH).await > 0 {
            metrics::token_batch(batch.len());
            let (view, work) = (Arc::clone(&self.view), std::mem::take(&mut batch));
            let done = tokio::task::spawn_blocking(move || finish(&view, work)).await;
            if done.is_err() {
                tracing::error!("a batch of shares could not be combined: their requests fail");
            }
        }
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
