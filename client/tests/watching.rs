//! Watching an exchange at nodes that are dead, silent, lying or gone.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helpers fail as tests do: by a panic that names the line"
)]

mod support;

use std::time::{Duration, Instant};

use fairpost::client::{Client, Error, Event, Options, Outcome, Watch};
use fairpost::sealed_mail::SealedMail;
use fairpost_proto::ids::{Protocol, Span, Verdict};
use futures::FutureExt as _;
use support::Behaviour::{
    Dead, Dropping, ForgedEvidence, Hanging, Honest, Rejecting, Silent, SwappedVerdict, Unavailable,
    Undecided, WrongToken,
};
use support::World;
use tokio::time::timeout;

const ENOUGH: Duration = Duration::from_secs(30);

/// Asks the first node first, soon loses patience, and relies on the watched node alone.
fn options() -> Options {
    Options {
        attempt: Duration::from_millis(500),
        first: Some(0),
        second_opinion: ENOUGH,
        ..Options::default()
    }
}

fn client(world: &World, options: Options) -> Client {
    Client::new(world.trust.clone(), options).unwrap()
}

async fn undecided(watch: &mut Watch<'_>) {
    let event = timeout(ENOUGH, watch.next()).await.unwrap().unwrap();
    assert!(matches!(event, Some(Event::Undecided)), "{event:?}");
}

/// The verdict, whatever comes before it; and nothing comes after it.
async fn decided(watch: &mut Watch<'_>) -> Outcome {
    let waiting = async {
        loop {
            match watch.next().await.unwrap() {
                Some(Event::Undecided) => {}
                Some(Event::Decided(outcome)) => {
                    assert!(watch.next().await.unwrap().is_none());
                    return outcome;
                }
                None => panic!("the watch ended without a verdict"),
            }
        }
    };
    timeout(ENOUGH, waiting).await.unwrap()
}

#[tokio::test]
async fn whoever_watches_is_told_undecided_at_once_and_then_the_verdict() {
    let world = World::new();
    let _nodes = world.serve([Honest; 4]);
    let (client, other) =
        (client(&world, options()), client(&world, Options { first: Some(2), ..options() }));
    let mail = world.sealed_mail(Protocol::Cmp2);
    let mut watch = client.watch(&world.sender, &mail).unwrap();
    undecided(&mut watch).await;
    assert!(watch.next().now_or_never().is_none(), "nothing new");
    let outcome = other.redeem(&world.recipient, &mail).await.unwrap();
    let seen = decided(&mut watch).await;
    assert_eq!((seen.verdict, seen.token.to_bytes()), (Verdict::Released, outcome.token.to_bytes()));
    assert_eq!(*world.watched.lock().unwrap(), [0]);
    // Whoever comes late is told at once.
    let mut late = client.watch(&world.recipient, &mail).unwrap();
    assert!(matches!(late.next().await.unwrap(), Some(Event::Decided(_))));
}

#[tokio::test]
async fn a_node_that_is_of_no_use_is_left_for_the_next() {
    for first in
        [Dead, Silent, Hanging, Unavailable, WrongToken, SwappedVerdict, ForgedEvidence, Rejecting, Dropping]
    {
        let world = World::new();
        let _nodes = world.serve([first, Honest, Honest, Honest]);
        let mail = world.sealed_mail(Protocol::Cmp1);
        let watching = client(&world, options());
        let mut watch = watching.watch(&world.sender, &mail).unwrap();
        undecided(&mut watch).await;
        if first == Dropping {
            undecided(&mut watch).await;
        }
        let redeeming = client(&world, Options { first: Some(3), ..options() });
        redeeming.redeem(&world.recipient, &mail).await.unwrap();
        assert_eq!(decided(&mut watch).await.verdict, Verdict::Released, "{first:?}");
        assert_eq!(world.watched.lock().unwrap().last(), Some(&1), "{first:?}");
    }
}

#[tokio::test]
async fn a_watched_node_that_lies_hides_nothing_for_long() {
    let world = World::new();
    let _nodes = world.serve([Undecided, Honest, Honest, Honest]);
    let second_opinion = Duration::from_millis(400);
    let watching = client(&world, Options { second_opinion, ..options() });
    let mail = world.sealed_mail(Protocol::Cmp1);
    let mut watch = watching.watch(&world.sender, &mail).unwrap();
    undecided(&mut watch).await;
    client(&world, Options { first: Some(3), ..options() }).redeem(&world.recipient, &mail).await.unwrap();
    let started = Instant::now();
    assert_eq!(decided(&mut watch).await.verdict, Verdict::Released);
    assert!(started.elapsed() < second_opinion + options().attempt, "{:?}", started.elapsed());
    assert_eq!(*world.watched.lock().unwrap(), [0], "it was not left: it gave its signs of life");
}

