//! Who may ask for what, and when.

use fairpost_proto::chain;
use fairpost_proto::cose::{self, Signed};
use fairpost_proto::evidence::Nro;
use fairpost_proto::ids::{ClusterId, Digest, Protocol, Timestamp, Verdict};
use fairpost_proto::request::{Error, Method, Request, body_digest, check};

use crate::world::{Person, after, now, world};

/// A request for `method` about this NRO, by this person, as it should be but for `change`.
fn ask(method: Method, nro: &Signed<Nro>, by: &Person, change: impl FnOnce(&mut Request)) -> Signed<Request> {
    let mut request = Request {
        cluster: world().cluster(),
        method,
        exchange: nro.payload().terms.exchange(),
        body: body_digest(nro.bytes(), None),
        time: now(),
        nonce: [1; 16],
    };
    change(&mut request);
    by.sign(request)
}

fn taken(method: Method, nro: &Signed<Nro>, by: &Person, server: Timestamp) -> Result<(), Error> {
    let request = ask(method, nro, by, |_| {});
    check(&world().genesis, method, request.bytes(), nro, None, server).map(|_| ())
}

fn with(change: impl FnOnce(&mut Request)) -> Error {
    let (world, nro) = (world(), world().nro(|_| {}));
    let request = ask(Method::Status, &nro, &world.sender, change);
    check(&world.genesis, Method::Status, request.bytes(), &nro, None, now()).unwrap_err()
}

