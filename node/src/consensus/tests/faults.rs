//! Forged messages, damaged snapshots, a broken disk.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use fairpost_proto::ids::Timestamp;
use futures::{StreamExt as _, stream};
use openraft::{CommittedLeaderId, EntryPayload};
use tokio::time::timeout;

use super::double::{
    Book, Hub, Server, WAIT, Wire, fixed_clock, in_front, member, open, options, shown_in_front,
};
use crate::consensus::grants::tests::{electorate, granted};
use crate::consensus::guard::tests::stamped;
use crate::consensus::guard::{AHEAD, Violation};
use crate::consensus::log_store::LogStore;
use crate::consensus::message::{self, Append, Elect, Elected, Front, Install};
use crate::consensus::snapshot::tests::packed;
use crate::consensus::types::{Entry, LogId, Member, Membership, SnapshotMeta, StoredMembership, Vote};
use crate::consensus::{CHUNK_BYTES, Error, Handle, Keep, Options, Refusal, SnapshotError, start};
use crate::store::{self, Database, Durability, Ops, Sink, Store, Writer};

/// A single node that leads itself.
async fn alone() -> (tempfile::TempDir, Arc<Hub>, Server) {
    let folder = tempfile::tempdir().unwrap();
    let hub = Arc::default();
    let server = Server::start(folder.path(), 1, &hub, fixed_clock(1)).await;
    server.handle.initialize(BTreeMap::from([(1, member(1))])).await.unwrap();
    lead(&server.handle).await;
    (folder, hub, server)
}

async fn lead(handle: &Handle) {
    let mut leader = handle.watch_leader();
    timeout(WAIT, leader.wait_for(Option::is_some)).await.expect("no leader").unwrap();
}

#[tokio::test]
async fn forged_messages_reach_nothing() {
    let (_folder, hub, server) = alone().await;
    let handle = &server.handle;
    let vote = Vote::new_committed(9, 2);
    let forged = Append { vote, prev_log_id: None, entries: Vec::new(), leader_commit: None };
    let forged = in_front(&message::encode(&forged).unwrap());
    let refused = Err(Refusal::Guarded(Violation::NotTheSender { expected: 2, found: 3 }));
    assert_eq!(handle.append_entries(3, forged.clone()).await, refused);
    let elect = message::encode(&Elect { vote: Vote::new(9, 2), last_log_id: None }).unwrap();
    let elect = in_front(&elect);
    assert_eq!(handle.vote(3, elect).await, refused);
    let head = Install { vote, meta: SnapshotMeta::default(), shown: Bytes::new() };
    let head = message::encode(&head).unwrap();
    let sent = stream::iter([Ok::<_, Infallible>(head)]);
    assert_eq!(handle.install_snapshot(3, sent).await, refused);

    for bytes in [Bytes::new(), Bytes::from_static(b"\x01"), forged.slice(..forged.len() - 1)] {
        let malformed = handle.append_entries(2, bytes.clone()).await;
        assert!(matches!(malformed, Err(Refusal::Malformed(_))), "{malformed:?}");
        let malformed = handle.vote(2, bytes).await;
        assert!(matches!(malformed, Err(Refusal::Malformed(_))), "{malformed:?}");
    }
    handle.propose(Bytes::from_static(b"still leading")).await.unwrap();
    server.stop(&hub).await;
}

