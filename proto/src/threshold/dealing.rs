//! The algebra of a key that nobody deals alone: polynomials in two variables, commitments to them, and their sums.
//!
//! # Specification
//!
//! A **dealing** is a random symmetric polynomial P(x, y) of degree `q - 1` in each variable. Its commitment is the list
//! of its coefficients times the generator of G1: that of xⁱyʲ, i ≤ j, stands at place j(j + 1)/2 + i. The **row** of the
//! member with index `i` is P(i + 1, y), a polynomial in one variable; with the commitment everybody can tell whether a
//! row is the right one. The key is the sum of P(0, 0) over the dealings, and the share of member `i` the sum of
//! P(i + 1, 0). The commitment to that key is the sum of the commitments' rows at 0.
//!
//! A row is encoded as its `q` coefficients, 32 bytes each, big-endian, the constant first.
//!
//! # Guarantees
//!
//! - A [`Row`] that [`DealingCommitment::holds`] is the dealing's row for this member and no other (test
//!   `a_row_holds_for_its_own_member_only`).
//! - The shares from right rows match the summed commitment (test `rows_add_up_to_shares_of_one_key`).
//! - Polynomials and rows are wiped from memory when dropped, and have no `Debug`.

use rand::{CryptoRng, RngCore};
use threshold_crypto::group::{Curve as _, Group as _};
use threshold_crypto::poly::{BivarPoly, Poly};
use threshold_crypto::{Fr, G1Affine, G1Projective};
use zeroize::Zeroizing;

use super::{Commitment, Error, KeyShare, PublicKey, parse_g1};
use crate::quorum::Quorum;

const SCALAR: usize = 32;

/// A dealer's secret polynomial.
pub struct Polynomial(BivarPoly);

impl Polynomial {
    /// A random polynomial of degree `q - 1`.
    ///
    /// # Errors
    ///
    /// [`Error::Threshold`] unless 1 ≤ `q` ≤ 64.
    pub fn random<R: RngCore + CryptoRng>(q: usize, rng: &mut R) -> Result<Self, Error> {
        let fault = Error::Threshold { q, n: Quorum::MAX_SERVERS };
        match q.checked_sub(1).filter(|_| q <= Quorum::MAX_SERVERS) {
            Some(degree) => BivarPoly::try_random(degree, rng).map(Self).map_err(|_| fault),
            None => Err(fault),
        }
    }

    /// The commitment to it.
    ///
    /// # Errors
    ///
    /// [`Error::Identity`] if a coefficient is zero, which happens with probability 2⁻²⁵⁵.
    pub fn commitment(&self) -> Result<DealingCommitment, Error> {
        DealingCommitment::parse(&self.0.commitment().to_bytes())
    }

    /// The row of the member with this index, counted from 0.
    pub fn row(&self, index: u16) -> Row {
        // `row` takes the point itself, and member 0 sits at 1: at 0 lies the key.
        Row(self.0.row(u64::from(index) + 1))
    }
}

/// What a dealer gives to one member. It is secret, unless the dealer has to open it.
#[derive(Clone)]
pub struct Row(Poly);

impl Row {
    /// The length of a row for threshold `q`.
    pub const fn size(q: usize) -> usize {
        q * SCALAR
    }

    /// Reads a row.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] unless there are 1 to 64 coefficients, [`Error::NotCanonical`] if one is not below the group's
    /// order.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let found = bytes.len();
        let (coefficients, rest) = bytes.as_chunks::<SCALAR>();
        if !rest.is_empty() || coefficients.is_empty() || coefficients.len() > Quorum::MAX_SERVERS {
            let expected = coefficients.len().clamp(1, Quorum::MAX_SERVERS) * SCALAR;
            return Err(Error::Length { what: "row", expected, found });
        }
        // Rows are secret: an error does not show them.
        let fault = || Error::NotCanonical { what: "row", found: "a coefficient".to_owned() };
        let coefficient = |bytes| Option::<Fr>::from(Fr::from_bytes_be(bytes)).ok_or_else(fault);
        let coefficients = coefficients.iter().map(coefficient).collect::<Result<Vec<_>, _>>()?;
        Ok(Self(Poly::from(coefficients)))
    }

    /// Its encoding.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.to_bytes())
    }
}

/// The public commitment to one dealing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DealingCommitment {
    q: usize,
    points: Vec<G1Affine>,
}

