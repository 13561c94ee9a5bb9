//! What an honest server signs: pure rules, no clock, no disk, no network.

use fairpost_proto::ids::{Digest, Span, Timestamp, Verdict};
use fairpost_proto::leaf::{Leaf, Round};

/// Why this server does not sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It voted for another leaf of this exchange in this round.
    #[error("voted for leaf {held} in round {round}, asked to vote for {asked}")]
    AlreadyVoted {
        /// The round.
        round: Round,
        /// The leaf that it voted for.
        held: Digest,
        /// The leaf that it is asked to vote for.
        asked: Digest,
    },
    /// It has promised to sign nothing below a higher round.
    #[error("promised round {promised}, asked to sign in round {asked}")]
    Promised {
        /// The highest round promised.
        promised: Round,
        /// The round asked for.
        asked: Round,
    },
    /// It did not see the entry within the skew of the entry's time.
    #[error("the entry is stamped {time} and was first seen {seen}: more than {skew} apart")]
    NotWitnessed {
        /// The entry's time.
        time: Timestamp,
        /// When it was first seen here.
        seen: Timestamp,
        /// The view's skew.
        skew: Span,
    },
    /// It does not know when it first saw the entry.
    #[error("nothing tells when the entry of {time} was first seen here")]
    NeverSeen {
        /// The entry's time.
        time: Timestamp,
    },
    /// It saw a receipt in time, and is asked to vote Expired.
    #[error("a receipt was seen at {seen}, in time, and the leaf says Expired")]
    ReceiptSeen {
        /// When the receipt was first seen here.
        seen: Timestamp,
    },
    /// Rounds above the first are not voted for directly.
    #[error("round {asked} is not open")]
    LaterRound {
        /// The round asked for.
        asked: Round,
    },
    /// It holds no certificate for the leaf.
    #[error("no certificate of a quorum is stored for this exchange")]
    NotCertified,
}

impl Refusal {
    /// A word for the metric's label.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::AlreadyVoted { .. } => "already_voted",
            Self::Promised { .. } => "promised",
            Self::NotWitnessed { .. } => "not_witnessed",
            Self::NeverSeen { .. } => "never_seen",
            Self::ReceiptSeen { .. } => "receipt_seen",
            Self::LaterRound { .. } => "later_round",
            Self::NotCertified => "not_certified",
        }
    }
}

/// What this server has signed about one exchange, as its store has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signed {
    /// The leaf that it voted for in round 1, by its hash.
    pub voted: Option<Digest>,
    /// The highest round that it promised.
    pub promised: Option<Round>,
}

/// What this server has seen of an exchange and of the entry that decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When the entry was first in its log, by its own clock.
    pub entry: Option<Timestamp>,
    /// When it first saw a receipt that was in time, by its own clock.
    pub receipt: Option<Timestamp>,
}

/// Whether this server may vote for `leaf`, which its own ledger decided.
pub fn may_vote(signed: &Signed, seen: &Seen, leaf: &Leaf, skew: Span) -> Result<(), Refusal> {
    let asked = leaf.round;
    if asked != Round::FIRST {
        return Err(Refusal::LaterRound { asked });
    }
    if let Some(promised) = signed.promised.filter(|promised| *promised > asked) {
        return Err(Refusal::Promised { promised, asked });
    }
    match signed.voted {
        Some(held) if held == leaf.hash() => return Ok(()),
        Some(held) => return Err(Refusal::AlreadyVoted { round: asked, held, asked: leaf.hash() }),
        None => {}
    }
    let time = leaf.time;
    let first = seen.entry.ok_or(Refusal::NeverSeen { time })?;
    if first.distance(time) > skew {
        return Err(Refusal::NotWitnessed { time, seen: first, skew });
    }
    match seen.receipt {
        Some(seen) if leaf.verdict == Verdict::Expired => Err(Refusal::ReceiptSeen { seen }),
        _ => Ok(()),
    }
}

/// For which verdict this server may give its share: that of the leaf whose certificate is in its store, if it has not
/// promised a higher round. Its own vote does not matter.
pub fn may_share(signed: &Signed, certified: Option<&Leaf>) -> Result<Verdict, Refusal> {
    let leaf = certified.ok_or(Refusal::NotCertified)?;
    let asked = leaf.round;
    if asked != Round::FIRST {
        return Err(Refusal::LaterRound { asked });
    }
    match signed.promised.filter(|promised| *promised > asked) {
        Some(promised) => Err(Refusal::Promised { promised, asked }),
        None => Ok(leaf.verdict),
    }
}

