//! Proposals: who is to be in a new cluster and by which rules, before there is a key.
//!
//! # Specification
//!
//! A **proposal** is a genesis without the commitment to a key. The operators who agree to it sign its digest, and the
//! members make the key for it: [`crate::ceremony`]. With the key, the proposal becomes the [genesis](View::genesis).
//!
//! # Guarantees
//!
//! A [`Proposal`] that exists makes a valid genesis with any commitment to `q` points ([`Proposal::genesis`]; vectors
//! `proposal.json`).

use ed25519_dalek::VerifyingKey;

use crate::cbor::{self, Reader, Writer};
use crate::chain::{Anchor, key_id};
use crate::ids::{Digest, KeyId};
use crate::quorum::Quorum;
use crate::threshold::Commitment;
use crate::view::{self, Constitution, Member, Parameters, View};

const TAG: &str = "fairpost/proposal/v1";

/// What is wrong with a proposal.
#[derive(Debug, thiserror::Error)]
#[error("proposal: {0}")]
pub struct Error(#[from] view::Error);

impl From<cbor::Error> for Error {
    fn from(error: cbor::Error) -> Self {
        Self(error.into())
    }
}

/// A constitution without a key: [`Constitution`] says what each value means.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The members; [`Proposal`] keeps them sorted by name.
    pub members: Vec<Member>,
    /// How many of them may be compromised.
    pub faults: usize,
    /// Keys of the operators.
    pub operators: Vec<VerifyingKey>,
    /// How many operators must agree on a change.
    pub agreeing: u64,
    /// Whose certificates count.
    pub anchors: Vec<Anchor>,
    /// Who may read leaves, votes and roots.
    pub auditors: Vec<VerifyingKey>,
    /// The rules.
    pub parameters: Parameters,
}

impl Draft {
    /// The constitution with this key.
    pub fn with(self, commitment: Commitment) -> Constitution {
        let Self { members, faults, operators, agreeing, anchors, auditors, parameters } = self;
        Constitution { members, faults, commitment, operators, agreeing, anchors, auditors, parameters }
    }
}

/// A valid proposal.
#[derive(Clone)]
pub struct Proposal {
    bytes: Vec<u8>,
    digest: Digest,
    name: String,
    quorum: Quorum,
    key_ids: Vec<KeyId>,
    body: Draft,
}

impl Proposal {
    /// The proposal of a cluster called `name`.
    pub fn new(name: &str, mut body: Draft) -> Result<Self, Error> {
        body.members.sort_by(|a, b| a.name.cmp(&b.name));
        let mut writer = Writer::new();
        writer.map(9).uint(0).text(TAG).uint(1).text(name);
        view::write_draft(&mut writer, &body, None);
        Self::parse(&writer.finish())
    }

    /// Parses the one encoding of a proposal.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = view::start(bytes)?;
        let mut map = reader.map()?;
        map.tagged(&mut reader, TAG)?;
        map.key(&mut reader, 1)?;
        let name = view::short_text(&mut reader, "the cluster's name", 1..=63)?;
        let body = view::read_draft(&mut map, &mut reader)?;
        map.finish(&reader)?;
        Reader::finish(reader)?;
        let (quorum, key_ids) = view::check_draft(
            &body.members,
            body.faults,
            body.operators.len(),
            body.agreeing,
            &body.parameters,
        )?;
        let digest = Digest::of_parts(&[TAG.as_bytes(), bytes]);
        Ok(Self { bytes: bytes.to_vec(), digest, name, quorum, key_ids, body })
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256("fairpost/proposal/v1" ‖ proposal): what everything in its key ceremony is bound to.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// What the cluster is to be called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `n`, `f` and `q`.
    pub const fn quorum(&self) -> Quorum {
        self.quorum
    }

    /// All that it says.
    pub const fn draft(&self) -> &Draft {
        &self.body
    }

    /// The members by index.
    pub fn members(&self) -> &[Member] {
        &self.body.members
    }

    /// The member with this index, and the digest of its key.
    pub fn member(&self, index: u16) -> Option<(&Member, KeyId)> {
        let place = usize::from(index);
        Some((self.body.members.get(place)?, *self.key_ids.get(place)?))
    }

    /// The index of the member with this identity key.
    pub fn index_of(&self, key: KeyId) -> Option<u16> {
        self.key_ids.iter().position(|id| *id == key).map(|index| index as u16)
    }

    /// The operator's key with this digest.
    pub fn operator(&self, key: KeyId) -> Option<&VerifyingKey> {
        self.body.operators.iter().find(|operator| key_id(operator) == key)
    }

    /// The genesis that this proposal becomes with this key.
    pub fn genesis(&self, commitment: Commitment) -> Result<View, view::Error> {
        View::genesis(&self.name, self.body.clone().with(commitment))
    }
}

impl core::fmt::Debug for Proposal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Proposal {{ name: {:?}, digest: {} }}", self.name, self.digest)
    }
}
