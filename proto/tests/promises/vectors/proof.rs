//! Proof files and what the judge says of them, with and without the mail.

use fairpost_proto::ids::{Digest, Verdict};
use fairpost_proto::leaf::Leaf;
use fairpost_proto::proof::{Claim, Proof};
use fairpost_proto::sealed;
use fairpost_proto::threshold::Message;
use fairpost_proto::trust::Trust;
use fairpost_proto::verify::Opening;
use fairpost_proto::vote::Certificate;
use serde_json::{Value, json};

use super::faults;
use super::trust::off_subgroup_g2;
use super::{Made, bytes as field, bytes_or_null, hex_or_null, same};
use crate::item::{Item, bytes, text};
use crate::world::{
    Exchange, MAIL, World, after, expires, genesis_with_an_anchor_until, judge, now, token_of, world,
};

fn fields(proof: &[u8], container: Option<&[u8]>) -> Value {
    json!({ "trust": "genesis", "proof": hex::encode(proof), "mail": hex_or_null(container) })
}

fn opening(opening: &Opening) -> String {
    match opening {
        Opening::Shown { bytes } => format!("shown, {bytes} bytes"),
        Opening::NotShown => "not shown".to_owned(),
        Opening::Fraud(_) => "fraud".to_owned(),
    }
}

/// A proof of delivery whose claim is fraud.
fn fraud(world: &World, exchange: &Exchange) -> Vec<u8> {
    Proof { claim: Claim::Fraud, ..world.proof(exchange, Verdict::Released) }.to_bytes()
}

#[test]
fn sealed_mails_lie_in_the_vectors() {
    let (world, mut made) = (world(), Made::default());
    for (name, meaning, exchange) in [
        ("cmp1", "A mail in CMP1.", &world.cmp1),
        ("cmp2", "A mail in CMP2.", &world.cmp2),
        ("cmp1-other-content", "CMP1, other content than the terms commit to.", &world.garbage1),
        ("cmp2-other-content", "CMP2, other content than the terms commit to.", &world.garbage2),
        ("cmp1-other-lock", "CMP1, a lock that the release token does not open.", &world.unopenable),
    ] {
        let lock = exchange.disclosure.as_ref().map(|lock| lock.to_bytes());
        let lock = hex_or_null(lock.as_ref().map(|lock| &lock[..]));
        let fields = json!({
            "terms": hex::encode(exchange.nro.payload().terms.bytes()),
            "digest": exchange.nro.payload().sealed.to_string(),
            "body": hex::encode(exchange.body()),
            "disclosed_lock": lock,
        });
        made.valid(name, meaning, fields);
    }
    made.keep("mails.json", |vector| {
        let terms = fairpost_proto::terms::Terms::parse(&field(vector, "terms")).unwrap();
        let body = field(vector, "body");
        let stanza = sealed::inspect(&body[..], terms.protocol, terms.exchange()).unwrap();
        for person in [&world.sender, &world.recipient] {
            let lock = stanza.lock_for(&person.sealing).unwrap();
            if let Some(disclosed) = bytes_or_null(vector, "disclosed_lock") {
                assert_eq!(lock.to_bytes()[..], disclosed);
            }
        }
        same(vector, "digest", Digest::of(&body))
    });
}

#[test]
fn proofs_convince_as_in_the_vectors() {
    let (world, mut made) = (world(), Made::default());
    convincing(world, &mut made);
    malformed(world, &mut made);
    broken(world, &mut made);
    opened_badly(world, &mut made);
    made.keep("proof.json", |vector| {
        let bytes = field(vector, "proof");
        let report = judge(&bytes, &world.trust, bytes_or_null(vector, "mail").as_deref())?;
        assert_eq!(Proof::parse(&bytes).unwrap().to_bytes(), bytes);
        same(vector, "verdict", report.verdict)?;
        same(vector, "opening", opening(&report.opening))
    });
}

