//! Watching an exchange while nodes die, hang and stop.

use std::time::{Duration, Instant};

use fairpost::client::{Client, Event, Options, Outcome, Watch};
use fairpost::sealed_mail::SealedMail;
use fairpost_api::v1::exchange_client::ExchangeClient;
use fairpost_node::config::Config;
use fairpost_proto::ids::{Protocol, Span, Verdict};
use fairpost_proto::request::Method;
use fairpost_tests::{Cluster, People, Settings, envelope, request, within};
use tonic::Code;
use tonic_types::StatusExt as _;

const HOUR: Span = Span::from_seconds(3600);
/// The node that is watched, and one that is not.
const WATCHED: usize = 1;
const OTHER: usize = 2;

/// Begins with this node, and relies on the watched node alone.
fn through(cluster: &Cluster, first: usize) -> Client {
    let second_opinion = Duration::from_secs(3600);
    let options = Options { first: Some(first), second_opinion, ..Options::default() };
    Client::new(cluster.trust.clone(), options).unwrap()
}

async fn undecided(watch: &mut Watch<'_>) {
    let event = within("a sign of life", watch.next()).await.unwrap().unwrap();
    assert!(matches!(event, Some(Event::Undecided)), "{event:?}");
}

/// The verdict, and how many signs of life came before it.
async fn decided(watch: &mut Watch<'_>) -> (Outcome, usize) {
    let mut signs = 0;
    let waiting = async {
        loop {
            match watch.next().await.unwrap() {
                Some(Event::Undecided) => signs += 1,
                Some(Event::Decided(outcome)) => return (outcome, signs),
                None => panic!("the watch ended without a verdict"),
            }
        }
    };
    within("the verdict", waiting).await.unwrap()
}

async fn redeem(cluster: &Cluster, people: &People, mail: &SealedMail) {
    let outcome = through(cluster, OTHER).redeem(&people.recipient, mail).await.unwrap();
    assert_eq!(outcome.verdict, Verdict::Released);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_outlives_the_node_that_is_watched() {
    let mut cluster = Cluster::start(Settings::default()).await.unwrap();
    let people = People::new(&cluster).unwrap();

    // Nothing happens to it: the verdict comes at once, and not with the next sign of life.
    let mail = people.seal(&cluster, Protocol::Cmp2, HOUR).unwrap();
    let client = through(&cluster, WATCHED);
    let mut watch = client.watch(&people.sender, &mail).unwrap();
    undecided(&mut watch).await;
    redeem(&cluster, &people, &mail).await;
    let redeemed = Instant::now();
    let (outcome, signs) = decided(&mut watch).await;
    assert_eq!((outcome.verdict, signs), (Verdict::Released, 0));
    assert!(redeemed.elapsed() < Duration::from_secs(5), "{:?}", redeemed.elapsed());

    // Killed.
    let mail = people.seal(&cluster, Protocol::Cmp2, HOUR).unwrap();
    let client = through(&cluster, WATCHED);
    let mut watch = client.watch(&people.sender, &mail).unwrap();
    undecided(&mut watch).await;
    cluster.kill(WATCHED).unwrap();
    redeem(&cluster, &people, &mail).await;
    assert_eq!(decided(&mut watch).await.0.verdict, Verdict::Released);
    cluster.launch(WATCHED).unwrap();
    cluster.ready(WATCHED).await.unwrap();

    // Stopped: the connection stays, and nothing comes.
    let mail = people.seal(&cluster, Protocol::Cmp2, HOUR).unwrap();
    let client = through(&cluster, WATCHED);
    let mut watch = client.watch(&people.sender, &mail).unwrap();
    undecided(&mut watch).await;
    cluster.signal(WATCHED, "STOP").unwrap();
    redeem(&cluster, &people, &mail).await;
    assert_eq!(decided(&mut watch).await.0.verdict, Verdict::Released);
    cluster.signal(WATCHED, "CONT").unwrap();
    cluster.ready(WATCHED).await.unwrap();

    // Told to stop: it ends its streams, and itself in less than the time it gives to requests under way.
    let mail = people.seal(&cluster, Protocol::Cmp2, HOUR).unwrap();
    let client = through(&cluster, WATCHED);
    let mut watch = client.watch(&people.sender, &mail).unwrap();
    undecided(&mut watch).await;
    let told = Instant::now();
    assert!(cluster.stop(WATCHED).await.unwrap().success());
    assert!(told.elapsed() < Duration::from_secs(5), "{:?}", told.elapsed());
    undecided(&mut watch).await;
    redeem(&cluster, &people, &mail).await;
    assert_eq!(decided(&mut watch).await.0.verdict, Verdict::Released);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_gives_signs_of_life_and_ends_with_expired() {
    let cluster = Cluster::start(Settings::default()).await.unwrap();
    let people = People::new(&cluster).unwrap();
    let mail = people.seal(&cluster, Protocol::Cmp1, Span::from_seconds(12)).unwrap();
    let client = through(&cluster, WATCHED);
    let mut watch = client.watch(&people.sender, &mail).unwrap();
    undecided(&mut watch).await;
    let (outcome, signs) = decided(&mut watch).await;
    assert_eq!((outcome.verdict, outcome.evidence), (Verdict::Expired, None));
    assert!(signs >= 1, "after ten seconds it says again that there is no verdict");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_takes_on_a_limited_number_of_watchers_and_frees_the_place_of_who_leaves() {
    let mut cluster = Cluster::make(Settings { nodes: 1, ..Settings::default() }).unwrap();
    let file = cluster.nodes[0].config.clone();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}\n[limits]\nwatchers = 2\n")).unwrap();
    assert_eq!(Config::load(&file).unwrap().limits.watchers, 2);
    cluster.launch(0).unwrap();
    cluster.ready(0).await.unwrap();
    let people = People::new(&cluster).unwrap();
    let mail = people.seal(&cluster, Protocol::Cmp2, HOUR).unwrap();
    let channel = cluster.channel(0).unwrap();
    let watch = async || {
        let asked = request(cluster.trust.cluster(), Method::Status, mail.nro(), None);
        let asked = envelope(&people.sender, asked, mail.nro().bytes(), None).unwrap();
        ExchangeClient::new(channel.clone()).watch(asked).await
    };
    let (first, _second) = (watch().await.unwrap(), watch().await.unwrap());
    let status = watch().await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.get_details_error_info().unwrap().reason, "OVERLOADED");
    assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
    drop(first);
    fairpost_tests::eventually("a free place", async || watch().await.ok()).await.unwrap();
}
