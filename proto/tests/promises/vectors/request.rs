//! What else people sign: requests and cards.

use fairpost_proto::card::{self, Card};
use fairpost_proto::cose::Signed;
use fairpost_proto::evidence::Nro;
use fairpost_proto::ids::{Timestamp, Verdict};
use fairpost_proto::request::{self, Method, Request};
use serde_json::json;

use super::envelope::Envelope;
use super::{Made, bytes as field, bytes_or_null, faults, hex_or_null, show, time};
use crate::item::{Item, bytes, text};
use crate::world::{World, after, now, world};

/// A request of the recipient's, to redeem.
pub(crate) fn request(world: &World, nro: &Signed<Nro>, evidence: Option<&[u8]>) -> Request {
    Request {
        cluster: world.cluster(),
        method: Method::Redeem,
        exchange: nro.payload().terms.exchange(),
        body: request::body_digest(nro.bytes(), evidence),
        time: now(),
        nonce: [3; 16],
    }
}

#[test]
fn requests_are_taken_as_in_the_vectors() {
    let (world, mut made) = (world(), Made::default());
    let nro = world.nro(|_| {});
    let receipt = world.answer(Verdict::Released, &nro).unwrap();
    let carried = |method: Method, request: &[u8], evidence: Option<&[u8]>, server: Timestamp| {
        json!({
            "view": "four",
            "method": method.name(),
            "request": hex::encode(request),
            "nro": hex::encode(nro.bytes()),
            "evidence": hex_or_null(evidence),
            "server": server.millis(),
        })
    };
    let good = request(world, &nro, Some(&receipt));
    let signed = world.recipient.sign(good.clone());
    let redeem = |bytes: &[u8]| carried(Method::Redeem, bytes, Some(&receipt), now());
    made.valid("redeem", "The recipient hands in the receipt.", redeem(signed.bytes()));
    let bare = Request { body: request::body_digest(nro.bytes(), None), ..good.clone() };
    for (method, person, who) in [
        (Method::Status, &world.sender, "sender"),
        (Method::Status, &world.recipient, "recipient"),
        (Method::Proof, &world.sender, "sender"),
        (Method::Proof, &world.recipient, "recipient"),
    ] {
        let signed = person.sign(Request { method, ..bare.clone() });
        let name = format!("{method}-by-{who}");
        made.valid(&name, "Either party may ask.", carried(method, signed.bytes(), None, now()));
    }
    let late = world.expired.sign(good.clone());
    let meaning = "The key named in the terms may ask, whatever has become of its certificate.";
    made.valid("expired-certificate", meaning, redeem(late.bytes()));

    let opened = Envelope::open(signed.bytes(), &world.recipient.key);
    made.faults("", opened.faults(), redeem);
    made.faults("payload-", opened.payload_faults(), redeem);
    let mut values = faults::values(
        &opened.payload,
        vec![
            ("cluster-other", "Of another cluster.", 1, bytes([9; 32]), "the request is for cluster 0909"),
            ("cluster-short", "31 bytes.", 1, bytes([9; 31]), "the cluster id has length 31"),
            (
                "method-unknown",
                "No such method.",
                2,
                text("open"),
                "the method is open, expected redeem, withdraw",
            ),
            ("method-upper-case", "Methods are lower-case.", 2, text("Redeem"), "the method is Redeem"),
            ("method-long", "17 bytes.", 2, text("redeem-everything"), "the method has length 17"),
            (
                "method-other",
                "Another method.",
                2,
                text("refuse"),
                "the request is to refuse, but came with a call to redeem",
            ),
            ("exchange-other", "Another exchange.", 3, bytes([9; 32]), "the request is about exchange 0909"),
            (
                "body-other",
                "Something else came with it.",
                4,
                bytes([9; 32]),
                "but the request was signed for 0909",
            ),
            (
                "time-year-10000",
                "One millisecond too late.",
                5,
                Item::Uint(253_402_300_800_000),
                "the request's time is 253402300800000",
            ),
            ("nonce-short", "15 bytes.", 6, bytes([9; 15]), "the nonce has length 15"),
        ],
    );
    opened.resign(&mut values);
    made.faults("", values, redeem);

    let fields = carried(Method::Redeem, signed.bytes(), None, now());
    made.invalid("without-evidence", "The receipt was taken away.", "but the request was signed for", fields);
    let stale = after(3600 + 301);
    let fields = carried(Method::Redeem, signed.bytes(), Some(&receipt), stale);
    made.invalid(
        "stale",
        "Signed more than five minutes ago.",
        "the request was signed at 2026-06-01T13:00:00Z, and the server's time is 2026-06-01T13:05:01Z",
        fields,
    );
    let fields = carried(Method::Redeem, signed.bytes(), Some(&receipt), after(3600 - 301));
    made.invalid(
        "from-the-future",
        "Signed more than five minutes ahead.",
        "the server's time is 2026-06-01T12:54:59Z",
        fields,
    );
    for (name, person) in
        [("sender", &world.sender), ("stranger", &world.impostor), ("renewed", &world.renewed)]
    {
        let by = person.sign(good.clone());
        let name = format!("redeem-by-{name}");
        made.invalid(
            &name,
            "Only the recipient's key redeems.",
            "redeem is for the recipient, and key",
            redeem(by.bytes()),
        );
    }
    let by = world.recipient.sign(Request { method: Method::Withdraw, ..bare.clone() });
    let error = "withdraw is for the sender, and key";
    made.invalid(
        "withdraw-by-recipient",
        "Only the sender withdraws.",
        error,
        carried(Method::Withdraw, by.bytes(), None, now()),
    );
    let by = world.impostor.sign(Request { method: Method::Proof, ..bare });
    let error = "proof is for the sender or recipient, and key";
    made.invalid(
        "proof-by-stranger",
        "Only the parties get the proof.",
        error,
        carried(Method::Proof, by.bytes(), None, now()),
    );
    let error = "this is of type \"application/vnd.fairpost.nrr+cose\"";
    made.invalid("receipt-as-request", "A receipt is no request.", error, redeem(&receipt));

    made.keep("request.json", |vector| {
        let method = vector["method"].as_str().unwrap();
        let method = Method::ALL.into_iter().find(|known| known.name() == method).unwrap();
        let nro = Signed::<Nro>::parse(&field(vector, "nro")).unwrap();
        let evidence = bytes_or_null(vector, "evidence");
        let (bytes, server) = (field(vector, "request"), time(vector, "server"));
        request::check(&world.genesis, method, &bytes, &nro, evidence.as_deref(), server).map_err(show)?;
        Ok(())
    });
}

