//! The ledger's rules, tried with real signatures.

use std::collections::HashMap;
use std::convert::Infallible;

use fairpost_proto::entry::{Command, Demand, Entry};
use fairpost_proto::ids::{ExchangeId, Timestamp, Verdict};
use proptest::prelude::*;

use super::*;
use crate::testing::{LIFETIME, World, after};

/// A ledger in memory.
#[derive(Clone)]
pub(crate) struct Memory {
    pub(crate) state: State,
    pub(crate) blocks: Vec<Block>,
    pub(crate) exchanges: HashMap<ExchangeId, Exchange>,
    /// Exchanges as earlier rounds had them.
    pub(crate) earlier: Vec<Exchange>,
}

impl Exchanges for Memory {
    type Error = Infallible;

    fn standing(&self, exchange: &ExchangeId) -> Result<Option<Standing>, Infallible> {
        let standing = |exchange: &Exchange| Standing {
            verdict: exchange.leaf.verdict,
            sequence: exchange.sequence,
            round: exchange.leaf.round,
        };
        Ok(self.exchanges.get(exchange).map(standing))
    }
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self { state: State::empty(), blocks: vec![], exchanges: HashMap::new(), earlier: vec![] }
    }

    /// Applies an entry's bytes.
    pub(crate) fn apply(&mut self, world: &World, entry: &[u8]) -> Result<Vec<Outcome>, Void> {
        let entry = Entry::parse(entry).unwrap();
        let Ok(applied) = apply(&world.view, &self.state, &entry, self.blocks.len() as u64 + 1, self);
        let applied = applied?;
        self.state = applied.state;
        self.blocks.push(applied.block);
        for exchange in applied.exchanges {
            let round = exchange.leaf.round.get();
            if let Some(before) = self.exchanges.insert(exchange.leaf.exchange, exchange) {
                assert_eq!(before.leaf.round.get() + 1, round, "one leaf for each exchange and round");
                self.earlier.push(before);
            } else {
                assert_eq!(round, 1, "the first leaf is that of the first round");
            }
        }
        Ok(applied.outcomes)
    }

    pub(crate) fn order(
        &mut self,
        world: &World,
        time: Timestamp,
        commands: &[impl Clone + Into<Command>],
    ) -> Vec<Outcome> {
        let entry = world.entry(0, &self.state, time, commands);
        self.apply(world, &entry).unwrap()
    }
}

fn decided(outcome: &Outcome) -> Option<Verdict> {
    match outcome {
        Outcome::Decided { verdict, .. } => Some(*verdict),
        _ => None,
    }
}

#[test]
fn each_command_brings_about_its_verdict() {
    let world = World::new();
    for (number, verdict) in (1..).zip(Verdict::ALL) {
        let mut ledger = Memory::new();
        let time = after(if verdict == Verdict::Expired { LIFETIME + 30 } else { 10 });
        let outcomes = ledger.order(&world, time, &[world.command(number, verdict)]);
        assert_eq!(outcomes.iter().map(decided).collect::<Vec<_>>(), [Some(verdict)]);
        let leaf = ledger.blocks[0].leaves[0];
        assert_eq!(
            (leaf.verdict, leaf.time, leaf.evidence.is_none()),
            (verdict, time, verdict == Verdict::Expired)
        );
    }
}

#[test]
fn the_first_verdict_stands_and_later_requests_learn_of_it() {
    let world = World::new();
    let mut ledger = Memory::new();
    let all =
        [Verdict::Refused, Verdict::Released, Verdict::Withdrawn].map(|verdict| world.command(1, verdict));
    let outcomes = ledger.order(&world, after(10), &all);
    assert!(outcomes.iter().all(|outcome| decided(outcome) == Some(Verdict::Refused)));
    let later = ledger.order(&world, after(5000), &[world.command(1, Verdict::Expired)]);
    assert!(matches!(later[..], [Outcome::Decided { verdict: Verdict::Refused, sequence: 1 }]));
    assert_eq!(ledger.state.log.size(), 1);
}

#[test]
fn a_receipt_counts_before_the_deadline_and_an_expiry_after_the_grace() {
    let world = World::new();
    let outcome = |time, verdict| Memory::new().order(&world, time, &[world.command(1, verdict)]).remove(0);
    let millisecond_before = Timestamp::from_millis(after(LIFETIME).millis() - 1).unwrap();
    assert_eq!(decided(&outcome(millisecond_before, Verdict::Released)), Some(Verdict::Released));
    assert!(matches!(outcome(after(LIFETIME), Verdict::Released), Outcome::TooLate { .. }));
    assert!(matches!(outcome(after(LIFETIME + 29), Verdict::Expired), Outcome::TooEarly { .. }));
    assert_eq!(decided(&outcome(after(LIFETIME + 30), Verdict::Expired)), Some(Verdict::Expired));
    assert_eq!(decided(&outcome(after(LIFETIME + 9), Verdict::Refused)), Some(Verdict::Refused));
}

