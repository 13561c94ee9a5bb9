//! The key ceremony of this node: from an approved proposal to a share, before there is a cluster.
//!
//! # Specification
//!
//! The members of the proposal keep a log of their own by Raft ([`machine`] applies it), in which the messages of
//! [`fairpost_proto::ceremony`] are ordered. Whoever has one for it gives it to the node that leads ([`service`]), which
//! orders it if it counts. Each node does what it has to do as often as the log changes ([`member`]), and keeps what it
//! must not forget in a file ([`kept`]). With the token over the genesis there, it writes its share, the transcript and
//! the trust file, in this order, and destroys what it kept ([`finish`]). From then on it is a node of the cluster, and gives
//! the transcript to members that missed the end.
//!
//! # Relies on
//!
//! - Raft for one order, and for nothing else: what a false leader can do is in [`fairpost_proto::ceremony`].
//! - The folder keeps what was synced.
//!
//! # Guarantees
//!
//! - A node that was killed at any step goes on from there with the same messages (end-to-end test
//!   `every_node_is_killed_at_every_step_of_the_ceremony`).
//! - A share is used only after it matched the commitment of a genesis that bears its token (`finish`).
//! - What a member keeps during the ceremony is gone before it serves as a node of the cluster (`finish`).

pub mod finish;
pub mod kept;
pub mod machine;
pub mod member;
pub mod peers;
pub mod service;
#[cfg(test)]
mod testing;

use std::path::PathBuf;

use fairpost_proto::armor;
use fairpost_proto::ceremony::{self, TranscriptError};

use super::share_file;
use crate::config::Config;

/// Why this node's ceremony can't go on. What hinders only an attempt is in its progress.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A secret file can't be read or written, or its share does not match the genesis.
    #[error(transparent)]
    Secret(#[from] share_file::Error),
    /// What this node kept is damaged.
    #[error("{path}: {source}")]
    Kept {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ceremony::Error,
    },
    /// The transcript of this node's own log does not hold, which no log should bring about.
    #[error("the finished ceremony does not hold: {0}")]
    Transcript(#[from] TranscriptError),
    /// A file in the way of the trust file is of another cluster.
    #[error("{path} is of another cluster than the one that was just made: move it away, and start again")]
    OtherTrust {
        /// The file.
        path: PathBuf,
    },
    /// A task broke off.
    #[error("a task of the ceremony broke off: {0}")]
    Broken(String),
}

/// Where a node's ceremony lies in its data folder.
#[derive(Clone, Debug)]
pub struct Paths {
    /// Raft's log.
    pub log: PathBuf,
    /// What the member must not forget during an attempt.
    pub kept: PathBuf,
    /// What is left at the end; as soon as it is there, the ceremony is over.
    pub transcript: PathBuf,
    folder: PathBuf,
}

impl Paths {
    /// In the data folder of this configuration.
    pub fn new(config: &Config) -> Self {
        let folder = config.data.join("ceremony");
        let file = |name| folder.join(name);
        Self { log: file("log"), kept: file("kept"), transcript: file("transcript"), folder }
    }

    /// Whether the node with this configuration has a ceremony before it: it has begun one and not finished it, or has no
    /// trust or share and a proposal to make them from.
    pub fn is_due(&self, config: &Config) -> bool {
        let made = config.trust.exists() && config.share.exists();
        !self.transcript.exists() && (self.folder.exists() || (!made && config.proposal.exists()))
    }
}

/// Reads an approved proposal, as operators pass it around: armored.
pub fn read_proposal(path: &std::path::Path) -> Result<fairpost_proto::approval::ApprovedProposal, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let bytes = armor::decode(armor::PROPOSAL, &text).map_err(|error| error.to_string())?;
    fairpost_proto::approval::ApprovedProposal::parse(&bytes).map_err(|error| error.to_string())
}
