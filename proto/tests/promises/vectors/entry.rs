//! What else servers sign: entries, and bindings of their TLS keys.

use fairpost_proto::binding::{self, Binding};
use fairpost_proto::chain::key_id;
use fairpost_proto::cose::Signed;
use fairpost_proto::entry::{self, Command, Demand, Entry, Head};
use fairpost_proto::grant::{self, Grant};
use fairpost_proto::ids::{Digest, KeyId, Verdict};
use fairpost_proto::suspicion::{self, Suspicion};
use serde_json::json;

use super::envelope::Envelope;
use super::faults::{self, Fault, fault};
use super::{Made, bytes as field, opening, show};
use crate::item::{Item, bytes, text};
use crate::world::{World, after, now, world};

/// A head over this batch, by the first member.
fn head(world: &World, batch: &[u8]) -> Signed<Head> {
    let head = Head {
        cluster: world.cluster(),
        epoch: 0,
        term: 2,
        sequence: 5,
        previous: Digest::of(b"the head before"),
        time: now(),
        batch: Digest::of(batch),
    };
    Signed::sign(head, key_id(&world.members[0].verifying_key()), &world.members[0])
}

#[test]
fn entries_are_taken_as_in_the_vectors() {
    let (world, mut made) = (world(), Made::default());
    let nro = world.nro(|_| {});
    let command = |verdict: Verdict| {
        let (nro, evidence) = (nro.bytes().to_vec(), world.answer(verdict, &nro));
        Command::Party(Demand { verdict, nro, evidence })
    };
    let identity = hex::encode(world.members[0].verifying_key().as_bytes());
    let fields = |bytes: &[u8]| json!({ "leader": identity, "entry": hex::encode(bytes) });
    let whole = |batch: &[u8]| entry::write(&head(world, batch), batch);
    let one = entry::write_batch(&[command(Verdict::Released)]);
    made.valid("receipt", "One receipt.", fields(&whole(&one)));
    let all = entry::write_batch(&Verdict::ALL.map(command));
    made.valid("all", "One command of each of a party's kinds.", fields(&whole(&all)));
    let round = entry::write_batch(&[Command::Round(opening(world, &nro))]);
    made.valid("round", "A later round, with a receipt and a withdrawal.", fields(&whole(&round)));

    let item = Item::decode(&whole(&one));
    made.faults("", faults::encoding(&item), fields);
    let opened = Envelope::open(head(world, &one).bytes(), &world.members[0]);
    let put = |faults: Vec<Fault>| {
        let put = |fault: Fault| Fault { bytes: item.with(0, bytes(&fault.bytes)).encode(), ..fault };
        faults.into_iter().map(put).collect::<Vec<_>>()
    };
    made.faults("head-", put(opened.faults()), fields);
    made.faults("head-payload-", put(opened.payload_faults()), fields);
    let mut values = faults::values(
        &opened.payload,
        vec![
            ("cluster-short", "31 bytes.", 1, bytes([1; 31]), "the cluster id has length 31"),
            ("epoch-large", "More than 32 bits.", 2, Item::Uint(1 << 32), "the epoch is 4294967296"),
            ("previous-short", "31 bytes.", 5, bytes([1; 31]), "the previous head's digest has length 31"),
            (
                "time-year-10000",
                "One millisecond too late.",
                6,
                Item::Uint(253_402_300_800_000),
                "the entry's time is",
            ),
            (
                "batch-other",
                "Signed for another batch.",
                7,
                bytes([9; 32]),
                "but the head was signed for 0909",
            ),
        ],
    );
    opened.resign(&mut values);
    made.faults("head-", put(values), fields);
    let swapped = item.with(1, bytes(&all)).encode();
    made.invalid("batch-swapped", "Another batch.", "but the head was signed for", fields(&swapped));

    let batch = Item::decode(&one);
    let mut batches = vec![
        fault("empty", "No command.", "the batch has length 0, expected one or more", vec![0x80]),
        fault("1025", "Too many commands.", "the batch has length 1025", vec![0x99, 0x04, 0x01]),
        fault("trailing", "A byte after the end.", "1 bytes trail behind", [&one[..], &[0]].concat()),
    ];
    let first = batch.clone().items()[0].clone();
    let mut commands = faults::encoding(&first);
    // In a batch, what is missing at a command's end, or trails, is the batch's fault.
    commands.retain(|fault| fault.name != "trailing" && fault.name != "missing-last");
    commands.extend(faults::values(
        &first,
        vec![
            ("kind-0", "No such command.", 0, Item::Uint(0), "the command's kind is 0, expected 1 to 5"),
            ("kind-6", "No such command.", 0, Item::Uint(6), "the command's kind is 6, expected 1 to 5"),
            (
                "kind-257",
                "1, if one looks at one byte only.",
                0,
                Item::Uint(257),
                "the command's kind is 257",
            ),
            ("kind-5", "Another kind's keys.", 0, Item::Uint(5), "an array expected"),
            ("nro-null", "No NRO.", 1, Item::Null, "a byte string expected"),
            ("evidence-text", "Text for evidence.", 2, text("yes"), "a byte string expected"),
        ],
    ));
    let command = |name: &'static str, commands: Vec<Fault>| {
        commands.into_iter().map(move |fault| Fault {
            name: format!("{name}-{}", fault.name),
            error: fault.error.replace(" at 0", " at 1").replace(" at 1, found an unsigned", ""),
            bytes: [&[0x81], &fault.bytes[..]].concat(),
            ..fault
        })
    };
    batches.extend(command("command", commands));
    let opened = Item::decode(&round).items()[0].clone();
    let statement = opened.clone().at(2).items()[0].clone();
    let list = |count: usize| Item::Array(vec![statement.clone(); count]);
    let mut openings = faults::encoding(&opened);
    openings.retain(|fault| fault.name != "trailing" && fault.name != "missing-last");
    openings.extend(faults::values(
        &opened,
        vec![
            ("no-statements", "Nobody states anything.", 2, list(0), "the statements has length 0"),
            (
                "65-statements",
                "More than a cluster has servers.",
                2,
                list(65),
                "the statements has length 65",
            ),
            (
                "statement-null",
                "Null for a statement.",
                2,
                Item::Array(vec![Item::Null]),
                "a byte string expected",
            ),
            ("receipt-text", "Text for a receipt.", 3, text("yes"), "a byte string expected"),
            ("withdrawal-text", "Text for a withdrawal.", 4, text("yes"), "a byte string expected"),
            ("refusal-text", "Text for a refusal.", 5, text("yes"), "a byte string expected"),
        ],
    ));
    batches.extend(command("round", openings));
    for fault in &mut batches {
        // Within the batch all offsets are one more than in the command by itself.
        fault.error = offset_by_one(&fault.error);
        fault.bytes = whole(&fault.bytes);
    }
    made.faults("batch-", batches, fields);
    made.keep("entry.json", |vector| {
        let bytes = field(vector, "entry");
        let entry = Entry::parse(&bytes).map_err(show)?;
        let leader = field(vector, "leader").try_into().unwrap();
        entry.head.verify(&ed25519_dalek::VerifyingKey::from_bytes(&leader).unwrap()).map_err(show)?;
        assert_eq!(entry::write(&entry.head, &entry::write_batch(&entry.commands)), bytes);
        Ok(())
    });
}

