//! What people sign: terms, evidence, requests, cards, and the header of a sealed mail.

use fairpost_proto::card::{self, Card};
use fairpost_proto::cose::Signed;
use fairpost_proto::evidence::{self, Answer, Nro, Nrr, Refusal, Withdrawal};
use fairpost_proto::ids::{ClusterId, Digest, ExchangeId, KeyId, Protocol, Timestamp, Verdict};
use fairpost_proto::request::{self, Method, Request};
use fairpost_proto::terms::Terms;
use fairpost_proto::{chain, letter};
use serde_json::{Value, json};

use super::envelope::Envelope;
use super::faults::{self, Fault, fault};
use super::{Made, bytes as field, bytes_or_null, hex_or_null, same, show};
use crate::item::{Item, bytes, raw, text};
use crate::world::{CREATED, EXPIRES, World, after, expires, now, world};

fn terms_of(change: impl FnOnce(&mut fairpost_proto::terms::Fields)) -> Terms {
    let mut fields = world().fields();
    change(&mut fields);
    Terms::new(fields).unwrap()
}

/// Everything that can be wrong with the values of terms.
fn terms_values(terms: &Item) -> Vec<Fault> {
    let party = |address: &str, key: Item| Item::Array(vec![text(address), key]);
    let key = || bytes([1; 32]);
    let no_address = "is no address: expected local@domain in ASCII";
    let long = format!("a@{}.org", "b".repeat(249));
    let later = "is not after their creation at";
    let times = "expected a time before the year 10000";
    let of = |values| faults::values(terms, values);
    let mut found = of(vec![
        ("protocol-0", "No such protocol.", 1, Item::Uint(0), "the protocol is 0, expected 1 (CMP1) or 2"),
        ("protocol-3", "No such protocol.", 1, Item::Uint(3), "the protocol is 3, expected 1 (CMP1) or 2"),
        ("protocol-258", "2, if one looks at one byte only.", 1, Item::Uint(258), "the protocol is 258"),
        ("cluster-short", "31 bytes.", 2, bytes([1; 31]), "the cluster id has length 31, expected 32 bytes"),
        ("cluster-long", "33 bytes.", 2, bytes([1; 33]), "the cluster id has length 33, expected 32 bytes"),
        ("nonce-short", "15 bytes.", 3, bytes([1; 15]), "the nonce has length 15, expected 16 bytes"),
        ("nonce-text", "Text for bytes.", 3, text("0123456789abcdef"), "a byte string expected"),
        (
            "sender-without-key",
            "An array of one.",
            4,
            Item::Array(vec![text("a@b.org")]),
            "the sender has length 1",
        ),
        ("sender-null-key", "Null for the key.", 4, party("a@b.org", Item::Null), "a byte string expected"),
        (
            "sender-short-key",
            "31 bytes.",
            4,
            party("a@b.org", bytes([1; 31])),
            "the sender's key id has length 31",
        ),
        ("sender-upper-case", "An upper-case domain.", 4, party("a@Example.org", key()), no_address),
        ("sender-no-at", "No address.", 4, party("example.org", key()), no_address),
        ("sender-unicode", "Not ASCII.", 4, party("jörg@example.org", key()), no_address),
        ("sender-display-name", "With a name.", 4, party("A <a@example.org>", key()), no_address),
        ("sender-line-end", "Two lines.", 4, party("a@b.org\r\nTo: c@d.org", key()), no_address),
        ("sender-empty", "No text at all.", 4, party("", key()), no_address),
        ("recipient-long", "255 bytes.", 5, party(&long, key()), "an address has length 255"),
        (
            "recipient-key-missing",
            "CMP2 without it.",
            5,
            party("a@b.org", Item::Null),
            "CMP2 needs the recipient's key",
        ),
        (
            "recipient-long-key",
            "33 bytes.",
            5,
            party("a@b.org", bytes([1; 33])),
            "the recipient's key id has length 33",
        ),
        (
            "recipient-three",
            "An array of three.",
            5,
            Item::Array(vec![Item::Null; 3]),
            "the recipient has length 3",
        ),
        ("content-short", "31 bytes.", 6, bytes([1; 31]), "the content's digest has length 31"),
        ("created-negative", "Before 1970.", 7, Item::Negative(0), "an unsigned integer expected"),
        ("created-float", "A float.", 7, raw(&[0xf9, 0x3c, 0]), "is not the shortest definite one"),
        (
            "created-tagged",
            "A tagged time.",
            7,
            Item::Tag(1, Box::new(Item::Uint(CREATED))),
            "an unsigned integer expected",
        ),
        (
            "created-long",
            "A number with a zero in front.",
            7,
            raw(&[0x1b, 0, 0, 0, 0, 0x6a, 0, 0, 0]),
            "is not the shortest",
        ),
        ("expires-at-once", "No lifetime.", 8, Item::Uint(CREATED), later),
        ("expires-before", "It ends before it begins.", 8, Item::Uint(CREATED - 1), later),
        ("expires-year-10000", "One second too late.", 8, Item::Uint(253_402_300_800), times),
        ("expires-greatest", "2^64 - 1.", 8, Item::Uint(u64::MAX), times),
    ]);
    found.push(fault(
        "sender-no-utf-8",
        "Text that is not UTF-8.",
        "UTF-8 text expected",
        terms.with(4, Item::Array(vec![raw(&[0x63, 0xff, 0x40, 0x62]), key()])).encode(),
    ));
    found
}

