//! When persons' signatures count: every fault is found, and named with what was expected and what was found.

use fairpost_proto::chain;
use fairpost_proto::cose::{self, Signed};
use fairpost_proto::evidence::{Answer, Checked, Error, Kind, Nro, Nrr, Refusal, Withdrawal, check};
use fairpost_proto::ids::{ClusterId, Digest, ExchangeId, Protocol, Span, Timestamp, Verdict};
use fairpost_proto::terms::Address;

use crate::world::{CREATED, SENDER, after, expires, genesis_with_an_anchor_until, now, world};

fn released(nro: &Signed<Nro>, receipt: &Signed<Nrr>) -> Result<Checked, Error> {
    check(&world().genesis, Verdict::Released, nro.bytes(), Some(receipt.bytes()), now())
}

fn alone(nro: &Signed<Nro>, at: Timestamp) -> Result<Checked, Error> {
    check(&world().genesis, Verdict::Expired, nro.bytes(), None, at)
}

fn millis(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis).unwrap()
}

#[test]
fn each_verdict_rests_on_its_evidence() {
    let world = world();
    let nro = world.nro(|_| {});
    for verdict in Verdict::ALL {
        let evidence = world.answer(verdict, &nro);
        let checked = check(&world.genesis, verdict, nro.bytes(), evidence.as_deref(), now()).unwrap();
        assert_eq!(checked.verdict, verdict);
        assert_eq!(checked.exchange, nro.payload().terms.exchange());
        assert_eq!(checked.evidence, evidence.as_deref().map(Digest::of));
        assert_eq!(checked.terms(), &nro.payload().terms);
    }
}

#[test]
fn no_kind_passes_for_another() {
    let world = world();
    let nro = world.nro(|_| {});
    let pieces: Vec<_> =
        Verdict::ALL.iter().filter_map(|verdict| Some((verdict, world.answer(*verdict, &nro)?))).collect();
    for asked in Verdict::ALL {
        for (kind, bytes) in &pieces {
            let outcome = check(&world.genesis, asked, nro.bytes(), Some(bytes), now());
            match outcome {
                Ok(checked) => assert!(asked == **kind && checked.verdict == asked),
                Err(Error::Presence { what: Kind::Expiry, found: "with" }) => {
                    assert_eq!(asked, Verdict::Expired)
                }
                Err(Error::Cose { what, source: cose::Error::Typ { expected, found } }) => {
                    assert_eq!(what, Kind::of(asked));
                    assert_ne!(expected, found);
                }
                Err(other) => panic!("{kind} as {asked}: {other}"),
            }
        }
        let outcome = check(&world.genesis, asked, nro.bytes(), None, now());
        match asked {
            Verdict::Expired => assert!(outcome.is_ok()),
            _ => assert!(
                matches!(outcome, Err(Error::Presence { what, found: "without" }) if what == Kind::of(asked))
            ),
        }
        let outcome = check(&world.genesis, asked, nro.bytes(), Some(nro.bytes()), now());
        assert!(outcome.is_err(), "the NRO as {asked}");
    }
}

#[test]
fn a_forged_signature_is_found() {
    let world = world();
    let nro = world.nro(|_| {});
    let answer = Answer::to(&nro);
    // The certificate is the recipient's, the key is not.
    let forged = Signed::sign(Nrr(answer), world.recipient.chain.clone(), &world.impostor.key);
    let error = released(&nro, &forged).unwrap_err();
    assert!(
        matches!(&error, Error::Cose { what: Kind::Receipt, source: cose::Error::Signature { key, .. } } if *key == world.recipient.key_id()),
        "{error}"
    );
    let forged = Signed::sign(nro.payload().clone(), world.sender.chain.clone(), &world.impostor.key);
    let error = alone(&forged, now()).unwrap_err();
    assert!(
        matches!(&error, Error::Cose { what: Kind::Nro, source: cose::Error::Signature { key, .. } } if *key == world.sender.key_id()),
        "{error}"
    );
}

