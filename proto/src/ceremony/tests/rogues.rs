//! Members that are compromised: each behaviour, and what it can't bring about.

use std::collections::BTreeSet;

use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;

use super::super::message::OVERHEAD;
use super::super::*;
use super::harness::{CALM, Harness, ROUGH, identity, parse, sign};
use crate::cose::Signed;
use crate::ids::Digest;
use crate::threshold::{KeyShare, Polynomial, Row};

/// Whom a bad dealing hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Victims {
    One,
    Some,
    All,
}

/// What a rogue dealer does about complaints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opens {
    Right,
    Wrong,
    Never,
}

/// What a rogue does; in everything else it is like an honest member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rogue {
    /// Says nothing of this kind.
    Mute(Kind),
    /// Seals rows of another polynomial.
    Inconsistent(Victims, Opens),
    /// Seals garbage.
    Garbage(Victims, Opens),
    /// Passes an honest member's dealing off as its own.
    Copies,
    /// Deals for another threshold, or for too few readers.
    Misfit,
    /// Complains about every dealing.
    Complains,
    /// Says two different things of this kind.
    Twice(Kind),
    /// Signs another set, reports on other dealings, or proves another genesis.
    Other(Kind),
    /// Gives a share that is none.
    BadShare,
    /// Speaks in the names of all others, under its own key.
    Forges,
}

impl Rogue {
    /// What it says in the place of `message`.
    pub(super) fn says(&self, harness: &Harness, me: u16, message: &[u8]) -> Vec<Vec<u8>> {
        let (key, parsed) = (identity(me), parse(message));
        let honest = || vec![message.to_vec()];
        let mut rng = ChaCha20Rng::seed_from_u64(u64::from(me));
        match (self, &parsed) {
            (Self::Mute(kind), _) if *kind == parsed.kind() => vec![],
            (Self::Inconsistent(victims, _), Message::Dealing(signed)) => {
                let other = Polynomial::random(harness.q(), &mut rng).unwrap();
                let mut dealing = signed.payload().clone();
                let dealt: Vec<(usize, Vec<u8>)> = victims
                    .of(harness, me)
                    .into_iter()
                    .map(|victim| {
                        let place = harness.attempt().place(victim).unwrap();
                        (place, sealed(harness, me, victim, &other.row(victim)))
                    })
                    .collect();
                dealt.into_iter().for_each(|(place, row)| dealing.rows[place] = row);
                vec![sign(dealing, &key)]
            }
            (Self::Garbage(victims, _), Message::Dealing(signed)) => {
                let mut dealing = signed.payload().clone();
                for victim in victims.of(harness, me) {
                    dealing.rows[harness.attempt().place(victim).unwrap()][40] ^= 1;
                }
                vec![sign(dealing, &key)]
            }
            (Self::Inconsistent(_, opens) | Self::Garbage(_, opens), Message::Opening(signed)) => match opens
            {
                Opens::Right => honest(),
                Opens::Never => vec![],
                Opens::Wrong => {
                    let row = Polynomial::random(harness.q(), &mut rng).unwrap().row(0);
                    vec![sign(Opening { row, ..signed.payload().clone() }, &key)]
                }
            },
            (Self::Copies, Message::Dealing(_)) => {
                let honest = harness.honest();
                let other = harness.attempt().dealings.iter().find(|dealt| honest.contains(&dealt.dealer));
                // It waits for one to copy.
                other.map(|dealt| sign(dealt.signed.payload().clone(), &key)).into_iter().collect()
            }
            (Self::Misfit, Message::Dealing(signed)) => {
                let rows = |q| vec![vec![0; Row::size(q) + OVERHEAD]; signed.payload().rows.len()];
                let commitment = |q| Polynomial::random(q, &mut rng.clone()).unwrap().commitment().unwrap();
                let misfit =
                    |q| Dealing { commitment: commitment(q), rows: rows(q), ..signed.payload().clone() };
                let mut few = signed.payload().clone();
                few.rows.pop();
                vec![
                    sign(misfit(harness.q() - 1), &key),
                    sign(misfit(harness.q() + 1), &key),
                    sign(few, &key),
                ]
            }
            (Self::Complains, Message::Report(signed)) => {
                let complaints = (0..harness.attempt().dealings.len() as u16).collect();
                vec![sign(Report { complaints, ..signed.payload().clone() }, &key)]
            }
            (Self::Twice(kind), _) if *kind == parsed.kind() => {
                vec![message.to_vec(), contrary(harness, me, &parsed)]
            }
            (Self::Other(kind), _) if *kind == parsed.kind() => {
                let other = Digest::of(b"another");
                vec![match &parsed {
                    Message::Report(signed) => {
                        sign(Report { dealings: other, ..signed.payload().clone() }, &key)
                    }
                    Message::Qualified(signed) => {
                        sign(Qualified { set: other, ..signed.payload().clone() }, &key)
                    }
                    Message::Proof(signed) => {
                        sign(Proof { genesis: other, ..signed.payload().clone() }, &key)
                    }
                    _ => panic!("{parsed:?}"),
                }]
            }
            (Self::BadShare, Message::Proof(_)) => vec![contrary(harness, me, &parsed)],
            (Self::Forges, _) => {
                let forged = |member| forge(&parsed, member, me, harness);
                harness.honest().into_iter().map(forged).chain([message.to_vec()]).collect()
            }
            _ => honest(),
        }
    }

