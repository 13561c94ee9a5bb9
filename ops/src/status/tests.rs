//! Given the members' answers, then this state, margin and these alarms.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use fairpost_proto::threshold;
use fairpost_proto::view::{Constitution, Member, Parameters, View};
use rand::rngs::OsRng;

use super::super::show;
use super::*;

fn view(nodes: usize, faults: usize) -> View {
    let quorum = fairpost_proto::quorum::Quorum::new(nodes, faults).unwrap();
    let (commitment, _) = threshold::deal(quorum.q(), nodes, &mut OsRng).unwrap();
    let members = (1..=nodes)
        .map(|number| Member {
            name: format!("n{number}"),
            address: format!("127.0.0.1:740{number}"),
            identity: SigningKey::from_bytes(&[number as u8; 32]).verifying_key(),
        })
        .collect();
    let parameters = Parameters::default();
    let (operators, anchors, auditors) = (vec![], vec![], vec![]);
    View::genesis(
        "test",
        Constitution { members, faults, commitment, operators, agreeing: 0, anchors, auditors, parameters },
    )
    .unwrap()
}

/// Four nodes that are well; n2 leads.
fn well(nodes: usize) -> Vec<Probe> {
    (1..=nodes)
        .map(|number| Probe {
            name: format!("n{number}"),
            address: format!("127.0.0.1:740{number}"),
            outcome: Ok(Answer {
                status: NodeStatus {
                    name: format!("n{number}"),
                    version: "0.1.0".into(),
                    role: if number == 2 { "leader" } else { "follower" }.into(),
                    term: 3,
                    leader: "n2".into(),
                    last_log_index: 17,
                    applied_index: 17,
                    evidence_log_size: 9,
                    evidence_log_root: vec![0xab; 32],
                    share: ShareState::Working.into(),
                    ready: true,
                    ..NodeStatus::default()
                },
                clock_offset_millis: 0,
                round_trip: Duration::from_millis(2),
            }),
        })
        .collect()
}

fn answer(probes: &mut [Probe], place: usize) -> &mut Answer {
    probes[place].outcome.as_mut().unwrap()
}

fn down(probes: &mut [Probe], place: usize) {
    probes[place].outcome = Err("connection refused".into());
}

#[test]
fn four_nodes_that_are_well_are_fine() {
    let report = Report::new(&view(4, 1), &well(4));
    assert_eq!((report.state, report.quorum.margin), (State::Fine, 1));
    assert_eq!(report.leader.as_deref(), Some("n2"));
    assert_eq!(report.alarms, Vec::<String>::new());
    assert_eq!(report.state.exit_code(), 0);
    assert_eq!(show::line(&report), "fine: 4 of 4 ready, 1 more may fail, leader n2");
}

#[test]
fn one_node_down_degrades_and_leaves_no_margin() {
    let mut probes = well(4);
    down(&mut probes, 3);
    let report = Report::new(&view(4, 1), &probes);
    assert_eq!((report.state, report.quorum.margin), (State::Degraded, 0));
    assert_eq!(report.alarms, ["n4 does not answer: connection refused"]);
    let table = show::table(&report);
    assert!(table.contains("3 of 4 needed, 3 usable; no more may fail"), "{table}");
    assert!(table.lines().any(|line| line.starts_with("n4") && line.ends_with("no answer")), "{table}");
}

#[test]
fn two_of_four_down_are_no_quorum() {
    let mut probes = well(4);
    down(&mut probes, 0);
    down(&mut probes, 3);
    let report = Report::new(&view(4, 1), &probes);
    assert_eq!((report.state, report.quorum.margin), (State::NoQuorum, -1));
    assert_eq!(report.state.exit_code(), 3);
}

#[test]
fn nobody_reached_says_nothing_about_the_cluster() {
    let mut probes = well(4);
    (0..4).for_each(|place| down(&mut probes, place));
    let report = Report::new(&view(4, 1), &probes);
    assert_eq!((report.state, report.state.exit_code()), (State::Unreached, 75));
    assert_eq!(report.leader, None);
}

#[test]
fn a_node_that_is_down_counts_as_down_whatever_others_say() {
    // All followers still name the dead leader.
    let mut probes = well(4);
    down(&mut probes, 1);
    let report = Report::new(&view(4, 1), &probes);
    assert_eq!(report.leader.as_deref(), Some("n2"));
    assert_eq!((report.state, report.quorum.usable), (State::Degraded, 3));
}

#[test]
fn no_leader_is_no_quorum() {
    let mut probes = well(4);
    for place in 0..4 {
        let status = &mut answer(&mut probes, place).status;
        (status.role, status.leader) = ("candidate".into(), String::new());
    }
    assert_eq!(Report::new(&view(4, 1), &probes).state, State::NoQuorum);
}

