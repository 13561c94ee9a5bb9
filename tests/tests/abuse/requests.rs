//! One identity floods a node with requests; another works through the same node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fairpost_api::v1::exchange_client::ExchangeClient;
use fairpost_api::v1::{PartyRequest, State};
use fairpost_proto::evidence::{Answer, Nrr};
use fairpost_proto::ids::{Protocol, Span};
use fairpost_proto::request::Method;
use fairpost_tests::{Cluster, People, Settings, call, envelope, get_proof, request};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::wire::{self, FLOODER};

const HOUR: Span = Span::from_seconds(3600);
/// The node that is flooded: not the first leader's more often than any other.
const NODE: usize = 1;
const CONNECTIONS: usize = 4;
const STREAMS: usize = 200;
/// Windows without and with the flood take turns, so that a busy machine is as busy for both.
const WINDOWS: usize = 4;
const CALLS: usize = 50;
/// How much slower the slowest percent may become.
const FACTOR: u32 = 3;
/// How many kilobytes a node may need for the flood.
const MEMORY: u64 = 256 * 1024;

/// What a flooder sends, over and over.
#[derive(Clone)]
struct Flood {
    messages: Arc<Vec<(Method, PartyRequest)>>,
    on: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
    wrong: Arc<std::sync::Mutex<Vec<Status>>>,
}

impl Flood {
    /// Status, proof and receipt of a mail that was opened, and the same with broken signatures.
    async fn new(cluster: &Cluster) -> Self {
        let people = People::new(cluster).unwrap();
        let sealed = people.seal(cluster, Protocol::Cmp2, HOUR).unwrap();
        let nro = sealed.nro();
        let receipt = people.recipient.sign(Nrr(Answer::to(nro))).unwrap().bytes().to_vec();
        let mut messages = Vec::new();
        for (method, evidence) in
            [(Method::Redeem, Some(receipt.as_slice())), (Method::Status, None), (Method::Proof, None)]
        {
            let asked = request(cluster.trust.cluster(), method, nro, evidence);
            let sound = envelope(&people.recipient, asked, nro.bytes(), evidence).unwrap();
            let mut broken = sound.clone();
            *broken.request.last_mut().unwrap() ^= 1;
            messages.extend([(method, sound), (method, broken)]);
        }
        let outcome = call(&cluster.channel(NODE).unwrap(), Method::Redeem, messages[0].1.clone()).await;
        assert_eq!(outcome.unwrap().state(), State::Released);
        get_proof(&cluster.channel(NODE).unwrap(), cluster.trust.cluster(), &people.sender, nro)
            .await
            .unwrap();
        Self {
            messages: Arc::new(messages),
            on: Arc::default(),
            sent: Arc::default(),
            refused: Arc::default(),
            wrong: Arc::default(),
        }
    }

    /// Sends whenever the flood is on, and never waits as it is told to.
    async fn send(self, channel: Channel, first: usize) {
        let mut client = ExchangeClient::new(channel);
        for count in first.. {
            while !self.on.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let (method, message) = &self.messages[count % self.messages.len()];
            let answer = match method {
                Method::Redeem => client.redeem(message.clone()).await.err(),
                Method::Proof => client.get_proof(message.clone()).await.err(),
                _ => client.get_status(message.clone()).await.err(),
            };
            self.sent.fetch_add(1, Ordering::Relaxed);
            match answer {
                None => {}
                Some(status) if status.code() == Code::InvalidArgument && count % 2 == 1 => {}
                Some(status) if is_overloaded(&status) => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                }
                Some(status) => self.wrong.lock().unwrap().push(status),
            }
        }
    }

    /// In a thread of its own, from another address; ends with the test.
    fn start(&self, cluster: &Cluster) {
        let flood = self.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let guard = runtime.enter();
        let channels: Vec<Channel> =
            (0..CONNECTIONS).map(|_| wire::channel(cluster, NODE, FLOODER)).collect();
        drop(guard);
        std::thread::spawn(move || {
            runtime.block_on(async move {
                let mut tasks = tokio::task::JoinSet::new();
                for stream in 0..CONNECTIONS * STREAMS {
                    tasks.spawn(flood.clone().send(channels[stream % CONNECTIONS].clone(), stream));
                }
                tasks.join_all().await;
            });
        });
    }
}

