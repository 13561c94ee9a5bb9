//! Counting votes: from signed ballots to the leaves of an entry that a quorum voted for.
//!
//! # Guarantees
//!
//! - A vote counts only with its author's signature, for this entry of this cluster in this view, and for the leaves
//!   whose tree has the signed ballot root ([`Tally::add`]).
//! - One vote per member and entry: a second one, with another ballot or another log, is reported with the first
//!   ([`Problem::Equivocation`]) and not counted beside it.
//! - An acknowledgement counts only with its author's signature, in this view, and for a leaf of a later round that the
//!   entry has, each author once ([`Tally::acknowledge`]).

use std::collections::BTreeMap;

use fairpost_proto::cose::{self, Signed};
use fairpost_proto::ids::{ClusterId, Digest};
use fairpost_proto::leaf::{Leaf, Round};
use fairpost_proto::merkle::{self, InclusionProof};
use fairpost_proto::misconduct::Voted;
use fairpost_proto::round::Acknowledgement;
use fairpost_proto::view::View;
use fairpost_proto::vote::{Certificate, Vote};

use crate::ledger::Block;

/// Which leaves of an entry: bit `i` stands for leaf `i`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Leaves(Vec<u8>);

impl Leaves {
    /// None of `count` leaves.
    pub fn none(count: usize) -> Self {
        Self(vec![0; count.div_ceil(8)])
    }

    /// From the wire: bit `i` of byte `i / 8`, least significant first, for exactly `count` leaves, no bit beyond.
    pub fn parse(bytes: &[u8], count: usize) -> Option<Self> {
        let leaves = Self(bytes.to_vec());
        let beyond = (count..bytes.len() * 8).any(|place| leaves.contains(place));
        (bytes.len() == count.div_ceil(8) && !beyond).then_some(leaves)
    }

    /// As they go over the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Adds a leaf.
    pub fn insert(&mut self, place: usize) {
        if let Some(byte) = self.0.get_mut(place / 8) {
            *byte |= 1 << (place % 8);
        }
    }

    /// Whether a leaf is among them.
    pub fn contains(&self, place: usize) -> bool {
        self.0.get(place / 8).is_some_and(|byte| byte >> (place % 8) & 1 == 1)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.iter().map(|byte| byte.count_ones() as usize).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether all of `other` are among these.
    pub fn covers(&self, other: &Self) -> bool {
        (0..other.0.len() * 8).all(|place| !other.contains(place) || self.contains(place))
    }
}

/// The root of a ballot with these leaves (RFC 9162 §2.1.1).
pub fn root(block: &Block, leaves: &Leaves) -> Digest {
    let chosen = block.leaves.iter().enumerate().filter(|(place, _)| leaves.contains(*place));
    merkle::root(&chosen.map(|(_, leaf)| leaf.hash()).collect::<Vec<_>>())
}

/// Why a vote does not count.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It is for another cluster.
    #[error("the vote is for cluster {found}, expected {expected}")]
    Cluster {
        /// This cluster.
        expected: ClusterId,
        /// The vote's.
        found: ClusterId,
    },
    /// It was given in another view.
    #[error("the vote is of epoch {found}, expected {expected}")]
    Epoch {
        /// The view's.
        expected: u32,
        /// The vote's.
        found: u32,
    },
    /// It is for another entry.
    #[error("the vote is on entry {found}, expected {expected}")]
    Sequence {
        /// The entry's sequence.
        expected: u64,
        /// The vote's.
        found: u64,
    },
    /// Nobody in the view signed it.
    #[error("the vote is by {0}, who is no member")]
    NoMember(fairpost_proto::ids::KeyId),
    /// Its signature does not hold.
    #[error("{0}")]
    Signature(#[from] cose::Error),
    /// The leaves that came with it do not have the root that was signed.
    #[error("the vote's ballot has root {expected}, but the leaves named have {found}")]
    Ballot {
        /// The root that was signed.
        expected: Digest,
        /// The root of the leaves named.
        found: Digest,
    },
    /// The entry has no such leaf.
    #[error("the acknowledgement is of leaf {found} in round {round}, which the entry does not have")]
    NoLeaf {
        /// The round.
        round: Round,
        /// The leaf's hash.
        found: Digest,
    },
    /// A member signed two votes on one entry: with two ballots, or with two roots of the evidence log.
    #[error("{}", contradiction(both))]
    Equivocation {
        /// The vote that came first, and the other.
        both: Box<[Signed<Vote>; 2]>,
    },
}

fn contradiction(both: &[Signed<Vote>; 2]) -> String {
    let [first, second] = both.each_ref().map(Signed::payload);
    let (one, other) = ((first.ballot, first.log_root), (second.ballot, second.log_root));
    format!(
        "{} signed ballot {} of the log with root {}, and ballot {} of the log with root {}, for one entry",
        both[0].signer(),
        one.0,
        one.1,
        other.0,
        other.1
    )
}

/// A vote that counts, with the leaves in its ballot.
#[derive(Clone, Debug)]
pub struct Counted {
    /// The signed vote.
    pub vote: Signed<Vote>,
    /// The leaves that it is for.
    pub leaves: Leaves,
}

/// The votes on one entry, by the member's index.
#[derive(Clone, Debug)]
pub struct Tally {
    block: Block,
    /// The leaves' hashes, in order.
    hashes: Vec<Digest>,
    votes: BTreeMap<u16, Counted>,
    /// The leaves whose certificates lie in the store, synced.
    stored: Leaves,
    /// The leaves whose exchange has had a further round since.
    superseded: Leaves,
    /// For leaves of later rounds: who has acknowledged the certificate, by place and member's index.
    acknowledged: BTreeMap<usize, BTreeMap<u16, Signed<Acknowledgement>>>,
    /// The leaves of later rounds of which the acknowledgements of a quorum lie in the store, synced.
    confirmed: Leaves,
}

impl Tally {
    /// No votes yet on the leaves of `block`.
    pub fn new(block: Block) -> Self {
        let stored = Leaves::none(block.leaves.len());
        let (superseded, confirmed) = (stored.clone(), stored.clone());
        let hashes = block.leaves.iter().map(Leaf::hash).collect();
        let (votes, acknowledged) = (BTreeMap::new(), BTreeMap::new());
        Self { block, hashes, votes, stored, superseded, acknowledged, confirmed }
    }

