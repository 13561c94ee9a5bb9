//! The command `fairpost` as its users run it: files, pipes, exit codes.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as tests do: by a panic that names the line")]

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use fairpost::sealed_mail::SealedMail;
use fairpost_proto::ids::{Protocol, Verdict};
use fairpost_proto::misconduct::{Act, Misconduct};
use fairpost_proto::proof::Claim;
use fairpost_proto::terms::Address;
use serde_json::Value;
use support::Behaviour::{self, Dead, Honest, Unavailable};
use support::{MAIL, World};

/// No command takes so long.
const ENOUGH: Duration = Duration::from_secs(60);

/// Kills a process that has not ended after a while, so that no test waits for ever; not any more once the answer is dropped.
fn limit(process: &Child) -> Sender<()> {
    let (id, (over, is_over)) = (process.id().to_string(), channel());
    thread::spawn(move || {
        if is_over.recv_timeout(ENOUGH) == Err(RecvTimeoutError::Timeout) {
            let _ = Command::new("kill").args(["-KILL", &id]).status();
        }
    });
    over
}

/// A folder with everything that the commands need, and the commands.
struct Desk {
    world: Arc<World>,
    folder: PathBuf,
}

impl Desk {
    fn new() -> Self {
        let world = World::new();
        let folder = world.write_files();
        fs::write(folder.join("mail.eml"), MAIL).unwrap();
        Self { world, folder }
    }

    fn run(&self, line: &str) -> Output {
        self.run_with(line, b"")
    }

    /// Runs `fairpost` with the words of `line`, in the folder.
    fn run_with(&self, line: &str, input: &[u8]) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_fairpost"))
            .args(line.split_whitespace())
            .current_dir(&self.folder)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that does not read closes the pipe.
        let _ = child.stdin.take().unwrap().write_all(input);
        let _limit = limit(&child);
        child.wait_with_output().unwrap()
    }

    /// Runs it, and expects this exit code. Gives standard output.
    fn expect(&self, code: i32, line: &str) -> Vec<u8> {
        let output = self.run(line);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line}: {message}");
        output.stdout
    }

    fn json(&self, code: i32, line: &str) -> Value {
        serde_json::from_slice(&self.expect(code, line)).unwrap()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.join(name)).unwrap()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.folder.join(name), bytes).unwrap();
    }

    fn seal(&self, protocol: &str) {
        let line =
            "seal --identity sender.id --to recipient.card --cluster cluster.trust --output sealed.eml";
        assert_eq!(self.expect(0, &format!("{line} --protocol {protocol} mail.eml")), b"");
    }

    fn sealed(&self) -> SealedMail {
        SealedMail::read(self.read("sealed.eml").as_slice()).unwrap()
    }

    /// A proof of this verdict, in a file.
    fn prove(&self, verdict: Verdict, claim: Claim) {
        self.write("proof", &self.world.proof(&self.sealed(), verdict, claim).to_bytes());
    }
}

#[test]
fn wrong_usage_is_64_and_asking_for_help_is_none() {
    let desk = Desk::new();
    desk.expect(64, "");
    desk.expect(64, "seel");
    desk.expect(64, "verify proof");
    desk.expect(
        64,
        "seal --identity sender.id --to recipient.card --cluster cluster.trust --expires soon mail.eml",
    );
    desk.expect(64, "identity new nobody --out x.id");
    assert!(!desk.folder.join("x.id").exists());
    let help = String::from_utf8(desk.expect(0, "verify --help")).unwrap();
    assert!(help.contains("Example:"), "{help}");
    desk.expect(0, "--version");
}

