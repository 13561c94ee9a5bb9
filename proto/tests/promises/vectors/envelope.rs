//! COSE_Sign1 envelopes, taken apart, spoiled, and signed anew.

use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest as _, Sha512};

use super::faults::{Fault, encoding, fault, tagged};
use crate::item::{Item, bytes, raw, text};

/// A signed object and the key that can sign it again.
pub(super) struct Envelope {
    pub(super) key: SigningKey,
    pub(super) protected: Item,
    pub(super) payload: Item,
}

/// The order of the group that Ed25519 signs in (RFC 8032 §5.1), little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// RFC 9052's Sig_structure.
fn to_be_signed(protected: &[u8], payload: &[u8]) -> Vec<u8> {
    Item::Array(vec![text("Signature1"), bytes(protected), bytes([]), bytes(payload)]).encode()
}

/// The sum of two numbers below the order, modulo it, little-endian.
fn add(a: [u8; 32], b: [u8; 32]) -> [u8; 32] {
    let mut sum = [0; 32];
    let mut carry = 0;
    for (place, byte) in sum.iter_mut().enumerate() {
        carry += u16::from(a[place]) + u16::from(b[place]);
        (*byte, carry) = (carry as u8, carry >> 8);
    }
    if sum.iter().rev().lt(ORDER.iter().rev()) {
        return sum;
    }
    let mut borrow = 0;
    for (byte, less) in sum.iter_mut().zip(ORDER) {
        borrow += i16::from(*byte) - i16::from(less);
        (*byte, borrow) = (borrow as u8, borrow >> 8);
    }
    sum
}

impl Envelope {
    /// Takes a signed object apart.
    pub(super) fn open(signed: &[u8], key: &SigningKey) -> Self {
        let Item::Tag(18, mut object) = Item::decode(signed) else { panic!("no COSE_Sign1") };
        let items = object.items();
        let [protected, payload] = [0, 2].map(|place: usize| Item::decode(items[place].content()));
        Self { key: key.clone(), protected, payload }
    }

    /// The four parts of the object over these bytes, signed.
    fn parts(&self, protected: &[u8], payload: &[u8]) -> Vec<Item> {
        let signature = self.key.sign(&to_be_signed(protected, payload)).to_bytes();
        vec![bytes(protected), Item::Map(vec![]), bytes(payload), bytes(signature)]
    }

    fn whole(parts: Vec<Item>) -> Vec<u8> {
        Item::Tag(18, Box::new(Item::Array(parts))).encode()
    }

    /// The object as it is.
    pub(super) fn sign(&self) -> Vec<u8> {
        Self::whole(self.parts(&self.protected.encode(), &self.payload.encode()))
    }

    /// The object with this payload.
    pub(super) fn sign_payload(&self, payload: &[u8]) -> Vec<u8> {
        Self::whole(self.parts(&self.protected.encode(), payload))
    }

    /// The object with this protected header.
    pub(super) fn sign_protected(&self, protected: &[u8]) -> Vec<u8> {
        Self::whole(self.parts(protected, &self.payload.encode()))
    }

    /// All that can be wrong with the payload's map, in objects whose signature holds.
    pub(super) fn payload_faults(&self) -> Vec<Fault> {
        let mut faults = tagged(&self.payload);
        self.resign(&mut faults);
        faults
    }

    /// Signs payloads.
    pub(super) fn resign(&self, faults: &mut [Fault]) {
        for fault in faults {
            fault.bytes = self.sign_payload(&fault.bytes);
        }
    }

    /// All that can be wrong with the envelope of a person, whoever signs it.
    pub(super) fn faults(&self) -> Vec<Fault> {
        let mut faults = encoding(&self.protected);
        for fault in &mut faults {
            fault.name = format!("protected-{}", fault.name);
            fault.bytes = self.sign_protected(&fault.bytes);
        }
        faults.extend(self.outside());
        faults.extend(self.header());
        faults.extend(self.signature());
        faults
    }

