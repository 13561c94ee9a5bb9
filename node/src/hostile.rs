//! Hostile bytes for what a node reads: from its callers, from its disk, and in its configuration.
//!
//! What Raft reads has its targets in `consensus/tests/hostile.rs`.

use std::fmt::Display;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use fairpost_api::tls::{Credentials, PeerCertificate};
use fairpost_api::v1;
use fairpost_hostile::{Target, run};
use fairpost_proto::cbor::Writer as CborWriter;
use fairpost_proto::chain;
use fairpost_proto::cose::Signed;
use fairpost_proto::entry::Command;
use fairpost_proto::ids::{ClusterId, Digest, Verdict};
use fairpost_proto::leaf::Round;
use fairpost_proto::round::Acknowledgement;
use fairpost_proto::vote::Vote;
use prost::Message;

use crate::config::Config;
use crate::ledger::tests::Memory as LedgerMemory;
use crate::ledger::{Block, Exchange, State};
use crate::machine::{IntakeError, Reading};
use crate::membership::ShareFile;
use crate::store::{
    self, Column, Database, Durability, Folder, Handle, Home, Identity, Ledger, Memory, Ops, Store, Writer,
};
use crate::testing::{World, after};
use crate::witness::blame::{Cleared, Kind, Record};
use crate::witness::store::{Error as StoreError, Store as WitnessStore, stored_number};
use crate::witness::tally::Leaves;

/// How errors of records name the place.
const RECORDS: &[&str] =
    &[" has length ", "the map", "time", "the leaf", "the round", "the verdict", "the frontier", "a tree of"];

/// A ledger in which each verdict has come about.
fn ledger() -> LedgerMemory {
    let (world, mut ledger) = (World::new(), LedgerMemory::new());
    let commands = [(1, Verdict::Released), (2, Verdict::Withdrawn), (3, Verdict::Refused)]
        .map(|(number, verdict)| world.command(number, verdict));
    let entry = world.entry(0, &ledger.state, after(10), &commands);
    ledger.apply(&world, &entry).unwrap();
    ledger
}

#[test]
fn records_of_the_ledger() {
    let ledger = ledger();
    let exchange = ledger.exchanges.values().next().unwrap();
    run(vec![
        Target::one_encoding("ledger-state", |bytes| State::parse(bytes).map(|state| state.to_bytes()))
            .seed(ledger.state.to_bytes())
            .seed(State::empty().to_bytes())
            .places(RECORDS),
        Target::one_encoding("ledger-block", |bytes| Block::parse(bytes).map(|block| block.to_bytes()))
            .seed(ledger.blocks[0].to_bytes())
            .places(RECORDS),
        Target::one_encoding("ledger-exchange", |bytes| {
            Exchange::parse(bytes).map(|exchange| exchange.to_bytes())
        })
        .seed(exchange.to_bytes())
        .places(RECORDS),
    ]);
}

/// Records as a snapshot brings them, each behind its length; the last one has what is there.
fn split(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (record, rest) = rest.split_at((u32::from_be_bytes(*length) as usize).min(rest.len()));
        bytes = rest;
        Some(record)
    })
}

#[test]
fn records_of_a_snapshot() {
    let (ledger, retention) = (ledger(), World::new().view.parameters().retention);
    let mut records = vec![
        [&[3][..], &ledger.state.to_bytes()].concat(),
        [&[1][..], &ledger.blocks[0].to_bytes()].concat(),
    ];
    for leaf in &ledger.blocks[0].leaves {
        records.push([&[2][..], &ledger.exchanges[&leaf.exchange].to_bytes()].concat());
    }
    let framed = records.iter().flat_map(|record| {
        let length = (record.len() as u32).to_be_bytes();
        [&length[..], record].concat()
    });
    let read = move |bytes: &[u8]| -> Result<(), IntakeError> {
        let mut records = split(bytes);
        let mut reading = Reading::begin(records.next(), retention)?;
        records.try_for_each(|record| reading.next(record).map(drop))?;
        reading.finish().map(drop)
    };
    run(vec![
        Target::new("snapshot-records", read).seed(framed.collect::<Vec<u8>>()).places(&["it is record "]),
    ]);
}

