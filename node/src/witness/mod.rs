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
//! Where votes are split, no leaf gets `q` of them. Then a later round is opened:
//!
//! 1. **State.** Asked for it, a member says what it knows of the exchange, with the certificate of the highest round that it
//!    holds, and promises to sign nothing in a lower round: [`rules::may_state`]. [`rounds`] collects the statements.
//! 2. **Open.** The statements of a quorum are ordered, and everybody computes the one leaf of the new round from them
//!    ([`crate::ledger::round`]). It is voted for as in round 1.
//! 3. **Acknowledge.** Whoever has the certificate of a later round on disk, and has promised no higher one, says so:
//!    [`rules::may_acknowledge`].
//! 4. **Share**, against the acknowledgements of a quorum, on disk.
//!
//! After a start a member signs nothing before enough others have told what they hold of it ([`rules::start`]): one that was set
//! back to an earlier state has forgotten votes, and signs no more.
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
//! - Never two logs of one size (`rules::may_sign_log`; `no_log_is_signed_that_is_not_longer_than_the_longest`).
//! - A choice is on disk before the vote is signed, a promise before the statement, a certificate before an acknowledgement
//!   or a share: the shell ([`service`]) signs only what the store hands back.
//! - No two tokens for one exchange, whatever the order of commands, crashes and losses, while no more than `f` members
//!   lie (the property tests in `harness`).

pub mod blame;
pub mod collect;
pub mod combine;
#[cfg(test)]
mod harness;
pub mod metrics;
pub mod newest;
pub mod refusals;
pub mod rounds;
pub mod rules;
pub mod service;
#[cfg(test)]
mod service_tests;
pub mod store;
pub mod tally;
pub mod vouch;
