//! The witness at work: follows the ledger, votes, collects votes, certifies, and gives shares.
//!
//! It has no rules of its own: [`super::rules`] says what may be signed, [`super::tally`] what counts, and
//! [`super::store`] has it on disk before it is signed or told. After a start it signs nothing until enough members have told what
//! they hold of it (`inquiry`); it counts and certifies meanwhile.
//!
//! One task ([`Service`]) votes, counts, certifies, acknowledges and states, so there is no order to get wrong: it takes the
//! ledger's new entries, and votes and acknowledgements as they come in, and asks for those that are missing. Shares are
//! given by whoever asks the [`Handle`], from what the store has; it changes nothing but what is kept in memory.

mod handle;
mod inquiry;
mod later;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use fairpost_proto::cose::Signed as Cose;
use fairpost_proto::ids::{ExchangeId, Timestamp, Verdict};
use fairpost_proto::leaf::{Leaf, Round};
use fairpost_proto::round::Acknowledgement;
use fairpost_proto::view::View;
use fairpost_proto::vote::Vote;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tracing::{debug, error, info, warn};

use super::blame;
use super::metrics;
use super::refusals::{Asked, Refusals};
use super::rules::{self, Log, Refusal, Seen};
use super::store::{self, Standing, Store};
use super::tally::{self, Counted, Leaves, Problem, Tally};
use crate::ledger::{Block, Exchange};
use crate::membership::KeySource;
use crate::store::Ledger;
use waiting::Waiting;

/// How many entries' tallies are kept in memory once they are complete; older ones are read from the store.
const KEPT: usize = 256;
/// How many entries are voted on with one sync.
const BATCH: usize = 64;
/// How long votes may be missing before they are asked for.
const PATIENCE: Duration = Duration::from_millis(200);
/// How many votes may wait to be counted.
const QUEUE: usize = 4096;

/// Why there is no share or certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The rules forbid it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// This server does not sign: its share is closed.
    #[error("this server does not sign: {0}")]
    Closed(String),
    /// The witness store fails.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The ledger fails.
    #[error(transparent)]
    Ledger(#[from] crate::store::Error),
}

/// A vote as it came, not yet checked.
#[derive(Clone, Debug)]
pub struct Received {
    /// The signed vote.
    pub vote: Cose<Vote>,
    /// The leaves that it is said to be for, as bytes.
    pub leaves: Vec<u8>,
}

impl std::convert::From<&Counted> for Received {
    fn from(counted: &Counted) -> Self {
        Self { vote: counted.vote.clone(), leaves: counted.leaves.as_bytes().to_vec() }
    }
}

/// Something, and the index of the member that sent it, which need not be its author.
type From<T> = (u16, T);

/// How the witness reaches the other members.
pub trait Peers: Send + Sync + 'static {
    /// Sends votes to all others. May drop them: whoever misses them asks.
    fn cast(&self, votes: Vec<Received>);
    /// Sends acknowledgements to all others. May drop them, too.
    fn acknowledge(&self, acknowledgements: Vec<Cose<Acknowledgement>>);
    /// Asks these members for the votes that they have on an entry, and for the acknowledgements of its leaves; answers come
    /// through [`Handle::receive`] and [`Handle::receive_acknowledgements`].
    fn ask(&self, members: Vec<u16>, sequence: u64);
    /// Asks a member for the object with the highest number that it holds of this member's; none if it holds none. The
    /// error says why there is no answer, for the log.
    fn newest(&self, member: u16) -> BoxFuture<'static, Result<Option<Vec<u8>>, String>>;
}

/// When this node first saw an entry: from the log.
pub trait FirstSeen: Send + Sync + 'static {
    /// The time at which the entry at this index was first in this node's log; none if that is not known.
    fn first_seen(&self, index: u64) -> Option<Timestamp>;
}

/// What the witness needs.
pub struct Options {
    /// The view.
    pub view: Arc<View>,
    /// This member's index.
    pub index: u16,
    /// This member's identity key.
    pub identity: Arc<SigningKey>,
    /// This member's share.
    pub share: Box<dyn KeySource + Sync>,
    /// What the ledger has decided.
    pub ledger: Ledger,
    /// When entries were first seen.
    pub log: Arc<dyn FirstSeen>,
    /// The others.
    pub peers: Arc<dyn Peers>,
    /// Who is blamed for what.
    pub blame: blame::Handle,
    /// This node's clock.
    pub clock: fn() -> Timestamp,
    /// How many entries' tallies may be in memory that lack a certificate. Beyond that the oldest are dropped for which nobody
    /// waits; whoever asks for one again has its votes collected anew.
    pub incomplete: usize,
}

