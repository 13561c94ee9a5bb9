//! Tests of the whole room: openraft's own storage suite, kills, and clusters in one process.

mod answers;
mod cluster;
pub(super) mod double;
mod faults;
mod hostile;
mod kill;
mod liars;
mod log;
mod purge;
mod suite;
