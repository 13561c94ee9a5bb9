use proptest::prelude::*;

use super::*;
use crate::vectors::{Vector, load};

fn digest(vector: &Vector, field: &str) -> Digest {
    Digest::new(vector.array(field))
}

fn number(vector: &Vector, field: &str) -> u64 {
    vector.text(field).parse().unwrap()
}

fn byte_strings(vector: &Vector, field: &str) -> Vec<Vec<u8>> {
    let list = vector.value(field).as_array().unwrap();
    list.iter().map(|item| hex::decode(item.as_str().unwrap()).unwrap()).collect()
}

fn digests(vector: &Vector, field: &str) -> Vec<Digest> {
    byte_strings(vector, field).iter().map(|bytes| Digest::from_slice(bytes).unwrap()).collect()
}

fn leaves(count: u64) -> Vec<Digest> {
    (0..count).map(|leaf| leaf_hash(&leaf.to_be_bytes())).collect()
}

/// A log that stores what its frontier completes, and computes nothing.
#[derive(Default)]
struct Log {
    frontier: Frontier,
    nodes: std::collections::HashMap<(u8, u64), Digest>,
}

impl Log {
    fn of(leaves: &[Digest]) -> Self {
        let mut log = Self::default();
        for leaf in leaves {
            for (level, index, hash) in log.frontier.push(*leaf) {
                assert_eq!(log.nodes.insert((level, index), hash), None, "completed twice");
            }
        }
        log
    }
}

impl Nodes for Log {
    fn node(&self, level: u8, index: u64) -> Option<Digest> {
        self.nodes.get(&(level, index)).copied()
    }
}

fn flip(hash: &Digest, bit: usize) -> Digest {
    let mut bytes = *hash.as_bytes();
    bytes[bit / 8] ^= 1 << (bit % 8);
    Digest::new(bytes)
}

#[test]
fn the_published_reference_tree_has_its_published_roots() {
    for vector in load("merkle/reference.json") {
        let hashes: Vec<Digest> =
            byte_strings(&vector, "leaves").iter().map(|leaf| leaf_hash(leaf)).collect();
        for (size, published) in (1..).zip(digests(&vector, "roots")) {
            let tree = &hashes[..size];
            assert_eq!(root(tree), published, "of {size} leaves");
            for (index, leaf) in (0..).zip(tree) {
                inclusion(tree, index).unwrap().verify(leaf, &published).unwrap();
            }
            for old in 1..=size {
                consistency(tree, old as u64).unwrap().verify(&root(&tree[..old]), &published).unwrap();
            }
        }
    }
}

#[test]
fn roots_are_as_in_the_vectors() {
    for vector in load("merkle/roots.json") {
        let hashes: Vec<_> = byte_strings(&vector, "leaves").iter().map(|leaf| leaf_hash(leaf)).collect();
        let expected = vector.check(Ok::<_, Error>(digest(&vector, "root"))).unwrap();
        assert_eq!(root(&hashes), expected, "{}", vector.name);
        assert_eq!(Log::of(&hashes).frontier.root(), expected, "{}", vector.name);
    }
}

#[test]
fn frontiers_are_as_in_the_vectors() {
    let trees = load("merkle/roots.json");
    for vector in load("merkle/frontiers.json") {
        let parts = Frontier::from_parts(number(&vector, "size"), digests(&vector, "frontier"));
        let Some(frontier) = vector.check(parts) else { continue };
        assert_eq!(frontier.root(), digest(&vector, "root"), "{}", vector.name);
        let tree = trees.iter().find(|tree| tree.name == vector.name).unwrap();
        let hashes: Vec<_> = byte_strings(tree, "leaves").iter().map(|leaf| leaf_hash(leaf)).collect();
        assert_eq!(Log::of(&hashes).frontier, frontier, "{}", vector.name);
    }
}

#[test]
fn inclusion_is_proved_as_in_the_vectors() {
    for vector in load("merkle/inclusion.json") {
        let (tree_size, leaf_index) = (number(&vector, "tree_size"), number(&vector, "leaf_index"));
        let proof = InclusionProof { tree_size, leaf_index, path: digests(&vector, "path") };
        vector.check(proof.verify(&digest(&vector, "leaf"), &digest(&vector, "root")));
    }
}

