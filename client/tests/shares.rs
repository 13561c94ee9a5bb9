//! Clients that combine the nodes' shares themselves, when those that they ask are silent, slow or lying.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as tests do: by a panic that names the line")]

mod support;

use std::io::Read as _;
use std::time::{Duration, Instant};

use fairpost::client::{Client, Disclosure, Error, Failure, Fault, Opening, Options};
use fairpost_proto::ids::{Protocol, Verdict};
use fairpost_proto::request::Method;
use support::Behaviour::{
    Cut, Dead, FewVotes, ForgedEvidence, Hanging, Honest, Late, Rejecting, Silent, Stuck, SwappedVerdict,
    Undecided, WrongShare, WrongToken,
};
use support::{LATE, MAIL, World};

/// Long enough that waiting for it would be seen.
const LONG: Duration = Duration::from_secs(20);
const HEDGE: Duration = Duration::from_millis(100);

/// Asks the first node first.
fn options() -> Options {
    Options { attempt: LONG, deadline: 2 * LONG, first: Some(0), hedge: Some(HEDGE), ..Options::default() }
}

/// Soon gives up.
fn hasty() -> Options {
    Options { attempt: Duration::from_millis(400), deadline: Duration::from_millis(1200), ..options() }
}

fn client(world: &World, options: Options) -> Client {
    Client::new(world.trust.clone(), options).unwrap()
}

fn places(world: &World, method: Method) -> Vec<usize> {
    world.asked().iter().filter(|(_, asked)| *asked == method).map(|(place, _)| *place).collect()
}

