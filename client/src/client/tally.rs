//! What nodes have said that does not prove itself, and when enough of them have said it. Pure.

use std::collections::BTreeMap;

use fairpost_proto::quorum::Quorum;

use super::error::{Error, Failure, Fault, Rejection};

/// What a node said.
#[derive(Clone, Debug)]
pub(super) enum Said {
    Undecided,
    Rejected(Rejection),
    Failed(Fault, String),
}

/// What can be believed although it does not prove itself.
#[derive(Debug)]
pub(super) enum Believed {
    Undecided,
    Rejected(Rejection),
}

/// The last word of each node.
pub(super) struct Tally {
    /// One more than may be compromised: so many can't all be lying when they reject something.
    enough: usize,
    /// So many that those who hold a verdict, if there is one, can't all be among the others ([`Quorum::denials`]).
    denials: usize,
    said: BTreeMap<usize, Said>,
}

impl Tally {
    pub(super) const fn new(quorum: Quorum) -> Self {
        Self { enough: quorum.f() + 1, denials: quorum.denials(), said: BTreeMap::new() }
    }

    /// Takes down what the node at `place` said; says what can be believed now.
    pub(super) fn hear(&mut self, place: usize, said: Said) -> Option<Believed> {
        let heard = said.clone();
        self.said.insert(place, said);
        let count = self.said.values().filter(|other| agree(other, &heard)).count();
        match heard {
            Said::Undecided if count >= self.denials => Some(Believed::Undecided),
            Said::Rejected(rejection) if count >= self.enough => Some(Believed::Rejected(rejection)),
            _ => None,
        }
    }

    /// The places of the nodes that were silent.
    pub(super) fn silent(&self) -> Vec<usize> {
        let silent = |said: &Said| matches!(said, Said::Failed(Fault::Silent, _));
        self.said.iter().filter(|(_, said)| silent(said)).map(|(place, _)| *place).collect()
    }

    /// The error when time has run out. `names` are the nodes' in the order of their places.
    pub(super) fn give_up(self, names: &[&str]) -> Error {
        let (needed, undecided) = (self.denials, |said: &&Said| matches!(said, Said::Undecided));
        let found = self.said.values().filter(undecided).count();
        let failures: Vec<Failure> = self
            .said
            .into_iter()
            .map(|(place, said)| {
                let node = names.get(place).map_or_else(|| place.to_string(), |name| (*name).to_owned());
                let (fault, message) = match said {
                    Said::Undecided => (Fault::Undecided, "says undecided".to_owned()),
                    Said::Rejected(rejection) => (Fault::Rejected, format!("rejects it, alone: {rejection}")),
                    Said::Failed(fault, message) => (fault, message),
                };
                Failure { node, fault, message }
            })
            .collect();
        let any = |faults: &[Fault]| failures.iter().any(|failure| faults.contains(&failure.fault));
        if found > 0 {
            Error::NotEnough { needed, found, failures }
        } else if any(&[Fault::Unavailable, Fault::Overloaded, Fault::Broken, Fault::Rejected]) {
            Error::NoQuorum { failures }
        } else if any(&[Fault::Lied]) {
            Error::NotBelieved { failures }
        } else {
            Error::NotReached { failures }
        }
    }
}

/// Whether both say the same, but for the words.
fn agree(a: &Said, b: &Said) -> bool {
    match (a, b) {
        (Said::Undecided, Said::Undecided) => true,
        (Said::Rejected(a), Said::Rejected(b)) => (a.code, &a.reason) == (b.code, &b.reason),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::client::Reason;

    fn tally() -> Tally {
        Tally::new(Quorum::new(4, 1).unwrap())
    }

    fn rejected(reason: &str) -> Said {
        let message = "no".to_owned();
        Said::Rejected(Rejection {
            code: Code::FailedPrecondition,
            reason: Reason::parse(reason.to_owned()),
            message,
        })
    }

    #[test]
    fn one_liar_is_not_believed_and_two_of_four_are_enough() {
        let mut tally = tally();
        assert!(tally.hear(0, rejected("TOO_LATE")).is_none());
        assert!(
            tally.hear(0, rejected("TOO_LATE")).is_none(),
            "one node is one voice, however often it speaks"
        );
        assert!(tally.hear(1, rejected("CLOCK")).is_none());
        assert!(matches!(tally.hear(2, rejected("TOO_LATE")), Some(Believed::Rejected(_))));
    }

    #[test]
    fn undecided_is_believed_when_no_holder_of_a_verdict_can_be_left_out() {
        let mut tally = tally();
        assert!(tally.hear(3, Said::Undecided).is_none());
        assert!(tally.hear(1, Said::Undecided).is_none(), "a liar, and an honest one that is behind");
        assert!(matches!(tally.hear(0, Said::Undecided), Some(Believed::Undecided)));
    }

    #[test]
    fn who_takes_its_word_back_counts_no_more() {
        let mut tally = tally();
        assert!(tally.hear(0, Said::Undecided).is_none());
        assert!(tally.hear(0, Said::Failed(Fault::Silent, "silent".into())).is_none());
        assert!(tally.hear(1, Said::Undecided).is_none());
        assert!(tally.hear(2, Said::Undecided).is_none());
    }

    #[test]
    fn the_error_tells_nobody_there_from_no_quorum_and_from_liars() {
        let failed = |fault| {
            let mut tally = tally();
            tally.hear(0, Said::Failed(Fault::Unreachable, "refused".into()));
            tally.hear(1, Said::Failed(fault, "why".into()));
            tally.give_up(&["n1", "n2"])
        };
        assert!(matches!(failed(Fault::Silent), Error::NotReached { .. }));
        assert!(matches!(failed(Fault::Unavailable), Error::NoQuorum { .. }));
        assert!(matches!(failed(Fault::Lied), Error::NotBelieved { .. }));
        let mut tally = tally();
        tally.hear(2, Said::Undecided);
        assert!(matches!(tally.give_up(&["n1"]), Error::NotEnough { needed: 3, found: 1, .. }));
        assert_eq!(failed(Fault::Silent).to_string(), "no node could be reached: n1: refused; n2: why");
    }
}
