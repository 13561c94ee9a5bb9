use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::ids::{Digest, KeyId};
use crate::vectors::{Vector, load};

static CHAINS: LazyLock<Vec<Vector>> = LazyLock::new(|| load("chain/chains.json"));
static ANCHORS: LazyLock<Vec<Vector>> = LazyLock::new(|| load("chain/anchors.json"));

const ALICE: &str = "alice@example.org";

fn byte_strings(vector: &Vector, field: &str) -> Vec<Vec<u8>> {
    let list = vector.value(field).as_array().unwrap();
    list.iter().map(|item| hex::decode(item.as_str().unwrap()).unwrap()).collect()
}

fn time(vector: &Vector, field: &str) -> Timestamp {
    Timestamp::from_millis(vector.value(field).as_u64().unwrap()).unwrap()
}

fn anchors(vector: &Vector) -> Vec<Anchor> {
    byte_strings(vector, "anchors").into_iter().map(|der| Anchor::parse(der).unwrap()).collect()
}

/// What [`Chain::parse`] and [`Chain::verify`] say of these certificates with everything else from `vector`.
fn judge(certificates: Vec<Vec<u8>>, vector: &Vector) -> Result<Chain, Error> {
    let chain = Chain::parse(certificates)?;
    chain.verify(&anchors(vector), vector.text("address"), time(vector, "at"))?;
    Ok(chain)
}

fn vector(name: &str) -> &'static Vector {
    CHAINS.iter().find(|vector| vector.name == name).unwrap()
}

#[test]
fn chains_convince_as_in_the_vectors() {
    for vector in CHAINS.iter() {
        let certificates = byte_strings(vector, "chain");
        let Some(chain) = vector.check(judge(certificates.clone(), vector)) else { continue };
        assert_eq!(chain.certificates(), certificates, "{}", vector.name);
        assert_eq!(chain.leaf_key().key_id(), KeyId::new(vector.array("key_id")), "{}", vector.name);
        assert_eq!(chain.not_before(), time(vector, "not_before"), "{}", vector.name);
        assert_eq!(chain.not_after(), time(vector, "not_after"), "{}", vector.name);
    }
}

#[test]
fn anchors_are_taken_as_in_the_vectors() {
    for vector in ANCHORS.iter() {
        let der = vector.bytes("certificate");
        let Some(anchor) = vector.check(Anchor::parse(der.clone())) else { continue };
        assert_eq!(anchor.der(), der, "{}", vector.name);
        assert_eq!(anchor.not_before(), time(vector, "not_before"), "{}", vector.name);
        assert_eq!(anchor.not_after(), time(vector, "not_after"), "{}", vector.name);
    }
}

#[test]
fn a_key_is_named_by_the_digest_of_its_spki() {
    // RFC 8410 §10.1.
    let spki = "302a300506032b657003210019bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";
    let spki = hex::decode(spki).unwrap();
    let key = Key::from_bytes(spki[12..].try_into().unwrap()).unwrap();
    assert_eq!(key.key_id().as_bytes(), Digest::of(&spki).as_bytes());
    assert_eq!(key_id(key.as_dalek()), key.key_id());
}

#[test]
fn every_second_encoding_of_a_key_is_refused() {
    // The coordinates below 2^255 - 19 that have a second encoding are those below 19.
    for low in 0..19u8 {
        let mut bytes = [0xff; 32];
        (bytes[0], bytes[31]) = (0xed + low, 0x7f);
        assert!(matches!(Key::from_bytes(&bytes), Err(Error::Key { .. } | Error::WeakKey { .. })), "{low}");
        bytes[31] = 0xff;
        assert!(matches!(Key::from_bytes(&bytes), Err(Error::Key { .. } | Error::WeakKey { .. })), "{low}");
    }
}

