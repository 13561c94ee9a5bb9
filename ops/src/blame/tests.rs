//! Given the nodes' answers, then these reports.

use ed25519_dalek::SigningKey;
use fairpost_api::v1::{Blame as BlameMessage, BlameKind, Clearing as ClearingMessage};
use fairpost_proto::chain;
use fairpost_proto::cose::Signed;
use fairpost_proto::ids::Digest;
use fairpost_proto::misconduct::Act;
use fairpost_proto::threshold;
use fairpost_proto::view::{Constitution, Parameters};
use fairpost_proto::vote::Vote;
use rand::rngs::OsRng;

use super::*;

fn identity(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

fn trust(name: &str) -> Trust {
    let (commitment, shares) = threshold::deal(3, 4, &mut OsRng).unwrap();
    let members = (1..=4).map(|number| Member {
        name: format!("n{number}"),
        address: format!("127.0.0.1:740{number}"),
        identity: identity(number).verifying_key(),
    });
    let (operators, anchors, auditors) = (vec![], vec![], vec![]);
    let (members, parameters) = (members.collect(), Parameters::default());
    let body = Constitution {
        members,
        faults: 1,
        commitment,
        operators,
        agreeing: 0,
        anchors,
        auditors,
        parameters,
    };
    let view = View::genesis(name, body).unwrap();
    let shares: Vec<_> =
        shares.iter().zip(0..3).map(|(share, index)| (index, share.sign(&view.message()))).collect();
    let token = threshold::combine(3, &shares).unwrap();
    Trust::new(view, token).unwrap()
}

fn proof(trust: &Trust, number: u8) -> Vec<u8> {
    let vote = |root: &[u8]| {
        let vote = Vote {
            cluster: trust.cluster(),
            epoch: 0,
            sequence: 7,
            log_size: 9,
            log_root: Digest::of(root),
            ballot: Digest::of(b"ballot"),
            number: 1,
        };
        Signed::sign(vote, chain::key_id(&identity(number).verifying_key()), &identity(number))
    };
    Misconduct::new(trust.clone(), Act::Roots(Box::new([vote(b"one"), vote(b"two")]))).to_bytes()
}

fn blame(member: &str, kind: BlameKind, evidence: &[u8]) -> BlameMessage {
    BlameMessage {
        member: member.into(),
        identity: vec![3; 32],
        kind: kind.into(),
        first_millis: 1_800_000_000_000,
        last_millis: 1_800_000_001_000,
        count: 2,
        subject: "exchange 07\u{1b}[2J".into(),
        transferable: kind == BlameKind::Roots,
        evidence: evidence.to_vec(),
    }
}

fn said(blames: Vec<BlameMessage>) -> Vec<Said<Blames>> {
    let clearing = ClearingMessage {
        member: "n2".into(),
        time_millis: 1_800_000_000_000,
        by: vec![0xab; 32],
        records: 1,
        ..ClearingMessage::default()
    };
    vec![
        ("n1".into(), Ok(Blames { blames, cleared: vec![clearing] })),
        ("n2".into(), Err("connection refused".into())),
    ]
}

#[test]
fn only_a_proof_that_convicts_the_member_is_given_out() {
    let trust = trust("test");
    let (of_third, of_second) = (proof(&trust, 3), proof(&trust, 2));
    let find = |blames| proof_against(&trust, "n3", &said(blames)).map(|(bytes, _)| bytes);
    let roots = |evidence: &[u8]| blame("n3", BlameKind::Roots, evidence);
    assert_eq!(find(vec![roots(&of_third)]), Some(of_third.clone()));
    assert_eq!(find(vec![roots(b"nonsense"), roots(&of_second), roots(&of_third)]), Some(of_third.clone()));
    assert_eq!(find(vec![roots(&of_second)]), None, "it convicts another");
    assert_eq!(find(vec![blame("n3", BlameKind::Share, &of_third)]), None);
    let elsewhere = proof(&self::trust("another"), 3);
    assert_eq!(find(vec![roots(&elsewhere)]), None, "it is of another cluster");
}

#[test]
fn what_a_node_says_is_shown_as_its_word_and_steers_no_terminal() {
    let trust = trust("test");
    let report = Report::new(
        trust.view(),
        &said(vec![blame("n3", BlameKind::Share, b""), blame("", BlameKind::Roots, b"")]),
    );
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["version"], 1);
    assert_eq!(json["blames"][0]["node"], "n1");
    assert_eq!(json["blames"][0]["member"], "n3");
    assert_eq!(json["blames"][0]["kind"], "share");
    assert_eq!(json["blames"][0]["proof"], false);
    assert_eq!(json["blames"][0]["first"], "2027-01-15T08:00:00Z");
    assert_eq!(json["blames"][1]["member"], "03".repeat(32));
    assert_eq!(json["blames"][1]["proof"], true);
    assert_eq!(json["cleared"][0]["by"], "ab".repeat(32));
    assert_eq!(json["unreached"][0]["node"], "n2");
    let text = table(&report);
    assert!(!text.contains('\u{1b}') && text.contains("n2 does not answer: connection refused"), "{text}");
    assert!(table(&Report::new(trust.view(), &said(vec![]))).starts_with("nobody is blamed\n"));
}

#[test]
fn refusals_of_all_nodes_come_the_newest_first() {
    let refusal = |last_millis| RefusalMessage {
        asked: "share".into(),
        exchange: vec![7; 32],
        round: 1,
        reason: "not_certified".into(),
        message: "no certificate".into(),
        first_millis: 1_800_000_000_000,
        last_millis,
        count: 3,
    };
    let said = vec![
        ("n1".into(), Ok(vec![refusal(1_800_000_002_000), refusal(1_800_000_000_000)])),
        ("n2".into(), Ok(vec![refusal(1_800_000_001_000)])),
    ];
    let report = Refusals::new(trust("test").view(), &said);
    let nodes: Vec<&str> = report.refusals.iter().map(|refusal| refusal.node.as_str()).collect();
    assert_eq!(nodes, ["n1", "n2", "n1"]);
    assert!(refusals_table(&report).lines().nth(1).unwrap().contains("no certificate"));
}

#[test]
fn what_came_of_clearing_is_told_for_each_node() {
    let said = vec![("n1".into(), Ok(2)), ("n2".into(), Ok(0)), ("n3".into(), Err("gone".into()))];
    let text = cleared("n4", &said);
    assert_eq!(text.lines().count(), 3);
    assert!(text.contains("n1: n4 is cleared of 2") && text.contains("n3: not cleared: gone"), "{text}");
}
