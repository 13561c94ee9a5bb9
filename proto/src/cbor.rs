//! Deterministic CBOR: a writer that can only write it, and a reader that accepts nothing else.
//!
//! # Specification
//!
//! RFC 8949 §4.2.1, and of that only what `fairpost.cddl` uses: integers, byte and text strings, arrays, maps
//! with integer keys, tags, null. Heads are shortest, lengths definite, map keys in the order that the format
//! gives them (which is ascending), no key twice, nothing behind the last item.
//!
//! # Guarantees
//!
//! Two different byte strings never read as the same value, so a digest of the bytes is a digest of the value
//! ([`Reader`] refuses long heads in all it reads, [`Map::key`] wrong and double keys, [`Reader::finish`] what trails; the
//! tests below and the vectors `cbor.json` try each). Reading allocates nothing that the input does not contain, and
//! never recurses.

/// What is wrong with a piece of CBOR, with the offset at which it was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes end within an item.
    #[error("the bytes end at {at}, where {needed} more are needed")]
    Truncated {
        /// Offset of the item's content.
        at: usize,
        /// How many bytes are missing.
        needed: u64,
    },
    /// There are bytes behind the last item.
    #[error("{count} bytes trail behind the end at {at}")]
    Trailing {
        /// Where the item ends.
        at: usize,
        /// How many bytes follow.
        count: usize,
    },
    /// An item of another type stands there.
    #[error("{expected} expected at {at}, found {found}")]
    Type {
        /// Offset of the item.
        at: usize,
        /// What belongs there.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// A number or length is not in its shortest form, is of indefinite length, or uses a reserved head.
    #[error("the head at {at} (0x{head:02x}) is not the shortest definite one")]
    NotDeterministic {
        /// Offset of the head.
        at: usize,
        /// Its first byte.
        head: u8,
    },
    /// A map has another key than the format gives it at this place.
    #[error("key {expected} expected at {at}, found {found}")]
    Key {
        /// Offset of the key.
        at: usize,
        /// The key that belongs there.
        expected: i64,
        /// The key that is there.
        found: i64,
    },
    /// A map has the same key twice.
    #[error("key {key} stands twice in the map, again at {at}")]
    DuplicateKey {
        /// Offset of the second.
        at: usize,
        /// The key.
        key: i64,
    },
    /// An array, map or string has another length than the format gives it.
    #[error("{what} has length {found}, expected {expected}")]
    Length {
        /// What it is the length of.
        what: &'static str,
        /// What the format allows.
        expected: &'static str,
        /// The length found.
        found: u64,
    },
    /// A value is outside the range that the format gives it.
    #[error("{what} is {found}, expected {expected}")]
    Value {
        /// Which value.
        what: &'static str,
        /// What the format allows.
        expected: &'static str,
        /// The value found.
        found: String,
    },
    /// The tag in key 0 says that this is something else.
    #[error("this is {found:?}, expected {expected:?}")]
    Tag {
        /// The tag asked for.
        expected: &'static str,
        /// The tag found.
        found: String,
    },
}

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;
const NULL: u8 = 0xf6;

const fn name(major: u8) -> &'static str {
    match major {
        UNSIGNED => "an unsigned integer",
        NEGATIVE => "a negative integer",
        BYTES => "a byte string",
        TEXT => "a text string",
        ARRAY => "an array",
        MAP => "a map",
        TAG => "a tag",
        _ => "a simple value",
    }
}

