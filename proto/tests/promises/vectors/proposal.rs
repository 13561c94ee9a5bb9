//! What comes before a ceremony: node cards, proposals, and the operators' approvals.

use ed25519_dalek::SigningKey;
use fairpost_proto::approval::{Approval, ApprovedProposal};
use fairpost_proto::chain::key_id;
use fairpost_proto::cose::Signed;
use fairpost_proto::ids::{Digest, Verdict};
use fairpost_proto::node_card::{self, NodeCard};
use fairpost_proto::proposal::Proposal;
use fairpost_proto::view::Member;
use serde_json::json;

use super::envelope::Envelope;
use super::faults::{self, Fault, fault};
use super::{Made, bytes as field, same, show};
use crate::item::{Item, bytes, raw, text};
use crate::world::{signing_key, world};

/// The proposal of the cluster of four.
pub(crate) fn proposal() -> Proposal {
    Proposal::new("vectors", world().constitution().draft()).unwrap()
}

#[test]
fn proposals_are_read_as_in_the_vectors() {
    let mut made = Made::default();
    let four = proposal();
    let fields = |bytes: &[u8]| json!({ "proposal": hex::encode(bytes) });
    let with_digest = |proposal: &Proposal| json!({ "proposal": hex::encode(proposal.bytes()), "digest": proposal.digest().to_string() });
    made.valid("four", "Four members, of whom one may be compromised.", with_digest(&four));
    let mut draft = world().constitution().draft();
    draft.members.truncate(1);
    (draft.faults, draft.operators, draft.agreeing) = (0, vec![], 0);
    made.valid("one", "One member and no operators.", with_digest(&Proposal::new("one", draft).unwrap()));

    let item = Item::decode(four.bytes());
    made.faults("", faults::tagged(&item), fields);
    let commitment = item.changed(|item| {
        item.entries().insert(4, (Item::Uint(4), Item::Array(vec![bytes([0xc0; 48])])));
    });
    made.invalid("commitment", "A key before its time.", "key 5 expected", fields(&commitment.encode()));
    let unsorted = item.changed(|item| item.at(2).items().swap(0, 1));
    let error = "member \"server-1\": its name does not come after";
    made.invalid("members-unsorted", "Members out of order.", error, fields(&unsorted.encode()));
    let values = vec![
        ("name-empty", "No name.", 1, text(""), "the cluster's name"),
        ("members-none", "No members.", 2, Item::Array(vec![]), "a cluster has 1 to 64 servers, not 0"),
        ("faults-2", "Four can't stand two.", 3, Item::Uint(2), "4 servers can't stand 2 compromised ones"),
        ("operators-3", "Three of two must agree.", 6, Item::Uint(3), "3 of 2 operators can't agree"),
    ];
    made.faults("", faults::values(&item, values), fields);
    made.invalid(
        "genesis-as-proposal",
        "A genesis is no proposal.",
        "this is \"fairpost/genesis/v1\", expected",
        fields(world().genesis.bytes()),
    );
    made.keep("proposal.json", |vector| {
        let bytes = field(vector, "proposal");
        let proposal = Proposal::parse(&bytes).map_err(show)?;
        assert_eq!(Proposal::new(proposal.name(), proposal.draft().clone()).unwrap().bytes(), bytes);
        same(vector, "digest", proposal.digest())
    });
}

/// The proposal of the cluster of four with these operators, by the bytes of their seeds.
fn with_operators(operators: &[u8], agreeing: u64) -> Proposal {
    let mut draft = world().constitution().draft();
    draft.operators = operators.iter().map(|seed| signing_key(*seed).verifying_key()).collect();
    draft.agreeing = agreeing;
    Proposal::new("vectors", draft).unwrap()
}

/// The proposal, approved by these.
pub(crate) fn approved(proposal: Proposal, operators: &[u8]) -> ApprovedProposal {
    let mut approved = ApprovedProposal::new(proposal);
    operators.iter().for_each(|seed| approved.approve(&signing_key(*seed)).unwrap());
    approved
}

/// What `key` signs in the name of `signer`, of the proposal with this digest.
fn approval(proposal: Digest, signer: &SigningKey, key: &SigningKey) -> Vec<u8> {
    Signed::sign(Approval { proposal }, key_id(&signer.verifying_key()), key).bytes().to_vec()
}

