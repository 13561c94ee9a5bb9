//! Later rounds: what may be voted for in them, tried with real signatures.

use fairpost_proto::entry::{Command, Opening};
use fairpost_proto::ids::{ClusterId, Digest, ExchangeId, Timestamp, Verdict};
use fairpost_proto::leaf::{Leaf, Round};
use proptest::prelude::*;

use super::round::{Error, nro, open};
use super::tests::Memory;
use super::*;
use crate::testing::{LIFETIME, World, after};

const GRACE: u64 = 30;

fn second() -> Round {
    Round::new(2).unwrap()
}

fn opened(world: &World, last: u32, opening: &Opening) -> Result<Leaf, Error> {
    open(&world.view, &nro(opening)?, Round::new(last).unwrap(), opening)
}

/// The leaf that exchange 1 has in a round.
fn leaf(world: &World, round: u32, verdict: Verdict, time: Timestamp) -> Leaf {
    Leaf {
        exchange: world.nro(1).payload().terms.exchange(),
        round: Round::new(round).unwrap(),
        verdict,
        time,
        nro: world.nro(1).digest(),
        evidence: world.command(1, verdict).evidence.as_deref().map(Digest::of),
    }
}

/// The second round of exchange 1: each member's receipt, if it saw one, and its clock.
fn round(world: &World, statements: [(Option<u64>, u64); 3], verdicts: &[Verdict]) -> Result<Leaf, Error> {
    let statements = (0..).zip(statements).map(|(member, (receipt, clock))| {
        world.statement(member, (1, 2), after(clock), |statement| statement.receipt = receipt.map(after))
    });
    opened(world, 1, &world.opening(1, &statements.collect::<Vec<_>>(), verdicts))
}

/// In order: what comes first decides.
const ANSWERS: [Verdict; 3] = [Verdict::Released, Verdict::Withdrawn, Verdict::Refused];

#[test]
fn receipts_in_time_come_first_then_withdrawal_refusal_and_expiry() {
    let world = World::new();
    let decided = |statements, verdicts: &[Verdict]| {
        round(&world, statements, verdicts).map(|leaf| (leaf.round, leaf.verdict, leaf.time))
    };
    let clocks = [(None, 1100), (None, 1050), (None, 1070)];
    let receipts = [(Some(900), 1100), (None, 1050), (Some(850), 1070)];
    let found = |verdict, seconds| (second(), verdict, after(seconds));
    assert_eq!(decided(receipts, &ANSWERS).unwrap(), found(Verdict::Released, 900));
    let all = [(Some(900), 1100), (Some(800), 1050), (Some(850), 1070)];
    assert_eq!(decided(all, &ANSWERS).unwrap(), found(Verdict::Released, 850), "the second of three");
    assert_eq!(decided(clocks, &ANSWERS).unwrap(), found(Verdict::Withdrawn, 1070));
    assert_eq!(decided(clocks, &[Verdict::Refused]).unwrap(), found(Verdict::Refused, 1070));
    assert_eq!(decided(clocks, &[Verdict::Released]).unwrap(), found(Verdict::Expired, 1070));
    // One receipt in time is at most a liar's; and one at the deadline is not in time.
    let one = [(Some(900), 1100), (None, 1050), (Some(LIFETIME), 1070)];
    assert_eq!(decided(one, &ANSWERS).unwrap(), found(Verdict::Withdrawn, 1070));
}

#[test]
fn expiry_takes_deadline_and_grace_by_one_honest_clock_at_least() {
    let world = World::new();
    let due = LIFETIME + GRACE;
    let expiry = |first, second, third| round(&world, [(None, first), (None, second), (None, third)], &[]);
    assert_eq!(expiry(due, 10, due + 5).unwrap().time, after(due));
    let early = expiry(due - 1, 10, due + 5_000).unwrap_err();
    assert!(
        matches!(early, Error::Nothing { time, due: end } if (time, end) == (after(due - 1), after(due))),
        "{early}"
    );
}