#[cfg(test)]
mod tests {
    use fairpost_proto::ids::ExchangeId;

    use super::*;

    const SKEW: Span = Span::from_seconds(10);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(seconds).unwrap()
    }

    fn leaf(verdict: Verdict) -> Leaf {
        let evidence = (verdict != Verdict::Expired).then(|| Digest::of(b"evidence"));
        let (exchange, nro) = (ExchangeId::new([1; 32]), Digest::of(b"nro"));
        Leaf { exchange, round: Round::FIRST, verdict, time: at(1000), nro, evidence }
    }

    fn seen(entry: u64) -> Seen {
        Seen { entry: Some(at(entry)), receipt: None }
    }

    #[test]
    fn nobody_votes_twice() {
        let (released, withdrawn) = (leaf(Verdict::Released), leaf(Verdict::Withdrawn));
        let signed = Signed { voted: Some(released.hash()), promised: None };
        assert_eq!(may_vote(&signed, &seen(1000), &released, SKEW), Ok(()), "the same vote again");
        assert_eq!(
            may_vote(&signed, &seen(1000), &withdrawn, SKEW),
            Err(Refusal::AlreadyVoted {
                round: Round::FIRST,
                held: released.hash(),
                asked: withdrawn.hash()
            })
        );
    }

    #[test]
    fn an_entry_must_be_seen_within_the_skew_of_its_time() {
        let (fresh, leaf) = (Signed::default(), leaf(Verdict::Released));
        for entry in [990, 1000, 1010] {
            assert_eq!(may_vote(&fresh, &seen(entry), &leaf, SKEW), Ok(()));
        }
        for entry in [989, 1011] {
            let refusal = Refusal::NotWitnessed { time: at(1000), seen: at(entry), skew: SKEW };
            assert_eq!(may_vote(&fresh, &seen(entry), &leaf, SKEW), Err(refusal));
        }
        let unseen = Seen { entry: None, receipt: None };
        assert_eq!(may_vote(&fresh, &unseen, &leaf, SKEW), Err(Refusal::NeverSeen { time: at(1000) }));
    }

    #[test]
    fn who_saw_a_receipt_in_time_does_not_vote_expired() {
        let with_receipt = Seen { receipt: Some(at(900)), ..seen(1000) };
        let vote = |verdict| may_vote(&Signed::default(), &with_receipt, &leaf(verdict), SKEW);
        assert_eq!(vote(Verdict::Expired), Err(Refusal::ReceiptSeen { seen: at(900) }));
        for verdict in [Verdict::Released, Verdict::Withdrawn, Verdict::Refused] {
            assert_eq!(vote(verdict), Ok(()));
        }
    }

    #[test]
    fn a_promise_ends_votes_and_shares_in_lower_rounds() {
        let promised = Round::new(2).unwrap();
        let signed = Signed { voted: None, promised: Some(promised) };
        let (leaf, refusal) = (leaf(Verdict::Released), Refusal::Promised { promised, asked: Round::FIRST });
        assert_eq!(may_vote(&signed, &seen(1000), &leaf, SKEW), Err(refusal.clone()));
        assert_eq!(may_share(&signed, Some(&leaf)), Err(refusal));
    }

    #[test]
    fn a_share_takes_a_certificate_and_nothing_of_the_own_vote() {
        let (released, withdrawn) = (leaf(Verdict::Released), leaf(Verdict::Withdrawn));
        let signed = Signed { voted: Some(withdrawn.hash()), promised: None };
        assert_eq!(may_share(&signed, None), Err(Refusal::NotCertified));
        assert_eq!(may_share(&signed, Some(&released)), Ok(Verdict::Released));
    }

    #[test]
    fn later_rounds_wait_for_their_rules() {
        let later = Leaf { round: Round::new(2).unwrap(), ..leaf(Verdict::Released) };
        let refusal = Refusal::LaterRound { asked: later.round };
        assert_eq!(may_vote(&Signed::default(), &seen(1000), &later, SKEW), Err(refusal.clone()));
        assert_eq!(may_share(&Signed::default(), Some(&later)), Err(refusal));
    }
}
