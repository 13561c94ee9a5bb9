//! The header fields that say what a part is (RFC 2045 §5, RFC 2183, RFC 2231).
//!
//! A parser of its own, because it must be linear in what it is given: each of a hostile mail's many parts may
//! bring a header as long as the limits allow.

use super::body::Encoding;
use super::lines::{Lines, MAX_BOUNDARY, Stop};
use super::{EXTENSION, Error, MAX_FIELD, MAX_HEADER, MEDIA_TYPE};

/// What a part's header says about it.
#[derive(Debug)]
pub(super) struct Part {
    /// In lower case, for people too: visible ASCII, shortened.
    pub(super) media_type: String,
    /// The file name, for people: no controls, shortened.
    pub(super) name: Option<String>,
    /// A file name ends in [`EXTENSION`].
    pub(super) has_extension: bool,
    pub(super) kind: Kind,
    pub(super) encoding: Encoding,
    /// There was a header field at all.
    pub(super) has_header: bool,
}

/// What may be inside a part.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Parts, with this boundary between them.
    Multipart { boundary: Vec<u8> },
    /// A mail.
    Message,
    /// Content.
    Leaf,
}

const NAMES: [&str; 3] = ["Content-Type", "Content-Disposition", "Content-Transfer-Encoding"];

/// Reads a header. `default` is the media type of a part that names none. The stop is there when the header ran
/// into it, so that there is no content.
pub(super) fn read(lines: &mut Lines<'_>, default: &str) -> Result<(Part, Option<Stop>), Error> {
    let mut values: [Vec<u8>; 3] = Default::default();
    let mut current = None;
    let mut length = 0;
    let mut has_header = false;
    let stop = loop {
        let stop = lines.next()?;
        if stop.is_some() {
            break stop;
        }
        let (text, end) = lines.piece();
        length += text.len() + end.len();
        if length > MAX_HEADER {
            return Err(Error::HeaderTooLong { limit: MAX_HEADER });
        }
        let mut text = text;
        if lines.starts() {
            if text.is_empty() {
                break None;
            }
            if !text.starts_with(b" ") && !text.starts_with(b"\t") {
                let colon = text.iter().position(|byte| *byte == b':').unwrap_or(0);
                let (name, value) = text.split_at(colon);
                has_header |= colon > 0;
                let name = name.trim_ascii();
                // Of a field that is there twice, the first counts.
                current = NAMES.iter().zip(&values).position(|(known, value)| {
                    value.is_empty() && name.eq_ignore_ascii_case(known.as_bytes())
                });
                text = value;
            }
        }
        let slot = current.and_then(|index| Some((values.get_mut(index)?, NAMES.get(index)?)));
        if let Some((value, field)) = slot {
            if value.len() + text.len() > MAX_FIELD {
                return Err(Error::FieldTooLong { field, limit: MAX_FIELD });
            }
            value.extend_from_slice(text);
        }
    };
    let [content_type, disposition, encoding] = values.map(|value| Field::parse(&value));
    Ok((part(&content_type, &disposition, &encoding, default, has_header), stop))
}

fn part(
    content_type: &Field,
    disposition: &Field,
    encoding: &Field,
    default: &str,
    has_header: bool,
) -> Part {
    let found = content_type.value.to_ascii_lowercase();
    let media_type = if found.contains(&b'/') { found } else { default.as_bytes().to_vec() };
    let names = [disposition.parameter("filename"), content_type.parameter("name")];
    let ends_in = |extension: &str| {
        names.iter().flatten().any(|name| {
            let name = name.trim_ascii_end();
            let start = name.len().saturating_sub(extension.len());
            name.get(start..).is_some_and(|end| end.eq_ignore_ascii_case(extension.as_bytes()))
        })
    };
    let boundary = content_type.parameter("boundary").map(|boundary| boundary.trim_ascii_end().to_vec());
    let boundary = boundary.filter(|boundary| (1..=MAX_BOUNDARY).contains(&boundary.len()));
    let is_message =
        matches!(media_type.as_slice(), b"message/rfc822" | b"message/global") || ends_in(".eml");
    let kind = match boundary {
        Some(boundary) if media_type.starts_with(b"multipart/") => Kind::Multipart { boundary },
        _ if is_message && media_type != MEDIA_TYPE.as_bytes() => Kind::Message,
        _ => Kind::Leaf,
    };
    Part {
        has_extension: ends_in(EXTENSION),
        name: names.into_iter().flatten().next().map(|name| printable(&String::from_utf8_lossy(&name))),
        media_type: printable(&String::from_utf8_lossy(&media_type)),
        kind,
        encoding: match encoding.value.to_ascii_lowercase().as_slice() {
            b"base64" => Encoding::Base64,
            b"quoted-printable" => Encoding::Quoted,
            _ => Encoding::Identity,
        },
        has_header,
    }
}

/// `text` safe to show on a terminal: without controls, and not too long.
fn printable(text: &str) -> String {
    text.chars().take(100).map(|each| if each.is_control() { '\u{FFFD}' } else { each }).collect()
}

/// A field's value and its parameters: `value; name=value; name="value"`.
#[derive(Default)]
struct Field {
    value: Vec<u8>,
    parameters: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Field {
    /// Parses what follows the name. Quotes, escapes, comments and white space outside of quotes are taken out.
    fn parse(text: &[u8]) -> Self {
        let mut sections: Vec<Vec<u8>> = Vec::new();
        let mut section = Vec::new();
        let (mut quoted, mut escaped, mut comments) = (false, false, 0usize);
        for byte in text.strip_prefix(b":").unwrap_or(text) {
            match byte {
                _ if escaped => {
                    escaped = false;
                    if comments == 0 {
                        section.push(*byte);
                    }
                }
                b'\\' if quoted || comments > 0 => escaped = true,
                b'"' if comments == 0 => quoted = !quoted,
                b'(' if !quoted => comments += 1,
                b')' if comments > 0 => comments -= 1,
                _ if comments > 0 => {}
                b';' if !quoted => sections.push(std::mem::take(&mut section)),
                _ if quoted || !byte.is_ascii_whitespace() => section.push(*byte),
                _ => {}
            }
        }
        sections.push(section);
        let mut sections = sections.into_iter();
        let value = sections.next().unwrap_or_default();
        let parameters = sections.filter_map(|mut section| {
            let equals = section.iter().position(|byte| *byte == b'=')?;
            let value = section.split_off(equals + 1);
            section.pop();
            section.make_ascii_lowercase();
            Some((section, value))
        });
        Self { value, parameters: parameters.collect() }
    }

    /// The parameter of this name, plain, or else put together from its sections `name*0`, `name*1` … (RFC 2231
    /// §3), which everybody writes in their order. Percent signs stay: no extension or boundary needs them.
    fn parameter(&self, name: &str) -> Option<Vec<u8>> {
        let plain = self.parameters.iter().find(|(found, _)| found == name.as_bytes());
        if let Some((_, value)) = plain {
            return Some(value.clone());
        }
        let starred =
            |found: &[u8]| found.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b"*"));
        let sections = self.parameters.iter().filter(|(found, _)| starred(found));
        let whole: Vec<u8> = sections.flat_map(|(_, value)| value).copied().collect();
        if whole.is_empty() { None } else { Some(whole) }
    }
}
