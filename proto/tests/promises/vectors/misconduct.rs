//! What convicts a server, and what convicts nobody.

use fairpost_proto::chain::key_id;
use fairpost_proto::cose::Signed;
use fairpost_proto::entry::Head;
use fairpost_proto::ids::{ClusterId, Digest, Verdict};
use fairpost_proto::leaf::{Leaf, Round};
use fairpost_proto::misconduct::{self, Act, Culprit, Misconduct, Signature, Voted};
use fairpost_proto::threshold::{Message, combine, deal};
use fairpost_proto::trust::Trust;
use fairpost_proto::view::View;
use fairpost_proto::vote::Vote;
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;
use serde_json::json;

use super::faults;
use super::{Made, bytes as field, foreign_trust, same, sealed, second_view, show, trust_file};
use crate::item::{Item, bytes};
use crate::world::{World, after, constitution, now, signing_key, world};

fn voted(world: &World, member: usize, leaf: Leaf, change: impl FnOnce(&mut Vote)) -> Voted {
    let (vote, proof) = world.vote(member, &leaf, change);
    Voted { leaf, vote, proof }
}

fn rooted(world: &World, member: usize, change: impl FnOnce(&mut Vote)) -> Signed<Vote> {
    world.vote(member, &world.leaf(Verdict::Released), change).0
}

fn head(world: &World, member: usize, change: impl FnOnce(&mut Head)) -> Signed<Head> {
    let (cluster, previous) = (world.cluster(), Digest::of(b"the head before"));
    let mut head =
        Head { cluster, epoch: 0, term: 2, sequence: 5, previous, time: now(), batch: Digest::of(b"a") };
    change(&mut head);
    let key = &world.members[member];
    Signed::sign(head, key_id(&key.verifying_key()), key)
}

fn said(world: &World, verdict: Verdict) -> Signature {
    let exchange = world.cmp2.id();
    Signature { exchange, verdict, token: world.token(verdict, exchange) }
}

fn leaves(first: Voted, second: Voted) -> Act {
    Act::Leaves(Box::new([first, second]))
}

fn roots(first: Signed<Vote>, second: Signed<Vote>) -> Act {
    Act::Roots(Box::new([first, second]))
}

fn entries(first: Signed<Head>, second: Signed<Head>) -> Act {
    Act::Entries(Box::new([first, second]))
}

/// Two votes of a member, for Released and for this verdict, as a file.
pub(crate) fn two_votes(verdict: Verdict) -> Vec<u8> {
    let world = world();
    let one = |verdict| voted(world, 1, world.leaf(verdict), |_| {});
    Misconduct::new(world.trust.clone(), leaves(one(Verdict::Released), one(verdict))).to_bytes()
}

/// Two tokens on one exchange, as a file.
pub(crate) fn two_tokens() -> Vec<u8> {
    let world = world();
    let act = Act::Tokens(Box::new([said(world, Verdict::Released), said(world, Verdict::Expired)]));
    Misconduct::new(world.trust.clone(), act).to_bytes()
}