#[tokio::test]
async fn what_a_guards_rule_refuses_reaches_no_raft() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Arc::default();
    let server = Server::start(folder.path(), 1, &hub, fixed_clock(1)).await;
    let handle = &server.handle;
    let id = |term, index| LogId::new(CommittedLeaderId::new(term, 2), index);
    let entry = |log_id, payload| Entry { log_id, payload };
    let append =
        async |term: u64, prev_log_id: Option<LogId>, entries: Vec<Entry>, leader_commit: Option<LogId>| {
            let vote = Vote::new_committed(term, 2);
            let append = Append { vote, prev_log_id, entries, leader_commit };
            let message = message::encode(&append).unwrap();
            handle.append_entries(2, shown_in_front(granted([1, 2], 2, term), &message)).await
        };
    let refused = |answer: Result<Bytes, Refusal>| match answer {
        Err(Refusal::Guarded(violation)) => violation,
        other => panic!("{other:?}"),
    };
    // What there is: one entry, committed.
    let (first, next) = (id(9, 0), id(9, 1));
    append(9, None, vec![entry(first, EntryPayload::Blank)], Some(first)).await.unwrap();

    let hole = append(9, Some(first), vec![entry(id(9, 2), EntryPayload::Blank)], None).await;
    assert_eq!(refused(hole), Violation::NotConsecutive { expected: 1, found: 2 });
    let members = BTreeMap::from([(2, member(2))]);
    let membership = Membership::new(vec![members.keys().copied().collect()], members);
    let named = vec![entry(next, EntryPayload::Membership(membership.clone()))];
    let named = append(9, Some(first), named, None).await;
    assert!(matches!(refused(named), Violation::Members { .. }));
    let late = append(9, Some(first), vec![stamped(next, 10_002)], None).await;
    assert!(matches!(refused(late), Violation::Ahead { index: 1, .. }));
    let anew = append(10, None, vec![entry(id(10, 0), EntryPayload::Blank)], None).await;
    assert!(matches!(refused(anew), Violation::Rewrites { .. }));

    let elect = async |vote, millis| {
        let message = message::encode(&Elect { vote, last_log_id: Some(next) }).unwrap();
        let time = Timestamp::from_millis(millis).unwrap();
        handle.vote(2, Front { time, shown: Bytes::new() }.before(&message).unwrap()).await
    };
    let elected = elect(Vote::new_committed(10, 2), 1).await;
    assert_eq!(refused(elected), Violation::AlreadyElected { term: 10, found: 2 });
    let (latest, found) = (9 + AHEAD, 10 + AHEAD);
    assert_eq!(refused(elect(Vote::new(found, 2), 1).await), Violation::FarAhead { latest, found });
    assert!(matches!(refused(elect(Vote::new(10, 2), 10_002).await), Violation::Clock { .. }));

    let install = async |last: LogId, members: Membership| {
        let last_membership = StoredMembership::new(Some(first), members);
        let meta = SnapshotMeta { last_log_id: Some(last), last_membership, ..SnapshotMeta::default() };
        let head = Install { vote: Vote::new_committed(10, 2), meta, shown: granted([1, 2], 2, 10) };
        let parts = [message::encode(&head).unwrap(), packed(&[b"numbereda page"]).into()];
        let parts = stream::iter(parts.map(Ok::<_, Infallible>));
        timeout(WAIT, handle.install_snapshot(2, parts)).await.expect("no answer to a snapshot")
    };
    let members: BTreeMap<u64, Member> = (1..=2).map(|id| (id, member(id))).collect();
    let right = Membership::new(vec![members.keys().copied().collect()], members);
    assert!(matches!(refused(install(next, membership).await), Violation::Members { .. }));
    assert!(matches!(refused(install(id(10, 0), right.clone()).await), Violation::Rewrites { .. }));
    assert!(matches!(refused(install(id(11, 1), right).await), Violation::WrongTerm { index: 1, .. }));

    // Who does not vote for a candidate, here for one that lacks the entry, grants it nothing.
    let behind = message::encode(&Elect { vote: Vote::new(10, 2), last_log_id: None }).unwrap();
    let (front, answer) = Front::split(handle.vote(2, in_front(&behind)).await.unwrap()).unwrap();
    let answer: Elected = message::decode(answer).unwrap();
    assert!(!answer.vote_granted && front.shown.is_empty());

    // None of it has changed anything.
    append(9, Some(first), Vec::new(), Some(first)).await.unwrap();
    let status = handle.status();
    assert_eq!((status.term, status.leader, status.last_log_index), (9, Some(2), 0));
    assert!(handle.is_healthy().await);
    server.stop(&hub).await;
}

