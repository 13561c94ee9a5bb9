//! Fills the data folders of a cluster that was never started with exchanges, as if it had decided them: for what must be
//! tried on a cluster that has been at work for long.
//!
//! All is real: people with certificates of the cluster's CA, signatures, blocks, votes of a quorum, and the stores'
//! own code. Signed by several threads, and put together without the checks that the ledger makes of each command; but
//! every so many blocks go through [`ledger::apply`], which must come to the same. There are no tokens: they are made
//! when somebody asks. Raft's log is empty: purged behind the ledger.

use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, ensure};
use ed25519_dalek::SigningKey;
use fairpost::{ca, identity::Identity};
use fairpost_node::config::Config;
use fairpost_node::ledger::{self, Applied, Block, Exchange, Exchanges, Standing, State};
use fairpost_node::membership::ShareFile;
use fairpost_node::store::{self, Database, Folder, Home, Ledger, Memory, Store, Writer};
use fairpost_node::witness::store::Store as WitnessStore;
use fairpost_node::witness::tally::{self, Counted, Leaves, Tally};
use fairpost_ops::operator;
use fairpost_proto::cose::Signed;
use fairpost_proto::entry::{self, Command, Demand, Entry, Head};
use fairpost_proto::evidence::{Answer, Nro, Nrr};
use fairpost_proto::ids::{Digest, ExchangeId, Protocol, Span, Verdict};
use fairpost_proto::leaf::{Leaf, Round};
use fairpost_proto::terms::{Address, Fields, Recipient, Sender, Terms};
use fairpost_proto::trust::Trust;
use fairpost_proto::view::View;
use fairpost_proto::vote::Vote;
use rand::RngCore as _;
use rand::rngs::OsRng;

use crate::dealer;

/// How many blocks are signed, and written, together.
const TOGETHER: usize = 64;
/// Every so many blocks go through the ledger's own rules.
const CHECKED: usize = 64;
/// How long the exchanges last.
const LIFETIME: Span = Span::from_seconds(3600);

/// What to fill in.
#[derive(Clone, Copy, Debug)]
pub struct Filling {
    /// How many exchanges, all Released.
    pub exchanges: usize,
    /// How many of them in a block.
    pub block: usize,
    /// How many people there are. Each sends and receives.
    pub people: usize,
    /// With how many threads to sign.
    pub threads: usize,
}

/// How many bytes were made.
#[derive(Clone, Copy, Debug)]
pub struct Filled {
    /// How many exchanges.
    pub exchanges: usize,
    /// In one node's ledger.
    pub ledger_bytes: u64,
    /// In one node's witness store.
    pub witness_bytes: u64,
}

/// One node's own.
struct Member {
    config: Config,
    identity: SigningKey,
}

/// Fills all nodes of the cluster that `fairpostctl init` made in this folder. None may be running or have run. A key is
/// dealt if there is none yet.
pub async fn fill(cluster: &Path, filling: Filling) -> anyhow::Result<Filled> {
    let trust = cluster.join("cluster.trust");
    let trust = if trust.exists() { fairpost::trust::load(&trust)? } else { dealer::deal(cluster)? };
    let mut members = Vec::new();
    for member in trust.view().members() {
        let config = Config::load(&cluster.join(&member.name).join("fairpostd.toml"))?;
        ensure!(!config.data.exists(), "{} has data already", member.name);
        let identity = operator::read_key(&config.identity)?;
        members.push(Member { config, identity });
    }
    let people = people(&cluster.join("ca"), filling)?;
    let first = members.first().context("a cluster without members")?;
    let (ledger, folder) = open_ledger(&first.config, &trust)?;
    let mut witnesses = Vec::new();
    for member in &members {
        let folder = if member.config.name == first.config.name {
            Arc::clone(&folder)
        } else {
            Arc::new(Folder::open(&member.config.data, &owner(&member.config, &trust))?)
        };
        witnesses.push(Witness::open(member, &trust, folder).await?);
    }
    let mut state = State::empty();
    while (state.log.size() as usize) < filling.exchanges {
        let missing = filling.exchanges - state.log.size() as usize;
        let signed = sign(&trust, &people, filling, missing.min(TOGETHER * filling.block))?;
        let mut blocks = Vec::new();
        for commands in signed.chunks(filling.block) {
            let applied = apply(trust.view(), &first.identity, &state, commands)?;
            state = applied.state.clone();
            ledger
                .commit(position(&state).into(), Some(membership(trust.view()).into()), Some(&applied))
                .await?;
            blocks.push(applied.block);
        }
        for witness in &witnesses {
            witness.vote(trust.view(), &members, &blocks).await?;
        }
    }
    ledger.close().await?;
    for witness in witnesses {
        witness.close().await?;
    }
    drop((ledger, folder));
    let (ledger, witness) = (Store::Ledger.name(), Store::Witness.name());
    for member in members.iter().skip(1) {
        copy(&first.config.data.join(ledger), &member.config.data.join(ledger))?;
    }
    Ok(Filled {
        exchanges: filling.exchanges,
        ledger_bytes: bytes_in(&first.config.data.join(ledger))?,
        witness_bytes: bytes_in(&first.config.data.join(witness))?,
    })
}

