//! Proofs and their verification: of the inclusion of a leaf, and of the consistency of two trees.

use super::{Error, check_size, check_sizes, node_hash};
use crate::ids::Digest;

/// A path from a leaf to the root: that the leaf is in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InclusionProof {
    /// How many leaves the tree has.
    pub tree_size: u64,
    /// Which of them it is, counted from 0.
    pub leaf_index: u64,
    /// The hashes beside the path from the leaf to the root, from the leaf upwards.
    pub path: Vec<Digest>,
}

impl InclusionProof {
    /// That the leaf with hash `leaf` is in the tree with root `root`, at this proof's index and size
    /// (RFC 9162 §2.1.3.2).
    pub fn verify(&self, leaf: &Digest, root: &Digest) -> Result<(), Error> {
        let Self { tree_size: size, leaf_index: index, ref path } = *self;
        check_size(size)?;
        if index >= size {
            return Err(Error::IndexBeyondSize { index, size });
        }
        check_length(path_length(index, size), path)?;
        let mut climb = Climb::new(index, size);
        let found = path.iter().fold(*leaf, |node, beside| match climb.step() {
            Side::Left => node_hash(beside, &node),
            Side::Right => node_hash(&node, beside),
        });
        check_root(root, found)
    }
}

/// That a tree grew out of another, by leaves appended to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsistencyProof {
    /// How many leaves the older tree has, at least 1.
    pub old_size: u64,
    /// How many leaves the newer tree has.
    pub new_size: u64,
    /// The hashes from which both roots can be computed; none if the sizes are equal.
    pub path: Vec<Digest>,
}

impl ConsistencyProof {
    /// That the tree with root `new_root` begins with the leaves of the tree with root `old_root`, at this proof's sizes
    /// (RFC 9162 §2.1.4.2).
    ///
    /// Refused for an empty older tree ([`Error::FromEmpty`]): whoever starts from nothing needs no proof.
    pub fn verify(&self, old_root: &Digest, new_root: &Digest) -> Result<(), Error> {
        let Self { old_size: old, new_size: new, ref path } = *self;
        check_sizes(old, new)?;
        if old == new {
            check_length(0, path)?;
            return check_root(new_root, *old_root);
        }
        // The path climbs from the last perfect subtree of the old tree. The verifier holds its hash already if it is
        // the whole old tree; otherwise it is the first of the path.
        let level = old.trailing_zeros();
        let (index, size) = ((old - 1) >> level, ((new - 1) >> level) + 1);
        let (expected, is_whole) = (path_length(index, size), old.is_power_of_two());
        check_length(if is_whole { expected } else { expected + 1 }, path)?;
        let mut hashes = path.iter();
        let start = if is_whole { Some(old_root) } else { hashes.next() };
        // There is one: the length was checked.
        let Some(start) = start else { return Err(Error::PathLength { expected, found: path.len() }) };
        let mut climb = Climb::new(index, size);
        let (found_old, found_new) = hashes.fold((*start, *start), |(old, new), beside| match climb.step() {
            Side::Left => (node_hash(beside, &old), node_hash(beside, &new)),
            Side::Right => (old, node_hash(&new, beside)),
        });
        if found_old != *old_root {
            return Err(Error::OldRoot { expected: *old_root, found: found_old });
        }
        check_root(new_root, found_new)
    }
}

/// On which side of the path the next hash stands.
enum Side {
    Left,
    Right,
}

/// The way from a node up to the root (the numbers fn and sn in RFC 9162 §2.1.3.2).
struct Climb {
    /// Index of the node at its level.
    node: u64,
    /// Index of the last node at that level.
    last: u64,
}

impl Climb {
    /// From the node at `index`, one of `size` at its level.
    const fn new(index: u64, size: u64) -> Self {
        Self { node: index, last: size - 1 }
    }

    /// Goes up to the next node that has one beside it, and tells the side; then one level further.
    fn step(&mut self) -> Side {
        let side = if self.node & 1 == 1 || self.node == self.last {
            // A last node without a right neighbour is its own parent, so levels without a left one are skipped.
            let skipped = self.node.trailing_zeros().min(63);
            (self.node, self.last) = (self.node >> skipped, self.last >> skipped);
            Side::Left
        } else {
            Side::Right
        };
        (self.node, self.last) = (self.node >> 1, self.last >> 1);
        side
    }
}

/// How many hashes lead from the node at `index`, one of `size` at its level, to the root. `index` is below `size`.
const fn path_length(index: u64, size: u64) -> usize {
    // Below the level at which the path meets the tree's right edge, every node has another beside it; from there on,
    // only those with one on their left.
    let inside = u64::BITS - (index ^ (size - 1)).leading_zeros();
    let edge = match index.checked_shr(inside) {
        Some(rest) => rest.count_ones(),
        None => 0,
    };
    (inside + edge) as usize
}

fn check_length(expected: usize, path: &[Digest]) -> Result<(), Error> {
    match path.len() {
        found if found == expected => Ok(()),
        found => Err(Error::PathLength { expected, found }),
    }
}

fn check_root(expected: &Digest, found: Digest) -> Result<(), Error> {
    if *expected == found { Ok(()) } else { Err(Error::Root { expected: *expected, found }) }
}
