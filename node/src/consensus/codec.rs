//! How Raft's values are laid out, on disk and on the wire.
//!
//! # Specification
//!
//! Numbers are unsigned and big-endian; `x?` is a byte 0, or a byte 1 and `x`; `text` is UTF-8 behind a 16-bit
//! length.
//!
//! | value | layout |
//! |---|---|
//! | log id | term 64, node 64, index 64 |
//! | vote | term 64, node 64, committed 8 (0 or 1) |
//! | membership | count 16, that many sets {count 16, that many ids 64, ascending}; count 16, that many members {id 64, name text, address text}, ids ascending |
//! | stored membership | (log id)?, membership |
//! | entry | log id, kind 8 (0 blank, 1 proposal, 2 membership), to the end: nothing, the proposal, the membership |
//!
//! # Guarantees
//!
//! - Bytes of any origin are read without a panic, and without an allocation larger than they justify
//!   ([`Reader`]; tests in `tests/hostile.rs`).
//! - A value has one encoding: what is read writes back as the same bytes (same tests). Bytes that are left
//!   over are an error ([`Reader::end`]).

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut as _, Bytes, BytesMut};
use openraft::{CommittedLeaderId, EntryPayload};

use super::types::{Entry, LogId, Member, Membership, Proposal, StoredMembership, Vote};

/// More members than any view has.
const MAX_MEMBERS: u64 = 1024;
/// More sets of voters than a change of members needs (two).
const MAX_SETS: u64 = 8;

const BLANK: u8 = 0;
const PROPOSAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// Why bytes are not the value that they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Something is wrong at a place.
    #[error("{problem}, at byte {at}")]
    At {
        /// How many bytes had been read.
        at: usize,
        /// What is wrong.
        problem: Box<Error>,
    },
    /// They end too soon.
    #[error("{expected} more bytes expected, {found} found")]
    Short {
        /// Bytes that the next part needs.
        expected: u64,
        /// Bytes that are left.
        found: u64,
    },
    /// They go on after the value's end.
    #[error("{found} bytes found after the end")]
    Trailing {
        /// Bytes that are left.
        found: usize,
    },
    /// A byte that may be only 0 or 1 is another.
    #[error("flag expected, 0 or 1, {found} found")]
    Flag {
        /// The byte.
        found: u8,
    },
    /// There is no such kind of entry or answer.
    #[error("kind expected, 0 to {expected}, {found} found")]
    Kind {
        /// The last kind that there is.
        expected: u8,
        /// The byte.
        found: u8,
    },
    /// A time is beyond the year 9999.
    #[error("a time in milliseconds since 1970 expected, {found} found")]
    Time {
        /// The number.
        found: u64,
    },
    /// The bytes are of another version of this format.
    #[error("version {expected} expected, {found} found")]
    Version {
        /// The version that this build reads.
        expected: u8,
        /// The version found.
        found: u8,
    },
    /// There are more of something than there can be.
    #[error("at most {expected} items expected, {found} found")]
    TooMany {
        /// The limit.
        expected: u64,
        /// What the bytes announce.
        found: u64,
    },
    /// Ids are not in ascending order.
    #[error("ids expected in ascending order, {found} found after {last}")]
    Order {
        /// The id before.
        last: u64,
        /// The id found.
        found: u64,
    },
    /// A voter is not among the members.
    #[error("voter {found} is no member")]
    UnknownVoter {
        /// The voter.
        found: u64,
    },
    /// A set of voters is empty.
    #[error("a set of voters is empty")]
    NoVoters,
    /// Text is not UTF-8.
    #[error("text is not UTF-8")]
    Text,
    /// Text is too long to be written.
    #[error("text of at most {expected} bytes expected, {found} found")]
    LongText {
        /// The limit.
        expected: usize,
        /// Its length.
        found: usize,
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

    /// With its place, unless it has one.
    pub(super) fn located(self, at: usize) -> Self {
        match self {
            located @ Self::At { .. } => located,
            problem => Self::At { at, problem: Box::new(problem) },
        }
    }

    /// The same of a value that stands behind `more` bytes.
    pub(super) fn after(self, more: usize) -> Self {
        match self {
            Self::At { at, problem } => Self::At { at: at.saturating_add(more), problem },
            other => other,
        }
    }
}

