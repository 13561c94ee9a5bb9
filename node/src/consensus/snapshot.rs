//! A snapshot in transit: the machine's records behind one checksum.
//!
//! # Specification
//!
//! A snapshot is its records, each {1 in 8 bits, length 32, bytes}, and an end {0 in 8 bits, number of
//! records 64, SHA-256 of all bytes before the digest}.
//!
//! The checksum finds damage, not lies: whoever sends a snapshot can make one. What it holds is verified by
//! the machine that installs it.
//!
//! # Guarantees
//!
//! - No record is handed out before the whole snapshot has been checked ([`SnapshotData::records`]; test
//!   `a_damaged_snapshot_is_refused_whole`).
//! - Snapshots are held in memory, and none is larger than [`MAX_BYTES`].

use std::fmt;

use bytes::{BufMut as _, Bytes, BytesMut};
use sha2::{Digest as _, Sha256};

use super::codec::{self, Reader};

/// The largest snapshot that is made or received.
pub(super) const MAX_BYTES: usize = 256 << 20;

const END: u8 = 0;
const RECORD: u8 = 1;
const DIGEST_BYTES: usize = 32;

/// Why a snapshot is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is too large to be held.
    #[error("the snapshot has more than {expected} bytes")]
    TooLarge {
        /// The limit.
        expected: usize,
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

/// The bytes of a snapshot.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SnapshotData(Bytes);

impl SnapshotData {
    /// What was received; it is checked only by [`SnapshotData::records`].
    pub(super) const fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub(super) const fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The records, after a check of the whole.
    pub(super) fn records(&self) -> Result<impl Iterator<Item = Bytes> + Send + use<>, Error> {
        let mut from = Reader::new(self.0.clone());
        let mut records = Vec::new();
        loop {
            match from.u8()? {
                RECORD => {
                    let length = from.u32()?;
                    records.push(from.take(length.into())?);
                }
                END => break,
                found => return Err(codec::Error::Kind { expected: RECORD, found }.into()),
            }
        }
        let (expected, found) = (from.u64()?, records.len() as u64);
        let digest = from.take(DIGEST_BYTES as u64)?;
        from.end()?;
        if expected != found {
            return Err(Error::Count { expected, found });
        }
        let (before, _) = self.0.split_at(self.0.len().saturating_sub(DIGEST_BYTES));
        let found = Sha256::digest(before);
        if found.as_slice() != digest.as_ref() {
            return Err(Error::Checksum { expected: hex::encode(digest), found: hex::encode(found) });
        }
        Ok(records.into_iter())
    }
}

impl fmt::Debug for SnapshotData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SnapshotData({} bytes)", self.0.len())
    }
}

/// Collects the records of a snapshot.
#[derive(Debug, Default)]
pub(super) struct Builder {
    bytes: BytesMut,
    records: u64,
}

impl Builder {
    /// Adds one record.
    pub(super) fn add(&mut self, record: &[u8]) -> Result<(), Error> {
        let too_large = Error::TooLarge { expected: MAX_BYTES };
        if record.len() > MAX_BYTES.saturating_sub(self.bytes.len().saturating_add(64)) {
            return Err(too_large);
        }
        self.bytes.put_u8(RECORD);
        self.bytes.put_u32(u32::try_from(record.len()).map_err(|_| too_large)?);
        self.bytes.put_slice(record);
        self.records = self.records.saturating_add(1);
        Ok(())
    }

    /// Closes the snapshot.
    pub(super) fn finish(mut self) -> SnapshotData {
        self.bytes.put_u8(END);
        self.bytes.put_u64(self.records);
        let digest = Sha256::digest(&self.bytes);
        self.bytes.put_slice(&digest);
        SnapshotData(self.bytes.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(records: &[&[u8]]) -> SnapshotData {
        let mut builder = Builder::default();
        for record in records {
            builder.add(record).unwrap();
        }
        builder.finish()
    }

    #[test]
    fn records_come_out_as_they_went_in() {
        let records: [&[u8]; 3] = [b"one", b"", b"three"];
        let read: Vec<Bytes> = snapshot(&records).records().unwrap().collect();
        assert_eq!(read, records);
        assert_eq!(snapshot(&[]).records().unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_snapshot_is_refused_whole() {
        let whole = snapshot(&[b"one", b"two"]);
        for place in 0..whole.bytes().len() {
            let mut bytes = whole.bytes().to_vec();
            bytes[place] ^= 1;
            assert!(SnapshotData::new(bytes.into()).records().is_err(), "byte {place} was changed");
            let cut = whole.bytes().slice(..place);
            assert!(SnapshotData::new(cut).records().is_err(), "cut at {place}");
        }
        let long = [whole.bytes(), &b"x"[..]].concat();
        let refused = SnapshotData::new(long.into()).records().err();
        assert_eq!(refused, Some(Error::Malformed(codec::Error::Trailing { found: 1 })));
    }

    #[test]
    fn a_record_left_out_is_noticed() {
        let mut forged = Builder::default();
        forged.add(b"one").unwrap();
        forged.records = 2;
        let refused = forged.finish().records().err();
        assert_eq!(refused, Some(Error::Count { expected: 2, found: 1 }));
    }

    #[test]
    fn a_snapshot_has_a_limit() {
        let mut builder = Builder::default();
        let record = vec![0; MAX_BYTES / 2];
        builder.add(&record).unwrap();
        assert_eq!(builder.add(&record), Err(Error::TooLarge { expected: MAX_BYTES }));
        assert!(builder.finish().bytes().len() <= MAX_BYTES);
    }
}
