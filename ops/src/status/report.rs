//! From the members' answers to the state of the cluster. Pure.

use std::collections::BTreeMap;

use fairpost_api::v1::{NodeStatus, ShareState};
use fairpost_proto::view::View;
use serde::Serialize;

use super::probe::{Answer, Probe};

/// The version of the JSON form.
const VERSION: u32 = 1;
/// Roles in which a node's Raft runs and counts for a majority.
const VOTERS: [&str; 3] = ["leader", "follower", "candidate"];

/// How the cluster is. Serialised, this is the JSON form of `fairpostctl status`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Version of this form: 1.
    pub version: u32,
    /// The cluster's id.
    pub cluster: String,
    /// The epoch of the newest view in the trust file.
    pub epoch: u32,
    /// The verdict on all of it.
    pub state: State,
    /// How many members there are, and how many it takes.
    pub quorum: Members,
    /// The name of the leader, if one is known.
    pub leader: Option<String>,
    /// What somebody should look at, in plain words.
    pub alarms: Vec<String>,
    /// The members, in the view's order.
    pub nodes: Vec<Node>,
}

/// The verdict on a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Every member is ready and nothing alarms.
    Fine,
    /// Verdicts are reached, and something is wrong.
    Degraded,
    /// No verdict can be reached now.
    NoQuorum,
    /// Nobody answered.
    Unreached,
}

impl State {
    /// The exit code of the status verbs.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Degraded => 2,
            Self::NoQuorum => 3,
            Self::Unreached => 75,
        }
    }
}

/// How many members there are, and how many it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Members {
    /// Members of the view, `n`.
    pub members: usize,
    /// How many may be compromised, `f`.
    pub faults: usize,
    /// Votes and shares that a verdict takes, `q`.
    pub quorum: usize,
    /// Members that make a majority in Raft.
    pub majority: usize,
    /// Members that can vote and give a share now.
    pub usable: usize,
    /// Members whose Raft runs now.
    pub running: usize,
    /// How many more may fail; below zero: how many are missing.
    pub margin: i64,
}

/// What a node's share is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Share {
    /// It signs.
    Working,
    /// The node has none, or may not use it.
    Closed,
    /// It does not match the public commitment.
    Bad,
    /// The node did not say.
    Unknown,
}

/// A member. What only an answer can tell is absent without one.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Node {
    /// Its name in the view.
    pub name: String,
    /// Its address in the view.
    pub address: String,
    /// Whether it answered.
    pub reached: bool,
    /// Why not, if not.
    pub error: Option<String>,
    /// Whether it would answer a request.
    pub ready: bool,
    /// Why not, if not.
    pub not_ready_because: Option<String>,
    /// The version of its program.
    pub version: Option<String>,
    /// Its role in Raft.
    pub role: Option<String>,
    /// Raft's term.
    pub term: Option<u64>,
    /// The leader that it follows.
    pub leader: Option<String>,
    /// Index of its last log entry.
    pub last_log_index: Option<u64>,
    /// Index of the last entry that it has applied.
    pub applied_index: Option<u64>,
    /// How many entries the furthest log has that it has not applied.
    pub lag: Option<u64>,
    /// Sequence of the last entry that it has decided.
    pub sequence: Option<u64>,
    /// Sequence of the last entry that it has voted on.
    pub voted_sequence: Option<u64>,
    /// Verdicts that have no quorum certificate there yet.
    pub uncertified: Option<u64>,
    /// Size of its evidence log.
    pub evidence_log_size: Option<u64>,
    /// Root of its evidence log, hexadecimal.
    pub evidence_log_root: Option<String>,
    /// What its share is good for.
    pub share: Option<Share>,
    /// The epoch that it is in.
    pub epoch: Option<u32>,
    /// How far its clock is ahead of the clock of the machine that asks.
    pub clock_offset_seconds: Option<f64>,
    /// How long its answer took.
    pub round_trip_seconds: Option<f64>,
    /// How long it has been running.
    pub uptime_seconds: Option<u64>,
}