/// That the answer says what a program needs in order to come again.
fn is_overloaded(status: &Status) -> bool {
    let details = status.get_error_details();
    status.code() == Code::ResourceExhausted
        && details.retry_info().and_then(|info| info.retry_delay).is_some_and(|delay| !delay.is_zero())
        && details.error_info().is_some_and(|info| info.reason == "OVERLOADED" && info.domain == "fairpost")
}

/// Redeems so many mails, one after the other; gives how long each took.
async fn work(cluster: &Cluster, people: &People, channel: &Channel) -> Vec<Duration> {
    let mut took = Vec::new();
    for _ in 0..CALLS {
        let sealed = people.seal(cluster, Protocol::Cmp2, HOUR).unwrap();
        let nro = sealed.nro();
        let receipt = people.recipient.sign(Nrr(Answer::to(nro))).unwrap().bytes().to_vec();
        let asked = request(cluster.trust.cluster(), Method::Redeem, nro, Some(&receipt));
        let message = envelope(&people.recipient, asked, nro.bytes(), Some(&receipt)).unwrap();
        let began = Instant::now();
        let outcome = call(channel, Method::Redeem, message).await.unwrap();
        took.push(began.elapsed());
        assert_eq!(outcome.state(), State::Released);
    }
    took
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[(times.len() * 99).div_ceil(100) - 1]
}

/// The slowest percent of another's calls, without and with the flood.
async fn compare(cluster: &Cluster, flood: &Flood, people: &People) -> (Duration, Duration) {
    let channel = cluster.channel(NODE).unwrap();
    let (mut alone, mut flooded) = (Vec::new(), Vec::new());
    for _ in 0..WINDOWS {
        alone.extend(work(cluster, people, &channel).await);
        flood.on.store(true, Ordering::Relaxed);
        let refused = flood.refused.load(Ordering::Relaxed);
        while flood.refused.load(Ordering::Relaxed) == refused {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        flooded.extend(work(cluster, people, &channel).await);
        flood.on.store(false, Ordering::Relaxed);
        // What is still under way is of the flood.
        let quiet = async || {
            let text = wire::metrics(cluster, NODE).await;
            wire::sample(&text, "fairpost_queue_working{queue=\"arrivals\"}").filter(|count| *count == 0.0)
        };
        fairpost_tests::eventually("that the flood is over", quiet).await.unwrap();
    }
    (p99(alone), p99(flooded))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_one_identity_is_shed_and_anothers_p99_stays_within_three_times() {
    let cluster = Cluster::start(Settings::default()).await.unwrap();
    let people = People::new(&cluster).unwrap();
    let flood = Flood::new(&cluster).await;
    flood.start(&cluster);
    // Whatever is slow once only.
    work(&cluster, &people, &cluster.channel(NODE).unwrap()).await;
    let memory = wire::resident(&cluster, NODE);
    let leader = cluster.leader().await.unwrap();
    let term = cluster.status(leader).await.unwrap().term;

    let (mut alone, mut flooded) = compare(&cluster, &flood, &people).await;
    println!("p99 alone {alone:?}, flooded {flooded:?}");
    if flooded > alone * FACTOR {
        // Machines have bad moments. Another try, by the same measure.
        (alone, flooded) = compare(&cluster, &flood, &people).await;
        println!("again: p99 alone {alone:?}, flooded {flooded:?}");
    }
    let (sent, refused) = (flood.sent.load(Ordering::Relaxed), flood.refused.load(Ordering::Relaxed));
    let grown = wire::resident(&cluster, NODE).saturating_sub(memory);
    println!("sent {sent}, refused {refused}, memory grew by {grown} kB");
    assert!(flooded <= alone * FACTOR, "p99 was {alone:?}, and with the flood {flooded:?}");
    assert!(refused >= (CONNECTIONS * STREAMS) as u64, "{refused} of {sent} were refused");
    let wrong = flood.wrong.lock().unwrap().clone();
    assert!(wrong.is_empty(), "{} answers were something else, such as {:?}", wrong.len(), wrong[0]);
    drop(wrong);
    assert!(grown < MEMORY, "the flooded node grew by {grown} kB");
    assert_eq!(cluster.status(leader).await.unwrap().term, term, "Raft kept its leader");
}
