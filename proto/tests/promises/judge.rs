//! The judge: one thing broken at a time, and both values in what it says.

use std::io::{self, Cursor};

use fairpost_proto::evidence::{self, Answer, Nro, Nrr};
use fairpost_proto::ids::{Digest, Timestamp, Verdict};
use fairpost_proto::leaf::{Leaf, Round};
use fairpost_proto::proof::{Claim, Proof};
use fairpost_proto::sealed::{self, Garbage};
use fairpost_proto::threshold::Message;
use fairpost_proto::trust::Trust;
use fairpost_proto::verify::{Error, Opening, Report, verify, verify_with_mail};
use fairpost_proto::view::View;
use fairpost_proto::vote::{self, Certificate};
use fairpost_proto::{chain, cose, threshold};

use crate::vectors::{foreign_trust, sealed as under_token, second_view};
use crate::world::{Exchange, MAIL, after, expires, now, token_of, world};

const YES: Verdict = Verdict::Released;

fn good() -> Proof {
    world().proof(&world().cmp2, YES)
}

fn judged(proof: &Proof) -> Result<Report, Error> {
    // A judge reads a file, so each proof is written and read again.
    verify(&Proof::parse(&proof.to_bytes()).unwrap(), &world().trust)
}

fn refused(proof: &Proof) -> Error {
    judged(proof).unwrap_err()
}

fn opened(proof: &Proof, exchange: &Exchange) -> (Result<Report, Error>, Vec<u8>) {
    let mut mail = Vec::new();
    let outcome = verify_with_mail(proof, &world().trust, Cursor::new(&exchange.container), &mut mail);
    (outcome, mail)
}

fn claimed(exchange: &Exchange) -> Proof {
    Proof { claim: Claim::Fraud, ..world().proof(exchange, YES) }
}

/// The good proof with another leaf, for which the members did vote.
fn with_leaf(change: impl FnOnce(&mut Leaf)) -> Proof {
    let mut leaf = *good().certificate.leaf();
    change(&mut leaf);
    Proof { certificate: world().certificate(leaf, &[0, 1, 2]), ..good() }
}

#[test]
fn a_certificate_of_a_later_round_proves_as_well() {
    for round in [2, u32::MAX] {
        let proof = with_leaf(|leaf| leaf.round = Round::new(round).unwrap());
        assert_eq!(judged(&proof).unwrap().verdict, YES);
        // What is asked of the leaf's time is asked in each round.
        let late = with_leaf(|leaf| (leaf.round, leaf.time) = (Round::new(round).unwrap(), expires()));
        assert!(matches!(refused(&late), Error::Late { .. }));
    }
}

#[test]
fn all_four_verdicts_are_proved() {
    let world = world();
    for exchange in [&world.cmp1, &world.cmp2] {
        for verdict in Verdict::ALL {
            let proof = world.proof(exchange, verdict);
            let report = judged(&proof).unwrap();
            assert_eq!((report.verdict, report.exchange), (verdict, exchange.id()));
            assert_eq!((report.cluster, report.epoch), (world.cluster(), 0));
            assert_eq!(report.terms, exchange.nro.payload().terms);
            assert_eq!(report.time, proof.certificate.leaf().time);
            assert_eq!(report.opening, Opening::NotShown);
            let mut voters = report.voters.clone();
            voters.sort();
            assert_eq!(voters, ["server-1", "server-2", "server-3"]);
        }
    }
}

#[test]
fn with_the_mail_its_content_is_shown() {
    let world = world();
    for exchange in [&world.cmp1, &world.cmp2] {
        let (report, mail) = opened(&world.proof(exchange, YES), exchange);
        assert_eq!(report.unwrap().opening, Opening::Shown { bytes: MAIL.len() as u64 });
        assert_eq!(mail, MAIL);
    }
}

