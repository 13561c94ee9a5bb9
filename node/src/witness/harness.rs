//! Four members in memory, with real keys: every order of events that the property tests think of, with crashes and
//! losses, one member that lies, and logs that differ. It drives the same rules, tallies and ledger as the server.
//!
//! What must hold after every event, whatever happened: no exchange has certificates for two leaves, no exchange has
//! `q` shares for two verdicts, and no honest share went out before a certificate was stored.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use fairpost_proto::chain;
use fairpost_proto::cose::Signed as Cose;
use fairpost_proto::ids::{Digest, ExchangeId, Span, Timestamp, Verdict};
use fairpost_proto::leaf::Leaf;
use fairpost_proto::threshold::{self, Message, Share};
use fairpost_proto::vote::Vote;
use proptest::prelude::*;

use super::rules::{self, Acknowledged, Seen, Signed};
use super::tally::{self, Counted, Leaves, Tally};
use crate::ledger::Block;
use crate::ledger::tests::Memory;
use crate::testing::{LIFETIME, World, after};

const MEMBERS: usize = 4;
const LIAR: usize = 3;

/// What a member has on disk: it survives a crash.
#[derive(Clone, Default)]
struct Disk {
    voted: HashMap<ExchangeId, Digest>,
    /// By sequence: number, leaves, root.
    ballots: BTreeMap<u64, (u64, Leaves, Digest)>,
    /// By sequence and root of the log.
    certificates: BTreeMap<(u64, Digest), Vec<Counted>>,
}

struct Node {
    ledger: Memory,
    disk: Disk,
    /// Lost in a crash.
    tallies: BTreeMap<u64, Tally>,
    /// How many entries of its log it has applied.
    applied: usize,
    /// How far its clock is from the others'.
    offset: i64,
}

/// What may happen next.
#[derive(Clone, Debug)]
enum Event {
    /// A leader orders these commands, on one of two logs.
    Order { log: usize, commands: Vec<(u8, usize)>, step: u64 },
    /// A member applies the next entry of its log.
    Apply(usize),
    /// A member chooses and stores its ballots.
    Vote(usize),
    /// A vote that was sent (perhaps long ago, perhaps for the second time) reaches a member.
    Deliver { vote: usize, to: usize },
    /// A member stores the certificates that are complete.
    Certify(usize),
    /// A member is asked for its share.
    Share { member: usize, exchange: u8 },
    /// A member loses all that is not on disk.
    Crash(usize),
    /// A member loses its ledger, and its log is rewritten: it sees the other one from now on.
    Rewrite(usize),
}

struct Cluster {
    world: World,
    nodes: Vec<Node>,
    /// Two logs that need not agree: a lying leader's two stories.
    logs: [(Vec<Vec<u8>>, Memory); 2],
    /// Which log each member sees.
    sees: [usize; MEMBERS],
    liar: bool,
    clock: u64,
    sent: Vec<(u64, Block, Counted)>,
    shares: BTreeMap<(ExchangeId, Verdict), BTreeMap<u16, Share>>,
}

impl Cluster {
    fn new(sees: [usize; MEMBERS], liar: bool) -> Self {
        let node = || Node {
            ledger: Memory::new(),
            disk: Disk::default(),
            tallies: BTreeMap::new(),
            applied: 0,
            offset: 0,
        };
        Self {
            world: World::new(),
            nodes: (0..MEMBERS).map(|_| node()).collect(),
            logs: [(vec![], Memory::new()), (vec![], Memory::new())],
            sees,
            liar,
            clock: 0,
            sent: vec![],
            shares: BTreeMap::new(),
        }
    }

    fn lies(&self, member: usize) -> bool {
        self.liar && member == LIAR
    }

