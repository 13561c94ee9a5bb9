//! Who may lead: a leader shows the signed grants of a majority, or nobody follows it.
//!
//! # Specification
//!
//! Whoever grants an election's vote signs a [`Grant`], once Raft has its vote on disk. The candidate checks it before
//! Raft counts the vote, keeps it, and sends all it has for its term with everything that it sends as leader. A follower
//! takes nothing from a leader that does not show a majority's; what it has checked once it remembers.
//!
//! # Relies on
//!
//! - Raft goes from vote to vote upwards, never back, and has its vote on disk before it answers.
//! - What was written to the log's database before a synced write is on disk after it: so a leader that was restarted has
//!   its grants.
//!
//! # Guarantees
//!
//! - A leader that passes [`Grants::check`] was voted for by a majority in this term, and so by an honest member that had
//!   voted for no later leader by then (test `a_leader_shows_a_majority_or_nobody_follows`).
//! - The members that a log or a snapshot names are the view's, whatever a leader proposes ([`Grants::check_members`];
//!   test `a_leader_does_not_choose_its_members`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use ed25519_dalek::{SigningKey, VerifyingKey};
use fairpost_proto::chain;
use fairpost_proto::cose::Signed;
use fairpost_proto::grant::{self, Grant};
use fairpost_proto::ids::ClusterId;
use fairpost_proto::proposal::Proposal;
use fairpost_proto::suspicion::{self, Suspicion};
use fairpost_proto::view::View;
use parking_lot::Mutex;

use super::codec::{self, Encode, Reader};
use super::guard::Violation;
use super::log_store::{self, LogStore};
use super::types::{Member, Membership, Vote};

/// More grants than any view has members.
const MAX_GRANTS: u64 = 64;
/// A grant's length and one byte.
const MIN_GRANT_BYTES: u64 = 5;

/// Who takes part, and with which key this node does.
#[derive(Clone)]
pub struct Electorate {
    cluster: ClusterId,
    epoch: u32,
    identity: Arc<SigningKey>,
    voters: BTreeMap<u64, Voter>,
    faulty: usize,
}

#[derive(Clone)]
struct Voter {
    member: Member,
    identity: VerifyingKey,
}

impl Electorate {
    /// The members of a view, by their indices; this node has this identity key.
    pub fn new(view: &View, identity: Arc<SigningKey>) -> Self {
        Self {
            cluster: view.cluster(),
            epoch: view.epoch(),
            identity,
            voters: voters(view.members()),
            faulty: view.quorum().f(),
        }
    }

    /// The members of a proposal, which keep the log of its key ceremony. Its digest stands for the cluster.
    pub fn of_proposal(proposal: &Proposal, identity: Arc<SigningKey>) -> Self {
        Self {
            cluster: ClusterId::new(*proposal.digest().as_bytes()),
            epoch: 0,
            identity,
            voters: voters(proposal.members()),
            faulty: proposal.quorum().f(),
        }
    }

    /// As Raft knows them.
    pub fn members(&self) -> BTreeMap<u64, Member> {
        self.voters.iter().map(|(id, voter)| (*id, voter.member.clone())).collect()
    }

    /// How many of them may be compromised.
    pub(super) const fn faulty(&self) -> usize {
        self.faulty
    }

    /// A member's name.
    pub(super) fn name(&self, id: u64) -> String {
        self.voters.get(&id).map_or_else(|| id.to_string(), |voter| voter.member.name.clone())
    }

    /// This node's word that it suspects the leader of this term; none if that is no member.
    pub(super) fn suspect(&self, leader: u64, term: u64) -> Option<Vec<u8>> {
        let suspect = chain::key_id(&self.voters.get(&leader)?.identity);
        let suspicion = Suspicion { cluster: self.cluster, epoch: self.epoch, term, suspect };
        let signer = chain::key_id(&self.identity.verifying_key());
        Some(Signed::sign(suspicion, signer, &self.identity).bytes().to_vec())
    }

    /// Who suspects whom, and in which term.
    pub(super) fn suspicion(&self, signed: &Signed<Suspicion>) -> Result<(u64, u64, u64), suspicion::Error> {
        let (ids, keys): (Vec<u64>, Vec<VerifyingKey>) =
            self.voters.iter().map(|(id, voter)| (*id, voter.identity)).unzip();
        let checked = suspicion::check(signed, self.cluster, self.epoch, &keys)?;
        // Both stand in the list.
        let id = |place: usize| ids.get(place).copied().unwrap_or(u64::MAX);
        Ok((id(checked.by), id(checked.suspect), checked.term))
    }

    /// How many are a majority.
    fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }
}