impl DealingCommitment {
    /// The length of a commitment for threshold `q`.
    pub const fn size(q: usize) -> usize {
        q * (q + 1) / 2 * PublicKey::SIZE
    }

    /// Reads a commitment; its length says for which threshold it is.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] if no threshold from 1 to 64 has so many points, and those of [`PublicKey::parse`] for each.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let (what, found) = ("dealing's commitment", bytes.len());
        let q = (1..=Quorum::MAX_SERVERS).find(|q| Self::size(*q) >= found).unwrap_or(Quorum::MAX_SERVERS);
        let expected = Self::size(q);
        if found != expected {
            return Err(Error::Length { what, expected, found });
        }
        let points = bytes.chunks(PublicKey::SIZE).map(|chunk| parse_g1(what, chunk));
        Ok(Self { q, points: points.collect::<Result<_, _>>()? })
    }

    /// Its encoding.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(&self.points)
    }

    /// How many shares of the key will make a token.
    pub const fn threshold(&self) -> usize {
        self.q
    }

    /// Whether `row` is this dealing's row for the member with this index.
    pub fn holds(&self, index: u16, row: &Row) -> bool {
        row.0.commitment().to_bytes() == encode(&self.row(u64::from(index) + 1))
    }

    /// The commitment to P(x, y) as a polynomial in y. The points are public and `x` is small: so a few doublings
    /// take the place of multiplications by field elements.
    fn row(&self, x: u64) -> Vec<G1Affine> {
        let coefficient = |i: usize| {
            let horner = |sum, j| times(sum, x) + self.at(i, j);
            (0..self.q).rev().fold(G1Projective::identity(), horner).to_affine()
        };
        (0..self.q).map(coefficient).collect()
    }

    fn at(&self, i: usize, j: usize) -> G1Affine {
        let (low, high) = (i.min(j), i.max(j));
        // There are q (q + 1) / 2 points, and i and j are below q.
        self.points.get(high * (high + 1) / 2 + low).copied().unwrap_or_default()
    }
}

/// The commitment to the key that these dealings make together.
///
/// # Errors
///
/// [`Error::Threshold`] if there are none or their thresholds differ; [`Error::Identity`] if they cancel out, which no
/// dealer can bring about while one other is honest.
pub fn sum_of_commitments(dealings: &[&DealingCommitment]) -> Result<Commitment, Error> {
    let q = dealings.first().map_or(0, |first| first.q);
    if let Some(other) = dealings.iter().find(|dealing| dealing.q != q) {
        return Err(Error::Threshold { q: other.q, n: q });
    }
    let point = |place| {
        dealings
            .iter()
            .map(|dealing| G1Projective::from(dealing.at(0, place)))
            .sum::<G1Projective>()
            .to_affine()
    };
    Commitment::parse(&encode(&(0..q).map(point).collect::<Vec<_>>()), q)
}

/// The share of the member whose rows these are, one of each dealing.
///
/// # Errors
///
/// [`Error::Scalar`] if they cancel out, as for [`sum_of_commitments`].
pub fn sum_of_rows(rows: &[Row]) -> Result<KeyShare, Error> {
    let share: Fr = rows.iter().map(|row| row.0.evaluate(0_u64)).sum();
    KeyShare::from_bytes(&Zeroizing::new(share.to_bytes_be()))
}

/// The point times a small whole number.
fn times(point: G1Projective, number: u64) -> G1Projective {
    let bits = (0..u64::BITS - number.leading_zeros()).rev();
    bits.fold(G1Projective::identity(), |product, bit| {
        let double = product.double();
        if number >> bit & 1 == 1 { double + point } else { double }
    })
}