/// Writes deterministic CBOR. Its user writes map keys in ascending order.
#[derive(Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Nothing written yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn head(&mut self, major: u8, value: u64) -> &mut Self {
        let major = major << 5;
        let wide = value.to_be_bytes();
        match value {
            0..=23 => self.0.push(major | value as u8),
            24..=0xff => self.0.extend_from_slice(&[major | 24, value as u8]),
            0x100..=0xffff => {
                self.0.push(major | 25);
                self.0.extend(wide.iter().skip(6));
            }
            0x1_0000..=0xffff_ffff => {
                self.0.push(major | 26);
                self.0.extend(wide.iter().skip(4));
            }
            _ => {
                self.0.push(major | 27);
                self.0.extend(wide);
            }
        }
        self
    }

    /// An unsigned integer.
    pub fn uint(&mut self, value: u64) -> &mut Self {
        self.head(UNSIGNED, value)
    }

    /// An integer, as a value or as a map's key.
    pub fn int(&mut self, value: i64) -> &mut Self {
        match u64::try_from(value) {
            Ok(value) => self.head(UNSIGNED, value),
            Err(_) => self.head(NEGATIVE, value.unsigned_abs() - 1),
        }
    }

    /// A byte string.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.head(BYTES, value.len() as u64).0.extend_from_slice(value);
        self
    }

    /// A text string.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.head(TEXT, value.len() as u64).0.extend_from_slice(value.as_bytes());
        self
    }

    /// The head of an array; its items follow.
    pub fn array(&mut self, length: usize) -> &mut Self {
        self.head(ARRAY, length as u64)
    }

    /// The head of a map; its keys and values follow.
    pub fn map(&mut self, length: usize) -> &mut Self {
        self.head(MAP, length as u64)
    }

    /// A tag; its content follows.
    pub fn tag(&mut self, tag: u64) -> &mut Self {
        self.head(TAG, tag)
    }

    /// Null.
    pub fn null(&mut self) -> &mut Self {
        self.0.push(NULL);
        self
    }

    /// A byte string, or null.
    pub fn bytes_or_null(&mut self, value: Option<&[u8]>) -> &mut Self {
        match value {
            Some(bytes) => self.bytes(bytes),
            None => self.null(),
        }
    }

    /// What was written.
    pub fn finish(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.0)
    }
}

