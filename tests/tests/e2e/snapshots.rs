//! Logs that are purged, ledgers that are lost behind them, and snapshots that bring them back.

pub(crate) mod hostile;
mod retention;

use std::fs;
use std::time::Duration;

use fairpost::client::{Client, Options};
use fairpost::sealed_mail::SealedMail;
use fairpost_api::v1::{NodeStatus, State};
use fairpost_node::config::Config;
use fairpost_proto::ids::{Protocol, Span, Verdict};
use fairpost_proto::request::Method;
use fairpost_tests::{
    Cluster, People, Settings, call, envelope, eventually, get_proof, get_share, mail, open, prove, request,
};
use tonic::Code;

const HOUR: Span = Span::from_seconds(3600);

/// A cluster whose nodes keep nothing of the log that they do not need.
async fn forgetful(settings: Settings) -> (Cluster, People) {
    let mut cluster = Cluster::make(settings).unwrap();
    for node in 0..4 {
        cluster.configure(node, "\n[log]\nkeep_bytes = 0\n").unwrap();
        cluster.launch(node).unwrap();
    }
    for node in 0..4 {
        cluster.ready(node).await.unwrap();
    }
    let people = People::new(&cluster).unwrap();
    (cluster, people)
}

fn through(cluster: &Cluster, first: usize) -> Client {
    let options = Options {
        first: Some(first),
        attempt: Duration::from_secs(3),
        deadline: Duration::from_secs(50),
        ..Options::default()
    };
    Client::new(cluster.trust.clone(), options).unwrap()
}

async fn opened(cluster: &Cluster, people: &People, node: usize) -> SealedMail {
    let mut sealed = people.seal(cluster, Protocol::Cmp2, HOUR).unwrap();
    assert_eq!(open(&through(cluster, node), people, &mut sealed).await.unwrap(), mail());
    sealed
}

/// Waits until all entries that these nodes have applied are gone from their logs.
async fn purged(cluster: &Cluster, nodes: &[usize]) {
    for node in nodes {
        let probe = async || {
            let status = cluster.status(*node).await.ok()?;
            let text = cluster.metrics(*node).await.ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix("fairpost_log_purged_index "))?;
            let purged: f64 = line.parse().ok()?;
            // All but what came last: that is purged with the next entry.
            (purged + 2.0 >= status.applied_index as f64 && purged > 2.0).then_some(())
        };
        eventually("a purged log", probe).await.unwrap();
    }
}

/// Waits until a node has decided what another has.
async fn level(cluster: &Cluster, node: usize, with: usize) -> NodeStatus {
    let probe = async || {
        let (at, reference) = (cluster.status(node).await.ok()?, cluster.status(with).await.ok()?);
        let level = at.sequence == reference.sequence && at.evidence_log_root == reference.evidence_log_root;
        level.then_some(at)
    };
    eventually("a node's catching up", probe)
        .await
        .unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.log(node)))
}

/// That one node, by itself, gives all that proves an exchange.
async fn has_proof(cluster: &Cluster, node: usize, people: &People, sealed: &SealedMail) {
    let (channel, id) = (cluster.channel(node).unwrap(), cluster.trust.cluster());
    let parts = get_proof(&channel, id, &people.sender, sealed.nro()).await.unwrap();
    assert_eq!(parts.state(), State::Released);
    assert!(!parts.certificate.is_empty() && parts.token.len() == 96 && !parts.evidence.is_empty());
}

