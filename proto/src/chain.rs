//! Certificates of senders and recipients: whose key it is, and who says so.
//!
//! # Specification
//!
//! X.509 version 3 (RFC 5280) with Ed25519 keys (RFC 8410). A [`Chain`] is one to four certificates of at most 4096 bytes
//! each: first the signer's, then each one's issuer (RFC 9360, `x5chain`); the trust anchor may be left out. [`Chain::parse`]
//! refuses what is not DER, trailing bytes, an extension that stands twice or that is critical and unknown, an issuer
//! that is not the next certificate's subject, and a key of the signer that is not Ed25519, not canonical or of small
//! order.
//!
//! [`Chain::verify`] believes that the key is an address's, at a time, if
//!
//! - the signer's certificate has an rfc822Name in its SubjectAltName that equals the address byte by byte. It may have
//!   others: one certificate can serve all addresses of a person. The subject's name is not read;
//! - all certificates are valid at that time, which counts in whole seconds, the last one included;
//! - the signer's certificate has KeyUsage, with digitalSignature or nonRepudiation, and is no CA's;
//! - all other certificates are CAs', with keyCertSign if they have KeyUsage;
//! - each certificate that has ExtendedKeyUsage allows emailProtection by name (anyExtendedKeyUsage is not enough). It
//!   may be missing, since CAs of a company's own often leave it out;
//! - signatures (Ed25519, or ECDSA with P-256 or P-384), path lengths and name constraints lead to one of the anchors,
//!   as RFC 5280 §6 has it;
//! - and that anchor is valid at that time itself.
//!
//! Revocation is not looked at: it is in the replicated log. Name constraints on rfc822Name and on directory names are not
//! evaluated: a CA that carries them is refused.
//!
//! # Relies on
//!
//! rustls-webpki for signatures, path lengths and name constraints. It reads neither rfc822Name nor KeyUsage, nor
//! anything of an anchor but its name, key and name constraints: those checks are made here.
//!
//! # Guarantees
//!
//! - Whatever bytes come, the answer is a chain or an [`Error`] (tests `mutated_certificates_never_panic`,
//!   `random_bytes_never_panic`).
//! - No bit of a certificate that convinced can be changed ([`Chain::verify`]; test `no_changed_bit_convinces`).
//! - A key in a [`Chain`] is Ed25519 in its one encoding, so that [`key_id`] names it ([`Key::from_bytes`]; vectors
//!   `chain/chains.json`).
//! - Every rule above has a certificate that breaks it, and no other (vectors `chain/`).

mod anchor;
mod certificate;
mod error;
mod key;
mod lengths;
#[cfg(test)]
mod tests;

use core::fmt;
use core::time::Duration;
use std::sync::{Arc, LazyLock, Mutex};

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use webpki::EndEntityCert;

pub use anchor::Anchor;
pub use error::Error;
pub use key::{Key, key_id};

use crate::ids::{Digest, Timestamp};
use crate::memo::{self, Memo, Path, Recent};
use certificate::{Certificate, EMAIL_PROTECTION, Role};

/// The signatures under certificates that count. The last two serve CAs that hash by another size than the curve's.
const ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    webpki::ring::ED25519,
    webpki::ring::ECDSA_P256_SHA256,
    webpki::ring::ECDSA_P384_SHA384,
    webpki::ring::ECDSA_P256_SHA384,
    webpki::ring::ECDSA_P384_SHA256,
];

/// The certificates of a signer, well-formed. Whether to believe them is for [`Chain::verify`] to say.
#[derive(Clone)]
pub struct Chain(Arc<Parsed>);

struct Parsed {
    certificates: Vec<Vec<u8>>,
    key: Key,
    parsed: Vec<Certificate>,
}

/// How many parsed chains are remembered, at least.
const REMEMBERED: usize = 512;
/// A longer chain is not remembered, in bytes.
const REMEMBERED_BYTES: usize = 4096;

/// Chains that were parsed lately, by [`digest`]: a person's certificate comes with everything that the person signs,
/// and what it parses to follows from its bytes alone.
static LATELY: LazyLock<Mutex<Recent<Chain>>> = LazyLock::new(|| Mutex::new(Recent::new(REMEMBERED)));

impl Chain {
    /// How many certificates a chain may have.
    pub const MAX_CERTIFICATES: usize = 4;
    /// How many bytes a certificate may have.
    pub const MAX_BYTES: usize = 4096;

    /// Parses the signer's certificate and its issuers', each in DER.
    pub fn parse(certificates: Vec<Vec<u8>>) -> Result<Self, Error> {
        if certificates.iter().map(Vec::len).sum::<usize>() > REMEMBERED_BYTES {
            return Self::parse_anew(certificates);
        }
        let digest = digest(&certificates);
        if let Some(chain) = memo::locked(&LATELY).get(&digest) {
            return Ok(chain);
        }
        let chain = Self::parse_anew(certificates)?;
        memo::locked(&LATELY).put(digest, chain.clone());
        Ok(chain)
    }

