use age_core::format::FileKey;
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

use super::header::{self, Header};
use super::seal::seal_plaintext;
use super::*;
use crate::ids::{ClusterId, Protocol, Verdict};
use crate::lock::Locked;
use crate::threshold::{Message, PublicKey, Token, combine, deal};
use crate::vectors;

mod hostile;
mod streams;

const CLUSTER: ClusterId = ClusterId::new([1; 32]);
const EXCHANGE: ExchangeId = ExchangeId::new([2; 32]);
const OTHER: ExchangeId = ExchangeId::new([3; 32]);

/// The cluster's key, and its token for a message.
fn cluster(message: &Message) -> (PublicKey, Token) {
    let (commitment, shares) = deal(1, 1, &mut ChaCha20Rng::seed_from_u64(7)).unwrap();
    (commitment.public_key(), combine(1, &[(0, shares[0].sign(message))]).unwrap())
}

fn token() -> Token {
    cluster(&Message::released(CLUSTER, EXCHANGE)).1
}

fn recipient() -> SealingKey {
    SealingKey::from_bytes(&[0x11; 32])
}

fn sender() -> SealingKey {
    SealingKey::from_bytes(&[0x22; 32])
}

fn sealing(protocol: Protocol, exchange: ExchangeId) -> Sealing {
    let access = match protocol {
        Protocol::Cmp1 => Access::Cmp1,
        Protocol::Cmp2 => Access::Cmp2 { recipient: recipient().public(), sender: sender().public() },
    };
    Sealing { cluster: CLUSTER, key: cluster(&Message::released(CLUSTER, exchange)).0, exchange, access }
}

fn salt() -> Salt {
    Salt::from_bytes([9; 32])
}

/// A body, and the digest of its content.
fn body(protocol: Protocol, mail: &[u8]) -> (Vec<u8>, Digest) {
    let mut body = Vec::new();
    let sealed = seal(&sealing(protocol, EXCHANGE), &salt(), mail, &mut body).unwrap();
    assert_eq!(sealed.digest, Digest::of(&body));
    assert_eq!(sealed.length, body.len() as u64);
    assert_eq!(sealed.content, content_commitment(&salt(), mail).unwrap());
    assert_eq!(sealed.digest, body_digest(&body[..]).unwrap());
    (body, sealed.content)
}

/// All of what a recipient does.
fn receive(body: &[u8], protocol: Protocol, token: &Token, content: Digest) -> Result<Vec<u8>, Error> {
    let lock = inspect(body, protocol, EXCHANGE)?.lock_for(&recipient())?;
    let mut mail = Vec::new();
    let opened = open(body, &lock, token, content, &mut mail)?;
    assert_eq!(opened.bytes, mail.len() as u64);
    Ok(mail)
}

fn header_of(body: &[u8]) -> (Header, Vec<u8>) {
    let bytes = header::read(&mut &body[..]).unwrap();
    (Header::parse(&bytes).unwrap(), bytes)
}

/// The body with its header replaced by `text`.
fn with_header(body: &[u8], text: &[u8]) -> Vec<u8> {
    let (_, old) = header_of(body);
    [text, &body[old.len()..]].concat()
}

/// The body with its stanza changed, and a MAC that fits again.
fn with_stanza(body: &[u8], protocol: Protocol, change: impl FnOnce(&mut Header)) -> Vec<u8> {
    let lock = inspect(body, protocol, EXCHANGE).unwrap().lock_for(&recipient()).unwrap();
    let key = *lock.unlock(&token()).unwrap();
    let (mut header, _) = header_of(body);
    change(&mut header);
    with_header(body, &header.to_bytes(&FileKey::new(Box::new(key))))
}

#[test]
fn what_is_sealed_opens_byte_for_byte() {
    // The payload comes in chunks of 64 KiB, and the salt is the first 32 bytes of the first.
    for length in [0, 1, 65_503, 65_504, 65_505, 131_040, 3_000_000] {
        let mail: Vec<u8> = (0..length).map(|place: u32| (place % 251) as u8).collect();
        for protocol in [Protocol::Cmp1, Protocol::Cmp2] {
            let (body, content) = body(protocol, &mail);
            let found = receive(&body, protocol, &token(), content).unwrap();
            assert!(found == mail, "{protocol}, {length} bytes");
        }
    }
}

#[test]
fn sender_and_recipient_find_the_same_lock_and_nobody_else_any() {
    let (body, _) = body(Protocol::Cmp2, b"mail");
    let stanza = inspect(&body[..], Protocol::Cmp2, EXCHANGE).unwrap();
    let lock = stanza.lock_for(&recipient()).unwrap();
    assert_eq!(stanza.lock_for(&sender()).unwrap(), lock);
    assert_eq!(lock.digest(), stanza.lock_digest());
    assert!(matches!(stanza.lock_in_the_open(), Err(Error::NotInTheOpen)));
    let third = SealingKey::from_bytes(&[0x33; 32]);
    assert!(matches!(stanza.lock_for(&third), Err(Error::NoCopy { key, .. }) if key == third.public()));
}

