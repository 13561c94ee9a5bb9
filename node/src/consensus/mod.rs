//! One order of entries, stored by a majority before it counts: Raft, by openraft.
//!
//! # Specification
//!
//! A leader proposes an entry; once a majority has it on disk it is committed, and every node applies it to
//! its [`machine`] in the same order. What an entry means is the ledger's affair: here it is bytes.
//!
//! All that knows openraft is in this room. Its ways out are [`Handle`] for the node, [`machine`] for the
//! ledger, [`transport`] for the network, and the `log` database ([`LogStore`]).
//!
//! Raft trusts its members, and this cluster does not. So nothing that leaves the cluster depends on Raft being
//! honest: a false leader can delay, and the witnesses see to it that it cannot deceive. [`guard`] keeps
//! what a false peer can do to this node's own Raft small.
//!
//! # Relies on
//!
//! - The store keeps what it has confirmed as synced.
//! - The transport proves who sent what.
//!
//! # Guarantees
//!
//! - An outcome that [`Handle::propose`] returned stays, though any minority of nodes crash (test
//!   `a_cluster_survives_its_leader`).
//! - What was acknowledged to a peer survives a kill of this process (test
//!   `what_was_acknowledged_survives_a_kill`).
//! - A peer's message never makes this node panic, and never puts a hole in its log (tests in `message` and
//!   [`guard`]).

pub mod clocks;
mod codec;
mod doubts;
mod extent;
mod fitness;
mod grants;
pub mod guard;
mod handle;
mod log_store;
pub mod machine;
mod message;
pub mod metrics;
mod network;
mod node;
mod pace;
pub mod purge;
pub mod sequencer;
mod snapshot;
mod state_machine;
mod status;
mod suspicion;
pub mod transport;
mod twice;
mod types;

#[cfg(test)]
mod tests;

pub use codec::Error as CodecError;
pub use doubts::MAX_SUSPICIONS;
pub use extent::Keep;
pub use grants::Electorate;
pub use handle::{Error, Handle, Refusal};
pub use log_store::{Clock, Error as LogError, LogStore};
pub use network::CHUNK_BYTES;
pub use node::{Options, start};
pub use snapshot::Error as SnapshotError;
pub use status::Status;
pub use twice::Told;
pub use types::{Leader, Member};