#[test]
fn terms_are_taken_as_in_the_vectors() {
    let mut made = Made::default();
    let mut valid = |name: &str, meaning: &str, terms: Terms| {
        let exchange = terms.exchange().to_string();
        made.valid(name, meaning, json!({ "terms": hex::encode(terms.bytes()), "exchange": exchange }));
    };
    let cmp2 = terms_of(|_| {});
    valid("cmp2", "The default: CMP2, for a week.", cmp2.clone());
    valid("cmp1", "CMP1 that names the recipient's key.", terms_of(|terms| terms.protocol = Protocol::Cmp1));
    let open = terms_of(|terms| (terms.protocol, terms.recipient.key) = (Protocol::Cmp1, None));
    valid("cmp1-any-key", "CMP1 for whoever has a certificate for the address.", open);
    let times = |created: u64, expires: Timestamp| {
        terms_of(|terms| {
            terms.created = Timestamp::from_seconds(created).unwrap();
            terms.expires = expires;
        })
    };
    valid("shortest", "A second, the first.", times(0, Timestamp::from_seconds(1).unwrap()));
    let last = Timestamp::from_seconds(253_402_300_799).unwrap();
    valid("longest", "From the first second to the last of the year 9999.", times(0, last));

    let item = Item::decode(cmp2.bytes());
    let fields = |bytes: &[u8]| json!({ "terms": hex::encode(bytes) });
    made.faults("", faults::tagged(&item), fields);
    made.faults("", terms_values(&item), fields);
    made.keep("terms.json", |vector| {
        let bytes = field(vector, "terms");
        let terms = Terms::parse(&bytes).map_err(show)?;
        assert_eq!(terms.bytes(), bytes);
        same(vector, "exchange", terms.exchange())
    });
}

/// A command as a vector.
fn command(verdict: Verdict, nro: &[u8], evidence: Option<&[u8]>, at: Timestamp) -> Value {
    json!({
        "view": "four",
        "verdict": verdict.code(),
        "nro": hex::encode(nro),
        "evidence": hex_or_null(evidence),
        "at": at.millis(),
    })
}

fn time(vector: &Value, field: &str) -> Timestamp {
    Timestamp::from_millis(vector[field].as_u64().unwrap()).unwrap()
}

fn judge_evidence(vector: &Value) -> Result<(), String> {
    let verdict = Verdict::from_code(vector["verdict"].as_u64().unwrap() as u8).unwrap();
    let evidence = bytes_or_null(vector, "evidence");
    let (nro, at) = (field(vector, "nro"), time(vector, "at"));
    let checked = evidence::check(&world().genesis, verdict, &nro, evidence.as_deref(), at).map_err(show)?;
    assert_eq!((checked.verdict, checked.nro.digest()), (verdict, Digest::of(&nro)));
    assert_eq!(checked.evidence, evidence.as_deref().map(Digest::of));
    Ok(())
}

