//! Reads the vectors under `proto/vectors`, for tests.
//!
//! A file is a JSON array of objects. Each has a `name`, a `meaning` for whoever implements the format anew,
//! `valid`, and where that is false a part of the `error`'s text; the other fields are the vector's own.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

use serde_json::Value;

/// One vector.
#[derive(serde::Deserialize)]
pub(crate) struct Vector {
    /// A short name, unique in its file.
    pub(crate) name: String,
    meaning: String,
    valid: bool,
    error: Option<String>,
    #[serde(flatten)]
    fields: BTreeMap<String, Value>,
}

/// All vectors of a file, named from `proto/vectors` on.
pub(crate) fn load(file: &str) -> Vec<Vector> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let vectors: Vec<Vector> = serde_json::from_str(&text).unwrap();
    assert!(!vectors.is_empty(), "{file} is empty");
    for (number, vector) in vectors.iter().enumerate() {
        let Vector { name, meaning, valid, error, .. } = vector;
        assert!(!meaning.is_empty() && *valid == error.is_none(), "{file}: {name} is not well made");
        assert!(vectors.iter().skip(number + 1).all(|other| other.name != *name), "{file}: two {name}");
    }
    vectors
}

impl Vector {
    /// A field of bytes, in hexadecimal.
    pub(crate) fn bytes(&self, field: &str) -> Vec<u8> {
        hex::decode(self.text(field)).unwrap_or_else(|error| panic!("{}: {field}: {error}", self.name))
    }

    /// A field of so many bytes.
    pub(crate) fn array<const N: usize>(&self, field: &str) -> [u8; N] {
        self.bytes(field).try_into().unwrap_or_else(|_| panic!("{}: {field} has not {N} bytes", self.name))
    }

    /// A field of text.
    pub(crate) fn text(&self, field: &str) -> &str {
        self.value(field).as_str().unwrap_or_else(|| panic!("{}: {field} is no text", self.name))
    }

    /// A field of any form.
    pub(crate) fn value(&self, field: &str) -> &Value {
        self.fields.get(field).unwrap_or_else(|| panic!("{} has no {field}", self.name))
    }

    /// The outcome, if the vector is valid; none if it is invalid and failed as it should. Panics else.
    pub(crate) fn check<T, E: Display>(&self, outcome: Result<T, E>) -> Option<T> {
        match (outcome, &self.error) {
            (Ok(value), None) => Some(value),
            (Err(error), Some(part)) => {
                let error = error.to_string();
                assert!(error.contains(part), "{}: {error:?} does not say {part:?}", self.name);
                None
            }
            (Ok(_), Some(part)) => panic!("{} passed, and should say {part:?}", self.name),
            (Err(error), None) => panic!("{}: {error}", self.name),
        }
    }
}
