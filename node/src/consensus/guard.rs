//! What is checked of a message before openraft sees it.
//!
//! # Specification
//!
//! openraft believes its peers. So a message from a peer is refused here unless
//!
//! - the member that really sent it is the node that its vote names: nobody speaks for another;
//! - a leader's message comes with a vote that says it is elected, a candidate's with one that says it is not;
//! - its entries follow the entry that they say they follow, one by one, and none is of a later term than the
//!   leader's own: a log has no hole and never runs ahead of its leader;
//! - a snapshot does not go beyond its leader's term either;
//! - no term and no index is beyond [`MAX_NUMBER`]: openraft counts on from what it is told, and would overflow;
//! - a leader's message shows the grants of a majority for its term, and names no members but the view's
//!   (`grants`);
//! - no entry is stamped further ahead of this node's clock than the skew, and no candidate's clock is further away
//!   from it ([`clocks`](super::clocks)).
//!
//! These rules need nothing but the message. Others need what this node knows:
//!
//! - a candidate's term is at most [`AHEAD`] beyond this node's own, and so is one that an answer names: nobody uses up
//!   all terms;
//! - an answer claims no entry beyond those that were sent;
//! - an answer that names a later term is believed if others bear it out, and one member alone ever more seldom; nor may a
//!   member call elections one after the other (`pace`);
//! - a leader that `f + 1` members suspect is not followed in that term, and gets no vote for a while; a member that is convicted
//!   is never followed (`suspicion`);
//! - who leads, and has heard from a majority within its lease, is not voted away: openraft has only followers keep to the
//!   lease, so that one call would depose any leader (test `a_call_deposes_no_leader`);
//! - nothing in the message contradicts the order of what is committed here: what stands before it is of no later
//!   leader, and what stands behind it of no earlier one. openraft takes a commitment of a later term for a later one
//!   whatever its index, and panics when it applies from there (test `a_false_leader_does_not_stop_raft`). What is
//!   committed is read just before openraft gets the message; were it to grow in between, openraft could still meet
//!   the contradiction.
//!
//! Others are not here yet: consecutive sequences and times in the entries themselves; suspicion of whoever breaks a rule.
//!
//! # Relies on
//!
//! `from` is who the connection proved the sender to be.

use fairpost_proto::entry;
use fairpost_proto::ids::{Span, Timestamp};
use openraft::EntryPayload;

use super::message::{Append, Appended, Elect, Elected, Install};
use super::types::{LogId, Vote};

/// The greatest term and index that is taken. No cluster gets there by counting.
pub const MAX_NUMBER: u64 = 1 << 62;

/// How far a term may be beyond this node's own: a cluster without a majority calls an election a second for twelve days
/// until then.
pub const AHEAD: u64 = 1 << 20;

