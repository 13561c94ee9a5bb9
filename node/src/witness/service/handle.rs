//! What others ask of the witness: votes, certificates, shares.

use std::time::Duration;

use fairpost_proto::cose::Signed as Cose;
use fairpost_proto::entry::Demand;
use fairpost_proto::ids::{ExchangeId, KeyId, Timestamp, Verdict};
use fairpost_proto::leaf::Round;
use fairpost_proto::misconduct::{Act, Voted};
use fairpost_proto::round::{Acknowledgement, Statement};
use fairpost_proto::threshold::{Message, Share};
use fairpost_proto::vote::Certificate;
use tokio::sync::{oneshot, watch};
use tracing::debug;

use super::later::Ask;
use super::{Error, Handle, Inner, Received, Standing};
use crate::ledger::Exchange;
use crate::witness::blame;
use crate::witness::refusals::{Asked, Refused};
use crate::witness::rules::{self, Acknowledged};
use crate::witness::store::Receipt;
use crate::witness::tally::Tally;

impl Handle {
    /// Whether this server signs at all.
    pub fn may_sign(&self) -> bool {
        self.0.handle_may_sign()
    }

    /// Whether it is known that this server signs nothing, as long as it runs.
    pub fn is_closed(&self) -> bool {
        !matches!(*self.0.standing.lock(), Standing::Open | Standing::Waits { .. })
    }

    /// Why it does not, if it does not.
    pub fn closed_because(&self) -> Option<String> {
        self.0.closed_because()
    }

    /// The object with the highest number that a member has signed, as far as this server has seen it.
    pub fn newest(&self, member: u16) -> Option<Vec<u8>> {
        let member = self.0.options.view.members().get(usize::from(member))?;
        self.0.store.newest(&member.key_id())
    }

    /// Keeps a statement, which holds, if it is the newest that its author has signed.
    pub fn note(&self, author: KeyId, number: u64, statement: &[u8]) -> Result<(), Error> {
        self.0.note(author, number, statement)
    }

    /// The last entry that this server has voted on.
    pub fn voted(&self) -> Result<u64, Error> {
        Ok(self.0.store.last_chosen()?)
    }

    /// How many leaves in memory still lack what a share for them takes.
    pub fn uncertified(&self) -> usize {
        self.0.tallies.lock().values().map(|tally| tally.unripe().count()).sum()
    }

    /// The exchanges in memory that have lacked something for so long, the longest first; at most so many.
    pub fn contested(&self, waited: Duration, most: usize) -> Vec<ExchangeId> {
        let since = self.0.since.lock().clone();
        let tallies = self.0.tallies.lock();
        let mut late: Vec<(Duration, &Tally)> = tallies
            .iter()
            .filter_map(|(sequence, tally)| Some((since.get(sequence)?.elapsed(), tally)))
            .filter(|(late, _)| *late >= waited)
            .collect();
        late.sort_unstable_by_key(|(late, _)| std::cmp::Reverse(*late));
        late.into_iter().flat_map(|(_, tally)| tally.unripe().map(|leaf| leaf.exchange)).take(most).collect()
    }

    /// This server's statement for a round of an exchange, by the rules.
    pub async fn statement(&self, exchange: &ExchangeId, round: Round) -> Result<Cose<Statement>, Error> {
        let (answer, stated) = oneshot::channel();
        let ask = Ask { exchange: *exchange, round, answer };
        let busy = || Error::Closed("too many ask for statements, or the node stops".into());
        self.0.asked.try_send(ask).map_err(|_| busy())?;
        stated.await.unwrap_or_else(|_| Err(busy()))
    }

    /// The evidence that this server has for an exchange: that of each of its rounds, and a receipt that it kept.
    pub fn evidence(&self, exchange: &ExchangeId) -> Result<Vec<Demand>, Error> {
        let rounds = self.0.options.ledger.rounds(exchange)?;
        let rounds = rounds.into_iter().filter(|exchange| exchange.dropped.is_none());
        let mut all: Vec<Demand> = rounds
            .map(|Exchange { leaf, nro, evidence, .. }| Demand { verdict: leaf.verdict, nro, evidence })
            .collect();
        if let Some((nro, nrr)) = self.0.store.receipt(exchange)?.and_then(|receipt| receipt.signed) {
            all.push(Demand { verdict: Verdict::Released, nro, evidence: Some(nrr) });
        }
        all.dedup();
        Ok(all)
    }

    /// Who is blamed for what.
    pub fn blame(&self) -> &blame::Handle {
        &self.0.options.blame
    }

    /// Why this server did not sign, the newest refusals first.
    pub fn refusals(&self) -> Vec<Refused> {
        self.0.refusals.newest()
    }

    /// Looks whether a member that voted in this certificate voted for another leaf of the same round here. The
    /// certificate was checked.
    pub fn compare(&self, certificate: &Certificate) -> Result<(), Error> {
        let theirs = certificate.leaf();
        let rounds = self.0.options.ledger.rounds(&theirs.exchange)?;
        let Some(ours) = rounds.iter().find(|ours| ours.leaf.round == theirs.round) else { return Ok(()) };
        if ours.leaf == *theirs {
            return Ok(());
        }
        self.0.take_up(ours.sequence)?;
        let held = match self.0.tallies.lock().get(&ours.sequence) {
            Some(tally) => tally.voted(ours.place as usize),
            None => return Ok(()),
        };
        for (vote, proof) in certificate.proved_votes() {
            let other = Voted { leaf: *theirs, vote: vote.clone(), proof: proof.clone() };
            if let Some(held) = held.iter().find(|held| held.vote.signer() == vote.signer()) {
                self.0.options.blame.convict(Act::Leaves(Box::new([held.clone(), other])));
            }
        }
        Ok(())
    }

