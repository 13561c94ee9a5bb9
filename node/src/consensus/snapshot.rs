//! A snapshot in transit: the machine's records behind one checksum, never as a whole in memory.
//!
//! # Specification
//!
//! A snapshot is its records, each {1 in 8 bits, length 32, bytes}, and an end {0 in 8 bits, number of
//! records 64, SHA-256 of all bytes before the digest}. It travels in chunks of at most [`CHUNK_BYTES`], which are cut
//! without regard to records.
//!
//! A snapshot here is *logical*: it says up to where the state goes ([`Source`]), and its records are read when it is
//! sent. The checksum finds damage, not lies: what the records say is verified by the machine that takes them in.
//!
//! # Guarantees
//!
//! - Neither side holds more than a few records and chunks ([`chunks`], [`Unpacker`]).
//! - The end is told only after the whole has been checked ([`Unpacker::next`]; test
//!   `a_damaged_snapshot_has_no_end`).

use std::fmt;
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tracing::warn;

use super::codec::{self, Reader};
use super::machine::{self, Source, Staged};
use super::network::CHUNK_BYTES;

/// The largest record that is made or taken.
pub(super) const MAX_RECORD: usize = 4 << 20;

/// How many chunks wait to be sent.
const WAITING: usize = 2;

const END: u8 = 0;
const RECORD: u8 = 1;
const RECORD_HEAD: usize = 5;
const COUNT_BYTES: usize = 8;
const DIGEST_BYTES: usize = 32;

/// Why a snapshot is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Something is wrong at a place.
    #[error("{problem}; it is in part {part} of the snapshot, at byte {at}")]
    At {
        /// Where that part begins.
        at: u64,
        /// Which one it is: the records count from 1, and the end after them.
        part: u64,
        /// What is wrong.
        problem: Box<Error>,
    },
    /// A record is too large.
    #[error("a record of the snapshot has {found} bytes, at most {expected} are taken")]
    TooLarge {
        /// The limit.
        expected: usize,
        /// What it says.
        found: usize,
    },
    /// Its bytes are not laid out as a snapshot.
    #[error("the snapshot is malformed: {0}")]
    Malformed(#[from] codec::Error),
    /// It does not have as many records as it says.
    #[error("the snapshot says that it has {expected} records, but has {found}")]
    Count {
        /// What its end says.
        expected: u64,
        /// The records in it.
        found: u64,
    },
    /// Its bytes were changed on the way.
    #[error("the snapshot's SHA-256 is {found}, not {expected} as its end says")]
    Checksum {
        /// The digest in its end, hexadecimal.
        expected: String,
        /// The digest of its bytes, hexadecimal.
        found: String,
    },
}

impl Error {
    /// What is wrong, wherever it is.
    #[cfg(test)]
    pub(super) fn problem(self) -> Self {
        match self {
            Self::At { problem, .. } => *problem,
            other => other,
        }
    }
}

/// A snapshot as Raft hands it around.
#[derive(Default)]
pub enum SnapshotData {
    /// Nothing: for a snapshot that is older than what is here.
    #[default]
    Nothing,
    /// Of this node's own machine.
    Made(Arc<dyn Source>),
    /// Came from another node, was verified, and lies ready.
    Staged(Box<dyn Staged>),
}

impl fmt::Debug for SnapshotData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Made(_) => "Made",
            Self::Staged(_) => "Staged",
        })
    }
}

/// The bytes of a snapshot, in chunks. If the source fails, they end without an end, which no receiver takes.
pub(super) fn chunks(source: Arc<dyn Source>) -> BoxStream<'static, Bytes> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let read = move || {
        let mut packer = Packer::new(|chunk| sender.blocking_send(chunk).map_err(|_| gone()));
        let read = source.read(&mut |record| packer.add(record)).and_then(|()| packer.finish());
        if let Err(error) = read {
            warn!(%error, "a snapshot was not sent to its end");
        }
    };
    tokio::task::spawn_blocking(read);
    stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) }).boxed()
}

fn gone() -> machine::Error {
    machine::Error::new("sending a snapshot", "the receiver has closed the call")
}

/// Writes records down as chunks.
pub(super) struct Packer<F> {
    send: F,
    chunk: BytesMut,
    digest: Sha256,
    records: u64,
}

impl<F: FnMut(Bytes) -> Result<(), machine::Error>> Packer<F> {
    pub(super) fn new(send: F) -> Self {
        Self { send, chunk: BytesMut::new(), digest: Sha256::new(), records: 0 }
    }

