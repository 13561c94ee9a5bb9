//! Pieces of CBOR: each value has one encoding, and no other is read.

use fairpost_proto::cbor::{Error, Reader};
use serde_json::{Value, json};

use super::{Made, bytes as field, same, show};

/// What is read of a piece, as text.
fn read(kind: &str, bytes: &[u8]) -> Result<String, Error> {
    let mut reader = Reader::new(bytes);
    let value = match kind {
        "uint" => reader.uint()?.to_string(),
        "int" => reader.int()?.to_string(),
        "bytes" => hex::encode(reader.bytes()?),
        "text" => reader.text("the text", 1000)?.to_owned(),
        "bytes or null" => reader.bytes_or_null()?.map_or("null".to_owned(), hex::encode),
        "array" => reader.array("the array", 1000)?.to_string(),
        "tag 18" => {
            reader.tag(18, "18")?;
            "18".to_owned()
        }
        "map of 0 and 1" => {
            let mut map = reader.map()?;
            map.key(&mut reader, 0)?;
            let zero = reader.uint()?;
            map.key(&mut reader, 1)?;
            let one = reader.uint()?;
            map.finish(&reader)?;
            format!("{zero}, {one}")
        }
        other => panic!("{other} is not read"),
    };
    reader.finish()?;
    Ok(value)
}

