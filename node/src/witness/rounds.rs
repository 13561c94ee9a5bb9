//! Opening later rounds: finds exchanges that do not get their certificate, and has the next round ordered.
//!
//! # Specification
//!
//! An exchange is contested here when its last round has lacked what a share takes for a while, or when shares for it were
//! refused ([`Handle::stuck`]). The leader sees to it first, the others later, for a leader that does nothing. It collects
//! statements for the next round from all members, and evidence with them, until a quorum's make a leaf ([`assemble`]), and
//! has that ordered. If the exchange stays contested it tries again, with the round after that, and waits longer each time.
//!
//! Nothing rests on this task: what it collects is signed, and everybody computes the leaf for itself.
//!
//! # Guarantees
//!
//! - Statements of honest members, a quorum of them, make a leaf: they are given only by those who know what could decide
//!   ([`super::rules::may_state`]), and the set is chosen so that no single early clock or missing piece spoils it
//!   (`honest_statements_always_make_a_leaf`).
//! - A few exchanges are seen to at a time, however many are contested ([`TOGETHER`]).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fairpost_proto::cose::Signed;
use fairpost_proto::entry::{Command, Demand, Opening};
use fairpost_proto::evidence::Nro;
use fairpost_proto::ids::{Digest, ExchangeId, Timestamp, Verdict};
use fairpost_proto::leaf::{Leaf, Round};
use fairpost_proto::round::Statement;
use fairpost_proto::view::View;
use fairpost_proto::vote::Certificate;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{mpsc, watch};
use tracing::{debug, info};

use super::metrics;
use super::service::{self, halted};
use crate::ledger::{Exchanges as _, round};
use crate::store::Ledger;

/// How often it is looked whether an exchange is contested.
const EVERY: Duration = Duration::from_millis(250);
/// How long a round gets before the leader has the next one opened: somewhat longer than others wait before they state.
const LEADER: Duration = Duration::from_millis(1500);
/// How long before another member sees to it.
const OTHERS: Duration = Duration::from_secs(5);
/// How many exchanges are seen to at a time.
pub const TOGETHER: usize = 16;
/// How long statements may take to come, and their round to be ordered.
const LIMIT: Duration = Duration::from_secs(8);
/// How long to wait before the first further try; then twice as long each time.
const AGAIN: Duration = Duration::from_secs(1);
/// How long at most.
const LONGEST: Duration = Duration::from_secs(30);
/// How many reports may wait.
const QUEUE: usize = 1024;

/// What a member answers.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its statement, not yet checked.
    pub statement: Signed<Statement>,
    /// The evidence that it has, not yet checked.
    pub evidence: Vec<Demand>,
}

/// Where the statements of other members come from, and where a command goes.
pub trait Others: Send + Sync + 'static {
    /// The statement of the member at this index. The error says what went wrong, for the log.
    fn statement(
        &self,
        member: u16,
        exchange: ExchangeId,
        round: Round,
    ) -> BoxFuture<'static, Result<Answer, String>>;
    /// Whether this node leads.
    fn leads(&self) -> bool;
    /// Has a command ordered, here or by whoever leads. The error says why it was not, for the log.
    fn order(&self, command: Command) -> BoxFuture<'static, Result<(), String>>;
}

/// What it takes to open rounds.
#[derive(Clone)]
pub struct Options {
    /// The view.
    pub view: Arc<View>,
    /// This member's index.
    pub index: u16,
    /// What is decided.
    pub ledger: Ledger,
    /// What this node states itself, and which exchanges lack something.
    pub witness: service::Handle,
    /// The others.
    pub others: Arc<dyn Others>,
}

/// Tells of exchanges whose shares are refused.
#[derive(Clone)]
pub struct Handle(mpsc::Sender<ExchangeId>);

impl Handle {
    /// A quorum's shares could not be collected for this exchange, though it is certified here.
    pub fn stuck(&self, exchange: ExchangeId) {
        // It will be told again.
        let _ = self.0.try_send(exchange);
    }
}

