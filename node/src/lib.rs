//! The Fairpost server: one of `n` that together reach one verdict for each exchange.
//!
//! A request goes one way through it: [`api`] takes it in, [`consensus`] orders it, [`ledger`] decides it, [`store`]
//! keeps it, [`witness`] signs it, and [`api`] answers. [`server`] puts the parts together; [`config`] says where a
//! node's files are.

pub mod api;
pub mod clock;
pub mod config;
pub mod consensus;
pub mod health;
#[cfg(test)]
mod hostile;
pub mod ledger;
pub mod machine;
pub mod membership;
pub mod retention;
pub mod server;
pub mod store;
pub mod telemetry;
#[cfg(test)]
mod testing;
pub mod usage;
pub mod witness;