#[test]
fn servers_are_convicted_as_in_the_vectors() {
    let (world, mut made) = (world(), Made::default());
    let misconduct = |act: Act| Misconduct::new(world.trust.clone(), act).to_bytes();
    let fields = |bytes: &[u8]| json!({ "misconduct": hex::encode(bytes) });
    let (released, withdrawn) = (world.leaf(Verdict::Released), world.leaf(Verdict::Withdrawn));
    let one = |leaf| voted(world, 1, leaf, |_| {});

    let server_2 = "server-2 (identity";
    let mut guilty = |name: &str, meaning: &str, culprit: &str, act: Act| {
        let fields = json!({ "misconduct": hex::encode(misconduct(act)), "culprit": culprit });
        made.valid(name, meaning, fields);
    };
    guilty(
        "two-verdicts",
        "A member voted for two verdicts.",
        server_2,
        leaves(one(released), one(withdrawn)),
    );
    let later = Leaf { time: after(3601), ..released };
    guilty("two-times", "And for two times of one verdict.", server_2, leaves(one(released), one(later)));
    let other = Leaf { evidence: Some(Digest::of(b"another receipt")), ..released };
    guilty("two-receipts", "And for two receipts at one time.", server_2, leaves(one(released), one(other)));
    let elsewhere = voted(world, 1, withdrawn, |vote| (vote.sequence, vote.log_size) = (6, 10));
    guilty("two-entries", "In two entries.", server_2, leaves(one(released), elsewhere));
    let other = |vote: &mut Vote| vote.log_root = Digest::of(b"another log");
    let act = roots(rooted(world, 1, |_| {}), rooted(world, 1, other));
    guilty("two-roots", "A member signed two roots for one size of the log.", server_2, act);
    let act = entries(head(world, 1, |_| {}), head(world, 1, |head| head.batch = Digest::of(b"b")));
    guilty("two-heads", "A leader stamped two entries for one place.", server_2, act);
    let act = Act::Tokens(Box::new([said(world, Verdict::Released), said(world, Verdict::Expired)]));
    guilty("two-tokens", "The cluster signed two verdicts.", "at least 2 members", act);

    let mut innocent = |name: &str, meaning: &str, error: &str, act: Act| {
        made.invalid(name, meaning, error, fields(&misconduct(act)));
    };
    let two = |leaf| voted(world, 2, leaf, |_| {});
    let act = leaves(one(released), two(withdrawn));
    innocent("two-members", "Two members may differ.", "misconduct: one statement is by", act);
    let next = Leaf { round: Round::new(2).unwrap(), ..withdrawn };
    let act = leaves(one(released), one(next));
    innocent("other-round", "Another round.", "round 1, the other about exchange", act);
    let act = leaves(one(released), one(Leaf { exchange: world.cmp1.id(), ..withdrawn }));
    innocent("other-exchange", "Another exchange.", "one statement is about exchange", act);
    let again = voted(world, 1, released, |vote| vote.number = 4);
    let act = leaves(one(released), again);
    innocent("same-leaf", "Twice for one leaf.", "both statements are for Released at", act);
    innocent(
        "same-vote",
        "One vote, twice.",
        "both statements are for Released at",
        leaves(one(released), one(released)),
    );
    let borrowed = Voted { leaf: withdrawn, ..one(released) };
    innocent(
        "foreign-proof",
        "The vote is for another leaf.",
        "the vote is not for this leaf",
        leaves(one(released), borrowed),
    );
    let act = roots(
        rooted(world, 1, |_| {}),
        rooted(world, 1, |vote| {
            (vote.log_size, vote.log_root) = (10, Digest::of(b"another log"));
        }),
    );
    innocent(
        "longer-log",
        "The log has grown.",
        "the evidence log of size 9, the other about the evidence log of size 10",
        act,
    );
    let act = roots(rooted(world, 1, |_| {}), rooted(world, 1, |vote| vote.number = 4));
    innocent("same-root", "The same root again.", "both statements are for root", act);
    let act = entries(head(world, 1, |_| {}), head(world, 1, |head| head.sequence = 6));
    innocent("next-entry", "The next entry.", "one statement is about entry", act);
    let act = entries(head(world, 1, |_| {}), head(world, 1, |head| head.term = 3));
    innocent("next-term", "The same place in another term.", "one statement is about entry 5 of term", act);
    let act = Act::Tokens(Box::new([said(world, Verdict::Released), said(world, Verdict::Released)]));
    innocent("same-token", "One token, twice.", "both statements are for Released", act);
    let exchange = world.cmp1.id();
    let other =
        Signature { exchange, verdict: Verdict::Expired, token: world.token(Verdict::Expired, exchange) };
    let act = Act::Tokens(Box::new([said(world, Verdict::Released), other]));
    innocent("other-exchanges-token", "Two exchanges.", "one statement is about exchange", act);
    let act = Act::Tokens(Box::new([
        said(world, Verdict::Released),
        Signature { verdict: Verdict::Expired, ..said(world, Verdict::Released) },
    ]));
    innocent(
        "token-relabelled",
        "A token of another verdict.",
        "misconduct: the token: the token is not a signature",
        act,
    );
    let act = roots(
        rooted(world, 1, |_| {}),
        rooted(world, 1, |vote| {
            (vote.cluster, vote.log_root) = (ClusterId::new([9; 32]), Digest::of(b"another log"));
        }),
    );
    innocent("other-cluster", "A vote in another cluster.", "it is about cluster 0909", act);
    let act = roots(
        rooted(world, 1, |_| {}),
        rooted(world, 1, |vote| {
            (vote.epoch, vote.log_root) = (1, Digest::of(b"another log"));
        }),
    );
    innocent(
        "unknown-epoch",
        "A vote of a view that is not here.",
        "a statement is of epoch 1, and the file knows views up to epoch 0",
        act,
    );
    let stranger = signing_key(0x77);
    let forged = |key: &ed25519_dalek::SigningKey, signer| {
        let vote = *rooted(world, 1, |vote| vote.log_root = Digest::of(b"another log")).payload();
        roots(rooted(world, 1, |_| {}), Signed::sign(vote, signer, key))
    };
    let act = forged(&stranger, key_id(&stranger.verifying_key()));
    innocent("stranger", "A vote by nobody.", "who is no member in epoch 0", act);
    let act = forged(&stranger, key_id(&world.members[1].verifying_key()));
    innocent(
        "forged",
        "A vote that the member did not sign.",
        "the signature on this application/vnd.fairpost.vote+cose is not by key",
        act,
    );

    let forgery = Signed::sign(
        *rooted(world, 1, |_| {}).payload(),
        key_id(&world.members[1].verifying_key()),
        &stranger,
    );
    let act = roots(forgery, rooted(world, 1, |vote| vote.log_root = Digest::of(b"another log")));
    innocent(
        "forged-other",
        "The member signed the other of the two alone.",
        "the signature on this application/vnd.fairpost.vote+cose is not by key",
        act,
    );

    // Where there is a second view, in which the first member has another key.
    let (view, token) = sealed(second_view());
    let trust = trust_file(&[(view.bytes().to_vec(), token.to_bytes().to_vec())]);
    let trust = Trust::parse(&trust.encode()).unwrap();
    let later = |act: Act| fields(&Misconduct::new(trust.clone(), act).to_bytes());
    let in_epoch_1 = |member| {
        let other = |vote: &mut Vote| (vote.epoch, vote.log_root) = (1, Digest::of(b"another log"));
        roots(rooted(world, member, |_| {}), rooted(world, member, other))
    };
    let mut convicting = later(in_epoch_1(1));
    convicting["culprit"] = server_2.into();
    made.valid("two-epochs", "Two roots for one size, signed in two epochs.", convicting);
    let error = "who is no member in epoch 1";
    made.invalid("old-key", "In the second epoch this key was no member's.", error, later(in_epoch_1(0)));
    let act = entries(
        head(world, 1, |_| {}),
        head(world, 1, |head| (head.epoch, head.batch) = (1, Digest::of(b"b"))),
    );
    let error = "one statement is about entry 5 of term 2 in epoch";
    made.invalid("other-epoch", "The same place in another epoch.", error, later(act));

    let foreign = Misconduct::new(foreign_trust(world), leaves(one(released), one(withdrawn))).to_bytes();
    made.invalid("foreign-trust", "The file is about another cluster.", "and you trust", fields(&foreign));
    let foreign = foreign_trust(world);
    let elsewhere = |root: &[u8]| {
        rooted(world, 1, |vote| (vote.cluster, vote.log_root) = (foreign.cluster(), Digest::of(root)))
    };
    let foreign =
        Misconduct::new(foreign.clone(), roots(elsewhere(b"log"), elsewhere(b"another log"))).to_bytes();
    made.invalid("foreign", "It would convict, in another cluster.", "and you trust", fields(&foreign));
    let good = misconduct(leaves(one(released), one(withdrawn)));
    let item = Item::decode(&good);
    made.faults("", faults::tagged(&item), fields);
    let swapped = item.changed(|to| {
        let (first, second) = (to.at(3).clone(), to.at(4).clone());
        (*to.at(3), *to.at(4)) = (second, first);
    });
    let values = vec![
        ("kind-0", "No such kind.", 2, Item::Uint(0), "the kind of misconduct is 0, expected 1 to 4"),
        ("kind-5", "No such kind.", 2, Item::Uint(5), "the kind of misconduct is 5"),
        (
            "kind-of-roots",
            "Leaves, said to be roots.",
            2,
            Item::Uint(2),
            "a tag expected at 0, found an array",
        ),
        ("first-empty", "No statement.", 3, bytes([]), "the bytes end at 0"),
        ("trust-empty", "No trust.", 1, bytes([]), "the bytes end at 0"),
    ];
    made.faults("", faults::values(&item, values), fields);
    let error = "the second statement does not come after the first";
    made.invalid("swapped", "The statements in the wrong order.", error, fields(&swapped.encode()));

    made.keep("misconduct.json", |vector| {
        let bytes = field(vector, "misconduct");
        let misconduct = Misconduct::parse(&bytes).map_err(show)?;
        assert!(Misconduct::is(&bytes));
        assert_eq!(misconduct.to_bytes(), bytes);
        let conviction = misconduct::verify(&misconduct, &world.trust).map_err(show)?;
        let culprit = conviction.culprit.to_string();
        let named = vector["culprit"].as_str().unwrap_or_default();
        same(vector, "culprit", if culprit.starts_with(named) { named } else { &culprit })
    });
}

