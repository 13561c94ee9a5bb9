//! Mutations: which seed, and what is done to it.

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use crate::change::{Change, change};
use crate::{Target, corpus};

/// The longest input that mutations make.
const MAX_BYTES: usize = 1 << 20;

/// Tries so many mutations of `seeds`. The first that breaks a rule is shrunk, kept in the corpus, and named in the error.
pub(crate) fn try_all(target: &Target, seeds: &[&[u8]], cases: u32, round: u64) -> Result<(), String> {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 4096, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, rng(target.name(), round));
    let plans = (any::<Index>(), prop::collection::vec(change(), 0..5));
    let outcome = runner.run(&plans, |(seed, changes)| {
        let bytes = make(seeds, &seed, &changes);
        target.check(&bytes).map(drop).map_err(TestCaseError::fail)
    });
    match outcome {
        Ok(()) => Ok(()),
        Err(TestError::Fail(fault, (seed, changes))) => {
            let bytes = make(seeds, &seed, &changes);
            let path = corpus::keep(target.name(), &bytes);
            let path = path.map_or("which could not be kept".to_owned(), |path| path.display().to_string());
            Err(format!(
                "{}: {fault}\n  with {} bytes, {path}\n  (seed {round}): {changes:?}",
                target.name(),
                bytes.len()
            ))
        }
        Err(TestError::Abort(reason)) => Err(format!("{}: gave up: {reason}", target.name())),
    }
}

fn make(seeds: &[&[u8]], seed: &Index, changes: &[Change]) -> Vec<u8> {
    let mut bytes = if seeds.is_empty() { Vec::new() } else { seed.get(seeds).to_vec() };
    for change in changes {
        change.apply(&mut bytes, seeds);
        bytes.truncate(MAX_BYTES);
    }
    bytes
}

/// Of its own for each target and round.
fn rng(name: &str, round: u64) -> TestRng {
    let mut seed = [0; 32];
    for (place, byte) in name.bytes().enumerate() {
        if let Some(slot) = seed.get_mut(8 + place % 24) {
            *slot ^= byte.rotate_left(place as u32 / 24);
        }
    }
    seed.iter_mut().zip(round.to_be_bytes()).for_each(|(slot, byte)| *slot = byte);
    TestRng::from_seed(RngAlgorithm::ChaCha, &seed)
}
