//! The small values that everything else is made of: digests, identifiers, verdicts, times.
//!
//! A value of one of these types is valid by construction; none of them is secret.

use core::fmt;

use sha2::{Digest as _, Sha256};

/// A 32-byte value with a meaning of its own, shown as lower-case hexadecimal.
macro_rules! bytes32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The value with these bytes.
            pub const fn new(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Its 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The value with these bytes, if there are 32 of them.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

bytes32! {
    /// The digest of the cluster's genesis: SHA-256("fairpost/genesis/v1" ‖ genesis).
    ClusterId
}
bytes32! {
    /// Which exchange: SHA-256("fairpost/terms/v1" ‖ Terms). It travels with the mail and is no secret.
    ExchangeId
}
bytes32! {
    /// Which key: SHA-256 of its DER SubjectPublicKeyInfo (RFC 5280 §4.1.2.7).
    KeyId
}
bytes32! {
    /// A SHA-256 digest (FIPS 180-4).
    Digest
}

impl Digest {
    /// SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::of_parts(&[bytes])
    }

    /// SHA-256 of the concatenation of `parts`.
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }
}

/// The one verdict on an exchange. On the wire it is one byte, 1 to 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Verdict {
    /// The recipient's receipt was recorded in time: the mail may be opened, and delivery can be proved.
    Released = 1,
    /// The sender called the exchange off while it was undecided: the mail can never be opened.
    Withdrawn = 2,
    /// The recipient declined the mail.
    Refused = 3,
    /// Deadline and grace passed, and no acceptance had been recorded in time.
    Expired = 4,
}

impl Verdict {
    /// All four, in the order of their codes.
    pub const ALL: [Self; 4] = [Self::Released, Self::Withdrawn, Self::Refused, Self::Expired];

    /// Its code on the wire, 1 to 4.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The verdict with this code, or none outside 1 to 4.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.code() == code)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Released => "Released",
            Self::Withdrawn => "Withdrawn",
            Self::Refused => "Refused",
            Self::Expired => "Expired",
        })
    }
}

/// How the mail is locked (Deng, Gong, Lazar, Wang 1996, as later literature restates it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Protocol {
    /// Locked for the release token alone: whoever holds mail and token can read it.
    Cmp1 = 1,
    /// Locked for the recipient's key and the release token: the cluster can't read it.
    Cmp2 = 2,
}

impl Protocol {
    /// Its code on the wire.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The protocol with this code.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Cmp1),
            2 => Some(Self::Cmp2),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cmp1 => "CMP1",
            Self::Cmp2 => "CMP2",
        })
    }
}

/// A point in time: milliseconds since 1970-01-01T00:00:00Z, leap seconds ignored (POSIX time).
///
/// The range ends with the year 9999, so that every sum of a timestamp and a [`Span`] fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The last millisecond of the year 9999.
    pub const MAX: Self = Self(253_402_300_799_999);
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// The time so many milliseconds after the epoch, or none after [`Timestamp::MAX`].
    pub const fn from_millis(millis: u64) -> Option<Self> {
        if millis <= Self::MAX.0 { Some(Self(millis)) } else { None }
    }

    /// The time so many seconds after the epoch, or none after [`Timestamp::MAX`].
    pub const fn from_seconds(seconds: u64) -> Option<Self> {
        match seconds.checked_mul(1000) {
            Some(millis) => Self::from_millis(millis),
            None => None,
        }
    }

    /// Milliseconds since the epoch.
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch.
    pub const fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// This time and `span`, at most [`Timestamp::MAX`].
    #[must_use]
    pub const fn plus(self, span: Span) -> Self {
        let sum = self.0.saturating_add(span.0);
        if sum > Self::MAX.0 { Self::MAX } else { Self(sum) }
    }

    /// How far apart the two times are, whichever is later.
    #[must_use]
    pub const fn distance(self, other: Self) -> Span {
        Span(self.0.abs_diff(other.0))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, with milliseconds only where they are not zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.seconds() / 86_400, self.seconds() % 86_400);
        let (year, month, day) = civil_from_days(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        match self.0 % 1000 {
            0 => f.write_str("Z"),
            millis => write!(f, ".{millis:03}Z"),
        }
    }
}

/// Year, month and day of the proleptic Gregorian calendar, so many days after 1970-01-01.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    // Years begin in March here, so that the leap day is a year's last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// A length of time in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(u64);

impl Span {
    /// So many milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// So many seconds, at most `u64::MAX` milliseconds.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Milliseconds.
    pub const fn millis(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            millis if millis % 1000 == 0 => write!(f, "{} s", millis / 1000),
            millis => write!(f, "{millis} ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_as_rfc_3339() {
        let shown = |millis| Timestamp::from_millis(millis).map(|time| time.to_string());
        assert_eq!(shown(0).as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(shown(951_782_400_000).as_deref(), Some("2000-02-29T00:00:00Z"));
        assert_eq!(shown(1_795_478_399_007).as_deref(), Some("2026-11-23T23:59:59.007Z"));
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-31T23:59:59.999Z");
        assert_eq!(shown(Timestamp::MAX.millis() + 1), None);
    }

    #[test]
    fn only_the_four_verdicts_have_a_code() {
        let known: Vec<u8> = (0..=255).filter(|code| Verdict::from_code(*code).is_some()).collect();
        assert_eq!(known, [1, 2, 3, 4]);
    }
}
