//! What is said in a key ceremony: seven kinds of signed message.

use core::fmt;

use crate::cbor::{self, Map, Reader, Writer};
use crate::cose::{self, Payload, Signed};
use crate::ids::{Digest, KeyId};
use crate::quorum::Quorum;
use crate::sealed::SealingPublicKey;
use crate::threshold::{self, DealingCommitment, Row, Share};

const MOST: u64 = Quorum::MAX_SERVERS as u64;
/// What HPKE adds to a row: the encapsulated key and the tag.
pub(super) const OVERHEAD: usize = 32 + 16;

/// Which kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// [`Begin`].
    Begin,
    /// [`Join`].
    Join,
    /// [`Dealing`].
    Dealing,
    /// [`Report`].
    Report,
    /// [`Opening`].
    Opening,
    /// [`Qualified`].
    Qualified,
    /// [`Proof`].
    Proof,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Begin => "begin",
            Self::Join => "join",
            Self::Dealing => "dealing",
            Self::Report => "report",
            Self::Opening => "opening",
            Self::Qualified => "signature of the qualified set",
            Self::Proof => "share of the genesis token",
        })
    }
}

/// What a member's message belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The proposal.
    pub proposal: Digest,
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// SHA-256 of the signed [`Begin`] of this attempt, as it came.
    pub begin: Digest,
}

impl Context {
    fn read(map: &mut Map, reader: &mut Reader<'_>) -> Result<Self, cose::Error> {
        map.key(reader, 1)?;
        let proposal = Digest::new(reader.bytes32("the proposal's digest")?);
        map.key(reader, 2)?;
        let attempt = read_attempt(reader)?;
        map.key(reader, 3)?;
        let begin = Digest::new(reader.bytes32("the digest of the begin")?);
        Ok(Self { proposal, attempt, begin })
    }

    fn write(&self, writer: &mut Writer) {
        writer.uint(1).bytes(self.proposal.as_bytes()).uint(2).uint(u64::from(self.attempt));
        writer.uint(3).bytes(self.begin.as_bytes());
    }
}

pub(super) fn read_attempt(reader: &mut Reader<'_>) -> Result<u32, cbor::Error> {
    match reader.uint()? {
        number @ 1..=0xffff_ffff => Ok(number as u32),
        found => Err(outside("the attempt", "1 to 4294967295", found)),
    }
}

fn outside(what: &'static str, expected: &'static str, found: u64) -> cbor::Error {
    cbor::Error::Value { what, expected, found: found.to_string() }
}

fn read_index(reader: &mut Reader<'_>, what: &'static str) -> Result<u16, cbor::Error> {
    match reader.uint()? {
        index if index < MOST => Ok(index as u16),
        found => Err(outside(what, "0 to 63", found)),
    }
}

/// Indices in ascending order, so that each is there once.
fn read_ascending(
    reader: &mut Reader<'_>,
    count: u64,
    what: &'static str,
    each: &'static str,
) -> Result<Vec<u16>, cbor::Error> {
    let mut indices: Vec<u16> = Vec::new();
    for _ in 0..count {
        let index = read_index(reader, each)?;
        if indices.last().is_some_and(|last| *last >= index) {
            let (expected, found) = ("ascending, each once", format!("{index} after {indices:?}"));
            return Err(cbor::Error::Value { what, expected, found });
        }
        indices.push(index);
    }
    Ok(indices)
}

fn write_indices(writer: &mut Writer, indices: &[u16]) {
    writer.array(indices.len());
    for index in indices {
        writer.uint(u64::from(*index));
    }
}

fn point(error: threshold::Error) -> cose::Error {
    cose::Error::Payload(error.to_string())
}

/// An operator lets an attempt begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// The proposal.
    pub proposal: Digest,
    /// The attempt's number: one above the last.
    pub attempt: u32,
    /// Indices of the members that take part, ascending.
    pub participants: Vec<u16>,
}

/// A member takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// What it belongs to.
    pub context: Context,
    /// The member's X25519 key for this attempt, and for nothing else ever.
    pub one_time: SealingPublicKey,
}

