//! What a presented certificate says about its holder.

use std::sync::OnceLock;

use ed25519_dalek::VerifyingKey;
use fairpost_proto::binding::{self, Binding};
use fairpost_proto::cose::Signed;
use fairpost_proto::ids::{Digest, KeyId};
use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;
use x509_cert::der::{self, AnyRef, Decode, Reader as _, SliceReader, Tag, TagNumber, Tagged as _};

/// The largest certificate that is read at all, in bytes. One that Fairpost makes has some 700.
const MAX_BYTES: usize = 8 * 1024;

/// The certificate field that holds the extensions (RFC 5280 §4.1).
const EXTENSIONS: Tag = Tag::ContextSpecific { constructed: true, number: TagNumber::N3 };

/// What is wrong with a certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is larger than any that Fairpost makes.
    #[error("the certificate has {found} bytes, at most {MAX_BYTES} are read")]
    TooLarge {
        /// Its size.
        found: usize,
    },
    /// It is not an X.509 certificate.
    #[error("not a certificate: {0}")]
    Certificate(webpki::Error),
    /// Its extensions are not the DER that X.509 asks for.
    #[error("malformed certificate extensions: {0}")]
    Extensions(der::Error),
    /// It does not carry exactly one binding.
    #[error("the certificate carries {found} Fairpost TLS bindings, expected 1")]
    Bindings {
        /// How many it carries.
        found: usize,
    },
    /// Its binding is malformed, for another TLS key, or not signed by the identity that it names.
    #[error("the certificate's binding does not hold: {0}")]
    Binding(#[from] binding::Error),
    /// It speaks for an identity that was not asked for.
    #[error("the certificate speaks for identity {found}, expected {}", one_of(.expected))]
    OtherIdentity {
        /// The identities that would do.
        expected: Vec<KeyId>,
        /// The identity that it claims.
        found: KeyId,
    },
}

fn one_of(keys: &[KeyId]) -> String {
    keys.iter().map(KeyId::to_string).collect::<Vec<_>>().join(" or ")
}

/// A certificate with a binding for its own key. Whether the identity that the binding names has signed it is for
/// [`PeerCertificate::speaks_for`] to say.
#[derive(Clone, Debug)]
pub struct PeerCertificate {
    tls_key: KeyId,
    binding: Signed<Binding>,
    /// The identity that was found to have signed the binding: a connection makes many calls.
    spoken_for: OnceLock<VerifyingKey>,
}

impl PeerCertificate {
    /// Parses what a peer presented.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        if der.len() > MAX_BYTES {
            return Err(Error::TooLarge { found: der.len() });
        }
        // The handshake's signature is checked with the key that this parser finds, so the digest is of that one.
        let presented = CertificateDer::from(der);
        let key = EndEntityCert::try_from(&presented).map_err(Error::Certificate)?.subject_public_key_info();
        let tls_key = KeyId::new(*Digest::of(&key).as_bytes());

        let found = bindings(der).map_err(Error::Extensions)?;
        let [content] = found.as_slice() else { return Err(Error::Bindings { found: found.len() }) };
        let content = unwrap(content).map_err(Error::Extensions)?;
        let binding = Signed::<Binding>::parse(content).map_err(binding::Error::from)?;
        let bound = binding.payload().tls_key;
        if bound != tls_key {
            return Err(binding::Error::Key { expected: tls_key, found: bound }.into());
        }
        Ok(Self { tls_key, binding, spoken_for: OnceLock::new() })
    }

    /// Digest of the TLS key.
    pub const fn tls_key_id(&self) -> KeyId {
        self.tls_key
    }

    /// The identity that the holder **claims**. Look up its key by this, then ask [`PeerCertificate::speaks_for`].
    pub const fn identity_key_id(&self) -> KeyId {
        *self.binding.signer()
    }

    /// That `identity` signed the binding: the holder of the certificate's key speaks for it.
    pub fn speaks_for(&self, identity: &VerifyingKey) -> Result<(), binding::Error> {
        if self.spoken_for.get() != Some(identity) {
            binding::check(&self.binding, identity, self.tls_key)?;
            let _ = self.spoken_for.set(*identity);
        }
        Ok(())
    }

    /// The binding.
    pub const fn binding(&self) -> &Signed<Binding> {
        &self.binding
    }
}

/// The extension's value for a binding: a DER OCTET STRING, as X.509 wants DER in every extension.
pub(super) fn wrap(binding: &Signed<Binding>) -> Result<Vec<u8>, der::Error> {
    use x509_cert::der::Encode as _;
    der::asn1::OctetStringRef::new(binding.bytes())?.to_der()
}

fn unwrap(value: &[u8]) -> Result<&[u8], der::Error> {
    let string = AnyRef::from_der(value)?;
    string.tag().assert_eq(Tag::OctetString)?;
    Ok(string.value())
}

/// The values of all extensions with the binding's OID.
///
/// Walked by hand: x509-cert holds OIDs in integers of 32 bits, and fails on a certificate with any larger arc.
fn bindings(der: &[u8]) -> Result<Vec<&[u8]>, der::Error> {
    let oid = encode_oid(binding::OID);
    let mut found = Vec::new();
    let Some(to_be_signed) = elements(AnyRef::from_der(der)?)?.first().copied() else { return Ok(found) };
    for field in elements(to_be_signed)? {
        if field.tag() != EXTENSIONS {
            continue;
        }
        for extension in elements(AnyRef::from_der(field.value())?)? {
            let parts = elements(extension)?;
            let (Some(id), Some(value)) = (parts.first(), parts.last()) else { continue };
            if id.tag() == Tag::ObjectIdentifier && id.value() == oid {
                value.tag().assert_eq(Tag::OctetString)?;
                found.push(value.value());
            }
        }
    }
    Ok(found)
}

/// The elements of a SEQUENCE.
fn elements(sequence: AnyRef<'_>) -> Result<Vec<AnyRef<'_>>, der::Error> {
    sequence.tag().assert_eq(Tag::Sequence)?;
    let mut reader = SliceReader::new(sequence.value())?;
    let mut elements = Vec::new();
    while !reader.is_finished() {
        elements.push(AnyRef::decode(&mut reader)?);
    }
    Ok(elements)
}

/// The content octets of an object identifier (X.690 §8.19).
fn encode_oid(arcs: &[u64]) -> Vec<u8> {
    let mut octets = Vec::new();
    let (first, rest) = match arcs {
        [first, second, rest @ ..] => (first.saturating_mul(40).saturating_add(*second), rest),
        _ => return octets,
    };
    for arc in std::iter::once(first).chain(rest.iter().copied()) {
        let groups = (64 - arc.leading_zeros()).div_ceil(7).max(1);
        for group in (0..groups).rev() {
            // Seven bits: the mask makes the cast exact.
            let bits = (arc >> (7 * group) & 0x7f) as u8;
            octets.push(if group > 0 { bits | 0x80 } else { bits });
        }
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_identifiers_are_encoded_as_in_x_690() {
        // X.690 §8.19.5: {2 999 3}; RFC 5280's id-ce-subjectAltName; the largest arc that fits.
        assert_eq!(encode_oid(&[2, 999, 3]), [0x88, 0x37, 0x03]);
        assert_eq!(encode_oid(&[2, 5, 29, 17]), [0x55, 0x1d, 0x11]);
        assert_eq!(encode_oid(&[1, 2, 0]), [0x2a, 0x00]);
        let largest = [&[0x69, 0x81][..], &[0xff; 8], &[0x7f]].concat();
        assert_eq!(encode_oid(&[2, 25, u64::MAX]), largest);
    }
}
