//! The key ceremony, by real processes: killed, absent, left out, and with a rogue among them.

mod rogue;

use std::collections::BTreeSet;
use std::time::Duration;

use fairpost::client::{Client, Options};
use fairpost_api::v1::ceremony_client::CeremonyClient;
use fairpost_api::v1::{CeremonyProgress, CeremonyStep, GetProgressRequest, ShareState};
use fairpost_node::config::Config;
use fairpost_proto::ids::{Protocol, Span, Verdict};
use fairpost_tests::{Cluster, Ended, People, Settings, eventually, mail, open, prove, run, within};

const HOUR: Span = Span::from_seconds(3600);
/// All that a node does in a ceremony.
const STEPS: [CeremonyStep; 5] = [
    CeremonyStep::Joining,
    CeremonyStep::Dealing,
    CeremonyStep::Reporting,
    CeremonyStep::Signing,
    CeremonyStep::Proving,
];

/// Four nodes that wait for their ceremony.
fn prepared(settings: Settings, running: &[usize]) -> Cluster {
    let mut cluster = Cluster::prepare(settings, &[]).unwrap();
    for node in running {
        cluster.launch(*node).unwrap();
    }
    cluster
}

/// What `fairpostctl key ceremony` says, with these arguments more.
async fn ceremony(cluster: &Cluster, more: &[&str]) -> Ended {
    let folder = cluster.path().display().to_string();
    let arguments = ["key", "ceremony", "--dir", &folder].into_iter().chain(more.iter().copied());
    within("the key ceremony", run("fairpostctl", arguments, b"")).await.unwrap().unwrap()
}

async fn progress(cluster: &Cluster, node: usize) -> Option<CeremonyProgress> {
    let mut client = CeremonyClient::new(cluster.operator_channel(node).ok()?);
    let mut request = tonic::Request::new(GetProgressRequest {});
    request.set_timeout(Duration::from_secs(2));
    Some(client.get_progress(request).await.ok()?.into_inner())
}