#[test]
fn cbor_is_read_as_in_the_vectors() {
    let mut made = Made::default();
    let fields = |kind: &str, hex: &str| json!({ "read": kind, "bytes": hex });
    let mut valid = |name: &str, meaning: &str, kind: &str, hex: &str, value: &str| {
        let mut fields = fields(kind, hex);
        fields["value"] = value.into();
        made.valid(name, meaning, fields);
    };
    for (value, hex) in [
        (0, "00"),
        (23, "17"),
        (24, "1818"),
        (255, "18ff"),
        (256, "190100"),
        (65_535, "19ffff"),
        (65_536, "1a00010000"),
        (4_294_967_295, "1affffffff"),
        (4_294_967_296, "1b0000000100000000"),
        (u64::MAX, "1bffffffffffffffff"),
    ] {
        valid(&format!("uint-{value}"), "Its shortest form.", "uint", hex, &value.to_string());
    }
    valid("int-minus-1", "The greatest negative number.", "int", "20", "-1");
    valid("int-minus-19", "COSE's number for Ed25519.", "int", "32", "-19");
    valid("int-minus-256", "In two bytes.", "int", "38ff", "-256");
    valid("int-least", "The least that fits.", "int", "3b7fffffffffffffff", "-9223372036854775808");
    valid("bytes-empty", "No bytes.", "bytes", "40", "");
    valid("bytes-3", "Three bytes.", "bytes", "43010203", "010203");
    valid(
        "bytes-24",
        "The first length in two bytes.",
        "bytes",
        &format!("5818{}", "ab".repeat(24)),
        &"ab".repeat(24),
    );
    valid("text-umlaut", "UTF-8.", "text", "62c3a4", "ä");
    valid("null", "Null.", "bytes or null", "f6", "null");
    valid("not-null", "A byte string.", "bytes or null", "4101", "01");
    valid("map", "Keys in order.", "map of 0 and 1", "a200070108", "7, 8");
    valid("array-empty", "No items.", "array", "80", "0");
    valid("tag", "A tag by itself.", "tag 18", "d2", "18");

    let mut invalid = |name: &str, meaning: &str, kind: &str, hex: &str, error: &str| {
        made.invalid(name, meaning, error, fields(kind, hex));
    };
    let long = "is not the shortest definite one";
    for (name, hex) in [
        ("uint-23-long", "1817"),
        ("uint-255-long", "1900ff"),
        ("uint-65535-long", "1a0000ffff"),
        ("uint-32-bits-long", "1b00000000ffffffff"),
    ] {
        invalid(name, "A longer form than needed.", "uint", hex, long);
    }
    invalid("int-long", "A negative number in a longer form.", "int", "3812", long);
    invalid("bytes-long-length", "A length in a longer form.", "bytes", "580101", long);
    invalid("text-long-length", "A length in a longer form.", "text", "780161", long);
    invalid("array-long-length", "A length in a longer form.", "array", "9801", long);
    invalid("map-long-length", "A length in a longer form.", "map of 0 and 1", "b80200070108", long);
    invalid("tag-long", "A tag in a longer form.", "tag 18", "d812", long);
    invalid("bytes-indefinite", "Chunks.", "bytes", "5f4101ff", long);
    invalid("text-indefinite", "Chunks.", "text", "7f6161ff", long);
    invalid("array-indefinite", "An open end.", "array", "9fff", long);
    invalid("map-indefinite", "An open end.", "map of 0 and 1", "bf00070108ff", long);
    for reserved in ["1c", "1d", "1e", "1f"] {
        invalid(&format!("reserved-{reserved}"), "A reserved head.", "uint", reserved, long);
    }
    for (name, hex) in [("half", "f93c00"), ("single", "fa3f800000"), ("double", "fb3ff0000000000000")] {
        invalid(&format!("float-{name}"), "No format has floats.", "uint", hex, long);
    }
    invalid("simple-32", "An unassigned simple value.", "uint", "f820", long);
    invalid(
        "true",
        "No format has truth values.",
        "uint",
        "f5",
        "an unsigned integer expected at 0, found a simple value",
    );
    invalid(
        "undefined",
        "Undefined is not null.",
        "bytes or null",
        "f7",
        "a byte string expected at 0, found a simple value",
    );
    invalid("break", "A break by itself.", "bytes", "ff", long);
    invalid("empty", "Nothing.", "uint", "", "the bytes end at 0, where 1 more are needed");
    invalid(
        "uint-cut",
        "Cut within a number.",
        "uint",
        "19ff",
        "the bytes end at 1, where 1 more are needed",
    );
    invalid(
        "bytes-cut",
        "Cut within a byte string.",
        "bytes",
        "430102",
        "the bytes end at 1, where 1 more are needed",
    );
    let greatest = "the bytes end at 9, where 18446744073709551614 more are needed";
    invalid("bytes-endless", "A length that no memory holds.", "bytes", "5bffffffffffffffff01", greatest);
    invalid(
        "array-endless",
        "A length beyond the limit.",
        "array",
        "9bffffffffffffffff",
        "the array has length 18446744073709551615",
    );
    invalid("trailing", "A byte after the end.", "uint", "0000", "1 bytes trail behind the end at 1");
    invalid(
        "uint-negative",
        "A negative number.",
        "uint",
        "20",
        "an unsigned integer expected at 0, found a negative integer",
    );
    invalid(
        "int-too-low",
        "It does not fit 63 bits and a sign.",
        "int",
        "3b8000000000000000",
        "an integer of 63 bits expected",
    );
    invalid(
        "bytes-text",
        "Text for bytes.",
        "bytes",
        "6161",
        "a byte string expected at 0, found a text string",
    );
    invalid(
        "text-bytes",
        "Bytes for text.",
        "text",
        "4161",
        "a text string expected at 0, found a byte string",
    );
    invalid("text-no-utf-8", "Not UTF-8.", "text", "61ff", "UTF-8 text expected at 0");
    invalid("text-surrogate", "Half of a pair, encoded.", "text", "63eda080", "UTF-8 text expected at 0");
    invalid("tag-other", "Another tag.", "tag 18", "d3", "the CBOR tag is 19, expected 18");
    invalid("tag-missing", "No tag.", "tag 18", "80", "a tag expected at 0, found an array");
    invalid("map-duplicate", "A key twice.", "map of 0 and 1", "a200070008", "key 0 stands twice");
    invalid(
        "map-unordered",
        "Keys out of order.",
        "map of 0 and 1",
        "a201070008",
        "key 0 expected at 1, found 1",
    );
    invalid("map-other-key", "Another key.", "map of 0 and 1", "a200070208", "key 1 expected at 3, found 2");
    invalid(
        "map-negative-key",
        "A negative key.",
        "map of 0 and 1",
        "a220070108",
        "key 0 expected at 1, found -1",
    );
    invalid(
        "map-text-key",
        "A key that is text.",
        "map of 0 and 1",
        "a261300701",
        "an integer expected at 1",
    );
    invalid(
        "map-true-key",
        "True is not 1.",
        "map of 0 and 1",
        "a20007f508",
        "an integer expected at 3, found a simple value",
    );
    invalid(
        "map-short",
        "A key is missing.",
        "map of 0 and 1",
        "a10007",
        "the map has length 0, expected more keys",
    );
    invalid(
        "map-more",
        "A key too many.",
        "map of 0 and 1",
        "a3000701080209",
        "the map has length 1, expected fewer keys",
    );
    invalid(
        "map-array",
        "An array of pairs.",
        "map of 0 and 1",
        "8400070108",
        "a map expected at 0, found an array",
    );
    made.keep("cbor.json", |vector: &Value| {
        let found = read(vector["read"].as_str().unwrap(), &field(vector, "bytes")).map_err(show)?;
        same(vector, "value", found)
    });
}