impl Report {
    /// What these answers of the members of `view` amount to.
    pub fn new(view: &View, probes: &[Probe]) -> Self {
        let answers: Vec<(&str, &Answer)> = probes
            .iter()
            .filter_map(|probe| probe.outcome.as_ref().ok().map(|answer| (probe.name.as_str(), answer)))
            .collect();
        let furthest = answers.iter().map(|(_, answer)| answer.status.last_log_index).max().unwrap_or(0);
        let nodes: Vec<Node> = probes.iter().map(|probe| node(probe, furthest)).collect();
        let quorum = members(view, &nodes);
        let leader = leader(&answers);

        let mut alarms = Vec::new();
        alarms.extend(nodes.iter().filter_map(ailment));
        alarms.extend(epochs(view, &answers));
        alarms.extend(leaders(&answers));
        alarms.extend(clocks(view, &answers));
        alarms.extend(forks(&answers));
        alarms.extend(blamed(view, &answers));

        let state = if answers.is_empty() {
            State::Unreached
        } else if quorum.margin < 0 || leader.is_none() {
            State::NoQuorum
        } else if !alarms.is_empty() || nodes.iter().any(|node| !node.ready) {
            State::Degraded
        } else {
            State::Fine
        };
        let (version, cluster, epoch) = (VERSION, view.cluster().to_string(), view.epoch());
        Self { version, cluster, epoch, state, quorum, leader, alarms, nodes }
    }
}

fn node(probe: &Probe, furthest: u64) -> Node {
    let known = Node { name: probe.name.clone(), address: probe.address.clone(), ..Node::default() };
    let answer = match &probe.outcome {
        Ok(answer) => answer,
        Err(error) => return Node { error: Some(error.clone()), ..known },
    };
    let status = &answer.status;
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Node {
        reached: true,
        ready: status.ready,
        not_ready_because: text(&status.not_ready_because),
        version: text(&status.version),
        role: text(&status.role),
        term: Some(status.term),
        leader: text(&status.leader),
        last_log_index: Some(status.last_log_index),
        applied_index: Some(status.applied_index),
        lag: Some(furthest.saturating_sub(status.applied_index)),
        sequence: Some(status.sequence),
        voted_sequence: Some(status.voted_sequence),
        uncertified: Some(status.uncertified),
        evidence_log_size: Some(status.evidence_log_size),
        evidence_log_root: Some(hex::encode(&status.evidence_log_root)),
        share: Some(share(status)),
        epoch: Some(status.epoch),
        clock_offset_seconds: Some(answer.clock_offset_millis as f64 / 1000.0),
        round_trip_seconds: Some(answer.round_trip.as_secs_f64()),
        uptime_seconds: Some(status.uptime_seconds),
        ..known
    }
}

fn share(status: &NodeStatus) -> Share {
    match status.share() {
        ShareState::Working => Share::Working,
        ShareState::Closed => Share::Closed,
        ShareState::Bad => Share::Bad,
        ShareState::Unspecified => Share::Unknown,
    }
}

fn members(view: &View, nodes: &[Node]) -> Members {
    let quorum = view.quorum();
    let runs = |node: &&Node| node.role.as_deref().is_some_and(|role| VOTERS.contains(&role));
    let running = nodes.iter().filter(runs).count();
    let usable = nodes.iter().filter(runs).filter(|node| node.share == Some(Share::Working)).count();
    let spare = |have: usize, need: usize| have as i64 - need as i64;
    Members {
        members: quorum.n(),
        faults: quorum.f(),
        quorum: quorum.q(),
        majority: quorum.majority(),
        usable,
        running,
        margin: spare(usable, quorum.q()).min(spare(running, quorum.majority())),
    }
}

/// The leader of the newest term: who says so of itself, or else whom most nodes of that term follow.
fn leader(answers: &[(&str, &Answer)]) -> Option<String> {
    let term = answers.iter().map(|(_, answer)| answer.status.term).max()?;
    let newest = || answers.iter().filter(|(_, answer)| answer.status.term == term);
    if let Some((name, _)) = newest().find(|(_, answer)| answer.status.role == "leader") {
        return Some((*name).to_owned());
    }
    let mut followed: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, answer) in newest().filter(|(_, answer)| !answer.status.leader.is_empty()) {
        *followed.entry(&answer.status.leader).or_default() += 1;
    }
    followed.into_iter().max_by_key(|(_, followers)| *followers).map(|(name, _)| name.to_owned())
}

