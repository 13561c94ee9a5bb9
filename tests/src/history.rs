//! What clients saw, and whether it may be so.
//!
//! # Specification
//!
//! Clients record every operation with its answer. When all faults are over, every node is asked about every exchange.
//! From both, and nothing that a node says of itself, [`check`] finds what must not be:
//!
//! - a token that does not verify, or tokens for two verdicts on one exchange;
//! - a mail that was opened, or any verdict that was answered, without a proof that the judge accepts;
//! - an answer that a node does not give any more, or gives otherwise;
//! - an exchange that asking again does not complete, unless it is contested: so many nodes refused their vote, because they
//!   did not see the entry within the skew or saw a receipt in time, that fewer than `q` are left;
//! - nodes with different evidence logs.

use std::collections::{BTreeMap, BTreeSet};

use fairpost_proto::ids::{ExchangeId, Verdict};

/// What an answer came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A verdict with its token. `valid` is what the cluster's public key says of the token.
    Verdict {
        /// The verdict.
        verdict: Verdict,
        /// Its token.
        token: Vec<u8>,
        /// Whether the token verifies for this verdict on this exchange.
        valid: bool,
    },
    /// A proof that the judge accepted, for this verdict.
    Proof(Verdict),
    /// There is no verdict.
    Undecided,
    /// It was rejected, and asking again would not help.
    Rejected(String),
    /// No answer; what was asked may still happen.
    Failed(String),
}

/// One operation of a client.
#[derive(Clone, Debug)]
pub struct Event {
    /// The exchange.
    pub exchange: ExchangeId,
    /// What was asked: redeem, refuse, withdraw, status or proof.
    pub operation: &'static str,
    /// When, in milliseconds since the run's start.
    pub start: u128,
    /// When its answer came.
    pub end: u128,
    /// The answer.
    pub answer: Answer,
}

/// What became of an exchange, after all faults.
#[derive(Clone, Debug, Default)]
pub struct Final {
    /// What each node answers when it is asked for the verdict.
    pub nodes: BTreeMap<usize, Answer>,
    /// What each node gives when it is asked for the proof.
    pub proofs: BTreeMap<usize, Answer>,
    /// The nodes that refused their vote on it for want of having seen it in time.
    pub refused: BTreeSet<usize>,
}

/// All that is known at the end.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// What clients did, in any order.
    pub events: Vec<Event>,
    /// What became of each exchange that a client ever asked about.
    pub finals: BTreeMap<ExchangeId, Final>,
    /// Size and root of each node's evidence log, when all were level.
    pub logs: BTreeMap<usize, (u64, Vec<u8>)>,
    /// How many nodes there are.
    pub nodes: usize,
    /// How many votes a verdict takes.
    pub quorum: usize,
}

/// What must not be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A token does not verify.
    #[error("{exchange}: a token for {verdict} that does not verify")]
    BadToken {
        /// The exchange.
        exchange: ExchangeId,
        /// What it is said to be for.
        verdict: Verdict,
    },
    /// Two verdicts.
    #[error("{exchange}: tokens for {first} and for {second}")]
    TwoVerdicts {
        /// The exchange.
        exchange: ExchangeId,
        /// One.
        first: Verdict,
        /// The other.
        second: Verdict,
    },
    /// A node lost an answer, or gives another.
    #[error("{exchange}: {expected} was answered, and node {node} now says {found:?}")]
    Lost {
        /// The exchange.
        exchange: ExchangeId,
        /// The node.
        node: usize,
        /// What was answered.
        expected: Verdict,
        /// What the node says, if it was asked.
        found: Option<Answer>,
    },
    /// No proof for what was answered.
    #[error("{exchange}: {expected} was answered, and node {node} proves it with {found:?}")]
    NoProof {
        /// The exchange.
        exchange: ExchangeId,
        /// The node.
        node: usize,
        /// What was answered.
        expected: Verdict,
        /// What the node gave, if it was asked.
        found: Option<Answer>,
    },
    /// Asking again did not complete it.
    #[error(
        "{exchange}: no verdict although {refused} of {nodes} nodes refused their vote and {quorum} are enough"
    )]
    Stuck {
        /// The exchange.
        exchange: ExchangeId,
        /// How many refused.
        refused: usize,
        /// How many nodes there are.
        nodes: usize,
        /// How many votes it takes.
        quorum: usize,
    },
    /// Evidence logs differ.
    #[error("the evidence logs differ: {0:?}")]
    Fork(BTreeMap<usize, (u64, Vec<u8>)>),
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What must not be.
    pub violations: Vec<Violation>,
    /// Exchanges with a verdict.
    pub decided: usize,
    /// Exchanges that wait for a further round.
    pub contested: Vec<ExchangeId>,
}