struct Inner {
    options: Options,
    store: Store,
    /// Changed by the one task, and never opened again once it is closed.
    standing: Mutex<Standing>,
    /// The highest number that each other member holds of this server, of those that have told since the start.
    told: Mutex<BTreeMap<u16, u64>>,
    /// A roll-back that is not on disk yet.
    unwritten: Mutex<Option<(u64, u64)>>,
    received: mpsc::Sender<From<Received>>,
    acknowledged: mpsc::Sender<From<Cose<Acknowledgement>>>,
    asked: mpsc::Sender<later::Ask>,
    refusals: Refusals,
    /// Who waits for an exchange's certificate.
    waiting: Waiting,
    /// The last entry all of whose leaves are certified.
    certified: watch::Sender<u64>,
    tallies: Mutex<HashMap<u64, Tally>>,
    /// Since when entries that lack something are known here.
    since: Mutex<HashMap<u64, Instant>>,
}

/// Asks the witness.
#[derive(Clone)]
pub struct Handle(Arc<Inner>);

/// The task that votes and counts.
pub struct Service {
    inner: Arc<Inner>,
    received: mpsc::Receiver<From<Received>>,
    acknowledged: mpsc::Receiver<From<Cose<Acknowledgement>>>,
    asked: mpsc::Receiver<later::Ask>,
    /// Votes on entries that this node has not decided yet, by sequence.
    early: BTreeMap<u64, Vec<From<Received>>>,
}

impl Service {
    /// A witness over this store.
    pub fn new(options: Options, store: Store, standing: Standing) -> (Self, Handle) {
        let (sender, received) = mpsc::channel(QUEUE);
        let (acknowledger, acknowledged) = mpsc::channel(QUEUE);
        let (asker, asked) = mpsc::channel(QUEUE);
        if let Standing::Lost { expected, found } = &standing {
            error!(
                expected,
                ?found,
                "the witness store that the share is bound to is gone: this node serves and signs nothing"
            );
        }
        if let Standing::RolledBack { own, found } = &standing {
            error!(own, found, "this node was rolled back: it serves and signs nothing");
        }
        let standing = match standing {
            Standing::Open => inquiry::begin(options.view.quorum()),
            closed => closed,
        };
        let (waiting, certified, tallies) = (Waiting::default(), watch::Sender::new(0), Mutex::default());
        let inner = Arc::new(Inner {
            options,
            store,
            standing: Mutex::new(standing),
            told: Mutex::default(),
            unwritten: Mutex::default(),
            received: sender,
            acknowledged: acknowledger,
            asked: asker,
            refusals: Refusals::default(),
            waiting,
            certified,
            tallies,
            since: Mutex::default(),
        });
        let handle = Handle(Arc::clone(&inner));
        metrics::share_usable(handle.may_sign());
        (Self { inner, received, acknowledged, asked, early: BTreeMap::new() }, handle)
    }

