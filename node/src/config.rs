//! A node's own configuration: where its files are, where it listens, how patient its Raft is.
//!
//! Nothing that the cluster must agree on is configured here: members, quorum, skew, grace and lifetimes stand in the
//! view. Relative paths are relative to the file's own folder. An unknown key is an error, so that a typo can't pass for
//! a default. A value is taken from the environment (`FAIRPOSTD_…`, a double underscore between table and key) before the
//! file, and from the file before the default.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::{Env, Format, Toml};
use serde::{Deserialize, Serialize};

use crate::consensus::Keep;

/// What the names of environment variables for a node's configuration begin with. The commands have prefixes of their
/// own, so that a variable for one is never taken for the other's.
pub const ENVIRONMENT: &str = "FAIRPOSTD_";
/// Variables with that prefix that stand for flags of `fairpostd`, not for configuration.
const OWN: &[&str] = &["config", "log", "log_format"];
/// The largest file that is read at all.
const MAX_BYTES: u64 = 64 * 1024;
/// How many characters of what figment says are shown.
const SHOWN: usize = 600;

/// Why a configuration is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such file.
    #[error("there is no configuration at {0}; `fairpostctl init` makes one")]
    Missing(PathBuf),
    /// A key or value is wrong.
    #[error("the configuration {path}: {}", shown(.source))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What figment found.
        source: Box<figment::Error>,
    },
    /// Two values do not go together.
    #[error("the configuration {path}: {problem}")]
    Conflict {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what is expected.
        problem: String,
    },
}

/// What figment says, which draws a picture of the line: not the whole of a long one, and nothing that steers a terminal.
fn shown(error: &figment::Error) -> String {
    let clean = |char: char| if char.is_control() && char != '\n' { '\u{FFFD}' } else { char };
    let text = error.to_string();
    let mut shown: String = text.chars().take(SHOWN).map(clean).collect();
    if text.chars().count() > SHOWN {
        shown.push('…');
    }
    shown
}

/// A node's configuration.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// This node's name in the view.
    pub name: String,
    /// Where it serves gRPC: address and port.
    pub listen: SocketAddr,
    /// Where it serves metrics over plain HTTP; none: nowhere. A loopback address: nothing without TLS leaves the
    /// machine.
    #[serde(default)]
    pub metrics_listen: Option<SocketAddr>,
    /// The folder for its databases.
    #[serde(default = "default_data")]
    pub data: PathBuf,
    /// The cluster's genesis and views.
    #[serde(default = "default_trust")]
    pub trust: PathBuf,
    /// The approved proposal from which the cluster is to be made, as long as there is none.
    #[serde(default = "default_proposal")]
    pub proposal: PathBuf,
    /// This node's identity key: Ed25519, PKCS#8, PEM, mode 0600.
    #[serde(default = "default_identity")]
    pub identity: PathBuf,
    /// This node's TLS key and certificate, PEM, mode 0600.
    #[serde(default = "default_tls")]
    pub tls: PathBuf,
    /// This node's share of the cluster's key, mode 0600.
    #[serde(default = "default_share")]
    pub share: PathBuf,
    /// How patient Raft is.
    #[serde(default)]
    pub raft: Raft,
    /// How much of Raft's log is kept.
    #[serde(default)]
    pub log: Log,
    /// What a request may cost.
    #[serde(default)]
    pub limits: Limits,
}

/// How much of Raft's log is kept for nodes that are behind; one that is further behind gets a snapshot.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// The log is purged when it has more bytes than this.
    pub keep_bytes: u64,
    /// Entries are purged when they are older than so many minutes.
    pub keep_minutes: u64,
}

impl Default for Log {
    fn default() -> Self {
        let keep = Keep::default();
        Self { keep_bytes: keep.bytes, keep_minutes: keep.time.as_secs() / 60 }
    }
}

impl Log {
    /// As the consensus layer has it.
    pub fn keep(&self) -> Keep {
        let time = Duration::from_secs(self.keep_minutes.saturating_mul(60));
        Keep { bytes: self.keep_bytes, time }
    }
}

/// How patient Raft is. All nodes of a cluster should have the same values.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Raft {
    /// Milliseconds between a leader's heartbeats.
    pub heartbeat_millis: u64,
    /// The shortest silence, in milliseconds, after which a follower stands for election.
    pub election_min_millis: u64,
    /// The longest.
    pub election_max_millis: u64,
}

impl Default for Raft {
    fn default() -> Self {
        Self { heartbeat_millis: 150, election_min_millis: 600, election_max_millis: 1000 }
    }
}

