//! The arguments of what makes a cluster, and the words that `init` answers with.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use fairpost_ops::init::{Made, Options};
use fairpost_ops::{ceremony, node, proposal};
use fairpost_proto::ids::Span;
use fairpost_proto::view::Parameters;

use super::Format;

/// The rules that operators can choose.
#[derive(Debug, Args)]
struct Rules {
    /// How far clocks may differ, and how late an entry may be seen, in milliseconds [default: 10000].
    #[arg(long, value_name = "MILLISECONDS")]
    skew_ms: Option<u64>,
    /// How long after the deadline an exchange may expire, in milliseconds [default: 30000].
    #[arg(long, value_name = "MILLISECONDS")]
    grace_ms: Option<u64>,
    /// The shortest time to the deadline, in seconds [default: 300].
    #[arg(long, value_name = "SECONDS")]
    shortest_lifetime_s: Option<u64>,
    /// The longest time to the deadline, in seconds [default: 7776000].
    #[arg(long, value_name = "SECONDS")]
    longest_lifetime_s: Option<u64>,
    /// How long after the verdict the signed bytes are kept, in seconds [default: 78883200, which is 913 days].
    #[arg(long, value_name = "SECONDS")]
    retention_s: Option<u64>,
}

impl Rules {
    fn parameters(&self) -> Parameters {
        let default = Parameters::default();
        Parameters {
            skew: self.skew_ms.map_or(default.skew, Span::from_millis),
            grace: self.grace_ms.map_or(default.grace, Span::from_millis),
            shortest_lifetime: self.shortest_lifetime_s.map_or(default.shortest_lifetime, Span::from_seconds),
            longest_lifetime: self.longest_lifetime_s.map_or(default.longest_lifetime, Span::from_seconds),
            feature_level: default.feature_level,
            retention: self.retention_s.map_or(default.retention, Span::from_seconds),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The folder for everything; it must be empty, or not exist.
    #[arg(long, value_name = "DIR", env = "FAIRPOSTCTL_DIR")]
    dir: PathBuf,
    /// How many nodes.
    #[arg(long, default_value_t = 4)]
    nodes: usize,
    /// How many of them may be compromised [default: as many as so many nodes stand].
    #[arg(long)]
    faults: Option<usize>,
    /// The address at which all nodes listen.
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// An address for each node, in their order, with commas between: for nodes on several machines.
    #[arg(long, value_name = "HOST,…", value_delimiter = ',', conflicts_with = "host")]
    hosts: Vec<IpAddr>,
    /// Node i serves gRPC at this port + i, and metrics at this port + 100 + i.
    #[arg(long, default_value_t = 7400)]
    base_port: u16,
    /// The cluster's name.
    #[arg(long, default_value = "demo")]
    name: String,
    #[command(flatten)]
    rules: Rules,
}

impl Init {
    pub(crate) fn options(&self) -> Options {
        Options {
            folder: self.dir.clone(),
            name: self.name.clone(),
            nodes: self.nodes,
            faults: self.faults,
            host: self.host,
            hosts: self.hosts.clone(),
            base_port: self.base_port,
            parameters: self.rules.parameters(),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeVerb {
    /// Make a server's keys and configuration, and print its public card.
    #[command(after_help = "Example:\n  \
        fairpostctl node init --dir /etc/fairpost/n1 --name n1 --address n1.example.org:7400 > n1.card\n\n\
        No private key leaves the folder. Hand the card to whoever writes the proposal, and put the approved proposal \
        into the folder as cluster.proposal.")]
    Init {
        /// The folder for everything; it must be empty, or not exist.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// The server's name in the cluster.
        #[arg(long)]
        name: String,
        /// Where members and clients reach it.
        #[arg(long, value_name = "HOST:PORT")]
        address: String,
        /// Where it listens [default: all addresses of the machine, at the port of --address].
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<SocketAddr>,
    },
}

impl NodeVerb {
    pub(crate) fn options(self) -> node::Options {
        let Self::Init { dir, name, address, listen } = self;
        node::Options { folder: dir, name, address, listen }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum OperatorVerb {
    /// Make an operator's key, and print its public key.
    #[command(after_help = "Example:\n  fairpostctl operator new --out ada.key > ada.pub")]
    New {
        /// The file for the private key, mode 0600; it must not exist.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct NewProposal {
    /// The cluster's name.
    #[arg(long)]
    name: String,
    /// The card of each server.
    #[arg(long = "card", value_name = "FILE", required = true)]
    cards: Vec<PathBuf>,
    /// How many of the servers may be compromised [default: as many as so many stand].
    #[arg(long)]
    faults: Option<usize>,
    /// The public key of each operator, PEM.
    #[arg(long = "operator", value_name = "FILE", required = true)]
    operators: Vec<PathBuf>,
    /// How many operators must agree, now and on every change [default: more than half].
    #[arg(long, value_name = "K")]
    agreeing: Option<u64>,
    /// The certificate of each authority by whose word people are who they say, PEM.
    #[arg(long = "anchor", value_name = "FILE", required = true)]
    anchors: Vec<PathBuf>,
    /// The public key of each auditor, PEM.
    #[arg(long = "auditor", value_name = "FILE")]
    auditors: Vec<PathBuf>,
    #[command(flatten)]
    rules: Rules,
}

impl NewProposal {
    pub(crate) fn options(&self) -> proposal::Options {
        proposal::Options {
            name: self.name.clone(),
            cards: self.cards.clone(),
            faults: self.faults,
            operators: self.operators.clone(),
            agreeing: self.agreeing,
            anchors: self.anchors.clone(),
            auditors: self.auditors.clone(),
            parameters: self.rules.parameters(),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProposalVerb {
    /// Write a proposal, which nobody has approved yet, to standard output.
    #[command(
        after_help = "Example:\n  fairpostctl proposal new --name post --card n1.card --card n2.card --card n3.card \
        --card n4.card --operator ada.pub --operator ben.pub --anchor ca.crt > cluster.proposal"
    )]
    New(NewProposal),
    /// Show what a proposal says, and who has approved it.
    #[command(after_help = "Example:\n  fairpostctl proposal show cluster.proposal")]
    Show {
        /// The proposal.
        file: PathBuf,
    },
    /// Approve a proposal: adds an operator's signature to the file, and shows what was approved.
    #[command(
        after_help = "Example:\n  fairpostctl proposal approve --operator ada.key cluster.proposal\n\n\
        Look at it first: `fairpostctl proposal show`. Compare the key ids with those that the servers' owners tell you."
    )]
    Approve {
        /// The operator's private key.
        #[arg(long, value_name = "FILE", env = "FAIRPOSTCTL_OPERATOR")]
        operator: PathBuf,
        /// The proposal.
        file: PathBuf,
    },
    /// Put the approvals of several copies together, on standard output.
    #[command(
        after_help = "Example:\n  fairpostctl proposal merge from-ada.proposal from-ben.proposal > cluster.proposal"
    )]
    Merge {
        /// The copies.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

/// Which proposal, and as whom.
#[derive(Debug, Args)]
pub(crate) struct About {
    /// The folder that `fairpostctl init` made: all files are taken from there.
    #[arg(long, value_name = "DIR", env = "FAIRPOSTCTL_DIR", required_unless_present_all = ["proposal", "operator"])]
    dir: Option<PathBuf>,
    /// The approved proposal.
    #[arg(long, value_name = "FILE")]
    proposal: Option<PathBuf>,
    /// The operator's private key.
    #[arg(long, value_name = "FILE", env = "FAIRPOSTCTL_OPERATOR")]
    operator: Option<PathBuf>,
}

impl About {
    fn file(&self, given: Option<&PathBuf>, name: &str) -> PathBuf {
        given.cloned().unwrap_or_else(|| self.dir.clone().unwrap_or_default().join(name))
    }

    pub(crate) fn proposal(&self) -> PathBuf {
        self.file(self.proposal.as_ref(), "cluster.proposal")
    }

    pub(crate) fn operator(&self) -> PathBuf {
        self.file(self.operator.as_ref(), "operator/operator.key")
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyVerb {
    /// Have the nodes of an approved proposal make the cluster's key, and write the trust file.
    #[command(after_help = "Example:\n  fairpostctl key ceremony --dir demo\n  \
        fairpostctl key ceremony --proposal cluster.proposal --operator ada.key --out cluster.trust\n\n\
        All nodes must run. It can be run again at any time, and goes on where it was. Exit codes: 0 the key is made, \
        1 it can't be made in this way, 64 wrong usage, 75 it waits for somebody.")]
    Ceremony {
        #[command(flatten)]
        about: About,
        /// Where the trust file goes [default: cluster.trust in --dir].
        #[arg(long, value_name = "FILE", required_unless_present = "dir")]
        out: Option<PathBuf>,
        /// Leave this member out of the attempt; it gets its share by a later change of view.
        #[arg(long, value_name = "MEMBER")]
        without: Vec<String>,
        /// Let another attempt begin, whatever the running one waits for.
        #[arg(long)]
        again: bool,
        /// How long to wait for the key, in seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
        timeout: u64,
        /// How to show what was made. The JSON form is stable, and has a version.
        #[arg(short = 'o', long = "output", value_enum, default_value_t)]
        format: Format,
    },
    /// Check the transcript of a key ceremony, offline, and say who made the key.
    #[command(
        after_help = "Example:\n  fairpostctl key verify --cluster cluster.trust n1/data/ceremony/transcript\n\n\
        Exit codes: 0 it holds, 1 error, 4 it does not hold, 64 wrong usage."
    )]
    Verify {
        /// The trust file that the ceremony is said to have made.
        #[arg(long, value_name = "FILE")]
        cluster: Option<PathBuf>,
        /// The transcript, as every node keeps it in its data folder.
        file: PathBuf,
    },
}

impl KeyVerb {
    /// How patient with one node.
    const PATIENCE: Duration = Duration::from_secs(3);

    pub(crate) fn options(without: &[String], again: bool, timeout: u64) -> ceremony::Options {
        ceremony::Options {
            without: without.to_vec(),
            again,
            patience: Self::PATIENCE,
            timeout: Duration::from_secs(timeout),
        }
    }

    pub(crate) fn trust(about: &About, out: Option<&PathBuf>) -> PathBuf {
        about.file(out, "cluster.trust")
    }
}

/// What was made, and what to do next.
pub(crate) fn summary(made: &Made) -> String {
    let (folder, quorum) = (made.folder.display(), made.quorum);
    let mut text = format!("Prepared a cluster of {} in {folder}:\n\n", count(quorum.n(), "node"));
    text.push_str(&format!("  proposal    {}\n", made.proposal));
    for node in &made.nodes {
        text.push_str(&format!("  {:<10}  gRPC {}, metrics {}\n", node.name, node.listen, node.metrics));
    }
    text.push_str(&format!(
        "\n{} of {} make a quorum; {} may be down.\n",
        quorum.q(),
        quorum.n(),
        quorum.spare()
    ));
    text.push_str(&if quorum.f() > 0 {
        format!("{} may be compromised without harm.\n", count(quorum.f(), "node"))
    } else {
        "It is crash-tolerant only: a single compromised node can do harm. To stand one takes at least 4 nodes.\n".into()
    });
    let first = made.nodes.first().map(|node| node.config.display().to_string()).unwrap_or_default();
    text.push_str(&format!(
        "\nNext, start each node, have them make the cluster's key, and see how they are:\n\n  \
         fairpostd run --config {first}\n  fairpostctl key ceremony --dir {folder}\n  fairpostctl status --dir {folder}\n",
    ));
    text
}

fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}