/// The digest of what may be no proposal.
fn digest_of(proposal: &[u8]) -> Digest {
    Digest::of_parts(&[b"fairpost/proposal/v1", proposal])
}

/// The part of an error in front of the offset that it names: what is wrong with a map within another.
fn anywhere(mut fault: Fault) -> Fault {
    if let Some((before, _)) = fault.error.split_once(" at ") {
        fault.error = before.to_owned();
    }
    fault
}

#[test]
fn approved_proposals_begin_a_ceremony_as_in_the_vectors() {
    let mut made = Made::default();
    let fields = |bytes: &[u8]| json!({ "approved_proposal": hex::encode(bytes) });
    let read = |approved: &ApprovedProposal| {
        let approvers: Vec<_> = approved.approvers().map(|approver| approver.to_string()).collect();
        json!({
            "approved_proposal": hex::encode(approved.to_bytes()),
            "digest": approved.proposal().digest().to_string(),
            "approvers": approvers.join(" "),
        })
    };
    let three = || with_operators(&[0x41, 0x42, 0x44], 2);
    let four = approved(proposal(), &[0x41, 0x42]);
    made.valid("both", "Two of two operators.", read(&four));
    made.valid(
        "two-of-three",
        "Two of three, where two are enough.",
        read(&approved(three(), &[0x41, 0x44])),
    );
    made.valid("three-of-three", "One more than has to.", read(&approved(three(), &[0x41, 0x42, 0x44])));
    made.valid(
        "no-operators",
        "Where there are none, none has to agree.",
        read(&approved(with_operators(&[], 0), &[])),
    );
    let few = approved(proposal(), &[0x41]).to_bytes();
    let error = "1 of the proposal's operators approved it, and it takes 2";
    made.invalid("one-of-two", "Too few agreed.", error, fields(&few));
    let error = "0 of the proposal's operators approved it, and it takes 2";
    made.invalid("nobody", "Nobody agreed yet.", error, fields(&approved(proposal(), &[]).to_bytes()));

    let item = Item::decode(&four.to_bytes());
    made.faults("", faults::tagged(&item), fields);
    // The approvals stand by ascending key id.
    let mut keys = [0x41, 0x42].map(signing_key);
    keys.sort_by_key(|key| key_id(&key.verifying_key()));
    let (digest, [first, second]) = (four.proposal().digest(), &keys);
    let of = |key: &SigningKey| approval(digest, key, key);
    let list = |approvals: &[Vec<u8>]| Item::Array(approvals.iter().map(bytes).collect());
    let with = |approvals: &[Vec<u8>]| item.with(2, list(approvals)).encode();
    assert_eq!(with(&[of(first), of(second)]), four.to_bytes());
    let [auditor, member] = [signing_key(0x43), world().members[0].clone()];
    let other = Proposal::new("other", world().constitution().draft()).unwrap();
    let error = format!("the approval is for proposal {}", other.digest());
    let out_of_place = format!("the approval of {}", key_id(&first.verifying_key()));
    let none =
        |key: &SigningKey| format!("{} is none of the proposal's 2 operators", key_id(&key.verifying_key()));
    made.faults(
        "",
        vec![
            fault(
                "twice",
                "One operator twice.",
                &format!("{out_of_place} does not come after that of"),
                with(&[of(first), of(first)]),
            ),
            fault(
                "unsorted",
                "Both operators, in the wrong order.",
                &format!("{out_of_place} does not come after that of"),
                with(&[of(second), of(first)]),
            ),
            fault("auditor", "An auditor approves.", &none(&auditor), {
                let mut approvals =
                    [first, second, &auditor].map(|key| (key_id(&key.verifying_key()), of(key)));
                approvals.sort_by_key(|(id, _)| *id);
                with(&approvals.map(|(_, approval)| approval))
            }),
            fault("member", "A member approves in an operator's stead.", &none(&member), {
                let mut approvals = [first, &member].map(|key| (key_id(&key.verifying_key()), of(key)));
                approvals.sort_by_key(|(id, _)| *id);
                with(&approvals.map(|(_, approval)| approval))
            }),
            fault(
                "approval-of-other",
                "One of the approvals is for another proposal.",
                &error,
                with(&[of(first), approval(other.digest(), second, second)]),
            ),
            fault(
                "proposal-swapped",
                "The approvals of another proposal.",
                &format!("and this one is {}", other.digest()),
                item.with(1, bytes(other.bytes())).encode(),
            ),
            fault(
                "forged",
                "One operator signs for the other, too.",
                "is not by key",
                with(&[of(first), approval(digest, second, first)]),
            ),
            fault("65", "More approvals than a proposal has operators.", "the approvals has length 65", {
                with(&vec![of(first); 65])
            }),
            fault(
                "approvals-null",
                "Null for the approvals.",
                "an array expected",
                item.with(2, Item::Null).encode(),
            ),
            fault(
                "approval-null",
                "Null for an approval.",
                "a byte string expected",
                item.with(2, Item::Array(vec![Item::Null])).encode(),
            ),
            fault(
                "approval-bare",
                "Approvals as they are, not as bytes.",
                "a byte string expected",
                item.with(2, Item::Array(vec![raw(&of(first)), raw(&of(second))])).encode(),
            ),
            fault(
                "proposal-null",
                "Null for the proposal.",
                "a byte string expected",
                item.with(1, Item::Null).encode(),
            ),
        ],
        fields,
    );

    // What is no proposal stays none when it is approved.
    let inner = Item::decode(four.proposal().bytes());
    let approve = |fault: Fault| {
        let digest = digest_of(&fault.bytes);
        let approvals = keys.each_ref().map(|key| approval(digest, key, key));
        Fault { bytes: item.with(1, bytes(&fault.bytes)).with(2, list(&approvals)).encode(), ..fault }
    };
    let operators = faults::values(
        &inner,
        vec![("operators-3", "Three of two must agree.", 6, Item::Uint(3), "3 of 2 operators can't agree")],
    );
    let proposals = faults::tagged(&inner).into_iter().chain(operators).map(approve).collect();
    made.faults("proposal-", proposals, fields);

    let opened = Envelope::open(&of(second), second);
    let put = |faults: Vec<Fault>| -> Vec<Fault> {
        let put = |fault: Fault| Fault { bytes: with(&[of(first), fault.bytes]), ..fault };
        faults.into_iter().map(put).collect()
    };
    made.faults("approval-", put(opened.faults()), fields);
    made.faults("approval-payload-", put(opened.payload_faults()), fields);
    let mut values = faults::values(
        &opened.payload,
        vec![
            ("digest-short", "31 bytes.", 1, bytes([9; 31]), "the proposal's digest has length 31"),
            (
                "digest-plain",
                "SHA-256 of the proposal alone.",
                1,
                bytes(Digest::of(four.proposal().bytes()).as_bytes()),
                "the approval is for proposal",
            ),
        ],
    );
    opened.resign(&mut values);
    made.faults("approval-", put(values), fields);
    let vote = world().vote(0, &world().leaf(Verdict::Released), |_| {}).0;
    let error = "this is of type \"application/vnd.fairpost.vote+cose\"";
    made.invalid(
        "vote-as-approval",
        "A vote approves nothing.",
        error,
        fields(&with(&[vote.bytes().to_vec()])),
    );
    made.invalid(
        "bare-proposal",
        "A proposal, with nothing around it.",
        "this is \"fairpost/proposal/v1\", expected",
        fields(four.proposal().bytes()),
    );

    made.keep("approved_proposal.json", |vector| {
        let bytes = field(vector, "approved_proposal");
        let approved = ApprovedProposal::parse(&bytes).map_err(show)?;
        let proposal = approved.agreed().map_err(show)?;
        assert_eq!(approved.to_bytes(), bytes);
        same(vector, "digest", proposal.digest())?;
        let approvers: Vec<_> = approved.approvers().map(|approver| approver.to_string()).collect();
        same(vector, "approvers", approvers.join(" "))
    });
}

