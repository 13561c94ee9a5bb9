//! This node's doubts in the other members: what [`suspicion`](super::suspicion) and [`pace`](super::pace) are told and
//! asked, with clock and keys.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fairpost_proto::cose::Signed;
use fairpost_proto::suspicion;
use openraft::ServerState;
use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::{info, warn};

use super::grants::Electorate;
use super::guard::Violation;
use super::handle::Handle;
use super::metrics;
use super::pace::{Candidates, Claims};
use super::suspicion::{Doubt, Suspicions};
use super::types::Vote;

/// The most suspicions that are taken at a time: more than any view has members.
pub const MAX_SUSPICIONS: usize = 64;

struct Inner {
    own: u64,
    electorate: Electorate,
    known: Mutex<Suspicions>,
    candidates: Mutex<Candidates>,
    claims: Mutex<Claims>,
    news: watch::Sender<()>,
}

/// What this node holds of the others. Clones are the same.
#[derive(Clone)]
pub(super) struct Doubts(Arc<Inner>);

impl Doubts {
    /// Of node `own`, where elections are called after times between these.
    pub(super) fn new(own: u64, electorate: Electorate, shortest: Duration, longest: Duration) -> Self {
        let faulty = electorate.faulty();
        Self(Arc::new(Inner {
            own,
            electorate,
            known: Mutex::new(Suspicions::new(faulty, longest)),
            candidates: Mutex::new(Candidates::new(shortest, longest)),
            claims: Mutex::new(Claims::new(faulty, longest)),
            news: watch::Sender::new(()),
        }))
    }

    /// Whether to take anything from this leader, which was elected.
    pub(super) fn check_leader(&self, leader: u64, term: u64) -> Result<(), Violation> {
        let own = leader == self.0.own;
        let mut known = self.0.known.lock();
        let before = known.drops();
        let checked = known.check_leader(leader, term, !own, Instant::now());
        let dropped = known.drops() > before;
        drop(known);
        if dropped {
            metrics::leader_replaced();
            warn!(leader, term, "too many members suspect this leader: it is followed no more in this term");
        }
        checked.map_err(|doubt| refused(leader, term, doubt))
    }

    /// This member leads and its messages are taken.
    pub(super) fn led(&self, leader: u64) {
        self.0.candidates.lock().led(leader);
    }

    /// Whether this member may be voted for in an election.
    pub(super) fn check_candidate(&self, candidate: u64, term: u64) -> Result<(), Violation> {
        let checked = self.0.known.lock().check_candidate(candidate, Instant::now());
        checked.map_err(|doubt| refused(candidate, term, doubt))
    }

    /// Whether it is this member's turn to get a vote.
    pub(super) fn check_turn(&self, candidate: u64) -> Result<(), Violation> {
        let checked = self.0.candidates.lock().check(candidate, Instant::now());
        checked.map_err(|left| Violation::TooSoon { node: candidate, left_millis: left.as_millis() })
    }

    /// This member was given a vote in a new term.
    pub(super) fn given(&self, candidate: u64) {
        self.0.candidates.lock().given(candidate, Instant::now());
    }

    /// This member calls an election while this node follows a leader.
    pub(super) fn called(&self, candidate: u64, term: u64) {
        self.0.known.lock().called(candidate, term, Instant::now());
    }

    /// What openraft is told of the later vote that this member has answered with, if that is believed: that somebody stands
    /// for election then, and never that somebody is elected.
    pub(super) fn believe(&self, member: u64, vote: &Vote) -> Result<Vote, Violation> {
        let (term, node) = (vote.leader_id.term, vote.leader_id.node_id);
        if node == self.0.own {
            return Err(Violation::Claimed { term, node: member });
        }
        if !self.0.claims.lock().believe(member, (term, node), Instant::now()) {
            return Err(Violation::Claimed { term, node: member });
        }
        Ok(Vote::new(term, node))
    }

    /// Takes what members have signed.
    fn hear(&self, signed: &[Vec<u8>]) -> Result<(), suspicion::Error> {
        let electorate = &self.0.electorate;
        let mut news = false;
        for bytes in signed.iter().take(MAX_SUSPICIONS) {
            if self.0.known.lock().has(bytes) {
                continue;
            }
            let (by, suspect, term) = electorate.suspicion(&Signed::parse(bytes)?)?;
            if self.0.known.lock().take(by, suspect, term, Bytes::copy_from_slice(bytes)) {
                info!(by, suspect, term, "a leader is suspected");
                metrics::suspected(electorate.name(by), electorate.name(suspect));
                news = true;
            }
        }
        if news {
            self.0.news.send_replace(());
        }
        Ok(())
    }
}

fn refused(node: u64, term: u64, doubt: Doubt) -> Violation {
    match doubt {
        Doubt::Convicted => Violation::Convicted { node },
        Doubt::Suspected { found } => Violation::Suspected { node, term, found },
        Doubt::Dropped { left } => Violation::Dropped { node, left_millis: left.as_millis() },
    }
}