#[test]
fn consistency_is_proved_as_in_the_vectors() {
    for vector in load("merkle/consistency.json") {
        let (old_size, new_size) = (number(&vector, "old_size"), number(&vector, "new_size"));
        let proof = ConsistencyProof { old_size, new_size, path: digests(&vector, "path") };
        vector.check(proof.verify(&digest(&vector, "old_root"), &digest(&vector, "new_root")));
    }
}

#[test]
fn all_builders_agree() {
    const MOST: u64 = 200;
    let (all, mut frontier) = (leaves(MOST), Frontier::new());
    let log = Log::of(&all);
    for size in 0..=MOST {
        let some = &all[..size as usize];
        let tree = root(some);
        assert_eq!((frontier.size(), frontier.root()), (size, tree));
        assert_eq!(root_from(&log, size), Ok(tree));
        let (parts_size, parts) = frontier.to_parts();
        assert_eq!(Frontier::from_parts(parts_size, parts.to_vec()).as_ref(), Ok(&frontier));
        for index in 0..size {
            let proof = inclusion_from(&log, size, index).unwrap();
            assert_eq!(inclusion(some, index).as_ref(), Ok(&proof));
            assert_eq!(proof.verify(&all[index as usize], &tree), Ok(()));
        }
        for old in 1..=size {
            let proof = consistency_from(&log, old, size).unwrap();
            assert_eq!(consistency(some, old).as_ref(), Ok(&proof));
            assert_eq!(proof.verify(&root(&all[..old as usize]), &tree), Ok(()));
        }
        if let Some(leaf) = all.get(size as usize) {
            frontier.push(*leaf);
        }
    }
}

#[test]
fn the_nodes_that_a_push_completes_are_the_ones_over_their_leaves() {
    let all = leaves(70);
    let log = Log::of(&all);
    for ((level, index), hash) in &log.nodes {
        assert_eq!(all.node(*level, *index), Some(*hash), "{level} {index}");
    }
    let complete: usize = (0..=6).map(|level| all.len() >> level).sum();
    assert_eq!(log.nodes.len(), complete);
}

#[test]
fn what_is_not_there_is_not_proved() {
    let all = leaves(5);
    assert_eq!(inclusion(&all, 5), Err(Error::IndexBeyondSize { index: 5, size: 5 }));
    assert_eq!(inclusion(&[], 0), Err(Error::IndexBeyondSize { index: 0, size: 0 }));
    assert_eq!(consistency(&all, 6), Err(Error::Shrunk { old: 6, new: 5 }));
    assert_eq!(consistency(&all, 0), Err(Error::FromEmpty { new: 5 }));
    assert_eq!(root_from(all.as_slice(), 6), Err(Error::Missing { level: 1, index: 2 }));
    assert_eq!(inclusion_from(all.as_slice(), 6, 0), Err(Error::Missing { level: 1, index: 2 }));
    assert_eq!(consistency_from(all.as_slice(), 4, 6), Err(Error::Missing { level: 1, index: 2 }));
    for node in [(64, 0), (255, 0), (63, 2), (1, u64::MAX), (0, u64::MAX), (0, 5), (3, 0)] {
        assert_eq!(all.node(node.0, node.1), None, "{node:?}");
    }
}

#[test]
fn sizes_beyond_the_limit_are_refused() {
    let (log, too_large) = (Log::default(), MAX_SIZE + 1);
    let expected = Error::TooLarge { most: MAX_SIZE, found: too_large };
    assert_eq!(root_from(&log, too_large).as_ref(), Err(&expected));
    assert_eq!(inclusion_from(&log, too_large, 0).as_ref(), Err(&expected));
    assert_eq!(consistency_from(&log, 1, too_large).as_ref(), Err(&expected));
    let least = empty_root();
    let proof = InclusionProof { tree_size: too_large, leaf_index: 0, path: vec![least; 64] };
    assert_eq!(proof.verify(&least, &least).as_ref(), Err(&expected));
    let proof = ConsistencyProof { old_size: 1, new_size: too_large, path: vec![least; 64] };
    assert_eq!(proof.verify(&least, &least).as_ref(), Err(&expected));
}

