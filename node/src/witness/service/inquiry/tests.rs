//! Given what other members hold of this server's, then it signs or does not.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use fairpost_proto::chain;
use fairpost_proto::cose::Signed;
use fairpost_proto::ids::{Digest, KeyId, Timestamp, Verdict};
use fairpost_proto::round::Acknowledgement;
use fairpost_proto::vote::Vote;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::consensus::machine::{Committed, Machine as _};
use crate::ledger::Block;
use crate::ledger::tests::Memory;
use crate::machine::{LedgerMachine, Vouchers};
use crate::membership::ShareFile;
use crate::store::{self, Column, Database, Folder, Home, Identity, Ledger, Writer};
use crate::testing::{World, after};
use crate::witness::blame;
use crate::witness::service::{FirstSeen, Handle, Options, Peers, Received, Service};
use crate::witness::store::Store;
use crate::witness::tally::{self, Leaves};

type Thread = JoinHandle<Result<(), store::Error>>;

/// The others: each tells what it is told to tell, and nothing before.
#[derive(Default)]
struct Others {
    tell: Mutex<BTreeMap<u16, Option<Vec<u8>>>>,
    cast: Mutex<Vec<Received>>,
}

impl Peers for Others {
    fn cast(&self, votes: Vec<Received>) {
        self.cast.lock().extend(votes);
    }

    fn acknowledge(&self, _: Vec<Signed<Acknowledgement>>) {}

    fn ask(&self, _: Vec<u16>, _: u64) {}

    fn newest(&self, member: u16) -> BoxFuture<'static, Result<Option<Vec<u8>>, String>> {
        let told = self.tell.lock().get(&member).cloned().ok_or_else(|| "not reached".to_owned());
        Box::pin(async move { told })
    }
}

/// Entries are seen at once.
struct AtOnce;

impl FirstSeen for AtOnce {
    fn first_seen(&self, _: u64) -> Option<Timestamp> {
        Some(after(10))
    }
}

struct Nobody;

impl Vouchers for Nobody {
    fn votes(&self, _: u64) -> BoxFuture<'static, Vec<Received>> {
        Box::pin(async { Vec::new() })
    }
}

/// Member 0, which keeps its folder.
struct Node {
    witness: Handle,
    others: Arc<Others>,
    ledger: Ledger,
    machine: LedgerMachine,
    stop: watch::Sender<bool>,
    running: Vec<tokio::task::JoinHandle<()>>,
    writer: (store::Handle, Thread),
    /// The ledger starts anew each time.
    _ledger: TempDir,
}

fn key(world: &World, member: usize) -> KeyId {
    chain::key_id(&world.identities[member].verifying_key())
}

async fn open(
    folder: &Path,
    world: &World,
) -> (Store, store::Handle, Thread, Box<ShareFile>, crate::witness::store::Standing) {
    let database =
        Database::open(&folder.join("witness"), Store::COLUMNS, &store::Memory::new(8 << 20)).unwrap();
    let (writer, thread) =
        Writer::start(database.clone(), store::Store::Witness, |error| panic!("{error}")).unwrap();
    let path = folder.join("share.toml");
    if !path.exists() {
        ShareFile::create(&path, &world.view, "n1", &world.shares[0]).unwrap();
    }
    let mut share = ShareFile::open(&path, &world.view, "n1").unwrap();
    let (store, standing) = Store::open(database, writer.clone(), &mut share).await.unwrap();
    (store, writer, thread, Box::new(share), standing)
}

