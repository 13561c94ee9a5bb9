use age::{DecryptError, Decryptor};
use age_core::format::{FileKey, Stanza};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::io::Read;

use super::*;
use crate::ids::{ClusterId, ExchangeId, Verdict};
use crate::threshold::{KeyShare, combine, deal};
use crate::vectors;

struct Known([u8; KEY]);

impl age::Identity for Known {
    fn unwrap_stanza(&self, _: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        Some(Ok(FileKey::new(Box::new(self.0))))
    }
}

/// A key that one share holds, its token for `message`, and the randomness that follows.
fn key_and_token(message: &Message) -> (PublicKey, Token, ChaCha20Rng) {
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    let (commitment, shares) = deal(1, 1, &mut rng).unwrap();
    let signatures: Vec<_> = shares.iter().map(|share: &KeyShare| (0, share.sign(message))).collect();
    (commitment.public_key(), combine(1, &signatures).unwrap(), rng)
}

fn released() -> Message {
    Message::released(ClusterId::new([1; 32]), ExchangeId::new([2; 32]))
}

#[test]
fn a_lock_made_by_tlock_opens() {
    for vector in vectors::load("lock/tlock.json") {
        let key = PublicKey::parse(&vector.bytes("public_key")).unwrap();
        let token = Token::parse(&vector.bytes("token")).unwrap();
        assert!(key.verifies(&vector.bytes("message"), &token), "{}: a beacon's signature", vector.name);

        let locked = Locked::parse(&vector.bytes("locked")).unwrap();
        if let Some(file_key) = vector.check(locked.unlock(&token)) {
            let (file, identity) = (vector.bytes("age_file"), Known(*file_key));
            let age = Decryptor::new(&file[..]).unwrap();
            let mut plaintext = Vec::new();
            age.decrypt(std::iter::once(&identity as &dyn age::Identity))
                .unwrap()
                .read_to_end(&mut plaintext)
                .unwrap();
            assert_eq!(plaintext, vector.bytes("plaintext"));
        }
    }
}

#[test]
fn the_vectors_lock_and_open_as_they_say() {
    for vector in vectors::load("lock/lock.json") {
        let token = Token::parse(&vector.bytes("token")).unwrap();
        let opened = Locked::parse(&vector.bytes("locked")).and_then(|locked| locked.unlock(&token));
        let Some(file_key) = vector.check(opened) else { continue };

        assert_eq!(file_key.to_vec(), vector.bytes("file_key"), "{}", vector.name);
        let key = PublicKey::parse(&vector.bytes("public_key")).unwrap();
        assert!(key.verifies(&vector.bytes("message"), &token), "{}", vector.name);
        let again = lock_with(&key, &vector.bytes("message"), &file_key, &vector.array("sigma")).unwrap();
        assert_eq!(again.to_bytes().to_vec(), vector.bytes("locked"), "{}", vector.name);
    }
}

#[test]
fn only_the_token_for_its_message_opens() {
    let message = released();
    let (key, token, mut rng) = key_and_token(&message);
    let locked = lock(&key, &message, &[3; KEY], &mut rng);
    assert_eq!(*locked.unlock(&token).unwrap(), [3; KEY]);

    let Message::Verdict { cluster, exchange, .. } = message else { unreachable!() };
    for other in [
        Message::Verdict { cluster, verdict: Verdict::Withdrawn, exchange },
        Message::released(cluster, ExchangeId::new([9; 32])),
        Message::released(ClusterId::new([9; 32]), exchange),
    ] {
        let (same_key, token, _) = key_and_token(&other);
        assert_eq!(same_key, key);
        assert!(matches!(locked.unlock(&token), Err(Error::WrongU { .. })), "{other}");
    }
}

#[test]
fn no_changed_byte_opens() {
    let message = released();
    let (key, token, mut rng) = key_and_token(&message);
    let bytes = lock(&key, &message, &[3; KEY], &mut rng).to_bytes();
    assert_eq!(Locked::parse(&bytes).unwrap().to_bytes(), bytes);
    for (place, bit) in (0..bytes.len()).flat_map(|place| [1, 0x80].map(|bit| (place, bit))) {
        let mut changed = bytes;
        changed[place] ^= bit;
        let opened = Locked::parse(&changed).and_then(|locked| locked.unlock(&token));
        assert!(opened.is_err(), "bit {bit:#x} of byte {place}");
    }
}

#[test]
fn two_locks_of_one_key_differ() {
    let message = released();
    let (key, _, mut rng) = key_and_token(&message);
    assert_ne!(lock(&key, &message, &[3; KEY], &mut rng), lock(&key, &message, &[3; KEY], &mut rng));
}
