//! Trials: whether the leader brings about what it is given.
//!
//! # Specification
//!
//! A leader may send heartbeats and order nothing, or nothing of some clients, or say what is not so. Whoever leads is
//! measured by what comes about: a command that holds is to be certified here within the
//! [patience](consensus::Handle::patience), or to be refused for a reason that this node finds itself (`settles`).
//!
//! - When half of that time has passed for a command of its own, the contact begins a trial, and asks the other members for one:
//!   suspicions of `f + 1` are needed, and each suspects on its own evidence only.
//! - In a trial a member checks the command, hands it to the leader again and again, and when its patience is over suspects the
//!   leader, if that has been the same for all that time.
//! - A trial ends with the certificate or the reason, or after `LONGEST` times the patience. A client that went away
//!   does not end it.
//! - A member has `EACH` trials under way for each that asks, and one for an exchange and verdict.
//!
//! # Guarantees
//!
//! A leader that does nothing is suspected by all, whichever of them was asked (e2e test
//! `a_leader_that_does_nothing_is_replaced`). Who asks for a trial brings about no more than that: a command that does not hold is
//! not tried, and what the leader orders, or rightly refuses, is no evidence against it (test
//! `a_leaders_word_ends_a_trial_only_where_this_node_sees_the_same`).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use fairpost_api::tls::Places;
use fairpost_api::v1::command_result::Kind;
use fairpost_api::v1::{CommandResult, SuspectRequest};
use fairpost_proto::cose::Signed;
use fairpost_proto::entry::{Command, Demand};
use fairpost_proto::evidence::{self, Nro};
use fairpost_proto::ids::{ExchangeId, Timestamp, Verdict};
use fairpost_proto::view::View;
use parking_lot::Mutex;
use tokio::time::timeout;
use tracing::debug;

use super::contact::Contact;
use super::peers::Peers;
use crate::clock;
use crate::consensus;

/// How many trials may be under way for each member.
const EACH: usize = 4;
/// After how many times the patience a trial ends whatever came of it.
const LONGEST: u32 = 4;
/// How long to wait before the command is handed in again.
const RETRY: Duration = Duration::from_millis(200);
/// How long to wait at first before suspicions are passed on again, and at most.
const REPEAT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(32));

/// The trials of this node. Clones are the same.
#[derive(Clone)]
pub struct Trials {
    places: Arc<Places<u16>>,
    running: Arc<Mutex<HashSet<(ExchangeId, Verdict)>>>,
}

impl Default for Trials {
    fn default() -> Self {
        Self { places: Places::new(EACH, usize::MAX), running: Arc::default() }
    }
}

/// Takes the exchange out of those under way.
struct Running(Trials, (ExchangeId, Verdict));

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.lock().remove(&self.1);
    }
}

impl Trials {
    /// Begins a trial for a command of this node's own, whose leader has had so long already, and asks the others for one.
    pub(super) fn begin(&self, contact: &Contact, exchange: ExchangeId, demand: &Demand, waited: Duration) {
        let own = contact.consensus.id();
        let Ok(own) = u16::try_from(own) else { return };
        let command = Command::Party(demand.clone()).to_bytes();
        let asked = SuspectRequest { suspicions: Vec::new(), command };
        let peers = Arc::clone(&contact.peers);
        self.start(contact, own, exchange, demand.clone(), waited, async move { peers.suspect(asked).await });
    }

    /// Begins a trial for `member`, if the command holds.
    pub(super) fn asked(
        &self,
        contact: &Contact,
        member: u16,
        demand: Demand,
    ) -> Result<(), evidence::Error> {
        let (view, now) = (&contact.view, clock::now());
        let nro = evidence::check_nro(view, &demand.nro, now)?;
        evidence::check_evidence(view, demand.verdict, &nro, demand.evidence.as_deref(), now)?;
        let exchange = nro.payload().terms.exchange();
        // By now it may have come about.
        if !contact.stands(&exchange).unwrap_or(true) {
            self.start(contact, member, exchange, demand, Duration::ZERO, async {});
        }
        Ok(())
    }

    fn start(
        &self,
        contact: &Contact,
        member: u16,
        exchange: ExchangeId,
        demand: Demand,
        waited: Duration,
        ask: impl Future<Output = ()> + Send + 'static,
    ) {
        let Some(place) = self.places.take(member) else { return };
        let key = (exchange, demand.verdict);
        if !self.running.lock().insert(key) {
            return;
        }
        let running = Running(self.clone(), key);
        let contact = contact.clone();
        tokio::spawn(async move {
            let (_place, _running) = (place, running);
            debug!(%exchange, member, "the leader is on trial");
            let longest = contact.consensus.patience() * LONGEST;
            let ended = async {
                tokio::select! {
                    _ = contact.witness.certified(&exchange) => {}
                    () = hand_in(&contact, &demand) => {}
                    () = measure(&contact.consensus, waited) => {}
                }
            };
            let _ = tokio::join!(timeout(longest, Box::pin(ended)), ask);
        });
    }
}

