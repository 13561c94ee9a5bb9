//! Why this server did not sign: the newest refusals, for operators.
//!
//! # Guarantees
//!
//! At most [`KEPT`] refusals are kept. The same again is counted, and takes no place of its own
//! (`the_same_refusal_takes_one_place_and_the_oldest_goes`). They are in memory alone: a restart forgets them, the log does
//! not.

use std::collections::VecDeque;

use fairpost_proto::ids::{ExchangeId, Timestamp};
use fairpost_proto::leaf::Round;
use parking_lot::Mutex;

use super::metrics;
use super::rules::Refusal;

/// How many are kept.
pub const KEPT: usize = 256;

/// What this server was asked to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A vote.
    Vote,
    /// A statement, which opens a later round.
    Statement,
    /// An acknowledgement of a later round's certificate.
    Acknowledgement,
    /// A share of the token.
    Share,
}

impl Asked {
    /// A word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Vote => "vote",
            Self::Statement => "statement",
            Self::Acknowledgement => "acknowledgement",
            Self::Share => "share",
        }
    }
}

/// What was refused, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What was asked for.
    pub asked: Asked,
    /// For which exchange.
    pub exchange: ExchangeId,
    /// In which round.
    pub round: Round,
    /// The rule that forbids it.
    pub refusal: Refusal,
    /// When it was refused first.
    pub first: Timestamp,
    /// When it was refused last.
    pub last: Timestamp,
    /// How often, for the same reason.
    pub count: u64,
}

/// The newest refusals.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<VecDeque<Refused>>);

impl Refusals {
    /// Something was refused at this time.
    pub(super) fn add(
        &self,
        asked: Asked,
        exchange: &ExchangeId,
        round: Round,
        refusal: &Refusal,
        now: Timestamp,
    ) {
        metrics::refused(refusal);
        let mut kept = self.0.lock();
        let same = kept.iter().position(|held| {
            (held.asked, held.exchange, held.round) == (asked, *exchange, round)
                && held.refusal.reason() == refusal.reason()
        });
        let before = same.and_then(|place| kept.remove(place));
        let (first, count) = before.map_or((now, 0), |held| (held.first, held.count));
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(Refused {
            asked,
            exchange: *exchange,
            round,
            refusal: refusal.clone(),
            first,
            last: now,
            count: count.saturating_add(1),
        });
    }

    /// All that are kept, the newest first.
    pub fn newest(&self) -> Vec<Refused> {
        self.0.lock().iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::after;

    #[test]
    fn the_same_refusal_takes_one_place_and_the_oldest_goes() {
        let refusals = Refusals::default();
        let id = |number: usize| {
            ExchangeId::new([number as u8, (number >> 8) as u8].repeat(16).try_into().unwrap())
        };
        let add = |number, refusal: &Refusal, time| {
            refusals.add(Asked::Share, &id(number), Round::FIRST, refusal, after(time));
        };
        for number in 0..KEPT {
            add(number, &Refusal::NotCertified, 1);
        }
        add(3, &Refusal::NotCertified, 2);
        let kept = refusals.newest();
        assert_eq!(kept.len(), KEPT);
        let newest = &kept[0];
        assert_eq!(
            (newest.exchange, newest.first, newest.last, newest.count),
            (id(3), after(1), after(2), 2)
        );
        add(3, &Refusal::Decided, 3);
        let kept = refusals.newest();
        assert_eq!(kept.len(), KEPT);
        assert_eq!(
            (&kept[0].refusal, kept[0].count),
            (&Refusal::Decided, 1),
            "another reason is another refusal"
        );
        assert!(kept.iter().all(|refused| refused.exchange != id(0)), "the oldest has gone");
    }
}
