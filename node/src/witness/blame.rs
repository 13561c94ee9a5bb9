//! Blame: what members are known to have done that no honest member does, with what shows it.
//!
//! # Specification
//!
//! Two signatures of one member that contradict each other are made a proof of misconduct
//! ([`fairpost_proto::misconduct`]), which convinces everybody. A share or a signature that does not hold is kept as it
//! came; that it came from the member is known to this node alone, by the connection that the member's key opened. Nobody
//! is blamed for what another says of it.
//!
//! Whoever is blamed for anything is asked last for shares ([`super::collect`]), until an operator clears it; and whoever is convicted
//! is not followed as leader either, nor believed when it suspects one ([`Handle::watch_convicted`]). Nothing else
//! changes: what it signs goes on counting wherever the rules count it, because honest nodes learn of a misdeed at different
//! times, or never, and must agree all the same.
//!
//! # Relies on
//!
//! Whoever blames a member for bytes has them from that member, over a connection that proved its identity.
//!
//! # Guarantees
//!
//! - A conviction was verified as a judge does before it is kept ([`Handle::convict`];
//!   `votes_that_contradict_each_other_convict_and_others_do_not`).
//! - Of each member and [`Kind`], one record: the first deed with its evidence, and a count; whatever comes, there are no
//!   more (`a_flood_of_misdeeds_leaves_one_record_of_a_kind`).
//! - A first deed and a clearing are written at once, synced. Counts are written once a second, if they have grown
//!   ([`Service::run`]; `what_a_member_is_blamed_for_survives_a_restart_and_a_clearing_too`).
//! - A contradiction counts once, however often it is seen among the last [`PLACES`].

mod record;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use fairpost_proto::cbor::Writer;
use fairpost_proto::cose::Signed;
use fairpost_proto::entry::Head;
use fairpost_proto::ids::{Digest, ExchangeId, KeyId, Timestamp, Verdict};
use fairpost_proto::misconduct::{self, Act, Culprit, Misconduct};
use fairpost_proto::trust::Trust;
use fairpost_proto::view::View;
use fairpost_proto::vote::Vote;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};
use tracing::{error, info, warn};

pub use record::{Cleared, Kind, Record};

use super::metrics;
use super::service::halted;
use super::store::blamed::Change;
use super::store::{self, Store};

/// How many contradictions are remembered, so that none counts twice.
pub const PLACES: usize = 1024;
/// How often counts that have grown are written.
const EVERY: Duration = Duration::from_secs(1);
/// The most bytes of a subject.
const SUBJECT: usize = 200;
/// The most bytes that are kept of what is no share at all.
const MALFORMED: usize = 1024;

/// The node stops: what was changed last may not be on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node stops")]
pub struct Stopped;

/// What it takes to blame.
#[derive(Clone)]
pub struct Options {
    /// The cluster's genesis and views, which a proof of misconduct has in it.
    pub trust: Arc<Trust>,
    /// This node's clock.
    pub clock: fn() -> Timestamp,
}

/// What is known, and what of it is not on disk yet.
#[derive(Default)]
struct State {
    records: BTreeMap<(KeyId, Kind), Record>,
    cleared: BTreeMap<KeyId, Cleared>,
    places: Places,
    changed: BTreeSet<(KeyId, Kind)>,
    newly_cleared: BTreeSet<KeyId>,
    waiting: Vec<oneshot::Sender<()>>,
    stopped: bool,
}

/// The contradictions seen last.
#[derive(Default)]
struct Places {
    order: VecDeque<Digest>,
    all: HashSet<Digest>,
}

impl Places {
    fn add(&mut self, place: Digest) {
        if !self.all.insert(place) {
            return;
        }
        self.order.push_back(place);
        if self.order.len() > PLACES
            && let Some(oldest) = self.order.pop_front()
        {
            self.all.remove(&oldest);
        }
    }
}

struct Inner {
    options: Options,
    view: View,
    store: Store,
    state: Mutex<State>,
    urgent: Notify,
    convicted: watch::Sender<BTreeSet<u16>>,
}

