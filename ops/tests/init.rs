//! What `fairpostctl init` leaves in a folder, and what it refuses.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking, as the test does")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use fairpost_node::config::Config;
use fairpost_node::membership::{KeySource as _, ShareFile};
use fairpost_ops::init::{self, Error, Options};
use fairpost_ops::operator::{self, Operator, read_key};
use fairpost_ops::settings::{self, read_trust};
use fairpost_proto::ids::Span;

fn run(options: &Options) -> Result<init::Made, Error> {
    init::run(options, operator::now())
}

/// Every file below `folder`, with its mode and content.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(snapshot(&path));
        } else {
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            let content = fs::read(&path).unwrap();
            files.insert(path, (mode, content));
        }
    }
    files
}

fn command(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fairpostctl")).args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn init_makes_all_files_and_secrets_are_their_owners() {
    let folder = tempfile::tempdir().unwrap();
    let made = run(&Options::new(folder.path())).unwrap();
    assert_eq!((made.quorum.n(), made.quorum.f(), made.quorum.q()), (4, 1, 3));

    let files = snapshot(folder.path());
    let mode = |name: &str| files.get(&folder.path().join(name)).unwrap_or_else(|| panic!("no {name}")).0;
    for name in ["ca/ca.key", "operator/operator.key"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    for node in ["n1", "n2", "n3", "n4"] {
        for secret in ["identity.key", "tls.pem", "share.toml"] {
            assert_eq!(mode(&format!("{node}/{secret}")), 0o600, "{node}/{secret}");
        }
        assert!(files.contains_key(&folder.path().join(node).join("fairpostd.toml")));
    }
    assert!(files.contains_key(&folder.path().join("cluster.trust")));
    assert!(files.contains_key(&folder.path().join("ca/ca.crt")));
    assert_eq!(files.len(), 3 + 1 + 4 * 4, "{:?}", files.keys());
}

#[test]
fn every_share_matches_the_commitment() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { nodes: 11, ..Options::new(folder.path()) };
    let made = run(&options).unwrap();
    let trust = read_trust(&folder.path().join("cluster.trust")).unwrap();
    let view = trust.view();
    assert_eq!((view.members().len(), view.quorum().f()), (11, 3));
    for (index, node) in made.nodes.iter().enumerate() {
        let share =
            ShareFile::open(&folder.path().join(&node.name).join("share.toml"), view, &node.name).unwrap();
        assert_eq!(share.share().public_share(), view.share_keys()[index], "{}", node.name);
        assert_eq!(view.members()[index].name, node.name, "names keep the nodes' order");
    }
    // A share of one member is of no use to another.
    let other = folder.path().join("n01/share.toml");
    assert!(ShareFile::open(&other, view, "n02").is_err());
}

#[test]
fn each_node_has_its_own_ports_and_the_operator_is_in_the_view() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { base_port: 9000, ..Options::new(folder.path()) };
    run(&options).unwrap();
    let trust = read_trust(&folder.path().join("cluster.trust")).unwrap();
    for (number, member) in (1..).zip(trust.view().members()) {
        let config = Config::load(&folder.path().join(&member.name).join("fairpostd.toml")).unwrap();
        assert_eq!(config.listen.to_string(), member.address);
        assert_eq!(config.listen.port(), 9000 + number);
        assert_eq!(config.metrics_listen.unwrap().port(), 9100 + number);
        assert_eq!(
            settings::validate(&folder.path().join(&member.name).join("fairpostd.toml")).unwrap(),
            config
        );
    }
    let key = folder.path().join("operator/operator.key");
    assert_eq!(trust.view().constitution().operators, [read_key(&key).unwrap().verifying_key()]);
    assert!(Operator::open(&key).is_ok());
}

#[test]
fn what_differs_from_the_defaults_is_written_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    run(&Options::new(folder.path())).unwrap();
    let text = fs::read_to_string(folder.path().join("n2/fairpostd.toml")).unwrap();
    let keys: Vec<&str> =
        text.lines().filter_map(|line| line.split_once(" = ").map(|(key, _)| key)).collect();
    assert_eq!(keys, ["name", "listen", "metrics_listen"], "{text}");
}

#[test]
fn the_rules_are_in_the_view() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::new(folder.path());
    options.parameters.skew = Span::from_millis(2_000);
    options.parameters.shortest_lifetime = Span::from_seconds(5);
    run(&options).unwrap();
    let trust = read_trust(&folder.path().join("cluster.trust")).unwrap();
    assert_eq!(*trust.view().parameters(), options.parameters);
}

#[test]
fn a_second_init_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    run(&Options::new(folder.path())).unwrap();
    let before = snapshot(folder.path());
    let error = run(&Options::new(folder.path())).unwrap_err();
    assert!(matches!(error, Error::NotEmpty { .. }), "{error}");
    assert_eq!(snapshot(folder.path()), before);

    let arguments = ["init", "--dir", &folder.path().display().to_string()];
    let output = command(&arguments);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("is not empty"), "{}", stderr(&output));
    assert_eq!(snapshot(folder.path()), before);
}