    /// The entry's leaves.
    pub const fn block(&self) -> &Block {
        &self.block
    }

    /// Counts a vote; `false` if it was there already.
    pub fn add(&mut self, view: &View, counted: Counted) -> Result<bool, Problem> {
        let vote = counted.vote.payload();
        let (expected, found) = (view.cluster(), vote.cluster);
        if expected != found {
            return Err(Problem::Cluster { expected, found });
        }
        let (expected, found) = (view.epoch(), vote.epoch);
        if expected != found {
            return Err(Problem::Epoch { expected, found });
        }
        let (expected, found) = (self.block.sequence, vote.sequence);
        if expected != found {
            return Err(Problem::Sequence { expected, found });
        }
        let signer = *counted.vote.signer();
        let (index, member) = view.member_by_key(signer).ok_or(Problem::NoMember(signer))?;
        if self.votes.get(&index).is_some_and(|held| held.vote.bytes() == counted.vote.bytes()) {
            return Ok(false);
        }
        counted.vote.verify(&member.identity)?;
        // Whatever leaves another says that it is for: the two signatures speak for themselves.
        if let Some(held) = self.votes.get(&index) {
            let first = held.vote.payload();
            if (first.ballot, first.log_size, first.log_root) == (vote.ballot, vote.log_size, vote.log_root) {
                return Ok(false);
            }
            return Err(Problem::Equivocation { both: Box::new([held.vote.clone(), counted.vote]) });
        }
        let (expected, found) = (vote.ballot, self.root(&counted.leaves));
        if expected != found {
            return Err(Problem::Ballot { expected, found });
        }
        self.votes.insert(index, counted);
        Ok(true)
    }

    /// The root of a ballot with these leaves: most members vote for the same ones.
    fn root(&self, leaves: &Leaves) -> Digest {
        match self.votes.values().find(|counted| counted.leaves == *leaves) {
            Some(counted) => counted.vote.payload().ballot,
            None => merkle::root(&self.ballot(leaves)),
        }
    }

    fn ballot(&self, leaves: &Leaves) -> Vec<Digest> {
        let chosen = self.hashes.iter().enumerate().filter(|(place, _)| leaves.contains(*place));
        chosen.map(|(_, hash)| *hash).collect()
    }

    /// Counts this member's own vote, which it has just signed.
    pub fn add_own(&mut self, view: &View, counted: Counted) {
        if let Some((index, _)) = view.member_by_key(*counted.vote.signer()) {
            self.votes.insert(index, counted);
        }
    }