    /// How many exchanges' certificates somebody waits for.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.0.waiting.len()
    }

    /// Hands in votes, which this member sent. They are checked before they count; when too many wait, they are dropped.
    pub fn receive(&self, from: u16, votes: Vec<Received>) {
        for vote in votes {
            if self.0.received.try_send((from, vote)).is_err() {
                debug!("too many votes wait to be counted: one is dropped, and will be asked for");
            }
        }
    }

    /// Hands in acknowledgements, which this member sent. They are checked before they count; when too many wait, they are dropped.
    pub fn receive_acknowledgements(&self, from: u16, acknowledgements: Vec<Cose<Acknowledgement>>) {
        for acknowledgement in acknowledgements {
            if self.0.acknowledged.try_send((from, acknowledgement)).is_err() {
                debug!("too many acknowledgements wait to be counted: one is dropped, and will be asked for");
            }
        }
    }

    /// The acknowledgements that this server has of an entry's leaves.
    pub fn acknowledgements(&self, sequence: u64) -> Result<Vec<Cose<Acknowledgement>>, Error> {
        if let Some(tally) = self.0.tallies.lock().get(&sequence) {
            return Ok(tally.all_acknowledgements().cloned().collect());
        }
        let Some(block) = self.0.options.ledger.block(sequence)? else { return Ok(Vec::new()) };
        Ok(self.0.stored_tally(block)?.all_acknowledgements().cloned().collect())
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

    /// Keeps, synced, a receipt, the NRO that it answers, and when it was seen.
    pub async fn saw_receipt(
        &self,
        exchange: &ExchangeId,
        seen: Timestamp,
        nro: Vec<u8>,
        nrr: Vec<u8>,
    ) -> Result<(), Error> {
        Ok(self.0.store.put_receipt(exchange, &Receipt { seen, signed: Some((nro, nrr)) }).await?)
    }

    /// The certificate of a decided exchange, if one is stored here: of its last round, or of an earlier one that says the
    /// same.
    pub fn certificate(&self, exchange: &Exchange) -> Result<Option<Certificate>, Error> {
        let last = self.certificate_of(exchange)?;
        if last.is_some() || exchange.leaf.round == Round::FIRST {
            return Ok(last);
        }
        for earlier in self.0.options.ledger.rounds(&exchange.leaf.exchange)?.iter().rev() {
            let (held, last) = (earlier.leaf, exchange.leaf);
            let same = (held.verdict, held.nro, held.evidence) == (last.verdict, last.nro, last.evidence);
            if same && let Some(certificate) = self.certificate_of(earlier)? {
                return Ok(Some(certificate));
            }
        }
        Ok(None)
    }

    fn certificate_of(&self, exchange: &Exchange) -> Result<Option<Certificate>, Error> {
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

    /// Whether all that a share for this exchange's last round takes is stored here.
    pub fn is_certified(&self, id: &ExchangeId) -> Result<bool, Error> {
        let Some(exchange) = self.0.options.ledger.exchange(id)? else { return Ok(false) };
        Ok(self.0.look_up(&exchange, |tally, place| tally.ripe(place).map(drop))?.is_some())
    }

    /// Waits until the certificate of an exchange is stored here, and in a later round the acknowledgements of a quorum;
    /// gives the decided exchange. Takes as long as it takes: the caller sets the deadline.
    pub async fn certified(&self, id: &ExchangeId) -> Result<Exchange, Error> {
        let waiter = self.0.waiting.join(*id);
        loop {
            let mut woken = std::pin::pin!(waiter.woken());
            woken.as_mut().enable();
            if let Some(exchange) = self.0.options.ledger.exchange(id)?
                && self.0.look_up(&exchange, |tally, place| tally.ripe(place).map(drop))?.is_some()
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
        // First the certificate, then the promise: whoever promised after that had the certificate, and stated it.
        let stored =
            self.0.look_up(exchange, |tally, place| Some((*tally.stored(place)?, tally.confirmed(place))))?;
        let (leaf, found) = stored.map_or((None, 0), |(leaf, found)| (Some(leaf), found));
        let signed = self.0.store.signed(&exchange.leaf.exchange, exchange.leaf.round)?;
        let acknowledged = Acknowledged { needed: self.0.options.view.quorum().q(), found };
        let verdict = rules::may_share(&signed, leaf.as_ref(), acknowledged).inspect_err(|refusal| {
            self.0.refuse(Asked::Share, &exchange.leaf.exchange, exchange.leaf.round, refusal);
        })?;
        let (cluster, exchange) = (self.0.options.view.cluster(), exchange.leaf.exchange);
        let share = self.0.options.share.share().ok_or_else(|| Error::Closed("it has no share".into()))?;
        Ok((verdict, share.sign(&Message::Verdict { cluster, verdict, exchange })))
    }
}

impl Inner {
    pub(super) fn closed_because(&self) -> Option<String> {
        match &*self.standing.lock() {
            Standing::Open => None,
            Standing::NoShare => {
                Some("the key was made without this node; it needs a share from a resharing".into())
            }
            Standing::Lost { expected, found } => Some(format!(
                "the share is bound to witness store {expected}, and here is {}; this node needs a new share",
                found.as_deref().unwrap_or("none")
            )),
            Standing::Waits { told, needed } => Some(format!(
                "it waits for members to tell what they hold of it: {told} of {needed} have, itself included"
            )),
            Standing::RolledBack { own, found } => Some(format!(
                "it was rolled back: its witness store ends with number {own}, and members hold what it signed under number \
                 {found}; this node needs a new share"
            )),
        }
    }
}