    /// Whether ceremonies of `n` members, all taking part, end with a key although `f` of them do this.
    fn is_survived(&self, spare: bool) -> bool {
        match self {
            Self::Mute(Kind::Join) => false,
            Self::Mute(Kind::Report | Kind::Qualified | Kind::Proof) => spare,
            Self::Other(_) | Self::BadShare => spare,
            _ => true,
        }
    }
}

impl Victims {
    fn of(self, harness: &Harness, me: u16) -> Vec<u16> {
        let others: Vec<u16> = harness.honest().into_iter().filter(|member| *member != me).collect();
        let count = match self {
            Self::One => 1,
            Self::Some => harness.f(),
            Self::All => others.len(),
        };
        // Each rogue hits others.
        let start = usize::from(me) % others.len();
        others.iter().cycle().skip(start).take(count).copied().collect()
    }
}

/// A row sealed as this dealer would seal it.
fn sealed(harness: &Harness, dealer: u16, reader: u16, row: &Row) -> Vec<u8> {
    let (attempt, proposal) = (harness.attempt(), &harness.proposal);
    let key = attempt.joins[&reader].payload().one_time;
    let [dealer, reader] = [dealer, reader].map(|member| proposal.member(member).unwrap().1);
    let info = super::super::member::info(&attempt.context, dealer, reader);
    key.seal_for(&info, &row.to_bytes(), &mut ChaCha20Rng::seed_from_u64(9)).unwrap()
}

/// Another message of the same kind by the same member.
fn contrary(harness: &Harness, me: u16, message: &Message) -> Vec<u8> {
    let key = identity(me);
    let mut rng = ChaCha20Rng::seed_from_u64(77);
    match message {
        Message::Join(signed) => {
            let one_time = crate::sealed::SealingKey::generate(&mut rng).public();
            sign(Join { one_time, ..signed.payload().clone() }, &key)
        }
        Message::Dealing(signed) => {
            let commitment = Polynomial::random(harness.q(), &mut rng).unwrap().commitment().unwrap();
            sign(Dealing { commitment, ..signed.payload().clone() }, &key)
        }
        Message::Report(signed) => sign(Report { complaints: vec![0], ..signed.payload().clone() }, &key),
        Message::Qualified(signed) => {
            sign(Qualified { set: Digest::of(b"another"), ..signed.payload().clone() }, &key)
        }
        Message::Proof(signed) => {
            let genesis = harness.ceremony.outcome().unwrap().genesis.message();
            let share = KeyShare::from_bytes(&[7; 32]).unwrap().sign(&genesis);
            sign(Proof { share, ..signed.payload().clone() }, &key)
        }
        Message::Begin(_) | Message::Opening(_) => panic!("{message:?}"),
    }
}

