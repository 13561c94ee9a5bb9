//! Verifying many tokens for about the price of one.
//!
//! # Specification
//!
//! Tokens T of messages with hashes H under one key PK are checked together, each with a random weight r, odd and
//! of 64 bits, by one equation of pairings (the small-exponents test of Bellare, Garay and Rabin, EUROCRYPT 1998):
//!
//! ```text
//! e(PK, sum of r H) = e(P, sum of r T)          P the generator of G1
//! ```
//!
//! # Relies on
//!
//! - The weights are drawn after the tokens are fixed, by a generator that their makers can't predict.
//! - Tokens lie in the subgroup of prime order, which [`Token`] guarantees.
//!
//! # Guarantees
//!
//! If any token is wrong, the answer is `false`, but for a chance of 2⁻⁶³ for each try
//! (`one_wrong_token_spoils_a_batch`, `wrong_tokens_that_cancel_out_do_not_pass`).

use blst::{MultiPoint as _, blst_fp12, blst_p2, blst_p2_affine, p2_affines};
use rand::{CryptoRng, RngCore};
use threshold_crypto::group::prime::PrimeCurveAffine as _;
use threshold_crypto::group::{Curve as _, Group as _};
use threshold_crypto::{G1Affine, G2Affine, G2Projective};

use super::{Message, PublicKey, SUITE, Token};

/// The length of a weight.
const WEIGHT_BITS: usize = 64;

impl PublicKey {
    /// Whether each token is the cluster's signature on its message. Which one is not, this does not tell:
    /// [`PublicKey::verify`] does.
    pub fn verify_batch<R: RngCore + CryptoRng>(&self, signed: &[(Message, Token)], rng: &mut R) -> bool {
        match signed {
            [] => return true,
            [(message, token)] => return self.verify(message, token).is_ok(),
            _ => {}
        }
        let mut weights = Vec::with_capacity(signed.len() * WEIGHT_BITS / 8);
        for _ in signed {
            // A weight of 0 would leave its token out.
            weights.extend((rng.next_u64() | 1).to_le_bytes());
        }
        let hashes: Vec<blst_p2> = signed
            .iter()
            .map(|(message, _)| *G2Projective::hash_to_curve(&message.to_bytes(), SUITE, &[]).as_ref())
            .collect();
        let tokens: Vec<blst_p2_affine> = signed.iter().map(|(_, token)| *token.point().as_ref()).collect();
        let hashes = affine(p2_affines::from(&hashes).mult(&weights, WEIGHT_BITS));
        let tokens = affine(tokens.mult(&weights, WEIGHT_BITS));
        let left = blst_fp12::miller_loop(hashes.as_ref(), self.point().as_ref());
        let right = blst_fp12::miller_loop(tokens.as_ref(), G1Affine::generator().as_ref());
        blst_fp12::finalverify(&left, &right)
    }
}

fn affine(point: blst_p2) -> G2Affine {
    let mut projective = G2Projective::identity();
    *projective.as_mut() = point;
    projective.to_affine()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha20Rng;

    use super::super::{combine, deal};
    use super::*;
    use crate::ids::{ClusterId, ExchangeId};

    fn signed(count: u8, rng: &mut ChaCha20Rng) -> (PublicKey, Vec<(Message, Token)>) {
        let (commitment, shares) = deal(1, 1, rng).unwrap();
        let token = |place| {
            let message = Message::released(ClusterId::new([1; 32]), ExchangeId::new([place; 32]));
            (message, combine(1, &[(0, shares[0].sign(&message))]).unwrap())
        };
        (commitment.public_key(), (0..count).map(token).collect())
    }

    #[test]
    fn batches_of_right_tokens_pass() {
        let mut rng = ChaCha20Rng::seed_from_u64(7);
        let (key, signed) = signed(40, &mut rng);
        for count in [0, 1, 2, 3, 8, 33, 40] {
            assert!(key.verify_batch(&signed[..count], &mut rng), "{count}");
        }
    }

    #[test]
    fn one_wrong_token_spoils_a_batch() {
        let mut rng = ChaCha20Rng::seed_from_u64(8);
        let (key, right) = signed(9, &mut rng);
        for place in 0..right.len() {
            let mut wrong = right.clone();
            wrong[place].1 = right[(place + 1) % right.len()].1;
            assert!(!key.verify_batch(&wrong, &mut rng), "{place}");
        }
        let (other, _) = signed(1, &mut rng);
        assert!(!other.verify_batch(&right, &mut rng), "another key");
    }

    #[test]
    fn wrong_tokens_that_cancel_out_do_not_pass() {
        let mut rng = ChaCha20Rng::seed_from_u64(9);
        let (key, right) = signed(2, &mut rng);
        let mut wrong = right.clone();
        // The same point added to one token and taken from the other: their sum is right, and each is wrong.
        let delta = G2Affine::generator();
        let changed = |token: &Token, sign: bool| {
            let point = G2Projective::from(token.point());
            Token((if sign { point + delta } else { point - delta }).to_affine())
        };
        wrong[0].1 = changed(&right[0].1, true);
        wrong[1].1 = changed(&right[1].1, false);
        assert!(!key.verify_batch(&wrong, &mut rng));
        // Exchanged tokens are right in sum, too.
        (wrong[0].1, wrong[1].1) = (right[1].1, right[0].1);
        assert!(!key.verify_batch(&wrong, &mut rng));
    }
}