    /// Adds one record.
    pub(super) fn add(&mut self, record: &[u8]) -> Result<(), machine::Error> {
        let length = u32::try_from(record.len()).ok().filter(|length| *length as usize <= MAX_RECORD);
        let length = length.ok_or_else(|| {
            let error = Error::TooLarge { expected: MAX_RECORD, found: record.len() };
            machine::Error::new("sending a snapshot", error)
        })?;
        let mut head = [RECORD; RECORD_HEAD];
        let (_, rest) = head.split_at_mut(1);
        rest.copy_from_slice(&length.to_be_bytes());
        self.put(&head)?;
        self.put(record)?;
        self.records = self.records.saturating_add(1);
        Ok(())
    }

    /// Closes the snapshot.
    pub(super) fn finish(&mut self) -> Result<(), machine::Error> {
        let mut end = BytesMut::new();
        end.put_u8(END);
        end.put_u64(self.records);
        self.put(&end)?;
        let digest = self.digest.clone().finalize();
        self.put(&digest)?;
        (self.send)(self.chunk.split().freeze())
    }

    fn put(&mut self, mut bytes: &[u8]) -> Result<(), machine::Error> {
        self.digest.update(bytes);
        while !bytes.is_empty() {
            let room = CHUNK_BYTES.saturating_sub(self.chunk.len());
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.chunk.put_slice(now);
            bytes = later;
            if self.chunk.len() == CHUNK_BYTES {
                (self.send)(self.chunk.split().freeze())?;
            }
        }
        Ok(())
    }
}

/// What stands in a snapshot.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A record.
    Record(Bytes),
    /// The end: all that came before was right.
    End,
}

/// Reads chunks, of which none need be kept by the caller.
#[derive(Default)]
pub(super) struct Unpacker {
    bytes: BytesMut,
    digest: Sha256,
    records: u64,
    /// How many bytes the pieces had that came out.
    at: u64,
    ended: bool,
}

impl Unpacker {
    /// Takes what came next.
    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.bytes.put_slice(chunk);
    }

    /// The next piece; none if more must come first.
    pub(super) fn next(&mut self) -> Result<Option<Piece>, Error> {
        let (at, part) = (self.at, self.part());
        self.piece().map_err(|problem| located(at, part, problem))
    }

    /// Which part comes next.
    const fn part(&self) -> u64 {
        self.records.saturating_add(1)
    }

    fn piece(&mut self) -> Result<Option<Piece>, Error> {
        let Some(kind) = self.bytes.first().copied() else { return Ok(None) };
        if self.ended {
            return Err(codec::Error::Trailing { found: self.bytes.len() }.into());
        }
        match kind {
            RECORD => self.record(),
            END => self.end(),
            found => Err(codec::Error::Kind { expected: RECORD, found }.into()),
        }
    }

    /// Says that nothing more will come.
    pub(super) fn finish(self) -> Result<(), Error> {
        let problem = match (self.ended, self.bytes.len()) {
            (true, 0) => return Ok(()),
            (true, found) => codec::Error::Trailing { found },
            (false, found) => {
                codec::Error::Short { expected: found.saturating_add(1) as u64, found: found as u64 }
            }
        };
        Err(located(self.at, self.part(), problem.into()))
    }

    fn record(&mut self) -> Result<Option<Piece>, Error> {
        let Some((head, rest)) = self.bytes.split_at_checked(RECORD_HEAD) else { return Ok(None) };
        let mut reader = Reader::new(Bytes::copy_from_slice(head));
        reader.u8()?;
        let found = reader.u32()? as usize;
        if found > MAX_RECORD {
            return Err(Error::TooLarge { expected: MAX_RECORD, found });
        }
        if rest.len() < found {
            return Ok(None);
        }
        let mut record = self.bytes.split_to(RECORD_HEAD.saturating_add(found));
        self.digest.update(&record);
        self.at = self.at.saturating_add(record.len() as u64);
        record.advance(RECORD_HEAD);
        self.records = self.records.saturating_add(1);
        Ok(Some(Piece::Record(record.freeze())))
    }

    fn end(&mut self) -> Result<Option<Piece>, Error> {
        const BEFORE: usize = 1 + COUNT_BYTES;
        if self.bytes.len() < BEFORE + DIGEST_BYTES {
            return Ok(None);
        }
        let before = self.bytes.split_to(BEFORE);
        let digest = self.bytes.split_to(DIGEST_BYTES);
        self.at = self.at.saturating_add((BEFORE + DIGEST_BYTES) as u64);
        self.digest.update(&before);
        let mut reader = Reader::new(before.freeze());
        reader.u8()?;
        let (expected, found) = (reader.u64()?, self.records);
        if expected != found {
            return Err(Error::Count { expected, found });
        }
        let found = self.digest.clone().finalize();
        if found.as_slice() != digest.as_ref() {
            return Err(Error::Checksum { expected: hex::encode(digest), found: hex::encode(found) });
        }
        self.ended = true;
        Ok(Some(Piece::End))
    }
}