#[test]
fn in_cmp1_anybody_finds_the_lock() {
    let (body, _) = body(Protocol::Cmp1, b"mail");
    let stanza = inspect(&body[..], Protocol::Cmp1, EXCHANGE).unwrap();
    let lock = stanza.lock_in_the_open().unwrap();
    assert_eq!(stanza.lock_for(&recipient()).unwrap(), lock);
    assert_eq!((stanza.protocol(), stanza.exchange()), (Protocol::Cmp1, EXCHANGE));
    assert_eq!(stanza.lock_digest(), lock.digest());
}

#[test]
fn two_seals_of_one_mail_share_nothing() {
    let (first, second) = (body(Protocol::Cmp2, b"mail").0, body(Protocol::Cmp2, b"mail").0);
    let digest = |body: &[u8]| inspect(body, Protocol::Cmp2, EXCHANGE).unwrap().lock_digest();
    assert_ne!(digest(&first), digest(&second));
    assert_ne!(first[first.len() - 40..], second[second.len() - 40..]);
}

#[test]
fn every_other_token_leaves_the_mail_closed() {
    let (body, content) = body(Protocol::Cmp1, b"mail");
    let others = Verdict::ALL
        .into_iter()
        .filter(|verdict| *verdict != Verdict::Released)
        .map(|verdict| Message::Verdict { cluster: CLUSTER, verdict, exchange: EXCHANGE })
        .chain([Message::released(CLUSTER, OTHER), Message::released(ClusterId::new([8; 32]), EXCHANGE)]);
    for message in others {
        let outcome = receive(&body, Protocol::Cmp1, &cluster(&message).1, content);
        assert!(matches!(outcome, Err(Error::Garbage(Garbage::Lock(_)))), "{message}: {outcome:?}");
    }
}

#[test]
fn a_fresh_key_is_another_each_time_and_comes_back_from_its_bytes() {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let (first, second) = (SealingKey::generate(&mut rng), SealingKey::generate(&mut rng));
    assert_ne!(first.public(), second.public());
    let again = SealingKey::from_bytes(&first.to_bytes());
    assert_eq!(again.public(), first.public());
    assert_eq!(SealingPublicKey::from_bytes(first.public().to_bytes()).unwrap(), first.public());
}

#[test]
fn every_vector_is_taken_or_refused_by_name() {
    for vector in vectors::load("sealed/container.json") {
        let container = vector.bytes("container");
        let mut reader = &container[..];
        let Some(header) = vector.check(read_header(&mut reader)) else { continue };
        assert_eq!(header, vector.bytes("header"), "{}", vector.name);
        assert_eq!(reader, vector.bytes("body"), "{}", vector.name);
    }
    for vector in vectors::load("sealed/keys.json") {
        vector.check(SealingPublicKey::from_bytes(vector.array("key")));
    }
    for vector in vectors::load("sealed/mails.json") {
        if let Some(mail) = vector.check(open_vector(&vector)) {
            assert_eq!(mail, vector.bytes("mail"), "{}", vector.name);
        }
    }
}

fn open_vector(vector: &vectors::Vector) -> Result<Vec<u8>, Error> {
    let protocol = match vector.text("protocol") {
        "CMP1" => Protocol::Cmp1,
        "CMP2" => Protocol::Cmp2,
        other => panic!("no such protocol: {other}"),
    };
    let body = vector.bytes("body");
    let stanza = inspect(&body[..], protocol, ExchangeId::new(vector.array("exchange")))?;
    let lock = match protocol {
        Protocol::Cmp1 => stanza.lock_in_the_open()?,
        Protocol::Cmp2 => stanza.lock_for(&SealingKey::from_bytes(&vector.array("sealing_key")))?,
    };
    let token = Token::parse(&vector.bytes("token")).unwrap();
    let mut mail = Vec::new();
    open(&body[..], &lock, &token, Digest::new(vector.array("content")), &mut mail)?;
    Ok(mail)
}

proptest! {
    #[test]
    fn what_parses_as_a_header_is_its_one_encoding(
        place in any::<prop::sample::Index>(),
        what in prop_oneof![Just(Vec::new()), prop::collection::vec(any::<u8>(), 1..3), "[ \n=AB>-]{1,3}".prop_map(String::into_bytes)],
        instead_of in 0_usize..3,
        cmp2 in any::<bool>(),
    ) {
        let protocol = if cmp2 { Protocol::Cmp2 } else { Protocol::Cmp1 };
        let (_, bytes) = header_of(&body(protocol, b"").0);
        let place = place.index(bytes.len());
        let rest = bytes.get(place + instead_of..).unwrap_or_default();
        let changed = [&bytes[..place], &what, rest].concat();
        let parsed = header::read(&mut &changed[..]).and_then(|bytes| Ok((Header::parse(&bytes)?, bytes)));
        if let Ok((header, read)) = parsed {
            let again = header.to_bytes(&FileKey::new(Box::new([0; 16])));
            // All but the MAC, which is of another key.
            prop_assert_eq!(again.len(), read.len());
            prop_assert_eq!(&again[..again.len() - 44], &read[..read.len() - 44]);
        }
    }
}
