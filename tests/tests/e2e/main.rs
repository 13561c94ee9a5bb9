//! Real clusters of real processes, from the sealed mail to the judge.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics; clippy excuses only the functions marked as tests themselves"
)]

mod bench;
mod blame;
mod ceremony;
mod cli;
mod docs;
mod exchange;
mod hostile;
mod kill;
mod mails;
mod python;
mod rollback;
mod rounds;
mod running;
mod shares;
mod snapshots;
mod start;
mod suspicion;
mod watch;
