//! What becomes of a dealing: which are refused, which are out, and which stay.

use super::super::message::OVERHEAD;
use super::*;
use crate::threshold::Row;

#[test]
fn a_second_dealing_takes_the_first_one_out() {
    let mut harness = honest_until(4, 1, |step| step == Step::Reporting);
    let dealt = harness.attempt().dealings[0].signed.payload().clone();
    let dealer = harness.attempt().dealings[0].dealer;
    let commitment = Polynomial::random(3, &mut ChaCha20Rng::seed_from_u64(1)).unwrap().commitment().unwrap();
    harness.deliver(sign(Dealing { commitment, ..dealt }, &identity(dealer))).unwrap();
    let progress = harness.ceremony.progress();
    assert!(matches!(progress.misdeeds[0].offence, Offence::Equivocation { kind: Kind::Dealing, .. }));
    let (context, dealings) = (harness.attempt().context, harness.attempt().dealings_digest.unwrap());
    for member in harness.members() {
        harness.deliver(sign(Report { context, dealings, complaints: vec![] }, &identity(member))).unwrap();
    }
    assert_eq!(harness.attempt().qualified().count(), 2);
    assert!(harness.attempt().qualified().all(|dealt| dealt.dealer != dealer));
}

#[test]
fn a_dealing_of_the_set_stays_in_it_whatever_comes_afterwards() {
    // Six of eight reports close the set. The two others complain afterwards, one more than a dealer answers.
    let mut harness = honest_until(8, 1, |step| step == Step::Reporting);
    let dealt = harness.attempt().dealings[0].clone();
    let (context, dealings) = (harness.attempt().context, harness.attempt().dealings_digest.unwrap());
    let [one, other] = [1, 2].map(|next| (dealt.dealer + next) % 8);
    let report = |complaints, member| sign(Report { context, dealings, complaints }, &identity(member));
    for member in harness.members().filter(|member| ![one, other].contains(member)) {
        harness.deliver(report(vec![], member)).unwrap();
    }
    let set = harness.attempt().set.as_ref().unwrap().digest;
    harness.deliver(report(vec![0], one)).unwrap();
    harness.deliver(report(vec![0], other)).unwrap();
    // Its dealer deals again, and opens wrong rows: it is convicted of each once.
    let polynomial = |seed| Polynomial::random(5, &mut ChaCha20Rng::seed_from_u64(seed)).unwrap();
    let again = |seed| {
        let commitment = polynomial(seed).commitment().unwrap();
        sign(Dealing { commitment, ..dealt.signed.payload().clone() }, &identity(dealt.dealer))
    };
    harness.deliver(again(1)).unwrap();
    let refusal = harness.deliver(again(2)).unwrap_err();
    assert!(matches!(refusal, Refusal::Repeated { kind: Kind::Dealing, .. }), "{refusal}");
    let opening = |row| Opening { context, dealing: dealt.digest, reader: one, row };
    let wrong = |seed| sign(opening(polynomial(seed).row(one)), &identity(dealt.dealer));
    harness.deliver(wrong(1)).unwrap();
    let refusal = harness.deliver(wrong(2)).unwrap_err();
    assert!(matches!(refusal, Refusal::Repeated { kind: Kind::Opening, .. }), "{refusal}");
    assert_eq!(harness.ceremony.progress().misdeeds.len(), 2);
    // The first that complained still gets its row, and the other one none.
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    let kept = harness.kept(dealt.dealer);
    let mut readers = Vec::new();
    for action in harness.ceremony.next(&identity(dealt.dealer), kept.as_ref(), &mut rng).unwrap() {
        if let Action::Send(message) = action
            && let Message::Opening(opening) = parse(&message)
        {
            readers.push(opening.payload().reader);
            harness.deliver(message).unwrap();
        }
    }
    assert_eq!(readers, [one]);
    let signed = |member| sign(Qualified { context, set }, &identity(member));
    harness.deliver(signed(one)).unwrap();
    assert!(matches!(harness.deliver(signed(other)), Err(Refusal::Unresolved { .. })));
    assert_eq!(harness.attempt().set.as_ref().unwrap().digest, set);
}

