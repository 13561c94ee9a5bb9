//! What nodes have said that does not prove itself, and when enough of them have said it. Pure.

use std::collections::BTreeMap;

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
    /// One more than may be compromised: so many can't all be lying.
    enough: usize,
    said: BTreeMap<usize, Said>,
}

impl Tally {
    pub(super) fn new(faults: usize) -> Self {
        Self { enough: faults + 1, said: BTreeMap::new() }
    }

    /// Takes down what the node at `place` said; says what can be believed now.
    pub(super) fn hear(&mut self, place: usize, said: Said) -> Option<Believed> {
        let heard = said.clone();
        self.said.insert(place, said);
        let count = self.said.values().filter(|other| agree(other, &heard)).count();
        match heard {
            Said::Undecided if count >= self.enough => Some(Believed::Undecided),
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
        let failures: Vec<Failure> = self
            .said
            .into_iter()
            .map(|(place, said)| {
                let node = names.get(place).map_or_else(|| place.to_string(), |name| (*name).to_owned());
                let (fault, message) = match said {
                    Said::Undecided => (Fault::Undecided, "says undecided, alone".to_owned()),
                    Said::Rejected(rejection) => (Fault::Rejected, format!("rejects it, alone: {rejection}")),
                    Said::Failed(fault, message) => (fault, message),
                };
                Failure { node, fault, message }
            })
            .collect();
        let any = |faults: &[Fault]| failures.iter().any(|failure| faults.contains(&failure.fault));
        if any(&[Fault::Unavailable, Fault::Overloaded, Fault::Broken, Fault::Rejected, Fault::Undecided]) {
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
        let mut tally = Tally::new(1);
        assert!(tally.hear(0, rejected("TOO_LATE")).is_none());
        assert!(
            tally.hear(0, rejected("TOO_LATE")).is_none(),
            "one node is one voice, however often it speaks"
        );
        assert!(tally.hear(1, rejected("CLOCK")).is_none());
        assert!(matches!(tally.hear(2, rejected("TOO_LATE")), Some(Believed::Rejected(_))));
        assert!(tally.hear(3, Said::Undecided).is_none());
        assert!(matches!(tally.hear(1, Said::Undecided), Some(Believed::Undecided)));
    }

    #[test]
    fn who_takes_its_word_back_counts_no_more() {
        let mut tally = Tally::new(1);
        assert!(tally.hear(0, Said::Undecided).is_none());
        assert!(tally.hear(0, Said::Failed(Fault::Silent, "silent".into())).is_none());
        assert!(tally.hear(1, Said::Undecided).is_none());
    }

    #[test]
    fn the_error_tells_nobody_there_from_no_quorum_and_from_liars() {
        let failed = |fault| {
            let mut tally = Tally::new(1);
            tally.hear(0, Said::Failed(Fault::Unreachable, "refused".into()));
            tally.hear(1, Said::Failed(fault, "why".into()));
            tally.give_up(&["n1", "n2"])
        };
        assert!(matches!(failed(Fault::Silent), Error::NotReached { .. }));
        assert!(matches!(failed(Fault::Unavailable), Error::NoQuorum { .. }));
        assert!(matches!(failed(Fault::Lied), Error::NotBelieved { .. }));
        assert_eq!(failed(Fault::Silent).to_string(), "no node could be reached: n1: refused; n2: why");
    }
}
