//! Later rounds at work: acknowledgements, and the statements that open them.

use std::time::{Duration, Instant};

use fairpost_proto::chain;
use fairpost_proto::cose::Signed as Cose;
use fairpost_proto::evidence::{self, Nro};
use fairpost_proto::ids::{ExchangeId, Span, Timestamp, Verdict};
use fairpost_proto::leaf::{Leaf, Round};
use fairpost_proto::round::{Acknowledgement, Statement};
use fairpost_proto::vote::Certificate;
use tokio::sync::oneshot;
use tracing::{debug, error, info, warn};

use super::{Error, From, Inner};
use crate::ledger::{Block, Exchange, Exchanges as _};
use crate::witness::metrics;
use crate::witness::refusals::Asked;
use crate::witness::rules::{self, Contested, Outlook, Refusal};
use crate::witness::store::Stated;
use crate::witness::tally::Problem;

/// How long a round gets to be decided before a statement for the next one is given.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// Somebody asks for a statement.
pub(super) struct Ask {
    pub(super) exchange: ExchangeId,
    pub(super) round: Round,
    pub(super) answer: oneshot::Sender<Result<Cose<Statement>, Error>>,
}

/// The acknowledgements of the leaf at a place.
type Quorum = (usize, Vec<Cose<Acknowledgement>>);

impl Inner {
    /// The leaves of this entry whose exchange has a further round by now.
    pub(super) fn mark_superseded(&self, sequence: u64) -> Result<(), Error> {
        let unripe: Vec<Leaf> = match self.tallies.lock().get(&sequence) {
            Some(tally) => tally.unripe().copied().collect(),
            None => return Ok(()),
        };
        for leaf in unripe {
            let last = self.options.ledger.standing(&leaf.exchange)?;
            if last.is_some_and(|last| last.round > leaf.round) {
                self.supersede(sequence, &leaf);
            }
        }
        Ok(())
    }

    /// Where this entry gives an exchange a later round, nothing more is to come of the rounds before.
    pub(super) fn supersede_earlier(&self, block: &Block) -> Result<(), Error> {
        for leaf in block.leaves.iter().filter(|leaf| leaf.round > Round::FIRST) {
            for earlier in self.options.ledger.rounds(&leaf.exchange)? {
                if earlier.leaf.round < leaf.round {
                    self.supersede(earlier.sequence, &earlier.leaf);
                }
            }
        }
        Ok(())
    }

    fn supersede(&self, sequence: u64, leaf: &Leaf) {
        if let Some(tally) = self.tallies.lock().get_mut(&sequence)
            && let Some(place) = tally.block().leaves.iter().position(|held| held == leaf)
        {
            tally.supersede(place);
        }
    }

    /// The acknowledgements of leaves of this entry that are stored: those of a quorum, or the own one.
    pub(super) fn stored_acknowledgements(&self, block: &Block) -> Result<Vec<Quorum>, Error> {
        let mut quorums = Vec::new();
        let later = block.leaves.iter().enumerate().filter(|(_, leaf)| leaf.round > Round::FIRST);
        for (place, leaf) in later {
            let stored = self.store.acknowledgements(&leaf.exchange, leaf.round)?;
            if stored.len() >= self.options.view.quorum().q()
                && stored.iter().all(|signed| signed.payload().leaf == leaf.hash())
            {
                quorums.push((place, stored));
            } else if let Some(own) = self.own_acknowledgement(leaf)?.filter(|_| self.handle_may_sign()) {
                quorums.push((place, vec![own]));
            }
        }
        Ok(quorums)
    }

    /// The entries that have leaves of later rounds which are certified here and which this node has not acknowledged.
    pub(super) fn unacknowledged(&self) -> Vec<u64> {
        let (tallies, own) = (self.tallies.lock(), self.options.index);
        let lacking = tallies.values().filter(|tally| {
            let mut waiting = tally.waiting().filter(|(place, _)| !tally.has_acknowledged(*place, own));
            waiting.any(|(_, leaf)| {
                let signed = self.store.signed(&leaf.exchange, leaf.round);
                signed.is_ok_and(|signed| rules::may_acknowledge(&signed, leaf).is_ok())
            })
        });
        lacking.map(|tally| tally.block().sequence).collect()
    }

