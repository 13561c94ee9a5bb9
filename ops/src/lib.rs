//! What `fairpostctl` does for operators: make a cluster, look after it, explain a node's configuration.
//!
//! - [`bench`](mod@bench): how fast a cluster is, and how fast its cryptography would let it be.
//! - [`ceremony`]: the key ceremony, begun and watched.
//! - [`init`]: all nodes of a cluster for one machine, with keys, a proposal and a development CA.
//! - [`node`]: one new server, with its keys and its card.
//! - [`proposal`]: who is to be in a new cluster, and which operators agreed to it.
//! - [`status`]: how every member is, and what that means for the cluster.
//! - [`settings`]: each value of a node's configuration, and where it comes from.
//! - [`operator`]: an operator's key, and the connections that it opens.
//!
//! The command in `main.rs` only reads arguments, calls one of these and prints.

pub mod bench;
pub mod blame;
pub mod ceremony;
pub mod init;
pub mod node;
pub mod operator;
pub mod proposal;
pub mod settings;
pub mod status;
