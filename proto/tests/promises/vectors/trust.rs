//! Views, and the trust in them.

use fairpost_proto::ids::Digest;
use fairpost_proto::threshold::{Message, Token};
use fairpost_proto::trust::Trust;
use fairpost_proto::view::{Constitution, View};
use serde_json::json;

use super::faults::{self, Fault, fault};
use super::genesis::{IDENTITY, constitution_faults, unhex};
use super::{Made, bytes as field, same, show};
use crate::item::{Item, bytes};
use crate::world::{foreign_deal, signing_key, token_of, world};

/// The view that follows `view`, changed.
pub(crate) fn successor(view: &View, change: impl FnOnce(&mut Constitution)) -> View {
    let mut constitution = world().constitution();
    change(&mut constitution);
    view.successor(constitution, 9, Digest::of(b"log")).unwrap()
}

/// A token of the world's cluster over `view`.
pub(crate) fn sealed(view: View) -> (View, Token) {
    let token = token_of(&world().shares, &view.message());
    (view, token)
}

/// A trust file with these views after the genesis, put together without a check.
pub(crate) fn file(views: &[(Vec<u8>, Vec<u8>)]) -> Item {
    let trust = Item::decode(&world().trust.to_bytes());
    let pair = |(view, token): &(Vec<u8>, Vec<u8>)| Item::Array(vec![bytes(view), bytes(token)]);
    trust.with(3, Item::Array(views.iter().map(pair).collect()))
}

fn pair((view, token): (View, Token)) -> (Vec<u8>, Vec<u8>) {
    (view.bytes().to_vec(), token.to_bytes().to_vec())
}

/// A later view of the world's cluster, with a member's key changed.
pub(crate) fn second_view() -> View {
    successor(&world().genesis, |body| body.members[0].identity = signing_key(0x35).verifying_key())
}

#[test]
fn trust_files_are_believed_as_in_the_vectors() {
    let (world, mut made) = (world(), Made::default());
    let second = second_view();
    let third = successor(&second, |_| {});
    let fields = |bytes: &[u8]| json!({ "trust": hex::encode(bytes) });
    let mut valid = |name: &str, meaning: &str, views: &[View]| {
        let views: Vec<_> = views.iter().map(|view| pair(sealed(view.clone()))).collect();
        let fields = json!({
            "trust": hex::encode(file(&views).encode()),
            "cluster": world.cluster().to_string(),
            "epoch": views.len().to_string(),
        });
        made.valid(name, meaning, fields);
    };
    valid("genesis", "A cluster that has only its genesis.", &[]);
    valid("two-views", "A second view, under a token of the same key.", std::slice::from_ref(&second));
    valid("three-views", "And a third.", &[second.clone(), third.clone()]);

    let alone = file(&[]);
    made.faults("", faults::tagged(&alone), fields);
    made.faults("genesis-", constitution_in(&alone), fields);
    let (_, foreign) = foreign_deal();
    let forged = token_of(&foreign, &world.genesis.message());
    let other = token_of(&world.shares, &second.message());
    let values = vec![
        (
            "token-identity",
            "The identity for a token.",
            2,
            unhex(&(IDENTITY.to_owned() + &"0".repeat(96))),
            "the token over epoch 0: the identity point is no token",
        ),
        (
            "token-off-subgroup",
            "A point outside the subgroup.",
            2,
            bytes(off_subgroup_g2()),
            "outside the prime-order subgroup",
        ),
        (
            "token-short",
            "95 bytes.",
            2,
            bytes([0x80; 95]),
            "the token over epoch 0: a token has 96 bytes, not 95",
        ),
        (
            "token-foreign",
            "Another cluster's token.",
            2,
            bytes(forged.to_bytes()),
            "the token over epoch 0: the token is not a signature on (genesis",
        ),
        (
            "token-other",
            "A token over another view.",
            2,
            bytes(other.to_bytes()),
            "the token over epoch 0: the token is not a signature on",
        ),
        ("views-null", "Null for no views.", 3, Item::Null, "an array expected"),
        ("views-4097", "Too many views.", 3, Item::Raw(vec![0x99, 0x10, 0x01]), "the views has length 4097"),
    ];
    made.faults("", faults::values(&alone, values), fields);

    let mut chain = |name: &str, meaning: &str, views: &[(Vec<u8>, Vec<u8>)], error: &str| {
        made.invalid(name, meaning, error, fields(&file(views).encode()));
    };
    let good = pair(sealed(second.clone()));
    let swapped = (good.0.clone(), token_of(&world.shares, &third.message()).to_bytes().to_vec());
    chain(
        "view-swapped-token",
        "A token over another view.",
        &[swapped],
        "the token over epoch 1: the token is not a signature on (view",
    );
    let foreign_token = (good.0.clone(), token_of(&foreign, &second.message()).to_bytes().to_vec());
    chain(
        "view-foreign-token",
        "Another cluster's token.",
        &[foreign_token],
        "the token over epoch 1: the token is not a signature",
    );
    let as_genesis = Message::Genesis { digest: second.digest() };
    let kind = (good.0.clone(), token_of(&world.shares, &as_genesis).to_bytes().to_vec());
    chain(
        "view-genesis-token",
        "A token over its digest, but as a genesis.",
        &[kind],
        "the token over epoch 1: the token is not a signature",
    );
    chain(
        "view-twice",
        "One view twice.",
        &[good.clone(), good.clone()],
        "a view of epoch 1 stands where epoch 2 belongs",
    );
    let gap = pair(sealed(third.clone()));
    chain(
        "view-left-out",
        "The second view is missing.",
        &[gap],
        "a view of epoch 2 stands where epoch 1 belongs",
    );
    let other_second = successor(&world.genesis, |body| body.auditors.clear());
    let elsewhere = pair(sealed(successor(&other_second, |_| {})));
    chain(
        "view-other-predecessor",
        "It follows another second view.",
        &[good.clone(), elsewhere],
        "the view of epoch 2 follows Some(Digest(",
    );
    let (commitment, shares) = foreign_deal();
    let rekeyed = successor(&world.genesis, |body| body.commitment = commitment);
    let own = (rekeyed.bytes().to_vec(), token_of(&shares, &rekeyed.message()).to_bytes().to_vec());
    chain(
        "view-other-key",
        "It brings a key of its own.",
        &[own],
        "the view of epoch 1 has public key PublicKey(",
    );
    chain(
        "view-other-key-old-token",
        "A new key, and a token of the old one.",
        &[pair(sealed(rekeyed))],
        "the view of epoch 1 has public key PublicKey(",
    );
    let item = Item::decode(second.bytes());
    for mut fault in faults::tagged(&item).into_iter().chain(view_values(&item)) {
        fault.bytes = file(&[(fault.bytes, good.1.clone())]).encode();
        made.faults("view-", vec![fault], fields);
    }
    made.keep("trust.json", |vector| {
        let bytes = field(vector, "trust");
        let trust = Trust::parse(&bytes).map_err(show)?;
        assert_eq!(trust.to_bytes(), bytes);
        same(vector, "cluster", trust.cluster())?;
        same(vector, "epoch", trust.view().epoch())
    });
}

