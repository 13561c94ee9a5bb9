//! What an honest server signs: pure rules, no clock, no disk, no network.

use fairpost_proto::ids::{Digest, Span, Timestamp, Verdict};
use fairpost_proto::leaf::{Leaf, Round};
use fairpost_proto::quorum::Quorum;

use crate::ledger::Block;

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
    /// It has signed a log that is longer, or another of this size.
    #[error(
        "signed the evidence log of size {held} with root {held_root}, asked for size {asked} with root {asked_root}"
    )]
    NotLonger {
        /// The size of the longest log that it has signed.
        held: u64,
        /// That log's root.
        held_root: Digest,
        /// The size of the log that it is asked to sign.
        asked: u64,
        /// The root of the log that it is asked to sign.
        asked_root: Digest,
    },
    /// It holds no certificate for the leaf.
    #[error("no certificate of a quorum is stored for this exchange")]
    NotCertified,
    /// Too few have acknowledged the certificate of a later round.
    #[error("{found} members have acknowledged the certificate of round {round}, and it takes {needed}")]
    NotAcknowledged {
        /// The round.
        round: Round,
        /// The quorum.
        needed: usize,
        /// How many acknowledgements are stored.
        found: usize,
    },
    /// Another leaf of this round was acknowledged.
    #[error("acknowledged leaf {held} in round {round}, asked to acknowledge {asked}")]
    AlreadyAcknowledged {
        /// The round.
        round: Round,
        /// The leaf that it acknowledged.
        held: Digest,
        /// The leaf that it is asked to acknowledge.
        asked: Digest,
    },
    /// The first round has no acknowledgements and no statements.
    #[error("this is of later rounds only, asked for round {asked}")]
    FirstRound {
        /// The round asked for.
        asked: Round,
    },
    /// A statement is given for the round after the last in the applied log only.
    #[error("asked to state for round {asked}, and the last in the log is {last}")]
    NotNext {
        /// The exchange's last round in the applied log; none if it has none.
        last: u32,
        /// The round asked for.
        asked: Round,
    },
    /// The exchange may still be decided as it stands.
    #[error("the round is open since {waited} here, and gets {patience}")]
    TooSoon {
        /// How long this server has known of the last round.
        waited: Span,
        /// How long a round gets.
        patience: Span,
    },
    /// The exchange has its token.
    #[error("the exchange is decided: its token is here")]
    Decided,
    /// It has a certificate in a log that its ledger does not have.
    #[error("a certificate of round {round} is stored for a log that is not this ledger's")]
    Elsewhere {
        /// The certificate's round.
        round: Round,
    },
    /// Nothing could be decided in another round, by what this server knows.
    #[error(
        "nothing to decide yet: no certificate, no receipt in time, no withdrawal, no refusal, no expiry"
    )]
    NothingYet,
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
            Self::NotLonger { .. } => "not_longer",
            Self::NotCertified => "not_certified",
            Self::NotAcknowledged { .. } => "not_acknowledged",
            Self::AlreadyAcknowledged { .. } => "already_acknowledged",
            Self::FirstRound { .. } => "first_round",
            Self::NotNext { .. } => "not_next",
            Self::TooSoon { .. } => "too_soon",
            Self::Decided => "decided",
            Self::Elsewhere { .. } => "elsewhere",
            Self::NothingYet => "nothing_yet",
        }
    }
}

/// Whether this server may begin to sign after a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Enough members have told what they hold of it, and it is nothing that this server does not know of.
    Cleared,
    /// Too few have told yet.
    Waits {
        /// How many have, this server included.
        told: usize,
        /// How many must.
        needed: usize,
    },
    /// A member holds what this server has signed and forgotten: its disk or machine was set back.
    RolledBack {
        /// The number of what it remembers to have signed last.
        own: u64,
        /// The number under which it has signed something.
        found: u64,
    },
}

/// Whether this server, which remembers to have numbered as far as `own`, may begin to sign. `told` has for each other
/// member that has answered the highest number that it holds under this server's signature, 0 for none.
///
/// As many must have answered, itself included, as there are members that are neither down nor lie: no more can be waited
/// for.
pub fn start(own: u64, told: &[u64], quorum: Quorum) -> Start {
    let found = told.iter().copied().max().unwrap_or(0);
    if found > own {
        return Start::RolledBack { own, found };
    }
    let (told, needed) = (told.len() + 1, quorum.n() - quorum.f());
    if told < needed { Start::Waits { told, needed } } else { Start::Cleared }
}

