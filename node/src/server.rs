//! The node as a whole: opens what it owns, starts its parts in order, and stops them in the reverse order.
//!
//! Options, services and handles are wired here and nowhere else: a reader who knows this file knows who talks to whom.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ed25519_dalek::pkcs8::DecodePrivateKey as _;
use ed25519_dalek::{SigningKey, VerifyingKey};
use fairpost_api::limits;
use fairpost_api::tls::{Credentials, Incoming, IncomingOptions, server_config};
use fairpost_api::v1::admin_server::AdminServer;
use fairpost_api::v1::cluster_server::ClusterServer;
use fairpost_api::v1::consensus_server::ConsensusServer;
use fairpost_api::v1::exchange_server::ExchangeServer;
use fairpost_api::v1::peer_server::PeerServer;
use fairpost_proto::ids::{KeyId, Timestamp};
use fairpost_proto::trust::{self, Trust};
use fairpost_proto::view::View;
use fairpost_proto::{armor, binding, chain};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tracing::{error, info};

use crate::api::admin::AdminService;
use crate::api::admission::Admission;
use crate::api::admission::layer::Arrivals;
use crate::api::auth::Gate;
use crate::api::cluster::ClusterService;
use crate::api::contact::Contact;
use crate::api::exchange::ExchangeService;
use crate::api::peer::PeerService;
use crate::api::peers::{self, Peers};
use crate::api::raft::{RaftService, RaftTransport};
use crate::api::watch::Watchers;
use crate::clock;
use crate::config::{Config, Limits};
use crate::consensus::{self, Electorate, purge, sequencer};
use crate::health::{self, Health};
use crate::machine::{self, LedgerMachine};
use crate::membership::{self, ShareFile};
use crate::retention;
use crate::store::{self, Folder, Home, Ledger, Memory, Store, Writer};
use crate::telemetry;
use crate::witness::collect::Collector;
use crate::witness::{self, combine, rounds, service};

/// How long requests under way may take after the node was told to stop.
const DRAIN: Duration = Duration::from_secs(5);

/// The most bytes of headers that a request may have.
const HEADERS: u32 = 16 * 1024;
/// How many requests may be taken back before they are looked at, and how many this side may break off, before the
/// connection is closed.
const RESETS: usize = 256;
/// How many entries without a certificate the witness keeps in memory: a few kilobytes each.
const INCOMPLETE: usize = 4096;
/// How many files the node may need for other things than connections of strangers: three databases, members.
const FILES: usize = 1536;