/// The message as if `member` had said it, signed by `me`.
fn forge(message: &Message, member: u16, me: u16, harness: &Harness) -> Vec<u8> {
    let (signer, key) = (harness.proposal.member(member).unwrap().1, identity(me));
    match message {
        Message::Begin(signed) => Signed::sign(signed.payload().clone(), signer, &key).bytes().to_vec(),
        Message::Join(signed) => Signed::sign(signed.payload().clone(), signer, &key).bytes().to_vec(),
        Message::Dealing(signed) => Signed::sign(signed.payload().clone(), signer, &key).bytes().to_vec(),
        Message::Report(signed) => Signed::sign(signed.payload().clone(), signer, &key).bytes().to_vec(),
        Message::Opening(signed) => Signed::sign(signed.payload().clone(), signer, &key).bytes().to_vec(),
        Message::Qualified(signed) => Signed::sign(signed.payload().clone(), signer, &key).bytes().to_vec(),
        Message::Proof(signed) => Signed::sign(signed.payload().clone(), signer, &key).bytes().to_vec(),
    }
}

/// The ceremony of all members with rogues of this kind, to its end.
fn ceremony(n: u16, f: usize, rogue: &Rogue, seed: u64) -> Harness {
    let weather = if seed.is_multiple_of(2) { CALM } else { ROUGH };
    let mut harness = Harness::new(n, f, seed, weather).with_rogues(rogue);
    harness.begin(harness.members().collect());
    harness.run();
    harness
}

const SIZES: [(u16, usize, u64); 3] = [(4, 1, 2), (6, 1, 2), (7, 2, 1)];

fn all_rogues() -> Vec<Rogue> {
    let mut rogues = vec![Rogue::Copies, Rogue::Misfit, Rogue::Complains, Rogue::BadShare, Rogue::Forges];
    rogues.extend([Kind::Join, Kind::Dealing, Kind::Report, Kind::Qualified, Kind::Proof].map(Rogue::Mute));
    rogues.extend([Kind::Join, Kind::Dealing, Kind::Report, Kind::Qualified, Kind::Proof].map(Rogue::Twice));
    rogues.extend([Kind::Report, Kind::Qualified, Kind::Proof].map(Rogue::Other));
    for victims in [Victims::One, Victims::Some, Victims::All] {
        for opens in [Opens::Right, Opens::Wrong, Opens::Never] {
            rogues.extend([Rogue::Inconsistent(victims, opens), Rogue::Garbage(victims, opens)]);
        }
    }
    rogues
}

#[test]
fn whatever_rogues_do_there_is_a_key_or_a_reason_why_not() {
    for rogue in all_rogues() {
        for (n, f, seeds) in SIZES {
            for seed in 0..seeds {
                let harness = ceremony(n, f, &rogue, seed);
                let made = harness.check();
                let spare = usize::from(n) > harness.q() + f;
                let progress = harness.ceremony.progress();
                // With a member to spare, the set may be closed before a victim reports; then the rogue is awaited. And of
                // two contrary messages, either may be the one that counts.
                let raced = spare && !progress.complaints.is_empty() || matches!(rogue, Rogue::Twice(_));
                assert!(
                    made == rogue.is_survived(spare) || raced,
                    "{rogue:?}, n = {n}, seed {seed}: {progress:?}"
                );
            }
        }
    }
}

fn misdeeds(harness: &Harness) -> Vec<(u16, String)> {
    let named = |misdeed: &Misdeed| (misdeed.member, misdeed.offence.to_string());
    harness.ceremony.progress().misdeeds.iter().map(named).collect()
}