/// The task that has rounds opened.
pub struct Service {
    options: Options,
    stuck: mpsc::Receiver<ExchangeId>,
    /// Since when shares are refused, and when that was last told.
    told: HashMap<ExchangeId, (Instant, Instant)>,
    tries: HashMap<ExchangeId, Tries>,
}

/// What was tried for an exchange.
struct Tries {
    next: Instant,
    pause: Duration,
    under_way: bool,
}

/// What the task hears of.
pub struct Reports(mpsc::Receiver<ExchangeId>);

/// Where exchanges are told of, and where the task hears of them.
pub fn reports() -> (Handle, Reports) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Handle(sender), Reports(receiver))
}

impl Service {
    /// A task with these options, which hears of these reports.
    pub fn new(options: Options, reports: Reports) -> Self {
        Self { options, stuck: reports.0, told: HashMap::new(), tries: HashMap::new() }
    }

    /// Runs until `stop` says so.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = halted(&mut stop) => return,
                Some(exchange) = self.stuck.recv() => self.tell(exchange),
                Some(exchange) = under_way.next() => self.done(exchange),
                _ = ticks.tick() => {
                    for exchange in self.due(TOGETHER.saturating_sub(under_way.len())) {
                        let options = self.options.clone();
                        under_way.push(async move {
                            match tokio::time::timeout(LIMIT, attempt(&options, exchange)).await {
                                Ok(Ok(())) => {}
                                Ok(Err(problem)) => debug!(%exchange, problem, "no round is opened"),
                                Err(_) => debug!(%exchange, "no round is opened in time"),
                            }
                            exchange
                        });
                    }
                }
            }
        }
    }

    fn tell(&mut self, exchange: ExchangeId) {
        let now = Instant::now();
        if self.told.len() < QUEUE || self.told.contains_key(&exchange) {
            self.told.entry(exchange).or_insert((now, now)).1 = now;
        }
    }

    /// The contested exchanges that are to be seen to now.
    fn due(&mut self, most: usize) -> Vec<ExchangeId> {
        let (now, wait) = (Instant::now(), if self.options.others.leads() { LEADER } else { OTHERS });
        self.told.retain(|_, (_, last)| now.duration_since(*last) < OTHERS);
        let mut contested = self.options.witness.contested(wait, QUEUE);
        contested.extend(
            self.told.iter().filter(|(_, (since, _))| now.duration_since(*since) >= wait).map(|(id, _)| *id),
        );
        self.tries.retain(|exchange, tries| tries.under_way || contested.contains(exchange));
        let mut due = Vec::new();
        for exchange in contested {
            let fresh = Tries { next: now, pause: AGAIN, under_way: false };
            let tries = self.tries.entry(exchange).or_insert(fresh);
            if due.len() < most && !tries.under_way && tries.next <= now {
                tries.under_way = true;
                due.push(exchange);
            }
        }
        due
    }

    fn done(&mut self, exchange: ExchangeId) {
        self.told.remove(&exchange);
        if let Some(tries) = self.tries.get_mut(&exchange) {
            tries.next = Instant::now() + tries.pause;
            tries.pause = (tries.pause * 2).min(LONGEST);
            tries.under_way = false;
        }
    }
}