/// What is wrong with the snapshot's bytes.
fn problem(refused: &Refusal) -> Option<SnapshotError> {
    match refused {
        Refusal::Snapshot(error) => Some(error.clone().problem()),
        _ => None,
    }
}

#[tokio::test]
async fn a_damaged_snapshot_stops_nobody() {
    let (_folder, hub, server) = alone().await;
    let handle = &server.handle;
    let leader_id = CommittedLeaderId::new(9, 2);
    let last_log_id = Some(LogId { leader_id, index: 1000 });
    let members = BTreeMap::from([(1, member(1)), (2, member(2))]);
    let membership = Membership::new(vec![members.keys().copied().collect()], members);
    let last_membership = StoredMembership::new(last_log_id, membership);
    let meta = SnapshotMeta { last_log_id, last_membership, ..SnapshotMeta::default() };
    let head = Install { vote: Vote::new_committed(9, 2), meta, shown: granted([1, 2], 2, 9) };
    let ungranted = Install { shown: granted([2], 2, 9), ..head.clone() };
    let head = message::encode(&head).unwrap();
    let whole = packed(&[b"a page of lies"]);
    let mut damaged = whole.clone();
    damaged[7] ^= 1;
    let send = async |chunks: Vec<Result<Bytes, &'static str>>| {
        handle.install_snapshot(2, stream::iter(chunks)).await.unwrap_err()
    };

    let refused = send(vec![Ok(message::encode(&ungranted).unwrap())]).await;
    assert!(matches!(refused, Refusal::Guarded(Violation::NotGranted { .. })), "{refused}");
    let refused = send(vec![Ok(head.clone()), Ok(damaged.into())]).await;
    assert!(matches!(problem(&refused), Some(SnapshotError::Checksum { .. })), "{refused}");
    let refused = send(vec![Ok(head.clone()), Err("connection lost")]).await;
    assert_eq!(refused, Refusal::BrokenOff("connection lost".into()));
    let found = CHUNK_BYTES + 1;
    let refused = send(vec![Ok(head.clone()), Ok(vec![0; found].into())]).await;
    assert_eq!(refused, Refusal::LargeChunk { expected: CHUNK_BYTES, found });
    assert!(matches!(send(Vec::new()).await, Refusal::BrokenOff(_)));
    let refused = send(vec![Ok(head.clone()), Ok(whole[..whole.len() - 1].to_vec().into())]).await;
    assert!(matches!(problem(&refused), Some(SnapshotError::Malformed(_))), "{refused}");
    let refused = send(vec![Ok(head.clone()), Ok(packed(&[b"a page", b"a lie", b"a page"]).into())]).await;
    assert!(matches!(&refused, Refusal::NotTaken(why) if why.contains("a page with a lie")), "{refused}");
    // It goes on for ever, and is given up at the first record that does not hold.
    let lie = packed(&[b"a lie"]);
    let endless = stream::iter([Ok::<_, Infallible>(head.clone())])
        .chain(stream::repeat_with(move || Ok(lie[..10].to_vec().into())));
    let refused = timeout(WAIT, handle.install_snapshot(2, endless)).await.unwrap().unwrap_err();
    assert!(matches!(refused, Refusal::NotTaken(_)), "{refused}");

    handle.propose(Bytes::from_static(b"still leading")).await.unwrap();
    server.stop(&hub).await;
}

/// A disk that can break.
struct Breaking {
    db: Database,
    broken: Arc<AtomicBool>,
}

impl Sink for Breaking {
    fn write(
        &mut self,
        ops: &mut dyn Iterator<Item = &Ops>,
        durability: Durability,
    ) -> Result<(), store::Error> {
        if self.broken.load(Ordering::SeqCst) {
            let reason = "No space left on device".into();
            return Err(store::Error::DiskFull { path: self.db.path().to_owned(), reason });
        }
        self.db.write(ops, durability)
    }

    fn flush(&mut self) -> Result<(), store::Error> {
        self.db.flush()
    }
}