/// A value with a layout of its own.
pub(super) trait Encode: Sized {
    /// Appends the value. It fails only for values that no honest node makes, such as a name of 64 KiB.
    fn write(&self, to: &mut BytesMut) -> Result<(), Error>;

    /// Takes the value from the front.
    fn read(from: &mut Reader) -> Result<Self, Error>;

    /// The value's bytes.
    fn encode(&self) -> Result<Bytes, Error> {
        let mut bytes = BytesMut::new();
        self.write(&mut bytes)?;
        Ok(bytes.freeze())
    }

    /// The value that has just these bytes.
    fn decode(bytes: impl Into<Bytes>) -> Result<Self, Error> {
        let mut from = Reader::new(bytes);
        match Self::read(&mut from).and_then(|value| from.end().map(|()| value)) {
            Ok(value) => Ok(value),
            Err(error) => Err(error.located(from.position())),
        }
    }
}

/// Bytes that are taken from the front. Parts are slices of the whole: nothing is copied.
#[derive(Debug)]
pub(super) struct Reader {
    rest: Bytes,
    length: usize,
}

impl Reader {
    pub(super) fn new(bytes: impl Into<Bytes>) -> Self {
        let rest = bytes.into();
        Self { length: rest.len(), rest }
    }

    /// How many bytes have been taken.
    pub(super) fn position(&self) -> usize {
        self.length.saturating_sub(self.rest.len())
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: u64) -> Result<Bytes, Error> {
        let found = self.rest.len();
        match usize::try_from(count) {
            Ok(count) if count <= found => Ok(self.rest.split_to(count)),
            _ => Err(Error::Short { expected: count, found: found as u64 }),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let short = Error::Short { expected: N as u64, found: self.rest.len() as u64 };
        self.take(N as u64)?.as_ref().try_into().map_err(|_| short)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Error> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn flag(&mut self) -> Result<bool, Error> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(Error::Flag { found }),
        }
    }

    pub(super) fn text(&mut self) -> Result<String, Error> {
        let length = self.u16()?;
        let bytes = self.take(length.into())?;
        String::from_utf8(bytes.into()).map_err(|_| Error::Text)
    }

    /// A count of items that each take at least `size` bytes, so that what is left must have room for them.
    pub(super) fn count(&mut self, count: u64, limit: u64, size: u64) -> Result<u64, Error> {
        if count > limit {
            return Err(Error::TooMany { expected: limit, found: count });
        }
        let (expected, found) = (count.saturating_mul(size), self.rest.len() as u64);
        if expected > found {
            return Err(Error::Short { expected, found });
        }
        Ok(count)
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> Bytes {
        self.rest.split_off(0)
    }

    /// Fails if anything is left.
    pub(super) fn end(&self) -> Result<(), Error> {
        if self.rest.is_empty() { Ok(()) } else { Err(Error::Trailing { found: self.rest.len() }) }
    }
}

/// Appends a number of items, which must not exceed `limit`.
fn put_count(to: &mut BytesMut, count: usize, limit: u64) -> Result<(), Error> {
    match u16::try_from(count) {
        Ok(short) if u64::from(short) <= limit => {
            to.put_u16(short);
            Ok(())
        }
        _ => Err(Error::TooMany { expected: limit, found: count as u64 }),
    }
}

pub(super) fn put_text(to: &mut BytesMut, text: &str) -> Result<(), Error> {
    let long = Error::LongText { expected: u16::MAX.into(), found: text.len() };
    to.put_u16(u16::try_from(text.len()).map_err(|_| long)?);
    to.put_slice(text.as_bytes());
    Ok(())
}

/// The id that comes after `last`: ids ascend, so that a set has one encoding.
fn next_id(from: &mut Reader, last: Option<u64>) -> Result<u64, Error> {
    let found = from.u64()?;
    match last {
        Some(last) if found <= last => Err(Error::Order { last, found }),
        _ => Ok(found),
    }
}

impl<T: Encode> Encode for Option<T> {
    fn write(&self, to: &mut BytesMut) -> Result<(), Error> {
        match self {
            None => {
                to.put_u8(0);
                Ok(())
            }
            Some(value) => {
                to.put_u8(1);
                value.write(to)
            }
        }
    }

