//! A whole cluster for one machine, up to its key: keys and configurations of all nodes, a development CA, an operator,
//! and the proposal that the operator approved.
//!
//! # Specification
//!
//! | file | what it is |
//! |---|---|
//! | `cluster.proposal` | the proposal with the operator's approval; public |
//! | `ca/ca.crt`, `ca/ca.key` | the one trust anchor: a CA for development |
//! | `operator/operator.key` | the key of the only operator |
//! | `n1/fairpostd.toml`, … | each node's configuration |
//! | `n1/identity.key`, `n1/tls.pem`, `n1/node.card`, … | what [`crate::node`] makes |
//!
//! The nodes make the cluster's key themselves, in a key ceremony ([`crate::ceremony`]), which adds `cluster.trust` and
//! each node's `share.toml`.
//!
//! # Guarantees
//!
//! - What is in the folder already is never touched: anything there, and nothing is made (`Files::in_empty`; test
//!   `a_second_init_is_refused_and_changes_nothing`).
//! - If it fails on the way, it takes its own files away again ([`Made`] exists only for a complete cluster; test
//!   `a_failed_init_leaves_nothing_behind`).
//! - The proposal has been read back and checked, as a node would.

mod files;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use fairpost::ca;
use fairpost_api::tls::{CredentialsError, TargetError};
use fairpost_node::config::Config;
use fairpost_node::membership;
use fairpost_proto::approval::{self, ApprovedProposal};
use fairpost_proto::armor;
use fairpost_proto::chain::{self, Anchor};
use fairpost_proto::ids::{Digest, Timestamp};
use fairpost_proto::node_card;
use fairpost_proto::proposal::{self, Draft, Proposal};
use fairpost_proto::quorum::{self, Quorum};
use fairpost_proto::view::Parameters;
use rand::rngs::OsRng;

pub(crate) use self::files::Files;
use crate::node::{self, CONFIG};
use crate::operator;

/// The name of the approved proposal.
pub const PROPOSAL: &str = "cluster.proposal";

/// How far a node's metrics port lies above its gRPC port.
pub const METRICS_OFFSET: u16 = 100;

/// Why no cluster was made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// So many nodes can't stand so many compromised ones.
    #[error(transparent)]
    Quorum(#[from] quorum::Error),
    /// The ports do not fit below 65536.
    #[error("{nodes} nodes from base port {base} need ports up to {last}, and the last one is 65535")]
    Ports {
        /// How many nodes.
        nodes: usize,
        /// The base port.
        base: u16,
        /// The highest port that it would take.
        last: usize,
    },
    /// Nobody can connect to this address.
    #[error("{host} is no address to connect to; give one that this machine has, such as 127.0.0.1")]
    Host {
        /// The address.
        host: IpAddr,
    },
    /// The addresses are not one for each node.
    #[error("{found} addresses for {expected} nodes; give one for each, or one host for all")]
    Hosts {
        /// How many nodes.
        expected: usize,
        /// How many addresses.
        found: usize,
    },
    /// There is something in the folder.
    #[error(
        "{folder} is not empty (it holds {found}); nothing was changed: choose another folder, or remove this one first"
    )]
    NotEmpty {
        /// The folder.
        folder: PathBuf,
        /// One of the things in it.
        found: String,
    },
    /// A file or folder can't be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The proposal would not be valid.
    #[error(transparent)]
    Proposal(#[from] proposal::Error),
    /// The proposal can't be approved, or read back.
    #[error(transparent)]
    Approval(#[from] approval::Error),
    /// A file is no armored block.
    #[error("{path}: {source}")]
    Armor {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: armor::Error,
    },
    /// A node's address is none.
    #[error("{address:?} is no address: {source}; expected host:port, as n1.example.org:7400")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        source: TargetError,
    },
    /// Name or address can't stand on a card.
    #[error(transparent)]
    Card(#[from] node_card::Error),
    /// A file is no node's card.
    #[error("{path}: {source}")]
    CardFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: node_card::Error,
    },
    /// The development CA can't be made.
    #[error("the development CA: {0}")]
    Ca(#[from] ca::Error),
    /// The development CA is no trust anchor.
    #[error("the development CA: {0}")]
    Anchor(#[from] chain::Error),
    /// A node's TLS key can't be made.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A key can't be written.
    #[error(transparent)]
    Key(#[from] operator::Error),
    /// A secret file can't be written.
    #[error(transparent)]
    Secret(#[from] membership::Error),
    /// A configuration can't be written down.
    #[error("the configuration of {name}: {problem}")]
    Config {
        /// The node.
        name: String,
        /// What is wrong.
        problem: String,
    },
}

/// What cluster to make.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder for everything; it must be empty, or not exist.
    pub folder: PathBuf,
    /// The cluster's name.
    pub name: String,
    /// How many nodes.
    pub nodes: usize,
    /// How many of them may be compromised; none: as many as so many nodes stand.
    pub faults: Option<usize>,
    /// The address at which all nodes listen.
    pub host: IpAddr,
    /// An address for each node in turn, for machines or network namespaces of their own; none: all at `host`.
    pub hosts: Vec<IpAddr>,
    /// Node `i` (from 1) serves gRPC at this port + i, and metrics [`METRICS_OFFSET`] above.
    pub base_port: u16,
    /// The rules.
    pub parameters: Parameters,
}

impl Options {
    /// The default cluster in `folder`: four nodes on the loopback address, one of which may be compromised.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            name: "demo".into(),
            nodes: 4,
            faults: None,
            host: IpAddr::from([127, 0, 0, 1]),
            hosts: vec![],
            base_port: 7400,
            parameters: Parameters::default(),
        }
    }
}

/// A cluster that was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its folder.
    pub folder: PathBuf,
    /// The digest of its proposal.
    pub proposal: Digest,
    /// How many nodes it has, and how many it takes.
    pub quorum: Quorum,
    /// Its nodes, by name.
    pub nodes: Vec<Node>,
}

