//! Keys, shares and tokens as points: parsed once, valid from then on.

use core::fmt;

use blst::{BLST_ERROR, blst_p1_affine, blst_p2_affine, min_pk};
use threshold_crypto::group::prime::PrimeCurveAffine as _;
use threshold_crypto::{G1Affine, G2Affine};

use super::{Error, Message, SUITE};

/// A point of G1 from its 48 compressed bytes; `what` names it in errors.
pub(crate) fn parse_g1(what: &'static str, bytes: &[u8]) -> Result<G1Affine, Error> {
    check_length(what, 48, bytes)?;
    let point = min_pk::PublicKey::uncompress(bytes)
        .and_then(|point| point.validate().map(|()| point))
        .map_err(|fault| point_error(what, bytes, fault))?;
    let mut affine = G1Affine::default();
    *affine.as_mut() = blst_p1_affine::from(point);
    Ok(affine)
}

/// A point of G2 from its 96 compressed bytes; `what` names it in errors.
pub(super) fn parse_g2(what: &'static str, bytes: &[u8]) -> Result<G2Affine, Error> {
    check_length(what, 96, bytes)?;
    let point = min_pk::Signature::uncompress(bytes)
        .and_then(|point| point.validate(true).map(|()| point))
        .map_err(|fault| point_error(what, bytes, fault))?;
    let mut affine = G2Affine::default();
    *affine.as_mut() = blst_p2_affine::from(point);
    Ok(affine)
}

fn check_length(what: &'static str, expected: usize, bytes: &[u8]) -> Result<(), Error> {
    if bytes.len() == expected { Ok(()) } else { Err(Error::Length { what, expected, found: bytes.len() }) }
}

fn point_error(what: &'static str, bytes: &[u8], fault: BLST_ERROR) -> Error {
    let found = hex::encode(bytes);
    match fault {
        BLST_ERROR::BLST_PK_IS_INFINITY => Error::Identity { what },
        BLST_ERROR::BLST_POINT_NOT_ON_CURVE => Error::OffCurve { what, found },
        BLST_ERROR::BLST_POINT_NOT_IN_GROUP => Error::OffSubgroup { what, found },
        _ => Error::NotCanonical { what, found },
    }
}

/// Whether `signature` signs `message` under `key`, which is not checked again; nor is the signature, unless its group is
/// to be checked.
fn verifies(key: &G1Affine, message: &[u8], signature: &G2Affine, check_group: bool) -> bool {
    let key = min_pk::PublicKey::from(*key.as_ref());
    let signature = min_pk::Signature::from(*signature.as_ref());
    signature.verify(check_group, message, SUITE, &[], &key, false) == BLST_ERROR::BLST_SUCCESS
}

/// A point with a meaning of its own, shown as its compressed encoding in lower-case hexadecimal.
macro_rules! point {
    ($(#[$doc:meta])* $name:ident, $affine:ty, $size:literal, $parse:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub struct $name(pub(super) $affine);

        impl $name {
            /// Its length in bytes.
            pub const SIZE: usize = $size;

            /// Reads it from its compressed encoding.
            ///
            /// # Errors
            ///
            /// [`Error::Length`], [`Error::NotCanonical`], [`Error::OffCurve`], [`Error::OffSubgroup`] or
            /// [`Error::Identity`].
            pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
                $parse($what, bytes).map(Self)
            }

            /// Its compressed encoding.
            pub fn to_bytes(&self) -> [u8; $size] {
                self.0.to_compressed()
            }
        }

        impl core::hash::Hash for $name {
            fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
                self.to_bytes().hash(state);
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.to_bytes()))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

point! {
    /// The cluster's public key: the one thing that a judge must have from a source of its own.
    PublicKey, G1Affine, 48, parse_g1, "public key"
}
point! {
    /// The public key that verifies one member's shares.
    ///
    /// One that [`Commitment::share_key`](super::Commitment::share_key) computed can be the identity if the
    /// commitment was made to have it so; then no share verifies under it.
    SharePublicKey, G1Affine, 48, parse_g1, "share key"
}
point! {
    /// The cluster's signature: a point of the right group, which [`PublicKey::verify`] ties to a message.
    Token, G2Affine, 96, parse_g2, "token"
}

/// One member's share of a signature by the cluster: a point of the curve, not the identity.
///
/// It goes uncompressed, and whether it lies in the right group is left open: to take the root and to check the group
/// would cost more than to combine, and would be done `q` times. [`combine`](super::combine) checks the group of what
/// it made, and [`SharePublicKey::verify`] that of the share.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Share(pub(super) G2Affine);

impl Share {
    /// Its length in bytes.
    pub const SIZE: usize = 192;

    /// Reads it from its uncompressed encoding.
    ///
    /// # Errors
    ///
    /// [`Error::Length`], [`Error::NotCanonical`], [`Error::OffCurve`] or [`Error::Identity`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let what = "share";
        check_length(what, Self::SIZE, bytes)?;
        let point = min_pk::Signature::deserialize(bytes).map_err(|fault| point_error(what, bytes, fault))?;
        let mut affine = G2Affine::default();
        *affine.as_mut() = blst_p2_affine::from(point);
        if bool::from(affine.is_identity()) { Err(Error::Identity { what }) } else { Ok(Self(affine)) }
    }

    /// Its uncompressed encoding.
    pub fn to_bytes(&self) -> [u8; 192] {
        self.0.to_uncompressed()
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share({})", hex::encode(self.to_bytes()))
    }
}

/// Whether a point of the curve lies in the group of prime order.
pub(super) fn in_group(point: &G2Affine) -> bool {
    min_pk::Signature::from(*point.as_ref()).subgroup_check()
}

impl PublicKey {
    /// Checks that `token` is the cluster's signature on `message`.
    ///
    /// # Errors
    ///
    /// [`Error::WrongToken`].
    pub fn verify(&self, message: &Message, token: &Token) -> Result<(), Error> {
        if self.verifies(&message.to_bytes(), token) {
            Ok(())
        } else {
            Err(Error::WrongToken { message: *message, key: self.to_string() })
        }
    }

    /// Whether `token` signs these raw bytes. Only [`PublicKey::verify`] and published vectors need it.
    pub(crate) fn verifies(&self, message: &[u8], token: &Token) -> bool {
        verifies(&self.0, message, &token.0, false)
    }

    /// The point itself, for the pairing in [`crate::lock`].
    pub(crate) const fn point(&self) -> &G1Affine {
        &self.0
    }
}

impl Token {
    /// The point itself, for the pairing in [`crate::lock`].
    pub(crate) const fn point(&self) -> &G2Affine {
        &self.0
    }
}

impl SharePublicKey {
    /// Checks that `share` is this member's share of the signature on `message`.
    ///
    /// # Errors
    ///
    /// [`Error::WrongShare`].
    pub fn verify(&self, message: &Message, share: &Share) -> Result<(), Error> {
        if verifies(&self.0, &message.to_bytes(), &share.0, true) {
            Ok(())
        } else {
            Err(Error::WrongShare { message: *message, key: self.to_string() })
        }
    }
}
