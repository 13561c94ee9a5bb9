//! Leaves, and the votes for them.

use fairpost_proto::chain::key_id;
use fairpost_proto::cose::Signed;
use fairpost_proto::ids::{ClusterId, Digest, Timestamp, Verdict};
use fairpost_proto::leaf::{Leaf, Round};
use fairpost_proto::vote::{Certificate, Vote};
use serde_json::json;

use super::envelope::Envelope;
use super::faults::{self, Fault, fault};
use super::{Made, bytes as field, same, show};
use crate::item::{Item, bytes, text};
use crate::world::{World, after, signing_key, world};

#[test]
fn leaves_are_taken_as_in_the_vectors() {
    let (world, mut made) = (world(), Made::default());
    let mut valid = |name: &str, meaning: &str, leaf: &Leaf| {
        let fields = json!({ "leaf": hex::encode(leaf.to_bytes()), "hash": leaf.hash().to_string() });
        made.valid(name, meaning, fields);
    };
    for (verdict, name) in Verdict::ALL.into_iter().zip(["released", "withdrawn", "refused", "expired"]) {
        valid(name, "Such a verdict, in the first round.", &world.leaf(verdict));
    }
    let leaf = world.leaf(Verdict::Released);
    let last = Leaf { round: Round::new(u32::MAX).unwrap(), time: Timestamp::MAX, ..leaf };
    valid("greatest", "The last round, in the last millisecond.", &last);

    let fields = |bytes: &[u8]| json!({ "leaf": hex::encode(bytes) });
    let item = Item::decode(&leaf.to_bytes());
    let expired = Item::decode(&world.leaf(Verdict::Expired).to_bytes());
    made.faults("", faults::encoding(&item), fields);
    let values = vec![
        ("kind-0", "No such kind.", 0, Item::Uint(0), "the leaf's kind is 0, expected 1 (verdict)"),
        ("kind-2", "A submission: reserved.", 0, Item::Uint(2), "the leaf's kind is 2, expected 1 (verdict)"),
        ("exchange-short", "31 bytes.", 1, bytes([1; 31]), "the exchange id has length 31"),
        ("round-0", "Rounds count from 1.", 2, Item::Uint(0), "the round is 0, expected 1 to 4294967295"),
        ("round-large", "More than 32 bits.", 2, Item::Uint(1 << 32), "the round is 4294967296"),
        ("verdict-0", "No such verdict.", 3, Item::Uint(0), "the verdict is 0, expected 1 to 4"),
        ("verdict-5", "No such verdict.", 3, Item::Uint(5), "the verdict is 5, expected 1 to 4"),
        ("verdict-257", "1, if one looks at one byte only.", 3, Item::Uint(257), "the verdict is 257"),
        ("verdict-text", "A verdict by name.", 3, text("Released"), "an unsigned integer expected"),
        (
            "time-year-10000",
            "One millisecond too late.",
            4,
            Item::Uint(253_402_300_800_000),
            "the leaf's time is",
        ),
        ("nro-null", "No NRO.", 5, Item::Null, "a byte string expected"),
        ("nro-long", "33 bytes.", 5, bytes([1; 33]), "the NRO's digest has length 33"),
        ("evidence-short", "31 bytes.", 6, bytes([1; 31]), "the evidence's digest has length 31"),
        (
            "evidence-missing",
            "Released without a receipt.",
            6,
            Item::Null,
            "Released with None, expected none for Expired",
        ),
        ("expired-as-refused", "Expired with evidence.", 3, Item::Uint(4), "Expired with Some(Digest("),
    ];
    made.faults("", faults::values(&item, values), fields);
    let values = vec![
        ("expired-with-evidence", "Expired has none.", 6, bytes([1; 32]), "Expired with Some(Digest("),
        ("refused-without", "Refused has some.", 3, Item::Uint(3), "Refused with None"),
        ("withdrawn-without", "Withdrawn has some.", 3, Item::Uint(2), "Withdrawn with None"),
    ];
    made.faults("", faults::values(&expired, values), fields);
    made.keep("leaf.json", |vector| {
        let bytes = field(vector, "leaf");
        let leaf = Leaf::parse(&bytes).map_err(show)?;
        assert_eq!(leaf.to_bytes(), bytes);
        same(vector, "hash", leaf.hash())
    });
}

