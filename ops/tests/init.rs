//! What `fairpostctl init` leaves in a folder, and what it refuses.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking, as the test does")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use fairpost_node::config::Config;
use fairpost_ops::init::{self, Error, Options};
use fairpost_ops::operator::{self, Operator, read_key};
use fairpost_ops::{node, proposal, settings};
use fairpost_proto::ids::Span;
use fairpost_proto::proposal::Proposal;

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
        for secret in ["identity.key", "tls.pem"] {
            assert_eq!(mode(&format!("{node}/{secret}")), 0o600, "{node}/{secret}");
        }
        for public in ["fairpostd.toml", "node.card"] {
            assert!(files.contains_key(&folder.path().join(node).join(public)), "{node}/{public}");
        }
    }
    // No share and no key: the nodes make these themselves.
    assert!(files.contains_key(&folder.path().join("cluster.proposal")));
    assert!(files.contains_key(&folder.path().join("ca/ca.crt")));
    assert_eq!(files.len(), 3 + 1 + 4 * 4, "{:?}", files.keys());
}

#[test]
fn names_keep_the_nodes_order_and_the_proposal_is_approved() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { nodes: 11, ..Options::new(folder.path()) };
    let made = run(&options).unwrap();
    let proposal = agreed(folder.path());
    assert_eq!((proposal.members().len(), proposal.quorum().f()), (11, 3));
    assert_eq!(proposal.digest(), made.proposal);
    for (member, node) in proposal.members().iter().zip(&made.nodes) {
        assert_eq!(member.name, node.name);
        let card = node::read_card(&folder.path().join(&node.name).join("node.card")).unwrap();
        assert_eq!((card.identity, card.address), (member.identity, member.address.clone()));
    }
}

#[test]
fn each_node_has_its_own_ports_and_the_operator_is_in_the_view() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { base_port: 9000, ..Options::new(folder.path()) };
    run(&options).unwrap();
    let proposal = agreed(folder.path());
    for (number, member) in (1..).zip(proposal.members()) {
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
    assert_eq!(proposal.draft().operators, [read_key(&key).unwrap().verifying_key()]);
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
    assert_eq!(agreed(folder.path()).draft().parameters, options.parameters);
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
    // The name is found wrong only when the proposal is made, after the CA.
    let options = Options { name: "x".repeat(64), ..Options::new(&folder) };
    assert!(matches!(run(&options).unwrap_err(), Error::Proposal(_)));
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
    let proposal = agreed(&folder.path().join("spread"));
    let addresses: Vec<&str> = proposal.members().iter().map(|member| &*member.address).collect();
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
    for next in ["fairpostd run --config", "fairpostctl key ceremony --dir", "fairpostctl status --dir"] {
        assert!(said.contains(next), "{next}: {said}");
    }
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
    let output = command(&["key", "ceremony", "--timeout", "1", "--dir", &dir.display().to_string()]);
    assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
    assert!(stderr(&output).contains("n1 does not answer"), "{}", stderr(&output));
    assert!(!dir.join("cluster.trust").exists());
    let output = command(&["status", "-o", "json", "--dir", &dir.display().to_string()]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("cluster.trust"), "{}", stderr(&output));
}

#[test]
fn a_configuration_with_another_nodes_keys_does_not_pass() {
    let folder = tempfile::tempdir().unwrap();
    run(&Options::new(folder.path())).unwrap();
    let config = folder.path().join("n1/fairpostd.toml");
    let output = command(&["config", "validate", "--config", &config.display().to_string()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));

    fs::copy(folder.path().join("n2/tls.pem"), folder.path().join("n1/tls.pem")).unwrap();
    assert!(matches!(settings::validate(&config), Err(settings::Error::Binding { .. })));
    fs::copy(folder.path().join("n2/identity.key"), folder.path().join("n1/identity.key")).unwrap();
    assert!(matches!(settings::validate(&config), Err(settings::Error::Identity { .. })));
}

