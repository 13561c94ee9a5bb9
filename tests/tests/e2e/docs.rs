//! What the documents say of the tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// All functions in the Rust sources below this folder that a `#[test]` stands above, or that a test calls by its name.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let names = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
            found.extend(names.map(str::to_owned));
        }
    }
}

#[test]
fn every_test_that_the_threat_model_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut there = BTreeSet::new();
    for folder in ["proto", "node", "client", "ops", "tests"] {
        functions(&root.join(folder), &mut there);
    }
    let text = fs::read_to_string(root.join("docs/threat-model.md")).unwrap();
    let named = text.split('`').skip(1).step_by(2);
    let tests: Vec<&str> = named.filter(|name| name.matches('_').count() >= 2).collect();
    assert!(tests.len() > 60, "{}", tests.len());
    let missing: Vec<_> = tests.iter().filter(|name| !there.contains(**name)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}
