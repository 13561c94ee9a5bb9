//! The log under a process that is killed again and again.

use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use openraft::storage::{RaftLogStorage as _, RaftLogStorageExt as _};
use openraft::{CommittedLeaderId, EntryPayload, RaftLogReader as _};
use rand::Rng as _;

use super::double::{fixed_clock, open};
use crate::consensus::Keep;
use crate::consensus::log_store::LogStore;
use crate::consensus::types::{Entry, LogId, Proposal, Vote};
use crate::store::{Database, Durability, Error, Ops, Sink, Store, Writer};

const ROUNDS: usize = 15;
/// Tells a process of this test that it is the one to be killed, and where its log is.
const VICTIM: &str = "FAIRPOST_TEST_VICTIM";
const NAME: &str = "consensus::tests::kill::what_was_acknowledged_survives_a_kill";

/// A disk that takes its time. An acknowledgement that does not wait for it is far ahead when the kill comes.
struct Slow(Database);

impl Sink for Slow {
    fn write(&mut self, ops: &mut dyn Iterator<Item = &Ops>, durability: Durability) -> Result<(), Error> {
        thread::sleep(Duration::from_millis(3));
        self.0.write(ops, durability)
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.0.flush()
    }
}

fn entry(index: u64) -> Entry {
    let log_id = LogId::new(CommittedLeaderId::new(1, 1), index);
    let page = Bytes::from(format!("page {index}").repeat(10));
    Entry { log_id, payload: EntryPayload::Normal(Proposal(page)) }
}

async fn log(folder: &Path) -> LogStore {
    let db = open(folder, LogStore::COLUMNS).await;
    let (writer, _) = Writer::start_with(Slow(db.clone()), Store::Log, |_| {}).unwrap();
    LogStore::open(db, writer, fixed_clock(1), Keep::default()).unwrap()
}

async fn state(log: &mut LogStore) -> (Option<u64>, u64) {
    let last = log.get_log_state().await.unwrap().last_log_id.map(|last| last.index);
    (last, log.read_vote().await.unwrap().map_or(0, |vote| vote.leader_id.term))
}

/// Appends and votes, and says so, until it is killed.
async fn victim(folder: &Path) {
    let mut log = log(folder).await;
    let (last, mut term) = state(&mut log).await;
    let mut next = last.map_or(0, |last| last + 1);
    let say = |what: &str, number: u64| {
        // Not println: the test harness would hold that back.
        writeln!(std::io::stdout(), "\nacknowledged {what} {number}").unwrap();
        std::io::stdout().flush().unwrap();
    };
    loop {
        let count = rand::thread_rng().gen_range(1..4);
        log.blocking_append((next..next + count).map(entry)).await.unwrap();
        next += count;
        say("entry", next - 1);
        if rand::random() {
            term += 1;
            log.save_vote(&Vote::new(term, 1)).await.unwrap();
            say("vote", term);
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    if let Some(folder) = env::var_os(VICTIM) {
        victim(Path::new(&folder)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("log");
    let (mut entries, mut term) = (None, 0);
    for round in 0..ROUNDS {
        let mut child = Command::new(env::current_exe().unwrap())
            .args([NAME, "--exact", "--nocapture"])
            .env(VICTIM, &folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut heard = 0;
        let mut note = |line: &str| {
            let number = |what: &str| line.strip_prefix(what).map(|number| number.parse::<u64>().unwrap());
            entries = number("acknowledged entry ").or(entries);
            term = number("acknowledged vote ").unwrap_or(term);
            heard += usize::from(line.starts_with("acknowledged"));
            heard
        };
        let enough = rand::thread_rng().gen_range(1..12);
        let reached = lines.by_ref().any(|line| note(&line) >= enough);
        assert!(reached, "the victim of round {round} ended by itself");
        thread::sleep(Duration::from_micros(rand::thread_rng().gen_range(0..4000)));
        child.kill().unwrap();
        lines.for_each(|line| _ = note(&line));
        child.wait().unwrap();

        let mut log = log(&folder).await;
        let (last, voted) = state(&mut log).await;
        assert!(last >= entries, "round {round}: {entries:?} was acknowledged, {last:?} is there");
        assert!(voted >= term, "round {round}: vote {term} was acknowledged, {voted} is there");
        let found = log.try_get_log_entries(0..).await.unwrap();
        let expected: Vec<Entry> = (0..=last.unwrap()).map(entry).collect();
        assert!(found == expected, "round {round}: the entries are not those that were appended");
    }
}