/// The members by ascending key id, as their votes stand in a certificate.
fn by_key_id(world: &World) -> Vec<usize> {
    let mut places: Vec<usize> = (0..4).collect();
    places.sort_by_key(|place| key_id(&world.members[*place].verifying_key()));
    places
}

#[test]
fn certificates_convince_as_in_the_vectors() {
    let (world, mut made) = (world(), Made::default());
    let leaf = world.leaf(Verdict::Released);
    let good = world.certificate(leaf, &[0, 1, 2]);
    let fields = |bytes: &[u8]| json!({ "view": "four", "certificate": hex::encode(bytes) });
    made.valid("three-votes", "A quorum of four.", fields(&good.to_bytes()));
    made.valid("four-votes", "All of four.", fields(&world.certificate(leaf, &[0, 1, 2, 3]).to_bytes()));
    let expired = world.certificate(world.leaf(Verdict::Expired), &[1, 2, 3]);
    made.valid("expired", "Another verdict, another quorum.", fields(&expired.to_bytes()));

    let item = Item::decode(&good.to_bytes());
    made.faults("", faults::encoding(&item), fields);
    made.faults("", leaf_swaps(world, &item), fields);
    made.faults("", changed_lists(world, &item), fields);
    made.faults("vote-", changed_votes(world, &item), fields);
    made.faults("proof-", changed_proofs(&item), fields);
    made.keep("certificate.json", |vector| {
        let bytes = field(vector, "certificate");
        let certificate = Certificate::parse(&bytes).map_err(show)?;
        assert_eq!(certificate.to_bytes(), bytes);
        certificate.check(&world.genesis).map_err(show)
    });
}

fn leaf_swaps(world: &World, certificate: &Item) -> Vec<Fault> {
    let leaf = world.leaf(Verdict::Released);
    let swap = |name, meaning, leaf: Leaf| {
        let changed = certificate.with(0, bytes(leaf.to_bytes()));
        fault(name, meaning, "vote 0 is not for this leaf: the path leads to root", changed.encode())
    };
    vec![
        swap("leaf-refused", "Votes for another verdict.", Leaf { verdict: Verdict::Refused, ..leaf }),
        swap("leaf-later", "Votes for another time.", Leaf { time: after(3601), ..leaf }),
        swap("leaf-round-2", "Votes of another round.", Leaf { round: Round::new(2).unwrap(), ..leaf }),
        swap("leaf-exchange", "Votes on another exchange.", Leaf { exchange: world.cmp1.id(), ..leaf }),
        fault(
            "leaf-verdict-5",
            "No leaf.",
            "certificate: the verdict is 5",
            certificate
                .changed(|to| {
                    let leaf = Item::decode(to.at(0).content()).with(3, Item::Uint(5));
                    *to.at(0) = bytes(leaf.encode());
                })
                .encode(),
        ),
    ]
}

fn changed_lists(world: &World, certificate: &Item) -> Vec<Fault> {
    let list = |name: &str, meaning: &str, error: &str, change: &dyn Fn(&mut Vec<Item>)| {
        fault(name, meaning, error, certificate.changed(|to| change(to.at(1).items())).encode())
    };
    let leaf = world.leaf(Verdict::Released);
    let only = |members: &[usize]| world.certificate(leaf, members).to_bytes();
    vec![
        list("no-votes", "Nobody voted.", "the votes has length 0, expected one or more", &Vec::clear),
        fault("two-votes", "One too few.", "2 votes, and it takes 3", only(&[0, 3])),
        list("votes-unordered", "Votes out of order.", "vote 1 is by", &|votes| votes.swap(0, 1)),
        list("duplicated", "One member's vote twice.", "which does not come after", &|votes| {
            votes[2] = votes[1].clone();
        }),
        list("65-votes", "More votes than a cluster has servers.", "the votes has length 65", &|votes| {
            *votes = vec![votes[0].clone(); 65];
        }),
        list("vote-null", "Null for a vote.", "a byte string expected", &|votes| votes[1] = Item::Null),
    ]
}