/// An evidence log, by what a vote says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// How many leaves it has.
    pub size: u64,
    /// Its root.
    pub root: Digest,
}

impl Log {
    /// The log after an entry.
    pub const fn after(block: &Block) -> Self {
        Self { size: block.log_size, root: block.log_root }
    }
}

/// Whether this server may sign a vote that names the log `asked`, if it has signed no vote on this entry yet; `signed` is
/// the longest log that it has signed, if any. Two roots of one size would convict it: so in a ledger that came about
/// anew it waits until the log is longer than any that it has signed. An entry without leaves leaves the log as it was.
pub fn may_sign_log(signed: Option<Log>, asked: Log) -> Result<(), Refusal> {
    match signed {
        Some(held) if asked != held && asked.size <= held.size => Err(Refusal::NotLonger {
            held: held.size,
            held_root: held.root,
            asked: asked.size,
            asked_root: asked.root,
        }),
        _ => Ok(()),
    }
}

/// What this server has signed about one exchange, as its store has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signed {
    /// The leaf that it voted for in the round in question, by its hash.
    pub voted: Option<Digest>,
    /// The leaf whose certificate it acknowledged in that round, by its hash.
    pub acknowledged: Option<Digest>,
    /// The highest round that it promised.
    pub promised: Option<Round>,
}

impl Signed {
    /// That no round above this one is promised.
    fn not_promised_above(&self, asked: Round) -> Result<(), Refusal> {
        match self.promised.filter(|promised| *promised > asked) {
            Some(promised) => Err(Refusal::Promised { promised, asked }),
            None => Ok(()),
        }
    }
}

/// What this server has seen of an exchange and of the entry that decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When the entry was first in its log, by its own clock.
    pub entry: Option<Timestamp>,
    /// When it first saw a receipt that was in time, by its own clock.
    pub receipt: Option<Timestamp>,
}

/// Whether this server may vote for `leaf`, which its own ledger decided. In a later round, what is to be voted for was
/// computed from statements: whether somebody saw the entry late does not matter there.
pub fn may_vote(signed: &Signed, seen: &Seen, leaf: &Leaf, skew: Span) -> Result<(), Refusal> {
    let asked = leaf.round;
    signed.not_promised_above(asked)?;
    match signed.voted {
        Some(held) if held == leaf.hash() => return Ok(()),
        Some(held) => return Err(Refusal::AlreadyVoted { round: asked, held, asked: leaf.hash() }),
        None => {}
    }
    if asked > Round::FIRST {
        return Ok(());
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

/// Whether this server may acknowledge the certificate of `leaf`, which is in its store: in a later round, if it has
/// promised no higher one.
pub fn may_acknowledge(signed: &Signed, leaf: &Leaf) -> Result<(), Refusal> {
    let asked = leaf.round;
    if asked == Round::FIRST {
        return Err(Refusal::FirstRound { asked });
    }
    match signed.acknowledged {
        Some(held) if held == leaf.hash() => return Ok(()),
        Some(held) => return Err(Refusal::AlreadyAcknowledged { round: asked, held, asked: leaf.hash() }),
        None => {}
    }
    signed.not_promised_above(asked)
}

/// How many members have acknowledged the certificate of a leaf, as this server's store has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The quorum.
    pub needed: usize,
    /// Distinct members of the view that acknowledged just this leaf, round included.
    pub found: usize,
}

/// For which verdict this server may give its share: that of the leaf whose certificate is in its store. Its own vote
/// does not matter.
///
/// In round 1 it must not have promised a higher round. In a later one a quorum must have acknowledged the certificate;
/// then what it has promised does not matter either.
pub fn may_share(
    signed: &Signed,
    certified: Option<&Leaf>,
    acknowledged: Acknowledged,
) -> Result<Verdict, Refusal> {
    let leaf = certified.ok_or(Refusal::NotCertified)?;
    let (round, Acknowledged { needed, found }) = (leaf.round, acknowledged);
    if round == Round::FIRST {
        signed.not_promised_above(round)?;
    } else if found < needed {
        return Err(Refusal::NotAcknowledged { round, needed, found });
    }
    Ok(leaf.verdict)
}

/// How an exchange stands here when its next round is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contested {
    /// Its last round in the applied log; none if it is not there.
    pub last: Option<Round>,
    /// How long ago that round was applied here.
    pub waited: Span,
    /// Whether its token is here.
    pub token: bool,
    /// Whether another round could decide it, by what this server knows.
    pub outlook: Outlook,
}

