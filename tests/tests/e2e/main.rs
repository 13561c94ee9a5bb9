//! Real clusters of real processes, from the sealed mail to the judge.

mod exchange;
mod hostile;
mod kill;
mod start;