fn owner(config: &Config, trust: &Trust) -> store::Identity {
    store::Identity { node: config.name.clone(), cluster: trust.cluster() }
}

/// The ledger of a node that does not run.
pub fn open_ledger(config: &Config, trust: &Trust) -> anyhow::Result<(Ledger, Arc<Folder>)> {
    let folder = Arc::new(Folder::open(&config.data, &owner(config, trust))?);
    let report = |error: &store::Error| eprintln!("{error}");
    Ok((Ledger::open(Home::new(Arc::clone(&folder), Memory::default(), report))?, folder))
}

fn people(ca: &Path, filling: Filling) -> anyhow::Result<Vec<Identity>> {
    let now = fairpost::now();
    let person = |number: usize| {
        let address = Address::parse(&format!("person-{number:05}@example.org"))?;
        let mut identity = Identity::generate(address.clone());
        let certificate = ca::issue_for_key(ca, &address, &identity.verifying_key(), 365, now)?;
        identity.install(&certificate, now)?;
        anyhow::Ok(identity)
    };
    (0..filling.people.max(2)).map(person).collect()
}

/// Commands that release `count` exchanges.
fn sign(trust: &Trust, people: &[Identity], filling: Filling, count: usize) -> anyhow::Result<Vec<Demand>> {
    let threads = filling.threads.max(1);
    let each = count.div_ceil(threads);
    let share = |thread: usize| count.saturating_sub(thread * each).min(each);
    thread::scope(|scope| {
        let work = |count| move || (0..count).map(|_| command(trust, people)).collect::<Result<Vec<_>, _>>();
        let started: Vec<_> = (0..threads).map(|thread| scope.spawn(work(share(thread)))).collect();
        let mut commands = Vec::with_capacity(count);
        for thread in started {
            let made = thread.join().map_err(|_| anyhow::anyhow!("a signing thread panicked"))?;
            commands.extend(made?);
        }
        Ok(commands)
    })
}

fn command(trust: &Trust, people: &[Identity]) -> anyhow::Result<Demand> {
    let pick = || people.get(OsRng.next_u32() as usize % people.len()).context("nobody is there");
    let (sender, recipient) = (pick()?, pick()?);
    let (mut nonce, mut content) = ([0; 16], [0; 32]);
    OsRng.fill_bytes(&mut nonce);
    OsRng.fill_bytes(&mut content);
    let created = fairpost::now();
    let terms = Terms::new(Fields {
        protocol: Protocol::Cmp2,
        cluster: trust.cluster(),
        nonce,
        sender: Sender { address: sender.address().clone(), key: sender.key_id() },
        recipient: Recipient { address: recipient.address().clone(), key: Some(recipient.key_id()) },
        content: Digest::new(content),
        created,
        expires: created.plus(LIFETIME),
    })?;
    let nro = sender.sign(Nro { terms, sealed: Digest::of(&content) })?;
    let nrr = recipient.sign(Nrr(Answer::to(&nro)))?;
    let (nro, evidence) = (nro.bytes().to_vec(), Some(nrr.bytes().to_vec()));
    Ok(Demand { verdict: Verdict::Released, nro, evidence })
}

/// What an entry with these commands does.
fn apply(view: &View, leader: &SigningKey, state: &State, commands: &[Demand]) -> anyhow::Result<Applied> {
    let batch: Vec<Command> = commands.iter().cloned().map(Command::Party).collect();
    let batch = entry::write_batch(&batch);
    let time = fairpost::now().max(state.time);
    let head = Head {
        cluster: view.cluster(),
        epoch: view.epoch(),
        term: 1,
        sequence: state.sequence + 1,
        previous: state.head,
        time,
        batch: Digest::of(&batch),
    };
    let head = Signed::sign(head, fairpost_proto::chain::key_id(&leader.verifying_key()), leader);
    let mut next = State { sequence: state.sequence + 1, head: head.digest(), time, log: state.log.clone() };
    let (mut exchanges, mut nodes) = (Vec::new(), Vec::new());
    for (command, place) in commands.iter().zip(0..) {
        let nro = Signed::<Nro>::parse(&command.nro)?;
        let leaf = Leaf {
            exchange: nro.payload().terms.exchange(),
            round: Round::FIRST,
            verdict: command.verdict,
            time,
            nro: nro.digest(),
            evidence: command.evidence.as_deref().map(Digest::of),
        };
        nodes.extend(next.log.push(leaf.hash()));
        let (nro, evidence) = (command.nro.clone(), command.evidence.clone());
        exchanges.push(Exchange { leaf, sequence: next.sequence, place, nro, evidence, dropped: None });
    }
    let block = Block {
        sequence: next.sequence,
        index: next.sequence,
        time,
        log_size: next.log.size(),
        log_root: next.log.root(),
        leaves: exchanges.iter().map(|exchange| exchange.leaf).collect(),
    };
    if state.sequence.is_multiple_of(CHECKED as u64) {
        let entry = Entry::parse(&entry::write(&head, &batch))?;
        let Ok(applied) = ledger::apply(view, state, &entry, next.sequence, &Nothing);
        let applied = applied?;
        ensure!(applied.block == block && applied.exchanges == exchanges && applied.nodes == nodes);
        ensure!(applied.state.to_bytes() == next.to_bytes());
    }
    Ok(Applied { state: next, outcomes: Vec::new(), block, exchanges, nodes })
}

