//! Entries that too few nodes see in time.

use std::time::Duration;

use fairpost::client::{Client, Options};
use fairpost_proto::ids::{Protocol, Span, Verdict};
use fairpost_tests::{Cluster, People, Settings, eventually, mail, open, prove};

/// How long an entry may be under way and still be voted for.
const SKEW: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_two_nodes_saw_too_late_is_decided_in_a_later_round() {
    let whole = tokio::time::timeout(Duration::from_secs(120), async {
        let settings = Settings { skew_millis: SKEW.as_millis() as u64, ..Settings::default() };
        let mut cluster = Cluster::start(settings).await.unwrap();
        let people = People::new(&cluster).unwrap();
        let leader = cluster.leader().await.unwrap();
        let stopped: Vec<usize> = (0..4).filter(|node| *node != leader).take(2).collect();
        for node in &stopped {
            cluster.signal(*node, "STOP").unwrap();
        }
        let options = Options {
            first: Some(leader),
            attempt: Duration::from_secs(20),
            deadline: Duration::from_secs(60),
            ..Options::default()
        };
        let client = Client::new(cluster.trust.clone(), options).unwrap();
        let mut sealed = people.seal(&cluster, Protocol::Cmp2, Span::from_seconds(3600)).unwrap();
        let opening = async {
            let opened = open(&client, &people, &mut sealed).await;
            (opened, sealed)
        };
        let waking = async {
            // The entry is in two logs by now, and gets older than the skew.
            tokio::time::sleep(SKEW * 2).await;
            for node in &stopped {
                cluster.signal(*node, "CONT").unwrap();
            }
        };
        let ((opened, mut sealed), ()) = tokio::join!(opening, waking);
        assert_eq!(opened.unwrap(), mail());
        let logs: Vec<String> = (0..4).map(|node| cluster.log(node)).collect();
        let says = |what: &str| logs.iter().filter(|log| log.contains(what)).count();
        assert!(says("does not vote") >= 2, "two nodes saw the entry too late");
        assert!(says("a later round was opened") >= 1, "a later round decided");
        for node in 0..4 {
            let client =
                Client::new(cluster.trust.clone(), Options { first: Some(node), ..options }).unwrap();
            // A node that was away may have to catch up first.
            let proved = eventually("a proof from each node", async || {
                let report = prove(&client, &people, &mut sealed).await;
                report.ok().map(|report| report.verdict)
            });
            assert_eq!(proved.await.unwrap(), Verdict::Released);
        }
    });
    whole.await.expect("decided in time");
}
