//! The witness at work on real stores: four members in one process, with a network that can be told to lie or lose.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fairpost_proto::ids::{ExchangeId, Timestamp, Verdict};
use fairpost_proto::leaf::Round;
use fairpost_proto::threshold::{Message, Share, Token};
use fairpost_proto::view::View;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::watch;

use super::collect::{Collector, Error, Shares};
use super::combine;
use super::service::{FirstSeen, Handle, Options, Peers, Received, Service};
use super::store::{Chosen, Standing, Store as WitnessStore};
use super::tally::Leaves;
use crate::clock;
use crate::consensus::machine::{Committed, Machine as _};
use crate::ledger::State;
use crate::ledger::tests::Memory as LedgerMemory;
use crate::machine::LedgerMachine;
use crate::membership::{KeySource as _, ShareFile};
use crate::store::{self, Database, Ledger, Memory, Store, Writer};
use crate::testing::{World, after};

const MEMBERS: usize = 4;

/// The network between the members.
#[derive(Default)]
struct Net {
    handles: Mutex<Vec<Handle>>,
    /// Members that send the share of another message.
    liars: Mutex<Vec<u16>>,
    /// Members whose votes and shares get lost.
    lost: Mutex<Vec<u16>>,
    /// Who asked whom for a share.
    asked: Mutex<Vec<(u16, u16)>>,
}

struct Link {
    net: Arc<Net>,
    world: Arc<World>,
    own: u16,
}

impl Link {
    fn reaches(&self, member: u16) -> bool {
        let lost = self.net.lost.lock();
        !lost.contains(&member) && !lost.contains(&self.own)
    }

    fn handle(&self, member: u16) -> Option<Handle> {
        self.net.handles.lock().get(usize::from(member)).cloned().filter(|_| self.reaches(member))
    }
}

impl Peers for Link {
    fn cast(&self, votes: Vec<Received>) {
        for member in (0..MEMBERS as u16).filter(|member| *member != self.own) {
            if let Some(handle) = self.handle(member) {
                handle.receive(votes.clone());
            }
        }
    }

    fn ask(&self, members: Vec<u16>, sequence: u64) {
        let own = self.handle(self.own);
        for member in members {
            if let (Some(own), Some(other)) = (&own, self.handle(member)) {
                own.receive(other.votes(sequence).unwrap());
            }
        }
    }
}

impl Shares for Link {
    fn share(
        &self,
        member: u16,
        exchange: ExchangeId,
    ) -> BoxFuture<'static, Result<(Verdict, Share), String>> {
        self.net.asked.lock().push((self.own, member));
        let handle = self.handle(member);
        let lies = self.net.liars.lock().contains(&member);
        let world = Arc::clone(&self.world);
        Box::pin(async move {
            let handle = handle.ok_or("not reached")?;
            let decided = handle.certified(&exchange).await.map_err(|error| error.to_string())?;
            let (verdict, share) = handle.share(&decided).map_err(|error| error.to_string())?;
            if !lies {
                return Ok((verdict, share));
            }
            let cluster = world.view.cluster();
            let other = Message::Verdict { cluster, verdict: Verdict::Withdrawn, exchange };
            Ok((verdict, world.shares[usize::from(member)].sign(&other)))
        })
    }
}

/// Every entry is seen when it is stamped.
struct SeenAtOnce(Mutex<Vec<Timestamp>>);

impl FirstSeen for SeenAtOnce {
    fn first_seen(&self, index: u64) -> Option<Timestamp> {
        self.0.lock().get(index as usize - 1).copied()
    }
}

/// Vouches for no snapshot: there is none here.
struct Nobody;

impl crate::machine::Vouchers for Nobody {
    fn votes(&self, _: u64) -> BoxFuture<'static, Vec<Received>> {
        Box::pin(async { Vec::new() })
    }
}

struct Member {
    machine: LedgerMachine,
    ledger: Ledger,
    collector: Collector,
    witness: Handle,
    _folder: TempDir,
}