/// Collects statements for the exchange's next round until they make a leaf, and has the round ordered.
async fn attempt(options: &Options, exchange: ExchangeId) -> Result<(), String> {
    let fail = |error: &dyn std::error::Error| error.to_string();
    let standing = options.ledger.standing(&exchange).map_err(|error| fail(&error))?;
    let last = standing.ok_or("it is not in the ledger")?.round;
    let next = last.next().ok_or("it has had all rounds")?;
    let own = async {
        let statement = options.witness.statement(&exchange, next).await.map_err(|error| fail(&error))?;
        let evidence = options.witness.evidence(&exchange).map_err(|error| fail(&error))?;
        Ok(Answer { statement, evidence })
    };
    let mut answers: FuturesUnordered<BoxFuture<'_, Result<Answer, String>>> = FuturesUnordered::new();
    answers.push(Box::pin(own));
    for member in (0..options.view.quorum().n() as u16).filter(|member| *member != options.index) {
        answers.push(options.others.statement(member, exchange, next));
    }
    // What is here is evidence even where the own statement is refused.
    let evidence = options.witness.evidence(&exchange).map_err(|error| fail(&error))?;
    let mut collected = Collected { evidence, ..Collected::default() };
    while let Some(answer) = answers.next().await {
        let answer = match answer {
            Ok(answer) => answer,
            Err(problem) => {
                debug!(%exchange, round = %next, problem, "no statement");
                continue;
            }
        };
        let (author, number) = (*answer.statement.signer(), answer.statement.payload().number);
        let (bytes, certificate) =
            (answer.statement.bytes().to_vec(), answer.statement.payload().certificate.clone());
        match collected.add(&options.view, exchange, next, answer) {
            // What it holds may show that somebody voted twice.
            Ok(()) => {
                options.witness.note(author, number, &bytes).map_err(|error| fail(&error))?;
                certificate
                    .map_or(Ok(()), |certificate| options.witness.compare(&certificate))
                    .map_err(|error| fail(&error))?;
            }
            Err(problem) => debug!(%exchange, round = %next, %problem, "a statement does not hold"),
        }
        let (view, set) = (Arc::clone(&options.view), collected.clone());
        let assembled = tokio::task::spawn_blocking(move || assemble(&view, exchange, last, &set)).await;
        if let Some((opening, leaf)) = assembled.map_err(|error| fail(&error))? {
            options.others.order(Command::Round(opening)).await?;
            let (round, verdict) = (leaf.round, leaf.verdict);
            info!(%exchange, %round, %verdict, "a later round was opened");
            metrics::opened();
            return Ok(());
        }
    }
    Err(format!("{} statements for round {next} make no leaf", collected.statements.len()))
}

/// What came for one round.
#[derive(Clone, Debug, Default)]
pub struct Collected {
    /// Statements that hold, by their authors' indices.
    statements: BTreeMap<u16, Signed<Statement>>,
    evidence: Vec<Demand>,
}

impl Collected {
    /// Adds an answer, if its statement holds for this exchange and round.
    pub fn add(
        &mut self,
        view: &View,
        exchange: ExchangeId,
        round: Round,
        answer: Answer,
    ) -> Result<(), round::Error> {
        round::holds(view, exchange, round, &answer.statement)?;
        if let Some((index, _)) = view.member_by_key(*answer.statement.signer()) {
            self.statements.entry(index).or_insert(answer.statement);
            for demand in answer.evidence {
                if !self.evidence.contains(&demand) {
                    self.evidence.push(demand);
                }
            }
        }
        Ok(())
    }
}

/// Where a statement stands among others: by the round of its certificate, and then by a number; the least comes first.
type Ranking<'a> = dyn Fn(&Signed<Statement>) -> (std::cmp::Reverse<u32>, u64) + 'a;

