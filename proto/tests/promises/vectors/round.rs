//! What servers sign for later rounds.

use fairpost_proto::chain::key_id;
use fairpost_proto::cose::{Payload, Signed};
use fairpost_proto::entry::Opening;
use fairpost_proto::evidence::Nro;
use fairpost_proto::ids::{ExchangeId, KeyId, Verdict};
use fairpost_proto::leaf::{Leaf, Round};
use fairpost_proto::round::{Acknowledgement, Statement};
use serde_json::{Value, json};

use super::envelope::Envelope;
use super::faults;
use super::{Made, bytes as field, show};
use crate::item::{Item, bytes};
use crate::world::{World, after, now, world};

fn second() -> Round {
    Round::new(2).unwrap()
}

fn signed<P: Payload<Signer = KeyId>>(world: &World, member: usize, payload: P) -> Signed<P> {
    let key = &world.members[member];
    Signed::sign(payload, key_id(&key.verifying_key()), key)
}

/// A member's statement for the second round, with a certificate of the first and a receipt.
pub(crate) fn statement(
    world: &World,
    member: usize,
    change: impl FnOnce(&mut Statement),
) -> Signed<Statement> {
    let leaf = world.leaf(Verdict::Released);
    let mut statement = Statement {
        cluster: world.cluster(),
        epoch: 0,
        exchange: leaf.exchange,
        round: second(),
        certificate: Some(world.certificate(leaf, &[0, 1, 2])),
        receipt: Some(now()),
        clock: after(3602),
        number: 8,
    };
    change(&mut statement);
    signed(world, member, statement)
}

/// A member's acknowledgement in the second round.
pub(crate) fn acknowledgement(world: &World, member: usize) -> Signed<Acknowledgement> {
    let leaf = Leaf { round: second(), ..world.leaf(Verdict::Released) };
    let (cluster, exchange, round) = (world.cluster(), leaf.exchange, leaf.round);
    signed(
        world,
        member,
        Acknowledgement { cluster, epoch: 0, exchange, round, leaf: leaf.hash(), number: 9 },
    )
}

/// A second round for this NRO, with a receipt and a withdrawal. What is stated in it is about another exchange.
pub(crate) fn opening(world: &World, nro: &Signed<Nro>) -> Opening {
    let bare = |member| statement(world, member, |statement| statement.certificate = None).bytes().to_vec();
    Opening {
        nro: nro.bytes().to_vec(),
        statements: [0, 1, 2].map(bare).to_vec(),
        receipt: world.answer(Verdict::Released, nro),
        withdrawal: world.answer(Verdict::Withdrawn, nro),
        refusal: None,
    }
}

fn judged<P: Payload<Signer = KeyId> + Clone>(vector: &Value, name: &str) -> Result<(), String> {
    let bytes = field(vector, name);
    let signed = Signed::<P>::parse(&bytes).map_err(show)?;
    let member = field(vector, "member").try_into().unwrap();
    signed.verify(&ed25519_dalek::VerifyingKey::from_bytes(&member).unwrap()).map_err(show)
}