struct Cluster {
    world: Arc<World>,
    net: Arc<Net>,
    members: Vec<Member>,
    seen: Arc<SeenAtOnce>,
    state: Mutex<State>,
    _stop: watch::Sender<bool>,
}

fn open(folder: &Path, store: Store, columns: &[store::Column]) -> (Database, store::Handle) {
    let database = Database::open(&folder.join(store.name()), columns, &Memory::default()).unwrap();
    let (writer, _thread) = Writer::start(database.clone(), store, |error| panic!("{error}")).unwrap();
    (database, writer)
}

fn share_file(folder: &Path, world: &World, index: usize) -> ShareFile {
    let (path, name) = (folder.join("share.toml"), format!("n{}", index + 1));
    if !path.exists() {
        ShareFile::create(&path, &world.view, &name, &world.shares[index]).unwrap();
    }
    ShareFile::open(&path, &world.view, &name).unwrap()
}

impl Cluster {
    async fn start() -> Self {
        let (world, net, seen) =
            (Arc::new(World::new()), Arc::new(Net::default()), Arc::new(SeenAtOnce(Mutex::default())));
        let view = Arc::new(world.view.clone());
        let (stop, stopped) = watch::channel(false);
        let mut members = Vec::new();
        for index in 0..MEMBERS {
            members.push(member(&world, &view, &net, &seen, index, stopped.clone()).await);
        }
        net.handles.lock().extend(members.iter().map(|member| member.witness.clone()));
        Self { world, net, members, seen, state: Mutex::new(State::empty()), _stop: stop }
    }

    /// Every member's log gets an entry with the command for this verdict.
    async fn order(&self, number: u8, verdict: Verdict) -> ExchangeId {
        let command = self.world.command(number, verdict);
        let state = self.members[0].ledger.state();
        let time = after(10).max(state.time);
        let entry = Bytes::from(self.world.entry(0, &state, time, &[command]));
        self.seen.0.lock().push(time);
        let index = self.seen.0.lock().len() as u64;
        for member in &self.members {
            let position = Bytes::from_static(b"position");
            let committed = Committed { index, proposal: Some(entry.clone()), position, membership: None };
            member.machine.apply(vec![committed]).await.unwrap();
        }
        *self.state.lock() = self.members[0].ledger.state();
        self.world.nro(number).payload().terms.exchange()
    }

    async fn token(&self, member: usize, exchange: &ExchangeId) -> Result<Verdict, Error> {
        let patience = Duration::from_secs(20);
        let token = tokio::time::timeout(patience, self.members[member].collector.token(exchange));
        let (exchange, token) = token.await.expect("a token in time")?;
        let token = Token::parse(&token.to_bytes()).unwrap();
        let (cluster, verdict) = (self.world.view.cluster(), exchange.leaf.verdict);
        let message = Message::Verdict { cluster, verdict, exchange: exchange.leaf.exchange };
        self.world.view.public_key().verify(&message, &token).unwrap();
        Ok(verdict)
    }
}