fn convincing(world: &World, made: &mut Made) {
    let mut valid =
        |name: &str, meaning: &str, proof: &[u8], mail: Option<&Exchange>, says: (Verdict, &str)| {
            let mut fields = fields(proof, mail.map(|exchange| &exchange.container[..]));
            fields["verdict"] = says.0.to_string().into();
            fields["opening"] = says.1.into();
            made.valid(name, meaning, fields);
        };
    let (cmp1, cmp2) = (&world.cmp1, &world.cmp2);
    let shown = format!("shown, {} bytes", MAIL.len());
    let released = |exchange| world.proof(exchange, Verdict::Released).to_bytes();
    let yes = Verdict::Released;
    valid("cmp1-shown", "Delivered, and this was in it.", &released(cmp1), Some(cmp1), (yes, &shown));
    valid("cmp2-shown", "Delivered, and this was in it.", &released(cmp2), Some(cmp2), (yes, &shown));
    valid("cmp1-not-shown", "Accepted, content not shown.", &released(cmp1), None, (yes, "not shown"));
    let closed = Proof { disclosure: None, ..world.proof(cmp2, yes) }.to_bytes();
    valid(
        "cmp2-not-shown",
        "Accepted, content not shown, nor to be opened with this.",
        &closed,
        None,
        (yes, "not shown"),
    );
    for (verdict, name) in
        [(Verdict::Withdrawn, "withdrawn"), (Verdict::Refused, "refused"), (Verdict::Expired, "expired")]
    {
        let proof = world.proof(cmp2, verdict).to_bytes();
        valid(name, "Such a verdict.", &proof, None, (verdict, "not shown"));
    }
    let just = Proof::to_bytes(&world.proof_of(cmp1, yes, world.answer(yes, &cmp1.nro), last_moment()));
    valid("released-last-moment", "A millisecond before the deadline.", &just, None, (yes, "not shown"));
    let late = world.proof_of(cmp1, Verdict::Refused, world.answer(Verdict::Refused, &cmp1.nro), expires());
    valid(
        "refused-late",
        "A refusal counts at any time.",
        &late.to_bytes(),
        None,
        (Verdict::Refused, "not shown"),
    );
    for (name, meaning, exchange) in [
        ("fraud-cmp1", "The sender sealed other content than it signed.", &world.garbage1),
        ("fraud-cmp2", "The sender sealed other content than it signed.", &world.garbage2),
        ("fraud-lock", "The sender's lock does not open.", &world.unopenable),
    ] {
        valid(name, meaning, &fraud(world, exchange), Some(exchange), (yes, "fraud"));
    }
}

fn last_moment() -> fairpost_proto::ids::Timestamp {
    fairpost_proto::ids::Timestamp::from_millis(expires().millis() - 1).unwrap()
}

fn malformed(world: &World, made: &mut Made) {
    let fields = |bytes: &[u8]| fields(bytes, None);
    let good = Item::decode(&world.proof(&world.cmp2, Verdict::Released).to_bytes());
    made.faults("", faults::encoding(&good), fields);
    let mut identity = [0; 96];
    identity[0] = 0xc0;
    let mut lock = [0; 80];
    lock[0] = 0xc0;
    let values = vec![
        (
            "tag-other",
            "Another kind.",
            0,
            text("fairpost/trust/v1"),
            "this is \"fairpost/trust/v1\", expected \"fairpost/proof/v1 or fairpost/fraud/v1\"",
        ),
        ("trust-null", "No trust.", 1, Item::Null, "a byte string expected"),
        (
            "trust-cut",
            "A trust file cut short.",
            1,
            bytes(&world.trust.to_bytes()[..400]),
            "proof: trust: the bytes end at",
        ),
        ("nro-null", "No NRO.", 2, Item::Null, "a byte string expected"),
        ("certificate-empty", "No certificate.", 4, bytes([]), "proof: certificate: the bytes end at 0"),
        ("token-null", "Votes without a token.", 5, Item::Null, "a byte string expected"),
        (
            "token-empty",
            "Votes without a token.",
            5,
            bytes([]),
            "proof: the token: a token has 96 bytes, not 0",
        ),
        (
            "token-identity",
            "The identity for a token.",
            5,
            bytes(identity),
            "proof: the token: the identity point is no token",
        ),
        (
            "token-off-subgroup",
            "A point outside the subgroup.",
            5,
            bytes(off_subgroup_g2()),
            "outside the prime-order subgroup",
        ),
        ("token-share", "95 bytes.", 5, bytes([0x80; 95]), "proof: the token: a token has 96 bytes, not 95"),
        (
            "lock-short",
            "79 bytes.",
            6,
            bytes([0x80; 79]),
            "proof: the disclosed lock: a lock has 80 bytes, not 79",
        ),
        (
            "lock-identity",
            "The identity for U.",
            6,
            bytes(lock),
            "proof: the disclosed lock: the lock's U: the identity",
        ),
    ];
    made.faults("", faults::values(&good, values), fields);
}

