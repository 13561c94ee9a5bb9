//! Collecting shares: from a certified exchange to the token.
//!
//! # Specification
//!
//! Members are asked while the own certificate is still on its way: each answers when it holds its own. What comes is
//! used once the verdict is certified here, and only if it is for that verdict; a member that had no certificate is asked
//! once more. Which members are asked first rotates with the exchange id, so that all share the work; the next one is asked when
//! one fails or its patience runs out. `q` shares are combined without checking each ([`combine`]). If the token is
//! wrong, the wrong shares are thrown away, their authors blamed, and others asked.
//!
//! Whoever is blamed ([`super::blame`]) is asked last, when too few others answer, and its shares are verified one by one
//! before they are combined: a wrong one costs one verification, and spoils nobody's batch.
//!
//! # Guarantees
//!
//! What [`Collector::token`] gives is a valid token for the certified verdict, whatever the members asked have sent
//! (`a_wrong_share_is_found_and_done_without`). Who has sent a wrong share is not asked for the next one while others
//! answer (`who_sends_wrong_shares_is_asked_last_until_it_is_cleared`).

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use fairpost_proto::ids::{ExchangeId, Verdict};
use fairpost_proto::threshold::{Message, Share, Token};
use fairpost_proto::view::View;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tracing::debug;

use super::{blame, combine, service};
use crate::ledger::Exchange;
use crate::store::{self, Ledger, VerifiedToken};

/// How long a member has before the next one is asked as well.
const PATIENCE: Duration = Duration::from_millis(100);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Every member was asked, and too few gave a valid share.
    #[error("{found} valid shares, and it takes {needed}")]
    TooFew {
        /// The quorum.
        needed: usize,
        /// Valid shares.
        found: usize,
    },
    /// The witness fails.
    #[error(transparent)]
    Witness(#[from] service::Error),
    /// The ledger fails.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The task that computes was cancelled: the node stops.
    #[error("the node stops")]
    Stopped,
}

/// Where other members' shares come from.
pub trait Shares: Send + Sync + 'static {
    /// The share of the member at this index, for this exchange.
    fn share(&self, member: u16, exchange: ExchangeId) -> BoxFuture<'static, Given>;
}

/// What a member gives: its share, and for which verdict.
pub type Given = Result<(Verdict, Share), NoShare>;

/// Why a member gives no share.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NoShare {
    /// It gave none, or was not reached. The text is for the log.
    #[error("{0}")]
    None(String),
    /// It gave something that is no share.
    #[error("what came is no share: {problem}")]
    Malformed {
        /// What it gave.
        bytes: Vec<u8>,
        /// What is wrong with it.
        problem: String,
    },
}

/// Who said it, and what.
type Answer = (u16, Given);

/// The members in the order in which they are asked for their shares of one token.
#[derive(Default)]
struct Asked {
    /// Not asked yet.
    waiting: VecDeque<u16>,
    /// Asked.
    under_way: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// What they said before the verdict was certified here.
    early: Vec<Answer>,
}

/// The share, if it is for this verdict.
fn of_verdict(answer: Given, verdict: Verdict) -> Result<Share, NoShare> {
    let (found, share) = answer?;
    let other = || NoShare::None(format!("it came for {found}, not for {verdict}"));
    if found == verdict { Ok(share) } else { Err(other()) }
}

/// Makes tokens.
#[derive(Clone)]
pub struct Collector {
    view: Arc<View>,
    index: u16,
    ledger: Ledger,
    witness: service::Handle,
    combiner: combine::Handle,
    others: Arc<dyn Shares>,
    blame: blame::Handle,
}

impl Collector {
    /// A collector for the member at `index`.
    pub fn new(
        view: Arc<View>,
        index: u16,
        ledger: Ledger,
        witness: service::Handle,
        combiner: combine::Handle,
        others: Arc<dyn Shares>,
    ) -> Self {
        let blame = witness.blame().clone();
        Self { view, index, ledger, witness, combiner, others, blame }
    }

    /// Waits until the exchange is certified here, and gives it with its token. Takes as long as it takes: the caller
    /// sets the deadline.
    pub async fn token(&self, id: &ExchangeId) -> Result<(Exchange, VerifiedToken), Error> {
        // Once it has a token an exchange has its verdict, whatever rounds come after.
        if let Some(exchange) = self.ledger.exchange(id)?
            && let Some(token) = self.ledger.token(id, exchange.leaf.verdict)?
        {
            return Ok((exchange, token));
        }
        let (exchange, asked) = self.certified(id).await?;
        let verdict = exchange.leaf.verdict;
        if let Some(token) = self.ledger.token(id, verdict)? {
            return Ok((exchange, token));
        }
        let token = self.collect(&exchange, asked).await?;
        let token = self.ledger.put_token(id, verdict, &token).await?;
        Ok((exchange, token))
    }

    /// The exchange once it is certified here, and the members that were asked meanwhile.
    async fn certified(&self, id: &ExchangeId) -> Result<(Exchange, Asked), Error> {
        let mut certified = pin!(self.witness.certified(id));
        let mut asked = Asked { waiting: self.order(id).into(), ..Asked::default() };
        if let Poll::Ready(exchange) = futures::poll!(certified.as_mut()) {
            return Ok((exchange?, asked));
        }
        for _ in usize::from(self.witness.may_sign())..self.view.quorum().q() {
            self.ask_next(&mut asked, id);
        }
        loop {
            tokio::select! {
                biased;
                exchange = &mut certified => return Ok((exchange?, asked)),
                Some(answer) = asked.under_way.next() => asked.early.push(answer),
            }
        }
    }