/// That the cluster has one key, whose shares work, and nothing of the ceremony is left that is secret.
async fn works(cluster: &mut Cluster, shares: &[usize]) {
    cluster.trust = fairpost::trust::load(&cluster.path().join("cluster.trust")).unwrap();
    for node in shares {
        cluster.ready(*node).await.unwrap();
        assert_eq!(cluster.status(*node).await.unwrap().share(), ShareState::Working);
        let data = Config::load(&cluster.nodes[*node].config).unwrap().data;
        let left: BTreeSet<_> = std::fs::read_dir(data.join("ceremony"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        assert_eq!(left, BTreeSet::from(["transcript".to_owned()]), "node {node}");
        let transcript = data.join("ceremony/transcript").display().to_string();
        let trust = cluster.path().join("cluster.trust").display().to_string();
        let verified =
            run("fairpostctl", ["key", "verify", "--cluster", &trust, &transcript], b"").await.unwrap();
        assert_eq!(verified.code, Some(0), "{}", verified.err);
    }
    let people = People::new(cluster).unwrap();
    let mut sealed = people.seal(cluster, Protocol::Cmp2, HOUR).unwrap();
    let client = Client::new(cluster.trust.clone(), Options::default()).unwrap();
    assert_eq!(open(&client, &people, &mut sealed).await.unwrap(), mail());
    assert_eq!(prove(&client, &people, &mut sealed).await.unwrap().verdict, Verdict::Released);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_is_killed_at_every_step_of_the_ceremony() {
    for victim in 0..4 {
        let mut killed = BTreeSet::new();
        // A step may be over before it was seen: then there is another ceremony.
        for _ in 0..8 {
            killed.extend(killed_on_the_way(victim).await);
            if killed.len() == STEPS.len() {
                break;
            }
        }
        assert_eq!(killed, STEPS.iter().map(|step| *step as i32).collect(), "node {victim}");
    }
}

/// Runs a ceremony, in which this node is killed and started again in each step that is seen. Gives these steps.
async fn killed_on_the_way(victim: usize) -> BTreeSet<i32> {
    let mut cluster = prepared(Settings::default(), &[0, 1, 2, 3]);
    let mut killed = BTreeSet::new();
    let folder = cluster.path().display().to_string();
    let mut running = std::pin::pin!(within(
        "the key ceremony",
        run("fairpostctl", ["key", "ceremony", "--dir", &folder], b"")
    ));
    let others: Vec<CeremonyClient<_>> = (0..4)
        .filter(|node| *node != victim)
        .map(|node| CeremonyClient::new(cluster.operator_channel(node).unwrap()))
        .collect();
    let mut turn = others.iter().cycle();
    let ended = loop {
        let mut client = turn.next().unwrap().clone();
        let asked = tokio::select! {
            ended = &mut running => break ended,
            asked = client.get_progress(GetProgressRequest {}) => asked,
        };
        let Ok(found) = asked.map(tonic::Response::into_inner) else { continue };
        let step = found.step;
        if STEPS.iter().any(|known| *known as i32 == step) && killed.insert(step) {
            cluster.kill(victim).unwrap();
            cluster.launch(victim).unwrap();
        }
    };
    let ended = ended.unwrap().unwrap();
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.err, cluster.log(victim));
    works(&mut cluster, &[0, 1, 2, 3]).await;
    killed
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_absent_is_awaited_by_name() {
    let mut cluster = prepared(Settings::default(), &[0, 1, 2]);
    let waiting = ceremony(&cluster, &["--timeout", "3"]).await;
    assert_eq!(waiting.code, Some(75), "{}", waiting.err);
    assert!(waiting.err.contains("waiting for 1 of n4 (join)"), "{}", waiting.err);
    assert!(waiting.err.contains("n4 does not answer"), "{}", waiting.err);
    // Nobody is ready, and nobody has a share.
    for node in 0..3 {
        let config = Config::load(&cluster.nodes[node].config).unwrap();
        assert!(!config.share.exists() && !config.trust.exists());
    }
    let without = ceremony(&cluster, &["--without", "n4", "--again"]).await;
    assert_eq!(without.code, Some(1), "{}", without.err);
    assert!(without.err.contains("4"), "{}", without.err);
    cluster.launch(3).unwrap();
    let made = ceremony(&cluster, &[]).await;
    assert_eq!(made.code, Some(0), "{}", made.err);
    works(&mut cluster, &[0, 1, 2, 3]).await;
    // Another run finds the key there, and changes nothing.
    let before = std::fs::read(cluster.path().join("cluster.trust")).unwrap();
    let again = ceremony(&cluster, &["-o", "json"]).await;
    assert_eq!(again.code, Some(0), "{}", again.err);
    let report: serde_json::Value = serde_json::from_slice(&again.out).unwrap();
    assert_eq!(report["cluster"], cluster.trust.cluster().to_string());
    assert_eq!(report["members"][3]["finished"], true);
    assert_eq!(std::fs::read(cluster.path().join("cluster.trust")).unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_member_can_be_spared_the_others_go_on_and_it_serves_without_a_share() {
    // q + f = 5 of 6.
    let mut cluster = prepared(Settings { nodes: 6, ..Settings::default() }, &[0, 1, 2, 3, 4]);
    let waiting = ceremony(&cluster, &["--timeout", "3"]).await;
    assert_eq!(waiting.code, Some(75), "{}", waiting.err);
    let made = ceremony(&cluster, &["--again", "--without", "n6"]).await;
    assert_eq!(made.code, Some(0), "{}", made.err);
    let told = String::from_utf8(made.out).unwrap();
    assert!(told.contains("n6          took no part"), "{told}");
    works(&mut cluster, &[0, 1, 2, 3, 4]).await;

    // It takes the transcript, follows, and signs nothing.
    cluster.launch(5).unwrap();
    let closed = eventually("the node without a share", async || {
        let status = cluster.status(5).await.ok()?;
        (status.share() == ShareState::Closed && !status.leader.is_empty()).then_some(status)
    });
    let status = closed.await.unwrap();
    assert!(!status.ready && status.not_ready_because.contains("made without this node"), "{status:?}");
    assert!(!Config::load(&cluster.nodes[5].config).unwrap().share.exists());
    works(&mut cluster, &[0, 1, 2, 3, 4]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_missed_the_end_takes_it_from_another() {
    let mut cluster = prepared(Settings::default(), &[0, 1, 2, 3]);
    let made = ceremony(&cluster, &[]).await;
    assert_eq!(made.code, Some(0), "{}", made.err);
    works(&mut cluster, &[0, 1, 2, 3]).await;
    // As after a crash between the transcript and the trust file.
    cluster.stop(2).await.unwrap();
    let config = Config::load(&cluster.nodes[2].config).unwrap();
    let trust = std::fs::read(&config.trust).unwrap();
    std::fs::remove_file(&config.trust).unwrap();
    std::fs::write(config.data.join("ceremony/kept"), b"what a crash left").unwrap();
    cluster.launch(2).unwrap();
    cluster.ready(2).await.unwrap();
    assert_eq!(std::fs::read(&config.trust).unwrap(), trust);
    assert!(!config.data.join("ceremony/kept").exists());
    // As if it had been down before its own end: it has no share, and the ceremony goes on without asking anybody to repeat it.
    cluster.stop(2).await.unwrap();
    std::fs::remove_file(config.data.join("ceremony/transcript")).unwrap();
    let share = std::fs::read(&config.share).unwrap();
    cluster.launch(2).unwrap();
    eventually("the transcript of another", async || {
        config.data.join("ceremony/transcript").exists().then_some(())
    })
    .await
    .unwrap();
    assert_eq!(std::fs::read(&config.share).unwrap(), share, "its share stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proposal_that_is_not_approved_starts_nothing() {
    let cluster = prepared(Settings::default(), &[]);
    let proposal = cluster.path().join("cluster.proposal");
    let approved = fairpost_node::membership::ceremony::read_proposal(&proposal).unwrap();
    let bare = fairpost_proto::approval::ApprovedProposal::new(approved.proposal().clone());
    std::fs::write(&proposal, fairpost_ops::proposal::text(&bare)).unwrap();
    let config = cluster.nodes[0].config.display().to_string();
    let ended = run("fairpostd", ["run", "--config", &config], b"").await.unwrap();
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(ended.err.contains("0 of the proposal's operators approved it, and it takes 1"), "{}", ended.err);
    std::fs::remove_file(&proposal).unwrap();
    let ended = run("fairpostd", ["run", "--config", &config], b"").await.unwrap();
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(
        ended.err.contains("neither a trust file at") && ended.err.contains("key ceremony"),
        "{}",
        ended.err
    );
}
