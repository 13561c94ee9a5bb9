//! Votes, and the quorum certificate that enough of them make.
//!
//! # Specification
//!
//! A member votes for leaves of an entry by signing the root of its **ballot**: the RFC 9162 tree over just the leaves
//! that it votes for, in the entry's order. A leaf in a signed ballot is a vote; a leaf in the evidence log alone is
//! not. The **certificate** of a leaf is the votes of `q` distinct members of one view whose ballots hold that leaf.
//!
//! # Guarantees
//!
//! [`Certificate::check`] gives `Ok` only for `q` distinct members of the view, each of whom signed a ballot with this
//! very leaf (vectors `certificate.json`; `tests/promises/certificate.rs`, above all
//! `a_member_counts_once_however_often_it_votes` and `a_leaf_in_the_log_alone_is_an_abstention`). A certificate says
//! that a quorum voted; only the token says that it was released: votes without a token prove nothing (test
//! `step_5_votes_without_the_token_prove_nothing`).

use crate::cbor::{self, Map, Reader, Writer};
use crate::cose::{self, Payload, Signed};
use crate::ids::{ClusterId, Digest, KeyId};
use crate::leaf::Leaf;
use crate::merkle::{self, InclusionProof};
use crate::quorum::Quorum;
use crate::view::View;

/// Why votes make no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not the deterministic CBOR that the format gives.
    #[error("certificate: {0}")]
    Cbor(#[from] cbor::Error),
    /// A vote is not one, or its signature does not hold.
    #[error("vote {place}: {source}")]
    Vote {
        /// Its place in the certificate, from 0.
        place: usize,
        /// What is wrong with it.
        source: cose::Error,
    },
    /// The votes do not stand in ascending order of their signers, so that one may be there twice.
    #[error("vote {place} is by {found}, which does not come after {before}")]
    Order {
        /// Its place in the certificate.
        place: usize,
        /// The signer of the vote before it.
        before: KeyId,
        /// Its signer.
        found: KeyId,
    },
    /// A vote is for another cluster.
    #[error("vote {place} is for cluster {found}, expected {expected}")]
    Cluster {
        /// Its place.
        place: usize,
        /// The view's cluster.
        expected: ClusterId,
        /// The vote's.
        found: ClusterId,
    },
    /// A vote was given in another view.
    #[error("vote {place} was given in epoch {found}, expected {expected}")]
    Epoch {
        /// Its place.
        place: usize,
        /// The view's epoch.
        expected: u32,
        /// The vote's.
        found: u32,
    },
    /// A vote is by nobody in the view.
    #[error("vote {place} is by {found}, who is no member in epoch {epoch}")]
    NoMember {
        /// Its place.
        place: usize,
        /// Its signer.
        found: KeyId,
        /// The view's epoch.
        epoch: u32,
    },
    /// A vote's ballot does not hold the leaf.
    #[error("vote {place} is not for this leaf: {source}")]
    Ballot {
        /// Its place.
        place: usize,
        /// How the inclusion proof fails.
        source: merkle::Error,
    },
    /// There are too few votes.
    #[error("{found} votes, and it takes {needed}")]
    TooFew {
        /// The quorum.
        needed: usize,
        /// The votes there are.
        found: usize,
    },
}

/// What a member signs when it votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// The cluster.
    pub cluster: ClusterId,
    /// The view's epoch.
    pub epoch: u32,
    /// The entry's sequence.
    pub sequence: u64,
    /// Size of the evidence log after the entry.
    pub log_size: u64,
    /// Root of the evidence log after the entry.
    pub log_root: Digest,
    /// Root of the tree over the leaves that this member votes for.
    pub ballot: Digest,
    /// Counts what this member signs in this epoch, from 1: a server that was set back shows a number twice.
    pub number: u64,
}

impl Payload for Vote {
    const TYP: &'static str = "application/vnd.fairpost.vote+cose";
    const TAG: &'static str = "fairpost/vote/v1";
    const KEYS: usize = 8;
    type Signer = KeyId;

    fn read(map: &mut Map, reader: &mut Reader<'_>) -> Result<Self, cose::Error> {
        map.key(reader, 1)?;
        let cluster = ClusterId::new(reader.bytes32("the cluster id")?);
        map.key(reader, 2)?;
        let epoch = read_epoch(reader)?;
        map.key(reader, 3)?;
        let sequence = reader.uint()?;
        map.key(reader, 4)?;
        let log_size = reader.uint()?;
        map.key(reader, 5)?;
        let log_root = Digest::new(reader.bytes32("the log's root")?);
        map.key(reader, 6)?;
        let ballot = Digest::new(reader.bytes32("the ballot's root")?);
        map.key(reader, 7)?;
        let number = reader.uint()?;
        Ok(Self { cluster, epoch, sequence, log_size, log_root, ballot, number })
    }

    fn write(&self, writer: &mut Writer) {
        writer.uint(1).bytes(self.cluster.as_bytes()).uint(2).uint(u64::from(self.epoch));
        writer
            .uint(3)
            .uint(self.sequence)
            .uint(4)
            .uint(self.log_size)
            .uint(5)
            .bytes(self.log_root.as_bytes());
        writer.uint(6).bytes(self.ballot.as_bytes()).uint(7).uint(self.number);
    }
}

