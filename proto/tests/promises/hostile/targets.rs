//! Every decoder of the formats, as a target of [`fairpost_hostile`]. What the targets have to keep is said there.

use fairpost_hostile::{Target, run};
use fairpost_proto::approval::{Approval, ApprovedProposal};
use fairpost_proto::binding::Binding;
use fairpost_proto::card::{self, Card};
use fairpost_proto::ceremony::{self, Action, Ceremony, Kept, Kind, Message, Transcript};
use fairpost_proto::chain::{Anchor, Chain, key_id};
use fairpost_proto::cose::{self, Payload, Signed, Signer};
use fairpost_proto::entry::{self, Command, Demand, Entry, Head};
use fairpost_proto::evidence::{self, Answer, Nro, Nrr, Refusal, Withdrawal};
use fairpost_proto::grant::Grant;
use fairpost_proto::ids::{Digest, KeyId, Protocol, Timestamp, Verdict};
use fairpost_proto::leaf::Leaf;
use fairpost_proto::lock::{self, Locked};
use fairpost_proto::merkle::{self, ConsistencyProof, Frontier, InclusionProof};
use fairpost_proto::misconduct::{self, Misconduct};
use fairpost_proto::node_card::{self, NodeCard};
use fairpost_proto::proof::Proof;
use fairpost_proto::proposal::Proposal;
use fairpost_proto::request::Request;
use fairpost_proto::round::{Acknowledgement, Statement};
use fairpost_proto::sealed::{self, SealingPublicKey};
use fairpost_proto::suspicion::Suspicion;
use fairpost_proto::terms::{Address, Terms};
use fairpost_proto::threshold::{self, Commitment, KeyShare, PublicKey, Share, SharePublicKey, Token};
use fairpost_proto::trust::Trust;
use fairpost_proto::view::View;
use fairpost_proto::vote::{Certificate, Vote};
use fairpost_proto::{armor, letter};

use super::{a_grant, a_suspicion, a_trust_file, an_entry};
use crate::vectors::{
    self, acknowledgement, opening, request, second_view, statement, two_tokens, two_votes,
};
use crate::world::{judge, now, signing_key, world};

/// How an error of a signed object names the place: the object, or the part of it.
const SIGNED: &[&str] = &[
    " has length ",
    "the signed object has",
    "of type",
    "this is \"",
    "signature algorithm",
    "the signature",
    "the unprotected header",
    "the map has",
    "the CBOR tag",
    "kid",
    "x5chain",
    "the chain has",
    "certificate ",
    "Ed25519 key",
    "the key is for",
    "the signer's certificate",
    "the tag has",
    "the cluster id",
    "the exchange id",
    "the epoch",
    "digest",
    "root",
    "created",
    "expires",
    "the address",
    "address",
    "the nonce",
    "the protocol",
    "the terms",
    "the sender",
    "the recipient",
    "the content",
    "the time",
    "time",
    "the method",
    "the round",
    "the certificate",
    "vote ",
    "the votes",
    "the leaf",
    "the verdict",
    "the NRO",
    "the evidence",
    "the inclusion p",
    "a node",
    "certificate: ",
    "the sealing key",
    "the candidate",
    "X25519 key",
];

/// How errors of the files and records name it.
const FILES: &[&str] = &[
    " has length ",
    "operator ",
    "operators can't agree",
    "servers",
    "lifetime",
    "auditor ",
    "the leaf",
    "the round",
    "the verdict",
    "the NRO",
    "the evidence",
    "the batch",
    "the command",
    "the statements",
    "the entry",
    "entry head",
    "vote ",
    "the votes",
    "the inclusion p",
    "a node",
    "the map has",
    "the tag has",
    "this is \"",
    "the exchange id",
    "time",
    "digest",
    "view: ",
    "the view",
    "epoch ",
    "member \"",
    "trust anchor",
    "the trust file",
    "the token",
    "a token",
    "no token",
    "the proof",
    "misconduct: ",
    "the disclosed lock",
];

fn parsed<P: Payload>(bytes: &[u8]) -> Result<Signed<P>, cose::Error> {
    Signed::parse(bytes)
}