/// Steps 1 to 5, broken one at a time.
fn broken(world: &World, made: &mut Made) {
    let mut refused = |name: &str, meaning: &str, error: &str, proof: &Proof| {
        made.invalid(name, meaning, error, fields(&proof.to_bytes(), None));
    };
    let (cmp1, cmp2) = (&world.cmp1, &world.cmp2);
    let good = || world.proof(cmp2, Verdict::Released);
    let released = Verdict::Released;
    let foreign = foreign_trust(world);
    let error =
        format!("trust: the proof is of cluster {}, and you trust {}", foreign.cluster(), world.cluster());
    refused(
        "other-cluster",
        "A cluster that the judge does not trust.",
        &error,
        &Proof { trust: foreign, ..good() },
    );
    let sister = sister_proof(world);
    let error = format!("trust: the proof is of cluster {}", sister.trust.cluster());
    refused("other-genesis", "A cluster with the trusted one's key, and another genesis.", &error, &sister);
    refused(
        "nro-swapped",
        "Another exchange's NRO.",
        "evidence: receipt: it is for exchange",
        &Proof { nro: cmp1.nro.bytes().to_vec(), ..good() },
    );
    refused(
        "nro-cut",
        "An NRO cut short.",
        "NRO: NRO: malformed: the bytes end at",
        &Proof { nro: cmp2.nro.bytes()[..99].to_vec(), ..good() },
    );
    refused(
        "receipt-missing",
        "No receipt.",
        "evidence: a command of kind receipt comes without evidence",
        &Proof { evidence: None, ..good() },
    );
    let refusal = world.answer(Verdict::Refused, &cmp2.nro);
    refused(
        "refusal-as-receipt",
        "A refusal for a receipt.",
        "evidence: receipt: this is of type \"application/vnd.fairpost.refusal+cose\"",
        &Proof { evidence: refusal, ..good() },
    );
    let elsewhere = world.answer(released, &cmp1.nro);
    refused(
        "receipt-swapped",
        "Another exchange's receipt.",
        "evidence: receipt: it is for exchange",
        &Proof { evidence: elsewhere, ..good() },
    );
    let other = world.proof(cmp1, released).certificate;
    refused(
        "certificate-swapped",
        "Another exchange's certificate.",
        "certificate: the leaf is for exchange",
        &Proof { certificate: other, ..good() },
    );
    let leaf = *good().certificate.leaf();
    let voted_for = |leaf| world.certificate(leaf, &[0, 1, 2]);
    let other = Leaf { exchange: cmp1.id(), ..leaf };
    refused(
        "leaf-other-exchange",
        "The votes are for the same, in another exchange.",
        "certificate: the leaf is for exchange",
        &Proof { certificate: voted_for(other), token: world.token(released, cmp1.id()), ..good() },
    );
    let other = Leaf { nro: cmp1.nro.digest(), ..leaf };
    refused(
        "leaf-other-nro",
        "The votes are for another NRO.",
        "certificate: the leaf names NRO",
        &Proof { certificate: voted_for(other), ..good() },
    );
    let other = Leaf { evidence: Some(cmp1.nro.digest()), ..leaf };
    refused(
        "leaf-other-evidence",
        "The votes are for another receipt.",
        "certificate: the leaf names evidence",
        &Proof { certificate: voted_for(other), ..good() },
    );
    let late = world.proof_of(cmp2, released, world.answer(released, &cmp2.nro), expires());
    refused(
        "late",
        "Released at the deadline.",
        "Released is recorded for 2026-06-08T12:00:00Z, which is not before the deadline 2026-06-08T12:00:00Z",
        &late,
    );
    let due = expires().plus(world.genesis.parameters().grace).millis();
    let early = fairpost_proto::ids::Timestamp::from_millis(due - 1).unwrap();
    let early = world.proof_of(cmp2, Verdict::Expired, None, early);
    refused(
        "early",
        "Expired a millisecond early.",
        "Expired is recorded for 2026-06-08T12:00:29.999Z, before deadline and grace passed at 2026-06-08T12:00:30Z",
        &early,
    );
    let few = world.certificate(*good().certificate.leaf(), &[0, 1]);
    refused(
        "two-votes",
        "One vote too few.",
        "certificate: 2 votes, and it takes 3",
        &Proof { certificate: few, ..good() },
    );
    for (name, meaning, token) in [
        ("token-refused", "A token for another verdict.", world.token(Verdict::Refused, cmp2.id())),
        ("token-other", "A token for another exchange.", world.token(released, cmp1.id())),
    ] {
        refused(name, meaning, "token: for Released of exchange", &Proof { token, ..good() });
    }
    let unseen = "opening: fraud is claimed, and it takes the sealed mail to see it";
    refused(
        "fraud-unseen",
        "Fraud is claimed, and no mail is shown.",
        unseen,
        &Proof { claim: Claim::Fraud, ..good() },
    );
    let before = world.proof_of(cmp2, released, world.answer(released, &cmp2.nro), before_certificates());
    refused(
        "before-creation",
        "Recorded before the terms were made.",
        "NRO: the terms were created at",
        &before,
    );
}