#[test]
fn the_highest_certificate_decides() {
    let world = World::new();
    let certificate = |round, verdict| world.certificate(leaf(&world, round, verdict, after(10)), &[0, 1, 3]);
    let statements = |certificates: [Option<(u32, Verdict)>; 3]| {
        let statements = (0..).zip(certificates).map(|(member, held)| {
            world.statement(member, (1, 4), after(2000), |statement| {
                statement.receipt = Some(after(9));
                statement.certificate = held.map(|(round, verdict)| certificate(round, verdict));
            })
        });
        opened(&world, 3, &world.opening(1, &statements.collect::<Vec<_>>(), &ANSWERS))
    };
    let expected = |verdict| leaf(&world, 4, verdict, after(10));
    let (low, high) = (Some((1, Verdict::Withdrawn)), Some((3, Verdict::Refused)));
    for certificates in [[low, None, high], [high, low, None], [None, high, low]] {
        assert_eq!(statements(certificates).unwrap(), expected(Verdict::Refused));
    }
    assert_eq!(statements([None, low, None]).unwrap(), expected(Verdict::Withdrawn));
    assert_eq!(statements([None; 3]).unwrap().verdict, Verdict::Released);
    let expired = Some((2, Verdict::Expired));
    assert_eq!(statements([expired, low, None]).unwrap(), expected(Verdict::Expired));
}

#[test]
fn what_the_leaf_names_must_be_handed_in() {
    let world = World::new();
    let certified = |verdict, verdicts: &[Verdict]| {
        let certificate = world.certificate(leaf(&world, 1, verdict, after(10)), &[0, 1, 2]);
        let statement = |member| {
            world.statement(member, (1, 2), after(50), |statement| {
                statement.certificate = Some(certificate.clone());
            })
        };
        world.opening(1, &[0, 1, 2].map(statement), verdicts)
    };
    for verdict in ANSWERS {
        let whole = certified(verdict, &[verdict]);
        assert_eq!(opened(&world, 1, &whole).unwrap(), leaf(&world, 2, verdict, after(10)));
        let refused = opened(&world, 1, &certified(verdict, &[])).unwrap_err();
        assert!(matches!(refused, Error::ForeignEvidence { .. }), "{refused}");
        // Another NRO over the same terms makes the same exchange.
        let mut payload = world.nro(1).payload().clone();
        payload.sealed = Digest::of(b"another sealed mail");
        let other =
            fairpost_proto::cose::Signed::sign_as(payload, world.sender.chain.clone(), &world.sender.key);
        let swapped = Opening { nro: other.unwrap().bytes().to_vec(), ..whole };
        let refused = opened(&world, 1, &swapped).unwrap_err();
        assert!(matches!(refused, Error::ForeignEvidence { .. }), "{refused}");
    }
    // Where enough have seen a receipt, somebody has it.
    let receipts = [(Some(900), 1100), (Some(900), 1100), (Some(900), 1100)];
    for verdicts in [&[][..], &[Verdict::Withdrawn]] {
        let refused = round(&world, receipts, verdicts).unwrap_err();
        assert!(matches!(refused, Error::Evidence { verdict: Verdict::Released, .. }), "{refused}");
    }
    // A withdrawal that is not one is as if it were not there.
    let clocks = [0, 1, 2].map(|member| world.statement(member, (1, 2), after(50), |_| {}));
    let mut forged = world.opening(1, &clocks, &[Verdict::Withdrawn, Verdict::Refused]);
    *forged.withdrawal.as_mut().unwrap().last_mut().unwrap() ^= 1;
    assert_eq!(opened(&world, 1, &forged).unwrap().verdict, Verdict::Refused);
    forged.refusal = forged.withdrawal.clone();
    assert!(matches!(opened(&world, 1, &forged).unwrap_err(), Error::Nothing { .. }));
}