#[test]
fn servers_that_never_met_become_a_proposal_that_two_operators_approve() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let output = |arguments: &[&str], code: i32| {
        let output = command(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        (output.stdout.clone(), stderr(&output))
    };
    let mut new: Vec<String> =
        ["proposal", "new", "--name", "post", "--agreeing", "2"].map(Into::into).to_vec();
    for number in 1..=4 {
        let (name, address) = (format!("n{number}"), format!("n{number}.example.org:7400"));
        let arguments = ["node", "init", "--dir", &path(&name), "--name", &name, "--address", &address];
        let (card, _) = output(&arguments, 0);
        fs::write(path(&format!("{name}.card")), card).unwrap();
        new.extend(["--card".into(), path(&format!("{name}.card"))]);
        let before = snapshot(&folder.path().join(&name));
        output(&arguments, 1);
        assert_eq!(snapshot(&folder.path().join(&name)), before);
    }
    for name in ["ada", "ben", "eve"] {
        let (key, _) = output(&["operator", "new", "--out", &path(&format!("{name}.key"))], 0);
        fs::write(path(&format!("{name}.pub")), key).unwrap();
        output(&["operator", "new", "--out", &path(&format!("{name}.key"))], 1);
    }
    output(&["ca", "init", "--dir", &path("ca")], 0);
    new.extend(["--operator", &path("ada.pub"), "--operator", &path("ben.pub")].map(Into::into));
    new.extend(["--anchor", &path("ca/ca.crt")].map(Into::into));
    let arguments: Vec<&str> = new.iter().map(String::as_str).collect();
    let (proposal, _) = output(&arguments, 0);
    for copy in ["ada.proposal", "ben.proposal"] {
        fs::write(path(copy), &proposal).unwrap();
    }
    output(&["proposal", "approve", "--operator", &path("ada.key"), &path("ada.proposal")], 0);
    let (_, problem) =
        output(&["proposal", "approve", "--operator", &path("eve.key"), &path("ada.proposal")], 1);
    assert!(problem.contains("none of the proposal's 2 operators"), "{problem}");
    // One of the two that it takes is not enough to begin.
    let ceremony = |proposal: &str| {
        let (proposal, key, out) = (path(proposal), path("ada.key"), path("cluster.trust"));
        let arguments =
            ["key", "ceremony", "--proposal", &proposal, "--operator", &key, "--out", &out, "--timeout", "1"];
        let output = command(&arguments);
        (output.status.code(), stderr(&output))
    };
    let (code, problem) = ceremony("ada.proposal");
    assert_eq!(code, Some(1));
    assert!(problem.contains("1 of the proposal's operators approved it, and it takes 2"), "{problem}");
    output(&["proposal", "approve", "--operator", &path("ben.key"), &path("ben.proposal")], 0);
    let (merged, _) = output(&["proposal", "merge", &path("ada.proposal"), &path("ben.proposal")], 0);
    fs::write(path("cluster.proposal"), merged).unwrap();
    let (shown, _) = output(&["proposal", "show", &path("cluster.proposal")], 0);
    let shown = String::from_utf8(shown).unwrap();
    assert!(shown.contains("2 of the 2 that it takes: a key ceremony can begin"), "{shown}");
    assert!(shown.contains("n3.example.org:7400"), "{shown}");
    assert_eq!(ceremony("cluster.proposal").0, Some(75), "nobody runs");
    // A card that somebody else signed for this key.
    let mut card = fs::read_to_string(path("n1.card")).unwrap();
    let middle = card.len() / 2;
    card.replace_range(middle..=middle, if card[middle..].starts_with('A') { "B" } else { "A" });
    fs::write(path("n1.card"), card).unwrap();
    output(&arguments, 1);
}

fn agreed(folder: &Path) -> Proposal {
    proposal::read(&folder.join("cluster.proposal")).unwrap().agreed().unwrap().clone()
}
