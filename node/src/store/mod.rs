//! What a node keeps on disk: one data folder with three RocksDB databases, each written by one thread.
//!
//! # Specification
//!
//! - [`Folder`] is the data folder. It belongs to one node of one cluster, and to one process at a time.
//! - [`Database`] is one RocksDB with named columns. `log` holds Raft's entries and vote, `ledger` all that is
//!   replicated, `witness` all that this node has signed or promised. They are separate so that each is synced
//!   for its own reasons only, and so that Raft can never rewrite what this node has signed.
//! - [`Writer`] is the only one who writes to a database: it drains its queue into one batch, syncs once if
//!   anything in it asked for that, and only then answers, in order.
//!
//! Nothing outside this module names RocksDB.
//!
//! # Relies on
//!
//! - A file system that keeps what `fsync` has confirmed, and a lock (`flock`) that ends with the process.
//!
//! # Guarantees
//!
//! - What was answered as [`Durability::Synced`] survives a crash of process or machine ([`Writer::start`];
//!   `consensus::log_store` is killed over and over for it).
//! - The operations of one [`Ops`] are on disk together or not at all ([`Database`]).
//! - After one failed write nothing more is written ([`Writer::start`], test
//!   `after_a_failed_write_nothing_more_is_written`).
//! - A folder that belongs to another node, cluster or process is left as it was ([`Folder::open`]).
//! - Memory for blocks and write buffers is bounded, whatever lies on disk ([`Memory`]).

mod database;
mod error;
mod folder;
mod generation;
mod ledger;
pub mod metrics;
mod ops;
mod packed;
mod writer;

pub use database::{Column, Database, Entries, KeyValue, Memory, Order, View};
pub use error::Error;
pub use folder::{Folder, Identity};
pub use generation::{Home, Ready, Staging};
pub use ledger::{Ledger, Record, Records, Step, VerifiedToken};
pub use ops::Ops;
#[cfg(test)]
pub(crate) use packed::pack;
pub(crate) use writer::Sink;
pub use writer::{Durability, Handle, Writer};

/// Which of a node's three databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Store {
    /// Raft's entries, vote, and what is committed and purged.
    Log,
    /// All replicated state: exchanges, evidence, the evidence log, views.
    Ledger,
    /// All that this node has signed or promised, and the certificates it holds. It lives and dies with the
    /// node's share.
    Witness,
}

impl Store {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Log, Self::Ledger, Self::Witness];

    /// Its name, which is also that of its directory in the data folder.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Ledger => "ledger",
            Self::Witness => "witness",
        }
    }
}