fn voters(members: &[fairpost_proto::view::Member]) -> BTreeMap<u64, Voter> {
    let voter = |member: &fairpost_proto::view::Member| Voter {
        member: Member { name: member.name.clone(), address: member.address.clone() },
        identity: member.identity,
    };
    (0..).zip(members.iter().map(voter)).collect()
}

/// The grants of one term.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) term: u64,
    pub(super) grants: BTreeMap<u64, Bytes>,
}

impl Encode for Held {
    fn write(&self, to: &mut BytesMut) -> Result<(), codec::Error> {
        to.put_u64(self.term);
        to.put_slice(&write_list(&self.grants)?);
        Ok(())
    }

    fn read(from: &mut Reader) -> Result<Self, codec::Error> {
        Ok(Self { term: from.u64()?, grants: read_list(from)? })
    }
}

/// `count 8; that many {node 64, length 32, grant}`, by ascending node.
fn write_list(grants: &BTreeMap<u64, Bytes>) -> Result<Bytes, codec::Error> {
    let found = grants.len() as u64;
    let many = codec::Error::TooMany { expected: MAX_GRANTS, found };
    let mut to = BytesMut::new();
    to.put_u8(u8::try_from(found).ok().filter(|_| found <= MAX_GRANTS).ok_or(many)?);
    for (node, grant) in grants {
        let found = grant.len() as u64;
        let long = codec::Error::TooMany { expected: u32::MAX.into(), found };
        to.put_u64(*node);
        to.put_u32(u32::try_from(found).map_err(|_| long)?);
        to.put_slice(grant);
    }
    Ok(to.freeze())
}

fn read_list(from: &mut Reader) -> Result<BTreeMap<u64, Bytes>, codec::Error> {
    let count = from.u8()?;
    let count = from.count(count.into(), MAX_GRANTS, 8 + MIN_GRANT_BYTES)?;
    let (mut grants, mut last) = (BTreeMap::new(), None);
    for _ in 0..count {
        let found = from.u64()?;
        if let Some(last) = last.filter(|last| *last >= found) {
            return Err(codec::Error::Order { last, found });
        }
        last = Some(found);
        let length = from.u32()?;
        grants.insert(found, from.take(length.into())?);
    }
    Ok(grants)
}

struct Inner {
    electorate: Electorate,
    log: LogStore,
    /// Those that this node was given.
    held: Mutex<Held>,
    /// The last leader that has shown a majority's.
    elected: Mutex<Option<Vote>>,
}

/// The grants that this node gives, has and has seen. Clones are the same.
#[derive(Clone)]
pub(super) struct Grants(Arc<Inner>);

impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Grants").field(&*self.0.held.lock()).finish()
    }
}

impl Grants {
    /// With those that are in the log's database.
    pub(super) fn new(electorate: Electorate, log: LogStore) -> Result<Self, log_store::Error> {
        let held = Mutex::new(log.grants()?.unwrap_or_default());
        Ok(Self(Arc::new(Inner { electorate, log, held, elected: Mutex::default() })))
    }

    /// This node's grant: it lets `candidate` lead in this term. To be called once Raft has voted so.
    pub(super) fn give(&self, candidate: u64, term: u64) -> Result<Bytes, Violation> {
        let grant = self.expected(candidate, term)?;
        let identity = &self.0.electorate.identity;
        let signer = chain::key_id(&identity.verifying_key());
        Ok(Bytes::copy_from_slice(Signed::sign(grant, signer, identity).bytes()))
    }

    /// Takes the grant of `voter` for this node, `own`, and has it written.
    pub(super) async fn take(
        &self,
        own: u64,
        voter: u64,
        term: u64,
        grant: Bytes,
    ) -> Result<(), super::transport::Error> {
        let refused = |violation: Violation| super::transport::Error::Refused(violation.to_string());
        self.holds(own, term, voter, &grant).map_err(refused)?;
        let held = {
            let mut held = self.0.held.lock();
            if held.term != term {
                *held =
                    Held { term, grants: BTreeMap::from([(own, self.give(own, term).map_err(refused)?)]) };
            }
            held.grants.insert(voter, grant);
            held.clone()
        };
        let written = self.0.log.put_grants(&held).await;
        written.map_err(|error| super::transport::Error::Unreachable(error.to_string()))
    }

    /// What this node, `own`, shows as leader of this term.
    pub(super) fn shown(&self, own: u64, term: u64) -> Result<Bytes, Violation> {
        let held = self.0.held.lock();
        if held.term == term {
            return write_list(&held.grants).map_err(|error| Violation::Grant(error.to_string()));
        }
        drop(held);
        // A cluster of one elects itself.
        let alone = BTreeMap::from([(own, self.give(own, term)?)]);
        write_list(&alone).map_err(|error| Violation::Grant(error.to_string()))
    }

