//! What counts in one certificate.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;
use x509_cert::Certificate as Parsed;
use x509_cert::der::Decode;
use x509_cert::der::oid::AssociatedOid;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName};
use x509_cert::name::Name;
use x509_cert::spki::{ObjectIdentifier, SubjectPublicKeyInfoOwned};
use x509_cert::time::Time;

use super::{Chain, Error, lengths};
use crate::ids::Timestamp;
use crate::shown;

/// id-kp-emailProtection (RFC 5280 §4.2.1.12), as the content of a DER OBJECT IDENTIFIER.
pub(super) const EMAIL_PROTECTION: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x04];

/// The extensions that are read.
const READ: [ObjectIdentifier; 4] =
    [SubjectAltName::OID, ExtendedKeyUsage::OID, BasicConstraints::OID, KeyUsage::OID];

/// What a certificate is used for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Its key signs evidence.
    Signer,
    /// Its key signs certificates.
    Issuer,
}

/// What counts in a certificate that rustls-webpki can read too.
#[derive(Clone)]
pub(super) struct Certificate {
    pub(super) subject: Name,
    pub(super) issuer: Name,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    pub(super) spki: SubjectPublicKeyInfoOwned,
    pub(super) constraints: Option<BasicConstraints>,
    key_usage: Option<KeyUsage>,
    purposes: Option<Vec<ObjectIdentifier>>,
    addresses: Vec<String>,
}

impl Certificate {
    /// Parses the DER of the certificate at `place`.
    pub(super) fn parse(der: &[u8], place: usize) -> Result<Self, Error> {
        let (most, found) = (Chain::MAX_BYTES, der.len());
        if found > most {
            return Err(Error::TooLarge { place, most, found });
        }
        let malformed = |problem: x509_cert::der::Error| Error::Der { place, problem: problem.to_string() };
        let lying = |problem: lengths::Error| Error::Der { place, problem: problem.to_string() };
        lengths::check(der, 0, 0).map_err(lying)?;
        let parsed = Parsed::from_der(der).map_err(malformed)?;
        for extension in parsed.tbs_certificate.extensions.iter().flatten() {
            if READ.contains(&extension.extn_id) {
                lengths::check(extension.extn_value.as_bytes(), 0, 0).map_err(|problem| Error::Der {
                    place,
                    problem: format!("in extension {}, {problem}", extension.extn_id),
                })?;
            }
        }
        check_no_duplicates(&parsed, place)?;
        let addresses = extension::<SubjectAltName>(&parsed).map_err(malformed)?;
        let purposes = extension::<ExtendedKeyUsage>(&parsed).map_err(malformed)?;
        let constraints = extension(&parsed).map_err(malformed)?;
        let key_usage = extension(&parsed).map_err(malformed)?;
        // What rustls-webpki reads here, it reads again when the path is verified.
        EndEntityCert::try_from(&CertificateDer::from(der))
            .map_err(|problem| Error::Unsupported { place, problem })?;
        let inner = parsed.tbs_certificate;
        let (not_before, not_after) = (time(inner.validity.not_before), time(inner.validity.not_after));
        if not_before > not_after {
            return Err(Error::Validity { place, not_before, not_after });
        }
        Ok(Self {
            subject: inner.subject,
            issuer: inner.issuer,
            not_before,
            not_after,
            spki: inner.subject_public_key_info,
            constraints,
            key_usage,
            purposes: purposes.map(|purposes| purposes.0),
            addresses: addresses.into_iter().flat_map(|names| names.0).filter_map(address).collect(),
        })
    }

    /// Its subject, as text (RFC 4514).
    pub(super) fn subject_text(&self) -> String {
        text(&self.subject)
    }

    /// Its issuer, as text (RFC 4514).
    pub(super) fn issuer_text(&self) -> String {
        text(&self.issuer)
    }

    /// That it is for this address.
    pub(super) fn check_address(&self, expected: &str) -> Result<(), Error> {
        if self.addresses.iter().any(|address| address == expected) {
            return Ok(());
        }
        Err(Error::Address { expected: expected.to_owned(), found: shown::list(&self.addresses) })
    }

    /// That it is valid at this time.
    pub(super) fn check_time(&self, place: usize, at: Timestamp) -> Result<(), Error> {
        let (not_before, not_after) = (self.not_before, self.not_after);
        if at < not_before {
            return Err(Error::NotYetValid { place, not_before, at });
        }
        if at.seconds() > not_after.seconds() {
            return Err(Error::Expired { place, not_after, at });
        }
        Ok(())
    }

    /// That it may be used in this role.
    pub(super) fn check_role(&self, place: usize, role: Role) -> Result<(), Error> {
        let is_authority = self.constraints.as_ref().is_some_and(|constraints| constraints.ca);
        let (allowed, expected) = match role {
            Role::Signer if is_authority => {
                return Err(Error::SignerIsAuthority { subject: self.subject_text() });
            }
            Role::Issuer if !is_authority => {
                return Err(Error::NotAuthority { place, subject: self.subject_text() });
            }
            Role::Signer => (
                self.key_usage.is_some_and(|usage| usage.digital_signature() || usage.non_repudiation()),
                "digitalSignature or nonRepudiation",
            ),
            Role::Issuer => (self.key_usage.is_none_or(|usage| usage.key_cert_sign()), "keyCertSign"),
        };
        if !allowed {
            let found = match self.key_usage {
                Some(usage) => format!("{:?}", usage.0.into_iter().collect::<Vec<_>>()),
                None => "missing".to_owned(),
            };
            return Err(Error::KeyUsage { place, expected, found });
        }
        match &self.purposes {
            Some(purposes) if !purposes.iter().any(|purpose| purpose.as_bytes() == EMAIL_PROTECTION) => {
                let found: Vec<String> = purposes.iter().map(ToString::to_string).collect();
                let found = shown::list(&found);
                Err(Error::Purpose { place, expected: "1.3.6.1.5.5.7.3.4 (emailProtection)", found })
            }
            _ => Ok(()),
        }
    }
}

fn check_no_duplicates(parsed: &Parsed, place: usize) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    let extensions = parsed.tbs_certificate.extensions.as_deref().unwrap_or_default();
    match extensions.iter().find(|extension| !seen.insert(extension.extn_id)) {
        Some(twice) => Err(Error::DuplicateExtension { place, oid: twice.extn_id.to_string() }),
        None => Ok(()),
    }
}

/// The extension of this type, if the certificate has it; nothing may follow within it.
fn extension<'a, T: Decode<'a> + AssociatedOid>(parsed: &'a Parsed) -> x509_cert::der::Result<Option<T>> {
    Ok(parsed.tbs_certificate.get::<T>()?.map(|(_, value)| value))
}

fn address(name: GeneralName) -> Option<String> {
    match name {
        GeneralName::Rfc822Name(address) => Some(address.as_str().to_owned()),
        _ => None,
    }
}

/// X.509's times lie between 1970 and the end of 9999 here: the parser knows no others.
fn time(time: Time) -> Timestamp {
    Timestamp::from_seconds(time.to_unix_duration().as_secs()).unwrap_or(Timestamp::MAX)
}

fn text(name: &Name) -> String {
    let mut text = String::new();
    // A name with a part that can't be shown is shown up to there.
    let _ = write!(text, "{name}");
    shown::text(&text)
}