    fn read(from: &mut Reader) -> Result<Self, Error> {
        if from.flag()? { T::read(from).map(Some) } else { Ok(None) }
    }
}

impl Encode for LogId {
    fn write(&self, to: &mut BytesMut) -> Result<(), Error> {
        to.put_u64(self.leader_id.term);
        to.put_u64(self.leader_id.node_id);
        to.put_u64(self.index);
        Ok(())
    }

    fn read(from: &mut Reader) -> Result<Self, Error> {
        let leader = CommittedLeaderId::new(from.u64()?, from.u64()?);
        Ok(Self::new(leader, from.u64()?))
    }
}

impl Encode for Vote {
    fn write(&self, to: &mut BytesMut) -> Result<(), Error> {
        to.put_u64(self.leader_id.term);
        to.put_u64(self.leader_id.node_id);
        to.put_u8(self.committed.into());
        Ok(())
    }

    fn read(from: &mut Reader) -> Result<Self, Error> {
        let (term, node) = (from.u64()?, from.u64()?);
        Ok(if from.flag()? { Self::new_committed(term, node) } else { Self::new(term, node) })
    }
}

impl Encode for Membership {
    fn write(&self, to: &mut BytesMut) -> Result<(), Error> {
        let sets = self.get_joint_config();
        put_count(to, sets.len(), MAX_SETS)?;
        for set in sets {
            put_count(to, set.len(), MAX_MEMBERS)?;
            set.iter().for_each(|id| to.put_u64(*id));
        }
        put_count(to, self.nodes().count(), MAX_MEMBERS)?;
        for (id, member) in self.nodes() {
            to.put_u64(*id);
            put_text(to, &member.name)?;
            put_text(to, &member.address)?;
        }
        Ok(())
    }

    fn read(from: &mut Reader) -> Result<Self, Error> {
        let count = from.u16()?;
        let mut sets = Vec::new();
        for _ in 0..from.count(count.into(), MAX_SETS, 2)? {
            let count = from.u16()?;
            if count == 0 {
                return Err(Error::NoVoters);
            }
            let mut set = BTreeSet::new();
            for _ in 0..from.count(count.into(), MAX_MEMBERS, 8)? {
                set.insert(next_id(from, set.last().copied())?);
            }
            sets.push(set);
        }
        let count = from.u16()?;
        let mut members: BTreeMap<u64, Member> = BTreeMap::new();
        for _ in 0..from.count(count.into(), MAX_MEMBERS, 12)? {
            let id = next_id(from, members.last_key_value().map(|(id, _)| *id))?;
            members.insert(id, Member { name: from.text()?, address: from.text()? });
        }
        match sets.iter().flatten().find(|voter| !members.contains_key(voter)) {
            Some(voter) => Err(Error::UnknownVoter { found: *voter }),
            None => Ok(Self::new(sets, members)),
        }
    }
}

impl Encode for StoredMembership {
    fn write(&self, to: &mut BytesMut) -> Result<(), Error> {
        self.log_id().write(to)?;
        self.membership().write(to)
    }

    fn read(from: &mut Reader) -> Result<Self, Error> {
        Ok(Self::new(Encode::read(from)?, Encode::read(from)?))
    }
}

/// Takes all bytes that are left: an entry stands alone, or behind a length.
impl Encode for Entry {
    fn write(&self, to: &mut BytesMut) -> Result<(), Error> {
        self.log_id.write(to)?;
        match &self.payload {
            EntryPayload::Blank => {
                to.put_u8(BLANK);
                Ok(())
            }
            EntryPayload::Normal(proposal) => {
                to.put_u8(PROPOSAL);
                to.put_slice(&proposal.0);
                Ok(())
            }
            EntryPayload::Membership(membership) => {
                to.put_u8(MEMBERSHIP);
                membership.write(to)
            }
        }
    }