#[test]
fn a_certificate_in_a_statement_must_be_a_quorums() {
    let world = World::new();
    let leaf = leaf(&world, 1, Verdict::Released, after(10));
    for members in [&[0, 1][..], &[2], &[0, 1, 1]] {
        let certificate = world.certificate(leaf, members);
        let statement = |member| {
            world.statement(member, (1, 2), after(50), |statement| {
                statement.certificate = (member == 1).then(|| certificate.clone());
            })
        };
        let refused = opened(&world, 1, &world.opening(1, &[0, 1, 2].map(statement), &ANSWERS)).unwrap_err();
        let malformed = matches!(refused, Error::Statement { .. }) && members == [0, 1, 1];
        assert!(matches!(refused, Error::Certificate { .. }) || malformed, "{members:?}: {refused}");
    }
}

/// Breaks one member's statement.
type Break<'a> = &'a dyn Fn(&mut fairpost_proto::round::Statement);

#[test]
fn only_a_quorums_own_statements_for_this_round_open_it() {
    let world = World::new();
    let statement = |member, change: Break<'_>| world.statement(member, (1, 2), after(50), change);
    let with = |change: Break<'_>| {
        let statements = [statement(0, &|_| {}), statement(1, change), statement(2, &|_| {})];
        opened(&world, 1, &world.opening(1, &statements, &[Verdict::Withdrawn]))
    };
    assert_eq!(with(&|_| {}).unwrap().verdict, Verdict::Withdrawn);
    let refused = with(&|statement| statement.cluster = ClusterId::new([9; 32])).unwrap_err();
    assert!(matches!(refused, Error::Cluster { .. }), "{refused}");
    let refused = with(&|statement| statement.epoch = 1).unwrap_err();
    assert!(matches!(refused, Error::Epoch { expected: 0, found: 1, .. }), "{refused}");
    let refused = with(&|statement| statement.exchange = ExchangeId::new([9; 32])).unwrap_err();
    assert!(matches!(refused, Error::Exchange { .. }), "{refused}");
    let refused = with(&|statement| statement.round = Round::new(3).unwrap()).unwrap_err();
    assert!(matches!(refused, Error::Round { .. }), "{refused}");

    let good = [0, 1, 2, 3].map(|member| statement(member, &|_| {}));
    let of = |statements: &[_]| opened(&world, 1, &world.opening(1, statements, &[Verdict::Withdrawn]));
    for statements in [&good[..], &good[..2], &[]] {
        let (refused, found) = (of(statements).unwrap_err(), statements.len());
        assert!(matches!(refused, Error::Count { needed: 3, found: count } if count == found), "{refused}");
    }
    let refused = of(&[good[0].clone(), good[1].clone(), good[1].clone()]).unwrap_err();
    assert!(matches!(refused, Error::Order { before, found, .. } if before == found), "{refused}");
    let other = statement(1, &|statement| statement.number = 2);
    let refused = of(&[good[0].clone(), good[1].clone(), other]).unwrap_err();
    assert!(matches!(refused, Error::Order { .. }), "{refused}");

    let mut stranger = World::new();
    stranger.identities[2] = ed25519_dalek::SigningKey::from_bytes(&[77; 32]);
    let by_stranger = stranger.statement(2, (1, 2), after(50), |_| {});
    let refused = of(&[good[0].clone(), good[1].clone(), by_stranger.clone()]).unwrap_err();
    assert!(matches!(refused, Error::NoMember { found, .. } if found == *by_stranger.signer()), "{refused}");
    let in_name = fairpost_proto::cose::Signed::sign(
        good[2].payload().clone(),
        *good[2].signer(),
        &stranger.identities[2],
    );
    let refused = of(&[good[0].clone(), good[1].clone(), in_name]).unwrap_err();
    assert!(matches!(refused, Error::Statement { .. }), "{refused}");

    // The next round is the one after the last in the log, no other.
    let refused = opened(&world, 2, &world.opening(1, &good[..3], &[Verdict::Withdrawn])).unwrap_err();
    assert!(matches!(refused, Error::Round { expected, .. } if expected.get() == 3), "{refused}");
    let refused = opened(&world, u32::MAX, &world.opening(1, &good[..3], &[Verdict::Withdrawn])).unwrap_err();
    assert!(matches!(refused, Error::NoMore(_)), "{refused}");
}

