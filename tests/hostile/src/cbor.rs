//! CBOR as a tree that may be spoiled: what is nested is changed, and the lengths around it are set right again.
//!
//! Byte strings that hold CBOR themselves are opened too: signed objects lie within files, and payloads within them.

/// More levels than any format here has.
const MAX_DEPTH: usize = 24;

/// One item.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    /// A number, a simple value: its head.
    Number { major: u8, value: u64 },
    /// A byte string (2) or a text (3).
    String { major: u8, bytes: Vec<u8> },
    /// A byte string that is itself one item.
    Wrapped(Box<Node>),
    /// An array (4), a map (5, keys and values in turn) or a tag (6, its content).
    List { major: u8, value: u64, items: Vec<Node> },
    /// Anything, as it is.
    Raw(Vec<u8>),
}

/// What is done to one item.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    /// Another value, or another length than it has.
    Value(u64),
    /// A head that is longer than it need be.
    LongHead,
    /// An indefinite length.
    Indefinite,
    /// Another major type.
    Major(u8),
    /// Another length, and the content with it.
    Resize(usize),
    /// The item of a list with this place: there twice, away, or at the front.
    Twice(usize),
    Without(usize),
    First(usize),
    /// So many arrays around it.
    Nest(usize),
    /// Another item instead.
    Replace(Vec<u8>),
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl Cursor<'_> {
    fn take(&mut self, count: u64) -> Option<Vec<u8>> {
        let (taken, rest) = self.rest.split_at_checked(usize::try_from(count).ok()?)?;
        self.rest = rest;
        Some(taken.to_vec())
    }

    fn node(&mut self, depth: usize) -> Option<Node> {
        let first = *self.take(1)?.first()?;
        let (major, info) = (first >> 5, first & 31);
        let value = match info {
            0..=23 => u64::from(info),
            24..=27 => {
                self.take(1 << (info - 24))?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
            }
            _ => return None,
        };
        let count = match major {
            2 | 3 => {
                let bytes = self.take(value)?;
                let inner =
                    if major == 2 && depth < MAX_DEPTH { parse_list(&bytes, depth + 1) } else { None };
                return Some(match inner {
                    Some(inner) => Node::Wrapped(Box::new(inner)),
                    None => Node::String { major, bytes },
                });
            }
            4 => value,
            5 => value.checked_mul(2)?,
            6 => 1,
            _ => return Some(Node::Number { major, value }),
        };
        if depth >= MAX_DEPTH || count > self.rest.len() as u64 {
            return None;
        }
        let items = (0..count).map(|_| self.node(depth + 1)).collect::<Option<_>>()?;
        Some(Node::List { major, value, items })
    }
}

/// The list that `bytes` are, to their end.
fn parse_list(bytes: &[u8], depth: usize) -> Option<Node> {
    let mut cursor = Cursor { rest: bytes };
    let node = cursor.node(depth)?;
    (cursor.rest.is_empty() && matches!(node, Node::List { .. })).then_some(node)
}

/// The tree of `bytes`, if they are one array, map or tag.
pub(crate) fn parse(bytes: &[u8]) -> Option<Node> {
    parse_list(bytes, 0)
}

fn head(major: u8, value: u64, out: &mut Vec<u8>) {
    let wide = value.to_be_bytes();
    let (info, width) = match value {
        0..=23 => (value as u8, 0),
        24..=0xff => (24, 1),
        0x100..=0xffff => (25, 2),
        0x1_0000..=0xffff_ffff => (26, 4),
        _ => (27, 8),
    };
    out.push(major << 5 | info);
    out.extend(wide.iter().skip(8 - width));
}

