//! Ceremonies of honest members, in any order and with crashes; what is refused; in `dealings` what becomes of a dealing;
//! and in `rogues` what the compromised do.

mod dealings;
mod harness;
mod rogues;
mod transcript;

use harness::{CALM, Harness, ROUGH, draft, identity, operator, parse, proposal, replay, sign};
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;

use super::*;
use crate::ids::Digest;
use crate::threshold::Polynomial;

/// A ceremony of honest members to its end.
fn honest(n: u16, f: usize, seed: u64, weather: harness::Weather) -> Harness {
    let mut harness = Harness::new(n, f, seed, weather);
    harness.begin(harness.members().collect());
    harness.run();
    harness
}

#[test]
fn honest_members_make_a_key_in_any_order() {
    for (n, f) in [(1, 0), (2, 0), (3, 0), (4, 1), (5, 1), (6, 1), (7, 2), (10, 3)] {
        for seed in 0..2 {
            let harness = honest(n, f, seed, CALM);
            assert!(harness.check(), "n = {n}: {:?}", harness.ceremony.progress());
            let progress = harness.ceremony.progress();
            assert!(progress.misdeeds.is_empty() && progress.complaints.is_empty());
            assert_eq!((progress.step, progress.missing, progress.dead), (Step::Done, 0, None));
            assert!(harness.members().all(|member| harness.share(member).is_some()));
        }
    }
}

#[test]
fn members_may_crash_at_every_step() {
    for (n, f) in [(4, 1), (6, 1), (7, 2)] {
        for seed in 0..4 {
            // `remember` in the harness holds every member to its words.
            assert!(honest(n, f, seed, ROUGH).check(), "n = {n}, seed {seed}");
        }
    }
}

#[test]
fn even_where_nobody_is_compromised_no_dealer_knows_the_key() {
    for n in [2, 3] {
        let harness = honest(n, 0, 1, CALM);
        assert!(harness.attempt().qualified().count() >= 2);
    }
    // One dealing alone makes no key.
    let mut harness = honest_until(2, 0, |step| step == Step::Reporting);
    let (context, dealings) = (harness.attempt().context, harness.attempt().dealings_digest.unwrap());
    for (member, complaints) in [(0, vec![0]), (1, vec![])] {
        harness.deliver(sign(Report { context, dealings, complaints }, &identity(member))).unwrap();
    }
    assert!(harness.attempt().set.is_none());
    assert_eq!(harness.ceremony.progress().dead, Some(Dead::Dealings { needed: 2, left: 1 }));
}

#[test]
fn whoever_replays_the_log_has_the_same_state() {
    let harness = honest(4, 1, 3, ROUGH);
    let again = replay(&harness.proposal, &harness.log);
    let [one, other] = [&harness.ceremony, &again].map(|ceremony| ceremony.outcome().unwrap());
    assert_eq!(one.genesis.bytes(), other.genesis.bytes());
    assert_eq!(one.token.unwrap().to_bytes(), other.token.unwrap().to_bytes());
    // The last member's secrets, read back, are what they were.
    let kept = harness.kept(3).unwrap();
    assert_eq!(*kept.to_bytes(), harness.disks[&3]);
    // The share stands at their end, and what is no share is not taken for one.
    let mut damaged = harness.disks[&3].clone();
    let end = damaged.len() - 32;
    damaged[end..].fill(0xff);
    assert!(matches!(Kept::parse(&damaged), Err(Error::Share(_))));
}

/// All that can be seen of a ceremony from outside, and what each member would do.
fn seen(harness: &Harness, ceremony: &Ceremony) -> String {
    let mut seen = format!("{:?} {:?}", ceremony.progress(), ceremony.outcome());
    for member in harness.members() {
        let kept = harness.kept(member);
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        for action in ceremony.next(&identity(member), kept.as_ref(), &mut rng).into_iter().flatten() {
            seen += &match action {
                Action::Keep(kept) => hex::encode(&*kept.to_bytes()),
                Action::Send(message) => hex::encode(message),
                Action::Erase => "erase".to_owned(),
            };
        }
    }
    seen
}

