//! From the configuration and the view: what connections and Raft are started with.

use std::time::Duration;

use fairpost_api::tls::IncomingOptions;
use fairpost_proto::ids::Span;
use fairpost_proto::quorum::Quorum;

use crate::config::{Config, Limits};
use crate::consensus;

/// How many files the node may need for other things than connections of strangers: three databases, members.
const FILES: usize = 1536;

pub(super) fn incoming_options(limits: &Limits) -> IncomingOptions {
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

/// Raft's options for the member with this index, among so many, whose clocks may differ by so much.
pub(super) fn raft_options(index: u16, config: &Config, quorum: Quorum, skew: Span) -> consensus::Options {
    let raft = &config.raft;
    consensus::Options {
        heartbeat: Duration::from_millis(raft.heartbeat_millis),
        election_min: Duration::from_millis(raft.election_min_millis),
        election_max: Duration::from_millis(raft.election_max_millis),
        proposal_timeout: Duration::from_millis(config.limits.request_millis),
        agreement: consensus::clocks::Agreement { members: quorum.n(), quorum: quorum.q(), skew },
        ..consensus::Options::new(u64::from(index))
    }
}
