//! Doubles: a machine that keeps a book of all proposals, and a network within the process.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use fairpost_proto::ids::{Span, Timestamp};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::consensus::clocks::Agreement;
use crate::consensus::grants::tests::electorate;
use crate::consensus::log_store::{Clock, LogStore};
use crate::consensus::machine::{
    self, Applied, Committed, Machine, Records, Sink, Snapshot, Snapshots, Source, Staged,
};
use crate::consensus::message::{self, Append, Appended, Elected, Front};
use crate::consensus::transport::{Error, Transport};
use crate::consensus::types::Vote;
use crate::consensus::{Handle, Keep, Member, Options, start};
use crate::store::{self, Column, Database, Durability, Memory, Ops, Order, Store, Writer};

const PAGES: Column = Column::new("pages");
const META: Column = Column::new("meta");

/// A machine that writes each proposal on a page of its own. The outcome is the proposal's number.
pub(in crate::consensus) struct Book {
    db: Database,
    writer: store::Handle,
    applied: watch::Sender<u64>,
}

fn failed(error: store::Error) -> machine::Error {
    machine::Error::new("keeping the book", error)
}

impl Book {
    pub(in crate::consensus) const COLUMNS: &'static [Column] = &[PAGES, META];

    pub(in crate::consensus) fn new(db: Database, writer: store::Handle) -> Self {
        Self { db, writer, applied: watch::Sender::new(0) }
    }

    /// All proposals, in their order.
    pub(in crate::consensus) fn pages(&self) -> Vec<Bytes> {
        let pages = self.db.range(PAGES, &[], None, Order::Ascending).unwrap();
        pages.map(|page| Bytes::from(page.unwrap().1)).collect()
    }

    /// Waits until the book has this page.
    pub(in crate::consensus) async fn wait_for(&self, page: &[u8]) {
        let mut applied = self.applied.subscribe();
        let there = async {
            while !self.pages().iter().any(|found| found == page) {
                applied.changed().await.unwrap();
            }
        };
        let what = String::from_utf8_lossy(page);
        tokio::time::timeout(WAIT, there).await.unwrap_or_else(|_| panic!("{what} did not come"));
    }
}

impl Machine for Book {
    async fn apply(&self, entries: Vec<Committed>) -> Result<Vec<Bytes>, machine::Error> {
        let mut outcomes = Vec::new();
        for entry in entries {
            let mut ops = Ops::new();
            ops.put(META, "position", entry.position);
            if let Some(membership) = entry.membership {
                ops.put(META, "membership", membership);
            }
            outcomes.push(match entry.proposal {
                Some(page) => {
                    let outcome = Bytes::from(format!("done: {}", String::from_utf8_lossy(&page)));
                    ops.put(PAGES, entry.index.to_be_bytes(), page);
                    outcome
                }
                None => Bytes::new(),
            });
            self.writer.write(ops, Durability::Buffered).await.map_err(failed)?;
        }
        self.applied.send_modify(|count| *count += 1);
        Ok(outcomes)
    }

    fn applied(&self) -> Result<Applied, machine::Error> {
        let read = |key: &str| self.db.get(META, key).map(|value| value.map(Bytes::from)).map_err(failed);
        Ok(Applied { position: read("position")?, membership: read("membership")? })
    }

    fn snapshot(&self) -> Result<Snapshot, machine::Error> {
        let view = self.db.view();
        let read = |key: &str| view.get(META, key).map(|value| value.map(Bytes::from)).map_err(failed);
        let applied = Applied { position: read("position")?, membership: read("membership")? };
        let pages = view.range(PAGES, &[], None, Order::Ascending).map_err(failed)?;
        let pages = pages.map(|page| page.map(|(key, page)| [key, page].concat()));
        let pages = pages.collect::<Result<_, _>>().map_err(failed)?;
        Ok(Snapshot { applied, source: Arc::new(Pages(pages)) })
    }

    async fn sync(&self) -> Result<(), machine::Error> {
        self.writer.write(Ops::new(), Durability::Synced).await.map_err(failed)
    }
}

/// The pages of one moment.
struct Pages(Vec<Vec<u8>>);

impl Source for Pages {
    fn read(&self, sink: &mut Sink<'_>) -> Result<(), machine::Error> {
        self.0.iter().try_for_each(|page| sink(page))
    }
}

impl Snapshots for Book {
    fn stage(
        &self,
        applied: Applied,
        mut records: Records,
    ) -> BoxFuture<'_, Result<Box<dyn Staged>, machine::Error>> {
        Box::pin(async move {
            let mut pages = Vec::new();
            while let Some(page) = records.next().await? {
                if page.ends_with(b"lie") {
                    return Err(machine::Error::new("taking a snapshot", "it has a page with a lie"));
                }
                pages.push(page);
            }
            let (writer, done) = (self.writer.clone(), self.applied.clone());
            Ok(Box::new(Copied { applied, pages, writer, done }) as Box<dyn Staged>)
        })
    }
}

