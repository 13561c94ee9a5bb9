//! The witness at work on real stores: four members in one process, with a network that can be told to lie or lose.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fairpost_api::v1::command_result::Kind;
use fairpost_api::v1::{CommandResult, ForwardResponse};
use fairpost_proto::cose::Signed;
use fairpost_proto::entry::Command;
use fairpost_proto::ids::{Digest, ExchangeId, Span, Timestamp, Verdict};
use fairpost_proto::leaf::{Leaf, Round};
use fairpost_proto::misconduct::{self, Misconduct};
use fairpost_proto::round::Acknowledgement;
use fairpost_proto::threshold::{Message, Token};
use fairpost_proto::view::View;
use fairpost_proto::vote::Vote;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use prost::Message as _;
use tempfile::TempDir;
use tokio::sync::watch;

use super::blame;
use super::collect::{Collector, Error, Given, NoShare, Shares};
use super::combine;
use super::rounds::{self, Answer, Others};
use super::rules::{self, Refusal};
use super::service::{FirstSeen, Handle, Options, Peers, Received, Service};
use super::store::{Chosen, Receipt, Standing, Stated, Store as WitnessStore};
use super::tally::Leaves;
use crate::clock;
use crate::consensus::machine::{Committed, Machine as _};
use crate::ledger::tests::Memory as LedgerMemory;
use crate::ledger::{Block, Rebuild, State};
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
    /// Members that send what is no share at all.
    garblers: Mutex<Vec<u16>>,
    /// Members whose votes and shares get lost.
    lost: Mutex<Vec<u16>>,
    /// Who asked whom for a share.
    asked: Mutex<Vec<(u16, u16)>>,
    /// Members that first see every entry later than the skew allows.
    late: Mutex<Vec<u16>>,
    /// The members' machines, and when each entry was first seen by those that are not late.
    machines: Mutex<Vec<(LedgerMachine, Ledger)>>,
    seen: Mutex<Vec<Timestamp>>,
    /// Held by whoever orders.
    ordering: tokio::sync::Mutex<Option<State>>,
    /// Whether no member asks another for a statement.
    silent: Mutex<bool>,
    /// How many rounds were ordered.
    rounds: Mutex<usize>,
}

impl Net {
    /// Every member's log gets an entry with this command.
    async fn order(&self, world: &World, command: impl Clone + Into<Command>, late: Span) -> CommandResult {
        let mut ordering = self.ordering.lock().await;
        let machines = self.machines.lock().clone();
        let state = ordering.take().unwrap_or_else(State::empty);
        let time = after(10).max(state.time);
        let entry = Bytes::from(world.entry(0, &state, time, &[command]));
        let index = {
            let mut seen = self.seen.lock();
            seen.push(time.plus(late));
            seen.len() as u64
        };
        let mut outcome = Bytes::new();
        for (machine, ledger) in machines {
            let position = Bytes::from_static(b"position");
            let committed = Committed { index, proposal: Some(entry.clone()), position, membership: None };
            outcome = machine.apply(vec![committed]).await.unwrap().remove(0);
            *ordering = Some(ledger.state());
        }
        ForwardResponse::decode(outcome).unwrap().results.remove(0)
    }
}

/// A member's own sight of the log.
struct Sight {
    net: Arc<Net>,
    own: u16,
}

impl FirstSeen for Sight {
    fn first_seen(&self, index: u64) -> Option<Timestamp> {
        let seen = self.net.seen.lock().get(index as usize - 1).copied()?;
        let late = self.net.late.lock().contains(&self.own);
        Some(if late { seen.plus(Span::from_seconds(11)) } else { seen })
    }
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
                handle.receive(self.own, votes.clone());
            }
        }
    }

    fn acknowledge(&self, acknowledgements: Vec<Signed<Acknowledgement>>) {
        for member in (0..MEMBERS as u16).filter(|member| *member != self.own) {
            if let Some(handle) = self.handle(member) {
                handle.receive_acknowledgements(self.own, acknowledgements.clone());
            }
        }
    }

    fn ask(&self, members: Vec<u16>, sequence: u64) {
        let own = self.handle(self.own);
        for member in members {
            if let (Some(own), Some(other)) = (&own, self.handle(member)) {
                own.receive(member, other.votes(sequence).unwrap());
                own.receive_acknowledgements(member, other.acknowledgements(sequence).unwrap());
            }
        }
    }

    fn newest(&self, member: u16) -> BoxFuture<'static, Result<Option<Vec<u8>>, String>> {
        let (handle, own) = (self.handle(member), self.own);
        Box::pin(async move { Ok(handle.ok_or("not reached")?.newest(own)) })
    }
}