    fn exchange(&self, number: u8) -> ExchangeId {
        self.world.nro(number).payload().terms.exchange()
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Order { log, commands, step } => {
                self.clock += step;
                let commands: Vec<_> = commands
                    .iter()
                    .map(|(number, verdict)| self.world.command(*number, Verdict::ALL[*verdict]))
                    .collect();
                let (entries, ledger) = &mut self.logs[*log];
                let entry = self.world.entry(0, &ledger.state, after(self.clock), &commands);
                ledger.apply(&self.world, &entry).unwrap();
                entries.push(entry);
            }
            Event::Apply(member) => self.apply(*member),
            Event::Vote(member) => self.vote(*member),
            Event::Deliver { vote, to } => self.deliver(*vote, *to),
            Event::Certify(member) => self.certify(*member),
            Event::Share { member, exchange } => self.share(*member, *exchange),
            Event::Crash(member) => self.nodes[*member].tallies.clear(),
            Event::Rewrite(member) => self.rewrite(*member),
        }
        self.check();
    }

    fn apply(&mut self, member: usize) {
        let node = &mut self.nodes[member];
        if let Some(entry) = self.logs[self.sees[member]].0.get(node.applied) {
            node.ledger.apply(&self.world, entry).unwrap();
            node.applied += 1;
        }
    }

    /// The liar votes for everything that either log has; the honest by the rules.
    fn vote(&mut self, member: usize) {
        if self.lies(member) {
            let blocks: Vec<Block> = self.logs.iter().flat_map(|(_, ledger)| ledger.blocks.clone()).collect();
            for block in blocks {
                let mut all = Leaves::none(block.leaves.len());
                (0..block.leaves.len()).for_each(|place| all.insert(place));
                self.send(member, &block, 1, all);
            }
            return;
        }
        let skew = self.world.view.parameters().skew;
        let node = &mut self.nodes[member];
        let mut own = Vec::new();
        for block in &node.ledger.blocks {
            let held = node.disk.ballots.get(&block.sequence).cloned();
            if held.as_ref().is_some_and(|(_, leaves, root)| tally::root(block, leaves) != *root) {
                continue;
            }
            let (number, leaves, root) = held.unwrap_or_else(|| {
                let seen_millis = block.time.millis().saturating_add_signed(node.offset);
                let seen = Seen { entry: Timestamp::from_millis(seen_millis), receipt: None };
                let mut leaves = Leaves::none(block.leaves.len());
                for (place, leaf) in block.leaves.iter().enumerate() {
                    let signed =
                        Signed { voted: node.disk.voted.get(&leaf.exchange).copied(), ..Signed::default() };
                    if rules::may_vote(&signed, &seen, leaf, skew).is_ok() {
                        leaves.insert(place);
                        node.disk.voted.insert(leaf.exchange, leaf.hash());
                    }
                }
                let root = tally::root(block, &leaves);
                (node.disk.ballots.len() as u64 + 1, leaves, root)
            });
            node.disk.ballots.insert(block.sequence, (number, leaves.clone(), root));
            own.push((block.clone(), number, leaves));
        }
        for (block, number, leaves) in own {
            self.send(member, &block, number, leaves);
        }
    }

    fn send(&mut self, member: usize, block: &Block, number: u64, leaves: Leaves) {
        let key = &self.world.identities[member];
        let vote = Vote {
            cluster: self.world.view.cluster(),
            epoch: 0,
            sequence: block.sequence,
            log_size: block.log_size,
            log_root: block.log_root,
            ballot: tally::root(block, &leaves),
            number,
        };
        let vote = Cose::sign(vote, chain::key_id(&key.verifying_key()), key);
        self.sent.push((block.sequence, block.clone(), Counted { vote, leaves }));
    }

    fn rewrite(&mut self, member: usize) {
        self.sees[member] = 1 - self.sees[member];
        let node = &mut self.nodes[member];
        (node.ledger, node.applied) = (Memory::new(), 0);
        node.tallies.clear();
        // The certificates stay on disk; those of the other log's entries certify nothing in this one.
    }

    fn deliver(&mut self, vote: usize, to: usize) {
        if self.sent.is_empty() {
            return;
        }
        let (sequence, _, counted) = self.sent[vote % self.sent.len()].clone();
        let node = &mut self.nodes[to];
        let Some(block) = node.ledger.blocks.iter().find(|block| block.sequence == sequence) else { return };
        let tally = node.tallies.entry(sequence).or_insert_with(|| Tally::new(block.clone()));
        // A vote that does not count here is simply not counted.
        let _ = tally.add(&self.world.view, counted);
    }

    fn certify(&mut self, member: usize) {
        let node = &mut self.nodes[member];
        for (sequence, tally) in &node.tallies {
            if !tally.certified(&self.world.view).is_empty() {
                let key = (*sequence, tally.block().log_root);
                node.disk.certificates.insert(key, tally.votes().cloned().collect());
            }
        }
    }

    fn share(&mut self, member: usize, number: u8) {
        let exchange = self.exchange(number);
        let cluster = self.world.view.cluster();
        if self.lies(member) {
            for verdict in Verdict::ALL {
                self.give(member, exchange, verdict, Message::Verdict { cluster, verdict, exchange });
            }
            return;
        }
        let node = &self.nodes[member];
        let Some(decided) = node.ledger.exchanges.get(&exchange) else { return };
        let block = &node.ledger.blocks[decided.sequence as usize - 1];
        let mut stored = Tally::new(block.clone());
        let key = (decided.sequence, block.log_root);
        stored.restore(&self.world.view, node.disk.certificates.get(&key).cloned().unwrap_or_default());
        let certificate = stored.certificate(&self.world.view, decided.place as usize);
        if let Some(certificate) = &certificate {
            certificate.check(&self.world.view).expect("a stored certificate convinces anybody");
        }
        let signed = Signed { voted: node.disk.voted.get(&exchange).copied(), ..Signed::default() };
        let acknowledged = Acknowledged { needed: self.world.view.quorum().q(), found: 0 };
        if let Ok(verdict) = rules::may_share(
            &signed,
            certificate.as_ref().map(|certificate| certificate.leaf()),
            acknowledged,
        ) {
            assert!(
                self.certified_leaves(&exchange).contains(&decided.leaf.hash()),
                "a share without a quorum"
            );
            self.give(member, exchange, verdict, Message::Verdict { cluster, verdict, exchange });
        }
    }

    fn give(&mut self, member: usize, exchange: ExchangeId, verdict: Verdict, message: Message) {
        let shares = self.shares.entry((exchange, verdict)).or_default();
        shares.entry(member as u16).or_insert_with(|| self.world.shares[member].sign(&message));
    }

    /// The leaves of an exchange that, of all votes ever sent, a quorum is for.
    fn certified_leaves(&self, exchange: &ExchangeId) -> BTreeSet<Digest> {
        let mut voters: BTreeMap<Digest, BTreeSet<fairpost_proto::ids::KeyId>> = BTreeMap::new();
        for (_, block, counted) in &self.sent {
            for (place, leaf) in block.leaves.iter().enumerate() {
                if leaf.exchange == *exchange && counted.leaves.contains(place) {
                    voters.entry(leaf.hash()).or_default().insert(*counted.vote.signer());
                }
            }
        }
        let q = self.world.view.quorum().q();
        voters.into_iter().filter(|(_, voters)| voters.len() >= q).map(|(leaf, _)| leaf).collect()
    }

    fn check(&self) {
        let q = self.world.view.quorum().q();
        for number in 1..=2 {
            let exchange = self.exchange(number);
            let certified = self.certified_leaves(&exchange);
            assert!(certified.len() <= 1, "two certificates for one exchange: {certified:?}");
            let tokens: Vec<Verdict> = Verdict::ALL
                .into_iter()
                .filter(|verdict| {
                    self.shares.get(&(exchange, *verdict)).is_some_and(|shares| shares.len() >= q)
                })
                .collect();
            assert!(tokens.len() <= 1, "two tokens for one exchange: {tokens:?}");
        }
    }

    /// Everything arrives at last, and everybody does what it may.
    fn settle(&mut self) {
        for member in 0..MEMBERS {
            while self.nodes[member].applied < self.logs[self.sees[member]].0.len() {
                self.happen(&Event::Apply(member));
            }
            self.happen(&Event::Vote(member));
        }
        for to in 0..MEMBERS {
            for vote in 0..self.sent.len() {
                self.deliver(vote, to);
            }
            self.happen(&Event::Certify(to));
            for exchange in 1..=2 {
                self.happen(&Event::Share { member: to, exchange });
            }
        }
    }

    /// The token of an exchange, if `q` shares for a verdict are out; combined and verified.
    fn token(&self, exchange: ExchangeId) -> Option<Verdict> {
        let q = self.world.view.quorum().q();
        let (verdict, shares) = Verdict::ALL.into_iter().find_map(|verdict| {
            let shares = self.shares.get(&(exchange, verdict)).filter(|shares| shares.len() >= q)?;
            Some((verdict, shares))
        })?;
        let list: Vec<(u16, Share)> = shares.iter().map(|(member, share)| (*member, *share)).collect();
        let token = threshold::combine(q, &list).unwrap();
        let message = Message::Verdict { cluster: self.world.view.cluster(), verdict, exchange };
        self.world.view.public_key().verify(&message, &token).unwrap();
        Some(verdict)
    }
}