/// Another book's pages.
struct Copied {
    applied: Applied,
    pages: Vec<Bytes>,
    writer: store::Handle,
    done: watch::Sender<u64>,
}

impl Staged for Copied {
    fn install(self: Box<Self>) -> BoxFuture<'static, Result<(), machine::Error>> {
        Box::pin(async move {
            let mut ops = Ops::new();
            ops.delete_range(PAGES, [], [0xff; 9]).delete_range(META, [], [0xff; 9]);
            for (key, value) in [("position", self.applied.position), ("membership", self.applied.membership)]
            {
                if let Some(value) = value {
                    ops.put(META, key, value);
                }
            }
            for mut record in self.pages {
                let key = record.split_to(8);
                ops.put(PAGES, key, record);
            }
            self.writer.write(ops, Durability::Synced).await.map_err(failed)?;
            self.done.send_modify(|count| *count += 1);
            Ok(())
        })
    }
}

/// How long a test waits for what must come.
pub(in crate::consensus) const WAIT: Duration = Duration::from_secs(60);

/// Any time; the same always.
pub(in crate::consensus) fn fixed_clock(millis: u64) -> Clock {
    Arc::new(move || Timestamp::from_millis(millis).unwrap())
}

/// The message as it travels at the fixed time 1, with nothing shown.
pub(in crate::consensus) fn in_front(message: &Bytes) -> Bytes {
    shown_in_front(Bytes::new(), message)
}

/// The same, with these grants shown.
pub(in crate::consensus) fn shown_in_front(shown: Bytes, message: &Bytes) -> Bytes {
    Front { time: fixed_clock(1)(), shown }.before(message).unwrap()
}

/// Who can reach whom in this process.
pub(in crate::consensus) struct Hub {
    /// How many may vote.
    size: u64,
    nodes: Mutex<BTreeMap<u64, Handle>>,
    cut: Mutex<BTreeSet<u64>>,
    mute: Mutex<BTreeSet<u64>>,
    silent: Mutex<BTreeSet<(u64, u64)>>,
    boasts: Mutex<BTreeMap<u64, u64>>,
}

impl Default for Hub {
    fn default() -> Self {
        Self::of(2)
    }
}

impl Hub {
    /// For a cluster of this size.
    pub(in crate::consensus) fn of(size: u64) -> Self {
        Self {
            size,
            nodes: Mutex::default(),
            cut: Mutex::default(),
            mute: Mutex::default(),
            silent: Mutex::default(),
            boasts: Mutex::default(),
        }
    }

    fn reach(&self, from: u64, to: u64) -> Result<Handle, Error> {
        let cut = self.cut.lock();
        let node = self.nodes.lock().get(&to).cloned();
        let silent = self.silent.lock().contains(&(from, to));
        let node = node.filter(|_| !cut.contains(&from) && !cut.contains(&to) && !silent);
        node.ok_or_else(|| Error::Unreachable(format!("node {to} is not there")))
    }

    /// From now on no message reaches this node or comes from it.
    pub(in crate::consensus) fn cut(&self, node: u64) {
        self.cut.lock().insert(node);
    }

    /// From now on this node, as leader, sends heartbeats, and no entry.
    pub(in crate::consensus) fn mute(&self, node: u64) {
        self.mute.lock().insert(node);
    }

    /// From now on `from` sends nothing to `to`.
    pub(in crate::consensus) fn silence(&self, from: u64, to: u64) {
        self.silent.lock().insert((from, to));
    }

    /// From now on this node answers to each leader that there was a later term, and to each candidate, each later
    /// than the last, from this one on.
    pub(in crate::consensus) fn boast(&self, node: u64, term: u64) {
        self.boasts.lock().insert(node, term);
    }

    /// The term that this node claims now.
    pub(in crate::consensus) fn boasted(&self, node: u64) -> Option<u64> {
        let mut boasts = self.boasts.lock();
        let term = boasts.get_mut(&node)?;
        *term += 1;
        Some(*term)
    }

    /// The node is there again.
    pub(in crate::consensus) fn join(&self, node: u64) {
        self.cut.lock().remove(&node);
    }
}

/// One node's end of the hub.
#[derive(Clone)]
pub(in crate::consensus) struct Wire {
    pub(in crate::consensus) from: u64,
    pub(in crate::consensus) hub: Arc<Hub>,
}

impl Wire {
    /// The heartbeat that a mute leader makes of entries.
    fn without_entries(&self, request: &Bytes) -> Option<Bytes> {
        if !self.hub.mute.lock().contains(&self.from) {
            return None;
        }
        let (front, message) = Front::split(request.clone()).unwrap();
        let append: Append = message::decode(message).unwrap();
        let beat = Append { entries: Vec::new(), ..append };
        Some(front.before(&message::encode(&beat).unwrap()).unwrap())
    }
}

