//! Finding a leader that stamped two entries for one term and sequence.
//!
//! Raft tells entries apart by term and index alone: of two for one place it keeps the one that came first, and passes over the
//! other in silence. The heads are signed, and two of them convict their author; so an entry that comes for a place that is
//! taken is compared with the one that is there.
//!
//! # Guarantees
//!
//! What is given are two different heads of one signer for one term and sequence; whether the signatures hold is for
//! whoever hears of it to check (`only_two_heads_of_one_signer_for_one_place_are_told`). In the usual case, of entries behind the end
//! of the log, nothing is read.

use std::sync::Arc;

use fairpost_proto::cose::Signed;
use fairpost_proto::entry::{self, Head};
use openraft::EntryPayload;

use super::log_store::{Error, LogStore};
use super::types::Entry;

/// Hears of two entries for one term and sequence.
pub type Told = Arc<dyn Fn([Signed<Head>; 2]) + Send + Sync>;

/// The first of these entries of which the log has another by the same leader, with that one.
pub(super) fn find(log: &LogStore, entries: &[Entry]) -> Result<Option<[Signed<Head>; 2]>, Error> {
    for entry in entries {
        let Some(held) = log.held(entry.log_id.index)? else { continue };
        if let Some(both) = contradiction(&held, entry) {
            return Ok(Some(both));
        }
    }
    Ok(None)
}

fn contradiction(held: &Entry, found: &Entry) -> Option<[Signed<Head>; 2]> {
    let (EntryPayload::Normal(held), EntryPayload::Normal(found)) = (&held.payload, &found.payload) else {
        return None;
    };
    if held.0 == found.0 {
        return None;
    }
    let both = [&held.0, &found.0].map(|bytes| entry::Entry::parse(bytes).ok().map(|entry| entry.head));
    let [Some(first), Some(second)] = both else { return None };
    let place = |head: &Signed<Head>| (*head.signer(), head.payload().term, head.payload().sequence);
    (place(&first) == place(&second) && first.digest() != second.digest()).then_some([first, second])
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use fairpost_proto::ids::Verdict;
    use openraft::CommittedLeaderId;
    use openraft::storage::RaftLogStorageExt as _;

    use super::super::extent::Keep;
    use super::super::tests::double::{fixed_clock, open};
    use super::super::types::{LogId, Proposal};
    use super::*;
    use crate::ledger::State;
    use crate::store::{Store, Writer};
    use crate::testing::{World, after};

    #[tokio::test]
    async fn only_two_heads_of_one_signer_for_one_place_are_told() {
        let world = World::new();
        let at = |index, bytes: Vec<u8>| {
            let log_id = LogId::new(CommittedLeaderId::new(1, 1), index);
            Entry { log_id, payload: EntryPayload::Normal(Proposal(Bytes::from(bytes))) }
        };
        let entry = |leader, seconds| {
            let command = world.command(1, Verdict::Released);
            world.entry(leader, &State::empty(), after(seconds), &[command])
        };
        let folder = tempfile::tempdir().unwrap();
        let db = open(&folder.path().join("log"), LogStore::COLUMNS).await;
        let (writer, _) = Writer::start(db.clone(), Store::Log, |_| {}).unwrap();
        let mut log = LogStore::open(db, writer, fixed_clock(1), Keep::default()).unwrap();
        let blank = Entry { payload: EntryPayload::Blank, ..at(0, vec![]) };
        log.blocking_append([blank.clone(), at(1, entry(0, 10)), at(2, vec![7])]).await.unwrap();

        let told = |entries: &[Entry]| find(&log, entries).unwrap();
        let harmless = [
            at(0, entry(0, 11)),
            at(1, entry(0, 10)),
            at(1, entry(2, 11)),
            at(1, vec![7]),
            at(2, entry(0, 11)),
            at(3, entry(0, 11)),
        ];
        assert!(
            told(&harmless).is_none(),
            "nothing there, the same again, another's, no entry, or a new place"
        );
        let [held, found] = told(&[blank, at(1, entry(0, 11))]).unwrap();
        assert_eq!((held.payload().time, found.payload().time), (after(10), after(11)));
    }
}