#[test]
fn refused_messages_change_nothing() {
    let mut harness = honest(4, 1, 8, CALM);
    let log = core::mem::take(&mut harness.log);
    let foreign = honest(4, 1, 9, CALM).log;
    // At every point, all messages that do not belong there.
    let mut ceremony = Ceremony::new(harness.proposal.clone());
    let mut refused = 0;
    for (place, message) in log.iter().enumerate() {
        let before = if place % 5 == 0 { Some(seen(&harness, &ceremony)) } else { None };
        for wrong in log[..place].iter().chain(&foreign) {
            let mut copy = ceremony.clone();
            if copy.apply(&parse(wrong)).is_err() {
                refused += 1;
                if let Some(before) = before.as_ref().filter(|_| refused % 20 == 0) {
                    assert_eq!(*before, seen(&harness, &copy));
                }
            }
        }
        let _ = ceremony.apply(&parse(message));
    }
    assert!(refused > 300, "{refused}");
}

#[test]
fn what_belongs_elsewhere_is_refused_with_both_values() {
    let mut harness = Harness::new(6, 1, 1, CALM);
    harness.begin(harness.members().collect());
    harness.run();
    let old = harness.log.clone();

    // Another proposal, of the same members.
    let other = Proposal::new("other", draft(6, 1)).unwrap();
    let mut ceremony = Ceremony::new(other.clone());
    ceremony.apply(&parse(&sign(ceremony.begin((0..6).collect()), &operator()))).unwrap();
    for message in &old {
        let refusal = ceremony.apply(&parse(message)).unwrap_err();
        let values = (other.digest(), harness.proposal.digest());
        assert!(matches!(refusal, Refusal::Proposal { expected, found } if (expected, found) == values));
    }

    // A later attempt, and one of the same number that began otherwise.
    for (attempts, participants) in [(2, 0..6), (1, 0..5)] {
        let mut ceremony = Ceremony::new(harness.proposal.clone());
        for _ in 0..attempts {
            let begin = ceremony.begin(participants.clone().collect());
            ceremony.apply(&parse(&sign(begin, &operator()))).unwrap();
        }
        for message in &old[1..] {
            let refusal = ceremony.apply(&parse(message)).unwrap_err();
            match attempts {
                2 => assert!(matches!(refusal, Refusal::Attempt { expected: 2, found: 1 }), "{refusal}"),
                _ => assert!(matches!(refusal, Refusal::Begun { expected, found } if expected != found)),
            }
        }
    }

    // Before anything, and after the end.
    let mut ceremony = Ceremony::new(harness.proposal.clone());
    let refusal = ceremony.apply(&parse(&old[1])).unwrap_err();
    assert!(matches!(refusal, Refusal::Attempt { expected: 0, found: 1 }));
    let begin = sign(harness.ceremony.begin((0..6).collect()), &operator());
    assert!(matches!(harness.deliver(begin), Err(Refusal::Finished { attempt: 1 })));
}

#[test]
fn only_operators_let_attempts_begin_and_with_enough_members() {
    let mut ceremony = Ceremony::new(proposal(6, 1));
    let mut begin = |begin: Begin, key| ceremony.apply(&parse(&sign(begin, &key)));
    let good = Ceremony::new(proposal(6, 1)).begin(vec![4, 3, 2, 1, 0, 4]);
    assert_eq!(good.participants, [0, 1, 2, 3, 4]);
    let with = |participants: Vec<u16>| Begin { participants, ..good.clone() };
    let refusal = begin(good.clone(), identity(0)).unwrap_err();
    assert!(matches!(refusal, Refusal::NoOperator { operators: 1, .. }), "{refusal}");
    let refusal = begin(with(vec![0, 1, 2, 3]), operator()).unwrap_err();
    assert!(matches!(refusal, Refusal::TooFew { needed: 5, found: 4 }), "{refusal}");
    let refusal = begin(with(vec![0, 1, 2, 3, 6]), operator()).unwrap_err();
    assert!(matches!(refusal, Refusal::NoMember { members: 6, found: 6 }), "{refusal}");
    let refusal = begin(Begin { attempt: 2, ..good.clone() }, operator()).unwrap_err();
    assert!(matches!(refusal, Refusal::Number { expected: 1, found: 2 }), "{refusal}");
    begin(good.clone(), operator()).unwrap();
    let refusal = begin(good.clone(), operator()).unwrap_err();
    assert!(matches!(refusal, Refusal::Number { expected: 2, found: 1 }), "{refusal}");
    // A forged signature.
    let forged = Signed::sign(
        Begin { attempt: 2, ..good },
        crate::chain::key_id(&operator().verifying_key()),
        &identity(1),
    );
    assert!(matches!(ceremony.apply(&Message::Begin(forged)), Err(Refusal::Signature(_))));
    assert_eq!(ceremony.progress().attempt, 1);

    // Where there are no operators, a member does it.
    let mut draft = draft(4, 1);
    (draft.operators, draft.agreeing) = (vec![], 0);
    let mut ceremony = Ceremony::new(Proposal::new("test", draft).unwrap());
    let begin = ceremony.begin(vec![0, 1, 2, 3]);
    let refusal = ceremony.apply(&parse(&sign(begin.clone(), &operator()))).unwrap_err();
    assert!(matches!(refusal, Refusal::NoOperator { operators: 0, .. }), "{refusal}");
    ceremony.apply(&parse(&sign(begin, &identity(2)))).unwrap();
}