/// Why a node does not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read.
    #[error("{what} {path}: {problem}")]
    File {
        /// What it is.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The trust file does not hold.
    #[error("the trust file {path}: {source}")]
    Trust {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        source: trust::Error,
    },
    /// The view names no such member.
    #[error("the cluster has no member {name:?}; its members are {members}")]
    NoMember {
        /// The name in the configuration.
        name: String,
        /// The names in the view.
        members: String,
    },
    /// The identity key is another's.
    #[error(
        "the identity key in {path} is {found}, and in {trust} the key of {name} is {expected}: restore the right file"
    )]
    Identity {
        /// Where it is.
        path: PathBuf,
        /// This node's name.
        name: String,
        /// Where the view is.
        trust: PathBuf,
        /// The key that the view has for the name.
        expected: KeyId,
        /// The key in the file.
        found: KeyId,
    },
    /// The TLS key speaks for another.
    #[error("the TLS key in {path} does not speak for {name}: {source}; restore the right file")]
    Binding {
        /// Where it is.
        path: PathBuf,
        /// This node's name.
        name: String,
        /// What is wrong with its binding.
        source: binding::Error,
    },
    /// An address is taken or not ours.
    #[error("can't listen on {address}: {source}; is another process using the port?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The metrics' address is taken.
    #[error("can't serve metrics on {address}: {problem}; is another process using the port?")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// What the exporter says.
        problem: String,
    },
    /// A database fails.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The share can't be used.
    #[error(transparent)]
    Share(#[from] membership::Error),
    /// The witness store fails.
    #[error(transparent)]
    Witness(#[from] witness::store::Error),
    /// The log can't be read.
    #[error("the log: {0}")]
    Log(#[from] consensus::LogError),
    /// Raft does not start or has stopped.
    #[error("consensus: {0}")]
    Consensus(#[from] consensus::Error),
    /// The other members can't be called.
    #[error(transparent)]
    Peers(#[from] peers::Error),
    /// TLS can't be set up.
    #[error("TLS: {0}")]
    Tls(String),
    /// The server broke off.
    #[error("gRPC: {0}")]
    Serve(#[from] tonic::transport::Error),
    /// A part of the node failed while it ran.
    #[error("the node stopped because {0}")]
    Fatal(String),
}

/// Runs a node until `stop` is done, or a part of it fails.
pub async fn run(config: Config, stop: impl Future<Output = ()> + Send) -> Result<(), Error> {
    let started = Instant::now();
    let trust = Arc::new(load_trust(&config)?);
    let view = Arc::new(trust.view().clone());
    let (index, identity) = load_identity(&config, &view)?;
    let credentials = load_credentials(&config, &identity.verifying_key())?;
    let mut share = Box::new(ShareFile::open(&config.share, &view, &config.name)?);

    // Ports before data: a second process fails before it touches anything.
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|source| Error::Listen { address: config.listen, source })?;
    let metrics = start_metrics(config.metrics_listen)?;
    let (halt, halted) = watch::channel(false);
    let (fatal, mut failed) = watch::channel(None::<String>);
    let disks = Disks::open(&config, &view, &fatal)?;

    let ledger = disks.ledger.clone();
    let log = consensus::LogStore::open(
        disks.log.clone(),
        disks.log_writer.clone(),
        Arc::new(clock::now),
        config.log.keep(),
    )?;
    let (witness_store, standing) =
        witness::store::Store::open(disks.witness.clone(), disks.witness_writer.clone(), share.as_mut())
            .await?;

    let peers = Peers::start(&view, index, &credentials)?;
    let electorate = Electorate::new(&view, Arc::clone(&identity));
    let members = electorate.members();
    let raft = consensus::start(
        raft_options(index, &config, &view),
        electorate,
        log.clone(),
        Arc::new(LedgerMachine::new(
            Arc::clone(&view),
            ledger.clone(),
            Arc::clone(&peers) as Arc<dyn machine::Vouchers>,
        )),
        RaftTransport::new(Arc::clone(&peers)),
    )
    .await?;
    if raft.recovering().is_none() {
        raft.initialize(members).await?;
    }

    let (witnessing, witness) = service::Service::new(
        service::Options {
            view: Arc::clone(&view),
            index,
            identity: Arc::clone(&identity),
            share,
            ledger: ledger.clone(),
            log: Arc::new(log.clone()),
            peers: Arc::clone(&peers) as Arc<dyn service::Peers>,
            clock: clock::now,
            incomplete: INCOMPLETE,
        },
        witness_store,
        standing,
    );
    peers.answer_to(witness.clone());
    service::announce(&witness);
    let (sequencing, sequencer) = sequencer::Service::new(sequencer::Options {
        view: Arc::clone(&view),
        identity,
        ledger: ledger.clone(),
        raft: raft.clone(),
        batch: config.limits.batch,
        certified: witness.watch_certified(),
    });
    let shares = Arc::clone(&peers) as Arc<dyn witness::collect::Shares>;
    let (combining, combiner) = combine::Service::new(Arc::clone(&view));
    let collector =
        Collector::new(Arc::clone(&view), index, ledger.clone(), witness.clone(), combiner, shares);
    let (stuck, reports) = rounds::reports();
    let contact = Contact {
        view: Arc::clone(&view),
        ledger: ledger.clone(),
        consensus: raft.clone(),
        sequencer: sequencer.clone(),
        peers,
        witness: witness.clone(),
        collector: collector.clone(),
        rounds: stuck,
    };
    let rounds = rounds::Service::new(
        rounds::Options {
            view: Arc::clone(&view),
            index,
            ledger: ledger.clone(),
            witness: witness.clone(),
            others: Arc::new(contact.clone()),
        },
        reports,
    );

    let (reporter, health_service) = tonic_health::server::health_reporter();
    let health = Health::default();
    let looking = health::Service {
        health: health.clone(),
        consensus: raft.clone(),
        witness: witness.clone(),
        ledger: ledger.clone(),
        reporter,
    };
    let witness_task = watch_over("the witness failed", fatal.clone(), witnessing.run(halted.clone()));
    let purging = purge::Service::new(purge::Options {
        consensus: raft.clone(),
        needed: Arc::new(Unvoted { witness: witness.clone(), ledger: ledger.clone() }),
    });
    let retaining = retention::Service::new(ledger.clone(), view.parameters().retention);
    let tasks = [
        tokio::spawn(looking.run(halted.clone())),
        tokio::spawn(sequencing.run()),
        tokio::spawn(combining.run()),
        tokio::spawn(purging.run(halted.clone())),
        tokio::spawn(retaining.run(halted.clone())),
        tokio::spawn(rounds.run(halted.clone())),
        witness_task,
    ];

    let gate = Gate::new(Arc::clone(&view));
    let tls = server_config(&credentials).map_err(|error| Error::Tls(error.to_string()))?;
    let known = gate.clone();
    let incoming = Incoming::knowing(
        listener,
        Arc::new(ArcSwap::new(tls)),
        incoming_options(&config.limits),
        Arc::new(move |peer| known.knows(peer)),
    );
    let admission = Admission::new(&config.limits);
    let arrivals = Arrivals::new(Arc::clone(&admission), gate.clone(), &config.limits);
    let sampling =
        crate::api::metrics::sample(incoming.connections(), arrivals.clone(), Arc::clone(&admission));
    let sampling = tokio::spawn(sampling);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(fairpost_api::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| Error::Fatal(format!("reflection can't be set up: {error}")))?;
    let limit = Duration::from_millis(config.limits.request_millis);
    let router = Server::builder()
        .max_concurrent_streams(config.limits.requests_per_connection)
        .http2_max_header_list_size(HEADERS)
        .http2_max_pending_accept_reset_streams(Some(RESETS))
        .http2_max_local_error_reset_streams(Some(RESETS))
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .tcp_nodelay(true)
        .layer(arrivals)
        .add_service(health_service)
        .add_service(reflection)
        .add_service(
            ExchangeServer::new(ExchangeService::new(
                contact.clone(),
                Arc::clone(&admission),
                Watchers::new(contact.clone(), &config.limits, halted.clone()),
                limit,
            ))
            .max_decoding_message_size(limits::PARTY_REQUEST),
        )
        .add_service(ClusterServer::new(ClusterService { name: config.name.clone(), trust }))
        .add_service(
            PeerServer::new(PeerService {
                gate: gate.clone(),
                sequencer,
                witness,
                collector,
                admission,
                calls: PeerService::places(),
                halted: halted.clone(),
            })
            .max_decoding_message_size(limits::PEER)
            .max_encoding_message_size(limits::PEER),
        )
        .add_service(
            ConsensusServer::new(RaftService::new(gate.clone(), raft.clone(), halted.clone()))
                .max_decoding_message_size(limits::CONSENSUS)
                .max_encoding_message_size(limits::CONSENSUS),
        )
        .add_service(AdminServer::new(AdminService {
            gate,
            name: config.name.clone(),
            contact,
            health,
            started,
            metrics,
        }));
    info!(name = config.name, address = %config.listen, cluster = %view.cluster(), "serving");

    let mut reason = None;
    let asked = async {
        tokio::select! {
            () = stop => info!("asked to stop"),
            _ = failed.wait_for(Option::is_some) => {}
        }
        // From here on nothing new is taken; what is under way has some time.
        halt.send_replace(true);
    };
    let (stopping, stopped) = tokio::sync::oneshot::channel();
    let serving = router.serve_with_incoming_shutdown(incoming, async {
        asked.await;
        let _ = stopping.send(());
    });
    tokio::select! {
        served = serving => served?,
        () = async { let _ = stopped.await; tokio::time::sleep(DRAIN).await } => info!("requests still under way are dropped"),
    }
    if let Some(problem) = failed.borrow().clone() {
        error!(problem, "stopping");
        reason = Some(problem);
    }
    sampling.abort();
    raft.shutdown().await;
    for task in tasks {
        task.abort();
        let _ = task.await;
    }
    disks.close().await?;
    info!("stopped");
    reason.map_or(Ok(()), |problem| Err(Error::Fatal(problem)))
}

fn incoming_options(limits: &Limits) -> IncomingOptions {
    // Who fills all connections must not keep the databases from opening their files.
    let files = open_files().unwrap_or(usize::MAX);
    let most = files.saturating_sub(FILES).max(files / 4);
    if most < limits.connections {
        tracing::warn!(
            files,
            asked = limits.connections,
            most,
            "fewer connections than limits.connections asks \
             for: the process may open too few files (ulimit -n)"
        );
    }
    IncomingOptions {
        handshake_timeout: Duration::from_millis(limits.handshake_millis),
        max_handshakes: limits.handshakes,
        max_handshakes_per_source: (limits.handshakes / 8).max(1),
        max_connections: limits.connections.min(most),
        max_connections_per_source: limits.connections_per_source,
        first_request: Duration::from_millis(limits.first_request_millis),
        idle: Duration::from_millis(limits.idle_millis),
        ..IncomingOptions::default()
    }
}

/// How many files this process may have open.
fn open_files() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    soft.split_whitespace().next()?.parse().ok()
}

fn raft_options(index: u16, config: &Config, view: &View) -> consensus::Options {
    let raft = &config.raft;
    consensus::Options {
        heartbeat: Duration::from_millis(raft.heartbeat_millis),
        election_min: Duration::from_millis(raft.election_min_millis),
        election_max: Duration::from_millis(raft.election_max_millis),
        proposal_timeout: Duration::from_millis(config.limits.request_millis),
        agreement: consensus::clocks::Agreement {
            members: view.quorum().n(),
            quorum: view.quorum().q(),
            skew: view.parameters().skew,
        },
        ..consensus::Options::new(u64::from(index))
    }
}

/// The witness needs of the log what it has not voted on: when each entry was first seen.
struct Unvoted {
    witness: service::Handle,
    ledger: Ledger,
}

impl purge::Needed for Unvoted {
    fn needed(&self) -> Result<Option<u64>, String> {
        if !self.witness.may_sign() {
            return Ok(None);
        }
        let voted = self.witness.voted().map_err(|error| error.to_string())?;
        // What it has voted on goes as far as the block's own entry.
        let block = self.ledger.block(voted).map_err(|error| error.to_string())?;
        Ok(Some(block.map_or(0, |block| block.index.saturating_add(1))))
    }
}

/// The three databases and their writers.
struct Disks {
    log: store::Database,
    log_writer: store::Handle,
    ledger: Ledger,
    witness: store::Database,
    witness_writer: store::Handle,
    threads: Vec<std::thread::JoinHandle<Result<(), store::Error>>>,
}

impl Disks {
    fn open(config: &Config, view: &View, fatal: &watch::Sender<Option<String>>) -> Result<Self, Error> {
        let owner = store::Identity { node: config.name.clone(), cluster: view.cluster() };
        let folder = Arc::new(Folder::open(&config.data, &owner)?);
        let memory = Memory::default();
        let mut threads = Vec::new();
        let mut open = |store, columns| -> Result<_, Error> {
            let database = folder.database(store, columns, &memory)?;
            let fatal = fatal.clone();
            let (writer, thread) = Writer::start(database.clone(), store, move |error| {
                fatal.send_replace(Some(error.to_string()));
            })?;
            threads.push(thread);
            Ok((database, writer))
        };
        let (log, log_writer) = open(Store::Log, consensus::LogStore::COLUMNS)?;
        let (witness, witness_writer) = open(Store::Witness, witness::store::Store::COLUMNS)?;
        let fatal = fatal.clone();
        let home = Home::new(folder, memory.clone(), move |error| {
            fatal.send_replace(Some(error.to_string()));
        });
        let ledger = Ledger::open(home)?;
        Ok(Self { log, log_writer, ledger, witness, witness_writer, threads })
    }

    /// Writes and syncs what is queued, and ends the writers.
    async fn close(self) -> Result<(), Error> {
        for writer in [&self.log_writer, &self.witness_writer] {
            writer.close().await;
        }
        self.ledger.close().await?;
        let threads = self.threads;
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().map(std::thread::JoinHandle::join).collect::<Vec<_>>()
        });
        for ended in joined.await.map_err(|error| Error::Fatal(error.to_string()))? {
            match ended {
                Ok(ended) => ended?,
                Err(_) => return Err(Error::Fatal("a writer's thread panicked".into())),
            }
        }
        Ok(())
    }
}

fn watch_over<E: std::fmt::Display + Send + 'static>(
    what: &'static str,
    fatal: watch::Sender<Option<String>>,
    work: impl Future<Output = Result<(), E>> + Send + 'static,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(error) = work.await {
            fatal.send_replace(Some(format!("{what}: {error}")));
        }
    })
}

