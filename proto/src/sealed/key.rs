//! The X25519 keys of the parties to CMP2, and what is sealed to them.

use core::fmt;

use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use rand::{CryptoRng, RngCore};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::Error;
use crate::ids::ExchangeId;
use crate::lock::Locked;

/// The length of a copy: encapsulated key, lock, and tag.
pub(super) const COPY: usize = 32 + Locked::SIZE + 16;

const INFO: &[u8] = b"fairpost/cmp2/v1";

/// A party's secret X25519 key, to which locks are sealed in CMP2.
///
/// It is wiped from memory when dropped, and has no `Debug`.
pub struct SealingKey(StaticSecret);

impl SealingKey {
    /// A fresh key.
    pub fn generate<R: RngCore + CryptoRng>(rng: &mut R) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *bytes);
        Self::from_bytes(&bytes)
    }

    /// The key with these bytes: any 32 are one (RFC 7748 §5 fixes the bits that must be).
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(StaticSecret::from(*bytes))
    }

    /// Its 32 bytes.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// Its public part.
    pub fn public(&self) -> SealingPublicKey {
        SealingPublicKey(PublicKey::from(&self.0).to_bytes())
    }

    /// What is in this copy, if it was sealed to this key for this exchange.
    pub(super) fn open(&self, exchange: ExchangeId, copy: &[u8; COPY]) -> Option<Vec<u8>> {
        self.open_for(&info(exchange), copy)
    }

    /// What was sealed to this key with this `info`: RFC 9180 §6.1, base mode, as in [`SealingPublicKey::seal_for`].
    pub(crate) fn open_for(&self, info: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (encapsulated, ciphertext) = sealed.split_first_chunk::<32>()?;
        let secret = <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(&*self.to_bytes()).ok()?;
        let encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(encapsulated).ok()?;
        hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &secret,
            &encapsulated,
            info,
            ciphertext,
            &[],
        )
        .ok()
    }
}

/// A party's public X25519 key: canonical, and not of low order.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SealingPublicKey([u8; 32]);

impl SealingPublicKey {
    /// Reads a public key.
    ///
    /// # Errors
    ///
    /// [`Error::KeyNotCanonical`] for what is not below 2²⁵⁵ - 19, and [`Error::KeyOfLowOrder`] for the points whose
    /// shared secret is zero with any key, all zeros among them.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, Error> {
        let mut modulus = [0xff; 32];
        (modulus[0], modulus[31]) = (0xed, 0x7f);
        if bytes.iter().rev().ge(modulus.iter().rev()) {
            return Err(Error::KeyNotCanonical { found: hex::encode(bytes) });
        }
        // Every secret key is a multiple of 8, so any of them takes a point of low order to zero.
        let any = StaticSecret::from([0x55; 32]);
        if !any.diffie_hellman(&PublicKey::from(bytes)).was_contributory() {
            return Err(Error::KeyOfLowOrder { found: hex::encode(bytes) });
        }
        Ok(Self(bytes))
    }

    /// Its 32 bytes.
    pub const fn to_bytes(&self) -> [u8; 32] {
        self.0
    }

    /// A copy of `lock` for this key and this exchange.
    pub(super) fn seal<R: RngCore + CryptoRng>(
        &self,
        exchange: ExchangeId,
        lock: &Locked,
        rng: &mut R,
    ) -> Result<Vec<u8>, Error> {
        self.seal_for(&info(exchange), &lock.to_bytes(), rng)
    }

    /// Seals to this key with this `info`: the encapsulated key, 32 bytes, and the ciphertext, 16 bytes longer than
    /// what is sealed.
    pub(crate) fn seal_for<R: RngCore + CryptoRng>(
        &self,
        info: &[u8],
        plaintext: &[u8],
        rng: &mut R,
    ) -> Result<Vec<u8>, Error> {
        let failed = |error: hpke::HpkeError| Error::Encrypt(error.to_string());
        let key = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(&self.0).map_err(failed)?;
        let (encapsulated, ciphertext) = hpke::single_shot_seal::<
            ChaCha20Poly1305,
            HkdfSha256,
            X25519HkdfSha256,
            _,
        >(&OpModeS::Base, &key, info, plaintext, &[], rng)
        .map_err(failed)?;
        Ok([encapsulated.to_bytes().as_slice(), &ciphertext].concat())
    }
}

impl fmt::Display for SealingPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for SealingPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingPublicKey({self})")
    }
}

fn info(exchange: ExchangeId) -> Vec<u8> {
    [INFO, exchange.as_bytes()].concat()
}