    /// Runs until `stop` says so or the store fails.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), Error> {
        let mut ledger = self.inner.options.ledger.watch();
        let mut next = self.inner.store.last_chosen()? + 1;
        self.resume(next).await?;
        let mut inquiry = self.inner.inquire();
        let mut repair = tokio::time::interval(PATIENCE);
        repair.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let last = *ledger.borrow_and_update();
            self.inner.write_roll_back().await?;
            // Entries first: a vote on an entry that is not decided here can't be counted.
            if self.inner.is_waiting() {
                // They stay to be voted on, and what others have voted is counted.
                let due = self.due(last);
                let touched = self.count(due)?;
                self.certify(touched).await?;
            } else {
                while next <= last {
                    next = self.skip(next, last);
                    next = self.vote(next, last).await?;
                }
            }
            tokio::select! {
                () = halted(&mut stop) => break,
                changed = ledger.changed() => if changed.is_err() { break },
                Some((member, answer)) = inquiry.next() => {
                    if self.inner.hear(member, answer)? {
                        let touched = self.inner.add_own_votes()?;
                        self.certify(touched).await?;
                    }
                }
                Some(received) = self.received.recv() => {
                    let mut all = vec![received];
                    while let Ok(more) = self.received.try_recv() {
                        all.push(more);
                    }
                    let touched = self.count(all)?;
                    self.certify(touched).await?;
                }
                Some(first) = self.acknowledged.recv() => {
                    let mut all = vec![first];
                    while let Ok(more) = self.acknowledged.try_recv() {
                        all.push(more);
                    }
                    self.inner.confirm(all).await?;
                }
                Some(ask) = self.asked.recv() => self.inner.answer(ask).await?,
                _ = repair.tick() => {
                    self.inner.acknowledge(self.inner.unacknowledged()).await?;
                    self.repair();
                }
            }
        }
        self.inner.write_roll_back().await?;
        Ok(self.inner.store.write_newest().await?)
    }

    /// Votes that came early, on entries up to `last`.
    fn due(&mut self, last: u64) -> Vec<From<Received>> {
        let later = self.early.split_off(&last.saturating_add(1));
        std::mem::replace(&mut self.early, later).into_values().flatten().collect()
    }

    /// Passes over entries that this node does not vote on, because it has them from a snapshot and never saw them, or
    /// signs nothing at all; gives the next sequence. Their votes are asked for when somebody asks for them.
    ///
    /// The last of those from a snapshot is not passed over: the ballot on it is empty, but vouches for the log up to
    /// there, which this node has rebuilt for itself, and with that for the next node that takes a snapshot.
    fn skip(&self, next: u64, last: u64) -> u64 {
        let recent = last.saturating_sub(KEPT as u64).max(next);
        if !self.inner.handle_may_sign() {
            return recent;
        }
        let from = self.inner.options.ledger.taken().min(last).max(next);
        if from > next {
            info!(
                from = next,
                to = from - 1,
                "entries came by snapshot and were never seen here: no votes on them"
            );
            metrics::skipped(from - next);
        }
        from
    }

    /// Takes up entries that were voted on before a restart and lack a certificate or acknowledgements.
    async fn resume(&mut self, next: u64) -> Result<(), Error> {
        let first = next.saturating_sub(KEPT as u64).max(1);
        for sequence in first..next {
            if let Some(block) = self.inner.options.ledger.block(sequence)? {
                self.inner.load(block)?;
                self.inner.mark_superseded(sequence)?;
            }
        }
        self.inner.acknowledge(first..next).await
    }

    /// Votes on the entries from `next` to at most `last`, with one sync; gives the next sequence.
    async fn vote(&mut self, next: u64, last: u64) -> Result<u64, Error> {
        let end = last.min(next + BATCH as u64 - 1);
        let (mut blocks, mut choices, mut receipts) = (Vec::new(), Vec::new(), Vec::new());
        let mut log = self.inner.store.log()?;
        for sequence in next..=end {
            // A block is written with the state that names it.
            let Some(block) = self.inner.options.ledger.block(sequence)? else { continue };
            if let Some(leaves) = self.inner.choose(&block, log, &mut receipts)? {
                log = Some(Log::after(&block));
                choices.push((block.clone(), leaves));
            }
            blocks.push(block);
        }
        if !choices.is_empty() {
            self.inner.store.choose(&choices, &receipts).await?;
        }
        let (mut own, mut early) = (Vec::new(), Vec::new());
        for block in blocks {
            early.extend(self.early.remove(&block.sequence).unwrap_or_default());
            self.inner.supersede_earlier(&block)?;
            if let Some(vote) = self.inner.load(block)? {
                own.push(vote);
            }
        }
        let cast: Vec<Received> =
            own.iter().filter(|counted| !counted.leaves.is_empty()).map(Received::from).collect();
        if !cast.is_empty() {
            self.inner.options.peers.cast(cast);
        }
        self.count(early)?;
        self.certify(next..=end).await?;
        // Also where nothing was certified: that is what has to be bounded.
        self.inner.forget();
        Ok(end + 1)
    }

    /// Counts votes that came in; gives the entries that have new ones.
    fn count(&mut self, received: Vec<From<Received>>) -> Result<BTreeSet<u64>, Error> {
        let mut touched = BTreeSet::new();
        for (from, received) in received {
            let sequence = received.vote.payload().sequence;
            let state = *self.inner.options.ledger.watch().borrow();
            if sequence > state {
                // Bounded: only so many entries ahead, and only so many votes for each.
                if sequence <= state + KEPT as u64 {
                    let waiting = self.early.entry(sequence).or_default();
                    if waiting.len() < 2 * self.inner.options.view.quorum().n() {
                        waiting.push((from, received));
                    }
                }
                continue;
            }
            if self.inner.add(sequence, from, received)? {
                touched.insert(sequence);
            }
        }
        Ok(touched)
    }

    /// Stores, with one sync, the certificates of these entries' leaves that a quorum has voted for by now, and wakes
    /// whoever waits for them.
    async fn certify(&self, sequences: impl IntoIterator<Item = u64>) -> Result<(), Error> {
        let (inner, view) = (&self.inner, &self.inner.options.view);
        let certified: Vec<(Tally, Leaves)> = {
            let tallies = inner.tallies.lock();
            let touched = sequences.into_iter().filter_map(|sequence| tallies.get(&sequence));
            touched.filter_map(|tally| Some((tally.clone(), tally.unstored(view)?))).collect()
        };
        if certified.is_empty() {
            return Ok(());
        }
        inner.store.put_certificates(&certified).await?;
        let mut later = Vec::new();
        for (tally, certified) in certified {
            let mut held = inner.tallies.lock();
            let Some(tally) = held.get_mut(&tally.block().sequence) else { continue };
            let (fresh, sequence) = (tally.keep(certified), tally.block().sequence);
            drop(held);
            if fresh.iter().any(|leaf| leaf.round > Round::FIRST) {
                later.push(sequence);
            }
            metrics::certified(fresh.len());
            inner.ripened(sequence, fresh.iter().map(|leaf| leaf.exchange));
        }
        inner.forget();
        inner.acknowledge(later).await
    }

    /// Asks for votes that have been missing for a while.
    fn repair(&self) {
        let view = &self.inner.options.view;
        let tallies = self.inner.tallies.lock();
        // Whose votes are all here can't be helped by asking for more: looked at first, and left out.
        let lacking = tallies.values().filter(|tally| {
            tally.waiting().next().is_some()
                || !tally.missing(view).is_empty() && tally.unripe().next().is_some()
        });
        let mut asks: Vec<(bool, u64)> =
            lacking.map(|tally| (self.inner.is_awaited(tally), tally.block().sequence)).collect();
        drop(tallies);
        // What somebody waits for first, however old; then the newest, so that old ones for which a member is gone do not take
        // all places.
        asks.sort_unstable_by_key(|ask| std::cmp::Reverse(*ask));
        asks.truncate(BATCH);
        // Who has voted is asked, too: it may have the votes of those who can't be reached.
        let own = self.inner.options.index;
        let others: Vec<u16> = (0..view.quorum().n() as u16).filter(|index| *index != own).collect();
        for (_, sequence) in asks {
            self.inner.options.peers.ask(others.clone(), sequence);
        }
    }
}

