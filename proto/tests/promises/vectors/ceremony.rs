//! The ceremony that makes a proposal's key.

use ed25519_dalek::SigningKey;
use fairpost_proto::ceremony::{Action, Ceremony, Dealing, Kept, Kind, Message, Opening, Proof, Report};
use fairpost_proto::chain::key_id;
use fairpost_proto::cose::{Payload, Signed};
use fairpost_proto::ids::KeyId;
use fairpost_proto::threshold::KeyShare;
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;
use serde_json::json;

use super::envelope::Envelope;
use super::faults::{Fault, fault};
use super::{Made, bytes as field, proposal, same, show};
use crate::item::{Item, bytes};
use crate::world::{signing_key, world};

pub(super) fn sign<P: Payload<Signer = KeyId>>(payload: P, key: &SigningKey) -> Vec<u8> {
    Signed::sign(payload, key_id(&key.verifying_key()), key).bytes().to_vec()
}

/// A whole ceremony: one dealer seals garbage for one member, and opens its row when that complains.
pub(crate) fn ceremony() -> Vec<Vec<u8>> {
    let members = &world().members;
    let mut state = Ceremony::new(proposal());
    let mut log = vec![sign(state.begin(vec![0, 1, 2, 3]), &signing_key(0x41))];
    state.apply(&Message::parse(&log[0]).unwrap()).unwrap();
    let mut kept: Vec<Option<Kept>> = vec![None, None, None, None];
    for _ in 0..8 {
        // The dealer opens the row before the last one reports: else the set would be closed without its dealing.
        for place in [1, 0, 2, 3] {
            let key = &members[place];
            let mut rng = ChaCha20Rng::seed_from_u64(place as u64);
            for action in state.next(key, kept[place].as_ref(), &mut rng).unwrap() {
                match action {
                    Action::Keep(new) => kept[place] = Some(new),
                    Action::Erase => panic!("there is one attempt only"),
                    Action::Send(message) => {
                        let message = if place == 0 { spoiled(message, key) } else { message };
                        state.apply(&Message::parse(&message).unwrap()).unwrap();
                        log.push(message);
                    }
                }
            }
        }
    }
    assert!(state.outcome().unwrap().token.is_some(), "{:?}", state.progress());
    log
}

/// A dealing whose row for member 1 nobody can open.
fn spoiled(message: Vec<u8>, key: &SigningKey) -> Vec<u8> {
    let Message::Dealing(signed) = Message::parse(&message).unwrap() else { return message };
    let mut dealing = signed.payload().clone();
    dealing.rows[1][50] ^= 1;
    sign(dealing, key)
}

/// The state after these messages.
fn after(log: &[Vec<u8>]) -> Ceremony {
    let mut state = Ceremony::new(proposal());
    for message in log {
        state.apply(&Message::parse(message).unwrap()).unwrap();
    }
    state
}

/// The message of this kind and its place in the log, the first if there are several.
fn first(log: &[Vec<u8>], kind: Kind) -> (usize, &[u8]) {
    let place = log.iter().position(|message| Message::parse(message).unwrap().kind() == kind).unwrap();
    (place, &log[place])
}

