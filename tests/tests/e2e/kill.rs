//! Nodes killed with SIGKILL at any moment of an exchange.

use std::time::Duration;

use fairpost::client::{Client, Options};
use fairpost_proto::ids::{Protocol, Span, Verdict};
use fairpost_tests::{Cluster, People, Settings, mail, open, prove};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Set this to run again what failed.
const SEED: &str = "FAIRPOST_TEST_SEED";
const ROUNDS: usize = 100;
const HOUR: Span = Span::from_seconds(3600);

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_at_any_moment_leaves_every_exchange_released_or_ready_to_be_completed() {
    let seed =
        std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("{SEED}={seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut cluster = Cluster::start(Settings::default()).await.unwrap();
    let people = People::new(&cluster).unwrap();
    for round in 0..ROUNDS {
        // The contact, the leader or any other: whoever the numbers hit.
        let (contact, victim) = (random.gen_range(0..4), random.gen_range(0..4));
        let (moment, protocol) =
            (random.gen_range(0..60), if random.r#gen() { Protocol::Cmp1 } else { Protocol::Cmp2 });
        let options = Options {
            first: Some(contact),
            attempt: Duration::from_secs(3),
            deadline: Duration::from_secs(50),
            ..Options::default()
        };
        let client = Client::new(cluster.trust.clone(), options).unwrap();
        let mut sealed = people.seal(&cluster, protocol, HOUR).unwrap();
        let exchange = sealed.exchange();
        let redeeming = async {
            let opened = open(&client, &people, &mut sealed).await;
            (opened, sealed)
        };
        let killing = async {
            tokio::time::sleep(Duration::from_millis(moment)).await;
            cluster.kill(victim).unwrap();
        };
        let ((opened, mut sealed), ()) = tokio::join!(redeeming, killing);
        let context =
            format!("round {round}: contact {contact}, {victim} killed after {moment} ms, {exchange}");
        println!("{context}");
        // With three of four nodes alive the receipt was accepted at once, or by asking again.
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                println!("{context}: {error:#}; asking again");
                open(&client, &people, &mut sealed)
                    .await
                    .unwrap_or_else(|error| panic!("{context}: {error:#}"))
            }
        };
        assert_eq!(opened, mail(), "{context}");
        cluster.launch(victim).unwrap();
        cluster.ready(victim).await.unwrap();
        // Whoever opened can be proved against, also by the node that was dead.
        let options = Options { first: Some(victim), ..options };
        let client = Client::new(cluster.trust.clone(), options).unwrap();
        let report =
            prove(&client, &people, &mut sealed).await.unwrap_or_else(|error| panic!("{context}: {error:#}"));
        assert_eq!(report.verdict, Verdict::Released, "{context}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_all_nodes_killed_at_once_nothing_that_was_answered_is_lost() {
    let mut cluster = Cluster::start(Settings::default()).await.unwrap();
    let people = People::new(&cluster).unwrap();
    let client = Client::new(cluster.trust.clone(), Options::default()).unwrap();
    let mut sealed = people.seal(&cluster, Protocol::Cmp2, HOUR).unwrap();
    assert_eq!(open(&client, &people, &mut sealed).await.unwrap(), mail());
    for node in 0..4 {
        cluster.kill(node).unwrap();
    }
    for node in 0..4 {
        cluster.launch(node).unwrap();
    }
    for node in 0..4 {
        cluster.ready(node).await.unwrap();
    }
    assert_eq!(prove(&client, &people, &mut sealed).await.unwrap().verdict, Verdict::Released);
    assert_eq!(client.withdraw(&people.sender, &sealed).await.unwrap().verdict, Verdict::Released);
}
