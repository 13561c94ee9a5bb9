//! The Fairpost protocol: what every party signs, what opens a mail, and what a judge checks.
//!
//! Pure code: no I/O of its own (streams come as [`std::io::Read`] and [`std::io::Write`]), no clock, no
//! network. Bytes from outside are parsed once, into types that can't hold an invalid value.

pub mod approval;
pub mod armor;
pub mod binding;
pub mod card;
pub mod cbor;
pub mod ceremony;
pub mod chain;
pub mod cose;
pub mod entry;
pub mod evidence;
pub mod grant;
pub mod ids;
pub mod leaf;
pub mod letter;
pub mod lock;
mod memo;
pub mod merkle;
pub mod misconduct;
pub mod node_card;
pub mod proof;
pub mod proposal;
pub mod quorum;
pub mod request;
pub mod round;
pub mod sealed;
mod shown;
pub mod suspicion;
pub mod terms;
pub mod threshold;
pub mod trust;
#[cfg(test)]
mod vectors;
pub mod verify;
pub mod view;
pub mod vote;