fn encode(points: &[G1Affine]) -> Vec<u8> {
    points.iter().flat_map(|point| point.to_compressed()).collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha20Rng;
    use threshold_crypto::poly::BivarCommitment;

    use super::super::{Message, combine};
    use super::*;
    use crate::ids::Digest;

    fn rng() -> ChaCha20Rng {
        ChaCha20Rng::seed_from_u64(5)
    }

    #[test]
    fn a_row_holds_for_its_own_member_only() {
        let polynomial = Polynomial::random(3, &mut rng()).unwrap();
        let commitment = polynomial.commitment().unwrap();
        assert_eq!((commitment.threshold(), commitment.to_bytes().len()), (3, 6 * 48));
        for index in [0, 1, 5, 63, u16::MAX] {
            let row = Row::parse(&polynomial.row(index).to_bytes()).unwrap();
            for other in [0, 1, 5, 63, u16::MAX] {
                assert_eq!(commitment.holds(other, &row), index == other);
            }
            let mut bytes = row.to_bytes().to_vec();
            for place in [31, 63, 95] {
                bytes[place] ^= 1;
                assert!(!commitment.holds(index, &Row::parse(&bytes).unwrap()), "coefficient {}", place / 32);
                bytes[place] ^= 1;
            }
            // A longer or shorter polynomial is another one.
            assert!(!commitment.holds(index, &Row::parse(&bytes[..64]).unwrap()));
            assert!(!commitment.holds(index, &Row::parse(&[&bytes[..], &[0; 32]].concat()).unwrap()));
        }
    }

    #[test]
    fn rows_of_the_commitment_are_those_of_the_package_beneath() {
        for q in [1, 2, 5] {
            let polynomial = Polynomial::random(q, &mut rng()).unwrap();
            let own = polynomial.commitment().unwrap();
            let theirs = BivarCommitment::from_bytes(own.to_bytes()).unwrap();
            for x in [0, 1, 2, 7, 64, 65_536] {
                assert_eq!(encode(&own.row(x)), theirs.row(x).to_bytes());
            }
        }
    }

    #[test]
    fn rows_add_up_to_shares_of_one_key() {
        let mut rng = rng();
        let polynomials: Vec<_> = (0..3).map(|_| Polynomial::random(3, &mut rng).unwrap()).collect();
        let commitments: Vec<_> = polynomials.iter().map(|each| each.commitment().unwrap()).collect();
        let commitment = sum_of_commitments(&commitments.iter().collect::<Vec<_>>()).unwrap();
        let message = Message::Genesis { digest: Digest::of(b"genesis") };
        let shares: Vec<_> = (0..5_u16)
            .map(|index| {
                let rows: Vec<_> = polynomials.iter().map(|polynomial| polynomial.row(index)).collect();
                let share = sum_of_rows(&rows).unwrap();
                assert_eq!(share.public_share(), commitment.share_key(index));
                (index, share.sign(&message))
            })
            .collect();
        for members in [[0, 1, 2], [4, 2, 3], [1, 0, 4]] {
            let chosen: Vec<_> = members.iter().map(|member: &usize| shares[*member]).collect();
            let token = combine(3, &chosen).unwrap();
            commitment.public_key().verify(&message, &token).unwrap();
        }
        let few = sum_of_commitments(&[&commitments[0], &commitments[1]]).unwrap();
        assert_ne!(few.public_key(), commitment.public_key());
    }

    #[test]
    fn what_is_no_dealing_is_refused() {
        let mut rng = rng();
        for q in [0, 65] {
            let outcome = Polynomial::random(q, &mut rng).err();
            assert_eq!(outcome, Some(Error::Threshold { q, n: 64 }));
        }
        let commitment = |q| Polynomial::random(q, &mut rng.clone()).unwrap().commitment().unwrap();
        let (two, three) = (commitment(2), commitment(3));
        assert_eq!(sum_of_commitments(&[]), Err(Error::Threshold { q: 0, n: 0 }));
        assert_eq!(sum_of_commitments(&[&two, &three]), Err(Error::Threshold { q: 3, n: 2 }));
        let bytes = three.to_bytes();
        for length in [0, 1, 47, 96, 4 * 48, 5 * 48, 6 * 48 - 1] {
            let outcome = DealingCommitment::parse(&bytes[..length]);
            assert!(matches!(outcome, Err(Error::Length { found, .. }) if found == length), "{length}");
        }
        assert!(matches!(DealingCommitment::parse(&vec![0; 1 << 20]), Err(Error::Length { .. })));
        let mut identity = [0; 48];
        identity[0] = 0xc0;
        assert!(matches!(DealingCommitment::parse(&identity), Err(Error::Identity { .. })));
        for bytes in [&[][..], &[0; 31], &[0; 33], &[0; 65 * 32]] {
            assert!(matches!(Row::parse(bytes).err(), Some(Error::Length { what: "row", .. })));
        }
        assert!(matches!(Row::parse(&[0xff; 32]).err(), Some(Error::NotCanonical { what: "row", .. })));
    }
}