impl Inner {
    fn handle_may_sign(&self) -> bool {
        *self.standing.lock() == Standing::Open
    }

    /// The leaves of a block that this server may vote for, if it may sign the log after it at all; `log` is the longest that it
    /// has signed. Receipts among the other leaves go to `receipts`: what it does not vote for, it has seen all the same.
    fn choose(
        &self,
        block: &Block,
        log: Option<Log>,
        receipts: &mut Vec<(ExchangeId, Timestamp)>,
    ) -> Result<Option<Leaves>, Error> {
        if !self.handle_may_sign() {
            return Ok(None);
        }
        if let Err(refusal) = rules::may_sign_log(log, Log::after(block)) {
            warn!(sequence = block.sequence, %refusal, "does not vote on an entry");
            for Leaf { exchange, round, .. } in &block.leaves {
                self.refuse(Asked::Vote, exchange, *round, &refusal);
            }
            return Ok(None);
        }
        let mut leaves = Leaves::none(block.leaves.len());
        let entry = self.options.log.first_seen(block.index);
        for (place, leaf) in block.leaves.iter().enumerate() {
            let signed = self.store.signed(&leaf.exchange, leaf.round)?;
            let receipt = self.store.receipt(&leaf.exchange)?.map(|receipt| receipt.seen);
            let seen = Seen { entry, receipt };
            match rules::may_vote(&signed, &seen, leaf, self.options.view.parameters().skew) {
                Ok(()) => leaves.insert(place),
                Err(refusal) => {
                    let Leaf { exchange, round, verdict, .. } = leaf;
                    warn!(%exchange, %round, %verdict, %refusal, "does not vote");
                    self.refuse(Asked::Vote, exchange, *round, &refusal);
                    if let (Verdict::Released, Some(seen)) = (verdict, entry) {
                        receipts.push((*exchange, seen));
                    }
                }
            }
        }
        Ok(Some(leaves))
    }

