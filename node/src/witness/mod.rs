//! The witness: what this server signs, and why.
//!
//! # Specification
//!
//! Raft orders, but it is not believed: a verdict becomes final in two steps of its own.
//!
//! 1. **Vote.** For each entry that it has decided for itself, a member signs one ballot: the leaves that it may vote
//!    for by [`rules::may_vote`]. It votes at most once per exchange and round.
//! 2. **Share.** Once votes of `q` members for one leaf lie in its store, synced, it gives its share of the token for
//!    that leaf's verdict, whatever it voted for itself: [`rules::may_share`].
//!
//! Later rounds, for exchanges whose votes were split, add statements, promises and acknowledgements; the store has
//! their column and the rules their place, and a round above the first is refused until they are built.
//!
//! # Relies on
//!
//! - What [`store::Store`] has written synced is there after a crash, or the store is gone as a whole: it lives and
//!   dies with the share ([`store::Store::open`] checks that the two belong together).
//! - This server's clock is right within the view's skew.
//!
//! # Guarantees
//!
//! - Never two votes for one exchange and round (`rules::may_vote`; `nobody_votes_twice`).
//! - A choice is on disk before the vote is signed, a certificate before a share is: the shell ([`service`]) signs only
//!   what the store hands back.
//! - No two tokens for one exchange, whatever the order of commands, crashes and losses, while no more than `f` members
//!   lie (the property tests in `harness`).

pub mod collect;
pub mod combine;
#[cfg(test)]
mod harness;
pub mod metrics;
pub mod rules;
pub mod service;
#[cfg(test)]
mod service_tests;
pub mod store;
pub mod tally;
pub mod vouch;
