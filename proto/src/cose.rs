//! COSE_Sign1: the one envelope for everything that a person or a server signs.
//!
//! # Specification
//!
//! RFC 9052 §4.2, tagged, payload attached, no external data, Ed25519 (RFC 9864, algorithm −19). The protected
//! header says what the object is (`typ`, RFC 9596) and who signs it: a certificate chain (`x5chain`, RFC 9360) for
//! persons, an identity key's digest (`kid`) for servers. Key 0 of the payload says again what it is. The
//! unprotected map is empty; only a vote inside a certificate carries its ballot proof there.
//!
//! # Guarantees
//!
//! - One kind never passes for another: [`Signed::parse`] checks `typ` and tag (vectors `evidence.json`; test
//!   `no_kind_passes_for_another`).
//! - One encoding only, and the bytes that were signed are kept as they came: [`Signed::bytes`] (vectors
//!   `evidence.json`, `request.json`, `entry.json`; tests `what_people_and_servers_sign`,
//!   `no_flipped_bit_of_an_entry_is_its_leaders`).
//! - Parsing is not believing: [`Signed::verify`] checks the signature, strictly (RFC 8032 §5.1.7, small-order keys
//!   and non-canonical points refused), under a key that the caller chose (vectors whose name has `signature` or
//!   `signed`; tests `a_forged_signature_is_found`,
//!   `a_key_under_which_everything_seems_signed_verifies_nothing`).
//! - Whatever bytes come, the answer is an object or an [`Error`] (test `what_people_and_servers_sign`).

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::cbor::{self, Map, Reader, Writer};
use crate::chain::{self, Chain};
use crate::ids::{Digest, KeyId};
use crate::memo::Memo;

const ALG: i64 = 1;
const KID: i64 = 4;
const TYP: i64 = 16;
const X5CHAIN: i64 = 33;
const VDP: i64 = 396;
const INCLUSION: i64 = -1;
const ED25519: i64 = -19;
const SIGN1: u64 = 18;

/// The largest envelope that is read at all, if its kind does not say otherwise.
pub const MAX_BYTES: usize = 24 * 1024;

/// What is wrong with a signed object.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is larger than any that Fairpost makes.
    #[error("the signed object has {found} bytes, at most {most} are read")]
    TooLarge {
        /// The largest of its kind.
        most: usize,
        /// Its size.
        found: usize,
    },
    /// It is not the deterministic CBOR that the format gives.
    #[error("malformed: {0}")]
    Cbor(#[from] cbor::Error),
    /// Its `typ` says that it is something else.
    #[error("this is of type {found:?}, expected {expected:?}")]
    Typ {
        /// The `typ` asked for.
        expected: &'static str,
        /// The `typ` found.
        found: String,
    },
    /// It is signed with another algorithm.
    #[error("signature algorithm {found}, expected {ED25519} (Ed25519)")]
    Algorithm {
        /// The COSE algorithm found.
        found: i64,
    },
    /// Its certificate chain is not one.
    #[error("certificate chain: {0}")]
    Chain(#[from] chain::Error),
    /// A value in its payload is not valid.
    #[error("{0}")]
    Payload(String),
    /// The signature is not by this key over these bytes.
    #[error("the signature on this {typ} is not by key {key}")]
    Signature {
        /// What was signed.
        typ: &'static str,
        /// The key it was checked under.
        key: KeyId,
    },
    /// The key to sign with is not the one that the certificate is for.
    #[error("the certificate is for key {certified}, but the key to sign with is {held}")]
    ForeignCertificate {
        /// The certificate's key.
        certified: KeyId,
        /// The signing key.
        held: KeyId,
    },
}

/// How an object names its signer.
pub trait Signer: Sized + Clone {
    /// The label of its protected header.
    const LABEL: i64;
    /// Whether the label stands before `typ` in the map's order.
    const BEFORE_TYP: bool = Self::LABEL < TYP;
    /// Reads the header's value.
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error>;
    /// Writes the header's value.
    fn write(&self, writer: &mut Writer);
}

impl Signer for Chain {
    const LABEL: i64 = X5CHAIN;

    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        if !reader.at_array() {
            return Ok(Self::parse(vec![reader.bytes()?.to_vec()])?);
        }
        let length = reader.array("x5chain", Chain::MAX_CERTIFICATES as u64)?;
        if length < 2 {
            return Err(
                cbor::Error::Length { what: "x5chain", expected: "two or more", found: length }.into()
            );
        }
        let certificates =
            (0..length).map(|_| reader.bytes().map(<[u8]>::to_vec)).collect::<Result<_, _>>()?;
        Ok(Self::parse(certificates)?)
    }

    fn write(&self, writer: &mut Writer) {
        match self.certificates() {
            [one] => {
                writer.bytes(one);
            }
            more => {
                writer.array(more.len());
                for certificate in more {
                    writer.bytes(certificate);
                }
            }
        }
    }
}

