//! The right edge of a tree that grows.

use super::{Error, check_size, empty_root, node_hash};
use crate::ids::Digest;

/// What must be kept of a tree to go on growing it: the roots of its perfect subtrees, the largest (leftmost) first.
///
/// There is one for each bit set in the size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    roots: Vec<Digest>,
}

impl Frontier {
    /// The frontier of the empty tree.
    pub const fn new() -> Self {
        Self { size: 0, roots: Vec::new() }
    }

    /// The frontier of a tree of `size` leaves, from what [`Frontier::to_parts`] gave.
    pub fn from_parts(size: u64, roots: Vec<Digest>) -> Result<Self, Error> {
        check_size(size)?;
        let (expected, found) = (size.count_ones() as usize, roots.len());
        if expected == found {
            Ok(Self { size, roots })
        } else {
            Err(Error::FrontierLength { size, expected, found })
        }
    }

    /// The size, and the roots of the perfect subtrees from left to right.
    pub fn to_parts(&self) -> (u64, &[Digest]) {
        (self.size, &self.roots)
    }

    /// How many leaves the tree has.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The tree's root.
    pub fn root(&self) -> Digest {
        let mut from_right = self.roots.iter().rev();
        let Some(last) = from_right.next() else { return empty_root() };
        from_right.fold(*last, |right, left| node_hash(left, &right))
    }

    /// Appends the leaf with this hash, and says which nodes it completed, from the leaf upwards: level, index, hash.
    ///
    /// A log that stores all of them has all that proofs are made of ([`super::Nodes`]).
    pub fn push(&mut self, leaf: Digest) -> Vec<(u8, u64, Digest)> {
        let mut completed = vec![(0, self.size, leaf)];
        let (mut index, mut node) = (self.size, leaf);
        // Every perfect subtree as large as the one on its right is its left half.
        for level in 1..=self.size.trailing_ones() as u8 {
            let Some(left) = self.roots.pop() else { break };
            node = node_hash(&left, &node);
            index /= 2;
            completed.push((level, index, node));
        }
        self.roots.push(node);
        // One leaf at a time, no tree ever outgrows 64 bits.
        self.size += 1;
        completed
    }
}