#[test]
fn an_identity_is_made_certified_and_has_a_card() {
    let desk = Desk::new();
    let request = String::from_utf8(desk.expect(0, "identity new carol@example.org --out carol.id")).unwrap();
    assert_eq!(fs::metadata(desk.folder.join("carol.id")).unwrap().permissions().mode() & 0o7777, 0o600);
    desk.expect(1, "identity new carol@example.org --out carol.id");
    desk.expect(1, "identity card carol.id");
    let carol = Address::parse("carol@example.org").unwrap();
    let certificate =
        fairpost::ca::issue(&desk.folder.join("ca"), &carol, &request, 30, fairpost::now()).unwrap();
    desk.write("carol.crt", certificate.as_bytes());
    desk.expect(1, "identity install sender.id carol.crt");
    desk.expect(0, "identity install carol.id carol.crt");
    let card = String::from_utf8(desk.expect(0, "identity card carol.id")).unwrap();
    assert!(card.starts_with("-----BEGIN FAIRPOST CARD-----"), "{card}");

    assert_eq!(desk.expect(0, "identity new dave@example.org --out dave.id --ca ca"), b"");
    desk.expect(0, "identity card dave.id");
    fs::set_permissions(desk.folder.join("dave.id"), fs::Permissions::from_mode(0o640)).unwrap();
    desk.expect(1, "identity card dave.id");
}

#[test]
fn a_mail_is_sealed_from_standard_input_and_shown_before_anything_is_signed() {
    let desk = Desk::new();
    let line = "seal --identity sender.id --to recipient.card --cluster cluster.trust";
    let sealed = desk.run_with(line, MAIL);
    assert_eq!(sealed.status.code(), Some(0));
    assert!(sealed.stdout.starts_with(b"From: <sender@example.org>\r\n"));
    let shown = desk.run_with("show -o json --cluster cluster.trust --identity recipient.id", &sealed.stdout);
    assert_eq!(shown.status.code(), Some(0));
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["version"], 1);
    assert_eq!(
        (&shown["from"], &shown["to"]),
        (&"sender@example.org".into(), &"recipient@example.org".into())
    );
    assert_eq!((&shown["sender_vouched_for"], &shown["opens_for_you"]), (&true.into(), &true.into()));
    let unchecked = desk.run_with("show -o json", &sealed.stdout);
    assert!(serde_json::from_slice::<Value>(&unchecked.stdout).unwrap()["sender_vouched_for"].is_null());

    let bare = desk.run_with(&format!("{line} --bare"), MAIL);
    assert!(bare.stdout.starts_with(b"FPSEAL1\n"));
    assert_eq!(desk.run_with("show", &bare.stdout).status.code(), Some(0));
    let mut changed = bare.stdout;
    *changed.last_mut().unwrap() ^= 1;
    let refused = desk.run_with("show", &changed);
    assert_eq!((refused.status.code(), refused.stdout.as_slice()), (Some(4), &b""[..]));
    assert_eq!(desk.run_with("show", b"Subject: plain\r\n\r\nmail").status.code(), Some(1));
}

#[test]
fn show_warns_of_a_sender_that_nobody_vouches_for() {
    let (desk, other) = (Desk::new(), Desk::new());
    desk.seal("cmp2");
    other.write("sealed.eml", &desk.read("sealed.eml"));
    let shown = other.json(4, "show -o json --cluster cluster.trust sealed.eml");
    assert_eq!(shown["sender_vouched_for"], false);
    let shown = other.json(4, "show -o json --identity recipient.id sealed.eml");
    assert_eq!(shown["opens_for_you"], false);
}

