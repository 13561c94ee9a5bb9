//! Trust anchors: the authorities whose word counts.

use core::fmt;

use rustls_pki_types::{CertificateDer, TrustAnchor};
use webpki::EndEntityCert;
use x509_cert::der::asn1::BitStringRef;
use x509_cert::der::{Decode as _, Encode as _, Header, Reader as _, SliceReader};
use x509_cert::spki::ObjectIdentifier;

use super::certificate::{Certificate, Role};
use super::{ALGORITHMS, Error};
use crate::ids::Timestamp;

/// The certificate of an authority that is trusted because a view names it.
///
/// It is a CA's, with keyCertSign if it has KeyUsage and emailProtection if it has ExtendedKeyUsage, and its key is one
/// that can sign certificates here. If it names itself as its issuer, it signed itself; an authority that another one
/// issued may be an anchor too.
#[derive(Clone)]
pub struct Anchor {
    der: Vec<u8>,
    subject: String,
    certificate: Certificate,
    trusted: TrustAnchor<'static>,
}

impl Anchor {
    /// Parses an anchor's certificate: DER, at most [`super::Chain::MAX_BYTES`] bytes. In errors, its place is 0.
    pub fn parse(der: Vec<u8>) -> Result<Self, Error> {
        let certificate = Certificate::parse(&der, 0)?;
        certificate.check_role(0, Role::Issuer)?;
        let subject = certificate.subject_text();
        check_algorithm(&certificate)?;
        if certificate.subject == certificate.issuer {
            check_self_signature(&der, &subject)?;
        }
        let unsupported = |problem| Error::Unsupported { place: 0, problem };
        let trusted = webpki::anchor_from_trusted_cert(&CertificateDer::from(der.as_slice()))
            .map_err(unsupported)?
            .to_owned();
        Ok(Self { der, subject, certificate, trusted })
    }

    /// The certificate as it came.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The authority's name (RFC 4514).
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// From when on it is valid.
    pub const fn not_before(&self) -> Timestamp {
        self.certificate.not_before
    }

    /// Until when it is valid.
    pub const fn not_after(&self) -> Timestamp {
        self.certificate.not_after
    }

    pub(super) const fn as_webpki(&self) -> &TrustAnchor<'static> {
        &self.trusted
    }

    /// That it is valid at `at`, and allows so many authorities between itself and a signer.
    pub(super) fn check(&self, between: usize, at: Timestamp) -> Result<(), Error> {
        let anchor = || self.subject.clone();
        match self.certificate.check_time(0, at) {
            Err(Error::NotYetValid { not_before, at, .. }) => {
                return Err(Error::AnchorNotYetValid { anchor: anchor(), not_before, at });
            }
            Err(Error::Expired { not_after, at, .. }) => {
                return Err(Error::AnchorExpired { anchor: anchor(), not_after, at });
            }
            other => other?,
        }
        let limit = self.certificate.constraints.as_ref().and_then(|limits| limits.path_len_constraint);
        match limit.map(usize::from) {
            Some(most) if between > most => Err(Error::PathLength { anchor: anchor(), most, found: between }),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Anchor").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// That certificates signed by its key could ever count.
fn check_algorithm(certificate: &Certificate) -> Result<(), Error> {
    let algorithm = &certificate.spki.algorithm;
    let der = algorithm.to_der().map_err(malformed)?;
    // Without its header, as rustls-webpki names algorithms.
    let mut reader = SliceReader::new(&der).map_err(malformed)?;
    Header::decode(&mut reader).map_err(malformed)?;
    let content = reader.read_slice(reader.remaining_len()).map_err(malformed)?;
    if ALGORITHMS.iter().any(|known| known.public_key_alg_id().as_ref() == content) {
        return Ok(());
    }
    let curve = algorithm.parameters.as_ref().and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
    let found = match curve {
        Some(curve) => format!("{} with {curve}", algorithm.oid),
        None => algorithm.oid.to_string(),
    };
    Err(Error::Algorithm { expected: "Ed25519 or ECDSA with P-256 or P-384", found })
}

/// That it was signed by its own key, which shows that it came whole.
fn check_self_signature(der: &[u8], subject: &str) -> Result<(), Error> {
    let unsupported = |problem| Error::Unsupported { place: 0, problem };
    let certificate = CertificateDer::from(der);
    let itself = EndEntityCert::try_from(&certificate).map_err(unsupported)?;
    // What is signed are the bytes as they came, which a parsed certificate no longer has.
    let mut reader = SliceReader::new(der).map_err(malformed)?;
    Header::decode(&mut reader).map_err(malformed)?;
    let signed = reader.tlv_bytes().map_err(malformed)?;
    let algorithm = {
        let header = Header::decode(&mut reader).map_err(malformed)?;
        reader.read_slice(header.length).map_err(malformed)?
    };
    let signature = BitStringRef::decode(&mut reader).map_err(malformed)?.raw_bytes();
    let mut problem = webpki::Error::InvalidSignatureForPublicKey;
    for known in ALGORITHMS.iter().filter(|known| known.signature_alg_id().as_ref() == algorithm) {
        match itself.verify_signature(*known, signed, signature) {
            Ok(()) => return Ok(()),
            Err(found) => problem = found,
        }
    }
    Err(Error::SelfSignature { anchor: subject.to_owned(), problem })
}

fn malformed(problem: x509_cert::der::Error) -> Error {
    Error::Der { place: 0, problem: problem.to_string() }
}