/// The card of the first member.
pub(crate) fn a_node_card() -> Vec<u8> {
    let member = proposal().members()[0].clone();
    node_card_by(member, &world().members[0])
}

/// A card for this member, signed by this key and in its name.
fn node_card_by(member: Member, key: &SigningKey) -> Vec<u8> {
    Signed::sign(NodeCard(member), key_id(&key.verifying_key()), key).bytes().to_vec()
}

#[test]
fn node_cards_are_believed_as_in_the_vectors() {
    let (world, mut made) = (world(), Made::default());
    let key = &world.members[0];
    let member = proposal().members()[0].clone();
    let fields = |bytes: &[u8]| json!({ "card": hex::encode(bytes) });
    let read = |member: &Member| {
        json!({
            "card": hex::encode(node_card_by(member.clone(), key)),
            "name": member.name,
            "address": member.address,
            "identity": hex::encode(member.identity.as_bytes()),
        })
    };
    made.valid("card", "A server's card.", read(&member));
    let longest = Member { name: "n".repeat(63), address: "a".repeat(255), ..member.clone() };
    made.valid("longest", "Name and address as long as may be.", read(&longest));

    let card = a_node_card();
    let opened = Envelope::open(&card, key);
    made.faults("", opened.faults(), fields);
    made.faults("payload-", opened.payload_faults(), fields);
    let inner = opened.payload.clone().at(1).clone();
    let mut members: Vec<Fault> = faults::encoding(&inner).into_iter().map(anywhere).collect();
    let weak = {
        let mut identity = [0; 32];
        identity[0] = 1;
        identity
    };
    members.extend(faults::values(
        &inner,
        vec![
            ("name-empty", "No name.", 0, text(""), "a member's name is \"\""),
            ("name-64", "A byte too many.", 0, text(&"n".repeat(64)), "a member's name has length 64"),
            ("name-control", "A name with a line feed.", 0, text("a\nb"), "a member's name is"),
            ("name-bytes", "Bytes for a name.", 0, bytes(b"server-1"), "a text string expected"),
            ("address-empty", "No address.", 1, text(""), "a member's address is \"\""),
            (
                "address-256",
                "A byte too many.",
                1,
                text(&"a".repeat(256)),
                "a member's address has length 256",
            ),
            ("address-control", "An address with an escape.", 1, text("\u{1b}[2J"), "a member's address is"),
            ("identity-short", "31 bytes.", 2, bytes([1; 31]), "an Ed25519 key has length 31"),
            (
                "identity-weak",
                "A key under which anything seems signed.",
                2,
                bytes(weak),
                "the identity of member \"server-1\"",
            ),
            (
                "identity-no-point",
                "No point of the curve.",
                2,
                bytes([2; 32]),
                "the identity of member \"server-1\"",
            ),
        ],
    ));
    for fault in &mut members {
        fault.bytes = opened.payload.with(1, raw(&fault.bytes)).encode();
    }
    opened.resign(&mut members);
    made.faults("member-", members, fields);

    let (other, id) = (&world.members[1], |key: &SigningKey| key_id(&key.verifying_key()));
    let error = format!("the card names key {}, and is signed by {}", id(key), id(other));
    made.invalid(
        "anothers-key",
        "A server brings another's key under its own signature.",
        &error,
        fields(&node_card_by(member.clone(), other)),
    );
    let claimed = Signed::sign(NodeCard(member), id(other), key);
    made.invalid(
        "anothers-kid",
        "The key that it names signed it, in another's name.",
        &error,
        fields(claimed.bytes()),
    );
    let vote = world.vote(0, &world.leaf(Verdict::Released), |_| {}).0;
    let error = "this is of type \"application/vnd.fairpost.vote+cose\"";
    made.invalid("vote-as-card", "A vote is no card.", error, fields(vote.bytes()));

    made.keep("node_card.json", |vector| {
        let bytes = field(vector, "card");
        let member = node_card::check(&bytes).map_err(show)?;
        let signed = Signed::<NodeCard>::parse(&bytes).unwrap();
        let again = Signed::sign(signed.payload().clone(), member.key_id(), key);
        assert_eq!(again.bytes(), bytes);
        same(vector, "name", &member.name)?;
        same(vector, "address", &member.address)?;
        same(vector, "identity", hex::encode(member.identity.as_bytes()))
    });
}