/// A member deals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dealing {
    /// What it belongs to.
    pub context: Context,
    /// The commitment to the dealer's polynomial.
    pub commitment: DealingCommitment,
    /// Its row for each participant, in their order, sealed to the one-time key.
    pub rows: Vec<Vec<u8>>,
}

/// A member says which of the dealings gave it a right row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What it belongs to.
    pub context: Context,
    /// [`digest_of_dealings`] of all of them, in the log's order.
    pub dealings: Digest,
    /// The places, ascending, of those that did not. The member confirms its row of each other one.
    pub complaints: Vec<u16>,
}

/// A dealer publishes the row of a member that complained.
#[derive(Clone)]
pub struct Opening {
    /// What it belongs to.
    pub context: Context,
    /// SHA-256 of the signed dealing, as it came.
    pub dealing: Digest,
    /// The index of the member that complained.
    pub reader: u16,
    /// Its row.
    pub row: Row,
}

/// A member signs the qualified set, every row of which it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qualified {
    /// What it belongs to.
    pub context: Context,
    /// [`digest_of_set`] of the qualified dealings, in the log's order.
    pub set: Digest,
}

/// A member's share of the token over the genesis, which shows that its share of the key works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// What it belongs to.
    pub context: Context,
    /// The digest of the genesis: the cluster's id.
    pub genesis: Digest,
    /// The share of [`threshold::Message::Genesis`].
    pub share: Share,
}

/// SHA-256("fairpost/dealings/v1" ‖ digests): what a [`Report`] is about.
pub fn digest_of_dealings(digests: &[Digest]) -> Digest {
    digest_of(b"fairpost/dealings/v1", digests)
}

/// SHA-256("fairpost/qualified-set/v1" ‖ digests): what [`Qualified`] signs.
pub fn digest_of_set(digests: &[Digest]) -> Digest {
    digest_of(b"fairpost/qualified-set/v1", digests)
}

fn digest_of(domain: &[u8], digests: &[Digest]) -> Digest {
    let digests = digests.iter().map(|digest| &digest.as_bytes()[..]);
    Digest::of_parts(&core::iter::once(domain).chain(digests).collect::<Vec<_>>())
}

impl Payload for Begin {
    const TYP: &'static str = "application/vnd.fairpost.ceremony-begin+cose";
    const TAG: &'static str = "fairpost/ceremony-begin/v1";
    const KEYS: usize = 4;
    type Signer = KeyId;

    fn read(map: &mut Map, reader: &mut Reader<'_>) -> Result<Self, cose::Error> {
        map.key(reader, 1)?;
        let proposal = Digest::new(reader.bytes32("the proposal's digest")?);
        map.key(reader, 2)?;
        let attempt = read_attempt(reader)?;
        map.key(reader, 3)?;
        let count = reader.array_from_one("the participants", MOST)?;
        let participants = read_ascending(reader, count, "the participants", "a participant")?;
        Ok(Self { proposal, attempt, participants })
    }

    fn write(&self, writer: &mut Writer) {
        writer.uint(1).bytes(self.proposal.as_bytes()).uint(2).uint(u64::from(self.attempt));
        write_indices(writer.uint(3), &self.participants);
    }
}

impl Payload for Join {
    const TYP: &'static str = "application/vnd.fairpost.ceremony-join+cose";
    const TAG: &'static str = "fairpost/ceremony-join/v1";
    const KEYS: usize = 5;
    type Signer = KeyId;

    fn read(map: &mut Map, reader: &mut Reader<'_>) -> Result<Self, cose::Error> {
        let context = Context::read(map, reader)?;
        map.key(reader, 4)?;
        let one_time = SealingPublicKey::from_bytes(reader.bytes32("the one-time key")?)
            .map_err(|error| cose::Error::Payload(error.to_string()))?;
        Ok(Self { context, one_time })
    }

    fn write(&self, writer: &mut Writer) {
        self.context.write(writer);
        writer.uint(4).bytes(&self.one_time.to_bytes());
    }
}

