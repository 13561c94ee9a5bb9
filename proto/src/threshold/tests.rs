use std::collections::BTreeSet;

use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use subtle::ConstantTimeEq;
use threshold_crypto::{PublicKeySet, SecretKeySet};

use super::*;
use crate::ids::{ClusterId, Digest, ExchangeId, Verdict};
use crate::vectors;

fn rng() -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(42)
}

fn message() -> Message {
    Message::released(ClusterId::new([1; 32]), ExchangeId::new([2; 32]))
}

fn signed(shares: &[KeyShare], members: &[u16], message: &Message) -> Vec<(u16, Share)> {
    members.iter().map(|index| (*index, shares[usize::from(*index)].sign(message))).collect()
}

#[test]
fn the_suite_is_the_one_of_the_package_beneath() {
    assert_eq!(SUITE, threshold_crypto::DST);
}

#[test]
fn signatures_published_by_drand_verify() {
    for vector in vectors::load("threshold/drand.json") {
        let key = PublicKey::parse(&vector.bytes("public_key")).unwrap();
        let token = Token::parse(&vector.bytes("token")).unwrap();
        let verified = key.verifies(&vector.bytes("message"), &token);
        vector.check(verified.then_some(()).ok_or("no signature"));
    }
}

#[test]
fn every_invalid_point_is_refused_by_name() {
    for vector in vectors::load("threshold/points.json") {
        let bytes = vector.bytes("bytes");
        let parsed = match vector.text("type") {
            "public key" => PublicKey::parse(&bytes).map(|point| point.to_bytes().to_vec()),
            "share key" => SharePublicKey::parse(&bytes).map(|point| point.to_bytes().to_vec()),
            "token" => Token::parse(&bytes).map(|point| point.to_bytes().to_vec()),
            "share" => Share::parse(&bytes).map(|point| point.to_bytes().to_vec()),
            "commitment" => Commitment::parse(&bytes, 3).map(|commitment| commitment.to_bytes()),
            other => panic!("no such type: {other}"),
        };
        if let Some(again) = vector.check(parsed) {
            assert_eq!(again, bytes, "{}", vector.name);
        }
    }
}

#[test]
fn the_vectors_messages_have_the_documented_bytes() {
    for vector in vectors::load("threshold/messages.json") {
        let cluster = || ClusterId::new(vector.array("cluster"));
        let digest = || Digest::new(vector.array("digest"));
        let message = match vector.text("kind") {
            "verdict" => Message::Verdict {
                cluster: cluster(),
                verdict: Verdict::from_code(vector.array::<1>("verdict")[0]).unwrap(),
                exchange: ExchangeId::new(vector.array("exchange")),
            },
            "genesis" => Message::Genesis { digest: digest() },
            "view" => Message::View { cluster: cluster(), digest: digest() },
            other => panic!("no such kind: {other}"),
        };
        vector.check(Ok::<_, Error>(()));
        assert_eq!(hex::encode(message.to_bytes()), vector.text("bytes"), "{}", vector.name);
    }
}

#[test]
fn the_vectors_shares_make_the_tokens_that_they_say() {
    for vector in vectors::load("threshold/tokens.json") {
        let commitment = Commitment::parse(&vector.bytes("commitment"), 3).unwrap();
        let message = Message::Verdict {
            cluster: ClusterId::new(vector.array("cluster")),
            verdict: Verdict::from_code(vector.array::<1>("verdict")[0]).unwrap(),
            exchange: ExchangeId::new(vector.array("exchange")),
        };
        let list = |field: &str| vector.value(field).as_array().unwrap().clone();
        let bytes = |value: &serde_json::Value| hex::decode(value.as_str().unwrap()).unwrap();
        let indices: Vec<u16> =
            list("indices").iter().map(|index| index.as_u64().unwrap().try_into().unwrap()).collect();
        let shares: Vec<Share> =
            list("shares").iter().map(|share| Share::parse(&bytes(share)).unwrap()).collect();
        let indexed: Vec<_> = indices.iter().copied().zip(shares.iter().copied()).collect();

        let made = combine(3, &indexed)
            .and_then(|token| commitment.public_key().verify(&message, &token).map(|()| token));
        let Some(token) = vector.check(made) else { continue };
        assert_eq!(token.to_string(), vector.text("token"), "{}", vector.name);
        for ((index, share), secret) in indexed.iter().zip(list("key_shares")) {
            let secret = KeyShare::from_bytes(&bytes(&secret).try_into().unwrap()).unwrap();
            assert_eq!(secret.public_share(), commitment.share_key(*index), "{}", vector.name);
            assert_eq!(secret.sign(&message), *share, "{}", vector.name);
        }
    }
}