#[tokio::test]
async fn a_mail_opens_and_its_delivery_is_proved_although_no_node_collects_shares() {
    for nodes in [
        [Cut, Cut, Cut, Cut],
        [Stuck, Stuck, Stuck, Stuck],
        [Hanging, Stuck, Stuck, Stuck],
        [Dead, Cut, Stuck, Cut],
        [Silent, Stuck, Cut, Stuck],
        [WrongToken, Stuck, Stuck, Stuck],
        [WrongShare, Stuck, Stuck, Stuck],
        [SwappedVerdict, Stuck, Stuck, Stuck],
        [ForgedEvidence, Stuck, Stuck, Stuck],
        [Undecided, Stuck, Stuck, Stuck],
        [Rejecting, Stuck, Stuck, Stuck],
    ] {
        let started = Instant::now();
        let world = World::new();
        let _nodes = world.serve(nodes);
        let client = client(&world, options());
        let mut mail = world.sealed_mail(Protocol::Cmp2);
        let opening = client.open(&world.recipient, &mut mail).await.unwrap();
        let Opening::Opened { mail: mut content, outcome, .. } = opening else {
            panic!("{nodes:?}: {opening:?}")
        };
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, MAIL, "{nodes:?}");
        let same = (Verdict::Released, world.token(Verdict::Released, mail.exchange()).to_bytes());
        assert_eq!((outcome.verdict, outcome.token.to_bytes()), same, "{nodes:?}");
        assert!(outcome.evidence.is_some(), "{nodes:?}");

        let (_, report) = client.proof(&world.sender, &mail, Disclosure::Content).await.unwrap();
        assert_eq!((report.verdict, report.exchange), (Verdict::Released, mail.exchange()), "{nodes:?}");
        let status = client.status(&world.sender, &mail).await.unwrap();
        assert_eq!(status.map(|outcome| outcome.verdict), Some(Verdict::Released), "{nodes:?}");
        assert!(started.elapsed() < LONG, "{nodes:?}: {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn what_stands_already_is_collected_whatever_it_is() {
    let world = World::new();
    let _nodes = world.serve([Cut; 4]);
    let client = client(&world, options());
    let mail = world.sealed_mail(Protocol::Cmp1);
    assert_eq!(client.withdraw(&world.sender, &mail).await.unwrap().verdict, Verdict::Withdrawn);
    let late = client.redeem(&world.recipient, &mail).await.unwrap();
    assert_eq!(late.evidence, world.evidence(mail.nro(), Verdict::Withdrawn));
    let (_, report) = client.proof(&world.recipient, &mail, Disclosure::Content).await.unwrap();
    assert_eq!(report.verdict, Verdict::Withdrawn);
}

#[tokio::test]
async fn a_call_that_goes_well_asks_for_no_share() {
    let world = World::new();
    let _nodes = world.serve([Honest; 4]);
    let client = client(&world, Options { hedge: Some(LONG / 4), ..options() });
    let mail = world.sealed_mail(Protocol::Cmp2);
    assert!(client.status(&world.sender, &mail).await.unwrap().is_none());
    client.redeem(&world.recipient, &mail).await.unwrap();
    client.proof(&world.sender, &mail, Disclosure::Content).await.unwrap();
    assert_eq!(*world.asked_shares.lock().unwrap(), []);
    assert_eq!((places(&world, Method::Redeem).len(), places(&world, Method::Proof).len()), (1, 1));
}

#[tokio::test]
async fn who_says_that_it_can_not_collect_is_not_waited_for() {
    let world = World::new();
    let _nodes = world.serve([Cut; 4]);
    let started = Instant::now();
    let mail = world.sealed_mail(Protocol::Cmp1);
    client(&world, Options { hedge: Some(LONG), ..options() }).redeem(&world.recipient, &mail).await.unwrap();
    assert!(started.elapsed() < LONG / 4, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_wrong_share_is_done_without_and_its_giver_asked_last_from_then_on() {
    let world = World::new();
    // The last one's share is needed once the first one's is found to be wrong.
    let _nodes = world.serve([WrongShare, Cut, Cut, Late]);
    let client = client(&world, options());
    let started = Instant::now();
    let mail = world.sealed_mail(Protocol::Cmp1);
    assert_eq!(client.redeem(&world.recipient, &mail).await.unwrap().verdict, Verdict::Released);
    assert!(started.elapsed() >= LATE, "{:?}", started.elapsed());
    assert_eq!(places(&world, Method::Redeem)[0], 0);

    world.asked.lock().unwrap().clear();
    world.asked_shares.lock().unwrap().clear();
    let mail = world.sealed_mail(Protocol::Cmp1);
    assert_eq!(client.redeem(&world.recipient, &mail).await.unwrap().verdict, Verdict::Released);
    assert_ne!(places(&world, Method::Redeem)[0], 0);
    let mut asked = world.asked_shares.lock().unwrap().clone();
    asked.sort_unstable();
    assert_eq!(asked, [1, 2, 3], "the others' shares are enough");
}

#[tokio::test]
async fn too_few_shares_are_an_error_that_says_how_many_and_why_the_others_are_missing() {
    let mut wrong = Vec::new();
    for liar in [WrongShare, WrongToken, SwappedVerdict, ForgedEvidence, FewVotes] {
        let world = World::new();
        let _nodes = world.serve([Cut, liar, Cut, Dead]);
        let mail = world.sealed_mail(Protocol::Cmp1);
        let client = client(&world, hasty());
        let first = client.redeem(&world.recipient, &mail).await.err();
        let second = client.proof(&world.sender, &mail, Disclosure::Content).await.err();
        for error in [first, second] {
            let expected = [("n2", Fault::Lied), ("n4", Fault::Unreachable)];
            let is_right = match &error {
                Some(Error::TooFewShares { needed: 3, found: 2, failures }) => {
                    let faults = failures.iter().map(|Failure { node, fault, .. }| (node.as_str(), *fault));
                    faults.eq(expected)
                }
                _ => false,
            };
            if !is_right || !error.as_ref().is_some_and(Error::is_retryable) {
                wrong.push((liar, error));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn who_gave_nothing_while_the_shares_came_is_asked_after_the_others_from_then_on() {
    let world = World::new();
    let _nodes = world.serve([Stuck; 4]);
    let client = client(&world, options());
    for first in [0, 2] {
        world.asked.lock().unwrap().clear();
        let mail = world.sealed_mail(Protocol::Cmp1);
        client.redeem(&world.recipient, &mail).await.unwrap();
        assert_eq!(places(&world, Method::Redeem), [first, first + 1]);
    }
}

#[tokio::test]
async fn one_honest_node_with_the_evidence_is_enough_for_the_sender_whatever_others_deny() {
    for nodes in [[Undecided, Dead, Dead, Honest], [Undecided, Undecided, Dead, Honest]] {
        let world = World::new();
        let _nodes = world.serve(nodes);
        let mail = world.sealed_mail(Protocol::Cmp2);
        client(&world, Options { first: Some(3), ..options() })
            .redeem(&world.recipient, &mail)
            .await
            .unwrap();
        let sender = client(&world, options());
        let status = sender.status(&world.sender, &mail).await.unwrap();
        assert_eq!(status.map(|outcome| outcome.verdict), Some(Verdict::Released), "{nodes:?}");
        // One that has not met the holder yet.
        let sender = client(&world, options());
        let (_, report) = sender.proof(&world.sender, &mail, Disclosure::Content).await.unwrap();
        assert_eq!(report.verdict, Verdict::Released, "{nodes:?}");
    }
}

#[tokio::test]
async fn undecided_is_not_believed_of_fewer_than_leave_no_holder_out() {
    let world = World::new();
    let _nodes = world.serve([Undecided, Honest, Dead, Silent]);
    let mail = world.sealed_mail(Protocol::Cmp1);
    let sender = client(&world, hasty());
    let known = sender.status(&world.sender, &mail).await;
    let Err(Error::NotEnough { needed: 3, found: 2, failures }) = known else { panic!("{known:?}") };
    assert_eq!(failures.len(), 4, "{failures:?}");
    let proof = sender.proof(&world.sender, &mail, Disclosure::Content).await;
    assert!(matches!(proof, Err(Error::NotEnough { needed: 3, found: 2, .. })), "{proof:?}");

    let world = World::new();
    let _nodes = world.serve([Undecided, Honest, Dead, Honest]);
    let mail = world.sealed_mail(Protocol::Cmp1);
    let sender = client(&world, hasty());
    assert!(sender.status(&world.sender, &mail).await.unwrap().is_none());
    let proof = sender.proof(&world.sender, &mail, Disclosure::Content).await;
    assert!(matches!(proof, Err(Error::Undecided)), "{proof:?}");
}
