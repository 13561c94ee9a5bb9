//! How every member is, and what that means for the cluster.
//!
//! # Specification
//!
//! Every member of the newest view in the trust file is asked, all at once, over TLS that is pinned to its identity. A
//! member that does not answer in time counts as down. A node can take part in a verdict if it answers, its Raft runs
//! and its share works; it takes `q` such nodes, a majority that runs Raft, and a leader. The **margin** is how many
//! more nodes may fail before there is no verdict.
//!
//! | state | when | exit |
//! |---|---|---|
//! | fine | every member is ready and nothing alarms | 0 |
//! | degraded | verdicts are reached, and something is wrong | 2 |
//! | no quorum | no verdict can be reached now | 3 |
//! | unreached | nobody answered | 75 |
//!
//! # Guarantees
//!
//! What answers say is shown, not believed: no answer of one node makes another node look better ([`Report::new`];
//! test `a_node_that_is_down_counts_as_down_whatever_others_say`).

mod probe;
mod report;
mod show;

pub(crate) use probe::explain;
pub use probe::{Answer, Probe, probe};
pub use report::{Members, Node, Report, Share, State};
pub use show::{line, table};
