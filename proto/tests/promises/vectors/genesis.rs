//! Geneses.

use fairpost_proto::view::{Constitution, Parameters, View};
use serde_json::json;

use super::faults::{self, Fault, fault};
use super::{Made, bytes as field, same, show};
use crate::item::{Item, bytes, text};
use crate::world::{genesis_with_an_anchor_until, world};

/// Points of G1 that are none (`threshold/points.json` has them all).
pub(super) const IDENTITY: &str =
    "c00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000";
const OFF_SUBGROUP: &str =
    "800000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000004";
const OFF_CURVE: &str =
    "800000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000001";
const NOT_REDUCED: &str =
    "9a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaaf";

pub(super) fn unhex(text: &str) -> Item {
    bytes(hex::decode(text).unwrap())
}

/// Everything that can be wrong with the constitution in a genesis or view.
pub(super) fn constitution_faults(view: &Item) -> Vec<Fault> {
    let mut found = Vec::new();
    let mut change = |name: &str, meaning: &str, error: &str, change: &dyn Fn(&mut Item)| {
        found.push(fault(name, meaning, error, view.changed(|view| change(view)).encode()));
    };
    change(
        "members-unsorted",
        "Members out of order.",
        "member \"server-1\": its name does not come after",
        &|view| {
            view.at(2).items().swap(0, 1);
        },
    );
    change(
        "members-same-name",
        "Two members of one name.",
        "member \"server-1\": its name does not come after",
        &|view| {
            *view.at(2).items()[1].at(0) = text("server-1");
        },
    );
    change(
        "members-same-key",
        "Two members with one key.",
        "member \"server-1\": another member has its key",
        &|view| {
            let key = view.at(2).items()[0].at(2).clone();
            *view.at(2).items()[2].at(2) = key;
        },
    );
    change("members-none", "No members.", "a cluster has 1 to 64 servers, not 0", &|view| {
        view.at(2).items().clear();
    });
    change("members-65", "Too many members.", "the members has length 65", &|view| {
        let member = view.at(2).items()[0].clone();
        *view.at(2).items() = vec![member; 65];
    });
    change(
        "members-3",
        "Three can't stand a fault.",
        "3 servers can't stand 1 compromised ones: that takes at least 4",
        &|view| {
            view.at(2).items().pop();
        },
    );
    change(
        "faults-2",
        "Four can't stand two faults.",
        "4 servers can't stand 2 compromised ones: that takes at least 7",
        &|view| {
            *view.at(3) = Item::Uint(2);
        },
    );
    change("faults-greatest", "2^64 - 1 faults.", "4 servers can't stand", &|view| {
        *view.at(3) = Item::Uint(u64::MAX)
    });
    change(
        "member-name-empty",
        "A name must show.",
        "a member's name is \"\", expected printable text",
        &|view| {
            *view.at(2).items()[0].at(0) = text("");
        },
    );
    change("member-name-control", "An escape in a name.", "expected printable text, not empty", &|view| {
        *view.at(2).items()[0].at(0) = text("a\u{1b}[2J");
    });
    change("member-name-long", "64 bytes.", "a member's name has length 64", &|view| {
        *view.at(2).items()[0].at(0) = text(&"a".repeat(64));
    });
    change("member-address-empty", "No address.", "a member's address is \"\"", &|view| {
        *view.at(2).items()[0].at(1) = text("");
    });
    change("member-key-short", "31 bytes.", "an Ed25519 key has length 31", &|view| {
        *view.at(2).items()[0].at(2) = bytes([1; 31]);
    });
    change(
        "member-key-no-point",
        "No point of the curve.",
        "the identity of member \"server-1\" is no Ed25519 key",
        &|view| {
            let mut key = [0; 32];
            key[0] = 2;
            *view.at(2).items()[0].at(2) = bytes(key);
        },
    );
    change(
        "member-key-small-order",
        "A key that anybody can sign for.",
        "the identity of member \"server-1\" is no Ed25519 key",
        &|view| {
            let mut key = [0; 32];
            key[0] = 1;
            *view.at(2).items()[0].at(2) = bytes(key);
        },
    );
    change(
        "member-key-not-reduced",
        "A key in a second encoding.",
        "the identity of member \"server-1\" is no Ed25519 key",
        &|view| {
            *view.at(2).items()[0].at(2) = bytes(second_encoding());
        },
    );
    change(
        "commitment-short",
        "Two points where the quorum is three.",
        "the number of points in the commitment is 2, expected q",
        &|view| {
            view.at(4).items().pop();
        },
    );
    change(
        "commitment-long",
        "Four points where the quorum is three.",
        "the number of points in the commitment is 4, expected q",
        &|view| {
            let point = view.at(4).items()[1].clone();
            view.at(4).items().push(point);
        },
    );
    change("commitment-empty", "No points.", "0 of 0 is no threshold", &|view| view.at(4).items().clear());
    change("commitment-point-short", "47 bytes.", "a point of the commitment has length 47", &|view| {
        view.at(4).items()[0] = bytes([0x80; 47]);
    });
    for (name, meaning, point, error) in [
        (
            "identity",
            "The identity for a key: every signature would hold.",
            IDENTITY,
            "the identity point is no commitment",
        ),
        (
            "off-subgroup",
            "Outside the prime-order subgroup.",
            OFF_SUBGROUP,
            "outside the prime-order subgroup",
        ),
        ("off-curve", "Not on the curve.", OFF_CURVE, "is no point of the curve"),
        ("not-reduced", "Not canonical.", NOT_REDUCED, "is not a canonical encoding"),
    ] {
        for place in [0, 2] {
            change(&format!("commitment-{name}-{place}"), meaning, error, &|view| {
                view.at(4).items()[place] = unhex(point);
            });
        }
    }
    change("operators-too-few", "Three of two must agree.", "3 of 2 operators can't agree", &|view| {
        *view.at(6) = Item::Uint(3);
    });
    change("operators-none-agree", "None of two must agree.", "0 of 2 operators can't agree", &|view| {
        *view.at(6) = Item::Uint(0);
    });
    change("operator-bad", "An operator without a key.", "operator 0 is no Ed25519 key", &|view| {
        view.at(5).items()[0] = bytes([0; 32]);
    });
    change("auditor-bad", "An auditor without a key.", "auditor 0 is no Ed25519 key", &|view| {
        view.at(8).items()[0] = bytes([0; 32]);
    });
    change("operators-65", "Too many operators.", "the keys has length 65", &|view| {
        let key = view.at(5).items()[0].clone();
        *view.at(5).items() = vec![key; 65];
    });
    change(
        "anchor-signer",
        "A person's certificate for an anchor.",
        "trust anchor 0: certificate 0 is not that of a certificate authority",
        &|view| {
            view.at(7).items()[0] = bytes(world().sender.certificate());
        },
    );
    change(
        "anchor-empty",
        "No certificate.",
        "trust anchor 0: certificate 0 is no X.509 certificate",
        &|view| {
            view.at(7).items()[0] = bytes([]);
        },
    );
    let parameter = |place: u64, value: u64, error: &str, name: &str| {
        let meaning = "A parameter out of its range.";
        fault(name, meaning, error, view.changed(|view| *view.at(9).at(place) = Item::Uint(value)).encode())
    };
    found.extend([
        parameter(0, 0, "the skew is 0, expected 1 ms to 1 hour", "skew-0"),
        parameter(0, 3_600_001, "the skew is 3600001", "skew-long"),
        parameter(1, 86_400_001, "the grace is 86400001, expected at most a day", "grace-long"),
        parameter(2, 0, "the shortest lifetime is 0", "shortest-0"),
        parameter(3, 7_776_001, "the longest lifetime is 7776001", "longest-long"),
        parameter(
            3,
            299,
            "the shortest lifetime, 300 s, is longer than the longest, 299 s",
            "lifetimes-crossed",
        ),
        parameter(4, 0, "the feature level is 0, expected 1 to 65535", "level-0"),
        parameter(4, 65_536, "the feature level is 65536", "level-65536"),
        parameter(5, 0, "the retention is 0, expected 1 second to 100 years", "retention-0"),
        parameter(5, 3_155_760_001, "the retention is 3155760001", "retention-long"),
        parameter(
            5,
            7_776_029,
            "signed bytes are to be kept for 7776029 s, expected at least the longest lifetime and the grace, 7776030 s",
            "retention-short",
        ),
    ]);
    found
}