impl Signer for KeyId {
    const LABEL: i64 = KID;

    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self::new(reader.bytes32("kid")?))
    }

    fn write(&self, writer: &mut Writer) {
        writer.bytes(self.as_bytes());
    }
}

/// Something that is signed: one kind of payload.
pub trait Payload: Sized {
    /// The `typ` of its envelope: a media type.
    const TYP: &'static str;
    /// Key 0 of its map.
    const TAG: &'static str;
    /// How it names its signer.
    type Signer: Signer;
    /// How many keys its map has, the tag included.
    const KEYS: usize;
    /// The largest envelope of this kind that is read at all.
    const MAX_BYTES: usize = MAX_BYTES;
    /// Reads the keys after the tag.
    fn read(map: &mut Map, reader: &mut Reader<'_>) -> Result<Self, Error>;
    /// Writes the keys after the tag.
    fn write(&self, writer: &mut Writer);
}

/// A well-formed signed object. Whether its signature holds is for [`Signed::verify`] to say.
#[derive(Clone)]
pub struct Signed<P: Payload> {
    bytes: Vec<u8>,
    signer: P::Signer,
    payload: P,
    to_be_signed: Vec<u8>,
    signature: Signature,
}

impl<P: Payload> Signed<P> {
    /// Parses `bytes`, which must be the one encoding of such an object, with an empty unprotected header.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        match parse(bytes)? {
            (signed, None) => Ok(signed),
            (_, Some(_)) => {
                Err(cbor::Error::Length { what: "the unprotected header", expected: "0 keys", found: 1 }
                    .into())
            }
        }
    }

    /// Parses an object that carries an inclusion proof in its unprotected header; gives both.
    pub(crate) fn parse_proved(bytes: &[u8]) -> Result<(Self, Vec<u8>), Error> {
        match parse(bytes)? {
            (signed, Some(proof)) => Ok((signed, proof.to_vec())),
            (_, None) => {
                Err(cbor::Error::Length { what: "the unprotected header", expected: "1 key", found: 0 }
                    .into())
            }
        }
    }

    /// Signs `payload` with `key`, in the name of `signer`.
    pub fn sign(payload: P, signer: P::Signer, key: &SigningKey) -> Self {
        let (protected, body) = (protected::<P>(&signer), encode(&payload));
        let to_be_signed = to_be_signed(&protected, &body);
        let signature = key.sign(&to_be_signed);
        let bytes = envelope(&protected, &body, &signature, None);
        Self { bytes, signer, payload, to_be_signed, signature }
    }

    /// Checks the signature under `key`.
    pub fn verify(&self, key: &VerifyingKey) -> Result<(), Error> {
        key.verify_strict(&self.to_be_signed, &self.signature)
            .map_err(|_| Error::Signature { typ: P::TYP, key: chain::key_id(key) })
    }

    /// What was signed.
    pub const fn payload(&self) -> &P {
        &self.payload
    }

    /// Who says to have signed it.
    pub const fn signer(&self) -> &P::Signer {
        &self.signer
    }

    /// The object as it came (without an inclusion proof).
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the same signer says the same in both, whatever the signatures are.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        self.to_be_signed == other.to_be_signed
    }

    /// SHA-256 of the object as it came.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// The object with `proof` in its unprotected header.
    pub(crate) fn with_proof(&self, proof: &[u8]) -> Vec<u8> {
        let (protected, body) = (protected::<P>(&self.signer), encode(&self.payload));
        envelope(&protected, &body, &self.signature, Some(proof))
    }
}

impl<P: Payload<Signer = Chain>> Signed<P> {
    /// Signs `payload` with the key that `chain`'s first certificate is for.
    pub fn sign_as(payload: P, chain: Chain, key: &SigningKey) -> Result<Self, Error> {
        let (certified, held) = (chain.leaf_key().key_id(), chain::key_id(&key.verifying_key()));
        if certified != held {
            return Err(Error::ForeignCertificate { certified, held });
        }
        Ok(Self::sign(payload, chain, key))
    }

    /// Checks the signature under the key of the chain's first certificate. Whether to believe that certificate
    /// is another question: [`Chain::verify`].
    pub fn verify_by_chain(&self) -> Result<(), Error> {
        self.verify(self.signer.leaf_key().as_dalek())
    }

    /// As [`Signed::verify_by_chain`], where what `memo` knows to hold is not computed again.
    pub(crate) fn verify_once(&self, memo: &Memo) -> Result<(), Error> {
        let object = self.digest();
        if !memo.is_signed(&object) {
            self.verify_by_chain()?;
            memo.signed(object);
        }
        Ok(())
    }
}

impl<P: Payload + core::fmt::Debug> core::fmt::Debug for Signed<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Signed").field("payload", &self.payload).finish_non_exhaustive()
    }
}

