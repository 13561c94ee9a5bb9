//! Merkle trees over lists that only grow: the evidence log, and the ballots in which servers vote.
//!
//! # Specification
//!
//! RFC 9162 §2.1, with SHA-256. A leaf's hash is SHA-256(0x00 ‖ leaf), a node's SHA-256(0x01 ‖ left ‖ right), the root of
//! the empty tree SHA-256 of nothing. A tree of n > 1 leaves has the first k of them on its left, where k is the largest
//! power of two below n, and the others on its right.
//!
//! Nodes are named by level and index: the node at level l and index i is the root over the leaves from i·2^l up to,
//! not including, (i + 1)·2^l. Only such complete nodes are ever stored; they never change as the tree grows.
//!
//! A consistency proof from the empty tree is refused: it would hold for every tree, and so say nothing.
//!
//! # Relies on
//!
//! SHA-256 resists collisions. Whoever verifies has the roots and sizes from a source of its own; they are not part of
//! what a proof proves.
//!
//! # Guarantees
//!
//! - A proof holds only for the leaf, place, size and root that it was made for ([`InclusionProof::verify`],
//!   [`ConsistencyProof::verify`]; tests `no_changed_bit_passes`, `no_other_place_or_size_passes`, vectors `merkle/`).
//! - The length of a path is checked against the sizes before anything is hashed: at most [`MAX_PATH`] hashes, and one
//!   more between trees (tests `a_path_of_another_length_is_refused`, `sizes_beyond_the_limit_are_refused`).
//! - The edge of a growing tree, the nodes it stores, and the list of its leaves all give the same roots and proofs
//!   ([`Frontier`], [`inclusion_from`], [`inclusion`]; test `all_builders_agree`).

mod frontier;
mod proof;
#[cfg(test)]
mod tests;

pub use frontier::Frontier;
pub use proof::{ConsistencyProof, InclusionProof};

use crate::ids::Digest;

/// How many leaves a tree may have: 2^63.
pub const MAX_SIZE: u64 = 1 << 63;

/// How many hashes the path of an inclusion proof may have; more never fit a tree of [`MAX_SIZE`].
pub const MAX_PATH: usize = 63;

/// Why a proof does not hold or can't be made, or why a frontier is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The tree is larger than any that is allowed.
    #[error("a tree of {found} leaves is too large, at most {most} are allowed")]
    TooLarge {
        /// How many leaves there may be.
        most: u64,
        /// How many there are said to be.
        found: u64,
    },
    /// There is no such leaf.
    #[error("there is no leaf {index} in a tree of {size} leaves")]
    IndexBeyondSize {
        /// The leaf's index, counted from 0.
        index: u64,
        /// The tree's size.
        size: u64,
    },
    /// The newer tree is the smaller one.
    #[error("a tree of {new} leaves can't have grown out of one of {old}")]
    Shrunk {
        /// Size of the older tree.
        old: u64,
        /// Size of the newer tree.
        new: u64,
    },
    /// The older tree is empty: every tree is consistent with it, so a proof would say nothing.
    #[error("nothing is to be proved between an empty tree and one of {new} leaves")]
    FromEmpty {
        /// Size of the newer tree.
        new: u64,
    },
    /// The path does not have the length that the sizes ask for.
    #[error("the path has {found} hashes, and the proof needs {expected}")]
    PathLength {
        /// The length that follows from the sizes.
        expected: usize,
        /// Its length.
        found: usize,
    },
    /// The path does not lead to this root: of the tree, or of the newer of two.
    #[error("the path leads to root {found}, not to {expected}")]
    Root {
        /// The root that the verifier holds.
        expected: Digest,
        /// The root that the path leads to.
        found: Digest,
    },
    /// The path does not lead to the root of the older tree.
    #[error("the path leads to old root {found}, not to {expected}")]
    OldRoot {
        /// The old root that the verifier holds.
        expected: Digest,
        /// The old root that the path leads to.
        found: Digest,
    },
    /// A frontier has one hash for each perfect subtree, that is for each bit set in the size.
    #[error("the frontier of a tree of {size} leaves has {expected} hashes, not {found}")]
    FrontierLength {
        /// The tree's size.
        size: u64,
        /// How many bits are set in it.
        expected: usize,
        /// How many hashes there are.
        found: usize,
    },
    /// The log does not have a node that it should have stored.
    #[error("the log's node at level {level}, index {index}, is missing")]
    Missing {
        /// Its level; leaves have level 0.
        level: u8,
        /// Its index, counted from 0.
        index: u64,
    },
}

/// The hash of a leaf: SHA-256(0x00 ‖ leaf).
pub fn leaf_hash(leaf: &[u8]) -> Digest {
    Digest::of_parts(&[&[0], leaf])
}