impl Payload for Dealing {
    const TYP: &'static str = "application/vnd.fairpost.ceremony-dealing+cose";
    const TAG: &'static str = "fairpost/ceremony-dealing/v1";
    const KEYS: usize = 6;
    /// 64 members of whom 43 make a quorum: 45 kB of commitment, and 64 rows of 1.4 kB.
    const MAX_BYTES: usize = 144 * 1024;
    type Signer = KeyId;

    fn read(map: &mut Map, reader: &mut Reader<'_>) -> Result<Self, cose::Error> {
        let context = Context::read(map, reader)?;
        map.key(reader, 4)?;
        let commitment = DealingCommitment::parse(reader.bytes()?).map_err(point)?;
        map.key(reader, 5)?;
        let count = reader.array_from_one("the rows", MOST)?;
        let expected = Row::size(commitment.threshold()) + OVERHEAD;
        let mut rows = Vec::new();
        for _ in 0..count {
            match reader.bytes()? {
                row if row.len() == expected => rows.push(row.to_vec()),
                row => {
                    let found = row.len();
                    return Err(point(threshold::Error::Length { what: "sealed row", expected, found }));
                }
            }
        }
        Ok(Self { context, commitment, rows })
    }

    fn write(&self, writer: &mut Writer) {
        self.context.write(writer);
        writer.uint(4).bytes(&self.commitment.to_bytes()).uint(5).array(self.rows.len());
        for row in &self.rows {
            writer.bytes(row);
        }
    }
}

impl Payload for Report {
    const TYP: &'static str = "application/vnd.fairpost.ceremony-report+cose";
    const TAG: &'static str = "fairpost/ceremony-report/v1";
    const KEYS: usize = 6;
    type Signer = KeyId;

    fn read(map: &mut Map, reader: &mut Reader<'_>) -> Result<Self, cose::Error> {
        let context = Context::read(map, reader)?;
        map.key(reader, 4)?;
        let dealings = Digest::new(reader.bytes32("the digest of the dealings")?);
        map.key(reader, 5)?;
        let count = reader.array("the complaints", MOST)?;
        let complaints = read_ascending(reader, count, "the complaints", "a complaint")?;
        Ok(Self { context, dealings, complaints })
    }

    fn write(&self, writer: &mut Writer) {
        self.context.write(writer);
        write_indices(writer.uint(4).bytes(self.dealings.as_bytes()).uint(5), &self.complaints);
    }
}

impl Payload for Opening {
    const TYP: &'static str = "application/vnd.fairpost.ceremony-opening+cose";
    const TAG: &'static str = "fairpost/ceremony-opening/v1";
    const KEYS: usize = 7;
    type Signer = KeyId;

    fn read(map: &mut Map, reader: &mut Reader<'_>) -> Result<Self, cose::Error> {
        let context = Context::read(map, reader)?;
        map.key(reader, 4)?;
        let dealing = Digest::new(reader.bytes32("the dealing's digest")?);
        map.key(reader, 5)?;
        let reader_index = read_index(reader, "the row's reader")?;
        map.key(reader, 6)?;
        let row = Row::parse(reader.bytes()?).map_err(point)?;
        Ok(Self { context, dealing, reader: reader_index, row })
    }

    fn write(&self, writer: &mut Writer) {
        self.context.write(writer);
        writer.uint(4).bytes(self.dealing.as_bytes()).uint(5).uint(u64::from(self.reader));
        writer.uint(6).bytes(&self.row.to_bytes());
    }
}

impl Payload for Qualified {
    const TYP: &'static str = "application/vnd.fairpost.ceremony-set+cose";
    const TAG: &'static str = "fairpost/ceremony-set/v1";
    const KEYS: usize = 5;
    type Signer = KeyId;

    fn read(map: &mut Map, reader: &mut Reader<'_>) -> Result<Self, cose::Error> {
        let context = Context::read(map, reader)?;
        map.key(reader, 4)?;
        let set = Digest::new(reader.bytes32("the digest of the qualified set")?);
        Ok(Self { context, set })
    }

    fn write(&self, writer: &mut Writer) {
        self.context.write(writer);
        writer.uint(4).bytes(self.set.as_bytes());
    }
}

