//! TLS bindings: which TLS key speaks for which identity.
//!
//! # Specification
//!
//! Identity keys are Ed25519 and sign COSE only. TLS uses a P-256 key of its own in a self-signed certificate, which
//! carries, as a non-critical extension [`OID`], the **binding**: the identity key's signature over the TLS key's
//! digest. Whoever completes a handshake with that certificate holds the TLS key, and the binding says for whom.

use ed25519_dalek::VerifyingKey;

use crate::cbor::{Map, Reader, Writer};
use crate::cose::{self, Payload, Signed};
use crate::ids::{KeyId, Timestamp};
use crate::terms;

/// The certificate extension that carries the binding: a random GUID under the arc that Microsoft gives to such
/// (1.2.840.113556.1.8000.2554), in seven small parts, because common X.509 libraries refuse arcs of 64 bits.
pub const OID: &[u64] =
    &[1, 2, 840, 113_556, 1, 8000, 2554, 20_676, 5703, 19_452, 33_135, 52_164, 5_941_775, 12_277_652];

/// Why a TLS key does not speak for an identity.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not a well-formed binding, or its signature does not hold.
    #[error("TLS binding: {0}")]
    Cose(#[from] cose::Error),
    /// It binds another TLS key.
    #[error("the binding is for TLS key {found}, and the certificate has {expected}")]
    Key {
        /// The certificate's key.
        expected: KeyId,
        /// The key in the binding.
        found: KeyId,
    },
}

/// What the identity key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// SHA-256 of the TLS key's SubjectPublicKeyInfo.
    pub tls_key: KeyId,
    /// When it was made.
    pub created: Timestamp,
}

impl Payload for Binding {
    const TYP: &'static str = "application/vnd.fairpost.tls-binding+cose";
    const TAG: &'static str = "fairpost/tls-binding/v1";
    const KEYS: usize = 3;
    type Signer = KeyId;

    fn read(map: &mut Map, reader: &mut Reader<'_>) -> Result<Self, cose::Error> {
        map.key(reader, 1)?;
        let tls_key = KeyId::new(reader.bytes32("the TLS key's digest")?);
        map.key(reader, 2)?;
        Ok(Self { tls_key, created: terms::read_seconds(reader, "created")? })
    }

    fn write(&self, writer: &mut Writer) {
        writer.uint(1).bytes(self.tls_key.as_bytes()).uint(2).uint(self.created.seconds());
    }
}

/// That `binding` is `identity`'s, for the TLS key `tls_key`.
pub fn check(binding: &Signed<Binding>, identity: &VerifyingKey, tls_key: KeyId) -> Result<(), Error> {
    let found = binding.payload().tls_key;
    if found != tls_key {
        return Err(Error::Key { expected: tls_key, found });
    }
    Ok(binding.verify(identity)?)
}
