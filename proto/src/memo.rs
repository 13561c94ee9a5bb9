//! What was found to hold already: signatures and certificate paths that need not be computed again.
//!
//! # Specification
//!
//! A server meets the same objects several times: a receipt when it is handed in, when its entry is applied, when a
//! client asks again; a certificate with each mail of its owner. Whether a signature holds, and which anchor signed a
//! path of certificates, follows from bytes alone and never changes. So that is what is remembered, under the SHA-256 of all these
//! bytes. What depends on the time (is a certificate valid *now*?), on an address or on a deadline is
//! checked each time anew.
//!
//! Only success is remembered: what fails is checked again, and its error made again.
//!
//! # Guarantees
//!
//! - Nothing passes with a memo that would not pass without: the key covers every byte that was checked, signature
//!   included (`no_flipped_bit_of_evidence_counts` in `tests/promises/hostile.rs`, whose view remembers the unflipped).
//! - Its memory is bounded, whatever comes ([`Recent`]; `old_ones_are_forgotten`).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ids::Digest;

/// How many signatures are remembered at least: those of some thousand exchanges, about 1 MiB.
const SIGNATURES: usize = 8192;
/// How many paths: one for each person that is active just now.
const PATHS: usize = 8192;

/// Remembers what was found to hold, for one view.
#[derive(Debug)]
pub(crate) struct Memo {
    signatures: Mutex<Recent<()>>,
    paths: Mutex<Recent<Path>>,
}

/// A path of certificates whose signatures hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// The anchor's place in the view.
    pub(crate) anchor: usize,
    /// How many authorities stand between it and the signer.
    pub(crate) between: usize,
}

impl Default for Memo {
    fn default() -> Self {
        Self { signatures: Mutex::new(Recent::new(SIGNATURES)), paths: Mutex::new(Recent::new(PATHS)) }
    }
}

impl Memo {
    /// Whether the object with this digest is known to be signed by its own first certificate's key.
    pub(crate) fn is_signed(&self, object: &Digest) -> bool {
        locked(&self.signatures).get(object).is_some()
    }

    /// The object with this digest is.
    pub(crate) fn signed(&self, object: Digest) {
        locked(&self.signatures).put(object, ());
    }

    /// The path that is known for the certificates with this digest.
    pub(crate) fn path(&self, certificates: &Digest) -> Option<Path> {
        locked(&self.paths).get(certificates)
    }

    /// The certificates with this digest have this path.
    pub(crate) fn leads(&self, certificates: Digest, path: Path) {
        locked(&self.paths).put(certificates, path);
    }
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A map of facts is whole after each step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The values that were used last: at least `most` of them, at most twice as many.
#[derive(Debug)]
pub(crate) struct Recent<V> {
    most: usize,
    young: HashMap<Digest, V>,
    old: HashMap<Digest, V>,
}

impl<V: Clone> Recent<V> {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, young: HashMap::new(), old: HashMap::new() }
    }

    pub(crate) fn get(&mut self, key: &Digest) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let value = self.old.remove(key)?;
        self.put(*key, value.clone());
        Some(value)
    }

    pub(crate) fn put(&mut self, key: Digest, value: V) {
        if self.young.len() >= self.most {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> Digest {
        Digest::of(&number.to_be_bytes())
    }

    #[test]
    fn old_ones_are_forgotten() {
        let mut recent = Recent::new(10);
        for number in 0..1000 {
            recent.put(key(number), number);
            assert!(recent.young.len() + recent.old.len() <= 20);
            assert_eq!(recent.get(&key(0)), Some(0), "it is used all the time, after {number}");
        }
        assert_eq!(recent.get(&key(999)), Some(999));
        assert_eq!(recent.get(&key(500)), None);
    }
}