fn load_trust(config: &Config) -> Result<Trust, Error> {
    let path = &config.trust;
    let file = |problem: String| Error::File { what: "the trust file", path: path.clone(), problem };
    let text = std::fs::read_to_string(path).map_err(|error| file(error.to_string()))?;
    let bytes = armor::decode(armor::TRUST, &text).map_err(|error| file(error.to_string()))?;
    Trust::parse(&bytes).map_err(|source| Error::Trust { path: path.clone(), source })
}

fn load_identity(config: &Config, view: &View) -> Result<(u16, Arc<SigningKey>), Error> {
    let (path, name) = (&config.identity, &config.name);
    let pem = membership::read_private(path)?;
    let key = SigningKey::from_pkcs8_pem(&pem).map_err(|error| Error::File {
        what: "the identity key",
        path: path.clone(),
        problem: error.to_string(),
    })?;
    let Some((index, member)) = view.member_by_name(name) else {
        let members: Vec<&str> = view.members().iter().map(|member| member.name.as_str()).collect();
        return Err(Error::NoMember { name: name.clone(), members: members.join(", ") });
    };
    let found = key.verifying_key();
    if member.identity != found {
        return Err(Error::Identity {
            path: path.clone(),
            name: name.clone(),
            trust: config.trust.clone(),
            expected: chain::key_id(&member.identity),
            found: chain::key_id(&found),
        });
    }
    Ok((index, Arc::new(key)))
}