/// No exchange was decided before.
struct Nothing;

impl Exchanges for Nothing {
    type Error = Infallible;

    fn standing(&self, _: &ExchangeId) -> Result<Option<Standing>, Infallible> {
        Ok(None)
    }
}

/// A log id as the consensus layer writes it down: term, node, index. Below the first elected leader's.
fn log_id(index: u64) -> Vec<u8> {
    [0, 0, index].iter().flat_map(|number: &u64| number.to_be_bytes()).collect()
}

fn position(state: &State) -> Vec<u8> {
    log_id(state.sequence)
}

/// A membership as the consensus layer writes it down: all members vote, since the entry 0.
fn membership(view: &View) -> Vec<u8> {
    let members = view.members();
    let mut bytes = [&[1][..], &log_id(0), &1_u16.to_be_bytes()].concat();
    let count = (members.len() as u16).to_be_bytes();
    bytes.extend(count);
    (0..members.len() as u64).for_each(|id| bytes.extend(id.to_be_bytes()));
    bytes.extend(count);
    for (member, id) in members.iter().zip(0_u64..) {
        bytes.extend(id.to_be_bytes());
        for text in [&member.name, &member.address] {
            bytes.extend((text.len() as u16).to_be_bytes());
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

/// A node's witness store on its way.
struct Witness {
    store: WitnessStore,
    writer: store::Handle,
    thread: thread::JoinHandle<Result<(), store::Error>>,
    _folder: Arc<Folder>,
}

impl Witness {
    async fn open(member: &Member, trust: &Trust, folder: Arc<Folder>) -> anyhow::Result<Self> {
        let database: Database =
            folder.database(Store::Witness, WitnessStore::COLUMNS, &Memory::default())?;
        let (writer, thread) = Writer::start(database.clone(), Store::Witness, |error| eprintln!("{error}"))?;
        let mut share = ShareFile::open(&member.config.share, trust.view(), &member.config.name)?;
        let (store, _) = WitnessStore::open(database, writer.clone(), &mut share).await?;
        Ok(Self { store, writer, thread, _folder: folder })
    }

    /// Votes for all leaves of these blocks, and keeps the votes of a quorum.
    async fn vote(&self, view: &View, members: &[Member], blocks: &[Block]) -> anyhow::Result<()> {
        let all = |block: &Block| {
            let mut leaves = Leaves::none(block.leaves.len());
            (0..block.leaves.len()).for_each(|place| leaves.insert(place));
            leaves
        };
        let choices: Vec<(Block, Leaves)> = blocks.iter().map(|block| (block.clone(), all(block))).collect();
        self.store.choose(&choices, &[]).await?;
        let voters = members.get(..view.quorum().q()).context("fewer members than a quorum")?;
        let mut tallies = Vec::new();
        for (block, leaves) in &choices {
            // Each chose every block, so its number is the block's.
            let vote = Vote {
                cluster: view.cluster(),
                epoch: view.epoch(),
                sequence: block.sequence,
                log_size: block.log_size,
                log_root: block.log_root,
                ballot: tally::root(block, leaves),
                number: block.sequence,
            };
            let sign = |member: &Member| {
                let signer = fairpost_proto::chain::key_id(&member.identity.verifying_key());
                let vote = Signed::sign(vote, signer, &member.identity);
                Counted { vote, leaves: leaves.clone() }
            };
            let mut tally = Tally::new(block.clone());
            for member in voters {
                tally.add(view, sign(member))?;
            }
            let certified = tally.certified(view);
            tallies.push((tally, certified));
        }
        self.store.put_certificates(&tallies).await?;
        Ok(())
    }

    async fn close(self) -> anyhow::Result<()> {
        self.writer.close().await;
        let ended = self.thread.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?;
        Ok(ended?)
    }
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// The size of all files in a folder, and in those below.
pub fn bytes_in(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        bytes += if about.is_dir() { bytes_in(&entry.path())? } else { about.len() };
    }
    Ok(bytes)
}