#[test]
fn two_tokens_convict_as_many_as_two_quorums_share() {
    // Of five members four make a quorum, and two quorums share three.
    let world = world();
    let (commitment, shares) = deal(4, 5, &mut ChaCha20Rng::seed_from_u64(5)).unwrap();
    let members: Vec<_> = (0x51..0x56).map(signing_key).collect();
    let genesis = View::genesis("five", constitution(&members, &commitment, &world.ca)).unwrap();
    let token = |message: &Message| {
        let sign = |index: u16| (index, shares[usize::from(index)].sign(message));
        combine(4, &(0..4).map(sign).collect::<Vec<_>>()).unwrap()
    };
    let trust = Trust::new(genesis.clone(), token(&genesis.message())).unwrap();
    let (cluster, exchange) = (genesis.cluster(), world.cmp2.id());
    let said = |verdict| {
        let token = token(&Message::Verdict { cluster, verdict, exchange });
        Signature { exchange, verdict, token }
    };
    let act = Act::Tokens(Box::new([said(Verdict::Released), said(Verdict::Expired)]));
    let conviction = misconduct::verify(&Misconduct::new(trust.clone(), act), &trust).unwrap();
    assert_eq!(conviction.culprit, Culprit::Members { at_least: 3 });
}

#[test]
fn a_proof_of_misconduct_that_is_too_large_is_not_read() {
    let most = misconduct::MAX_BYTES;
    let error = Misconduct::parse(&vec![0xa5; most + 1]).unwrap_err();
    assert!(matches!(error, misconduct::Error::TooLarge { found } if found == most + 1), "{error}");
    assert!(matches!(Misconduct::parse(&vec![0xa5; most]), Err(misconduct::Error::Cbor(_))));
}