fn event(logs: usize) -> impl Strategy<Value = Event> {
    let commands = prop::collection::vec((1_u8..3, 0_usize..4), 1..3);
    prop_oneof![
        2 => (0..logs, commands, 0_u64..400).prop_map(|(log, commands, step)| Event::Order { log, commands, step }),
        5 => (0..MEMBERS).prop_map(Event::Apply),
        4 => (0..MEMBERS).prop_map(Event::Vote),
        10 => (0_usize..64, 0..MEMBERS).prop_map(|(vote, to)| Event::Deliver { vote, to }),
        4 => (0..MEMBERS).prop_map(Event::Certify),
        4 => (0..MEMBERS, 1_u8..3).prop_map(|(member, exchange)| Event::Share { member, exchange }),
        1 => (0..MEMBERS).prop_map(Event::Crash),
        (logs as u32 - 1) => (0..MEMBERS).prop_map(Event::Rewrite),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// One log, as Raft gives it: whatever is lost and whoever crashes, every decided exchange gets one token in the end.
    #[test]
    fn with_one_log_every_decided_exchange_gets_its_one_token(
        events in prop::collection::vec(event(1), 1..60)
    ) {
        let mut cluster = Cluster::new([0; MEMBERS], false);
        for event in &events {
            cluster.happen(event);
        }
        cluster.settle();
        for number in 1..=2 {
            let exchange = cluster.exchange(number);
            let decided = cluster.logs[0].1.exchanges.get(&exchange).map(|exchange| exchange.leaf.verdict);
            prop_assert_eq!(cluster.token(exchange), decided);
        }
    }

    /// Two logs, as a lying leader may show them, and a member that votes and signs for both: never two tokens.
    #[test]
    fn with_two_logs_and_a_liar_there_are_never_two_tokens(
        sees in prop::array::uniform4(0_usize..2),
        events in prop::collection::vec(event(2), 1..60)
    ) {
        let mut cluster = Cluster::new(sees, true);
        for event in &events {
            cluster.happen(event);
        }
        cluster.settle();
    }
}

fn one_entry(verdict: usize, step: u64) -> Event {
    Event::Order { log: 0, commands: vec![(1, verdict)], step }
}

#[test]
fn an_entry_that_too_few_saw_in_time_gets_no_certificate() {
    let mut cluster = Cluster::new([0; MEMBERS], false);
    let skew: Span = cluster.world.view.parameters().skew;
    for node in &mut cluster.nodes[2..] {
        node.offset = i64::try_from(skew.millis()).unwrap() + 1;
    }
    cluster.happen(&one_entry(0, 10));
    cluster.settle();
    let exchange = cluster.exchange(1);
    assert!(cluster.certified_leaves(&exchange).is_empty());
    assert_eq!(cluster.token(exchange), None);
}

#[test]
fn a_member_whose_log_was_rewritten_does_not_vote_again() {
    let mut cluster = Cluster::new([0; MEMBERS], true);
    let order = |log, exchange, verdict| Event::Order { log, commands: vec![(exchange, verdict)], step: 1 };
    // In the other log the same exchange has another verdict, and in an entry that nobody has voted on yet.
    for event in [order(0, 1, 0), order(1, 2, 0), order(1, 1, 1)] {
        cluster.happen(&event);
    }
    cluster.settle();
    for member in 0..MEMBERS {
        cluster.happen(&Event::Rewrite(member));
    }
    cluster.settle();
    let released = cluster.logs[0].1.blocks[0].leaves[0].hash();
    assert_eq!(cluster.certified_leaves(&cluster.exchange(1)), BTreeSet::from([released]));
}

#[test]
#[should_panic(expected = "two certificates")]
fn members_that_forget_their_votes_would_break_it() {
    let mut cluster = Cluster::new([0; MEMBERS], true);
    let order = |log, exchange, verdict| Event::Order { log, commands: vec![(exchange, verdict)], step: 1 };
    for event in [order(0, 1, 0), order(1, 2, 0), order(1, 1, 1)] {
        cluster.happen(&event);
    }
    cluster.settle();
    for member in 0..MEMBERS {
        cluster.nodes[member].disk = Disk::default();
        cluster.happen(&Event::Rewrite(member));
    }
    cluster.settle();
}

#[test]
fn all_four_verdicts_end_in_a_token() {
    for (place, verdict) in Verdict::ALL.into_iter().enumerate() {
        let mut cluster = Cluster::new([0; MEMBERS], false);
        let step = if verdict == Verdict::Expired { LIFETIME + 30 } else { 10 };
        cluster.happen(&one_entry(place, step));
        cluster.settle();
        assert_eq!(cluster.token(cluster.exchange(1)), Some(verdict));
    }
}

#[test]
fn one_member_down_changes_nothing_and_two_down_hold_everything_up() {
    for (down, expected) in [(1, Some(Verdict::Released)), (2, None)] {
        let mut cluster = Cluster::new([0; MEMBERS], false);
        // A member that sees the other, empty log takes no part.
        for sees in &mut cluster.sees[..down] {
            *sees = 1;
        }
        cluster.happen(&one_entry(0, 10));
        cluster.settle();
        assert_eq!(cluster.token(cluster.exchange(1)), expected);
    }
}

#[test]
fn a_liars_second_ballot_is_found_and_not_counted() {
    let mut cluster = Cluster::new([0, 0, 1, 0], true);
    cluster.happen(&one_entry(0, 10));
    cluster.happen(&Event::Order { log: 1, commands: vec![(1, 1)], step: 0 });
    let (released, withdrawn): (Leaf, Leaf) =
        (cluster.logs[0].1.blocks[0].leaves[0], cluster.logs[1].1.blocks[0].leaves[0]);
    assert_ne!(released.hash(), withdrawn.hash());
    cluster.happen(&Event::Vote(LIAR));
    let view = &cluster.world.view;
    let mut tally = Tally::new(cluster.logs[0].1.blocks[0].clone());
    let mut problems = cluster.sent.iter().map(|(_, _, counted)| tally.add(view, counted.clone()));
    assert!(matches!(problems.next(), Some(Ok(true))));
    // The second one's leaves are not this log's: its ballot is for something else.
    assert!(matches!(problems.next(), Some(Err(tally::Problem::Ballot { .. }))));
    drop(problems);
    let none = Leaves::none(1);
    cluster.send(LIAR, &cluster.logs[0].1.blocks[0].clone(), 2, none);
    let (_, _, empty) = cluster.sent.last().unwrap().clone();
    assert!(matches!(tally.add(&cluster.world.view, empty), Err(tally::Problem::Equivocation { .. })));
}