    /// Takes back votes that were counted and stored before; they are not checked again.
    pub fn restore(&mut self, view: &View, stored: Vec<Counted>) {
        for counted in stored {
            if let Some((index, _)) = view.member_by_key(*counted.vote.signer()) {
                self.votes.insert(index, counted);
            }
        }
        self.stored = self.certified(view);
    }

    /// Takes back acknowledgements that were stored before, by the places of their leaves.
    pub fn restore_acknowledgements(
        &mut self,
        view: &View,
        stored: Vec<(usize, Vec<Signed<Acknowledgement>>)>,
    ) {
        for (place, acknowledgements) in stored {
            for signed in acknowledgements {
                // They were checked before they were stored.
                let _ = self.acknowledge(view, signed);
            }
            self.confirm(view, place);
        }
    }

    /// The leaves that a quorum voted for and whose certificates are not stored yet; none if there is none.
    pub fn unstored(&self, view: &View) -> Option<Leaves> {
        let certified = self.certified(view);
        (!self.stored.covers(&certified)).then_some(certified)
    }

    /// The certificates of these leaves are stored. Gives those of them that were not before.
    pub fn keep(&mut self, certified: Leaves) -> Vec<Leaf> {
        let fresh = |place: &usize| certified.contains(*place) && !self.stored.contains(*place);
        let places = (0..self.block.leaves.len()).filter(fresh);
        let fresh = places.filter_map(|place| self.block.leaves.get(place).copied()).collect();
        self.stored = certified;
        fresh
    }

    /// Those of `certified` whose certificates are not stored yet.
    pub fn fresh(&self, certified: &Leaves) -> Vec<(usize, &Leaf)> {
        let leaves = self.block.leaves.iter().enumerate();
        leaves.filter(|(place, _)| certified.contains(*place) && !self.stored.contains(*place)).collect()
    }

    /// Whether nothing more is to come: all that a share takes is stored, for each leaf that is its exchange's last.
    pub fn is_complete(&self) -> bool {
        self.unripe().next().is_none()
    }

    /// The leaf at `place`, if all that a share for it takes is stored: its certificate, and in a later round the
    /// acknowledgements of a quorum.
    pub fn ripe(&self, place: usize) -> Option<&Leaf> {
        self.stored(place).filter(|leaf| leaf.round == Round::FIRST || self.confirmed.contains(place))
    }

    /// The leaves that lack something, and are their exchange's last.
    pub fn unripe(&self) -> impl Iterator<Item = &Leaf> {
        let lacking = |place: &usize| !self.superseded.contains(*place) && self.ripe(*place).is_none();
        let leaves = self.block.leaves.iter().enumerate();
        leaves.filter(move |(place, _)| lacking(place)).map(|(_, leaf)| leaf)
    }

    /// The leaves of later rounds whose certificates are stored, and the acknowledgements not.
    pub fn waiting(&self) -> impl Iterator<Item = (usize, &Leaf)> {
        let leaves = self.block.leaves.iter().enumerate();
        leaves.filter(|(place, leaf)| {
            leaf.round > Round::FIRST && self.stored.contains(*place) && !self.confirmed.contains(*place)
        })
    }

    /// The exchange of the leaf at `place` has a further round.
    pub fn supersede(&mut self, place: usize) {
        self.superseded.insert(place);
    }

    /// Counts an acknowledgement; gives the place of its leaf if it was not there already.
    pub fn acknowledge(
        &mut self,
        view: &View,
        signed: Signed<Acknowledgement>,
    ) -> Result<Option<usize>, Problem> {
        let acknowledgement = signed.payload();
        let (expected, found) = (view.cluster(), acknowledgement.cluster);
        if expected != found {
            return Err(Problem::Cluster { expected, found });
        }
        let (expected, found) = (view.epoch(), acknowledgement.epoch);
        if expected != found {
            return Err(Problem::Epoch { expected, found });
        }
        let signer = *signed.signer();
        let (index, member) = view.member_by_key(signer).ok_or(Problem::NoMember(signer))?;
        let (exchange, round, found) =
            (acknowledgement.exchange, acknowledgement.round, acknowledgement.leaf);
        let mut leaves = self.block.leaves.iter().zip(&self.hashes).enumerate();
        let place = leaves.find_map(|(place, (leaf, hash))| {
            (leaf.exchange == exchange && leaf.round == round && *hash == found).then_some(place)
        });
        let place = place.ok_or(Problem::NoLeaf { round, found })?;
        if self.acknowledged.get(&place).is_some_and(|held| held.contains_key(&index)) {
            return Ok(None);
        }
        signed.verify(&member.identity)?;
        self.acknowledged.entry(place).or_default().insert(index, signed);
        Ok(Some(place))
    }

