//! Hostile bytes for all that Raft reads, and a false leader's entries for Raft itself.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::sync::Arc;

use bytes::Bytes;
use fairpost_hostile::{Target, run};
use openraft::{CommittedLeaderId, EntryPayload};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use super::double::{Server, fixed_clock, in_front, member, shown_in_front};
use crate::consensus::Refusal;
use crate::consensus::codec::tests::entries;
use crate::consensus::codec::{self, Encode};
use crate::consensus::grants::Held;
use crate::consensus::grants::tests::granted;
use crate::consensus::guard::{self, Violation};
use crate::consensus::message::{self, Append, Appended, Elect, Elected, Front, Install, Installed};
use crate::consensus::snapshot;
use crate::consensus::types::{
    Entry, LogId, Member, Membership, Proposal, SnapshotMeta, StoredMembership, Vote,
};

fn log_id(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(3, 2), index)
}

fn membership() -> Membership {
    let members = (1..=4).map(|id| (id, Member { name: format!("n{id}"), address: format!("h{id}:1") }));
    Membership::new(
        vec![BTreeSet::from([1, 2, 3, 4]), BTreeSet::from([1, 2, 3])],
        members.collect::<BTreeMap<_, _>>(),
    )
}

fn append() -> Append {
    let payloads = [
        EntryPayload::Blank,
        EntryPayload::Normal(Proposal(Bytes::from_static(b"an entry"))),
        EntryPayload::Membership(membership()),
    ];
    let entries =
        payloads.into_iter().zip(5..).map(|(payload, index)| Entry { log_id: log_id(index), payload });
    Append {
        vote: Vote::new_committed(3, 2),
        prev_log_id: Some(log_id(4)),
        entries: entries.collect(),
        leader_commit: Some(log_id(4)),
    }
}

fn install() -> Install {
    let meta = SnapshotMeta {
        last_log_id: Some(log_id(9)),
        last_membership: StoredMembership::new(Some(log_id(4)), membership()),
        snapshot_id: "9-1".to_owned(),
    };
    Install { vote: Vote::new_committed(3, 2), meta, shown: granted([1, 2], 2, 3) }
}

fn value<T: Encode>(name: &'static str, seed: &T) -> Target {
    Target::one_encoding(name, |bytes| T::decode(bytes.to_vec())?.encode().map(|bytes| bytes.to_vec()))
        .seed(seed.encode().unwrap())
}

/// A message, as it comes from a peer.
fn sent<T: Encode>(name: &'static str, seed: &T) -> Target {
    let read = |bytes: &[u8]| -> Result<Vec<u8>, codec::Error> {
        let read: T = message::decode(bytes.to_vec().into())?;
        Ok(message::encode(&read)?.to_vec())
    };
    Target::one_encoding(name, read).seed(message::encode(seed).unwrap())
}

#[test]
fn what_raft_reads_from_peers_and_from_disk() {
    let install = install();
    let stored = install.meta.last_membership.clone();
    let front = |bytes: &[u8]| -> Result<Vec<u8>, codec::Error> {
        let (front, rest) = Front::split(bytes.to_vec().into())?;
        Ok(front.before(&rest)?.to_vec())
    };
    let elect = Elect { vote: Vote::new(4, 2), last_log_id: Some(log_id(9)) };
    run(vec![
        value("raft-entry", &append().entries[2]).seed(append().entries[1].encode().unwrap()),
        value("raft-vote", &Vote::new(7, 1)),
        value("raft-log-id", &log_id(9)),
        value("raft-membership", &stored),
        // An entry in memory is three times as large as the smallest on the wire.
        sent("raft-append", &append()).memory(12, 256 << 10),
        sent("raft-appended", &Appended::PartialSuccess(Some(log_id(5)))),
        sent("raft-elect", &elect),
        sent("raft-elected", &Elected { vote: Vote::new(4, 1), vote_granted: true, last_log_id: None }),
        sent("raft-install", &install),
        sent("raft-installed", &Installed::new(Vote::new(4, 1))),
        Target::one_encoding("raft-front", front)
            .seed(shown_in_front(granted([1], 2, 3), &Bytes::from_static(b"message"))),
        value("raft-grants", &Held { term: 3, grants: [(1, granted([1], 2, 3)), (2, Bytes::new())].into() }),
    ]);
}

/// Reads a stream that comes in parts, how large says its first byte, and writes it again.
fn streamed(bytes: &[u8]) -> Result<Vec<u8>, snapshot::Error> {
    let (size, stream) = bytes.split_first().map_or((0, bytes), |(size, stream)| (*size, stream));
    let mut records = Vec::new();
    snapshot::tests::unpack(stream, usize::from(size) * 997 + 1, |record| records.push(record))?;
    let records: Vec<&[u8]> = records.iter().map(|record| &record[..]).collect();
    Ok([&[size][..], &snapshot::tests::packed(&records)].concat())
}

#[test]
fn a_snapshots_stream() {
    let with = |size: u8, stream: &[u8]| [&[size][..], stream].concat();
    let stream = snapshot::tests::packed(&[b"the state", b"", &[7; 3000], b"an exchange"]);
    run(vec![
        // What is read is held to be written again, as records and as a whole.
        Target::one_encoding("snapshot-stream", streamed)
            .seed(with(0, &stream))
            .seed(with(255, &stream))
            .seed(with(1, &snapshot::tests::packed(&[])))
            .memory(40, 256 << 10),
        // What the machine has had before the end was checked.
        Target::new("snapshot-pieces", |bytes| snapshot::tests::unpack(bytes, 1000, drop))
            .seed(stream)
            .memory(3, 64 << 10),
    ]);
}