#[test]
fn forged_commands_change_nothing() {
    let world = World::new();
    let good = world.command(1, Verdict::Released);
    let mut forged = good.clone();
    if let Some(last) = forged.evidence.as_mut().and_then(|evidence| evidence.last_mut()) {
        *last ^= 1;
    }
    let as_receipt = |verdict| Demand { verdict: Verdict::Released, ..world.command(1, verdict) };
    let swapped = Demand { evidence: world.command(2, Verdict::Released).evidence, ..good.clone() };
    for bad in [
        forged,
        as_receipt(Verdict::Refused),
        as_receipt(Verdict::Withdrawn),
        as_receipt(Verdict::Expired),
        swapped,
    ] {
        let mut ledger = Memory::new();
        let root = ledger.state.log.root();
        let outcomes = ledger.order(&world, after(10), &[bad]);
        assert!(matches!(outcomes[..], [Outcome::Invalid(_)]), "{outcomes:?}");
        assert_eq!((ledger.state.log.root(), ledger.exchanges.len()), (root, 0));
    }
}

#[test]
fn entries_must_follow_one_another() {
    let world = World::new();
    let mut ledger = Memory::new();
    ledger.order(&world, after(10), &[world.command(1, Verdict::Released)]);
    let before = ledger.state.log.root();
    let command = [world.command(2, Verdict::Released)];
    let state = ledger.state.clone();
    let with = |change: &dyn Fn(&mut State)| {
        let mut other = state.clone();
        change(&mut other);
        world.entry(0, &other, after(11), &command)
    };
    let again = with(&|state| state.sequence = 0);
    assert!(matches!(ledger.apply(&world, &again), Err(Void::Sequence { expected: 2, found: 1 })));
    let elsewhere = with(&|state| state.head = fairpost_proto::ids::Digest::of(b"another head"));
    assert!(matches!(ledger.apply(&world, &elsewhere), Err(Void::Previous { .. })));
    let back = world.entry(0, &state, after(9), &command);
    assert!(matches!(ledger.apply(&world, &back), Err(Void::Time { .. })));
    let mut stranger = World::new();
    stranger.identities[0] = ed25519_dalek::SigningKey::from_bytes(&[77; 32]);
    let foreign = stranger.entry(0, &state, after(11), &command);
    assert!(matches!(ledger.apply(&world, &foreign), Err(Void::NoMember(_))));
    assert_eq!(ledger.state.log.root(), before);
    let follows = world.entry(3, &state, after(10), &command);
    assert!(ledger.apply(&world, &follows).is_ok(), "any member may lead, and time may stand still");
}

#[test]
fn records_come_back_as_they_were_written() {
    let world = World::new();
    let mut ledger = Memory::new();
    ledger.order(
        &world,
        after(10),
        &[world.command(1, Verdict::Released), world.command(2, Verdict::Refused)],
    );
    for block in &ledger.blocks {
        assert_eq!(Block::parse(&block.to_bytes()).unwrap(), *block);
    }
    for exchange in ledger.exchanges.values() {
        assert_eq!(Exchange::parse(&exchange.to_bytes()).unwrap(), *exchange);
    }
    let state = State::parse(&ledger.state.to_bytes()).unwrap();
    assert_eq!(
        (state.sequence, state.head, state.log.root()),
        (1, ledger.state.head, ledger.state.log.root())
    );
}

/// A snapshot's records: each block with its exchanges.
#[derive(Clone)]
struct Told {
    state: State,
    blocks: Vec<(Block, Vec<Exchange>)>,
}

impl Memory {
    fn told(&self) -> Told {
        let exchange = |leaf: &fairpost_proto::leaf::Leaf| self.exchanges[&leaf.exchange].clone();
        let blocks =
            self.blocks.iter().map(|block| (block.clone(), block.leaves.iter().map(exchange).collect()));
        Told { state: self.state.clone(), blocks: blocks.collect() }
    }
}

impl Told {
    fn rebuild(&self, world: &World) -> Result<State, Error> {
        let retention = world.view.parameters().retention;
        let mut rebuild = Rebuild::toward(&self.state.to_bytes(), retention)?;
        for (block, exchanges) in &self.blocks {
            assert_eq!(rebuild.block(&block.to_bytes())?.block, *block);
            for exchange in exchanges {
                assert_eq!(rebuild.exchange(&exchange.to_bytes())?, *exchange);
            }
        }
        rebuild.finish()
    }
}