/// The rule that a message breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The sender is not the node that the message's vote names.
    #[error("the message of node {found} speaks for node {expected}")]
    NotTheSender {
        /// The node that the vote names.
        expected: u64,
        /// The sender.
        found: u64,
    },
    /// A leader's message has a vote of a candidate.
    #[error("node {found} sends as leader of term {term}, but its vote does not say that it is elected")]
    NotElected {
        /// Its term.
        term: u64,
        /// The sender.
        found: u64,
    },
    /// A candidate's message has a vote of a leader.
    #[error("node {found} asks for votes in term {term} with a vote that says it is elected")]
    AlreadyElected {
        /// Its term.
        term: u64,
        /// The sender.
        found: u64,
    },
    /// A term or an index is one that nobody gets to by counting.
    #[error("{what} is {found}, at most {MAX_NUMBER} expected")]
    TooGreat {
        /// Which number.
        what: &'static str,
        /// The number.
        found: u64,
    },
    /// A term is far beyond this node's own.
    #[error("the term is {found}, and at most {latest} expected")]
    FarAhead {
        /// The latest that is taken.
        latest: u64,
        /// The term.
        found: u64,
    },
    /// Somebody speaks of a node that is no member.
    #[error("node {found} is no member of this view")]
    NoMember {
        /// The number.
        found: u64,
    },
    /// A grant is none, or for another election.
    #[error("{0}")]
    Grant(String),
    /// A leader does not show that a majority elected it.
    #[error("node {node} shows {found} grants for term {term}, and leads with {expected}")]
    NotGranted {
        /// The term.
        term: u64,
        /// The leader.
        node: u64,
        /// A majority.
        expected: usize,
        /// The grants shown.
        found: usize,
    },
    /// A leader names other members than the view.
    #[error("the members are {found}, and not the view's")]
    Members {
        /// Those named.
        found: String,
    },
    /// A follower claims an entry that was not sent to it.
    #[error("entry {found} is said to be stored, and none after {sent} was sent")]
    NotSent {
        /// The last that was sent.
        sent: String,
        /// The answer's.
        found: String,
    },
    /// An entry does not follow the one before it.
    #[error("entry {expected} expected, {found} found")]
    NotConsecutive {
        /// The index that comes next.
        expected: u64,
        /// The entry's.
        found: u64,
    },
    /// An entry would stand on the wrong side of what is committed here.
    #[error("entry {found} contradicts entry {committed}, up to which everything is committed here")]
    Rewrites {
        /// The last entry that is committed.
        committed: String,
        /// The message's.
        found: String,
    },
    /// Terms go back along the log, or beyond the leader's.
    #[error("entry {index} is of {found}, after {last}, from a leader of {leader}")]
    WrongTerm {
        /// The entry's index.
        index: u64,
        /// The entry's leader.
        found: String,
        /// The leader of the entry before.
        last: String,
        /// The sender's own.
        leader: String,
    },
    /// A leader is suspected in its term.
    #[error("node {node} is not followed in term {term}: {found} members suspect it, or did")]
    Suspected {
        /// The leader.
        node: u64,
        /// Its term.
        term: u64,
        /// Who suspects it now.
        found: usize,
    },
    /// A member was dropped as leader lately.
    #[error("node {node} did nothing as leader, and gets no vote for {left_millis} ms")]
    Dropped {
        /// The member.
        node: u64,
        /// For how long.
        left_millis: u128,
    },
    /// A member is convicted of misconduct.
    #[error("node {node} is convicted of misconduct, and must not lead")]
    Convicted {
        /// The member.
        node: u64,
    },
    /// A member calls elections one after the other.
    #[error("node {node} calls elections too often, and gets no vote for {left_millis} ms")]
    TooSoon {
        /// The member.
        node: u64,
        /// For how long.
        left_millis: u128,
    },
    /// A member alone says that there was a later term.
    #[error("node {node} names term {term}, and is not believed alone")]
    Claimed {
        /// The term.
        term: u64,
        /// The member.
        node: u64,
    },
    /// A follower says that a term is later, and it is not.
    #[error("the later term named is {found}, after {sent}")]
    NotLater {
        /// What was sent.
        sent: String,
        /// The answer's.
        found: String,
    },
    /// An entry is stamped too far ahead of this node's clock.
    #[error(
        "entry {index} is stamped {found}, and by this node's clock and the skew it may be {latest} at most; which clock is wrong?"
    )]
    Ahead {
        /// The entry's index.
        index: u64,
        /// This node's clock and the skew.
        latest: Timestamp,
        /// The entry's time.
        found: Timestamp,
    },
    /// A candidate's clock is too far from this node's.
    #[error(
        "the candidate's clock shows {theirs} and this node's {ours}, more than {skew} apart; which clock is wrong?"
    )]
    Clock {
        /// This node's clock.
        ours: Timestamp,
        /// The candidate's clock.
        theirs: Timestamp,
        /// How far they may be apart.
        skew: Span,
    },
}

/// Checks that a term is not far beyond `own`.
pub(super) fn check_ahead(own: u64, found: u64) -> Result<(), Violation> {
    let latest = own.saturating_add(AHEAD).min(MAX_NUMBER);
    if found > latest { Err(Violation::FarAhead { latest, found }) } else { Ok(()) }
}

/// Checks what a follower says to these entries.
pub(super) fn check_appended(request: &Append, answer: &Appended) -> Result<(), Violation> {
    match answer {
        Appended::HigherVote(vote) => {
            check_ahead(request.vote.leader_id.term, vote.leader_id.term)?;
            let (sent, found) = (request.vote.leader_id, vote.leader_id);
            let not_later = Violation::NotLater { sent: sent.to_string(), found: found.to_string() };
            if found > sent { Ok(()) } else { Err(not_later) }
        }
        Appended::PartialSuccess(found) => {
            let sent = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
            if *found <= sent {
                return Ok(());
            }
            let shown = |id: &Option<LogId>| id.map_or("the first".to_owned(), |id| id.to_string());
            Err(Violation::NotSent { sent: shown(&sent), found: shown(found) })
        }
        Appended::Success | Appended::Conflict => Ok(()),
    }
}

