//! Views: who the members are, which keys they have, and by which rules they decide.
//!
//! # Specification
//!
//! The **genesis** is view 0. Its digest is the cluster's id, and the first point of its commitment is the cluster's
//! public key `PK`, which never changes. A later **view** names its epoch, the digest of the view before it, and that
//! view's final log size and root. Genesis and views are each signed by a token of the one threshold key, so whoever
//! knows `PK` can check any of them: [`crate::trust`].
//!
//! # Guarantees
//!
//! A [`View`] that exists is consistent: members are distinct and sorted by name, `n ≥ 3f + 1`, the commitment has just
//! `q` points, at most as many operators must agree as there are ([`View::parse_genesis`],
//! [`View::parse_view`]; vectors `genesis.json`, `trust.json`).

use core::ops::RangeInclusive;
use std::sync::Arc;

use ed25519_dalek::VerifyingKey;

use crate::cbor::{self, Map, Reader, Writer};
use crate::chain::{self, Anchor};
use crate::ids::{ClusterId, Digest, KeyId, Span};
use crate::memo::Memo;
use crate::proposal::Draft;
use crate::quorum::{self, Quorum};
use crate::threshold::{self, Commitment, PublicKey, SharePublicKey};

const GENESIS: &str = "fairpost/genesis/v1";
const VIEW: &str = "fairpost/view/v1";
const MAX_ANCHORS: u64 = 64;
const MAX_KEYS: u64 = 64;
const POINT_BYTES: usize = 48;

/// The largest view that is read at all.
pub const MAX_BYTES: usize = 512 * 1024;

/// What is wrong with a view.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is larger than any that a cluster makes.
    #[error("the view has {found} bytes, at most {MAX_BYTES} are read")]
    TooLarge {
        /// Its size.
        found: usize,
    },
    /// It is not the deterministic CBOR that the format gives.
    #[error("view: {0}")]
    Cbor(#[from] cbor::Error),
    /// Its numbers of servers do not go together.
    #[error("view: {0}")]
    Quorum(#[from] quorum::Error),
    /// Its commitment is not one.
    #[error("view: {0}")]
    Commitment(#[from] threshold::Error),
    /// A trust anchor is not one.
    #[error("trust anchor {place}: {source}")]
    Anchor {
        /// Its place.
        place: usize,
        /// What is wrong with it.
        source: chain::Error,
    },
    /// A key is no valid Ed25519 key.
    #[error("{what} is no Ed25519 key")]
    Key {
        /// Whose key.
        what: String,
    },
    /// Members are not in order, or one name or key is there twice.
    #[error("member {name:?}: {problem}")]
    Member {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// More operators must agree than there are.
    #[error("{k} of {operators} operators can't agree")]
    Operators {
        /// How many must agree.
        k: u64,
        /// How many there are.
        operators: usize,
    },
    /// Signed bytes would be dropped while their exchange may still be young.
    #[error(
        "signed bytes are to be kept for {found}, expected at least the longest lifetime and the grace, {least}"
    )]
    Retention {
        /// The longest lifetime and the grace.
        least: Span,
        /// The retention.
        found: Span,
    },
    /// The shortest lifetime is longer than the longest.
    #[error("the shortest lifetime, {least}, is longer than the longest, {most}")]
    Lifetimes {
        /// The shortest.
        least: Span,
        /// The longest.
        most: Span,
    },
}

/// A server that a view names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name: unique, shown to operators.
    pub name: String,
    /// Where it is reached: host:port.
    pub address: String,
    /// Its Ed25519 identity key, which signs its votes and binds its TLS key.
    pub identity: VerifyingKey,
}

impl Member {
    /// The digest of its identity key, by which signed objects name it.
    pub fn key_id(&self) -> KeyId {
        chain::key_id(&self.identity)
    }
}

/// The rules that operators can choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// How far honest clocks may differ, and how late an entry may be seen and still be voted for.
    pub skew: Span,
    /// How long after the deadline an exchange may expire.
    pub grace: Span,
    /// The shortest time between `created` and `expires`.
    pub shortest_lifetime: Span,
    /// The longest.
    pub longest_lifetime: Span,
    /// Which version of the rules decides.
    pub feature_level: u16,
    /// How long after the verdict the signed bytes are kept, at least. Leaves, verdicts, votes and tokens stay.
    pub retention: Span,
}