    fn read(from: &mut Reader) -> Result<Self, Error> {
        let log_id = Encode::read(from)?;
        let payload = match from.u8()? {
            BLANK => EntryPayload::Blank,
            PROPOSAL => EntryPayload::Normal(Proposal(from.rest())),
            MEMBERSHIP => EntryPayload::Membership(Encode::read(from)?),
            found => return Err(Error::Kind { expected: MEMBERSHIP, found }),
        };
        Ok(Self { log_id, payload })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn log_ids() -> impl Strategy<Value = LogId> {
        (any::<u64>(), any::<u64>(), any::<u64>())
            .prop_map(|(term, node, index)| LogId::new(CommittedLeaderId::new(term, node), index))
    }

    fn memberships() -> impl Strategy<Value = Membership> {
        let members = prop::collection::btree_map(any::<u64>(), (".{0,8}", ".{0,8}"), 1..6);
        let members = members.prop_map(|members| {
            let member = |(id, (name, address))| (id, Member { name, address });
            members.into_iter().map(member).collect::<BTreeMap<_, _>>()
        });
        (members, 0..3_usize).prop_map(|(members, sets)| {
            let voters: BTreeSet<u64> = members.keys().copied().take(3).collect();
            Membership::new(vec![voters; sets], members)
        })
    }

    pub(in crate::consensus) fn entries() -> impl Strategy<Value = Entry> {
        let payload = prop_oneof![
            Just(EntryPayload::Blank),
            prop::collection::vec(any::<u8>(), 0..64)
                .prop_map(|bytes| EntryPayload::Normal(Proposal(bytes.into()))),
            memberships().prop_map(EntryPayload::Membership),
        ];
        (log_ids(), payload).prop_map(|(log_id, payload)| Entry { log_id, payload })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            entry in entries(),
            membership in (prop::option::of(log_ids()), memberships()),
            vote in (any::<u64>(), any::<u64>(), any::<bool>()),
        ) {
            prop_assert_eq!(&Entry::decode(entry.encode().unwrap()).unwrap(), &entry);
            let membership = StoredMembership::new(membership.0, membership.1);
            prop_assert_eq!(&StoredMembership::decode(membership.encode().unwrap()).unwrap(), &membership);
            let (term, node, committed) = vote;
            let vote = if committed { Vote::new_committed(term, node) } else { Vote::new(term, node) };
            prop_assert_eq!(Vote::decode(vote.encode().unwrap()).unwrap(), vote);
        }
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let log_id = LogId::new(CommittedLeaderId::new(2, 3), 4);
        let entry = Entry { log_id, payload: EntryPayload::Normal(Proposal(Bytes::from_static(b"ab"))) };
        assert_eq!(
            hex::encode(entry.encode().unwrap()),
            "000000000000000200000000000000030000000000000004016162"
        );
        let member = Member { name: "a".into(), address: "b:1".into() };
        let membership = Membership::new(vec![BTreeSet::from([7])], BTreeMap::from([(7, member)]));
        let stored = StoredMembership::new(None, membership);
        assert_eq!(
            hex::encode(stored.encode().unwrap()),
            "00000100010000000000000007000100000000000000070001610003623a31"
        );
    }

    #[test]
    fn each_fault_has_its_error() {
        let vote = Vote::new(1, 2).encode().unwrap().to_vec();
        let changed = |place: usize, byte: u8| {
            let mut vote = vote.clone();
            vote[place] = byte;
            vote
        };
        assert_eq!(
            Vote::decode(vote[..16].to_vec()).map_err(Error::problem),
            Err(Error::Short { expected: 1, found: 0 })
        );
        assert_eq!(
            Vote::decode([&vote[..], &[0]].concat()).map_err(Error::problem),
            Err(Error::Trailing { found: 1 })
        );
        let flag = Vote::decode(changed(16, 2)).unwrap_err();
        assert_eq!(flag.to_string(), "flag expected, 0 or 1, 2 found, at byte 17");
        assert_eq!(flag.problem(), Error::Flag { found: 2 });

        let membership = |text: &str| Membership::decode(hex::decode(text).unwrap()).map_err(Error::problem);
        assert_eq!(membership("ffff"), Err(Error::TooMany { expected: 8, found: 65535 }));
        assert_eq!(membership("00010000"), Err(Error::NoVoters));
        assert_eq!(membership("0001ffff"), Err(Error::TooMany { expected: 1024, found: 65535 }));
        assert_eq!(membership("00010400"), Err(Error::Short { expected: 8192, found: 0 }));
        assert_eq!(membership("0001000100000000000000070000"), Err(Error::UnknownVoter { found: 7 }));
        let twice = "0001000200000000000000070000000000000007";
        assert_eq!(membership(twice), Err(Error::Order { last: 7, found: 7 }));
        assert_eq!(membership("00000001000000000000000700000001ff"), Err(Error::Text));
    }
}
