//! Keys and certificates as X.509's tools have them: PKCS #8 (RFC 8410), chains in PEM, and a signer for rcgen.

use ed25519_dalek::pkcs8::{self, DecodePrivateKey as _, EncodePrivateKey as _, KeypairBytes};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use fairpost_proto::chain::{self, Chain};
use fairpost_proto::ids::Timestamp;
use rcgen::{PKCS_ED25519, PublicKeyData, SignatureAlgorithm};
use time::OffsetDateTime;
use zeroize::{Zeroize as _, Zeroizing};

use crate::pem;

/// Why a text holds no certificate chain.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not PEM.
    #[error(transparent)]
    Pem(#[from] pem::Error),
    /// The certificates are none, or no chain.
    #[error(transparent)]
    Chain(#[from] chain::Error),
}

/// The certificates in a PEM text, leaf first.
pub(crate) fn parse_chain(text: &str) -> Result<Chain, Error> {
    let (_, blocks) = pem::parse(text)?;
    let certificates = blocks.iter().filter(|block| block.label == pem::CERTIFICATE);
    Ok(Chain::parse(certificates.map(|block| block.bytes.to_vec()).collect())?)
}

/// Appends a key as PKCS #8, version 1: without the public key, the form that every tool reads.
pub(crate) fn append_key(text: &mut Zeroizing<String>, key: &SigningKey) -> Result<(), pkcs8::Error> {
    let mut pair = KeypairBytes { secret_key: key.to_bytes(), public_key: None };
    let document = pair.to_pkcs8_der();
    pair.secret_key.zeroize();
    pem::append(text, pem::PRIVATE_KEY, document?.as_bytes());
    Ok(())
}

/// Reads a key in PKCS #8.
pub(crate) fn parse_key(der: &[u8]) -> Result<SigningKey, pkcs8::Error> {
    SigningKey::from_pkcs8_der(der)
}

/// A key that signs certificates and requests.
pub(crate) struct Signer<'k> {
    key: &'k SigningKey,
    public: PublicKey,
}

impl<'k> Signer<'k> {
    pub(crate) fn new(key: &'k SigningKey) -> Self {
        Self { key, public: PublicKey::new(&key.verifying_key()) }
    }
}

impl PublicKeyData for Signer<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.public.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.public.algorithm()
    }
}

impl rcgen::SigningKey for Signer<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.key.sign(message).to_vec())
    }
}

/// A key that a certificate is about.
pub(crate) struct PublicKey([u8; 32]);

impl PublicKey {
    pub(crate) fn new(key: &VerifyingKey) -> Self {
        Self(key.to_bytes())
    }
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

/// `time` for a certificate. Both ranges end with the year 9999.
pub(crate) fn date(time: Timestamp) -> OffsetDateTime {
    i64::try_from(time.seconds())
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
