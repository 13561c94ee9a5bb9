//! A node whose data folder is an old copy: it finds out from the others, and signs nothing any more.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use fairpost::client::{Client, Options};
use fairpost::sealed_mail::SealedMail;
use fairpost_api::v1::{NodeStatus, ShareState, State};
use fairpost_node::config::Config;
use fairpost_proto::ids::{Protocol, Span};
use fairpost_tests::{Cluster, People, Settings, eventually, get_proof, mail, open, prove};

/// The node that is set back.
const NODE: usize = 3;
const OTHERS: [usize; 3] = [0, 1, 2];

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
    let mut sealed = people.seal(cluster, Protocol::Cmp2, Span::from_seconds(3600)).unwrap();
    assert_eq!(open(&through(cluster, node), people, &mut sealed).await.unwrap(), mail());
    sealed
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() { copy(&path, &to) } else { fs::copy(&path, &to).map(drop).unwrap() }
    }
}

/// Waits until the node has voted on all that another has decided.
async fn voted(cluster: &Cluster, with: usize) {
    let probe = async || {
        let (node, other) = (cluster.status(NODE).await.ok()?, cluster.status(with).await.ok()?);
        (node.voted_sequence == other.sequence).then_some(())
    };
    eventually("the node's votes", probe)
        .await
        .unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.log(NODE)));
}

/// Waits until the node says that it was rolled back.
async fn fenced(cluster: &Cluster) -> NodeStatus {
    let probe = async || {
        let status = cluster.status(NODE).await.ok()?;
        status.not_ready_because.contains("rolled back").then_some(status)
    };
    let status = eventually("the node's word that it was rolled back", probe).await;
    let status = status.unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.log(NODE)));
    assert_eq!((status.ready, status.share()), (false, ShareState::Closed));
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_runs_from_an_old_copy_of_its_data_is_told_so_and_signs_nothing() {
    let whole = tokio::time::timeout(Duration::from_secs(180), story());
    whole.await.expect("told in time");
}

async fn story() {
    let mut cluster = Cluster::start(Settings::default()).await.unwrap();
    let people = People::new(&cluster).unwrap();
    let first = opened(&cluster, &people, 0).await;
    voted(&cluster, 0).await;
    cluster.stop(NODE).await.unwrap();
    let data = Config::load(&cluster.nodes[NODE].config).unwrap().data;
    let old = data.with_file_name("old");
    copy(&data, &old);

    // Whoever is only restarted signs again, and at once.
    let started = Instant::now();
    cluster.launch(NODE).unwrap();
    cluster.ready(NODE).await.unwrap();
    println!("from start to ready: {:?}", started.elapsed());
    for node in OTHERS {
        opened(&cluster, &people, node).await;
    }
    voted(&cluster, 0).await;
    let newest = cluster.status(NODE).await.unwrap().voted_sequence;
    cluster.stop(NODE).await.unwrap();
    // With one of the others gone, too.
    cluster.stop(2).await.unwrap();
    fs::rename(&data, data.with_file_name("new")).unwrap();
    fs::rename(&old, &data).unwrap();

    cluster.launch(NODE).unwrap();
    let status = fenced(&cluster).await;
    assert!(status.voted_sequence < newest, "{} of {newest}", status.voted_sequence);
    cluster.launch(2).unwrap();
    cluster.ready(2).await.unwrap();
    let metrics = cluster.metrics(NODE).await.unwrap();
    assert!(metrics.lines().any(|line| line == "fairpost_share_usable 0"), "{metrics}");
    let log = cluster.log(NODE);
    assert!(log.contains("this node was rolled back: a member holds what it signed"), "{log}");

    // The other three are a quorum, and this one serves what it has.
    for node in OTHERS {
        let mut sealed = opened(&cluster, &people, node).await;
        let report = prove(&through(&cluster, node), &people, &mut sealed).await.unwrap();
        assert!(!report.voters.contains(&cluster.nodes[NODE].name), "{:?}", report.voters);
    }
    let after = fenced(&cluster).await;
    assert_eq!(after.voted_sequence, status.voted_sequence, "it has voted on nothing");
    let (channel, id) = (cluster.channel(NODE).unwrap(), cluster.trust.cluster());
    let parts = get_proof(&channel, id, &people.sender, first.nro()).await.unwrap();
    assert_eq!(parts.state(), State::Released);

    // It remembers that, also where nobody can tell it.
    for node in OTHERS {
        cluster.stop(node).await.unwrap();
    }
    cluster.kill(NODE).unwrap();
    cluster.launch(NODE).unwrap();
    fenced(&cluster).await;
    for node in OTHERS {
        cluster.launch(node).unwrap();
    }
    for node in OTHERS {
        cluster.ready(node).await.unwrap();
    }
    opened(&cluster, &people, 1).await;
    fenced(&cluster).await;

    // The right folder is as good as before.
    cluster.stop(NODE).await.unwrap();
    fs::remove_dir_all(&data).unwrap();
    fs::rename(data.with_file_name("new"), &data).unwrap();
    cluster.launch(NODE).unwrap();
    cluster.ready(NODE).await.unwrap();
    opened(&cluster, &people, NODE).await;
    voted(&cluster, 0).await;
}