/// The hash of a node over two others: SHA-256(0x01 ‖ left ‖ right).
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    Digest::of_parts(&[&[1], left.as_bytes(), right.as_bytes()])
}

/// The root of the empty tree.
pub fn empty_root() -> Digest {
    Digest::of(&[])
}

/// The root of the tree over these leaf hashes (RFC 9162 §2.1.1).
pub fn root(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        more => {
            let (left, right) = more.split_at(more.len().next_power_of_two() / 2);
            node_hash(&root(left), &root(right))
        }
    }
}

/// Where the complete nodes of a log are found.
pub trait Nodes {
    /// The hash of the node at `level` and `index`, if the log has the 2^`level` leaves under it.
    fn node(&self, level: u8, index: u64) -> Option<Digest>;
}

/// A list of leaf hashes is a source of nodes too; each is computed when it is asked for.
impl Nodes for [Digest] {
    fn node(&self, level: u8, index: u64) -> Option<Digest> {
        let width = 1u64.checked_shl(level.into())?;
        let start = index.checked_mul(width)?;
        let end = start.checked_add(width)?;
        self.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?).map(root)
    }
}

/// The root that a log had at `size` leaves.
pub fn root_from(nodes: &(impl Nodes + ?Sized), size: u64) -> Result<Digest, Error> {
    check_size(size)?;
    if size == 0 { Ok(empty_root()) } else { range_root(nodes, 0, size) }
}

/// The proof that the leaf at `index` is in the tree over these leaf hashes (RFC 9162 §2.1.3.1).
pub fn inclusion(leaves: &[Digest], index: u64) -> Result<InclusionProof, Error> {
    inclusion_from(leaves, leaves.len() as u64, index)
}

/// The proof that the leaf at `index` is in the tree that a log had at `size` leaves (RFC 9162 §2.1.3.1).
pub fn inclusion_from(nodes: &(impl Nodes + ?Sized), size: u64, index: u64) -> Result<InclusionProof, Error> {
    check_size(size)?;
    if index >= size {
        return Err(Error::IndexBeyondSize { index, size });
    }
    let mut path = Vec::new();
    let (mut start, mut end) = (0, size);
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            path.push(range_root(nodes, middle, end)?);
            end = middle;
        } else {
            path.push(range_root(nodes, start, middle)?);
            start = middle;
        }
    }
    path.reverse();
    Ok(InclusionProof { tree_size: size, leaf_index: index, path })
}

/// The proof that the tree of the first `old` leaf hashes grew into the tree of all of them (RFC 9162 §2.1.4.1).
pub fn consistency(leaves: &[Digest], old: u64) -> Result<ConsistencyProof, Error> {
    consistency_from(leaves, old, leaves.len() as u64)
}

/// The proof that a log's tree at `old` leaves grew into its tree at `new` leaves (RFC 9162 §2.1.4.1).
pub fn consistency_from(
    nodes: &(impl Nodes + ?Sized),
    old: u64,
    new: u64,
) -> Result<ConsistencyProof, Error> {
    check_sizes(old, new)?;
    let mut path = Vec::new();
    let (mut start, mut end) = (0, new);
    while end != old {
        let middle = start + split(end - start);
        if old <= middle {
            path.push(range_root(nodes, middle, end)?);
            end = middle;
        } else {
            path.push(range_root(nodes, start, middle)?);
            start = middle;
        }
    }
    // The verifier holds the old root, so it needs no part that is the whole old tree.
    if start > 0 {
        path.push(range_root(nodes, start, end)?);
    }
    path.reverse();
    Ok(ConsistencyProof { old_size: old, new_size: new, path })
}

/// The root over the leaves from `start` up to `end`: a subtree of some tree that begins at 0, and not empty.
fn range_root(nodes: &(impl Nodes + ?Sized), start: u64, end: u64) -> Result<Digest, Error> {
    let width = end - start;
    if width.is_power_of_two() {
        let level = width.trailing_zeros() as u8;
        let index = start >> level;
        return nodes.node(level, index).ok_or(Error::Missing { level, index });
    }
    let middle = start + split(width);
    Ok(node_hash(&range_root(nodes, start, middle)?, &range_root(nodes, middle, end)?))
}

/// The largest power of two below `width`, which is at least 2 and at most [`MAX_SIZE`].
const fn split(width: u64) -> u64 {
    width.next_power_of_two() / 2
}

const fn check_size(size: u64) -> Result<(), Error> {
    if size > MAX_SIZE { Err(Error::TooLarge { most: MAX_SIZE, found: size }) } else { Ok(()) }
}

fn check_sizes(old: u64, new: u64) -> Result<(), Error> {
    check_size(new)?;
    if old > new {
        return Err(Error::Shrunk { old, new });
    }
    if old == 0 {
        return Err(Error::FromEmpty { new });
    }
    Ok(())
}
