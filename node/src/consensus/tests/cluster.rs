//! Clusters of nodes in one process, each with its own data on disk.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::timeout;

use super::double::{Hub, Server, WAIT, fixed_clock, member};
use crate::consensus::{Error, Leader, Member};

pub(super) struct Cluster {
    folder: tempfile::TempDir,
    pub(super) hub: Arc<Hub>,
    pub(super) servers: BTreeMap<u64, Server>,
    size: u64,
}

impl Cluster {
    /// A cluster of this size, of which these nodes are started.
    pub(super) async fn start(size: u64, started: impl IntoIterator<Item = u64>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = Self { folder, hub: Arc::new(Hub::of(size)), servers: BTreeMap::new(), size };
        for id in started {
            cluster.start_node(id).await;
        }
        for server in cluster.servers.values() {
            server.handle.initialize(cluster.members()).await.unwrap();
        }
        cluster
    }

    fn members(&self) -> BTreeMap<u64, Member> {
        (1..=self.size).map(|id| (id, member(id))).collect()
    }

    fn path(&self, id: u64) -> PathBuf {
        let path = self.folder.path().join(id.to_string());
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    async fn start_node(&mut self, id: u64) {
        let server = Server::start(&self.path(id), id, &self.hub, fixed_clock(id)).await;
        self.servers.insert(id, server);
    }

    async fn stop_node(&mut self, id: u64) {
        self.servers.remove(&id).unwrap().stop(&self.hub).await;
    }

    /// Proposes to whoever leads, again and again until that is done.
    pub(super) async fn propose(&self, page: &str) {
        let page = Bytes::copy_from_slice(page.as_bytes());
        let proposed = async {
            loop {
                for server in self.servers.values() {
                    match server.handle.propose(page.clone()).await {
                        Ok(outcome) => {
                            assert_eq!(outcome, [b"done: ", &page[..]].concat());
                            return;
                        }
                        Err(Error::NotLeader { .. } | Error::Unavailable { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        timeout(WAIT, proposed).await.expect("nobody took the proposal");
    }

    /// Waits until each node has the page, and then has the same book.
    pub(super) async fn agree(&self, last: &str) -> Vec<Bytes> {
        for server in self.servers.values() {
            server.book.wait_for(last.as_bytes()).await;
        }
        let books: Vec<_> = self.servers.values().map(|server| server.book.pages()).collect();
        assert!(books.windows(2).all(|pair| pair[0] == pair[1]), "the books differ: {books:?}");
        books.into_iter().next().unwrap()
    }

    /// Waits for a leader that this node believes in.
    pub(super) async fn leader(&self, believer: u64, not: Option<u64>) -> Leader {
        let mut leader = self.servers[&believer].handle.watch_leader();
        let other = leader.wait_for(|leader| leader.as_ref().is_some_and(|leader| Some(leader.id) != not));
        timeout(WAIT, other).await.expect("no leader").unwrap().clone().unwrap()
    }

    pub(super) async fn stop(mut self) {
        for id in 1..=self.size {
            if self.servers.contains_key(&id) {
                self.stop_node(id).await;
            }
        }
    }
}

/// In a book, a proposal that was made twice counts once.
fn distinct(pages: &[Bytes]) -> Vec<&[u8]> {
    let mut seen = Vec::new();
    for page in pages {
        if !seen.contains(&&page[..]) {
            seen.push(&page[..]);
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_elects_a_leader_and_replicates() {
    let cluster = Cluster::start(3, 1..=3).await;
    for page in ["one", "two", "three"] {
        cluster.propose(page).await;
    }
    assert_eq!(distinct(&cluster.agree("three").await), [&b"one"[..], b"two", b"three"]);
    for server in cluster.servers.values() {
        assert!(server.handle.is_healthy().await);
        // A second call is a node that starts again: it changes nothing.
        server.handle.initialize(cluster.members()).await.unwrap();
    }
    cluster.propose("four").await;
    assert_eq!(distinct(&cluster.agree("four").await).len(), 4);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_names_the_leader_and_where_it_is() {
    let cluster = Cluster::start(3, 1..=3).await;
    let named = async {
        loop {
            let leader = cluster.leader(1, None).await;
            let follower = if leader.id == 2 { 3 } else { 2 };
            let believed = cluster.leader(follower, None).await;
            match cluster.servers[&follower].handle.propose(Bytes::from_static(b"page")).await {
                Err(Error::NotLeader { leader: Some(named) }) if named == believed => break named,
                // An election came in between.
                _ => {}
            }
        }
    };
    let named = timeout(WAIT, named).await.unwrap();
    assert_eq!(named.member, Some(member(named.id)));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_survives_its_leader() {
    let mut cluster = Cluster::start(4, 1..=4).await;
    cluster.propose("before").await;
    cluster.agree("before").await;
    let first = cluster.leader(1, None).await.id;
    cluster.stop_node(first).await;
    cluster.propose("without").await;
    let witness = if first == 1 { 2 } else { 1 };
    let second = cluster.leader(witness, Some(first)).await.id;
    assert_ne!(first, second);
    cluster.agree("without").await;
    // The old leader comes back with its old log, and catches up.
    cluster.start_node(first).await;
    cluster.propose("after").await;
    assert_eq!(distinct(&cluster.agree("after").await), [&b"before"[..], b"without", b"after"]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nothing_is_confirmed() {
    let cluster = Cluster::start(3, 1..=3).await;
    cluster.propose("together").await;
    cluster.agree("together").await;
    for id in 1..=3 {
        cluster.hub.cut(id);
    }
    for server in cluster.servers.values() {
        let refused = server.handle.propose(Bytes::from_static(b"alone")).await.unwrap_err();
        let alone = matches!(refused, Error::NotLeader { .. } | Error::Unavailable { .. });
        assert!(alone, "{refused}");
        assert!(!server.book.pages().iter().any(|page| page == "alone"), "applied without a majority");
        assert!(server.handle.is_healthy().await, "alone, but not broken");
    }
    for id in 1..=3 {
        cluster.hub.join(id);
    }
    cluster.propose("together again").await;
    cluster.agree("together again").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_starts_again_with_all_that_it_had() {
    let mut cluster = Cluster::start(1, [1]).await;
    cluster.propose("one").await;
    cluster.propose("two").await;
    let before = cluster.servers[&1].book.pages();
    let seen = |cluster: &Cluster, index| cluster.servers[&1].handle.first_seen(index).unwrap();
    let first = seen(&cluster, 1);
    assert_eq!(first.map(|time| time.millis()), Some(1));
    cluster.stop_node(1).await;
    cluster.start_node(1).await;
    assert_eq!(cluster.servers[&1].book.pages(), before);
    assert_eq!(seen(&cluster, 1), first);
    cluster.propose("three").await;
    assert_eq!(distinct(&cluster.agree("three").await), [&b"one"[..], b"two", b"three"]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_lost_by_the_ledger_are_applied_again_from_the_log() {
    let mut cluster = Cluster::start(1, [1]).await;
    cluster.propose("one").await;
    cluster.propose("two").await;
    let before = cluster.servers[&1].book.pages();
    cluster.stop_node(1).await;
    std::fs::remove_dir_all(cluster.path(1).join("ledger")).unwrap();
    cluster.start_node(1).await;
    cluster.propose("three").await;
    let after = cluster.agree("three").await;
    assert_eq!(after[..before.len()], before);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_far_behind_gets_a_snapshot() {
    let mut cluster = Cluster::start(3, 1..=2).await;
    let large = "x".repeat(1 << 20);
    for page in ["one", &large, "three"] {
        cluster.propose(page).await;
    }
    cluster.agree("three").await;
    for server in cluster.servers.values() {
        let raft = server.handle.raft();
        raft.trigger().snapshot().await.unwrap();
        let last = raft.metrics().borrow().last_applied.unwrap();
        let wait = raft.wait(Some(WAIT));
        let made = wait.metrics(|now| now.snapshot >= Some(last), "a snapshot").await.unwrap();
        raft.trigger().purge_log(made.snapshot.unwrap().index).await.unwrap();
        raft.wait(Some(WAIT)).metrics(|now| now.purged == made.snapshot, "a purged log").await.unwrap();
    }
    cluster.start_node(3).await;
    cluster.propose("four").await;
    let pages = cluster.agree("four").await;
    assert_eq!(distinct(&pages), [&b"one"[..], large.as_bytes(), b"three", b"four"]);
    // Metrics come a moment after what they tell of.
    let wait = cluster.servers[&3].handle.raft().wait(Some(WAIT));
    wait.metrics(|now| now.snapshot.is_some(), "the first entries from a snapshot").await.unwrap();
    // What came by snapshot stays as well.
    cluster.stop_node(3).await;
    cluster.start_node(3).await;
    cluster.propose("five").await;
    assert_eq!(distinct(&cluster.agree("five").await).len(), 5);
    cluster.stop().await;
}
