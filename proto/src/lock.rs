//! The lock: a mail's file key, encrypted to the cluster's *future* signature on a message.
//!
//! # Specification
//!
//! Boneh-Franklin identity-based encryption, FullIdent (<https://eprint.iacr.org/2001/090>, section 4.2),
//! with keys in G1 and signatures in G2, in the form that drand's timelock encryption gave it
//! (<https://eprint.iacr.org/2023/189>; interoperable with tlock-js for a G2 beacon). The identity is [`Message::to_bytes`], hashed to G2 with the
//! ciphersuite of [`crate::threshold`]: so the private key of an identity is the token for that message.
//!
//! With P the generator of G1, PK the cluster's key, Q the message hashed to G2, and a file key of 16 bytes:
//!
//! ```text
//! sigma = 16 random bytes
//! r     = H3(sigma, file key)
//! U     = rP                              48 bytes, compressed
//! V     = sigma    xor H2(e(rPK, Q))      16 bytes
//! W     = file key xor H4(sigma)          16 bytes
//!
//! H2(g)    = the first 16 bytes of SHA-256("IBE-H2" || g)
//! H4(s)    = the first 16 bytes of SHA-256("IBE-H4" || s)
//! H3(s, m) = for i = 1, 2, ...: SHA-256(i as u16, little-endian || SHA-256("IBE-H3" || s || m)),
//!            its first byte shifted right by one bit, read big-endian: the first that lies strictly
//!            between 0 and the group's order
//! ```
//!
//! A [`Locked`] is U || V || W. In H2, g is written as twelve base-field elements of 48 bytes, big-endian, the
//! highest coefficient first at every level of the tower (Fp12 over Fp6 over Fp2 over Fp).
//!
//! To open it with a token T: sigma = V xor H2(e(U, T)), file key = W xor H4(sigma), and then U must equal rP.
//!
//! # Relies on
//!
//! The caller of [`Locked::unlock`] has verified the token ([`PublicKey::verify`]): only then does a failure say
//! that the lock is bad.
//!
//! # Guarantees
//!
//! - What opens is what was locked: any change to the 80 bytes, or another token, is refused ([`Locked::unlock`]
//!   checks U = rP; test `no_changed_byte_opens`).
//! - It is the published construction (test `a_lock_made_by_tlock_opens`).

use core::fmt;

use blst::{blst_fp12, min_pk};
use rand::{CryptoRng, RngCore};
use sha2::{Digest as _, Sha256};
use threshold_crypto::{G1Affine, G2Affine};
use zeroize::Zeroizing;

use crate::ids::Digest;
use crate::threshold::{self, Message, PublicKey, SUITE, Token, parse_g1};

/// The length of a file key, and of V and W.
const KEY: usize = 16;

/// Why bytes are no lock, or why it does not open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A lock has 80 bytes.
    #[error("a lock has {expected} bytes, not {found}")]
    Length {
        /// The length of a lock.
        expected: usize,
        /// The length of what came.
        found: usize,
    },
    /// U is not a valid point.
    #[error("the lock's U: {0}")]
    U(#[from] threshold::Error),
    /// Opened with this token, U does not equal rP: the lock is garbage, or was locked to another message.
    #[error("the lock does not open: U is {found}, and what is inside gives {expected}")]
    WrongU {
        /// rP as computed from what was inside, in hexadecimal; "no point" if there is no such r.
        expected: String,
        /// The lock's U, in hexadecimal.
        found: String,
    },
}

/// A file key, locked: U || V || W.
#[derive(Clone, PartialEq, Eq)]
pub struct Locked {
    u: G1Affine,
    v: [u8; KEY],
    w: [u8; KEY],
}

impl Locked {
    /// Its length in bytes.
    pub const SIZE: usize = 48 + 2 * KEY;

    /// Reads a lock.
    ///
    /// # Errors
    ///
    /// [`Error::Length`], or [`Error::U`] where U is not canonical, off the curve, outside the prime-order
    /// subgroup, or the identity.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let length = || Error::Length { expected: Self::SIZE, found: bytes.len() };
        let (u, rest) = bytes.split_first_chunk::<48>().ok_or_else(length)?;
        let (v, rest) = rest.split_first_chunk::<KEY>().ok_or_else(length)?;
        let w: &[u8; KEY] = rest.try_into().map_err(|_| length())?;
        Ok(Self { u: parse_g1("point", u)?, v: *v, w: *w })
    }

    /// Its 80 bytes.
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let parts = self.u.to_compressed().into_iter().chain(self.v).chain(self.w);
        bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        bytes
    }

    /// SHA-256 of its 80 bytes.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// The file key, if `token` is the one that this was locked to.
    ///
    /// # Errors
    ///
    /// [`Error::WrongU`].
    pub fn unlock(&self, token: &Token) -> Result<Zeroizing<[u8; KEY]>, Error> {
        let sigma = xor(&self.v, &h2(&self.u, token.point()));
        let file_key = xor(&self.w, &h4(&sigma));
        let expected = h3(&sigma, &file_key).map(|r| r.sk_to_pk().compress());
        let found = self.u.to_compressed();
        if expected == Some(found) {
            return Ok(file_key);
        }
        let expected = expected.map_or_else(|| "no point".to_owned(), hex::encode);
        Err(Error::WrongU { expected, found: hex::encode(found) })
    }
}

