//! Members that do what no honest one would: a leader that does nothing, and one member that would keep the rest electing.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::CommittedLeaderId;
use tokio::time::timeout;

use super::cluster::Cluster;
use super::double::{in_front, options};
use crate::consensus::doubts::tests::suspicion;
use crate::consensus::guard::Violation;
use crate::consensus::message::{self, Elect, Elected, Front};
use crate::consensus::types::{LogId, Vote};
use crate::consensus::{Handle, Refusal};

/// Longer than a lease, the longest silence after it and an election take, on a busy machine.
const REPLACED: Duration = Duration::from_secs(20);

/// A cluster of four that has worked, its leader, and the others.
async fn working() -> (Cluster, u64, Vec<u64>) {
    let cluster = Cluster::start(4, 1..=4).await;
    cluster.propose("before").await;
    cluster.agree("before").await;
    let leader = cluster.leader(1, None).await.id;
    let others = (1..=4).filter(|id| *id != leader).collect();
    (cluster, leader, others)
}

fn handle(cluster: &Cluster, id: u64) -> &Handle {
    &cluster.servers[&id].handle
}

/// The term of the leader that this node follows, or in which it leads.
fn term(cluster: &Cluster, id: u64) -> u64 {
    handle(cluster, id).term()
}

/// Has all nodes but the author hear what it has signed.
fn spread(cluster: &Cluster, signed: &[Vec<u8>]) {
    for server in cluster.servers.values() {
        server.handle.hear_suspicions(signed).unwrap();
    }
}

