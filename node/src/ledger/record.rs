//! What the ledger keeps, and how it is written down.
//!
//! Records are deterministic CBOR, like all that Fairpost writes. They are this node's own, but disks rot: a record that
//! does not parse is an [`Error`], never a panic.

use fairpost_proto::cbor::{self, Reader, Writer};
use fairpost_proto::ids::{Digest, Timestamp};
use fairpost_proto::leaf::Leaf;
use fairpost_proto::merkle::{self, Frontier};

/// Why a record is not one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not the CBOR that was written.
    #[error("a ledger record is damaged: {0}")]
    Cbor(#[from] cbor::Error),
    /// The right edge of the evidence log is not one.
    #[error("the ledger's evidence log is damaged: {0}")]
    Merkle(#[from] merkle::Error),
    /// Records contradict each other.
    #[error("the ledger's records contradict each other: {0}")]
    Inconsistent(String),
}

/// Where the ledger stands after an entry.
#[derive(Clone, Debug)]
pub struct State {
    /// Sequence of the last entry; 0 before the first.
    pub sequence: u64,
    /// Digest of its head; zeros before the first.
    pub head: Digest,
    /// Its time.
    pub time: Timestamp,
    /// The evidence log's right edge.
    pub log: Frontier,
}

impl State {
    /// Before the first entry.
    pub fn empty() -> Self {
        Self { sequence: 0, head: Digest::new([0; 32]), time: Timestamp::EPOCH, log: Frontier::new() }
    }

    /// As a record.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        let (size, nodes) = self.log.to_parts();
        writer.array(5).uint(self.sequence).bytes(self.head.as_bytes()).uint(self.time.millis()).uint(size);
        writer.array(nodes.len());
        for node in nodes {
            writer.bytes(node.as_bytes());
        }
        writer.finish()
    }

    /// From a record.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        reader.array_of("the ledger's state", 5, "5")?;
        let sequence = reader.uint()?;
        let head = Digest::new(reader.bytes32("the last head's digest")?);
        let time = read_time(&mut reader)?;
        let size = reader.uint()?;
        let count = reader.array("the log's right edge", 64)?;
        let nodes =
            (0..count).map(|_| reader.bytes32("a node").map(Digest::new)).collect::<Result<Vec<_>, _>>()?;
        reader.finish()?;
        Ok(Self { sequence, head, time, log: Frontier::from_parts(size, nodes)? })
    }
}

/// What one entry added: its leaves, and the evidence log after them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The entry's sequence.
    pub sequence: u64,
    /// Its index in Raft's log, by which its first-seen time is found.
    pub index: u64,
    /// Its time.
    pub time: Timestamp,
    /// Size of the evidence log after it.
    pub log_size: u64,
    /// Root of the evidence log after it.
    pub log_root: Digest,
    /// Its leaves in order.
    pub leaves: Vec<Leaf>,
}

impl Block {
    /// As a record.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.array(6).uint(self.sequence).uint(self.index).uint(self.time.millis());
        writer.uint(self.log_size).bytes(self.log_root.as_bytes()).array(self.leaves.len());
        for leaf in &self.leaves {
            writer.bytes(&leaf.to_bytes());
        }
        writer.finish()
    }

    /// From a record.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        reader.array_of("a block", 6, "6")?;
        let (sequence, index) = (reader.uint()?, reader.uint()?);
        let time = read_time(&mut reader)?;
        let log_size = reader.uint()?;
        let log_root = Digest::new(reader.bytes32("the log's root")?);
        let count = reader.array("the block's leaves", fairpost_proto::entry::MAX_COMMANDS as u64)?;
        let leaves = (0..count).map(|_| Leaf::parse(reader.bytes()?)).collect::<Result<_, _>>()?;
        reader.finish()?;
        Ok(Self { sequence, index, time, log_size, log_root, leaves })
    }
}

/// A decided exchange, with the evidence as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Its leaf.
    pub leaf: Leaf,
    /// The entry that decided it.
    pub sequence: u64,
    /// The leaf's place among the entry's leaves.
    pub place: u32,
    /// The sender's NRO; empty once it was dropped.
    pub nro: Vec<u8>,
    /// NRR, withdrawal or refusal; none for Expired, or once it was dropped.
    pub evidence: Option<Vec<u8>>,
    /// When the signed bytes were dropped, because the time for which they are kept was over; none while they are here.
    pub dropped: Option<Timestamp>,
}

impl Exchange {
    /// As a record of a snapshot.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.array(6).bytes(&self.leaf.to_bytes()).uint(self.sequence).uint(u64::from(self.place));
        writer.bytes(&self.nro).bytes_or_null(self.evidence.as_deref());
        match self.dropped {
            None => writer.null(),
            Some(time) => writer.uint(time.millis()),
        };
        writer.finish()
    }

    /// From a record of a snapshot.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        reader.array_of("an exchange", 6, "6")?;
        let leaf = Leaf::parse(reader.bytes()?)?;
        let sequence = reader.uint()?;
        let place = read_place(&mut reader)?;
        let nro = reader.bytes()?.to_vec();
        let evidence = reader.bytes_or_null()?.map(<[u8]>::to_vec);
        let dropped = if reader.null() { None } else { Some(read_time(&mut reader)?) };
        reader.finish()?;
        Ok(Self { leaf, sequence, place, nro, evidence, dropped })
    }

    /// Without the signed bytes.
    pub fn drop_bytes(self, now: Timestamp) -> Self {
        Self { nro: Vec::new(), evidence: None, dropped: Some(now), ..self }
    }
}

/// The leaf's place among its entry's.
pub(crate) fn read_place(reader: &mut Reader<'_>) -> Result<u32, cbor::Error> {
    let place = reader.uint()?;
    u32::try_from(place).map_err(|_| cbor::Error::Value {
        what: "the leaf's place",
        expected: "32 bits",
        found: place.to_string(),
    })
}

/// A time in milliseconds.
pub(crate) fn read_time(reader: &mut Reader<'_>) -> Result<Timestamp, cbor::Error> {
    let millis = reader.uint()?;
    Timestamp::from_millis(millis).ok_or(cbor::Error::Value {
        what: "a time",
        expected: "before the year 10000",
        found: millis.to_string(),
    })
}