impl Others for Link {
    fn statement(
        &self,
        member: u16,
        exchange: ExchangeId,
        round: Round,
    ) -> BoxFuture<'static, Result<Answer, String>> {
        let handle = self.handle(member).filter(|_| !*self.net.silent.lock());
        Box::pin(async move {
            let handle = handle.ok_or("not reached")?;
            let statement = handle.statement(&exchange, round).await.map_err(|error| error.to_string())?;
            Ok(Answer { statement, evidence: handle.evidence(&exchange).unwrap() })
        })
    }

    fn leads(&self) -> bool {
        self.own == 0
    }

    fn order(&self, command: Command) -> BoxFuture<'static, Result<(), String>> {
        let (net, world, reaches) = (Arc::clone(&self.net), Arc::clone(&self.world), self.reaches(self.own));
        Box::pin(async move {
            if !reaches {
                return Err("not reached".into());
            }
            let result = net.order(&world, command, Span::from_millis(0)).await;
            if result.kind() == Kind::Decided {
                *net.rounds.lock() += 1;
                return Ok(());
            }
            Err(result.reason)
        })
    }
}

impl Shares for Link {
    fn share(&self, member: u16, exchange: ExchangeId) -> BoxFuture<'static, Given> {
        self.net.asked.lock().push((self.own, member));
        let handle = self.handle(member);
        let lies = self.net.liars.lock().contains(&member);
        let garbles = self.net.garblers.lock().contains(&member);
        let world = Arc::clone(&self.world);
        Box::pin(async move {
            let none = |error: &dyn std::fmt::Display| NoShare::None(error.to_string());
            let handle = handle.ok_or_else(|| none(&"not reached"))?;
            let decided = handle.certified(&exchange).await.map_err(|error| none(&error))?;
            let (verdict, share) = handle.share(&decided).map_err(|error| none(&error))?;
            if garbles {
                return Err(NoShare::Malformed { bytes: vec![7; 96], problem: "not a point".into() });
            }
            if !lies {
                return Ok((verdict, share));
            }
            let cluster = world.view.cluster();
            let other = Message::Verdict { cluster, verdict: Verdict::Withdrawn, exchange };
            Ok((verdict, world.shares[usize::from(member)].sign(&other)))
        })
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
    ledger: Ledger,
    collector: Collector,
    witness: Handle,
    stuck: rounds::Handle,
    store: WitnessStore,
    _folder: TempDir,
}

