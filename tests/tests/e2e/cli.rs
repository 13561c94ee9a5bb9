//! The commands as people run them, against a running cluster: files, pipes and exit codes.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use fairpost_proto::ids::Protocol;
use fairpost_tests::{Cluster, Ended, People, Settings, eventually, mail, run};
use serde_json::Value;

/// A folder with people's files, and the files of a cluster.
struct Desk {
    folder: tempfile::TempDir,
    cluster: PathBuf,
}

impl Desk {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    /// Runs a command: a word with a leading @ is a file in this folder, one with a leading % in the cluster's.
    async fn run(&self, name: &str, line: &str, input: &[u8]) -> Ended {
        let words = line.split_whitespace().map(|word| match word.split_at(1) {
            ("@", file) => self.path(file).into_os_string(),
            ("%", file) => self.cluster.join(file).into_os_string(),
            _ => OsString::from(word),
        });
        run(name, words, input).await.unwrap()
    }

    /// Runs `fairpost`, and expects this exit code. Gives standard output.
    async fn expect(&self, code: i32, line: &str, input: &[u8]) -> Vec<u8> {
        let ended = self.run("fairpost", line, input).await;
        assert_eq!(ended.code, Some(code), "fairpost {line}: {}", ended.err);
        assert_eq!(
            ended.err.contains("fairpost: "),
            code != 0 && code != 5,
            "fairpost {line}: {}",
            ended.err
        );
        ended.out
    }

    async fn ok(&self, line: &str) -> Vec<u8> {
        self.expect(0, line, b"").await
    }

    async fn json(&self, line: &str) -> Value {
        serde_json::from_slice(&self.ok(&format!("{line} -o json")).await).unwrap()
    }

    /// Seals the mail into a file.
    async fn seal(&self, name: &str, options: &str) {
        let line = format!("seal {SENDER} --to @recipient.card {options} @mail.eml");
        self.write(name, &self.ok(&line).await);
    }

    async fn verdict(&self, party: &str, name: &str) -> String {
        self.json(&format!("status {party} @{name}")).await["verdict"].as_str().unwrap().to_owned()
    }
}

const SENDER: &str = "--identity @sender.id --cluster %cluster.trust";
const RECIPIENT: &str = "--identity @recipient.id --cluster %cluster.trust";

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_do_on_a_running_cluster_what_their_exit_codes_say() {
    let mut cluster = Cluster::start(Settings::default()).await.unwrap();
    let desk = Desk { folder: tempfile::tempdir().unwrap(), cluster: cluster.path() };
    desk.write("mail.eml", &mail());
    let healthy =
        async || (desk.run("fairpostctl", "status --dir %.", b"").await.code == Some(0)).then_some(());
    eventually("a status without alarms", healthy).await.unwrap();

    for party in ["sender", "recipient"] {
        desk.ok(&format!("identity new {party}@example.org --out @{party}.id --ca %ca")).await;
        let card = desk.ok(&format!("identity card @{party}.id")).await;
        desk.write(&format!("{party}.card"), &card);
    }
    released(&desk).await;
    through_pipes(&desk).await;
    refused_and_withdrawn(&desk).await;
    fraud(&desk, &cluster).await;
    usage(&desk).await;
    without_nodes(&desk, &mut cluster).await;
}

async fn released(desk: &Desk) {
    for protocol in ["cmp1", "cmp2"] {
        desk.seal("sealed.eml", &format!("--protocol {protocol}")).await;
        let sheet = desk.json(&format!("show {RECIPIENT} @sealed.eml")).await;
        assert_eq!(sheet["from"], "sender@example.org");
        assert_eq!(sheet["to"], "recipient@example.org");
        assert_eq!(sheet["protocol"].as_str().unwrap().to_lowercase(), protocol);
        assert_eq!(desk.verdict(SENDER, "sealed.eml").await, "undecided", "showing signs nothing");
        desk.expect(1, &format!("proof {SENDER} @sealed.eml"), b"").await;

        assert_eq!(desk.ok(&format!("open {RECIPIENT} @sealed.eml")).await, mail(), "byte for byte");
        assert_eq!(desk.verdict(SENDER, "sealed.eml").await, "released");
        desk.write("proof", &desk.ok(&format!("proof {SENDER} @sealed.eml")).await);
        let verify = "verify --cluster %cluster.trust @proof";
        let shown = desk.json(&format!("{verify} --mail @sealed.eml")).await;
        assert_eq!(
            (&shown["finding"]["verdict"], &shown["finding"]["content"]),
            (&"released".into(), &"shown".into())
        );
        desk.expect(5, verify, b"").await;
        damaged(desk).await;
    }
}

/// One byte of a proof changed, wherever it is; and another mail.
async fn damaged(desk: &Desk) {
    let proof = desk.read("proof");
    for place in (0..proof.len()).step_by(proof.len() / 16).chain([proof.len() - 1]) {
        let mut changed = proof.clone();
        changed[place] ^= 1;
        desk.write("changed", &changed);
        desk.expect(4, "verify --cluster %cluster.trust --mail @sealed.eml @changed", b"").await;
    }
    desk.seal("another.eml", "").await;
    desk.expect(4, "verify --cluster %cluster.trust --mail @another.eml @proof", b"").await;
}