#[test]
fn who_takes_no_part_says_nothing_and_is_not_heard() {
    let mut harness = Harness::new(6, 1, 2, CALM);
    harness.begin(vec![0, 1, 2, 3, 4]);
    let kept = harness.kept(5);
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    assert!(harness.ceremony.next(&identity(5), kept.as_ref(), &mut rng).unwrap().is_empty());
    assert!(harness.ceremony.next(&operator(), None, &mut rng).unwrap().is_empty());
    let actions = harness.ceremony.next(&identity(0), None, &mut rng).unwrap();
    let Some(Action::Send(join)) = actions.last() else { panic!("no join") };
    let Message::Join(join) = parse(join) else { panic!("no join") };
    for stranger in [identity(5), operator()] {
        let refusal = harness.deliver(sign(join.payload().clone(), &stranger)).unwrap_err();
        assert!(matches!(refusal, Refusal::Stranger { attempt: 1, .. }), "{refusal}");
    }
    harness.run();
    assert!(harness.check());
    assert!(harness.kept(5).is_none());
}

#[test]
fn keys_of_an_older_attempt_are_erased_or_replaced() {
    let mut harness = honest_until(6, 1, |step| step == Step::Reporting);
    let old: Vec<Vec<u8>> = harness.disks.values().cloned().collect();
    harness.begin(vec![0, 1, 2, 3, 4]);
    harness.pending.clear();
    harness.run();
    assert!(harness.check());
    assert!(harness.disks.values().all(|disk| !old.contains(disk)));
    assert!(harness.kept(5).is_none(), "who is left out destroys what it kept");
    assert!((0..5).all(|member| harness.kept(member).unwrap().attempt() == 2));
}

/// A ceremony of honest members that stops when it is so far.
fn honest_until(n: u16, f: usize, stop: impl Fn(Step) -> bool) -> Harness {
    let whole = honest(n, f, 6, CALM);
    let mut harness = Harness::new(n, f, 6, CALM);
    harness.disks = whole.disks;
    for message in whole.log {
        // The fourth of three dealings is too late.
        let _ = harness.deliver(message);
        if stop(harness.ceremony.progress().step) {
            return harness;
        }
    }
    panic!("never so far");
}

#[test]
fn who_lost_what_it_kept_says_so_and_nothing_else() {
    let harness = honest_until(4, 1, |step| step == Step::Dealing);
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    let mut next = |kept: Option<&Kept>| harness.ceremony.next(&identity(1), kept, &mut rng);
    assert!(matches!(next(None), Err(Lost::Nothing { attempt: 1 })));
    let other = Harness::kept(&harness, 2).unwrap();
    assert!(matches!(next(Some(&other)), Err(Lost::Other { kind: Kind::Join })));
    let foreign = honest(6, 1, 1, CALM).kept(1).unwrap();
    assert!(matches!(next(Some(&foreign)), Err(Lost::Begin { expected, found }) if expected != found));
    // Of a later attempt: the log is not read to its end.
    let mut later = harness.ceremony.clone();
    later.apply(&parse(&sign(later.begin(vec![0, 1, 2, 3]), &operator()))).unwrap();
    let Some(Action::Keep(kept)) =
        later.next(&identity(1), None, &mut rng.clone()).unwrap().into_iter().next()
    else {
        panic!("nothing to keep");
    };
    assert_eq!(kept.attempt(), 2);
    assert!(harness.ceremony.next(&identity(1), Some(&kept), &mut rng).unwrap().is_empty());
}

