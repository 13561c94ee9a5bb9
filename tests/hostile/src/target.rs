//! One decoder, and the rules that it keeps whatever it is given.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The longest error, in characters: what a person reads.
pub const MAX_ERROR: usize = 1000;

/// What a decoder made of some bytes: refused with this error, or taken, and perhaps written back.
type Outcome = Result<Option<Vec<u8>>, String>;

/// A decoder under attack.
pub struct Target {
    name: &'static str,
    decode: Box<dyn Fn(&[u8]) -> Outcome>,
    seeds: Vec<Vec<u8>>,
    places: Vec<&'static str>,
    factor: u64,
    constant: u64,
    longest: usize,
}

impl Target {
    /// A decoder whose values may have several encodings.
    pub fn new<T, E: Display>(name: &'static str, decode: impl Fn(&[u8]) -> Result<T, E> + 'static) -> Self {
        Self::of(name, Box::new(move |bytes| decode(bytes).map(|_| None).map_err(|error| error.to_string())))
    }

    /// A decoder whose values have one encoding: `decode` gives what the value is written as.
    pub fn one_encoding<E: Display>(
        name: &'static str,
        decode: impl Fn(&[u8]) -> Result<Vec<u8>, E> + 'static,
    ) -> Self {
        Self::of(name, Box::new(move |bytes| decode(bytes).map(Some).map_err(|error| error.to_string())))
    }

    fn of(name: &'static str, decode: Box<dyn Fn(&[u8]) -> Outcome>) -> Self {
        let (factor, constant) = (8, 256 << 10);
        Self { name, decode, seeds: Vec::new(), places: Vec::new(), factor, constant, longest: 1 << 20 }
    }

    /// A valid value to start from.
    #[must_use]
    pub fn seed(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.seeds.push(bytes.into());
        self
    }

    /// Words by which its errors name a place, besides an offset ("at 17") and the place of an item ("vote 3").
    #[must_use]
    pub fn places(mut self, places: &[&'static str]) -> Self {
        self.places.extend(places);
        self
    }

    /// It may hold `factor` bytes for each byte of its input, and `constant` more. Else 8, and 256 KiB.
    #[must_use]
    pub const fn memory(mut self, factor: u64, constant: u64) -> Self {
        (self.factor, self.constant) = (factor, constant);
        self
    }

    /// The longest input that its caller can give it. Else 1 MiB.
    #[must_use]
    pub const fn longest(mut self, bytes: usize) -> Self {
        self.longest = bytes;
        self
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn seeds(&self) -> &[Vec<u8>] {
        &self.seeds
    }

    pub(crate) const fn longest_input(&self) -> usize {
        self.longest
    }

    /// Decodes, and drops what came out.
    pub(crate) fn work(&self, bytes: &[u8]) {
        drop((self.decode)(bytes));
    }

    /// The error for these bytes.
    pub(crate) fn error(&self, bytes: &[u8]) -> Option<String> {
        (self.decode)(bytes).err()
    }

    /// Decodes, and says whether the bytes were taken, or which rule was broken.
    pub(crate) fn check(&self, bytes: &[u8]) -> Result<bool, String> {
        let mut outcome = None;
        let memory = allocation_counter::measure(|| {
            // A panic within would leave the counter one level too deep.
            outcome = Some(catch_unwind(AssertUnwindSafe(|| (self.decode)(bytes))));
        });
        let outcome = match outcome {
            Some(Ok(outcome)) => outcome,
            Some(Err(panic)) => return Err(format!("panicked: {}", said(panic.as_ref()))),
            None => return Err("was not run".to_owned()),
        };
        let most = self.factor * bytes.len() as u64 + self.constant;
        if memory.bytes_max > most {
            let held = memory.bytes_max;
            return Err(format!(
                "held {held} bytes for an input of {}, at most {most} are allowed",
                bytes.len()
            ));
        }
        match outcome {
            Ok(Some(written)) if written != bytes => {
                let at = written.iter().zip(bytes).position(|(a, b)| a != b);
                let at = at.unwrap_or(written.len().min(bytes.len()));
                Err(format!("taken, and written back in another way from byte {at} on"))
            }
            Ok(_) => Ok(true),
            Err(error) => self.check_error(&error).map(|()| false),
        }
    }

    fn check_error(&self, error: &str) -> Result<(), String> {
        let length = error.chars().count();
        if !(1..=MAX_ERROR).contains(&length) {
            let start: String = error.chars().take(100).collect();
            return Err(format!("an error of {length} characters, 1 to {MAX_ERROR} expected: {start:?}"));
        }
        // TOML's errors draw a picture of the line. What steers a terminal is no line end.
        if error.chars().any(|char| char.is_control() && char != '\n') {
            return Err(format!("an error with control characters: {error:?}"));
        }
        if names_offset(error) || self.places.iter().any(|place| error.contains(place)) {
            return Ok(());
        }
        Err(format!("an error that names no place: {error:?}"))
    }
}

/// Whether the text has "at", "byte" or "line" and a number.
fn names_offset(text: &str) -> bool {
    let mut words = text.split([' ', ',', ':', ')', '(', ';']).filter(|word| !word.is_empty()).peekable();
    while let Some(word) = words.next() {
        let next_is_number =
            words.peek().is_some_and(|next| next.bytes().next().is_some_and(|byte| byte.is_ascii_digit()));
        if ["at", "byte", "line"].contains(&word) && next_is_number {
            return true;
        }
    }
    false
}

fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("something that is no text")
}