impl Transport for Wire {
    async fn append_entries(&self, to: u64, _: &Member, request: Bytes) -> Result<Bytes, Error> {
        if let Some(beat) = self.without_entries(&request) {
            // The follower hears it; what it answers is true of a message that the leader never sent.
            let _ = self.hub.reach(self.from, to)?.append_entries(self.from, beat).await;
            return Err(Error::Unreachable("mute".into()));
        }
        if let Some(term) = self.hub.boasted(to) {
            let boast = message::encode(&Appended::HigherVote(Vote::new(term, to))).unwrap();
            return Ok(in_front(&boast));
        }
        let answer = self.hub.reach(self.from, to)?.append_entries(self.from, request).await;
        answer.map_err(|refusal| Error::Refused(refusal.to_string()))
    }

    async fn vote(&self, to: u64, _: &Member, request: Bytes) -> Result<Bytes, Error> {
        if let Some(term) = self.hub.boasted(to) {
            let vote = Vote::new(term, to);
            let boast = Elected { vote, vote_granted: false, last_log_id: None };
            return Ok(in_front(&message::encode(&boast).unwrap()));
        }
        let answer = self.hub.reach(self.from, to)?.vote(self.from, request).await;
        answer.map_err(|refusal| Error::Refused(refusal.to_string()))
    }

    async fn install_snapshot(
        &self,
        to: u64,
        _: &Member,
        chunks: BoxStream<'static, Bytes>,
    ) -> Result<Bytes, Error> {
        let chunks = chunks.map(Ok::<_, Infallible>);
        let answer = self.hub.reach(self.from, to)?.install_snapshot(self.from, chunks).await;
        answer.map_err(|refusal| Error::Refused(refusal.to_string()))
    }
}

/// Options with which a leader is found soon, but not in a hurry: tests share their machine with others.
pub(in crate::consensus) fn options(id: u64) -> Options {
    Options {
        heartbeat: Duration::from_millis(100),
        election_min: Duration::from_millis(400),
        election_max: Duration::from_millis(800),
        proposal_timeout: Duration::from_secs(3),
        agreement: Agreement { skew: Span::from_seconds(10), ..Agreement::NONE },
        ..Options::new(id)
    }
}

/// A member's name and address.
pub(in crate::consensus) fn member(id: u64) -> Member {
    Member { name: format!("node-{id}"), address: format!("node-{id}.example:7400") }
}

/// Opens a database, waiting while the last user lets go of it.
pub(in crate::consensus) async fn open(path: &Path, columns: &[Column]) -> Database {
    let open = async {
        loop {
            match Database::open(path, columns, &Memory::new(8 << 20)) {
                Err(store::Error::InUse { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
                opened => break opened.unwrap(),
            }
        }
    };
    tokio::time::timeout(WAIT, open).await.expect("nobody lets go of the database")
}

/// One running node.
pub(in crate::consensus) struct Server {
    pub(in crate::consensus) handle: Handle,
    pub(in crate::consensus) book: Arc<Book>,
    writers: Vec<(store::Handle, JoinHandle<Result<(), store::Error>>)>,
}

impl Server {
    /// Starts the node that has its data here.
    pub(in crate::consensus) async fn start(folder: &Path, id: u64, hub: &Arc<Hub>, clock: Clock) -> Self {
        Self::keeping(folder, id, hub, clock, Keep::default()).await
    }

    /// Starts the node that has its data here, and keeps so much of the log.
    pub(in crate::consensus) async fn keeping(
        folder: &Path,
        id: u64,
        hub: &Arc<Hub>,
        clock: Clock,
        keep: Keep,
    ) -> Self {
        let log = open(&folder.join("log"), LogStore::COLUMNS).await;
        let ledger = open(&folder.join("ledger"), Book::COLUMNS).await;
        let log_writer = Writer::start(log.clone(), Store::Log, |_| {}).unwrap();
        let ledger_writer = Writer::start(ledger.clone(), Store::Ledger, |_| {}).unwrap();
        let log = LogStore::open(log, log_writer.0.clone(), clock, keep).unwrap();
        let book = Arc::new(Book::new(ledger, ledger_writer.0.clone()));
        let wire = Wire { from: id, hub: Arc::clone(hub) };
        let electorate = electorate(id, hub.size);
        let handle = start(options(id), electorate, log, Arc::clone(&book), wire).await.unwrap();
        hub.nodes.lock().insert(id, handle.clone());
        Self { handle, book, writers: vec![log_writer, ledger_writer] }
    }

    /// Stops the node.
    pub(in crate::consensus) async fn stop(self, hub: &Hub) {
        hub.nodes.lock().remove(&self.handle.id());
        self.handle.shutdown().await;
        for (writer, thread) in self.writers {
            writer.close().await;
            thread.join().unwrap().unwrap();
        }
    }
}