    async fn collect(&self, exchange: &Exchange, mut asked: Asked) -> Result<Token, Error> {
        let (id, verdict) = (exchange.leaf.exchange, exchange.leaf.verdict);
        let needed = self.view.quorum().q();
        let mut shares = combine::Shares::new();
        let mut expected = Some(self.combiner.expect());
        for (member, answer) in std::mem::take(&mut asked.early) {
            match of_verdict(answer, verdict) {
                Ok(share) => self.take(&id, verdict, &mut shares, member, share).await,
                Err(malformed @ NoShare::Malformed { .. }) => self.none(&id, member, malformed),
                // By now it may hold the certificate that it lacked.
                Err(NoShare::None(_)) => asked.waiting.push_back(member),
            }
        }
        if self.witness.may_sign() {
            asked.under_way.push(self.own(exchange.clone()));
        }
        loop {
            // As many as are needed are under way; one more after each silence.
            while shares.len() + asked.under_way.len() < needed && self.ask_next(&mut asked, &id) {}
            if shares.len() >= needed {
                drop(expected.take());
                if let Some(token) = self.combine(id, verdict, &mut shares).await? {
                    return Ok(token);
                }
                expected = Some(self.combiner.expect());
                continue;
            }
            match tokio::time::timeout(PATIENCE, asked.under_way.next()).await {
                Ok(Some((member, answer))) => match of_verdict(answer, verdict) {
                    Ok(share) => self.take(&id, verdict, &mut shares, member, share).await,
                    Err(problem) => self.none(&id, member, problem),
                },
                Ok(None) => return Err(Error::TooFew { needed, found: shares.len() }),
                Err(_) => drop(self.ask_next(&mut asked, &id)),
            }
        }
    }

    /// Asks the next member, if there is one that was not asked yet.
    fn ask_next(&self, asked: &mut Asked, id: &ExchangeId) -> bool {
        let Some(member) = asked.waiting.pop_front() else { return false };
        let answer = self.others.share(member, *id);
        asked.under_way.push(Box::pin(async move { (member, answer.await) }));
        true
    }

    /// Takes a share to those that will be combined; that of a member that is blamed only if it verifies.
    async fn take(
        &self,
        exchange: &ExchangeId,
        verdict: Verdict,
        shares: &mut combine::Shares,
        member: u16,
        share: Share,
    ) {
        if member != self.index && self.blame.is_blamed(member) {
            let message = Message::Verdict { cluster: self.view.cluster(), verdict, exchange: *exchange };
            let key = self.view.share_keys().get(usize::from(member)).copied();
            let checked = tokio::task::spawn_blocking(move || {
                key.is_some_and(|key| key.verify(&message, &share).is_ok())
            });
            if !checked.await.unwrap_or(false) {
                self.blame.share(member, exchange, verdict, &share.to_bytes());
                return;
            }
        }
        shares.insert(member, share);
    }

    fn none(&self, exchange: &ExchangeId, member: u16, problem: NoShare) {
        debug!(%exchange, member = self.name(member), %problem, "no share");
        if let NoShare::Malformed { bytes, problem } = problem {
            self.blame.malformed_share(member, exchange, &problem, &bytes);
        }
    }

    /// The other members, beginning with another one for each exchange; those that are blamed come last.
    fn order(&self, id: &ExchangeId) -> Vec<u16> {
        let n = self.view.quorum().n() as u16;
        let start = u16::from(id.as_bytes().first().copied().unwrap_or_default()) % n;
        let others = (0..n).map(|step| (start + step) % n).filter(|member| *member != self.index);
        let mut order: Vec<u16> = others.collect();
        order.sort_by_cached_key(|member| self.blame.is_blamed(*member));
        order
    }

    fn own(&self, exchange: Exchange) -> BoxFuture<'static, Answer> {
        let (witness, index) = (self.witness.clone(), self.index);
        Box::pin(async move {
            let signed = tokio::task::spawn_blocking(move || witness.share(&exchange)).await;
            let share = match signed {
                Ok(share) => share.map_err(|error| NoShare::None(error.to_string())),
                Err(stopped) => Err(NoShare::None(stopped.to_string())),
            };
            (index, share)
        })
    }

    /// The token of these shares; none if some were wrong: those are gone then.
    async fn combine(
        &self,
        exchange: ExchangeId,
        verdict: Verdict,
        shares: &mut combine::Shares,
    ) -> Result<Option<Token>, Error> {
        let combined = self.combiner.combine(exchange, verdict, shares.clone()).await;
        match combined.ok_or(Error::Stopped)? {
            Ok(token) => Ok(Some(token)),
            Err(liars) => {
                for member in liars {
                    if let Some(share) = shares.remove(&member) {
                        self.blame.share(member, &exchange, verdict, &share.to_bytes());
                    }
                }
                Ok(None)
            }
        }
    }

    fn name(&self, member: u16) -> &str {
        self.view.members().get(usize::from(member)).map_or("?", |member| &member.name)
    }
}