impl Node {
    async fn start(folder: &Path, world: &World) -> Self {
        let (store, writer, thread, share, standing) = open(folder, world).await;
        let view = Arc::new(world.view.clone());
        let ledgers = tempfile::tempdir().unwrap();
        let owner = Identity { node: "n1".into(), cluster: view.cluster() };
        let home = Home::new(
            Arc::new(Folder::open(ledgers.path(), &owner).unwrap()),
            store::Memory::new(8 << 20),
            |error| panic!("{error}"),
        );
        let ledger = Ledger::open(home).unwrap();
        let (stop, stopped) = watch::channel(false);
        let blaming = blame::Options { trust: Arc::new(world.trust()), clock: || after(20) };
        let (blaming, blame) = blame::Service::open(blaming, store.clone()).unwrap();
        let others = Arc::new(Others::default());
        let options = Options {
            view: Arc::clone(&view),
            index: 0,
            identity: Arc::new(world.identities[0].clone()),
            share,
            ledger: ledger.clone(),
            log: Arc::new(AtOnce),
            peers: Arc::clone(&others) as Arc<dyn Peers>,
            blame,
            clock: || after(20),
            incomplete: 4096,
        };
        let (service, witness) = Service::new(options, store, standing);
        let (blaming, service) = (blaming.run(stopped.clone()), service.run(stopped));
        let running = vec![
            tokio::spawn(async move { blaming.await.unwrap() }),
            tokio::spawn(async move { service.await.unwrap() }),
        ];
        let machine = LedgerMachine::new(view, ledger.clone(), Arc::new(Nobody));
        Self { witness, others, ledger, machine, stop, running, writer: (writer, thread), _ledger: ledgers }
    }

    /// Its log gets an entry with a new exchange.
    async fn order(&self, world: &World, number: u8) -> Block {
        let state = self.ledger.state();
        let entry = world.entry(0, &state, after(10), &[world.command(number, Verdict::Released)]);
        let (index, position) = (state.sequence + 1, Bytes::from_static(b"position"));
        let committed = Committed { index, proposal: Some(Bytes::from(entry)), position, membership: None };
        self.machine.apply(vec![committed]).await.unwrap();
        self.ledger.block(index).unwrap().unwrap()
    }

    /// What this member answers from now on.
    fn tell(&self, member: u16, newest: Option<&[u8]>) {
        self.others.tell.lock().insert(member, newest.map(<[u8]>::to_vec));
    }

    fn says(&self, words: &str) -> bool {
        self.witness.closed_because().is_some_and(|reason| reason.contains(words))
    }

    /// The sequences of the entries that it has voted on, as others heard.
    fn cast(&self) -> Vec<u64> {
        self.others.cast.lock().iter().map(|cast| cast.vote.payload().sequence).collect()
    }