async fn through_pipes(desk: &Desk) {
    let sealed = desk.expect(0, &format!("seal {SENDER} --to @recipient.card"), &mail()).await;
    let bare = desk.expect(0, &format!("seal {SENDER} --to @recipient.card --bare -"), &mail()).await;
    for sealed in [sealed, bare] {
        assert_eq!(desk.expect(0, &format!("open {RECIPIENT}"), &sealed).await, mail(), "byte for byte");
        let proof = desk.expect(0, &format!("proof {SENDER} -"), &sealed).await;
        desk.write("piped.eml", &sealed);
        desk.expect(0, "verify --cluster %cluster.trust --mail @piped.eml -", &proof).await;
    }
}

async fn refused_and_withdrawn(desk: &Desk) {
    for (verb, party, verdict) in [("refuse", RECIPIENT, "refused"), ("withdraw", SENDER, "withdrawn")] {
        desk.seal("sealed.eml", "--expires 1h").await;
        desk.ok(&format!("{verb} {party} @sealed.eml")).await;
        desk.ok(&format!("{verb} {party} @sealed.eml")).await;
        let shut = desk.run("fairpost", &format!("open {RECIPIENT} @sealed.eml"), b"").await;
        assert_eq!((shut.code, shut.out.len()), (Some(1), 0));
        assert!(shut.err.to_lowercase().contains(verdict), "{}", shut.err);
        assert_eq!(desk.verdict(SENDER, "sealed.eml").await, verdict);
        desk.write("proof", &desk.ok(&format!("proof {SENDER} @sealed.eml")).await);
        let sheet = desk.json("verify --cluster %cluster.trust @proof").await;
        assert_eq!(sheet["finding"]["verdict"], verdict);
    }
    // Too late for either, once it is open; and nobody does what the other may.
    desk.seal("sealed.eml", "").await;
    desk.expect(1, &format!("withdraw {RECIPIENT} @sealed.eml"), b"").await;
    desk.expect(1, &format!("open {SENDER} @sealed.eml"), b"").await;
    desk.ok(&format!("open {RECIPIENT} @sealed.eml")).await;
    for line in [format!("refuse {RECIPIENT} @sealed.eml"), format!("withdraw {SENDER} @sealed.eml")] {
        let late = desk.run("fairpost", &line, b"").await;
        assert_eq!(late.code, Some(1), "{}", late.err);
        assert!(late.err.contains("Released"), "{}", late.err);
    }
}

async fn fraud(desk: &Desk, cluster: &Cluster) {
    let people = People::new(cluster).unwrap();
    people.recipient.create(&desk.path("victim.id")).unwrap();
    for protocol in [Protocol::Cmp1, Protocol::Cmp2] {
        let garbage = people.defraud(cluster, protocol, b"not what was promised").unwrap();
        desk.write("garbage", &garbage.part);
        let out = desk.expect(4, "open --identity @victim.id --cluster %cluster.trust @garbage", b"").await;
        assert_eq!(out, b"", "nothing of what was not signed is handed over");
        let verify = "verify --cluster %cluster.trust @garbage.fraud";
        let sheet = desk.json(&format!("{verify} --mail @garbage")).await;
        assert_eq!((&sheet["claim"], &sheet["finding"]["content"]), (&"fraud".into(), &"fraud".into()));
        assert_eq!(sheet["finding"]["from"], "sender@example.org");
        desk.expect(4, verify, b"").await;
    }
}

async fn usage(desk: &Desk) {
    for line in
        ["", "seel", "open", "verify @proof", "seal --expires soon", "identity new nobody --out @x.id"]
    {
        let ended = desk.run("fairpost", line, b"").await;
        assert_eq!(ended.code, Some(64), "{line}: {}", ended.err);
    }
    for line in ["", "statu", "status", "init --dir @x --nodes 4 --faults 2"] {
        let ended = desk.run("fairpostctl", line, b"").await;
        assert_eq!(ended.code, Some(64), "{line}: {}", ended.err);
    }
    let missing = desk.run("fairpost", &format!("open {RECIPIENT} @nowhere.eml"), b"").await;
    assert_eq!(missing.code, Some(1), "{}", missing.err);
    assert!(missing.err.contains("nowhere.eml"), "{}", missing.err);
    assert!(!Path::new(&desk.path("x")).exists() && !desk.path("x.id").exists());
}

/// One node fewer after the other, and all of them back.
async fn without_nodes(desk: &Desk, cluster: &mut Cluster) {
    let status = async |code: i32| {
        for line in ["status --dir %. --timeout 2", "health --dir %. --timeout 2"] {
            let ended = desk.run("fairpostctl", line, b"").await;
            assert_eq!(
                ended.code,
                Some(code),
                "{line}: {}{}",
                ended.err,
                String::from_utf8_lossy(&ended.out)
            );
        }
    };
    desk.seal("sealed.eml", "").await;
    cluster.kill(0).unwrap();
    status(2).await;
    desk.seal("other.eml", "").await;
    assert_eq!(desk.ok(&format!("open {RECIPIENT} @other.eml")).await, mail(), "three of four are enough");
    cluster.kill(1).unwrap();
    status(3).await;
    desk.expect(3, &format!("open {RECIPIENT} --timeout 3s @sealed.eml"), b"").await;
    for node in [2, 3] {
        cluster.kill(node).unwrap();
    }
    status(75).await;
    desk.expect(75, &format!("open {RECIPIENT} --timeout 2s @sealed.eml"), b"").await;
    // A judge needs nobody.
    desk.expect(0, "verify --cluster %cluster.trust @proof", b"").await;

    for node in 0..4 {
        cluster.launch(node).unwrap();
    }
    for node in 0..4 {
        cluster.ready(node).await.unwrap();
    }
    assert_eq!(desk.ok(&format!("open {RECIPIENT} @sealed.eml")).await, mail(), "asking again completes it");
}