/// Checks a history.
pub fn check(history: &History) -> Findings {
    let mut findings = Findings::default();
    let mut answered: BTreeMap<ExchangeId, Verdict> = BTreeMap::new();
    let seen = history.events.iter().map(|event| (event.exchange, &event.answer));
    let at_end = history.finals.iter().flat_map(|(exchange, last)| {
        last.nodes.values().chain(last.proofs.values()).map(|answer| (*exchange, answer))
    });
    for (exchange, answer) in seen.chain(at_end) {
        let verdict = match answer {
            Answer::Verdict { verdict, valid: true, .. } | Answer::Proof(verdict) => *verdict,
            Answer::Verdict { verdict, valid: false, .. } => {
                findings.violations.push(Violation::BadToken { exchange, verdict: *verdict });
                continue;
            }
            _ => continue,
        };
        let first = *answered.entry(exchange).or_insert(verdict);
        let two = Violation::TwoVerdicts { exchange, first, second: verdict };
        if first != verdict && !findings.violations.contains(&two) {
            findings.violations.push(two);
        }
    }
    for event in &history.events {
        // Whatever was asked about has to be in the final round, or nothing would be checked of it.
        if !history.finals.contains_key(&event.exchange) {
            let stuck = stuck(event.exchange, 0, history);
            if !findings.violations.contains(&stuck) {
                findings.violations.push(stuck);
            }
        }
    }
    for (exchange, last) in &history.finals {
        match answered.get(exchange) {
            Some(expected) => {
                findings.decided += 1;
                check_kept(*exchange, *expected, last, history.nodes, &mut findings.violations);
            }
            None if history.nodes - last.refused.len().min(history.nodes) < history.quorum => {
                findings.contested.push(*exchange);
            }
            None => findings.violations.push(stuck(*exchange, last.refused.len(), history)),
        }
    }
    let logs: BTreeSet<_> = history.logs.values().collect();
    if logs.len() != 1 || history.logs.len() != history.nodes {
        findings.violations.push(Violation::Fork(history.logs.clone()));
    }
    findings
}

fn stuck(exchange: ExchangeId, refused: usize, history: &History) -> Violation {
    Violation::Stuck { exchange, refused, nodes: history.nodes, quorum: history.quorum }
}

