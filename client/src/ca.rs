//! A certificate authority for development: two files in a folder, and it issues what Fairpost asks of a certificate.
//!
//! | file | what it is |
//! |---|---|
//! | `ca.crt` | its own certificate: the trust anchor |
//! | `ca.key` | its Ed25519 key, PKCS #8 in PEM, mode 0600 |
//!
//! It believes whoever can read its key. A real cluster names the CA of a provider, who checks that an address is its
//! owner's.

use std::fs;
use std::path::{Path, PathBuf};

use ed25519_dalek::{SigningKey, VerifyingKey, pkcs8};
use fairpost_proto::chain::{self, Key};
use fairpost_proto::ids::{Span, Timestamp};
use fairpost_proto::terms::Address;
use rand::RngCore as _;
use rand::rngs::OsRng;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, PKCS_ED25519, PublicKeyData as _, SanType,
    SerialNumber,
};
use zeroize::Zeroizing;

use crate::{pem, secret_file, x509};

/// The CA's certificate in its folder.
pub const CERTIFICATE: &str = "ca.crt";
/// The CA's key in its folder.
pub const KEY: &str = "ca.key";

/// How long the CA's own certificate lasts, in days: ten years.
const CA_DAYS: u32 = 3652;
/// How far back certificates begin: for clocks that go slow.
const SLACK: u64 = 3600;

/// Why a CA can't be made, or does not issue.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key can't be read or written.
    #[error(transparent)]
    File(#[from] secret_file::Error),
    /// The folder or the certificate can't be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The key's file is not PEM.
    #[error("{path}: {source}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// There is no key in the key's file.
    #[error("{path} holds no Ed25519 key in PKCS #8")]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The key can't be encoded.
    #[error("the CA's key: {0}")]
    Key(#[from] pkcs8::Error),
    /// The CA's certificate is not one, or a certificate can't be made.
    #[error("the certificate: {0}")]
    Certificate(rcgen::Error),
    /// The request is not one, or its signature does not hold.
    #[error("the certificate request: {0}")]
    Request(rcgen::Error),
    /// The request is for a key that Fairpost does not use.
    #[error("the certificate request is for another kind of key than Ed25519")]
    Algorithm,
    /// The key is one that anybody could sign with.
    #[error("the certificate request: {0}")]
    WeakKey(chain::Error),
    /// The request is for another address.
    #[error("the certificate request is for {}, not for {expected}", found.join(" and "))]
    Address {
        /// The address that was to be certified.
        expected: Address,
        /// What the request names.
        found: Vec<String>,
    },
    /// The certificate would outlive the CA's.
    #[error("the CA's own certificate ends at {not_after}, before {days} days have passed")]
    Days {
        /// The days asked for.
        days: u32,
        /// When the CA's certificate ends.
        not_after: Timestamp,
    },
    /// The CA's certificate is no trust anchor.
    #[error("the CA's certificate: {0}")]
    Anchor(chain::Error),
}

/// Makes a CA in `folder`, which is made if it is missing. Gives its certificate, DER. A CA that is there already is
/// not touched: that is an error.
pub fn init(folder: &Path, name: &str, now: Timestamp) -> Result<Vec<u8>, Error> {
    fs::create_dir_all(folder).map_err(|source| Error::Io { path: folder.to_owned(), source })?;
    let key = SigningKey::generate(&mut OsRng);
    let mut parameters = parameters(name, now, CA_DAYS);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = parameters.self_signed(&x509::Signer::new(&key)).map_err(Error::Certificate)?;

    let mut text = Zeroizing::new(String::with_capacity(512));
    x509::append_key(&mut text, &key)?;
    secret_file::create(&folder.join(KEY), &text)?;
    let path = folder.join(CERTIFICATE);
    fs::write(&path, certificate.pem()).map_err(|source| Error::Io { path, source })?;
    Ok(certificate.der().to_vec())
}

/// Issues a certificate for `address` upon a certificate request in PEM. Gives it in PEM.
///
/// The request must be signed, for an Ed25519 key, and name no other address; all else in it is ignored.
pub fn issue(
    folder: &Path,
    address: &Address,
    request: &str,
    days: u32,
    now: Timestamp,
) -> Result<String, Error> {
    let request = CertificateSigningRequestParams::from_pem(request).map_err(Error::Request)?;
    if request.public_key.algorithm() != &PKCS_ED25519 {
        return Err(Error::Algorithm);
    }
    let found: Vec<String> = request.params.subject_alt_names.iter().map(name).collect();
    if found.iter().any(|name| name != address.as_str()) {
        return Err(Error::Address { expected: address.clone(), found });
    }
    let bytes = request.public_key.der_bytes().try_into().map_err(|_| Error::Algorithm)?;
    let key = Key::from_bytes(bytes).map_err(Error::WeakKey)?;
    issue_for_key(folder, address, key.as_dalek(), days, now)
}

/// Issues a certificate for `address` and `key`, whose holder the caller knows. Gives it in PEM.
pub fn issue_for_key(
    folder: &Path,
    address: &Address,
    key: &VerifyingKey,
    days: u32,
    now: Timestamp,
) -> Result<String, Error> {
    let ca_key = read_key(&folder.join(KEY))?;
    let path = folder.join(CERTIFICATE);
    let text = fs::read_to_string(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
    let not_after = anchor_end(&path, &text)?;
    let mut parameters = parameters(address.as_str(), now, days);
    if now.plus(days_span(days)) > not_after {
        return Err(Error::Days { days, not_after });
    }
    let email = address.as_str().try_into().map_err(Error::Certificate)?;
    parameters.subject_alt_names = vec![SanType::Rfc822Name(email)];
    parameters.is_ca = IsCa::ExplicitNoCa;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::ContentCommitment];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
    parameters.use_authority_key_identifier_extension = true;
    let issuer = Issuer::from_ca_cert_pem(&text, x509::Signer::new(&ca_key)).map_err(Error::Certificate)?;
    let certificate =
        parameters.signed_by(&x509::PublicKey::new(key), &issuer).map_err(Error::Certificate)?;
    Ok(certificate.pem())
}

fn parameters(name: &str, now: Timestamp, days: u32) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    let begin = Timestamp::from_seconds(now.seconds().saturating_sub(SLACK)).unwrap_or(now);
    parameters.not_before = x509::date(begin);
    parameters.not_after = x509::date(now.plus(days_span(days)));
    parameters.serial_number = Some(serial());
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters
}