#[test]
fn evidence_is_taken_as_in_the_vectors() {
    let (world, mut made) = (world(), Made::default());
    valid_evidence(world, &mut made);
    let nro = world.nro(|_| {});
    let receipt = world.answer(Verdict::Released, &nro).unwrap();

    let opened = Envelope::open(nro.bytes(), &world.sender.key);
    assert_eq!(opened.sign(), nro.bytes(), "taken apart and put together");
    let expiry = |bytes: &[u8]| command(Verdict::Expired, bytes, None, now());
    made.faults("nro-", opened.faults(), expiry);
    made.faults("nro-payload-", opened.payload_faults(), expiry);
    let mut values = faults::values(
        &opened.payload,
        vec![
            ("sealed-short", "31 bytes.", 2, bytes([1; 31]), "the sealed mail's digest has length 31"),
            (
                "terms-map",
                "Terms as a map, not as bytes.",
                1,
                Item::decode(nro.payload().terms.bytes()),
                "a byte string",
            ),
            ("terms-empty", "Empty terms.", 1, bytes([]), "the bytes end at 0"),
        ],
    );
    for mut fault in terms_values(&Item::decode(nro.payload().terms.bytes())) {
        fault.bytes = opened.payload.with(1, bytes(&fault.bytes)).encode();
        fault.name = format!("terms-{}", fault.name);
        values.push(fault);
    }
    opened.resign(&mut values);
    made.faults("nro-", values, expiry);

    let opened = Envelope::open(&receipt, &world.recipient.key);
    let released = |bytes: &[u8]| command(Verdict::Released, nro.bytes(), Some(bytes), now());
    made.faults("receipt-", opened.faults(), released);
    made.faults("receipt-payload-", opened.payload_faults(), released);
    let mut values = faults::values(
        &opened.payload,
        vec![
            ("exchange-short", "31 bytes.", 1, bytes([1; 31]), "the exchange id has length 31"),
            ("exchange-other", "Another exchange.", 1, bytes([1; 32]), "receipt: it is for exchange 0101"),
            ("nro-short", "31 bytes.", 2, bytes([1; 31]), "the NRO's digest has length 31"),
            ("nro-other", "Another NRO.", 2, bytes([1; 32]), "receipt: it answers the NRO 0101"),
        ],
    );
    opened.resign(&mut values);
    made.faults("receipt-", values, released);

    mixed_up(world, &mut made, &nro);
    against_the_rules(world, &mut made, &nro);
    made.keep("evidence.json", judge_evidence);
}

fn valid_evidence(world: &World, made: &mut Made) {
    let nro = world.nro(|_| {});
    for (verdict, name, meaning) in [
        (Verdict::Released, "receipt", "The recipient's receipt, NRR."),
        (Verdict::Withdrawn, "withdrawal", "The sender's withdrawal."),
        (Verdict::Refused, "refusal", "The recipient's refusal."),
        (Verdict::Expired, "expiry", "Nothing but the NRO."),
    ] {
        let evidence = world.answer(verdict, &nro);
        made.valid(name, meaning, command(verdict, nro.bytes(), evidence.as_deref(), now()));
    }
    let years_later = after(40 * 365 * 86_400);
    let meaning = "An expiry years later, when the sender's certificate is long over.";
    made.valid("expiry-years-later", meaning, command(Verdict::Expired, nro.bytes(), None, years_later));

    let open = world.nro(|terms| (terms.protocol, terms.recipient.key) = (Protocol::Cmp1, None));
    let receipt = world.renewed.sign(Nrr(Answer::to(&open)));
    let meaning = "CMP1 without a key id: any valid certificate for the address will do.";
    made.valid(
        "receipt-any-key",
        meaning,
        command(Verdict::Released, open.bytes(), Some(receipt.bytes()), now()),
    );
}