fn located(at: u64, part: u64, problem: Error) -> Error {
    Error::At { at, part, problem: Box::new(problem) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The bytes of a snapshot with these records.
    pub(in crate::consensus) fn packed(records: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut packer = Packer::new(|chunk| {
            assert!(chunk.len() <= CHUNK_BYTES);
            bytes.extend_from_slice(&chunk);
            Ok(())
        });
        for record in records {
            packer.add(record).unwrap();
        }
        packer.finish().unwrap();
        bytes
    }

    /// Hands the records of these bytes, pushed in parts of this size, to `take`; whether there was an end.
    pub(in crate::consensus) fn unpack(
        bytes: &[u8],
        part: usize,
        mut take: impl FnMut(Bytes),
    ) -> Result<(), Error> {
        let (mut unpacker, mut ended) = (Unpacker::default(), false);
        for part in bytes.chunks(part) {
            unpacker.push(part);
            while let Some(piece) = unpacker.next()? {
                match piece {
                    Piece::Record(record) => take(record),
                    Piece::End => ended = true,
                }
            }
        }
        unpacker.finish()?;
        assert!(ended, "taken without an end");
        Ok(())
    }

    fn unpacked(bytes: &[u8], part: usize) -> Result<Vec<Bytes>, Error> {
        let mut records = Vec::new();
        unpack(bytes, part, |record| records.push(record)).map(|()| records)
    }

    #[test]
    fn records_come_out_as_they_went_in_however_they_were_cut() {
        let large = vec![7; CHUNK_BYTES * 2 + 3];
        let records: [&[u8]; 4] = [b"one", b"", &large, b"three"];
        for part in [1 << 10, 5000, 1 << 20] {
            assert_eq!(unpacked(&packed(&records), part).unwrap(), records);
        }
        assert_eq!(unpacked(&packed(&records[..2]), 1).unwrap(), records[..2]);
        assert_eq!(unpacked(&packed(&[]), 1).unwrap(), Vec::<Bytes>::new());
    }

    #[test]
    fn a_damaged_snapshot_has_no_end() {
        let whole = packed(&[b"one", b"two"]);
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 1;
            assert!(unpacked(&bytes, 7).is_err(), "byte {place} was changed");
            assert!(unpacked(&whole[..place], 7).is_err(), "cut at {place}");
        }
        let long = [&whole[..], b"x"].concat();
        let problem = Box::new(Error::Malformed(codec::Error::Trailing { found: 1 }));
        let trailing = Error::At { at: whole.len() as u64, part: 3, problem };
        assert_eq!(unpacked(&long, 1), Err(trailing.clone()));
        assert_eq!(unpacked(&long, 1000), Err(trailing));
    }

    #[test]
    fn a_record_left_out_is_noticed() {
        let whole = packed(&[b"one", b"two"]);
        let found = unpacked(&whole[RECORD_HEAD + 3..], 1000).map_err(Error::problem);
        assert_eq!(found, Err(Error::Count { expected: 2, found: 1 }));
    }

    #[test]
    fn a_record_has_a_limit() {
        let mut packer = Packer::new(|_| Ok(()));
        let found = MAX_RECORD + 1;
        assert!(packer.add(&vec![0; found]).is_err());
        let head = [&[RECORD][..], &(found as u32).to_be_bytes()].concat();
        let refused = unpacked(&[packed(&[b"one"])[..8].to_vec(), head].concat(), 1).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "a record of the snapshot has 4194305 bytes, at most 4194304 are taken; it is in part 2 of the snapshot, at byte 8"
        );
        assert_eq!(refused.problem(), Error::TooLarge { expected: MAX_RECORD, found });
    }

    #[test]
    fn however_long_it_is_only_a_few_records_and_chunks_are_held() {
        let long = packed(&vec![&[7; 100_000][..]; 400]);
        let (mut count, mut worst) = (0, 0);
        for part in [5000, CHUNK_BYTES] {
            worst = fairpost_hostile::peak(|| unpack(&long, part, |_| count += 1).unwrap()).max(worst);
        }
        assert_eq!(count, 800);
        assert!(worst < 4 * CHUNK_BYTES as u64, "{worst} bytes were held for a snapshot of {}", long.len());
    }
}
