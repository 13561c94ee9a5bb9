//! The ledger: the deterministic machine that turns ordered commands into provisional verdicts and evidence-log leaves.
//!
//! # Specification
//!
//! Every node feeds it the same entries in the same order and gets the same leaves:
//!
//! - [`decide()`]: what one command does to one exchange.
//! - [`round::open()`]: which leaf a quorum's statements make, in a later round.
//! - [`apply()`]: what an entry does: its head is checked, each command is verified and decided, and each new verdict
//!   becomes a leaf of the evidence log.
//!
//! A verdict here is *provisional*: it is what the order says. It becomes final by the votes, the certificate and the
//! token that [`crate::witness`] sees to. Where votes are split, a later round gives the exchange another leaf, with the
//! same verdict or another one; so long as there is no token, nothing that leaves the cluster rests on it.
//!
//! # Relies on
//!
//! Nothing but its arguments: no clock, no disk, no network. Time is the entry's, keys and rules are the view's.
//!
//! # Guarantees
//!
//! - One leaf per exchange and round ([`decide()`], [`round::open()`]; `no_order_of_commands_decides_an_exchange_twice`,
//!   `rounds_follow_one_another`).
//! - A command that does not verify changes nothing ([`apply()`]; `forged_commands_change_nothing`).
//! - An entry that does not follow the last one changes nothing ([`apply()`]; `entries_must_follow_one_another`).

mod apply;
mod decide;
pub mod metrics;
mod rebuild;
mod record;
pub mod round;
#[cfg(test)]
mod round_tests;
#[cfg(test)]
pub(crate) mod tests;

pub use apply::{Applied, Exchanges, Outcome, Standing, Void, apply};
pub use decide::{Decision, decide};
pub use rebuild::{Rebuild, Root, Verified};
pub use record::{Block, Error, Exchange, State};
pub(crate) use record::{read_place, read_time};
