//! Why a node does not start, or stopped.

use std::net::SocketAddr;
use std::path::PathBuf;

use fairpost_proto::binding;
use fairpost_proto::ids::KeyId;
use fairpost_proto::trust;

use crate::api::peers;
use crate::{consensus, membership, store, witness};

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
    /// There is no cluster yet, nor a proposal of one.
    #[error(
        "there is neither a trust file at {trust} nor a proposal at {proposal}: put the approved proposal there, start all its \
         nodes, and run `fairpostctl key ceremony`"
    )]
    NoCluster {
        /// Where the trust file would be.
        trust: PathBuf,
        /// Where the proposal would be.
        proposal: PathBuf,
    },
    /// The proposal is none, or its operators have not agreed to it.
    #[error("the proposal {path}: {problem}")]
    Proposal {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The key ceremony can't go on.
    #[error("the key ceremony: {0}")]
    Ceremony(#[from] membership::ceremony::Error),
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
