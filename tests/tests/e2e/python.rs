//! The Python example in `client/python`, which knows of Fairpost what the documents say: it opens mails and fetches proofs
//! on a real cluster, and says of vectors and of damaged proofs what our code says.

mod damage;
mod runner;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read as _};
use std::path::Path;

use fairpost::client::{Client, Error, Options};
use fairpost::sealed_mail::SealedMail;
use fairpost_proto::ids::{Protocol, Span, Verdict};
use fairpost_proto::proof::{Claim, Proof};
use fairpost_proto::threshold::Token;
use fairpost_proto::trust::Trust;
use fairpost_proto::verify::{self, Opening};
use fairpost_tests::{Cluster, People, Settings, mail};
use serde_json::Value;

use damage::Case;
use runner::Python;

const HOUR: Span = Span::from_seconds(3600);

/// A person's two arguments.
fn who(name: &str) -> String {
    format!("--identity {name}.id --cluster cluster.trust")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_example_takes_and_refuses_the_vectors_as_we_do() {
    let python = Python::ready().await;
    let folder = runner::root().join("proto/vectors");
    let ended = python.run(&["check.py".as_ref(), "vectors".as_ref(), folder.as_os_str()], &folder).await;
    let found: Value = serde_json::from_slice(&ended.out).unwrap_or_else(|_| panic!("{}", ended.err));
    assert_eq!(found["wrong"], Value::Array(vec![]), "{}", ended.err);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    // All vectors of each file that it tries.
    let tried: BTreeMap<String, usize> = serde_json::from_value(found["files"].clone()).unwrap();
    for (file, count) in &tried {
        let vectors: Vec<Value> = serde_json::from_slice(&fs::read(folder.join(file)).unwrap()).unwrap();
        assert_eq!((*count, vectors.is_empty()), (vectors.len(), false), "{file}");
    }
    let sum: usize = tried.values().sum();
    assert!(tried.len() >= 21 && sum >= 950, "only {sum} vectors in {} files", tried.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_example_redeems_opens_and_judges_on_a_real_cluster() {
    let python = Python::ready().await;
    let cluster = Cluster::start(Settings::default()).await.unwrap();
    let people = People::new(&cluster).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let desk = folder.path();
    fs::copy(cluster.path().join("cluster.trust"), desk.join("cluster.trust")).unwrap();
    people.sender.create(&desk.join("sender.id")).unwrap();
    people.recipient.create(&desk.join("recipient.id")).unwrap();

    let mut cases = Vec::new();
    for protocol in [Protocol::Cmp1, Protocol::Cmp2] {
        cases.push(released(&python, &cluster, &people, protocol, desk).await);
    }
    cases.push(refused(&python, &cluster, &people, desk).await);
    cases.push(fraud(&cluster, &people).await);
    talks_to_nobody_else(&python, &cluster, desk).await;
    agrees(&python, &cluster.trust, &damage::all(&cases), desk).await;
}

/// Seals a mail, and leaves its sealed part on the desk: in CMP1 in a mail, in CMP2 as it is.
fn seal(cluster: &Cluster, people: &People, protocol: Protocol, desk: &Path) -> (SealedMail, Vec<u8>) {
    let mut sealed = people.seal(cluster, protocol, HOUR).unwrap();
    let mut part = Vec::new();
    sealed.part().unwrap().read_to_end(&mut part).unwrap();
    fs::write(desk.join("sealed"), &part).unwrap();
    (sealed, part)
}

async fn released(
    python: &Python,
    cluster: &Cluster,
    people: &People,
    protocol: Protocol,
    desk: &Path,
) -> Case {
    let (sealed, part) = seal(cluster, people, protocol, desk);
    let token = python.example(0, &format!("redeem {} sealed", who("recipient")), desk).await;
    let token = Token::parse(&hex::decode(String::from_utf8(token).unwrap().trim()).unwrap()).unwrap();
    let (trust, exchange) = (&cluster.trust, sealed.exchange());
    verify::check_token(&trust.public_key(), trust.cluster(), Verdict::Released, exchange, &token).unwrap();

    let opened = python.example(0, &format!("open {} sealed", who("recipient")), desk).await;
    assert_eq!(opened, mail(), "byte for byte");
    // Only the recipient accepts.
    python.example(1, &format!("open {} sealed", who("sender")), desk).await;

    let proof = python.example(0, &format!("proof {} sealed", who("sender")), desk).await;
    fs::write(desk.join("proof"), &proof).unwrap();
    let parsed = Proof::parse(&proof).unwrap();
    let report = verify::verify_with_mail(&parsed, trust, Cursor::new(&part), std::io::sink()).unwrap();
    assert_eq!(report.opening, Opening::Shown { bytes: mail().len() as u64 });
    python.example(0, "verify --cluster cluster.trust --mail sealed proof", desk).await;
    python.example(5, "verify --cluster cluster.trust proof", desk).await;
    python.example(4, "verify --cluster cluster.trust --mail sealed sealed", desk).await;
    Case { name: protocol.to_string(), proof, mail: part }
}

async fn refused(python: &Python, cluster: &Cluster, people: &People, desk: &Path) -> Case {
    let (sealed, part) = seal(cluster, people, Protocol::Cmp2, desk);
    let client = Client::new(cluster.trust.clone(), Options::default()).unwrap();
    client.refuse(&people.recipient, &sealed).await.unwrap();
    let shut = python.example(1, &format!("open {} sealed", who("recipient")), desk).await;
    assert_eq!(shut, b"", "nothing of it");
    let proof = python.example(0, &format!("proof {} sealed", who("sender")), desk).await;
    let report = verify::verify(&Proof::parse(&proof).unwrap(), &cluster.trust).unwrap();
    assert_eq!(report.verdict, Verdict::Refused);
    Case { name: "refused".into(), proof, mail: part }
}

async fn fraud(cluster: &Cluster, people: &People) -> Case {
    let client = Client::new(cluster.trust.clone(), Options::default()).unwrap();
    let mut fraud = people.defraud(cluster, Protocol::Cmp2, b"not what was promised").unwrap();
    let Err(Error::Fraud(caught)) = client.open(&people.recipient, &mut fraud.mail).await else {
        panic!("the garbage was opened")
    };
    Case { name: "fraud".into(), proof: caught.proof.unwrap().to_bytes(), mail: fraud.part }
}

/// One member's server does not pass for another member.
async fn talks_to_nobody_else(python: &Python, cluster: &Cluster, desk: &Path) {
    let [first, second, ..] = cluster.trust.view().members() else { panic!("a cluster of one") };
    for (key, code) in [(&first.identity, 0), (&second.identity, 1)] {
        let (host, port) = first.address.rsplit_once(':').unwrap();
        let script = format!(
            "from fairpost_example import tls\n\
             tls.pinned_certificate({host:?}, {port}, bytes.fromhex({:?}))",
            hex::encode(key.as_bytes())
        );
        let ended = python.run(&["-c".as_ref(), script.as_ref()], desk).await;
        assert_eq!(ended.code, Some(code), "{}", ended.err);
        assert_eq!(ended.err.contains("the signature is not by this key"), code != 0, "{}", ended.err);
    }
}

/// What our judge says of a proof with this mail or none.
fn accepts(case: &Case, with_mail: bool, trust: &Trust) -> bool {
    let Ok(proof) = Proof::parse(&case.proof) else { return false };
    if with_mail {
        return verify::verify_with_mail(&proof, trust, Cursor::new(&case.mail), std::io::sink()).is_ok();
    }
    // A claim of fraud is about the content.
    proof.claim == Claim::Verdict && verify::verify(&proof, trust).is_ok()
}

/// Both judges say the same of each, with the mail and without.
async fn agrees(python: &Python, trust: &Trust, cases: &[Case], desk: &Path) {
    let folder = desk.join("cases");
    fs::create_dir(&folder).unwrap();
    let mut ours = BTreeMap::new();
    for (place, case) in cases.iter().enumerate() {
        for with_mail in [true, false] {
            let name = format!("{place:05}-{}-{}", if with_mail { "shown" } else { "unseen" }, case.name);
            fs::write(folder.join(format!("{name}.proof")), &case.proof).unwrap();
            if with_mail {
                fs::write(folder.join(format!("{name}.mail")), &case.mail).unwrap();
            }
            ours.insert(name, accepts(case, with_mail, trust));
        }
    }
    let words = ["check.py".as_ref(), "judge".as_ref(), "cluster.trust".as_ref(), folder.as_os_str()];
    let ended = python.run(&words, desk).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let mut theirs = BTreeMap::new();
    for line in String::from_utf8(ended.out).unwrap().lines() {
        let answer: Value = serde_json::from_str(line).unwrap();
        let name = answer["name"].as_str().unwrap().to_owned();
        assert_eq!(answer["accepted"].as_bool(), ours.get(&name).copied(), "{answer}");
        theirs.insert(name, answer["accepted"].as_bool().unwrap());
    }
    assert_eq!(theirs, ours);
    let accepted = ours.values().filter(|accepted| **accepted).count();
    eprintln!("{accepted} of {} proofs count", ours.len());
    // The four as they are with their mails or without, save the fraud unseen and the refused one shown.
    assert!(accepted >= 6, "{accepted} of {}", ours.len());
    assert!(ours.len() - accepted > 1000, "{accepted} of {}", ours.len());
}
