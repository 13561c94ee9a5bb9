//! The sealed mail: what travels from sender to recipient, and what the release token opens.
//!
//! # Specification
//!
//! A **container** is the 8 bytes [`MAGIC`], the length of a header as four big-endian bytes (at most
//! [`MAX_HEADER`]), the header (the NRO and its chain, opaque here), and to its end the **body**, which alone is
//! what the NRO calls the sealed mail.
//!
//! The body is an age v1 file (<https://age-encryption.org/v1>) whose header holds exactly one stanza:
//!
//! ```text
//! -> fairpost-cmp1 EXCHANGE             body: lock (80)
//! -> fairpost-cmp2 EXCHANGE LOCKDIGEST  body: recipient's copy (128) || sender's copy (128)
//! ```
//!
//! EXCHANGE is the exchange id and LOCKDIGEST the SHA-256 of the lock, both in unpadded base64url (RFC 4648 §5). The
//! lock is the [`Locked`](crate::lock::Locked) file key, for the message
//! [`Message::released`](crate::threshold::Message::released) of this exchange. A copy is the same lock, sealed by
//! HPKE (RFC 9180, base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305) to a party's
//! [`SealingKey`]: the encapsulated key (32), then the ciphertext (96); `info` is "fairpost/cmp2/v1" || exchange id
//! (32 bytes), and the associated data is empty.
//!
//! The plaintext is a salt of 32 random bytes, then the mail, byte for byte. The terms commit to SHA-256 of both.
//!
//! Before anybody signs, [`inspect`] checks the stanza, and in CMP2 [`Stanza::lock_for`] the party's own copy. When
//! the token is there, [`open`] writes the mail. A body that passed the inspection and then does not open to what
//! the terms commit to is [`Garbage`], which together with NRO, lock and token is a proof of fraud.
//!
//! # Relies on
//!
//! - The caller of [`open`] has verified the token for this exchange's release message, and the body's digest
//!   against the NRO: only then does [`Garbage`] accuse the sender.
//! - The caller hands nothing on that [`open`] wrote, until it has returned `Ok`.
//!
//! # Guarantees
//!
//! - Nothing but one stanza of our own, canonically encoded, passes ([`inspect`]; test
//!   `every_vector_is_taken_or_refused_by_name`).
//! - A copy of one exchange is no copy of another ([`Stanza::lock_for`]; test
//!   `a_copy_spliced_from_another_exchange_is_refused`).
//! - A lock that is not the one in the stanza accuses nobody ([`open`]; test
//!   `another_lock_is_refused_and_accuses_nobody`).
//! - A reader or writer that fails is never mistaken for garbage (test `a_failing_stream_accuses_nobody`).
//! - Memory does not grow with the mail (test `any_size_goes_through_in_constant_memory`).

mod container;
mod header;
mod key;
mod open;
mod seal;
mod stanza;
#[cfg(test)]
mod tests;

use std::io::{self, Read};

use zeroize::Zeroizing;

pub use container::{MAGIC, MAX_HEADER, body_digest, read_header, write_header};
pub use header::MAX_AGE_HEADER;
pub use key::{SealingKey, SealingPublicKey};
pub use open::{Opened, open};
pub use seal::{Access, Salt, Sealed, Sealing, content_commitment, seal};
pub use stanza::{Stanza, inspect};

use crate::ids::{Digest, ExchangeId};
use crate::lock;