/// One kind offered for another.
fn mixed_up(world: &World, made: &mut Made, nro: &Signed<Nro>) {
    let answer = Answer::to(nro);
    let receipt = world.recipient.sign(Nrr(answer));
    let refusal = world.recipient.sign(Refusal(answer));
    let withdrawal = world.sender.sign(Withdrawal(answer));
    let mut offered = |name: &str, meaning: &str, verdict: Verdict, evidence: &[u8], error: &str| {
        made.invalid(name, meaning, error, command(verdict, nro.bytes(), Some(evidence), now()));
    };
    let typ = |kind: &str| format!("this is of type \"application/vnd.fairpost.{kind}+cose\", expected");
    let released = Verdict::Released;
    offered("refusal-as-receipt", "A refusal never releases.", released, refusal.bytes(), &typ("refusal"));
    offered(
        "withdrawal-as-receipt",
        "Nor does a withdrawal.",
        released,
        withdrawal.bytes(),
        &typ("withdrawal"),
    );
    offered("nro-as-receipt", "Nor does the NRO itself.", released, nro.bytes(), &typ("nro"));
    offered(
        "receipt-as-refusal",
        "A receipt refuses nothing.",
        Verdict::Refused,
        receipt.bytes(),
        &typ("nrr"),
    );
    offered("receipt-as-withdrawal", "Nor withdraws.", Verdict::Withdrawn, receipt.bytes(), &typ("nrr"));
    offered(
        "refusal-as-withdrawal",
        "A refusal is the recipient's.",
        Verdict::Withdrawn,
        refusal.bytes(),
        &typ("refusal"),
    );

    let mut half = Envelope::open(refusal.bytes(), &world.recipient.key);
    *half.protected.at(16) = text("application/vnd.fairpost.nrr+cose");
    let error = "this is \"fairpost/refusal/v1\", expected \"fairpost/nrr/v1\"";
    offered("refusal-with-receipts-typ", "The tag counts as well as the typ.", released, &half.sign(), error);
    let mut half = Envelope::open(refusal.bytes(), &world.recipient.key);
    *half.payload.at(0) = text("fairpost/nrr/v1");
    offered(
        "refusal-with-receipts-tag",
        "The typ counts as well as the tag.",
        released,
        &half.sign(),
        &typ("refusal"),
    );

    let error = "NRO: this is of type \"application/vnd.fairpost.nrr+cose\"";
    made.invalid(
        "receipt-as-nro",
        "A receipt is no NRO.",
        error,
        command(Verdict::Expired, receipt.bytes(), None, now()),
    );
    let error = "a command of kind expiry comes with evidence";
    let fields = command(Verdict::Expired, nro.bytes(), Some(receipt.bytes()), now());
    made.invalid("expiry-with-evidence", "An expiry needs none.", error, fields);
    for (verdict, kind) in
        [(Verdict::Released, "receipt"), (Verdict::Withdrawn, "withdrawal"), (Verdict::Refused, "refusal")]
    {
        let error = format!("a command of kind {kind} comes without evidence");
        let fields = command(verdict, nro.bytes(), None, now());
        made.invalid(&format!("{kind}-missing"), "It takes the evidence.", &error, fields);
    }
}

