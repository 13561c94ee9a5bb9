//! Four members in memory, with real keys: every order of events that the property tests think of, with crashes and
//! losses, one member that lies, and logs that differ. It drives the same rules, tallies and ledger as the server.
//!
//! What must hold after every event, whatever happened: no exchange has certificates for two leaves of one round, no
//! exchange has `q` shares for two verdicts, and no honest share went out before a certificate was stored. And while a
//! quorum is honest and up, every exchange is decided in the end.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use fairpost_proto::chain;
use fairpost_proto::cose::Signed as Cose;
use fairpost_proto::entry::{Command, Demand};
use fairpost_proto::ids::{Digest, ExchangeId, KeyId, Span, Timestamp, Verdict};
use fairpost_proto::leaf::{Leaf, Round};
use fairpost_proto::round::Statement;
use fairpost_proto::threshold::{self, Message, Share};
use fairpost_proto::vote::{Certificate, Vote};
use proptest::prelude::*;

use super::rounds::{self, Answer, Collected};
use super::rules::{self, Acknowledged, Contested, Outlook, Seen, Signed};
use super::tally::{self, Counted, Leaves, Tally};
use crate::ledger::tests::Memory;
use crate::ledger::{Block, Exchange};
use crate::testing::{LIFETIME, World, after};

const MEMBERS: usize = 4;
const LIAR: usize = 3;

/// What a member has on disk: it survives a crash.
#[derive(Clone, Default)]
struct Disk {
    voted: HashMap<(ExchangeId, Round), Digest>,
    /// By sequence: number, leaves, root.
    ballots: BTreeMap<u64, (u64, Leaves, Digest)>,
    /// By sequence and root of the log.
    certificates: BTreeMap<(u64, Digest), Vec<Counted>>,
    /// Certificates, whole: whatever the ledger becomes, they are stated.
    held: BTreeMap<(ExchangeId, Round), Certificate>,
    promised: HashMap<ExchangeId, Round>,
    stated: HashMap<(ExchangeId, Round), Cose<Statement>>,
    acknowledged: HashMap<(ExchangeId, Round), Digest>,
    /// Whose acknowledgements are stored, by leaf.
    acknowledgements: HashMap<Digest, BTreeSet<u16>>,
    receipts: HashMap<ExchangeId, Timestamp>,
}