struct Cluster {
    world: Arc<World>,
    net: Arc<Net>,
    members: Vec<Member>,
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
        Self::keeping(4096).await
    }

    /// Members that keep so many incomplete tallies in memory.
    async fn keeping(incomplete: usize) -> Self {
        let (world, net) = (Arc::new(World::new()), Arc::new(Net::default()));
        let view = Arc::new(world.view.clone());
        let (stop, stopped) = watch::channel(false);
        let mut members = Vec::new();
        for index in 0..MEMBERS {
            members.push(member(&world, &view, &net, index, incomplete, stopped.clone()).await);
        }
        net.handles.lock().extend(members.iter().map(|member| member.witness.clone()));
        until("members that sign", || members.iter().all(|member| member.witness.may_sign())).await;
        Self { world, net, members, _stop: stop }
    }

    /// Every member's log gets an entry with the command for this verdict.
    async fn order(&self, number: u8, verdict: Verdict) -> ExchangeId {
        self.order_seen(number, verdict, Span::from_millis(0)).await
    }

    /// The same, for an entry that all see only so long after it was stamped.
    async fn order_seen(&self, number: u8, verdict: Verdict, late: Span) -> ExchangeId {
        self.net.order(&self.world, self.world.command(number, verdict), late).await;
        self.world.nro(number).payload().terms.exchange()
    }

    /// Waits until this member has voted on all that was ordered.
    async fn voted(&self, member: usize) {
        let last = self.members[0].ledger.state().sequence;
        let voted = async {
            while self.members[member].witness.voted().unwrap() < last {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), voted).await.expect("votes in time");
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
    index: usize,
    incomplete: usize,
    stop: watch::Receiver<bool>,
) -> Member {
    let folder = tempfile::tempdir().unwrap();
    let owner = store::Identity { node: format!("n{}", index + 1), cluster: view.cluster() };
    let home = Arc::new(store::Folder::open(folder.path(), &owner).unwrap());
    let ledger = Ledger::open(store::Home::new(home, Memory::default(), |error| panic!("{error}"))).unwrap();
    let mut share = share_file(folder.path(), world, index);
    let (database, writer) = open(folder.path(), Store::Witness, WitnessStore::COLUMNS);
    let (store, standing) = WitnessStore::open(database, writer, &mut share).await.unwrap();
    let blaming = blame::Options { trust: Arc::new(world.trust()), clock: || after(20) };
    let (blaming, blame) = blame::Service::open(blaming, store.clone()).unwrap();
    tokio::spawn(blaming.run(stop.clone()));
    let link = || Link { net: Arc::clone(net), world: Arc::clone(world), own: index as u16 };
    let options = Options {
        view: Arc::clone(view),
        index: index as u16,
        identity: Arc::new(world.identities[index].clone()),
        share: Box::new(share),
        ledger: ledger.clone(),
        log: Arc::new(Sight { net: Arc::clone(net), own: index as u16 }),
        peers: Arc::new(link()),
        blame,
        clock: || after(20),
        incomplete,
    };
    let (service, witness) = Service::new(options, store.clone(), standing);
    tokio::spawn(service.run(stop.clone()));
    let rounds = rounds::Options {
        view: Arc::clone(view),
        index: index as u16,
        ledger: ledger.clone(),
        witness: witness.clone(),
        others: Arc::new(link()),
    };
    let (stuck, reports) = rounds::reports();
    tokio::spawn(rounds::Service::new(rounds, reports).run(stop));
    let machine = LedgerMachine::new(Arc::clone(view), ledger.clone(), Arc::new(Nobody));
    let (combining, combiner) = combine::Service::new(Arc::clone(view));
    tokio::spawn(combining.run());
    let (view, index, others) = (Arc::clone(view), index as u16, Arc::new(link()));
    let collector = Collector::new(view, index, ledger.clone(), witness.clone(), combiner, others);
    net.machines.lock().push((machine, ledger.clone()));
    Member { ledger, collector, witness, stuck, store, _folder: folder }
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

/// Waits until something holds that no event tells of.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect(what);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_wrong_shares_is_asked_last_until_it_is_cleared() {
    for garbles in [false, true] {
        let cluster = Cluster::start().await;
        let (world, net) = (&cluster.world, &cluster.net);
        let liars = if garbles { &net.garblers } else { &net.liars };
        *liars.lock() = vec![2];
        let blame = cluster.members[0].witness.blame();
        // Exchanges in which member 2 is not the last to be asked.
        let early = |number: &u8| world.nro(*number).payload().terms.exchange().as_bytes()[0] % 4 != 3;
        let mut numbers = (1..60).filter(early);
        let mut next = async || {
            net.asked.lock().clear();
            let exchange = cluster.order(numbers.next().unwrap(), Verdict::Released).await;
            cluster.voted(0).await;
            assert_eq!(cluster.token(0, &exchange).await.unwrap(), Verdict::Released);
            let asked = net.asked.lock().clone();
            asked.into_iter().filter(|(by, _)| *by == 0).map(|(_, member)| member).collect::<Vec<_>>()
        };
        let mut asked = next().await;
        while !blame.is_blamed(2) {
            asked = next().await;
        }
        assert!(asked.contains(&2), "{asked:?}");
        for _ in 0..8 {
            let asked = next().await;
            let place = asked.iter().position(|member| *member == 2);
            // A slow machine makes it impatient: then all are asked, and this one last.
            assert!(place.is_none_or(|place| place == 2), "{asked:?}");
        }
        let record = blame.records().remove(0);
        assert_eq!((record.kind, blame.records().len()), (blame::Kind::Share, 1));
        assert!(!record.evidence.is_empty());

        // It goes on counting: with another member gone it is needed, and its valid share taken.
        net.lost.lock().push(1);
        liars.lock().clear();
        let asked = next().await;
        assert!(asked.contains(&2), "{asked:?}");
        assert!(blame.is_blamed(2), "one good share changes nothing");
        net.lost.lock().clear();

        let third = world.view.members()[2].key_id();
        assert_eq!(blame.clear(third, third).await, Ok(1));
        let mut asked = next().await;
        for _ in 0..8 {
            if asked.iter().take(2).any(|member| *member == 2) {
                break;
            }
            asked = next().await;
        }
        assert!(asked.iter().take(2).any(|member| *member == 2), "{asked:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_share_of_one_who_is_blamed_is_not_combined() {
    let cluster = Cluster::start().await;
    let blame = cluster.members[0].witness.blame();
    blame.share(2, &ExchangeId::new([1; 32]), Verdict::Released, b"before");
    *cluster.net.liars.lock() = vec![2];
    let exchange = cluster.order(1, Verdict::Released).await;
    let decided = tokio::time::timeout(CONTESTED, cluster.members[0].witness.certified(&exchange)).await;
    decided.expect("a certificate").unwrap();
    // Two are gone: it is asked, and two shares are not even combined.
    *cluster.net.lost.lock() = vec![1, 3];
    let failed = cluster.token(0, &exchange).await;
    assert!(matches!(failed, Err(Error::TooFew { needed: 3, found: 1 })), "{failed:?}");
    assert_eq!(blame.records()[0].count, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_votes_of_one_member_are_kept_as_proof_and_a_forged_one_blames_its_sender() {
    let cluster = Cluster::start().await;
    let (world, witness) = (&cluster.world, &cluster.members[0].witness);
    let blame = witness.blame();
    let exchange = cluster.order(1, Verdict::Released).await;
    assert_eq!(cluster.token(0, &exchange).await.unwrap(), Verdict::Released);
    let third = world.view.members()[2].key_id();
    let held = || witness.votes(1).unwrap().into_iter().find(|held| *held.vote.signer() == third);
    until("the vote of member 2", || held().is_some()).await;
    let honest = held().unwrap();
    let vote = |change: &dyn Fn(&mut Vote), key: usize| {
        let mut vote = *honest.vote.payload();
        change(&mut vote);
        Received { vote: Signed::sign(vote, third, &world.identities[key]), leaves: honest.leaves.clone() }
    };

    let forged = vote(&|vote| vote.ballot = Digest::of(b"none"), 1);
    witness.receive(3, vec![forged]);
    until("the sender is blamed", || blame.is_blamed(3)).await;
    assert!(!blame.is_blamed(2) && !blame.is_blamed(1), "not the author, and not who is named");
    // What is said to be its leaves is another's word, and must not hide it.
    let mut other = vote(&|vote| vote.log_root = Digest::of(b"another log"), 2);
    other.leaves = vec![0];
    witness.receive(1, vec![other.clone(), other, honest.clone()]);
    until("the author is convicted", || blame.is_blamed(2)).await;
    let roots = blame.records().into_iter().find(|record| record.member == third).unwrap();
    assert_eq!((roots.kind, roots.count), (blame::Kind::Roots, 1));
    let proof = Misconduct::parse(&roots.evidence).unwrap();
    assert!(misconduct::verify(&proof, &world.trust()).unwrap().subject.contains("size 1"));
    // It goes on counting.
    assert!(witness.votes(1).unwrap().iter().any(|held| *held.vote.signer() == third));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_signed_elsewhere_convicts_whose_vote_is_here() {
    let cluster = Cluster::start().await;
    let world = &cluster.world;
    // Entry 1 is decided without member 2, so that its vote on it is not here.
    cluster.net.lost.lock().push(2);
    let exchange = cluster.order(1, Verdict::Released).await;
    for member in [0, 1, 3] {
        assert_eq!(cluster.token(member, &exchange).await.unwrap(), Verdict::Released);
    }
    cluster.net.lost.lock().clear();
    cluster.order(2, Verdict::Released).await;
    let third = world.view.members()[2].key_id();
    // In another log, entry 1 made it as long as entry 2 does here: with these leaves, or with others.
    for (member, others) in [(0, false), (1, true)] {
        let witness = &cluster.members[member].witness;
        let held = |sequence, key| {
            let votes = witness.votes(sequence).unwrap();
            votes.into_iter().find(|held| *held.vote.signer() == key)
        };
        until("its vote on entry 2", || held(2, third).is_some()).await;
        assert!(held(1, third).is_none());
        let (first, second) = (held(1, world.view.members()[3].key_id()).unwrap(), held(2, third).unwrap());
        let (here, there) = (first.vote.payload(), second.vote.payload());
        let ballot = if others { Digest::of(b"other leaves") } else { here.ballot };
        let fork = Vote { log_size: there.log_size, log_root: Digest::of(b"another log"), ballot, ..*here };
        let vote = Signed::sign(fork, third, &world.identities[2]);
        assert!(!witness.blame().is_blamed(2));
        witness.receive(3, vec![Received { vote, leaves: first.leaves }]);
        until("the contradiction is found", || witness.blame().is_blamed(2)).await;
        let kinds: Vec<_> =
            witness.blame().records().iter().map(|record| (record.member, record.kind)).collect();
        assert_eq!(kinds, [(third, blame::Kind::Roots)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_leaf_of_the_round_convicts_who_voted_here() {
    let cluster = Cluster::start().await;
    let (world, witness) = (&cluster.world, &cluster.members[0].witness);
    let exchange = cluster.order(1, Verdict::Released).await;
    assert_eq!(cluster.token(0, &exchange).await.unwrap(), Verdict::Released);
    until("all votes", || witness.votes(1).unwrap().len() == MEMBERS).await;
    let ours = cluster.members[0].ledger.exchange(&exchange).unwrap().unwrap().leaf;
    witness.compare(&world.certificate(ours, &[1, 2, 3])).unwrap();
    assert_eq!(witness.blame().records(), []);
    let other = Leaf { verdict: Verdict::Withdrawn, ..ours };
    witness.compare(&world.certificate(Leaf { round: Round::new(2).unwrap(), ..other }, &[1, 2, 3])).unwrap();
    assert_eq!(witness.blame().records(), [], "another round may have another leaf");
    let theirs = world.certificate(other, &[1, 2, 3]);
    theirs.check(&world.view).unwrap();
    witness.compare(&theirs).unwrap();
    let records = witness.blame().records();
    assert_eq!(witness.blame().names(), ["n2", "n3", "n4"]);
    for record in records {
        assert_eq!(record.kind, blame::Kind::Leaves);
        let proof = Misconduct::parse(&record.evidence).unwrap();
        misconduct::verify(&proof, &world.trust()).unwrap();
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn what_too_few_vote_for_takes_no_more_memory_than_it_may_and_is_completed_when_somebody_asks() {
    const INCOMPLETE: usize = 80;
    let cluster = Cluster::keeping(INCOMPLETE).await;
    *cluster.net.lost.lock() = vec![1, 2, 3];
    let (oldest, old) = (cluster.order(1, Verdict::Released).await, cluster.order(2, Verdict::Refused).await);
    let witness = cluster.members[0].witness.clone();
    let waiting = {
        let (witness, oldest) = (witness.clone(), oldest);
        tokio::spawn(async move { witness.certified(&oldest).await.map(|exchange| exchange.leaf.verdict) })
    };
    while witness.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    // Nobody votes for what follows, ever: all saw it too late.
    let late = Span::from_millis(cluster.world.view.parameters().skew.millis() + 1);
    for number in 3..=3 + 2 * INCOMPLETE as u8 {
        cluster.order_seen(number, Verdict::Released, late).await;
    }
    cluster.voted(0).await;
    // One more while it is looked at.
    assert!((INCOMPLETE..=INCOMPLETE + 1).contains(&witness.uncertified()), "{}", witness.uncertified());

    // Now all but one are there, who is missing for every one of them: what somebody asks for must come first.
    *cluster.net.lost.lock() = vec![3];
    let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    let verdict = waited.expect("what somebody waits for stays").unwrap().unwrap();
    assert_eq!(verdict, Verdict::Released);
    assert_eq!(cluster.token(0, &old).await.unwrap(), Verdict::Refused, "dropped, and taken up again");
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
    store.choose(&[(chosen.clone(), leaves.clone())], &[]).await.unwrap();
    assert_eq!(store.chosen(&chosen).unwrap(), Some(Chosen { number: 1, leaves }));
    assert_eq!(store.chosen(&other).unwrap(), None, "the same sequence, another block");
    let elsewhere = Block { log_root: Digest::of(b"other leaves before"), ..chosen.clone() };
    assert_eq!(store.chosen(&elsewhere).unwrap(), None, "the same leaves, another log");
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
    let receipt = |seen, signed: &[u8]| Receipt { seen, signed: Some((b"nro".to_vec(), signed.to_vec())) };
    for (seen, signed) in [(now, &b"first"[..]), (after(0), b"second")] {
        store.put_receipt(&exchange, &receipt(seen, signed)).await.unwrap();
        assert_eq!(store.receipt(&exchange).unwrap(), Some(receipt(now, b"first")));
    }
    // Nor does a ballot's own sight of another change it.
    store.choose(&[], &[(exchange, after(5)), (ExchangeId::new([8; 32]), after(6))]).await.unwrap();
    assert_eq!(store.receipt(&exchange).unwrap(), Some(receipt(now, b"first")));
    let bare = Receipt { seen: after(6), signed: None };
    assert_eq!(store.receipt(&ExchangeId::new([8; 32])).unwrap(), Some(bare));
}

/// How long a contested exchange may take to be decided: a few rounds.
const CONTESTED: Duration = Duration::from_secs(30);

impl Cluster {
    /// Every member has the exchange decided, with this verdict and a certificate of a later round.
    async fn is_decided(&self, exchange: &ExchangeId, verdict: Verdict) {
        for member in 0..MEMBERS {
            let token = tokio::time::timeout(CONTESTED, self.token(member, exchange)).await;
            assert_eq!(token.expect("a contested exchange is decided").unwrap(), verdict);
            let decided = self.members[member].ledger.exchange(exchange).unwrap().unwrap();
            let certificate = self.members[member].witness.certificate(&decided).unwrap().unwrap();
            certificate.check(&self.world.view).unwrap();
            assert!(decided.leaf.round > Round::FIRST && certificate.leaf().verdict == verdict);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_too_few_saw_in_time_is_decided_in_a_later_round() {
    let cluster = Cluster::start().await;
    *cluster.net.late.lock() = vec![2, 3];
    for (number, verdict) in [(1, Verdict::Released), (2, Verdict::Withdrawn), (3, Verdict::Refused)] {
        let exchange = cluster.order(number, verdict).await;
        cluster.is_decided(&exchange, verdict).await;
    }
    let rounds = *cluster.net.rounds.lock();
    assert!(rounds >= 3, "{rounds} rounds were opened");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_nothing_is_opened_and_with_one_it_is() {
    let cluster = Cluster::start().await;
    *cluster.net.late.lock() = vec![2, 3];
    *cluster.net.lost.lock() = vec![1, 2];
    let exchange = cluster.order(1, Verdict::Released).await;
    let early = tokio::time::timeout(Duration::from_secs(4), cluster.members[0].witness.certified(&exchange));
    assert!(early.await.is_err(), "two members decide nothing");
    assert_eq!(*cluster.net.rounds.lock(), 0);
    *cluster.net.lost.lock() = vec![1];
    for member in [0, 2, 3] {
        let token = tokio::time::timeout(CONTESTED, cluster.token(member, &exchange)).await;
        assert_eq!(token.expect("three members decide").unwrap(), Verdict::Released);
    }
    cluster.net.lost.lock().clear();
    cluster.is_decided(&exchange, Verdict::Released).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promise_takes_the_share_of_the_first_round_away_and_a_later_one_gives_it() {
    let cluster = Cluster::start().await;
    // Members 0 and 1 never hear of each other's votes: two of them state before the others have voted.
    *cluster.net.lost.lock() = vec![2, 3];
    *cluster.net.silent.lock() = true;
    let exchange = cluster.order(1, Verdict::Released).await;
    let second = Round::new(2).unwrap();
    let state = async |member: usize| {
        let started = tokio::time::Instant::now();
        loop {
            match cluster.members[member].witness.statement(&exchange, second).await {
                Ok(statement) => return statement,
                Err(error) => {
                    assert!(started.elapsed() < Duration::from_secs(10), "{error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    };
    let (first, other) = (state(0).await, state(1).await);
    assert_eq!(state(0).await.bytes(), first.bytes(), "always the same bytes");
    assert!(first.payload().certificate.is_none() && other.payload().receipt == Some(after(10)));
    let third = cluster.members[0].witness.statement(&exchange, Round::new(3).unwrap()).await;
    assert!(matches!(third, Err(super::service::Error::Refused(Refusal::NotNext { .. }))), "{third:?}");
    // Now all votes arrive; but two have promised, and two shares make no token.
    cluster.net.lost.lock().clear();
    let decided = cluster.members[0].ledger.exchange(&exchange).unwrap().unwrap();
    let refused = tokio::time::timeout(CONTESTED, async {
        loop {
            match cluster.members[0].witness.share(&decided) {
                Err(super::service::Error::Refused(Refusal::NotCertified)) => tokio::task::yield_now().await,
                other => return other,
            }
        }
    });
    let refused = refused.await.expect("the certificate of round 1");
    assert!(
        matches!(&refused, Err(super::service::Error::Refused(Refusal::Promised { promised, .. })) if *promised == second),
        "{refused:?}"
    );
    // Who has promised nothing yet states what it holds by now: the certificate.
    let certified = tokio::time::timeout(CONTESTED, cluster.members[2].witness.certified(&exchange));
    certified.await.expect("the certificate of round 1").unwrap();
    let stated = state(2).await;
    let held = stated.payload().certificate.as_ref().map(|certificate| *certificate.leaf());
    assert!(held == Some(decided.leaf), "{held:?}");
    *cluster.net.silent.lock() = false;
    // Whoever collects shares tells of it, and the next round is opened, with the certificate of the first.
    let token = tokio::time::timeout(CONTESTED, async {
        loop {
            match cluster.token(2, &exchange).await {
                Ok(verdict) => return verdict,
                Err(Error::TooFew { .. }) => cluster.members[0].stuck.stuck(exchange),
                Err(other) => panic!("{other}"),
            }
        }
    });
    assert_eq!(token.await.expect("a further round"), Verdict::Released);
    let last = cluster.members[0].ledger.exchange(&exchange).unwrap().unwrap();
    assert!(last.leaf.round >= second && last.leaf.time == decided.leaf.time, "the certified leaf again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_refused_while_the_exchange_may_be_decided_as_it_stands() {
    let cluster = Cluster::start().await;
    let second = Round::new(2).unwrap();
    let refused =
        async |exchange: &ExchangeId| match cluster.members[0].witness.statement(exchange, second).await {
            Err(super::service::Error::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        };
    let unknown = ExchangeId::new([9; 32]);
    assert!(matches!(refused(&unknown).await, Refusal::NotNext { last: 0, .. }));
    *cluster.net.lost.lock() = vec![1, 2, 3];
    let exchange = cluster.order(1, Verdict::Released).await;
    assert!(matches!(refused(&exchange).await, Refusal::TooSoon { .. }));
    cluster.net.lost.lock().clear();
    assert_eq!(cluster.token(0, &exchange).await.unwrap(), Verdict::Released);
    assert!(matches!(refused(&exchange).await, Refusal::Decided));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_the_ledger_does_not_have_is_not_passed_over_in_a_statement() {
    let cluster = Cluster::start().await;
    *cluster.net.lost.lock() = vec![1, 2, 3];
    let exchange = cluster.order(1, Verdict::Released).await;
    // It was certified in another log: as the second entry there, or in the same place.
    for (member, before) in [(0, true), (1, false)] {
        let (world, mut other) = (&cluster.world, LedgerMemory::new());
        let commands = [(2, Verdict::Refused), (1, Verdict::Withdrawn)];
        for (number, verdict) in commands.into_iter().skip(usize::from(!before)) {
            let entry = world.entry(0, &other.state, after(11), &[world.command(number, verdict)]);
            other.apply(world, &entry).unwrap();
        }
        let block = other.blocks.last().unwrap().clone();
        assert_eq!(block.leaves[0].exchange, exchange);
        let mut all = Leaves::none(1);
        all.insert(0);
        let certified = [(super::tally::Tally::new(block), all)];
        cluster.members[member].store.put_certificates(&certified).await.unwrap();
        let stated = cluster.members[member].witness.statement(&exchange, Round::new(2).unwrap()).await;
        let elsewhere = Refusal::Elsewhere { round: Round::FIRST };
        assert!(
            matches!(&stated, Err(super::service::Error::Refused(refusal)) if *refusal == elsewhere),
            "{stated:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_has_every_round_of_an_exchange() {
    let cluster = Cluster::start().await;
    *cluster.net.late.lock() = vec![2, 3];
    let contested = cluster.order(1, Verdict::Withdrawn).await;
    cluster.is_decided(&contested, Verdict::Withdrawn).await;
    cluster.net.late.lock().clear();
    let other = cluster.order(2, Verdict::Refused).await;
    assert_eq!(cluster.token(0, &other).await.unwrap(), Verdict::Refused);

    let from = cluster.members[0].ledger.clone();
    let folder = tempfile::tempdir().unwrap();
    let owner = store::Identity { node: "n1".into(), cluster: cluster.world.view.cluster() };
    let home = Arc::new(store::Folder::open(folder.path(), &owner).unwrap());
    let home = store::Home::new(home, Memory::default(), |error| panic!("{error}"));
    let to = Ledger::open(home).unwrap();
    let mut records: Vec<(u8, Vec<u8>)> = Vec::new();
    let collected = from.records().unwrap().read::<store::Error>(&mut |record| {
        records.push(match record {
            store::Record::State(bytes) => (0, bytes.to_vec()),
            store::Record::Block(bytes) => (1, bytes.to_vec()),
            store::Record::Exchange(bytes) => (2, bytes.to_vec()),
        });
        Ok(())
    });
    collected.unwrap();
    let (_, state) = records.remove(0);
    let mut rebuild = Rebuild::toward(&state, cluster.world.view.parameters().retention).unwrap();
    let mut staging = to.stage().await.unwrap();
    let mut rounds = Vec::new();
    for (kind, bytes) in records {
        if kind == 1 {
            staging.put_block(&rebuild.block(&bytes).unwrap()).await.unwrap();
        } else {
            let exchange = rebuild.exchange(&bytes).unwrap();
            if exchange.leaf.exchange == contested {
                let before = staging.round(&contested).unwrap().map_or(0, Round::get);
                assert_eq!(before + 1, exchange.leaf.round.get());
                rounds.push(exchange.clone());
            }
            staging.put_exchange(&exchange).await.unwrap();
        }
    }
    let ready = staging.finish(None, None, rebuild.finish().unwrap()).await.unwrap();
    ready.install().await.unwrap();
    assert!(rounds.len() > 1, "{rounds:?}");
    assert_eq!(to.rounds(&contested).unwrap(), rounds);
    assert_eq!(from.rounds(&contested).unwrap(), rounds);
    assert_eq!(to.exchange(&contested).unwrap(), from.exchange(&contested).unwrap());
    assert_eq!(to.rounds(&other).unwrap().len(), 1);

    // What need not be kept any more is dropped from each round, and goes into a snapshot without it.
    let late = after(20).plus(cluster.world.view.parameters().retention);
    let entry = cluster.world.entry(0, &to.state(), late, &[cluster.world.command(2, Verdict::Refused)]);
    let entry = fairpost_proto::entry::Entry::parse(&entry).unwrap();
    let applied = crate::ledger::apply(&cluster.world.view, &to.state(), &entry, 99, &to).unwrap().unwrap();
    to.commit(Bytes::from_static(b"position"), None, Some(&applied)).await.unwrap();
    let retention = cluster.world.view.parameters().retention;
    while to.drop_due(retention, 1).await.unwrap().more {}
    let dropped = to.rounds(&contested).unwrap();
    assert!(
        dropped.iter().all(|exchange| exchange.dropped == Some(late) && exchange.nro.is_empty()),
        "{dropped:?}"
    );
    let leaves =
        |rounds: &[crate::ledger::Exchange]| rounds.iter().map(|exchange| exchange.leaf).collect::<Vec<_>>();
    assert_eq!(leaves(&dropped), leaves(&rounds));
}

#[tokio::test]
async fn a_certificate_of_another_log_is_known() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let (database, writer) = open(folder.path(), Store::Witness, WitnessStore::COLUMNS);
    let mut share = share_file(folder.path(), &world, 0);
    let (store, _) = WitnessStore::open(database, writer, &mut share).await.unwrap();
    let mut ledger = LedgerMemory::new();
    let entry = world.entry(0, &ledger.state, after(10), &[world.command(1, Verdict::Released)]);
    ledger.apply(&world, &entry).unwrap();
    let statements = [0, 1, 2].map(|member| world.statement(member, (1, 2), after(40), |_| {}));
    let opening = Command::Round(world.opening(1, &statements, &[Verdict::Withdrawn]));
    let entry = world.entry(0, &ledger.state, after(41), &[opening]);
    ledger.apply(&world, &entry).unwrap();
    let exchange = ledger.blocks[0].leaves[0].exchange;
    assert_eq!(store.held(&exchange).unwrap(), None);
    let mut all = Leaves::none(1);
    all.insert(0);
    for (place, expected) in [(1, 2), (0, 2)] {
        let block = ledger.blocks[place].clone();
        store.put_certificates(&[(super::tally::Tally::new(block), all.clone())]).await.unwrap();
        let held = store.held(&exchange).unwrap().unwrap();
        assert_eq!(held.round.get(), expected, "the highest round, whichever came last");
        assert_eq!((held.sequence, held.root, held.place), (2, ledger.blocks[1].log_root, 0));
    }
}

#[tokio::test]
async fn votes_statements_and_acknowledgements_share_one_counter() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let (database, writer) = open(folder.path(), Store::Witness, WitnessStore::COLUMNS);
    let mut share = share_file(folder.path(), &world, 0);
    let (store, _) = WitnessStore::open(database, writer, &mut share).await.unwrap();
    let mut ledger = LedgerMemory::new();
    let entry = world.entry(0, &ledger.state, after(10), &[world.command(1, Verdict::Released)]);
    ledger.apply(&world, &entry).unwrap();
    let (block, exchange) = (ledger.blocks[0].clone(), ledger.blocks[0].leaves[0].exchange);
    store.choose(&[(block, Leaves::none(1))], &[]).await.unwrap();
    let second = Round::new(2).unwrap();
    let certificate = world.certificate(ledger.blocks[0].leaves[0], &[0, 1, 2]);
    let stated =
        Stated { number: 0, certificate: Some(certificate), receipt: Some(after(9)), clock: after(12) };
    assert_eq!(store.state(&exchange, second, stated).await.unwrap().number, 2);
    let leaf = Leaf { round: second, ..ledger.blocks[0].leaves[0] };
    store.acknowledge(&[leaf]).await.unwrap();
    assert_eq!(store.acknowledged(&exchange, second).unwrap(), Some((3, leaf.hash())));
    let held = store.stated(&exchange, second).unwrap().unwrap();
    assert_eq!((held.number, held.receipt, held.clock), (2, Some(after(9)), after(12)));
    held.certificate.unwrap().check(&world.view).unwrap();
    let signed = store.signed(&exchange, second).unwrap();
    let expected = rules::Signed { voted: None, acknowledged: Some(leaf.hash()), promised: Some(second) };
    assert_eq!(signed, expected);
    assert_eq!(store.signed(&exchange, Round::FIRST).unwrap().acknowledged, None);
}