/// A database in a folder of its own, and what waits for its writer.
struct Disk {
    database: Database,
    writer: Handle,
    runtime: tokio::runtime::Runtime,
    folder: tempfile::TempDir,
}

impl Disk {
    fn new(store: Store, columns: &[Column]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("db"), columns, &Memory::new(8 << 20)).unwrap();
        let (writer, _) = Writer::start(database.clone(), store, |_| {}).unwrap();
        Self::of(database, writer, folder)
    }

    fn of(database: Database, writer: Handle, folder: tempfile::TempDir) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { database, writer, runtime, folder }
    }

    fn put(&self, column: &'static str, key: &[u8], value: &[u8]) {
        let mut ops = Ops::new();
        ops.put(Column::new(column), key, value.to_vec());
        self.runtime.block_on(self.writer.write(ops, Durability::Buffered)).unwrap();
    }
}

/// What a store makes of a value under this key.
fn stored<E: Display>(
    name: &'static str,
    disk: &Arc<Disk>,
    column: &'static str,
    key: &[u8],
    read: impl Fn() -> Result<(), E> + 'static,
) -> Target {
    let (disk, key) = (Arc::clone(disk), key.to_vec());
    Target::new(name, move |bytes| {
        disk.put(column, &key, bytes);
        read()
    })
    .longest(100_000)
}

#[test]
fn values_in_the_ledgers_database() {
    let memory = ledger();
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let identity = Identity { node: "n1".into(), cluster: world.view.cluster() };
    let home = Arc::new(Folder::open(folder.path(), &identity).unwrap());
    let ledger = Ledger::open(Home::new(home, Memory::new(8 << 20), |error| panic!("{error}"))).unwrap();
    let (database, writer) = ledger.raw();
    let disk = Arc::new(Disk::of(database, writer, folder));
    let exchange = memory.exchanges.values().next().unwrap().clone();
    let id = exchange.leaf.exchange;
    let packed = store::pack(&exchange);
    for (digest, certificate) in &packed.certificates {
        disk.put("certificates", digest.as_bytes(), certificate);
    }
    let (blocks, states) = (ledger.clone(), ledger.clone());
    let places = &["is damaged", "damaged"];
    run(vec![
        stored("ledger-db-exchange", &disk, "exchanges", id.as_bytes(), move || {
            ledger.exchange(&id).map(drop)
        })
        .seed(packed.record.clone())
        .places(places),
        stored("ledger-db-block", &disk, "blocks", &1_u64.to_be_bytes(), move || blocks.block(1).map(drop))
            .seed(memory.blocks[0].to_bytes())
            .places(places),
        stored("ledger-db-state", &disk, "meta", b"state", move || states.stored_state().map(drop))
            .seed(memory.state.to_bytes())
            .places(places),
    ]);
}