#[test]
fn step_1_the_cluster_is_the_trusted_one() {
    let world = world();
    let foreign = foreign_trust(world);
    let expected = (world.cluster(), foreign.cluster());
    let error = refused(&Proof { trust: foreign.clone(), ..good() });
    assert!(
        matches!(error, Error::Cluster { expected: trusted, found } if (trusted, found) == expected),
        "{error}"
    );
    let error = verify(&good(), &foreign).unwrap_err();
    assert!(
        matches!(error, Error::Cluster { expected: trusted, found } if (found, trusted) == expected),
        "{error}"
    );
    // The same servers and the same key under another name are another cluster.
    let renamed = View::genesis("renamed", world.constitution()).unwrap();
    let token = token_of(&world.shares, &renamed.message());
    let renamed = Trust::new(renamed, token).unwrap();
    assert!(matches!(verify(&good(), &renamed), Err(Error::Cluster { .. })));
}

#[test]
fn step_1_the_votes_are_of_a_view_in_the_proof() {
    let (world, leaf) = (world(), *good().certificate.leaf());
    let voted = |members: [usize; 3]| {
        Certificate::new(leaf, members.map(|place| world.vote(place, &leaf, |vote| vote.epoch = 1)).into())
    };
    let later = Proof { certificate: voted([1, 2, 3]), ..good() };
    let error = refused(&later);
    assert!(matches!(error, Error::Epoch { newest: 0, found: 1 }), "{error}");

    // With that view in it the proof holds, also for a judge who has only the genesis.
    let mut trust = world.trust.clone();
    let (view, token) = under_token(second_view());
    trust.extend(view, token).unwrap();
    let report = judged(&Proof { trust: trust.clone(), ..later }).unwrap();
    assert_eq!(report.epoch, 1);
    // And the first view's votes are still judged by the first view.
    assert_eq!(judged(&Proof { trust: trust.clone(), ..good() }).unwrap().epoch, 0);
    // Of two views none has a quorum.
    let mixed = vec![
        world.vote(1, &leaf, |vote| vote.epoch = 1),
        world.vote(2, &leaf, |_| {}),
        world.vote(3, &leaf, |vote| vote.epoch = 1),
    ];
    let error = refused(&Proof { trust, certificate: Certificate::new(leaf, mixed), ..good() });
    assert!(
        matches!(error, Error::Certificate(vote::Error::Epoch { .. } | vote::Error::NoMember { .. })),
        "{error}"
    );
}

#[test]
fn step_2_the_nro_counts() {
    let world = world();
    let payload = world.cmp2.nro.payload().clone();
    let nro = |signed: cose::Signed<Nro>| refused(&Proof { nro: signed.bytes().to_vec(), ..good() });
    let error = nro(cose::Signed::sign(payload.clone(), world.sender.chain.clone(), &world.impostor.key));
    assert!(
        matches!(error, Error::Nro(evidence::Error::Cose { source: cose::Error::Signature { .. }, .. })),
        "{error}"
    );
    let error = nro(world.short.sign(payload.clone()));
    assert!(matches!(error, Error::Nro(evidence::Error::CertificateTooShort { .. })), "{error}");
    let error = nro(world.impostor.sign(payload));
    assert!(matches!(error, Error::Nro(evidence::Error::ForeignKey { .. })), "{error}");
    let error =
        refused(&with_leaf(|leaf| leaf.time = Timestamp::from_seconds(after(0).seconds() - 11).unwrap()));
    assert!(matches!(error, Error::Nro(evidence::Error::CreatedLater { .. })), "{error}");
}

