//! Log entries: a batch of commands, stamped and signed by the leader that ordered them.
//!
//! # Specification
//!
//! The leader gives each entry a sequence one above the last, the digest of the head before it, a time that never goes
//! back, and the digest of its batch, and signs that. Two heads of one leader for one term and sequence convict it.
//!
//! # Guarantees
//!
//! An [`Entry`] holds the batch that its head was signed for, of 1 to [`MAX_COMMANDS`] commands ([`Entry::parse`];
//! vectors `entry.json`; test `no_flipped_bit_of_an_entry_is_its_leaders`).

use crate::cbor::{self, Map, Reader, Writer};
use crate::cose::{self, Payload, Signed};
use crate::ids::{ClusterId, Digest, KeyId, Timestamp, Verdict};
use crate::quorum::Quorum;
use crate::{terms, vote};

/// The largest entry that is read at all.
pub const MAX_BYTES: usize = 8 * 1024 * 1024;
/// The most commands in one entry.
pub const MAX_COMMANDS: usize = 1024;

/// Why bytes are no entry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is larger than any that a leader makes.
    #[error("the entry has {found} bytes, at most {MAX_BYTES} are read")]
    TooLarge {
        /// Its size.
        found: usize,
    },
    /// It is not the deterministic CBOR that the format gives.
    #[error("entry: {0}")]
    Cbor(#[from] cbor::Error),
    /// Its head is not one.
    #[error("entry head: {0}")]
    Head(#[from] cose::Error),
    /// Its batch is not the one that was signed.
    #[error("the batch has digest {found}, but the head was signed for {expected}")]
    Batch {
        /// The digest in the head.
        expected: Digest,
        /// The batch's digest.
        found: Digest,
    },
}

/// What the leader signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The cluster.
    pub cluster: ClusterId,
    /// The view's epoch.
    pub epoch: u32,
    /// The leader's Raft term.
    pub term: u64,
    /// One above the previous entry's; the first is 1.
    pub sequence: u64,
    /// SHA-256 of the previous entry's head; zeros before the first.
    pub previous: Digest,
    /// The leader's clock.
    pub time: Timestamp,
    /// SHA-256 of the batch.
    pub batch: Digest,
}

impl Payload for Head {
    const TYP: &'static str = "application/vnd.fairpost.entry+cose";
    const TAG: &'static str = "fairpost/entry/v1";
    const KEYS: usize = 8;
    type Signer = KeyId;

    fn read(map: &mut Map, reader: &mut Reader<'_>) -> Result<Self, cose::Error> {
        map.key(reader, 1)?;
        let cluster = ClusterId::new(reader.bytes32("the cluster id")?);
        map.key(reader, 2)?;
        let epoch = vote::read_epoch(reader)?;
        map.key(reader, 3)?;
        let term = reader.uint()?;
        map.key(reader, 4)?;
        let sequence = reader.uint()?;
        map.key(reader, 5)?;
        let previous = Digest::new(reader.bytes32("the previous head's digest")?);
        map.key(reader, 6)?;
        let time = terms::read_millis(reader, "the entry's time")?;
        map.key(reader, 7)?;
        let batch = Digest::new(reader.bytes32("the batch's digest")?);
        Ok(Self { cluster, epoch, term, sequence, previous, time, batch })
    }

    fn write(&self, writer: &mut Writer) {
        writer
            .uint(1)
            .bytes(self.cluster.as_bytes())
            .uint(2)
            .uint(u64::from(self.epoch))
            .uint(3)
            .uint(self.term);
        writer.uint(4).uint(self.sequence).uint(5).bytes(self.previous.as_bytes());
        writer.uint(6).uint(self.time.millis()).uint(7).bytes(self.batch.as_bytes());
    }
}

/// What is ordered, with all that is signed in it as it came. Nothing in it is checked yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// What a party asks for.
    Party(Demand),
    /// A later round for an exchange whose votes were split.
    Round(Opening),
}

/// What a party asks of the cluster: [`crate::evidence::check`] checks it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Demand {
    /// The verdict asked for.
    pub verdict: Verdict,
    /// The sender's NRO.
    pub nro: Vec<u8>,
    /// The NRR, withdrawal or refusal; none for an expiry.
    pub evidence: Option<Vec<u8>>,
}

/// What opens a later round: what a quorum states, and the evidence that there is for one verdict or another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Opening {
    /// The sender's NRO.
    pub nro: Vec<u8>,
    /// Statements of members: [`crate::round::Statement`].
    pub statements: Vec<Vec<u8>>,
    /// The recipient's receipt over this NRO.
    pub receipt: Option<Vec<u8>>,
    /// The sender's withdrawal.
    pub withdrawal: Option<Vec<u8>>,
    /// The recipient's refusal.
    pub refusal: Option<Vec<u8>>,
}

impl Opening {
    /// The evidence for this verdict, if it is here; there is none for Expired.
    pub fn evidence(&self, verdict: Verdict) -> Option<&[u8]> {
        match verdict {
            Verdict::Released => self.receipt.as_deref(),
            Verdict::Withdrawn => self.withdrawal.as_deref(),
            Verdict::Refused => self.refusal.as_deref(),
            Verdict::Expired => None,
        }
    }
}