    /// Acknowledges, with one sync, the certificates of later rounds that are stored for these entries, as far as that may
    /// be done; counts the own acknowledgements and sends them to the others.
    pub(super) async fn acknowledge(&self, sequences: impl IntoIterator<Item = u64>) -> Result<(), Error> {
        if !self.handle_may_sign() {
            return Ok(());
        }
        let (mut fresh, mut leaves) = (Vec::new(), Vec::new());
        {
            let tallies = self.tallies.lock();
            for tally in sequences.into_iter().filter_map(|sequence| tallies.get(&sequence)) {
                leaves.extend(tally.waiting().map(|(_, leaf)| *leaf));
            }
        }
        leaves.retain(|leaf| {
            let signed = self.store.signed(&leaf.exchange, leaf.round);
            match signed.map(|signed| (signed.acknowledged, rules::may_acknowledge(&signed, leaf))) {
                Ok((held, Ok(()))) => {
                    if held.is_none() {
                        fresh.push(*leaf);
                    }
                    true
                }
                Ok((_, Err(refusal))) => {
                    let Leaf { exchange, round, .. } = leaf;
                    info!(%exchange, %round, %refusal, "does not acknowledge");
                    self.refuse(Asked::Acknowledgement, exchange, *round, &refusal);
                    false
                }
                Err(problem) => {
                    error!(%problem, "the witness store does not tell what was acknowledged");
                    false
                }
            }
        });
        if leaves.is_empty() {
            return Ok(());
        }
        if !fresh.is_empty() {
            self.store.acknowledge(&fresh).await?;
            metrics::acknowledged(fresh.len());
        }
        let own = leaves.iter().filter_map(|leaf| self.own_acknowledgement(leaf).transpose());
        let own: Vec<Cose<Acknowledgement>> = own.collect::<Result<_, _>>()?;
        self.options.peers.acknowledge(own.clone());
        self.confirm(own.into_iter().map(|own| (self.options.index, own)).collect()).await
    }

    /// Signs what the store says was acknowledged: the same bytes whenever it is asked.
    pub(super) fn own_acknowledgement(&self, leaf: &Leaf) -> Result<Option<Cose<Acknowledgement>>, Error> {
        let Some((number, hash)) = self.store.acknowledged(&leaf.exchange, leaf.round)? else {
            return Ok(None);
        };
        if hash != leaf.hash() {
            return Ok(None);
        }
        let (cluster, epoch) = (self.options.view.cluster(), self.options.view.epoch());
        let Leaf { exchange, round, .. } = *leaf;
        let payload = Acknowledgement { cluster, epoch, exchange, round, leaf: hash, number };
        let identity = &self.options.identity;
        Ok(Some(Cose::sign(payload, chain::key_id(&identity.verifying_key()), identity)))
    }

