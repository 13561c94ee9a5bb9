use std::collections::BTreeSet;

use std::path::Path;

use fairpost_proto::chain;
use fairpost_proto::leaf::{Leaf, Round};
use fairpost_proto::merkle;
use fairpost_proto::misconduct::Voted;

use super::*;
use crate::membership::ShareFile;
use crate::store::{self as disk, Database, Memory, Writer};
use crate::testing::{World, after};

/// A member's store, and who it blames; dropped, and opened again, it is a node that was started again.
struct Node {
    blame: Handle,
    stop: watch::Sender<bool>,
    running: tokio::task::JoinHandle<Result<(), store::Error>>,
    writer: (disk::Handle, std::thread::JoinHandle<Result<(), disk::Error>>),
}

impl Node {
    async fn open(folder: &Path, world: &World) -> Self {
        Self::with(folder, world, Store::COLUMNS).await
    }

    async fn with(folder: &Path, world: &World, columns: &[disk::Column]) -> Self {
        let database = Database::open(&folder.join("witness"), columns, &Memory::new(8 << 20)).unwrap();
        let (writer, thread) =
            Writer::start(database.clone(), disk::Store::Witness, |error| panic!("{error}")).unwrap();
        let (path, name) = (folder.join("share.toml"), "n1");
        if !path.exists() {
            ShareFile::create(&path, &world.view, name, &world.shares[0]).unwrap();
        }
        let mut share = ShareFile::open(&path, &world.view, name).unwrap();
        let (store, _) = Store::open(database, writer.clone(), &mut share).await.unwrap();
        let options = Options { trust: Arc::new(world.trust()), clock: || after(20) };
        let (service, blame) = Service::open(options, store).unwrap();
        let (stop, stopped) = watch::channel(false);
        Self { blame, stop, running: tokio::spawn(service.run(stopped)), writer: (writer, thread) }
    }

    /// Stops it in good order; what it has is on disk, and nobody has it open.
    async fn close(self) {
        self.stop.send_replace(true);
        self.running.await.unwrap().unwrap();
        assert_eq!(self.blame.flush().await, Err(Stopped));
        drop(self.blame);
        let (writer, thread) = self.writer;
        drop(writer);
        tokio::task::spawn_blocking(|| thread.join()).await.unwrap().unwrap().unwrap();
    }
}

fn key(world: &World, member: usize) -> KeyId {
    world.view.members()[member].key_id()
}

fn kinds(blame: &Handle) -> Vec<(KeyId, Kind, u64)> {
    blame.records().iter().map(|record| (record.member, record.kind, record.count)).collect()
}

#[tokio::test]
async fn votes_that_contradict_each_other_convict_and_others_do_not() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    let node = Node::open(folder.path(), &world).await;
    let (blame, trust) = (&node.blame, world.trust());
    let other = |vote: &mut Vote| vote.log_root = Digest::of(b"another root");
    let honest = || world.vote(2, 7, |_| {});
    assert_eq!((blame.is_blamed(2), blame.names()), (false, vec![]));

    // Of two members, one of them in another's name, or about two sizes: all this may be, and convicts nobody.
    blame.votes([honest(), world.vote(1, 7, other)]);
    let stranger = chain::key_id(&world.identities[2].verifying_key());
    let forged = Signed::sign(*world.vote(2, 7, other).payload(), stranger, &world.identities[3]);
    blame.votes([honest(), forged]);
    let elsewhere = world.vote(2, 7, |vote| vote.cluster = fairpost_proto::ids::ClusterId::new([1; 32]));
    assert!(!blame.convict(Act::Roots(Box::new([honest(), elsewhere]))));
    assert!(!blame.convict(Act::Roots(Box::new([honest(), world.vote(2, 8, other)]))));
    assert_eq!(kinds(blame), []);

    for _ in 0..3 {
        blame.votes([world.vote(2, 7, other), honest()]);
    }
    assert_eq!(
        kinds(blame),
        [(key(&world, 2), Kind::Roots, 1)],
        "one contradiction, however often it is seen"
    );
    assert_eq!((blame.is_blamed(2), blame.is_blamed(1), blame.names()), (true, false, vec!["n3".to_owned()]));
    blame.votes([honest(), world.vote(2, 7, |vote| vote.ballot = Digest::of(b"another ballot"))]);
    blame.votes([world.vote(2, 9, |_| {}), world.vote(2, 9, other)]);

    let leaf = |verdict| Leaf {
        exchange: ExchangeId::new([5; 32]),
        round: Round::FIRST,
        verdict,
        time: after(3),
        nro: Digest::of(b"nro"),
        evidence: (verdict != Verdict::Expired).then(|| Digest::of(b"receipt")),
    };
    let voted = |verdict| {
        let ballot = [leaf(verdict).hash()];
        let vote = world.vote(2, 7, |vote| vote.ballot = merkle::root(&ballot));
        Voted { leaf: leaf(verdict), vote, proof: merkle::inclusion(&ballot, 0).unwrap() }
    };
    let both = [Verdict::Released, Verdict::Expired].map(voted);
    assert!(blame.convict(Act::Leaves(Box::new(both.clone()))));
    assert!(!blame.convict(Act::Leaves(Box::new(both))));
    let head = |time| {
        let (batch, previous) = (Digest::of(b"batch"), Digest::of(b"previous"));
        let (cluster, key) = (world.view.cluster(), &world.identities[2]);
        let head = Head { cluster, epoch: 0, term: 3, sequence: 4, previous, time: after(time), batch };
        Signed::sign(head, chain::key_id(&key.verifying_key()), key)
    };
    blame.entries([head(1), head(2)]);
    blame.entries([head(1), head(1)]);
    let third = key(&world, 2);
    let expected = [(Kind::Leaves, 1), (Kind::Roots, 2), (Kind::Entries, 1), (Kind::Ballots, 1)];
    assert_eq!(kinds(blame), expected.map(|(kind, count)| (third, kind, count)));
    for record in blame.records() {
        let proof = Misconduct::parse(&record.evidence);
        assert_eq!(proof.is_ok(), record.kind.is_transferable(), "{:?}", record.kind);
        let Ok(proof) = proof else { continue };
        let conviction = misconduct::verify(&proof, &trust).unwrap();
        assert!(
            matches!(&conviction.culprit, Culprit::Member { name, .. } if name == "n3"),
            "{conviction:?}"
        );
        assert_eq!(conviction.subject, record.subject);
    }
    node.close().await;
}