#[test]
fn any_quorum_makes_the_same_token() {
    let (commitment, shares) = deal(3, 5, &mut rng()).unwrap();
    assert_eq!((commitment.threshold(), shares.len()), (3, 5));
    let tokens: BTreeSet<_> = [[0, 1, 2], [4, 2, 0], [1, 3, 4], [2, 1, 0]]
        .iter()
        .map(|members| combine(3, &signed(&shares, members, &message())).unwrap().to_bytes())
        .collect();
    assert_eq!(tokens.len(), 1);
    let token = combine(3, &signed(&shares, &[0, 1, 2, 3, 4], &message())).unwrap();
    assert!(tokens.contains(&token.to_bytes()));
    commitment.public_key().verify(&message(), &token).unwrap();

    let other = Message::View { cluster: ClusterId::new([1; 32]), digest: Digest::new([2; 32]) };
    assert_eq!(
        commitment.public_key().verify(&other, &token),
        Err(Error::WrongToken { message: other, key: commitment.public_key().to_string() })
    );
}

#[test]
fn one_share_short_of_a_quorum_makes_no_token() {
    let (commitment, shares) = deal(3, 4, &mut rng()).unwrap();
    let two = signed(&shares, &[0, 3], &message());
    assert_eq!(combine(3, &two), Err(Error::NotEnough { needed: 3, got: 2 }));
    let guess = combine(2, &two).unwrap();
    assert!(commitment.public_key().verify(&message(), &guess).is_err());
    assert_eq!(combine(0, &two), Err(Error::Threshold { q: 0, n: 2 }));
}

#[test]
fn a_repeated_index_is_refused_even_beyond_the_quorum() {
    let (_, shares) = deal(3, 4, &mut rng()).unwrap();
    for members in [&[1, 1, 2][..], &[0, 1, 2, 0], &[3, 3]] {
        let repeated =
            *members.iter().rfind(|index| members.iter().filter(|i| i == index).count() > 1).unwrap();
        assert_eq!(
            combine(3, &signed(&shares, members, &message())),
            Err(Error::DuplicateIndex { index: repeated })
        );
    }
}

#[test]
fn shares_that_cancel_out_make_no_token() {
    let (_, shares) = deal(1, 1, &mut rng()).unwrap();
    let share = shares[0].sign(&message());
    // At indices 0 and 1 the weights are 2 and -1: so share 1 = 2 * share 0 gives the identity.
    let double = Share((threshold_crypto::G2Projective::from(share.0) + share.0).into());
    assert_eq!(combine(2, &[(0, share), (1, double)]), Err(Error::Identity { what: "token" }));
}

#[test]
fn what_leaves_the_group_makes_no_token() {
    let (commitment, shares) = deal(2, 2, &mut rng()).unwrap();
    let mut signed = signed(&shares, &[0, 1], &message());
    let outside = vectors::load("threshold/points.json");
    let outside = outside.iter().find(|vector| vector.name == "share-off-subgroup").unwrap();
    let outside = Share::parse(&outside.bytes("bytes")).unwrap();
    assert!(commitment.share_key(1).verify(&message(), &outside).is_err());
    // A right share to which a point outside the group is added.
    let right = signed[1].1;
    signed[1].1 = Share((threshold_crypto::G2Projective::from(right.0) + outside.0).into());
    assert!(commitment.share_key(1).verify(&message(), &signed[1].1).is_err());
    let made = combine(2, &signed);
    assert!(matches!(made, Err(Error::OffSubgroup { what: "token", .. })), "{made:?}");
    signed[1].1 = right;
    combine(2, &signed).unwrap();
}

#[test]
fn a_share_verifies_under_its_own_index_only() {
    let (commitment, shares) = deal(2, 4, &mut rng()).unwrap();
    for (index, share) in (0_u16..).zip(&shares) {
        let signature = share.sign(&message());
        assert_eq!(commitment.share_key(index), share.public_share());
        for other in 0..4 {
            let key = commitment.share_key(other);
            assert_eq!(key.verify(&message(), &signature).is_ok(), other == index);
        }
    }
    assert!(bool::from(shares[0].ct_eq(&KeyShare::from_bytes(&shares[0].to_bytes()).unwrap())));
    assert!(!bool::from(shares[0].ct_eq(&shares[1])));
}