#[test]
fn step_3_the_evidence_counts() {
    let world = world();
    let answer = Answer::to(&world.cmp2.nro);
    let evidence = |evidence: Option<&[u8]>| match refused(&Proof {
        evidence: evidence.map(<[u8]>::to_vec),
        ..good()
    }) {
        Error::Evidence(error) => error,
        other => panic!("{other}"),
    };
    assert!(matches!(evidence(None), evidence::Error::Presence { found: "without", .. }));
    let refusal = world.answer(Verdict::Refused, &world.cmp2.nro);
    let error = evidence(refusal.as_deref());
    assert!(matches!(error, evidence::Error::Cose { source: cose::Error::Typ { .. }, .. }), "{error}");
    let error = evidence(world.answer(YES, &world.cmp1.nro).as_deref());
    assert!(matches!(error, evidence::Error::ForeignExchange { .. }), "{error}");
    // A certificate that is valid today, or was once, but not when it was recorded.
    let error = evidence(Some(world.expired.sign(Nrr(answer)).bytes()));
    assert!(
        matches!(error, evidence::Error::Certificate { source: chain::Error::Expired { at, .. }, .. } if at == now()),
        "{error}"
    );
    let error = evidence(Some(world.early.sign(Nrr(answer)).bytes()));
    assert!(
        matches!(error, evidence::Error::Certificate { source: chain::Error::NotYetValid { at, .. }, .. } if at == now()),
        "{error}"
    );
}

#[test]
fn step_4_the_leaf_is_about_this_nro_and_this_evidence() {
    let world = world();
    let (here, there) = (world.cmp2.id(), world.cmp1.id());
    let error = refused(&with_leaf(|leaf| leaf.exchange = there));
    assert!(
        matches!(error, Error::LeafExchange { expected, found } if (expected, found) == (here, there)),
        "{error}"
    );
    let other = Digest::of(b"other");
    let digest = world.cmp2.nro.digest();
    let error = refused(&with_leaf(|leaf| leaf.nro = other));
    assert!(
        matches!(error, Error::LeafNro { expected, found } if (expected, found) == (digest, other)),
        "{error}"
    );
    let digest = good().evidence.as_deref().map(Digest::of);
    let error = refused(&with_leaf(|leaf| leaf.evidence = Some(other)));
    assert!(
        matches!(error, Error::LeafEvidence { expected, found } if (expected, found) == (digest, Some(other))),
        "{error}"
    );
}

#[test]
fn step_4_released_lies_before_the_deadline() {
    let world = world();
    let at = |millis: u64| {
        let time = Timestamp::from_millis(millis).unwrap();
        (time, with_leaf(|leaf| leaf.time = time))
    };
    let deadline = expires().millis();
    assert!(judged(&at(deadline - 1).1).is_ok());
    for millis in [deadline, deadline + 1, deadline + 86_400_000] {
        let (time, proof) = at(millis);
        let error = refused(&proof);
        assert!(
            matches!(error, Error::Late { time: found, expires: until } if (found, until) == (time, expires())),
            "{error}"
        );
    }
    // Withdrawal and refusal count at any time.
    for verdict in [Verdict::Withdrawn, Verdict::Refused] {
        let evidence = world.answer(verdict, &world.cmp2.nro);
        let late = world.proof_of(&world.cmp2, verdict, evidence, after(30 * 86_400));
        assert_eq!(judged(&late).unwrap().verdict, verdict);
    }
}

#[test]
fn step_4_expired_lies_at_or_after_deadline_and_grace() {
    let world = world();
    let due = expires().plus(world.genesis.parameters().grace);
    let at = |millis: u64| {
        let time = Timestamp::from_millis(millis).unwrap();
        (time, world.proof_of(&world.cmp2, Verdict::Expired, None, time))
    };
    for millis in [due.millis(), due.millis() + 1, due.millis() + 40 * 365 * 86_400_000] {
        assert!(judged(&at(millis).1).is_ok());
    }
    for millis in [due.millis() - 1, expires().millis(), now().millis()] {
        let (time, proof) = at(millis);
        let error = refused(&proof);
        assert!(
            matches!(error, Error::Early { time: found, due: when } if (found, when) == (time, due)),
            "{error}"
        );
    }
}

