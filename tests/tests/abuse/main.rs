//! Load and abuse: what one client does to a node, and what another notices of it. Real nodes, real floods.
//!
//! Floods come from another loopback address (127.0.0.2) than those who must not suffer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics; clippy excuses only the functions marked as tests themselves"
)]

mod connections;
mod wire;
