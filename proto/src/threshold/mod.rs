//! The cluster's threshold key: shares of it sign a few kinds of message, and `q` shares make a token.
//!
//! # Specification
//!
//! BLS signatures on BLS12-381 (draft-irtf-cfrg-bls-signature-05, minimal public-key size), ciphersuite
//! `BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_NUL_`: public keys are 48 bytes (compressed G1), signatures are
//! 96 bytes (compressed G2), both in the ZCash encoding that the draft's appendix describes. Shares, which only
//! members send each other, are 192 bytes: the same points, uncompressed.
//!
//! The secret key is the value at 0 of a polynomial of degree `q - 1` over the scalar field. The member with
//! index `i` (counted from 0) holds its value at `i + 1`. A [`Commitment`] is the list of the polynomial's `q`
//! coefficients times the generator of G1, the constant first: from it anybody computes the [`PublicKey`] and
//! the key that verifies each member's shares. A [`Token`] is the Lagrange interpolation at 0 of `q` shares.
//!
//! What a share may sign is the closed enum [`Message`], and nothing else.
//!
//! # Relies on
//!
//! - The index that comes with a share is taken from the authenticated member, never from the share's message.
//! - `blst` multiplies by secret scalars in constant time.
//!
//! # Guarantees
//!
//! - A key or token that exists is canonical, on the curve, in the prime-order subgroup and not the identity
//!   (`point::parse_g1`, `point::parse_g2`, [`combine`]; tests `every_invalid_point_is_refused_by_name`,
//!   `what_leaves_the_group_makes_no_token`). Of a [`Share`] all but the subgroup is sure.
//! - Two messages never have the same bytes, nor one the beginning of another ([`Message::to_bytes`]; test
//!   `distinct_messages_have_prefix_free_bytes`, `messages_that_resemble_each_other_are_prefix_free`).
//! - [`combine`] never mixes two shares of one index, and uses exactly `q` (test
//!   `a_repeated_index_is_refused_even_beyond_the_quorum`).
//! - Share `i` verifies under [`Commitment::share_key`] of `i` and no other (test
//!   `a_share_verifies_under_its_own_index_only`).

mod batch;
mod combine;
mod dealing;
mod key;
mod message;
mod point;
#[cfg(test)]
mod tests;

pub use combine::combine;
pub use dealing::{DealingCommitment, Polynomial, Row, sum_of_commitments, sum_of_rows};
pub use key::{Commitment, KeyShare, deal};
pub use message::Message;
pub(crate) use point::parse_g1;
pub use point::{PublicKey, Share, SharePublicKey, Token};

/// The ciphersuite's domain separation tag.
pub(crate) const SUITE: &[u8] = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_NUL_";

/// Why bytes are no key, share or token, or why shares make no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// So many bytes can't be one of these.
    #[error("a {what} has {expected} bytes, not {found}")]
    Length {
        /// What was to be read.
        what: &'static str,
        /// Its length.
        expected: usize,
        /// The length of what came.
        found: usize,
    },
    /// The bytes are not the canonical compressed encoding of any field element or of infinity.
    #[error("{found} is not a canonical encoding of a {what}")]
    NotCanonical {
        /// What was to be read.
        what: &'static str,
        /// The bytes, in hexadecimal.
        found: String,
    },
    /// No point of the curve has this x coordinate.
    #[error("{found} is no point of the curve, so no {what}")]
    OffCurve {
        /// What was to be read.
        what: &'static str,
        /// The bytes, in hexadecimal.
        found: String,
    },
    /// The point lies on the curve, but outside the subgroup of prime order.
    #[error("{found} lies outside the prime-order subgroup, so it is no {what}")]
    OffSubgroup {
        /// What was to be read.
        what: &'static str,
        /// The bytes, in hexadecimal.
        found: String,
    },
    /// The identity: as a key it would accept anything, as a signature it says nothing.
    #[error("the identity point is no {what}")]
    Identity {
        /// What was to be read.
        what: &'static str,
    },
    /// The scalar is zero, or not below the order of the group. (Its value is secret, and not shown.)
    #[error("a key share is a number from 1 to the group's order - 1")]
    Scalar,
    /// A threshold of zero, or above the number of members, or more members than indices.
    #[error("{q} of {n} is no threshold: it takes 1 <= q <= n <= {}", u16::MAX)]
    Threshold {
        /// Shares that make a token.
        q: usize,
        /// Members.
        n: usize,
    },
    /// Too few shares for a token.
    #[error("a token takes {needed} shares, and there are {got}")]
    NotEnough {
        /// The threshold.
        needed: usize,
        /// Shares at hand.
        got: usize,
    },
    /// Two shares claim the same member.
    #[error("two shares of the member with index {index}")]
    DuplicateIndex {
        /// The index, counted from 0.
        index: u16,
    },
    /// The share is not its member's signature on this message.
    #[error("the share is not a signature on ({message}) under the share key {key}")]
    WrongShare {
        /// The message that it was to sign.
        message: Message,
        /// The key that it was checked against, in hexadecimal.
        key: String,
    },
    /// The token is not the cluster's signature on this message.
    #[error("the token is not a signature on ({message}) under the cluster's key {key}")]
    WrongToken {
        /// The message that it was to sign.
        message: Message,
        /// The key that it was checked against, in hexadecimal.
        key: String,
    },
}
