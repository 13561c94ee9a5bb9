//! What is kept of a member's misdeeds, and how it is written down.

use fairpost_proto::cbor::{self, Reader, Writer};
use fairpost_proto::ids::{KeyId, Timestamp};

use crate::ledger::read_time;

/// What a member is blamed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// It voted for two leaves of one exchange in one round.
    Leaves,
    /// It signed two roots for one size of the evidence log.
    Roots,
    /// As leader it stamped two entries for one term and sequence.
    Entries,
    /// It signed two ballots for one entry that do not contradict each other.
    Ballots,
    /// It sent a share that does not verify under its own key.
    Share,
    /// It sent a vote or an acknowledgement whose signature does not hold.
    Vote,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Leaves, Self::Roots, Self::Entries, Self::Ballots, Self::Share, Self::Vote];

    /// Whether its evidence is a proof of misconduct, which convinces everybody who trusts the cluster's genesis. Where it
    /// is not, only this node knows that the evidence came from the member.
    pub const fn is_transferable(self) -> bool {
        matches!(self, Self::Leaves | Self::Roots | Self::Entries)
    }

    /// A word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Leaves => "leaves",
            Self::Roots => "roots",
            Self::Entries => "entries",
            Self::Ballots => "ballots",
            Self::Share => "share",
            Self::Vote => "vote",
        }
    }

    pub(in crate::witness) const fn code(self) -> u8 {
        match self {
            Self::Leaves => 1,
            Self::Roots => 2,
            Self::Entries => 3,
            Self::Ballots => 4,
            Self::Share => 5,
            Self::Vote => 6,
        }
    }

    pub(in crate::witness) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// What a member is blamed for, of one kind: the first such deed with its evidence, and how many there were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The member's identity.
    pub member: KeyId,
    /// The kind.
    pub kind: Kind,
    /// When the first was found.
    pub first: Timestamp,
    /// When the last was found.
    pub last: Timestamp,
    /// How many were found.
    pub count: u64,
    /// What the first was about.
    pub subject: String,
    /// What shows the first: a proof of misconduct, or the bytes that the member sent.
    pub evidence: Vec<u8>,
}

/// The most bytes of a subject.
const SUBJECT: usize = 512;

impl Record {
    /// As it is stored, under the member and the kind.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.array(5).uint(self.first.millis()).uint(self.last.millis()).uint(self.count);
        writer.text(&self.subject).bytes(&self.evidence).finish()
    }

    /// As it was stored.
    pub(crate) fn parse(member: KeyId, kind: Kind, bytes: &[u8]) -> Result<Self, cbor::Error> {
        let mut reader = Reader::new(bytes);
        reader.array_of("a blame", 5, "5")?;
        let (first, last) = (read_time(&mut reader)?, read_time(&mut reader)?);
        let count = reader.uint()?;
        let subject = reader.text("what somebody is blamed for", SUBJECT)?.to_owned();
        let evidence = reader.bytes()?.to_vec();
        reader.finish()?;
        Ok(Self { member, kind, first, last, count, subject, evidence })
    }
}

/// That a member was cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleared {
    /// When.
    pub time: Timestamp,
    /// By which operator's key.
    pub by: KeyId,
    /// How many records went with it.
    pub records: u64,
}

impl Cleared {
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.array(3).uint(self.time.millis()).bytes(self.by.as_bytes()).uint(self.records).finish()
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, cbor::Error> {
        let mut reader = Reader::new(bytes);
        reader.array_of("a clearing", 3, "3")?;
        let time = read_time(&mut reader)?;
        let by = KeyId::new(reader.bytes32("the operator's key")?);
        let records = reader.uint()?;
        reader.finish()?;
        Ok(Self { time, by, records })
    }
}