#[test]
fn step_4_a_quorum_voted() {
    let (world, leaf) = (world(), *good().certificate.leaf());
    let error = refused(&Proof { certificate: world.certificate(leaf, &[0, 3]), ..good() });
    assert!(matches!(error, Error::Certificate(vote::Error::TooFew { needed: 3, found: 2 })), "{error}");
    // The members voted for another leaf of this exchange.
    let other = Leaf { round: Round::new(2).unwrap(), ..leaf };
    let votes = (0..3).map(|place| world.vote(place, &other, |_| {})).collect();
    let error = refused(&Proof { certificate: Certificate::new(leaf, votes), ..good() });
    assert!(matches!(error, Error::Certificate(vote::Error::Ballot { place: 0, .. })), "{error}");
}

#[test]
fn step_5_votes_without_the_token_prove_nothing() {
    let world = world();
    let foreign = crate::world::foreign_deal().1;
    let message = Message::released(world.cluster(), world.cmp2.id());
    let tokens = [
        world.token(Verdict::Withdrawn, world.cmp2.id()),
        world.token(Verdict::Refused, world.cmp2.id()),
        world.token(Verdict::Expired, world.cmp2.id()),
        world.token(YES, world.cmp1.id()),
        token_of(&world.shares, &world.genesis.message()),
        token_of(&foreign, &message),
        token_of(&world.shares, &Message::released(foreign_trust(world).cluster(), world.cmp2.id())),
        // One member's share, in the form of a token.
        threshold::combine(1, &[(0, world.shares[0].sign(&message))]).unwrap(),
    ];
    for token in tokens {
        let error = refused(&Proof { token, ..good() });
        assert!(
            matches!(&error, Error::Token { verdict: YES, exchange, source: threshold::Error::WrongToken { .. } } if *exchange == world.cmp2.id()),
            "{error}"
        );
    }
    // Nor does the release token prove another verdict.
    for verdict in [Verdict::Withdrawn, Verdict::Refused, Verdict::Expired] {
        let proof = Proof { token: good().token, ..world.proof(&world.cmp2, verdict) };
        assert!(matches!(refused(&proof), Error::Token { verdict: found, .. } if found == verdict));
    }
}

#[test]
fn step_6_only_the_very_mail_of_the_nro_is_opened() {
    let world = world();
    for (exchange, other) in [(&world.cmp1, &world.cmp2), (&world.cmp2, &world.cmp1)] {
        let (outcome, mail) = opened(&world.proof(exchange, YES), other);
        let expected = (exchange.nro.payload().sealed, other.nro.payload().sealed);
        let error = outcome.unwrap_err();
        assert!(
            matches!(error, Error::OtherMail { expected: named, found } if (named, found) == expected),
            "{error}"
        );
        assert!(mail.is_empty());
    }
    // Any change of the body at all.
    let length = world.cmp2.container.len();
    for place in (length - world.cmp2.body().len()..length).step_by(7) {
        let mut changed = world.cmp2.container.clone();
        changed[place] ^= 0x10;
        let outcome = verify_with_mail(&good(), &world.trust, Cursor::new(changed), io::sink());
        assert!(matches!(outcome, Err(Error::OtherMail { .. })), "byte {place}");
    }
    let outcome = verify_with_mail(&good(), &world.trust, Cursor::new(b"no mail at all"), io::sink());
    assert!(matches!(outcome, Err(Error::Sealed(sealed::Error::Magic { .. }))));
}

#[test]
fn step_6_in_cmp2_the_proof_discloses_the_lock() {
    let world = world();
    let expected = world.cmp2.disclosure.as_ref().unwrap().digest();
    let other = world.garbage2.disclosure.clone();
    let found = other.as_ref().map(|lock| lock.digest());
    for (disclosure, found) in [(None, None), (other, found)] {
        let error = opened(&Proof { disclosure, ..good() }, &world.cmp2).0.unwrap_err();
        assert!(
            matches!(error, Error::Disclosure { expected: named, found: given } if (named, given) == (expected, found)),
            "{error}"
        );
    }
    // In CMP1 the lock lies open, and what else is disclosed does not matter.
    let proof = Proof { disclosure: world.cmp2.disclosure.clone(), ..world.proof(&world.cmp1, YES) };
    assert!(matches!(opened(&proof, &world.cmp1).0.unwrap().opening, Opening::Shown { .. }));
}