#[test]
fn no_changed_bit_convinces() {
    let vector = vector("one-between");
    let certificates = byte_strings(vector, "chain");
    let anchors = anchors(vector);
    for place in 0..certificates.len() {
        for bit in 0..certificates[place].len() * 8 {
            let mut changed = certificates.clone();
            changed[place][bit / 8] ^= 1 << (bit % 8);
            let outcome =
                Chain::parse(changed).and_then(|chain| chain.verify(&anchors, ALICE, time(vector, "at")));
            assert!(outcome.is_err(), "bit {bit} of certificate {place}");
        }
    }
}

#[test]
fn no_chain_convinces_before_or_after_all_its_times() {
    for vector in CHAINS.iter() {
        let (Ok(chain), anchors) = (Chain::parse(byte_strings(vector, "chain")), anchors(vector)) else {
            continue;
        };
        for at in [Timestamp::EPOCH, Timestamp::MAX] {
            assert!(chain.verify(&anchors, vector.text("address"), at).is_err(), "{} at {at}", vector.name);
        }
    }
}

/// How to change bytes.
#[derive(Clone, Debug)]
enum Change {
    Set(prop::sample::Index, u8),
    Remove(prop::sample::Index),
    Insert(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Copy(prop::sample::Index, prop::sample::Index, u8),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        match self {
            Self::Set(place, value) => bytes[place.index(length)] = *value,
            Self::Remove(place) => drop(bytes.remove(place.index(length))),
            Self::Insert(place, value) => bytes.insert(place.index(length), *value),
            Self::Cut(place) => bytes.truncate(place.index(length)),
            Self::Copy(from, to, count) => {
                let (from, to) = (from.index(length), to.index(length));
                let part = bytes[from..length.min(from + usize::from(*count))].to_vec();
                bytes.splice(to..to, part);
            }
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let place = any::<prop::sample::Index>;
    prop_oneof![
        8 => (place(), any::<u8>()).prop_map(|(place, value)| Change::Set(place, value)),
        2 => place().prop_map(Change::Remove),
        2 => (place(), any::<u8>()).prop_map(|(place, value)| Change::Insert(place, value)),
        1 => place().prop_map(Change::Cut),
        1 => (place(), place(), any::<u8>()).prop_map(|(from, to, count)| Change::Copy(from, to, count)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn mutated_certificates_never_panic(
        choice in any::<prop::sample::Index>(), place in any::<prop::sample::Index>(), changes in prop::collection::vec(change(), 1..6),
    ) {
        let vector = choice.get(&CHAINS);
        let certificates = byte_strings(vector, "chain");
        prop_assume!(!certificates.is_empty());
        let (mut changed, place) = (certificates.clone(), place.index(certificates.len()));
        for change in &changes {
            change.apply(&mut changed[place]);
        }
        let outcome = judge(changed.clone(), vector);
        let is_used = place == 0 || vector.name != "with-anchor";
        let convinced = judge(certificates.clone(), vector).is_ok();
        prop_assert!(outcome.is_err() || !convinced || !is_used || changed == certificates);
        // Errors are shown to people, so that must not fail either.
        let _ = outcome.map_err(|error| error.to_string());
        let _ = Anchor::parse(changed.swap_remove(place)).map_err(|error| error.to_string());
    }

    #[test]
    fn mutated_anchors_never_panic(
        choice in any::<prop::sample::Index>(), changes in prop::collection::vec(change(), 1..6),
    ) {
        let mut der = choice.get(&ANCHORS).bytes("certificate");
        for change in &changes {
            change.apply(&mut der);
        }
        if let Ok(anchor) = Anchor::parse(der) {
            let vector = vector("direct");
            let _ = Chain::parse(byte_strings(vector, "chain")).unwrap().verify(&[anchor], ALICE, time(vector, "at"));
        }
    }

    #[test]
    fn random_bytes_never_panic(certificates in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5000), 0..6)) {
        prop_assert!(Chain::parse(certificates.clone()).is_err());
        for der in certificates {
            prop_assert!(Anchor::parse(der).is_err());
        }
    }
}