impl Handle {
    /// The leader that this node follows, and its term; none if it leads itself or follows nobody.
    pub fn followed(&self) -> Option<(u64, u64)> {
        let metrics = self.raft().metrics();
        let vote = metrics.borrow().vote;
        let leader = vote.leader_id.node_id;
        (vote.committed && leader != self.id()).then_some((leader, vote.leader_id.term))
    }

    /// Within what time a command must come about before the leader is suspected.
    pub fn patience(&self) -> Duration {
        self.inner().doubts.0.known.lock().patience(Instant::now())
    }

    /// Has this node suspect the leader of this term, if it still follows it: its command did not come about in time.
    pub fn suspect(&self, leader: u64, term: u64) {
        if self.followed() != Some((leader, term)) {
            return;
        }
        let doubts = &self.inner().doubts;
        if let Some(signed) = doubts.0.electorate.suspect(leader, term) {
            warn!(leader, term, "the leader brings nothing about: it is suspected");
            // What this node has signed is right.
            let _ = doubts.hear(&[signed]);
        }
    }

    /// Takes suspicions that members have signed.
    ///
    /// # Errors
    ///
    /// The first that does not count; those before it are taken.
    pub fn hear_suspicions(&self, signed: &[Vec<u8>]) -> Result<(), suspicion::Error> {
        self.inner().doubts.hear(signed)
    }

    /// The suspicions of this term and later ones that this node knows of, to be passed on.
    pub fn suspicions(&self) -> Vec<Bytes> {
        self.inner().doubts.0.known.lock().since(self.term())
    }

    /// Tells when this node hears of a new suspicion.
    pub fn watch_suspicions(&self) -> watch::Receiver<()> {
        self.inner().doubts.0.news.subscribe()
    }

    /// From now on just these members are not followed as leaders, get no vote, and are not believed when they suspect
    /// another: they are convicted of misconduct, and no operator has cleared them.
    pub fn convict(&self, members: BTreeSet<u64>) {
        self.inner().doubts.0.known.lock().convict(members);
    }

    /// Whether so many members suspect this node in its term that the others do not follow it.
    pub(super) fn is_suspected(&self) -> bool {
        let metrics = self.raft().metrics();
        let vote = metrics.borrow().vote;
        let own = self.id();
        vote.leader_id.node_id == own
            && vote.committed
            && self.inner().doubts.check_leader(own, vote.leader_id.term).is_err()
    }

    /// Whether this node leads, and a majority has heard it within its lease: then nobody else is to be elected.
    pub(super) fn leads_firmly(&self) -> bool {
        let (leads, heard) = {
            let metrics = self.raft().metrics();
            let metrics = metrics.borrow();
            (metrics.state == ServerState::Leader, metrics.millis_since_quorum_ack)
        };
        let lease = self.options().election_max.as_millis();
        leads && heard.is_some_and(|heard| u128::from(heard) <= lease) && !self.is_suspected()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::consensus::grants::tests::electorate;

    /// What node `by` of so many signs about the leader of this term.
    pub(in crate::consensus) fn suspicion(by: u64, size: u64, suspect: u64, term: u64) -> Vec<u8> {
        electorate(by, size).suspect(suspect, term).unwrap()
    }

    #[test]
    fn only_what_members_have_signed_is_taken() {
        let lease = Duration::from_secs(1);
        let doubts = Doubts::new(1, electorate(1, 4), lease / 2, lease);
        let mut news = doubts.0.news.subscribe();
        let mut forged = suspicion(3, 4, 2, 7);
        let last = forged.len() - 1;
        forged[last] ^= 1;
        doubts.hear(&[forged]).unwrap_err();
        doubts.hear(&[suspicion(5, 5, 2, 7)]).unwrap_err();
        doubts.hear(&[suspicion(3, 4, 2, 7), suspicion(3, 4, 2, 7)]).unwrap();
        assert_eq!(doubts.check_leader(2, 7), Ok(()));
        assert!(news.has_changed().unwrap());
        news.mark_unchanged();
        doubts.hear(&[suspicion(3, 4, 2, 7)]).unwrap();
        assert!(!news.has_changed().unwrap(), "it is known");
        doubts.hear(&[suspicion(4, 4, 2, 7)]).unwrap();
        assert_eq!(doubts.check_leader(2, 7), Err(Violation::Suspected { node: 2, term: 7, found: 2 }));
        assert!(matches!(doubts.check_candidate(2, 8), Err(Violation::Dropped { node: 2, .. })));
    }

    #[test]
    fn a_claim_makes_nobody_leader() {
        let lease = Duration::from_secs(1);
        let doubts = Doubts::new(1, electorate(1, 4), lease / 2, lease);
        let claimed = |term| Err(Violation::Claimed { term, node: 2 });
        assert_eq!(doubts.believe(2, &Vote::new_committed(9, 1)), claimed(9), "least of all this node");
        assert_eq!(doubts.believe(2, &Vote::new_committed(9, 3)), Ok(Vote::new(9, 3)));
        assert_eq!(doubts.believe(2, &Vote::new_committed(10, 3)), claimed(10));
    }
}