#[test]
fn indices_are_shifted_as_in_the_package_beneath() {
    let set = SecretKeySet::random(2, &mut rng());
    let public: PublicKeySet = set.public_keys();
    let commitment = Commitment::parse(&public.to_bytes(), 3).unwrap();
    assert_eq!(commitment.public_key().to_bytes(), public.public_key().to_bytes());
    for index in [0, 1, 5, u16::MAX] {
        let theirs = public.public_key_share(u64::from(index));
        assert_eq!(commitment.share_key(index).to_bytes(), theirs.to_bytes());
        let share = KeyShare::from_bytes(&set.secret_key_share(u64::from(index)).to_bytes()).unwrap();
        let signature = set.secret_key_share(u64::from(index)).sign(message().to_bytes());
        assert_eq!(share.sign(&message()).0.to_compressed(), signature.to_bytes());
    }
}

#[test]
fn a_key_share_is_a_number_below_the_groups_order() {
    // The order r of the group, from the BLS12-381 specification.
    let order: [u8; 32] = hex::decode("73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001")
        .unwrap()
        .try_into()
        .unwrap();
    let mut last = order;
    last[31] = 0;
    assert_eq!(*KeyShare::from_bytes(&last).unwrap().to_bytes(), last);
    for bytes in [[0; 32], order, [0xff; 32]] {
        assert_eq!(KeyShare::from_bytes(&bytes).err(), Some(Error::Scalar));
    }
}

#[test]
fn a_dealer_takes_no_impossible_threshold() {
    for (q, n) in [(0, 1), (0, 0), (3, 2), (1, 65_536)] {
        assert_eq!(deal(q, n, &mut rng()).err(), Some(Error::Threshold { q, n }));
    }
    assert_eq!(deal(1, 1, &mut rng()).unwrap().1.len(), 1);
}

#[test]
fn a_commitment_to_another_threshold_is_refused() {
    let bytes = deal(3, 4, &mut rng()).unwrap().0.to_bytes();
    assert_eq!(
        Commitment::parse(&bytes, 2),
        Err(Error::Length { what: "commitment", expected: 96, found: 144 })
    );
    assert!(Commitment::parse(&bytes, usize::MAX).is_err());
    assert_eq!(Commitment::parse(&[], 0), Err(Error::Threshold { q: 0, n: 0 }));
}

fn messages() -> impl Strategy<Value = Message> {
    // Few values for each field, so that messages differ in one place only, or in none.
    let bytes = || prop_oneof![Just([0_u8; 32]), Just([1; 32]), Just([0xff; 32]), any::<[u8; 32]>()];
    prop_oneof![
        (bytes(), 1_u8..=4, bytes()).prop_map(|(cluster, verdict, exchange)| Message::Verdict {
            cluster: ClusterId::new(cluster),
            verdict: Verdict::from_code(verdict).unwrap(),
            exchange: ExchangeId::new(exchange),
        }),
        bytes().prop_map(|digest| Message::Genesis { digest: Digest::new(digest) }),
        (bytes(), bytes()).prop_map(|(cluster, digest)| Message::View {
            cluster: ClusterId::new(cluster),
            digest: Digest::new(digest)
        }),
    ]
}

#[test]
fn messages_that_resemble_each_other_are_prefix_free() {
    // The digest of a view can be made to look like the rest of a verdict's message: its code, then an exchange.
    let fields = [[0; 32], [1; 32], [2; 32]];
    let mut messages: Vec<Message> =
        fields.iter().map(|digest| Message::Genesis { digest: Digest::new(*digest) }).collect();
    for (cluster, other) in fields.iter().flat_map(|a| fields.iter().map(move |b| (ClusterId::new(*a), *b))) {
        messages.push(Message::View { cluster, digest: Digest::new(other) });
        for verdict in Verdict::ALL {
            messages.push(Message::Verdict { cluster, verdict, exchange: ExchangeId::new(other) });
        }
    }
    for a in &messages {
        let prefixed = messages.iter().filter(|b| b.to_bytes().starts_with(&a.to_bytes()));
        assert!(prefixed.eq([a]), "{a}");
    }
}

proptest! {
    #[test]
    fn distinct_messages_have_prefix_free_bytes(a in messages(), b in messages()) {
        let (left, right) = (a.to_bytes(), b.to_bytes());
        prop_assert_eq!(a == b, left == right);
        prop_assert!(a == b || !(left.starts_with(&right) || right.starts_with(&left)));
    }

    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), q in 0_usize..5) {
        let _ = (Commitment::parse(&bytes, q), PublicKey::parse(&bytes), Token::parse(&bytes));
        let _ = Share::parse(&bytes);
    }
}