fn three_exchanges(world: &World) -> Memory {
    let mut ledger = Memory::new();
    ledger.order(
        world,
        after(10),
        &[world.command(1, Verdict::Released), world.command(2, Verdict::Refused)],
    );
    ledger.order(world, after(11), &[world.command(3, Verdict::Withdrawn)]);
    ledger
}

/// Breaks a snapshot.
type Break<'a> = &'a dyn Fn(&mut Told);

#[test]
fn a_snapshot_with_any_record_changed_is_refused() {
    let world = World::new();
    let whole = three_exchanges(&world).told();
    assert_eq!(whole.rebuild(&world).unwrap().log.root(), whole.state.log.root());
    let breaks: [(&str, Break<'_>); 15] = [
        ("a verdict", &|told| told.blocks[0].0.leaves[0].verdict = Verdict::Withdrawn),
        ("the first block left out", &|told| _ = told.blocks.remove(0)),
        ("the last block left out", &|told| _ = told.blocks.pop()),
        ("an exchange left out", &|told| _ = told.blocks[0].1.remove(0)),
        ("the last exchange left out", &|told| _ = told.blocks[1].1.pop()),
        ("exchanges in another order", &|told| told.blocks[0].1.reverse()),
        ("an exchange twice", &|told| {
            let again = told.blocks[1].1[0].clone();
            told.blocks[1].1.push(again);
        }),
        ("an NRO", &|told| told.blocks[0].1[1].nro.push(0)),
        ("evidence", &|told| told.blocks[0].1[1].evidence = Some(vec![1])),
        ("evidence left out", &|told| told.blocks[0].1[1].evidence = None),
        ("a block's time", &|told| told.blocks[1].0.time = after(12)),
        ("a block's index", &|told| told.blocks[1].0.index = told.blocks[0].0.index),
        ("the state's sequence", &|told| told.state.sequence = 1),
        ("the state's time", &|told| told.state.time = after(12)),
        ("the state's log", &|told| told.state.log = fairpost_proto::merkle::Frontier::new()),
    ];
    for (what, change) in breaks {
        let mut told = whole.clone();
        change(&mut told);
        let refused = told.rebuild(&world);
        assert!(matches!(refused, Err(Error::Inconsistent(_))), "{what}: {refused:?}");
    }
}

#[test]
fn more_than_the_state_says_is_refused_at_once() {
    let world = World::new();
    let (whole, mut ledger) = (three_exchanges(&world), three_exchanges(&world));
    ledger.order(&world, after(11), &[world.command(1, Verdict::Refused)]);
    let told = Told { state: whole.state, ..ledger.told() };
    let refused = told.rebuild(&world).unwrap_err().to_string();
    assert!(refused.contains("block 3 comes, and the state says that 2 is the last"), "{refused}");
}

#[test]
fn evidence_may_be_missing_only_once_it_need_not_be_kept() {
    let world = World::new();
    let mut ledger = three_exchanges(&world);
    let due = after(10).plus(world.view.parameters().retention);
    ledger.order(&world, due, &[world.command(1, Verdict::Refused)]);
    let without = |when: Timestamp, block: usize| {
        let mut told = ledger.told();
        told.blocks[block].1[0] = told.blocks[block].1[0].clone().drop_bytes(when);
        told.rebuild(&world)
    };
    without(due, 0).unwrap();
    let second = Timestamp::from_millis(due.millis() - 1).unwrap();
    for (when, block) in [(second, 0), (due, 1), (Timestamp::from_millis(due.millis() + 1).unwrap(), 0)] {
        let refused = without(when, block).unwrap_err().to_string();
        assert!(refused.contains("comes without its evidence"), "{refused}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_order_of_commands_decides_an_exchange_twice(
        batches in prop::collection::vec(
            (prop::collection::vec((1_u8..4, 0_usize..4), 1..5), 0_u64..600), 1..6)
    ) {
        let world = World::new();
        let (mut one, mut other) = (Memory::new(), Memory::new());
        let mut time = 0;
        let mut first: HashMap<ExchangeId, Verdict> = HashMap::new();
        for (commands, step) in batches {
            time += step;
            let commands: Vec<Demand> = commands
                .into_iter()
                .map(|(number, verdict)| world.command(number, Verdict::ALL[verdict]))
                .collect();
            let entry = world.entry(1, &one.state, after(time), &commands);
            let (outcomes, same) = (one.apply(&world, &entry).unwrap(), other.apply(&world, &entry).unwrap());
            prop_assert_eq!(format!("{outcomes:?}"), format!("{same:?}"));
            for (id, exchange) in &one.exchanges {
                prop_assert_eq!(*first.entry(*id).or_insert(exchange.leaf.verdict), exchange.leaf.verdict);
            }
        }
        prop_assert_eq!(one.state.log.root(), other.state.log.root());
        prop_assert_eq!(one.state.log.size() as usize, one.exchanges.len());
    }
}