/// An object is written anew from what was read of it; only the signature, which comes last, is taken over.
fn rewritten<P: Payload + Clone>(bytes: &[u8]) -> Result<Vec<u8>, cose::Error>
where
    P::Signer: Signer,
{
    let signed = parsed::<P>(bytes)?;
    let again = Signed::sign(signed.payload().clone(), signed.signer().clone(), &signing_key(9));
    let end = again.bytes().len().saturating_sub(64);
    let signature = bytes.get(bytes.len().saturating_sub(64)..).unwrap_or_default();
    Ok([&again.bytes()[..end], signature].concat())
}

fn signed<P: Payload + Clone + 'static>(name: &'static str, seed: &[u8]) -> Target {
    Target::one_encoding(name, rewritten::<P>).seed(seed).places(SIGNED)
}

/// An object that a server signs.
fn by_server<P: Payload<Signer = KeyId>>(payload: P) -> Vec<u8> {
    let key = &world().members[0];
    Signed::sign(payload, key_id(&key.verifying_key()), key).bytes().to_vec()
}

#[test]
fn what_people_and_servers_sign() {
    let world = world();
    let nro = world.nro(|_| {});
    let receipt = world.answer(Verdict::Released, &nro).unwrap();
    let answer = Answer::to(&nro);
    let card = Card {
        address: world.recipient.address.clone(),
        sealing_key: world.recipient.sealing.public(),
        created: now(),
    };
    let binding = Binding { tls_key: KeyId::new([7; 32]), created: now() };
    run(vec![
        Target::one_encoding("terms", |bytes| {
            Terms::parse(bytes).and_then(|terms| Ok(Terms::new((*terms).clone())?.bytes().to_vec()))
        })
        .seed(nro.payload().terms.bytes())
        .places(SIGNED),
        signed::<Nro>("nro", nro.bytes()),
        signed::<Nrr>("nrr", &receipt),
        signed::<Withdrawal>("withdrawal", world.sender.sign(Withdrawal(answer)).bytes()),
        signed::<Refusal>("refusal", world.recipient.sign(Refusal(answer)).bytes()),
        signed::<Request>("request", world.recipient.sign(request(world, &nro, Some(&receipt))).bytes()),
        signed::<Card>("card", world.recipient.sign(card).bytes()),
        signed::<Binding>("tls-binding", &by_server(binding)),
        signed::<Grant>("grant", &a_grant()),
        signed::<Suspicion>("suspicion", &a_suspicion()),
        signed::<Vote>("vote", world.vote(0, &world.leaf(Verdict::Released), |_| {}).0.bytes()),
        signed::<Statement>("statement", statement(world, 0, |_| {}).bytes()).seed(
            statement(world, 0, |statement| (statement.certificate, statement.receipt) = (None, None))
                .bytes(),
        ),
        signed::<Acknowledgement>("acknowledgement", acknowledgement(world, 0).bytes()),
        signed::<Head>("entry-head", Entry::parse(&an_entry()).unwrap().head.bytes()),
    ]);
}

/// How errors of a key ceremony name the place, beside those of [`SIGNED`] and [`FILES`].
const CEREMONY: &[&str] = &[
    " has length ",
    "the signed object has",
    "of type",
    "this is \"",
    "signature algorithm",
    "the signature",
    "the unprotected header",
    "the map has",
    "the CBOR tag",
    "the tag has",
    "kid",
    "typ",
    "the proposal",
    "proposal",
    "the attempt",
    "attempt ",
    "the participants",
    "a participant",
    "X25519 key",
    "dealing",
    "the rows",
    "row",
    "the complaints",
    "a complaint",
    "share",
    "what is kept",
    "digest",
];

/// The first message of this kind.
fn said(kind: Kind) -> Vec<u8> {
    let log = vectors::ceremony();
    log.into_iter().find(|message| Message::parse(message).unwrap().kind() == kind).unwrap()
}