/// Hands the command in until it is refused for a reason.
async fn hand_in(contact: &Contact, demand: &Demand) {
    let command = Command::Party(demand.clone());
    loop {
        match contact.hand_in(&command).await {
            Ok(result) if settles(&contact.view, &result, demand, clock::now()) => return,
            // The certificate will show whether that is so; it takes a moment.
            Ok(result) if result.kind() == Kind::Decided => {
                tokio::time::sleep(contact.consensus.patience()).await;
            }
            _ => tokio::time::sleep(RETRY).await,
        }
    }
}

/// Suspects each leader that is followed for as long as the patience, of which the present one has had some. For ever.
async fn measure(consensus: &consensus::Handle, waited: Duration) {
    let mut leader = consensus.watch_leader();
    let mut waited = waited;
    loop {
        let followed = consensus.followed();
        let left = consensus.patience().saturating_sub(std::mem::take(&mut waited));
        match timeout(left, leader.changed()).await {
            Ok(Ok(())) => {}
            // Raft has stopped.
            Ok(Err(_)) => return,
            Err(_) => {
                if let Some((leader, term)) = followed {
                    consensus.suspect(leader, term);
                }
            }
        }
    }
}

/// Whether what a leader says became of a command is an end of it, as far as this node can tell: that it came too late or too early by
/// this node's clock and the skew, or does not hold at some time within the skew. That it is decided
/// the ledger must say.
pub(super) fn settles(view: &View, result: &CommandResult, demand: &Demand, now: Timestamp) -> bool {
    let Ok(nro) = Signed::<Nro>::parse(&demand.nro) else { return true };
    let (skew, grace) = (view.parameters().skew, view.parameters().grace);
    let expires = nro.payload().terms.expires;
    match result.kind() {
        Kind::TooLate => demand.verdict == Verdict::Released && now.plus(skew) >= expires,
        Kind::TooEarly => demand.verdict == Verdict::Expired && now < expires.plus(grace).plus(skew),
        Kind::Invalid => {
            let earlier = now.millis().saturating_sub(skew.millis());
            let earlier = Timestamp::from_millis(earlier).unwrap_or(now);
            [earlier, now, now.plus(skew)].iter().any(|at| {
                let nro = evidence::check_nro(view, &demand.nro, *at);
                let evidence = demand.evidence.as_deref();
                nro.and_then(|nro| evidence::check_evidence(view, demand.verdict, &nro, evidence, *at))
                    .is_err()
            })
        }
        Kind::Decided | Kind::Void | Kind::Unspecified => false,
    }
}

/// Passes suspicions on to the other members as this node hears of them, and again, ever more seldom: some may have missed them.
pub async fn pass_on(consensus: consensus::Handle, peers: Arc<Peers>) {
    let mut news = consensus.watch_suspicions();
    let mut pause = REPEAT.0;
    loop {
        let suspicions: Vec<Vec<u8>> = consensus
            .suspicions()
            .iter()
            .map(|bytes| bytes.to_vec())
            .take(consensus::MAX_SUSPICIONS)
            .collect();
        let again = async {
            if suspicions.is_empty() {
                return std::future::pending().await;
            }
            peers.suspect(SuspectRequest { suspicions: suspicions.clone(), command: Vec::new() }).await;
            tokio::time::sleep(pause).await;
        };
        tokio::select! {
            changed = news.changed() => {
                if changed.is_err() {
                    return;
                }
                pause = REPEAT.0;
            }
            () = again => pause = (pause * 2).min(REPEAT.1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{LIFETIME, World, after};

    #[test]
    fn a_leaders_word_ends_a_trial_only_where_this_node_sees_the_same() {
        let world = World::new();
        let parameters = world.view.parameters();
        let (skew, grace) = (parameters.skew.millis() / 1000, parameters.grace.millis() / 1000);
        let says = |kind: Kind, demand: &Demand, now| {
            let result = CommandResult { kind: kind.into(), ..CommandResult::default() };
            settles(&world.view, &result, demand, after(now))
        };
        let receipt = world.command(1, Verdict::Released);
        let in_time = LIFETIME - skew - 1;
        assert!(!says(Kind::TooLate, &receipt, in_time), "it is not");
        assert!(
            says(Kind::TooLate, &receipt, LIFETIME - skew),
            "by a clock that is wrong by as much as may be"
        );
        assert!(!says(Kind::TooLate, &world.command(2, Verdict::Withdrawn), LIFETIME), "no withdrawal is");
        let expiry = world.command(3, Verdict::Expired);
        assert!(says(Kind::TooEarly, &expiry, LIFETIME + grace + skew - 1));
        assert!(!says(Kind::TooEarly, &expiry, LIFETIME + grace + skew), "it is not");
        assert!(!says(Kind::TooEarly, &receipt, in_time), "a receipt never is");
        assert!(!says(Kind::Invalid, &receipt, in_time), "it holds");
        let mut spoiled = receipt.clone();
        let evidence = spoiled.evidence.as_mut().unwrap();
        let last = evidence.len() - 1;
        evidence[last] ^= 1;
        assert!(says(Kind::Invalid, &spoiled, in_time));
        for kind in [Kind::Decided, Kind::Void, Kind::Unspecified] {
            assert!(!says(kind, &receipt, in_time), "the ledger will say");
        }
    }
}