/// Checks what a voter says to a candidate.
pub(super) fn check_elected(request: &Elect, answer: &Elected) -> Result<(), Violation> {
    check_numbers("the voter's last entry", answer.last_log_id.as_ref())?;
    check_ahead(request.vote.leader_id.term, answer.vote.leader_id.term)
}

/// Checks that no entry is stamped later than `latest`.
pub(super) fn check_times(request: &Append, latest: Timestamp) -> Result<(), Violation> {
    for entry in &request.entries {
        // What is no entry of the ledger's has no time, and changes nothing.
        if let EntryPayload::Normal(proposal) = &entry.payload
            && let Some(found) = entry::stamped(&proposal.0).filter(|found| *found > latest)
        {
            return Err(Violation::Ahead { index: entry.log_id.index, latest, found });
        }
    }
    Ok(())
}

/// Checks entries, or a heartbeat, of a leader.
pub(super) fn check_append(from: u64, request: &Append) -> Result<(), Violation> {
    elected(from, &request.vote)?;
    check_numbers("the entry committed", request.leader_commit.as_ref())?;
    let mut last = request.prev_log_id;
    check_term(&request.vote, None, last.as_ref())?;
    for entry in &request.entries {
        let found = entry.log_id.index;
        let next = last.map_or(Some(0), |last| last.index.checked_add(1));
        if next != Some(found) {
            return Err(Violation::NotConsecutive { expected: next.unwrap_or(u64::MAX), found });
        }
        check_term(&request.vote, last.as_ref(), Some(&entry.log_id))?;
        last = Some(entry.log_id);
    }
    Ok(())
}

/// Checks that entries, or a heartbeat, leave what is committed in its place.
pub(super) fn check_history(committed: Option<&LogId>, request: &Append) -> Result<(), Violation> {
    let entries = request.entries.iter().map(|entry| &entry.log_id);
    entries
        .chain(&request.prev_log_id)
        .chain(&request.leader_commit)
        .try_for_each(|id| in_order(committed, id))
}

/// Checks that a snapshot leaves what is committed in its place.
pub(super) fn check_replaced(committed: Option<&LogId>, request: &Install) -> Result<(), Violation> {
    request.meta.last_log_id.iter().try_for_each(|id| in_order(committed, id))
}

fn in_order(committed: Option<&LogId>, found: &LogId) -> Result<(), Violation> {
    let Some(committed) = committed else { return Ok(()) };
    let (before, at) = (found.leader_id.cmp(&committed.leader_id), found.index.cmp(&committed.index));
    // The log is in order of leaders as well as of indexes.
    if (before.is_gt() && at.is_le()) || (before.is_lt() && at.is_ge()) {
        return Err(Violation::Rewrites { committed: committed.to_string(), found: found.to_string() });
    }
    Ok(())
}

/// Checks a candidate's call.
pub(super) fn check_vote(from: u64, request: &Elect) -> Result<(), Violation> {
    sender(from, &request.vote)?;
    if request.vote.committed {
        return Err(Violation::AlreadyElected { term: request.vote.leader_id.term, found: from });
    }
    check_term(&request.vote, None, request.last_log_id.as_ref())
}

/// Checks what a leader says of a snapshot.
pub(super) fn check_install(from: u64, request: &Install) -> Result<(), Violation> {
    elected(from, &request.vote)?;
    let last = request.meta.last_log_id.as_ref();
    let membership = request.meta.last_membership.log_id();
    check_numbers("the membership's entry", membership.as_ref())?;
    check_term(&request.vote, membership.as_ref(), last)
}

fn bounded(what: &'static str, found: u64) -> Result<(), Violation> {
    if found > MAX_NUMBER { Err(Violation::TooGreat { what, found }) } else { Ok(()) }
}

fn check_numbers(what: &'static str, entry: Option<&LogId>) -> Result<(), Violation> {
    let Some(entry) = entry else { return Ok(()) };
    bounded(what, entry.index)?;
    bounded(what, entry.leader_id.term)
}