#[test]
fn a_dealing_for_another_threshold_or_other_readers_is_refused() {
    let mut harness = honest_until(4, 1, |step| step == Step::Dealing);
    let (context, mut rng) = (harness.attempt().context, ChaCha20Rng::seed_from_u64(1));
    let mut deal = |q: usize, readers: usize| {
        let commitment = Polynomial::random(q, &mut rng).unwrap().commitment().unwrap();
        let rows = vec![vec![0; Row::size(q) + OVERHEAD]; readers];
        harness.deliver(sign(Dealing { context, commitment, rows }, &identity(0)))
    };
    for q in [2, 4] {
        let refusal = deal(q, 4).unwrap_err();
        assert!(matches!(refusal, Refusal::Threshold { expected: 3, found, .. } if found == q), "{refusal}");
    }
    for readers in [3, 5] {
        let refusal = deal(3, readers).unwrap_err();
        assert!(matches!(refusal, Refusal::Rows { expected: 4, found, .. } if found == readers), "{refusal}");
    }
    assert!(harness.attempt().dealings.is_empty());
}

#[test]
fn a_dealing_of_which_a_wrong_row_was_opened_is_out_for_good() {
    let mut harness = honest_until(4, 1, |step| step == Step::Reporting);
    let (dealer, dealing) = (harness.attempt().dealings[0].dealer, harness.attempt().dealings[0].digest);
    let (context, dealings) = (harness.attempt().context, harness.attempt().dealings_digest.unwrap());
    let report = |complaints, member| sign(Report { context, dealings, complaints }, &identity(member));
    let reader = (dealer + 1) % 4;
    harness.deliver(report(vec![0], reader)).unwrap();
    let (kept, mut rng) = (harness.kept(dealer), ChaCha20Rng::seed_from_u64(1));
    let actions = harness.ceremony.next(&identity(dealer), kept.as_ref(), &mut rng).unwrap();
    let right = actions.into_iter().find_map(|action| match action {
        Action::Send(message) if parse(&message).kind() == Kind::Opening => Some(message),
        _ => None,
    });
    let row = Polynomial::random(3, &mut rng).unwrap().row(reader);
    harness.deliver(sign(Opening { context, dealing, reader, row }, &identity(dealer))).unwrap();
    let refusal = harness.deliver(right.unwrap()).unwrap_err();
    assert!(matches!(refusal, Refusal::NotAsked { .. }), "{refusal}");
    for member in harness.members().filter(|member| *member != reader) {
        harness.deliver(report(vec![], member)).unwrap();
    }
    assert_eq!(harness.attempt().qualified().count(), 2);
    assert!(harness.attempt().qualified().all(|dealt| dealt.dealer != dealer));
}

#[test]
fn who_can_get_no_row_any_more_is_not_counted_on() {
    let mut harness = honest_until(7, 1, |step| step == Step::Reporting);
    let dealer = harness.attempt().dealings[0].dealer;
    let (context, dealings) = (harness.attempt().context, harness.attempt().dealings_digest.unwrap());
    let report = |complaints, member| sign(Report { context, dealings, complaints }, &identity(member));
    // One complains and gets its row; one more complains when the set is closed, and that is too many.
    let [one, late, liar] = [1, 2, 3].map(|next| (dealer + next) % 7);
    harness.deliver(report(vec![0], one)).unwrap();
    let (kept, mut rng) = (harness.kept(dealer), ChaCha20Rng::seed_from_u64(3));
    for action in harness.ceremony.next(&identity(dealer), kept.as_ref(), &mut rng).unwrap() {
        if let Action::Send(message) = action
            && parse(&message).kind() == Kind::Opening
        {
            harness.deliver(message).unwrap();
        }
    }
    for member in harness.members().filter(|member| ![one, late].contains(member)) {
        harness.deliver(report(vec![], member)).unwrap();
    }
    harness.deliver(report(vec![0], late)).unwrap();
    let progress = harness.ceremony.progress();
    assert_eq!((progress.step, progress.dead), (Step::Signing, None));
    // Five are left where six have to sign.
    let another = Qualified { context, set: Digest::of(b"another") };
    harness.deliver(sign(another, &identity(liar))).unwrap();
    let dead = Dead::Members { kind: Kind::Qualified, needed: 6, left: 5 };
    assert_eq!(harness.ceremony.progress().dead, Some(dead));
}