impl Default for Parameters {
    /// Skew 10 s, grace 30 s, lifetime 5 minutes to 90 days, retention 30 months (913 days).
    fn default() -> Self {
        Self {
            skew: Span::from_seconds(10),
            grace: Span::from_seconds(30),
            shortest_lifetime: Span::from_seconds(300),
            longest_lifetime: Span::from_seconds(90 * 86_400),
            feature_level: 1,
            retention: Span::from_seconds(913 * 86_400),
        }
    }
}

/// What a view and the genesis have in common.
#[derive(Clone, Debug)]
pub struct Constitution {
    /// The members; [`View`] keeps them sorted by name.
    pub members: Vec<Member>,
    /// How many of them may be compromised.
    pub faults: usize,
    /// Commitment to the polynomial that shares the key.
    pub commitment: Commitment,
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

impl Constitution {
    /// All of it but the commitment.
    pub fn draft(&self) -> Draft {
        Draft {
            members: self.members.clone(),
            faults: self.faults,
            operators: self.operators.clone(),
            agreeing: self.agreeing,
            anchors: self.anchors.clone(),
            auditors: self.auditors.clone(),
            parameters: self.parameters,
        }
    }
}

/// Where a later view comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Previous {
    /// SHA-256 of the view before (or of the genesis).
    pub view: Digest,
    /// Final size of that view's evidence log.
    pub log_size: u64,
    /// Its final root.
    pub log_root: Digest,
}

/// A valid view of a cluster; epoch 0 is its genesis.
#[derive(Clone)]
pub struct View {
    bytes: Vec<u8>,
    cluster: ClusterId,
    epoch: u32,
    previous: Option<Previous>,
    quorum: Quorum,
    key_ids: Vec<KeyId>,
    public_key: PublicKey,
    share_keys: Vec<SharePublicKey>,
    memo: Arc<Memo>,
    body: Constitution,
}

impl View {
    /// The genesis of a new cluster called `name`.
    pub fn genesis(name: &str, mut body: Constitution) -> Result<Self, Error> {
        body.members.sort_by(|a, b| a.name.cmp(&b.name));
        let mut writer = Writer::new();
        writer.map(10).uint(0).text(GENESIS).uint(1).text(name);
        write_constitution(&mut writer, &body);
        Self::parse_genesis(&writer.finish())
    }

    /// Parses the one encoding of a genesis. The cluster's id is its digest.
    pub fn parse_genesis(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = start(bytes)?;
        let mut map = reader.map()?;
        map.tagged(&mut reader, GENESIS)?;
        map.key(&mut reader, 1)?;
        short_text(&mut reader, "the cluster's name", 1..=63)?;
        let body = read_constitution(&mut map, &mut reader)?;
        map.finish(&reader)?;
        reader.finish()?;
        let cluster = ClusterId::new(*Digest::of_parts(&[GENESIS.as_bytes(), bytes]).as_bytes());
        Self::check(bytes, cluster, 0, None, body)
    }

    /// The cluster's name, which only the genesis has.
    pub fn cluster_name(&self) -> Option<String> {
        let mut reader = Reader::new(&self.bytes);
        let mut map = reader.map().ok()?;
        map.tagged(&mut reader, GENESIS).ok()?;
        map.key(&mut reader, 1).ok()?;
        reader.text("the cluster's name", 63).ok().map(str::to_owned)
    }

    /// The view that follows, with this body.
    pub fn successor(&self, mut body: Constitution, log_size: u64, log_root: Digest) -> Result<Self, Error> {
        body.members.sort_by(|a, b| a.name.cmp(&b.name));
        let mut writer = Writer::new();
        writer.map(11).uint(0).text(VIEW).uint(1).uint(u64::from(self.epoch) + 1);
        write_constitution(&mut writer, &body);
        writer.uint(10).array(3).bytes(self.digest().as_bytes()).uint(log_size).bytes(log_root.as_bytes());
        Self::parse_view(&writer.finish(), self.cluster)
    }