#[test]
fn what_is_said_and_kept_in_a_key_ceremony() {
    let log = vectors::ceremony();
    let mut begun = Ceremony::new(vectors::proposal());
    begun.apply(&Message::parse(&log[0]).unwrap()).unwrap();
    let mut joined = begun.clone();
    log[1..5].iter().for_each(|join| joined.apply(&Message::parse(join).unwrap()).unwrap());
    let mut rng = <rand_chacha::ChaCha20Rng as rand::SeedableRng>::seed_from_u64(1);
    let Some(Action::Keep(kept)) =
        begun.next(&world().members[0], None, &mut rng).unwrap().into_iter().next()
    else {
        panic!("nothing to keep");
    };
    // Points and coefficients are larger in memory than on the wire.
    let target = |target: Target| target.places(CEREMONY).memory(24, 512 << 10);
    run(vec![
        target(signed::<ceremony::Begin>("ceremony-begin", &said(Kind::Begin))),
        target(signed::<ceremony::Join>("ceremony-join", &said(Kind::Join))),
        target(signed::<ceremony::Dealing>("ceremony-dealing", &said(Kind::Dealing))),
        target(signed::<ceremony::Report>("ceremony-report", &said(Kind::Report))),
        target(signed::<ceremony::Opening>("ceremony-opening", &said(Kind::Opening))),
        target(signed::<ceremony::Qualified>("ceremony-set", &said(Kind::Qualified))),
        target(signed::<ceremony::Proof>("ceremony-proof", &said(Kind::Proof))),
        target(Target::one_encoding("ceremony-message", |bytes| {
            Message::parse(bytes).map(|message| message.bytes().to_vec())
        }))
        .seed(said(Kind::Join))
        .seed(said(Kind::Proof)),
        target(Target::new("ceremony-apply", move |bytes| {
            let message = Message::parse(bytes).map_err(|error| error.to_string())?;
            joined.clone().apply(&message).map_err(|error| error.to_string())
        }))
        .seed(said(Kind::Dealing)),
        target(Target::one_encoding("ceremony-kept", |bytes| {
            Kept::parse(bytes).map(|kept| kept.to_bytes().to_vec())
        }))
        .seed(kept.to_bytes().to_vec()),
        Target::one_encoding("proposal", |bytes| {
            let proposal = Proposal::parse(bytes).map_err(|error| error.to_string())?;
            let again = Proposal::new(proposal.name(), proposal.draft().clone());
            again.map(|again| again.bytes().to_vec()).map_err(|error| error.to_string())
        })
        .seed(vectors::proposal().bytes())
        .places(&["proposal: "])
        .memory(24, 512 << 10),
    ]);
}

#[test]
fn what_comes_before_and_after_a_key_ceremony() {
    let approval = by_server(Approval { proposal: vectors::proposal().digest() });
    let approved = vectors::approved(vectors::proposal(), &[0x41, 0x42]).to_bytes();
    let transcript = vectors::a_transcript().to_bytes();
    let card = |target: Target| target.places(SIGNED).places(&["node card", "the card", "member"]);
    let heavy = |target: Target| target.places(CEREMONY).memory(24, 512 << 10);
    let files: &[&str] = &["approv", "transcript"];
    run(vec![
        card(signed::<NodeCard>("node-card", &vectors::a_node_card())),
        card(Target::new("check-node-card", node_card::check)).seed(vectors::a_node_card()),
        signed::<Approval>("approval", &approval).places(&["the proposal"]),
        heavy(Target::one_encoding("approved-proposal", |bytes| {
            ApprovedProposal::parse(bytes).map(|approved| approved.to_bytes())
        }))
        .seed(approved)
        .places(files),
        heavy(Target::one_encoding("transcript", |bytes| {
            Transcript::parse(bytes).map(|transcript| transcript.to_bytes())
        }))
        .seed(transcript.clone())
        .places(files),
        heavy(Target::new("check-transcript", |bytes| Transcript::parse(bytes)?.check()))
            .seed(transcript)
            .places(files),
    ]);
}

#[test]
fn what_the_cluster_keeps_and_hands_out() {
    let world = world();
    let nro = world.nro(|_| {});
    let evidence = world.answer(Verdict::Refused, &nro);
    let command = Command::Party(Demand { verdict: Verdict::Refused, nro: nro.bytes().to_vec(), evidence });
    let records = |target: Target| target.places(FILES);
    run(vec![
        records(Target::one_encoding("leaf", |bytes| Leaf::parse(bytes).map(|leaf| leaf.to_bytes())))
            .seed(world.leaf(Verdict::Expired).to_bytes())
            .seed(world.leaf(Verdict::Released).to_bytes()),
        records(Target::one_encoding("command", |bytes| Command::parse(bytes).map(|read| read.to_bytes())))
            .seed(command.to_bytes())
            .seed(Command::Round(opening(world, &nro)).to_bytes()),
        records(Target::one_encoding("entry", |bytes| {
            Entry::parse(bytes).map(|entry| entry::write(&entry.head, &entry::write_batch(&entry.commands)))
        }))
        .seed(an_entry()),
        records(Target::one_encoding("certificate", |bytes| {
            Certificate::parse(bytes).map(|certificate| certificate.to_bytes())
        }))
        .seed(world.certificate(world.leaf(Verdict::Released), &[0, 1, 2]).to_bytes()),
        Target::one_encoding("letter", |bytes| {
            letter::parse_header(bytes).map(|nro| letter::write_header(&nro))
        })
        .places(SIGNED)
        .seed(letter::write_header(&nro)),
    ]);
}