#[test]
fn ceremonies_go_as_in_the_vectors() {
    let (world, mut made) = (world(), Made::default());
    let log = ceremony();
    let end = after(&log);
    let outcome = end.outcome().unwrap();
    made.valid(
        "whole",
        "A ceremony of four to its end; one dealer's row was spoiled, complained of and opened.",
        json!({
            "log": log.iter().map(hex::encode).collect::<Vec<_>>(),
            "genesis": hex::encode(outcome.genesis.bytes()),
            "token": outcome.token.unwrap().to_string(),
        }),
    );
    let at = |after: usize| move |bytes: &[u8]| json!({ "after": after, "message": hex::encode(bytes) });
    let key_of = |message: &[u8]| {
        let author = Message::parse(message).unwrap().author();
        let mut keys = world.members.iter().cloned().chain([signing_key(0x41)]);
        keys.find(|key| key_id(&key.verifying_key()) == author).unwrap()
    };
    let name_of = |message: &[u8]| {
        let author = Message::parse(message).unwrap().author();
        let of = |member: &ed25519_dalek::SigningKey| key_id(&member.verifying_key()) == author;
        format!("server-{}", world.members.iter().position(of).unwrap() + 1)
    };
    let short = |key: u64, what: &str| {
        (format!("{what}-short"), key, bytes([1; 31]), format!("{what} has length 31"))
    };
    for (kind, prefix, values) in [
        (
            Kind::Begin,
            "begin-",
            vec![
                (
                    "participants-unsorted".into(),
                    3,
                    list(&[1, 0, 2, 3]),
                    "the participants is 0 after [1]".into(),
                ),
                (
                    "participants-twice".into(),
                    3,
                    list(&[0, 1, 1, 2]),
                    "the participants is 1 after [0, 1]".into(),
                ),
                ("participants-none".into(), 3, list(&[]), "the participants has length 0".into()),
                (
                    "participants-few".into(),
                    3,
                    list(&[0, 1, 2]),
                    "3 members take part, and it takes 4".into(),
                ),
                (
                    "participants-64".into(),
                    3,
                    list(&[0, 1, 2, 64]),
                    "a participant is 64, expected 0 to 63".into(),
                ),
                (
                    "participants-4".into(),
                    3,
                    list(&[0, 1, 2, 4]),
                    "participant 4 is none of the 4 members".into(),
                ),
                ("attempt-0".into(), 2, Item::Uint(0), "the attempt is 0, expected 1 to 4294967295".into()),
                ("attempt-2".into(), 2, Item::Uint(2), "attempt 2 can't begin, the next is 1".into()),
            ],
        ),
        (
            Kind::Join,
            "join-",
            vec![
                short(3, "the digest of the begin"),
                ("proposal-other".into(), 1, bytes([9; 32]), "the message is about proposal 0909".into()),
                ("attempt-other".into(), 2, Item::Uint(2), "the message is of attempt 2".into()),
                ("begin-other".into(), 3, bytes([9; 32]), "of an attempt that began with 0909".into()),
                ("key-zero".into(), 4, bytes([0; 32]), "X25519 key".into()),
                ("key-large".into(), 4, bytes([0xff; 32]), "X25519 key".into()),
                short(4, "the one-time key"),
            ],
        ),
        (
            Kind::Dealing,
            "dealing-",
            vec![
                (
                    "commitment-short".into(),
                    4,
                    bytes([0xc0; 47]),
                    "a dealing's commitment has 48 bytes, not 47".into(),
                ),
                (
                    "commitment-identity".into(),
                    4,
                    identity_points(6),
                    "the identity point is no dealing's commitment".into(),
                ),
                ("rows-none".into(), 5, Item::Array(vec![]), "the rows has length 0".into()),
                (
                    "rows-three".into(),
                    5,
                    Item::Array(vec![bytes([0; 144]); 3]),
                    "has 3 rows for 4 participants".into(),
                ),
                (
                    "rows-65".into(),
                    5,
                    Item::Array(vec![bytes([0; 144]); 65]),
                    "the rows has length 65".into(),
                ),
                (
                    "row-short".into(),
                    5,
                    Item::Array(vec![bytes([0; 143]); 4]),
                    "a sealed row has 144 bytes, not 143".into(),
                ),
            ],
        ),
        (
            Kind::Report,
            "report-",
            vec![
                short(4, "the digest of the dealings"),
                ("complaints-unsorted".into(), 5, list(&[1, 0]), "the complaints is 0 after [1]".into()),
                ("complaint-3".into(), 5, list(&[3]), "complains about dealing 3, and there are 3".into()),
            ],
        ),
        (
            Kind::Opening,
            "opening-",
            vec![
                ("dealing-other".into(), 4, bytes([9; 32]), "opens a row of 0909".into()),
                ("reader-2".into(), 5, Item::Uint(2), "opens the row of member 2, who is not among".into()),
                ("reader-64".into(), 5, Item::Uint(64), "the row's reader is 64, expected 0 to 63".into()),
                ("row-empty".into(), 6, bytes([]), "a row has 32 bytes, not 0".into()),
                ("row-large".into(), 6, bytes([0xff; 96]), "is not a canonical encoding of a row".into()),
            ],
        ),
        (Kind::Qualified, "set-", vec![short(4, "the digest of the qualified set")]),
        (
            Kind::Proof,
            "proof-",
            vec![
                short(4, "the digest of the genesis"),
                ("share-short".into(), 5, bytes([0; 95]), "a share has".into()),
            ],
        ),
    ] {
        let (place, message) = first(&log, kind);
        let fields = at(place);
        made.valid(prefix.trim_end_matches('-'), &format!("The first {kind}."), fields(message));
        let opened = Envelope::open(message, &key_of(message));
        if kind == Kind::Join {
            let mut faults = opened.faults();
            // What is not of a known kind has no place in a ceremony at all.
            faults.retain(|fault| !fault.name.starts_with("protected-") && !fault.name.starts_with("typ-"));
            made.faults(prefix, faults, fields);
        }
        made.faults(&format!("{prefix}payload-"), opened.payload_faults(), fields);
        let mut spoiled: Vec<Fault> = values
            .into_iter()
            .map(|(name, key, value, error): (String, u64, Item, String)| {
                let name = name.replace(' ', "-");
                fault(
                    &name,
                    "A value that does not belong there.",
                    &error,
                    opened.payload.with(key, value).encode(),
                )
            })
            .collect();
        opened.resign(&mut spoiled);
        made.faults(prefix, spoiled, fields);
    }

    let (place, message) = first(&log, Kind::Join);
    made.invalid(
        "join-twice",
        "The same again.",
        "the join of server-2 is there already",
        at(place + 1)(message),
    );
    made.invalid("join-before-begin", "No attempt has begun.", "the running one is 0", at(0)(message));
    let (dealing, message) = first(&log, Kind::Dealing);
    made.invalid(
        "dealing-early",
        "Not all have joined.",
        "the attempt is still joining",
        at(dealing - 1)(message),
    );
    let (place, message) = first(&log, Kind::Report);
    made.invalid(
        "report-early",
        "Not all have dealt.",
        "the attempt is still dealing",
        at(place - 1)(message),
    );
    let (_, message) = first(&log, Kind::Proof);
    made.invalid("proof-early", "There is no key.", "the attempt is still reporting", at(place)(message));
    let begin = sign(after(&log[..1]).begin(vec![0, 1, 2, 3]), &signing_key(0x42));
    made.valid("begin-again", "Another operator lets another attempt begin.", at(place)(&begin));
    made.invalid("begin-after-the-end", "The key is made.", "the key is made", at(log.len())(&begin));
    let stranger = sign(after(&log[..1]).begin(vec![0, 1, 2, 3]), &world.members[0]);
    made.invalid(
        "begin-by-member",
        "A member is no operator.",
        "none of the proposal's 2 operators",
        at(1)(&stranger),
    );

    // What convicts its author is taken.
    let convicted = |message: &[u8]| Message::parse(message).unwrap();
    let (place, message) = first(&log, Kind::Opening);
    let Message::Opening(opening) = convicted(message) else { panic!("no opening") };
    let (_, other) = first(&log, Kind::Dealing);
    let Message::Dealing(dealt) = convicted(other) else { panic!("no dealing") };
    let wrong = Opening { row: row_of(&dealt), ..opening.payload().clone() };
    let (name, meaning) =
        ("opening-wrong", "The row does not fit: its dealer is named, and its dealing is out.");
    let fields = |message: Vec<u8>, place: usize, member: &str, misdeed: &str| json!({ "after": place, "message": hex::encode(message), "names": member, "misdeed": misdeed });
    made.valid(
        name,
        meaning,
        fields(sign(wrong, &key_of(message)), place, &name_of(message), "opened a row that does not fit"),
    );
    let (place, message) = first(&log, Kind::Report);
    let Message::Report(report) = convicted(message) else { panic!("no report") };
    let other = Report { complaints: vec![2], ..report.payload().clone() };
    made.valid(
        "report-contradicted",
        "Another report by the same member: both together convict it.",
        fields(
            sign(other, &key_of(message)),
            place + 1,
            &name_of(message),
            "signed two contradicting messages",
        ),
    );
    let (place, message) = first(&log, Kind::Proof);
    let Message::Proof(proof) = convicted(message) else { panic!("no proof") };
    let share = KeyShare::from_bytes(&[7; 32]).unwrap().sign(&outcome.genesis.message());
    made.valid(
        "proof-wrong",
        "A share under another key: its author is named, and it does not count.",
        fields(
            sign(Proof { share, ..proof.payload().clone() }, &key_of(message)),
            place,
            &name_of(message),
            "gave a share of the genesis token that is none",
        ),
    );
    let vote = world.vote(0, &world.leaf(fairpost_proto::ids::Verdict::Released), |_| {}).0;
    made.invalid("vote", "A vote has no place here.", "vnd.fairpost.vote+cose", at(1)(vote.bytes()));

    made.keep("ceremony.json", |vector| {
        let (taken, last) = match vector["after"].as_u64() {
            Some(after) => (after as usize, Some(field(vector, "message"))),
            None => (log.len(), None),
        };
        let mut state = after(&log[..taken]);
        let Some(last) = last else {
            let outcome = state.outcome().ok_or("no key")?;
            same(vector, "genesis", hex::encode(outcome.genesis.bytes()))?;
            return same(vector, "token", outcome.token.ok_or("no token")?);
        };
        let message = Message::parse(&last).map_err(show)?;
        assert_eq!(message.bytes(), last);
        state.apply(&message).map_err(show)?;
        let misdeeds = state.progress().misdeeds;
        let Some(misdeed) = misdeeds.first() else {
            return vector.get("misdeed").map_or(Ok(()), |_| Err("nobody is named".to_owned()));
        };
        let name = &state.proposal().members()[usize::from(misdeed.member)].name;
        assert!(misdeed.offence.to_string().contains(vector["misdeed"].as_str().unwrap()));
        same(vector, "names", name)
    });
}

fn list(indices: &[u64]) -> Item {
    Item::Array(indices.iter().copied().map(Item::Uint).collect())
}

fn identity_points(count: usize) -> Item {
    let mut point = [0; 48];
    point[0] = 0xc0;
    bytes(point.repeat(count))
}

/// Any row that does not fit the dealing.
fn row_of(dealt: &Signed<Dealing>) -> fairpost_proto::threshold::Row {
    let row = fairpost_proto::threshold::Row::parse(&[1; 96]).unwrap();
    assert!(!dealt.payload().commitment.holds(1, &row));
    row
}