impl Node {
    /// Its bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Number { major, value } => head(*major, *value, out),
            Self::String { major, bytes } => {
                head(*major, bytes.len() as u64, out);
                out.extend_from_slice(bytes);
            }
            Self::Wrapped(inner) => {
                let bytes = inner.to_bytes();
                head(2, bytes.len() as u64, out);
                out.extend_from_slice(&bytes);
            }
            Self::List { major, value, items } => {
                let count = match major {
                    4 => items.len() as u64,
                    5 => items.len().div_ceil(2) as u64,
                    _ => *value,
                };
                head(*major, count, out);
                items.iter().for_each(|item| item.write(out));
            }
            Self::Raw(bytes) => out.extend_from_slice(bytes),
        }
    }

    /// How many items there are, itself included.
    pub(crate) fn count(&self) -> usize {
        1 + match self {
            Self::Wrapped(inner) => inner.count(),
            Self::List { items, .. } => items.iter().map(Self::count).sum(),
            _ => 0,
        }
    }

    /// The item with this place, in the order of the bytes.
    pub(crate) fn nth(&mut self, place: usize) -> Option<&mut Self> {
        if place == 0 {
            return Some(self);
        }
        let mut place = place - 1;
        let items = match self {
            Self::Wrapped(inner) => return inner.nth(place),
            Self::List { items, .. } => items,
            _ => return None,
        };
        for item in items {
            let count = item.count();
            if place < count {
                return item.nth(place);
            }
            place -= count;
        }
        None
    }

    /// The length of its head, its major type, and what follows the head.
    fn split(&self) -> (u8, Vec<u8>) {
        let bytes = self.to_bytes();
        let first = bytes.first().copied().unwrap_or_default();
        let width = match first & 31 {
            info @ 24..=27 => 1 << (info - 24),
            _ => 0,
        };
        (first >> 5, bytes.get(1 + width..).unwrap_or_default().to_vec())
    }

    /// Spoils this item.
    pub(crate) fn apply(&mut self, edit: &Edit) {
        match (edit, &mut *self) {
            (Edit::Value(new), Self::Number { value, .. }) => *value = *new,
            (Edit::Value(new), _) => {
                let (major, content) = self.split();
                let mut bytes = Vec::new();
                head(major, *new, &mut bytes);
                *self = Self::Raw([bytes, content].concat());
            }
            (Edit::LongHead, _) => {
                let length = match &*self {
                    Self::Number { value, .. } => *value,
                    Self::List { major: 5, items, .. } => items.len() as u64 / 2,
                    Self::List { items, .. } => items.len() as u64,
                    Self::String { bytes, .. } => bytes.len() as u64,
                    other => other.split().1.len() as u64,
                };
                let (major, content) = self.split();
                *self = Self::Raw([&[major << 5 | 27], &length.to_be_bytes()[..], &content].concat());
            }
            (Edit::Indefinite, _) => {
                let (major, content) = self.split();
                *self = Self::Raw([&[major << 5 | 31], &content[..], &[0xff]].concat());
            }
            (Edit::Major(major), Self::Number { major: own, .. } | Self::String { major: own, .. }) => {
                *own = major % 8;
            }
            (Edit::Major(major), _) => {
                let (_, content) = self.split();
                let mut bytes = Vec::new();
                head(major % 8, content.len() as u64, &mut bytes);
                *self = Self::Raw([bytes, content].concat());
            }
            (Edit::Resize(length), Self::String { bytes, .. }) => bytes.resize(*length, b'a'),
            (Edit::Resize(length), Self::List { items, .. }) => {
                if let Some(last) = items.last().cloned() {
                    items.resize((*length).min(4096), last);
                }
            }
            (Edit::Twice(place), Self::List { items, .. }) => {
                if let Some(item) = items.get(*place % items.len().max(1)).cloned() {
                    items.insert(*place % items.len(), item);
                }
            }
            (Edit::Without(place), Self::List { items, .. }) if !items.is_empty() => {
                drop(items.remove(*place % items.len()));
            }
            (Edit::First(place), Self::List { items, .. }) if !items.is_empty() => {
                let item = items.remove(*place % items.len());
                items.insert(0, item);
            }
            (Edit::Nest(levels), _) => {
                *self = Self::Raw([vec![0x81; *levels], self.to_bytes()].concat());
            }
            (Edit::Replace(bytes), _) => *self = Self::Raw(bytes.clone()),
            _ => {}
        }
    }
}
