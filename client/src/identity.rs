//! Who somebody is: the keys, the address, and the certificate that ties them together, in one file.
//!
//! # Specification
//!
//! ```text
//! Fairpost identity of sender@example.org
//! Keep this file secret: whoever has it signs in your name, and reads your mail.
//! -----BEGIN PRIVATE KEY-----                 Ed25519, PKCS #8: signs
//! -----BEGIN FAIRPOST SEALING KEY-----        X25519, 32 bytes: opens what is sealed to you (CMP2)
//! -----BEGIN CERTIFICATE-----                 none, or the chain, the identity's own certificate first
//! ```
//!
//! # Guarantees
//!
//! - The file has mode 0600, and is not read with any other that lets others in ([`Identity::create`],
//!   [`Identity::load`]; test `an_identity_that_others_may_read_is_refused`).
//! - A certificate in it is for its key and its address ([`Identity::install`], [`Identity::load`]; test
//!   `a_certificate_for_another_key_or_address_is_not_taken`).

use std::path::Path;

use ed25519_dalek::{SigningKey, VerifyingKey, pkcs8};
use fairpost_proto::chain::{self, Chain};
use fairpost_proto::cose::{self, Payload, Signed};
use fairpost_proto::ids::{KeyId, Timestamp};
use fairpost_proto::sealed::SealingKey;
use fairpost_proto::terms::{Address, AddressError};
use fairpost_proto::{armor, card};
use rand::rngs::OsRng;
use rcgen::{CertificateParams, DistinguishedName, DnType, SanType};
use zeroize::Zeroizing;

use crate::{pem, secret_file, x509};

/// The label of the sealing key.
const SEALING_KEY: &str = "FAIRPOST SEALING KEY";
/// How the file begins.
const TITLE: &str = "Fairpost identity of ";
const WARNING: &str = "Keep this file secret: whoever has it signs in your name, and reads your mail.";