#[test]
fn what_says_whom_to_trust() {
    let world = world();
    let cluster = world.cluster();
    // A commitment is some large points for each of its bytes; a view has their share keys too.
    let heavy = |target: Target| target.places(FILES).memory(24, 512 << 10);
    run(vec![
        heavy(Target::new("genesis", View::parse_genesis)).seed(world.genesis.bytes()),
        heavy(Target::new("view", move |bytes| View::parse_view(bytes, cluster))).seed(second_view().bytes()),
        heavy(Target::one_encoding("trust", |bytes| Trust::parse(bytes).map(|trust| trust.to_bytes())))
            .seed(a_trust_file()),
        heavy(Target::one_encoding("proof", |bytes| Proof::parse(bytes).map(|proof| proof.to_bytes())))
            .seed(world.proof(&world.cmp2, Verdict::Released).to_bytes())
            .seed(world.proof(&world.cmp1, Verdict::Expired).to_bytes()),
        heavy(Target::one_encoding("misconduct", |bytes| {
            Misconduct::parse(bytes).map(|misconduct| misconduct.to_bytes())
        }))
        .seed(two_votes(Verdict::Withdrawn))
        .seed(two_tokens()),
        heavy(Target::new("convict", move |bytes| {
            misconduct::verify(&Misconduct::parse(bytes)?, &world.trust)
        }))
        .seed(two_votes(Verdict::Refused)),
        Target::new("armoured-trust", |bytes| armor::decode(armor::TRUST, &String::from_utf8_lossy(bytes)))
            .seed(armor::encode(armor::TRUST, world.genesis.bytes()))
            .places(&["block", "the file has"]),
        Target::new("armoured-card", |bytes| armor::decode(armor::CARD, &String::from_utf8_lossy(bytes)))
            .seed(format!("Hello,\r\n{}\r\n-- \r\nBob", armor::encode(armor::CARD, b"card")))
            .places(&["block", "the file has"]),
    ]);
}

#[test]
fn what_a_judge_and_a_server_check() {
    let world = world();
    let nro = world.nro(|_| {});
    let receipt = world.answer(Verdict::Released, &nro).unwrap();
    let card = Card {
        address: world.recipient.address.clone(),
        sealing_key: world.recipient.sealing.public(),
        created: now(),
    };
    let part = world.cmp2.container.clone();
    let proof = world.proof(&world.cmp2, Verdict::Released).to_bytes();
    let container = |bytes: &[u8]| {
        judge(&world.proof(&world.cmp2, Verdict::Released).to_bytes(), &world.trust, Some(bytes))
    };
    let steps: &[&str] = &[
        "trust: ",
        "NRO: ",
        "evidence: ",
        "certificate: ",
        "token: ",
        "opening: ",
        "proof: ",
        "the proof has",
    ];
    run(vec![
        Target::new("check-nro", move |bytes| evidence::check_nro(&world.genesis, bytes, now()))
            .seed(nro.bytes())
            .places(&["NRO", "the terms", "the exchange would", "the sender's certificate"]),
        Target::new("check-receipt", move |bytes| {
            evidence::check(&world.genesis, Verdict::Released, nro.bytes(), Some(bytes), now())
        })
        .seed(receipt)
        .places(&["receipt", "NRR"]),
        Target::new("check-card", move |bytes| card::check(bytes, world.genesis.anchors(), now()))
            .seed(world.recipient.sign(card).bytes())
            .places(&["card"]),
        Target::new("judge", move |bytes| judge(bytes, &world.trust, None))
            .seed(proof)
            .places(steps)
            .memory(24, 512 << 10),
        Target::new("judge-mail", container).seed(part).places(steps).memory(8, 1 << 20),
    ]);
}