#[test]
fn what_the_guard_lets_through() {
    let places = &[
        "entry",
        "the term",
        "the message of node",
        "sends as leader",
        "asks for votes",
        "the membership's",
    ];
    let append = |bytes: &[u8]| -> Result<(), String> {
        let read: Append = message::decode(bytes.to_vec().into()).map_err(|error| error.to_string())?;
        guard::check_append(2, &read).map_err(|error| error.to_string())?;
        // What openraft goes on from.
        let numbers = [read.prev_log_id, read.leader_commit].into_iter().flatten();
        for id in numbers.chain(read.entries.iter().map(|entry| entry.log_id)) {
            assert!(id.index < u64::MAX && id.leader_id.term < u64::MAX, "{id}");
        }
        assert!(read.vote.leader_id.term < u64::MAX);
        Ok(())
    };
    let elect = |bytes: &[u8]| -> Result<(), String> {
        let read: Elect = message::decode(bytes.to_vec().into()).map_err(|error| error.to_string())?;
        guard::check_vote(2, &read).map_err(|error| error.to_string())?;
        assert!(read.vote.leader_id.term < u64::MAX);
        Ok(())
    };
    let install = |bytes: &[u8]| -> Result<(), String> {
        let read: Install = message::decode(bytes.to_vec().into()).map_err(|error| error.to_string())?;
        guard::check_install(2, &read).map_err(|error| error.to_string())?;
        let members = read.meta.last_membership.log_id();
        for id in read.meta.last_log_id.into_iter().chain(*members) {
            assert!(id.index < u64::MAX && id.leader_id.term < u64::MAX, "{id}");
        }
        Ok(())
    };
    let asked = Elect { vote: Vote::new(4, 2), last_log_id: Some(log_id(9)) };
    run(vec![
        Target::new("guarded-append", append)
            .seed(message::encode(&self::append()).unwrap())
            .places(places)
            .memory(12, 256 << 10),
        Target::new("guarded-elect", elect).seed(message::encode(&asked).unwrap()).places(places),
        Target::new("guarded-install", install)
            .seed(message::encode(&self::install()).unwrap())
            .places(places),
    ]);
}

/// Entries that pass the guard, with anything in them, as the leader of a term that is new here.
fn false_leaders_story(runner: &mut TestRunner, term: u64) -> Append {
    let entries = proptest::collection::vec(entries(), 1..6).new_tree(runner).unwrap().current();
    let id = |index| LogId::new(CommittedLeaderId::new(term, 2), index);
    let names_members = |entry: &Entry| matches!(entry.payload, EntryPayload::Membership(_));
    let blank = Entry { log_id: id(0), payload: EntryPayload::Blank };
    let entries = iter::once(blank).chain(entries.into_iter().filter(|entry| !names_members(entry)));
    let entries: Vec<Entry> =
        entries.zip(0..).map(|(entry, index)| Entry { log_id: id(index), ..entry }).collect();
    let last = entries.last().map(|entry| entry.log_id);
    Append { vote: Vote::new_committed(term, 2), prev_log_id: None, entries, leader_commit: last }
}

#[tokio::test]
async fn a_false_leader_does_not_stop_raft() {
    let mut runner = TestRunner::deterministic();
    for case in 0..12_u64 {
        let folder = tempfile::tempdir().unwrap();
        let hub = Arc::default();
        let server = Server::start(folder.path(), 1, &hub, fixed_clock(1)).await;
        let handle = &server.handle;
        // Every other one has members of its own already.
        if case % 2 == 0 {
            handle.initialize(BTreeMap::from([(1, member(1)), (2, member(2))])).await.unwrap();
        }
        for term in [9, 10, guard::MAX_NUMBER] {
            let story = message::encode(&false_leaders_story(&mut runner, term)).unwrap();
            let alone = handle.append_entries(2, in_front(&story)).await;
            assert!(matches!(alone, Err(Refusal::Guarded(Violation::NotGranted { .. }))), "{alone:?}");
            // With grants, as if a majority were in league with it.
            let granted = shown_in_front(granted([1, 2], 2, term), &story);
            let told = handle.append_entries(2, granted).await;
            // The first is as good as any; the others begin the log anew.
            assert_eq!(told.is_ok(), term == 9, "case {case}, term {term}: {told:?}");
            assert!(handle.is_healthy().await, "case {case}, term {term}");
        }
        for (term, index) in [(u64::MAX, 1), (3, u64::MAX), (u64::MAX, u64::MAX)] {
            let id = LogId::new(CommittedLeaderId::new(3, 2), index);
            let beat = Append {
                vote: Vote::new_committed(term, 2),
                prev_log_id: Some(id),
                entries: Vec::new(),
                leader_commit: Some(id),
            };
            let timed = |bytes| in_front(&bytes);
            handle.append_entries(2, timed(message::encode(&beat).unwrap())).await.unwrap_err();
            let elect = Elect { vote: Vote::new(term, 2), last_log_id: Some(id) };
            handle.vote(2, timed(message::encode(&elect).unwrap())).await.unwrap_err();
            assert!(handle.is_healthy().await, "case {case}, term {term}, index {index}");
        }
        server.stop(&hub).await;
    }
}
