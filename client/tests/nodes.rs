//! Clients against nodes that are dead, silent, helpless or lying.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as tests do: by a panic that names the line")]

mod support;

use std::time::{Duration, Instant};

use fairpost::client::{Client, Disclosure, Error, Fault, Opening, Options, Reason};
use fairpost::sealed_mail::SealedMail;
use fairpost_proto::ids::{Protocol, Span, Verdict};
use fairpost_proto::proof::Claim;
use fairpost_proto::request::Method;
use fairpost_proto::verify::{self, Opening as Seen};
use std::io::Read as _;
use support::Behaviour::{
    Dead, ForgedEvidence, Hanging, Honest, Impostor, Rejecting, Silent, SwappedVerdict, Unavailable,
    Undecided, WrongToken,
};
use support::{MAIL, World};

/// So long that no test waits for it: one node is asked at a time.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the first node first, and soon loses patience.
fn options() -> Options {
    Options {
        attempt: Duration::from_millis(600),
        deadline: Duration::from_secs(20),
        first: Some(0),
        hedge: Some(PATIENCE),
        ..Options::default()
    }
}

fn hasty() -> Options {
    Options {
        attempt: Duration::from_millis(300),
        deadline: Duration::from_millis(900),
        first: Some(0),
        hedge: Some(PATIENCE),
        ..Options::default()
    }
}

fn client(world: &World, options: Options) -> Client {
    Client::new(world.trust.clone(), options).unwrap()
}

#[tokio::test]
async fn a_mail_opens_and_its_delivery_is_proved_although_the_first_nodes_are_of_no_use() {
    for first in [
        Dead,
        Silent,
        Hanging,
        Unavailable,
        WrongToken,
        SwappedVerdict,
        ForgedEvidence,
        Undecided,
        Rejecting,
        Impostor,
    ] {
        let world = World::new();
        let _nodes = world.serve([first, Honest, Honest, Honest]);
        let client = client(&world, options());
        let mut mail = world.sealed_mail(Protocol::Cmp2);
        let opening = client.open(&world.recipient, &mut mail).await.unwrap();
        let Opening::Opened { mail: mut content, length, .. } = opening else {
            panic!("{first:?}: {opening:?}")
        };
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).unwrap();
        assert_eq!((bytes.as_slice(), length), (MAIL, MAIL.len() as u64), "{first:?}");

        let (proof, report) = client.proof(&world.sender, &mail, Disclosure::Content).await.unwrap();
        assert_eq!(report.verdict, Verdict::Released, "{first:?}");
        let part = mail.part().unwrap();
        let shown = verify::verify_with_mail(&proof, &world.trust, part, std::io::sink()).unwrap();
        assert_eq!(shown.opening, Seen::Shown { bytes: length }, "{first:?}");
    }
}

#[tokio::test]
async fn a_node_with_a_wrong_token_is_not_believed() {
    for liar in [WrongToken, SwappedVerdict, ForgedEvidence] {
        let world = World::new();
        let _nodes = world.serve([liar, Dead, Dead, Dead]);
        let mail = world.sealed_mail(Protocol::Cmp1);
        let failed = client(&world, hasty()).redeem(&world.recipient, &mail).await;
        let Err(Error::NotBelieved { failures }) = failed else { panic!("{failed:?}") };
        let faults: Vec<_> = failures.iter().map(|failure| failure.fault).collect();
        assert_eq!(faults, [Fault::Lied, Fault::Unreachable, Fault::Unreachable, Fault::Unreachable]);
    }
}

#[tokio::test]
async fn a_node_whose_proof_is_for_another_verdict_than_it_says_is_not_believed() {
    let world = World::new();
    let _nodes = world.serve([SwappedVerdict, Honest, Honest, Honest]);
    let mail = world.sealed_mail(Protocol::Cmp1);
    client(&world, Options { first: Some(1), ..options() }).redeem(&world.recipient, &mail).await.unwrap();
    // A client that has not met the liar yet, and asks it first.
    let (_, report) =
        client(&world, options()).proof(&world.sender, &mail, Disclosure::Content).await.unwrap();
    assert_eq!(report.verdict, Verdict::Released);
    let asked: Vec<usize> = world
        .asked()
        .iter()
        .filter(|(_, method)| *method == Method::Proof)
        .map(|(place, _)| *place)
        .collect();
    assert_eq!(asked, [0, 1]);
}

