//! What each member has signed last, as far as this server has seen it, so that a member whose disk or machine was set back
//! finds out.
//!
//! # Specification
//!
//! Votes, statements and acknowledgements of a member are numbered by one counter, which its witness store has synced before it
//! signs. So whoever shows a member a number beyond its own counter shows it that it has forgotten something: a disk or a
//! machine image of before was put in its place, and what it signs now could contradict what it signed then.
//!
//! Every server keeps of every member the object with the highest number. A member asks for that of itself before its first
//! signature after a start ([`super::rules::start`]).
//!
//! # Relies on
//!
//! - Whoever notes an object has checked its signature, its cluster and its epoch.
//! - The store writes what has changed with what it writes anyway: a crash may lose the last of it, and with that some of the
//!   chance to notice, but nothing that this server promised.
//!
//! # Guarantees
//!
//! - One object of each member, the one with the highest number ([`Newest::note`]; `the_highest_number_stands`).
//! - What is shown to a member counts only with that member's own signature, in this epoch ([`Numbered::check`];
//!   `only_what_a_member_signed_itself_tells_it_anything`).

use std::collections::{BTreeMap, BTreeSet};

use fairpost_proto::cose::{self, Payload, Signed};
use fairpost_proto::ids::{ClusterId, KeyId};
use fairpost_proto::round::{Acknowledgement, Statement};
use fairpost_proto::view::View;
use fairpost_proto::vote::Vote;

/// Why an object tells a member nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no vote, statement or acknowledgement, or its signature does not hold.
    #[error("{0}")]
    Signed(#[from] cose::Error),
    /// Somebody else signed it.
    #[error("it is by {found}, expected {expected}")]
    Signer {
        /// Who asked.
        expected: KeyId,
        /// Who signed.
        found: KeyId,
    },
    /// It was signed in another cluster or epoch.
    #[error("it is of epoch {found} in cluster {cluster}, expected epoch {expected} of this one")]
    Elsewhere {
        /// This epoch.
        expected: u32,
        /// The object's epoch.
        found: u32,
        /// The object's cluster.
        cluster: ClusterId,
    },
    /// Nobody in the view has the key.
    #[error("{0} is no member")]
    NoMember(KeyId),
}

/// Something that a member signs under its counter: well-formed, not yet checked.
#[derive(Debug)]
pub enum Numbered {
    /// A vote.
    Vote(Signed<Vote>),
    /// A statement.
    Statement(Box<Signed<Statement>>),
    /// An acknowledgement.
    Acknowledgement(Signed<Acknowledgement>),
}

impl Numbered {
    /// Parses whichever of them it is.
    pub fn parse(bytes: &[u8]) -> Result<Self, cose::Error> {
        // First those that may be the longest: what is too long for its type is told of before the type is looked at.
        if let Some(statement) = of_type(Signed::parse(bytes))? {
            return Ok(Self::Statement(Box::new(statement)));
        }
        if let Some(vote) = of_type(Signed::parse(bytes))? {
            return Ok(Self::Vote(vote));
        }
        Ok(Self::Acknowledgement(Signed::parse(bytes)?))
    }

    /// As it was parsed.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Vote(signed) => signed.bytes(),
            Self::Statement(signed) => signed.bytes(),
            Self::Acknowledgement(signed) => signed.bytes(),
        }
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        match self {
            Self::Vote(signed) => signed.payload().number,
            Self::Statement(signed) => signed.payload().number,
            Self::Acknowledgement(signed) => signed.payload().number,
        }
    }

    /// Whose signature it claims to bear.
    pub fn signer(&self) -> KeyId {
        match self {
            Self::Vote(signed) => *signed.signer(),
            Self::Statement(signed) => *signed.signer(),
            Self::Acknowledgement(signed) => *signed.signer(),
        }
    }

    /// Checks that `member` signed it in this view's epoch; gives its number.
    pub fn check(&self, view: &View, member: KeyId) -> Result<u64, Error> {
        let found = self.signer();
        if found != member {
            return Err(Error::Signer { expected: member, found });
        }
        let (cluster, epoch) = match self {
            Self::Vote(signed) => (signed.payload().cluster, signed.payload().epoch),
            Self::Statement(signed) => (signed.payload().cluster, signed.payload().epoch),
            Self::Acknowledgement(signed) => (signed.payload().cluster, signed.payload().epoch),
        };
        if (cluster, epoch) != (view.cluster(), view.epoch()) {
            return Err(Error::Elsewhere { expected: view.epoch(), found: epoch, cluster });
        }
        let (_, member) = view.member_by_key(member).ok_or(Error::NoMember(member))?;
        match self {
            Self::Vote(signed) => signed.verify(&member.identity)?,
            Self::Statement(signed) => signed.verify(&member.identity)?,
            Self::Acknowledgement(signed) => signed.verify(&member.identity)?,
        }
        Ok(self.number())
    }
}

