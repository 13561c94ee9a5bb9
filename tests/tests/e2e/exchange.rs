//! Every way an exchange can end, under both protocols.

use fairpost::client::{Client, Options};
use fairpost_proto::ids::{Protocol, Span, Verdict};
use fairpost_proto::verify::Opening;
use fairpost_tests::{Cluster, People, Settings, mail, open, prove, within};

const HOUR: Span = Span::from_seconds(3600);

fn client(cluster: &Cluster) -> Client {
    Client::new(cluster.trust.clone(), Options::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_ends_in_one_verdict_that_both_can_prove() {
    let cluster = Cluster::start(Settings::default()).await.unwrap();
    let people = People::new(&cluster).unwrap();
    let client = client(&cluster);
    for protocol in [Protocol::Cmp1, Protocol::Cmp2] {
        released(&cluster, &people, &client, protocol).await;
        refused(&cluster, &people, &client, protocol).await;
        withdrawn(&cluster, &people, &client, protocol).await;
        expired(&cluster, &people, &client, protocol).await;
    }
    any_node_serves_any_client(&cluster, &people).await;
}

async fn released(cluster: &Cluster, people: &People, client: &Client, protocol: Protocol) {
    let mut sealed = people.seal(cluster, protocol, HOUR).unwrap();
    assert!(client.status(&people.sender, &sealed).await.unwrap().is_none(), "undecided before the receipt");
    let before = client.proof(&people.sender, &sealed, fairpost::client::Disclosure::Content).await;
    assert!(matches!(before, Err(fairpost::client::Error::Undecided)), "nothing to prove before the receipt");

    assert_eq!(open(client, people, &mut sealed).await.unwrap(), mail(), "byte for byte");
    let report = prove(client, people, &mut sealed).await.unwrap();
    assert_eq!((report.verdict, report.exchange), (Verdict::Released, sealed.exchange()));
    assert_eq!(report.opening, Opening::Shown { bytes: mail().len() as u64 });
    assert!(report.voters.len() >= 3, "{:?}", report.voters);

    // Whatever is asked later, the verdict stands.
    assert_eq!(client.withdraw(&people.sender, &sealed).await.unwrap().verdict, Verdict::Released);
    assert_eq!(client.refuse(&people.recipient, &sealed).await.unwrap().verdict, Verdict::Released);
    assert_eq!(open(client, people, &mut sealed).await.unwrap(), mail(), "asking again is safe");
}

async fn refused(cluster: &Cluster, people: &People, client: &Client, protocol: Protocol) {
    let mut sealed = people.seal(cluster, protocol, HOUR).unwrap();
    assert_eq!(client.refuse(&people.recipient, &sealed).await.unwrap().verdict, Verdict::Refused);
    assert_eq!(client.redeem(&people.recipient, &sealed).await.unwrap().verdict, Verdict::Refused);
    assert_eq!(prove(client, people, &mut sealed).await.unwrap().verdict, Verdict::Refused);
}

async fn withdrawn(cluster: &Cluster, people: &People, client: &Client, protocol: Protocol) {
    let mut sealed = people.seal(cluster, protocol, HOUR).unwrap();
    assert_eq!(client.withdraw(&people.sender, &sealed).await.unwrap().verdict, Verdict::Withdrawn);
    assert_eq!(client.redeem(&people.recipient, &sealed).await.unwrap().verdict, Verdict::Withdrawn);
    assert_eq!(prove(client, people, &mut sealed).await.unwrap().verdict, Verdict::Withdrawn);
}

async fn expired(cluster: &Cluster, people: &People, client: &Client, protocol: Protocol) {
    let mut sealed = people.seal(cluster, protocol, Span::from_seconds(1)).unwrap();
    let due = sealed.terms().expires.plus(cluster.trust.view().parameters().grace);
    let outcome = within("an expiry", async {
        loop {
            if let Some(outcome) = client.status(&people.sender, &sealed).await.unwrap() {
                return outcome;
            }
            // Nobody tells when a deadline has passed: ask when it has.
            let left = due.millis().saturating_sub(fairpost::now().millis()) + 10;
            tokio::time::sleep(std::time::Duration::from_millis(left)).await;
        }
    });
    assert_eq!(outcome.await.unwrap().verdict, Verdict::Expired);
    assert!(fairpost::now() >= due);
    let report = prove(client, people, &mut sealed).await.unwrap();
    assert_eq!(report.verdict, Verdict::Expired);
    assert!(report.time >= due, "recorded for {}, due at {due}", report.time);
    let late = client.redeem(&people.recipient, &sealed).await.unwrap();
    assert_eq!(late.verdict, Verdict::Expired, "a receipt that comes too late gets the verdict that stands");
}

async fn any_node_serves_any_client(cluster: &Cluster, people: &People) {
    let mut sealed = people.seal(cluster, Protocol::Cmp2, HOUR).unwrap();
    for first in 0..cluster.nodes.len() {
        let options = Options { first: Some(first), ..Options::default() };
        let client = Client::new(cluster.trust.clone(), options).unwrap();
        let mut other = people.seal(cluster, Protocol::Cmp1, HOUR).unwrap();
        assert_eq!(
            open(&client, people, &mut other).await.unwrap(),
            mail(),
            "a fresh exchange at node {first}"
        );
        assert_eq!(
            open(&client, people, &mut sealed).await.unwrap(),
            mail(),
            "the same exchange at node {first}"
        );
        assert_eq!(prove(&client, people, &mut sealed).await.unwrap().verdict, Verdict::Released);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_alone_is_a_cluster_for_development() {
    let cluster = Cluster::start(Settings { nodes: 1, ..Settings::default() }).await.unwrap();
    let people = People::new(&cluster).unwrap();
    let client = client(&cluster);
    let mut sealed = people.seal(&cluster, Protocol::Cmp2, HOUR).unwrap();
    assert_eq!(open(&client, &people, &mut sealed).await.unwrap(), mail());
    assert_eq!(prove(&client, &people, &mut sealed).await.unwrap().verdict, Verdict::Released);
}
