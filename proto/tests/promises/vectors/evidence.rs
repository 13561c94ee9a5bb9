//! NRO, NRR, withdrawal and refusal.

use fairpost_proto::cose::Signed;
use fairpost_proto::evidence::{self, Answer, Nro, Nrr, Refusal, Withdrawal};
use fairpost_proto::ids::{ClusterId, Digest, Protocol, Timestamp, Verdict};
use fairpost_proto::view::View;
use serde_json::{Value, json};

use super::envelope::Envelope;
use super::terms::terms_values;
use super::{Made, bytes as field, bytes_or_null, faults, hex_or_null, show, time};
use crate::item::{Item, bytes, text};
use crate::world::{CREATED, SENDER, World, after, genesis_with_an_anchor_until, now, world};

/// The genesis with this name in `genesis.json`.
fn view(name: &str) -> View {
    match name {
        "four" => world().genesis.clone(),
        "brief-anchor" => genesis_with_an_anchor_until((2026, 6, 5)),
        other => panic!("no view {other}"),
    }
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

fn judge_evidence(vector: &Value) -> Result<(), String> {
    let verdict = Verdict::from_code(vector["verdict"].as_u64().unwrap() as u8).unwrap();
    let evidence = bytes_or_null(vector, "evidence");
    let (nro, at) = (field(vector, "nro"), time(vector, "at"));
    let view = view(vector["view"].as_str().unwrap());
    let checked = evidence::check(&view, verdict, &nro, evidence.as_deref(), at).map_err(show)?;
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

    let late = world.late.sign(nro.payload().clone());
    let meaning =
        "The sender's certificate begins within the exchange, and the expiry is recorded after that.";
    made.valid(
        "expiry-late-certificate",
        meaning,
        command(Verdict::Expired, late.bytes(), None, after(3 * 86_400)),
    );

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
    let renewed = world.ca.person(SENDER, 0x15, |_| {}).sign(payload.clone());
    alone(
        "nro-by-other-key-of-sender",
        "Signed with another key that has a certificate as good.",
        renewed.bytes(),
        now(),
        "NRO: signed by key",
    );
    let short = world.short.sign(payload.clone());
    alone(
        "nro-certificate-too-short",
        "It must outlive the exchange.",
        short.bytes(),
        now(),
        "the sender's certificate ends at 2026-06-05T00:00:00Z, before the terms expire",
    );
    alone(
        "nro-certificate-not-yet",
        "Recorded before the sender's certificate begins, which is valid at the deadline.",
        world.late.sign(payload.clone()).bytes(),
        now(),
        "is valid from 2026-06-04T00:00:00Z on, and it is 2026-06-01T13:00:00Z",
    );
    alone(
        "nro-certificate-after-deadline",
        "Recorded when the sender's certificate is valid, which it was not at the deadline.",
        world.later.sign(payload).bytes(),
        after(60 * 86_400),
        "is valid from 2026-07-01T00:00:00Z on, and it is 2026-06-08T12:00:00Z",
    );
    let other = world.nro(|terms| terms.sender.address = world.impostor.address.clone());
    alone(
        "nro-other-address",
        "A certificate for another address.",
        other.bytes(),
        now(),
        "the certificate is for [\"sender@example.org\"], not for \"impostor@example.org\"",
    );

    let brief = world.nro(|terms| terms.cluster = view("brief-anchor").cluster());
    let mut fields = command(Verdict::Expired, brief.bytes(), None, now());
    fields["view"] = "brief-anchor".into();
    made.invalid(
        "nro-anchor-ends-first",
        "The anchor is valid when it is recorded, and over at the deadline.",
        "was valid until 2026-06-05T00:00:00Z, and it is 2026-06-08T12:00:00Z",
        fields,
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
