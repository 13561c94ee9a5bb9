//! A whole cluster for one machine: keys, shares, genesis, configurations, a development CA.
//!
//! # Specification
//!
//! | file | what it is |
//! |---|---|
//! | `cluster.trust` | the genesis under a token of the cluster's key; public |
//! | `ca/ca.crt`, `ca/ca.key` | the one trust anchor: a CA for development |
//! | `operator/operator.key` | the key of the view's only operator |
//! | `n1/fairpostd.toml`, … | each node's configuration |
//! | `n1/identity.key`, `n1/tls.pem`, `n1/share.toml`, … | each node's secrets, mode 0600 |
//!
//! The key is **dealt**: this one process holds all of it for a moment. That is right for trying things out, and wrong
//! where nobody may ever hold the key.
//!
//! # Guarantees
//!
//! - What is in the folder already is never touched: anything there, and nothing is made (`create_root`; test
//!   `a_second_init_is_refused_and_changes_nothing`).
//! - If it fails on the way, it takes its own files away again ([`Made`] exists only for a complete cluster; test
//!   `a_failed_init_leaves_nothing_behind`).
//! - Trust file and shares have been read back and checked, as a node would (`check`; test
//!   `every_share_matches_the_commitment`).

mod files;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use fairpost::ca;
use fairpost_api::tls::CredentialsError;
use fairpost_node::membership;
use fairpost_proto::armor;
use fairpost_proto::chain::{self, Anchor};
use fairpost_proto::ids::{ClusterId, Timestamp};
use fairpost_proto::quorum::{self, Quorum};
use fairpost_proto::threshold::{self, KeyShare};
use fairpost_proto::trust::{self, Trust};
use fairpost_proto::view::{self, Constitution, Member, Parameters, View};
use rand::rngs::OsRng;

use crate::operator;

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
    /// The key can't be dealt, or its shares make no token.
    #[error(transparent)]
    Threshold(#[from] threshold::Error),
    /// The genesis would not be valid.
    #[error(transparent)]
    View(#[from] view::Error),
    /// The trust file would not be believed.
    #[error(transparent)]
    Trust(#[from] trust::Error),
    /// The trust file can't be read back.
    #[error("the trust file: {0}")]
    Armor(#[from] armor::Error),
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
    /// A share can't be written, or not be read back.
    #[error(transparent)]
    Share(#[from] membership::Error),
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
    /// Its id.
    pub cluster: ClusterId,
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

/// A node's keys, before they are written.
struct Keys {
    node: Node,
    identity: SigningKey,
}

/// Makes the cluster.
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
                config: options.folder.join(&name).join(files::CONFIG),
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
    files: &mut files::Files,
) -> Result<Made, Error> {
    let anchor = Anchor::parse(files.ca(&format!("{} development CA", options.name), now)?)?;
    let operator = SigningKey::generate(&mut OsRng);
    let keys: Vec<Keys> = nodes
        .iter()
        .map(|node| Keys { node: node.clone(), identity: SigningKey::generate(&mut OsRng) })
        .collect();
    let (commitment, shares) = threshold::deal(quorum.q(), quorum.n(), &mut OsRng)?;
    let members = keys
        .iter()
        .map(|keys| Member {
            name: keys.node.name.clone(),
            address: keys.node.listen.to_string(),
            identity: keys.identity.verifying_key(),
        })
        .collect();
    let genesis = View::genesis(
        &options.name,
        Constitution {
            members,
            faults: quorum.f(),
            commitment,
            operators: vec![operator.verifying_key()],
            agreeing: 1,
            anchors: vec![anchor],
            auditors: vec![],
            parameters: options.parameters,
        },
    )?;
    let trust = sign(genesis, &shares)?;

    files.operator(&operator)?;
    for keys in &keys {
        // The view sorts its members, and a share belongs to a place in the view.
        let place = trust.view().member_by_name(&keys.node.name).map(|(index, _)| usize::from(index));
        let Some(share) = place.and_then(|index| shares.get(index)) else {
            return Err(Error::Config { name: keys.node.name.clone(), problem: "it has no share".into() });
        };
        files.node(keys, share, trust.view(), now)?;
    }
    // Last, so that a folder with a trust file is a complete one.
    files.trust(&trust)?;
    files.check(trust.view())?;
    Ok(Made { folder: options.folder.clone(), cluster: trust.cluster(), quorum, nodes })
}

/// The genesis under the token of its own key, which shows that the shares work.
fn sign(genesis: View, shares: &[KeyShare]) -> Result<Trust, Error> {
    let message = genesis.message();
    let signed: Vec<_> = (0..).zip(shares).map(|(index, share)| (index, share.sign(&message))).collect();
    let token = threshold::combine(genesis.quorum().q(), &signed)?;
    Ok(Trust::new(genesis, token)?)
}

impl Error {
    /// Whether the options were wrong, rather than something that they met with.
    pub const fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Quorum(_) | Self::Ports { .. } | Self::Host { .. } | Self::Hosts { .. } | Self::View(_)
        )
    }
}