/// The round that these statements open, and its leaf; none if no quorum of them makes one.
///
/// Which of them are taken matters: a receipt that only a few saw, or a clock that is behind, must not stand in for one
/// that decides.
pub fn assemble(
    view: &View,
    exchange: ExchangeId,
    last: Round,
    collected: &Collected,
) -> Option<(Opening, Leaf)> {
    let q = view.quorum().q();
    let all: Vec<&Signed<Statement>> = collected.statements.values().collect();
    if all.len() < q {
        return None;
    }
    let certified = |statement: &Signed<Statement>| {
        statement.payload().certificate.as_ref().map_or(0, |held| held.leaf().round.get())
    };
    let receipt = |statement: &Signed<Statement>| statement.payload().receipt.unwrap_or(Timestamp::MAX);
    let first = |order: &Ranking<'_>| {
        let mut set = all.clone();
        set.sort_by_key(|statement| order(statement));
        set.truncate(q);
        set.sort_by_key(|statement| *statement.signer());
        set
    };
    let highest = |statement: &Signed<Statement>| std::cmp::Reverse(certified(statement));
    let none = std::cmp::Reverse(0);
    let (seen, late) = (
        |statement: &Signed<Statement>| receipt(statement).millis(),
        |statement: &Signed<Statement>| u64::MAX - statement.payload().clock.millis(),
    );
    let sets = [
        first(&|statement| (highest(statement), seen(statement))),
        first(&|statement| (highest(statement), late(statement))),
        // Should nobody have what a certificate names, statements without it may do.
        first(&|statement| (none, seen(statement))),
        first(&|statement| (none, late(statement))),
    ];
    for set in sets {
        let certificates = set.iter().filter_map(|statement| statement.payload().certificate.as_ref());
        let certified = certificates.map(Certificate::leaf).max_by_key(|leaf| leaf.round).copied();
        for opening in openings(exchange, &set, certified.as_ref(), &collected.evidence) {
            let nro = round::nro(&opening).ok();
            if let Some(leaf) = nro.and_then(|nro| round::open(view, &nro, last, &opening).ok()) {
                return Some((opening, leaf));
            }
        }
    }
    None
}

/// The set with each NRO that there is, and all evidence over that. Where a certificate decides, with the evidence that it
/// names.
fn openings(
    exchange: ExchangeId,
    set: &[&Signed<Statement>],
    certified: Option<&Leaf>,
    evidence: &[Demand],
) -> Vec<Opening> {
    let mut nros: Vec<&[u8]> = Vec::new();
    for demand in evidence {
        let about =
            Signed::<Nro>::parse(&demand.nro).is_ok_and(|nro| nro.payload().terms.exchange() == exchange);
        if about && !nros.contains(&demand.nro.as_slice()) {
            nros.push(&demand.nro);
        }
    }
    let of = |nro: &[u8], verdict: Verdict| {
        let mut found = evidence.iter().filter(|demand| demand.nro == nro && demand.verdict == verdict);
        let named = |demand: &&Demand| {
            let digest = demand.evidence.as_deref().map(Digest::of);
            certified.is_none_or(|leaf| leaf.verdict != verdict || leaf.evidence == digest)
        };
        found.find(named).and_then(|demand| demand.evidence.clone())
    };
    let statements: Vec<Vec<u8>> = set.iter().map(|statement| statement.bytes().to_vec()).collect();
    let opening = |nro: &[u8]| Opening {
        nro: nro.to_vec(),
        statements: statements.clone(),
        receipt: of(nro, Verdict::Released),
        withdrawal: of(nro, Verdict::Withdrawn),
        refusal: of(nro, Verdict::Refused),
    };
    nros.into_iter().map(opening).collect()
}

#[cfg(test)]
mod tests {
    use fairpost_proto::ids::Span;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{LIFETIME, World, after};
    use crate::witness::rules::{Contested, Outlook, Signed as HasSigned, may_state};

    const DUE: u64 = LIFETIME + 30;

    fn leaf(world: &World, verdict: Verdict) -> Leaf {
        let (nro, demand) = (world.nro(1), world.command(1, verdict));
        Leaf {
            exchange: nro.payload().terms.exchange(),
            round: Round::FIRST,
            verdict,
            time: after(10),
            nro: nro.digest(),
            evidence: demand.evidence.as_deref().map(Digest::of),
        }
    }

    fn collected(world: &World, statements: Vec<Signed<Statement>>, verdicts: &[Verdict]) -> Collected {
        let mut collected = Collected::default();
        let exchange = world.nro(1).payload().terms.exchange();
        let evidence: Vec<Demand> = verdicts.iter().map(|verdict| world.command(1, *verdict)).collect();
        for statement in statements {
            let answer = Answer { statement, evidence: evidence.clone() };
            collected.add(&world.view, exchange, Round::new(2).unwrap(), answer).unwrap();
        }
        collected
    }

