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
mod shares;
mod traffic;

/// How long a scenario may take, if it says nothing else. Most take less than a minute.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(300);

/// A test that runs in a sandbox.
macro_rules! scenario {
    ($name:ident, $body:expr) => {
        crate::scenario!($name, crate::LIMIT, $body);
    };
    ($name:ident, $limit:expr, $body:expr) => {
        #[test]
        fn $name() {
            let name = fairpost_tests::world::full_name(module_path!(), stringify!($name));
            fairpost_tests::world::sandboxed(&name, $limit, $body);
        }
    };
}
pub(crate) use scenario;
