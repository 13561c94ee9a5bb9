//! Bytes that nobody honest made: each decoder is a target in [`targets`], and no change of a bit goes unseen.

mod targets;

use std::sync::LazyLock;

use fairpost_proto::approval::{Approval, ApprovedProposal};
use fairpost_proto::binding::Binding;
use fairpost_proto::card::Card;
use fairpost_proto::ceremony::Transcript;
use fairpost_proto::cose::{self, Payload, Signed};
use fairpost_proto::entry::{self, Command, Demand, Entry, Head};
use fairpost_proto::evidence::{self, Nro, Nrr, Refusal, Withdrawal};
use fairpost_proto::grant::Grant;
use fairpost_proto::ids::{Digest, Verdict};
use fairpost_proto::leaf::Leaf;
use fairpost_proto::misconduct::{self, Misconduct};
use fairpost_proto::node_card::{self, NodeCard};
use fairpost_proto::proof::Proof;
use fairpost_proto::request::Request;
use fairpost_proto::round::{Acknowledgement, Statement};
use fairpost_proto::suspicion::Suspicion;
use fairpost_proto::terms::{Address, Terms};
use fairpost_proto::trust::Trust;
use fairpost_proto::verify::verify;
use fairpost_proto::view::View;
use fairpost_proto::vote::{Certificate, Vote};
use fairpost_proto::{armor, card, chain, letter};

use crate::vectors::{
    a_node_card, a_transcript, acknowledgement, approved, opening, proposal, request, sealed, second_view,
    statement, two_votes,
};
use crate::world::{Person, now, signing_key, world};

/// Gives `bytes` to every parser. Tells how many took them.
fn parse_all(bytes: &[u8]) -> usize {
    fn signed<P: Payload>(bytes: &[u8]) -> bool {
        Signed::<P>::parse(bytes).is_ok()
    }
    let text = String::from_utf8_lossy(bytes);
    [
        signed::<Nro>(bytes),
        signed::<Nrr>(bytes),
        signed::<Withdrawal>(bytes),
        signed::<Refusal>(bytes),
        signed::<Request>(bytes),
        signed::<Card>(bytes),
        signed::<Vote>(bytes),
        signed::<Head>(bytes),
        signed::<Statement>(bytes),
        signed::<Acknowledgement>(bytes),
        signed::<Binding>(bytes),
        signed::<Grant>(bytes),
        signed::<NodeCard>(bytes),
        signed::<Approval>(bytes),
        signed::<Suspicion>(bytes),
        Terms::parse(bytes).is_ok(),
        Leaf::parse(bytes).is_ok(),
        Certificate::parse(bytes).is_ok(),
        View::parse_genesis(bytes).is_ok(),
        View::parse_view(bytes, world().cluster()).is_ok(),
        Trust::parse(bytes).is_ok(),
        ApprovedProposal::parse(bytes).is_ok(),
        Transcript::parse(bytes).is_ok(),
        Proof::parse(bytes).is_ok(),
        Misconduct::parse(bytes).is_ok(),
        Entry::parse(bytes).is_ok(),
        Command::parse(bytes).is_ok(),
        letter::parse_header(bytes).is_ok(),
        card::check(bytes, world().genesis.anchors(), now()).is_ok(),
        Address::parse(&text).is_ok(),
        armor::decode(armor::TRUST, &text).is_ok(),
    ]
    .into_iter()
    .filter(|taken| *taken)
    .count()
}

fn an_entry() -> Vec<u8> {
    let world = world();
    let nro = world.nro(|_| {});
    let demand =
        |verdict| Demand { verdict, nro: nro.bytes().to_vec(), evidence: world.answer(verdict, &nro) };
    let mut commands: Vec<Command> = Verdict::ALL.map(demand).map(Command::Party).to_vec();
    commands.push(Command::Round(opening(world, &nro)));
    let batch = entry::write_batch(&commands);
    let head = Head {
        cluster: world.cluster(),
        epoch: 0,
        term: 2,
        sequence: 5,
        previous: Digest::of(b"the head before"),
        time: now(),
        batch: Digest::of(&batch),
    };
    let key = &world.members[0];
    entry::write(&Signed::sign(head, chain::key_id(&key.verifying_key()), key), &batch)
}

fn a_grant() -> Vec<u8> {
    let (world, key) = (world(), &world().members[0]);
    let candidate = chain::key_id(&world.members[1].verifying_key());
    let grant = Grant { cluster: world.cluster(), epoch: 0, term: 7, candidate };
    Signed::sign(grant, chain::key_id(&key.verifying_key()), key).bytes().to_vec()
}

fn an_approval() -> Vec<u8> {
    let key = signing_key(0x41);
    let approval = Approval { proposal: proposal().digest() };
    Signed::sign(approval, chain::key_id(&key.verifying_key()), &key).bytes().to_vec()
}