/// What is wrong with an identity, or can't be done with it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read or written, or others may read it.
    #[error(transparent)]
    File(#[from] secret_file::Error),
    /// The file is not PEM.
    #[error("this is no identity: {0}")]
    Pem(#[from] pem::Error),
    /// The file does not begin as an identity's does.
    #[error("this is no identity: it does not begin with {TITLE:?} and an address")]
    Title,
    /// The address in it is not one.
    #[error("this is no identity: {0}")]
    Address(#[from] AddressError),
    /// A block is missing, is there twice, or does not belong.
    #[error("this is no identity: expected one block {expected}, found {found}")]
    Blocks {
        /// The label.
        expected: &'static str,
        /// How many there are.
        found: usize,
    },
    /// The signing key is not one.
    #[error("the identity's signing key: {0}")]
    Key(#[from] pkcs8::Error),
    /// The sealing key has another length.
    #[error("the identity's sealing key has {found} bytes, not 32")]
    SealingKey {
        /// Its length.
        found: usize,
    },
    /// The certificates are not a chain.
    #[error("the certificate: {0}")]
    Certificates(#[from] x509::Error),
    /// The certificate is for another key.
    #[error("the certificate is for key {found}, and this identity's key is {expected}")]
    ForeignKey {
        /// The identity's key.
        expected: KeyId,
        /// The certificate's.
        found: KeyId,
    },
    /// The certificate is not for this address, not valid now, or not for signing mail.
    #[error("the certificate does not suit {address}: {source}")]
    Unsuitable {
        /// The identity's address.
        address: Address,
        /// What is wrong.
        source: chain::Error,
    },
    /// There is no certificate yet.
    #[error(
        "the identity of {0} has no certificate yet: have its CA issue one, then run `fairpost identity install`"
    )]
    NoCertificate(Address),
    /// A certificate request can't be made.
    #[error("the certificate request: {0}")]
    Request(rcgen::Error),
    /// Signing failed.
    #[error("signing: {0}")]
    Sign(#[from] cose::Error),
}

/// Somebody's keys, address and, once a CA has issued it, certificate.
///
/// The keys are wiped from memory when it is dropped.
pub struct Identity {
    address: Address,
    key: SigningKey,
    sealing: SealingKey,
    chain: Option<Chain>,
}

impl Identity {
    /// Fresh keys for this address.
    pub fn generate(address: Address) -> Self {
        let (key, sealing) = (SigningKey::generate(&mut OsRng), SealingKey::generate(&mut OsRng));
        Self { address, key, sealing, chain: None }
    }

    /// Reads an identity from its file.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if others may read it, too; or what is wrong with its content.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::parse(&secret_file::read(path)?)
    }

    /// Writes a file that is not there yet.
    pub fn create(&self, path: &Path) -> Result<(), Error> {
        Ok(secret_file::create(path, &self.to_text()?)?)
    }

    /// Writes the file anew, in one step.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        Ok(secret_file::replace(path, &self.to_text()?)?)
    }

    fn parse(text: &str) -> Result<Self, Error> {
        let (preamble, blocks) = pem::parse(text)?;
        let address =
            preamble.lines().next().and_then(|line| line.strip_prefix(TITLE)).ok_or(Error::Title)?;
        let address = Address::parse(address)?;
        let one = |expected: &'static str| {
            let mut found = blocks.iter().filter(|block| block.label == expected);
            match (found.next(), found.count()) {
                (Some(block), 0) => Ok(&block.bytes),
                (first, more) => Err(Error::Blocks { expected, found: more + usize::from(first.is_some()) }),
            }
        };
        let key = x509::parse_key(one(pem::PRIVATE_KEY)?)?;
        let sealing = one(SEALING_KEY)?;
        let sealing =
            sealing.as_slice().try_into().map_err(|_| Error::SealingKey { found: sealing.len() })?;
        let mut identity = Self { address, key, sealing: SealingKey::from_bytes(sealing), chain: None };
        if blocks.iter().any(|block| block.label == pem::CERTIFICATE) {
            let chain = x509::parse_chain(text)?;
            // Not now: a party whose certificate has ended may still ask for what it is owed.
            let at = chain.not_before();
            identity.take(chain, at)?;
        }
        Ok(identity)
    }

    fn to_text(&self) -> Result<Zeroizing<String>, Error> {
        // Room for all of it: growing would leave copies behind.
        let chain = self.chain.as_ref().map(Chain::certificates).unwrap_or_default();
        let size: usize = chain.iter().map(|certificate| certificate.len() * 2).sum();
        let mut text = Zeroizing::new(String::with_capacity(2048 + size));
        text.push_str(&format!("{TITLE}{}\n{WARNING}\n", self.address));
        x509::append_key(&mut text, &self.key)?;
        pem::append(&mut text, SEALING_KEY, &*self.sealing.to_bytes());
        for certificate in chain {
            pem::append(&mut text, pem::CERTIFICATE, certificate);
        }
        Ok(text)
    }

    /// Takes over the certificates in a PEM text, the identity's own first, if they suit its key and its address now.
    pub fn install(&mut self, certificates: &str, now: Timestamp) -> Result<(), Error> {
        self.take(x509::parse_chain(certificates)?, now)
    }

    fn take(&mut self, chain: Chain, at: Timestamp) -> Result<(), Error> {
        let (expected, found) = (self.key_id(), chain.leaf_key().key_id());
        if expected != found {
            return Err(Error::ForeignKey { expected, found });
        }
        // Which anchors count is a cluster's business. Without any, this is the one error that may be left.
        match chain.verify(&[], self.address.as_str(), at) {
            Ok(()) | Err(chain::Error::NoAnchor { .. }) => {}
            Err(source) => return Err(Error::Unsuitable { address: self.address.clone(), source }),
        }
        self.chain = Some(chain);
        Ok(())
    }

    /// A certificate request (PKCS #10) in PEM, for a CA.
    pub fn request_csr(&self) -> Result<String, Error> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, self.address.as_str());
        let email = self.address.as_str().try_into().map_err(Error::Request)?;
        parameters.subject_alt_names = vec![SanType::Rfc822Name(email)];
        let request = parameters.serialize_request(&x509::Signer::new(&self.key)).map_err(Error::Request)?;
        request.pem().map_err(Error::Request)
    }

    /// The card, as text: what others need to write to this address.
    pub fn card(&self, now: Timestamp) -> Result<String, Error> {
        let (address, sealing_key) = (self.address.clone(), self.sealing.public());
        let card = self.sign(card::Card { address, sealing_key, created: now })?;
        Ok(armor::encode(armor::CARD, card.bytes()))
    }

    /// The address.
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// The key that verifies what it signs.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.key.verifying_key()
    }

    /// The digest of that key, by which terms name it.
    pub fn key_id(&self) -> KeyId {
        chain::key_id(&self.key.verifying_key())
    }

    /// The key that opens copies of locks (CMP2).
    pub const fn sealing_key(&self) -> &SealingKey {
        &self.sealing
    }

    /// The certificates.
    pub fn chain(&self) -> Result<&Chain, Error> {
        self.chain.as_ref().ok_or_else(|| Error::NoCertificate(self.address.clone()))
    }

    /// Signs in its name.
    pub fn sign<P: Payload<Signer = Chain>>(&self, payload: P) -> Result<Signed<P>, Error> {
        Ok(Signed::sign_as(payload, self.chain()?.clone(), &self.key)?)
    }
}