    /// Counts acknowledgements, each with the member that sent it. Where they are a quorum's they are stored, with one sync, and whoever waits is woken.
    pub(super) async fn confirm(&self, received: Vec<From<Cose<Acknowledgement>>>) -> Result<(), Error> {
        let (view, mut quorums) = (&self.options.view, Vec::new());
        for (from, signed) in received {
            let (id, signer) = (signed.payload().exchange, *signed.signer());
            // Those of a round that is not the last here come too early or too late: they will be asked for.
            let Some(exchange) = self.options.ledger.exchange(&id)? else { continue };
            if exchange.leaf.round != signed.payload().round {
                continue;
            }
            self.take_up(exchange.sequence)?;
            let mut tallies = self.tallies.lock();
            let Some(tally) = tallies.get_mut(&exchange.sequence) else { continue };
            match tally.acknowledge(view, signed.clone()) {
                Ok(Some(place)) => {
                    let held: Vec<_> = tally.acknowledgements(place).cloned().collect();
                    if tally.confirmed(place) == 0 && held.len() >= view.quorum().q() {
                        quorums.push((exchange, held));
                    }
                    drop(tallies);
                    self.note(signer, signed.payload().number, signed.bytes())?;
                }
                Ok(None) => {}
                Err(problem) => {
                    warn!(exchange = %id, from, %signer, %problem, "an acknowledgement does not count");
                    if let Problem::Signature(_) = problem {
                        let what = format!("an acknowledgement of exchange {id} in the name of {signer}");
                        self.options.blame.signature(from, what, signed.bytes());
                    }
                }
            }
        }
        if quorums.is_empty() {
            return Ok(());
        }
        let stored: Vec<_> = quorums
            .iter()
            .map(|(exchange, held)| (exchange.leaf.exchange, exchange.leaf.round, held.clone()))
            .collect();
        self.store.put_acknowledgements(&stored).await?;
        for (exchange, _) in quorums {
            if let Some(tally) = self.tallies.lock().get_mut(&exchange.sequence) {
                tally.confirm(view, exchange.place as usize);
            }
            self.ripened(exchange.sequence, [exchange.leaf.exchange]);
        }
        Ok(())
    }

    /// Says that something came in that these exchanges lacked, all of this entry.
    pub(super) fn ripened(&self, sequence: u64, exchanges: impl IntoIterator<Item = ExchangeId>) {
        if self.tallies.lock().get(&sequence).is_some_and(super::Tally::is_complete) {
            self.certified.send_if_modified(|last| {
                let further = *last < sequence;
                *last = sequence.max(*last);
                further
            });
        }
        exchanges.into_iter().for_each(|exchange| self.waiting.wake(&exchange));
    }

    /// Answers one who asks for a statement. Only a store that fails is an error here.
    pub(super) async fn answer(&self, ask: Ask) -> Result<(), Error> {
        let stated = self.state(&ask.exchange, ask.round).await;
        if let Err(Error::Refused(refusal)) = &stated {
            debug!(exchange = %ask.exchange, round = %ask.round, %refusal, "gives no statement");
            self.refuse(Asked::Statement, &ask.exchange, ask.round, refusal);
        }
        // Whoever asked may have given up.
        let _ = ask.answer.send(stated);
        Ok(())
    }

    /// The statement for this exchange and round: the same bytes as before, or a new one, by the rules.
    async fn state(&self, exchange: &ExchangeId, round: Round) -> Result<Cose<Statement>, Error> {
        if !self.handle_may_sign() {
            return Err(Error::Closed(self.closed_because().unwrap_or_default()));
        }
        let stated = match self.store.stated(exchange, round)? {
            Some(stated) => stated,
            None => {
                let (contested, stated) = self.look_at(exchange)?;
                let signed = self.store.signed(exchange, round)?;
                rules::may_state(&signed, &contested, round, span(PATIENCE))?;
                info!(%exchange, %round, "states what it knows, and promises the round");
                metrics::stated();
                self.store.state(exchange, round, stated).await?
            }
        };
        let (cluster, epoch) = (self.options.view.cluster(), self.options.view.epoch());
        let Stated { number, certificate, receipt, clock } = stated;
        let exchange = *exchange;
        let statement = Statement { cluster, epoch, exchange, round, certificate, receipt, clock, number };
        let identity = &self.options.identity;
        Ok(Cose::sign(statement, chain::key_id(&identity.verifying_key()), identity))
    }

