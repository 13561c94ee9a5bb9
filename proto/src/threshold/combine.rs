//! From `q` shares to the token.

use std::collections::BTreeSet;

use threshold_crypto::group::ff::Field;
use threshold_crypto::group::{Curve, Group};
use threshold_crypto::{Fr, G2Affine, G2Projective};

use super::point::in_group;
use super::{Error, Share, Token};

/// The token that the first `q` of these shares make; each comes with its member's index, counted from 0.
///
/// No share is checked here: if one is wrong, so is the token. Verify the token first, and the shares only when
/// that fails.
///
/// # Errors
///
/// [`Error::DuplicateIndex`] if any two shares, used or not, have one index; [`Error::NotEnough`] if there are
/// fewer than `q`; [`Error::Threshold`] for a `q` of zero; [`Error::Identity`] if the shares cancel out and
/// [`Error::OffSubgroup`] if they leave the group, which correct ones can't.
pub fn combine(q: usize, shares: &[(u16, Share)]) -> Result<Token, Error> {
    if q == 0 {
        return Err(Error::Threshold { q, n: shares.len() });
    }
    let mut seen = BTreeSet::new();
    if let Some((index, _)) = shares.iter().find(|(index, _)| !seen.insert(*index)) {
        return Err(Error::DuplicateIndex { index: *index });
    }
    let not_enough = || Error::NotEnough { needed: q, got: shares.len() };
    let used = shares.get(..q).ok_or_else(not_enough)?;
    let indices: Vec<u16> = used.iter().map(|(index, _)| *index).collect();
    let sum = match Weights::at_zero(&indices) {
        Some(weights) => weights.sum(used),
        None => sum_in_field(used, &indices),
    };
    let sum = sum.ok_or_else(not_enough)?;
    if bool::from(sum.is_identity()) {
        return Err(Error::Identity { what: "token" });
    }
    let token = Token(sum.to_affine());
    if in_group(&token.0) {
        Ok(token)
    } else {
        Err(Error::OffSubgroup { what: "token", found: token.to_string() })
    }
}

/// Where a member sits: one above its index.
fn position(index: u16) -> i64 {
    i64::from(index) + 1
}

/// The Lagrange weights at 0 as small fractions over one denominator.
///
/// The positions are small whole numbers, and so are the weights of a small cluster: for the members 0, 1 and 2 they
/// are 3, -3 and 1. Multiplying by such a number takes a few additions, where a multiplication by a field element
/// takes hundreds.
#[derive(Debug, PartialEq, Eq)]
struct Weights {
    numerators: Vec<i64>,
    denominator: u64,
}

impl Weights {
    /// The weights of these members; none if they are not small, or an index is repeated.
    fn at_zero(indices: &[u16]) -> Option<Self> {
        let mut fractions = Vec::with_capacity(indices.len());
        let mut denominator = 1_i64;
        for own in indices {
            let others = indices.iter().filter(|other| *other != own);
            let (mut over, mut under) = (1_i64, 1_i64);
            for other in others {
                over = over.checked_mul(position(*other))?;
                under = under.checked_mul(position(*other) - position(*own))?;
                let common = gcd(over, under);
                (over, under) = (over / common, under / common);
            }
            if under < 0 {
                (over, under) = (-over, -under);
            }
            denominator = (denominator / gcd(denominator, under)).checked_mul(under)?;
            fractions.push((over, under));
        }
        let numerators: Option<Vec<i64>> =
            fractions.into_iter().map(|(over, under)| over.checked_mul(denominator / under)).collect();
        let numerators = numerators?;
        // Beyond that, a multiplication in the field is as fast.
        let small = |weight: &i64| weight.unsigned_abs() < 1 << 32;
        numerators.iter().all(small).then_some(Self { numerators, denominator: denominator.unsigned_abs() })
    }

    fn sum(&self, shares: &[(u16, Share)]) -> Option<G2Projective> {
        let parts = shares.iter().zip(&self.numerators).map(|((_, share), weight)| times(&share.0, *weight));
        let sum: G2Projective = parts.sum();
        if self.denominator == 1 {
            return Some(sum);
        }
        Option::<Fr>::from(Fr::from(self.denominator).invert()).map(|inverse| sum * inverse)
    }
}

/// The point times a small whole number. Shares are no secrets: this need not be in constant time.
fn times(point: &G2Affine, weight: i64) -> G2Projective {
    let mut product = G2Projective::identity();
    for bit in (0..u64::BITS - weight.unsigned_abs().leading_zeros()).rev() {
        product = product.double();
        if weight.unsigned_abs() >> bit & 1 == 1 {
            product += point;
        }
    }
    if weight < 0 { -product } else { product }
}

/// The greatest common divisor, positive.
fn gcd(a: i64, b: i64) -> i64 {
    let (mut a, mut b) = (a.abs(), b.abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}

/// The same sum for members whose weights are not small.
fn sum_in_field(shares: &[(u16, Share)], indices: &[u16]) -> Option<G2Projective> {
    let weighted = |(index, share): &(u16, Share)| Some(share.0 * lagrange_at_zero(*index, indices)?);
    shares.iter().map(weighted).sum()
}

/// The weight at 0 of the member `index` among `indices`: the product of x / (x - x_index) over the others. None if
/// `indices` repeats `index`.
fn lagrange_at_zero(index: u16, indices: &[u16]) -> Option<Fr> {
    let position = |index: u16| Fr::from(u64::from(index) + 1);
    let own = position(index);
    let (mut numerator, mut denominator) = (Fr::one(), Fr::one());
    for other in indices.iter().filter(|other| **other != index) {
        numerator *= position(*other);
        denominator *= position(*other) - own;
    }
    Option::<Fr>::from(denominator.invert()).map(|inverse| numerator * inverse)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_weights_of_the_default_cluster_are_small() {
        let weights = |indices: &[u16]| Weights::at_zero(indices).map(|w| (w.numerators, w.denominator));
        assert_eq!(weights(&[0, 1, 2]), Some((vec![3, -3, 1], 1)));
        assert_eq!(weights(&[2, 0, 1]), Some((vec![1, 3, -3], 1)));
        assert_eq!(weights(&[0, 1, 3]), Some((vec![8, -6, 1], 3)));
        assert_eq!(weights(&[0, 2, 3]), Some((vec![2, -2, 1], 1)));
        assert_eq!(weights(&[1, 2, 3]), Some((vec![6, -8, 3], 1)));
        assert_eq!(weights(&[u16::MAX, 65_000, 64_000, 63_000]), None, "too large: the field does it");
    }

    proptest! {
        #[test]
        fn small_weights_are_the_fields(indices in proptest::collection::btree_set(0_u16..40, 1..9)) {
            let indices: Vec<u16> = indices.into_iter().collect();
            let Some(weights) = Weights::at_zero(&indices) else { return Ok(()) };
            let inverse = Fr::from(weights.denominator).invert().unwrap();
            for (index, weight) in indices.iter().zip(weights.numerators) {
                let whole = Fr::from(weight.unsigned_abs());
                let whole = if weight < 0 { -whole } else { whole };
                prop_assert_eq!(lagrange_at_zero(*index, &indices).unwrap(), whole * inverse);
            }
        }
    }
}
