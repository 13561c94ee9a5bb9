//! A log that is purged, and nodes that come back behind it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::CommittedLeaderId;
use parking_lot::Mutex;
use rand::RngCore as _;
use tokio::sync::watch;
use tokio::time::timeout;

use super::double::{Hub, Server, WAIT, fixed_clock, in_front, member, options};
use crate::consensus::message::{self, Elect};
use crate::consensus::purge::{self, Needed};
use crate::consensus::types::{LogId, Vote};
use crate::consensus::{Error, Handle, Keep, Refusal};

const LITTLE: Keep = Keep { bytes: 64 << 10, time: Duration::from_secs(3600) };

/// From where on the log is needed.
#[derive(Default)]
struct From(Mutex<Option<u64>>);

impl Needed for From {
    fn needed(&self) -> Result<Option<u64>, String> {
        Ok(*self.0.lock())
    }
}

/// Purges this node's log, as long as what is returned lives.
fn purging(handle: &Handle, needed: &Arc<From>) -> watch::Sender<bool> {
    let (stop, stopped) = watch::channel(false);
    let needed = Arc::clone(needed) as Arc<dyn Needed>;
    tokio::spawn(purge::Service::new(purge::Options { consensus: handle.clone(), needed }).run(stopped));
    stop
}

async fn purged(handle: &Handle, least: u64) -> u64 {
    let far = |index: Option<u64>| index.is_some_and(|index| index >= least);
    let wait = handle.raft().wait(Some(WAIT));
    let now = wait.metrics(|now| far(now.purged.map(|id| id.index)), "a purged log").await.unwrap();
    now.purged.unwrap().index
}

async fn propose(servers: &[&Server], page: Bytes) {
    let proposed = async {
        loop {
            for server in servers {
                match server.handle.propose(page.clone()).await {
                    Ok(_) => return,
                    Err(Error::NotLeader { .. } | Error::Unavailable { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(WAIT, proposed).await.expect("nobody took the proposal");
}

fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|file| file.len()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_too_large_is_purged_and_its_space_given_back() {
    let (folder, hub) = (tempfile::tempdir().unwrap(), Arc::default());
    let server = Server::keeping(folder.path(), 1, &hub, fixed_clock(1), LITTLE).await;
    server.handle.initialize(BTreeMap::from([(1, member(1))])).await.unwrap();
    for number in 0..80_u32 {
        let mut page = vec![0; 256 << 10];
        rand::thread_rng().fill_bytes(&mut page);
        propose(&[&server], [&number.to_be_bytes()[..], &page].concat().into()).await;
    }
    let log = folder.path().join("log");
    assert!(bytes_in(&log) > 20 << 20, "{}", bytes_in(&log));
    let needed = Arc::new(From(Mutex::new(Some(40))));
    let purging = purging(&server.handle, &needed);
    assert_eq!(purged(&server.handle, 1).await, 39, "what is needed stays");
    assert_eq!(server.handle.first_seen(39).unwrap(), None);
    assert!(server.handle.first_seen(40).unwrap().is_some());
    *needed.0.lock() = None;
    purged(&server.handle, 80).await;
    let given_back = async {
        while bytes_in(&log) > 4 << 20 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(WAIT, given_back).await.unwrap_or_else(|_| panic!("{} bytes are left", bytes_in(&log)));
    drop(purging);
    // Behind a purged log a node starts again and goes on.
    let pages = server.book.pages();
    server.stop(&hub).await;
    let server = Server::keeping(folder.path(), 1, &hub, fixed_clock(1), LITTLE).await;
    assert_eq!(server.book.pages(), pages);
    propose(&[&server], Bytes::from_static(b"one more")).await;
    server.stop(&hub).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_entries_are_purged_whatever_their_size() {
    let (folder, hub) = (tempfile::tempdir().unwrap(), Arc::default());
    let now = Arc::new(Mutex::new(1_000_000));
    let clock = {
        let now = Arc::clone(&now);
        Arc::new(move || fairpost_proto::ids::Timestamp::from_millis(*now.lock()).unwrap())
    };
    let keep = Keep { bytes: 0, time: Duration::from_secs(60) };
    let server = Server::keeping(folder.path(), 1, &hub, clock, Keep { bytes: 1 << 30, ..keep }).await;
    server.handle.initialize(BTreeMap::from([(1, member(1))])).await.unwrap();
    propose(&[&server], Bytes::from_static(b"old")).await;
    let _purging = purging(&server.handle, &Arc::default());
    *now.lock() += 60_001;
    purged(&server.handle, 1).await;
    server.stop(&hub).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_ledger_behind_the_log_takes_no_part_until_it_is_back() {
    let (folder, hub) = (tempfile::tempdir().unwrap(), Arc::new(Hub::of(3)));
    let path = |id: u64| folder.path().join(id.to_string());
    let start = async |id: u64| {
        std::fs::create_dir_all(path(id)).unwrap();
        Server::keeping(&path(id), id, &hub, fixed_clock(1), Keep { bytes: 0, ..LITTLE }).await
    };
    let mut servers = Vec::new();
    for id in 1..=3 {
        servers.push(start(id).await);
    }
    let members: BTreeMap<_, _> = (1..=3).map(|id| (id, member(id))).collect();
    for server in &servers {
        server.handle.initialize(members.clone()).await.unwrap();
    }
    for page in ["one", "two", "three"] {
        propose(&servers.iter().collect::<Vec<_>>(), page.into()).await;
    }
    for server in &servers {
        server.book.wait_for(b"three").await;
        let last = server.handle.status().applied_index;
        let _purging = purging(&server.handle, &Arc::default());
        purged(&server.handle, last.min(3)).await;
    }

    // The leader is the worst to lose it: openraft would lead again at once, with an empty log.
    let leader = servers.iter().position(|server| server.handle.is_leader()).unwrap_or(0);
    let lost = servers.remove(leader);
    let (id, pages) = (lost.handle.id(), lost.book.pages());
    lost.stop(&hub).await;
    std::fs::remove_dir_all(path(id).join("ledger")).unwrap();
    hub.cut(id);
    for _ in 0..2 {
        let lost = start(id).await;
        assert!(lost.handle.recovering().is_some());
        assert!(lost.book.pages().is_empty() && !lost.handle.is_leader());
        let elect = Elect {
            vote: Vote::new(1000, 9),
            last_log_id: Some(LogId { leader_id: CommittedLeaderId::new(999, 9), index: 1000 }),
        };
        let vote = lost.handle.vote(9, in_front(&message::encode(&elect).unwrap())).await;
        assert!(matches!(vote, Err(Refusal::Recovering(_))), "{vote:?}");
        // It does not stand for election either, however long nobody leads: and starts so again.
        let term =
            async || lost.handle.raft().with_raft_state(|raft| raft.vote_ref().leader_id.term).await.unwrap();
        let before = term().await;
        assert!(before > 0, "its vote is kept");
        tokio::time::sleep(options(id).election_max * 3).await;
        assert_eq!(term().await, before);
        lost.stop(&hub).await;
    }
    let others: Vec<&Server> = servers.iter().collect();
    propose(&others, "four".into()).await;
    hub.join(id);
    let lost = start(id).await;
    lost.book.wait_for(b"four").await;
    assert_eq!(lost.book.pages()[..pages.len()], pages);
    let back = async {
        while lost.handle.recovering().is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(WAIT, back).await.expect("still not back");
    // And is what it was: one of the others may go.
    let gone = servers.remove(0);
    gone.stop(&hub).await;
    propose(&[&servers[0], &lost], "five".into()).await;
    lost.stop(&hub).await;
    servers.remove(0).stop(&hub).await;
}