/// A point that is not of small order, encoded with a coordinate not below 2^255 - 19.
fn second_encoding() -> [u8; 32] {
    let encodings = (0..19_u8).map(|low| {
        let mut bytes = [0xff; 32];
        (bytes[0], bytes[31]) = (0xed + low, 0x7f);
        bytes
    });
    let is_point =
        |bytes: &[u8; 32]| ed25519_dalek::VerifyingKey::from_bytes(bytes).is_ok_and(|key| !key.is_weak());
    encodings.into_iter().find(is_point).unwrap()
}

#[test]
fn geneses_are_taken_as_in_the_vectors() {
    let (world, mut made) = (world(), Made::default());
    let mut valid = |name: &str, meaning: &str, genesis: &View| {
        let fields = json!({
            "genesis": hex::encode(genesis.bytes()),
            "cluster": genesis.cluster().to_string(),
            "public_key": genesis.public_key().to_string(),
            "quorum": genesis.quorum().q().to_string(),
            "message": hex::encode(genesis.message().to_bytes()),
        });
        made.valid(name, meaning, fields);
    };
    valid(
        "four",
        "Four servers of which one may be compromised. Other files are about this cluster.",
        &world.genesis,
    );
    let change = |change: &dyn Fn(&mut Constitution)| {
        let mut constitution = world.constitution();
        change(&mut constitution);
        View::genesis("vectors", constitution).unwrap()
    };
    let bare = change(&|body| {
        (body.operators, body.agreeing, body.auditors) = (vec![], 0, vec![]);
    });
    valid("no-operators", "Nobody operates it, nobody audits it.", &bare);
    valid("no-anchors", "Nobody's certificates count.", &change(&|body| body.anchors.clear()));
    let faultless = change(&|body| body.faults = 0);
    valid(
        "no-faults",
        "Four servers of which none may be compromised: their quorum is three as well.",
        &faultless,
    );
    let edges = change(&|body| {
        let (skew, grace) = (body.parameters.skew, body.parameters.grace);
        assert!(skew < grace);
        body.parameters =
            Parameters { shortest_lifetime: body.parameters.longest_lifetime, ..body.parameters };
    });
    valid("one-lifetime", "All exchanges last as long.", &edges);
    valid(
        "brief-anchor",
        "The anchor ends within the exchanges of other files: on 2026-06-05.",
        &genesis_with_an_anchor_until((2026, 6, 5)),
    );

    let fields = |bytes: &[u8]| json!({ "genesis": hex::encode(bytes) });
    let item = Item::decode(world.genesis.bytes());
    made.faults("", faults::tagged(&item), fields);
    made.faults("", constitution_faults(&item), fields);
    let values = vec![
        ("name-empty", "No name.", 1, text(""), "the cluster's name is \"\""),
        ("name-long", "64 bytes.", 1, text(&"a".repeat(64)), "the cluster's name has length 64"),
        ("name-line-end", "Two lines.", 1, text("a\nb"), "expected printable text"),
        ("name-bytes", "Bytes for text.", 1, bytes("vectors"), "a text string expected"),
    ];
    made.faults("", faults::values(&item, values), fields);
    made.keep("genesis.json", |vector| {
        let bytes = field(vector, "genesis");
        let genesis = View::parse_genesis(&bytes).map_err(show)?;
        assert_eq!((genesis.bytes(), genesis.epoch(), genesis.previous()), (&bytes[..], 0, None));
        if vector["name"] == "four" {
            assert_eq!(bytes, world.genesis.bytes());
        }
        same(vector, "cluster", genesis.cluster())?;
        same(vector, "public_key", genesis.public_key())?;
        same(vector, "quorum", genesis.quorum().q())?;
        same(vector, "message", hex::encode(genesis.message().to_bytes()))
    });
}
