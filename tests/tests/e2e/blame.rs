//! A member that lies to the others, with its real keys: it is found out, shown to operators, and cleared by them alone.

use std::time::Duration;

use fairpost::client::{Client, Options};
use fairpost_api::v1::admin_client::AdminClient;
use fairpost_api::v1::{ClearBlameRequest, GetBlamesRequest};
use fairpost_proto::ids::{Digest, Protocol, Span};
use fairpost_proto::vote::Vote;
use fairpost_tests::rogue::Rogue;
use fairpost_tests::{Cluster, Ended, People, Settings, eventually, mail, open, run, within};
use serde_json::Value;
use tonic::Code;

const ROGUE: usize = 3;

async fn ctl(cluster: &Cluster, words: &str) -> Ended {
    let dir = cluster.path().display().to_string();
    let words = words.split(' ').chain(["--dir", &dir]);
    run("fairpostctl", words, b"").await.unwrap()
}

/// What nodes blame members for: (node, member, kind).
async fn blames(cluster: &Cluster) -> Vec<[String; 3]> {
    let listed = ctl(cluster, "blame list -o json").await;
    // The rogue does not answer operators.
    assert_eq!(listed.code, Some(2), "{}", listed.err);
    let report: Value = serde_json::from_slice(&listed.out).unwrap();
    assert_eq!((&report["version"], &report["unreached"][0]["node"]), (&Value::from(1), &Value::from("n4")));
    let word = |blame: &Value, field: &str| blame[field].as_str().unwrap().to_owned();
    let blames = report["blames"].as_array().unwrap().iter();
    blames.map(|blame| ["node", "member", "kind"].map(|field| word(blame, field))).collect()
}

fn says(node: &str, kind: &str) -> [String; 3] {
    [node, "n4", kind].map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_lies_is_found_out_asked_last_and_cleared_by_operators_alone() {
    let whole = tokio::time::timeout(Duration::from_secs(180), story());
    whole.await.expect("told in time");
}

async fn story() {
    let mut cluster = Cluster::make(Settings::default()).unwrap();
    for node in 0..ROGUE {
        cluster.launch(node).unwrap();
    }
    let rogue = Rogue::start(&cluster, ROGUE).await.unwrap();
    for node in 0..ROGUE {
        cluster.ready(node).await.unwrap();
    }
    let people = People::new(&cluster).unwrap();
    let options = Options { first: Some(0), deadline: Duration::from_secs(50), ..Options::default() };
    let client = Client::new(cluster.trust.clone(), options).unwrap();
    let exchange = async || {
        let mut sealed = people.seal(&cluster, Protocol::Cmp2, Span::from_seconds(3600)).unwrap();
        assert_eq!(open(&client, &people, &mut sealed).await.unwrap(), mail());
    };

    // Wrong shares, all the time: every mail opens, and the node that asked soon knows.
    exchange().await;
    let found = eventually("blame for a share", async || {
        exchange().await;
        blames(&cluster).await.contains(&says("n1", "share")).then_some(())
    });
    found.await.unwrap();
    let metrics = cluster.metrics(0).await.unwrap();
    assert!(metrics.contains("fairpost_blamed{member=\"n4\"} 1"), "{metrics}");
    assert!(metrics.contains("fairpost_invalid_shares_total{member=\"n4\"}"), "{metrics}");
    let before = rogue.asked();
    for _ in 0..10 {
        exchange().await;
    }
    println!("asked for {} shares while blamed, of 10 exchanges", rogue.asked() - before);
    let exported = ctl(&cluster, "blame export n4").await;
    assert_eq!((exported.code, exported.out.len()), (Some(1), 0), "a share proves nothing to others");

    // Somebody else's name under a vote: whoever sends it is blamed.
    let (vote, leaves) = rogue.peek(&cluster, 0, 1).await.unwrap();
    let honest = Vote { number: 1, ..*vote.payload() };
    let (signed, second) = (rogue.sign(honest), cluster.trust.view().members()[1].key_id());
    let forged = rogue.forge(honest, second);
    rogue.cast(&cluster, 0, &[(forged, leaves.clone())]).await.unwrap();
    // Two logs under one member's name.
    let other = Vote { log_root: Digest::of(b"another log"), ..honest };
    let both = [(signed, leaves.clone()), (rogue.sign(other), leaves)];
    rogue.cast(&cluster, 0, &both).await.unwrap();
    let found = eventually("blame for votes", async || {
        let blames = blames(&cluster).await;
        ["vote", "roots"].iter().all(|kind| blames.contains(&says("n1", kind))).then_some(blames)
    });
    let found = found.await.unwrap();
    assert!(found.iter().all(|[_, member, _]| member == "n4"), "{found:?}");
    let exported = ctl(&cluster, "blame export n4").await;
    assert_eq!(exported.code, Some(0), "{}", exported.err);
    let trust = cluster.path().join("cluster.trust").display().to_string();
    let judged = run("fairpost", ["verify", "--cluster", &trust, "-"], &exported.out).await.unwrap();
    let said = String::from_utf8_lossy(&judged.out).into_owned();
    assert!(judged.code == Some(0) && said.contains("n4") && said.contains("evidence log of size"), "{said}");

    let status: Value = serde_json::from_slice(&ctl(&cluster, "status -o json").await.out).unwrap();
    let alarms = status["alarms"].to_string();
    assert!(alarms.contains("n4 for a misdeed"), "{alarms}");
    let refusals = ctl(&cluster, "refusals -o json").await;
    let report: Value = serde_json::from_slice(&refusals.out).unwrap();
    assert_eq!((refusals.code, &report["version"]), (Some(2), &Value::from(1)));

    // It is on disk.
    cluster.kill(0).unwrap();
    cluster.launch(0).unwrap();
    cluster.ready(0).await.unwrap();
    let kept = blames(&cluster).await;
    for kind in ["share", "vote", "roots"] {
        assert!(kept.contains(&says("n1", kind)), "{kept:?}");
    }

    // A member may look; only operators clear, and only the cluster that they mean.
    let mut admin = AdminClient::new(rogue.channel(&cluster, 0).unwrap());
    within("blames", admin.get_blames(GetBlamesRequest::default())).await.unwrap().unwrap();
    let request = ClearBlameRequest { member: "n4".into() };
    let refused = within("a refusal", admin.clear_blame(request)).await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    for wrong in ["n4 --cluster-name test", "n4 --yes --cluster-name demo", "n5 --yes --cluster-name test"] {
        assert_eq!(ctl(&cluster, &format!("blame clear {wrong}")).await.code, Some(64), "{wrong}");
    }
    assert!(blames(&cluster).await.contains(&says("n1", "roots")));
    let cleared = ctl(&cluster, "blame clear n4 --yes --cluster-name test").await;
    let said = String::from_utf8_lossy(&cleared.out).into_owned();
    assert!(cleared.code == Some(2) && said.contains("n1: n4 is cleared of 3"), "{said}");
    assert!(said.contains("n4: not cleared"), "{said}");
    assert!(blames(&cluster).await.iter().all(|[node, ..]| node != "n1"));
    assert!(cluster.log(0).contains("an operator has cleared a member"));
}