proptest! {
    #[test]
    fn no_changed_bit_passes(
        new in 1u64..=200, old in any::<prop::sample::Index>(), place in any::<prop::sample::Index>(), bit in 0usize..256,
    ) {
        let all = leaves(new);
        let (tree, index) = (root(&all), old.index(all.len()));
        let proof = inclusion(&all, index as u64).unwrap();
        let leaf = &all[index];
        prop_assert!(proof.verify(&flip(leaf, bit), &tree).is_err());
        prop_assert!(proof.verify(leaf, &flip(&tree, bit)).is_err());
        if !proof.path.is_empty() {
            let mut changed = proof.clone();
            let place = place.index(proof.path.len());
            changed.path[place] = flip(&proof.path[place], bit);
            prop_assert!(changed.verify(leaf, &tree).is_err());
        }

        let proof = consistency(&all, index as u64 + 1).unwrap();
        let old_tree = root(&all[..=index]);
        prop_assert!(proof.verify(&flip(&old_tree, bit), &tree).is_err());
        prop_assert!(proof.verify(&old_tree, &flip(&tree, bit)).is_err());
        if !proof.path.is_empty() {
            let mut changed = proof.clone();
            let place = place.index(proof.path.len());
            changed.path[place] = flip(&proof.path[place], bit);
            prop_assert!(changed.verify(&old_tree, &tree).is_err());
        }
    }

    #[test]
    fn no_other_place_or_size_passes(size in 2u64..=200, index in any::<prop::sample::Index>(), other in any::<u64>()) {
        let all = leaves(size);
        let (tree, index) = (root(&all), index.index(all.len()));
        let proof = inclusion(&all, index as u64).unwrap();
        for other in [other, other % size, index as u64 ^ 1, size, size + 1] {
            if other != index as u64 {
                let moved = InclusionProof { leaf_index: other, ..proof.clone() };
                prop_assert!(moved.verify(&all[index], &tree).is_err(), "{index} at {other}");
            }
        }
        // With the root that belongs to the other size, the proof fails too.
        let smaller = &all[..all.len() - 1];
        let moved = InclusionProof { tree_size: size - 1, ..proof };
        prop_assert!(moved.verify(&all[index], &root(smaller)).is_err());
    }

    #[test]
    fn a_path_of_another_length_is_refused(size in 1u64..=200, index in any::<prop::sample::Index>(), length in 0usize..70) {
        let all = leaves(size);
        let index = index.index(all.len());
        let proof = inclusion(&all, index as u64).unwrap();
        let (expected, mut other) = (proof.path.len(), proof.clone());
        other.path.resize(length, empty_root());
        let outcome = other.verify(&all[index], &root(&all));
        prop_assert_eq!(outcome == Err(Error::PathLength { expected, found: length }), expected != length);

        let proof = consistency(&all, index as u64 + 1).unwrap();
        let (expected, mut other) = (proof.path.len(), proof.clone());
        other.path.resize(length, empty_root());
        let outcome = other.verify(&root(&all[..=index]), &root(&all));
        prop_assert_eq!(outcome == Err(Error::PathLength { expected, found: length }), expected != length);
    }

    #[test]
    fn proofs_in_the_largest_trees_never_panic(
        sizes in any::<[u64; 3]>(), shift in 0u32..64, length in 0usize..70, root in any::<[u8; 32]>(),
    ) {
        let [tree_size, leaf_index, old_size] = sizes.map(|size| size >> shift);
        let (hash, path) = (Digest::new(root), vec![Digest::new(root); length]);
        let inclusion = InclusionProof { tree_size, leaf_index, path: path.clone() };
        prop_assert_eq!(inclusion.verify(&hash, &hash).is_ok(), tree_size == 1 && leaf_index == 0 && length == 0);
        let consistency = ConsistencyProof { old_size, new_size: tree_size, path };
        let same = old_size == tree_size && (1..=MAX_SIZE).contains(&old_size);
        prop_assert_eq!(consistency.verify(&hash, &hash).is_ok(), same && length == 0);
    }
}