/// Reads deterministic CBOR, item by item.
pub struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    /// Reads from the start of `bytes`.
    pub const fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn take(&mut self, length: u64) -> Result<&'b [u8], Error> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = usize::try_from(length).ok().and_then(|length| rest.get(..length));
        match taken {
            Some(taken) => {
                self.at += taken.len();
                Ok(taken)
            }
            None => Err(Error::Truncated { at: self.at, needed: length - rest.len() as u64 }),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Major type and value of the next head, which must be the shortest for its value.
    fn head(&mut self) -> Result<(u8, u64), Error> {
        let at = self.at;
        let first = self.take(1)?.first().copied().unwrap_or_default();
        let (major, info) = (first >> 5, first & 0x1f);
        let wrong = Error::NotDeterministic { at, head: first };
        let width = match info {
            0..=23 => return Ok((major, u64::from(info))),
            24..=27 => 1_u64 << (info - 24),
            _ => return Err(wrong),
        };
        if major == SIMPLE {
            return Err(wrong);
        }
        let value = self.take(width)?.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        let least = match width {
            1 => 24,
            2 => 1 << 8,
            4 => 1 << 16,
            _ => 1 << 32,
        };
        if value < least { Err(wrong) } else { Ok((major, value)) }
    }

    fn expect(&mut self, major: u8) -> Result<u64, Error> {
        let at = self.at;
        match self.head()? {
            (found, value) if found == major => Ok(value),
            (found, _) => Err(Error::Type { at, expected: name(major), found: name(found) }),
        }
    }

    /// An unsigned integer.
    pub fn uint(&mut self) -> Result<u64, Error> {
        self.expect(UNSIGNED)
    }

    /// An integer that fits 63 bits and a sign.
    pub fn int(&mut self) -> Result<i64, Error> {
        let at = self.at;
        let (major, value) = self.head()?;
        let value = i64::try_from(value).map_err(|_| Error::Type {
            at,
            expected: "an integer of 63 bits",
            found: "more",
        })?;
        match major {
            UNSIGNED => Ok(value),
            NEGATIVE => Ok(-1 - value),
            found => Err(Error::Type { at, expected: "an integer", found: name(found) }),
        }
    }

    /// A byte string.
    pub fn bytes(&mut self) -> Result<&'b [u8], Error> {
        let length = self.expect(BYTES)?;
        self.take(length)
    }

    /// A byte string of exactly `N` bytes.
    pub fn fixed<const N: usize>(
        &mut self,
        what: &'static str,
        expected: &'static str,
    ) -> Result<[u8; N], Error> {
        let bytes = self.bytes()?;
        bytes.try_into().map_err(|_| Error::Length { what, expected, found: bytes.len() as u64 })
    }

    /// A byte string of 32 bytes: a digest or an identifier.
    pub fn bytes32(&mut self, what: &'static str) -> Result<[u8; 32], Error> {
        self.fixed(what, "32 bytes")
    }

    /// A text string of at most `limit` bytes.
    pub fn text(&mut self, what: &'static str, limit: usize) -> Result<&'b str, Error> {
        let at = self.at;
        let length = self.expect(TEXT)?;
        if length > limit as u64 {
            return Err(Error::Length { what, expected: "less", found: length });
        }
        core::str::from_utf8(self.take(length)?).map_err(|_| Error::Type {
            at,
            expected: "UTF-8 text",
            found: "other bytes",
        })
    }

    /// The head of an array: how many items follow, at most `limit`.
    pub fn array(&mut self, what: &'static str, limit: u64) -> Result<u64, Error> {
        match self.expect(ARRAY)? {
            length if length <= limit => Ok(length),
            found => Err(Error::Length { what, expected: "fewer items", found }),
        }
    }

    /// The head of an array: how many items follow, at least one and at most `limit`.
    pub fn array_from_one(&mut self, what: &'static str, limit: u64) -> Result<u64, Error> {
        match self.array(what, limit)? {
            0 => Err(Error::Length { what, expected: "one or more", found: 0 }),
            length => Ok(length),
        }
    }

    /// The head of an array of exactly `length` items.
    pub fn array_of(&mut self, what: &'static str, length: u64, expected: &'static str) -> Result<(), Error> {
        match self.expect(ARRAY)? {
            found if found == length => Ok(()),
            found => Err(Error::Length { what, expected, found }),
        }
    }

    /// The head of a map.
    pub fn map(&mut self) -> Result<Map, Error> {
        Ok(Map { left: self.expect(MAP)?, last: None })
    }

    /// The tag `tag`.
    pub fn tag(&mut self, tag: u64, what: &'static str) -> Result<(), Error> {
        match self.expect(TAG)? {
            found if found == tag => Ok(()),
            found => Err(Error::Value { what: "the CBOR tag", expected: what, found: found.to_string() }),
        }
    }

    /// Null, if that is what comes next.
    pub fn null(&mut self) -> bool {
        let null = self.peek() == Some(NULL);
        if null {
            self.at += 1;
        }
        null
    }

    /// A byte string, or null.
    pub fn bytes_or_null(&mut self) -> Result<Option<&'b [u8]>, Error> {
        if self.null() { Ok(None) } else { self.bytes().map(Some) }
    }

    /// Whether the next item is an array.
    pub fn at_array(&self) -> bool {
        self.peek().is_some_and(|head| head >> 5 == ARRAY)
    }

    /// Where the next item begins.
    pub const fn position(&self) -> usize {
        self.at
    }

    /// That nothing is left.
    pub fn finish(self) -> Result<(), Error> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            count => Err(Error::Trailing { at: self.at, count }),
        }
    }
}

/// The keys of a map that is being read: each is asked for in the format's order.
pub struct Map {
    left: u64,
    last: Option<i64>,
}

impl Map {
    /// The next key must be `key`; its value follows.
    pub fn key(&mut self, reader: &mut Reader<'_>, key: i64) -> Result<(), Error> {
        if self.left == 0 {
            return Err(Error::Length { what: "the map", expected: "more keys", found: 0 });
        }
        let at = reader.position();
        let found = reader.int()?;
        self.left -= 1;
        if self.last == Some(found) {
            return Err(Error::DuplicateKey { at, key: found });
        }
        self.last = Some(found);
        if found == key { Ok(()) } else { Err(Error::Key { at, expected: key, found }) }
    }