    /// Parses the one encoding of a later view of `cluster`.
    pub fn parse_view(bytes: &[u8], cluster: ClusterId) -> Result<Self, Error> {
        let mut reader = start(bytes)?;
        let mut map = reader.map()?;
        map.tagged(&mut reader, VIEW)?;
        map.key(&mut reader, 1)?;
        let epoch = match crate::vote::read_epoch(&mut reader)? {
            0 => return Err(value("the epoch of a view", "1 or more", 0).into()),
            epoch => epoch,
        };
        let body = read_constitution(&mut map, &mut reader)?;
        map.key(&mut reader, 10)?;
        reader.array_of("the previous view", 3, "3")?;
        let view = Digest::new(reader.bytes32("the previous view's digest")?);
        let log_size = reader.uint()?;
        let log_root = Digest::new(reader.bytes32("the final root")?);
        map.finish(&reader)?;
        reader.finish()?;
        Self::check(bytes, cluster, epoch, Some(Previous { view, log_size, log_root }), body)
    }

    fn check(
        bytes: &[u8],
        cluster: ClusterId,
        epoch: u32,
        previous: Option<Previous>,
        body: Constitution,
    ) -> Result<Self, Error> {
        let (quorum, key_ids) =
            check_draft(&body.members, body.faults, body.operators.len(), body.agreeing, &body.parameters)?;
        let points = body.commitment.threshold();
        if points != quorum.q() {
            return Err(value("the number of points in the commitment", "q", points as u64).into());
        }
        let share_keys = (0..quorum.n()).map(|index| body.commitment.share_key(index as u16)).collect();
        let (public_key, memo) = (body.commitment.public_key(), Arc::default());
        let bytes = bytes.to_vec();
        Ok(Self { bytes, cluster, epoch, previous, quorum, key_ids, public_key, share_keys, memo, body })
    }

    /// Its bytes, as they are signed.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of its bytes.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// The cluster.
    pub const fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// 0 for the genesis.
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Where it comes from; none for the genesis.
    pub const fn previous(&self) -> Option<Previous> {
        self.previous
    }

    /// `n`, `f` and `q`.
    pub const fn quorum(&self) -> Quorum {
        self.quorum
    }

    /// The cluster's public key `PK`.
    pub const fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// What was found to hold under this view's anchors; clones share it.
    pub(crate) fn memo(&self) -> &Memo {
        &self.memo
    }

    /// The public key of each member's share, by the member's index.
    pub fn share_keys(&self) -> &[SharePublicKey] {
        &self.share_keys
    }

    /// The members by index.
    pub fn members(&self) -> &[Member] {
        &self.body.members
    }

    /// The member with this identity key, and its index.
    pub fn member_by_key(&self, key: KeyId) -> Option<(u16, &Member)> {
        let index = self.key_ids.iter().position(|id| *id == key)?;
        Some((index as u16, self.body.members.get(index)?))
    }

    /// The member with this name, and its index.
    pub fn member_by_name(&self, name: &str) -> Option<(u16, &Member)> {
        let index = self.body.members.iter().position(|member| member.name == name)?;
        Some((index as u16, self.body.members.get(index)?))
    }

    /// Whose certificates count.
    pub fn anchors(&self) -> &[Anchor] {
        &self.body.anchors
    }

    /// Whether this is an operator's key.
    pub fn is_operator(&self, key: KeyId) -> bool {
        self.body.operators.iter().any(|operator| chain::key_id(operator) == key)
    }

    /// The rules.
    pub const fn parameters(&self) -> &Parameters {
        &self.body.parameters
    }

    /// All that it has in common with other views.
    pub const fn constitution(&self) -> &Constitution {
        &self.body
    }

    /// What a token over this view signs.
    pub fn message(&self) -> threshold::Message {
        match self.epoch {
            0 => threshold::Message::Genesis { digest: Digest::new(*self.cluster.as_bytes()) },
            _ => threshold::Message::View { cluster: self.cluster, digest: self.digest() },
        }
    }
}

