//! Ways to spoil bytes.

use proptest::prelude::*;
use proptest::sample::Index;

use crate::cbor::{self, Edit};

/// Numbers at which counting goes wrong.
const EXTREMES: [u64; 16] = [
    0,
    1,
    23,
    24,
    255,
    256,
    65_535,
    65_536,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    (1 << 63) - 1,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

/// Text that is often not thought of.
const SPECIAL: [&[u8]; 22] = [
    b"\0",
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\x1b[2J",
    b"\xEF\xBB\xBF",
    b"\xff\xfe",
    b"\xC3",
    "\u{202e}".as_bytes(),
    "ı".as_bytes(),
    b"\"",
    b"'",
    b"\\",
    b"=?utf-8?B?/w==?=",
    b"%n%s",
    b"-----BEGIN ",
    b"-----",
    b"--",
    b"((((((((((((((((",
    b"[[[[[[[[[[[[[[[[",
    b"{{{{{{{{{{{{{{{{",
];

/// Numbers as text.
const NUMBERS: [&[u8]; 9] =
    [b"0", b"-1", b"-0", b"00", b"1e999", b"0x10", b"4294967296", b"18446744073709551616", b"nan"];

/// One way. Places are relative, so that they fit whatever the other changes left.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Flip(Index, u8),
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Special(Index, Index),
    Remove(Index, u16),
    Cut(Index),
    Repeat(Index, u8, u16),
    Extreme(Index, u8, Index),
    Splice { at: Index, of: Index, from: Index, to: Index },
    Item(Index, Edit),
    Line(Index, Index, u8),
    Number(Index, Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        3 => any::<Index>().prop_map(|place| Edit::Value(*place.get(&EXTREMES))),
        1 => any::<u64>().prop_map(Edit::Value),
        1 => (0..70_000_u64).prop_map(Edit::Value),
        1 => Just(Edit::LongHead),
        1 => Just(Edit::Indefinite),
        1 => any::<u8>().prop_map(Edit::Major),
        2 => prop_oneof![0..70_usize, Just(1000), Just(70_000)].prop_map(Edit::Resize),
        1 => (0..8_usize).prop_map(Edit::Twice),
        1 => (0..8_usize).prop_map(Edit::Without),
        1 => (0..8_usize).prop_map(Edit::First),
        1 => prop_oneof![1..4_usize, Just(200), Just(100_000)].prop_map(Edit::Nest),
        1 => prop::collection::vec(any::<u8>(), 0..6).prop_map(Edit::Replace),
    ]
}

pub(crate) fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        2 => (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        2 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        1 => (any::<Index>(), prop::collection::vec(any::<u8>(), 1..8)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(at, which)| Change::Special(at, which)),
        1 => (any::<Index>(), 1..64_u16).prop_map(|(at, count)| Change::Remove(at, count)),
        1 => any::<Index>().prop_map(Change::Cut),
        1 => (any::<Index>(), 1..64_u8, 2..300_u16).prop_map(|(at, length, times)| Change::Repeat(at, length, times)),
        1 => (any::<Index>(), 0..4_u8, any::<Index>()).prop_map(|(at, width, which)| Change::Extreme(at, width, which)),
        1 => (any::<Index>(), any::<Index>(), any::<Index>(), any::<Index>())
            .prop_map(|(at, of, from, to)| Change::Splice { at, of, from, to }),
        8 => (any::<Index>(), edit()).prop_map(|(at, edit)| Change::Item(at, edit)),
        1 => (any::<Index>(), any::<Index>(), 0..3_u8).prop_map(|(from, to, how)| Change::Line(from, to, how)),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(at, which)| Change::Number(at, which)),
    ]
}

impl Change {
    /// Spoils `bytes`; `seeds` are what pieces are taken from.
    pub(crate) fn apply(&self, bytes: &mut Vec<u8>, seeds: &[&[u8]]) {
        let length = bytes.len();
        let at = |place: &Index| place.index(length.max(1));
        match self {
            Self::Flip(place, bit) => {
                if let Some(byte) = bytes.get_mut(at(place)) {
                    *byte ^= 1 << bit;
                }
            }
            Self::Set(place, to) => {
                if let Some(byte) = bytes.get_mut(at(place)) {
                    *byte = *to;
                }
            }
            Self::Insert(place, new) => splice(bytes, place.index(length + 1), 0, new),
            Self::Special(place, which) => {
                splice(bytes, place.index(length + 1), 0, which.get::<&[u8]>(&SPECIAL))
            }
            Self::Remove(place, count) => splice(bytes, at(place), usize::from(*count), b""),
            Self::Cut(place) => bytes.truncate(place.index(length + 1)),
            Self::Repeat(place, count, times) => {
                let at = at(place);
                let piece = bytes.get(at..(at + usize::from(*count)).min(length)).unwrap_or_default();
                let piece = piece.repeat((*times).into());
                splice(bytes, at.min(length), 0, &piece);
            }
            Self::Extreme(place, width, which) => {
                let width = 1_usize << width;
                let number = which.get(&EXTREMES).to_be_bytes();
                splice(bytes, at(place), width, number.get(8 - width..).unwrap_or_default());
            }
            Self::Splice { at: place, of, from, to } => {
                if seeds.is_empty() {
                    return;
                }
                let other = of.get::<&[u8]>(seeds);
                let (from, to) = (from.index(other.len() + 1), to.index(other.len() + 1));
                let piece = other.get(from.min(to)..from.max(to)).unwrap_or_default();
                splice(bytes, place.index(length + 1), 0, piece);
            }
            Self::Item(place, edit) => {
                if let Some(mut tree) = cbor::parse(bytes) {
                    let count = tree.count();
                    if let Some(node) = tree.nth(place.index(count)) {
                        node.apply(edit);
                    }
                    *bytes = tree.to_bytes();
                }
            }
            Self::Line(from, to, how) => {
                let mut lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
                if lines.is_empty() {
                    return;
                }
                let (from, to) = (from.index(lines.len()), to.index(lines.len()));
                match how {
                    0 => drop(lines.remove(from)),
                    1 => lines.swap(from, to),
                    _ => lines.insert(to, lines.get(from).copied().unwrap_or_default()),
                }
                *bytes = lines.concat();
            }
            Self::Number(place, which) => {
                let digit = |place: usize| bytes.get(place).is_some_and(u8::is_ascii_digit);
                let start = (at(place)..length).find(|place| digit(*place));
                if let Some(start) = start {
                    let count = (start..length).take_while(|place| digit(*place)).count();
                    splice(bytes, start, count, which.get::<&[u8]>(&NUMBERS));
                }
            }
        }
    }
}

/// Puts `new` in the place of `count` bytes from `at` on, as far as there are so many.
fn splice(bytes: &mut Vec<u8>, at: usize, count: usize, new: &[u8]) {
    let at = at.min(bytes.len());
    let end = (at + count).min(bytes.len());
    drop(bytes.splice(at..end, new.iter().copied()));
}