#[test]
fn verify_is_0_with_the_mail_5_without_and_4_for_what_does_not_hold() {
    let (desk, other) = (Desk::new(), Desk::new());
    for protocol in ["cmp1", "cmp2"] {
        desk.seal(protocol);
        desk.prove(Verdict::Released, Claim::Verdict);
        let found = desk.json(0, "verify -o json --cluster cluster.trust proof --mail sealed.eml");
        assert_eq!((&found["version"], &found["valid"]), (&1.into(), &true.into()));
        assert_eq!(
            (&found["finding"]["verdict"], &found["finding"]["content"]),
            (&"released".into(), &"shown".into())
        );
        assert_eq!(found["finding"]["voters"].as_array().unwrap().len(), 3);
        let found = desk.json(5, "verify -o json --cluster cluster.trust proof");
        assert_eq!(found["finding"]["content"], "not shown");

        // Another cluster's trust.
        desk.write("other.trust", &other.read("cluster.trust"));
        let found = desk.json(4, "verify -o json --cluster other.trust proof --mail sealed.eml");
        assert_eq!((&found["valid"], &found["steps"][0]["result"]), (&false.into(), &"failed".into()));
        assert!(found["finding"].is_null());
        // Another mail.
        desk.seal(protocol);
        let found = desk.json(4, "verify -o json --cluster cluster.trust proof --mail sealed.eml");
        assert_eq!(
            (&found["steps"][4]["result"], &found["steps"][5]["result"]),
            (&"passed".into(), &"failed".into())
        );
    }
    let proof = desk.read("proof");
    for at in (0..proof.len()).step_by(97) {
        let mut changed = proof.clone();
        changed[at] ^= 0x10;
        desk.write("changed", &changed);
        desk.expect(4, "verify --cluster cluster.trust changed --mail sealed.eml");
    }
    desk.write("changed", &proof[..proof.len() - 1]);
    desk.expect(4, "verify --cluster cluster.trust changed");
    desk.expect(4, "verify --cluster cluster.trust mail.eml");
    desk.expect(1, "verify --cluster cluster.trust missing");
    desk.expect(1, "verify --cluster mail.eml proof");
}

#[test]
fn verify_says_which_server_contradicted_itself() {
    let desk = Desk::new();
    desk.seal("cmp2");
    // Of the same size, and with another root for each verdict.
    let vote = |verdict| {
        let certificate = desk.world.proof(&desk.sealed(), verdict, Claim::Verdict).certificate;
        certificate.votes().next().unwrap().clone()
    };
    let guilty = vote(Verdict::Released);
    let trust = desk.world.trust.clone();
    let (_, member) = trust.view().member_by_key(*guilty.signer()).unwrap();
    let name = member.name.clone();
    let write = |first, second| {
        let act = Act::Roots(Box::new([first, second]));
        desk.write("act", &Misconduct::new(trust.clone(), act).to_bytes());
    };
    write(guilty.clone(), vote(Verdict::Withdrawn));
    let found = desk.json(0, "verify -o json --cluster cluster.trust act");
    assert_eq!((&found["valid"], &found["claim"]), (&true.into(), &"misconduct".into()));
    assert!(found["culprit"].as_str().unwrap().starts_with(&format!("{name} (identity")));
    let told = String::from_utf8(desk.expect(0, "verify --cluster cluster.trust act")).unwrap();
    assert!(told.contains(&name) && told.contains("the evidence log of size 1"), "{told}");
    desk.expect(64, "verify --cluster cluster.trust act --mail sealed.eml");
    write(guilty.clone(), guilty);
    let found = desk.json(4, "verify -o json --cluster cluster.trust act");
    assert_eq!((&found["valid"], &found["culprit"]), (&false.into(), &Value::Null));
    desk.write("act", &desk.read("act")[..100]);
    desk.expect(4, "verify --cluster cluster.trust act");
}

#[test]
fn a_token_for_another_verdict_proves_nothing() {
    let desk = Desk::new();
    desk.seal("cmp1");
    let mail = desk.sealed();
    let mut proof = desk.world.proof(&mail, Verdict::Released, Claim::Verdict);
    proof.token = desk.world.token(Verdict::Refused, mail.exchange());
    desk.write("proof", &proof.to_bytes());
    let found = desk.json(4, "verify -o json --cluster cluster.trust proof");
    assert_eq!(
        (&found["steps"][3]["result"], &found["steps"][4]["result"]),
        (&"passed".into(), &"failed".into())
    );
}

#[test]
fn a_proof_of_acceptance_alone_is_5_even_with_the_mail() {
    let desk = Desk::new();
    desk.seal("cmp2");
    let mut proof = desk.world.proof(&desk.sealed(), Verdict::Released, Claim::Verdict);
    proof.disclosure = None;
    desk.write("proof", &proof.to_bytes());
    desk.expect(5, "verify --cluster cluster.trust proof --mail sealed.eml");
}

