//! A member that was elected and does nothing.

use std::time::Duration;

use fairpost::client::{Client, Options};
use fairpost_api::v1::RaftMessage;
use fairpost_proto::ids::{Protocol, Span};
use fairpost_tests::{Cluster, People, Settings, about, eventually, mail, open};
use futures::StreamExt as _;

use super::snapshots::hostile::{granted, in_the_name_of};

const LIAR: usize = 3;
/// The term in which it was elected.
const TERM: u64 = 1000;

/// How long the client asks one server alone: that the others suspect the leader as well is that server's doing.
const ALONE: Duration = Duration::from_secs(40);

/// A heartbeat: the clock, the grants, version, vote, no entry before it, none committed, none.
fn heartbeat(cluster: &Cluster) -> Vec<u8> {
    let grants = granted(cluster, &[0, 1, LIAR], LIAR, TERM);
    let now = fairpost::now().millis().to_be_bytes();
    let vote = [TERM.to_be_bytes(), (LIAR as u64).to_be_bytes()].concat();
    [&now[..], &grants, &[1], &vote, &[1], &[0, 0], &[0; 4]].concat()
}

/// Leads: sends heartbeats to another member, and has nothing else to say. For ever.
async fn lead(cluster: &Cluster, to: usize) {
    let mut client = in_the_name_of(cluster, LIAR, to);
    loop {
        let beats = futures::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Some((RaftMessage { body: heartbeat(cluster) }, ()))
        });
        // A channel in between: a request's stream has to be 'static.
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let feed = async {
            let mut beats = std::pin::pin!(beats);
            while let Some(beat) = beats.next().await {
                if sender.send(beat).await.is_err() {
                    return;
                }
            }
        };
        let hear = async {
            let receiver = tokio_stream::wrappers::ReceiverStream::new(receiver);
            let Ok(answers) = client.append(about(cluster.trust.cluster(), receiver)).await else { return };
            let mut answers = answers.into_inner();
            while let Ok(Some(_)) = answers.message().await {}
        };
        tokio::select! {
            () = feed => {}
            // It was refused; it goes on.
            () = hear => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// A counter's value in what an exporter says.
fn counted(metrics: &str, name: &str) -> f64 {
    let lines = metrics.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_does_nothing_is_replaced() {
    let whole = tokio::time::timeout(Duration::from_secs(180), async {
        let mut cluster = Cluster::make(Settings::default()).unwrap();
        cluster.limit(|limits| limits.request_millis = ALONE.as_millis() as u64).unwrap();
        for node in 0..4 {
            cluster.launch(node).unwrap();
        }
        for node in 0..4 {
            cluster.ready(node).await.unwrap();
        }
        let people = People::new(&cluster).unwrap();
        cluster.stop(LIAR).await.unwrap();
        let options = Options {
            first: Some(0),
            attempt: ALONE,
            deadline: ALONE,
            hedge: Some(ALONE),
            ..Options::default()
        };
        let client = Client::new(cluster.trust.clone(), options).unwrap();
        let mut sealed = people.seal(&cluster, Protocol::Cmp2, Span::from_seconds(3600)).unwrap();
        let liar = &cluster.nodes[LIAR].name;
        let judged = async {
            for node in 0..LIAR {
                eventually("the liar's being followed", async || {
                    let status = cluster.status(node).await.ok()?;
                    (status.leader == *liar && status.term == TERM).then_some(())
                })
                .await
                .unwrap();
            }
            assert_eq!(open(&client, &people, &mut sealed).await.unwrap(), mail());
            let mut replaced = 0.0;
            for node in 0..LIAR {
                let status = cluster.status(node).await.unwrap();
                assert!(status.term > TERM && status.leader != *liar, "{status:?}");
                let metrics = cluster.metrics(node).await.unwrap();
                assert!(counted(&metrics, "fairpost_suspicions_total") >= 2.0, "node {node} heard of two");
                replaced += counted(&metrics, "fairpost_leaders_replaced_total");
            }
            assert!(replaced >= 2.0, "{replaced}");
        };
        tokio::select! {
            () = judged => {}
            _ = async { tokio::join!(lead(&cluster, 0), lead(&cluster, 1), lead(&cluster, 2)) } => {}
        }
    });
    whole.await.expect("replaced in time");
}