#[test]
fn cards_are_believed_as_in_the_vectors() {
    let (world, mut made) = (world(), Made::default());
    let card = Card {
        address: world.recipient.address.clone(),
        sealing_key: world.recipient.sealing.public(),
        created: after(0),
    };
    let signed = world.recipient.sign(card.clone());
    let fields = |bytes: &[u8]| json!({ "view": "four", "card": hex::encode(bytes), "at": now().millis() });
    made.valid("card", "The recipient's card.", fields(signed.bytes()));
    let opened = Envelope::open(signed.bytes(), &world.recipient.key);
    made.faults("", opened.faults(), fields);
    made.faults("payload-", opened.payload_faults(), fields);
    let mut not_reduced = [0xff; 32];
    not_reduced[31] = 0x7f;
    let mut values = faults::values(
        &opened.payload,
        vec![
            ("address-bad", "No address.", 1, text("nobody"), "is no address"),
            (
                "address-other",
                "An address that the certificate is not for.",
                1,
                text("sender@example.org"),
                "the certificate is for [\"recipient@example.org\"], not for \"sender@example.org\"",
            ),
            ("key-zero", "A key of low order.", 2, bytes([0; 32]), "is an X25519 key of low order"),
            (
                "key-not-reduced",
                "A key in a second encoding.",
                2,
                bytes(not_reduced),
                "is not a canonical X25519 key",
            ),
            ("key-short", "31 bytes.", 2, bytes([9; 31]), "the sealing key has length 31"),
            (
                "created-late",
                "After the year 9999.",
                3,
                Item::Uint(253_402_300_800),
                "created is 253402300800",
            ),
        ],
    );
    opened.resign(&mut values);
    made.faults("", values, fields);
    let error = "the card of recipient@example.org: certificate 0 was valid until";
    made.invalid(
        "expired",
        "An expired certificate.",
        error,
        fields(world.expired.sign(card.clone()).bytes()),
    );
    let error = "the card of recipient@example.org: the certificates do not lead to";
    made.invalid(
        "foreign-authority",
        "A certificate of nobody.",
        error,
        fields(world.foreign.sign(card.clone()).bytes()),
    );
    let error = "not for \"recipient@example.org\"";
    made.invalid(
        "by-another",
        "Somebody's card in the recipient's name.",
        error,
        fields(world.impostor.sign(card).bytes()),
    );

    made.keep("card.json", |vector| {
        let card =
            card::check(&field(vector, "card"), world.genesis.anchors(), time(vector, "at")).map_err(show)?;
        assert_eq!(card.payload().sealing_key, world.recipient.sealing.public());
        Ok(())
    });
}