fn sender(from: u64, vote: &Vote) -> Result<(), Violation> {
    bounded("the term", vote.leader_id.term)?;
    match vote.leader_id.node_id {
        expected if expected != from => Err(Violation::NotTheSender { expected, found: from }),
        _ => Ok(()),
    }
}

fn elected(from: u64, vote: &Vote) -> Result<(), Violation> {
    sender(from, vote)?;
    let not_elected = Violation::NotElected { term: vote.leader_id.term, found: from };
    if vote.committed { Ok(()) } else { Err(not_elected) }
}

/// The entry's leader comes not before `last`'s and not after the sender.
fn check_term(vote: &Vote, last: Option<&LogId>, entry: Option<&LogId>) -> Result<(), Violation> {
    let Some(entry) = entry else { return Ok(()) };
    check_numbers("the entry's number", Some(entry))?;
    let last = last.map(|last| last.leader_id).unwrap_or_default();
    if entry.leader_id < last || entry.leader_id > vote.leader_id {
        return Err(Violation::WrongTerm {
            index: entry.index,
            found: entry.leader_id.to_string(),
            last: last.to_string(),
            leader: vote.leader_id.to_string(),
        });
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;
    use openraft::{CommittedLeaderId, EntryPayload};

    use super::super::types::{Entry, Proposal, SnapshotMeta, StoredMembership};
    use super::*;

    fn log_id(term: u64, index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(term, 2), index)
    }

    fn append(previous: Option<LogId>, entries: &[LogId]) -> Append {
        let entries = entries.iter().map(|log_id| Entry { log_id: *log_id, payload: EntryPayload::Blank });
        Append {
            vote: Vote::new_committed(3, 2),
            prev_log_id: previous,
            entries: entries.collect(),
            leader_commit: None,
        }
    }

    #[test]
    fn what_an_honest_leader_and_candidate_send_passes() {
        let entries = [log_id(1, 8), log_id(3, 9), log_id(3, 10)];
        assert_eq!(check_append(2, &append(Some(log_id(1, 7)), &entries)), Ok(()));
        assert_eq!(check_append(2, &append(None, &[log_id(0, 0), log_id(1, 1)])), Ok(()));
        assert_eq!(check_append(2, &append(Some(log_id(3, 7)), &[])), Ok(()));
        let elect = Elect { vote: Vote::new(4, 2), last_log_id: Some(log_id(3, 9)) };
        assert_eq!(check_vote(2, &elect), Ok(()));
    }

    #[test]
    fn answers_claim_nothing_that_was_not_sent() {
        let sent = append(Some(log_id(1, 7)), &[log_id(3, 8)]);
        let claim = |id| check_appended(&sent, &Appended::PartialSuccess(id));
        assert_eq!(claim(Some(log_id(3, 8))), Ok(()));
        assert_eq!(claim(None), Ok(()));
        assert!(matches!(claim(Some(log_id(3, 9))), Err(Violation::NotSent { .. })));
        assert!(matches!(
            check_appended(&append(None, &[]), &Appended::PartialSuccess(Some(log_id(1, 1)))),
            Err(Violation::NotSent { .. })
        ));
        let higher = |term| check_appended(&sent, &Appended::HigherVote(Vote::new(term, 1)));
        assert_eq!(higher(3 + AHEAD), Ok(()));
        let (latest, found) = (3 + AHEAD, u64::MAX);
        assert_eq!(higher(found), Err(Violation::FarAhead { latest, found }));
        let asked = Elect { vote: Vote::new(3, 2), last_log_id: None };
        let voted = |term| Elected { vote: Vote::new(term, 1), vote_granted: false, last_log_id: None };
        assert_eq!(check_elected(&asked, &voted(4)), Ok(()));
        assert_eq!(check_elected(&asked, &voted(found)), Err(Violation::FarAhead { latest, found }));
        assert_eq!(check_ahead(MAX_NUMBER, MAX_NUMBER), Ok(()));
        check_ahead(MAX_NUMBER, MAX_NUMBER + 1).unwrap_err();
    }

    /// An entry that a leader stamped with this time.
    pub(in crate::consensus) fn stamped(log_id: LogId, millis: u64) -> Entry {
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        let batch = entry::write_batch(&[]);
        let head = entry::Head {
            cluster: fairpost_proto::ids::ClusterId::new([1; 32]),
            epoch: 0,
            term: 3,
            sequence: 1,
            previous: fairpost_proto::ids::Digest::new([0; 32]),
            time: Timestamp::from_millis(millis).unwrap(),
            batch: fairpost_proto::ids::Digest::of(&batch),
        };
        let signer = fairpost_proto::chain::key_id(&key.verifying_key());
        let head = fairpost_proto::cose::Signed::sign(head, signer, &key);
        let payload = EntryPayload::Normal(Proposal(entry::write(&head, &batch).into()));
        Entry { log_id, payload }
    }

    #[test]
    fn an_entry_from_the_future_is_not_stored() {
        let stamped = |millis| stamped(log_id(3, 9), millis);
        let latest = Timestamp::from_millis(70_000).unwrap();
        let mut request = append(Some(log_id(3, 7)), &[log_id(3, 8)]);
        request.entries.push(stamped(70_000));
        assert_eq!(check_times(&request, latest), Ok(()));
        request.entries.pop();
        request.entries.push(stamped(70_001));
        let found = Timestamp::from_millis(70_001).unwrap();
        let ahead = Err(Violation::Ahead { index: 9, latest, found });
        assert_eq!(check_times(&request, latest), ahead);
        request.entries.push(Entry { log_id: log_id(3, 10), payload: EntryPayload::Blank });
        assert_eq!(check_times(&request, latest), ahead, "whatever follows it");
        request.entries.pop();
        // What is no entry of the ledger's has no time.
        request.entries.pop();
        let payload = EntryPayload::Normal(Proposal(bytes::Bytes::from_static(b"no entry")));
        request.entries.push(Entry { log_id: log_id(3, 9), payload });
        assert_eq!(check_times(&request, latest), Ok(()));
    }

    #[test]
    fn nobody_speaks_for_another() {
        let refused = Err(Violation::NotTheSender { expected: 2, found: 1 });
        assert_eq!(check_append(1, &append(None, &[])), refused);
        assert_eq!(check_vote(1, &Elect { vote: Vote::new(4, 2), last_log_id: None }), refused);
        let install =
            Install { vote: Vote::new_committed(3, 2), meta: SnapshotMeta::default(), shown: Bytes::new() };
        assert_eq!(check_install(1, &install), refused);
    }

    #[test]
    fn leaders_are_elected_and_candidates_are_not() {
        let unelected = Append { vote: Vote::new(3, 2), ..append(None, &[]) };
        assert_eq!(check_append(2, &unelected), Err(Violation::NotElected { term: 3, found: 2 }));
        let elected = Elect { vote: Vote::new_committed(3, 2), last_log_id: None };
        assert_eq!(check_vote(2, &elected), Err(Violation::AlreadyElected { term: 3, found: 2 }));
        let unelected = Install { vote: Vote::new(3, 2), meta: SnapshotMeta::default(), shown: Bytes::new() };
        assert_eq!(check_install(2, &unelected), Err(Violation::NotElected { term: 3, found: 2 }));
    }

    #[test]
    fn entries_leave_no_hole() {
        let hole = append(Some(log_id(1, 7)), &[log_id(1, 8), log_id(1, 10)]);
        assert_eq!(check_append(2, &hole), Err(Violation::NotConsecutive { expected: 9, found: 10 }));
        let start = append(None, &[log_id(1, 1)]);
        assert_eq!(check_append(2, &start), Err(Violation::NotConsecutive { expected: 0, found: 1 }));
    }

    #[test]
    fn numbers_from_which_openraft_could_not_count_on_are_refused() {
        let refused = |what, found| Err(Violation::TooGreat { what, found });
        let entry = "the entry's number";
        let end = append(Some(log_id(1, u64::MAX)), &[log_id(1, 0)]);
        assert_eq!(check_append(2, &end), refused(entry, u64::MAX));
        let beat = append(Some(log_id(1, MAX_NUMBER + 1)), &[]);
        assert_eq!(check_append(2, &beat), refused(entry, MAX_NUMBER + 1));
        let commit = Append { leader_commit: Some(log_id(1, u64::MAX)), ..append(None, &[]) };
        assert_eq!(check_append(2, &commit), refused("the entry committed", u64::MAX));
        let term = Append { vote: Vote::new_committed(u64::MAX, 2), ..append(None, &[]) };
        assert_eq!(check_append(2, &term), refused("the term", u64::MAX));
        let elect = |term, index| Elect { vote: Vote::new(term, 2), last_log_id: Some(log_id(1, index)) };
        assert_eq!(check_vote(2, &elect(u64::MAX, 1)), refused("the term", u64::MAX));
        assert_eq!(check_vote(2, &elect(3, u64::MAX)), refused(entry, u64::MAX));
        assert_eq!(check_vote(2, &elect(MAX_NUMBER, MAX_NUMBER)), Ok(()));
        let meta = SnapshotMeta { last_log_id: Some(log_id(1, u64::MAX)), ..Default::default() };
        let install = Install { vote: Vote::new_committed(3, 2), meta, shown: Bytes::new() };
        assert_eq!(check_install(2, &install), refused(entry, u64::MAX));
        let commit = Append { leader_commit: Some(log_id(u64::MAX, 1)), ..append(None, &[]) };
        assert_eq!(check_append(2, &commit), refused("the entry committed", u64::MAX));
        let last_membership = StoredMembership::new(Some(log_id(1, u64::MAX)), Default::default());
        let meta = SnapshotMeta { last_membership, ..Default::default() };
        let install = Install { vote: Vote::new_committed(3, 2), meta, shown: Bytes::new() };
        assert_eq!(check_install(2, &install), refused("the membership's entry", u64::MAX));
        let asked = elect(3, 1);
        for id in [log_id(u64::MAX, 1), log_id(1, u64::MAX)] {
            let voted = Elected { vote: Vote::new(3, 1), vote_granted: false, last_log_id: Some(id) };
            assert_eq!(check_elected(&asked, &voted), refused("the voter's last entry", u64::MAX));
        }
    }

    #[test]
    fn what_is_committed_stays_in_its_place() {
        let committed = log_id(2, 7);
        let check = |id: LogId| check_history(Some(&committed), &append(Some(id), &[]));
        for id in [log_id(2, 7), log_id(1, 6), log_id(2, 3), log_id(2, 9), log_id(3, 8)] {
            assert_eq!(check(id), Ok(()), "{id}");
            assert_eq!(check_history(None, &append(Some(id), &[])), Ok(()));
        }
        for id in [log_id(3, 7), log_id(3, 0), log_id(1, 7), log_id(1, 8)] {
            assert!(matches!(check(id), Err(Violation::Rewrites { .. })), "{id}");
            let commit = Append { leader_commit: Some(id), ..append(None, &[]) };
            assert!(check_history(Some(&committed), &commit).is_err(), "{id}");
            assert!(check_history(Some(&committed), &append(None, &[id])).is_err(), "{id}");
            let meta = SnapshotMeta { last_log_id: Some(id), ..Default::default() };
            let install = Install { vote: Vote::new_committed(3, 2), meta, shown: Bytes::new() };
            assert!(check_replaced(Some(&committed), &install).is_err(), "{id}");
        }
    }

    #[test]
    fn terms_go_neither_back_nor_beyond_the_leader() {
        let wrong = |checked: Result<(), Violation>| match checked {
            Err(Violation::WrongTerm { index, .. }) => Some(index),
            _ => None,
        };
        assert_eq!(wrong(check_append(2, &append(Some(log_id(2, 7)), &[log_id(1, 8)]))), Some(8));
        assert_eq!(wrong(check_append(2, &append(Some(log_id(2, 7)), &[log_id(4, 8)]))), Some(8));
        assert_eq!(wrong(check_append(2, &append(Some(log_id(4, 7)), &[]))), Some(7));
        let elect = Elect { vote: Vote::new(4, 2), last_log_id: Some(log_id(5, 9)) };
        assert_eq!(wrong(check_vote(2, &elect)), Some(9));
        let last_membership = StoredMembership::new(Some(log_id(2, 3)), Default::default());
        let mut meta = SnapshotMeta { last_membership, ..Default::default() };
        meta.last_log_id = Some(log_id(1, 9));
        let vote = Vote::new_committed(3, 2);
        assert_eq!(
            wrong(check_install(2, &Install { vote, meta: meta.clone(), shown: Bytes::new() })),
            Some(9)
        );
        meta.last_log_id = Some(log_id(4, 9));
        assert_eq!(wrong(check_install(2, &Install { vote, meta, shown: Bytes::new() })), Some(9));
    }
}