/// A single leader whose log, or ledger, is on a disk that breaks.
async fn breaking(store: Store) -> (tempfile::TempDir, Handle, Arc<AtomicBool>) {
    let folder = tempfile::tempdir().unwrap();
    let broken = Arc::new(AtomicBool::new(false));
    let log = open(&folder.path().join("log"), LogStore::COLUMNS).await;
    let ledger = open(&folder.path().join("ledger"), Book::COLUMNS).await;
    let writer = |db: &Database, which: Store| {
        let broken = if which == store { Arc::clone(&broken) } else { Arc::default() };
        Writer::start_with(Breaking { db: db.clone(), broken }, which, |_| {}).unwrap().0
    };
    let book = Book::new(ledger.clone(), writer(&ledger, Store::Ledger));
    let log = LogStore::open(log.clone(), writer(&log, Store::Log), fixed_clock(1), Keep::default()).unwrap();
    let wire = Wire { from: 1, hub: Arc::default() };
    let handle = start(options(1), electorate(1, 1), log, Arc::new(book), wire).await.unwrap();
    handle.initialize(BTreeMap::from([(1, member(1))])).await.unwrap();
    lead(&handle).await;
    (folder, handle, broken)
}

#[tokio::test]
async fn a_full_disk_ends_raft_and_it_says_so() {
    for store in [Store::Log, Store::Ledger] {
        let (_folder, handle, broken) = breaking(store).await;
        handle.propose(Bytes::from_static(b"one")).await.unwrap();
        assert!(handle.is_healthy().await);
        broken.store(true, Ordering::SeqCst);
        let error = handle.propose(Bytes::from_static(b"two")).await.unwrap_err();
        assert!(matches!(error, Error::Fatal(_)), "{store:?}: {error}");
        assert!(!handle.is_healthy().await, "{store:?}");
        let mut leader = handle.watch_leader();
        timeout(WAIT, leader.wait_for(Option::is_none)).await.expect("still leads").unwrap();
        handle.shutdown().await;
    }
}

#[tokio::test]
async fn a_stopped_raft_is_not_healthy() {
    let (_folder, hub, server) = alone().await;
    let handle = server.handle.clone();
    assert!(handle.is_leader() && handle.is_healthy().await);
    assert!(!handle.watch_leader().has_changed().unwrap(), "nothing has changed since it was asked");
    server.stop(&hub).await;
    assert!(!handle.is_healthy().await);
    let refused = handle.propose(Bytes::from_static(b"late")).await;
    assert!(matches!(refused, Err(Error::Fatal(_))), "{refused:?}");
}

#[tokio::test]
async fn what_cannot_work_is_refused_at_once() {
    let (_folder, hub, server) = alone().await;
    let (expected, found) = (options(1).proposal_bytes, options(1).proposal_bytes + 1);
    let refused = server.handle.propose(vec![0; found].into()).await;
    assert_eq!(refused, Err(Error::TooLarge { expected, found }));
    server.stop(&hub).await;

    let folder = tempfile::tempdir().unwrap();
    let hub = Arc::default();
    let server = Server::start(folder.path(), 1, &hub, fixed_clock(1)).await;
    let refused = server.handle.initialize(BTreeMap::from([(2, member(2))])).await;
    assert!(matches!(refused, Err(Error::Members(_))), "{refused:?}");
    server.stop(&hub).await;

    let db = open(&folder.path().join("log"), LogStore::COLUMNS).await;
    let (writer, _) = Writer::start(db.clone(), Store::Log, |_| {}).unwrap();
    let book = Arc::new(Book::new(db.clone(), writer.clone()));
    let log = LogStore::open(db, writer, fixed_clock(1), Keep::default()).unwrap();
    let hasty = Options { heartbeat: options(1).election_max, ..options(1) };
    let refused = start(hasty, electorate(1, 1), log, book, Wire { from: 1, hub }).await;
    assert!(matches!(refused, Err(Error::Options(_))), "{refused:?}");
}
