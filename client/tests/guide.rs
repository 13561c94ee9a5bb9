//! The code in the guide is code that compiles.

use std::fs;
use std::path::Path;

/// The lines of a text without indentation, empty ones and what only the examples say.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

/// Whether `part` is in `whole`, line by line.
fn holds(whole: &[&str], part: &[&str]) -> bool {
    whole.windows(part.len()).any(|window| window == part)
}

#[test]
fn all_rust_code_in_the_guide_is_in_an_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let (guide, examples) =
        (read("../docs/guide.md"), [read("examples/first_mail.rs"), read("examples/watch.rs")]);
    let blocks: Vec<&str> =
        guide.split("```rust\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 8, "{}", blocks.len());
    for block in blocks {
        let found = examples.iter().any(|example| holds(&lines(example), &lines(block)));
        assert!(found, "this is in the guide, and in no example:\n{block}");
    }
}
