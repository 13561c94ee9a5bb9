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
use crate::{leaf, terms, vote};

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

/// What a party asks of the cluster, with the signed bytes as they came. Nothing in it is checked yet:
/// [`crate::evidence::check`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Command {
    /// The verdict asked for.
    pub verdict: Verdict,
    /// The sender's NRO.
    pub nro: Vec<u8>,
    /// The NRR, withdrawal or refusal; none for an expiry.
    pub evidence: Option<Vec<u8>>,
}

impl Command {
    fn write(&self, writer: &mut Writer) {
        writer.map(3).uint(0).uint(u64::from(self.verdict.code()));
        writer.uint(1).bytes(&self.nro).uint(2).bytes_or_null(self.evidence.as_deref());
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, cbor::Error> {
        let mut map = reader.map()?;
        map.key(reader, 0)?;
        let verdict = leaf::read_verdict(reader)?;
        map.key(reader, 1)?;
        let nro = reader.bytes()?.to_vec();
        map.key(reader, 2)?;
        let evidence = reader.bytes_or_null()?.map(<[u8]>::to_vec);
        map.finish(reader)?;
        Ok(Self { verdict, nro, evidence })
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