/// What a request may cost.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// How long, in milliseconds, a request may take when its caller sets no deadline.
    pub request_millis: u64,
    /// How many requests of parties are held at once, whether they wait or are served.
    pub concurrent_requests: usize,
    /// How many of them may come from one source: an IPv4 address, or an IPv6 network of 64 bits.
    pub requests_per_source: usize,
    /// How many of them may be of one party, or of one connection over which nobody has proven to be anybody.
    pub requests_per_party: usize,
    /// How many of a party's requests are served at once; the others wait.
    pub working_per_party: usize,
    /// How many requests may be under way on one connection.
    pub requests_per_connection: u32,
    /// How many connections there may be in all, members' and operators' not counted.
    pub connections: usize,
    /// How many of them may come from one source.
    pub connections_per_source: usize,
    /// How many TLS handshakes may be under way.
    pub handshakes: usize,
    /// How long, in milliseconds, a TLS handshake may take.
    pub handshake_millis: u64,
    /// How long, in milliseconds, a new connection may be without a request; members' and operators' may for ever.
    pub first_request_millis: u64,
    /// The same for one that has had requests.
    pub idle_millis: u64,
    /// How many streams may watch exchanges at once.
    pub watchers: usize,
    /// How many of them may be of one party.
    pub watchers_per_party: usize,
    /// How many commands are ordered in one entry.
    pub batch: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_millis: 10_000,
            concurrent_requests: 1024,
            requests_per_source: 512,
            requests_per_party: 64,
            working_per_party: 8,
            requests_per_connection: 256,
            connections: 4096,
            connections_per_source: 128,
            handshakes: 512,
            handshake_millis: 5000,
            first_request_millis: 10_000,
            idle_millis: 300_000,
            watchers: 4096,
            watchers_per_party: 256,
            batch: 256,
        }
    }
}

impl Limits {
    fn check(&self) -> Result<(), String> {
        let Self {
            request_millis,
            concurrent_requests,
            requests_per_source,
            requests_per_party,
            working_per_party,
            requests_per_connection,
            connections,
            connections_per_source,
            handshakes,
            handshake_millis,
            first_request_millis,
            idle_millis,
            watchers,
            watchers_per_party,
            batch,
        } = *self;
        let most = fairpost_proto::entry::MAX_COMMANDS;
        if batch == 0 || batch > most {
            return Err(format!("limits.batch is {batch}; expected 1 to {most}"));
        }
        let times = [
            ("request_millis", request_millis),
            ("handshake_millis", handshake_millis),
            ("first_request_millis", first_request_millis),
            ("idle_millis", idle_millis),
        ];
        let counts = [
            ("concurrent_requests", concurrent_requests),
            ("requests_per_source", requests_per_source),
            ("requests_per_party", requests_per_party),
            ("working_per_party", working_per_party),
            ("requests_per_connection", requests_per_connection as usize),
            ("connections", connections),
            ("connections_per_source", connections_per_source),
            ("handshakes", handshakes),
            ("watchers", watchers),
            ("watchers_per_party", watchers_per_party),
        ];
        let zero = times.iter().find(|(_, value)| *value == 0).map(|(key, _)| key);
        let zero = zero.or_else(|| counts.iter().find(|(_, value)| *value == 0).map(|(key, _)| key));
        if let Some(key) = zero {
            return Err(format!("limits.{key} is 0; expected 1 or more"));
        }
        // Each of these is a part of the one before.
        let parts = [
            ("concurrent_requests", concurrent_requests),
            ("requests_per_source", requests_per_source),
            ("requests_per_party", requests_per_party),
            ("working_per_party", working_per_party),
        ];
        for ((whole, bound), (part, found)) in parts.iter().zip(parts.iter().skip(1)) {
            if found > bound {
                return Err(format!(
                    "limits.{part} is {found}; expected at most limits.{whole} ({bound}), which it is a part of"
                ));
            }
        }
        Ok(())
    }
}

fn default_data() -> PathBuf {
    "data".into()
}

fn default_trust() -> PathBuf {
    "../cluster.trust".into()
}

fn default_proposal() -> PathBuf {
    "../cluster.proposal".into()
}

fn default_identity() -> PathBuf {
    "identity.key".into()
}

fn default_tls() -> PathBuf {
    "tls.pem".into()
}

fn default_share() -> PathBuf {
    "share.toml".into()
}