#[test]
fn step_6_what_was_not_released_is_not_opened() {
    let world = world();
    for verdict in [Verdict::Withdrawn, Verdict::Refused, Verdict::Expired] {
        for claim in [Claim::Verdict, Claim::Fraud] {
            let proof = Proof { claim, ..world.proof(&world.cmp2, verdict) };
            let (outcome, mail) = opened(&proof, &world.cmp2);
            assert!(matches!(outcome, Err(Error::NotReleased(found)) if found == verdict));
            assert!(mail.is_empty());
        }
    }
}

#[test]
fn garbage_under_a_valid_lock_is_no_delivery_and_proves_fraud() {
    let world = world();
    for exchange in [&world.garbage1, &world.garbage2] {
        let committed = exchange.nro.payload().terms.content;
        let is_it = |garbage: &Garbage| matches!(garbage, Garbage::Content { committed: terms, found } if *terms == committed && *found != committed);
        let error = opened(&world.proof(exchange, YES), exchange).0.unwrap_err();
        assert!(matches!(&error, Error::Garbage(garbage) if is_it(garbage)), "{error}");
        let report = opened(&claimed(exchange), exchange).0.unwrap();
        assert!(matches!(&report.opening, Opening::Fraud(garbage) if is_it(garbage)), "{report:?}");
        assert_eq!((report.exchange, report.verdict), (exchange.id(), YES));
    }
    let exchange = &world.unopenable;
    let error = opened(&world.proof(exchange, YES), exchange).0.unwrap_err();
    assert!(matches!(error, Error::Garbage(Garbage::Lock(_))), "{error}");
    let report = opened(&claimed(exchange), exchange).0.unwrap();
    assert!(matches!(report.opening, Opening::Fraud(Garbage::Lock(_))));
}

#[test]
fn an_honest_sender_can_not_be_accused() {
    let world = world();
    for exchange in [&world.cmp1, &world.cmp2] {
        let error = opened(&claimed(exchange), exchange).0.unwrap_err();
        let content = exchange.nro.payload().terms.content;
        assert!(matches!(error, Error::NoFraud { found } if found == content), "{error}");
    }
    // Not with another mail, another lock, another token, or a reader that fails.
    assert!(matches!(opened(&claimed(&world.cmp2), &world.garbage2).0, Err(Error::OtherMail { .. })));
    let lock = Proof { disclosure: world.garbage2.disclosure.clone(), ..claimed(&world.cmp2) };
    assert!(matches!(opened(&lock, &world.cmp2).0, Err(Error::Disclosure { .. })));
    let token = Proof { token: world.token(YES, world.cmp1.id()), ..claimed(&world.cmp2) };
    assert!(matches!(opened(&token, &world.cmp2).0, Err(Error::Token { .. })));
    let cut = &world.cmp2.container[..40];
    let outcome = verify_with_mail(&claimed(&world.cmp2), &world.trust, Cursor::new(cut), io::sink());
    assert!(matches!(outcome, Err(Error::Sealed(sealed::Error::ContainerCut { .. }))), "{outcome:?}");
}

#[test]
fn a_claim_of_fraud_is_not_proved_without_the_mail() {
    let report = judged(&claimed(&world().garbage2)).unwrap();
    assert_eq!(report.opening, Opening::NotShown);
}

#[test]
fn an_oversized_proof_is_not_read() {
    let found = fairpost_proto::proof::MAX_BYTES + 1;
    let outcome = Proof::parse(&vec![0; found]);
    assert!(matches!(outcome, Err(fairpost_proto::proof::Error::TooLarge { found: size }) if size == found));
}