fn before_certificates() -> fairpost_proto::ids::Timestamp {
    fairpost_proto::ids::Timestamp::from_seconds(after(0).seconds() - 3600).unwrap()
}

/// The trust in a cluster of the same servers with another key.
pub(crate) fn foreign_trust(world: &World) -> Trust {
    let (commitment, shares) = crate::world::foreign_deal();
    let body = crate::world::constitution(&world.members, &commitment, &world.ca);
    let genesis = fairpost_proto::view::View::genesis("vectors", body).unwrap();
    let token = crate::world::token_of(&shares, &genesis.message());
    Trust::new(genesis, token).unwrap()
}

/// A proof that would hold, of a cluster of the same servers and key, whose genesis is another.
fn sister_proof(world: &World) -> Proof {
    let genesis = genesis_with_an_anchor_until((2026, 6, 9));
    let cluster = genesis.cluster();
    let nro = world.nro(|terms| terms.cluster = cluster);
    let evidence = world.answer(Verdict::Released, &nro);
    let exchange = nro.payload().terms.exchange();
    let leaf = Leaf {
        exchange,
        nro: nro.digest(),
        evidence: evidence.as_deref().map(Digest::of),
        ..world.leaf(Verdict::Released)
    };
    let votes = (0..3).map(|member| world.vote(member, &leaf, |vote| vote.cluster = cluster));
    let message = Message::Verdict { cluster, verdict: Verdict::Released, exchange };
    let token = token_of(&world.shares, &genesis.message());
    let proof = Proof {
        claim: Claim::Verdict,
        trust: Trust::new(genesis, token).unwrap(),
        nro: nro.bytes().to_vec(),
        evidence,
        certificate: Certificate::new(leaf, votes.collect()),
        token: token_of(&world.shares, &message),
        disclosure: None,
    };
    assert!(fairpost_proto::verify::verify(&proof, &proof.trust).is_ok());
    proof
}