/// The TLS key, which must speak for `identity`: with another one the node would run, and no member talk to it.
fn load_credentials(config: &Config, identity: &VerifyingKey) -> Result<Credentials, Error> {
    let path = &config.tls;
    let pem = membership::read_private(path)?;
    let credentials = Credentials::from_pem(&pem).map_err(|error| Error::File {
        what: "the TLS key",
        path: path.clone(),
        problem: error.to_string(),
    })?;
    let speaks = credentials.certificate().speaks_for(identity);
    speaks.map_err(|source| Error::Binding { path: path.clone(), name: config.name.clone(), source })?;
    Ok(credentials)
}

fn start_metrics(address: Option<SocketAddr>) -> Result<PrometheusHandle, Error> {
    let handle = telemetry::start(address).map_err(|error| match (address, error) {
        (Some(address), telemetry::Error::Exporter(error)) => {
            Error::Metrics { address, problem: error.to_string() }
        }
        (_, error) => Error::Fatal(error.to_string()),
    })?;
    store::metrics::describe();
    consensus::metrics::describe();
    machine::describe();
    retention::describe();
    crate::ledger::metrics::describe();
    witness::metrics::describe();
    crate::api::metrics::describe();
    crate::health::describe();
    Ok(handle)
}

impl service::FirstSeen for consensus::LogStore {
    fn first_seen(&self, index: u64) -> Option<Timestamp> {
        match Self::first_seen(self, index) {
            Ok(seen) => seen,
            Err(error) => {
                tracing::error!(index, %error, "the log does not tell when it first saw an entry");
                None
            }
        }
    }
}
