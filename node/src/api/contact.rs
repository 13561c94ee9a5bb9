//! The contact: takes a party's request through the cluster, whichever node it came to.
//!
//! # Specification
//!
//! admit (check all that persons signed) → order (by the leader, here or elsewhere, again until it is in the ledger) →
//! finish (wait for the certificate, collect shares, combine). A verdict that stands already goes straight to the end.
//! Every step may be done again, so a request may be asked again after any failure, here or at another node.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fairpost_api::v1::CommandResult;
use fairpost_api::v1::command_result::Kind;
use fairpost_proto::cose::Signed;
use fairpost_proto::entry::{Command, Demand};
use fairpost_proto::evidence::{self, Nro};
use fairpost_proto::ids::{ExchangeId, KeyId, Timestamp, Verdict};
use fairpost_proto::leaf::Round;
use fairpost_proto::request::{self, Method};
use fairpost_proto::view::View;
use futures::future::BoxFuture;
use tonic::Status;
use tracing::debug;

use super::peers::Peers;
use super::trial::{Trials, settles};
use super::{error, metrics};
use crate::clock;
use crate::consensus::{self, sequencer};
use crate::ledger::Exchange;
use crate::store::{Ledger, VerifiedToken};
use crate::witness::collect::{self, Collector};
use crate::witness::rounds::{self, Answer, Others};
use crate::witness::service;

/// How long to wait before a command is handed in again, when there is no leader to hand it to.
const RETRY: Duration = Duration::from_millis(50);

/// A party's request whose signatures hold.
pub struct Admitted {
    /// The exchange.
    pub exchange: ExchangeId,
    /// The NRO that came with it.
    pub nro: Signed<Nro>,
    /// The key that signed the request.
    pub party: KeyId,
    /// This node's time.
    pub now: Timestamp,
}

/// Takes requests through the cluster.
#[derive(Clone)]
pub struct Contact {
    /// The view.
    pub view: Arc<View>,
    /// What is decided.
    pub ledger: Ledger,
    /// Raft.
    pub consensus: consensus::Handle,
    /// Orders commands when this node leads.
    pub sequencer: sequencer::Handle,
    /// The other members.
    pub peers: Arc<Peers>,
    /// What this node signs.
    pub witness: service::Handle,
    /// Makes tokens.
    pub collector: Collector,
    /// Hears of exchanges for which too few give their shares.
    pub rounds: rounds::Handle,
    /// Has the leader suspected that brings nothing about.
    pub trials: Trials,
}

impl Contact {
    /// Checks who asks, and the NRO. `evidence` is what came with the request, if anything.
    pub fn admit(
        &self,
        method: Method,
        signed: &[u8],
        nro: &[u8],
        evidence: Option<&[u8]>,
    ) -> Result<Admitted, Status> {
        let started = Instant::now();
        let now = clock::now();
        let nro =
            evidence::check_nro(&self.view, nro, now).map_err(|fault| error::evidence("nro", &fault))?;
        let request = request::check(&self.view, method, signed, &nro, evidence, now)
            .map_err(|fault| error::request(&fault))?;
        metrics::stage("admit", started.elapsed());
        let party = request.signer().leaf_key().key_id();
        Ok(Admitted { exchange: nro.payload().terms.exchange(), nro, party, now })
    }

    /// Brings about a verdict, or finds the one that stands.
    pub async fn decide(
        &self,
        admitted: &Admitted,
        verdict: Verdict,
        evidence: Option<Vec<u8>>,
    ) -> Result<(Exchange, VerifiedToken), Status> {
        if self.stands(&admitted.exchange)? {
            return self.finish(&admitted.exchange).await;
        }
        let demand = Demand { verdict, nro: admitted.nro.bytes().to_vec(), evidence };
        let mut work = Box::pin(async {
            self.check_command(admitted, verdict, demand.evidence.as_deref()).await?;
            let started = Instant::now();
            self.order(&demand).await?;
            metrics::stage("order", started.elapsed());
            self.finish(&admitted.exchange).await
        });
        let (followed, half) = (self.consensus.followed(), self.consensus.patience() / 2);
        if let Ok(done) = tokio::time::timeout(half, &mut work).await {
            return done;
        }
        let waited = if self.consensus.followed() == followed { half } else { Duration::ZERO };
        self.trials.begin(self, admitted.exchange, &demand, waited);
        work.await
    }

    /// Whether this node's ledger has a verdict for the exchange.
    pub fn stands(&self, exchange: &ExchangeId) -> Result<bool, Status> {
        Ok(self.ledger.exchange(exchange).map_err(|fault| error::internal(&fault))?.is_some())
    }

    /// Whether deadline and grace have passed, by this node's clock.
    pub fn is_due(&self, admitted: &Admitted) -> bool {
        let expires = admitted.nro.payload().terms.expires;
        admitted.now >= expires.plus(self.view.parameters().grace)
    }

