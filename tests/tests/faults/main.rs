//! Real processes, and all that can go wrong around them.
//!
//! Each test runs in namespaces of its own ([`sandboxed`](fairpost_tests::world::sandboxed)): as root, on Linux. How to run
//! and replay them: docs/testing.md.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "these files are tests, with helpers beside the functions that are marked as such"
)]

mod clocks;
mod disks;
mod nemesis;
mod network;
mod processes;
mod traffic;

/// A test that runs in a sandbox.
macro_rules! scenario {
    ($name:ident, $body:expr) => {
        #[test]
        fn $name() {
            let name = fairpost_tests::world::full_name(module_path!(), stringify!($name));
            fairpost_tests::world::sandboxed(&name, $body);
        }
    };
}
pub(crate) use scenario;