#[tokio::test]
async fn a_flood_of_misdeeds_leaves_one_record_of_a_kind() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    let node = Node::open(folder.path(), &world).await;
    let flood = 3 * PLACES as u64;
    for number in 1..=flood {
        let exchange = ExchangeId::new([number as u8; 32]);
        node.blame.share(1, &exchange, Verdict::Released, &number.to_be_bytes());
        node.blame.malformed_share(3, &exchange, &"x".repeat(10_000), &vec![7; 100_000]);
        node.blame.signature(1, format!("vote {number}"), &number.to_be_bytes());
        let roots =
            [b"one", b"two"].map(|root| world.vote(1, number, |vote| vote.log_root = Digest::of(root)));
        node.blame.votes(roots);
    }
    let records = node.blame.records();
    let found: Vec<_> = records.iter().map(|record| (record.kind, record.count)).collect();
    let of_second = [(Kind::Roots, flood), (Kind::Share, flood), (Kind::Vote, flood)];
    assert!(of_second.iter().all(|of| found.contains(of)) && found.len() == 4, "{found:?}");
    let first = records.iter().find(|record| record.kind == Kind::Vote).unwrap();
    assert_eq!((first.subject.as_str(), first.evidence.as_slice()), ("vote 1", &1_u64.to_be_bytes()[..]));
    let malformed = records.iter().find(|record| record.member == key(&world, 3)).unwrap();
    assert!(malformed.evidence.len() == MALFORMED && malformed.subject.len() <= SUBJECT, "{malformed:?}");
    {
        let state = node.blame.0.state.lock();
        assert_eq!((state.places.order.len(), state.places.all.len()), (PLACES, PLACES));
        assert!(state.changed.len() <= 4);
    }
    node.close().await;
}

#[tokio::test]
async fn what_a_member_is_blamed_for_survives_a_restart_and_a_clearing_too() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    // A store of before, which has no place for blame.
    let before: Vec<_> = Store::COLUMNS.iter().copied().filter(|column| column.name() != "blamed").collect();
    let database = Database::open(&folder.path().join("witness"), &before, &Memory::new(8 << 20)).unwrap();
    drop(database);

    let node = Node::open(folder.path(), &world).await;
    node.blame.share(2, &ExchangeId::new([1; 32]), Verdict::Released, b"bad");
    node.blame.votes([world.vote(3, 7, |_| {}), world.vote(3, 7, |vote| vote.log_root = Digest::of(b"x"))]);
    node.blame.flush().await.unwrap();
    let known = node.blame.records();
    assert_eq!(known.len(), 2);
    assert_eq!(*node.blame.watch_convicted().borrow(), BTreeSet::from([3]), "a bad share proves nothing");
    node.close().await;

    let node = Node::open(folder.path(), &world).await;
    assert_eq!(node.blame.records(), known);
    let blamed = [0, 1, 2, 3].map(|member| node.blame.is_blamed(member));
    assert_eq!(blamed, [false, false, true, true]);
    node.blame.share(2, &ExchangeId::new([2; 32]), Verdict::Released, b"worse");
    let operator = KeyId::new([9; 32]);
    let mut convicted = node.blame.watch_convicted();
    assert_eq!(*convicted.borrow_and_update(), BTreeSet::from([3]));
    assert_eq!(node.blame.clear(key(&world, 3), operator).await, Ok(1));
    assert_eq!(node.blame.clear(key(&world, 1), operator).await, Ok(0));
    assert!(!node.blame.is_blamed(3));
    assert!(convicted.has_changed().unwrap() && convicted.borrow().is_empty());
    node.close().await;

    let node = Node::open(folder.path(), &world).await;
    assert_eq!((node.blame.is_blamed(2), node.blame.is_blamed(3)), (true, false));
    let kept = &node.blame.records()[0];
    assert_eq!(
        (kept.count, kept.evidence.as_slice()),
        (2, &b"bad"[..]),
        "the first is kept, and all are counted"
    );
    let cleared = Cleared { time: after(20), by: operator, records: 1 };
    assert_eq!(node.blame.cleared(), [(key(&world, 3), cleared)]);
    node.close().await;
}
