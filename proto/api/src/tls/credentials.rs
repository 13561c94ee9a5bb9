//! One's own TLS key, and the certificate that says for whom it speaks.

use std::fmt;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use fairpost_proto::binding::{self, Binding};
use fairpost_proto::chain;
use fairpost_proto::cose::Signed;
use fairpost_proto::ids::{Digest, KeyId, Span, Timestamp};
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData as _,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use x509_cert::der;
use x509_cert::der::pem::LineEnding;
use zeroize::{Zeroize as _, Zeroizing};

use super::config::provider;
use super::peer::{self, PeerCertificate};

/// How long a certificate lasts for those who look at its dates: ten years.
const LIFETIME: Span = Span::from_seconds(3652 * 86_400);
/// How far back it begins, in seconds: for clocks that go slow.
const SLACK: u64 = 86_400;

/// Why credentials can't be made or read.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A name that no certificate can carry.
    #[error("{name:?} is neither a DNS name nor an IP address")]
    Name {
        /// The name.
        name: String,
    },
    /// The key or the certificate could not be made.
    #[error("can't make a TLS certificate: {0}")]
    Generate(#[from] rcgen::Error),
    /// It could not be brought into DER or PEM.
    #[error("can't encode a TLS certificate: {0}")]
    Encode(#[from] der::Error),
    /// The PEM text holds no certificate, or no PKCS #8 key.
    #[error("expected a PEM certificate and a PEM PKCS #8 key: {}", start(.0))]
    Pem(#[from] pem::Error),
    /// The certificate carries no binding for its key.
    #[error(transparent)]
    Certificate(#[from] peer::Error),
    /// The key is unusable, or is not the certificate's.
    #[error("the TLS key does not go with the certificate: {0}")]
    Key(#[from] rustls::Error),
}

/// The beginning of what the parser says, which shows the file's lines as numbers, however long they are.
fn start(error: &pem::Error) -> String {
    error.to_string().chars().take(200).collect()
}

/// A TLS key (P-256), and a self-signed certificate with the binding that an identity signed for it.
///
/// P-256 because common clients do not offer Ed25519 in TLS.
#[derive(Clone)]
pub struct Credentials {
    certified: Arc<CertifiedKey>,
    certificate: CertificateDer<'static>,
    key: Zeroizing<Vec<u8>>,
    peer: PeerCertificate,
}

impl Credentials {
    /// Makes a new TLS key that speaks for `identity`. `names` are the DNS names and IP addresses by which clients of
    /// other makes know the server; an operator's credentials need none.
    pub fn generate(
        identity: &SigningKey,
        names: &[String],
        now: Timestamp,
    ) -> Result<Self, CredentialsError> {
        let mut key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let tls_key = KeyId::new(*Digest::of(&key.subject_public_key_info()).as_bytes());
        let signer = chain::key_id(&identity.verifying_key());
        let binding = Signed::sign(Binding { tls_key, created: now }, signer, identity);
        let certificate = parameters(names, signer, &binding, now)?.self_signed(&key)?.der().clone();
        let secret = Zeroizing::new(key.serialize_der());
        key.zeroize();
        Self::new(certificate, secret)
    }

    fn new(certificate: CertificateDer<'static>, key: Zeroizing<Vec<u8>>) -> Result<Self, CredentialsError> {
        let peer = PeerCertificate::from_der(&certificate)?;
        let mut private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.to_vec()));
        let loaded = CertifiedKey::from_der(vec![certificate.clone()], private.clone_key(), &provider());
        private.zeroize();
        let certified = Arc::new(loaded?);
        // `from_der` lets a pair pass that it can't compare.
        certified.keys_match()?;
        Ok(Self { certified, certificate, key, peer })
    }

    /// Certificate and key as PEM, in this order. The key is secret and not encrypted.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, CredentialsError> {
        let key = Zeroizing::new(encode("PRIVATE KEY", &self.key)?);
        Ok(Zeroizing::new([self.certificate_pem()?.as_str(), key.as_str()].concat()))
    }

    /// Reads what [`Credentials::to_pem`] wrote: the first certificate and the first PKCS #8 key in `text`.
    pub fn from_pem(text: &str) -> Result<Self, CredentialsError> {
        let certificate = CertificateDer::from_pem_slice(text.as_bytes())?;
        let mut key = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes())?;
        let secret = Zeroizing::new(key.secret_pkcs8_der().to_vec());
        key.zeroize();
        Self::new(certificate, secret)
    }

    /// The certificate alone, for clients of other makes to trust.
    pub fn certificate_pem(&self) -> Result<String, CredentialsError> {
        encode("CERTIFICATE", &self.certificate)
    }

    /// The certificate, DER.
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate
    }

    /// What the certificate says: the TLS key's digest, the binding.
    pub const fn certificate(&self) -> &PeerCertificate {
        &self.peer
    }

    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("certificate", &self.peer).finish_non_exhaustive()
    }
}

fn parameters(
    names: &[String],
    signer: KeyId,
    binding: &Signed<Binding>,
    now: Timestamp,
) -> Result<CertificateParams, CredentialsError> {
    let mut parameters = CertificateParams::default();
    for name in names {
        let single = CertificateParams::new(vec![name.clone()])
            .map_err(|_| CredentialsError::Name { name: name.clone() })?;
        parameters.subject_alt_names.extend(single.subject_alt_names);
    }
    parameters.not_before = date(Timestamp::from_seconds(now.seconds().saturating_sub(SLACK)).unwrap_or(now));
    parameters.not_after = date(now.plus(LIFETIME));
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, signer.to_string());
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    parameters.custom_extensions =
        vec![CustomExtension::from_oid_content(binding::OID, peer::wrap(binding)?)];
    Ok(parameters)
}

