//! Ed25519 keys as certificates hold them (RFC 8410).

use core::fmt;

use ed25519_dalek::VerifyingKey;
use x509_cert::spki::{ObjectIdentifier, SubjectPublicKeyInfoOwned};

use super::Error;
use crate::ids::{Digest, KeyId};

const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// What stands before the 32 bytes of a key in its DER SubjectPublicKeyInfo (RFC 8410 §4): it has no other encoding.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// An Ed25519 public key: in its one encoding, and not of small order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key(VerifyingKey);

impl Key {
    /// The key with these bytes (RFC 8032 §5.1.2).
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, Error> {
        let malformed = || Error::Key { found: hex::encode(bytes) };
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| malformed())?;
        if key.is_weak() {
            return Err(Error::WeakKey { found: hex::encode(bytes) });
        }
        // Decoding takes the coordinate modulo 2^255 - 19, so that a few keys have a second encoding.
        if key.to_edwards().compress().as_bytes() != bytes {
            return Err(malformed());
        }
        Ok(Self(key))
    }

    /// The key of a parsed SubjectPublicKeyInfo.
    pub(super) fn from_spki(spki: &SubjectPublicKeyInfoOwned) -> Result<Self, Error> {
        let found = &spki.algorithm.oid;
        if *found != ED25519 {
            return Err(Error::Algorithm { expected: "1.3.101.112 (Ed25519)", found: found.to_string() });
        }
        let bytes = spki.subject_public_key.raw_bytes();
        let malformed = || Error::Key { found: hex::encode(bytes.get(..64).unwrap_or(bytes)) };
        if spki.algorithm.parameters.is_some() || spki.subject_public_key.unused_bits() != 0 {
            return Err(malformed());
        }
        Self::from_bytes(bytes.try_into().map_err(|_| malformed())?)
    }

    /// The key for ed25519-dalek.
    pub const fn as_dalek(&self) -> &VerifyingKey {
        &self.0
    }

    /// SHA-256 of its DER SubjectPublicKeyInfo.
    pub fn key_id(&self) -> KeyId {
        key_id(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", hex::encode(self.0.as_bytes()))
    }
}

/// Which key it is: SHA-256 of its DER SubjectPublicKeyInfo.
pub fn key_id(key: &VerifyingKey) -> KeyId {
    KeyId::new(*Digest::of_parts(&[&SPKI_PREFIX, key.as_bytes()]).as_bytes())
}