#[test]
fn rounds_follow_one_another() {
    let world = World::new();
    let mut ledger = Memory::new();
    let opening = |number, next| {
        let statement = |member| world.statement(member, (number, next), after(40), |_| {});
        Command::Round(world.opening(number, &[0, 1, 2].map(statement), &[Verdict::Refused]))
    };
    let outcomes = ledger.order(&world, after(30), &[opening(1, 2)]);
    assert!(matches!(outcomes[..], [Outcome::NotOpened(Error::NoFirst(_))]), "{outcomes:?}");
    let both = [world.command(1, Verdict::Released).into(), opening(1, 2)];
    let outcomes = ledger.order(&world, after(30), &both);
    assert!(
        matches!(outcomes[..], [Outcome::Decided { .. }, Outcome::NotOpened(Error::SameEntry(_))]),
        "{outcomes:?}"
    );
    let commands = [opening(1, 3), opening(1, 2), world.command(1, Verdict::Withdrawn).into(), opening(1, 3)];
    let outcomes = ledger.order(&world, after(41), &commands);
    assert!(
        matches!(
            outcomes[..],
            [
                Outcome::NotOpened(Error::Round { .. }),
                Outcome::Decided { verdict: Verdict::Refused, sequence: 3 },
                Outcome::Decided { verdict: Verdict::Refused, sequence: 3 },
                Outcome::NotOpened(Error::SameEntry(_))
            ]
        ),
        "{outcomes:?}"
    );
    let outcomes = ledger.order(&world, after(42), &[opening(1, 2), opening(1, 3)]);
    assert!(
        matches!(
            outcomes[..],
            [
                Outcome::NotOpened(Error::Round { .. }),
                Outcome::Decided { verdict: Verdict::Refused, sequence: 4 }
            ]
        ),
        "{outcomes:?}"
    );
    let leaves: Vec<Leaf> = ledger.blocks.iter().flat_map(|block| block.leaves.clone()).collect();
    assert_eq!(leaves.iter().map(|leaf| leaf.round.get()).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((ledger.state.log.size(), leaves[1].time), (3, after(40)));
    let outcomes = ledger.order(&world, after(50), &[opening(2, 2)]);
    assert!(matches!(outcomes[..], [Outcome::NotOpened(Error::NoFirst(_))]), "{outcomes:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Of `q` statements at most `f` lie, here one: it can't bring about a Released that no honest member saw a receipt
    /// for, nor a time that lies outside those of the honest, nor an Expired before an honest clock says so.
    #[test]
    fn one_liar_decides_nothing_alone(
        honest in prop::array::uniform2((prop::option::of(0_u64..1200), 0_u64..1200)),
        lie in (prop::option::of(0_u64..1_000_000), 0_u64..1_000_000),
        with in prop::sample::subsequence(ANSWERS.to_vec(), 0..=3),
    ) {
        let world = World::new();
        let Ok(leaf) = round(&world, [honest[0], honest[1], lie], &with) else { return Ok(()) };
        let seconds = leaf.time.seconds() - after(0).seconds();
        match leaf.verdict {
            Verdict::Released => {
                let seen: Vec<u64> = honest.iter().filter_map(|(receipt, _)| *receipt).collect();
                prop_assert!(seen.iter().any(|seen| *seen < LIFETIME && *seen <= seconds) && seconds < LIFETIME);
            }
            verdict => {
                let clocks = honest.map(|(_, clock)| clock);
                prop_assert!(clocks.iter().any(|clock| *clock <= seconds));
                prop_assert!(clocks.iter().any(|clock| *clock >= seconds));
                prop_assert!(verdict != Verdict::Expired || clocks.iter().any(|clock| *clock >= LIFETIME + GRACE));
            }
        }
    }
}