#[test]
fn values_in_the_witnesss_database() {
    let (world, memory) = (World::new(), ledger());
    let block = memory.blocks[0].clone();
    let id = block.leaves[0].exchange;
    let disk = Arc::new(Disk::new(Store::Witness, WitnessStore::COLUMNS));
    let path = disk.folder.path().join("share.toml");
    let name = world.view.members()[0].name.clone();
    ShareFile::create(&path, &world.view, &name, &world.shares[0]).unwrap();
    let mut share = ShareFile::open(&path, &world.view, &name).unwrap();
    let opening = WitnessStore::open(disk.database.clone(), disk.writer.clone(), &mut share);
    let (store, _) = disk.runtime.block_on(opening).unwrap();

    let mut leaves = Leaves::none(block.leaves.len());
    leaves.insert(0);
    let ballot = crate::witness::tally::root(&block, &leaves);
    let key = &world.identities[0];
    let vote = Vote {
        cluster: world.view.cluster(),
        epoch: 0,
        sequence: block.sequence,
        log_size: block.log_size,
        log_root: block.log_root,
        ballot,
        number: 1,
    };
    let vote = Signed::sign(vote, chain::key_id(&key.verifying_key()), key);
    let chosen = CborWriter::new()
        .array(4)
        .uint(1)
        .bytes(leaves.as_bytes())
        .bytes(ballot.as_bytes())
        .bytes(block.log_root.as_bytes())
        .finish();
    let chosen_before =
        CborWriter::new().array(3).uint(1).bytes(leaves.as_bytes()).bytes(ballot.as_bytes()).finish();
    let certificate =
        CborWriter::new().array(1).array(2).bytes(vote.bytes()).bytes(leaves.as_bytes()).finish();
    let certificate_key = [&block.sequence.to_be_bytes()[..], block.log_root.as_bytes()].concat();

    let second = Round::new(2).unwrap();
    let of_second = [&id.as_bytes()[..], &[0, 0, 0, 2]].concat();
    let whole = world.certificate(block.leaves[0], &[0, 1, 2]).to_bytes();
    let stated = CborWriter::new().array(4).uint(3).bytes(&whole).null().uint(after(4).millis()).finish();
    let held = CborWriter::new().array(3).uint(1).bytes(block.log_root.as_bytes()).uint(0).finish();
    let acknowledged = CborWriter::new().array(2).uint(4).bytes(block.leaves[0].hash().as_bytes()).finish();
    let acknowledgement = Acknowledgement {
        cluster: world.view.cluster(),
        epoch: 0,
        exchange: id,
        round: second,
        leaf: block.leaves[0].hash(),
        number: 4,
    };
    let identity = &world.identities[0];
    let acknowledgement = Signed::sign(acknowledgement, chain::key_id(&identity.verifying_key()), identity);
    let quorum = CborWriter::new().array(1).bytes(acknowledgement.bytes()).finish();

    let member = world.view.members()[2].key_id();
    let blame = CborWriter::new()
        .array(5)
        .uint(after(3).millis())
        .uint(after(4).millis())
        .uint(2)
        .text("exchange 07, Released")
        .bytes(b"share")
        .finish();
    let cleared = CborWriter::new().array(3).uint(after(5).millis()).bytes(&[9; 32]).uint(2).finish();

    let leaf = block.leaves[0];
    let statement = world.statement(0, (1, 2), after(4), |statement| {
        statement.exchange = leaf.exchange;
        statement.certificate = Some(world.certificate(leaf, &[0, 1, 2]));
    });

    let stores: Vec<WitnessStore> = (0..12).map(|_| store.clone()).collect();
    let [
        voted,
        promised,
        seen,
        chose,
        certified,
        counted,
        states,
        holds,
        acknowledges,
        confirms,
        signs,
        remembers,
    ] = stores.try_into().ok().unwrap();
    let (chosen_for, certified_for, counted_for) = (block.clone(), block.clone(), block.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let places = &["is damaged"];
    run(vec![
        stored("witness-db-voted", &disk, "voted", id.as_bytes(), move || {
            voted.signed(&id, Round::FIRST).map(drop)
        })
        .seed(block.leaves[0].hash().as_bytes().to_vec())
        .places(places),
        stored("witness-db-promised", &disk, "promised", id.as_bytes(), move || {
            // A vote that does not parse is told of first.
            match promised.signed(&id, Round::FIRST) {
                Err(error) if error.to_string().contains("a vote") => Ok(()),
                other => other.map(drop),
            }
        })
        .seed([0, 0, 0, 1])
        .places(places),
        stored("witness-db-seen", &disk, "receipts", id.as_bytes(), move || seen.receipt(&id).map(drop))
            .seed(CborWriter::new().array(3).uint(after(3).millis()).null().null().finish())
            .seed(CborWriter::new().array(3).uint(after(3).millis()).bytes(b"nro").bytes(b"nrr").finish())
            .places(places),
        stored("witness-db-statement", &disk, "statements", &of_second, move || {
            states.stated(&id, second).map(drop)
        })
        .seed(stated)
        .places(places),
        stored("witness-db-held", &disk, "held", &of_second, move || holds.held(&id).map(drop))
            .seed(held)
            .places(places),
        stored("witness-db-acknowledged", &disk, "acknowledged", &of_second, move || {
            acknowledges.acknowledged(&id, second).map(drop)
        })
        .seed(acknowledged)
        .places(places),
        stored("witness-db-acknowledgements", &disk, "acknowledgements", &of_second, move || {
            confirms.acknowledgements(&id, second).map(drop)
        })
        .seed(quorum)
        .places(places),
        Target::one_encoding("witness-db-blame", move |bytes| {
            let record = Record::parse(member, Kind::Share, bytes).map_err(StoreError::from)?;
            Ok::<_, StoreError>(record.to_bytes())
        })
        .seed(blame)
        .places(places),
        Target::one_encoding("witness-db-cleared", |bytes| {
            Ok::<_, StoreError>(Cleared::parse(bytes).map_err(StoreError::from)?.to_bytes())
        })
        .seed(cleared)
        .places(places),
        stored("witness-db-ballot", &disk, "ballots", &block.sequence.to_be_bytes(), move || {
            chose.chosen(&chosen_for).map(drop)
        })
        .seed(chosen)
        .seed(chosen_before)
        .places(places),
        Target::new("witness-db-newest", stored_number)
            .seed(vote.bytes())
            .seed(statement.bytes())
            .seed(acknowledgement.bytes())
            .places(places)
            .longest(300_000),
        stored("witness-db-certificate", &disk, "certificates", &certificate_key, move || {
            certified.certificate(&certified_for).map(drop)
        })
        .seed(certificate)
        .places(places),
        stored("witness-db-counter", &disk, "meta", b"number", move || {
            runtime.block_on(counted.choose(&[(counted_for.clone(), Leaves::none(3))], &[]))
        })
        .seed(7_u64.to_be_bytes())
        .places(places),
        // After the choices above, which read it.
        stored("witness-db-log", &disk, "meta", b"log", move || signs.log().map(drop))
            .seed(CborWriter::new().array(2).uint(9).bytes(block.log_root.as_bytes()).finish())
            .places(places),
        stored("witness-db-rolled-back", &disk, "meta", b"rolled back", move || {
            remembers.rolled_back().map(drop)
        })
        .seed(CborWriter::new().array(2).uint(7).uint(12).finish())
        .places(places),
    ]);
}

/// A file that `read` reads, of this mode.
fn file<T, E: Display>(
    name: &'static str,
    file: &'static str,
    read: impl Fn(&std::path::Path) -> Result<T, E> + 'static,
) -> Target {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(file);
    let read = move |bytes: &[u8]| {
        fs::write(folder.path().join(file), bytes).unwrap();
        fs::set_permissions(folder.path().join(file), fs::Permissions::from_mode(0o600)).unwrap();
        read(&path)
    };
    Target::new(name, read).places(&[file])
}

#[test]
fn files_of_a_node() {
    let world = World::new();
    let view = world.view.clone();
    let name = view.members()[0].name.clone();
    let made = tempfile::tempdir().unwrap();
    let path = made.path().join("share.toml");
    ShareFile::create(&path, &view, &name, &world.shares[0]).unwrap();
    let identity = Identity { node: "alpha".into(), cluster: ClusterId::new([1; 32]) };
    drop(Folder::open(&made.path().join("data"), &identity).unwrap());
    let config = "name = 'n1'\nlisten = '127.0.0.1:7401'\nmetrics_listen = '127.0.0.1:7402'\ndata = 'data'\n\
                  [raft]\nheartbeat_millis = 90\n[limits]\nbatch = 16\nrequest_millis = 1000\n";
    run(vec![
        // figment makes a tree of the file, and a second one of it.
        file("node-config", "fairpostd.toml", Config::load).seed(config).memory(160, 1 << 20),
        file("share-file", "share.toml", move |path| ShareFile::open(path, &view, &name))
            .seed(fs::read(&path).unwrap())
            .memory(160, 512 << 10),
        file("node-json", "node.json", move |path| Folder::open(path.parent().unwrap(), &identity).map(drop))
            .seed(fs::read(made.path().join("data/node.json")).unwrap())
            // It names the folder, or the file in it.
            .places(&["node.json", "the data folder", "/"]),
    ]);
}

fn message<M: Message + Default + 'static>(name: &'static str, seed: &M) -> Target {
    // What is empty is not written, and fields may come in any order: so there are many encodings of one message.
    Target::new(name, |bytes| M::decode(bytes))
        .seed(seed.encode_to_vec())
        .places(&["Protobuf"])
        .memory(40, 256 << 10)
}