#[test]
fn whose_dealing_is_not_its_own_opens_no_row() {
    // Somebody with a copy of its identity key dealt in its name.
    let mut harness = honest_until(4, 1, |step| step == Step::Dealing);
    let (context, mut rng) = (harness.attempt().context, ChaCha20Rng::seed_from_u64(1));
    let commitment = Polynomial::random(3, &mut rng).unwrap().commitment().unwrap();
    let rows = vec![vec![0; Row::size(3) + OVERHEAD]; 4];
    harness.deliver(sign(Dealing { context, commitment, rows }, &identity(0))).unwrap();
    for member in [1, 2] {
        let kept = harness.kept(member);
        for action in harness.ceremony.next(&identity(member), kept.as_ref(), &mut rng).unwrap() {
            if let Action::Send(message) = action {
                harness.deliver(message).unwrap();
            }
        }
    }
    let dealings = harness.attempt().dealings_digest.unwrap();
    harness.deliver(sign(Report { context, dealings, complaints: vec![0] }, &identity(1))).unwrap();
    let kept = harness.kept(0);
    let lost = harness.ceremony.next(&identity(0), kept.as_ref(), &mut rng).err();
    assert!(matches!(lost, Some(Lost::Other { kind: Kind::Dealing })), "{lost:?}");
}

#[test]
fn a_dealing_with_an_open_complaint_waits() {
    // Two of three dealings wait for openings: one is left, and one is not enough.
    let mut harness = honest_until(4, 1, |step| step == Step::Reporting);
    let (context, dealings) = (harness.attempt().context, harness.attempt().dealings_digest.unwrap());
    for member in harness.members() {
        let complaints = if member == 2 { vec![0, 1] } else { vec![] };
        harness.deliver(sign(Report { context, dealings, complaints }, &identity(member))).unwrap();
    }
    assert!(harness.attempt().set.is_none());
    let dealers: Vec<u16> = harness.attempt().dealings[..2].iter().map(|dealt| dealt.dealer).collect();
    let awaited: Vec<Awaited> = harness.ceremony.progress().awaited;
    assert_eq!(awaited.len(), 2);
    assert!(awaited.iter().all(|each| each.kind == Kind::Opening && dealers.contains(&each.member)));
}

#[test]
fn who_comes_too_late_does_not_deal() {
    let harness = honest_until(4, 1, |step| step == Step::Reporting);
    let dealers: Vec<u16> = harness.attempt().dealings.iter().map(|dealt| dealt.dealer).collect();
    let late = harness.members().find(|member| !dealers.contains(member)).unwrap();
    let kept = harness.kept(late).unwrap().back_at(Step::Dealing);
    assert_eq!(kinds(&harness, late, &kept), [Kind::Report]);
}

#[test]
fn who_lacks_a_row_does_not_sign_whatever_was_said_in_its_name() {
    let mut harness = honest_until(4, 1, |step| step == Step::Dealing);
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    for dealer in [0, 2, 3] {
        let kept = harness.kept(dealer).unwrap().back_at(Step::Dealing);
        for action in harness.ceremony.next(&identity(dealer), Some(&kept), &mut rng).unwrap() {
            let Action::Send(message) = action else { continue };
            let Message::Dealing(signed) = parse(&message) else { panic!("{dealer} does not deal") };
            let mut dealing = signed.payload().clone();
            // The first one's row for member 1 can't be opened.
            dealing.rows[1][40] ^= u8::from(dealer == 0);
            harness.deliver(sign(dealing, &identity(dealer))).unwrap();
        }
    }
    let (context, dealings) = (harness.attempt().context, harness.attempt().dealings_digest.unwrap());
    for member in harness.members() {
        harness.deliver(sign(Report { context, dealings, complaints: vec![] }, &identity(member))).unwrap();
    }
    assert_eq!(harness.ceremony.progress().step, Step::Signing);
    for (member, said) in [(1, vec![]), (2, vec![Kind::Qualified])] {
        let kept = harness.kept(member).unwrap().back_at(Step::Dealing);
        assert_eq!(kinds(&harness, member, &kept), said);
    }
}

/// What a member says now that keeps this.
fn kinds(harness: &Harness, member: u16, kept: &Kept) -> Vec<Kind> {
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    let actions = harness.ceremony.next(&identity(member), Some(kept), &mut rng).unwrap();
    let said = actions.into_iter().filter_map(|action| match action {
        Action::Send(message) => Some(parse(&message).kind()),
        _ => None,
    });
    said.collect()
}