impl Config {
    /// Reads the configuration at `path`; its paths come back resolved.
    pub fn load(path: &Path) -> Result<Self, Error> {
        if !path.is_file() {
            return Err(Error::Missing(path.to_owned()));
        }
        let size = std::fs::metadata(path).map(|file| file.len()).unwrap_or_default();
        if size > MAX_BYTES {
            let problem = format!("it has {size} bytes, at most {MAX_BYTES} are read");
            return Err(Error::Conflict { path: path.to_owned(), problem });
        }
        let figment = Figment::new()
            .merge(Toml::file_exact(path))
            .merge(Env::prefixed(ENVIRONMENT).ignore(OWN).split("__"));
        let mut config: Self = figment
            .extract()
            .map_err(|source| Error::Invalid { path: path.to_owned(), source: Box::new(source) })?;
        config.check().map_err(|problem| Error::Conflict { path: path.to_owned(), problem })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        for file in [
            &mut config.data,
            &mut config.trust,
            &mut config.proposal,
            &mut config.identity,
            &mut config.tls,
            &mut config.share,
        ] {
            *file = folder.join(&*file);
        }
        Ok(config)
    }

    /// The configuration as a file's text.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(self)
    }

    fn check(&self) -> Result<(), String> {
        if let Some(address) = self.metrics_listen.filter(|address| !address.ip().is_loopback()) {
            return Err(format!(
                "metrics_listen is {address}; metrics have no TLS, so expected a loopback address such as 127.0.0.1:{}",
                address.port()
            ));
        }
        let raft = self.raft;
        if self.name.is_empty() {
            return Err("name is empty; expected the node's name in the view".into());
        }
        if raft.heartbeat_millis == 0 || raft.heartbeat_millis > raft.election_min_millis / 2 {
            return Err(format!(
                "raft.heartbeat_millis is {}; expected 1 to half of raft.election_min_millis ({})",
                raft.heartbeat_millis, raft.election_min_millis
            ));
        }
        if raft.election_min_millis >= raft.election_max_millis {
            return Err(format!(
                "raft.election_min_millis is {}; expected less than raft.election_max_millis ({})",
                raft.election_min_millis, raft.election_max_millis
            ));
        }
        self.limits.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fairpostd.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn two_lines_are_a_configuration() {
        let config = load("name = 'n1'\nlisten = '127.0.0.1:7401'").unwrap();
        assert_eq!(config.raft, Raft::default());
        assert!(config.data.ends_with("data") && config.data.is_absolute());
    }

    #[test]
    fn a_typo_names_the_key_and_the_file() {
        let error = load("name = 'n1'\nlisten = '127.0.0.1:7401'\nlisten_adress = 1").unwrap_err();
        assert!(error.contains("listen_adress") && error.contains("fairpostd.toml"), "{error}");
        let error = load("name = 'n1'\nlisten = '127.0.0.1:7401'\n[raft]\nheartbeat = 1").unwrap_err();
        assert!(error.contains("heartbeat"), "{error}");
    }

    #[test]
    fn a_file_too_large_to_be_one_is_not_read() {
        let error = load(&"# no configuration\n".repeat(10_000)).unwrap_err();
        assert!(error.contains("at most 65536 are read"), "{error}");
    }

    #[test]
    fn the_greatest_number_is_no_heartbeat() {
        let text = "name = 'n1'\nlisten = '127.0.0.1:1'\n[raft]\nheartbeat_millis = 9223372036854775807";
        assert!(load(text).unwrap_err().contains("9223372036854775807"));
        let greatest = Raft { heartbeat_millis: u64::MAX, ..Raft::default() };
        let config = Config { raft: greatest, ..load("name = 'n1'\nlisten = '127.0.0.1:1'").unwrap() };
        assert!(config.check().is_err());
    }

    #[test]
    fn values_that_do_not_go_together_are_refused() {
        let error = load("name = 'n1'\nlisten = '127.0.0.1:1'\n[raft]\nheartbeat_millis = 400").unwrap_err();
        assert!(error.contains("400") && error.contains("600"), "{error}");
        let error = load("name = 'n1'\nlisten = '127.0.0.1:1'\nmetrics_listen = '0.0.0.0:2'").unwrap_err();
        assert!(error.contains("loopback"), "{error}");
        let error =
            load("name = 'n1'\nlisten = '127.0.0.1:1'\n[limits]\nrequests_per_party = 513").unwrap_err();
        assert!(error.contains("513") && error.contains("requests_per_source (512)"), "{error}");
        let error = load("name = 'n1'\nlisten = '127.0.0.1:1'\n[limits]\nhandshakes = 0").unwrap_err();
        assert!(error.contains("limits.handshakes is 0"), "{error}");
        assert!(load("name = ''\nlisten = '127.0.0.1:1'").is_err());
        assert!(load("listen = '127.0.0.1:1'").unwrap_err().contains("name"));
    }
}