#[tokio::test]
async fn a_liar_is_asked_last_from_then_on_and_who_answered_first() {
    let world = World::new();
    let _nodes = world.serve([WrongToken, Honest, Honest, Honest]);
    let client = client(&world, options());
    let mail = world.sealed_mail(Protocol::Cmp1);
    for _ in 0..3 {
        client.redeem(&world.recipient, &mail).await.unwrap();
    }
    let asked: Vec<usize> = world.asked().iter().map(|(place, _)| *place).collect();
    assert_eq!(asked, [0, 1, 1, 1]);
}

#[tokio::test]
async fn one_node_that_says_undecided_or_rejects_is_not_believed() {
    for liar in [Undecided, Rejecting] {
        let world = World::new();
        let _nodes = world.serve([liar, Honest, Honest, Honest]);
        let mail = world.sealed_mail(Protocol::Cmp1);
        client(&world, options()).redeem(&world.recipient, &mail).await.unwrap();
        let status = client(&world, options()).status(&world.sender, &mail).await.unwrap();
        assert_eq!(status.map(|outcome| outcome.verdict), Some(Verdict::Released), "{liar:?}");
    }
}

#[tokio::test]
async fn what_more_nodes_say_than_can_be_compromised_is_believed() {
    let world = World::new();
    let _nodes = world.serve([Rejecting, Undecided, Rejecting, Undecided]);
    let mail = world.sealed_mail(Protocol::Cmp1);
    let rejected = client(&world, options()).redeem(&world.recipient, &mail).await;
    let Err(Error::Rejected(rejection)) = rejected else { panic!("{rejected:?}") };
    assert_eq!((rejection.reason, rejection.message.as_str()), (Reason::TooLate, "too late"));

    let world = World::new();
    let _nodes = world.serve([Undecided, Dead, Honest, Honest]);
    let mail = world.sealed_mail(Protocol::Cmp1);
    let client = client(&world, options());
    assert!(client.status(&world.sender, &mail).await.unwrap().is_none());
    let proof = client.proof(&world.sender, &mail, Disclosure::Content).await;
    assert!(matches!(proof, Err(Error::Undecided)), "{proof:?}");
}

#[tokio::test]
async fn nobody_there_is_another_error_than_no_quorum() {
    let failed = async |behaviours| {
        let world = World::new();
        let _nodes = world.serve(behaviours);
        let started = Instant::now();
        let mail = world.sealed_mail(Protocol::Cmp1);
        let error = client(&world, hasty()).redeem(&world.recipient, &mail).await.unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(5), "the deadline holds");
        error
    };
    assert!(matches!(failed([Dead; 4]).await, Error::NotReached { failures } if failures.len() == 4));
    assert!(matches!(failed([Silent, Dead, Dead, Dead]).await, Error::NotReached { .. }));
    assert!(matches!(failed([Unavailable, Dead, Dead, Dead]).await, Error::NoQuorum { .. }));
    assert!(matches!(failed([Hanging, Dead, Dead, Dead]).await, Error::NoQuorum { .. }));
    let Error::NotReached { failures } = failed([Impostor, Dead, Dead, Dead]).await else { panic!() };
    assert!(failures[0].message.contains("refused to talk"), "{failures:?}");
}

#[tokio::test]
async fn whoever_comes_late_gets_the_verdict_that_stands() {
    let world = World::new();
    let _nodes = world.serve([Honest; 4]);
    let client = client(&world, options());
    for (first, verdict) in [(Method::Withdraw, Verdict::Withdrawn), (Method::Refuse, Verdict::Refused)] {
        let mut mail = world.sealed_mail(Protocol::Cmp2);
        let outcome = match first {
            Method::Withdraw => client.withdraw(&world.sender, &mail).await,
            _ => client.refuse(&world.recipient, &mail).await,
        };
        assert_eq!(outcome.unwrap().verdict, verdict);
        let opening = client.open(&world.recipient, &mut mail).await.unwrap();
        assert!(matches!(opening, Opening::Shut(outcome) if outcome.verdict == verdict));
        let outcome = client.redeem(&world.recipient, &mail).await.unwrap();
        assert_eq!(outcome.evidence, world.evidence(mail.nro(), verdict));
        let (proof, report) = client.proof(&world.recipient, &mail, Disclosure::Content).await.unwrap();
        assert_eq!((report.verdict, proof.disclosure), (verdict, None), "what stays shut is not disclosed");
    }
}

