//! CBOR as a value that can be taken apart, spoiled and put together again.
//!
//! It is written apart from `fairpost_proto::cbor`, so that the vectors do not only show that the crate agrees with
//! itself.

/// A piece of CBOR.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    Uint(u64),
    /// The number −1 − n.
    Negative(u64),
    Bytes(Vec<u8>),
    Text(String),
    Array(Vec<Item>),
    Map(Vec<(Item, Item)>),
    Tag(u64, Box<Item>),
    Null,
    /// Any bytes in place of an item.
    Raw(Vec<u8>),
}

pub(crate) fn bytes(value: impl AsRef<[u8]>) -> Item {
    Item::Bytes(value.as_ref().to_vec())
}

pub(crate) fn text(value: &str) -> Item {
    Item::Text(value.to_owned())
}

pub(crate) fn raw(value: &[u8]) -> Item {
    Item::Raw(value.to_vec())
}

fn head(major: u8, value: u64) -> Vec<u8> {
    let wide = value.to_be_bytes();
    let major = major << 5;
    match value {
        0..24 => vec![major | wide[7]],
        24..0x100 => vec![major | 24, wide[7]],
        0x100..0x1_0000 => [&[major | 25], &wide[6..]].concat(),
        0x1_0000..0x1_0000_0000 => [&[major | 26], &wide[4..]].concat(),
        _ => [&[major | 27], &wide[..]].concat(),
    }
}

impl Item {
    /// Its encoding: deterministic, but for what is raw, and for map keys, which stay in their order.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let all = |items: &mut dyn Iterator<Item = &Item>| items.flat_map(Item::encode).collect::<Vec<_>>();
        match self {
            Self::Uint(value) => head(0, *value),
            Self::Negative(value) => head(1, *value),
            Self::Bytes(value) => [head(2, value.len() as u64), value.clone()].concat(),
            Self::Text(value) => [head(3, value.len() as u64), value.clone().into_bytes()].concat(),
            Self::Array(items) => [head(4, items.len() as u64), all(&mut items.iter())].concat(),
            Self::Map(entries) => {
                let mut items = entries.iter().flat_map(|(key, value)| [key, value]);
                [head(5, entries.len() as u64), all(&mut items)].concat()
            }
            Self::Tag(tag, item) => [head(6, *tag), item.encode()].concat(),
            Self::Null => vec![0xf6],
            Self::Raw(value) => value.clone(),
        }
    }

    /// The one item in `bytes`, which are well-formed.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let mut rest = bytes;
        let item = Self::read(&mut rest);
        assert!(rest.is_empty(), "{} bytes behind the item", rest.len());
        item
    }

    fn read(rest: &mut &[u8]) -> Self {
        let first = take(rest, 1)[0];
        let value = match first & 0x1f {
            info @ 0..=23 => u64::from(info),
            info => take(rest, 1 << (info - 24)).iter().fold(0, |value, byte| value << 8 | u64::from(*byte)),
        };
        match first >> 5 {
            0 => Self::Uint(value),
            1 => Self::Negative(value),
            2 => Self::Bytes(take(rest, value as usize).to_vec()),
            3 => Self::Text(String::from_utf8(take(rest, value as usize).to_vec()).unwrap()),
            4 => Self::Array((0..value).map(|_| Self::read(rest)).collect()),
            5 => Self::Map((0..value).map(|_| (Self::read(rest), Self::read(rest))).collect()),
            6 => Self::Tag(value, Box::new(Self::read(rest))),
            _ => {
                assert_eq!(first, 0xf6, "no other simple value is used");
                Self::Null
            }
        }
    }

    /// The entries of a map.
    pub(crate) fn entries(&mut self) -> &mut Vec<(Item, Item)> {
        match self {
            Self::Map(entries) => entries,
            other => panic!("{other:?} is no map"),
        }
    }

    /// The items of an array.
    pub(crate) fn items(&mut self) -> &mut Vec<Item> {
        match self {
            Self::Array(items) => items,
            other => panic!("{other:?} is no array"),
        }
    }

    /// The value of a map's key.
    pub(crate) fn at(&mut self, key: u64) -> &mut Item {
        let entry = self.entries().iter_mut().find(|(found, _)| *found == Item::Uint(key));
        &mut entry.unwrap_or_else(|| panic!("no key {key}")).1
    }

    /// The content of a byte string.
    pub(crate) fn content(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            other => panic!("{other:?} is no byte string"),
        }
    }

    /// The same map with another value under `key`.
    pub(crate) fn with(&self, key: u64, value: Item) -> Self {
        let mut changed = self.clone();
        *changed.at(key) = value;
        changed
    }

    /// The same map, changed.
    pub(crate) fn changed(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut changed = self.clone();
        change(&mut changed);
        changed
    }
}

fn take<'b>(rest: &mut &'b [u8], length: usize) -> &'b [u8] {
    let (taken, left) = rest.split_at(length);
    *rest = left;
    taken
}
