//! Raft's messages as bytes.
//!
//! # Specification
//!
//! Each begins with the version, 8 bits, and goes on in the terms of [`codec`](super::codec):
//!
//! | message | layout |
//! |---|---|
//! | append | vote; (log id before the entries)?; (log id committed)?; count 32; that many {length 32, entry} |
//! | append's answer | kind 8: 0 stored, 1 stored up to (log id)?, 2 the entry before is another, 3 vote: a higher one |
//! | vote | vote; (last log id)? |
//! | vote's answer | vote; granted 8; (last log id)? |
//! | snapshot, first chunk | vote; (last log id)?; stored membership; name of the snapshot, text; length 32, what is shown |
//! | snapshot's answer | vote |
//!
//! Appends, votes and their answers travel behind their sender's clock, milliseconds since 1970, 64 bits, and what the
//! sender shows, behind its length, 32 bits: with an append the [`grants`](super::grants) of its election, with a vote
//! that is given the grant for it, else nothing.

use bytes::{BufMut as _, Bytes, BytesMut};
use fairpost_proto::ids::Timestamp;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};

use super::codec::{Encode, Error, Reader, put_text};
use super::types::{Entry, SnapshotMeta, TypeConfig, Vote};

const VERSION: u8 = 1;
/// The sender's clock, and the length of what it shows.
const FRONT_BYTES: usize = 8 + 4;
/// More entries than a leader sends at once.
const MAX_ENTRIES: u64 = 65_536;
/// Its length, its log id and its kind.
const MIN_ENTRY_BYTES: u64 = 4 + 24 + 1;

const STORED: u8 = 0;
const PARTLY: u8 = 1;
const CONFLICT: u8 = 2;
const HIGHER: u8 = 3;

pub(super) type Append = AppendEntriesRequest<TypeConfig>;
pub(super) type Appended = AppendEntriesResponse<u64>;
pub(super) type Elect = VoteRequest<u64>;
pub(super) type Elected = VoteResponse<u64>;
pub(super) type Installed = SnapshotResponse<u64>;

/// What comes before a snapshot's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Install {
    pub(super) vote: Vote,
    pub(super) meta: SnapshotMeta,
    /// What shows that the vote was granted.
    pub(super) shown: Bytes,
}

/// The message with its version in front.
pub(super) fn encode(message: &impl Encode) -> Result<Bytes, Error> {
    let mut to = BytesMut::new();
    to.put_u8(VERSION);
    message.write(&mut to)?;
    Ok(to.freeze())
}

/// What stands in front of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Front {
    /// The sender's clock.
    pub(super) time: Timestamp,
    /// What the sender shows.
    pub(super) shown: Bytes,
}

impl Front {
    /// The message behind this.
    pub(super) fn before(&self, message: &Bytes) -> Result<Bytes, Error> {
        let mut to = BytesMut::with_capacity(FRONT_BYTES + self.shown.len() + message.len());
        to.put_u64(self.time.millis());
        put_shown(&mut to, &self.shown)?;
        to.put_slice(message);
        Ok(to.freeze())
    }

    /// What stands in front, and the message.
    pub(super) fn split(bytes: Bytes) -> Result<(Self, Bytes), Error> {
        let mut from = Reader::new(bytes);
        let front = Self::read(&mut from).map_err(|error| error.located(from.position()))?;
        Ok((front, from.rest()))
    }

    fn read(from: &mut Reader) -> Result<Self, Error> {
        let millis = from.u64()?;
        let time = Timestamp::from_millis(millis).ok_or(Error::Time { found: millis })?;
        let length = from.u32()?;
        Ok(Self { time, shown: from.take(length.into())? })
    }
}

fn put_shown(to: &mut BytesMut, shown: &[u8]) -> Result<(), Error> {
    let found = shown.len() as u64;
    let long = Error::TooMany { expected: u32::MAX.into(), found };
    to.put_u32(u32::try_from(found).map_err(|_| long)?);
    to.put_slice(shown);
    Ok(())
}

