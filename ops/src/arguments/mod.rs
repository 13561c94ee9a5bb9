//! The arguments of `fairpostctl`.

mod setup;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use fairpost_ops::bench;
pub(crate) use setup::{Init, KeyVerb, NodeVerb, OperatorVerb, ProposalVerb, summary};

const EXITS: &str =
    "Exit codes: 0 fine, 1 error, 2 degraded, 3 no quorum, 64 wrong usage, 75 nobody answered.";

/// The operators' command of a Fairpost cluster.
#[derive(Debug, Parser)]
#[command(name = "fairpostctl", version, after_help = EXITS)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Prepare a whole cluster for one machine: keys, configurations, a development CA, an approved proposal.
    #[command(after_help = "Example:\n  fairpostctl init --dir demo --nodes 4\n\n\
        The nodes then make the cluster's key: start them, and run `fairpostctl key ceremony --dir demo`.")]
    Init(Init),
    /// One server of a new cluster.
    #[command(subcommand)]
    Node(NodeVerb),
    /// Operators' keys.
    #[command(subcommand)]
    Operator(OperatorVerb),
    /// Who is to be in a new cluster, and by which rules.
    #[command(subcommand)]
    Proposal(ProposalVerb),
    /// The cluster's key, which nobody ever holds.
    #[command(subcommand)]
    Key(KeyVerb),
    /// A certification authority for development.
    #[command(subcommand)]
    Ca(Ca),
    /// Ask every member how it is, and show what that means for the cluster.
    #[command(after_help = format!("Example:\n  fairpostctl status --dir demo\n\n{EXITS}"))]
    Status {
        #[command(flatten)]
        cluster: Node,
        /// How to show it. The JSON form is stable, and has a version.
        #[arg(short = 'o', long = "output", value_enum, default_value_t)]
        format: Format,
    },
    /// The same in one line, for scripts and probes.
    #[command(after_help = format!("Example:\n  fairpostctl health --dir demo && echo all is well\n\n{EXITS}"))]
    Health {
        #[command(flatten)]
        cluster: Node,
    },
    /// Whom the nodes blame for signing or sending what no honest node does.
    #[command(subcommand)]
    Blame(Blame),
    /// Why the nodes did not sign, lately.
    #[command(after_help = "Example:\n  fairpostctl refusals --dir demo\n\n\
        Exit codes: 0 all answered, 1 error, 2 some did not answer, 64 wrong usage, 75 nobody answered.")]
    Refusals {
        #[command(flatten)]
        cluster: Node,
        /// How to show it. The JSON form is stable, and has a version.
        #[arg(short = 'o', long = "output", value_enum, default_value_t)]
        format: Format,
    },
    /// Drive full exchanges through a running cluster, and measure them beside the bound that its cryptography sets.
    #[command(after_help = "Example:\n  fairpostctl bench --dir demo --clients 64 --seconds 30\n\n\
        It fills the cluster with exchanges: use one that was made for this.")]
    Bench(Bench),
    /// A node's configuration.
    #[command(subcommand)]
    Config(Config),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Ca {
    /// Make a certification authority for development.
    #[command(after_help = "Example:\n  fairpostctl ca init --dir ca --name \"Example CA\"")]
    Init {
        /// The folder for ca.crt and ca.key.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// The name in its certificate.
        #[arg(long, default_value = "Fairpost development CA")]
        name: String,
    },
    /// Issue a certificate for an address; the PEM goes to standard output.
    #[command(
        after_help = "Example:\n  fairpostctl ca issue --ca demo/ca --address anna@example.org --csr anna.csr > anna.crt"
    )]
    Issue {
        /// The folder with ca.crt and ca.key.
        #[arg(long, value_name = "DIR")]
        ca: PathBuf,
        /// Whose certificate: one mail address.
        #[arg(long)]
        address: String,
        /// The certificate request, PEM.
        #[arg(long, value_name = "FILE")]
        csr: PathBuf,
        /// For how many days.
        #[arg(long, default_value_t = 365)]
        days: u32,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(flatten)]
    pub(crate) cluster: Node,
    /// How many clients ask at once, each for its next exchange as soon as it has the last one.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,
    /// For how many seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Not for a time, but until so many exchanges are answered.
    #[arg(long, value_name = "NUMBER", conflicts_with = "seconds", value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    exchanges: Option<u32>,
    /// How many seconds the load runs before the clock starts.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=3600))]
    warm_up: u64,
    /// How many senders and how many recipients there are, each with a certificate of its own.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    people: u32,
    /// Leave out that the sender asks for the proof.
    #[arg(long)]
    no_proof: bool,
    /// How many connections to open to each node.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    connections: u32,
    /// The folder with ca.crt and ca.key of an authority that the cluster believes [default: the one in --dir].
    #[arg(long, value_name = "DIR", required_unless_present = "dir")]
    ca: Option<PathBuf>,
    /// A folder on the nodes' disk, where a synced write is measured [default: --dir].
    #[arg(long, value_name = "DIR")]
    disk: Option<PathBuf>,
    /// How to show it. The JSON form is stable, and has a version.
    #[arg(short = 'o', long = "output", value_enum, default_value_t)]
    pub(crate) format: Format,
}