#[test]
fn where_nothing_can_be_opened_nothing_is_missing() {
    let desk = Desk::new();
    for verdict in [Verdict::Withdrawn, Verdict::Refused] {
        desk.seal("cmp2");
        desk.prove(verdict, Claim::Verdict);
        for mail in ["", " --mail sealed.eml"] {
            let found = desk.json(0, &format!("verify -o json --cluster cluster.trust proof{mail}"));
            assert_eq!(found["finding"]["verdict"], verdict.to_string().to_lowercase());
            assert_eq!(found["finding"]["content"], "none");
        }
        desk.seal("cmp2");
        desk.expect(4, "verify --cluster cluster.trust proof --mail sealed.eml");
    }
}

#[test]
fn fraud_is_proved_by_the_mail_and_by_nothing_less() {
    let desk = Desk::new();
    for protocol in [Protocol::Cmp1, Protocol::Cmp2] {
        desk.write("sealed.eml", &desk.world.garbage(protocol));
        desk.prove(Verdict::Released, Claim::Fraud);
        let found = desk.json(0, "verify -o json --cluster cluster.trust proof --mail sealed.eml");
        assert_eq!((&found["claim"], &found["finding"]["content"]), (&"fraud".into(), &"fraud".into()));
        let shown =
            String::from_utf8(desk.expect(0, "verify --cluster cluster.trust proof --mail sealed.eml"))
                .unwrap();
        assert!(shown.contains("Fraud by  sender@example.org"), "{shown}");
        desk.expect(4, "verify --cluster cluster.trust proof");
        // As a proof of delivery it does not hold.
        desk.prove(Verdict::Released, Claim::Verdict);
        desk.expect(4, "verify --cluster cluster.trust proof --mail sealed.eml");
    }
    desk.seal("cmp2");
    desk.prove(Verdict::Released, Claim::Fraud);
    desk.expect(4, "verify --cluster cluster.trust proof --mail sealed.eml");
    // Without the lock nothing of the content is seen: a claim of fraud is unproved, whether it is true or not.
    for sealed in [desk.read("sealed.eml"), desk.world.garbage(Protocol::Cmp2)] {
        desk.write("sealed.eml", &sealed);
        let mut claim = desk.world.proof(&desk.sealed(), Verdict::Released, Claim::Fraud);
        claim.disclosure = None;
        desk.write("proof", &claim.to_bytes());
        let found = desk.json(4, "verify -o json --cluster cluster.trust proof --mail sealed.eml");
        assert_eq!((&found["valid"], &found["steps"][5]["result"]), (&false.into(), &"failed".into()));
    }
}

const RECIPIENT: &str = "--identity recipient.id --cluster cluster.trust --timeout 2s sealed.eml";
const SENDER: &str = "--identity sender.id --cluster cluster.trust --timeout 2s sealed.eml";