/// The part of an error in front of the offset that it names.
fn offset_by_one(error: &str) -> String {
    match error.split_once(" at ") {
        Some((before, _)) if !before.is_empty() => before.to_owned(),
        _ => error.to_owned(),
    }
}

#[test]
fn grants_count_as_in_the_vectors() {
    let (world, mut made) = (world(), Made::default());
    let (voter, candidate) = (&world.members[0], key_id(&world.members[1].verifying_key()));
    let grant = Grant { cluster: world.cluster(), epoch: 0, term: 7, candidate };
    let identity = hex::encode(voter.verifying_key().as_bytes());
    let fields = |bytes: &[u8]| json!({ "voter": identity, "term": 7, "candidate": candidate.to_string(), "grant": hex::encode(bytes) });
    let signed = Signed::sign(grant, key_id(&voter.verifying_key()), voter);
    made.valid("grant", "A member lets another lead.", fields(signed.bytes()));
    let opened = Envelope::open(signed.bytes(), voter);
    made.faults("", opened.faults(), fields);
    made.faults("payload-", opened.payload_faults(), fields);
    let mut values = faults::values(
        &opened.payload,
        vec![
            (
                "cluster-other",
                "Another cluster.",
                1,
                bytes([9; 32]),
                "the grant is Grant { cluster: ClusterId(0909",
            ),
            ("epoch-other", "Another view.", 2, Item::Uint(1), "epoch: 1, term: 7"),
            ("epoch-large", "More than 32 bits.", 2, Item::Uint(1 << 32), "the epoch is 4294967296"),
            ("term-other", "Another term.", 3, Item::Uint(8), "term: 8"),
            ("candidate-other", "Another candidate.", 4, bytes([9; 32]), "candidate: KeyId(0909"),
            ("candidate-short", "31 bytes.", 4, bytes([9; 31]), "the candidate's key id has length 31"),
        ],
    );
    opened.resign(&mut values);
    made.faults("", values, fields);
    let vote = world.vote(0, &world.leaf(Verdict::Released), |_| {}).0;
    let error = "this is of type \"application/vnd.fairpost.vote+cose\"";
    made.invalid("vote-as-grant", "A vote lets nobody lead.", error, fields(vote.bytes()));
    let forged = Signed::sign(grant, key_id(&voter.verifying_key()), &world.members[1]);
    let error = "the signature on this application/vnd.fairpost.grant+cose is not by key";
    made.invalid("forged", "The candidate signed for the voter.", error, fields(forged.bytes()));
    made.keep("grant.json", |vector| {
        let signed = Signed::<Grant>::parse(&field(vector, "grant")).map_err(show)?;
        let identity = field(vector, "voter").try_into().unwrap();
        let identity = ed25519_dalek::VerifyingKey::from_bytes(&identity).unwrap();
        let candidate = KeyId::from_slice(&field(vector, "candidate")).unwrap();
        let term = vector["term"].as_u64().unwrap();
        let expected = Grant { cluster: world.cluster(), epoch: 0, term, candidate };
        grant::check(&signed, expected, &identity).map_err(show)
    });
}