async fn member(
    world: &Arc<World>,
    view: &Arc<View>,
    net: &Arc<Net>,
    seen: &Arc<SeenAtOnce>,
    index: usize,
    stop: watch::Receiver<bool>,
) -> Member {
    let folder = tempfile::tempdir().unwrap();
    let owner = store::Identity { node: format!("n{}", index + 1), cluster: view.cluster() };
    let home = Arc::new(store::Folder::open(folder.path(), &owner).unwrap());
    let ledger = Ledger::open(store::Home::new(home, Memory::default(), |error| panic!("{error}"))).unwrap();
    let mut share = share_file(folder.path(), world, index);
    let (database, writer) = open(folder.path(), Store::Witness, WitnessStore::COLUMNS);
    let (store, standing) = WitnessStore::open(database, writer, &mut share).await.unwrap();
    let link = || Link { net: Arc::clone(net), world: Arc::clone(world), own: index as u16 };
    let options = Options {
        view: Arc::clone(view),
        index: index as u16,
        identity: Arc::new(world.identities[index].clone()),
        share: Box::new(share),
        ledger: ledger.clone(),
        log: Arc::clone(seen) as Arc<dyn FirstSeen>,
        peers: Arc::new(link()),
    };
    let (service, witness) = Service::new(options, store, standing);
    tokio::spawn(service.run(stop));
    let machine = LedgerMachine::new(Arc::clone(view), ledger.clone(), Arc::new(Nobody));
    let (combining, combiner) = combine::Service::new(Arc::clone(view));
    tokio::spawn(combining.run());
    let (view, index, others) = (Arc::clone(view), index as u16, Arc::new(link()));
    let collector = Collector::new(view, index, ledger.clone(), witness.clone(), combiner, others);
    Member { machine, ledger, collector, witness, _folder: folder }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_member_makes_the_token_of_a_decided_exchange() {
    let cluster = Cluster::start().await;
    for (number, verdict) in [(1, Verdict::Released), (2, Verdict::Withdrawn), (3, Verdict::Refused)] {
        let exchange = cluster.order(number, verdict).await;
        for member in 0..MEMBERS {
            assert_eq!(cluster.token(member, &exchange).await.unwrap(), verdict);
            let decided = cluster.members[member].ledger.exchange(&exchange).unwrap().unwrap();
            let certificate = cluster.members[member].witness.certificate(&decided).unwrap().unwrap();
            certificate.check(&cluster.world.view).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_share_is_found_and_done_without() {
    let cluster = Cluster::start().await;
    for liar in 0..MEMBERS as u16 {
        *cluster.net.liars.lock() = vec![liar];
        let exchange = cluster.order(10 + liar as u8, Verdict::Released).await;
        let contact = (usize::from(liar) + 1) % MEMBERS;
        assert_eq!(cluster.token(contact, &exchange).await.unwrap(), Verdict::Released);
    }
    *cluster.net.liars.lock() = vec![1, 2];
    let exchange = cluster.order(20, Verdict::Released).await;
    let failed = cluster.token(0, &exchange).await;
    assert!(matches!(failed, Err(Error::TooFew { needed: 3, found: 2 })), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_asked_before_the_own_certificate_and_once_more_if_they_had_none() {
    let cluster = Arc::new(Cluster::start().await);
    *cluster.net.lost.lock() = vec![1, 2, 3];
    let exchange = cluster.order(1, Verdict::Released).await;
    let (contact, id) = (Arc::clone(&cluster), exchange);
    let token = tokio::spawn(async move { contact.token(0, &id).await });
    let early = async {
        while cluster.net.asked.lock().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), early).await.expect("asks before there is a certificate");
    let decided = cluster.members[0].ledger.exchange(&exchange).unwrap().unwrap();
    assert!(cluster.members[0].witness.certificate(&decided).unwrap().is_none(), "nobody's vote has come");
    cluster.net.lost.lock().clear();
    assert_eq!(token.await.unwrap().unwrap(), Verdict::Released);
    let asked = cluster.net.asked.lock().clone();
    assert!(asked.len() <= 5, "two early, and then each other member at most once: {asked:?}");

    // Where the certificate is stored already, only as many are asked as are needed.
    cluster.net.asked.lock().clear();
    let exchange = cluster.order(2, Verdict::Released).await;
    cluster.members[0].witness.certified(&exchange).await.unwrap();
    assert_eq!(cluster.token(0, &exchange).await.unwrap(), Verdict::Released);
    assert_eq!(cluster.net.asked.lock().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_votes_are_asked_for_and_without_a_quorum_there_is_no_share() {
    let cluster = Cluster::start().await;
    *cluster.net.lost.lock() = vec![2, 3];
    let exchange = cluster.order(1, Verdict::Released).await;
    let early =
        tokio::time::timeout(Duration::from_millis(600), cluster.members[0].witness.certified(&exchange));
    assert!(early.await.is_err(), "two votes are no certificate");
    for member in &cluster.members {
        let decided = member.ledger.exchange(&exchange).unwrap().unwrap();
        assert!(member.witness.share(&decided).is_err(), "no share without a certificate");
    }
    cluster.net.lost.lock().clear();
    for member in 0..MEMBERS {
        assert_eq!(cluster.token(member, &exchange).await.unwrap(), Verdict::Released);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_exchange_is_found_at_once_however_many_came_since() {
    let cluster = Cluster::start().await;
    let old = cluster.order(1, Verdict::Released).await;
    let witness = &cluster.members[0].witness;
    // Entries that decide nothing new; and now and then one that does, upon which the oldest leave memory.
    for number in 2..6 {
        for _ in 0..270 {
            cluster.order(1, Verdict::Released).await;
        }
        let new = cluster.order(number, Verdict::Released).await;
        witness.certified(&new).await.unwrap();
        let at_once = tokio::time::timeout(Duration::from_secs(5), witness.certified(&old)).await;
        at_once.expect("an exchange that was certified long ago").unwrap();
    }
    // Just before the oldest would leave again, at every fill of memory.
    for _ in 0..300 {
        cluster.order(1, Verdict::Released).await;
        let last = cluster.members[0].ledger.state().sequence;
        while witness.voted().unwrap() < last {
            tokio::task::yield_now().await;
        }
        let at_once = tokio::time::timeout(Duration::from_secs(5), witness.certified(&old)).await;
        at_once.expect("an exchange that was certified long ago").unwrap();
    }
}

#[tokio::test]
async fn a_share_without_its_store_does_not_sign() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let standing = async |name: &str| {
        let path = folder.path().join(name);
        let database = Database::open(&path, WitnessStore::COLUMNS, &Memory::default()).unwrap();
        let (writer, thread) = Writer::start(database.clone(), Store::Witness, |_| {}).unwrap();
        let mut share = share_file(folder.path(), &world, 0);
        let (_, standing) = WitnessStore::open(database, writer.clone(), &mut share).await.unwrap();
        writer.close().await;
        thread.join().unwrap().unwrap();
        standing
    };
    assert_eq!(standing("first").await, Standing::Open, "the first use binds share and store");
    assert_eq!(standing("first").await, Standing::Open, "and so they stay");
    assert!(matches!(standing("other").await, Standing::Lost { found: None, .. }));
    assert_eq!(standing("first").await, Standing::Open);
    assert!(share_file(folder.path(), &world, 0).witness().is_some());
}

#[tokio::test]
async fn a_choice_is_for_the_leaves_it_was_made_for() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let (database, writer) = open(folder.path(), Store::Witness, WitnessStore::COLUMNS);
    let mut share = share_file(folder.path(), &world, 0);
    let (store, _) = WitnessStore::open(database, writer, &mut share).await.unwrap();
    let block = |verdict| {
        let mut ledger = LedgerMemory::new();
        let entry = world.entry(0, &ledger.state, after(10), &[world.command(1, verdict)]);
        ledger.apply(&world, &entry).unwrap();
        ledger.blocks.remove(0)
    };
    let (chosen, other) = (block(Verdict::Released), block(Verdict::Withdrawn));
    let mut leaves = Leaves::none(1);
    leaves.insert(0);
    store.choose(&[(chosen.clone(), leaves.clone())]).await.unwrap();
    assert_eq!(store.chosen(&chosen).unwrap(), Some(Chosen { number: 1, leaves }));
    assert_eq!(store.chosen(&other).unwrap(), None, "the same sequence, another block");
    assert_eq!(store.last_chosen().unwrap(), 1);
    let exchange = chosen.leaves[0].exchange;
    assert_eq!(store.signed(&exchange, Round::FIRST).unwrap().voted, Some(chosen.leaves[0].hash()));
}

#[tokio::test]
async fn the_first_sight_of_a_receipt_stands() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let (database, writer) = open(folder.path(), Store::Witness, WitnessStore::COLUMNS);
    let mut share = share_file(folder.path(), &world, 0);
    let (store, _) = WitnessStore::open(database, writer, &mut share).await.unwrap();
    let exchange = ExchangeId::new([9; 32]);
    assert_eq!(store.receipt(&exchange).unwrap(), None);
    let now = clock::now();
    for seen in [now, after(0)] {
        store.put_receipt(&exchange, seen).await.unwrap();
        assert_eq!(store.receipt(&exchange).unwrap(), Some(now));
    }
}