#[test]
fn statements_are_taken_as_in_the_vectors() {
    let (world, mut made) = (world(), Made::default());
    let key = &world.members[0];
    let identity = hex::encode(key.verifying_key().as_bytes());
    let fields = |bytes: &[u8]| json!({ "member": identity, "statement": hex::encode(bytes) });
    let whole = statement(world, 0, |_| {});
    made.valid("whole", "With a certificate and a receipt.", fields(whole.bytes()));
    let bare = statement(world, 0, |statement| (statement.certificate, statement.receipt) = (None, None));
    made.valid("bare", "Without either.", fields(bare.bytes()));
    let last = statement(world, 0, |statement| {
        let leaf = Leaf { round: Round::new(u32::MAX - 1).unwrap(), ..world.leaf(Verdict::Expired) };
        (statement.round, statement.certificate) =
            (Round::new(u32::MAX).unwrap(), Some(world.certificate(leaf, &[1, 2, 3])));
    });
    made.valid("last-round", "For the last round that there is.", fields(last.bytes()));

    let opened = Envelope::open(whole.bytes(), key);
    made.faults("", opened.faults(), fields);
    made.faults("payload-", opened.payload_faults(), fields);
    let certificate = |change: &dyn Fn(&mut Leaf)| {
        let mut leaf = world.leaf(Verdict::Released);
        change(&mut leaf);
        bytes(world.certificate(leaf, &[0, 1, 2]).to_bytes())
    };
    let mut broken = Item::decode(&world.certificate(world.leaf(Verdict::Released), &[0, 1, 2]).to_bytes());
    broken.at(1).items().swap(0, 1);
    let year_10000 = Item::Uint(253_402_300_800_000);
    let mut values = faults::values(
        &opened.payload,
        vec![
            ("cluster-short", "31 bytes.", 1, bytes([1; 31]), "the cluster id has length 31"),
            ("epoch-large", "More than 32 bits.", 2, Item::Uint(1 << 32), "the epoch is 4294967296"),
            ("exchange-short", "31 bytes.", 3, bytes([1; 31]), "the exchange id has length 31"),
            ("round-0", "Rounds count from 1.", 4, Item::Uint(0), "the round is 0"),
            (
                "round-1",
                "The first round needs no statement.",
                4,
                Item::Uint(1),
                "the round is 1, expected 2 to",
            ),
            ("round-large", "More than 32 bits.", 4, Item::Uint(1 << 32), "the round is 4294967296"),
            ("certificate-empty", "No bytes.", 5, bytes([]), "the bytes end at 0"),
            ("certificate-votes", "Votes out of order.", 5, bytes(broken.encode()), "vote 1 is by"),
            (
                "certificate-exchange",
                "A certificate of another exchange.",
                5,
                certificate(&|leaf| leaf.exchange = ExchangeId::new([9; 32])),
                "the certificate is for exchange 0909",
            ),
            (
                "certificate-round",
                "A certificate of the round that is to be opened.",
                5,
                certificate(&|leaf| leaf.round = second()),
                "the certificate is of round 2, expected one below the statement's 2",
            ),
            (
                "receipt-year-10000",
                "One millisecond too late.",
                6,
                year_10000.clone(),
                "the time of the first receipt is",
            ),
            ("clock-year-10000", "One millisecond too late.", 7, year_10000, "the time of the statement is"),
            ("clock-null", "No clock.", 7, Item::Null, "an unsigned integer expected"),
            ("number-null", "No number.", 8, Item::Null, "an unsigned integer expected"),
        ],
    );
    opened.resign(&mut values);
    made.faults("", values, fields);
    let error = "this is of type \"application/vnd.fairpost.acknowledgement+cose\"";
    made.invalid("acknowledgement", "It states nothing.", error, fields(acknowledgement(world, 0).bytes()));
    made.keep("statement.json", |vector| judged::<Statement>(vector, "statement"));
}

#[test]
fn acknowledgements_are_taken_as_in_the_vectors() {
    let (world, mut made) = (world(), Made::default());
    let key = &world.members[0];
    let identity = hex::encode(key.verifying_key().as_bytes());
    let fields = |bytes: &[u8]| json!({ "member": identity, "acknowledgement": hex::encode(bytes) });
    let good = acknowledgement(world, 0);
    made.valid("acknowledgement", "Of a certificate of the second round.", fields(good.bytes()));
    let opened = Envelope::open(good.bytes(), key);
    made.faults("", opened.faults(), fields);
    made.faults("payload-", opened.payload_faults(), fields);
    let mut values = faults::values(
        &opened.payload,
        vec![
            ("cluster-short", "31 bytes.", 1, bytes([1; 31]), "the cluster id has length 31"),
            ("epoch-large", "More than 32 bits.", 2, Item::Uint(1 << 32), "the epoch is 4294967296"),
            ("exchange-short", "31 bytes.", 3, bytes([1; 31]), "the exchange id has length 31"),
            ("round-1", "The first round needs none.", 4, Item::Uint(1), "the round is 1, expected 2 to"),
            ("leaf-short", "31 bytes.", 5, bytes([1; 31]), "the leaf's digest has length 31"),
            ("number-null", "No number.", 6, Item::Null, "an unsigned integer expected"),
        ],
    );
    opened.resign(&mut values);
    made.faults("", values, fields);
    let vote = world.vote(0, &world.leaf(Verdict::Released), |_| {}).0;
    let error = "this is of type \"application/vnd.fairpost.vote+cose\"";
    made.invalid("vote", "It acknowledges nothing.", error, fields(vote.bytes()));
    made.keep("acknowledgement.json", |vector| judged::<Acknowledgement>(vector, "acknowledgement"));
}