/// 127 random bits (RFC 5280 §4.1.2.2: positive, at most 20 bytes).
fn serial() -> SerialNumber {
    let mut bytes = [0; 16];
    OsRng.fill_bytes(&mut bytes);
    let [first, ..] = &mut bytes;
    *first = *first & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn days_span(days: u32) -> Span {
    Span::from_seconds(u64::from(days) * 86_400)
}

fn name(name: &SanType) -> String {
    match name {
        SanType::Rfc822Name(address) => address.to_string(),
        other => format!("{other:?}"),
    }
}

fn read_key(path: &Path) -> Result<SigningKey, Error> {
    let text = secret_file::read(path)?;
    let (_, blocks) = pem::parse(&text).map_err(|source| Error::Pem { path: path.to_owned(), source })?;
    let block = blocks.iter().find(|block| block.label == pem::PRIVATE_KEY);
    block
        .and_then(|block| x509::parse_key(&block.bytes).ok())
        .ok_or_else(|| Error::NoKey { path: path.to_owned() })
}

/// When the CA's certificate ends.
fn anchor_end(path: &Path, text: &str) -> Result<Timestamp, Error> {
    let (_, blocks) = pem::parse(text).map_err(|source| Error::Pem { path: path.to_owned(), source })?;
    let der = blocks.first().map(|block| block.bytes.to_vec()).unwrap_or_default();
    Ok(chain::Anchor::parse(der).map_err(Error::Anchor)?.not_after())
}

#[cfg(test)]
mod tests {
    use fairpost_proto::chain::Anchor;

    use super::*;
    use crate::identity::Identity;
    use crate::x509::parse_chain;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    fn ca() -> (tempfile::TempDir, Anchor, Timestamp) {
        let (folder, now) = (tempfile::tempdir().unwrap(), crate::now());
        let anchor = Anchor::parse(init(folder.path(), "Test CA", now).unwrap()).unwrap();
        (folder, anchor, now)
    }

    #[test]
    fn what_it_issues_convinces_for_its_address_and_its_time_alone() {
        let (folder, anchor, now) = ca();
        let alice = Identity::generate(address("alice@example.org"));
        let request = alice.request_csr().unwrap();
        let certificate = issue(folder.path(), alice.address(), &request, 30, now).unwrap();
        let chain = parse_chain(&certificate).unwrap();
        assert_eq!(chain.leaf_key().key_id(), alice.key_id());
        let anchors = [anchor];
        let verify = |address, at| chain.verify(&anchors, address, at);
        verify("alice@example.org", now).unwrap();
        verify("alice@example.org", now.plus(days_span(30))).unwrap();
        assert!(verify("alice@example.org", now.plus(Span::from_seconds(30 * 86_400 + 1))).is_err());
        assert!(verify("bob@example.org", now).is_err());
        let (_other, anchor, _) = self::ca();
        assert!(chain.verify(&[anchor], "alice@example.org", now).is_err());
    }

    #[test]
    fn a_request_for_another_address_is_refused() {
        let (folder, _, now) = ca();
        let request = Identity::generate(address("alice@example.org")).request_csr().unwrap();
        let refused = issue(folder.path(), &address("bob@example.org"), &request, 30, now);
        assert!(matches!(refused, Err(Error::Address { found, .. }) if found == ["alice@example.org"]));
    }

    #[test]
    fn a_request_that_was_changed_is_refused() {
        let (folder, _, now) = ca();
        let alice = address("alice@example.org");
        let request = Identity::generate(alice.clone()).request_csr().unwrap();
        let (_, blocks) = pem::parse(&request).unwrap();
        let mut der = blocks[0].bytes.to_vec();
        *der.last_mut().unwrap() ^= 1;
        let forged = crate::armor::encode(&blocks[0].label, &der);
        assert!(matches!(issue(folder.path(), &alice, &forged, 30, now), Err(Error::Request(_))));
    }

    #[test]
    fn a_key_of_another_kind_is_refused() {
        let (folder, _, now) = ca();
        let key = rcgen::KeyPair::generate().unwrap();
        let request = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
        let refused = issue(folder.path(), &address("alice@example.org"), &request, 30, now);
        assert!(matches!(refused, Err(Error::Algorithm)));
    }

    #[test]
    fn nothing_outlives_the_ca_and_a_second_ca_does_not_replace_the_first() {
        let (folder, anchor, now) = ca();
        let key = SigningKey::generate(&mut OsRng).verifying_key();
        let asked = issue_for_key(folder.path(), &address("alice@example.org"), &key, CA_DAYS + 1, now);
        assert!(matches!(asked, Err(Error::Days { not_after, .. }) if not_after == anchor.not_after()));
        assert!(matches!(init(folder.path(), "Test CA", now), Err(Error::File(_))));
        assert!(issue_for_key(folder.path(), &address("alice@example.org"), &key, 1, now).is_ok());
    }
}