    fn outside(&self) -> Vec<Fault> {
        let good = self.sign();
        let parts = || self.parts(&self.protected.encode(), &self.payload.encode());
        let with = |place: usize, item: Item| {
            let mut parts = parts();
            parts[place] = item;
            Self::whole(parts)
        };
        let count = |change: &dyn Fn(&mut Vec<Item>)| {
            let mut parts = parts();
            change(&mut parts);
            Self::whole(parts)
        };
        let proof = Item::Array(vec![bytes([0x83, 1, 0, 0x80])]);
        let proof = Item::Map(vec![(Item::Uint(396), Item::Map(vec![(Item::Negative(0), proof)]))]);
        let kid = Item::Map(vec![(Item::Uint(4), bytes([1; 32]))]);
        let payload = self.payload.encode();
        let chunked = [&[0x5f][..], &bytes(&payload).encode(), &[0xff]].concat();
        let shortest = "is not the shortest definite one";
        let sign = Item::Tag(98, Box::new(Item::Array(parts()))).encode();
        vec![
            fault("untagged", "Without the tag.", "a tag expected at 0, found an array", good[1..].to_vec()),
            fault("cose-sign", "Tagged as COSE_Sign.", "the CBOR tag is 98, expected 18 (COSE_Sign1)", sign),
            fault(
                "long-tag",
                "A tag in two bytes that fits one.",
                shortest,
                [&[0xd8, 18], &good[1..]].concat(),
            ),
            fault(
                "three-parts",
                "Without a signature.",
                "COSE_Sign1 has length 3, expected 4",
                count(&|parts| drop(parts.pop())),
            ),
            fault(
                "five-parts",
                "A part too many.",
                "COSE_Sign1 has length 5, expected 4",
                count(&|parts| parts.push(Item::Null)),
            ),
            fault(
                "truncated",
                "The last byte is missing.",
                "the bytes end at",
                good[..good.len() - 1].to_vec(),
            ),
            fault("trailing", "A byte after the end.", "1 bytes trail behind", [&good[..], &[0]].concat()),
            fault("empty", "No bytes at all.", "the bytes end at 0", vec![]),
            fault("unprotected-kid", "A header that is not signed.", "key 396 expected", with(1, kid)),
            fault(
                "unprotected-proof",
                "An inclusion proof, which stands in votes only.",
                "the unprotected header has length 1, expected 0 keys",
                with(1, proof),
            ),
            fault(
                "unprotected-null",
                "Null for the unprotected header.",
                "a map expected",
                with(1, Item::Null),
            ),
            fault(
                "protected-map",
                "The protected header as a map, not as bytes.",
                "a byte string expected",
                with(0, self.protected.clone()),
            ),
            fault("detached", "A payload that is elsewhere.", "a byte string expected", with(2, Item::Null)),
            fault("payload-chunked", "A payload in chunks.", shortest, with(2, raw(&chunked))),
            fault(
                "signature-short",
                "A byte of the signature is missing.",
                "the signature has length 63, expected 64 bytes",
                with(3, bytes([0; 63])),
            ),
            fault(
                "signature-long",
                "A byte too many in the signature.",
                "the signature has length 65, expected 64 bytes",
                with(3, bytes([0; 65])),
            ),
        ]
    }

    fn header(&self) -> Vec<Fault> {
        let header = |name: &str, meaning: &str, error: &str, change: &dyn Fn(&mut Item)| {
            let protected = self.protected.changed(|protected| change(protected)).encode();
            fault(name, meaning, error, self.sign_protected(&protected))
        };
        let is_person = self.protected.clone().entries().iter().any(|(key, _)| *key == Item::Uint(33));
        let mut faults = vec![
            header(
                "algorithm-eddsa",
                "EdDSA, which leaves the curve open.",
                "signature algorithm -8, expected -19",
                &|to| {
                    *to.at(1) = Item::Negative(7);
                },
            ),
            header("algorithm-es256", "ECDSA.", "signature algorithm -7, expected -19", &|to| {
                *to.at(1) = Item::Negative(6);
            }),
            header("algorithm-text", "An algorithm by name.", "an integer expected", &|to| {
                *to.at(1) = text("Ed25519");
            }),
            header("typ-number", "A content format for a media type.", "a text string expected", &|to| {
                *to.at(16) = Item::Uint(60);
            }),
            header("typ-missing", "No typ.", "expected", &|to| {
                to.entries().retain(|(key, _)| *key != Item::Uint(16));
            }),
            header(
                "typ-other",
                "Another media type.",
                "this is of type \"application/cose\", expected",
                &|to| {
                    *to.at(16) = text("application/cose");
                },
            ),
            header(
                "typ-upper-case",
                "Media types are compared byte by byte here.",
                "this is of type",
                &|to| {
                    let Item::Text(typ) = to.at(16).clone() else { panic!("typ is no text") };
                    *to.at(16) = text(&typ.to_uppercase());
                },
            ),
        ];
        if is_person {
            let certificate = self.protected.clone().at(33).clone();
            let list = |count: usize| Item::Array(vec![certificate.clone(); count]);
            faults.extend([
                header(
                    "chain-of-one",
                    "One certificate in an array.",
                    "x5chain has length 1, expected two or more",
                    &|to| {
                        *to.at(33) = list(1);
                    },
                ),
                header(
                    "chain-of-none",
                    "No certificate.",
                    "x5chain has length 0, expected two or more",
                    &|to| {
                        *to.at(33) = list(0);
                    },
                ),
                header(
                    "chain-of-five",
                    "Five certificates.",
                    "x5chain has length 5, expected fewer",
                    &|to| {
                        *to.at(33) = list(5);
                    },
                ),
                header("chain-repeated", "The certificate twice.", "certificate 1 is that of", &|to| {
                    *to.at(33) = list(2);
                }),
                header(
                    "chain-empty",
                    "An empty certificate.",
                    "certificate 0 is no X.509 certificate in DER",
                    &|to| {
                        *to.at(33) = bytes([]);
                    },
                ),
                header("kid", "A key's digest where certificates belong.", "key 16 expected", &|to| {
                    to.entries().insert(1, (Item::Uint(4), bytes([1; 32])));
                    to.entries().pop();
                }),
            ]);
        } else {
            faults.push(header("kid-short", "A key's digest of 31 bytes.", "kid has length 31", &|to| {
                *to.at(4) = bytes([1; 31]);
            }));
        }
        faults
    }