impl fmt::Debug for Locked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Locked({})", hex::encode(self.to_bytes()))
    }
}

/// Locks `file_key` until the cluster with this key signs `message`.
pub fn lock<R: RngCore + CryptoRng>(
    key: &PublicKey,
    message: &Message,
    file_key: &[u8; KEY],
    rng: &mut R,
) -> Locked {
    loop {
        let mut sigma = Zeroizing::new([0; KEY]);
        rng.fill_bytes(&mut *sigma);
        // One sigma in 2^220000 has no r.
        if let Some(locked) = lock_with(key, &message.to_bytes(), file_key, &sigma) {
            return locked;
        }
    }
}

/// [`lock`] with a given sigma, to raw bytes; none if this sigma has no r.
fn lock_with(key: &PublicKey, message: &[u8], file_key: &[u8; KEY], sigma: &[u8; KEY]) -> Option<Locked> {
    let r = h3(sigma, file_key)?;
    let mut u = G1Affine::default();
    *u.as_mut() = r.sk_to_pk().into();
    // rQ is what r would sign, and e(PK, rQ) = e(rPK, Q).
    let mut masked = G2Affine::default();
    *masked.as_mut() = r.sign(message, SUITE, &[]).into();
    Some(Locked { u, v: *xor(sigma, &h2(key.point(), &masked)), w: *xor(file_key, &h4(sigma)) })
}

/// H2 of the pairing of the two points.
fn h2(p: &G1Affine, q: &G2Affine) -> Zeroizing<[u8; KEY]> {
    let pairing = blst_fp12::miller_loop(q.as_ref(), p.as_ref()).final_exp();
    let bytes = Zeroizing::new(pairing.to_bendian());
    let elements = bytes.as_chunks::<48>().0;
    let mut hasher = Sha256::new_with_prefix(b"IBE-H2");
    // blst lays out coefficient i of Fp12, j of Fp6 and k of Fp2 as element (2j + i) * 2 + k.
    for index in [11, 10, 7, 6, 3, 2, 9, 8, 5, 4, 1, 0] {
        hasher.update(elements.get(index).map_or(&[][..], |element| element));
    }
    head(hasher)
}

/// The scalar r of `sigma` and `file_key`, or none (see [`lock`]). As a one-time signing key it is wiped after
/// use, and blst's safe functions multiply by it in constant time.
fn h3(sigma: &[u8; KEY], file_key: &[u8; KEY]) -> Option<min_pk::SecretKey> {
    let seed = Zeroizing::new(<[u8; 32]>::from(
        Sha256::new_with_prefix(b"IBE-H3").chain_update(sigma).chain_update(file_key).finalize(),
    ));
    (1..u16::MAX).find_map(|i| {
        let digest = Sha256::new().chain_update(i.to_le_bytes()).chain_update(*seed).finalize();
        let mut bytes = Zeroizing::new(<[u8; 32]>::from(digest));
        if let Some(first) = bytes.first_mut() {
            *first >>= 1;
        }
        min_pk::SecretKey::from_bytes(&*bytes).ok()
    })
}

fn h4(sigma: &[u8; KEY]) -> Zeroizing<[u8; KEY]> {
    head(Sha256::new_with_prefix(b"IBE-H4").chain_update(sigma))
}

/// The first 16 bytes of the digest.
fn head(hasher: Sha256) -> Zeroizing<[u8; KEY]> {
    let digest = Zeroizing::new(<[u8; 32]>::from(hasher.finalize()));
    let mut head = Zeroizing::new([0; KEY]);
    head.iter_mut().zip(digest.iter()).for_each(|(to, from)| *to = *from);
    head
}

fn xor(a: &[u8; KEY], b: &[u8; KEY]) -> Zeroizing<[u8; KEY]> {
    let mut result = Zeroizing::new(*a);
    result.iter_mut().zip(b).for_each(|(to, from)| *to ^= from);
    result
}

#[cfg(test)]
mod tests;