/// A few faults of the genesis, inside a trust file.
fn constitution_in(trust: &Item) -> Vec<Fault> {
    let genesis = Item::decode(world().genesis.bytes());
    let mut faults = constitution_faults(&genesis);
    faults.retain(|fault| fault.name == "members-unsorted" || fault.name == "commitment-identity-0");
    for fault in &mut faults {
        fault.bytes = trust.with(1, bytes(&fault.bytes)).encode();
        fault.error =
            format!("epoch 0: {}", if fault.name.starts_with('m') { "member" } else { "view: the identity" });
    }
    faults
}

fn view_values(view: &Item) -> Vec<Fault> {
    let mut found = faults::values(
        view,
        vec![
            (
                "epoch-0",
                "Epoch 0 is the genesis.",
                1,
                Item::Uint(0),
                "the epoch of a view is 0, expected 1 or more",
            ),
            ("epoch-large", "It does not fit 32 bits.", 1, Item::Uint(1 << 32), "the epoch is 4294967296"),
            (
                "previous-short",
                "Two of three.",
                10,
                Item::Array(vec![bytes([1; 32]), Item::Uint(9)]),
                "the previous view has length 2, expected 3",
            ),
            ("previous-null", "It comes from nowhere.", 10, Item::Null, "an array expected"),
            (
                "previous-digest-short",
                "31 bytes.",
                10,
                Item::Array(vec![bytes([1; 31]), Item::Uint(9), bytes([1; 32])]),
                "the previous view's digest has length 31",
            ),
        ],
    );
    let members = view.changed(|view| view.at(2).items().swap(2, 3)).encode();
    found.push(fault("members-unsorted", "Members out of order.", "epoch 1: member \"server-3\"", members));
    found
}

/// A point of G2's curve outside the prime-order subgroup.
pub(crate) fn off_subgroup_g2() -> Vec<u8> {
    let points = std::fs::read_to_string(crate::world::vector_file("threshold/points.json")).unwrap();
    let points: Vec<serde_json::Value> = serde_json::from_str(&points).unwrap();
    let point = points.iter().find(|point| point["name"] == "g2-off-subgroup").unwrap();
    field(point, "bytes")
}
