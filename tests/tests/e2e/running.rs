//! Nodes that come and go while a cluster works.

use std::fs;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use fairpost::client::{Client, Options};
use fairpost::sealed_mail::SealedMail;
use fairpost_api::v1::{NodeStatus, ShareState, State};
use fairpost_node::config::Config;
use fairpost_node::store::Store;
use fairpost_proto::ids::{Protocol, Span, Verdict};
use fairpost_proto::request::Method;
use fairpost_tests::{
    Cluster, People, Settings, call, envelope, eventually, get_proof, mail, open, prove, request,
};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

const HOUR: Span = Span::from_seconds(3600);
const EXCHANGE: &str = "fairpost.v1.Exchange";
const OTHERS: [usize; 3] = [1, 2, 3];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_becomes_of_one_node_the_cluster_goes_on_and_the_node_comes_back() {
    let mut cluster = Cluster::start(Settings::default()).await.unwrap();
    let people = People::new(&cluster).unwrap();
    let mut first = people.seal(&cluster, Protocol::Cmp2, HOUR).unwrap();
    assert_eq!(open(&through(&cluster, 0), &people, &mut first).await.unwrap(), mail());

    a_node_tells_what_it_is_and_how_it_does(&cluster).await;
    sigterm_under_load_loses_nothing(&mut cluster, &people).await;
    a_leader_that_hangs_is_replaced_and_rejoins(&mut cluster, &people).await;
    a_lost_ledger_is_rebuilt_from_the_log(&mut cluster, &people, &first).await;
    a_node_without_its_witness_store_signs_nothing(&mut cluster, &people, &first).await;
}

fn through(cluster: &Cluster, first: usize) -> Client {
    let options = Options {
        first: Some(first),
        attempt: Duration::from_secs(3),
        deadline: Duration::from_secs(50),
        ..Options::default()
    };
    Client::new(cluster.trust.clone(), options).unwrap()
}

/// The sample of a metric with these labels, out of the exporter's text.
fn sample(text: &str, metric: &str) -> f64 {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    lines.next_back().unwrap_or_else(|| panic!("no {metric} in\n{text}")).parse().unwrap()
}

async fn a_node_tells_what_it_is_and_how_it_does(cluster: &Cluster) {
    let mut reflection = ServerReflectionClient::new(cluster.channel(0).unwrap());
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let asked = tokio_stream::once(ServerReflectionRequest { host: String::new(), message_request });
    let mut answers = reflection.server_reflection_info(asked).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().and_then(|answer| answer.message_response);
    let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
    let services: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    for service in ["Exchange", "Cluster", "Peer", "Consensus", "Admin"] {
        assert!(services.contains(&format!("fairpost.v1.{service}").as_str()), "{service}: {services:?}");
    }
    assert!(services.contains(&"grpc.health.v1.Health"), "{services:?}");

    for service in ["", EXCHANGE] {
        assert_eq!(cluster.health(0, service).await.unwrap(), ServingStatus::Serving, "{service:?}");
    }
    assert!(cluster.health(0, "fairpost.v1.Nothing").await.is_err());

    let text = cluster.metrics(0).await.unwrap();
    assert_eq!(sample(&text, "fairpost_has_leader"), 1.0);
    assert_eq!(sample(&text, "fairpost_share_usable"), 1.0);
    assert!(sample(&text, "fairpost_verdicts_total{verdict=\"released\"}") >= 1.0);
    assert!(sample(&text, "fairpost_log_fsync_seconds_count") >= 1.0);
    assert!(sample(&text, "fairpost_witness_fsync_seconds_count") >= 1.0);
}

/// How many mails are opened while a node is told to stop, and after how many it is.
const LOAD: usize = 32;
const BEFORE: usize = 6;

