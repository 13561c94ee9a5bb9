//! What vectors are made of: authorities, keys, certificates of Alice's, and the file they go to.

use std::error::Error;
use std::path::Path;

use fairpost_proto::chain::{Anchor, Chain};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose as Purpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose as Usage, PublicKeyData, SanType, SignatureAlgorithm, date_time_ymd,
};
use serde_json::{Value, json};

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

pub(crate) const ALICE: &str = "alice@example.org";
/// 2030-06-01, 2030-01-01, and 2031-01-01, all at 00:00:00Z, in milliseconds.
pub(crate) const NOW: u64 = 1_906_502_400_000;
pub(crate) const BEGIN: u64 = 1_893_456_000_000;
pub(crate) const END: u64 = 1_924_992_000_000;

/// An authority: its parameters, its key, and its certificate.
pub(crate) struct Authority {
    pub(crate) parameters: CertificateParams,
    pub(crate) key: KeyPair,
    pub(crate) der: Vec<u8>,
}

/// Any bytes as a public key of any algorithm.
pub(crate) struct RawKey(pub(crate) Vec<u8>, pub(crate) &'static SignatureAlgorithm);

impl PublicKeyData for RawKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.1
    }
}

/// The Ed25519 key whose seed is this byte, 32 times (PKCS #8: RFC 8410 §7).
pub(crate) fn key(seed: u8) -> Outcome<KeyPair> {
    let mut pkcs8 = hex::decode("302e020100300506032b657004220420")?;
    pkcs8.extend([seed; 32]);
    Ok(KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8.as_slice().into(), &rcgen::PKCS_ED25519)?)
}

pub(crate) fn named(name: &str, serial: u64) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.serial_number = Some(serial.into());
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters
}

pub(crate) fn authority_parameters(name: &str) -> CertificateParams {
    let mut parameters = named(name, 1);
    parameters.not_before = date_time_ymd(2025, 1, 1);
    parameters.not_after = date_time_ymd(2045, 1, 1);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![Usage::KeyCertSign, Usage::CrlSign];
    parameters
}

pub(crate) fn signer_parameters() -> Outcome<CertificateParams> {
    let mut parameters = named("Alice", 2);
    parameters.not_before = date_time_ymd(2030, 1, 1);
    parameters.not_after = date_time_ymd(2031, 1, 1);
    parameters.subject_alt_names = vec![SanType::Rfc822Name(ALICE.try_into()?)];
    parameters.key_usages = vec![Usage::DigitalSignature];
    parameters.extended_key_usages = vec![Purpose::EmailProtection];
    Ok(parameters)
}

impl Authority {
    pub(crate) fn root(
        name: &str,
        key: KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Outcome<Self> {
        let mut parameters = authority_parameters(name);
        change(&mut parameters);
        let der = parameters.self_signed(&key)?.der().to_vec();
        Ok(Self { parameters, key, der })
    }

    pub(crate) fn below(
        &self,
        name: &str,
        seed: u8,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Outcome<Self> {
        let (mut parameters, key) = (authority_parameters(name), key(seed)?);
        change(&mut parameters);
        let der = self.issue(&parameters, &key)?;
        Ok(Self { parameters, key, der })
    }

    pub(crate) fn issue(&self, parameters: &CertificateParams, key: &impl PublicKeyData) -> Outcome<Vec<u8>> {
        let issuer = Issuer::from_params(&self.parameters, &self.key);
        Ok(parameters.signed_by(key, &issuer)?.der().to_vec())
    }

    /// Alice's certificate, changed.
    pub(crate) fn alice(&self, change: impl FnOnce(&mut CertificateParams)) -> Outcome<Vec<u8>> {
        let mut parameters = signer_parameters()?;
        change(&mut parameters);
        self.issue(&parameters, &key(10)?)
    }
}

pub(crate) fn custom(oid: &[u64], critical: bool, content: &str) -> Outcome<CustomExtension> {
    let mut extension = CustomExtension::from_oid_content(oid, hex::decode(content)?);
    extension.set_criticality(critical);
    Ok(extension)
}

/// The vectors of one file.
#[derive(Default)]
pub(crate) struct Vectors(Vec<Value>);

impl Vectors {
    /// A chain of Alice's, asked for on 2030-06-01.
    pub(crate) fn chain(
        &mut self,
        name: &str,
        meaning: &str,
        chain: &[&[u8]],
        anchors: &[&[u8]],
        error: &str,
    ) {
        self.chain_at(name, meaning, chain, anchors, (ALICE, NOW), error);
    }

    pub(crate) fn chain_at(
        &mut self,
        name: &str,
        meaning: &str,
        chain: &[&[u8]],
        anchors: &[&[u8]],
        (address, at): (&str, u64),
        error: &str,
    ) {
        let certificates = chain.iter().map(|der| der.to_vec()).collect();
        let (chain, anchors) = (
            chain.iter().map(hex::encode).collect::<Vec<_>>(),
            anchors.iter().map(hex::encode).collect::<Vec<_>>(),
        );
        let mut fields = json!({ "chain": chain, "anchors": anchors, "address": address, "at": at });
        if error.is_empty() {
            let parsed = Chain::parse(certificates);
            if let (Some(fields), Ok(parsed)) = (fields.as_object_mut(), parsed) {
                fields.insert("key_id".into(), parsed.leaf_key().key_id().to_string().into());
                fields.insert("not_before".into(), parsed.not_before().millis().into());
                fields.insert("not_after".into(), parsed.not_after().millis().into());
            }
        }
        self.push(name, meaning, fields, error);
    }

    pub(crate) fn anchor(&mut self, name: &str, meaning: &str, certificate: &[u8], error: &str) {
        let mut fields = json!({ "certificate": hex::encode(certificate) });
        if let (Some(fields), Ok(parsed)) = (fields.as_object_mut(), Anchor::parse(certificate.to_vec())) {
            fields.insert("not_before".into(), parsed.not_before().millis().into());
            fields.insert("not_after".into(), parsed.not_after().millis().into());
        }
        self.push(name, meaning, fields, error);
    }

    pub(crate) fn push(&mut self, name: &str, meaning: &str, fields: Value, error: &str) {
        let mut vector = json!({ "name": name, "meaning": meaning, "valid": error.is_empty() });
        if let (Some(vector), Value::Object(fields)) = (vector.as_object_mut(), fields) {
            vector.extend(fields);
            if !error.is_empty() {
                vector.insert("error".into(), error.into());
            }
        }
        self.0.push(vector);
    }

    pub(crate) fn write(self, file: &str) -> Outcome<()> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/chain").join(file);
        std::fs::write(&path, serde_json::to_string_pretty(&self.0)? + "\n")?;
        println!("{}: {} vectors", path.display(), self.0.len());
        Ok(())
    }
}