fn encode<P: Payload>(payload: &P) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.map(P::KEYS).uint(0).text(P::TAG);
    payload.write(&mut writer);
    writer.finish()
}

fn protected<P: Payload>(signer: &P::Signer) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.map(3).int(ALG).int(ED25519);
    if P::Signer::BEFORE_TYP {
        signer.write(writer.int(P::Signer::LABEL));
        writer.int(TYP).text(P::TYP);
    } else {
        signer.write(writer.int(TYP).text(P::TYP).int(P::Signer::LABEL));
    }
    writer.finish()
}

/// RFC 9052 §4.4: the Sig_structure.
fn to_be_signed(protected: &[u8], payload: &[u8]) -> Vec<u8> {
    Writer::new().array(4).text("Signature1").bytes(protected).bytes(&[]).bytes(payload).finish()
}

fn envelope(protected: &[u8], payload: &[u8], signature: &Signature, proof: Option<&[u8]>) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.tag(SIGN1).array(4).bytes(protected);
    match proof {
        None => writer.map(0),
        Some(proof) => writer.map(1).int(VDP).map(1).int(INCLUSION).array(1).bytes(proof),
    };
    writer.bytes(payload).bytes(&signature.to_bytes()).finish()
}

fn parse<P: Payload>(bytes: &[u8]) -> Result<(Signed<P>, Option<&[u8]>), Error> {
    if bytes.len() > P::MAX_BYTES {
        return Err(Error::TooLarge { most: P::MAX_BYTES, found: bytes.len() });
    }
    let mut reader = Reader::new(bytes);
    reader.tag(SIGN1, "18 (COSE_Sign1)")?;
    reader.array_of("COSE_Sign1", 4, "4")?;
    let protected = reader.bytes()?;
    let proof = parse_unprotected(&mut reader)?;
    let body = reader.bytes()?;
    let signature = Signature::from_bytes(&reader.fixed("the signature", "64 bytes")?);
    reader.finish()?;

    let signer = parse_protected::<P>(protected)?;
    let mut reader = Reader::new(body);
    let mut map = reader.map()?;
    map.tagged(&mut reader, P::TAG)?;
    let payload = P::read(&mut map, &mut reader)?;
    map.finish(&reader)?;
    reader.finish()?;
    let to_be_signed = to_be_signed(protected, body);
    let kept = match proof {
        None => bytes.to_vec(),
        Some(_) => envelope(protected, body, &signature, None),
    };
    Ok((Signed { bytes: kept, signer, payload, to_be_signed, signature }, proof))
}

/// The `typ` of what says to be an object that a server signed. Nothing else about it is checked.
pub(crate) fn typ(bytes: &[u8]) -> Result<&str, cbor::Error> {
    let mut reader = Reader::new(bytes);
    reader.tag(SIGN1, "18 (COSE_Sign1)")?;
    reader.array_of("COSE_Sign1", 4, "4")?;
    let mut reader = Reader::new(reader.bytes()?);
    let mut map = reader.map()?;
    map.key(&mut reader, ALG)?;
    reader.int()?;
    map.key(&mut reader, KID)?;
    reader.bytes32("kid")?;
    map.key(&mut reader, TYP)?;
    reader.text("typ", 128)
}

fn parse_unprotected<'b>(reader: &mut Reader<'b>) -> Result<Option<&'b [u8]>, Error> {
    let mut map = reader.map()?;
    if map.is_empty() {
        return Ok(None);
    }
    map.key(reader, VDP)?;
    let mut proofs = reader.map()?;
    proofs.key(reader, INCLUSION)?;
    reader.array_of("the inclusion proofs", 1, "1")?;
    let proof = reader.bytes()?;
    proofs.finish(reader)?;
    map.finish(reader)?;
    Ok(Some(proof))
}

fn parse_protected<P: Payload>(bytes: &[u8]) -> Result<P::Signer, Error> {
    let mut reader = Reader::new(bytes);
    let mut map = reader.map()?;
    map.key(&mut reader, ALG)?;
    let found = reader.int()?;
    if found != ED25519 {
        return Err(Error::Algorithm { found });
    }
    let typ = |map: &mut Map, reader: &mut Reader<'_>| -> Result<(), Error> {
        map.key(reader, TYP)?;
        match reader.text("typ", 128)? {
            found if found == P::TYP => Ok(()),
            found => Err(Error::Typ { expected: P::TYP, found: found.to_owned() }),
        }
    };
    let signer;
    if P::Signer::BEFORE_TYP {
        map.key(&mut reader, P::Signer::LABEL)?;
        signer = P::Signer::read(&mut reader)?;
        typ(&mut map, &mut reader)?;
    } else {
        typ(&mut map, &mut reader)?;
        map.key(&mut reader, P::Signer::LABEL)?;
        signer = P::Signer::read(&mut reader)?;
    }
    map.finish(&reader)?;
    reader.finish()?;
    Ok(signer)
}
