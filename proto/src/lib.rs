//! The Fairpost protocol: what every party signs, what opens a mail, and what a judge checks.
//!
//! Pure code: no I/O of its own (streams come as [`std::io::Read`] and [`std::io::Write`]), no clock, no
//! network. Bytes from outside are parsed once, into types that can't hold an invalid value.

pub mod ids;
pub mod lock;
pub mod threshold;
#[cfg(test)]
mod vectors;