/// An epoch: it fits 32 bits.
pub(crate) fn read_epoch(reader: &mut Reader<'_>) -> Result<u32, cbor::Error> {
    let epoch = reader.uint()?;
    u32::try_from(epoch).map_err(|_| cbor::Error::Value {
        what: "the epoch",
        expected: "0 to 4294967295",
        found: epoch.to_string(),
    })
}

/// Well-formed votes for a leaf. Whether they are a quorum's is for [`Certificate::check`] to say.
#[derive(Clone, Debug)]
pub struct Certificate {
    leaf: Leaf,
    votes: Vec<(Signed<Vote>, InclusionProof)>,
}

impl Certificate {
    /// The certificate of `leaf` with these votes and the proofs that their ballots hold it.
    pub fn new(leaf: Leaf, mut votes: Vec<(Signed<Vote>, InclusionProof)>) -> Self {
        votes.sort_by_key(|(vote, _)| *vote.signer());
        Self { leaf, votes }
    }

    /// The leaf.
    pub const fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// The votes, by ascending signer.
    pub fn votes(&self) -> impl Iterator<Item = &Signed<Vote>> {
        self.votes.iter().map(|(vote, _)| vote)
    }

    /// The votes with the proofs that the leaf stands in their ballots, by ascending signer.
    pub fn proved_votes(&self) -> impl Iterator<Item = &(Signed<Vote>, InclusionProof)> {
        self.votes.iter()
    }

    /// The epoch in which the first vote was given.
    pub fn epoch(&self) -> Option<u32> {
        self.votes.first().map(|(vote, _)| vote.payload().epoch)
    }

    /// Its one encoding.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.map(2).uint(0).bytes(&self.leaf.to_bytes()).uint(1).array(self.votes.len());
        for (vote, proof) in &self.votes {
            writer.bytes(&vote.with_proof(&write_proof(proof)));
        }
        writer.finish()
    }

    /// Parses the one encoding of a certificate.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let mut map = reader.map()?;
        map.key(&mut reader, 0)?;
        let leaf = Leaf::parse(reader.bytes()?)?;
        map.key(&mut reader, 1)?;
        let count = reader.array_from_one("the votes", Quorum::MAX_SERVERS as u64)?;
        let mut votes: Vec<(Signed<Vote>, InclusionProof)> = Vec::new();
        for place in 0..count as usize {
            let (vote, proof) = Signed::<Vote>::parse_proved(reader.bytes()?)
                .map_err(|source| Error::Vote { place, source })?;
            if let Some((last, _)) = votes.last().filter(|(last, _)| last.signer() >= vote.signer()) {
                return Err(Error::Order { place, before: *last.signer(), found: *vote.signer() });
            }
            votes.push((vote, read_proof(&proof)?));
        }
        map.finish(&reader)?;
        reader.finish()?;
        Ok(Self { leaf, votes })
    }

    /// That these are votes of a quorum of `view` for the leaf.
    pub fn check(&self, view: &View) -> Result<(), Error> {
        let (hash, needed) = (self.leaf.hash(), view.quorum().q());
        let mut last: Option<KeyId> = None;
        for (place, (signed, proof)) in self.votes.iter().enumerate() {
            let (vote, found) = (signed.payload(), *signed.signer());
            if let Some(before) = last.replace(found).filter(|before| *before >= found) {
                return Err(Error::Order { place, before, found });
            }
            if vote.cluster != view.cluster() {
                return Err(Error::Cluster { place, expected: view.cluster(), found: vote.cluster });
            }
            if vote.epoch != view.epoch() {
                return Err(Error::Epoch { place, expected: view.epoch(), found: vote.epoch });
            }
            let Some((_, member)) = view.member_by_key(found) else {
                return Err(Error::NoMember { place, found, epoch: view.epoch() });
            };
            signed.verify(&member.identity).map_err(|source| Error::Vote { place, source })?;
            proof.verify(&hash, &vote.ballot).map_err(|source| Error::Ballot { place, source })?;
        }
        // The signers ascend strictly, so these are distinct members.
        match self.votes.len() {
            found if found >= needed => Ok(()),
            found => Err(Error::TooFew { needed, found }),
        }
    }
}

pub(crate) fn write_proof(proof: &InclusionProof) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.array(3).uint(proof.tree_size).uint(proof.leaf_index).array(proof.path.len());
    for node in &proof.path {
        writer.bytes(node.as_bytes());
    }
    writer.finish()
}

pub(crate) fn read_proof(bytes: &[u8]) -> Result<InclusionProof, cbor::Error> {
    let mut reader = Reader::new(bytes);
    reader.array_of("the inclusion proof", 3, "3")?;
    let (tree_size, leaf_index) = (reader.uint()?, reader.uint()?);
    let length = reader.array("the inclusion path", 63)?;
    let path = (0..length).map(|_| reader.bytes32("a node").map(Digest::new)).collect::<Result<_, _>>()?;
    reader.finish()?;
    Ok(InclusionProof { tree_size, leaf_index, path })
}