#[tokio::test]
async fn a_watched_node_that_falls_silent_is_left() {
    let world = World::new();
    let _nodes = world.serve([Undecided, Honest, Honest, Honest]);
    let silence = Duration::from_millis(300);
    let watching = client(&world, Options { silence, ..options() });
    let mail = world.sealed_mail(Protocol::Cmp1);
    let mut watch = watching.watch(&world.sender, &mail).unwrap();
    undecided(&mut watch).await;
    // The next node says so, too: the first one has said nothing for too long.
    undecided(&mut watch).await;
    assert_eq!(*world.watched.lock().unwrap(), [0, 1]);
}

#[tokio::test]
async fn one_node_that_rejects_is_not_believed_and_more_are() {
    let world = World::new();
    let _nodes = world.serve([Rejecting, Dead, Rejecting, Dead]);
    let client = client(&world, options());
    let mail = world.sealed_mail(Protocol::Cmp1);
    let mut watch = client.watch(&world.sender, &mail).unwrap();
    let ended = timeout(ENOUGH, watch.next()).await.unwrap();
    assert!(matches!(ended, Err(Error::Rejected(_))), "{ended:?}");
    assert!(watch.next().await.unwrap().is_none());
}

#[tokio::test]
async fn when_nobody_is_there_it_says_so_and_goes_on_when_asked_again() {
    let world = World::new();
    let _nodes = world.serve([Dead, Dead, Dead, Hanging]);
    let deadline = Duration::from_millis(700);
    let attempt = Duration::from_millis(200);
    let client = client(&world, Options { deadline, attempt, ..options() });
    let mail = world.sealed_mail(Protocol::Cmp1);
    let mut watch = client.watch(&world.sender, &mail).unwrap();
    for _ in 0..2 {
        let started = Instant::now();
        let ended = timeout(ENOUGH, watch.next()).await.unwrap();
        assert!(matches!(ended, Err(Error::NoQuorum { .. })), "{ended:?}");
        assert!(started.elapsed() >= deadline, "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn after_the_deadline_a_watch_ends_with_expired() {
    let world = World::new();
    let _nodes = world.serve([Honest; 4]);
    let client = client(&world, Options { second_opinion: Duration::from_millis(300), ..options() });
    let made = fairpost::seal::Options { lifetime: Span::from_seconds(1), ..Default::default() };
    let mail = SealedMail::read(world.seal_with(made).1.as_slice()).unwrap();
    let mut watch = client.watch(&world.sender, &mail).unwrap();
    let outcome = decided(&mut watch).await;
    assert_eq!((outcome.verdict, outcome.evidence), (Verdict::Expired, None));
}

#[tokio::test]
async fn a_watch_whose_next_is_dropped_again_and_again_misses_nothing() {
    let world = World::new();
    let _nodes = world.serve([Silent, Honest, Honest, Honest]);
    let watching = client(&world, options());
    let mail = world.sealed_mail(Protocol::Cmp2);
    let mut watch = watching.watch(&world.sender, &mail).unwrap();
    let patiently = async |watch: &mut Watch<'_>| {
        let started = Instant::now();
        while started.elapsed() < ENOUGH {
            if let Ok(event) = timeout(Duration::from_millis(3), watch.next()).await {
                return event.unwrap();
            }
        }
        panic!("no event, although it was asked for again and again")
    };
    assert!(matches!(patiently(&mut watch).await, Some(Event::Undecided)));
    client(&world, Options { first: Some(3), ..options() }).redeem(&world.recipient, &mail).await.unwrap();
    assert!(matches!(patiently(&mut watch).await, Some(Event::Decided(_))));
    assert_eq!(*world.watched.lock().unwrap(), [1], "the way there was not begun anew each time");
}

#[tokio::test]
async fn nothing_is_sent_for_a_mail_that_does_not_check_out() {
    let (world, other) = (World::new(), World::new());
    let client = client(&world, options());
    let foreign = other.sealed_mail(Protocol::Cmp1);
    assert!(matches!(client.watch(&world.recipient, &foreign), Err(Error::Evidence(_))));
    let mail = world.sealed_mail(Protocol::Cmp2);
    assert!(matches!(client.watch(&other.sender, &mail), Err(Error::Stranger { .. })));
}
