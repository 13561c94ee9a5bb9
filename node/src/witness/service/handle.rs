//! What others ask of the witness: votes, certificates, shares.

use fairpost_proto::ids::{ExchangeId, Timestamp, Verdict};
use fairpost_proto::threshold::{Message, Share};
use fairpost_proto::vote::Certificate;
use tokio::sync::watch;
use tracing::debug;

use super::{Error, Handle, Received, Standing};
use crate::ledger::Exchange;
use crate::witness::metrics;
use crate::witness::rules::{self, Acknowledged};
use crate::witness::tally::Tally;

impl Handle {
    /// Whether this server signs at all.
    pub fn may_sign(&self) -> bool {
        self.0.handle_may_sign()
    }

    /// Why it does not, if it does not.
    pub fn closed_because(&self) -> Option<String> {
        match &self.0.standing {
            Standing::Open => None,
            Standing::Lost { expected, found } => Some(format!(
                "the share is bound to witness store {expected}, and here is {}; this node needs a new share",
                found.as_deref().unwrap_or("none")
            )),
        }
    }

    /// The last entry that this server has voted on.
    pub fn voted(&self) -> Result<u64, Error> {
        Ok(self.0.store.last_chosen()?)
    }

    /// How many of the entries in memory still lack a certificate.
    pub fn uncertified(&self) -> usize {
        let view = &self.0.options.view;
        let tallies = self.0.tallies.lock();
        tallies.values().map(|tally| tally.block().leaves.len() - tally.certified(view).len()).sum()
    }

    /// Hands in votes of other members. They are checked before they count; when too many wait, they are dropped.
    pub fn receive(&self, votes: Vec<Received>) {
        for vote in votes {
            if self.0.received.try_send(vote).is_err() {
                debug!("too many votes wait to be counted: one is dropped, and will be asked for");
            }
        }
    }

    /// The votes that this server has on an entry.
    pub fn votes(&self, sequence: u64) -> Result<Vec<Received>, Error> {
        if let Some(tally) = self.0.tallies.lock().get(&sequence) {
            return Ok(tally.votes().map(Received::from).collect());
        }
        let Some(block) = self.0.options.ledger.block(sequence)? else { return Ok(Vec::new()) };
        let mut votes: Vec<Received> = self.0.store.certificate(&block)?.iter().map(Received::from).collect();
        if self.may_sign() {
            let own = self.0.sign(&block)?;
            votes.extend(
                own.iter()
                    .filter(|own| !votes.iter().any(|vote| vote.vote.bytes() == own.vote.bytes()))
                    .map(Received::from)
                    .collect::<Vec<_>>(),
            );
        }
        Ok(votes)
    }

    /// Keeps, synced, that a receipt was seen.
    pub async fn saw_receipt(&self, exchange: &ExchangeId, seen: Timestamp) -> Result<(), Error> {
        Ok(self.0.store.put_receipt(exchange, seen).await?)
    }

    /// The certificate of a decided exchange, if it is stored here.
    pub fn certificate(&self, exchange: &Exchange) -> Result<Option<Certificate>, Error> {
        let (view, place) = (&self.0.options.view, exchange.place as usize);
        let held = self.0.tallies.lock().get(&exchange.sequence).cloned();
        if let Some(tally) = held.filter(|tally| tally.stored(place).is_some()) {
            return Ok(tally.certificate(view, place));
        }
        let Some(block) = self.0.options.ledger.block(exchange.sequence)? else { return Ok(None) };
        let mut tally = Tally::new(block);
        let stored = self.0.store.certificate(tally.block())?;
        tally.restore(view, stored);
        Ok(tally.certificate(view, place))
    }

    /// Waits until the certificate of an exchange is stored here; gives the decided exchange. Takes as long as it
    /// takes: the caller sets the deadline.
    pub async fn certified(&self, id: &ExchangeId) -> Result<Exchange, Error> {
        let waiter = self.0.waiting.join(*id);
        loop {
            let mut woken = std::pin::pin!(waiter.woken());
            woken.as_mut().enable();
            if let Some(exchange) = self.0.options.ledger.exchange(id)?
                && self.0.certified_leaf(&exchange)?.is_some()
            {
                return Ok(exchange);
            }
            woken.await;
        }
    }

    /// Tells the last entry all of whose leaves are certified here.
    pub fn watch_certified(&self) -> watch::Receiver<u64> {
        self.0.certified.subscribe()
    }

    /// This server's share of the token for a decided exchange, by the rules.
    pub fn share(&self, exchange: &Exchange) -> Result<(Verdict, Share), Error> {
        if let Some(reason) = self.closed_because() {
            return Err(Error::Closed(reason));
        }
        let leaf = self.0.certified_leaf(exchange)?;
        let signed = self.0.store.signed(&exchange.leaf.exchange, exchange.leaf.round)?;
        let acknowledged = Acknowledged { needed: self.0.options.view.quorum().q(), found: 0 };
        let verdict = rules::may_share(&signed, leaf.as_ref(), acknowledged).inspect_err(metrics::refused)?;
        let (cluster, exchange) = (self.0.options.view.cluster(), exchange.leaf.exchange);
        Ok((verdict, self.0.options.share.share().sign(&Message::Verdict { cluster, verdict, exchange })))
    }
}