#[tokio::test]
async fn after_the_deadline_asking_brings_about_expired() {
    let world = World::new();
    let _nodes = world.serve([Honest; 4]);
    let client = client(&world, options());
    let made = fairpost::seal::Options { lifetime: Span::from_seconds(1), ..Default::default() };
    let mail = SealedMail::read(world.seal_with(made).1.as_slice()).unwrap();
    let asking = async {
        loop {
            if let Some(outcome) = client.status(&world.sender, &mail).await.unwrap() {
                return outcome;
            }
        }
    };
    let outcome = tokio::time::timeout(PATIENCE * 3, asking).await.unwrap();
    assert_eq!((outcome.verdict, outcome.evidence), (Verdict::Expired, None));
    let (_, report) = client.proof(&world.sender, &mail, Disclosure::Content).await.unwrap();
    assert_eq!(report.verdict, Verdict::Expired);
}

#[tokio::test]
async fn garbage_under_a_valid_lock_gives_a_fraud_proof_that_verifies() {
    for protocol in [Protocol::Cmp1, Protocol::Cmp2] {
        let world = World::new();
        let _nodes = world.serve([Honest; 4]);
        let client = client(&world, options());
        let mut mail = SealedMail::read(world.garbage(protocol).as_slice()).unwrap();
        let opened = client.open(&world.recipient, &mut mail).await;
        let Err(Error::Fraud(fraud)) = opened else { panic!("{opened:?}") };
        let proof = fraud.proof.unwrap();
        assert_eq!(proof.claim, Claim::Fraud);
        let report =
            verify::verify_with_mail(&proof, &world.trust, mail.part().unwrap(), std::io::sink()).unwrap();
        assert_eq!(report.opening, Seen::Fraud(fraud.garbage));
    }
}

#[tokio::test]
async fn no_receipt_is_signed_for_a_mail_that_does_not_check_out() {
    let (world, other) = (World::new(), World::new());
    let _nodes = world.serve([Honest; 4]);
    let client = client(&world, options());
    let foreign = other.sealed_mail(Protocol::Cmp1);
    assert!(matches!(client.redeem(&world.recipient, &foreign).await, Err(Error::Evidence(_))));
    let mail = world.sealed_mail(Protocol::Cmp2);
    assert!(matches!(client.redeem(&world.sender, &mail).await, Err(Error::Stranger { .. })));
    assert!(matches!(client.refuse(&world.sender, &mail).await, Err(Error::Stranger { .. })));
    assert!(matches!(client.withdraw(&world.recipient, &mail).await, Err(Error::Stranger { .. })));
    assert!(matches!(client.status(&other.sender, &mail).await, Err(Error::Stranger { .. })));
    assert_eq!(world.asked(), [], "nothing left this machine");
}

#[tokio::test]
async fn in_cmp2_a_proof_can_show_acceptance_without_content() {
    let world = World::new();
    let _nodes = world.serve([Honest; 4]);
    let client = client(&world, options());
    let mut mail = world.sealed_mail(Protocol::Cmp2);
    client.redeem(&world.recipient, &mail).await.unwrap();
    let (proof, _) = client.proof(&world.sender, &mail, Disclosure::Acceptance).await.unwrap();
    let shown = verify::verify_with_mail(&proof, &world.trust, mail.part().unwrap(), std::io::sink());
    assert!(matches!(shown, Err(verify::Error::Disclosure { found: None, .. })));
}

#[tokio::test]
async fn a_call_may_be_dropped_at_any_moment_and_made_again() {
    let world = World::new();
    let _nodes = world.serve([Honest; 4]);
    let client = client(&world, options());
    let mail = world.sealed_mail(Protocol::Cmp2);
    for micros in [0, 100, 1_000, 5_000, 20_000] {
        let _dropped =
            tokio::time::timeout(Duration::from_micros(micros), client.redeem(&world.recipient, &mail)).await;
    }
    assert_eq!(client.redeem(&world.recipient, &mail).await.unwrap().verdict, Verdict::Released);
}

#[test]
fn calls_can_be_spawned() {
    fn is_send<T: Send>(_: &T) {}
    fn never(client: &Client, identity: &fairpost::identity::Identity, mail: &mut SealedMail) {
        is_send(&client.redeem(identity, mail));
        is_send(&client.proof(identity, mail, Disclosure::Content));
        is_send(&client.open(identity, mail));
    }
    let _ = never;
}