/// The rogues, each convicted once, with what the text of its misdeed holds.
fn assert_named(harness: &Harness, part: &str) {
    let found = misdeeds(harness);
    assert!(found.iter().all(|(_, offence)| offence.contains(part)), "{found:?}");
    let named: BTreeSet<u16> = found.iter().map(|(member, _)| *member).collect();
    assert_eq!((named.len(), found.len()), (harness.rogues.len(), harness.rogues.len()), "{found:?}");
    assert!(named.iter().all(|member| harness.rogues.contains_key(member)), "{found:?}");
}

#[test]
fn whoever_says_two_things_is_convicted_by_them() {
    for kind in [Kind::Join, Kind::Report, Kind::Qualified, Kind::Proof] {
        for seed in [2, 4, 6] {
            let harness = ceremony(4, 1, &Rogue::Twice(kind), seed);
            harness.check();
            let progress = harness.ceremony.progress();
            let contradiction = progress.misdeeds.iter().find_map(|misdeed| match &misdeed.offence {
                Offence::Equivocation { kind: found, first, second } if *found == kind => {
                    Some((misdeed, first, second))
                }
                _ => None,
            });
            let (misdeed, first, second) = contradiction.unwrap_or_else(|| panic!("{kind}: {progress:?}"));
            // Both are whole: whoever has the proposal can check them.
            let key = harness.proposal.member(misdeed.member).unwrap().1;
            assert!(first != second && misdeed.offence.convicts());
            assert!([first, second].iter().all(|message| parse(message).author() == key));
        }
    }
}

#[test]
fn a_second_dealing_convicts() {
    let mut convicted = 0;
    for seed in [0, 2, 4, 6] {
        let harness = ceremony(4, 1, &Rogue::Twice(Kind::Dealing), seed);
        assert!(harness.check());
        let progress = harness.ceremony.progress();
        // If three others were faster, neither is in the log's state, and nobody is convicted.
        let in_time =
            harness.attempt().dealings.iter().any(|dealt| harness.rogues.contains_key(&dealt.dealer));
        assert_eq!(progress.misdeeds.len(), usize::from(in_time), "{progress:?}");
        convicted += progress.misdeeds.len();
    }
    assert!(convicted > 0, "no seed tried it");
}

#[test]
fn a_row_that_does_not_fit_names_its_dealer() {
    let mut named = 0;
    for seed in 0..6 {
        let harness = ceremony(4, 1, &Rogue::Inconsistent(Victims::One, Opens::Wrong), seed);
        assert!(harness.check());
        for misdeed in harness.ceremony.progress().misdeeds {
            named += 1;
            let Offence::WrongRow { dealing, opening } = &misdeed.offence else { panic!("{misdeed:?}") };
            let (Message::Dealing(dealing), Message::Opening(opening)) = (parse(dealing), parse(opening))
            else {
                panic!("not the messages");
            };
            assert_eq!(opening.payload().dealing, dealing.digest());
            let Opening { reader, row, .. } = opening.payload();
            assert!(!dealing.payload().commitment.holds(*reader, row));
            assert!(harness.attempt().qualified().all(|dealt| dealt.dealer != misdeed.member));
        }
    }
    assert!(named > 0, "no seed tried it");
}

#[test]
fn a_complaint_answered_with_the_right_row_names_nobody_and_is_counted() {
    for (n, f, _) in SIZES {
        let harness = ceremony(n, f, &Rogue::Complains, 2);
        assert!(harness.check());
        let progress = harness.ceremony.progress();
        assert_eq!(misdeeds(&harness), []);
        let by_rogues =
            progress.complaints.iter().filter(|complaint| harness.rogues.contains_key(&complaint.by));
        assert_eq!(by_rogues.count(), progress.complaints.len());
        assert!(progress.complaints.iter().any(|complaint| complaint.opened), "{progress:?}");
    }
}