    /// That a majority lets the leader of this vote lead.
    pub(super) fn check(&self, vote: &Vote, shown: &Bytes) -> Result<(), Violation> {
        if *self.0.elected.lock() == Some(*vote) {
            return Ok(());
        }
        let (candidate, term) = (vote.leader_id.node_id, vote.leader_id.term);
        let mut list = Reader::new(shown.clone());
        let mut read = || match shown.is_empty() {
            true => Ok(BTreeMap::new()),
            false => read_list(&mut list).and_then(|grants| list.end().map(|()| grants)),
        };
        let grants = read().map_err(|error| Violation::Grant(error.to_string()))?;
        for (voter, grant) in &grants {
            self.holds(candidate, term, *voter, grant)?;
        }
        let (expected, found) = (self.0.electorate.majority(), grants.len());
        if found < expected {
            return Err(Violation::NotGranted { term, node: candidate, expected, found });
        }
        *self.0.elected.lock() = Some(*vote);
        Ok(())
    }

    /// That these are the view's members, all of them voters.
    pub(super) fn check_members(&self, found: &Membership) -> Result<(), Violation> {
        let expected = self.0.electorate.members();
        let all: BTreeSet<u64> = expected.keys().copied().collect();
        let same = found.get_joint_config() == &vec![all]
            && found.nodes().map(|(id, member)| (*id, member.clone())).eq(expected);
        if same { Ok(()) } else { Err(Violation::Members { found: format!("{found}") }) }
    }

    fn expected(&self, candidate: u64, term: u64) -> Result<Grant, Violation> {
        let Electorate { cluster, epoch, .. } = self.0.electorate;
        let candidate = chain::key_id(&self.voter(candidate)?.identity);
        Ok(Grant { cluster, epoch, term, candidate })
    }

    fn voter(&self, id: u64) -> Result<&Voter, Violation> {
        self.0.electorate.voters.get(&id).ok_or(Violation::NoMember { found: id })
    }