/// Blames, and tells who is blamed.
#[derive(Clone)]
pub struct Handle(Arc<Inner>);

/// The task that writes it down.
pub struct Service(Arc<Inner>);

impl Service {
    /// What this store has on the members of the newest view.
    pub fn open(options: Options, store: Store) -> Result<(Self, Handle), store::Error> {
        let (records, cleared) = store.blamed()?;
        let records = records.into_iter().map(|record| ((record.member, record.kind), record));
        let state =
            State { records: records.collect(), cleared: cleared.into_iter().collect(), ..State::default() };
        let view = options.trust.view().clone();
        let (state, urgent, convicted) = (Mutex::new(state), Notify::new(), watch::Sender::default());
        let inner = Arc::new(Inner { options, view, store, state, urgent, convicted });
        inner.tell();
        for (member, index) in inner.view.members().iter().zip(0_u16..) {
            let blamed = inner.is_blamed(index);
            metrics::blamed(&member.name, blamed);
            if blamed {
                warn!(member = member.name, "is blamed from before, and asked last");
            }
        }
        Ok((Self(Arc::clone(&inner)), Handle(inner)))
    }

    /// Runs until `stop` says so, or the store fails.
    pub async fn run(self, mut stop: watch::Receiver<bool>) -> Result<(), store::Error> {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let result = loop {
            let last = tokio::select! {
                () = halted(&mut stop) => true,
                () = self.0.urgent.notified() => false,
                _ = ticks.tick() => false,
            };
            match self.write().await {
                Ok(()) if !last => {}
                result => break result,
            }
        };
        let mut state = self.0.state.lock();
        state.stopped = true;
        state.waiting.clear();
        result
    }

    /// Writes what has changed, synced and as a whole.
    async fn write(&self) -> Result<(), store::Error> {
        let (records, gone, cleared, waiting) = {
            let mut state = self.0.state.lock();
            let changed = std::mem::take(&mut state.changed);
            let (mut records, mut gone) = (Vec::new(), Vec::new());
            for key in changed {
                match state.records.get(&key) {
                    Some(record) => records.push(record.clone()),
                    None => gone.push(key),
                }
            }
            let newly = std::mem::take(&mut state.newly_cleared);
            let cleared: Vec<(KeyId, Cleared)> =
                newly.iter().filter_map(|member| Some((*member, *state.cleared.get(member)?))).collect();
            (records, gone, cleared, std::mem::take(&mut state.waiting))
        };
        let mut changes: Vec<Change<'_>> = records.iter().map(Change::Put).collect();
        changes.extend(gone.iter().map(|(member, kind)| Change::Remove(*member, *kind)));
        changes.extend(cleared.iter().map(|(member, cleared)| Change::Cleared(*member, cleared)));
        if !changes.is_empty() {
            self.0.store.blame(&changes).await?;
        }
        for waiting in waiting {
            // Whoever waited may have given up.
            let _ = waiting.send(());
        }
        Ok(())
    }
}

impl Handle {
    /// Whether the member at this index is blamed for anything.
    pub fn is_blamed(&self, member: u16) -> bool {
        self.0.is_blamed(member)
    }

    /// Tells which members, by index, are convicted by their own signatures, and not cleared.
    pub fn watch_convicted(&self) -> watch::Receiver<BTreeSet<u16>> {
        self.0.convicted.subscribe()
    }

    /// Everything that anybody is blamed for.
    pub fn records(&self) -> Vec<Record> {
        self.0.state.lock().records.values().cloned().collect()
    }

    /// Who was cleared, the last time of each.
    pub fn cleared(&self) -> Vec<(KeyId, Cleared)> {
        self.0.state.lock().cleared.iter().map(|(member, cleared)| (*member, *cleared)).collect()
    }

    /// The names of the members of the view that are blamed.
    pub fn names(&self) -> Vec<String> {
        let members = self.0.view.members().iter().zip(0_u16..);
        members.filter(|(_, index)| self.is_blamed(*index)).map(|(member, _)| member.name.clone()).collect()
    }