/// What could decide an exchange in another round. Where there is nothing of it, a statement would only use a round up:
/// the clock in it stays as it is, however often it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// A certificate of a quorum is stored here.
    pub certified: bool,
    /// A receipt was seen here in time.
    pub receipt: bool,
    /// A withdrawal or refusal is here, and valid now.
    pub answered: bool,
    /// Deadline and grace have passed, by this server's clock.
    pub due: bool,
}

impl Outlook {
    const fn is_hopeless(self) -> bool {
        !(self.certified || self.receipt || self.answered || self.due)
    }
}

/// Whether this server may give a statement for the round `asked`, for which it has given none yet. With it, it promises
/// that round.
pub fn may_state(
    signed: &Signed,
    contested: &Contested,
    asked: Round,
    patience: Span,
) -> Result<(), Refusal> {
    if asked == Round::FIRST {
        return Err(Refusal::FirstRound { asked });
    }
    if let Some(promised) = signed.promised.filter(|promised| *promised >= asked) {
        return Err(Refusal::Promised { promised, asked });
    }
    if contested.last.and_then(Round::next) != Some(asked) {
        return Err(Refusal::NotNext { last: contested.last.map_or(0, Round::get), asked });
    }
    if contested.token {
        return Err(Refusal::Decided);
    }
    let waited = contested.waited;
    if waited < patience {
        return Err(Refusal::TooSoon { waited, patience });
    }
    if contested.outlook.is_hopeless() { Err(Refusal::NothingYet) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use fairpost_proto::ids::ExchangeId;
    use proptest::prelude::*;

    use super::*;

    const SKEW: Span = Span::from_seconds(10);
    const NONE: Acknowledged = Acknowledged { needed: 3, found: 0 };
    const ALL: Acknowledged = Acknowledged { needed: 3, found: 3 };

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
    fn nobody_begins_to_sign_before_enough_have_told_or_after_one_knows_better() {
        let four = Quorum::new(4, 1).unwrap();
        let waits = |told| Start::Waits { told, needed: 3 };
        assert_eq!(start(7, &[], four), waits(1));
        assert_eq!(start(7, &[7], four), waits(2));
        assert_eq!(start(7, &[7, 0], four), Start::Cleared);
        assert_eq!(start(0, &[0, 0], four), Start::Cleared, "nothing was ever signed");
        assert_eq!(start(7, &[8], four), Start::RolledBack { own: 7, found: 8 }, "one is enough");
        assert_eq!(start(7, &[0, 9, 8], four), Start::RolledBack { own: 7, found: 9 });
        assert_eq!(start(0, &[0, 1], four), Start::RolledBack { own: 0, found: 1 });
        assert_eq!(start(0, &[], Quorum::new(1, 0).unwrap()), Start::Cleared, "alone");
        let seven = Quorum::new(7, 2).unwrap();
        assert_eq!(start(0, &[0; 3], seven), Start::Waits { told: 4, needed: 5 });
        assert_eq!(start(0, &[0; 4], seven), Start::Cleared);
    }

    #[test]
    fn no_log_is_signed_that_is_not_longer_than_the_longest() {
        let log = |size, root: &[u8]| Log { size, root: Digest::of(root) };
        let held = log(9, b"this");
        assert_eq!(may_sign_log(None, held), Ok(()));
        assert_eq!(may_sign_log(Some(held), held), Ok(()), "an entry without leaves");
        assert_eq!(may_sign_log(Some(held), log(10, b"other")), Ok(()));
        for asked in [log(9, b"other"), log(8, b"other"), log(8, b"this")] {
            let refusal = Refusal::NotLonger {
                held: 9,
                held_root: held.root,
                asked: asked.size,
                asked_root: asked.root,
            };
            assert_eq!(may_sign_log(Some(held), asked), Err(refusal));
        }
    }

    #[test]
    fn nobody_votes_twice() {
        let (released, withdrawn) = (leaf(Verdict::Released), leaf(Verdict::Withdrawn));
        let signed = Signed { voted: Some(released.hash()), ..Signed::default() };
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
        let signed = Signed { promised: Some(promised), ..Signed::default() };
        let (leaf, refusal) = (leaf(Verdict::Released), Refusal::Promised { promised, asked: Round::FIRST });
        assert_eq!(may_vote(&signed, &seen(1000), &leaf, SKEW), Err(refusal.clone()));
        assert_eq!(may_share(&signed, Some(&leaf), NONE), Err(refusal));
    }

    #[test]
    fn a_share_takes_a_certificate_and_nothing_of_the_own_vote() {
        let (released, withdrawn) = (leaf(Verdict::Released), leaf(Verdict::Withdrawn));
        let signed = Signed { voted: Some(withdrawn.hash()), ..Signed::default() };
        assert_eq!(may_share(&signed, None, ALL), Err(Refusal::NotCertified));
        assert_eq!(may_share(&signed, Some(&released), NONE), Ok(Verdict::Released));
    }

    fn round(number: u32) -> Round {
        Round::new(number).unwrap()
    }

    fn later(number: u32) -> Leaf {
        Leaf { round: round(number), ..leaf(Verdict::Released) }
    }

    #[test]
    fn in_a_later_round_it_does_not_matter_what_was_seen_when() {
        let unseen = Seen { entry: None, receipt: Some(at(900)) };
        for verdict in [Verdict::Released, Verdict::Expired] {
            let leaf = Leaf { round: round(2), ..leaf(verdict) };
            assert_eq!(may_vote(&Signed::default(), &unseen, &leaf, SKEW), Ok(()));
        }
        let promised = Signed { promised: Some(round(2)), ..Signed::default() };
        assert_eq!(
            may_vote(&promised, &unseen, &later(2), SKEW),
            Ok(()),
            "the round promised, and those above"
        );
        assert_eq!(may_vote(&promised, &unseen, &later(3), SKEW), Ok(()));
        let refusal = Refusal::Promised { promised: round(4), asked: round(3) };
        let promised = Signed { promised: Some(round(4)), ..Signed::default() };
        assert_eq!(may_vote(&promised, &unseen, &later(3), SKEW), Err(refusal));
    }

    #[test]
    fn an_acknowledgement_is_of_one_leaf_and_below_no_promise() {
        let (fresh, asked) = (Signed::default(), Round::FIRST);
        assert_eq!(may_acknowledge(&fresh, &leaf(Verdict::Released)), Err(Refusal::FirstRound { asked }));
        assert_eq!(may_acknowledge(&fresh, &later(2)), Ok(()));
        let signed = Signed { acknowledged: Some(later(2).hash()), ..fresh };
        assert_eq!(may_acknowledge(&signed, &later(2)), Ok(()), "the same again");
        let other = Leaf { verdict: Verdict::Refused, ..later(2) };
        assert!(matches!(may_acknowledge(&signed, &other), Err(Refusal::AlreadyAcknowledged { .. })));
        let promised = |number| Signed { promised: Some(round(number)), ..fresh };
        assert_eq!(may_acknowledge(&promised(2), &later(2)), Ok(()));
        let refusal = Refusal::Promised { promised: round(3), asked: round(2) };
        assert_eq!(may_acknowledge(&promised(3), &later(2)), Err(refusal));
    }

    #[test]
    fn in_a_later_round_a_share_takes_a_quorum_of_acknowledgements_whatever_was_promised() {
        for promised in [None, Some(round(2)), Some(round(9))] {
            let signed = Signed { promised, ..Signed::default() };
            assert_eq!(may_share(&signed, Some(&later(2)), ALL), Ok(Verdict::Released));
            for found in 0..3 {
                let refusal = Refusal::NotAcknowledged { round: round(2), needed: 3, found };
                let acknowledged = Acknowledged { found, ..ALL };
                assert_eq!(may_share(&signed, Some(&later(2)), acknowledged), Err(refusal));
            }
            assert_eq!(may_share(&signed, None, ALL), Err(Refusal::NotCertified));
        }
    }

    const CONTESTED: Contested = Contested {
        last: Some(Round::FIRST),
        waited: Span::from_seconds(1),
        token: false,
        outlook: Outlook { certified: false, receipt: true, answered: false, due: false },
    };

    fn state(signed: &Signed, contested: &Contested, asked: u32) -> Result<(), Refusal> {
        may_state(signed, contested, round(asked), Span::from_seconds(1))
    }

    #[test]
    fn a_statement_is_for_the_next_round_above_every_promise() {
        let fresh = Signed::default();
        assert_eq!(state(&fresh, &CONTESTED, 2), Ok(()));
        assert!(matches!(state(&fresh, &CONTESTED, 1), Err(Refusal::FirstRound { .. })));
        assert_eq!(state(&fresh, &CONTESTED, 3), Err(Refusal::NotNext { last: 1, asked: round(3) }));
        let unknown = Contested { last: None, ..CONTESTED };
        assert_eq!(state(&fresh, &unknown, 2), Err(Refusal::NotNext { last: 0, asked: round(2) }));
        let third = Contested { last: Some(round(2)), ..CONTESTED };
        for promised in [2, 3, 4] {
            let signed = Signed { promised: Some(round(promised)), ..fresh };
            let refusal = Refusal::Promised { promised: round(promised), asked: round(3) };
            assert_eq!(state(&signed, &third, 3), if promised < 3 { Ok(()) } else { Err(refusal) });
        }
    }

    #[test]
    fn a_statement_waits_until_it_may_be_of_use() {
        let fresh = Signed::default();
        let token = Contested { token: true, ..CONTESTED };
        assert_eq!(state(&fresh, &token, 2), Err(Refusal::Decided));
        let waited = Span::from_millis(999);
        let refusal = Refusal::TooSoon { waited, patience: Span::from_seconds(1) };
        assert_eq!(state(&fresh, &Contested { waited, ..CONTESTED }, 2), Err(refusal));
        let outlook = |outlook| Contested { outlook, ..CONTESTED };
        let none = Outlook::default();
        assert_eq!(state(&fresh, &outlook(none), 2), Err(Refusal::NothingYet));
        for some in [
            Outlook { certified: true, ..none },
            Outlook { receipt: true, ..none },
            Outlook { answered: true, ..none },
            Outlook { due: true, ..none },
        ] {
            assert_eq!(state(&fresh, &outlook(some), 2), Ok(()));
        }
    }

    /// One member and one exchange: what was signed, in order.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Done {
        Voted(u32, Digest),
        Stated(u32),
        Acknowledged(u32, Digest),
        Shared(u32),
    }

    proptest! {
        /// Whatever is asked in whatever order, with crashes between what is stored and what is sent: by what it has
        /// signed, the member keeps every promise.
        #[test]
        fn whatever_is_asked_every_promise_is_kept(
            asks in prop::collection::vec((0_u8..5, 1_u32..5, 0_usize..3), 1..60)
        ) {
            let leaf = |number: u32, verdict: usize| {
                Leaf { round: round(number), ..leaf(Verdict::ALL[verdict]) }
            };
            let (mut voted, mut acknowledged) = (HashMap::new(), HashMap::new());
            let (mut promised, mut done) = (None, Vec::new());
            for (ask, number, verdict) in asks {
                let leaf = leaf(number, verdict);
                let signed = Signed {
                    voted: voted.get(&number).copied(),
                    acknowledged: acknowledged.get(&number).copied(),
                    promised,
                };
                match ask {
                    0 if may_vote(&signed, &seen(1000), &leaf, SKEW).is_ok() => {
                        voted.insert(number, leaf.hash());
                        done.push(Done::Voted(number, leaf.hash()));
                    }
                    1 if may_acknowledge(&signed, &leaf).is_ok() => {
                        acknowledged.insert(number, leaf.hash());
                        done.push(Done::Acknowledged(number, leaf.hash()));
                    }
                    2 if may_share(&signed, Some(&leaf), NONE).is_ok() => done.push(Done::Shared(number)),
                    3 => {
                        let last = Round::new(number);
                        if state(&signed, &Contested { last, ..CONTESTED }, number + 1).is_ok() {
                            promised = Round::new(number + 1);
                            done.push(Done::Stated(number + 1));
                        }
                    }
                    _ => {}
                }
            }
            for (place, first) in done.iter().enumerate() {
                for later in &done[place + 1..] {
                    match (*first, *later) {
                        (Done::Voted(round, leaf), Done::Voted(again, other))
                        | (Done::Acknowledged(round, leaf), Done::Acknowledged(again, other)) => {
                            prop_assert!(round != again || leaf == other);
                        }
                        (Done::Stated(round), Done::Voted(lower, _)) => prop_assert!(lower >= round),
                        // What was acknowledged before the promise may be sent again.
                        (Done::Stated(round), Done::Acknowledged(lower, leaf)) => prop_assert!(
                            lower >= round || done[..place].contains(&Done::Acknowledged(lower, leaf))
                        ),
                        (Done::Stated(_), Done::Shared(lower)) => prop_assert!(lower > 1),
                        (Done::Stated(round), Done::Stated(again)) => prop_assert!(again > round),
                        _ => {}
                    }
                }
            }
            prop_assert!(done.iter().all(|done| !matches!(done, Done::Shared(2..))), "nobody acknowledged");
        }
    }
}
