//! The bench of the operators' command, on a cluster of this machine.

use fairpost_tests::{Cluster, Ended, Settings, run};
use serde_json::Value;

async fn bench(cluster: &Cluster, arguments: &str) -> Ended {
    let dir = cluster.path();
    // Other tests share the machine, and delay elections.
    let words = ["bench", "--dir", dir.to_str().unwrap(), "--people", "5", "--timeout", "30"];
    run("fairpostctl", words.into_iter().chain(arguments.split_whitespace()), b"").await.unwrap()
}

async fn report(cluster: &Cluster, arguments: &str) -> Value {
    let ended = bench(cluster, arguments).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(ended.err, "", "no progress where there is no terminal");
    serde_json::from_slice(&ended.out).unwrap()
}

/// The size of the evidence log that all nodes agree on, once they do.
async fn log_size(cluster: &Cluster) -> u64 {
    let agreed = async || {
        let mut sizes = Vec::new();
        for node in 0..cluster.nodes.len() {
            sizes.push(cluster.status(node).await.ok()?.evidence_log_size);
        }
        sizes.iter().all(|size| *size == sizes[0]).then_some(sizes[0])
    };
    fairpost_tests::eventually("one size of all evidence logs", agreed).await.unwrap()
}

/// A number of the report that is above zero.
fn number(report: &Value, path: &str) -> f64 {
    let found = report.pointer(path).and_then(Value::as_f64);
    let found = found.unwrap_or_else(|| panic!("no number at {path} in {report:#}"));
    assert!(found > 0.0, "{path} is {found}");
    found
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * a.abs().max(b.abs())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bench_counts_what_the_cluster_has_decided_and_refuses_half_a_cluster() {
    let mut cluster = Cluster::start(Settings::default()).await.unwrap();
    let report = report(&cluster, "--clients 4 --seconds 2 --warm-up 1 -o json").await;
    assert_eq!((report["version"].as_u64(), report["clients"].as_u64()), (Some(1), Some(4)));
    let answered = report["answered"].as_u64().unwrap();
    assert_eq!(answered, log_size(&cluster).await, "an answer is a leaf, and nothing else is one");
    let checked = report["checked"]["tokens"].as_u64().unwrap();
    assert_eq!(checked, answered, "every token was verified");
    number(&report, "/checked/proofs");

    // What follows from what.
    let (exchanges, seconds) = (number(&report, "/exchanges"), number(&report, "/seconds"));
    assert!(exchanges < answered as f64, "the pilot does not count");
    assert!((1.9..30.0).contains(&seconds), "{seconds} s");
    let rate = number(&report, "/exchanges_per_second");
    assert!(near(rate, exchanges / seconds), "{rate}");
    let operations = report["bound"]["operations"].as_array().unwrap();
    let all: f64 = operations.iter().map(|cost| cost["seconds_per_exchange"].as_f64().unwrap()).sum();
    let bound = number(&report, "/bound_per_second");
    assert!(near(bound, number(&report, "/bound/cores") / all), "{bound}");
    assert!(rate < bound, "{rate} a second, and the cryptography alone allows {bound}");
    assert!(number(&report, "/latency_seconds/p50") <= number(&report, "/latency_seconds/p99"));
    number(&report, "/proof_latency_seconds/p50");
    // Little's law: four clients are always busy, but for a little work between two calls.
    let busy =
        rate * (number(&report, "/latency_seconds/mean") + number(&report, "/proof_latency_seconds/mean"));
    assert!((3.0..=4.5).contains(&busy), "{busy} of 4 clients were busy");

    let shares = operations.iter().find(|cost| cost["operation"] == "make a share").unwrap();
    assert_eq!(shares["per_exchange"], 3.0, "three of four make a token");
    assert!(number(&report, "/unavoidable/seconds") < number(&report, "/latency_seconds/p50"), "{report:#}");
    let others = report["others_cpu"].as_f64().expect("what others used");
    assert!((0.0..=number(&report, "/bound/cores")).contains(&others), "{others} processors");
    let nodes = report["nodes"].as_array().unwrap();
    assert_eq!(
        nodes.iter().map(|node| node["name"].as_str().unwrap()).collect::<Vec<_>>(),
        ["n1", "n2", "n3", "n4"]
    );
    for node in 0..nodes.len() {
        number(&report, &format!("/nodes/{node}/cpu_seconds_per_exchange"));
        let resident = number(&report, &format!("/nodes/{node}/resident_bytes"));
        assert!((1e6..1e9).contains(&resident), "{resident} bytes");
    }
    let order = "fairpost_release_seconds{stage=\"order\"}";
    let stages = report["stages"].as_array().unwrap();
    let order = stages.iter().find(|stage| stage["stage"] == order).expect("the stage of ordering");
    let ordered = order["count"].as_f64().unwrap();
    assert!((ordered - exchanges).abs() <= 0.2 * exchanges, "{ordered} ordered, {exchanges} answered");

    just_so_many(&cluster).await;
    refusals(&mut cluster).await;
}

async fn just_so_many(cluster: &Cluster) {
    let before = log_size(cluster).await;
    let report = report(cluster, "--clients 4 --exchanges 60 --no-proof -o json").await;
    assert_eq!(report["exchanges"].as_u64(), Some(60));
    assert_eq!(log_size(cluster).await - before, report["answered"].as_u64().unwrap());
    assert_eq!(report["proof_latency_seconds"], Value::Null);
    let requests = report["bound"]["operations"].as_array().unwrap();
    let requests = requests.iter().find(|cost| cost["operation"] == "check a request").unwrap();
    assert_eq!(requests["per_exchange"], 1.0, "without proofs there is one request");

    let table = bench(cluster, "--clients 2 --exchanges 10").await;
    let text = String::from_utf8(table.out).unwrap();
    for expected in ["exchanges/s", "by cryptography alone", "redeem: receipt to token", "n4"] {
        assert!(text.contains(expected), "no {expected:?} in:\n{text}");
    }
}

async fn refusals(cluster: &mut Cluster) {
    let size = log_size(cluster).await;
    let refused = async |cluster: &Cluster, code: i32, arguments: &str, says: &str| {
        let ended = bench(cluster, arguments).await;
        assert_eq!(ended.code, Some(code), "{arguments}: {}", ended.err);
        assert!(ended.err.contains(says) && ended.out.is_empty(), "{arguments}: {}", ended.err);
    };
    refused(cluster, 1, "--exchanges 1 --ca /nowhere", "give its folder with --ca").await;
    refused(cluster, 1, "--exchanges 1 --disk /nowhere", "can't measure the disk in /nowhere").await;
    refused(cluster, 64, "--exchanges 1 --seconds 1", "cannot be used with").await;
    cluster.kill(2).unwrap();
    refused(cluster, 75, "--exchanges 1", "n3 is not reached").await;
    assert_eq!(
        cluster.status(0).await.unwrap().evidence_log_size,
        size,
        "a bench that is refused decides nothing"
    );
}