/// Step 6.
fn opened_badly(world: &World, made: &mut Made) {
    let (cmp1, cmp2) = (&world.cmp1, &world.cmp2);
    let mut refused = |name: &str, meaning: &str, error: &str, proof: &[u8], mail: &[u8]| {
        made.invalid(name, meaning, error, fields(proof, Some(mail)));
    };
    let released = |exchange| world.proof(exchange, Verdict::Released);
    let good = released(cmp2).to_bytes();
    refused("mail-other", "Another mail.", "opening: the sealed mail has digest", &good, &cmp1.container);
    let mut flipped = cmp2.container.clone();
    *flipped.last_mut().unwrap() ^= 1;
    refused("mail-flipped", "A bit of the mail.", "opening: the sealed mail has digest", &good, &flipped);
    let cut = &cmp2.container[..cmp2.container.len() - 1];
    refused("mail-cut", "A byte of the mail is missing.", "opening: the sealed mail has digest", &good, cut);
    refused("mail-empty", "No mail at all.", "opening: a sealed mail begins with", &good, &[]);
    let closed = Proof { disclosure: None, ..released(cmp2) }.to_bytes();
    refused(
        "lock-missing",
        "CMP2 without the lock.",
        "opening: the proof discloses the lock None, and the mail's is",
        &closed,
        &cmp2.container,
    );
    let other = Proof { disclosure: world.garbage2.disclosure.clone(), ..released(cmp2) }.to_bytes();
    refused(
        "lock-other",
        "CMP2 with another lock.",
        "opening: the proof discloses the lock Some(Digest(",
        &other,
        &cmp2.container,
    );
    let error = "opening: the verdict is Refused, and only a Released mail can be opened";
    refused(
        "not-released",
        "What was not released can't be opened.",
        error,
        &world.proof(cmp2, Verdict::Refused).to_bytes(),
        &cmp2.container,
    );
    let error = "opening: the terms commit to content";
    for (name, exchange) in [("garbage-cmp1", &world.garbage1), ("garbage-cmp2", &world.garbage2)] {
        refused(
            name,
            "Delivery of a mail that is not what was signed.",
            error,
            &released(exchange).to_bytes(),
            &exchange.container,
        );
    }
    let error = "opening: the lock does not open";
    refused(
        "garbage-lock",
        "Delivery of a mail that does not open.",
        error,
        &released(&world.unopenable).to_bytes(),
        &world.unopenable.container,
    );
    for (name, exchange) in [("no-fraud-cmp1", cmp1), ("no-fraud-cmp2", cmp2)] {
        let error = "opening: fraud is claimed, but the mail opens to content";
        refused(
            name,
            "Fraud is claimed of an honest mail.",
            error,
            &fraud(world, exchange),
            &exchange.container,
        );
    }
    let unproved = Proof { claim: Claim::Fraud, disclosure: None, ..released(&world.garbage2) }.to_bytes();
    let error = "opening: the proof discloses the lock None";
    refused(
        "fraud-without-lock",
        "Fraud is claimed without the lock.",
        error,
        &unproved,
        &world.garbage2.container,
    );
    let other = fraud(world, &world.garbage2);
    refused(
        "fraud-other-mail",
        "Fraud is claimed with another mail.",
        "opening: the sealed mail has digest",
        &other,
        &cmp2.container,
    );
    refused(
        "fraud-mail-flipped",
        "Fraud is claimed with a mail that the accuser has spoiled.",
        "opening: the sealed mail has digest",
        &fraud(world, cmp2),
        &flipped,
    );
    let other = world.garbage2.disclosure.clone();
    let other = Proof { claim: Claim::Fraud, disclosure: other, ..released(cmp2) }.to_bytes();
    refused(
        "fraud-lock-other",
        "Fraud is claimed with a lock that the accuser has made up.",
        "opening: the proof discloses the lock Some(Digest(",
        &other,
        &cmp2.container,
    );
    let closed = Proof { claim: Claim::Fraud, ..world.proof(cmp1, Verdict::Refused) }.to_bytes();
    refused(
        "fraud-not-released",
        "Fraud is claimed of a mail that nobody could open.",
        "opening: the verdict is Refused, and only a Released mail can be opened",
        &closed,
        &cmp1.container,
    );
    assert!(now() < expires());
}
