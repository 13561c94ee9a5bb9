//! The node before there is a cluster: it takes part in the key ceremony, and serves that and nothing else.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use fairpost_api::limits;
use fairpost_api::tls::{Incoming, server_config};
use fairpost_api::v1::ceremony_server::CeremonyServer;
use fairpost_api::v1::consensus_server::ConsensusServer;
use fairpost_proto::ids::ClusterId;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::Server;
use tracing::info;

use super::files::{load_credentials, load_identity};
use super::options::{incoming_options, raft_options};
use super::{DRAIN, Error};
use crate::api::auth::Gate;
use crate::api::peers::{connect, consensus_client};
use crate::api::raft::{RaftService, RaftTransport};
use crate::clock;
use crate::config::Config;
use crate::consensus::{self, Electorate};
use crate::membership::ceremony::finish::{finish, remove_log};
use crate::membership::ceremony::machine::Log;
use crate::membership::ceremony::member::{self, Finished};
use crate::membership::ceremony::peers::Peers;
use crate::membership::ceremony::service::{CeremonyService, Orderer, Stage};
use crate::membership::ceremony::{Paths, kept, read_proposal};
use crate::store::{self, Folder, Memory, Store, Writer};

/// Takes part until the ceremony is done; gives `false` if `stop` came first.
pub(super) async fn run(
    config: &Config,
    paths: &Paths,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send,
) -> Result<bool, Error> {
    let wrong = |problem: String| Error::Proposal { path: config.proposal.clone(), problem };
    let approved = read_proposal(&config.proposal).map_err(wrong)?;
    let proposal = approved.agreed().map_err(|error| wrong(error.to_string()))?.clone();
    let (index, identity) = load_identity(config, proposal.members(), &config.proposal)?;
    let credentials = load_credentials(config, &identity.verifying_key())?;

    let (fatal, mut failed) = watch::channel(None::<String>);
    let (halt, halted) = watch::channel(false);
    // Before there is a cluster, the proposal stands for it.
    let group = ClusterId::new(*proposal.digest().as_bytes());
    let owner = store::Identity { node: config.name.clone(), cluster: group };
    let folder = Folder::open(&paths.log, &owner)?;
    let database = folder.database(Store::Log, consensus::LogStore::COLUMNS, &Memory::default())?;
    let on_error = fatal.clone();
    let (writer, thread) = Writer::start(database.clone(), Store::Log, move |error| {
        on_error.send_replace(Some(error.to_string()));
    })?;
    // Its log is kept whole: nobody purges it.
    let keep = consensus::Keep::default();
    let stored = consensus::LogStore::open(database, writer.clone(), Arc::new(clock::now), keep)?;

    let members = proposal.members().iter();
    let clients = members.map(|member| connect(member, &credentials).map(consensus_client));
    let transport = RaftTransport::new(group, clients.collect::<Result<_, _>>()?);
    let electorate = Electorate::of_proposal(&proposal, Arc::clone(&identity));
    let formed = electorate.members();
    let log = Log::new(&proposal, approved);
    let options = raft_options(index, config, proposal.quorum(), proposal.draft().parameters.skew);
    let raft = consensus::start(options, electorate, stored, Arc::new(log.clone()), transport).await?;
    raft.initialize(formed).await?;

    let peers = Arc::new(Peers::new(&proposal, &credentials)?);
    let orderer = Orderer { consensus: raft.clone(), log: log.clone(), peers: Arc::clone(&peers) };
    let (losing, lost) = watch::channel(None);
    let kept = kept::File::new(paths.kept.clone());
    let taking_part = member::take_part(member::Options {
        index,
        identity,
        log,
        kept,
        orderer: orderer.clone(),
        peers,
        lost: losing,
    });

    let gate = Gate::of_proposal(&proposal);
    let tls = server_config(&credentials).map_err(|error| Error::Tls(error.to_string()))?;
    let known = gate.clone();
    let incoming = Incoming::knowing(
        listener,
        Arc::new(ArcSwap::new(tls)),
        incoming_options(&config.limits),
        Arc::new(move |peer| known.knows(peer)),
    );
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    let router = Server::builder()
        .max_concurrent_streams(config.limits.requests_per_connection)
        .http2_max_header_list_size(super::HEADERS)
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .tcp_nodelay(true)
        .add_service(health)
        .add_service(
            ConsensusServer::new(RaftService::new(gate.clone(), group, raft.clone(), halted))
                .max_decoding_message_size(limits::CONSENSUS)
                .max_encoding_message_size(limits::CONSENSUS),
        )
        .add_service(CeremonyServer::new(CeremonyService {
            gate,
            name: config.name.clone(),
            stage: Stage::Running { orderer, lost },
        }));
    info!(
        name = config.name,
        address = %config.listen,
        proposal = %proposal.digest(),
        "waiting for the key ceremony: `fairpostctl key ceremony` begins it"
    );

    let (stopping, stopped) = tokio::sync::oneshot::channel();
    let mut serving = tokio::spawn(router.serve_with_incoming_shutdown(incoming, async {
        let _ = stopped.await;
    }));
    let ended = tokio::select! {
        finished = taking_part => finished.map(Some).map_err(Error::from),
        () = stop => Ok(None),
        problem = failed.wait_for(Option::is_some) => {
            Err(Error::Fatal(problem.ok().and_then(|problem| problem.clone()).unwrap_or_default()))
        }
        served = &mut serving => Err(match served {
            Ok(Err(error)) => error.into(),
            _ => Error::Fatal("the ceremony's server ended".into()),
        }),
    };
    let made = match ended {
        Ok(Some(Finished { state, kept })) => {
            let (config, paths) = (config.clone(), paths.clone());
            let finishing =
                tokio::task::spawn_blocking(move || finish(&config, &paths, &state, kept.as_ref()));
            finishing
                .await
                .map_err(|error| Error::Fatal(error.to_string()))?
                .map(|_| true)
                .map_err(Error::from)
        }
        Ok(None) => Ok(false),
        Err(error) => Err(error),
    };
    halt.send_replace(true);
    let _ = stopping.send(());
    if tokio::time::timeout(DRAIN, &mut serving).await.is_err() {
        serving.abort();
        let _ = serving.await;
    }
    raft.shutdown().await;
    writer.close().await;
    let joined = tokio::task::spawn_blocking(move || thread.join()).await;
    drop(folder);
    let made = made?;
    match joined {
        Ok(Ok(ended)) => ended?,
        _ => return Err(Error::Fatal("the log's writer broke off".into())),
    }
    if made {
        // Whoever needs it from now on asks for the transcript.
        remove_log(paths)?;
    }
    Ok(made)
}