    /// Signs what the store says was chosen: the same bytes whenever it is asked.
    fn sign(&self, block: &Block) -> Result<Option<Counted>, Error> {
        let Some(chosen) = self.store.chosen(block)? else { return Ok(None) };
        let payload = Vote {
            cluster: self.options.view.cluster(),
            epoch: self.options.view.epoch(),
            sequence: block.sequence,
            log_size: block.log_size,
            log_root: block.log_root,
            ballot: tally::root(block, &chosen.leaves),
            number: chosen.number,
        };
        let identity = &self.options.identity;
        let signer = fairpost_proto::chain::key_id(&identity.verifying_key());
        Ok(Some(Counted { vote: Cose::sign(payload, signer, identity), leaves: chosen.leaves }))
    }

    /// Brings an entry's tally into memory, with the own vote and the stored ones; gives the own vote.
    fn load(&self, block: Block) -> Result<Option<Counted>, Error> {
        let own = if self.handle_may_sign() { self.sign(&block)? } else { None };
        let stored = self.store.certificate(&block)?;
        let quorums = self.stored_acknowledgements(&block)?;
        for counted in &stored {
            let vote = &counted.vote;
            self.note(*vote.signer(), vote.payload().number, vote.bytes())?;
        }
        self.since.lock().entry(block.sequence).or_insert_with(Instant::now);
        let mut tallies = self.tallies.lock();
        let tally = tallies.entry(block.sequence).or_insert_with(|| Tally::new(block));
        tally.restore(&self.options.view, stored);
        tally.restore_acknowledgements(&self.options.view, quorums);
        if let Some(own) = own.clone() {
            tally.add_own(&self.options.view, own);
        }
        Ok(own)
    }

    /// Has an entry's tally in memory, so that its votes are counted and missing ones asked for.
    fn take_up(&self, sequence: u64) -> Result<(), Error> {
        if !self.tallies.lock().contains_key(&sequence)
            && let Some(block) = self.options.ledger.block(sequence)?
        {
            // Before: what is taken up is likely to be the oldest, and complete.
            self.forget();
            self.load(block)?;
            self.mark_superseded(sequence)?;
        }
        Ok(())
    }

    /// What `look` finds in the tally of a decided exchange's last round.
    fn look_up<T>(
        &self,
        exchange: &Exchange,
        look: impl Fn(&Tally, usize) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        self.take_up(exchange.sequence)?;
        let place = exchange.place as usize;
        if let Some(tally) = self.tallies.lock().get(&exchange.sequence) {
            return Ok(look(tally, place));
        }
        // Forgotten in between, for another's sake: so it is complete. Whoever waited for it would wait for ever.
        let Some(block) = self.options.ledger.block(exchange.sequence)? else { return Ok(None) };
        Ok(look(&self.stored_tally(block)?, place))
    }

    /// An entry's tally as the store has it.
    fn stored_tally(&self, block: Block) -> Result<Tally, Error> {
        let (votes, quorums) = (self.store.certificate(&block)?, self.stored_acknowledgements(&block)?);
        let mut tally = Tally::new(block);
        tally.restore(&self.options.view, votes);
        tally.restore_acknowledgements(&self.options.view, quorums);
        Ok(tally)
    }

