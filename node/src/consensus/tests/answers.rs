//! A member that answers what no honest one does, to a candidate and to a leader.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use openraft::CommittedLeaderId;
use tokio::sync::watch;
use tokio::time::timeout;

use super::double::{Book, WAIT, fixed_clock, member, open, options, shown_in_front};
use crate::consensus::grants::tests::{electorate, granted};
use crate::consensus::log_store::LogStore;
use crate::consensus::message::{self, Append, Appended, Elect, Elected, Front};
use crate::consensus::transport::{Error, Transport};
use crate::consensus::types::{LogId, Vote};
use crate::consensus::{Keep, Member, start};
use crate::store::{Store, Writer};

/// What it says.
#[derive(Clone, Copy, PartialEq)]
enum Lie {
    /// It votes without a grant.
    Ungranted,
    /// It votes with the grant of another term.
    OtherGrant,
    /// It has voted in the last of all terms.
    LastTerm,
    /// It grants the vote, and has then heard of a leader in the last of all terms.
    HigherVote,
    /// It grants the vote, and has an entry then that it was never sent.
    NeverSent,
}

/// The way to the liar, which counts what it is asked.
#[derive(Clone)]
struct Liar {
    lie: Lie,
    asked: Arc<watch::Sender<usize>>,
}

impl Transport for Liar {
    async fn append_entries(&self, _: u64, _: &Member, request: Bytes) -> Result<Bytes, Error> {
        let (_, request) = Front::split(request).unwrap();
        let request: Append = message::decode(request).unwrap();
        let own = request.vote.leader_id;
        let answer = match self.lie {
            Lie::NeverSent => Appended::PartialSuccess(Some(LogId::new(
                CommittedLeaderId::new(own.term, own.node_id),
                1 << 40,
            ))),
            _ => Appended::HigherVote(Vote::new_committed(u64::MAX, 2)),
        };
        self.asked.send_modify(|asked| *asked += 1);
        Ok(shown_in_front(Bytes::new(), &message::encode(&answer).unwrap()))
    }

    async fn vote(&self, _: u64, _: &Member, request: Bytes) -> Result<Bytes, Error> {
        let (_, request) = Front::split(request).unwrap();
        let Elect { vote, .. } = message::decode(request).unwrap();
        let term = vote.leader_id.term;
        let (vote, shown) = match self.lie {
            Lie::LastTerm => (Vote::new(u64::MAX, 2), Bytes::new()),
            Lie::Ungranted => (vote, Bytes::new()),
            Lie::OtherGrant => (vote, granted([2], 1, term + 1).slice(1 + 8 + 4..)),
            Lie::HigherVote | Lie::NeverSent => (vote, granted([2], 1, term).slice(1 + 8 + 4..)),
        };
        let answer = Elected { vote, vote_granted: self.lie != Lie::LastTerm, last_log_id: None };
        self.asked.send_modify(|asked| *asked += 1);
        Ok(shown_in_front(shown, &message::encode(&answer).unwrap()))
    }

    async fn install_snapshot(
        &self,
        _: u64,
        _: &Member,
        _: BoxStream<'static, Bytes>,
    ) -> Result<Bytes, Error> {
        Err(Error::Unreachable("it takes no snapshot".into()))
    }
}

/// Asks the liar so often for what it says; whether this node led in the end, and its term.
async fn told(lie: Lie, times: usize) -> (Option<u64>, u64) {
    let folder = tempfile::tempdir().unwrap();
    let log = open(&folder.path().join("log"), LogStore::COLUMNS).await;
    let ledger = open(&folder.path().join("ledger"), Book::COLUMNS).await;
    let (log_writer, _) = Writer::start(log.clone(), Store::Log, |_| {}).unwrap();
    let (ledger_writer, _) = Writer::start(ledger.clone(), Store::Ledger, |_| {}).unwrap();
    let log = LogStore::open(log, log_writer, fixed_clock(1), Keep::default()).unwrap();
    let book = Arc::new(Book::new(ledger, ledger_writer));
    let (asked, mut asks) = watch::channel(0);
    let liar = Liar { lie, asked: Arc::new(asked) };
    let handle = start(options(1), electorate(1, 2), log, book, liar).await.unwrap();
    let members: BTreeMap<u64, Member> = (1..=2).map(|id| (id, member(id))).collect();
    handle.initialize(members).await.unwrap();
    timeout(WAIT, asks.wait_for(|asked| *asked >= times)).await.expect("nothing more is asked").unwrap();
    assert!(handle.is_healthy().await);
    let status = handle.status();
    handle.shutdown().await;
    (status.leader, status.term)
}

#[tokio::test]
async fn an_answer_that_breaks_a_rule_makes_no_leader_and_uses_up_no_terms() {
    for lie in [Lie::Ungranted, Lie::OtherGrant, Lie::LastTerm] {
        let (leader, term) = told(lie, 3).await;
        assert_eq!(leader, None);
        assert!(term < 100, "{term}");
    }
}

#[tokio::test]
async fn a_leader_is_not_deposed_by_a_term_out_of_reach_and_counts_no_entry_that_it_did_not_send() {
    for lie in [Lie::HigherVote, Lie::NeverSent] {
        let (leader, term) = told(lie, 6).await;
        assert_eq!(leader, Some(1));
        assert!(term < 100, "{term}");
    }
}