#[test]
fn more_complaints_than_rogues_take_a_dealing_out_unopened() {
    for opens in [Opens::Right, Opens::Wrong] {
        for seed in 0..4 {
            let harness = ceremony(4, 1, &Rogue::Garbage(Victims::All, opens), seed);
            assert!(harness.check());
            let attempt = harness.attempt();
            assert!(attempt.qualified().all(|dealt| !harness.rogues.contains_key(&dealt.dealer)));
        }
    }
}

#[test]
fn a_copied_dealing_is_no_dealing() {
    for seed in 0..4 {
        let harness = ceremony(4, 1, &Rogue::Copies, seed);
        assert!(harness.check());
        assert!(harness.attempt().qualified().all(|dealt| !harness.rogues.contains_key(&dealt.dealer)));
    }
}

#[test]
fn a_wrong_share_names_its_author() {
    for (n, f, seed) in [(4, 1, 2), (6, 1, 2), (7, 2, 2)] {
        let harness = ceremony(n, f, &Rogue::BadShare, seed);
        assert_eq!(harness.check(), n == 6);
        assert_named(&harness, "a share of the genesis token that is none");
        if n != 6 {
            let needed = harness.q() + f;
            let dead = Some(Dead::Members { kind: Kind::Proof, needed, left: usize::from(n) - f });
            assert_eq!(harness.ceremony.progress().dead, dead);
        }
    }
}

#[test]
fn who_signs_another_set_is_named_but_not_convicted() {
    let harness = ceremony(4, 1, &Rogue::Other(Kind::Qualified), 2);
    assert!(!harness.check());
    assert_named(&harness, "where this log has");
    let progress = harness.ceremony.progress();
    assert!(progress.misdeeds.iter().all(|misdeed| !misdeed.offence.convicts()));
    assert_eq!(progress.dead, Some(Dead::Members { kind: Kind::Qualified, needed: 4, left: 3 }));
}

#[test]
fn the_absent_are_awaited_by_name() {
    for kind in [Kind::Join, Kind::Report, Kind::Qualified, Kind::Proof] {
        let harness = ceremony(4, 1, &Rogue::Mute(kind), 3);
        assert!(!harness.check());
        let progress = harness.ceremony.progress();
        let awaited: Vec<Awaited> =
            harness.rogues.keys().map(|member| Awaited { member: *member, kind }).collect();
        assert_eq!((progress.awaited, progress.missing, progress.dead), (awaited, 1, None));
        assert_eq!(misdeeds(&harness), []);
    }
}

#[test]
fn another_attempt_without_the_rogues_makes_the_key() {
    // Six members need five: one can be left out.
    for rogue in [
        Rogue::Mute(Kind::Join),
        Rogue::BadShare,
        Rogue::Other(Kind::Report),
        Rogue::Garbage(Victims::One, Opens::Never),
    ] {
        for seed in 0..2 {
            let mut harness = ceremony(6, 1, &rogue, seed);
            if harness.check() {
                continue;
            }
            harness.begin(harness.honest());
            harness.run();
            assert!(harness.check(), "{rogue:?}, seed {seed}");
            let progress = harness.ceremony.progress();
            assert_eq!(progress.attempt, 2);
            // What was done in the first attempt is not forgotten.
            let named = matches!(rogue, Rogue::BadShare | Rogue::Other(_));
            assert_eq!(progress.misdeeds.iter().any(|misdeed| misdeed.attempt == 1), named, "{rogue:?}");
        }
    }
}

#[test]
fn a_mute_rogue_may_come_back_in_the_next_attempt() {
    let mut harness = ceremony(4, 1, &Rogue::Mute(Kind::Proof), 4);
    assert!(!harness.check());
    harness.rogues.clear();
    harness.begin(harness.members().collect());
    harness.run();
    assert!(harness.check());
}
