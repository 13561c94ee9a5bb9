//! The node's gRPC services. They parse, authenticate, and pass on; the rules are elsewhere.
//!
//! | service | who may call | file |
//! |---|---|---|
//! | `Exchange` | anybody with a request signed by a party | [`exchange`] |
//! | `Cluster` | anybody | [`cluster`] |
//! | `Peer`, `Consensus` | members of the view, by TLS client certificate | [`peer`], [`raft`] |
//! | `Admin` | operators and members, likewise; clearing blame, operators alone | [`admin`] |
//! | `Ceremony` | operators and members of the proposal, likewise | [`service`](crate::membership::ceremony::service) |
//!
//! [`admission`] says whose request is served now, and whose later or not at all. [`contact`] takes a party's request through the cluster,
//! [`trial`] has the leader suspected where that does not get on, [`watch`] waits with it for a verdict; [`peers`] is this node's side of the calls to others.

pub mod admin;
pub mod admission;
pub mod auth;
mod blame;
pub mod cluster;
pub mod contact;
pub mod error;
pub mod exchange;
pub mod metrics;
pub mod peer;
pub mod peers;
pub mod raft;
pub mod trial;
pub mod watch;
