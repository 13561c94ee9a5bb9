//! That no length in DER goes beyond the bytes that are there.
//!
//! x509-cert makes room for a value before it looks whether the value is there, up to 256 MiB for a certificate of a few
//! bytes. So lengths are checked before it gets to see them.

/// More levels than any certificate needs.
const MAX_DEPTH: usize = 24;

/// A bit of a tag: the content is values in turn.
const CONSTRUCTED: u8 = 0x20;

/// What is wrong with a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// It is not written as DER has it, or not there.
    #[error("the value at byte {at} has no length in DER")]
    NoLength { at: usize },
    /// The value is longer than what it lies in.
    #[error("the value at byte {at} has length {length}, and {rest} bytes are left")]
    TooLong { at: usize, length: u64, rest: usize },
    /// Values lie within each other too deeply.
    #[error("the value at byte {at} lies within more than {MAX_DEPTH} others")]
    TooDeep { at: usize },
}

/// Checks all values in `der`, and those within them. `start` is where it begins.
pub(super) fn check(der: &[u8], start: usize, depth: usize) -> Result<(), Error> {
    let mut rest = der;
    while let Some(tag) = rest.first().copied() {
        let at = start + der.len() - rest.len();
        if depth > MAX_DEPTH {
            return Err(Error::TooDeep { at });
        }
        let (length, head) = length(rest).ok_or(Error::NoLength { at })?;
        let content = rest.get(head..).unwrap_or_default();
        let long = Error::TooLong { at, length, rest: content.len() };
        let end = usize::try_from(length).map_err(|_| long)?;
        let (value, more) = content.split_at_checked(end).ok_or(long)?;
        if tag & CONSTRUCTED != 0 {
            check(value, at + head, depth + 1)?;
        }
        rest = more;
    }
    Ok(())
}

/// The length of the value that begins here, and that of its tag and length together (X.690 §8.1.2, §8.1.3).
fn length(bytes: &[u8]) -> Option<(u64, usize)> {
    let (first, mut rest) = bytes.split_first()?;
    let mut head = 1;
    if first & 0x1f == 0x1f {
        // A tag of more than one byte: the last has its highest bit clear.
        let more = rest.iter().position(|byte| byte & 0x80 == 0)? + 1;
        rest = rest.get(more..)?;
        head += more;
    }
    let (first, rest) = rest.split_first()?;
    match first {
        0..=0x7f => Some((u64::from(*first), head + 1)),
        0x81..=0x84 => {
            let count = usize::from(first & 0x7f);
            let length = rest.get(..count)?.iter().fold(0_u64, |length, byte| length << 8 | u64::from(*byte));
            Some((length, head + 1 + count))
        }
        // Indefinite, or longer than anything here.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_the_end_is_found_wherever_it_is() {
        assert_eq!(check(&[0x30, 3, 0x02, 1, 7], 0, 0), Ok(()));
        assert_eq!(check(&[], 0, 0), Ok(()));
        let long = |at, length, rest| Err(Error::TooLong { at, length, rest });
        assert_eq!(check(&[0x30, 4, 0x02, 1, 7], 0, 0), long(0, 4, 3));
        assert_eq!(check(&[0x30, 3, 0x02, 2, 7], 0, 0), long(2, 2, 1));
        assert_eq!(check(&[0x30, 6, 0x0c, 0x84, 0xff, 0xff, 0xff, 0xff], 0, 0), long(2, 0xffff_ffff, 0));
        assert_eq!(check(&[0xbf, 0x81, 0x01, 2, 0x04, 9], 10, 0), long(14, 9, 0));
        for none in
            [&[0x30][..], &[0x30, 0x80], &[0x30, 0x85, 0, 0, 0, 0, 1], &[0x1f, 0x80], &[0x30, 0x82, 1]]
        {
            assert_eq!(check(none, 0, 0), Err(Error::NoLength { at: 0 }), "{none:?}");
        }
    }

    #[test]
    fn values_within_each_other_have_a_limit() {
        let nested = |levels: usize| {
            (0..levels).fold(vec![], |inner, _| [&[0x30, inner.len() as u8], &inner[..]].concat())
        };
        assert_eq!(check(&nested(MAX_DEPTH + 1), 0, 0), Ok(()));
        assert_eq!(check(&nested(MAX_DEPTH + 2), 0, 0), Err(Error::TooDeep { at: 2 * (MAX_DEPTH + 1) }));
    }
}
