//! What can be wrong with any map of the formats.

use crate::item::{Item, raw, text};

/// A way to spoil something.
pub(super) struct Fault {
    pub(super) name: String,
    pub(super) meaning: String,
    pub(super) error: String,
    pub(super) bytes: Vec<u8>,
}

pub(super) fn fault(name: &str, meaning: &str, error: &str, bytes: Vec<u8>) -> Fault {
    Fault { name: name.into(), meaning: meaning.into(), error: error.into(), bytes }
}

fn integer(key: &Item) -> u64 {
    match key {
        Item::Uint(key) => *key,
        other => panic!("{other:?} is no key"),
    }
}

type Entries = Vec<(Item, Item)>;

/// Everything that deterministic encoding forbids, tried on a map whose first key is below 24.
pub(super) fn encoding(map: &Item) -> Vec<Fault> {
    let entries = map.clone().entries().clone();
    let (good, count) = (map.encode(), entries.len());
    let (first, second) = (integer(&entries[0].0), integer(&entries[1].0));
    let changed = |change: &dyn Fn(&mut Entries)| {
        let mut entries = entries.clone();
        change(&mut entries);
        Item::Map(entries).encode()
    };
    let not_shortest = "is not the shortest definite one";
    let out_of_order = format!("key {first} expected at 1, found {second}");
    vec![
        fault("empty", "No bytes at all.", "the bytes end at 0, where 1 more are needed", vec![]),
        fault("truncated", "The last byte is missing.", "the bytes end at", good[..good.len() - 1].to_vec()),
        fault("trailing", "A byte after the end.", "1 bytes trail behind", [&good[..], &[0]].concat()),
        fault(
            "long-head",
            "The map's length takes a byte more than it needs.",
            not_shortest,
            [&[0xb8, count as u8], &good[1..]].concat(),
        ),
        fault(
            "indefinite",
            "A map of indefinite length.",
            not_shortest,
            [&[0xbf], &good[1..], &[0xff]].concat(),
        ),
        fault(
            "long-key",
            "The first key takes a byte more than it needs.",
            not_shortest,
            changed(&|entries| entries[0].0 = raw(&[0x18, first as u8])),
        ),
        fault(
            "text-key",
            "The first key is text.",
            "an integer expected at 1, found a text string",
            changed(&|entries| entries[0].0 = text("0")),
        ),
        fault(
            "duplicate-key",
            "The first key stands twice.",
            &format!("key {first} stands twice"),
            changed(&|entries| entries.insert(1, entries[0].clone())),
        ),
        fault(
            "duplicate-last-key",
            "The last key stands twice.",
            &format!("key {} stands twice", integer(&entries[count - 1].0)),
            changed(&|entries| entries.push(entries[count - 1].clone())),
        ),
        fault(
            "unordered",
            "The first two keys in the wrong order.",
            &out_of_order,
            changed(&|entries| entries.swap(0, 1)),
        ),
        fault(
            "missing-first",
            "The first key is missing.",
            &out_of_order,
            changed(&|entries| drop(entries.remove(0))),
        ),
        fault(
            "missing-last",
            "The last key is missing.",
            "the map has length 0, expected more keys",
            changed(&|entries| drop(entries.pop())),
        ),
        fault(
            "unknown-key",
            "A key that the format does not have.",
            "the map has length 1, expected fewer keys",
            changed(&|entries| entries.push((Item::Uint(1000), Item::Null))),
        ),
        fault(
            "array",
            "An array in place of the map.",
            "a map expected at 0, found an array",
            Item::Array(vec![]).encode(),
        ),
    ]
}

/// [`encoding`], and the tag in key 0.
pub(super) fn tagged(map: &Item) -> Vec<Fault> {
    let mut faults = encoding(map);
    let Item::Text(tag) = map.clone().at(0).clone() else { panic!("key 0 is no tag") };
    let later = tag.replace("/v1", "/v2");
    let error = format!("this is {later:?}, expected");
    faults.push(fault("other-version", "Of a later version.", &error, map.with(0, text(&later)).encode()));
    let error = "this is \"fairpost/other/v1\", expected";
    faults.push(fault(
        "other-tag",
        "Of another kind.",
        error,
        map.with(0, text("fairpost/other/v1")).encode(),
    ));
    let error = "a text string expected at 2, found an unsigned integer";
    faults.push(fault("tag-number", "A number for a tag.", error, map.with(0, Item::Uint(1)).encode()));
    faults
}

/// One value after another replaced: (name, meaning, key, value, error).
pub(super) fn values(map: &Item, values: Vec<(&str, &str, u64, Item, &str)>) -> Vec<Fault> {
    values
        .into_iter()
        .map(|(name, meaning, key, value, error)| fault(name, meaning, error, map.with(key, value).encode()))
        .collect()
}