impl core::fmt::Debug for Identity {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Identity").field("address", &self.address).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, metadata, set_permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::ca;
    use crate::card::Card;

    fn identity(address: &str) -> Identity {
        Identity::generate(Address::parse(address).unwrap())
    }

    /// A certificate for `who`.
    fn certificate(who: &Identity) -> String {
        let (folder, now) = (tempfile::tempdir().unwrap(), crate::now());
        ca::init(folder.path(), "Test CA", now).unwrap();
        ca::issue_for_key(folder.path(), who.address(), &who.verifying_key(), 30, now).unwrap()
    }

    #[test]
    fn an_identity_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alice.id");
        identity("alice@example.org").create(&path).unwrap();
        assert_eq!(metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        Identity::load(&path).unwrap();
        set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            Identity::load(&path),
            Err(Error::File(secret_file::Error::Mode { mode: 0o644, .. }))
        ));
    }

    #[test]
    fn it_comes_back_from_its_file_with_its_keys_and_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alice.id");
        let mut alice = identity("alice@example.org");
        alice.create(&path).unwrap();
        assert!(Identity::load(&path).unwrap().chain().is_err());
        alice.install(&certificate(&alice), crate::now()).unwrap();
        alice.save(&path).unwrap();
        let read = Identity::load(&path).unwrap();
        assert_eq!((read.address(), read.key_id()), (alice.address(), alice.key_id()));
        assert!(read.sealing_key().to_bytes() == alice.sealing_key().to_bytes());
        assert_eq!(read.chain().unwrap().certificates(), alice.chain().unwrap().certificates());
    }

    #[test]
    fn a_certificate_for_another_key_or_address_is_not_taken() {
        let (mut alice, bob) = (identity("alice@example.org"), identity("bob@example.org"));
        let (expected, found) = (alice.key_id(), bob.key_id());
        let refused = alice.install(&certificate(&bob), crate::now());
        assert!(
            matches!(refused, Err(Error::ForeignKey { expected: e, found: f }) if (e, f) == (expected, found))
        );
        let (folder, now) = (tempfile::tempdir().unwrap(), crate::now());
        ca::init(folder.path(), "Test CA", now).unwrap();
        let for_bob =
            ca::issue_for_key(folder.path(), bob.address(), &alice.verifying_key(), 30, now).unwrap();
        assert!(matches!(alice.install(&for_bob, now), Err(Error::Unsuitable { .. })));
        assert!(matches!(alice.card(now), Err(Error::NoCertificate(_))));
    }

    #[test]
    fn a_card_is_signed_and_read_back() {
        let mut alice = identity("alice@example.org");
        alice.install(&certificate(&alice), crate::now()).unwrap();
        let card = Card::parse(&alice.card(crate::now()).unwrap()).unwrap();
        assert_eq!((card.address(), card.key_id()), (alice.address(), alice.key_id()));
        assert_eq!(card.sealing_key(), alice.sealing_key().public());
    }

    #[test]
    fn what_is_no_identity_says_what_is_missing() {
        let text = identity("alice@example.org").to_text().unwrap();
        assert!(matches!(Identity::parse(""), Err(Error::Title)));
        assert!(matches!(Identity::parse(&text.replace("alice", "al ice")), Err(Error::Address(_))));
        let keyless = text.replace("FAIRPOST SEALING", "FAIRPOST CEILING");
        assert!(matches!(Identity::parse(&keyless), Err(Error::Blocks { expected: SEALING_KEY, found: 0 })));
        let (title, blocks) = text.split_at(text.find("-----BEGIN").unwrap());
        let twice = [title, blocks, blocks].concat();
        assert!(matches!(
            Identity::parse(&twice),
            Err(Error::Blocks { expected: pem::PRIVATE_KEY, found: 2 })
        ));
    }
}