/// A desk with a cluster behind it.
fn served(behaviours: [Behaviour; 4]) -> (Desk, tokio::task::JoinSet<()>) {
    let desk = Desk::new();
    let nodes = desk.world.serve(behaviours);
    (desk, nodes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_is_opened_byte_for_byte_and_its_delivery_proved() {
    for protocol in ["cmp1", "cmp2"] {
        let (desk, _nodes) = served([Honest, Honest, Honest, Dead]);
        desk.seal(protocol);
        assert_eq!(desk.json(0, &format!("status -o json {SENDER}"))["verdict"], "undecided");
        desk.expect(1, &format!("proof {SENDER}"));
        assert_eq!(desk.expect(0, &format!("open {RECIPIENT}")), MAIL);
        assert_eq!(
            desk.expect(0, &format!("open --output mail.out {RECIPIENT}")),
            b"",
            "again, and into a file"
        );
        assert_eq!(desk.read("mail.out"), MAIL);
        assert_eq!(desk.json(0, &format!("status -o json {SENDER}"))["verdict"], "released");
        desk.write("proof", &desk.expect(0, &format!("proof {SENDER}")));
        desk.expect(0, "verify --cluster cluster.trust proof --mail sealed.eml");
        desk.expect(5, "verify --cluster cluster.trust proof");
        assert!(
            String::from_utf8(desk.run(&format!("withdraw {SENDER}")).stderr).unwrap().contains("Released")
        );
        desk.expect(1, &format!("withdraw {SENDER}"));
        desk.expect(0, &format!("proof --without-content --output accepted {SENDER}"));
        let code = if protocol == "cmp1" { 0 } else { 5 };
        desk.expect(code, "verify --cluster cluster.trust accepted --mail sealed.eml");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_says_undecided_and_then_the_verdict_one_line_each() {
    let (desk, _nodes) = served([Dead, Honest, Honest, Honest]);
    desk.seal("cmp2");
    let mut watching = Command::new(env!("CARGO_BIN_EXE_fairpost"))
        .args(format!("watch -o json {SENDER}").split_whitespace())
        .current_dir(&desk.folder)
        .env_clear()
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let limited = limit(&watching);
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut next = || lines.next().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let first = next().unwrap();
    assert_eq!((&first["version"], &first["verdict"]), (&1.into(), &"undecided".into()));
    desk.expect(0, &format!("refuse {RECIPIENT}"));
    // Another sign of life may have come first.
    let last = std::iter::from_fn(next).last().unwrap();
    assert_eq!((&last["verdict"], &last["exchange"]), (&"refused".into(), &first["exchange"]));
    drop(limited);
    assert_eq!(watching.wait().unwrap().code(), Some(0));
    let text = String::from_utf8(desk.expect(0, &format!("watch {SENDER}"))).unwrap();
    assert!(text.starts_with("refused: ") && text.lines().count() == 1, "{text}");

    let (desk, _nodes) = served([Dead; 4]);
    desk.seal("cmp2");
    desk.expect(75, &format!("watch {SENDER}"));
    let (desk, _nodes) = served([Unavailable, Unavailable, Dead, Dead]);
    desk.seal("cmp2");
    desk.expect(3, &format!("watch {SENDER}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_or_withdrawn_stays_shut() {
    for (line, verdict) in
        [(format!("refuse {RECIPIENT}"), "refused"), (format!("withdraw {SENDER}"), "withdrawn")]
    {
        let (desk, _nodes) = served([Honest; 4]);
        desk.seal("cmp2");
        desk.expect(0, &line);
        let opened = desk.run(&format!("open {RECIPIENT}"));
        assert_eq!((opened.status.code(), opened.stdout.as_slice()), (Some(1), &b""[..]));
        assert!(String::from_utf8_lossy(&opened.stderr).to_lowercase().contains(verdict));
        desk.write("proof", &desk.expect(0, &format!("proof {SENDER}")));
        desk.expect(0, "verify --cluster cluster.trust proof");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reached_is_75_and_no_quorum_3() {
    let (desk, _nodes) = served([Dead; 4]);
    desk.seal("cmp2");
    assert_eq!(desk.expect(75, &format!("open {RECIPIENT}")), b"");
    let (desk, _nodes) = served([Unavailable, Unavailable, Dead, Dead]);
    desk.seal("cmp2");
    assert_eq!(desk.expect(3, &format!("open {RECIPIENT}")), b"");
    assert_eq!(desk.expect(3, &format!("status {SENDER}")), b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_never_reaches_standard_output_and_leaves_a_fraud_proof() {
    let (desk, _nodes) = served([Honest; 4]);
    desk.write("sealed.eml", &desk.world.garbage(Protocol::Cmp2));
    assert_eq!(desk.expect(4, &format!("open {RECIPIENT}")), b"");
    assert_eq!(desk.expect(4, &format!("open --output mail.out --fraud-proof it.fraud {RECIPIENT}")), b"");
    assert!(!desk.folder.join("mail.out").exists());
    for proof in ["sealed.eml.fraud", "it.fraud"] {
        desk.expect(0, &format!("verify --cluster cluster.trust {proof} --mail sealed.eml"));
    }
}

#[test]
fn completions_and_man_pages_are_made() {
    let desk = Desk::new();
    assert!(String::from_utf8(desk.expect(0, "completions bash")).unwrap().contains("fairpost"));
    desk.expect(0, "man --out .");
    assert!(String::from_utf8(desk.read("fairpost-seal.1")).unwrap().contains("seal"));
}