/// The message in these bytes.
pub(super) fn decode<T: Encode>(bytes: Bytes) -> Result<T, Error> {
    let mut from = Reader::new(bytes);
    match from.u8() {
        Ok(VERSION) => {}
        Ok(found) => return Err(Error::Version { expected: VERSION, found }.located(0)),
        Err(error) => return Err(error.located(0)),
    }
    T::decode(from.rest()).map_err(|error| error.after(1))
}

impl Encode for Append {
    fn write(&self, to: &mut BytesMut) -> Result<(), Error> {
        self.vote.write(to)?;
        self.prev_log_id.write(to)?;
        self.leader_commit.write(to)?;
        let found = self.entries.len() as u64;
        let many = Error::TooMany { expected: MAX_ENTRIES, found };
        to.put_u32(u32::try_from(found).ok().filter(|_| found <= MAX_ENTRIES).ok_or(many)?);
        for entry in &self.entries {
            let entry = entry.encode()?;
            let found = entry.len() as u64;
            let long = Error::TooMany { expected: u32::MAX.into(), found };
            to.put_u32(u32::try_from(found).map_err(|_| long)?);
            to.put_slice(&entry);
        }
        Ok(())
    }

    fn read(from: &mut Reader) -> Result<Self, Error> {
        let vote = Encode::read(from)?;
        let prev_log_id = Encode::read(from)?;
        let leader_commit = Encode::read(from)?;
        let count = from.u32()?;
        let count = from.count(count.into(), MAX_ENTRIES, MIN_ENTRY_BYTES)?;
        // The bytes justify so many, so that the list need not grow.
        let mut entries = Vec::with_capacity(usize::try_from(count).unwrap_or_default());
        for _ in 0..count {
            let length = from.u32()?;
            let start = from.position();
            let entry = Entry::decode(from.take(length.into())?);
            entries.push(entry.map_err(|error| error.after(start))?);
        }
        Ok(Self { vote, prev_log_id, entries, leader_commit })
    }
}

impl Encode for Appended {
    fn write(&self, to: &mut BytesMut) -> Result<(), Error> {
        match self {
            Self::Success => to.put_u8(STORED),
            Self::PartialSuccess(last) => {
                to.put_u8(PARTLY);
                last.write(to)?;
            }
            Self::Conflict => to.put_u8(CONFLICT),
            Self::HigherVote(vote) => {
                to.put_u8(HIGHER);
                vote.write(to)?;
            }
        }
        Ok(())
    }

    fn read(from: &mut Reader) -> Result<Self, Error> {
        match from.u8()? {
            STORED => Ok(Self::Success),
            PARTLY => Encode::read(from).map(Self::PartialSuccess),
            CONFLICT => Ok(Self::Conflict),
            HIGHER => Encode::read(from).map(Self::HigherVote),
            found => Err(Error::Kind { expected: HIGHER, found }),
        }
    }
}

impl Encode for Elect {
    fn write(&self, to: &mut BytesMut) -> Result<(), Error> {
        self.vote.write(to)?;
        self.last_log_id.write(to)
    }

    fn read(from: &mut Reader) -> Result<Self, Error> {
        Ok(Self { vote: Encode::read(from)?, last_log_id: Encode::read(from)? })
    }
}

impl Encode for Elected {
    fn write(&self, to: &mut BytesMut) -> Result<(), Error> {
        self.vote.write(to)?;
        to.put_u8(self.vote_granted.into());
        self.last_log_id.write(to)
    }

    fn read(from: &mut Reader) -> Result<Self, Error> {
        Ok(Self { vote: Encode::read(from)?, vote_granted: from.flag()?, last_log_id: Encode::read(from)? })
    }
}

impl Encode for Install {
    fn write(&self, to: &mut BytesMut) -> Result<(), Error> {
        self.vote.write(to)?;
        self.meta.last_log_id.write(to)?;
        self.meta.last_membership.write(to)?;
        put_text(to, &self.meta.snapshot_id)?;
        put_shown(to, &self.shown)
    }