/// Deletes a stopped node's ledger, whatever it is called by now.
fn lose_ledger(cluster: &Cluster, node: usize) {
    let data = Config::load(&cluster.nodes[node].config).unwrap().data;
    let mut lost = 0;
    for entry in fs::read_dir(data).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("ledger") && path.is_dir() {
            fs::remove_dir_all(path).unwrap();
            lost += 1;
        }
    }
    assert_eq!(lost, 1, "one ledger is the ledger, and nothing else is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_purged_log_nodes_come_back_by_verified_snapshots() {
    let (mut cluster, people) = forgetful(Settings::default()).await;
    let early = opened(&cluster, &people, 0).await;
    cluster.stop(3).await.unwrap();
    let mut missed = Vec::new();
    for node in [0, 1, 2, 0, 1, 2] {
        missed.push(opened(&cluster, &people, node).await);
    }
    purged(&cluster, &[0, 1, 2]).await;

    // A node that was away.
    cluster.launch(3).unwrap();
    cluster.ready(3).await.unwrap();
    level(&cluster, 3, 0).await;
    assert!(cluster.log(3).contains("a snapshot was verified"), "{}", cluster.log(3));
    for sealed in missed.iter().chain([&early]) {
        has_proof(&cluster, 3, &people, sealed).await;
    }
    let log = cluster.log(3);
    let skipped = log.lines().filter(|line| line.contains("came by snapshot and were never seen")).count();
    assert_eq!(skipped, 1, "entries that never were here are passed over together:\n{log}");
    // It votes on what comes: with it and without another, there is a quorum.
    cluster.stop(2).await.unwrap();
    let together = opened(&cluster, &people, 3).await;
    cluster.launch(2).unwrap();
    cluster.ready(2).await.unwrap();

    // A node that has lost its ledger, the leader at that.
    purged(&cluster, &[0, 1, 2, 3]).await;
    let leader = cluster.leader().await.unwrap();
    let other = (leader + 1) % 4;
    cluster.stop(leader).await.unwrap();
    lose_ledger(&cluster, leader);
    cluster.launch(leader).unwrap();
    cluster.ready(leader).await.unwrap();
    level(&cluster, leader, other).await;
    let log = cluster.log(leader);
    assert!(log.contains("the ledger was lost behind the purged log"), "{log}");
    assert!(log.contains("the ledger is back: this node takes part again"), "{log}");
    for sealed in missed.iter().chain([&early, &together]) {
        has_proof(&cluster, leader, &people, sealed).await;
    }
    let mut sealed = opened(&cluster, &people, leader).await;
    let report = prove(&through(&cluster, leader), &people, &mut sealed).await.unwrap();
    assert_eq!(report.verdict, Verdict::Released);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_lost_its_ledger_does_not_deny_what_it_held() {
    let (mut cluster, people) = forgetful(Settings::default()).await;
    let sealed = opened(&cluster, &people, 0).await;
    for node in [1, 2, 3, 0, 1] {
        opened(&cluster, &people, node).await;
    }
    purged(&cluster, &[1]).await;
    for node in 0..4 {
        cluster.stop(node).await.unwrap();
    }
    lose_ledger(&cluster, 1);
    // Alone, so that it can't learn again what it has forgotten.
    cluster.launch(1).unwrap();
    let (channel, id) = (cluster.channel(1).unwrap(), cluster.trust.cluster());
    let message = |method| {
        let asked = request(id, method, sealed.nro(), None);
        envelope(&people.sender, asked, sealed.nro().bytes(), None).unwrap()
    };
    let answer = eventually("an answer of the node", async || {
        match call(&channel, Method::Status, message(Method::Status)).await {
            // It is not there yet.
            Err(status) if std::error::Error::source(&status).is_some() => None,
            answer => Some(answer),
        }
    });
    let status = answer.await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains("ledger was lost"), "{status}");
    let share = get_share(&channel, message(Method::Proof)).await.unwrap_err();
    assert_eq!(share.code(), Code::Unavailable, "{share}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_while_it_takes_a_snapshot_starts_with_the_old_ledger_or_the_new_one() {
    let (mut cluster, people) = forgetful(Settings::default()).await;
    let mut mails = Vec::new();
    for node in [0, 1, 2, 3] {
        mails.push(opened(&cluster, &people, node).await);
    }
    purged(&cluster, &[0, 1, 2, 3]).await;
    let victim = (cluster.leader().await.unwrap() + 1) % 4;
    // At each step that it tells of, the process is killed as soon as the step is in its log.
    for step in [
        "a quorum has signed the log of a snapshot",
        "a snapshot was verified",
        "the ledger is back",
        "serving",
    ] {
        cluster.stop(victim).await.unwrap();
        lose_ledger(&cluster, victim);
        let before = cluster.log(victim).len();
        cluster.launch(victim).unwrap();
        let told = async || cluster.log(victim).get(before..)?.contains(step).then_some(());
        eventually(step, told).await.unwrap();
        cluster.kill(victim).unwrap();
        cluster.launch(victim).unwrap();
        cluster.ready(victim).await.unwrap();
        level(&cluster, victim, (victim + 1) % 4).await;
        for sealed in &mails {
            has_proof(&cluster, victim, &people, sealed).await;
        }
    }
    // As does one that was killed without having lost anything.
    cluster.kill(victim).unwrap();
    cluster.launch(victim).unwrap();
    cluster.ready(victim).await.unwrap();
    mails.push(opened(&cluster, &people, victim).await);
    has_proof(&cluster, victim, &people, mails.last().unwrap()).await;
}
