//! People and the authorities that certify them.

use ed25519_dalek::SigningKey;
use fairpost_proto::chain::{Anchor, Chain, key_id};
use fairpost_proto::cose::{Payload, Signed};
use fairpost_proto::ids::KeyId;
use fairpost_proto::sealed::SealingKey;
use fairpost_proto::terms::Address;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

/// An authority.
pub(crate) struct Authority {
    pub(crate) parameters: CertificateParams,
    pub(crate) key: KeyPair,
    der: Vec<u8>,
}

/// The Ed25519 key whose seed is this byte, 32 times.
pub(crate) fn signing_key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn key_pair(seed: u8) -> KeyPair {
    let mut pkcs8 = hex::decode("302e020100300506032b657004220420").unwrap();
    pkcs8.extend([seed; 32]);
    KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8.as_slice().into(), &rcgen::PKCS_ED25519).unwrap()
}

fn parameters(name: &str, seed: u8) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.serial_number = Some(u64::from(seed).into());
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.not_before = date_time_ymd(2026, 1, 1);
    parameters.not_after = date_time_ymd(2028, 1, 1);
    parameters
}

impl Authority {
    pub(crate) fn new(name: &str, seed: u8) -> Self {
        let mut parameters = parameters(name, seed);
        parameters.not_before = date_time_ymd(2020, 1, 1);
        parameters.not_after = date_time_ymd(2040, 1, 1);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = key_pair(seed);
        let der = parameters.self_signed(&key).unwrap().der().to_vec();
        Self { parameters, key, der }
    }

    pub(crate) fn anchor(&self) -> Anchor {
        Anchor::parse(self.der.clone()).unwrap()
    }

    /// A person whose key has this seed, with a certificate for `address`.
    pub(crate) fn person(
        &self,
        address: &str,
        seed: u8,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Person {
        let mut parameters = parameters(address, seed);
        parameters.subject_alt_names = vec![SanType::Rfc822Name(address.try_into().unwrap())];
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
        change(&mut parameters);
        let issuer = Issuer::from_params(&self.parameters, &self.key);
        let der = parameters.signed_by(&key_pair(seed), &issuer).unwrap().der().to_vec();
        Person {
            address: Address::parse(address).unwrap(),
            key: signing_key(seed),
            chain: Chain::parse(vec![der]).unwrap(),
            sealing: SealingKey::from_bytes(&[seed; 32]),
        }
    }
}

/// Somebody with an address, a key and a certificate.
pub(crate) struct Person {
    pub(crate) address: Address,
    pub(crate) key: SigningKey,
    pub(crate) chain: Chain,
    pub(crate) sealing: SealingKey,
}

impl Person {
    pub(crate) fn key_id(&self) -> KeyId {
        key_id(&self.key.verifying_key())
    }

    pub(crate) fn certificate(&self) -> &[u8] {
        &self.chain.certificates()[0]
    }

    pub(crate) fn sign<P: Payload<Signer = Chain>>(&self, payload: P) -> Signed<P> {
        Signed::sign_as(payload, self.chain.clone(), &self.key).unwrap()
    }
}