    /// Returns when all that was said so far is on disk.
    pub async fn flush(&self) -> Result<(), Stopped> {
        let written = {
            let mut state = self.0.state.lock();
            if state.stopped {
                return Err(Stopped);
            }
            let (sender, written) = oneshot::channel();
            state.waiting.push(sender);
            written
        };
        self.0.urgent.notify_one();
        written.await.map_err(|_| Stopped)
    }

    /// An operator has cleared a member: it is blamed for nothing that was found so far. Gives how many records that were,
    /// when it is on disk.
    pub async fn clear(&self, member: KeyId, by: KeyId) -> Result<u64, Stopped> {
        let records = {
            let mut state = self.0.state.lock();
            let kinds = Kind::ALL.into_iter().filter(|kind| state.records.contains_key(&(member, *kind)));
            let keys: Vec<(KeyId, Kind)> = kinds.map(|kind| (member, kind)).collect();
            for key in &keys {
                state.records.remove(key);
            }
            let records = keys.len() as u64;
            if records > 0 {
                state.changed.extend(keys);
                state.cleared.insert(member, Cleared { time: (self.0.options.clock)(), by, records });
                state.newly_cleared.insert(member);
            }
            records
        };
        let name = self.0.name(&member);
        warn!(member = name, %by, records, "an operator has cleared a member: it is asked as all others are");
        metrics::blamed(&name, false);
        self.0.tell();
        self.flush().await?;
        Ok(records)
    }

    /// A member sent a share that does not verify.
    pub fn share(&self, member: u16, exchange: &ExchangeId, verdict: Verdict, share: &[u8]) {
        self.sent(member, Kind::Share, format!("exchange {exchange}, {verdict}"), share);
    }

    /// A member sent what is no share at all.
    pub fn malformed_share(&self, member: u16, exchange: &ExchangeId, problem: &str, bytes: &[u8]) {
        let bytes = bytes.get(..MALFORMED).unwrap_or(bytes);
        self.sent(member, Kind::Share, format!("exchange {exchange}: {problem}"), bytes);
    }

    /// A member sent something with a signature that does not hold. It may bear another's name: whoever sent it has not
    /// checked it, or made it.
    pub fn signature(&self, sender: u16, what: String, bytes: &[u8]) {
        self.sent(sender, Kind::Vote, what, bytes);
    }

    fn sent(&self, member: u16, kind: Kind, subject: String, bytes: &[u8]) {
        let Some(member) = self.0.view.members().get(usize::from(member)) else { return };
        match kind {
            Kind::Share => metrics::invalid_share(&member.name),
            _ => metrics::invalid_vote(&member.name),
        }
        warn!(member = member.name, kind = kind.word(), subject, "is blamed, and asked last");
        self.0.keep(member.key_id(), kind, subject, bytes.to_vec());
    }

    /// A member signed these two votes, which no honest member signs both: on one size of the log, or on one entry. Both
    /// signatures hold.
    pub fn votes(&self, both: [Signed<Vote>; 2]) {
        let [first, second] = both.each_ref().map(Signed::payload);
        if first.log_size == second.log_size && first.log_root != second.log_root {
            self.convict(Act::Roots(Box::new(both)));
            return;
        }
        let signer = *both[0].signer();
        let subject = format!("entry {}", first.sequence);
        if !self.0.is_new(Kind::Ballots, &signer, &subject) {
            return;
        }
        let member = self.0.name(&signer);
        error!(member, subject, first = %first.ballot, second = %second.ballot, "a member signed two ballots for one entry");
        metrics::equivocated(&member);
        let [one, other] = both.each_ref().map(Signed::bytes);
        self.0.keep(signer, Kind::Ballots, subject, Writer::new().array(2).bytes(one).bytes(other).finish());
    }

    /// A leader stamped two entries for one term and sequence.
    pub fn entries(&self, both: [Signed<Head>; 2]) {
        self.convict(Act::Entries(Box::new(both)));
    }