#[test]
fn messages_of_callers_and_of_other_nodes() {
    let world = World::new();
    let command = world.command(1, Verdict::Released);
    let (nro, evidence) = (command.nro.clone(), command.evidence.clone().unwrap());
    let command = Command::Party(command).to_bytes();
    let digest = || Digest::of(b"some").as_bytes().to_vec();
    let vote = v1::BallotVote { vote: nro.clone(), leaves: vec![5] };
    let share = v1::ShareResult { share: vec![1; 96], verdict: 1, ..Default::default() };
    let result = v1::CommandResult { sequence: 7, ..Default::default() };
    run(vec![
        message(
            "grpc-party-request",
            &v1::PartyRequest { request: evidence.clone(), nro: nro.clone(), evidence: evidence.clone() },
        ),
        message("grpc-outcome", &v1::Outcome { token: vec![1; 96], evidence, ..Default::default() }),
        message("grpc-proof-parts", &v1::ProofParts { nro, token: vec![1; 96], ..Default::default() }),
        message("grpc-raft", &v1::RaftMessage { body: digest() }),
        message("grpc-forward", &v1::ForwardRequest { commands: vec![command.clone(); 3] }),
        message(
            "grpc-suspect",
            &v1::SuspectRequest { suspicions: vec![digest(); 3], command: command.clone() },
        ),
        message("grpc-forwarded", &v1::ForwardResponse { results: vec![result; 3] }),
        message(
            "grpc-votes",
            &v1::CastVotesRequest { votes: vec![vote; 3], acknowledgements: vec![digest(); 3] },
        ),
        message("grpc-statement", &v1::GetStatementRequest { exchange: digest(), round: 2 }),
        message("grpc-stated", &v1::GetStatementResponse { statement: digest(), evidence: vec![command; 3] }),
        message("grpc-newest", &v1::GetNewestResponse { newest: digest() }),
        message("grpc-shares", &v1::GetSharesRequest { exchanges: vec![digest(); 3] }),
        message("grpc-shared", &v1::GetSharesResponse { shares: vec![share; 3] }),
    ]);
}

#[test]
fn what_peers_present_before_anybody_is_known() {
    let key = &World::new().identities[0];
    let made = Credentials::generate(key, &["n1.example.net".to_owned()], after(0)).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let places = &["certificate", "binding", "TLS", "key"];
    run(vec![
        Target::new("tls-certificate", |bytes| PeerCertificate::from_der(bytes).map(drop))
            .seed(made.certificate_der())
            .places(places),
        Target::new("tls-credentials", move |bytes| Credentials::from_pem(&text(bytes)).map(drop))
            .seed(made.to_pem().unwrap().as_bytes())
            .places(places)
            .memory(24, 512 << 10),
    ]);
}
