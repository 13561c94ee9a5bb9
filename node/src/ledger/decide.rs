//! What a command does to an exchange: the whole rule, in one function.

use fairpost_proto::evidence::Checked;
use fairpost_proto::ids::{Timestamp, Verdict};
use fairpost_proto::leaf::{Leaf, Round};
use fairpost_proto::view::Parameters;

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The exchange gets its verdict: this leaf.
    Decided(Leaf),
    /// It has one already, which stands.
    Stands(Verdict),
    /// The receipt was ordered at or after the deadline.
    TooLate {
        /// The deadline.
        expires: Timestamp,
    },
    /// The expiry was ordered before deadline and grace had passed.
    TooEarly {
        /// Deadline and grace.
        due: Timestamp,
    },
}

/// Decides a command whose signatures hold, at the time of its entry, on an exchange with this standing verdict.
pub fn decide(
    parameters: &Parameters,
    standing: Option<Verdict>,
    command: &Checked,
    time: Timestamp,
) -> Decision {
    if let Some(verdict) = standing {
        return Decision::Stands(verdict);
    }
    let expires = command.terms().expires;
    let due = expires.plus(parameters.grace);
    match command.verdict {
        Verdict::Released if time >= expires => Decision::TooLate { expires },
        Verdict::Expired if time < due => Decision::TooEarly { due },
        verdict => Decision::Decided(Leaf {
            exchange: command.exchange,
            round: Round::FIRST,
            verdict,
            time,
            nro: command.nro.digest(),
            evidence: command.evidence,
        }),
    }
}
