//! A member's secret share of the key, the public commitment to all of them, and the dealer.

use blst::min_pk;
use rand::{CryptoRng, RngCore};
use subtle::{Choice, ConstantTimeEq};
use threshold_crypto::poly::{self, Poly};
use threshold_crypto::{G1Affine, G2Affine};
use zeroize::Zeroizing;

use super::{Error, Message, PublicKey, SUITE, Share, SharePublicKey, parse_g1};

/// A member's share of the cluster's secret key.
///
/// It is wiped from memory when dropped, has no `Debug`, and is compared in constant time.
pub struct KeyShare(min_pk::SecretKey);

impl KeyShare {
    /// Reads a share from its 32 bytes, big-endian.
    ///
    /// # Errors
    ///
    /// [`Error::Scalar`] for zero, and for what is not below the group's order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, Error> {
        min_pk::SecretKey::from_bytes(bytes).map(Self).map_err(|_| Error::Scalar)
    }

    /// Its 32 bytes, big-endian.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The key that verifies what this share signs. It must equal the [`Commitment::share_key`] of its member.
    pub fn public_share(&self) -> SharePublicKey {
        let mut point = G1Affine::default();
        *point.as_mut() = self.0.sk_to_pk().into();
        SharePublicKey(point)
    }

    /// This member's share of the cluster's signature on `message`.
    pub fn sign(&self, message: &Message) -> Share {
        let mut point = G2Affine::default();
        *point.as_mut() = self.0.sign(&message.to_bytes(), SUITE, &[]).into();
        Share(point)
    }
}

impl ConstantTimeEq for KeyShare {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.to_bytes().ct_eq(&*other.to_bytes())
    }
}

/// The public commitment to a shared key: the `q` coefficients of its polynomial, times the generator of G1.
///
/// Encoded as these `q` points of 48 bytes, the constant term first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commitment(poly::Commitment);

impl Commitment {
    /// Reads the commitment to a key with threshold `q`.
    ///
    /// # Errors
    ///
    /// [`Error::Threshold`] for a threshold of zero, [`Error::Length`] unless there are `q` points, and those of
    /// [`PublicKey::parse`] for each of them. (A dealer draws the identity with probability 2⁻²⁵⁵.)
    pub fn parse(bytes: &[u8], q: usize) -> Result<Self, Error> {
        if q == 0 {
            return Err(Error::Threshold { q, n: 0 });
        }
        let expected = q.saturating_mul(PublicKey::SIZE);
        if bytes.len() != expected {
            return Err(Error::Length { what: "commitment", expected, found: bytes.len() });
        }
        let points: Result<Vec<_>, _> =
            bytes.chunks(PublicKey::SIZE).map(|chunk| parse_g1("commitment", chunk)).collect();
        Ok(Self(poly::Commitment::from(points?)))
    }

    /// Its encoding.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes()
    }

    /// How many shares make a token.
    pub fn threshold(&self) -> usize {
        // The degree is the number of points less one, and `parse` takes no empty list.
        self.0.degree() + 1
    }

    /// The key under which the token verifies.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.evaluate(0_u64))
    }

    /// The key that verifies the shares of the member with this index, counted from 0.
    pub fn share_key(&self, index: u16) -> SharePublicKey {
        // `evaluate` takes the point itself, and member 0 sits at 1: at 0 lies the key.
        SharePublicKey(self.0.evaluate(u64::from(index) + 1))
    }
}

/// Deals a fresh key: any `q` of the `n` shares make a token. Whoever runs this has seen the whole key.
///
/// # Errors
///
/// [`Error::Threshold`] unless 1 ≤ `q` ≤ `n` ≤ 65535.
pub fn deal<R: RngCore + CryptoRng>(
    q: usize,
    n: usize,
    rng: &mut R,
) -> Result<(Commitment, Vec<KeyShare>), Error> {
    let fault = Error::Threshold { q, n };
    let members = u16::try_from(n).map_err(|_| fault.clone())?;
    if q > n {
        return Err(fault);
    }
    let degree = q.checked_sub(1).ok_or_else(|| fault.clone())?;
    let polynomial = Poly::try_random(degree, rng).map_err(|_| fault)?;
    let commitment = Commitment::parse(&polynomial.commitment().to_bytes(), q)?;
    let shares: Result<Vec<_>, _> = (0..members)
        .map(|index| {
            let value = polynomial.evaluate(u64::from(index) + 1);
            KeyShare::from_bytes(&Zeroizing::new(value.to_bytes_be()))
        })
        .collect();
    Ok((commitment, shares?))
}
