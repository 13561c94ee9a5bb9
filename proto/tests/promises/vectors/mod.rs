//! Makes the vectors of the formats, and checks the files checked in against them.
//!
//! `UPDATE_VECTORS=1 cargo test -p fairpost-proto --test promises` writes the files anew. Each vector says by hand
//! which error it must cause; it is judged from what stands in the file alone, and from the genesis called "four".

mod cbor;
mod ceremony;
mod certificate;
mod entry;
mod envelope;
mod evidence;
mod faults;
mod genesis;
mod misconduct;
mod proof;
mod proposal;
mod request;
mod round;
mod terms;
mod transcript;
mod trust;

pub(crate) use ceremony::ceremony;
use fairpost_proto::ids::Timestamp;
pub(crate) use misconduct::{two_tokens, two_votes};
pub(crate) use proof::foreign_trust;
pub(crate) use proposal::{a_node_card, approved, proposal};
pub(crate) use request::request;
pub(crate) use round::{acknowledgement, opening, statement};
use serde_json::{Map, Value, json};
pub(crate) use transcript::a_transcript;
pub(crate) use trust::{file as trust_file, sealed, second_view, successor};

use crate::world::{updating, vector_file};

/// The vectors of one file.
#[derive(Default)]
struct Made(Vec<Value>);

impl Made {
    /// A vector that must be taken.
    fn valid(&mut self, name: &str, meaning: &str, fields: Value) {
        self.push(name, meaning, None, fields);
    }

    /// A vector that must be refused with an error that says `error`.
    fn invalid(&mut self, name: &str, meaning: &str, error: &str, fields: Value) {
        assert!(!error.is_empty(), "{name}: anything would do");
        self.push(name, meaning, Some(error), fields);
    }

    /// Vectors with these faults, each named after `prefix`.
    fn faults(&mut self, prefix: &str, faults: Vec<faults::Fault>, fields: impl Fn(&[u8]) -> Value) {
        for fault in faults {
            let name = format!("{prefix}{}", fault.name);
            self.invalid(&name, &fault.meaning, &fault.error, fields(&fault.bytes));
        }
    }

    fn push(&mut self, name: &str, meaning: &str, error: Option<&str>, fields: Value) {
        let mut vector = Map::new();
        vector.insert("name".into(), name.into());
        vector.insert("meaning".into(), meaning.into());
        vector.insert("valid".into(), error.is_none().into());
        if let Some(error) = error {
            vector.insert("error".into(), error.into());
        }
        vector.extend(fields.as_object().unwrap().clone());
        self.0.push(vector.into());
    }

    /// Checks that `file` is what was made, and that each vector in it is taken or refused as it says.
    fn keep(self, file: &str, judge: impl Fn(&Value) -> Result<(), String>) {
        let made = serde_json::to_string_pretty(&self.0).unwrap() + "\n";
        if updating() {
            std::fs::write(vector_file(file), &made).unwrap();
        }
        let kept = std::fs::read_to_string(vector_file(file)).unwrap();
        let vectors: Vec<Value> = serde_json::from_str(&kept).unwrap();
        for (kept, made) in vectors.iter().zip(&self.0) {
            assert!(kept == made, "{file}: {} differs from what is made today", made["name"]);
        }
        assert!(kept == made, "{file} is not what is made today");

        let mut wrong = Vec::new();
        for (place, vector) in vectors.iter().enumerate() {
            let name = vector["name"].as_str().unwrap();
            assert!(vectors[..place].iter().all(|other| other["name"] != name), "{file}: two {name}");
            match (judge(vector), vector.get("error").map(|error| error.as_str().unwrap())) {
                (Ok(()), None) => {}
                (Err(found), Some(part)) if found.contains(part) => {}
                (outcome, expected) => {
                    wrong.push(format!("{name}: expected {expected:?}, found {outcome:?}"))
                }
            }
        }
        assert!(wrong.is_empty(), "{file}:\n{}", wrong.join("\n"));
    }
}

/// A field of bytes.
fn bytes(vector: &Value, field: &str) -> Vec<u8> {
    hex::decode(vector[field].as_str().unwrap_or_else(|| panic!("{} has no {field}", vector["name"])))
        .unwrap()
}

/// A field of bytes, or null.
fn bytes_or_null(vector: &Value, field: &str) -> Option<Vec<u8>> {
    (!vector[field].is_null()).then(|| bytes(vector, field))
}

/// A field of milliseconds.
fn time(vector: &Value, field: &str) -> Timestamp {
    Timestamp::from_millis(vector[field].as_u64().unwrap()).unwrap()
}

fn hex_or_null(bytes: Option<&[u8]>) -> Value {
    bytes.map_or(Value::Null, |bytes| hex::encode(bytes).into())
}

/// What a valid vector says must also be what was read.
fn same(vector: &Value, field: &str, found: impl core::fmt::Display) -> Result<(), String> {
    match vector.get(field) {
        Some(expected) if *expected == json!(found.to_string()) => Ok(()),
        None if vector["valid"] == false => Ok(()),
        expected => Err(format!("{field} is {found}, and the vector says {expected:?}")),
    }
}

fn show(error: impl core::fmt::Display) -> String {
    error.to_string()
}