    /// The acknowledgements of the leaf at `place`.
    pub fn acknowledgements(&self, place: usize) -> impl Iterator<Item = &Signed<Acknowledgement>> {
        self.acknowledged.get(&place).into_iter().flat_map(BTreeMap::values)
    }

    /// All acknowledgements.
    pub fn all_acknowledgements(&self) -> impl Iterator<Item = &Signed<Acknowledgement>> {
        self.acknowledged.values().flat_map(BTreeMap::values)
    }

    /// How many members' acknowledgements of the leaf at `place` lie in the store.
    pub fn confirmed(&self, place: usize) -> usize {
        if self.confirmed.contains(place) { self.acknowledgements(place).count() } else { 0 }
    }

    /// The acknowledgements of the leaf at `place` are stored: if they are a quorum's, nothing more is to come.
    pub fn confirm(&mut self, view: &View, place: usize) {
        if self.acknowledgements(place).count() >= view.quorum().q() {
            self.confirmed.insert(place);
        }
    }

    /// Whether this member has acknowledged the leaf at `place`.
    pub fn has_acknowledged(&self, place: usize, member: u16) -> bool {
        self.acknowledged.get(&place).is_some_and(|held| held.contains_key(&member))
    }

    /// The leaf at `place`, if its certificate is stored.
    pub fn stored(&self, place: usize) -> Option<&Leaf> {
        self.block.leaves.get(place).filter(|_| self.stored.contains(place))
    }

    /// The votes that count.
    pub fn votes(&self) -> impl Iterator<Item = &Counted> {
        self.votes.values()
    }

    /// The vote that this member gave, if it counts.
    pub fn vote_of(&self, member: u16) -> Option<&Counted> {
        self.votes.get(&member)
    }

    /// The votes for the leaf at `place`, each with the proof that its ballot has the leaf.
    pub fn voted(&self, place: usize) -> Vec<Voted> {
        let Some(leaf) = self.block.leaves.get(place) else { return Vec::new() };
        let for_it = self.votes.values().filter(|counted| counted.leaves.contains(place));
        let voted = for_it.filter_map(|counted| {
            let index = (0..place).filter(|before| counted.leaves.contains(*before)).count();
            let proof = merkle::inclusion(&self.ballot(&counted.leaves), index as u64).ok()?;
            Some(Voted { leaf: *leaf, vote: counted.vote.clone(), proof })
        });
        voted.collect()
    }

    /// Whose votes are still missing, by index.
    pub fn missing(&self, view: &View) -> Vec<u16> {
        (0..view.quorum().n() as u16).filter(|index| !self.votes.contains_key(index)).collect()
    }

    /// The leaves that a quorum voted for.
    pub fn certified(&self, view: &View) -> Leaves {
        let mut certified = Leaves::none(self.block.leaves.len());
        for place in 0..self.block.leaves.len() {
            if self.votes.values().filter(|counted| counted.leaves.contains(place)).count()
                >= view.quorum().q()
            {
                certified.insert(place);
            }
        }
        certified
    }

    /// The certificate of the leaf at `place`, if a quorum voted for it: with just `q` votes.
    pub fn certificate(&self, view: &View, place: usize) -> Option<Certificate> {
        let leaf = *self.block.leaves.get(place)?;
        let q = view.quorum().q();
        let mut votes = Vec::with_capacity(q);
        // Most members vote for the same leaves, and so with the same proof.
        let mut last: Option<(&Leaves, InclusionProof)> = None;
        for counted in self.votes.values().filter(|counted| counted.leaves.contains(place)).take(q) {
            let proof = match last.take().filter(|(leaves, _)| **leaves == counted.leaves) {
                Some((_, proof)) => proof,
                None => {
                    let index = (0..place).filter(|before| counted.leaves.contains(*before)).count();
                    merkle::inclusion(&self.ballot(&counted.leaves), index as u64).ok()?
                }
            };
            votes.push((counted.vote.clone(), proof.clone()));
            last = Some((&counted.leaves, proof));
        }
        (votes.len() == q).then(|| Certificate::new(leaf, votes))
    }
}