    /// Keeps the proof of an act, if it is one: whoever is convicted by it is blamed. Gives whether it was new.
    pub fn convict(&self, act: Act) -> bool {
        let (kind, signer, place) = match &act {
            Act::Leaves(both) => {
                let [first, _] = &**both;
                let leaf = &first.leaf;
                (Kind::Leaves, *first.vote.signer(), format!("{} {}", leaf.exchange, leaf.round))
            }
            Act::Roots(both) => {
                let [first, _] = &**both;
                (Kind::Roots, *first.signer(), first.payload().log_size.to_string())
            }
            Act::Entries(both) => {
                let [first, _] = &**both;
                let head = first.payload();
                (Kind::Entries, *first.signer(), format!("{} {}", head.term, head.sequence))
            }
            // That a quorum lies names nobody.
            Act::Tokens(_) => return false,
        };
        if self.0.state.lock().places.all.contains(&place_of(kind, &signer, &place)) {
            return false;
        }
        // Read again from its bytes: that is all that a judge will have.
        let proof = Misconduct::new((*self.0.options.trust).clone(), act).to_bytes();
        let judged =
            Misconduct::parse(&proof).and_then(|proof| misconduct::verify(&proof, &self.0.options.trust));
        let conviction = match judged {
            Ok(conviction) => conviction,
            Err(problem) => {
                info!(kind = kind.word(), %signer, %problem, "what looked like misconduct convicts nobody");
                return false;
            }
        };
        let Culprit::Member { name, identity, .. } = conviction.culprit else { return false };
        if !self.0.is_new(kind, &signer, &place) {
            return false;
        }
        let (subject, first, second) = (conviction.subject, conviction.first, conviction.second);
        error!(
            member = name,
            subject, first, second, "a member is convicted by its own signatures; the proof is kept"
        );
        metrics::equivocated(&name);
        self.0.keep(identity, kind, subject, proof);
        true
    }
}

impl Inner {
    fn is_blamed(&self, member: u16) -> bool {
        let Some(member) = self.view.members().get(usize::from(member)) else { return false };
        let key = member.key_id();
        let state = self.state.lock();
        state.records.range((key, Kind::Leaves)..).next().is_some_and(|((held, _), _)| *held == key)
    }

    fn name(&self, member: &KeyId) -> String {
        self.view.member_by_key(*member).map_or_else(|| member.to_string(), |(_, member)| member.name.clone())
    }

    /// Whether a contradiction was not seen lately; from now on it was.
    fn is_new(&self, kind: Kind, signer: &KeyId, place: &str) -> bool {
        let place = place_of(kind, signer, place);
        let mut state = self.state.lock();
        let new = !state.places.all.contains(&place);
        state.places.add(place);
        new
    }

    fn keep(&self, member: KeyId, kind: Kind, subject: String, evidence: Vec<u8>) {
        let now = (self.options.clock)();
        let first = {
            let mut state = self.state.lock();
            let mut first = false;
            let record = state.records.entry((member, kind)).or_insert_with(|| {
                first = true;
                let subject = short(subject);
                Record { member, kind, first: now, last: now, count: 0, subject, evidence }
            });
            (record.last, record.count) = (now, record.count.saturating_add(1));
            state.changed.insert((member, kind));
            first
        };
        if first {
            metrics::blamed(&self.name(&member), true);
            self.tell();
            self.urgent.notify_one();
        }
    }

    /// Says who is convicted now.
    fn tell(&self) {
        let convicted = {
            let state = self.state.lock();
            let proven = state.records.keys().filter(|(_, kind)| kind.is_transferable());
            proven.filter_map(|(member, _)| Some(self.view.member_by_key(*member)?.0)).collect()
        };
        self.convicted.send_if_modified(|last| std::mem::replace(last, convicted) != *last);
    }
}

fn place_of(kind: Kind, signer: &KeyId, place: &str) -> Digest {
    Digest::of(format!("{} {signer} {place}", kind.word()).as_bytes())
}

fn short(mut text: String) -> String {
    let mut end = text.len().min(SUBJECT);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests;
