//! Calls that are dropped at any moment, and made again.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as tests do: by a panic that names the line")]

mod support;

use std::io::Read as _;
use std::time::{Duration, Instant};

use fairpost::client::{Client, Disclosure, Event, Opening, Options};
use fairpost_proto::ids::{Protocol, Verdict};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use support::Behaviour::Honest;
use support::{MAIL, World};
use tokio::runtime::{Builder, Handle};
use tokio::time::timeout;

/// Set this to run again what failed.
const SEED: &str = "FAIRPOST_TEST_SEED";
const ROUNDS: usize = 25;
const ENOUGH: Duration = Duration::from_secs(30);

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// Waits until no more than so many tasks are alive: those that a dropped call had in the connections end a little later. It can
/// be fewer: on a busy machine a server may close a connection over which many calls were dropped before it saw them.
async fn down_to(expected: usize) {
    let started = Instant::now();
    while tasks() > expected {
        assert!(started.elapsed() < ENOUGH, "{} tasks are alive, and there were {expected}", tasks());
        tokio::task::yield_now().await;
    }
}

/// Watches until every node has been talked to: the connections stay, and with them their tasks.
async fn connect(client: &Client, world: &World) {
    let mail = world.sealed_mail(Protocol::Cmp1);
    let mut watch = client.watch(&world.sender, &mail).unwrap();
    let all = async {
        loop {
            let _undecided = timeout(Duration::from_millis(10), watch.next()).await;
            let asked = world.asked();
            if (0..4).all(|place| asked.iter().any(|(asked, _)| *asked == place)) {
                return;
            }
        }
    };
    timeout(ENOUGH, all).await.unwrap();
}

#[test]
fn whatever_is_dropped_at_any_moment_completes_when_it_is_asked_again_and_leaves_no_task() {
    let seed =
        std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("{SEED}={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let world = World::new();
    // The nodes have a runtime of their own: in this one are the client's tasks alone.
    let elsewhere = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let nodes = {
        let _inside = elsewhere.enter();
        world.serve([Honest; 4])
    };
    let here = Builder::new_current_thread().enable_all().build().unwrap();
    here.block_on(async {
        let second_opinion = Duration::from_millis(20);
        let hedge = Some(Duration::from_millis(2));
        let options = Options { first: Some(0), second_opinion, hedge, ..Options::default() };
        let client = Client::new(world.trust.clone(), options).unwrap();
        connect(&client, &world).await;
        // Four connections, and for each the channel's own task and those of HTTP/2. Which is how many must not depend on
        // the calls: so the number is taken after one of each has come to its end.
        let mut before = None;
        for round in 0..ROUNDS {
            let mut mail = world.sealed_mail(Protocol::Cmp2);
            let mut moment = || Duration::from_micros(random.gen_range(0..15_000));
            for _ in 0..3 {
                let _dropped = timeout(moment(), client.redeem(&world.recipient, &mail)).await;
                let mut watch = client.watch(&world.sender, &mail).unwrap();
                let _dropped = timeout(moment(), watch.next()).await;
                drop(watch);
                let _dropped =
                    timeout(moment(), client.proof(&world.sender, &mail, Disclosure::Content)).await;
                let _dropped = timeout(moment(), client.open(&world.recipient, &mut mail)).await;
                let _dropped = timeout(moment(), client.status(&world.sender, &mail)).await;
            }
            let opening = client.open(&world.recipient, &mut mail).await.unwrap();
            let Opening::Opened { mail: mut content, outcome, .. } = opening else { panic!("{opening:?}") };
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes, MAIL, "round {round}");
            let again = client.redeem(&world.recipient, &mail).await.unwrap();
            assert_eq!(
                (again.verdict, again.token.to_bytes()),
                (Verdict::Released, outcome.token.to_bytes())
            );
            let (_, report) = client.proof(&world.sender, &mail, Disclosure::Content).await.unwrap();
            assert_eq!(report.verdict, Verdict::Released, "round {round}");
            let mut watch = client.watch(&world.sender, &mail).unwrap();
            let Some(Event::Decided(seen)) = watch.next().await.unwrap() else { panic!("round {round}") };
            assert_eq!((seen.verdict, seen.token.to_bytes()), (Verdict::Released, outcome.token.to_bytes()));
            drop(watch);
            match before {
                None => before = Some(settled().await),
                Some(before) => down_to(before).await,
            }
        }
    });
    drop(nodes);
    elsewhere.shutdown_background();
}

/// The number of tasks once it has stayed the same for a while.
async fn settled() -> usize {
    let (mut last, mut since) = (tasks(), Instant::now());
    while since.elapsed() < Duration::from_millis(300) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if tasks() != last {
            (last, since) = (tasks(), Instant::now());
        }
    }
    last
}