impl Bench {
    pub(crate) fn options(&self) -> bench::Options {
        let until = match self.exchanges {
            Some(count) => bench::Until::Answered(count as usize),
            None => bench::Until::Elapsed(Duration::from_secs(self.seconds)),
        };
        bench::Options {
            clients: self.clients as usize,
            until,
            warm_up: Duration::from_secs(self.warm_up),
            people: self.people as usize,
            connections: self.connections as usize,
            proof: !self.no_proof,
            ca: self.cluster.file(self.ca.as_ref(), "ca"),
            disk: self.disk.clone().or_else(|| self.cluster.dir.clone()),
            patience: self.cluster.patience(),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Blame {
    /// Ask every member whom it blames.
    #[command(after_help = "Example:\n  fairpostctl blame list --dir demo\n\n\
        Exit codes: 0 nobody is blamed, 1 error, 2 somebody is, or some did not answer, 64 wrong usage, 75 nobody answered.")]
    List {
        #[command(flatten)]
        cluster: Node,
        /// How to show it. The JSON form is stable, and has a version.
        #[arg(short = 'o', long = "output", value_enum, default_value_t)]
        format: Format,
    },
    /// Write a proof of misconduct against a member to standard output; `fairpost verify` judges it.
    #[command(after_help = "Example:\n  fairpostctl blame export --dir demo n3 > n3.proof\n  \
        fairpost verify --cluster demo/cluster.trust n3.proof")]
    Export {
        #[command(flatten)]
        cluster: Node,
        /// The member's name.
        member: String,
    },
    /// Have every node forget what it blames a member for, and ask it as all others.
    #[command(after_help = "Example:\n  fairpostctl blame clear --dir demo n3 --yes --cluster-name demo\n\n\
        Exit codes: 0 every node has, 1 error, 2 some have not, 64 wrong usage, 75 nobody answered.")]
    Clear {
        #[command(flatten)]
        cluster: Node,
        /// The member's name.
        member: String,
        /// That you mean it.
        #[arg(long, required = true)]
        yes: bool,
        /// The cluster's name, so that it is the cluster that you mean.
        #[arg(long, value_name = "NAME")]
        cluster_name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Show a node's configuration, and where each value comes from.
    #[command(after_help = "Example:\n  fairpostctl config show --effective --config demo/n1/fairpostd.toml")]
    Show {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Every value in force, defaults as well. (The JSON form always has them all.)
        #[arg(long)]
        effective: bool,
        /// How to show it. The JSON form is stable, and has a version.
        #[arg(short = 'o', long = "output", value_enum, default_value_t)]
        format: Format,
    },
    /// Check a node's configuration, and that the files it names go together.
    #[command(after_help = "Example:\n  fairpostctl config validate --config demo/n1/fairpostd.toml")]
    Validate {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

/// Which cluster to ask, and as whom.
#[derive(Debug, Args)]
pub(crate) struct Node {
    /// The folder that `fairpostctl init` made: both files are taken from there.
    #[arg(long, value_name = "DIR", env = "FAIRPOSTCTL_DIR", required_unless_present_all = ["cluster", "operator"])]
    dir: Option<PathBuf>,
    /// The cluster's trust file.
    #[arg(long, value_name = "FILE", env = "FAIRPOSTCTL_CLUSTER")]
    cluster: Option<PathBuf>,
    /// The operator's key.
    #[arg(long, value_name = "FILE", env = "FAIRPOSTCTL_OPERATOR")]
    operator: Option<PathBuf>,
    /// How long to wait for a member's answer, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=300))]
    timeout: u64,
}

impl Node {
    pub(crate) fn cluster(&self) -> PathBuf {
        self.file(self.cluster.as_ref(), "cluster.trust")
    }

    pub(crate) fn operator(&self) -> PathBuf {
        self.file(self.operator.as_ref(), "operator/operator.key")
    }

    fn file(&self, given: Option<&PathBuf>, name: &str) -> PathBuf {
        given.cloned().unwrap_or_else(|| self.dir.clone().unwrap_or_default().join(name))
    }

    pub(crate) const fn patience(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_verb_has_an_example() {
        fn check(command: &clap::Command) {
            if command.get_subcommands().next().is_none() {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Example:\n  fairpostctl "), "{}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        Arguments::command().debug_assert();
        check(&Arguments::command());
    }

    #[test]
    fn a_cluster_is_named_by_its_folder_or_by_two_files() {
        let parse = |arguments: &[&str]| {
            let all = ["fairpostctl", "health"].iter().chain(arguments);
            match Arguments::try_parse_from(all).ok()?.command {
                Command::Health { cluster } => Some((cluster.cluster(), cluster.operator())),
                _ => None,
            }
        };
        assert_eq!(
            parse(&["--dir", "d"]),
            Some(("d/cluster.trust".into(), "d/operator/operator.key".into()))
        );
        assert_eq!(parse(&["--cluster", "t", "--operator", "o"]), Some(("t".into(), "o".into())));
        assert_eq!(
            parse(&["--dir", "d", "--cluster", "t"]),
            Some(("t".into(), "d/operator/operator.key".into()))
        );
        assert_eq!(parse(&["--cluster", "t"]), None);
        assert_eq!(parse(&[]), None);
    }
}
