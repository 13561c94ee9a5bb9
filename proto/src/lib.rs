//! The Fairpost protocol: what every party signs, what opens a mail, and what a judge checks.
//!
//! Pure code: no I/O of its own (streams come as [`std::io::Read`] and [`std::io::Write`]), no clock, no
//! network. Bytes from outside are parsed once, into types that can't hold an invalid value.

pub mod cbor;
pub mod quorum;
pub mod terms;
pub mod ids;
pub mod lock;
pub mod sealed;
pub mod merkle;
pub mod threshold;
#[cfg(test)]
mod vectors;