impl From<Demand> for Command {
    fn from(demand: Demand) -> Self {
        Self::Party(demand)
    }
}

/// The kind of a command that opens a round; others have the code of their verdict.
const ROUND: u64 = 5;

impl Command {
    /// How many bytes that others have signed are in it.
    pub fn size(&self) -> usize {
        let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        match self {
            Self::Party(demand) => demand.nro.len() + length(&demand.evidence),
            Self::Round(opening) => {
                let evidence = [&opening.receipt, &opening.withdrawal, &opening.refusal];
                let evidence: usize = evidence.into_iter().map(length).sum();
                opening.nro.len() + evidence + opening.statements.iter().map(Vec::len).sum::<usize>()
            }
        }
    }

    fn write(&self, writer: &mut Writer) {
        match self {
            Self::Party(demand) => {
                writer.map(3).uint(0).uint(u64::from(demand.verdict.code()));
                writer.uint(1).bytes(&demand.nro).uint(2).bytes_or_null(demand.evidence.as_deref());
            }
            Self::Round(opening) => {
                writer.map(6).uint(0).uint(ROUND).uint(1).bytes(&opening.nro);
                writer.uint(2).array(opening.statements.len());
                for statement in &opening.statements {
                    writer.bytes(statement);
                }
                writer.uint(3).bytes_or_null(opening.receipt.as_deref());
                writer.uint(4).bytes_or_null(opening.withdrawal.as_deref());
                writer.uint(5).bytes_or_null(opening.refusal.as_deref());
            }
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, cbor::Error> {
        let mut map = reader.map()?;
        map.key(reader, 0)?;
        let kind = reader.uint()?;
        let verdict = u8::try_from(kind).ok().and_then(Verdict::from_code);
        if verdict.is_none() && kind != ROUND {
            let (what, expected) = ("the command's kind", "1 to 5");
            return Err(cbor::Error::Value { what, expected, found: kind.to_string() });
        }
        map.key(reader, 1)?;
        let nro = reader.bytes()?.to_vec();
        map.key(reader, 2)?;
        let command = match verdict {
            Some(verdict) => Self::Party(Demand { verdict, nro, evidence: owned(reader.bytes_or_null()?) }),
            None => {
                let count = reader.array_from_one("the statements", Quorum::MAX_SERVERS as u64)?;
                let statements =
                    (0..count).map(|_| reader.bytes().map(<[u8]>::to_vec)).collect::<Result<_, _>>()?;
                map.key(reader, 3)?;
                let receipt = owned(reader.bytes_or_null()?);
                map.key(reader, 4)?;
                let withdrawal = owned(reader.bytes_or_null()?);
                map.key(reader, 5)?;
                let refusal = owned(reader.bytes_or_null()?);
                Self::Round(Opening { nro, statements, receipt, withdrawal, refusal })
            }
        };
        map.finish(reader)?;
        Ok(command)
    }

    /// Its one encoding.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        self.write(&mut writer);
        writer.finish()
    }

    /// Parses the one encoding of a command.
    pub fn parse(bytes: &[u8]) -> Result<Self, cbor::Error> {
        let mut reader = Reader::new(bytes);
        let command = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(command)
    }
}

fn owned(bytes: Option<&[u8]>) -> Option<Vec<u8>> {
    bytes.map(<[u8]>::to_vec)
}

/// A batch of commands in the order in which they will be decided.
pub fn write_batch(commands: &[Command]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.array(commands.len());
    for command in commands {
        command.write(&mut writer);
    }
    writer.finish()
}

/// A well-formed entry whose batch is the one that its head names. The head's signature is not checked yet.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The signed head.
    pub head: Signed<Head>,
    /// The commands.
    pub commands: Vec<Command>,
}

/// The one encoding of an entry with this head and this batch (from [`write_batch`]).
pub fn write(head: &Signed<Head>, batch: &[u8]) -> Vec<u8> {
    Writer::new().map(2).uint(0).bytes(head.bytes()).uint(1).bytes(batch).finish()
}

/// The time in the head of an entry, without looking at its signature or its batch; none if there is no such head.
pub fn stamped(bytes: &[u8]) -> Option<Timestamp> {
    let mut reader = Reader::new(bytes);
    let mut map = reader.map().ok()?;
    map.key(&mut reader, 0).ok()?;
    Some(Signed::<Head>::parse(reader.bytes().ok()?).ok()?.payload().time)
}

impl Entry {
    /// Parses the one encoding of an entry.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_BYTES {
            return Err(Error::TooLarge { found: bytes.len() });
        }
        let mut reader = Reader::new(bytes);
        let mut map = reader.map()?;
        map.key(&mut reader, 0)?;
        let head = Signed::<Head>::parse(reader.bytes()?)?;
        map.key(&mut reader, 1)?;
        let batch = reader.bytes()?;
        map.finish(&reader)?;
        reader.finish()?;
        let (expected, found) = (head.payload().batch, Digest::of(batch));
        if expected != found {
            return Err(Error::Batch { expected, found });
        }
        let mut reader = Reader::new(batch);
        let count = reader.array_from_one("the batch", MAX_COMMANDS as u64)?;
        let commands = (0..count).map(|_| Command::read(&mut reader)).collect::<Result<_, _>>()?;
        reader.finish()?;
        Ok(Self { head, commands })
    }
}