#[test]
fn suspicions_count_as_in_the_vectors() {
    let (world, mut made) = (world(), Made::default());
    let (author, suspect) = (&world.members[0], key_id(&world.members[1].verifying_key()));
    let suspicion = Suspicion { cluster: world.cluster(), epoch: 0, term: 7, suspect };
    let members: Vec<_> = world.members.iter().map(|key| key.verifying_key()).collect();
    let listed: Vec<String> = members.iter().map(|key| hex::encode(key.as_bytes())).collect();
    let fields = |bytes: &[u8]| json!({ "members": listed, "by": 0, "suspect": 1, "term": 7, "suspicion": hex::encode(bytes) });
    let signed = Signed::sign(suspicion, key_id(&author.verifying_key()), author);
    made.valid("suspicion", "A member suspects the leader of a term.", fields(signed.bytes()));
    let opened = Envelope::open(signed.bytes(), author);
    made.faults("", opened.faults(), fields);
    made.faults("payload-", opened.payload_faults(), fields);
    let own = bytes(*key_id(&author.verifying_key()).as_bytes());
    let mut values = faults::values(
        &opened.payload,
        vec![
            ("cluster-other", "Another cluster.", 1, bytes([9; 32]), "the suspicion is for cluster 0909"),
            ("epoch-other", "Another view.", 2, Item::Uint(1), "the suspicion is for epoch 1, expected 0"),
            ("epoch-large", "More than 32 bits.", 2, Item::Uint(1 << 32), "the epoch is 4294967296"),
            ("suspect-stranger", "No member is suspected.", 4, bytes([9; 32]), "the suspect has key 0909"),
            ("suspect-short", "31 bytes.", 4, bytes([9; 31]), "the suspect's key id has length 31"),
            ("suspect-itself", "Nobody suspects itself.", 4, own, "member 0 suspects itself"),
        ],
    );
    opened.resign(&mut values);
    made.faults("", values, fields);
    let grant = Grant { cluster: world.cluster(), epoch: 0, term: 7, candidate: suspect };
    let grant = Signed::sign(grant, key_id(&author.verifying_key()), author);
    let error = "this is of type \"application/vnd.fairpost.grant+cose\"";
    made.invalid("grant-as-suspicion", "A grant suspects nobody.", error, fields(grant.bytes()));
    let forged = Signed::sign(suspicion, key_id(&author.verifying_key()), &world.members[2]);
    let error = "the signature on this application/vnd.fairpost.suspicion+cose is not by key";
    made.invalid("forged", "Another member signed for the author.", error, fields(forged.bytes()));
    let stranger = ed25519_dalek::SigningKey::from_bytes(&[0x55; 32]);
    let strange = Signed::sign(suspicion, key_id(&stranger.verifying_key()), &stranger);
    let error = "whoever signed has key";
    made.invalid("stranger", "Who signed is no member.", error, fields(strange.bytes()));
    made.keep("suspicion.json", |vector| {
        let signed = Signed::<Suspicion>::parse(&field(vector, "suspicion")).map_err(show)?;
        let checked = suspicion::check(&signed, world.cluster(), 0, &members).map_err(show)?;
        let number = |name: &str| vector[name].as_u64().unwrap();
        let found = (checked.by as u64, checked.suspect as u64, checked.term);
        assert_eq!(found, (number("by"), number("suspect"), number("term")));
        Ok(())
    });
}

