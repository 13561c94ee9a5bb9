//! What people are told: how far a ceremony is, for whom it waits, and who did what.

use core::fmt;

use super::Kind;
use crate::ids::Digest;

/// How far an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// No attempt has begun.
    NotBegun,
    /// The participants publish their one-time keys.
    Joining,
    /// They deal.
    Dealing,
    /// They confirm their rows or complain, and dealers open what was complained of.
    Reporting,
    /// They sign the qualified set.
    Signing,
    /// They show that their shares work.
    Proving,
    /// The token over the genesis is there.
    Done,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotBegun => "not begun",
            Self::Joining => "joining",
            Self::Dealing => "dealing",
            Self::Reporting => "reporting",
            Self::Signing => "signing the set",
            Self::Proving => "proving its shares",
            Self::Done => "done",
        })
    }
}

/// Something that a member has yet to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Awaited {
    /// The index of the member.
    pub member: u16,
    /// What is awaited.
    pub kind: Kind,
}

/// Why an attempt can't finish any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dead {
    /// Too many dealings are out.
    Dealings {
        /// f + 1, and 2 where there are two members.
        needed: usize,
        /// How many can still qualify.
        left: usize,
    },
    /// Too many participants said what can't count.
    Members {
        /// What it is that too few can say.
        kind: Kind,
        /// q + f.
        needed: usize,
        /// How many can still say it, or have said it.
        left: usize,
    },
    /// The qualified dealings make no key.
    Key(String),
}

impl fmt::Display for Dead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dealings { needed, left } => {
                write!(f, "{left} dealings are left that can qualify, and it takes {needed}")
            }
            Self::Members { kind, needed, left } => {
                write!(f, "at most {left} members can give their {kind}, and it takes {needed}")
            }
            Self::Key(why) => write!(f, "the dealings make no key: {why}"),
        }
    }
}

/// What a member did that no honest member does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misdeed {
    /// In which attempt.
    pub attempt: u32,
    /// The index of the member.
    pub member: u16,
    /// What.
    pub offence: Offence,
}

/// The kinds of misdeeds, with the signed messages that show them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offence {
    /// It said two things where it may say one.
    Equivocation {
        /// What it said.
        kind: Kind,
        /// The message that counts.
        first: Vec<u8>,
        /// The one that contradicts it.
        second: Vec<u8>,
    },
    /// It opened a row that does not fit its own commitment.
    WrongRow {
        /// The dealing.
        dealing: Vec<u8>,
        /// The opening.
        opening: Vec<u8>,
    },
    /// Its share of the token is none under its share key in the genesis.
    WrongShare {
        /// The genesis.
        genesis: Vec<u8>,
        /// The message.
        proof: Vec<u8>,
    },
    /// It speaks of other dealings, another set or another genesis than this log gives. Either it lies, or its log is another:
    /// so this names it, and convicts nobody.
    OtherLog {
        /// What it said.
        kind: Kind,
        /// What this log gives.
        expected: Digest,
        /// What it spoke of.
        found: Digest,
        /// The message.
        message: Vec<u8>,
    },
}

impl Offence {
    /// Whether the signed messages alone prove it, to anybody.
    pub const fn convicts(&self) -> bool {
        !matches!(self, Self::OtherLog { .. })
    }
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equivocation { kind, .. } => write!(f, "signed two contradicting messages: {kind}"),
            Self::WrongRow { .. } => f.write_str("opened a row that does not fit its own commitment"),
            Self::WrongShare { .. } => f.write_str("gave a share of the genesis token that is none"),
            Self::OtherLog { kind, expected, found, .. } => {
                write!(f, "gave a {kind} about {found}, where this log has {expected}")
            }
        }
    }
}

/// A complaint about a row. By itself it names neither side: encryption may have failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The index of the member that complained.
    pub by: u16,
    /// The index of the dealer.
    pub dealer: u16,
    /// Whether the dealer has published a row that is right.
    pub opened: bool,
}

/// How far a ceremony is.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The running attempt, 0 if none has begun.
    pub attempt: u32,
    /// How far it is.
    pub step: Step,
    /// How many more members have to say what the step is about. Openings are not counted: a step may wait for these alone.
    pub missing: usize,
    /// Who has yet to say what. Not all of them need to, if more take part than `q + f`.
    pub awaited: Vec<Awaited>,
    /// Why the attempt can't finish any more, if that is so. Then an operator may let another one begin.
    pub dead: Option<Dead>,
    /// All misdeeds so far, those of older attempts too.
    pub misdeeds: Vec<Misdeed>,
    /// All complaints of this attempt.
    pub complaints: Vec<Complaint>,
}
