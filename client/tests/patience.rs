//! How long a client waits for whom, how many it asks at once, and over how many connections.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as tests do: by a panic that names the line")]

mod support;

use std::time::{Duration, Instant};

use fairpost::client::{Client, Error, Fault, Options};
use fairpost::sealed_mail::SealedMail;
use fairpost_proto::ids::{Protocol, Span, Verdict};
use futures::future::join_all;
use support::Behaviour::{Dead, Hanging, Honest, Overloaded, Unavailable};
use support::{BUSY, World};

/// Long enough that waiting for it would be seen.
const ATTEMPT: Duration = Duration::from_secs(20);

fn options() -> Options {
    Options { attempt: ATTEMPT, deadline: 3 * ATTEMPT, first: Some(0), ..Options::default() }
}

fn client(world: &World, options: Options) -> Client {
    Client::new(world.trust.clone(), options).unwrap()
}

fn places(world: &World) -> Vec<usize> {
    world.asked().iter().map(|(place, _)| *place).collect()
}

#[tokio::test]
async fn a_node_that_hangs_costs_the_hedge_delay() {
    for hedge in [Some(Duration::from_millis(100)), None] {
        let world = World::new();
        let _nodes = world.serve([Hanging, Honest, Honest, Honest]);
        let client = client(&world, Options { hedge, ..options() });
        let mail = world.sealed_mail(Protocol::Cmp1);
        let started = Instant::now();
        assert_eq!(client.redeem(&world.recipient, &mail).await.unwrap().verdict, Verdict::Released);
        assert!(started.elapsed() >= hedge.unwrap_or_default(), "{:?}", started.elapsed());
        assert!(started.elapsed() < ATTEMPT / 4, "{:?}", started.elapsed());
        assert_eq!(places(&world), [0, 1], "{hedge:?}");
        // Whoever answered is asked first from then on.
        client.redeem(&world.recipient, &mail).await.unwrap();
        assert_eq!(places(&world).get(2), Some(&1));
    }
}

#[tokio::test]
async fn no_more_are_under_way_than_may_be_compromised_and_one() {
    let world = World::new();
    let _nodes = world.serve([Hanging, Hanging, Honest, Honest]);
    let attempt = Duration::from_secs(1);
    let hedge = Some(Duration::from_millis(20));
    let client = client(&world, Options { attempt, hedge, ..options() });
    let mail = world.sealed_mail(Protocol::Cmp1);
    let started = Instant::now();
    client.redeem(&world.recipient, &mail).await.unwrap();
    assert!(started.elapsed() >= attempt, "the third had to wait for a place: {:?}", started.elapsed());
    assert_eq!(places(&world).get(..3), Some(&[0, 1, 2][..]));
}

#[tokio::test]
async fn a_receipt_whose_deadline_is_near_goes_to_all_at_once() {
    let world = World::new();
    let _nodes = world.serve([Hanging, Hanging, Hanging, Honest]);
    let hedge = Some(ATTEMPT);
    let client = client(&world, Options { hedge, ..options() });
    let parameters = world.trust.view().parameters();
    let near = Span::from_millis(2 * parameters.skew.millis() + parameters.grace.millis());
    let made = fairpost::seal::Options { lifetime: near, ..Default::default() };
    let mail = SealedMail::read(world.seal_with(made).1.as_slice()).unwrap();
    let started = Instant::now();
    assert_eq!(client.redeem(&world.recipient, &mail).await.unwrap().verdict, Verdict::Released);
    assert!(started.elapsed() < ATTEMPT / 2, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_receipt_whose_deadline_draws_near_meanwhile_goes_to_all_then() {
    let world = World::new();
    let _nodes = world.serve([Hanging, Hanging, Hanging, Honest]);
    let client = client(&world, Options { hedge: Some(ATTEMPT), ..options() });
    let parameters = world.trust.view().parameters();
    let near = Span::from_millis(2 * parameters.skew.millis() + parameters.grace.millis());
    let calm = Span::from_millis(1500);
    let lifetime = Span::from_millis(near.millis() + calm.millis());
    let made = fairpost::seal::Options { lifetime, ..Default::default() };
    let mail = SealedMail::read(world.seal_with(made).1.as_slice()).unwrap();
    let draws_near = mail.terms().expires.millis() - near.millis();
    assert_eq!(client.redeem(&world.recipient, &mail).await.unwrap().verdict, Verdict::Released);
    assert!(fairpost::now().millis() >= draws_near, "not before it is near");
    assert!(fairpost::now().millis() < draws_near + ATTEMPT.as_millis() as u64 / 2);
    assert_eq!(places(&world)[0], 0);
}

#[tokio::test]
async fn a_node_that_tells_when_to_come_back_is_left_alone_until_then_and_others_are_asked() {
    let world = World::new();
    let _nodes = world.serve([Overloaded, Overloaded, Overloaded, Honest]);
    let started = Instant::now();
    let mail = world.sealed_mail(Protocol::Cmp1);
    client(&world, options()).redeem(&world.recipient, &mail).await.unwrap();
    assert!(started.elapsed() < BUSY, "the last one was asked at once: {:?}", started.elapsed());
    assert_eq!(places(&world), [0, 1, 2, 3]);

    // Alone with those, it waits as told, and no longer than its own deadline.
    let world = World::new();
    let _nodes = world.serve([Overloaded, Unavailable, Dead, Dead]);
    let mail = world.sealed_mail(Protocol::Cmp1);
    let deadline = Duration::from_secs(1);
    let started = Instant::now();
    let failed = client(&world, Options { deadline, ..options() }).redeem(&world.recipient, &mail).await;
    assert!((deadline..BUSY).contains(&started.elapsed()), "{:?}", started.elapsed());
    let error = failed.unwrap_err();
    assert!(error.is_retryable());
    let Error::NoQuorum { failures } = error else { panic!("{error:?}") };
    let faults: Vec<_> = failures.iter().map(|failure| failure.fault).collect();
    assert_eq!(faults, [Fault::Overloaded, Fault::Unavailable, Fault::Unreachable, Fault::Unreachable]);
    let asked = |place| places(&world).iter().filter(|asked| **asked == place).count();
    assert_eq!(asked(0), 1, "it told to come back later than that");
    assert!(asked(1) > 2, "it told to come back soon");
}

#[tokio::test]
async fn calls_and_clones_share_one_connection_to_each_node() {
    let world = World::new();
    let _nodes = world.serve([Honest; 4]);
    let client = client(&world, options());
    let mail = world.sealed_mail(Protocol::Cmp1);
    // To say undecided takes three nodes, here the first three.
    for _ in 0..20 {
        assert!(client.status(&world.sender, &mail).await.unwrap().is_none());
    }
    let clones: Vec<Client> = (0..20).map(|_| client.clone()).collect();
    let asking = clones.iter().map(|clone| clone.status(&world.sender, &mail));
    assert!(join_all(asking).await.into_iter().all(|standing| standing.unwrap().is_none()));
    assert!(world.asked().len() >= 80, "{:?}", world.asked().len());
    let connections = *world.connections.lock().unwrap();
    assert_eq!(connections[..3], [1, 1, 1]);
    assert!(connections.iter().all(|count| *count <= 1), "{connections:?}");
}