/// What is wrong with one node.
fn ailment(node: &Node) -> Option<String> {
    let name = &node.name;
    if let Some(error) = &node.error {
        return Some(format!("{name} does not answer: {error}"));
    }
    let because = node.not_ready_because.as_deref();
    match node.share {
        Some(Share::Bad) => {
            return Some(format!(
                "{name}: its share does not match the cluster's key; restore its share file"
            ));
        }
        Some(Share::Closed) => {
            let because = because.map(|because| format!(": {because}")).unwrap_or_default();
            return Some(format!("{name}: its share is closed; it does not sign{because}"));
        }
        _ => {}
    }
    let because = because.unwrap_or("it does not say why");
    (!node.ready).then(|| format!("{name} is not ready: {because}"))
}

fn epochs(view: &View, answers: &[(&str, &Answer)]) -> Vec<String> {
    let expected = view.epoch();
    answers
        .iter()
        .filter(|(_, answer)| answer.status.epoch != expected)
        .map(|(name, answer)| {
            format!("{name} is in epoch {}, and the trust file ends with {expected}", answer.status.epoch)
        })
        .collect()
}

fn leaders(answers: &[(&str, &Answer)]) -> Vec<String> {
    let mut terms: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for (name, answer) in answers.iter().filter(|(_, answer)| answer.status.role == "leader") {
        terms.entry(answer.status.term).or_default().push(name);
    }
    terms
        .into_iter()
        .filter(|(_, names)| names.len() > 1)
        .map(|(term, names)| format!("{} all say that they lead in term {term}", names.join(" and ")))
        .collect()
}

/// Two clocks that differ by more than the skew, however long the answers took.
fn clocks(view: &View, answers: &[(&str, &Answer)]) -> Option<String> {
    let (behind, late) = answers.iter().min_by_key(|(_, answer)| answer.clock_offset_millis)?;
    let (ahead, early) = answers.iter().max_by_key(|(_, answer)| answer.clock_offset_millis)?;
    let apart = early.clock_offset_millis.abs_diff(late.clock_offset_millis);
    let unsure = (late.round_trip + early.round_trip).as_millis() / 2;
    let skew = view.parameters().skew;
    (u128::from(apart) > u128::from(skew.millis()) + unsure).then(|| {
        format!(
            "the clock of {ahead} is {:.1} s ahead of {behind}'s, and at most {skew} are allowed",
            apart as f64 / 1000.0
        )
    })
}

/// Evidence logs of one size must have one root.
fn forks(answers: &[(&str, &Answer)]) -> Vec<String> {
    let mut roots: BTreeMap<u64, (&str, &[u8])> = BTreeMap::new();
    let mut alarms = Vec::new();
    for (name, answer) in answers {
        let (size, root) = (answer.status.evidence_log_size, answer.status.evidence_log_root.as_slice());
        let (first, expected) = *roots.entry(size).or_insert((name, root));
        if expected != root {
            let (expected, root) = (hex::encode(expected), hex::encode(root));
            alarms.push(format!(
                "the evidence logs fork: at size {size} {first} has root {expected}, and {name} has {root}"
            ));
        }
    }
    alarms
}

/// Members of the view whom somebody blames. What else a node may name is passed over.
fn blamed(view: &View, answers: &[(&str, &Answer)]) -> Vec<String> {
    let by = |name: &str| {
        let by =
            answers.iter().filter(|(_, answer)| answer.status.blamed.iter().any(|blamed| blamed == name));
        by.map(|(node, _)| *node).collect::<Vec<_>>()
    };
    let named = view.members().iter().map(|member| (&member.name, by(&member.name)));
    named
        .filter(|(_, by)| !by.is_empty())
        .map(|(name, by)| {
            let verb = if by.len() == 1 { "blames" } else { "blame" };
            format!("{} {verb} {name} for a misdeed; see fairpostctl blame list", by.join(" and "))
        })
        .collect()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
