//! The cluster harness: real `fairpostd` processes on free ports, in a folder of their own, killed and started at will.
//!
//! The binaries are those beside the test's own executable (`target/<profile>/`): `make test` builds them first.
//! Everything that a test started is stopped, by process id, when its [`Cluster`] goes out of scope.

mod ask;
mod cluster;
mod command;
pub mod dealer;
mod fill;
pub mod history;
mod measured;
mod people;
pub mod rogue;
pub mod world;

pub use ask::{about, call, envelope, get_proof, get_share, request, undecided};
pub use cluster::{Cluster, Node, Settings, binary, eventually, within};
pub use command::{Ended, ended, run};
pub use fill::{Filled, Filling, bytes_in, fill, open_ledger};
pub use measured::{Measured, measure};
pub use people::{Fraud, People, certified, mail, open, prove};