/// Why a sealed mail is refused, does not open, or could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The container does not begin with [`MAGIC`].
    #[error("a sealed mail begins with {}, not with {found}", hex::encode(MAGIC))]
    Magic {
        /// What it begins with, in hexadecimal.
        found: String,
    },
    /// The container's header is longer than allowed.
    #[error("the container's header has {found} bytes, and {limit} are allowed")]
    ContainerHeader {
        /// The limit: [`MAX_HEADER`].
        limit: u32,
        /// The length that it claims.
        found: u64,
    },
    /// The container ends within its header.
    #[error("the container ends within its header: {found} of {expected} bytes")]
    ContainerCut {
        /// The length that it claims, or that of the part before the header.
        expected: u64,
        /// The bytes that there are.
        found: u64,
    },
    /// The body is no age v1 file.
    #[error("the body begins with {found:?}, not with {expected:?}")]
    NotAge {
        /// How an age v1 file begins.
        expected: &'static str,
        /// How this begins.
        found: String,
    },
    /// The age header does not end within the limit.
    #[error("the age header is longer than {limit} bytes")]
    AgeHeaderTooLong {
        /// The limit: [`MAX_AGE_HEADER`].
        limit: u64,
    },
    /// The body ends within the age header.
    #[error("the body ends within the age header, after {found} bytes")]
    AgeHeaderCut {
        /// The bytes that there are.
        found: usize,
    },
    /// A line of the age header is not as the format has it, or not in its one canonical encoding.
    #[error("line {line} of the age header is no {expected}: {found:?}")]
    AgeHeaderLine {
        /// Which line, counted from 1.
        line: usize,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// There is a second stanza.
    #[error("the age header has a second stanza, {found:?}: there may be but one")]
    SecondStanza {
        /// Its line.
        found: String,
    },
    /// The stanza is of another type: another protocol's, or not ours at all.
    #[error("the stanza is {found:?}, not {expected:?}")]
    StanzaType {
        /// The type that the protocol has.
        expected: &'static str,
        /// The stanza's.
        found: String,
    },
    /// The stanza has too many arguments, or too few.
    #[error("the stanza has {found} arguments, not {expected}")]
    Arguments {
        /// The number that its type has.
        expected: usize,
        /// Its own.
        found: usize,
    },
    /// An argument is not the canonical base64url of 32 bytes.
    #[error("{found:?} is not {what} in unpadded base64url")]
    Argument {
        /// What it should be.
        what: &'static str,
        /// What it is.
        found: String,
    },
    /// The stanza belongs to another exchange.
    #[error("the mail is sealed for exchange {found}, not {expected}")]
    Exchange {
        /// The exchange that the terms make.
        expected: ExchangeId,
        /// The stanza's.
        found: ExchangeId,
    },
    /// The stanza's body has not the length of its type.
    #[error("the stanza's body has {found} bytes, not {expected}")]
    StanzaBody {
        /// The length that its type has.
        expected: usize,
        /// Its own.
        found: usize,
    },
    /// The lock is no valid lock.
    #[error(transparent)]
    Lock(#[from] lock::Error),
    /// In CMP2 the lock lies in the parties' copies only.
    #[error("in CMP2 the lock does not lie open: it takes the recipient's or the sender's sealing key")]
    NotInTheOpen,
    /// Neither copy opens with this key for this exchange.
    #[error("neither copy of the lock opens with sealing key {key} for exchange {exchange}")]
    NoCopy {
        /// The public part of the key that was tried.
        key: SealingPublicKey,
        /// The exchange.
        exchange: ExchangeId,
    },
    /// A lock is not the one that the stanza names.
    #[error("the lock's digest is {found}, and the stanza names {expected}")]
    OtherLock {
        /// The digest that the stanza names.
        expected: Digest,
        /// The lock's.
        found: Digest,
    },
    /// The bytes of an X25519 public key are not below 2²⁵⁵ - 19.
    #[error("{found} is not a canonical X25519 key")]
    KeyNotCanonical {
        /// The bytes, in hexadecimal.
        found: String,
    },
    /// An X25519 public key of low order: whatever is sealed to it, anybody can open.
    #[error("{found} is an X25519 key of low order")]
    KeyOfLowOrder {
        /// The bytes, in hexadecimal.
        found: String,
    },
    /// The sender sealed something that does not open to what the terms commit to.
    #[error("the sealed mail is garbage: {0}")]
    Garbage(#[from] Garbage),
    /// A mail or a container could not be read.
    #[error("reading: {0}")]
    Read(#[from] io::Error),
    /// The result could not be written.
    #[error("writing: {0}")]
    Write(#[source] io::Error),
    /// Encryption itself failed, which the keys' types should rule out.
    #[error("sealing: {0}")]
    Encrypt(String),
}

/// In what way a sealed mail is garbage, although its stanza is in order and the token is right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Garbage {
    /// The token does not open the lock.
    #[error("{0}")]
    Lock(lock::Error),
    /// The file key from the lock does not authenticate the age header.
    #[error("the age header's MAC does not verify under the key in the lock")]
    HeaderMac,
    /// The payload is changed or cut.
    #[error("the payload does not decrypt beyond its first {after} bytes")]
    Payload {
        /// How many bytes of plaintext came before.
        after: u64,
    },
    /// The plaintext is too short to hold the salt.
    #[error("the plaintext has {found} bytes, and its salt alone has {expected}")]
    NoSalt {
        /// The length of a salt.
        expected: u64,
        /// The plaintext's length.
        found: u64,
    },
    /// The plaintext is not the one that the terms commit to.
    #[error("the terms commit to content {committed}, and the mail opens to {found}")]
    Content {
        /// The terms' commitment.
        committed: Digest,
        /// SHA-256 of the plaintext.
        found: Digest,
    },
}

/// Reads to the end, in pieces of a fixed buffer that is wiped afterwards. Gives the number of bytes.
fn each_piece<R: Read>(
    mut reader: R,
    mut take: impl FnMut(&[u8]) -> Result<(), Error>,
    failed: impl Fn(u64, io::Error) -> Error,
) -> Result<u64, Error> {
    let mut buffer = Zeroizing::new(vec![0; 64 * 1024]);
    let mut total = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(length) => {
                take(buffer.get(..length).unwrap_or_default())?;
                total += length as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(total, error)),
        }
    }
}