/// Well-formed and well-signed, and yet it does not count.
fn against_the_rules(world: &World, made: &mut Made, nro: &Signed<Nro>) {
    let mut alone = |name: &str, meaning: &str, nro: &[u8], at: Timestamp, error: &str| {
        made.invalid(name, meaning, error, command(Verdict::Expired, nro, None, at));
    };
    let foreign = world.nro(|terms| terms.cluster = ClusterId::new([9; 32]));
    alone(
        "nro-other-cluster",
        "Of another cluster.",
        foreign.bytes(),
        now(),
        "the terms are for cluster 0909",
    );
    let brief = world.nro(|terms| terms.expires = after(299));
    alone("nro-too-brief", "Shorter than the view allows.", brief.bytes(), now(), "would last 299 s");
    let long = world.nro(|terms| terms.expires = after(90 * 86_400 + 1));
    alone("nro-too-long", "Longer than the view allows.", long.bytes(), now(), "would last 7776001 s");
    let early = Timestamp::from_millis(CREATED * 1000 - 10_001).unwrap();
    alone(
        "nro-created-later",
        "Made later than now.",
        nro.bytes(),
        early,
        "the terms were created at 2026-06-01T12:00:00Z, but it is only 2026-06-01T11:59:49.999Z",
    );
    let payload = nro.payload().clone();
    let stranger = world.impostor.sign(payload.clone());
    alone("nro-by-other-key", "Signed by another.", stranger.bytes(), now(), "NRO: signed by key");
    let short = world.short.sign(payload);
    alone(
        "nro-certificate-too-short",
        "It must outlive the exchange.",
        short.bytes(),
        now(),
        "the sender's certificate ends at 2026-06-05T00:00:00Z, before the terms expire",
    );
    let other = world.nro(|terms| terms.sender.address = world.impostor.address.clone());
    alone(
        "nro-other-address",
        "A certificate for another address.",
        other.bytes(),
        now(),
        "the certificate is for [\"sender@example.org\"], not for \"impostor@example.org\"",
    );

    let receipt = Nrr(Answer::to(nro));
    let mut receipts = |name: &str, meaning: &str, receipt: &[u8], at: Timestamp, error: &str| {
        made.invalid(name, meaning, error, command(Verdict::Released, nro.bytes(), Some(receipt), at));
    };
    let error = "receipt: signed by key";
    receipts(
        "receipt-by-other-key",
        "Another key with a certificate as good.",
        world.renewed.sign(receipt).bytes(),
        now(),
        error,
    );
    receipts("receipt-by-sender", "Signed by the sender.", world.sender.sign(receipt).bytes(), now(), error);
    let error = "was valid until 2026-05-01T00:00:00Z, and it is 2026-06-01T13:00:00Z";
    receipts("receipt-expired", "An expired certificate.", world.expired.sign(receipt).bytes(), now(), error);
    let error = "is valid from 2026-07-01T00:00:00Z on";
    receipts(
        "receipt-not-yet",
        "A certificate of the future.",
        world.early.sign(receipt).bytes(),
        now(),
        error,
    );
    let error = "do not lead to trust anchor \"CN=CA\"";
    receipts(
        "receipt-foreign-authority",
        "Issued by one whom the view does not name.",
        world.foreign.sign(receipt).bytes(),
        now(),
        error,
    );
    let mut swapped = Envelope::open(world.recipient.sign(receipt).bytes(), &world.recipient.key);
    *swapped.protected.at(33) = bytes(world.impostor.certificate());
    receipts(
        "receipt-other-certificate",
        "Somebody else's certificate.",
        &swapped.sign(),
        now(),
        "receipt: signed by key",
    );

    let withdrawal = Withdrawal(Answer::to(nro));
    let by_recipient = world.recipient.sign(withdrawal);
    let fields = command(Verdict::Withdrawn, nro.bytes(), Some(by_recipient.bytes()), now());
    made.invalid(
        "withdrawal-by-recipient",
        "Only the sender withdraws.",
        "withdrawal: signed by key",
        fields,
    );
    let refusal = world.sender.sign(Refusal(Answer::to(nro)));
    let fields = command(Verdict::Refused, nro.bytes(), Some(refusal.bytes()), now());
    made.invalid("refusal-by-sender", "Only the recipient refuses.", "refusal: signed by key", fields);

    let open = world.nro(|terms| (terms.protocol, terms.recipient.key) = (Protocol::Cmp1, None));
    let other = world.impostor.sign(Nrr(Answer::to(&open)));
    let fields = command(Verdict::Released, open.bytes(), Some(other.bytes()), now());
    let error = "the certificate is for [\"impostor@example.org\"], not for \"recipient@example.org\"";
    made.invalid("receipt-any-key-other-address", "Any key, but not any address.", error, fields);
}

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

#[test]
fn headers_of_sealed_mails_are_taken_as_in_the_vectors() {
    let (world, mut made) = (world(), Made::default());
    let nro = world.nro(|_| {});
    let header = letter::write_header(&nro);
    let fields = |bytes: &[u8]| json!({ "header": hex::encode(bytes) });
    let good = json!({ "header": hex::encode(&header), "nro": nro.digest().to_string() });
    made.valid("header", "The sender's NRO.", good);
    let item = Item::decode(&header);
    made.faults("", faults::tagged(&item), fields);
    let receipt = world.answer(Verdict::Released, &nro).unwrap();
    let values = faults::values(
        &item,
        vec![
            ("nro-null", "No NRO.", 1, Item::Null, "a byte string expected"),
            (
                "nro-cut",
                "An NRO cut short.",
                1,
                bytes(&nro.bytes()[..100]),
                "the sealed mail's NRO: malformed: the bytes end at",
            ),
            ("receipt-as-nro", "A receipt.", 1, bytes(&receipt), "the sealed mail's NRO: this is of type"),
        ],
    );
    made.faults("", values, fields);
    made.keep("letter.json", |vector| {
        let nro = letter::parse_header(&field(vector, "header")).map_err(show)?;
        same(vector, "nro", nro.digest())
    });
}

#[test]
fn the_worlds_names_are_what_they_seem() {
    let world = world();
    assert_eq!(expires().seconds(), EXPIRES);
    let recipient: KeyId = world.recipient.key_id();
    assert_eq!(world.expired.key_id(), recipient);
    assert_ne!(world.renewed.key_id(), recipient);
    assert_eq!(recipient, chain::key_id(&world.recipient.key.verifying_key()));
    assert_ne!(world.cmp1.id(), ExchangeId::new([0; 32]));
}