#[test]
fn each_method_is_for_its_party() {
    let (world, nro) = (world(), world().nro(|_| {}));
    for method in Method::ALL {
        let (sender, recipient, party) = match method {
            Method::Redeem | Method::Refuse => (false, true, "recipient"),
            Method::Withdraw => (true, false, "sender"),
            Method::Status | Method::Proof => (true, true, "sender or recipient"),
        };
        for (person, may) in [
            (&world.sender, sender),
            (&world.recipient, recipient),
            (&world.impostor, false),
            // The terms name a key, so a valid certificate for the address is not enough.
            (&world.renewed, false),
        ] {
            match taken(method, &nro, person, now()) {
                Ok(()) => assert!(may, "{method} by {}", person.address),
                Err(Error::Stranger { method: asked, party: who, found }) => {
                    assert!(!may, "{method} by {}", person.address);
                    assert_eq!((asked, who, found), (method, party, person.key_id()));
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[test]
fn a_request_is_for_one_cluster_one_exchange_and_one_body() {
    let other = ClusterId::new([9; 32]);
    let error = with(|request| request.cluster = other);
    assert!(
        matches!(error, Error::Cluster { expected, found } if (expected, found) == (world().cluster(), other)),
        "{error}"
    );
    let (nro, id) = (world().nro(|_| {}), world().cmp1.id());
    let error = with(|request| request.exchange = id);
    assert!(
        matches!(error, Error::Exchange { expected, found } if (expected, found) == (nro.payload().terms.exchange(), id)),
        "{error}"
    );
    let error = with(|request| request.body = Digest::of(b"other"));
    assert!(
        matches!(error, Error::Body { expected, found } if (expected, found) == (Digest::of(b"other"), body_digest(nro.bytes(), None))),
        "{error}"
    );
}

#[test]
fn a_request_counts_for_the_call_that_carries_it_only() {
    let (world, nro) = (world(), world().nro(|_| {}));
    for signed in Method::ALL {
        for called in Method::ALL.into_iter().filter(|called| *called != signed) {
            let request = ask(signed, &nro, &world.recipient, |_| {});
            let error = check(&world.genesis, called, request.bytes(), &nro, None, now()).unwrap_err();
            assert!(
                matches!(error, Error::Method { expected, found } if (expected, found) == (called, signed)),
                "{error}"
            );
        }
    }
}

#[test]
fn what_came_with_it_can_not_be_changed_added_or_taken_away() {
    let (world, nro) = (world(), world().nro(|_| {}));
    let receipt = world.answer(Verdict::Released, &nro).unwrap();
    let request = ask(Method::Redeem, &nro, &world.recipient, |request| {
        request.body = body_digest(nro.bytes(), Some(&receipt));
    });
    let taken = |nro: &Signed<Nro>, evidence: Option<&[u8]>| {
        check(&world.genesis, Method::Redeem, request.bytes(), nro, evidence, now())
    };
    assert!(taken(&nro, Some(&receipt)).is_ok());
    let refusal = world.answer(Verdict::Refused, &nro).unwrap();
    let other = Nro { sealed: Digest::of(b"other"), ..nro.payload().clone() };
    for outcome in [
        taken(&nro, None),
        taken(&nro, Some(&[])),
        taken(&nro, Some(&refusal)),
        taken(&world.sender.sign(other), Some(&receipt)),
    ] {
        assert!(matches!(outcome, Err(Error::Body { .. })), "{outcome:?}");
    }
    // An empty evidence is another body than none.
    assert_ne!(body_digest(nro.bytes(), None), body_digest(nro.bytes(), Some(&[])));
}

#[test]
fn five_minutes_either_way_and_no_millisecond_more() {
    let (world, nro) = (world(), world().nro(|_| {}));
    let server =
        |offset: i64| Timestamp::from_millis(now().millis().checked_add_signed(offset).unwrap()).unwrap();
    for offset in [-300_000, -1, 0, 1, 300_000] {
        assert!(taken(Method::Status, &nro, &world.sender, server(offset)).is_ok(), "{offset}");
    }
    for offset in [-300_001, 300_001] {
        let error = taken(Method::Status, &nro, &world.sender, server(offset)).unwrap_err();
        assert!(
            matches!(error, Error::Time { signed, server: clock } if (signed, clock) == (now(), server(offset))),
            "{error}"
        );
    }
}

#[test]
fn a_forged_request_is_found() {
    let (world, nro) = (world(), world().nro(|_| {}));
    let good = ask(Method::Status, &nro, &world.sender, |_| {});
    let forged = Signed::sign(good.payload().clone(), world.sender.chain.clone(), &world.impostor.key);
    let error = check(&world.genesis, Method::Status, forged.bytes(), &nro, None, now()).unwrap_err();
    assert!(
        matches!(&error, Error::Cose(cose::Error::Signature { key, .. }) if *key == world.sender.key_id()),
        "{error}"
    );
    let error = check(&world.genesis, Method::Status, nro.bytes(), &nro, None, now()).unwrap_err();
    assert!(matches!(error, Error::Cose(cose::Error::Typ { .. })), "{error}");
}

#[test]
fn the_key_in_the_terms_may_ask_whatever_became_of_its_certificate() {
    let (world, nro) = (world(), world().nro(|_| {}));
    for person in [&world.expired, &world.early, &world.foreign] {
        assert_eq!(person.key_id(), world.recipient.key_id());
        for method in [Method::Redeem, Method::Refuse, Method::Status, Method::Proof] {
            assert!(taken(method, &nro, person, now()).is_ok(), "{method}");
        }
    }
}

#[test]
fn where_the_terms_name_no_key_a_valid_certificate_for_the_address_may_ask() {
    let world = world();
    let nro = world.nro(|terms| (terms.protocol, terms.recipient.key) = (Protocol::Cmp1, None));
    for method in [Method::Redeem, Method::Refuse, Method::Status, Method::Proof] {
        assert!(taken(method, &nro, &world.recipient, now()).is_ok());
        assert!(taken(method, &nro, &world.renewed, now()).is_ok());
        let refused = |person| match taken(method, &nro, person, now()) {
            Err(Error::Certificate(source)) => source,
            other => panic!("{method}: {other:?}"),
        };
        assert!(matches!(refused(&world.impostor), chain::Error::Address { .. }));
        assert!(matches!(refused(&world.foreign), chain::Error::Path { .. }));
        assert!(matches!(refused(&world.expired), chain::Error::Expired { .. }));
        assert!(matches!(refused(&world.early), chain::Error::NotYetValid { .. }));
    }
    // To withdraw is the sender's, by its key, as ever.
    assert!(taken(Method::Withdraw, &nro, &world.sender, now()).is_ok());
    let error = taken(Method::Withdraw, &nro, &world.recipient, now()).unwrap_err();
    assert!(matches!(error, Error::Stranger { party: "sender", .. }), "{error}");
    // It is the server's clock that the certificate must be valid by.
    let later = after(3 * 365 * 86_400);
    let request = ask(Method::Status, &nro, &world.recipient, |request| request.time = later);
    let error = check(&world.genesis, Method::Status, request.bytes(), &nro, None, later).unwrap_err();
    assert!(matches!(error, Error::Certificate(chain::Error::Expired { at, .. }) if at == later), "{error}");
}