#[test]
fn an_answer_to_another_exchange_or_nro_is_found() {
    let world = world();
    let nro = world.nro(|_| {});
    let elsewhere = world.nro(|terms| terms.nonce = [8; 16]);
    let receipt = world.recipient.sign(Nrr(Answer::to(&elsewhere)));
    let error = released(&nro, &receipt).unwrap_err();
    let (here, there) = (nro.payload().terms.exchange(), elsewhere.payload().terms.exchange());
    assert!(
        matches!(error, Error::ForeignExchange { what: Kind::Receipt, expected, found } if (expected, found) == (here, there)),
        "{error}"
    );

    // The same terms around another sealed mail: another NRO of the same exchange.
    let other = Nro { terms: nro.payload().terms.clone(), sealed: Digest::of(b"other") };
    let other = world.sender.sign(other);
    let receipt = world.recipient.sign(Nrr(Answer::to(&other)));
    let error = released(&nro, &receipt).unwrap_err();
    assert!(
        matches!(error, Error::ForeignNro { what: Kind::Receipt, expected, found } if (expected, found) == (nro.digest(), other.digest())),
        "{error}"
    );
    for verdict in [Verdict::Withdrawn, Verdict::Refused] {
        let evidence = world.answer(verdict, &other);
        let error = check(&world.genesis, verdict, nro.bytes(), evidence.as_deref(), now()).unwrap_err();
        assert!(matches!(error, Error::ForeignNro { what, .. } if what == Kind::of(verdict)), "{error}");
    }
}

#[test]
fn only_the_key_in_the_terms_signs() {
    let world = world();
    let nro = world.nro(|_| {});
    let answer = Answer::to(&nro);
    let foreign = |error: Error, kind, named, signed| {
        assert!(
            matches!(&error, Error::ForeignKey { what, expected, found } if (*what, *expected, *found) == (kind, named, signed)),
            "{error}"
        );
    };
    let (sender, recipient) = (world.sender.key_id(), world.recipient.key_id());
    // As good a certificate for the same address, but another key.
    let by = world.renewed.sign(Nrr(answer));
    foreign(released(&nro, &by).unwrap_err(), Kind::Receipt, recipient, world.renewed.key_id());
    let by = world.sender.sign(Nrr(answer));
    foreign(released(&nro, &by).unwrap_err(), Kind::Receipt, recipient, sender);
    let by = world.recipient.sign(Withdrawal(answer));
    let outcome = check(&world.genesis, Verdict::Withdrawn, nro.bytes(), Some(by.bytes()), now());
    foreign(outcome.unwrap_err(), Kind::Withdrawal, sender, recipient);
    let by = world.sender.sign(Refusal(answer));
    let outcome = check(&world.genesis, Verdict::Refused, nro.bytes(), Some(by.bytes()), now());
    foreign(outcome.unwrap_err(), Kind::Refusal, recipient, sender);
    let by = world.impostor.sign(nro.payload().clone());
    foreign(alone(&by, now()).unwrap_err(), Kind::Nro, sender, world.impostor.key_id());
}

#[test]
fn only_this_cluster_is_asked() {
    let world = world();
    let other = ClusterId::new([9; 32]);
    let nro = world.nro(|terms| terms.cluster = other);
    let error = alone(&nro, now()).unwrap_err();
    assert!(
        matches!(error, Error::ForeignCluster { expected, found } if (expected, found) == (world.cluster(), other)),
        "{error}"
    );
}

#[test]
fn the_lifetime_lies_within_the_views_bounds() {
    let world = world();
    let lasting = |seconds: u64| alone(&world.nro(|terms| terms.expires = after(seconds)), now());
    let longest = 90 * 86_400;
    for seconds in [300, 301, longest - 1, longest] {
        assert!(lasting(seconds).is_ok(), "{seconds}");
    }
    for seconds in [1, 299, longest + 1] {
        let error = lasting(seconds).unwrap_err();
        let expected = (Span::from_seconds(300), Span::from_seconds(longest), Span::from_seconds(seconds));
        assert!(
            matches!(error, Error::Lifetime { least, most, found } if (least, most, found) == expected),
            "{error}"
        );
    }
}