#[test]
fn a_failed_init_leaves_nothing_behind() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("deep/cluster");
    // The name is found wrong only when the genesis is made, after the CA.
    let options = Options { name: "x".repeat(64), ..Options::new(&folder) };
    assert!(matches!(run(&options).unwrap_err(), Error::View(_)));
    assert!(!folder.exists());
    fs::create_dir_all(&folder).unwrap();
    assert!(run(&options).is_err());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}

#[test]
fn too_few_nodes_for_the_faults_says_how_many_it_takes() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { nodes: 6, faults: Some(2), ..Options::new(folder.path()) };
    let error = run(&options).unwrap_err().to_string();
    assert_eq!(error, "6 servers can't stand 2 compromised ones: that takes at least 7");
    for nodes in [0, 65] {
        assert!(matches!(run(&Options { nodes, ..options.clone() }), Err(Error::Quorum(_))), "{nodes}");
    }
}

#[test]
fn ports_beyond_the_last_one_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let options = |base_port| Options { base_port, ..Options::new(folder.path()) };
    let error = run(&options(65_432)).unwrap_err().to_string();
    assert_eq!(error, "4 nodes from base port 65432 need ports up to 65536, and the last one is 65535");
    assert!(run(&options(65_431)).is_ok());
}

#[test]
fn an_address_nobody_can_connect_to_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { host: "0.0.0.0".parse().unwrap(), ..Options::new(folder.path()) };
    assert!(matches!(run(&options), Err(Error::Host { .. })));
}

#[test]
fn each_node_may_have_an_address_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("spread").display().to_string();
    let hosts = "10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4";
    let output = command(&["init", "--dir", &dir, "--hosts", hosts, "--base-port", "7000"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let trust = read_trust(&folder.path().join("spread/cluster.trust")).unwrap();
    let addresses: Vec<&str> = trust.view().members().iter().map(|member| &*member.address).collect();
    assert_eq!(addresses, ["10.0.0.1:7001", "10.0.0.2:7002", "10.0.0.3:7003", "10.0.0.4:7004"]);

    let options = Options { hosts: vec!["10.0.0.1".parse().unwrap()], ..Options::new(folder.path()) };
    assert!(matches!(run(&options), Err(Error::Hosts { expected: 4, found: 1 })));
    let nowhere = ["10.0.0.1", "10.0.0.2", "0.0.0.0", "10.0.0.4"].map(|host| host.parse().unwrap());
    let options = Options { hosts: nowhere.to_vec(), ..Options::new(folder.path()) };
    assert!(matches!(run(&options), Err(Error::Host { .. })));
}

#[test]
fn a_cluster_that_stands_crashes_only_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("three");
    let output = command(&["init", "--nodes", "3", "--dir", &target.display().to_string()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("crash-tolerant only") && said.contains("at least 4 nodes"), "{said}");
    assert!(said.contains("fairpostd run --config") && said.contains("fairpostctl status --dir"), "{said}");
}

#[test]
fn wrong_usage_ends_with_64_and_help_with_0() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().display().to_string();
    for arguments in [
        &["init"][..],
        &["no-such-verb"],
        &["init", "--dir", &dir, "--faults", "2"],
        &["init", "--dir", &dir, "--base-port", "70000"],
        &["init", "--dir", &dir, "--base-port", "65500"],
        &["init", "--dir", &dir, "--skew-ms", "0"],
        &["init", "--dir", &dir, "--shortest-lifetime-s", "10", "--longest-lifetime-s", "9"],
        &["status"],
    ] {
        let output = command(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {}", stderr(&output));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    assert_eq!(command(&["status", "--help"]).status.code(), Some(0));
    assert_eq!(command(&["--version"]).status.code(), Some(0));
}

#[test]
fn a_cluster_where_nobody_answers_is_75() {
    let folder = tempfile::tempdir().unwrap();
    // A port that was free a moment ago; nodes are not started, so whoever takes it is not a member.
    let dir = folder.path().join("cluster");
    let options = Options { nodes: 1, base_port: 39_000, ..Options::new(&dir) };
    run(&options).unwrap();
    let output = command(&["status", "-o", "json", "--dir", &dir.display().to_string()]);
    assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["state"], "unreached");
    assert_eq!(report["nodes"][0]["name"], "n1");
}

#[test]
fn a_configuration_with_another_nodes_share_does_not_pass() {
    let folder = tempfile::tempdir().unwrap();
    run(&Options::new(folder.path())).unwrap();
    let config = folder.path().join("n1/fairpostd.toml");
    fs::copy(folder.path().join("n2/share.toml"), folder.path().join("n1/share.toml")).unwrap();
    let output = command(&["config", "validate", "--config", &config.display().to_string()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("is for member n2"), "{}", stderr(&output));

    fs::copy(folder.path().join("n2/identity.key"), folder.path().join("n1/identity.key")).unwrap();
    assert!(matches!(settings::validate(&config), Err(settings::Error::Identity { .. })));
}
