//! Hostile bytes for every decoder: what is tried on them, and what they must keep.
//!
//! # Specification
//!
//! A [`Target`] is a decoder with a name, valid values to start from, and the words in which its errors name a place.
//! [`run`] tries on each of them, in this order:
//!
//! 1. its **corpus**: the files in `tests/corpus/NAME`. Those whose name begins with `valid` must be taken, those with
//!    `refused` must be refused; each of the others once broke something, and is named after it;
//! 2. its **seeds**, which must be taken;
//! 3. so many **mutations** of seeds and corpus ([`plan`]): of bytes, of CBOR with its outer lengths set right again, of
//!    text, of one seed with a piece of another. What fails is shrunk and kept in the corpus;
//! 4. inputs that **grow** ([`growth`]): of 1 MiB, and of a tenth of it.
//!
//! Whatever the bytes are, the decoder
//!
//! - does not panic;
//! - holds no more memory at a time than a few times its input and a constant ([`Target::memory`]);
//! - takes no more time than linear ([`growth`]);
//! - refuses with an error of at most [`MAX_ERROR`] characters, none of which steers a terminal, that names the place
//!   ([`Target::places`]);
//! - if a value has one encoding, takes nothing that is not written back as the very same bytes
//!   ([`Target::one_encoding`]).
//!
//! | variable | meaning |
//! |---|---|
//! | `FAIRPOST_FUZZ_CASES` | mutations for each target: 300 |
//! | `FAIRPOST_FUZZ_SECONDS` | go on with each target for so long |
//! | `FAIRPOST_FUZZ_SEED` | another number, other mutations; `time` takes the clock |
//! | `FAIRPOST_FUZZ_ONLY` | only targets whose name has this in it |
//!
//! # Relies on
//!
//! The decoder works in the thread that calls it: memory and time are counted for the thread.
//!
//! # Guarantees
//!
//! Each of the rules above fails a decoder that breaks it (tests in `rules.rs`).

#![allow(clippy::panic, reason = "this is a test's own library: it fails as tests do")]

mod cbor;
mod change;
mod corpus;
pub mod growth;
pub mod plan;
#[cfg(test)]
mod rules;
mod target;

use std::time::{Duration, Instant};

pub use target::{MAX_ERROR, Target};

/// Tries everything on all targets, and fails if any of them breaks a rule.
pub fn run(targets: Vec<Target>) {
    let effort = Effort::from_environment();
    let only = std::env::var("FAIRPOST_FUZZ_ONLY").unwrap_or_default();
    let chosen = targets.into_iter().filter(|target| target.name().contains(&only));
    let faults: Vec<String> = chosen.filter_map(|target| effort.spend(&target).err()).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

/// How much is tried.
#[derive(Clone, Copy, Debug)]
struct Effort {
    cases: u32,
    time: Option<Duration>,
    seed: u64,
}

impl Effort {
    fn from_environment() -> Self {
        let number = |name: &str| std::env::var(name).ok().map(|text| number(name, &text));
        let seed = match std::env::var("FAIRPOST_FUZZ_SEED").as_deref() {
            Ok("time") => {
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                since.unwrap_or_default().as_secs()
            }
            _ => number("FAIRPOST_FUZZ_SEED").unwrap_or(0),
        };
        Self {
            cases: number("FAIRPOST_FUZZ_CASES").map_or(300, |cases| cases as u32),
            time: number("FAIRPOST_FUZZ_SECONDS").map(Duration::from_secs),
            seed,
        }
    }

    fn spend(self, target: &Target) -> Result<(), String> {
        let began = Instant::now();
        let corpus = corpus::read(target.name())?;
        for file in &corpus {
            target
                .check(&file.bytes)
                .and_then(|taken| file.expects(taken))
                .map_err(|fault| format!("{}: {}: {fault}", target.name(), file.path.display()))?;
        }
        for (place, seed) in target.seeds().iter().enumerate() {
            match target.check(seed) {
                Ok(true) => {}
                Ok(false) => {
                    let error = target.error(seed).unwrap_or_default();
                    return Err(format!("{}: seed {place} is refused: {error}", target.name()));
                }
                Err(fault) => return Err(format!("{}: seed {place}: {fault}", target.name())),
            }
        }
        let seeds: Vec<&[u8]> =
            target.seeds().iter().chain(corpus.iter().map(|file| &file.bytes)).map(Vec::as_slice).collect();
        let mut round = self.seed;
        loop {
            plan::try_all(target, &seeds, self.cases, round)?;
            if self.time.is_none_or(|time| began.elapsed() >= time) {
                break;
            }
            round = round.wrapping_add(1);
        }
        growth::check(target)
    }
}

fn number(name: &str, text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, expected a number"))
}

/// The most memory that `work` holds at a time, in bytes.
pub fn peak(work: impl FnOnce()) -> u64 {
    allocation_counter::measure(work).bytes_max
}