#[test]
fn terms_of_the_future_are_refused_beyond_the_skew() {
    let nro = world().nro(|_| {});
    let skew = 10_000;
    assert!(alone(&nro, millis(CREATED * 1000 - skew)).is_ok());
    let at = millis(CREATED * 1000 - skew - 1);
    let error = alone(&nro, at).unwrap_err();
    assert!(
        matches!(error, Error::CreatedLater { created, at: found, skew: allowed } if (created, found, allowed) == (after(0), at, Span::from_millis(skew))),
        "{error}"
    );
}

#[test]
fn the_senders_certificate_outlives_the_exchange() {
    let world = world();
    let payload = world.nro(|_| {}).payload().clone();
    let short = world.short.sign(payload);
    let error = alone(&short, now()).unwrap_err();
    let ends = world.short.chain.not_after();
    assert!(
        matches!(error, Error::CertificateTooShort { not_after, expires: until } if (not_after, until) == (ends, expires())),
        "{error}"
    );
    // To the second it is enough.
    let terms = world.nro(|terms| terms.expires = ends).payload().clone();
    assert!(alone(&world.short.sign(terms), now()).is_ok());
}

#[test]
fn a_nro_counts_for_an_expiry_years_later() {
    let world = world();
    let nro = world.nro(|_| {});
    let at = after(40 * 365 * 86_400);
    assert!(at > world.sender.chain.not_after());
    assert!(alone(&nro, at).is_ok());
    // But no answer is taken with a certificate that is over by then.
    let receipt = world.answer(Verdict::Refused, &nro);
    let outcome = check(&world.genesis, Verdict::Refused, nro.bytes(), receipt.as_deref(), at);
    assert!(matches!(
        outcome,
        Err(Error::Certificate { what: Kind::Refusal, source: chain::Error::Expired { .. }, .. })
    ));
}

#[test]
fn certificates_must_be_valid_when_it_is_recorded_and_issued_by_an_anchor() {
    let world = world();
    let nro = world.nro(|_| {});
    let receipt = Nrr(Answer::to(&nro));
    let refused = |error: Error| match error {
        Error::Certificate { what: Kind::Receipt, address, source } => {
            assert_eq!(address, world.recipient.address);
            source
        }
        other => panic!("{other}"),
    };
    let source = refused(released(&nro, &world.expired.sign(receipt)).unwrap_err());
    assert!(matches!(source, chain::Error::Expired { place: 0, at, .. } if at == now()), "{source}");
    let source = refused(released(&nro, &world.early.sign(receipt)).unwrap_err());
    assert!(matches!(source, chain::Error::NotYetValid { place: 0, at, .. } if at == now()), "{source}");
    let source = refused(released(&nro, &world.foreign.sign(receipt)).unwrap_err());
    assert!(matches!(source, chain::Error::Path { .. }), "{source}");
}

#[test]
fn an_anchor_that_ends_before_the_deadline_vouches_for_nobody() {
    // One that is over, and one that ends between now and the deadline, after which no expiry could be proved. The
    // sender's own certificate goes on for more than a year.
    for ends in [(2026, 4, 1), (2026, 6, 5)] {
        let view = genesis_with_an_anchor_until(ends);
        let nro = world().nro(|terms| terms.cluster = view.cluster());
        let error = check(&view, Verdict::Expired, nro.bytes(), None, now()).unwrap_err();
        assert!(
            matches!(&error, Error::Certificate { what: Kind::Nro, source: chain::Error::AnchorExpired { at, .. }, .. } if *at == expires()),
            "{error}"
        );
    }
    let view = genesis_with_an_anchor_until((2026, 6, 9));
    let nro = world().nro(|terms| terms.cluster = view.cluster());
    assert!(check(&view, Verdict::Expired, nro.bytes(), None, now()).is_ok());
}