    fn read(from: &mut Reader) -> Result<Self, Error> {
        let vote = Encode::read(from)?;
        let last_log_id = Encode::read(from)?;
        let last_membership = Encode::read(from)?;
        let meta = SnapshotMeta { last_log_id, last_membership, snapshot_id: from.text()? };
        let length = from.u32()?;
        Ok(Self { vote, meta, shown: from.take(length.into())? })
    }
}

impl Encode for Installed {
    fn write(&self, to: &mut BytesMut) -> Result<(), Error> {
        self.vote.write(to)
    }

    fn read(from: &mut Reader) -> Result<Self, Error> {
        Encode::read(from).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use openraft::CommittedLeaderId;
    use proptest::prelude::*;

    use super::super::codec::tests::entries;
    use super::super::types::LogId;
    use super::*;

    fn log_id(index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(3, 2), index)
    }

    fn append(entries: Vec<Entry>) -> Append {
        let vote = Vote::new_committed(3, 2);
        Append { vote, prev_log_id: Some(log_id(8)), entries, leader_commit: Some(log_id(7)) }
    }

    proptest! {
        #[test]
        fn entries_travel_unchanged(entries in prop::collection::vec(entries(), 0..5)) {
            let sent = append(entries);
            let received: Append = decode(encode(&sent).unwrap()).unwrap();
            prop_assert_eq!(received.vote, sent.vote);
            prop_assert_eq!(received.prev_log_id, sent.prev_log_id);
            prop_assert_eq!(received.leader_commit, sent.leader_commit);
            prop_assert_eq!(received.entries, sent.entries);
        }
    }

    #[test]
    fn answers_travel_unchanged() {
        let vote = Vote::new(4, 1);
        for sent in [
            Appended::Success,
            Appended::PartialSuccess(Some(log_id(5))),
            Appended::Conflict,
            Appended::HigherVote(vote),
        ] {
            assert_eq!(decode::<Appended>(encode(&sent).unwrap()), Ok(sent));
        }
        let sent = Elected { vote, vote_granted: true, last_log_id: Some(log_id(5)) };
        assert_eq!(decode::<Elected>(encode(&sent).unwrap()), Ok(sent));
        let sent = Elect { vote, last_log_id: None };
        assert_eq!(decode::<Elect>(encode(&sent).unwrap()), Ok(sent));
        let meta =
            SnapshotMeta { snapshot_id: "one".into(), last_log_id: Some(log_id(5)), ..Default::default() };
        let sent = Install { vote, meta, shown: Bytes::from_static(b"grants") };
        assert_eq!(decode::<Install>(encode(&sent).unwrap()), Ok(sent));
    }

    #[test]
    fn what_stands_in_front_is_found_again() {
        let front = Front { time: Timestamp::from_millis(7).unwrap(), shown: Bytes::from_static(b"grants") };
        let message = Bytes::from_static(b"message");
        let whole = front.before(&message).unwrap();
        assert_eq!(Front::split(whole.clone()), Ok((front, message)));
        for end in 0..FRONT_BYTES + 6 {
            let cut = Front::split(whole.slice(..end)).map_err(Error::problem);
            assert!(matches!(cut, Err(Error::Short { .. })), "{end}: {cut:?}");
        }
    }

    #[test]
    fn another_version_and_too_many_entries_are_refused() {
        let mut bytes = encode(&append(Vec::new())).unwrap().to_vec();
        bytes[0] = 2;
        let refused = decode::<Append>(bytes.clone().into()).err().map(Error::problem);
        assert_eq!(refused, Some(Error::Version { expected: 1, found: 2 }));
        bytes[0] = 1;
        let count = bytes.len() - 4;
        bytes[count..].copy_from_slice(&u32::MAX.to_be_bytes());
        let refused = decode::<Append>(bytes.clone().into()).err().map(Error::problem);
        assert_eq!(refused, Some(Error::TooMany { expected: 65_536, found: u32::MAX.into() }));
        bytes[count..].copy_from_slice(&60_000_u32.to_be_bytes());
        let refused = decode::<Append>(bytes.into()).err().map(Error::problem);
        assert_eq!(refused, Some(Error::Short { expected: 60_000 * 29, found: 0 }), "before any allocation");
    }
}