    /// Counts one vote, which this member sent; `true` if it was new.
    fn add(&self, sequence: u64, from: u16, received: Received) -> Result<bool, Error> {
        self.take_up(sequence)?;
        let mut tallies = self.tallies.lock();
        let Some(tally) = tallies.get_mut(&sequence) else { return Ok(false) };
        let Some(leaves) = Leaves::parse(&received.leaves, tally.block().leaves.len()) else {
            debug!(sequence, "a vote came with another number of leaves");
            return Ok(false);
        };
        let (ours, vote) = (tally.block().log_root, received.vote.clone());
        let (signer, theirs) = (*vote.signer(), vote.payload().log_root);
        let problem = match tally.add(&self.options.view, Counted { vote: received.vote, leaves }) {
            Ok(false) => return Ok(false),
            Ok(true) => {
                drop(tallies);
                self.note(signer, vote.payload().number, vote.bytes())?;
                if ours != theirs {
                    error!(sequence, %signer, %ours, %theirs, "a member's evidence log has another root: a fork");
                    metrics::forked();
                    self.compare_roots(&vote);
                }
                return Ok(true);
            }
            Err(problem) => problem,
        };
        drop(tallies);
        warn!(sequence, from, %signer, %problem, "a vote does not count");
        match problem {
            Problem::Equivocation { both } => self.options.blame.votes(*both),
            Problem::Signature(_) => {
                let what = format!("a vote on entry {sequence} in the name of {signer}");
                self.options.blame.signature(from, what, vote.bytes());
            }
            // The signature holds, and the leaves are not this ledger's: it may be a vote in another log.
            Problem::Ballot { .. } => {
                self.note(signer, vote.payload().number, vote.bytes())?;
                self.compare_roots(&vote);
            }
            _ => {}
        }
        Ok(false)
    }

    /// Looks whether the author of this vote, whose signature holds, has signed another root for the same size of the log.
    fn compare_roots(&self, vote: &Cose<Vote>) {
        let Some((member, _)) = self.options.view.member_by_key(*vote.signer()) else { return };
        let said = vote.payload();
        let other = {
            let tallies = self.tallies.lock();
            let held = tallies.values().filter_map(|tally| tally.vote_of(member));
            let mut other = held.map(|counted| &counted.vote).filter(|held| {
                let held = held.payload();
                held.log_size == said.log_size && held.log_root != said.log_root
            });
            other.next().cloned()
        };
        if let Some(other) = other {
            self.options.blame.votes([other, vote.clone()]);
        }
    }

    /// Keeps in mind that something was not signed, and why.
    fn refuse(&self, asked: Asked, exchange: &ExchangeId, round: Round, refusal: &Refusal) {
        self.refusals.add(asked, exchange, round, refusal, (self.options.clock)());
    }

    /// Whether somebody waits for a certificate of this entry.
    fn is_awaited(&self, tally: &Tally) -> bool {
        tally.block().leaves.iter().any(|leaf| self.waiting.any(&leaf.exchange))
    }

    /// Drops tallies from memory, the oldest first: complete ones down to [`KEPT`], and of the others, for which nobody waits, as
    /// many as are too many.
    fn forget(&self) {
        let mut tallies = self.tallies.lock();
        let most = self.options.incomplete;
        if tallies.len() <= (2 * KEPT).min(most) {
            return;
        }
        let (mut complete, mut incomplete): (Vec<u64>, Vec<u64>) =
            tallies.keys().partition(|sequence| tallies.get(sequence).is_some_and(Tally::is_complete));
        let mut since = self.since.lock();
        if tallies.len() > 2 * KEPT {
            complete.sort_unstable();
            for sequence in complete.iter().take(tallies.len() - KEPT) {
                tallies.remove(sequence);
                since.remove(sequence);
            }
        }
        let beyond = incomplete.len().saturating_sub(most);
        if beyond == 0 {
            return;
        }
        incomplete.sort_unstable();
        // Who has just begun to wait looks for the tally under this lock, and takes it up again.
        incomplete.retain(|sequence| tallies.get(sequence).is_some_and(|tally| !self.is_awaited(tally)));
        for sequence in incomplete.iter().take(beyond) {
            tallies.remove(sequence);
            since.remove(sequence);
        }
    }
}

/// Returns once the node is told to stop.
pub(crate) async fn halted(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone is a node that stops.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Logs where the witness stands at its start.
pub fn announce(handle: &Handle) {
    match handle.closed_because() {
        None => info!("the share is open: this node votes and signs"),
        Some(reason) if !handle.is_closed() => {
            info!(
                reason,
                "the share is open: this node votes and signs when enough members have told what they hold of it"
            );
        }
        Some(reason) => warn!(reason, "the share is closed: this node serves and signs nothing"),
    }
}
