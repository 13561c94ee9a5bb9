//! Whether votes are a quorum's for one leaf.

use fairpost_proto::chain::key_id;
use fairpost_proto::cose::{self, Signed};
use fairpost_proto::ids::{ClusterId, Digest, Verdict};
use fairpost_proto::leaf::{Leaf, Round};
use fairpost_proto::merkle;
use fairpost_proto::vote::{Certificate, Error, Vote};

use crate::vectors::second_view;
use crate::world::{after, signing_key, world};

fn leaf() -> Leaf {
    world().leaf(Verdict::Released)
}

/// Members 0 and 1 vote as they should, and member 2 does not.
fn with_third(change: impl FnOnce(&mut Vote)) -> Result<(), Error> {
    let (world, leaf) = (world(), leaf());
    let votes =
        vec![world.vote(0, &leaf, |_| {}), world.vote(1, &leaf, |_| {}), world.vote(2, &leaf, change)];
    Certificate::new(leaf, votes).check(&world.genesis)
}

#[test]
fn any_quorum_convinces_and_nothing_less() {
    let world = world();
    for members in [&[0, 1, 2][..], &[0, 1, 3], &[0, 2, 3], &[3, 2, 1], &[0, 1, 2, 3]] {
        assert!(world.certificate(leaf(), members).check(&world.genesis).is_ok(), "{members:?}");
    }
    for members in [&[][..], &[0], &[2, 3]] {
        let error = world.certificate(leaf(), members).check(&world.genesis).unwrap_err();
        assert!(matches!(error, Error::TooFew { needed: 3, found } if found == members.len()), "{error}");
    }
}

#[test]
fn a_member_counts_once_however_often_it_votes() {
    let (world, leaf) = (world(), leaf());
    let twice = world.certificate(leaf, &[0, 1, 1]);
    assert!(
        matches!(twice.check(&world.genesis), Err(Error::Order { before, found, .. }) if before == found)
    );
    assert!(matches!(Certificate::parse(&twice.to_bytes()), Err(Error::Order { .. })));
    // Two different votes of one member are no better.
    let votes = vec![
        world.vote(0, &leaf, |_| {}),
        world.vote(1, &leaf, |_| {}),
        world.vote(1, &leaf, |vote| vote.number = 4),
    ];
    let twice = Certificate::new(leaf, votes);
    assert!(matches!(twice.check(&world.genesis), Err(Error::Order { .. })));
}

#[test]
fn a_stranger_does_not_count() {
    let (world, leaf) = (world(), leaf());
    let stranger = signing_key(0x3f);
    let id = key_id(&stranger.verifying_key());
    let (vote, proof) = world.vote(2, &leaf, |_| {});
    let by = Signed::sign(*vote.payload(), id, &stranger);
    let mut votes = vec![world.vote(0, &leaf, |_| {}), world.vote(1, &leaf, |_| {})];
    votes.push((by, proof.clone()));
    let error = Certificate::new(leaf, votes).check(&world.genesis).unwrap_err();
    assert!(matches!(error, Error::NoMember { found, epoch: 0, .. } if found == id), "{error}");

    // Nor does one who takes a member's name.
    let in_name = *vote.signer();
    let by = Signed::sign(*vote.payload(), in_name, &stranger);
    let mut votes = vec![world.vote(0, &leaf, |_| {}), world.vote(1, &leaf, |_| {})];
    votes.push((by, proof));
    let error = Certificate::new(leaf, votes).check(&world.genesis).unwrap_err();
    assert!(
        matches!(&error, Error::Vote { source: cose::Error::Signature { key, .. }, .. } if *key == in_name),
        "{error}"
    );
}

#[test]
fn a_vote_counts_in_its_cluster_and_its_epoch_only() {
    let other = ClusterId::new([9; 32]);
    let error = with_third(|vote| vote.cluster = other).unwrap_err();
    assert!(
        matches!(error, Error::Cluster { expected, found, .. } if (expected, found) == (world().cluster(), other)),
        "{error}"
    );
    let error = with_third(|vote| vote.epoch = 1).unwrap_err();
    assert!(matches!(error, Error::Epoch { expected: 0, found: 1, .. }), "{error}");

    // Votes of the first view are none in the second, although three of its members are the same.
    let certificate = world().certificate(leaf(), &[1, 2, 3]);
    let error = certificate.check(&second_view()).unwrap_err();
    assert!(matches!(error, Error::Epoch { expected: 1, found: 0, .. }), "{error}");
}