impl Disk {
    /// What is on disk about a leaf's exchange in its round.
    fn signed(&self, leaf: &Leaf, without: Option<Rule>) -> Signed {
        let round = (leaf.exchange, leaf.round);
        let promised = self.promised.get(&leaf.exchange).copied();
        Signed {
            voted: self.voted.get(&round).copied(),
            acknowledged: self.acknowledged.get(&round).copied(),
            promised: promised.filter(|_| without != Some(Rule::Promises)),
        }
    }
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
    /// A member chooses and stores its ballots; then, unless it crashes in between, it sends them.
    Vote { member: usize, sends: bool },
    /// A member sees a receipt.
    Receipt { member: usize, exchange: u8 },
    /// A member is asked for its statement for the next round of its log; it stores it, and perhaps sends it.
    State { member: usize, exchange: u8, sends: bool },
    /// A leader orders the next round of one of the logs, with some of the statements that were sent for it, and some of the
    /// evidence.
    Open { log: usize, exchange: u8, pick: usize, evidence: [bool; 3] },
    /// A member acknowledges what it has certificates of, and perhaps sends that.
    Acknowledge { member: usize, sends: bool },
    /// An acknowledgement that was sent reaches a member, which stores it.
    Confirm { acknowledgement: usize, to: usize },
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

/// A rule that a test takes out.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rule {
    /// A promise ends votes, acknowledgements and shares below it.
    Promises,
    /// A statement carries the highest certificate.
    Certificates,
    /// One statement for each exchange and round.
    OneStatement,
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
    statements: Vec<Cose<Statement>>,
    /// Who acknowledged which leaf.
    acknowledgements: Vec<(u16, Digest)>,
    /// Taken out, to see what breaks.
    without: Option<Rule>,
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
            statements: vec![],
            acknowledgements: vec![],
            without: None,
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
            Event::Vote { member, sends } => self.vote(*member, *sends),
            Event::Receipt { member, exchange } => self.receive(*member, *exchange),
            Event::State { member, exchange, sends } => drop(self.state(*member, *exchange, *sends)),
            Event::Open { log, exchange, pick, evidence } => self.open(*log, *exchange, *pick, *evidence),
            Event::Acknowledge { member, sends } => self.acknowledge(*member, *sends),
            Event::Confirm { acknowledgement, to } => self.confirm(*acknowledgement, *to),
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
    fn vote(&mut self, member: usize, sends: bool) {
        if self.lies(member) {
            let blocks: Vec<Block> = self.logs.iter().flat_map(|(_, ledger)| ledger.blocks.clone()).collect();
            for block in blocks {
                let mut all = Leaves::none(block.leaves.len());
                (0..block.leaves.len()).for_each(|place| all.insert(place));
                self.send(member, &block, 1, all);
            }
            return;
        }
        let (skew, without) = (self.world.view.parameters().skew, self.without);
        let node = &mut self.nodes[member];
        let mut own = Vec::new();
        for block in &node.ledger.blocks {
            let held = node.disk.ballots.get(&block.sequence).cloned();
            if held.as_ref().is_some_and(|(_, leaves, root)| tally::root(block, leaves) != *root) {
                continue;
            }
            let (number, leaves, root) = held.unwrap_or_else(|| {
                let seen_millis = block.time.millis().saturating_add_signed(node.offset);
                let mut leaves = Leaves::none(block.leaves.len());
                for (place, leaf) in block.leaves.iter().enumerate() {
                    let receipt = node.disk.receipts.get(&leaf.exchange).copied();
                    let seen = Seen { entry: Timestamp::from_millis(seen_millis), receipt };
                    let signed = node.disk.signed(leaf, without);
                    if rules::may_vote(&signed, &seen, leaf, skew).is_ok() {
                        leaves.insert(place);
                        node.disk.voted.insert((leaf.exchange, leaf.round), leaf.hash());
                    }
                }
                let root = tally::root(block, &leaves);
                (node.disk.ballots.len() as u64 + 1, leaves, root)
            });
            node.disk.ballots.insert(block.sequence, (number, leaves.clone(), root));
            own.push((block.clone(), number, leaves));
        }
        for (block, number, leaves) in own.into_iter().filter(|_| sends) {
            self.send(member, &block, number, leaves);
        }
    }

    fn clock(&self, member: usize) -> Timestamp {
        let millis = after(self.clock).millis().saturating_add_signed(self.nodes[member].offset);
        Timestamp::from_millis(millis).unwrap()
    }

    fn receive(&mut self, member: usize, number: u8) {
        let (exchange, clock) = (self.exchange(number), self.clock(member));
        self.nodes[member].disk.receipts.entry(exchange).or_insert(clock);
    }

    /// The liar states for every round that anybody may be asked for, now this and now that, and hides every certificate.
    fn state(&mut self, member: usize, number: u8, sends: bool) -> Option<Cose<Statement>> {
        let (exchange, clock) = (self.exchange(number), self.clock(member));
        let last = self.nodes[member].ledger.exchanges.get(&exchange).map(|held| held.leaf.round);
        if self.lies(member) {
            let round = last.and_then(Round::next)?.get();
            let receipt = self.statements.len().is_multiple_of(2).then_some(after(1));
            let lie = self.world.statement(member, (number, round), clock, |lie| lie.receipt = receipt);
            self.statements.push(lie.clone());
            return Some(lie);
        }
        let asked = last.map_or(Round::FIRST, |last| last.next().unwrap());
        let disk = &self.nodes[member].disk;
        if let Some(stated) =
            disk.stated.get(&(exchange, asked)).filter(|_| self.without != Some(Rule::OneStatement))
        {
            let stated = stated.clone();
            self.statements.extend(sends.then(|| stated.clone()));
            return Some(stated);
        }
        let held = disk.held.range((exchange, Round::FIRST)..).take_while(|((held, _), _)| *held == exchange);
        let certificate = held.last().map(|(_, certificate)| certificate.clone());
        let ledger = &self.nodes[member].ledger;
        let rounds = ledger.earlier.iter().chain(ledger.exchanges.values());
        let rounds: Vec<&Exchange> = rounds.filter(|held| held.leaf.exchange == exchange).collect();
        let mut receipt = disk.receipts.get(&exchange).copied();
        for held in rounds.iter().filter(|held| held.leaf.verdict == Verdict::Released) {
            let time = ledger.blocks[held.sequence as usize - 1].time.millis();
            let seen = Timestamp::from_millis(time.saturating_add_signed(self.nodes[member].offset)).unwrap();
            receipt = Some(receipt.map_or(seen, |receipt| receipt.min(seen)));
        }
        let outlook = Outlook {
            certified: certificate.is_some(),
            receipt: receipt.is_some_and(|seen| seen < after(LIFETIME)),
            answered: rounds
                .iter()
                .any(|held| [Verdict::Withdrawn, Verdict::Refused].contains(&held.leaf.verdict)),
            due: clock >= after(LIFETIME + 30),
        };
        let (waited, patience) = (Span::from_seconds(1), Span::from_seconds(1));
        let contested = Contested { last, waited, token: false, outlook };
        let mut signed = Signed { promised: disk.promised.get(&exchange).copied(), ..Signed::default() };
        if self.without == Some(Rule::OneStatement) {
            signed.promised = None;
        }
        rules::may_state(&signed, &contested, asked, patience).ok()?;
        let certificate = certificate.filter(|_| self.without != Some(Rule::Certificates));
        let statement = self.world.statement(member, (number, asked.get()), clock, |statement| {
            (statement.certificate, statement.receipt) = (certificate, receipt);
        });
        let disk = &mut self.nodes[member].disk;
        disk.promised.insert(exchange, asked);
        disk.stated.insert((exchange, asked), statement.clone());
        self.statements.extend(sends.then(|| statement.clone()));
        Some(statement)
    }