/// What must hold of a constitution, whatever its commitment is. Gives the quorum, and the digests of the members' keys.
pub(crate) fn check_draft(
    members: &[Member],
    faults: usize,
    operators: usize,
    agreeing: u64,
    parameters: &Parameters,
) -> Result<(Quorum, Vec<KeyId>), Error> {
    let quorum = Quorum::new(members.len(), faults)?;
    for pair in members.windows(2) {
        if let [before, member] = pair
            && before.name >= member.name
        {
            return Err(Error::Member {
                name: member.name.clone(),
                problem: "its name does not come after the one before it",
            });
        }
    }
    let key_ids: Vec<KeyId> = members.iter().map(Member::key_id).collect();
    for (member, key) in members.iter().zip(&key_ids) {
        if key_ids.iter().filter(|other| *other == key).count() > 1 {
            return Err(Error::Member { name: member.name.clone(), problem: "another member has its key" });
        }
    }
    if agreeing > operators as u64 || (agreeing == 0 && operators > 0) {
        return Err(Error::Operators { k: agreeing, operators });
    }
    let (least, most) = (parameters.shortest_lifetime, parameters.longest_lifetime);
    if least > most {
        return Err(Error::Lifetimes { least, most });
    }
    let (grace, found) = (parameters.grace, parameters.retention);
    let least = Span::from_millis(most.millis().saturating_add(grace.millis()));
    if found < least {
        return Err(Error::Retention { least, found });
    }
    Ok((quorum, key_ids))
}

impl core::fmt::Debug for View {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "View {{ cluster: {}, epoch: {} }}", self.cluster, self.epoch)
    }
}

pub(crate) fn start(bytes: &[u8]) -> Result<Reader<'_>, Error> {
    if bytes.len() > MAX_BYTES { Err(Error::TooLarge { found: bytes.len() }) } else { Ok(Reader::new(bytes)) }
}

fn value(what: &'static str, expected: &'static str, found: u64) -> cbor::Error {
    cbor::Error::Value { what, expected, found: found.to_string() }
}

pub(crate) fn short_text(
    reader: &mut Reader<'_>,
    what: &'static str,
    length: RangeInclusive<usize>,
) -> Result<String, cbor::Error> {
    let text = reader.text(what, *length.end())?;
    if length.contains(&text.len()) && text.chars().all(|char| !char.is_control()) {
        Ok(text.to_owned())
    } else {
        Err(cbor::Error::Value { what, expected: "printable text, not empty", found: format!("{text:?}") })
    }
}

fn write_constitution(writer: &mut Writer, body: &Constitution) {
    write_draft(writer, &body.draft(), Some(&body.commitment));
}

/// Writes a constitution; in a proposal the commitment is not there yet.
pub(crate) fn write_draft(writer: &mut Writer, body: &Draft, commitment: Option<&Commitment>) {
    writer.uint(2).array(body.members.len());
    for member in &body.members {
        write_member(writer, member);
    }
    writer.uint(3).uint(body.faults as u64);
    if let Some(commitment) = commitment {
        writer.uint(4).array(commitment.threshold());
        for point in commitment.to_bytes().chunks(POINT_BYTES) {
            writer.bytes(point);
        }
    }
    let keys = |writer: &mut Writer, keys: &[VerifyingKey]| {
        writer.array(keys.len());
        for key in keys {
            writer.bytes(key.as_bytes());
        }
    };
    keys(writer.uint(5), &body.operators);
    writer.uint(6).uint(body.agreeing).uint(7).array(body.anchors.len());
    for anchor in &body.anchors {
        writer.bytes(anchor.der());
    }
    keys(writer.uint(8), &body.auditors);
    let parameters = &body.parameters;
    writer.uint(9).map(6).uint(0).uint(parameters.skew.millis()).uint(1).uint(parameters.grace.millis());
    writer.uint(2).uint(parameters.shortest_lifetime.millis() / 1000);
    writer.uint(3).uint(parameters.longest_lifetime.millis() / 1000);
    writer.uint(4).uint(u64::from(parameters.feature_level));
    writer.uint(5).uint(parameters.retention.millis() / 1000);
}

fn read_constitution(map: &mut Map, reader: &mut Reader<'_>) -> Result<Constitution, Error> {
    let (members, faults) = read_members(map, reader)?;
    map.key(reader, 4)?;
    let points = reader.array("the commitment", Quorum::MAX_SERVERS as u64)?;
    let mut commitment = Vec::new();
    for _ in 0..points {
        commitment.extend(reader.fixed::<POINT_BYTES>("a point of the commitment", "48 bytes")?);
    }
    let commitment = Commitment::parse(&commitment, points as usize)?;
    Ok(read_rules(map, reader, members, faults)?.with(commitment))
}

/// Reads what [`write_draft`] writes without a commitment.
pub(crate) fn read_draft(map: &mut Map, reader: &mut Reader<'_>) -> Result<Draft, Error> {
    let (members, faults) = read_members(map, reader)?;
    read_rules(map, reader, members, faults)
}

