//! Why a message does not count.

use super::{Kind, Step};
use crate::cose;
use crate::ids::{Digest, KeyId};

/// Why a message changes nothing.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Its signature does not hold.
    #[error(transparent)]
    Signature(#[from] cose::Error),
    /// It is about another proposal.
    #[error("the message is about proposal {found}, and this ceremony about {expected}")]
    Proposal {
        /// The ceremony's.
        expected: Digest,
        /// The message's.
        found: Digest,
    },
    /// It belongs to an attempt that is over, or has not begun.
    #[error("the message is of attempt {found}, and the running one is {expected} (0: none)")]
    Attempt {
        /// The running attempt, 0 if there is none.
        expected: u32,
        /// The message's.
        found: u32,
    },
    /// It belongs to an attempt of this number that began otherwise.
    #[error(
        "the message is of an attempt that began with {found}, and the running one began with {expected}"
    )]
    Begun {
        /// The digest of the begin here.
        expected: Digest,
        /// The one in the message.
        found: Digest,
    },
    /// An attempt has another number than the one that comes next.
    #[error("attempt {found} can't begin, the next is {expected}")]
    Number {
        /// The next attempt.
        expected: u32,
        /// The one that was to begin.
        found: u32,
    },
    /// The key is made.
    #[error("the key is made, attempt {attempt} has finished")]
    Finished {
        /// The attempt that made it.
        attempt: u32,
    },
    /// Whoever let it begin is no operator.
    #[error("{found} is none of the proposal's {operators} operators")]
    NoOperator {
        /// How many there are.
        operators: usize,
        /// Who signed.
        found: KeyId,
    },
    /// A participant is no member.
    #[error("participant {found} is none of the {members} members")]
    NoMember {
        /// How many there are.
        members: usize,
        /// The index found.
        found: u16,
    },
    /// Too few take part.
    #[error("{found} members take part, and it takes {needed}")]
    TooFew {
        /// q + f.
        needed: usize,
        /// How many there are.
        found: usize,
    },
    /// Its author does not take part in this attempt.
    #[error("{found} does not take part in attempt {attempt}")]
    Stranger {
        /// The attempt.
        attempt: u32,
        /// The author.
        found: KeyId,
    },
    /// What it rests on is not there yet.
    #[error("the {kind} of {member} comes too early: the attempt is still {step}")]
    Early {
        /// What came.
        kind: Kind,
        /// Its author.
        member: String,
        /// How far the attempt is.
        step: Step,
    },
    /// There are as many dealings as there have to be.
    #[error("the dealing of {member} comes too late: there are {dealings}, which is all")]
    Late {
        /// Its author.
        member: String,
        /// How many there are.
        dealings: usize,
    },
    /// The author has said this, or was convicted of saying two things.
    #[error("the {kind} of {member} is there already")]
    Repeated {
        /// What came.
        kind: Kind,
        /// Its author.
        member: String,
    },
    /// The dealing is for another number of shares.
    #[error("the dealing of {member} is for tokens of {found} shares, and it takes {expected}")]
    Threshold {
        /// Its author.
        member: String,
        /// q.
        expected: usize,
        /// The dealing's.
        found: usize,
    },
    /// The dealing is for another number of readers.
    #[error("the dealing of {member} has {found} rows for {expected} participants")]
    Rows {
        /// Its author.
        member: String,
        /// How many take part.
        expected: usize,
        /// How many rows there are.
        found: usize,
    },
    /// A complaint is about a dealing that is not there.
    #[error("{member} complains about dealing {found}, and there are {dealings}")]
    NoSuchPlace {
        /// The author.
        member: String,
        /// How many there are.
        dealings: usize,
        /// The place.
        found: u16,
    },
    /// An opening is for a dealing that its author did not deal.
    #[error("{member} opens a row of {found}, which is not its dealing")]
    NotItsDealing {
        /// The author.
        member: String,
        /// The dealing that was to be opened.
        found: Digest,
    },
    /// Nobody may ask for this row.
    #[error(
        "{member} opens the row of member {reader}, who is not among the {answered} whose complaint is to be answered"
    )]
    NotAsked {
        /// The author.
        member: String,
        /// How many complaints about this dealing are answered.
        answered: usize,
        /// The row's reader.
        reader: u16,
    },
    /// A member signs a set of which it has not all rows.
    #[error("{member} signs the set without its row of the dealing by {dealer}")]
    Unresolved {
        /// The author.
        member: String,
        /// Whose row it lacks.
        dealer: String,
    },
}
