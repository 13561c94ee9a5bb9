//! Abuse: connections that say nothing, say too little, or are too many, floods of requests, and who is served meanwhile.
//! Real nodes.
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
mod requests;
mod wire;