fn an_approved_proposal() -> Vec<u8> {
    approved(proposal(), &[0x41, 0x42]).to_bytes()
}

fn a_suspicion() -> Vec<u8> {
    let (world, key) = (world(), &world().members[0]);
    let suspect = chain::key_id(&world.members[1].verifying_key());
    let suspicion = Suspicion { cluster: world.cluster(), epoch: 0, term: 7, suspect };
    Signed::sign(suspicion, chain::key_id(&key.verifying_key()), key).bytes().to_vec()
}

fn a_trust_file() -> Vec<u8> {
    let mut trust = world().trust.clone();
    let (view, token) = sealed(second_view());
    trust.extend(view, token).unwrap();
    trust.to_bytes()
}

/// One valid piece of each format.
fn pieces() -> &'static [Vec<u8>] {
    static PIECES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(make_pieces);
    &PIECES
}

fn make_pieces() -> Vec<Vec<u8>> {
    let world = world();
    let nro = world.nro(|_| {});
    let receipt = world.answer(Verdict::Released, &nro).unwrap();
    vec![
        nro.payload().terms.bytes().to_vec(),
        nro.bytes().to_vec(),
        receipt.clone(),
        world.recipient.sign(request(world, &nro, Some(&receipt))).bytes().to_vec(),
        world.leaf(Verdict::Expired).to_bytes(),
        world.certificate(world.leaf(Verdict::Released), &[0, 1, 2]).to_bytes(),
        world.genesis.bytes().to_vec(),
        second_view().bytes().to_vec(),
        a_trust_file(),
        an_entry(),
        statement(world, 0, |_| {}).bytes().to_vec(),
        acknowledgement(world, 0).bytes().to_vec(),
        letter::write_header(&nro),
        world.proof(&world.cmp2, Verdict::Released).to_bytes(),
        two_votes(Verdict::Withdrawn),
        a_grant(),
        a_node_card(),
        an_approval(),
        an_approved_proposal(),
        a_transcript().to_bytes(),
        a_suspicion(),
    ]
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

/// Every `step`-th bit, so that over a few steps each place of a byte comes.
fn bits(bytes: &[u8], step: usize) -> impl Iterator<Item = usize> {
    (0..bytes.len() * 8).step_by(step)
}

#[test]
fn each_piece_is_taken_by_one_parser() {
    for (place, piece) in pieces().iter().enumerate() {
        assert_eq!(parse_all(piece), 1, "piece {place}");
    }
}

#[test]
fn no_flipped_bit_of_evidence_counts() {
    let world = world();
    let nro = world.nro(|_| {});
    // The view remembers what holds: a flipped bit must be found all the same.
    evidence::check_nro(&world.genesis, nro.bytes(), now()).unwrap();
    for bit in bits(nro.bytes(), 1) {
        let bytes = flipped(nro.bytes(), bit);
        assert!(evidence::check_nro(&world.genesis, &bytes, now()).is_err(), "bit {bit} of the NRO");
    }
    for verdict in [Verdict::Released, Verdict::Withdrawn, Verdict::Refused] {
        let answer = world.answer(verdict, &nro).unwrap();
        evidence::check(&world.genesis, verdict, nro.bytes(), Some(&answer), now()).unwrap();
        for bit in bits(&answer, 3) {
            let bytes = flipped(&answer, bit);
            let outcome = evidence::check(&world.genesis, verdict, nro.bytes(), Some(&bytes), now());
            assert!(outcome.is_err(), "bit {bit} of the evidence for {verdict}");
        }
    }
}

#[test]
fn no_flipped_bit_of_a_trust_file_is_believed() {
    let (world, trust) = (world(), a_trust_file());
    for bit in bits(&trust, 11) {
        if let Ok(trust) = Trust::parse(&flipped(&trust, bit)) {
            panic!("bit {bit}: cluster {}, which was {}", trust.cluster(), world.cluster());
        }
    }
}

#[test]
fn no_flipped_bit_of_a_proof_convinces() {
    let world = world();
    for verdict in [Verdict::Released, Verdict::Expired] {
        let proof = Proof { disclosure: None, ..world.proof(&world.cmp2, verdict) }.to_bytes();
        for bit in bits(&proof, 43) {
            // The claim is nobody's statement, and in the unprotected header an inclusion proof is checked, not signed.
            let outcome = Proof::parse(&flipped(&proof, bit)).map(|proof| verify(&proof, &world.trust));
            assert!(!matches!(outcome, Ok(Ok(_))), "bit {bit} of the proof for {verdict}");
        }
    }
}

#[test]
fn no_honest_member_can_be_convicted() {
    // Whatever is changed in what convicts the guilty, nobody else is convicted, and not of anything else.
    let (world, act) = (world(), two_votes(Verdict::Withdrawn));
    let convicted = misconduct::verify(&Misconduct::parse(&act).unwrap(), &world.trust).unwrap();
    for bit in bits(&act, 37) {
        let outcome = Misconduct::parse(&flipped(&act, bit));
        if let Ok(Ok(other)) = outcome.map(|act| misconduct::verify(&act, &world.trust)) {
            assert_eq!(other, convicted, "bit {bit}");
        }
    }
}

#[test]
fn no_flipped_bit_of_an_entry_is_its_leaders() {
    let (world, entry) = (world(), an_entry());
    let leader = world.members[0].verifying_key();
    let taken = |bytes: &[u8]| Entry::parse(bytes).is_ok_and(|entry| entry.head.verify(&leader).is_ok());
    assert!(taken(&entry));
    for bit in bits(&entry, 3) {
        // The key id in the head is signed as well, so it can't be changed either.
        assert!(!taken(&flipped(&entry, bit)), "bit {bit}");
    }
}

#[test]
fn no_flipped_bit_makes_another_cluster() {
    // Of a card, an approved proposal, or a transcript: all that is in them is signed.
    let card = a_node_card();
    node_card::check(&card).unwrap();
    for bit in bits(&card, 1) {
        assert!(node_card::check(&flipped(&card, bit)).is_err(), "bit {bit} of the card");
    }
    let approved = an_approved_proposal();
    let agreed =
        |bytes: &[u8]| ApprovedProposal::parse(bytes).is_ok_and(|approved| approved.agreed().is_ok());
    assert!(agreed(&approved));
    for bit in bits(&approved, 3) {
        assert!(!agreed(&flipped(&approved, bit)), "bit {bit} of the approved proposal");
    }
    let transcript = a_transcript().to_bytes();
    let finished = |bytes: &[u8]| Transcript::parse(bytes).is_ok_and(|transcript| transcript.check().is_ok());
    assert!(finished(&transcript));
    for bit in bits(&transcript, 37) {
        assert!(!finished(&flipped(&transcript, bit)), "bit {bit} of the transcript");
    }
}

#[test]
fn an_object_that_is_too_large_is_not_read() {
    let (most, found) = (cose::MAX_BYTES, cose::MAX_BYTES + 1);
    let large = |size: usize| Signed::<Nro>::parse(&vec![0xd2; size]).unwrap_err();
    assert!(
        matches!(large(found), cose::Error::TooLarge { most: at_most, found: size } if (at_most, size) == (most, found))
    );
    // A statement has a whole certificate in it.
    let bound = <Statement as Payload>::MAX_BYTES;
    let stated = |size: usize| Signed::<Statement>::parse(&vec![0xd2; size]).unwrap_err();
    assert!(matches!(stated(bound + 1), cose::Error::TooLarge { most, .. } if most == bound));
    assert!(matches!(stated(bound), cose::Error::Cbor(_)));
    assert!(matches!(large(most), cose::Error::Cbor(_)));
    let found = entry::MAX_BYTES + 1;
    assert!(
        matches!(Entry::parse(&vec![0; found]), Err(entry::Error::TooLarge { found: size }) if size == found)
    );
    let found = fairpost_proto::view::MAX_BYTES + 1;
    let outcome = View::parse_genesis(&vec![0; found]);
    assert!(matches!(outcome, Err(fairpost_proto::view::Error::TooLarge { found: size }) if size == found));
}

#[test]
fn nobody_signs_in_the_name_of_anothers_certificate() {
    let world = world();
    let payload = world.nro(|_| {}).payload().clone();
    let (Person { chain, .. }, key) = (&world.sender, &world.impostor.key);
    let error = Signed::sign_as(payload, chain.clone(), key).unwrap_err();
    let expected = (world.sender.key_id(), world.impostor.key_id());
    assert!(
        matches!(error, cose::Error::ForeignCertificate { certified, held } if (certified, held) == expected)
    );
}

#[test]
fn a_key_under_which_everything_seems_signed_verifies_nothing() {
    // Under the identity as a key, R = B and s = 1 satisfy RFC 8032's equation for any message at all.
    let world = world();
    let mut identity = [0; 32];
    identity[0] = 1;
    let weak = ed25519_dalek::VerifyingKey::from_bytes(&identity).unwrap();
    let mut signature = [0x66; 64];
    (signature[0], signature[32]) = (0x58, 1);
    signature[33..].fill(0);
    let bare = ed25519_dalek::Signature::from_bytes(&signature);
    assert!(ed25519_dalek::Verifier::verify(&weak, b"anything", &bare).is_ok());

    let mut vote = world.vote(0, &world.leaf(Verdict::Released), |_| {}).0.bytes().to_vec();
    let start = vote.len() - signature.len();
    vote[start..].copy_from_slice(&signature);
    let outcome = Signed::<Vote>::parse(&vote).unwrap().verify(&weak);
    assert!(matches!(outcome, Err(cose::Error::Signature { .. })));
}