/// Waits until each of these nodes follows another leader than this one.
async fn replaced(cluster: &Cluster, nodes: &[u64], old: u64) {
    let started = Instant::now();
    for node in nodes {
        let mut leader = handle(cluster, *node).watch_leader();
        let other = leader.wait_for(|leader| leader.as_ref().is_some_and(|leader| leader.id != old));
        timeout(REPLACED.saturating_sub(started.elapsed()), other)
            .await
            .unwrap_or_else(|_| panic!("node {node} has no other leader than {old} in time"))
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_does_nothing_is_replaced() {
    let (cluster, mute, others) = working().await;
    cluster.hub.mute(mute);
    let lost = Bytes::from_static(b"nobody gets this");
    let proposing = handle(&cluster, mute).clone();
    let proposing = tokio::spawn(async move { proposing.propose(lost).await });
    // For longer than an election takes nothing happens: its heartbeats are heard.
    let leader = cluster.servers[&others[0]].handle.watch_leader();
    let (first, second) = (handle(&cluster, others[0]), handle(&cluster, others[1]));
    assert!(proposing.await.unwrap().is_err(), "it is mute");
    assert!(!leader.has_changed().unwrap(), "and is followed");
    let bad = term(&cluster, others[0]);
    for (leader, term) in [(mute, bad + 1), (others[1], bad)] {
        first.suspect(leader, term);
        assert!(first.suspicions().is_empty(), "{leader} does not lead in term {term}");
    }
    // Each suspects by itself, and they tell each other.
    first.suspect(mute, bad);
    second.suspect(mute, bad);
    let signed: Vec<Vec<u8>> =
        [first, second].iter().flat_map(|node| node.suspicions()).map(|bytes| bytes.to_vec()).collect();
    assert_eq!(signed.len(), 2);
    spread(&cluster, &signed);
    assert!(handle(&cluster, mute).unfit().is_some(), "it hears of it, and stamps nothing");
    replaced(&cluster, &others, mute).await;
    cluster.propose("after").await;
    for node in &others {
        cluster.servers[node].book.wait_for(b"after").await;
    }
    // The old one follows as well, and for a while nobody votes for it.
    replaced(&cluster, &[mute], mute).await;
    assert!(handle(&cluster, mute).unfit().is_none());
    let again = Elect { vote: Vote::new(bad + 100, mute), last_log_id: far(bad + 99) };
    let refused = handle(&cluster, others[0]).vote(mute, in_front(&message::encode(&again).unwrap())).await;
    assert!(matches!(refused, Err(Refusal::Guarded(Violation::Dropped { .. }))), "{refused:?}");
    cluster.stop().await;
}

/// The end of a log that is longer than any.
fn far(term: u64) -> Option<LogId> {
    Some(LogId::new(CommittedLeaderId::new(term, 1), 1_000_000))
}

/// What a node answers to a call by `liar` for this term.
async fn call(node: &Handle, liar: u64, term: u64) -> Result<bool, Refusal> {
    let elect = Elect { vote: Vote::new(term, liar), last_log_id: far(term - 1) };
    let answer = node.vote(liar, in_front(&message::encode(&elect).unwrap())).await?;
    let answer: Elected = message::decode(Front::split(answer).unwrap().1).unwrap();
    Ok(answer.vote_granted)
}

/// Lets the cluster work for so long; gives how much it did.
async fn work(cluster: &Cluster, what: &str, least: Duration) -> u32 {
    let started = Instant::now();
    let mut page = 0;
    while started.elapsed() < least {
        cluster.propose(&format!("{what} {page}")).await;
        page += 1;
    }
    page
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_deposes_no_leader() {
    let (cluster, leader, others) = working().await;
    let before = term(&cluster, leader);
    // openraft's leader took up its term longer ago than a lease lasts.
    work(&cluster, "while", options(1).election_max * 2).await;
    if term(&cluster, leader) == before {
        let granted = call(handle(&cluster, leader), others[0], before + 1).await;
        assert_eq!(granted, Ok(false));
        assert_eq!(term(&cluster, leader), before);
        assert!(handle(&cluster, leader).is_leader());
    }
    cluster.propose("after").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_liar_who_suspects_and_calls_all_the_time_changes_nothing() {
    let (cluster, leader, others) = working().await;
    let (liar, before) = (others[0], term(&cluster, leader));
    for round in 1..=30 {
        let signed = [leader, others[1], others[2]].map(|suspect| suspicion(liar, 4, suspect, before));
        spread(&cluster, &signed);
        for node in [leader, others[1], others[2]] {
            let granted = call(handle(&cluster, node), liar, before + round).await;
            assert_ne!(granted, Ok(true), "round {round}, node {node}");
        }
        cluster.propose(&format!("round {round}")).await;
        assert_eq!(term(&cluster, leader), before, "round {round}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_liar_who_answers_with_later_terms_brings_about_few_elections() {
    let (cluster, leader, others) = working().await;
    let before = term(&cluster, leader);
    cluster.hub.boast(others[0], before + 1000);
    // Each of the others believes what it says first, and after that ever more seldom.
    let done = work(&cluster, "while", options(1).election_max * 10).await;
    let boasted = cluster.hub.boasted(others[0]).unwrap() - before - 1000;
    assert!(boasted > 20, "it had {boasted} occasions");
    assert!(done > 50, "only {done} proposals came through, while it lied {boasted} times");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_keeps_one_follower_binds_it_no_longer_than_the_others_call() {
    let (cluster, leader, others) = working().await;
    for other in &others[1..] {
        // Nor does it vote for another.
        cluster.hub.silence(leader, *other);
        cluster.hub.silence(*other, leader);
    }
    replaced(&cluster, &others, leader).await;
    cluster.propose("after").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_leads_a_member_gets_its_votes_by_turns() {
    // One of four elects nobody.
    let cluster = Cluster::start(4, [1]).await;
    let node = handle(&cluster, 1);
    // Ahead of what it reaches by itself meanwhile. Ten at once would take pauses of 20 seconds.
    let mut refused = 0;
    for term in (1000..2000).step_by(100) {
        match call(node, 3, term).await {
            Err(Refusal::Guarded(Violation::TooSoon { node: 3, .. })) => refused += 1,
            other => assert_eq!(other, Ok(true), "term {term}"),
        }
    }
    assert!(refused > 0, "it had a vote ten times");
    // openraft takes the greater number in one term for the later candidate: that is a turn as well.
    let started = Instant::now();
    // Beyond all terms above; what the metrics say may be of a moment ago.
    let term = 5000;
    assert_eq!(call(node, 2, term).await, Ok(true), "another one's turn");
    let same = call(node, 4, term).await;
    let next = call(node, 4, term + 1000).await;
    // Unless the machine was too busy, so that an election came in between or the pause was over.
    if started.elapsed() < options(1).election_min / 4 {
        assert_eq!(same, Ok(true));
        assert!(matches!(next, Err(Refusal::Guarded(Violation::TooSoon { node: 4, .. }))), "{next:?}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_convicted_member_is_followed_no_more() {
    let (cluster, leader, others) = working().await;
    for other in &others {
        handle(&cluster, *other).convict(BTreeSet::from([leader]));
    }
    replaced(&cluster, &others, leader).await;
    let refused = call(handle(&cluster, others[0]), leader, term(&cluster, others[0]) + 10).await;
    assert_eq!(refused, Err(Refusal::Guarded(Violation::Convicted { node: leader })));
    cluster.propose("after").await;
    cluster.stop().await;
}