#[test]
fn what_a_sealed_mail_is_made_of() {
    let world = world();
    let body = |container: &[u8]| {
        let mut rest = container;
        sealed::read_header(&mut rest).unwrap();
        rest.to_vec()
    };
    let places: &[&str] = &[
        "a sealed mail begins",
        "the container",
        "the body",
        "the age header",
        "the stanza",
        "an exchange id",
        "the digest of a lock",
        "the mail is sealed for",
        "the lock",
        "sealed mail is garbage",
    ];
    let inspected = |name, exchange: &crate::world::Exchange, protocol| {
        let id = exchange.nro.payload().terms.exchange();
        Target::new(name, move |bytes| sealed::inspect(bytes, protocol, id))
            .seed(body(&exchange.container))
            .places(places)
    };
    let opened = |name, exchange: &'static crate::world::Exchange, protocol| {
        let terms = &exchange.nro.payload().terms;
        let stanza = sealed::inspect(&body(&exchange.container)[..], protocol, terms.exchange()).unwrap();
        let lock = stanza.lock_for(&world.recipient.sealing).unwrap();
        let token = world.token(Verdict::Released, terms.exchange());
        let content = terms.content;
        Target::new(name, move |bytes| sealed::open(bytes, &lock, &token, content, std::io::sink()))
            .seed(body(&exchange.container))
            .places(places)
            .memory(8, 1 << 20)
    };
    run(vec![
        Target::one_encoding("container", |bytes| {
            let mut rest = bytes;
            let header = sealed::read_header(&mut rest)?;
            let mut again = Vec::new();
            sealed::write_header(&header, &mut again)?;
            Ok::<_, sealed::Error>([&again, rest].concat())
        })
        .seed(world.cmp1.container.clone())
        .places(places),
        inspected("age-header-cmp1", &world.cmp1, Protocol::Cmp1),
        inspected("age-header-cmp2", &world.cmp2, Protocol::Cmp2),
        opened("body-cmp1", &world.cmp1, Protocol::Cmp1),
        opened("body-cmp2", &world.cmp2, Protocol::Cmp2),
    ]);
}

#[test]
fn what_is_a_point_a_key_or_a_certificate() {
    let world = world();
    let token = world.token(Verdict::Released, world.leaf(Verdict::Released).exchange);
    let message = threshold::Message::released(world.cluster(), world.leaf(Verdict::Released).exchange);
    let share = world.shares[0].sign(&message);
    let lock = world.cmp2.disclosure.clone().unwrap();
    let small = |target: Target| {
        target.places(&[
            "public key",
            "share key",
            "share",
            "token",
            "commitment",
            "lock",
            "X25519 key",
            "a key share",
        ])
    };
    let certificates: &[&str] = &[
        "certificate ",
        "the chain has",
        "Ed25519 key",
        "the key is for",
        "trust anchor",
        "the signer's certificate",
    ];
    let chain = world.sender.chain.certificates()[0].clone();
    run(vec![
        small(Target::one_encoding("public-key", |bytes| {
            PublicKey::parse(bytes).map(|key| key.to_bytes().to_vec())
        }))
        .seed(world.genesis.public_key().to_bytes()),
        small(Target::one_encoding("share-key", |bytes| {
            SharePublicKey::parse(bytes).map(|key| key.to_bytes().to_vec())
        }))
        .seed(world.genesis.share_keys()[0].to_bytes()),
        small(Target::one_encoding("token", |bytes| {
            Token::parse(bytes).map(|token| token.to_bytes().to_vec())
        }))
        .seed(token.to_bytes()),
        small(Target::one_encoding("share", |bytes| {
            Share::parse(bytes).map(|share| share.to_bytes().to_vec())
        }))
        .seed(share.to_bytes()),
        small(Target::one_encoding("commitment", |bytes| {
            Commitment::parse(bytes, 3).map(|commitment| commitment.to_bytes())
        }))
        .seed(world.commitment.to_bytes()),
        small(Target::one_encoding("key-share", |bytes| {
            let bytes = bytes.try_into().map_err(|_| "a key share has 32 bytes".to_owned())?;
            KeyShare::from_bytes(bytes)
                .map(|share| share.to_bytes().to_vec())
                .map_err(|error| error.to_string())
        }))
        .seed(world.shares[0].to_bytes().to_vec()),
        small(Target::one_encoding("lock", |bytes| {
            Locked::parse(bytes).map(|lock| lock.to_bytes().to_vec())
        }))
        .seed(lock.to_bytes()),
        small(Target::new("unlock", move |bytes| {
            Locked::parse(bytes)?.unlock(&token)?;
            Ok::<_, lock::Error>(())
        }))
        .seed(lock.to_bytes()),
        small(Target::one_encoding("sealing-key", |bytes| {
            let bytes = bytes.try_into().map_err(|_| "an X25519 key has 32 bytes".to_owned())?;
            let key = SealingPublicKey::from_bytes(bytes).map_err(|error| error.to_string())?;
            Ok::<_, String>(key.to_bytes().to_vec())
        }))
        .seed(world.recipient.sealing.public().to_bytes()),
        Target::one_encoding("x509-chain", |bytes| {
            Chain::parse(vec![bytes.to_vec()]).map(|chain| chain.certificates().concat())
        })
        .seed(chain)
        .places(certificates)
        // A certificate is read twice, and its names and extensions become many small values.
        .memory(24, 512 << 10),
        Target::one_encoding("x509-anchor", |bytes| {
            Anchor::parse(bytes.to_vec()).map(|anchor| anchor.der().to_vec())
        })
        .seed(world.genesis.anchors()[0].der())
        .places(certificates)
        .memory(24, 512 << 10),
        Target::new("address", |bytes| Address::parse(&String::from_utf8_lossy(bytes)))
            .seed(world.sender.address.as_str())
            .places(&["address"]),
    ]);
}

