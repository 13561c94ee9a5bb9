//! Many at once, and too few to decide.

use std::time::{Duration, Instant};

use fairpost::client::{Client, Options};
use fairpost_api::v1::exchange_client::ExchangeClient;
use fairpost_api::v1::{Outcome, PartyRequest, State};
use fairpost_proto::evidence::{Answer, Nrr, Refusal, Withdrawal};
use fairpost_proto::ids::{Protocol, Verdict};
use fairpost_proto::request::Method;
use fairpost_tests::{Cluster, People, call, envelope, mail, open, prove, request};
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

use super::requests::HOUR;

fn nodes(cluster: &Cluster) -> Vec<Channel> {
    (0..4).map(|node| cluster.channel(node).unwrap()).collect()
}

/// Asks all at once; gives the answers.
async fn all(calls: impl Iterator<Item = (Channel, Method, PartyRequest)>) -> Vec<Outcome> {
    let mut running = JoinSet::new();
    for (node, method, message) in calls {
        running.spawn(async move { call(&node, method, message).await });
    }
    running.join_all().await.into_iter().map(Result::unwrap).collect()
}

/// That all answers are the same, but for the time; gives the verdict.
fn one(outcomes: &[Outcome]) -> State {
    let first = &outcomes[0];
    assert_ne!(first.state(), State::Undecided);
    for outcome in outcomes {
        assert_eq!(
            (outcome.state(), &outcome.token, &outcome.evidence),
            (first.state(), &first.token, &first.evidence)
        );
    }
    first.state()
}

pub(super) async fn the_same_receipt_two_hundred_times_has_one_answer(cluster: &Cluster, people: &People) {
    let mut sealed = people.seal(cluster, Protocol::Cmp2, HOUR).unwrap();
    let nro = sealed.nro().clone();
    let receipt = people.recipient.sign(Nrr(Answer::to(&nro))).unwrap();
    let evidence = Some(receipt.bytes());
    let nodes = nodes(cluster);
    let before = cluster.status(0).await.unwrap().evidence_log_size;
    let calls = (0..200).map(|count| {
        let asked = request(cluster.trust.cluster(), Method::Redeem, &nro, evidence);
        let message = envelope(&people.recipient, asked, nro.bytes(), evidence).unwrap();
        (nodes[count % 4].clone(), Method::Redeem, message)
    });
    assert_eq!(one(&all(calls).await), State::Released);
    // One leaf: two hundred asked for the same, and it happened once.
    let client =
        Client::new(cluster.trust.clone(), Options { first: Some(0), ..Options::default() }).unwrap();
    assert_eq!(prove(&client, people, &mut sealed).await.unwrap().verdict, Verdict::Released);
    assert_eq!(cluster.status(0).await.unwrap().evidence_log_size, before + 1);
}

pub(super) async fn a_race_for_the_verdict_has_one_winner_everywhere(cluster: &Cluster, people: &People) {
    let (nodes, id) = (nodes(cluster), cluster.trust.cluster());
    for round in 0..8 {
        let protocol = if round % 2 == 0 { Protocol::Cmp1 } else { Protocol::Cmp2 };
        let sealed = people.seal(cluster, protocol, HOUR).unwrap();
        let (nro, answer) = (sealed.nro(), Answer::to(sealed.nro()));
        let receipt = people.recipient.sign(Nrr(answer)).unwrap().bytes().to_vec();
        let refusal = people.recipient.sign(Refusal(answer)).unwrap().bytes().to_vec();
        let withdrawal = people.sender.sign(Withdrawal(answer)).unwrap().bytes().to_vec();
        let ways = [
            (&people.recipient, Method::Redeem, receipt),
            (&people.recipient, Method::Refuse, refusal),
            (&people.sender, Method::Withdraw, withdrawal),
        ];
        // Every way through every node; who is first depends on the round.
        let calls = (0..12).map(|place| {
            let (signer, method, evidence) = &ways[(place + round) % 3];
            let evidence = Some(evidence.as_slice());
            let asked = request(id, *method, nro, evidence);
            let message = envelope(signer, asked, nro.bytes(), evidence).unwrap();
            (nodes[(place / 3 + round) % 4].clone(), *method, message)
        });
        let mut outcomes = all(calls).await;
        let asked = nodes.iter().map(|node| {
            let asked = request(id, Method::Status, nro, None);
            let message = envelope(&people.sender, asked, nro.bytes(), None).unwrap();
            (node.clone(), Method::Status, message)
        });
        outcomes.extend(all(asked).await);
        one(&outcomes);
    }
}

pub(super) async fn a_deadline_is_kept_when_there_is_no_quorum(cluster: &mut Cluster, people: &People) {
    let mut sealed = people.seal(cluster, Protocol::Cmp2, HOUR).unwrap();
    let nro = sealed.nro().clone();
    let receipt = people.recipient.sign(Nrr(Answer::to(&nro))).unwrap();
    let evidence = Some(receipt.bytes());
    let contact = cluster.channel(0).unwrap();
    let asked = request(cluster.trust.cluster(), Method::Redeem, &nro, evidence);
    let mut message = Request::new(envelope(&people.recipient, asked, nro.bytes(), evidence).unwrap());
    message.set_timeout(Duration::from_secs(1));

    for node in [2, 3] {
        cluster.signal(node, "STOP").unwrap();
    }
    let started = Instant::now();
    let answer = ExchangeClient::new(contact).redeem(message).await;
    let took = started.elapsed();
    for node in [2, 3] {
        cluster.signal(node, "CONT").unwrap();
    }
    let status = answer.unwrap_err();
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(status.message().contains("ask again") && status.message().contains("it is safe"), "{status:?}");
    assert!(status.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some()));

    let options = Options { deadline: Duration::from_secs(50), ..Options::default() };
    let client = Client::new(cluster.trust.clone(), options).unwrap();
    assert_eq!(open(&client, people, &mut sealed).await.unwrap(), mail());
}