    fn assembled(world: &World, collected: &Collected) -> Option<Leaf> {
        let exchange = world.nro(1).payload().terms.exchange();
        let found = assemble(&world.view, exchange, Round::FIRST, collected);
        found.map(|(opening, leaf)| {
            let nro = round::nro(&opening).unwrap();
            assert_eq!(round::open(&world.view, &nro, Round::FIRST, &opening).unwrap(), leaf);
            leaf
        })
    }

    #[test]
    fn what_a_certificate_names_is_found_among_what_came() {
        let world = World::new();
        let released = leaf(&world, Verdict::Released);
        let certificate = world.certificate(released, &[0, 1, 2]);
        let statement = |member: usize| {
            world.statement(member, (1, 2), after(2 * DUE), |statement| {
                statement.certificate = (member == 3).then(|| certificate.clone());
            })
        };
        let all: Vec<_> = (0..4).map(statement).collect();
        let found = assembled(&world, &collected(&world, all.clone(), &Verdict::ALL)).unwrap();
        assert_eq!(found, Leaf { round: Round::new(2).unwrap(), ..released });
        // Nobody has its evidence: then statements without it make another leaf.
        let found = assembled(&world, &collected(&world, all.clone(), &[Verdict::Expired])).unwrap();
        assert_eq!(found.verdict, Verdict::Expired);
        assert!(
            assembled(&world, &collected(&world, all[..2].to_vec(), &Verdict::ALL)).is_none(),
            "two are too few"
        );
        assert!(assembled(&world, &collected(&world, all, &[])).is_none(), "no NRO");
    }

    #[test]
    fn a_statement_that_does_not_hold_is_not_taken() {
        let world = World::new();
        let exchange = world.nro(1).payload().terms.exchange();
        let mut collected = Collected::default();
        let statement = world.statement(0, (1, 3), after(10), |_| {});
        let answer = Answer { statement, evidence: vec![world.command(1, Verdict::Withdrawn)] };
        let refused = collected.add(&world.view, exchange, Round::new(2).unwrap(), answer).unwrap_err();
        assert!(matches!(refused, round::Error::Round { .. }), "{refused}");
        assert!(collected.statements.is_empty() && collected.evidence.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn honest_statements_always_make_a_leaf(
            honest in prop::array::uniform3((prop::option::of(0_u64..1300), 0_u64..1300)),
            lie in (prop::option::of(0_u64..1_000_000), 0_u64..1_000_000),
            (lies_first, answered) in any::<(bool, bool)>(),
        ) {
            let world = World::new();
            let state = |member: usize, receipt: Option<u64>, clock: u64| {
                world.statement(member, (1, 2), after(clock), |statement| {
                    statement.receipt = receipt.map(after);
                })
            };
            let mut statements = Vec::new();
            for (member, (receipt, clock)) in honest.into_iter().enumerate() {
                // Nobody has seen what is to come.
                let receipt = receipt.filter(|seen| *seen <= clock);
                let receipt_in_time = receipt.is_some_and(|seen| seen < LIFETIME);
                let outlook =
                    Outlook { certified: false, receipt: receipt_in_time, answered, due: clock >= DUE };
                let second = Span::from_seconds(1);
                let contested =
                    Contested { last: Some(Round::FIRST), waited: second, token: false, outlook };
                let asked = Round::new(2).unwrap();
                if may_state(&HasSigned::default(), &contested, asked, second).is_ok() {
                    statements.push(state(member, receipt, clock));
                }
            }
            prop_assume!(statements.len() == 3);
            let place = if lies_first { 0 } else { 3 };
            statements.insert(place, state(3, lie.0, lie.1));
            let mut verdicts = vec![Verdict::Expired, Verdict::Released];
            if answered {
                verdicts.push(Verdict::Withdrawn);
            }
            prop_assert!(assembled(&world, &collected(&world, statements, &verdicts)).is_some());
        }
    }
}