/// A certificate whose first vote, by key id, is changed and signed again.
fn changed_votes(world: &World, certificate: &Item) -> Vec<Fault> {
    let leaf = world.leaf(Verdict::Released);
    let order: Vec<usize> = by_key_id(world).into_iter().filter(|place| *place < 3).collect();
    let with = |change: &dyn Fn(&mut Vote)| {
        let vote = |place: &usize| {
            world.vote(*place, &leaf, |vote| {
                if *place == order[0] {
                    change(vote)
                }
            })
        };
        Certificate::new(leaf, order.iter().map(vote).collect()).to_bytes()
    };
    let ballot = |to: Digest| move |vote: &mut Vote| vote.ballot = to;
    let mut found = vec![
        fault(
            "cluster",
            "For another cluster.",
            "vote 0 is for cluster 0909",
            with(&|vote| vote.cluster = ClusterId::new([9; 32])),
        ),
        fault(
            "epoch",
            "Given in another epoch.",
            "vote 0 was given in epoch 1, expected 0",
            with(&|vote| vote.epoch = 1),
        ),
        fault(
            "ballot",
            "Its ballot does not hold the leaf.",
            "vote 0 is not for this leaf: the path leads to root",
            with(&ballot(Digest::of(b"other"))),
        ),
        fault(
            "log-only",
            "The leaf stands in the log, whose root was signed, but not in the ballot: an abstention.",
            "vote 0 is not for this leaf: the path leads to root",
            with(&|vote| {
                (vote.log_root, vote.ballot) = (vote.ballot, Digest::of(b"ballot without the leaf"))
            }),
        ),
    ];
    // By somebody who is no member, whose key id would stand first, last or between.
    let stranger = signing_key(0x3f);
    let mut votes: Vec<_> = (0..2).map(|place| world.vote(place, &leaf, |_| {})).collect();
    let (vote, proof) = world.vote(2, &leaf, |_| {});
    let by_stranger = Signed::sign(*vote.payload(), key_id(&stranger.verifying_key()), &stranger);
    votes.push((by_stranger, proof.clone()));
    let error = "who is no member in epoch 0";
    found.push(fault("stranger", "By nobody in the view.", error, Certificate::new(leaf, votes).to_bytes()));

    // In a member's name, by another key.
    let in_name = key_id(&world.members[order[0]].verifying_key());
    let forged = Signed::sign(*vote.payload(), in_name, &stranger);
    let mut votes: Vec<_> = order[1..].iter().map(|place| world.vote(*place, &leaf, |_| {})).collect();
    votes.push((forged, proof));
    let error = "vote 0: the signature on this application/vnd.fairpost.vote+cose is not by key";
    found.push(fault(
        "forged",
        "In a member's name, by another key.",
        error,
        Certificate::new(leaf, votes).to_bytes(),
    ));

    // Malformed ones.
    let first = certificate.clone().at(1).items()[0].content().to_vec();
    let opened = Envelope::open(&first, &world.members[order[0]]);
    let Item::Tag(18, mut object) = Item::decode(&first) else { panic!("no COSE_Sign1") };
    let unprotected = object.items()[1].clone();
    let put = |vote: Vec<u8>| certificate.changed(|to| to.at(1).items()[0] = bytes(vote)).encode();
    let with_proof = |vote: &[u8]| {
        let Item::Tag(18, mut object) = Item::decode(vote) else { panic!("no COSE_Sign1") };
        object.items()[1] = unprotected.clone();
        Item::Tag(18, object).encode()
    };
    let error = "vote 0: malformed: the unprotected header has length 0, expected 1 key";
    found.push(fault("without-proof", "Without a proof of its ballot.", error, put(opened.sign())));
    let mut payloads = faults::tagged(&opened.payload);
    payloads.extend(faults::values(
        &opened.payload,
        vec![
            ("epoch-large", "More than 32 bits.", 2, Item::Uint(1 << 32), "the epoch is 4294967296"),
            ("root-short", "31 bytes.", 5, bytes([1; 31]), "the log's root has length 31"),
            ("ballot-short", "31 bytes.", 6, bytes([1; 31]), "the ballot's root has length 31"),
        ],
    ));
    for mut fault in payloads {
        fault.name = format!("payload-{}", fault.name);
        fault.bytes = put(with_proof(&opened.sign_payload(&fault.bytes)));
        found.push(fault);
    }
    for (name, meaning, key, value, error) in [
        ("algorithm", "Another algorithm.", 1, Item::Negative(7), "vote 0: signature algorithm -8"),
        (
            "typ",
            "An entry's typ.",
            16,
            text("application/vnd.fairpost.entry+cose"),
            "vote 0: this is of type",
        ),
        ("kid-short", "31 bytes.", 4, bytes([1; 31]), "vote 0: malformed: kid has length 31"),
    ] {
        let protected = opened.protected.with(key, value).encode();
        found.push(fault(name, meaning, error, put(with_proof(&opened.sign_protected(&protected)))));
    }
    found
}