    fn holds(&self, candidate: u64, term: u64, voter: u64, bytes: &[u8]) -> Result<(), Violation> {
        let expected = self.expected(candidate, term)?;
        let identity = self.voter(voter)?.identity;
        let checked = Signed::<Grant>::parse(bytes)
            .map_err(grant::Error::from)
            .and_then(|signed| grant::check(&signed, expected, &identity));
        checked.map_err(|error| Violation::Grant(error.to_string()))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::double::{fixed_clock, member, open};
    use super::*;
    use crate::consensus::Keep;
    use crate::store::{Store, Writer};

    fn key(id: u64) -> SigningKey {
        SigningKey::from_bytes(&[id as u8; 32])
    }

    /// The nodes from 1 to `size`, as `own` sees them.
    pub(in crate::consensus) fn electorate(own: u64, size: u64) -> Electorate {
        let voter = |id| (id, Voter { member: member(id), identity: key(id).verifying_key() });
        let voters = (1..=size).map(voter).collect();
        let faulty = fairpost_proto::quorum::Quorum::most_faults(size as usize);
        Electorate {
            cluster: ClusterId::new([1; 32]),
            epoch: 0,
            identity: Arc::new(key(own)),
            voters,
            faulty,
        }
    }

    /// The grants of these nodes among so many, for `candidate` in this term.
    pub(in crate::consensus) fn granted(
        voters: impl IntoIterator<Item = u64>,
        candidate: u64,
        term: u64,
    ) -> Bytes {
        let grant = |voter: u64| {
            let (key, candidate) = (key(voter), chain::key_id(&key(candidate).verifying_key()));
            let grant = Grant { cluster: ClusterId::new([1; 32]), epoch: 0, term, candidate };
            let signed = Signed::sign(grant, chain::key_id(&key.verifying_key()), &key);
            (voter, Bytes::copy_from_slice(signed.bytes()))
        };
        write_list(&voters.into_iter().map(grant).collect()).unwrap()
    }

    async fn grants(folder: &std::path::Path, own: u64) -> (Grants, crate::store::Handle) {
        let db = open(folder, LogStore::COLUMNS).await;
        let (writer, _) = Writer::start(db.clone(), Store::Log, |_| {}).unwrap();
        let log = LogStore::open(db, writer.clone(), fixed_clock(1), Keep::default()).unwrap();
        (Grants::new(electorate(own, 4), log).unwrap(), writer)
    }

    #[tokio::test]
    async fn a_leader_shows_a_majority_or_nobody_follows() {
        let folder = tempfile::tempdir().unwrap();
        let (grants, _) = grants(folder.path(), 1).await;
        let vote = Vote::new_committed(7, 2);
        let check = |shown: Bytes| grants.check(&vote, &shown);
        let too_few = |found| Err(Violation::NotGranted { term: 7, node: 2, expected: 3, found });
        assert_eq!(check(granted([2, 3], 2, 7)), too_few(2));
        assert_eq!(check(granted([], 2, 7)), too_few(0));
        for other in [granted([2, 3, 4], 3, 7), granted([2, 3, 4], 2, 6), granted([2, 3, 5], 2, 7)] {
            assert!(matches!(check(other), Err(Violation::Grant(_) | Violation::NoMember { .. })));
        }
        let mut twice = BytesMut::from(&granted([2, 3], 2, 7)[..]);
        let again = twice.clone();
        twice[0] = 3;
        twice.put_slice(&again[1..again.len() / 2 + 1]);
        assert!(matches!(check(twice.freeze()), Err(Violation::Grant(_))), "one grant, twice");
        // A grant under another member's number.
        let mut renamed = BytesMut::from(&granted([1, 2, 3], 2, 7)[..]);
        renamed[1..9].copy_from_slice(&0_u64.to_be_bytes());
        assert!(check(renamed.freeze()).is_err());
        assert_eq!(check(granted([1, 2, 3], 2, 7)), Ok(()));
        assert_eq!(check(Bytes::new()), Ok(()), "it has shown them before");
        assert!(grants.check(&Vote::new_committed(8, 2), &granted([1, 2, 3], 2, 7)).is_err(), "a new term");
        assert!(grants.check(&Vote::new_committed(7, 3), &Bytes::new()).is_err(), "another leader");
        let mut longer = BytesMut::from(&granted([1, 2, 3], 2, 9)[..]);
        longer.put_u8(0);
        let longer = grants.check(&Vote::new_committed(9, 2), &longer.freeze());
        assert!(matches!(longer, Err(Violation::Grant(_))), "{longer:?}");
    }

    #[tokio::test]
    async fn a_candidate_takes_right_grants_and_still_has_them_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (candidate, writer) = grants(folder.path(), 1).await;
        let of = |voter| electorate_grant(voter, 1, 7);
        candidate.take(1, 2, 7, of(2)).await.unwrap();
        candidate.take(1, 3, 7, of(2)).await.unwrap_err();
        candidate.take(1, 3, 7, Bytes::new()).await.unwrap_err();
        candidate.take(1, 3, 7, of(3)).await.unwrap();
        let shown = candidate.shown(1, 7).unwrap();
        assert_eq!(shown, granted([1, 2, 3], 1, 7));
        drop(candidate);
        writer.close().await;
        let (restarted, _) = grants(folder.path(), 1).await;
        assert_eq!(restarted.shown(1, 7).unwrap(), shown);
        // Those of another term are of no use, and replaced.
        assert_eq!(restarted.shown(1, 8).unwrap(), granted([1], 1, 8));
        restarted.take(1, 4, 9, electorate_grant(4, 1, 9)).await.unwrap();
        assert_eq!(restarted.shown(1, 9).unwrap(), granted([1, 4], 1, 9));
    }

    /// What a voter answers.
    fn electorate_grant(voter: u64, candidate: u64, term: u64) -> Bytes {
        let list = granted([voter], candidate, term);
        list.slice(1 + 8 + 4..)
    }

    #[tokio::test]
    async fn a_leader_does_not_choose_its_members() {
        let folder = tempfile::tempdir().unwrap();
        let (grants, _) = grants(folder.path(), 1).await;
        let members: BTreeMap<u64, Member> = (1..=4).map(|id| (id, member(id))).collect();
        let voters = |ids: &[u64]| vec![ids.iter().copied().collect::<BTreeSet<u64>>()];
        let check = |voters, members| grants.check_members(&Membership::new(voters, members));
        assert_eq!(check(voters(&[1, 2, 3, 4]), members.clone()), Ok(()));
        let wrong = |outcome| assert!(matches!(outcome, Err(Violation::Members { .. })), "{outcome:?}");
        wrong(check(voters(&[1, 2, 3]), members.clone()));
        wrong(check([voters(&[1, 2, 3, 4]), voters(&[1])].concat(), members.clone()));
        let mut moved = members.clone();
        moved.insert(3, Member { address: "elsewhere.example:1".into(), ..member(3) });
        wrong(check(voters(&[1, 2, 3, 4]), moved));
        let mut more = members;
        more.insert(5, member(5));
        wrong(check(voters(&[1, 2, 3, 4]), more));
    }
}
