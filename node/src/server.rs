//! The node as a whole: opens what it owns, starts its parts in order, and stops them in the reverse order.
//!
//! Options, services and handles are wired here and nowhere else: a reader who knows this file knows who talks to whom.

mod ceremony;
mod disks;
mod error;
mod files;
mod options;
mod seen;

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use fairpost_api::limits;
use fairpost_api::tls::{Incoming, server_config};
use fairpost_api::v1::admin_server::AdminServer;
use fairpost_api::v1::ceremony_server::CeremonyServer;
use fairpost_api::v1::cluster_server::ClusterServer;
use fairpost_api::v1::consensus_server::ConsensusServer;
use fairpost_api::v1::exchange_server::ExchangeServer;
use fairpost_api::v1::peer_server::PeerServer;
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
use crate::api::peers::Peers;
use crate::api::raft::{RaftService, RaftTransport};
use crate::api::trial::{self, Trials};
use crate::api::watch::Watchers;
use crate::clock;
use crate::config::Config;
use crate::consensus::{self, Electorate, purge, sequencer};
use crate::health::{self, Health};
use crate::machine::{self, LedgerMachine};
use crate::membership::ceremony::Paths;
use crate::membership::ceremony::finish::complete;
use crate::membership::ceremony::service::{CeremonyService, Stage};
use crate::retention;
use crate::store;
use crate::telemetry;
use crate::witness::collect::Collector;
use crate::witness::{self, blame, combine, rounds, service};
use disks::Disks;
pub use error::Error;
use files::{load_credentials, load_identity, load_share, load_trust};
use options::{incoming_options, raft_options};
use seen::Unvoted;

/// How long requests under way may take after the node was told to stop.
const DRAIN: Duration = Duration::from_secs(5);

/// The most bytes of headers that a request may have.
const HEADERS: u32 = 16 * 1024;
/// How many requests may be taken back before they are looked at, and how many this side may break off, before the
/// connection is closed.
const RESETS: usize = 256;
/// How many entries without a certificate the witness keeps in memory: a few kilobytes each.
const INCOMPLETE: usize = 4096;

/// Runs a node until `stop` is done, or a part of it fails.
pub async fn run(config: Config, stop: impl Future<Output = ()> + Send) -> Result<(), Error> {
    let started = Instant::now();
    let mut stop = pin!(stop);
    let made = Paths::new(&config);
    // Ports before data: a second process fails before it touches anything.
    let mut metrics = None;
    if made.is_due(&config) {
        let listener = listen(&config).await?;
        metrics = Some(start_metrics(config.metrics_listen)?);
        if !Box::pin(ceremony::run(&config, &made, listener, stop.as_mut())).await? {
            return Ok(());
        }
    }
    complete(&config, &made)?;
    let trust = Arc::new(load_trust(&config)?);
    let view = Arc::new(trust.view().clone());
    let (index, identity) = load_identity(&config, view.members(), &config.trust)?;
    let credentials = load_credentials(&config, &identity.verifying_key())?;
    let mut share = load_share(&config, &view, &made)?;

    let listener = listen(&config).await?;
    let metrics = match metrics {
        Some(metrics) => metrics,
        None => start_metrics(config.metrics_listen)?,
    };
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

    let (blaming, blame) = blame::Service::open(
        blame::Options { trust: Arc::clone(&trust), clock: clock::now },
        witness_store.clone(),
    )?;
    let peers = Peers::start(&view, index, &credentials)?;
    let electorate = Electorate::new(&view, Arc::clone(&identity));
    let members = electorate.members();
    let raft = consensus::start(
        raft_options(index, &config, view.quorum(), view.parameters().skew),
        electorate,
        log.clone(),
        Arc::new(LedgerMachine::new(
            Arc::clone(&view),
            ledger.clone(),
            Arc::clone(&peers) as Arc<dyn machine::Vouchers>,
        )),
        RaftTransport::new(view.cluster(), peers.consensus()),
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
            blame,
            clock: clock::now,
            incomplete: INCOMPLETE,
        },
        witness_store,
        standing,
    );
    let entries = witness.blame().clone();
    raft.tell_of_two(Arc::new(move |both| entries.entries(both)));
    let convicted = watch_convicted(witness.blame().watch_convicted(), raft.clone(), halted.clone());
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
        peers: Arc::clone(&peers),
        witness: witness.clone(),
        collector: collector.clone(),
        rounds: stuck,
        trials: Trials::default(),
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
    let blame_task = watch_over("what is blamed can't be kept", fatal.clone(), blaming.run(halted.clone()));
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
        tokio::spawn(trial::pass_on(raft.clone(), peers)),
        witness_task,
        blame_task,
        tokio::spawn(convicted),
    ];

    let gate = Gate::new(&view);
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
        .add_service(CeremonyServer::new(CeremonyService {
            gate: gate.clone(),
            name: config.name.clone(),
            stage: Stage::Finished { trust: trust.to_bytes(), transcript: made.transcript },
        }))
        .add_service(ClusterServer::new(ClusterService { name: config.name.clone(), trust }))
        .add_service(
            PeerServer::new(PeerService {
                gate: gate.clone(),
                sequencer,
                witness,
                collector,
                admission,
                contact: contact.clone(),
                calls: PeerService::places(),
                halted: halted.clone(),
            })
            .max_decoding_message_size(limits::PEER)
            .max_encoding_message_size(limits::PEER),
        )
        .add_service(
            ConsensusServer::new(RaftService::new(
                gate.clone(),
                view.cluster(),
                raft.clone(),
                halted.clone(),
            ))
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
            () = stop.as_mut() => info!("asked to stop"),
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

/// Lets Raft know who is convicted, until `halted`.
async fn watch_convicted(
    mut convicted: watch::Receiver<BTreeSet<u16>>,
    raft: consensus::Handle,
    mut halted: watch::Receiver<bool>,
) {
    loop {
        raft.convict(convicted.borrow_and_update().iter().map(|member| u64::from(*member)).collect());
        tokio::select! {
            () = service::halted(&mut halted) => return,
            changed = convicted.changed() => if changed.is_err() { return },
        }
    }
}

async fn listen(config: &Config) -> Result<TcpListener, Error> {
    let address = config.listen;
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
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