/// Sizes and hashes of a proof or a frontier: three numbers of 8 bytes, then hashes of 32.
fn numbers(bytes: &[u8]) -> (Vec<u64>, Vec<Digest>) {
    let (front, rest) = bytes.split_at(bytes.len().min(24));
    let number = |piece: &[u8]| piece.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let numbers = front.chunks(8).map(number).chain([0; 3]).take(3).collect();
    (numbers, rest.chunks_exact(32).filter_map(Digest::from_slice).collect())
}

#[test]
fn what_proves_that_a_leaf_is_in_a_log() {
    let leaves: Vec<Digest> = (0..7_u8).map(|byte| Digest::of(&[byte])).collect();
    let root = merkle::root(&leaves);
    let written = |numbers: [u64; 3], path: &[Digest]| {
        let path = path.iter().flat_map(|node| node.as_bytes().to_vec());
        numbers.iter().flat_map(|number| number.to_be_bytes()).chain(path).collect::<Vec<u8>>()
    };
    let inclusion = merkle::inclusion(&leaves, 4).unwrap();
    let leaf = leaves[4];
    let mut frontier = Frontier::new();
    leaves.iter().for_each(|leaf| drop(frontier.push(*leaf)));
    let places: &[&str] = &["a tree of", "the path", "there is no leaf", "an empty tree", "the frontier"];
    run(vec![
        Target::new("inclusion-proof", move |bytes| {
            let (numbers, path) = numbers(bytes);
            InclusionProof { tree_size: numbers[0], leaf_index: numbers[1], path }.verify(&leaf, &root)
        })
        .seed(written([inclusion.tree_size, inclusion.leaf_index, 0], &inclusion.path))
        .places(places),
        Target::new("consistency-proof", move |bytes| {
            let (numbers, path) = numbers(bytes);
            ConsistencyProof { old_size: numbers[0], new_size: numbers[1], path }.verify(&root, &root)
        })
        .seed(written([7, 7, 0], &[]))
        .places(places),
        Target::new("frontier", |bytes| {
            let (numbers, path) = numbers(bytes);
            let mut frontier = Frontier::from_parts(numbers[0], path)?;
            if numbers[0] < merkle::MAX_SIZE {
                frontier.push(Digest::of(b"one more"));
            }
            Ok::<_, merkle::Error>(frontier.root())
        })
        .seed(written([7, 0, 0], frontier.to_parts().1))
        .places(places),
    ]);
}

#[test]
fn numbers_that_stand_for_times() {
    run(vec![
        Target::new("time", |bytes| {
            let number = bytes.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
            let time = Timestamp::from_millis(number).ok_or("a time: beyond the year 9999")?;
            Ok::<_, &str>(time.to_string())
        })
        .seed(now().millis().to_be_bytes())
        .places(&["a time"]),
    ]);
}