/// A certificate whose first vote has another proof in its unprotected header, which nobody signs.
fn changed_proofs(certificate: &Item) -> Vec<Fault> {
    let with = |change: &dyn Fn(&mut Item)| {
        certificate
            .changed(|to| {
                let vote = &mut to.at(1).items()[0];
                let Item::Tag(18, mut object) = Item::decode(vote.content()) else { panic!("no COSE_Sign1") };
                change(&mut object.items()[1]);
                *vote = bytes(Item::Tag(18, object).encode());
            })
            .encode()
    };
    let proofs = |header: &mut Item, change: &dyn Fn(&mut Vec<Item>)| {
        let inner = &mut header.at(396).entries()[0].1;
        change(inner.items());
    };
    let proof = |change: &dyn Fn(&mut Vec<Item>)| {
        with(&|header| {
            proofs(header, &|list| {
                let mut proof = Item::decode(list[0].content());
                change(proof.items());
                list[0] = bytes(proof.encode());
            });
        })
    };
    vec![
        fault(
            "two",
            "Two proofs.",
            "the inclusion proofs has length 2, expected 1",
            with(&|header| {
                proofs(header, &|list| list.push(list[0].clone()));
            }),
        ),
        fault(
            "kind",
            "A consistency proof's label.",
            "key -1 expected",
            with(&|header| {
                header.at(396).entries()[0].0 = Item::Negative(1);
            }),
        ),
        fault(
            "label",
            "Another label.",
            "key 396 expected",
            with(&|header| {
                header.entries()[0].0 = Item::Uint(395);
            }),
        ),
        fault(
            "extra",
            "A second header.",
            "the map has length 1, expected fewer keys",
            with(&|header| {
                header.entries().push((Item::Uint(1000), Item::Null));
            }),
        ),
        fault(
            "index",
            "Another place in the ballot.",
            "vote 0 is not for this leaf: the path leads to root",
            proof(&|proof| {
                proof[1] = Item::Uint(0);
            }),
        ),
        fault(
            "index-beyond",
            "No place in the ballot.",
            "there is no leaf 2 in a tree of 2 leaves",
            proof(&|proof| {
                proof[1] = Item::Uint(2);
            }),
        ),
        fault(
            "size-large",
            "A tree of 2^64 - 1 leaves.",
            "a tree of 18446744073709551615 leaves is too large",
            proof(&|proof| {
                proof[0] = Item::Uint(u64::MAX);
            }),
        ),
        fault(
            "path-empty",
            "No path.",
            "the path has 0 hashes, and the proof needs 1",
            proof(&|proof| {
                proof[2].items().clear();
            }),
        ),
        fault(
            "path-long",
            "A hash too many.",
            "the path has 2 hashes, and the proof needs 1",
            proof(&|proof| {
                proof[2].items().push(bytes([1; 32]));
            }),
        ),
        fault(
            "path-64",
            "More hashes than any tree has levels.",
            "the inclusion path has length 64",
            proof(&|proof| {
                *proof[2].items() = vec![bytes([1; 32]); 64];
            }),
        ),
        fault(
            "node-short",
            "31 bytes.",
            "a node has length 31",
            proof(&|proof| {
                proof[2].items()[0] = bytes([1; 31]);
            }),
        ),
        fault(
            "two-parts",
            "Without a path.",
            "the inclusion proof has length 2, expected 3",
            proof(&|proof| {
                proof.pop();
            }),
        ),
    ]
}