async fn sigterm_under_load_loses_nothing(cluster: &mut Cluster, people: &People) {
    let victim = cluster.leader().await.unwrap();
    let seal = |protocol| people.seal(cluster, protocol, HOUR).unwrap();
    let mails = (0..LOAD).map(|count| seal(if count % 2 == 0 { Protocol::Cmp1 } else { Protocol::Cmp2 }));
    let waiting: Mutex<Vec<SealedMail>> = Mutex::new(mails.collect());
    let (opened, progress) = (Mutex::new(Vec::new()), Notify::new());
    let clients = [0, 1, 2, 3].map(|node| through(cluster, node));
    let work = async |client: &Client| {
        loop {
            let Some(mut sealed) = waiting.lock().unwrap().pop() else { break };
            assert_eq!(open(client, people, &mut sealed).await.unwrap(), mail());
            opened.lock().unwrap().push(sealed);
            progress.notify_one();
        }
    };

    // One that never says a word, and one that keeps a call open for ever.
    let address = cluster.trust.view().members()[victim].address.clone();
    let silent = TcpStream::connect(address).await.unwrap();
    let mut health = HealthClient::new(cluster.channel(victim).unwrap());
    let mut stalled = health.watch(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
    assert!(stalled.message().await.unwrap().is_some());

    let stop = async {
        while opened.lock().unwrap().len() < BEFORE {
            progress.notified().await;
        }
        assert!(!waiting.lock().unwrap().is_empty(), "the load was over before the node was told to stop");
        let told = Instant::now();
        let status = cluster.stop(victim).await.unwrap();
        (status, told.elapsed())
    };
    let [first, second, third, fourth] = &clients;
    let (.., (status, took)) = tokio::join!(work(first), work(second), work(third), work(fourth), stop);
    drop((silent, stalled));
    assert_eq!(status.code(), Some(0), "{}", cluster.log(victim));
    assert!(took < Duration::from_secs(20), "it took {took:?}");

    cluster.launch(victim).unwrap();
    cluster.ready(victim).await.unwrap();
    // Told to stop all at once, and started again: everything that was acknowledged is there.
    for node in 0..4 {
        cluster.signal(node, "TERM").unwrap();
    }
    for node in 0..4 {
        assert_eq!(cluster.ended(node).await.unwrap().code(), Some(0), "{}", cluster.log(node));
        cluster.launch(node).unwrap();
    }
    for node in 0..4 {
        cluster.ready(node).await.unwrap();
    }
    let opened = opened.into_inner().unwrap();
    assert_eq!(opened.len(), LOAD);
    let client = through(cluster, victim);
    for mut sealed in opened {
        assert_eq!(prove(&client, people, &mut sealed).await.unwrap().verdict, Verdict::Released);
    }
}

async fn a_leader_that_hangs_is_replaced_and_rejoins(cluster: &mut Cluster, people: &People) {
    let old = cluster.leader().await.unwrap();
    let others: Vec<usize> = (0..4).filter(|node| *node != old).collect();
    let mut sealed = people.seal(cluster, Protocol::Cmp2, HOUR).unwrap();
    cluster.signal(old, "STOP").unwrap();
    // The client does not know that its node hangs, and goes on to one that does not.
    let opened = open(&through(cluster, old), people, &mut sealed).await;
    let new = cluster.leader_among(&others).await;
    cluster.signal(old, "CONT").unwrap();
    assert_eq!(opened.unwrap(), mail());
    let leader = cluster.nodes[new.unwrap()].name.clone();
    let name = cluster.nodes[old].name.clone();
    let rejoined = async || {
        let (at, reference) = (cluster.status(old).await.ok()?, cluster.status(others[0]).await.ok()?);
        let follows = at.leader == reference.leader && at.sequence == reference.sequence && at.ready;
        follows.then_some(at)
    };
    let status = eventually("the old leader's return", rejoined).await.unwrap();
    assert!(status.term > 1 && !leader.is_empty() && leader != name, "{leader} led after {name}: {status:?}");
    assert_eq!(prove(&through(cluster, old), people, &mut sealed).await.unwrap().verdict, Verdict::Released);
}

/// Stops a node, deletes one of its databases, and starts it again.
async fn lose(cluster: &mut Cluster, node: usize, store: Store) {
    assert_eq!(cluster.stop(node).await.unwrap().code(), Some(0));
    let data = Config::load(&cluster.nodes[node].config).unwrap().data;
    fs::remove_dir_all(data.join(store.name())).unwrap();
    cluster.launch(node).unwrap();
}

/// That one node, by itself, has all that proves an exchange.
async fn has_proof(cluster: &Cluster, node: usize, people: &People, sealed: &SealedMail) {
    let (channel, id) = (cluster.channel(node).unwrap(), cluster.trust.cluster());
    let parts = get_proof(&channel, id, &people.sender, sealed.nro()).await.unwrap();
    assert_eq!(parts.state(), State::Released);
    assert!(!parts.certificate.is_empty() && parts.token.len() == 96 && !parts.evidence.is_empty());
    let asked = request(id, Method::Status, sealed.nro(), None);
    let message = envelope(&people.recipient, asked, sealed.nro().bytes(), None).unwrap();
    let outcome = call(&channel, Method::Status, message).await.unwrap();
    assert_eq!((outcome.state(), outcome.token), (State::Released, parts.token));
}

/// Waits until a node has decided what the first of the others has, and gives its status.
async fn level(cluster: &Cluster, node: usize) -> NodeStatus {
    let probe = async || {
        let (at, reference) = (cluster.status(node).await.ok()?, cluster.status(OTHERS[0]).await.ok()?);
        let level = at.sequence == reference.sequence && at.evidence_log_root == reference.evidence_log_root;
        level.then_some(at)
    };
    eventually("a node's catching up", probe).await.unwrap()
}

async fn a_lost_ledger_is_rebuilt_from_the_log(cluster: &mut Cluster, people: &People, first: &SealedMail) {
    lose(cluster, 0, Store::Ledger).await;
    cluster.ready(0).await.unwrap();
    let status = level(cluster, 0).await;
    assert!(status.sequence > LOAD as u64 / 4, "{status:?}");
    has_proof(cluster, 0, people, first).await;
}

async fn a_node_without_its_witness_store_signs_nothing(
    cluster: &mut Cluster,
    people: &People,
    first: &SealedMail,
) {
    lose(cluster, 0, Store::Witness).await;
    let said = async || {
        let status = cluster.status(0).await.ok()?;
        status.not_ready_because.contains("witness store").then_some(status)
    };
    let status = eventually("the reason why the node is not ready", said).await.unwrap();
    assert_eq!((status.ready, status.share()), (false, ShareState::Closed));
    let before = level(cluster, 0).await;
    for service in ["", EXCHANGE] {
        assert_eq!(cluster.health(0, service).await.unwrap(), ServingStatus::NotServing, "{service:?}");
    }
    let log = cluster.log(0);
    assert!(log.contains("serves and signs nothing"), "{log}");
    has_proof(cluster, 0, people, first).await;

    // The other three are a quorum, whichever node is asked.
    for node in [0, 1, 2, 3] {
        let mut sealed = people.seal(cluster, Protocol::Cmp1, HOUR).unwrap();
        assert_eq!(open(&through(cluster, node), people, &mut sealed).await.unwrap(), mail());
        let report = prove(&through(cluster, node), people, &mut sealed).await.unwrap();
        assert!(!report.voters.contains(&cluster.nodes[0].name), "{:?}", report.voters);
    }
    let after = level(cluster, 0).await;
    assert!(after.sequence > before.sequence);
    assert_eq!((after.voted_sequence, after.share()), (before.voted_sequence, ShareState::Closed));
    assert_eq!(sample(&cluster.metrics(0).await.unwrap(), "fairpost_share_usable"), 0.0);
    // Nor does starting it once more open the share.
    cluster.stop(0).await.unwrap();
    cluster.launch(0).unwrap();
    assert_eq!(level(cluster, 0).await.share(), ShareState::Closed);
}