    fn open(&mut self, log: usize, number: u8, pick: usize, evidence: [bool; 3]) {
        let exchange = self.exchange(number);
        let (entries, ledger) = &mut self.logs[log];
        let Some(last) = ledger.exchanges.get(&exchange).map(|held| held.leaf.round) else { return };
        let wanted = self.statements.iter().filter(|statement| {
            let statement = statement.payload();
            (statement.exchange, Some(statement.round)) == (exchange, last.next())
        });
        let mut chosen: BTreeMap<KeyId, Cose<Statement>> = BTreeMap::new();
        let wanted: Vec<_> = wanted.collect();
        for place in 0..wanted.len() {
            let statement = wanted[(place + pick) % wanted.len()];
            if chosen.len() < self.world.view.quorum().q() {
                chosen.entry(*statement.signer()).or_insert_with(|| statement.clone());
            }
        }
        let verdicts = [Verdict::Released, Verdict::Withdrawn, Verdict::Refused].into_iter().zip(evidence);
        let verdicts: Vec<Verdict> =
            verdicts.filter(|(_, there)| *there).map(|(verdict, _)| verdict).collect();
        if chosen.is_empty() {
            return;
        }
        let statements: Vec<_> = chosen.into_values().collect();
        let opening = Command::Round(self.world.opening(number, &statements, &verdicts));
        let entry = self.world.entry(0, &ledger.state, after(self.clock), &[opening]);
        ledger.apply(&self.world, &entry).unwrap();
        entries.push(entry);
    }

    /// The liar acknowledges every leaf of a later round.
    fn acknowledge(&mut self, member: usize, sends: bool) {
        let leaves: Vec<Leaf> = if self.lies(member) {
            let blocks = self.logs.iter().flat_map(|(_, ledger)| &ledger.blocks);
            blocks.flat_map(|block| block.leaves.clone()).filter(|leaf| leaf.round > Round::FIRST).collect()
        } else {
            self.nodes[member].disk.held.values().map(|held| *held.leaf()).collect()
        };
        for leaf in leaves {
            let without = self.without;
            if !self.lies(member) {
                let disk = &mut self.nodes[member].disk;
                if rules::may_acknowledge(&disk.signed(&leaf, without), &leaf).is_err() {
                    continue;
                }
                disk.acknowledged.insert((leaf.exchange, leaf.round), leaf.hash());
                disk.acknowledgements.entry(leaf.hash()).or_default().insert(member as u16);
            }
            if sends {
                self.acknowledgements.push((member as u16, leaf.hash()));
            }
        }
    }