    /// Rejects here what every node would reject later, and keeps when a late receipt was first seen.
    async fn check_command(
        &self,
        admitted: &Admitted,
        verdict: Verdict,
        evidence: Option<&[u8]>,
    ) -> Result<(), Status> {
        let (now, parameters) = (admitted.now, self.view.parameters());
        evidence::check_evidence(&self.view, verdict, &admitted.nro, evidence, now)
            .map_err(|fault| error::evidence("evidence", &fault))?;
        if verdict != Verdict::Released {
            return Ok(());
        }
        let expires = admitted.nro.payload().terms.expires;
        // The leader's clock decides, and it may be behind this one by the skew.
        if now >= expires.plus(parameters.skew) {
            return Err(too_late(expires, now));
        }
        // Only a receipt that might come too late needs a witness that it did not.
        let near = parameters.skew.millis() * 2 + parameters.grace.millis();
        if now < expires && now.distance(expires).millis() <= near {
            let (nro, nrr) = (admitted.nro.bytes().to_vec(), evidence.unwrap_or_default().to_vec());
            let kept = self.witness.saw_receipt(&admitted.exchange, now, nro, nrr).await;
            kept.map_err(|fault| error::internal(&fault))?;
        }
        Ok(())
    }

    /// Has a command ordered, by whoever leads, until the ledger has decided on it. Takes as long as it takes.
    async fn order(&self, demand: &Demand) -> Result<(), Status> {
        let command = Command::Party(demand.clone());
        loop {
            let result = match self.hand_in(&command).await {
                Ok(result) => result,
                Err(problem) => {
                    debug!(problem, "a command was not ordered; it is handed in again");
                    self.consensus.leader_changed(RETRY).await;
                    continue;
                }
            };
            let time = Timestamp::from_millis(result.time_millis).unwrap_or(Timestamp::EPOCH);
            let refuses = matches!(result.kind(), Kind::TooLate | Kind::TooEarly | Kind::Invalid);
            if refuses && !settles(&self.view, &result, demand, clock::now()) {
                debug!(?result, "the leader refuses a command that holds; it is handed in again");
                tokio::time::sleep(RETRY).await;
                continue;
            }
            match result.kind() {
                Kind::Decided => return Ok(()),
                Kind::TooLate => {
                    let nro = Signed::<Nro>::parse(&demand.nro);
                    let expires = nro.map_or(Timestamp::EPOCH, |nro| nro.payload().terms.expires);
                    return Err(too_late(expires, time));
                }
                Kind::TooEarly => {
                    let message = format!("at {time} the exchange can't expire yet");
                    return Err(error::precondition("too_early", message, &[]));
                }
                Kind::Invalid => return Err(error::bad_field("evidence", "invalid", result.reason)),
                // Another leader's entry came first: the ledger is further by now.
                Kind::Void | Kind::Unspecified => {}
            }
        }
    }

    pub(super) async fn hand_in(&self, command: &Command) -> Result<CommandResult, String> {
        let results = match self.sequencer.order(vec![command.clone()]).await {
            Ok(results) => results,
            Err(sequencer::Error::NotLeader { leader: Some(leader) }) => {
                return self.peers.forward(leader, command).await;
            }
            Err(other) => return Err(other.to_string()),
        };
        results.into_iter().next().ok_or_else(|| "the leader gave no answer for the command".to_owned())
    }

    /// Waits until the verdict is certified, and gives it with its token.
    pub async fn finish(&self, exchange: &ExchangeId) -> Result<(Exchange, VerifiedToken), Status> {
        let started = Instant::now();
        loop {
            match self.collector.token(exchange).await {
                Ok((exchange, token)) => {
                    metrics::stage("finish", started.elapsed());
                    metrics::verdict(exchange.leaf.verdict);
                    return Ok((exchange, token));
                }
                Err(collect::Error::TooFew { needed, found }) => {
                    debug!(%exchange, needed, found, "too few shares; asking again");
                    self.rounds.stuck(*exchange);
                    tokio::time::sleep(RETRY).await;
                }
                Err(other) => return Err(error::internal(&other)),
            }
        }
    }
}

impl Others for Contact {
    fn statement(
        &self,
        member: u16,
        exchange: ExchangeId,
        round: Round,
    ) -> BoxFuture<'static, Result<Answer, String>> {
        self.peers.statement(member, exchange, round)
    }

    fn leads(&self) -> bool {
        self.consensus.is_leader()
    }

    fn order(&self, command: Command) -> BoxFuture<'static, Result<(), String>> {
        let contact = self.clone();
        Box::pin(async move {
            let result = contact.hand_in(&command).await?;
            match result.kind() {
                Kind::Decided => Ok(()),
                other => Err(format!("{other:?}: {}", result.reason)),
            }
        })
    }
}

fn too_late(expires: Timestamp, time: Timestamp) -> Status {
    let message = format!("the receipt came at {time}, and the deadline was {expires}");
    error::precondition("too_late", message, &[("expires_millis", expires.millis().to_string())])
}