    fn parse_anew(certificates: Vec<Vec<u8>>) -> Result<Self, Error> {
        let (most, found) = (Self::MAX_CERTIFICATES, certificates.len());
        if found > most {
            return Err(Error::TooMany { most, found });
        }
        let mut parsed: Vec<Certificate> = Vec::with_capacity(found);
        for (place, der) in certificates.iter().enumerate() {
            let certificate = Certificate::parse(der, place)?;
            if let Some(before) = parsed.last().filter(|before| before.issuer != certificate.subject) {
                let (expected, found) = (before.issuer_text(), certificate.subject_text());
                return Err(Error::Order { place, expected, found });
            }
            parsed.push(certificate);
        }
        let leaf = parsed.first().ok_or(Error::Empty)?;
        let key = Key::from_spki(&leaf.spki)?;
        Ok(Self(Arc::new(Parsed { certificates, key, parsed })))
    }

    /// The certificates as they came: the signer's, then each one's issuer's.
    pub fn certificates(&self) -> &[Vec<u8>] {
        &self.0.certificates
    }

    /// The signer's key.
    pub fn leaf_key(&self) -> &Key {
        &self.0.key
    }

    /// From when on all certificates of the chain are valid.
    pub fn not_before(&self) -> Timestamp {
        self.0.parsed.iter().map(|certificate| certificate.not_before).max().unwrap_or(Timestamp::MAX)
    }

    /// Until when all certificates of the chain are valid: the first end among them.
    pub fn not_after(&self) -> Timestamp {
        self.0.parsed.iter().map(|certificate| certificate.not_after).min().unwrap_or(Timestamp::EPOCH)
    }

    /// That one of `anchors` vouches, at `at`, for the signer's key being that of `address`.
    pub fn verify(&self, anchors: &[Anchor], address: &str, at: Timestamp) -> Result<(), Error> {
        self.check(address, at)?;
        self.find_path(anchors, at).map(drop)
    }

    /// As [`Chain::verify`], where a path that `memo` knows is not searched for again. `memo` is for these anchors.
    pub(crate) fn verify_once(
        &self,
        anchors: &[Anchor],
        memo: &Memo,
        address: &str,
        at: Timestamp,
    ) -> Result<(), Error> {
        self.check(address, at)?;
        let certificates = digest(&self.0.certificates);
        // The path's signatures hold at any time; its anchor's validity depends on the time.
        let holds = |path: Path| {
            anchors.get(path.anchor).is_some_and(|anchor| anchor.check(path.between, at).is_ok())
        };
        if !memo.path(&certificates).is_some_and(holds) {
            memo.leads(certificates, self.find_path(anchors, at)?);
        }
        Ok(())
    }

    fn check(&self, address: &str, at: Timestamp) -> Result<(), Error> {
        for (place, certificate) in self.0.parsed.iter().enumerate() {
            if place == 0 {
                certificate.check_address(address)?;
            }
            certificate.check_time(place, at)?;
            certificate.check_role(place, if place == 0 { Role::Signer } else { Role::Issuer })?;
        }
        Ok(())
    }

    fn find_path(&self, anchors: &[Anchor], at: Timestamp) -> Result<Path, Error> {
        let mut certificates = self.0.certificates.iter().map(|der| CertificateDer::from(der.as_slice()));
        let leaf = certificates.next().ok_or(Error::Empty)?;
        let issuers: Vec<_> = certificates.collect();
        let end_entity =
            EndEntityCert::try_from(&leaf).map_err(|problem| Error::Unsupported { place: 0, problem })?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(at.seconds()));
        let usage = webpki::KeyUsage::required_if_present(EMAIL_PROTECTION);
        let mut failure: Option<Error> = None;
        for (place, anchor) in anchors.iter().enumerate() {
            let trusted = core::slice::from_ref(anchor.as_webpki());
            match end_entity.verify_for_usage(ALGORITHMS, trusted, &issuers, time, usage, None, None) {
                Ok(path) => {
                    let path = Path { anchor: place, between: path.intermediate_certificates().count() };
                    match anchor.check(path.between, at) {
                        Ok(()) => return Ok(path),
                        // Of several failures, that of an anchor whose signature holds says most.
                        Err(error) => failure = Some(error),
                    }
                }
                Err(webpki::Error::UnknownIssuer) => {}
                Err(problem) => {
                    failure.get_or_insert(Error::Path { anchor: anchor.subject().to_owned(), problem });
                }
            }
        }
        Err(failure.unwrap_or_else(|| Error::NoAnchor {
            issuer: self.0.parsed.last().map(Certificate::issuer_text).unwrap_or_default(),
            anchors: anchors.iter().map(|anchor| anchor.subject().to_owned()).collect(),
        }))
    }
}

/// SHA-256 of the certificates, each behind its length.
fn digest(certificates: &[Vec<u8>]) -> Digest {
    let lengths: Vec<[u8; 8]> = certificates.iter().map(|der| (der.len() as u64).to_be_bytes()).collect();
    let parts = lengths.iter().zip(certificates);
    Digest::of_parts(&parts.flat_map(|(length, der)| [&length[..], der.as_slice()]).collect::<Vec<_>>())
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.certificates.len();
        f.debug_struct("Chain")
            .field("key", &self.0.key)
            .field("certificates", &count)
            .finish_non_exhaustive()
    }
}
