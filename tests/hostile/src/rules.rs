//! That each rule fails a decoder that breaks it.

use crate::cbor;
use crate::growth;
use crate::{Effort, Target};

const EFFORT: Effort = Effort { cases: 3000, time: None, seed: 7 };

/// Why it breaks a rule under mutation or growth. What is found is not kept.
fn fault(target: Target) -> String {
    let seeds: Vec<&[u8]> = target.seeds().iter().map(Vec::as_slice).collect();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(target.name());
    let found = crate::plan::try_all(&target, &seeds, EFFORT.cases, EFFORT.seed);
    let found = found.and_then(|()| growth::check(&target));
    if folder.exists() {
        std::fs::remove_dir_all(folder).unwrap();
    }
    found.unwrap_err()
}

/// `{0: "tag", 1: h'a1 00 07'}`, where the inner map is what counts.
fn nested() -> Vec<u8> {
    let mut bytes = vec![0xa2, 0, 0x63];
    bytes.extend_from_slice(b"tag");
    bytes.extend_from_slice(&[1, 0x43, 0xa1, 0, 7]);
    bytes
}

#[test]
fn a_panic_behind_an_outer_length_is_found_and_shrunk() {
    // Only who sets the outer length right again gets to a number of two bytes.
    let target = Target::new("rules-panic", |bytes| {
        let inner = bytes.get(8..).unwrap_or_default();
        let wraps = bytes.get(7).is_some_and(|head| head & 31 == inner.len() as u8);
        assert!(!(wraps && inner.starts_with(&[0xa1, 0, 0x19])), "two bytes");
        if inner == [0xa1, 0, 7] { Ok(()) } else { Err("at 8") }
    });
    let fault = fault(target.seed(nested()));
    assert!(fault.contains("panicked: two bytes"), "{fault}");
}

#[test]
fn memory_that_the_input_does_not_justify_is_found() {
    let target = Target::new("rules-memory", |bytes| {
        let claimed = bytes.get(..4).and_then(|head| head.try_into().ok()).map_or(0, u32::from_be_bytes);
        drop(std::hint::black_box(Vec::<u8>::with_capacity((claimed as usize).min(1 << 30))));
        Err::<(), _>("at 0")
    });
    assert!(fault(target.seed([0, 0, 0, 9])).contains("bytes for an input of"));
}

#[test]
fn quadratic_work_is_found() {
    let target = Target::new("rules-time", |bytes| {
        let chunks = bytes.chunks(64);
        let work = chunks.clone().map(|chunk| chunks.clone().filter(|other| *other == chunk).count()).sum();
        if std::hint::black_box::<usize>(work) == 1 { Ok(()) } else { Err("at 0") }
    });
    let fault = fault(target.longest(400_000));
    assert!(fault.contains("more than linear"), "{fault}");
}

#[test]
fn errors_that_help_nobody_are_found() {
    for (error, complaint) in [
        (String::new(), "of 0 characters"),
        ("malformed".to_owned(), "names no place"),
        ("at most 7 expected".to_owned(), "names no place"),
        ("the size at 3: \u{1b}[2J".to_owned(), "control"),
        ("at 7 ".repeat(400), "characters"),
    ] {
        let target = Target::new("rules-error", move |_| Err::<(), _>(error.clone()));
        let fault = fault(target.places(&["the size"]));
        assert!(fault.contains(complaint), "{fault}");
    }
    let good = Target::new("rules-error", |_| Err::<(), _>("the size: 7 found")).places(&["the size"]);
    assert_eq!(good.check(b""), Ok(false));
}

#[test]
fn a_second_encoding_is_found() {
    // Takes leading zeros, and writes none.
    let target = Target::one_encoding("rules-encoding", |bytes| match bytes {
        [.., last] => Ok(vec![*last]),
        [] => Err("at 0"),
    });
    assert!(fault(target.seed([7])).contains("written back in another way from byte"));
}

#[test]
fn trees_are_written_as_they_were_read_and_their_lengths_are_set_right() {
    let mut tree = cbor::parse(&nested()).unwrap();
    assert_eq!(tree.to_bytes(), nested());
    // The map, two keys with a text and a wrapped map, which has a key and a value.
    assert_eq!(tree.count(), 8);
    tree.nth(7).unwrap().apply(&cbor::Edit::Value(65_535));
    assert_eq!(tree.to_bytes().get(6..).unwrap(), [1, 0x45, 0xa1, 0, 0x19, 0xff, 0xff]);
}
