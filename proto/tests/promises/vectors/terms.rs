//! Terms, and the header of a sealed mail.

use fairpost_proto::ids::{Protocol, Timestamp, Verdict};
use fairpost_proto::letter;
use fairpost_proto::terms::{Fields, Terms};
use serde_json::json;

use super::faults::{self, Fault, fault};
use super::{Made, bytes as field, same, show};
use crate::item::{Item, bytes, raw, text};
use crate::world::{CREATED, world};

fn terms_of(change: impl FnOnce(&mut Fields)) -> Terms {
    let mut fields = world().fields();
    change(&mut fields);
    Terms::new(fields).unwrap()
}

/// Everything that can be wrong with the values of terms.
pub(super) fn terms_values(terms: &Item) -> Vec<Fault> {
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