#[test]
fn a_row_is_published_for_those_only_who_complained() {
    let mut harness = honest_until(4, 1, |step| step == Step::Reporting);
    let dealt = harness.attempt().dealings[0].clone();
    let (context, dealing) = (harness.attempt().context, dealt.digest);
    let polynomial = Polynomial::random(3, &mut ChaCha20Rng::seed_from_u64(1)).unwrap();
    let opening = |reader| Opening { context, dealing, reader, row: polynomial.row(reader) };
    let refusal = harness.deliver(sign(opening(1), &identity(dealt.dealer))).unwrap_err();
    assert!(matches!(refusal, Refusal::NotAsked { answered: 1, reader: 1, .. }), "{refusal}");
    let other = (dealt.dealer + 1) % 4;
    let refusal = harness.deliver(sign(opening(1), &identity(other))).unwrap_err();
    assert!(matches!(refusal, Refusal::NotItsDealing { found, .. } if found == dealing), "{refusal}");
}

#[test]
fn a_dealer_answers_no_more_complaints_than_there_may_be_liars() {
    // Two of four complain of all dealings: one of them at least is honest, so something is wrong with all of them.
    let mut harness = honest_until(4, 1, |step| step == Step::Reporting);
    let (context, dealings) = (harness.attempt().context, harness.attempt().dealings_digest.unwrap());
    for member in [0, 1] {
        let complaints = (0..harness.attempt().dealings.len() as u16).collect();
        harness.deliver(sign(Report { context, dealings, complaints }, &identity(member))).unwrap();
    }
    let progress = harness.ceremony.progress();
    assert_eq!(progress.dead, Some(Dead::Dealings { needed: 2, left: 0 }));
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    for member in harness.members() {
        let kept = harness.kept(member);
        for action in harness.ceremony.next(&identity(member), kept.as_ref(), &mut rng).unwrap() {
            if let Action::Send(message) = action {
                assert_ne!(parse(&message).kind(), Kind::Opening);
            }
        }
    }
}

#[test]
fn nothing_counts_before_its_time() {
    let harness = honest(4, 1, 6, CALM);
    let steps = [
        (Kind::Dealing, Step::Joining),
        (Kind::Report, Step::Dealing),
        (Kind::Qualified, Step::Reporting),
        (Kind::Proof, Step::Signing),
    ];
    for (kind, before) in steps {
        let early = harness.log.iter().find(|message| parse(message).kind() == kind).unwrap();
        let mut stopped = honest_until(4, 1, |step| step == before);
        let refusal = stopped.deliver(early.clone()).unwrap_err();
        assert!(
            matches!(&refusal, Refusal::Early { kind: found, step, .. } if (*found, *step) == (kind, before)),
            "{refusal}"
        );
    }
}

#[test]
fn a_member_signs_only_with_all_its_rows() {
    // A rogue that never gave its victim's row, and a victim that signs nonetheless.
    let mut harness = honest_until(4, 1, |step| step == Step::Reporting);
    let attempt = harness.attempt();
    let (context, dealings) = (attempt.context, attempt.dealings_digest.unwrap());
    let (dealer, digests) =
        (attempt.dealings[0].dealer, attempt.dealings.iter().map(|dealt| dealt.digest).collect::<Vec<_>>());
    for member in 0..4 {
        let complaints = if member == 3 { vec![0] } else { vec![] };
        harness.deliver(sign(Report { context, dealings, complaints }, &identity(member))).unwrap();
    }
    // The dealing that was complained of is not in the set, unless it is opened in time.
    let set = digest_of_set(&digests[1..]);
    assert_eq!(harness.attempt().set.as_ref().map(|set| set.digest), Some(set));
    assert!(harness.attempt().qualified().all(|dealt| dealt.dealer != dealer));
    // Nor is its row published any more.
    let awaited = harness.ceremony.progress().awaited;
    assert!(awaited.iter().all(|each| each.kind == Kind::Qualified), "{awaited:?}");
    let whole = digest_of_set(&digests);
    harness.deliver(sign(Qualified { context, set: whole }, &identity(3))).unwrap();
    let offence = &harness.ceremony.progress().misdeeds[0].offence;
    assert!(
        matches!(offence, Offence::OtherLog { expected, found, .. } if (*expected, *found) == (set, whole))
    );
}