#[test]
fn the_senders_certificate_is_valid_when_it_is_recorded_and_at_the_deadline() {
    // From 2026-06-04 on: recorded before, it does not count; afterwards it does.
    let world = world();
    let late = world.late.sign(world.nro(|_| {}).payload().clone());
    let error = alone(&late, now()).unwrap_err();
    assert!(
        matches!(&error, Error::Certificate { what: Kind::Nro, source: chain::Error::NotYetValid { at, .. }, .. } if *at == now()),
        "{error}"
    );
    for at in [after(3 * 86_400), expires(), after(40 * 365 * 86_400)] {
        assert!(alone(&late, at).is_ok(), "{at}");
    }
}

#[test]
fn the_certificate_is_for_the_address_in_the_terms() {
    let world = world();
    let address = Address::parse("other@example.org").unwrap();
    let nro = world.nro(|terms| terms.sender.address = address.clone());
    let error = alone(&nro, now()).unwrap_err();
    assert!(
        matches!(&error, Error::Certificate { what: Kind::Nro, address: asked, source: chain::Error::Address { expected, found } }
        if *asked == address && expected == "other@example.org" && *found == [SENDER]),
        "{error}"
    );
}

#[test]
fn cmp1_without_a_key_id_takes_any_certificate_for_the_address_and_no_other() {
    let world = world();
    let nro = world.nro(|terms| (terms.protocol, terms.recipient.key) = (Protocol::Cmp1, None));
    let answer = Answer::to(&nro);
    for person in [&world.recipient, &world.renewed] {
        assert!(released(&nro, &person.sign(Nrr(answer))).is_ok());
        let refusal = person.sign(Refusal(answer));
        assert!(check(&world.genesis, Verdict::Refused, nro.bytes(), Some(refusal.bytes()), now()).is_ok());
    }
    for person in [&world.impostor, &world.sender] {
        let error = released(&nro, &person.sign(Nrr(answer))).unwrap_err();
        assert!(matches!(&error, Error::Certificate { source: chain::Error::Address { .. }, .. }), "{error}");
    }
    let error = released(&nro, &world.foreign.sign(Nrr(answer))).unwrap_err();
    assert!(matches!(&error, Error::Certificate { source: chain::Error::Path { .. }, .. }), "{error}");
    // The sender is named, as ever.
    let by = world.recipient.sign(Withdrawal(answer));
    let outcome = check(&world.genesis, Verdict::Withdrawn, nro.bytes(), Some(by.bytes()), now());
    assert!(matches!(outcome, Err(Error::ForeignKey { what: Kind::Withdrawal, .. })));
}

#[test]
fn any_change_of_the_terms_makes_another_exchange() {
    let world = world();
    let plain = world.nro(|_| {}).payload().terms.exchange();
    let mut seen: Vec<ExchangeId> = vec![plain];
    let mut other = |change: &dyn Fn(&mut fairpost_proto::terms::Fields)| {
        let id = world.nro(|terms| change(terms)).payload().terms.exchange();
        assert!(!seen.contains(&id));
        seen.push(id);
    };
    other(&|terms| terms.protocol = Protocol::Cmp1);
    other(&|terms| terms.cluster = ClusterId::new([9; 32]));
    other(&|terms| terms.nonce[15] ^= 1);
    other(&|terms| terms.sender.address = world.impostor.address.clone());
    other(&|terms| terms.recipient.address = world.impostor.address.clone());
    other(&|terms| terms.recipient.key = Some(world.renewed.key_id()));
    other(&|terms| terms.content = Digest::of(b"other"));
    other(&|terms| terms.created = after(1));
    other(&|terms| terms.expires = after(86_400));
}
