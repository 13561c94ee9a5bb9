//! The mail around a sealed part: how it is written, and how it is found again after its journey.
//!
//! # Specification
//!
//! ```text
//! multipart/mixed
//! ├─ multipart/alternative: text/plain, text/html           what this is, until when, how to open it
//! └─ application/vnd.fairpost.sealed+cose; name="message.fairpost"                       in base64
//! ```
//!
//! (RFC 5322, RFC 2045 to 2047.) Nothing outside the sealed bytes counts: relays rewrite headers, add footers,
//! recode, flatten, and people forward. So the part is known by, in this order, its media type, the extension of
//! its file name, or its first bytes; in the mail itself, in a mail forwarded as `message/rfc822` (or as a `.eml`
//! file), or as nothing but the saved attachment.
//!
//! # Guarantees
//!
//! - The sealed bytes come out as they went in ([`pack()`], [`find`]; `a_mangled_mail_gives_back_the_same_bytes`).
//! - Neither the sealed mail's subject nor anything else of its content gets into the cover: [`Cover`] has no
//!   place for it. No value can add a header of its own ([`pack()`]; `a_message_id_cannot_add_a_header`).
//! - Memory stays the same however long the mail is: both stream. [`find`] puts what may be the sealed part into
//!   a [`Spool`](crate::spool::Spool) (`a_long_mail_is_never_held_in_memory`).
//! - No input makes [`find`] panic or take more than its limits: [`MAX_FORWARDED`], [`MAX_NESTED`],
//!   [`MAX_HEADER`], [`MAX_FIELD`] (`any_bytes_are_survived`, and a test for each limit).

mod body;
mod cover;
mod fields;
mod lines;
#[cfg(test)]
mod mangler;
mod search;
#[cfg(test)]
mod tests;

use std::io;

use fairpost_proto::ids::Timestamp;

pub use cover::{Cover, pack};
pub use search::{Found, Mark, find};

/// The media type of a sealed part.
pub const MEDIA_TYPE: &str = "application/vnd.fairpost.sealed+cose";

/// The extension of a sealed part's file name.
pub const EXTENSION: &str = ".fairpost";

/// How a sealed part begins.
pub const MAGIC: &[u8] = &fairpost_proto::sealed::MAGIC;

/// How many levels of mails forwarded in mails [`find`] follows.
pub const MAX_FORWARDED: usize = 8;

/// How many multiparts within each other [`find`] follows.
pub const MAX_NESTED: usize = 32;

/// The longest header that [`find`] reads, in bytes, for each part.
pub const MAX_HEADER: usize = 4 << 20;

/// The longest header field that [`find`] keeps, in bytes. It keeps only the three that describe a part.
pub const MAX_FIELD: usize = 64 << 10;

/// Why a mail could not be packed, or no sealed part be found in it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The text given for the Message-ID is not one.
    #[error(
        "{found:?} is no Message-ID: expected left@right, at most 250 visible ASCII characters, no brackets"
    )]
    MessageId {
        /// What was given, shortened.
        found: String,
    },
    /// The calendar of mail headers does not have this time.
    #[error("the time {found} can't be written in a mail header")]
    Date {
        /// What was given.
        found: Timestamp,
    },
    /// Mails are forwarded within each other too often.
    #[error("the mail is forwarded in more than {limit} levels: save the innermost attachment and open that")]
    ForwardedTooDeep {
        /// [`MAX_FORWARDED`].
        limit: usize,
    },
    /// Multiparts lie within each other too deeply.
    #[error("the mail has more than {limit} multiparts within each other")]
    NestedTooDeep {
        /// [`MAX_NESTED`].
        limit: usize,
    },
    /// The header of the mail, or of one of its parts, is too long.
    #[error("a header of the mail is longer than {limit} bytes: is this a mail?")]
    HeaderTooLong {
        /// [`MAX_HEADER`].
        limit: usize,
    },
    /// One header field that describes a part is too long.
    #[error("the field {field} in a header of the mail is longer than {limit} bytes")]
    FieldTooLong {
        /// Its name.
        field: &'static str,
        /// [`MAX_FIELD`].
        limit: usize,
    },
    /// Nothing in the mail looks like a sealed part.
    #[error(
        "found no sealed part: looked for the media type {MEDIA_TYPE}, a file name ending in {EXTENSION}, and content \
         beginning with {:?}; saw {seen}",
        String::from_utf8_lossy(MAGIC)
    )]
    NoSealedPart {
        /// The media types that the mail has, in their order, and how many more.
        seen: String,
    },
    /// Several parts have equal claims.
    #[error("the mail has {count} sealed parts: save the one that is meant and open that")]
    MoreThanOne {
        /// How many.
        count: u64,
    },
}