    fn confirm(&mut self, acknowledgement: usize, to: usize) {
        if let Some(place) = acknowledgement.checked_rem(self.acknowledgements.len()) {
            let (author, leaf) = self.acknowledgements[place];
            self.nodes[to].disk.acknowledgements.entry(leaf).or_default().insert(author);
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
        let view = &self.world.view;
        let node = &mut self.nodes[member];
        for (sequence, tally) in &node.tallies {
            if !tally.certified(view).is_empty() {
                let key = (*sequence, tally.block().log_root);
                node.disk.certificates.insert(key, tally.votes().cloned().collect());
            }
            for (place, leaf) in tally.block().leaves.iter().enumerate() {
                if let Some(certificate) = tally.certificate(view, place) {
                    certificate.check(view).expect("a stored certificate convinces anybody");
                    node.disk.held.insert((leaf.exchange, leaf.round), certificate);
                }
            }
        }
    }

    /// A member is asked for its share for each round that its ledger has of an exchange.
    fn share(&mut self, member: usize, number: u8) {
        let exchange = self.exchange(number);
        let cluster = self.world.view.cluster();
        if self.lies(member) {
            for verdict in Verdict::ALL {
                self.give(member, exchange, verdict, Message::Verdict { cluster, verdict, exchange });
            }
            return;
        }
        let blocks = self.nodes[member].ledger.blocks.clone();
        for block in blocks {
            for (place, leaf) in block.leaves.iter().enumerate().filter(|(_, leaf)| leaf.exchange == exchange)
            {
                self.share_for(member, &block, place, leaf);
            }
        }
    }

    fn share_for(&mut self, member: usize, block: &Block, place: usize, leaf: &Leaf) {
        let (exchange, cluster) = (leaf.exchange, self.world.view.cluster());
        let node = &self.nodes[member];
        let mut stored = Tally::new(block.clone());
        let key = (block.sequence, block.log_root);
        stored.restore(&self.world.view, node.disk.certificates.get(&key).cloned().unwrap_or_default());
        let certificate = stored.certificate(&self.world.view, place);
        let signed = node.disk.signed(leaf, self.without);
        let found = node.disk.acknowledgements.get(&leaf.hash()).map_or(0, BTreeSet::len);
        let acknowledged = Acknowledged { needed: self.world.view.quorum().q(), found };
        if let Ok(verdict) = rules::may_share(
            &signed,
            certificate.as_ref().map(|certificate| certificate.leaf()),
            acknowledged,
        ) {
            assert!(self.certified_leaves(&exchange).contains(leaf), "a share without a quorum");
            self.give(member, exchange, verdict, Message::Verdict { cluster, verdict, exchange });
        }
    }

    fn give(&mut self, member: usize, exchange: ExchangeId, verdict: Verdict, message: Message) {
        let shares = self.shares.entry((exchange, verdict)).or_default();
        shares.entry(member as u16).or_insert_with(|| self.world.shares[member].sign(&message));
    }

    /// The leaves of an exchange that, of all votes ever sent, a quorum is for.
    fn certified_leaves(&self, exchange: &ExchangeId) -> Vec<Leaf> {
        let mut voters: HashMap<Digest, (Leaf, BTreeSet<KeyId>)> = HashMap::new();
        for (_, block, counted) in &self.sent {
            for (place, leaf) in block.leaves.iter().enumerate() {
                if leaf.exchange == *exchange && counted.leaves.contains(place) {
                    let (_, voters) = voters.entry(leaf.hash()).or_insert_with(|| (*leaf, BTreeSet::new()));
                    voters.insert(*counted.vote.signer());
                }
            }
        }
        let q = self.world.view.quorum().q();
        voters.into_values().filter(|(_, voters)| voters.len() >= q).map(|(leaf, _)| leaf).collect()
    }

    fn check(&self) {
        let q = self.world.view.quorum().q();
        for number in 1..=2 {
            let exchange = self.exchange(number);
            let certified = self.certified_leaves(&exchange);
            let rounds: BTreeSet<Round> = certified.iter().map(|leaf| leaf.round).collect();
            assert_eq!(certified.len(), rounds.len(), "two certificates for one round: {certified:?}");
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
            self.happen(&Event::Vote { member, sends: true });
        }
        for to in 0..MEMBERS {
            for vote in 0..self.sent.len() {
                self.deliver(vote, to);
            }
            self.happen(&Event::Certify(to));
            self.happen(&Event::Acknowledge { member: to, sends: true });
        }
        for to in 0..MEMBERS {
            for acknowledgement in 0..self.acknowledgements.len() {
                self.confirm(acknowledgement, to);
            }
            for exchange in 1..=2 {
                self.happen(&Event::Share { member: to, exchange });
            }
        }
    }

    /// As [`Self::settle`], and what is still undecided gets further rounds, from the statements of whoever gives one.
    fn settle_all(&mut self) {
        for _ in 0..6 {
            self.settle();
            for number in 1..=2 {
                let exchange = self.exchange(number);
                let Some(last) = self.logs[0].1.exchanges.get(&exchange).map(|held| held.leaf.round) else {
                    continue;
                };
                if self.token(exchange).is_none() {
                    self.go_on(number, last);
                }
            }
            self.clock += LIFETIME;
        }
    }

    fn go_on(&mut self, number: u8, last: Round) {
        let (exchange, mut collected) = (self.exchange(number), Collected::default());
        let evidence: Vec<Demand> = Verdict::ALL.map(|verdict| self.world.command(number, verdict)).to_vec();
        for member in (0..MEMBERS).rev() {
            if let Some(statement) = self.state(member, number, true) {
                let answer = Answer { statement, evidence: evidence.clone() };
                collected.add(&self.world.view, exchange, last.next().unwrap(), answer).unwrap();
            }
        }
        if let Some((opening, _)) = rounds::assemble(&self.world.view, exchange, last, &collected) {
            let (entries, ledger) = &mut self.logs[0];
            let entry = self.world.entry(0, &ledger.state, after(self.clock), &[Command::Round(opening)]);
            ledger.apply(&self.world, &entry).unwrap();
            entries.push(entry);
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
        4 => (0..MEMBERS, prop::bool::weighted(0.8)).prop_map(|(member, sends)| Event::Vote { member, sends }),
        1 => (0..MEMBERS, 1_u8..3).prop_map(|(member, exchange)| Event::Receipt { member, exchange }),
        3 => (0..MEMBERS, 1_u8..3, prop::bool::weighted(0.8))
            .prop_map(|(member, exchange, sends)| Event::State { member, exchange, sends }),
        2 => (0..logs, 1_u8..3, 0_usize..8, prop::array::uniform3(prop::bool::weighted(0.7)))
            .prop_map(|(log, exchange, pick, evidence)| Event::Open { log, exchange, pick, evidence }),
        3 => (0..MEMBERS, prop::bool::weighted(0.8))
            .prop_map(|(member, sends)| Event::Acknowledge { member, sends }),
        5 => (0_usize..64, 0..MEMBERS)
            .prop_map(|(acknowledgement, to)| Event::Confirm { acknowledgement, to }),
        10 => (0_usize..64, 0..MEMBERS).prop_map(|(vote, to)| Event::Deliver { vote, to }),
        4 => (0..MEMBERS).prop_map(Event::Certify),
        4 => (0..MEMBERS, 1_u8..3).prop_map(|(member, exchange)| Event::Share { member, exchange }),
        1 => (0..MEMBERS).prop_map(Event::Crash),
        1 => (0..MEMBERS).prop_map(move |member| match logs {
            1 => Event::Crash(member),
            _ => Event::Rewrite(member),
        }),
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
        cluster.settle_all();
        for number in 1..=2 {
            let exchange = cluster.exchange(number);
            let decided = cluster.logs[0].1.exchanges.get(&exchange).map(|exchange| exchange.leaf.verdict);
            prop_assert_eq!(cluster.token(exchange), decided);
        }
    }

    /// One log, clocks that are wrong by more than the skew, and a member that votes, states, acknowledges and signs
    /// whatever it likes: the honest ones are a quorum, and every exchange gets its one token.
    #[test]
    fn with_a_liar_and_late_entries_every_exchange_is_decided(
        offsets in prop::array::uniform3(prop::sample::select(vec![0_i64, -11_000, 11_000, 5_000])),
        events in prop::collection::vec(event(1), 1..60)
    ) {
        let mut cluster = Cluster::new([0; MEMBERS], true);
        for (node, offset) in cluster.nodes.iter_mut().zip(offsets) {
            node.offset = offset;
        }
        for event in &events {
            cluster.happen(event);
        }
        cluster.settle_all();
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
    // Until another round is opened.
    cluster.settle_all();
    assert_eq!(cluster.token(exchange), Some(Verdict::Released));
    assert_eq!(cluster.logs[0].1.exchanges[&exchange].leaf.round.get(), 2);
}

/// Two honest members vote Withdrawn; the third sees that too late, and two of them have seen a receipt. The liar keeps
/// its vote back until the second round has decided Released.
fn a_vote_kept_back(without: Option<Rule>) -> Cluster {
    let mut cluster = Cluster::new([0; MEMBERS], true);
    cluster.without = without;
    cluster.nodes[2].offset = 11_000;
    for member in [0, 2] {
        cluster.happen(&Event::Receipt { member, exchange: 1 });
    }
    cluster.happen(&one_entry(1, 10));
    let vote = |cluster: &mut Cluster, members: &[usize]| {
        for member in members {
            cluster.happen(&Event::Apply(*member));
            cluster.happen(&Event::Vote { member: *member, sends: true });
        }
        for to in 0..3 {
            for vote in 0..cluster.sent.len() {
                cluster.deliver(vote, to);
            }
            cluster.happen(&Event::Certify(to));
        }
    };
    vote(&mut cluster, &[0, 1, 2]);
    for member in 0..3 {
        cluster.happen(&Event::State { member, exchange: 1, sends: true });
    }
    cluster.happen(&Event::Open { log: 0, exchange: 1, pick: 0, evidence: [true; 3] });
    vote(&mut cluster, &[0, 1, 2]);
    cluster.settle();
    cluster
}

#[test]
fn a_vote_kept_back_brings_about_no_second_token() {
    let cluster = a_vote_kept_back(None);
    let exchange = cluster.exchange(1);
    let leaf = cluster.logs[0].1.exchanges[&exchange].leaf;
    assert_eq!((leaf.round.get(), leaf.verdict, leaf.time), (2, Verdict::Released, after(0).max(leaf.time)));
    assert_eq!(cluster.token(exchange), Some(Verdict::Released));
    let certified = cluster.certified_leaves(&exchange);
    assert_eq!(certified.len(), 2, "there are certificates for both, and a token for one");
}

#[test]
#[should_panic(expected = "two tokens")]
fn members_that_break_their_promises_would_break_it() {
    a_vote_kept_back(Some(Rule::Promises));
}

/// The first round decides Withdrawn, and one member's share is out; then a second round is opened without need.
fn a_round_too_many(without: Option<Rule>) -> Cluster {
    let mut cluster = Cluster::new([0; MEMBERS], true);
    cluster.without = without;
    for member in 0..3 {
        cluster.happen(&Event::Receipt { member, exchange: 1 });
    }
    cluster.happen(&one_entry(1, 10));
    cluster.settle();
    assert_eq!(cluster.token(cluster.exchange(1)), Some(Verdict::Withdrawn));
    for member in 0..3 {
        cluster.happen(&Event::State { member, exchange: 1, sends: true });
    }
    cluster.happen(&Event::Open { log: 0, exchange: 1, pick: 0, evidence: [true; 3] });
    cluster.settle();
    cluster
}

#[test]
fn a_round_after_the_token_says_the_same() {
    let cluster = a_round_too_many(None);
    let exchange = cluster.exchange(1);
    let leaf = cluster.logs[0].1.exchanges[&exchange].leaf;
    assert_eq!((leaf.round.get(), leaf.verdict), (2, Verdict::Withdrawn));
    assert_eq!(cluster.token(exchange), Some(Verdict::Withdrawn));
}

#[test]
#[should_panic(expected = "two tokens")]
fn members_that_hide_their_certificates_would_break_it() {
    a_round_too_many(Some(Rule::Certificates));
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
    let released = cluster.logs[0].1.blocks[0].leaves[0];
    assert_eq!(cluster.certified_leaves(&cluster.exchange(1)), [released]);
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
    cluster.happen(&Event::Vote { member: LIAR, sends: true });
    let view = &cluster.world.view;
    let mut tally = Tally::new(cluster.logs[0].1.blocks[0].clone());
    let mut problems = cluster.sent.iter().map(|(_, _, counted)| tally.add(view, counted.clone()));
    assert!(matches!(problems.next(), Some(Ok(true))));
    // The second one is of another log: the signatures contradict each other, whatever leaves it is said to be for.
    assert!(matches!(problems.next(), Some(Err(tally::Problem::Equivocation { .. }))));
    drop(problems);
    let none = Leaves::none(1);
    cluster.send(LIAR, &cluster.logs[0].1.blocks[0].clone(), 2, none);
    let (_, _, empty) = cluster.sent.last().unwrap().clone();
    assert!(matches!(tally.add(&cluster.world.view, empty), Err(tally::Problem::Equivocation { .. })));
}