    /// Stops it in good order: nobody has its store open.
    async fn close(self) {
        self.stop.send_replace(true);
        for task in self.running {
            task.await.unwrap();
        }
        drop((self.witness, self.machine, self.ledger));
        let (writer, thread) = self.writer;
        drop(writer);
        tokio::task::spawn_blocking(|| thread.join()).await.unwrap().unwrap().unwrap();
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect(what);
}

/// A vote that member `name` is said to have signed, with the key of another.
fn vote(world: &World, number: u64, name: usize, signer: usize) -> Vec<u8> {
    let vote = Vote {
        cluster: world.view.cluster(),
        epoch: 0,
        sequence: 40,
        log_size: 40,
        log_root: Digest::of(b"root"),
        ballot: Digest::of(b"ballot"),
        number,
    };
    Signed::sign(vote, key(world, name), &world.identities[signer]).bytes().to_vec()
}

/// The vote of a member on this entry, for all of its leaves.
fn counted(world: &World, block: &Block, member: usize, number: u64) -> Received {
    let mut leaves = Leaves::none(block.leaves.len());
    (0..block.leaves.len()).for_each(|place| leaves.insert(place));
    let vote = Vote {
        cluster: world.view.cluster(),
        epoch: 0,
        sequence: block.sequence,
        log_size: block.log_size,
        log_root: block.log_root,
        ballot: tally::root(block, &leaves),
        number,
    };
    let vote = Signed::sign(vote, key(world, member), &world.identities[member]);
    Received { vote, leaves: leaves.as_bytes().to_vec() }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_signed_before_enough_members_have_told_and_then_all_that_waited() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    let node = Node::start(folder.path(), &world).await;
    let mut other = Memory::new();
    let entry = world.entry(0, &other.state, after(10), &[world.command(1, Verdict::Released)]);
    other.apply(&world, &entry).unwrap();
    // What others vote counts meanwhile, also if it comes before the entry. Nothing tells when that has come.
    let votes = [1, 2, 3].map(|member| counted(&world, &other.blocks[0], member, 1));
    node.witness.receive(1, votes.to_vec());
    tokio::time::sleep(Duration::from_millis(50)).await;
    let first = node.order(&world, 1).await;
    assert_eq!((first.log_root, &first.leaves), (other.blocks[0].log_root, &other.blocks[0].leaves));
    assert!(node.says("1 of 3") && !node.witness.may_sign() && !node.witness.is_closed());
    let exchange = first.leaves[0].exchange;
    let certified = tokio::time::timeout(Duration::from_secs(20), node.witness.certified(&exchange));
    let decided = certified.await.expect("a certificate without the own vote").unwrap();
    assert!(node.witness.share(&decided).is_err(), "no share either");
    node.tell(2, None);
    until("one answer", || node.says("2 of 3")).await;
    assert_eq!((node.witness.voted().unwrap(), node.cast()), (0, vec![]));
    node.tell(1, None);
    until("the second answer", || node.witness.may_sign()).await;
    until("the vote that waited", || node.cast() == [1]).await;
    node.order(&world, 2).await;
    until("the next vote", || node.cast() == [1, 2]).await;
    node.witness.share(&decided).unwrap();
    assert!(node.witness.votes(1).unwrap().iter().any(|held| *held.vote.signer() == key(&world, 0)));
    node.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_shown_a_later_number_of_its_own_signs_nothing_any_more() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    let node = Node::start(folder.path(), &world).await;
    node.tell(1, None);
    node.tell(2, None);
    node.order(&world, 1).await;
    until("a vote", || node.cast() == [1]).await;
    node.close().await;

    // Its own last number is no news, and its vote is given as before.
    let node = Node::start(folder.path(), &world).await;
    let block = node.order(&world, 1).await;
    node.witness.receive(1, vec![counted(&world, &block, 1, 1)]);
    until("another's vote", || node.witness.newest(1).is_some()).await;
    let own = || node.witness.votes(1).unwrap().iter().any(|held| *held.vote.signer() == key(&world, 0));
    assert!(!own());
    node.tell(1, Some(&vote(&world, 1, 0, 0)));
    node.tell(2, None);
    until("that it may sign", || node.witness.may_sign()).await;
    until("the own vote", own).await;
    // One that was not waited for knows better.
    node.tell(3, Some(&vote(&world, 2, 0, 0)));
    until("the roll-back", || node.says("number 1") && node.says("number 2")).await;
    assert!(node.witness.is_closed());
    node.close().await;

    // Also where nobody knows anything.
    let node = Node::start(folder.path(), &world).await;
    assert!(node.says("rolled back"), "{:?}", node.witness.closed_because());
    (1..4).for_each(|member| node.tell(member, None));
    node.order(&world, 1).await;
    node.order(&world, 2).await;
    let second = node.ledger.block(2).unwrap().unwrap();
    let votes = [1, 2, 3].map(|member| counted(&world, &second, member, 1));
    node.witness.receive(1, votes.to_vec());
    let certified = node.witness.certified(&second.leaves[0].exchange);
    let decided = tokio::time::timeout(Duration::from_secs(20), certified).await.expect("evidence").unwrap();
    assert!(node.witness.share(&decided).is_err() && node.cast().is_empty() && node.says("rolled back"));
    node.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_this_member_did_not_sign_itself_fences_nobody() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    let node = Node::start(folder.path(), &world).await;
    node.tell(1, Some(&vote(&world, 90, 0, 1)));
    until("one answer", || node.says("2 of 3")).await;
    node.tell(2, Some(&vote(&world, 90, 2, 2)));
    until("that it may sign", || node.witness.may_sign()).await;
    node.tell(3, Some(b"nothing of the kind"));
    node.order(&world, 1).await;
    until("a vote", || node.cast() == [1]).await;
    node.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_own_vote_that_others_send_and_nobody_here_knows_of_fences_too() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    let node = Node::start(folder.path(), &world).await;
    let block = node.order(&world, 1).await;
    node.witness.receive(2, vec![counted(&world, &block, 0, 7)]);
    until("the roll-back", || node.says("number 7")).await;
    node.close().await;
    let node = Node::start(folder.path(), &world).await;
    assert!(node.says("rolled back"));
    node.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_signed_last_is_told_to_them_after_a_restart_too() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    let node = Node::start(folder.path(), &world).await;
    assert_eq!((node.witness.newest(1), node.witness.newest(9)), (None, None));
    let (first, second) = (node.order(&world, 1).await, node.order(&world, 2).await);
    let (early, late) = (counted(&world, &first, 1, 4), counted(&world, &second, 1, 5));
    let forged = Received {
        vote: Signed::sign(
            *counted(&world, &first, 2, 9).vote.payload(),
            key(&world, 2),
            &world.identities[3],
        ),
        ..early.clone()
    };
    node.witness.receive(1, vec![late.clone(), forged, early]);
    let told = Some(late.vote.bytes().to_vec());
    // Before it may sign anything itself.
    until("what member 1 signed last", || node.witness.newest(1) == told).await;
    until("the forged vote was looked at", || node.witness.blame().is_blamed(1)).await;
    assert_eq!(node.witness.newest(2), None);
    node.close().await;
    let node = Node::start(folder.path(), &world).await;
    assert_eq!(node.witness.newest(1), told);
    node.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_signed_last_goes_to_disk_with_what_is_written_anyway() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    let (store, writer, thread, ..) = open(folder.path(), &world).await;
    let bytes = [1, 2].map(|member| vote(&world, 3, member, member));
    store.note(key(&world, 1), 3, &bytes[0]);
    store.choose(&[], &[]).await.unwrap();
    store.note(key(&world, 2), 3, &bytes[1]);
    store.put_certificates(&[]).await.unwrap();
    store.note(key(&world, 3), 3, &vote(&world, 3, 3, 3));
    drop((store, writer));
    tokio::task::spawn_blocking(|| thread.join()).await.unwrap().unwrap().unwrap();
    let (store, writer, thread, ..) = open(folder.path(), &world).await;
    assert_eq!([1, 2].map(|member| store.newest(&key(&world, member)).unwrap()), bytes);
    assert_eq!(store.newest(&key(&world, 3)), None, "nothing was written since");
    drop((store, writer));
    tokio::task::spawn_blocking(|| thread.join()).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_before_opens() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    let before: Vec<Column> =
        Store::COLUMNS.iter().copied().filter(|column| column.name() != "newest").collect();
    drop(Database::open(&folder.path().join("witness"), &before, &store::Memory::new(8 << 20)).unwrap());
    let (store, writer, thread, ..) = open(folder.path(), &world).await;
    assert_eq!((store.newest(&key(&world, 1)), store.log().unwrap()), (None, None));
    drop((store, writer));
    tokio::task::spawn_blocking(|| thread.join()).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_ledger_that_came_about_anew_it_votes_when_the_log_is_longer_than_any_it_signed() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    let node = Node::start(folder.path(), &world).await;
    let real = node.order(&world, 1).await;
    node.close().await;
    // In another ledger its first entry made the log three leaves long.
    let (store, writer, thread, ..) = open(folder.path(), &world).await;
    let forked = Block { log_size: 3, log_root: Digest::of(b"another log"), ..real.clone() };
    store.choose(&[(forked.clone(), Leaves::none(1))], &[]).await.unwrap();
    assert!(store.chosen(&forked).unwrap().is_some());
    assert_eq!(store.chosen(&real).unwrap(), None, "the same leaves, and other leaves before them");
    drop((store, writer));
    tokio::task::spawn_blocking(|| thread.join()).await.unwrap().unwrap().unwrap();

    let node = Node::start(folder.path(), &world).await;
    for number in 1..=4 {
        node.order(&world, number).await;
    }
    node.tell(1, None);
    node.tell(2, None);
    until("a vote", || node.cast() == [4]).await;
    let refused: Vec<_> = node.witness.refusals().iter().map(|refused| refused.refusal.reason()).collect();
    assert_eq!((refused, node.witness.voted().unwrap()), (vec!["not_longer"; 2], 4));
    assert!((1..4).all(|sequence| node.witness.votes(sequence).unwrap().is_empty()), "no root of theirs");
    node.close().await;
}