impl Payload for Proof {
    const TYP: &'static str = "application/vnd.fairpost.ceremony-proof+cose";
    const TAG: &'static str = "fairpost/ceremony-proof/v1";
    const KEYS: usize = 6;
    type Signer = KeyId;

    fn read(map: &mut Map, reader: &mut Reader<'_>) -> Result<Self, cose::Error> {
        let context = Context::read(map, reader)?;
        map.key(reader, 4)?;
        let genesis = Digest::new(reader.bytes32("the digest of the genesis")?);
        map.key(reader, 5)?;
        let share = Share::parse(reader.bytes()?).map_err(point)?;
        Ok(Self { context, genesis, share })
    }

    fn write(&self, writer: &mut Writer) {
        self.context.write(writer);
        writer.uint(4).bytes(self.genesis.as_bytes()).uint(5).bytes(&self.share.to_bytes());
    }
}

/// A well-formed message of a key ceremony. Whether its signature holds, and whether it counts, is for
/// [`Ceremony::apply`](super::Ceremony::apply) to say.
#[derive(Clone)]
pub enum Message {
    /// An attempt begins.
    Begin(Signed<Begin>),
    /// A member takes part.
    Join(Signed<Join>),
    /// A member deals.
    Dealing(Signed<Dealing>),
    /// A member confirms and complains.
    Report(Signed<Report>),
    /// A dealer opens a row.
    Opening(Signed<Opening>),
    /// A member signs the qualified set.
    Qualified(Signed<Qualified>),
    /// A member's share of the token over the genesis.
    Proof(Signed<Proof>),
}

impl Message {
    /// The largest message that is read at all.
    pub const MAX_BYTES: usize = Dealing::MAX_BYTES;

    /// Parses the one encoding of a message.
    ///
    /// # Errors
    ///
    /// Those of [`Signed::parse`]; [`cose::Error::Typ`] for anything that is not said in a ceremony.
    pub fn parse(bytes: &[u8]) -> Result<Self, cose::Error> {
        match cose::typ(bytes)? {
            Begin::TYP => Signed::parse(bytes).map(Self::Begin),
            Join::TYP => Signed::parse(bytes).map(Self::Join),
            Dealing::TYP => Signed::parse(bytes).map(Self::Dealing),
            Report::TYP => Signed::parse(bytes).map(Self::Report),
            Opening::TYP => Signed::parse(bytes).map(Self::Opening),
            Qualified::TYP => Signed::parse(bytes).map(Self::Qualified),
            Proof::TYP => Signed::parse(bytes).map(Self::Proof),
            found => Err(cose::Error::Typ {
                expected: "application/vnd.fairpost.ceremony-…",
                found: found.to_owned(),
            }),
        }
    }

    /// The message as it came.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Begin(signed) => signed.bytes(),
            Self::Join(signed) => signed.bytes(),
            Self::Dealing(signed) => signed.bytes(),
            Self::Report(signed) => signed.bytes(),
            Self::Opening(signed) => signed.bytes(),
            Self::Qualified(signed) => signed.bytes(),
            Self::Proof(signed) => signed.bytes(),
        }
    }

    /// Who says to have signed it.
    pub const fn author(&self) -> KeyId {
        match self {
            Self::Begin(signed) => *signed.signer(),
            Self::Join(signed) => *signed.signer(),
            Self::Dealing(signed) => *signed.signer(),
            Self::Report(signed) => *signed.signer(),
            Self::Opening(signed) => *signed.signer(),
            Self::Qualified(signed) => *signed.signer(),
            Self::Proof(signed) => *signed.signer(),
        }
    }

    /// Its kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Begin(_) => Kind::Begin,
            Self::Join(_) => Kind::Join,
            Self::Dealing(_) => Kind::Dealing,
            Self::Report(_) => Kind::Report,
            Self::Opening(_) => Kind::Opening,
            Self::Qualified(_) => Kind::Qualified,
            Self::Proof(_) => Kind::Proof,
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}, {} bytes", self.kind(), self.author(), self.bytes().len())
    }
}