    fn signature(&self) -> Vec<Fault> {
        let refused = |name: &str, meaning: &str, change: &dyn Fn(&mut Vec<u8>)| {
            let mut parts = self.parts(&self.protected.encode(), &self.payload.encode());
            let mut signature = parts[3].content().to_vec();
            change(&mut signature);
            parts[3] = bytes(signature);
            fault(name, meaning, "is not by key", Self::whole(parts))
        };
        let other = Self { key: SigningKey::from_bytes(&[0x77; 32]), ..self.clone_parts() };
        let mut neutral = self.parts(&self.protected.encode(), &self.payload.encode());
        neutral[3] = bytes(self.sign_with_neutral_point());
        let mut mixed = self.parts(&self.protected.encode(), &self.payload.encode());
        let without_typ_string = self.key.sign(&self.payload.encode()).to_bytes();
        mixed[3] = bytes(without_typ_string);
        vec![
            refused("signature-flipped", "A bit of the signature.", &|signature| signature[40] ^= 1),
            refused("signature-point-flipped", "A bit of the signature's point.", &|signature| {
                signature[3] ^= 4
            }),
            refused("signature-zero", "All zeros.", &|signature| signature.fill(0)),
            refused("signature-plus-order", "The same scalar in a second encoding.", &|signature| {
                let mut carry = 0;
                for (byte, add) in signature[32..].iter_mut().zip(ORDER) {
                    let sum = u16::from(*byte) + u16::from(add) + carry;
                    (*byte, carry) = (sum as u8, sum >> 8);
                }
            }),
            fault(
                "signature-point-of-small-order",
                "By the right key, and its point is the neutral one: some verifiers take it.",
                "is not by key",
                Self::whole(neutral),
            ),
            fault("signed-by-other", "Forged: another key signed.", "is not by key", other.sign()),
            fault(
                "signed-bare",
                "The key signed the payload alone, not COSE's Sig_structure.",
                "is not by key",
                Self::whole(mixed),
            ),
        ]
    }

    /// The signature (R, S) with the secret r = 0: R is the neutral point, and S is just h a, modulo the order.
    fn sign_with_neutral_point(&self) -> [u8; 64] {
        let signed = to_be_signed(&self.protected.encode(), &self.payload.encode());
        let mut signature = [0; 64];
        signature[0] = 1;
        let key = self.key.verifying_key();
        let hashed = Sha512::new_with_prefix(&signature[..32]).chain_update(key.as_bytes());
        let h = hashed.chain_update(signed).finalize();
        let (a, mut sum) = (self.key.to_scalar().to_bytes(), [0; 32]);
        for bit in (0..512).rev() {
            sum = add(sum, sum);
            if h[bit / 8] >> (bit % 8) & 1 == 1 {
                sum = add(sum, a);
            }
        }
        signature[32..].copy_from_slice(&sum);
        signature
    }

    fn clone_parts(&self) -> Self {
        Self { key: self.key.clone(), protected: self.protected.clone(), payload: self.payload.clone() }
    }
}