    /// Whether no key is left.
    pub const fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Key 0 with the tag `tag`: what every payload and file begins with.
    pub fn tagged(&mut self, reader: &mut Reader<'_>, tag: &'static str) -> Result<(), Error> {
        self.key(reader, 0)?;
        match reader.text("the tag", 64)? {
            found if found == tag => Ok(()),
            found => Err(Error::Tag { expected: tag, found: found.to_owned() }),
        }
    }

    /// That no key is left.
    pub fn finish(self, reader: &Reader<'_>) -> Result<(), Error> {
        if self.left == 0 {
            return Ok(());
        }
        let at = reader.position();
        match (Reader { bytes: reader.bytes, at }).int() {
            Ok(key) if Some(key) == self.last => Err(Error::DuplicateKey { at, key }),
            _ => Err(Error::Length { what: "the map", expected: "fewer keys", found: self.left }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uint(bytes: &[u8]) -> Result<u64, Error> {
        let mut reader = Reader::new(bytes);
        let value = reader.uint()?;
        reader.finish()?;
        Ok(value)
    }

    #[test]
    fn every_number_has_one_encoding() {
        for value in [0, 23, 24, 255, 256, 65_535, 65_536, u64::from(u32::MAX), 1 << 32, u64::MAX] {
            let bytes = Writer::new().uint(value).finish();
            assert_eq!(uint(&bytes), Ok(value));
        }
        for long in [
            &[0x18, 23][..],
            &[0x19, 0, 255],
            &[0x1a, 0, 0, 255, 255],
            &[0x1b, 0, 0, 0, 0, 255, 255, 255, 255],
        ] {
            assert!(matches!(uint(long), Err(Error::NotDeterministic { at: 0, .. })), "{long:?}");
        }
    }

    #[test]
    fn indefinite_lengths_and_reserved_heads_are_refused() {
        for head in [0x1c, 0x5f, 0x7f, 0x9f, 0xbf, 0xff, 0xf8, 0xf9] {
            assert_eq!(Reader::new(&[head, 0, 0, 0]).head(), Err(Error::NotDeterministic { at: 0, head }));
        }
    }

    #[test]
    fn a_length_beyond_the_input_is_truncation_not_memory() {
        let bytes = [0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert!(matches!(Reader::new(&bytes).bytes(), Err(Error::Truncated { at: 9, .. })));
    }

    #[test]
    fn what_trails_is_refused() {
        assert_eq!(uint(&[1, 2]), Err(Error::Trailing { at: 1, count: 1 }));
    }

    #[test]
    fn double_unknown_and_missing_keys_are_each_named() {
        let read = |bytes: &[u8]| {
            let mut reader = Reader::new(bytes);
            let mut map = reader.map()?;
            for key in [0, 1] {
                map.key(&mut reader, key)?;
                reader.uint()?;
            }
            map.finish(&reader)
        };
        assert_eq!(read(&[0xa2, 0, 7, 1, 7]), Ok(()));
        assert_eq!(read(&[0xa2, 0, 7, 0, 7]), Err(Error::DuplicateKey { at: 3, key: 0 }));
        assert_eq!(read(&[0xa3, 0, 7, 1, 7, 1, 7]), Err(Error::DuplicateKey { at: 5, key: 1 }));
        assert_eq!(read(&[0xa2, 1, 7, 0, 7]), Err(Error::Key { at: 1, expected: 0, found: 1 }));
        assert!(matches!(read(&[0xa1, 0, 7]), Err(Error::Length { found: 0, .. })));
        assert!(matches!(read(&[0xa3, 0, 7, 1, 7, 2, 7]), Err(Error::Length { found: 1, .. })));
    }
}