/// None if it is of another type.
fn of_type<P: Payload>(parsed: Result<Signed<P>, cose::Error>) -> Result<Option<Signed<P>>, cose::Error> {
    match parsed {
        Ok(signed) => Ok(Some(signed)),
        Err(cose::Error::Typ { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The object with the highest number of each member.
#[derive(Debug, Default)]
pub struct Newest {
    held: BTreeMap<KeyId, (u64, Vec<u8>)>,
    /// Whose is not on disk yet.
    changed: BTreeSet<KeyId>,
}

impl Newest {
    /// Takes back what was stored.
    pub fn restore(&mut self, member: KeyId, number: u64, bytes: Vec<u8>) {
        self.held.insert(member, (number, bytes));
    }

    /// Keeps an object, which was checked, if its number is higher than that of the one kept before.
    pub fn note(&mut self, member: KeyId, number: u64, bytes: &[u8]) {
        if self.held.get(&member).is_none_or(|(held, _)| *held < number) {
            self.held.insert(member, (number, bytes.to_vec()));
            self.changed.insert(member);
        }
    }

    /// The object of this member.
    pub fn of(&self, member: &KeyId) -> Option<&[u8]> {
        self.held.get(member).map(|(_, bytes)| bytes.as_slice())
    }

    /// What has changed since it was last asked for.
    pub fn take_changed(&mut self) -> Vec<(KeyId, Vec<u8>)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().filter_map(|member| Some((member, self.held.get(&member)?.1.clone()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use fairpost_proto::chain;
    use fairpost_proto::ids::{Digest, ExchangeId};
    use fairpost_proto::leaf::Round;

    use super::*;
    use crate::testing::{World, after};

    fn key(world: &World, member: usize) -> KeyId {
        chain::key_id(&world.identities[member].verifying_key())
    }

    /// A vote with this number, in the name of one member, signed with the key of another.
    fn vote(world: &World, number: u64, (name, signer): (usize, usize), epoch: u32) -> Signed<Vote> {
        let payload = Vote {
            cluster: world.view.cluster(),
            epoch,
            sequence: 7,
            log_size: 9,
            log_root: Digest::of(b"root"),
            ballot: Digest::of(b"ballot"),
            number,
        };
        Signed::sign(payload, key(world, name), &world.identities[signer])
    }

    #[test]
    fn only_what_a_member_signed_itself_tells_it_anything() {
        let world = World::new();
        let check = |bytes: &[u8]| Numbered::parse(bytes).unwrap().check(&world.view, key(&world, 0));
        let acknowledgement = Acknowledgement {
            cluster: world.view.cluster(),
            epoch: 0,
            exchange: ExchangeId::new([1; 32]),
            round: Round::new(2).unwrap(),
            leaf: Digest::of(b"leaf"),
            number: 8,
        };
        let acknowledgement = Signed::sign(acknowledgement, key(&world, 0), &world.identities[0]);
        let statement = world.statement(0, (1, 2), after(4), |statement| statement.number = 9);
        assert_eq!(check(vote(&world, 7, (0, 0), 0).bytes()).unwrap(), 7);
        assert_eq!(check(acknowledgement.bytes()).unwrap(), 8);
        assert_eq!(check(statement.bytes()).unwrap(), 9);

        let forged = check(vote(&world, 7, (0, 1), 0).bytes());
        assert!(matches!(forged, Err(Error::Signed(_))), "{forged:?}");
        let other = check(vote(&world, 7, (1, 1), 0).bytes());
        assert!(matches!(other, Err(Error::Signer { .. })), "{other:?}");
        let earlier = check(vote(&world, 7, (0, 0), 1).bytes());
        assert!(matches!(earlier, Err(Error::Elsewhere { found: 1, .. })), "{earlier:?}");
        assert!(Numbered::parse(b"nothing").is_err());
        assert!(Numbered::parse(world.nro(1).bytes()).is_err(), "another kind of signed object");
    }

    #[test]
    fn the_highest_number_stands() {
        let (member, other) = (KeyId::new([1; 32]), KeyId::new([2; 32]));
        let mut newest = Newest::default();
        newest.restore(member, 4, b"four".to_vec());
        assert_eq!(newest.take_changed(), [], "it is on disk");
        newest.note(member, 3, b"three");
        newest.note(member, 4, b"another four");
        assert_eq!(newest.take_changed(), []);
        assert_eq!(newest.of(&member), Some(&b"four"[..]));
        newest.note(other, 1, b"one");
        newest.note(member, 5, b"five");
        assert_eq!(newest.take_changed(), [(member, b"five".to_vec()), (other, b"one".to_vec())]);
        assert_eq!(newest.take_changed(), []);
        assert_eq!(newest.of(&member), Some(&b"five"[..]));
    }
}