#[test]
fn bindings_are_believed_as_in_the_vectors() {
    let (world, mut made) = (world(), Made::default());
    let key = &world.members[0];
    let tls_key = KeyId::new([0x71; 32]);
    let identity = hex::encode(key.verifying_key().as_bytes());
    let fields = |bytes: &[u8]| json!({ "identity": identity, "tls_key": tls_key.to_string(), "binding": hex::encode(bytes) });
    let signed = Signed::sign(Binding { tls_key, created: after(0) }, key_id(&key.verifying_key()), key);
    made.valid("binding", "A member's TLS key.", fields(signed.bytes()));
    let opened = Envelope::open(signed.bytes(), key);
    made.faults("", opened.faults(), fields);
    made.faults("payload-", opened.payload_faults(), fields);
    let mut values = faults::values(
        &opened.payload,
        vec![
            ("key-other", "Another TLS key.", 1, bytes([9; 32]), "the binding is for TLS key 0909"),
            ("key-short", "31 bytes.", 1, bytes([9; 31]), "the TLS key's digest has length 31"),
            (
                "created-late",
                "After the year 9999.",
                2,
                Item::Uint(253_402_300_800),
                "created is 253402300800",
            ),
        ],
    );
    opened.resign(&mut values);
    made.faults("", values, fields);
    let vote = world.vote(0, &world.leaf(Verdict::Released), |_| {}).0;
    let error = "this is of type \"application/vnd.fairpost.vote+cose\"";
    made.invalid("vote-as-binding", "A vote binds nothing.", error, fields(vote.bytes()));
    made.keep("binding.json", |vector| {
        let binding = Signed::<Binding>::parse(&field(vector, "binding")).map_err(show)?;
        let identity = field(vector, "identity").try_into().unwrap();
        let identity = ed25519_dalek::VerifyingKey::from_bytes(&identity).unwrap();
        let tls_key = KeyId::from_slice(&field(vector, "tls_key")).unwrap();
        binding::check(&binding, &identity, tls_key).map_err(show)
    });
}