#[test]
fn the_leader_of_an_old_term_is_not_the_leader() {
    let mut probes = well(4);
    answer(&mut probes, 1).status.term = 2;
    for place in [0, 2, 3] {
        answer(&mut probes, place).status.leader = "n3".into();
    }
    answer(&mut probes, 2).status.role = "leader".into();
    let report = Report::new(&view(4, 1), &probes);
    assert_eq!(report.leader.as_deref(), Some("n3"));
    assert_eq!(report.alarms, Vec::<String>::new());
}

#[test]
fn shares_that_do_not_work_eat_the_margin() {
    let mut probes = well(4);
    answer(&mut probes, 0).status.set_share(ShareState::Bad);
    let status = &mut answer(&mut probes, 2).status;
    status.set_share(ShareState::Closed);
    (status.ready, status.not_ready_because) = (false, "it was rolled back".into());
    let report = Report::new(&view(4, 1), &probes);
    assert_eq!((report.state, report.quorum.running, report.quorum.usable), (State::NoQuorum, 4, 2));
    assert!(report.alarms[0].starts_with("n1: its share does not match"), "{:?}", report.alarms);
    assert_eq!(report.alarms[1], "n3: its share is closed; it does not sign: it was rolled back");
}

#[test]
fn a_node_that_is_not_ready_says_why() {
    let mut probes = well(4);
    let status = &mut answer(&mut probes, 2).status;
    (status.ready, status.not_ready_because) = (false, "the disk takes no writes".into());
    let report = Report::new(&view(4, 1), &probes);
    assert_eq!(report.state, State::Degraded);
    assert_eq!(report.alarms, ["n3 is not ready: the disk takes no writes"]);
}

#[test]
fn two_leaders_in_one_term_alarm() {
    let mut probes = well(4);
    answer(&mut probes, 3).status.role = "leader".into();
    let report = Report::new(&view(4, 1), &probes);
    assert_eq!(report.alarms, ["n2 and n4 all say that they lead in term 3"]);
}

#[test]
fn clocks_may_differ_by_the_skew_and_not_by_more() {
    let mut probes = well(4);
    answer(&mut probes, 0).clock_offset_millis = -4_000;
    answer(&mut probes, 3).clock_offset_millis = 6_002;
    assert_eq!(Report::new(&view(4, 1), &probes).alarms, Vec::<String>::new());
    answer(&mut probes, 3).clock_offset_millis = 6_003;
    let alarms = Report::new(&view(4, 1), &probes).alarms;
    assert_eq!(alarms, ["the clock of n4 is 10.0 s ahead of n1's, and at most 10 s are allowed"]);
}

#[test]
fn logs_of_one_size_with_two_roots_are_a_fork_and_of_two_sizes_are_not() {
    let mut probes = well(4);
    answer(&mut probes, 3).status.evidence_log_root = vec![0xcd; 32];
    let alarms = Report::new(&view(4, 1), &probes).alarms;
    assert!(alarms[0].starts_with("the evidence logs fork: at size 9 n1 has root abab"), "{alarms:?}");
    answer(&mut probes, 3).status.evidence_log_size = 8;
    assert_eq!(Report::new(&view(4, 1), &probes).state, State::Fine);
}

#[test]
fn who_is_blamed_alarms_and_says_by_whom() {
    let mut probes = well(4);
    answer(&mut probes, 0).status.blamed = vec!["n3".into(), "nobody".into()];
    answer(&mut probes, 3).status.blamed = vec!["n3".into()];
    let report = Report::new(&view(4, 1), &probes);
    assert_eq!(report.state, State::Degraded);
    assert_eq!(report.alarms, ["n1 and n4 blame n3 for a misdeed; see fairpostctl blame list"]);
}

#[test]
fn another_epoch_than_the_trust_files_alarms() {
    let mut probes = well(4);
    answer(&mut probes, 0).status.epoch = 1;
    let alarms = Report::new(&view(4, 1), &probes).alarms;
    assert_eq!(alarms, ["n1 is in epoch 1, and the trust file ends with 0"]);
}

#[test]
fn lag_is_counted_from_the_furthest_log() {
    let mut probes = well(4);
    answer(&mut probes, 1).status.last_log_index = 20;
    let report = Report::new(&view(4, 1), &probes);
    assert_eq!(report.nodes[0].lag, Some(3));
}

#[test]
fn the_json_form_keeps_its_names() {
    let mut probes = well(4);
    down(&mut probes, 0);
    let json = serde_json::to_value(Report::new(&view(4, 1), &probes)).unwrap();
    assert_eq!(json["version"], 1);
    assert_eq!(json["state"], "degraded");
    assert_eq!(json["quorum"]["margin"], 0);
    assert_eq!(json["nodes"][0]["reached"], false);
    assert_eq!(json["nodes"][0]["share"], serde_json::Value::Null);
    assert_eq!(json["nodes"][1]["share"], "working");
    assert_eq!(json["nodes"][1]["last_log_index"], 17);
    assert_eq!(json["nodes"][1]["clock_offset_seconds"], 0.0);
}

#[test]
fn a_cluster_that_stands_no_compromised_node_says_so() {
    let report = Report::new(&view(3, 0), &well(3));
    assert!(show::table(&report).contains("crash-tolerant only"));
}