/// `time` for the certificate's encoder. Both ranges end with the year 9999.
fn date(time: Timestamp) -> OffsetDateTime {
    i64::try_from(time.seconds())
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn encode(label: &'static str, der: &[u8]) -> Result<String, CredentialsError> {
    Ok(der::pem::encode_string(label, LineEnding::LF, der).map_err(der::Error::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn now() -> Timestamp {
        Timestamp::from_seconds(1_795_478_399).unwrap()
    }

    fn generate(seed: u8) -> Credentials {
        let names = ["node-1.example".to_owned(), "192.0.2.1".to_owned(), "2001:db8::1".to_owned()];
        Credentials::generate(&identity(seed), &names, now()).unwrap()
    }

    /// A certificate for a fresh key with these extensions, whatever they are.
    fn certificate(extensions: Vec<CustomExtension>) -> CertificateDer<'static> {
        let mut parameters = CertificateParams::default();
        parameters.custom_extensions = extensions;
        parameters.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn extension(content: Vec<u8>) -> CustomExtension {
        CustomExtension::from_oid_content(binding::OID, content)
    }

    #[test]
    fn a_certificate_speaks_for_the_identity_that_signed_its_binding_and_for_no_other() {
        let parsed = PeerCertificate::from_der(generate(1).certificate_der()).unwrap();
        assert_eq!(parsed.identity_key_id(), chain::key_id(&identity(1).verifying_key()));
        assert_eq!(parsed.binding().payload().created, now());
        assert!(parsed.speaks_for(&identity(1).verifying_key()).is_ok());
        assert!(matches!(
            parsed.speaks_for(&identity(2).verifying_key()),
            Err(binding::Error::Cose(fairpost_proto::cose::Error::Signature { .. }))
        ));
    }

    #[test]
    fn credentials_survive_pem() {
        let made = generate(1);
        let read = Credentials::from_pem(&made.to_pem().unwrap()).unwrap();
        assert_eq!(read.certificate_der(), made.certificate_der());
        assert_eq!(read.key, made.key);
    }

    #[test]
    fn a_key_that_is_not_the_certificates_is_refused() {
        let (one, other) = (generate(1), generate(1));
        let mixed = [one.certificate_pem().unwrap(), encode("PRIVATE KEY", &other.key).unwrap()].concat();
        assert!(matches!(Credentials::from_pem(&mixed), Err(CredentialsError::Key(_))));
        assert!(matches!(
            Credentials::from_pem(&one.certificate_pem().unwrap()),
            Err(CredentialsError::Pem(_))
        ));
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        let made = Credentials::generate(&identity(1), &["ein name™".to_owned()], now());
        assert!(matches!(made, Err(CredentialsError::Name { name }) if name == "ein name™"));
    }

    #[test]
    fn the_last_possible_day_is_no_problem() {
        assert!(Credentials::generate(&identity(1), &[], Timestamp::MAX).is_ok());
        assert!(Credentials::generate(&identity(1), &[], Timestamp::EPOCH).is_ok());
    }

    #[test]
    fn a_certificate_needs_exactly_one_binding() {
        let found = |extensions| match PeerCertificate::from_der(&certificate(extensions)) {
            Err(peer::Error::Bindings { found }) => Some(found),
            _ => None,
        };
        assert_eq!(found(vec![]), Some(0));
        let other = CustomExtension::from_oid_content(
            &[2, 25, 5],
            peer::wrap(generate(1).certificate().binding()).unwrap(),
        );
        assert_eq!(found(vec![other]), Some(0));
        let one = || extension(peer::wrap(generate(1).certificate().binding()).unwrap());
        assert_eq!(found(vec![one(), one()]), Some(2));
    }

    #[test]
    fn a_binding_for_another_key_is_refused() {
        let stolen = generate(1).certificate().binding().clone();
        let found = PeerCertificate::from_der(&certificate(vec![extension(peer::wrap(&stolen).unwrap())]));
        let Err(peer::Error::Binding(binding::Error::Key { found, expected })) = found else {
            panic!("{found:?}")
        };
        assert_eq!(found, stolen.payload().tls_key);
        assert_ne!(found, expected);
    }

    #[test]
    fn hostile_certificates_are_refused_without_a_panic() {
        let good = generate(1).certificate_der().to_vec();
        assert!(matches!(
            PeerCertificate::from_der(&[0x30; 8193]),
            Err(peer::Error::TooLarge { found: 8193 })
        ));
        for length in 0..good.len() {
            assert!(PeerCertificate::from_der(good.get(..length).unwrap()).is_err());
        }
        for at in 0..good.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bad = good.clone();
                *bad.get_mut(at).unwrap() ^= flip;
                let _parsed = PeerCertificate::from_der(&bad);
            }
        }
        for content in [vec![], vec![0x04, 0x00], vec![0x04, 0x82], vec![0x30, 0x00], vec![0xd2; 300]] {
            assert!(PeerCertificate::from_der(&certificate(vec![extension(content)])).is_err());
        }
    }
}