/// A node that was made.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Where it serves gRPC.
    pub listen: SocketAddr,
    /// Where it serves metrics and probes.
    pub metrics: SocketAddr,
    /// Its configuration.
    pub config: PathBuf,
}

/// Makes all of the cluster but its key.
pub fn run(options: &Options, now: Timestamp) -> Result<Made, Error> {
    let faults = options.faults.unwrap_or(Quorum::most_faults(options.nodes));
    let quorum = Quorum::new(options.nodes, faults)?;
    let (expected, found) = (options.nodes, options.hosts.len());
    if found != 0 && found != expected {
        return Err(Error::Hosts { expected, found });
    }
    let mut hosts = options.hosts.iter().chain([&options.host]);
    if let Some(host) = hosts.find(|host| host.is_unspecified() || host.is_multicast()) {
        return Err(Error::Host { host: *host });
    }
    let nodes = plan(options)?;
    let mut files = files::Files::in_empty(&options.folder)?;
    let made = make(options, quorum, nodes, now, &mut files)?;
    files.keep();
    Ok(made)
}

/// Names and addresses. Names are padded with zeros, so that their order is the nodes' order.
fn plan(options: &Options) -> Result<Vec<Node>, Error> {
    let (nodes, base) = (options.nodes, options.base_port);
    let last = usize::from(base) + usize::from(METRICS_OFFSET) + nodes;
    let width = nodes.to_string().len();
    (1..=nodes)
        .map(|number| {
            let port = |offset: u16| {
                let port = usize::from(base) + usize::from(offset) + number;
                u16::try_from(port).map_err(|_| Error::Ports { nodes, base, last })
            };
            let name = format!("n{number:0width$}");
            let host = options.hosts.get(number - 1).copied().unwrap_or(options.host);
            Ok(Node {
                listen: SocketAddr::new(host, port(0)?),
                // Metrics have no TLS, and never leave the machine.
                metrics: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port(METRICS_OFFSET)?),
                config: options.folder.join(&name).join(CONFIG),
                name,
            })
        })
        .collect()
}

fn make(
    options: &Options,
    quorum: Quorum,
    nodes: Vec<Node>,
    now: Timestamp,
    files: &mut Files,
) -> Result<Made, Error> {
    let root = &options.folder;
    let ca = files.folder(root.join("ca"))?;
    let anchor = Anchor::parse(ca::init(&ca, &format!("{} development CA", options.name), now)?)?;
    let key = SigningKey::generate(&mut OsRng);
    operator::write_key(&files.folder(root.join("operator"))?.join("operator.key"), &key)?;
    let mut members = Vec::new();
    for Node { name, listen, metrics, .. } in &nodes {
        let folder = files.folder(root.join(name))?;
        let (address, names) = (listen.to_string(), [listen.ip().to_string()]);
        let new = node::New {
            name,
            address: &address,
            listen: *listen,
            metrics: Some(*metrics),
            names: &names,
            own: false,
        };
        members.push(node::write(files, &folder, &new, now)?);
    }
    let draft = Draft {
        members,
        faults: quorum.f(),
        operators: vec![key.verifying_key()],
        agreeing: 1,
        anchors: vec![anchor],
        auditors: vec![],
        parameters: options.parameters,
    };
    let mut approved = ApprovedProposal::new(Proposal::new(&options.name, draft)?);
    approved.approve(&key)?;
    // Last, so that a folder with a proposal is a complete one.
    let path = files.file(root, PROPOSAL);
    Files::public(&path, &armor::encode(armor::PROPOSAL, &approved.to_bytes()))?;
    let problem = |problem: String| Error::Config { name: options.name.clone(), problem };
    membership::ceremony::read_proposal(&path).map_err(problem)?.agreed()?;
    for node in &nodes {
        Config::load(&node.config)
            .map_err(|error| Error::Config { name: node.name.clone(), problem: error.to_string() })?;
    }
    Ok(Made { folder: root.clone(), proposal: approved.proposal().digest(), quorum, nodes })
}

impl Error {
    /// Whether the options were wrong, rather than something that they met with.
    pub const fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Quorum(_)
                | Self::Ports { .. }
                | Self::Host { .. }
                | Self::Hosts { .. }
                | Self::Address { .. }
                | Self::Proposal(_)
                | Self::Card(_)
        )
    }
}
