//! Whether a genesis and the views after it hold together.

use fairpost_proto::ids::Digest;
use fairpost_proto::threshold::{self, Message};
use fairpost_proto::trust::{Error, Trust};
use fairpost_proto::view::View;

use crate::vectors::{sealed, second_view, successor, trust_file};
use crate::world::{foreign_deal, token_of, world};

fn extended(view: View) -> Result<(), Error> {
    let mut trust = world().trust.clone();
    let (view, token) = sealed(view);
    trust.extend(view, token)
}

#[test]
fn views_follow_one_another() {
    let (world, mut trust) = (world(), world().trust.clone());
    let second = second_view();
    let third = successor(&second, |_| {});
    for view in [&second, &third] {
        let (view, token) = sealed(view.clone());
        trust.extend(view, token).unwrap();
    }
    assert_eq!((trust.cluster(), trust.public_key()), (world.cluster(), world.genesis.public_key()));
    assert_eq!(trust.view().epoch(), 2);
    for (epoch, view) in [&world.genesis, &second, &third].into_iter().enumerate() {
        assert_eq!(trust.view_of(epoch as u32).unwrap().bytes(), view.bytes());
    }
    assert!(trust.view_of(3).is_none());
    let again = Trust::parse(&trust.to_bytes()).unwrap();
    assert_eq!(again.to_bytes(), trust.to_bytes());
    assert_eq!(again.view().bytes(), third.bytes());
}

#[test]
fn a_token_stands_under_its_own_view_only() {
    let world = world();
    let second = second_view();
    let wrong = |error: Error, epoch| {
        assert!(
            matches!(error, Error::Token { epoch: found, source: threshold::Error::WrongToken { .. } } if found == epoch),
            "{error}"
        );
    };
    let digest = second.digest();
    let (_, foreign) = foreign_deal();
    for token in [
        world.trust.clone().view().message(),
        Message::Genesis { digest },
        Message::View { cluster: world.cluster(), digest: Digest::of(b"other") },
        Message::View { cluster: fairpost_proto::ids::ClusterId::new([9; 32]), digest },
    ]
    .map(|message| token_of(&world.shares, &message))
    .into_iter()
    .chain([token_of(&foreign, &second.message())])
    {
        wrong(world.trust.clone().extend(second.clone(), token).unwrap_err(), 1);
    }
    for token in [token_of(&foreign, &world.genesis.message()), token_of(&world.shares, &second.message())] {
        wrong(Trust::new(world.genesis.clone(), token).unwrap_err(), 0);
    }
}

#[test]
fn no_epoch_is_left_out_or_repeated() {
    let second = second_view();
    let error = extended(successor(&second, |_| {})).unwrap_err();
    assert!(matches!(error, Error::Epoch { expected: 1, found: 2 }), "{error}");
    let mut trust = world().trust.clone();
    let (view, token) = sealed(second);
    trust.extend(view.clone(), token).unwrap();
    let error = trust.extend(view.clone(), token).unwrap_err();
    assert!(matches!(error, Error::Epoch { expected: 2, found: 1 }), "{error}");
    // What failed has changed nothing.
    assert_eq!(trust.view().epoch(), 1);
    // A later view is no genesis, although a token stands under it.
    let error = Trust::new(view, token).unwrap_err();
    assert!(matches!(error, Error::Epoch { expected: 0, found: 1 }), "{error}");
}

#[test]
fn a_view_names_the_one_before_it() {
    let second = second_view();
    let other = successor(&world().genesis, |body| body.auditors.clear());
    let mut trust = world().trust.clone();
    let (view, token) = sealed(second.clone());
    trust.extend(view, token).unwrap();
    let (view, token) = sealed(successor(&other, |_| {}));
    let error = trust.extend(view, token).unwrap_err();
    assert!(
        matches!(error, Error::Predecessor { epoch: 2, expected, found } if (expected, found) == (second.digest(), Some(other.digest()))),
        "{error}"
    );
}

#[test]
fn the_public_key_never_changes() {
    let world = world();
    let (commitment, shares) = foreign_deal();
    let rekeyed = successor(&world.genesis, |body| body.commitment = commitment.clone());
    let key = commitment.public_key();
    for token in [token_of(&shares, &rekeyed.message()), token_of(&world.shares, &rekeyed.message())] {
        let error = world.trust.clone().extend(rekeyed.clone(), token).unwrap_err();
        assert!(
            matches!(error, Error::PublicKey { epoch: 1, expected, found } if (expected, found) == (world.genesis.public_key(), key)),
            "{error}"
        );
    }
}

#[test]
fn a_view_of_another_cluster_does_not_follow() {
    // The same servers and the same key under another name: the token is bound to the cluster.
    let world = world();
    let elsewhere = View::genesis("elsewhere", world.constitution()).unwrap();
    let theirs = elsewhere.successor(world.constitution(), 9, Digest::of(b"log")).unwrap();
    let token = token_of(&world.shares, &theirs.message());
    let file = trust_file(&[(theirs.bytes().to_vec(), token.to_bytes().to_vec())]).encode();
    assert!(matches!(Trust::parse(&file), Err(Error::Predecessor { epoch: 1, .. })));
}

#[test]
fn an_oversized_file_is_not_read() {
    let found = fairpost_proto::trust::MAX_BYTES + 1;
    assert!(matches!(Trust::parse(&vec![0; found]), Err(Error::TooLarge { found: size }) if size == found));
}