/// Every node still answers so, and proves it.
fn check_kept(
    exchange: ExchangeId,
    expected: Verdict,
    last: &Final,
    nodes: usize,
    violations: &mut Vec<Violation>,
) {
    for node in 0..nodes {
        match last.nodes.get(&node) {
            Some(Answer::Verdict { verdict, valid: true, .. }) if *verdict == expected => {}
            found => {
                violations.push(Violation::Lost { exchange, node, expected, found: found.cloned() });
            }
        }
        match last.proofs.get(&node) {
            Some(Answer::Proof(verdict)) if *verdict == expected => {}
            found => {
                violations.push(Violation::NoProof { exchange, node, expected, found: found.cloned() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ExchangeId = ExchangeId::new([1; 32]);

    fn verdict(verdict: Verdict) -> Answer {
        Answer::Verdict { verdict, token: vec![verdict.code(); 96], valid: true }
    }

    fn event(answer: Answer) -> Event {
        Event { exchange: ONE, operation: "redeem", start: 1, end: 2, answer }
    }

    /// One exchange that was released, and all is well.
    fn good() -> History {
        let released = |node| (node, verdict(Verdict::Released));
        let last = Final {
            nodes: (0..4).map(released).collect(),
            proofs: (0..4).map(|node| (node, Answer::Proof(Verdict::Released))).collect(),
            refused: BTreeSet::new(),
        };
        History {
            events: vec![event(Answer::Failed("no quorum".into())), event(verdict(Verdict::Released))],
            finals: BTreeMap::from([(ONE, last)]),
            logs: (0..4).map(|node| (node, (7, vec![9; 32]))).collect(),
            nodes: 4,
            quorum: 3,
        }
    }

    fn last(history: &mut History) -> &mut Final {
        history.finals.get_mut(&ONE).unwrap()
    }

    fn violations(history: &History) -> Vec<Violation> {
        check(history).violations
    }

    #[test]
    fn what_is_right_passes() {
        assert_eq!(check(&good()), Findings { violations: vec![], decided: 1, contested: vec![] });
    }

    #[test]
    fn a_second_token_is_found_wherever_it_was_seen() {
        let two =
            Violation::TwoVerdicts { exchange: ONE, first: Verdict::Released, second: Verdict::Withdrawn };
        let mut history = good();
        history.events.push(event(verdict(Verdict::Withdrawn)));
        assert_eq!(violations(&history), std::slice::from_ref(&two));
        let mut history = good();
        last(&mut history).nodes.insert(2, verdict(Verdict::Withdrawn));
        assert!(violations(&history).contains(&two));
        let mut history = good();
        last(&mut history).proofs.insert(2, Answer::Proof(Verdict::Withdrawn));
        assert!(violations(&history).contains(&two));
    }

    #[test]
    fn a_token_that_does_not_verify_is_found() {
        let mut history = good();
        let forged = Answer::Verdict { verdict: Verdict::Refused, token: vec![0; 96], valid: false };
        history.events.push(event(forged));
        assert_eq!(violations(&history), [Violation::BadToken { exchange: ONE, verdict: Verdict::Refused }]);
    }

    #[test]
    fn an_answer_that_is_gone_is_found() {
        for gone in [Some(Answer::Undecided), Some(Answer::Failed("no answer".into())), None] {
            let mut history = good();
            match &gone {
                Some(answer) => last(&mut history).nodes.insert(3, answer.clone()),
                None => last(&mut history).nodes.remove(&3),
            };
            let lost =
                Violation::Lost { exchange: ONE, node: 3, expected: Verdict::Released, found: gone.clone() };
            assert_eq!(violations(&history), [lost]);
            let mut history = good();
            match &gone {
                Some(answer) => last(&mut history).proofs.insert(0, answer.clone()),
                None => last(&mut history).proofs.remove(&0),
            };
            let unproven =
                Violation::NoProof { exchange: ONE, node: 0, expected: Verdict::Released, found: gone };
            assert_eq!(violations(&history), [unproven]);
        }
    }

    #[test]
    fn a_released_mail_whose_exchange_was_contested_is_still_a_loss() {
        let mut history = good();
        *last(&mut history) = Final { refused: BTreeSet::from([0, 1, 2]), ..Final::default() };
        assert_eq!(violations(&history).len(), 8, "lost and unproven at each node");
    }

    #[test]
    fn only_a_contested_exchange_may_stay_undecided() {
        let mut history = good();
        history.events = vec![event(Answer::Failed("no answer".into()))];
        let undecided = |refused: &[usize]| Final {
            nodes: (0..4).map(|node| (node, Answer::Undecided)).collect(),
            proofs: BTreeMap::new(),
            refused: refused.iter().copied().collect(),
        };
        *last(&mut history) = undecided(&[0]);
        assert_eq!(
            violations(&history),
            [Violation::Stuck { exchange: ONE, refused: 1, nodes: 4, quorum: 3 }]
        );
        *last(&mut history) = undecided(&[0, 3]);
        assert_eq!(check(&history), Findings { violations: vec![], decided: 0, contested: vec![ONE] });
    }

    #[test]
    fn an_exchange_that_nobody_asked_about_at_the_end_is_found() {
        let mut history = good();
        history.finals.clear();
        assert_eq!(
            violations(&history),
            [Violation::Stuck { exchange: ONE, refused: 0, nodes: 4, quorum: 3 }]
        );
    }

    #[test]
    fn a_fork_is_found() {
        let mut history = good();
        history.logs.insert(1, (7, vec![8; 32]));
        assert!(matches!(&violations(&history)[..], [Violation::Fork(_)]));
        let mut history = good();
        history.logs.remove(&1);
        assert!(matches!(&violations(&history)[..], [Violation::Fork(_)]), "a node that was not asked");
    }
}