#[test]
fn a_member_that_left_does_not_count_in_the_next_view() {
    let (world, leaf) = (world(), leaf());
    let votes = (0..3).map(|place| world.vote(place, &leaf, |vote| vote.epoch = 1)).collect();
    let error = Certificate::new(leaf, votes).check(&second_view()).unwrap_err();
    let left = key_id(&world.members[0].verifying_key());
    assert!(matches!(error, Error::NoMember { found, epoch: 1, .. } if found == left), "{error}");
}

#[test]
fn a_ballot_without_the_leaf_is_no_vote_for_it() {
    let (world, leaf) = (world(), leaf());
    let error = with_third(|vote| vote.ballot = Digest::of(b"another ballot")).unwrap_err();
    assert!(matches!(error, Error::Ballot { source: merkle::Error::Root { .. }, .. }), "{error}");
    for other in [
        Leaf { verdict: Verdict::Withdrawn, ..leaf },
        Leaf { round: Round::new(2).unwrap(), ..leaf },
        Leaf { time: after(1), ..leaf },
        Leaf { exchange: world.cmp1.id(), ..leaf },
        Leaf { nro: Digest::of(b"other"), ..leaf },
        Leaf { evidence: Some(Digest::of(b"other")), ..leaf },
    ] {
        let votes = (0..3).map(|place| world.vote(place, &leaf, |_| {})).collect();
        let error = Certificate::new(other, votes).check(&world.genesis).unwrap_err();
        assert!(matches!(error, Error::Ballot { place: 0, .. }), "{error}");
    }
}

#[test]
fn a_leaf_in_the_log_alone_is_an_abstention() {
    let leaf = leaf();
    // The member signs the log's root, over the very tree that its proof is for, and an empty ballot.
    let error = with_third(|vote| {
        vote.log_root = vote.ballot;
        vote.ballot = merkle::empty_root();
    })
    .unwrap_err();
    assert!(matches!(error, Error::Ballot { .. }), "{error}");
    let (vote, proof) = world().vote(2, &leaf, |vote| vote.log_root = vote.ballot);
    assert!(proof.verify(&leaf.hash(), &vote.payload().log_root).is_ok(), "the proof itself would hold");
}

#[test]
fn nothing_in_a_vote_can_be_changed_after_it_was_signed() {
    let (world, leaf) = (world(), leaf());
    for change in [
        |vote: &mut Vote| vote.sequence += 1,
        |vote: &mut Vote| vote.log_size += 1,
        |vote: &mut Vote| vote.log_root = Digest::of(b"other"),
        |vote: &mut Vote| vote.number += 1,
    ] {
        let plain = world.certificate(leaf, &[0, 1, 2]).to_bytes();
        let (signed, _) = world.vote(2, &leaf, |_| {});
        let (other, _) = world.vote(2, &leaf, change);
        // The payload of the one under the signature of the other.
        let (from, to) = (tail(signed.bytes()), tail(other.bytes()));
        assert_eq!(from.0.len(), to.0.len());
        let mixed = replace(&plain, from.0, to.0);
        let certificate = Certificate::parse(&mixed).unwrap();
        let error = certificate.check(&world.genesis).unwrap_err();
        assert!(matches!(error, Error::Vote { source: cose::Error::Signature { .. }, .. }), "{error}");
    }
}

/// Payload and signature of a signed object: what comes before the last 66 bytes, and those.
fn tail(signed: &[u8]) -> (&[u8], &[u8]) {
    let start = signed.windows(16).position(|window| window == b"fairpost/vote/v1").unwrap();
    let (whole, signature) = signed.split_at(signed.len() - 66);
    (&whole[start..], signature)
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut replaced = 0;
    // All members vote with one payload here, so this is done to all of them.
    while let Some(at) = bytes.windows(from.len()).position(|window| window == from) {
        bytes[at..at + to.len()].copy_from_slice(to);
        replaced += 1;
    }
    assert_eq!(replaced, 3);
    bytes
}