#[test]
fn who_complains_after_the_set_is_closed_can_sign_once_its_row_is_published() {
    let mut harness = honest_until(6, 1, |step| step == Step::Reporting);
    let attempt = harness.attempt();
    let (context, dealings) = (attempt.context, attempt.dealings_digest.unwrap());
    let dealer = attempt.dealings[0].dealer;
    let late = (dealer + 1) % 6;
    let report = |complaints, member| sign(Report { context, dealings, complaints }, &identity(member));
    for member in harness.members().filter(|member| *member != late) {
        harness.deliver(report(vec![], member)).unwrap();
    }
    let set = harness.attempt().set.as_ref().unwrap().digest;
    let signature = sign(Qualified { context, set }, &identity(late));
    let refusal = harness.deliver(signature.clone()).unwrap_err();
    assert!(matches!(refusal, Refusal::Unresolved { .. }), "it has not reported: {refusal}");
    harness.deliver(report(vec![0], late)).unwrap();
    let refusal = harness.deliver(signature.clone()).unwrap_err();
    assert!(matches!(refusal, Refusal::Unresolved { .. }), "{refusal}");
    let awaited = harness.ceremony.progress().awaited;
    assert!(awaited.contains(&Awaited { member: dealer, kind: Kind::Opening }), "{awaited:?}");
    let kept = harness.kept(dealer);
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    for action in harness.ceremony.next(&identity(dealer), kept.as_ref(), &mut rng).unwrap() {
        if let Action::Send(message) = action
            && parse(&message).kind() == Kind::Opening
        {
            harness.deliver(message.clone()).unwrap();
            assert!(matches!(harness.deliver(message), Err(Refusal::Repeated { kind: Kind::Opening, .. })));
        }
    }
    harness.deliver(signature).unwrap();
}

#[test]
fn a_member_says_the_same_again_even_in_another_log() {
    // A log that is read again in another order, as after a leader's lie: one set more would be signed, if members did
    // not keep what they said.
    let mut one = honest_until(4, 1, |step| step == Step::Reporting);
    let mut other = Harness::new(4, 1, 6, CALM);
    let mut log = one.log.clone();
    let last = log.len() - 1;
    log.swap(last, last - 1);
    log.into_iter().for_each(|message| other.deliver(message).unwrap());
    assert_ne!(one.attempt().dealings_digest, other.attempt().dealings_digest);
    one.disks.clear();
    other.disks.clear();
    // Members that joined and dealt, but have said nothing since.
    let fresh = honest_until_with_disks(Step::Reporting);
    let kept = Kept::parse(&fresh[&1]).unwrap();
    let report = |harness: &Harness, kept: &Kept| {
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let actions = harness.ceremony.next(&identity(1), Some(kept), &mut rng).unwrap();
        let mut found = (None, Vec::new());
        for action in actions {
            match action {
                Action::Keep(kept) => found.0 = Some(kept),
                Action::Send(message) if parse(&message).kind() == Kind::Report => found.1.push(message),
                _ => {}
            }
        }
        found
    };
    let (after, first) = report(&one, &kept);
    let (_, again) = report(&other, &after.unwrap());
    assert!(!first.is_empty() && first == again);
    // Without what it kept it would have contradicted itself.
    assert_ne!(report(&other, &kept).1, first);
}

/// The disks of the members of [`honest_until`] at the moment when it is so far.
fn honest_until_with_disks(stop: Step) -> std::collections::BTreeMap<u16, Vec<u8>> {
    let whole = honest(4, 1, 6, CALM);
    let strip = |disk: &Vec<u8>| {
        let kept = Kept::parse(disk).unwrap();
        kept.back_at(stop).to_bytes().to_vec()
    };
    whole.disks.iter().map(|(member, disk)| (*member, strip(disk))).collect()
}

#[test]
fn digests_of_lists_are_bound_to_their_meaning_and_order() {
    let [a, b] = [Digest::of(b"a"), Digest::of(b"b")];
    assert_ne!(digest_of_dealings(&[a, b]), digest_of_set(&[a, b]));
    assert_ne!(digest_of_set(&[a, b]), digest_of_set(&[b, a]));
}