    /// How the exchange stands here, and what there is to state of it.
    fn look_at(&self, id: &ExchangeId) -> Result<(Contested, Stated), Error> {
        let (clock, rounds) = ((self.options.clock)(), self.options.ledger.rounds(id)?);
        let certificate = self.highest_certificate(id, &rounds)?;
        let receipt = self.first_receipt(id, &rounds, clock)?;
        let waited = match rounds.last() {
            Some(last) => {
                self.take_up(last.sequence)?;
                self.since.lock().get(&last.sequence).map(Instant::elapsed)
            }
            None => None,
        };
        let ledger = &self.options.ledger;
        let tokens = Verdict::ALL.map(|verdict| ledger.token(id, verdict));
        let mut token = false;
        for held in tokens {
            token |= held?.is_some();
        }
        let outlook = self.outlook(&rounds, certificate.is_some(), receipt, clock);
        let last = rounds.last().map(|last| last.leaf.round);
        let contested = Contested { last, waited: span(waited.unwrap_or_default()), token, outlook };
        Ok((contested, Stated { number: 0, certificate, receipt, clock }))
    }

    /// The certificate of the highest round that is stored for the exchange, whole.
    fn highest_certificate(
        &self,
        id: &ExchangeId,
        rounds: &[Exchange],
    ) -> Result<Option<Certificate>, Error> {
        let Some(held) = self.store.held(id)? else { return Ok(None) };
        let found = rounds.iter().find(|exchange| {
            (exchange.leaf.round, exchange.sequence, exchange.place)
                == (held.round, held.sequence, held.place)
        });
        let block = match found {
            Some(exchange) => self.options.ledger.block(exchange.sequence)?,
            None => None,
        };
        // A certificate that can't be shown may not be passed over either.
        let elsewhere = || Error::Refused(Refusal::Elsewhere { round: held.round });
        let block = block.filter(|block| block.log_root == held.root).ok_or_else(elsewhere)?;
        let tally = self.stored_tally(block)?;
        let certificate = tally.certificate(&self.options.view, held.place as usize);
        certificate.map(Some).ok_or_else(elsewhere)
    }

    /// When this server first saw a receipt: what it kept of that; else when it first saw an entry that has one. One that is
    /// in the ledger was seen by now, however it came there.
    fn first_receipt(
        &self,
        id: &ExchangeId,
        rounds: &[Exchange],
        clock: Timestamp,
    ) -> Result<Option<Timestamp>, Error> {
        let mut first = self.store.receipt(id)?.map(|receipt| receipt.seen);
        for exchange in rounds.iter().filter(|exchange| exchange.leaf.verdict == Verdict::Released) {
            let block = self.options.ledger.block(exchange.sequence)?;
            let logged = block.and_then(|block| self.options.log.first_seen(block.index));
            let leaf = &exchange.leaf;
            // Its vote in round 1 vouches for the time, within the skew.
            let voted =
                leaf.round == Round::FIRST && self.store.signed(id, leaf.round)?.voted == Some(leaf.hash());
            let seen = logged.or(voted.then_some(leaf.time)).unwrap_or(clock);
            first = Some(first.map_or(seen, |first| first.min(seen)));
        }
        Ok(first)
    }

    /// What could decide the exchange in another round.
    fn outlook(
        &self,
        rounds: &[Exchange],
        certified: bool,
        receipt: Option<Timestamp>,
        clock: Timestamp,
    ) -> Outlook {
        let view = &self.options.view;
        let nros = rounds.iter().rev().filter_map(|exchange| Cose::<Nro>::parse(&exchange.nro).ok());
        let Some(nro) = nros.into_iter().next() else { return Outlook { certified, ..Outlook::default() } };
        let expires = nro.payload().terms.expires;
        let answers = [Verdict::Withdrawn, Verdict::Refused];
        let answered = rounds.iter().any(|exchange| {
            let (verdict, evidence) = (exchange.leaf.verdict, exchange.evidence.as_deref());
            answers.contains(&verdict)
                && evidence::check(view, verdict, &exchange.nro, evidence, clock).is_ok()
        });
        Outlook {
            certified,
            receipt: receipt.is_some_and(|seen| seen < expires),
            answered,
            due: clock >= expires.plus(view.parameters().grace),
        }
    }
}

fn span(duration: Duration) -> Span {
    Span::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
