//! From `q` shares to the token.

use std::collections::BTreeSet;

use threshold_crypto::group::Curve;
use threshold_crypto::group::ff::Field;
use threshold_crypto::{Fr, G2Projective};

use super::{Error, Share, Token};

/// The token that the first `q` of these shares make; each comes with its member's index, counted from 0.
///
/// No share is checked here: if one is wrong, so is the token. Verify the token first, and the shares only when
/// that fails.
///
/// # Errors
///
/// [`Error::DuplicateIndex`] if any two shares, used or not, have one index; [`Error::NotEnough`] if there are
/// fewer than `q`; [`Error::Threshold`] for a `q` of zero; [`Error::Identity`] if the shares cancel out, which
/// correct ones can't.
pub fn combine(q: usize, shares: &[(u16, Share)]) -> Result<Token, Error> {
    if q == 0 {
        return Err(Error::Threshold { q, n: shares.len() });
    }
    let mut seen = BTreeSet::new();
    if let Some((index, _)) = shares.iter().find(|(index, _)| !seen.insert(*index)) {
        return Err(Error::DuplicateIndex { index: *index });
    }
    let used = shares.get(..q).ok_or(Error::NotEnough { needed: q, got: shares.len() })?;

    let indices: Vec<u16> = used.iter().map(|(index, _)| *index).collect();
    let sum: G2Projective = used
        .iter()
        .map(|(index, share)| lagrange_at_zero(*index, &indices).map(|weight| share.0 * weight))
        .sum::<Option<_>>()
        .ok_or(Error::NotEnough { needed: q, got: shares.len() })?;
    if bool::from(threshold_crypto::group::Group::is_identity(&sum)) {
        return Err(Error::Identity { what: "token" });
    }
    Ok(Token(sum.to_affine()))
}

/// The weight at 0 of the member `index` among `indices`: the product of x / (x - x_index) over the others, where
/// a member sits at its index + 1. None if `indices` repeats `index`.
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