fn read_members(map: &mut Map, reader: &mut Reader<'_>) -> Result<(Vec<Member>, usize), Error> {
    map.key(reader, 2)?;
    let count = reader.array("the members", Quorum::MAX_SERVERS as u64)?;
    let members = (0..count).map(|_| read_member(reader)).collect::<Result<Vec<_>, _>>()?;
    map.key(reader, 3)?;
    Ok((members, reader.uint()?.min(Quorum::MAX_SERVERS as u64) as usize))
}

fn read_rules(
    map: &mut Map,
    reader: &mut Reader<'_>,
    members: Vec<Member>,
    faults: usize,
) -> Result<Draft, Error> {
    map.key(reader, 5)?;
    let operators = read_keys(reader, "operator")?;
    map.key(reader, 6)?;
    let agreeing = reader.uint()?;
    map.key(reader, 7)?;
    let count = reader.array("the trust anchors", MAX_ANCHORS)? as usize;
    let mut anchors = Vec::new();
    for place in 0..count {
        anchors
            .push(Anchor::parse(reader.bytes()?.to_vec()).map_err(|source| Error::Anchor { place, source })?);
    }
    map.key(reader, 8)?;
    let auditors = read_keys(reader, "auditor")?;
    map.key(reader, 9)?;
    let parameters = read_parameters(reader)?;
    Ok(Draft { members, faults, operators, agreeing, anchors, auditors, parameters })
}

/// Writes a member.
pub(crate) fn write_member(writer: &mut Writer, member: &Member) {
    writer.map(3).uint(0).text(&member.name).uint(1).text(&member.address);
    writer.uint(2).bytes(member.identity.as_bytes());
}

/// Reads a member.
pub(crate) fn read_member(reader: &mut Reader<'_>) -> Result<Member, Error> {
    let mut map = reader.map()?;
    map.key(reader, 0)?;
    let name = short_text(reader, "a member's name", 1..=63)?;
    map.key(reader, 1)?;
    let address = short_text(reader, "a member's address", 1..=255)?;
    map.key(reader, 2)?;
    let identity = read_key(reader, || format!("the identity of member {name:?}"))?;
    map.finish(reader)?;
    Ok(Member { name, address, identity })
}

fn read_key(reader: &mut Reader<'_>, what: impl Fn() -> String) -> Result<VerifyingKey, Error> {
    let bytes = reader.bytes32("an Ed25519 key")?;
    // One encoding each: by a second one, a member would be there twice.
    match chain::Key::from_bytes(&bytes) {
        Ok(key) => Ok(*key.as_dalek()),
        Err(_) => Err(Error::Key { what: what() }),
    }
}

fn read_keys(reader: &mut Reader<'_>, what: &str) -> Result<Vec<VerifyingKey>, Error> {
    let count = reader.array("the keys", MAX_KEYS)?;
    (0..count).map(|place| read_key(reader, || format!("{what} {place}"))).collect()
}

fn read_parameters(reader: &mut Reader<'_>) -> Result<Parameters, cbor::Error> {
    let mut map = reader.map()?;
    let mut number = |key, what, expected, range: RangeInclusive<u64>| {
        map.key(reader, key)?;
        let found = reader.uint()?;
        if range.contains(&found) { Ok(found) } else { Err(value(what, expected, found)) }
    };
    let skew = number(0, "the skew", "1 ms to 1 hour", 1..=3_600_000)?;
    let grace = number(1, "the grace", "at most a day", 0..=86_400_000)?;
    let shortest = number(2, "the shortest lifetime", "1 second to 90 days", 1..=7_776_000)?;
    let longest = number(3, "the longest lifetime", "1 second to 90 days", 1..=7_776_000)?;
    let level = number(4, "the feature level", "1 to 65535", 1..=65_535)?;
    let retention = number(5, "the retention", "1 second to 100 years", 1..=3_155_760_000)?;
    map.finish(reader)?;
    Ok(Parameters {
        skew: Span::from_millis(skew),
        grace: Span::from_millis(grace),
        shortest_lifetime: Span::from_seconds(shortest),
        longest_lifetime: Span::from_seconds(longest),
        feature_level: level as u16,
        retention: Span::from_seconds(retention),
    })
}
