//! The content of one part, decoded while it is read (RFC 2045 §6).

use std::io::{self, Read};

use super::lines::{Lines, Stop};

/// How much is decoded at a time, at least.
const CHUNK: usize = 8192;

/// A Content-Transfer-Encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// 7bit, 8bit, binary, and all that nobody knows: bytes as they are.
    Identity,
    /// base64.
    Base64,
    /// quoted-printable.
    Quoted,
}

/// Reads the decoded content of a part up to the stop that ends it.
pub(super) struct Body<'l, 'i> {
    lines: &'l mut Lines<'i>,
    decoder: Decoder,
    decoded: Vec<u8>,
    given: usize,
    stop: Option<Stop>,
}

impl<'l, 'i> Body<'l, 'i> {
    pub(super) fn new(lines: &'l mut Lines<'i>, encoding: Encoding) -> Self {
        let decoder = match encoding {
            Encoding::Identity => Decoder::Identity { end: Vec::new() },
            Encoding::Base64 => Decoder::Base64(Base64::default()),
            Encoding::Quoted => Decoder::Quoted(Quoted::default()),
        };
        Self { lines, decoder, decoded: Vec::new(), given: 0, stop: None }
    }

    /// Passes over the rest, undecoded, and tells what ended the part.
    pub(super) fn finish(self) -> io::Result<Stop> {
        match self.stop {
            Some(stop) => Ok(stop),
            None => self.lines.skip(),
        }
    }

    fn refill(&mut self) -> io::Result<()> {
        self.decoded.clear();
        self.given = 0;
        while self.stop.is_none() && self.decoded.len() < CHUNK {
            self.stop = self.lines.next()?;
            match self.stop {
                None => {
                    let (text, end) = self.lines.piece();
                    self.decoder.push(text, end, &mut self.decoded);
                }
                Some(stop) => self.decoder.finish(stop, &mut self.decoded),
            }
        }
        Ok(())
    }
}

impl Read for Body<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.decoded.len() {
            self.refill()?;
        }
        let count = self.decoded.get(self.given..).unwrap_or_default().read(buffer)?;
        self.given += count;
        Ok(count)
    }
}

/// A decoder is given one piece after the other. The line end before a boundary belongs to the boundary (RFC 2046
/// §5.1.1), so each keeps a line end back until more text follows.
enum Decoder {
    Identity { end: Vec<u8> },
    Base64(Base64),
    Quoted(Quoted),
}

impl Decoder {
    fn push(&mut self, text: &[u8], line_end: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Identity { end } => {
                out.append(end);
                out.extend_from_slice(text);
                end.extend_from_slice(line_end);
            }
            Self::Base64(base64) => base64.push(text, out),
            Self::Quoted(quoted) => quoted.push(text, !line_end.is_empty(), out),
        }
    }

    fn finish(&mut self, stop: Stop, out: &mut Vec<u8>) {
        match self {
            Self::Identity { end } if stop == Stop::End => out.append(end),
            Self::Identity { .. } => {}
            Self::Base64(base64) => base64.finish(out),
            Self::Quoted(quoted) => quoted.finish(out),
        }
    }
}

/// Base64 ends with its padding, or before a line that holds other characters than base64 and white space: that
/// is a footer. Such lines before the first data are passed over.
#[derive(Default)]
struct Base64 {
    bits: u32,
    digits: u8,
    begun: bool,
    ended: bool,
}

impl Base64 {
    fn push(&mut self, text: &[u8], out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        if text.iter().any(|byte| digit(*byte).is_none() && *byte != b'=' && !byte.is_ascii_whitespace()) {
            self.ended = self.begun;
            return;
        }
        for byte in text {
            if let Some(value) = digit(*byte) {
                self.begun = true;
                self.bits = self.bits << 6 | u32::from(value);
                self.digits += 1;
                if self.digits == 4 {
                    let [_, group @ ..] = self.bits.to_be_bytes();
                    out.extend_from_slice(&group);
                    (self.bits, self.digits) = (0, 0);
                }
            } else if *byte == b'=' && self.begun {
                return self.finish(out);
            }
        }
    }

    /// Two or three digits left are one or two bytes, padded or not; one digit is none.
    fn finish(&mut self, out: &mut Vec<u8>) {
        let [_, first, second, _] = (self.bits << (6 * (4 - u32::from(self.digits)))).to_be_bytes();
        match self.digits {
            2 => out.push(first),
            3 => out.extend_from_slice(&[first, second]),
            _ => {}
        }
        (self.digits, self.ended) = (0, true);
    }
}

/// The value of a digit of base64 (RFC 4648 §4).
fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

/// Quoted-printable. A hard line break is CRLF, whatever the transport made of it (RFC 2045 §6.7 rule 4); the one
/// at the very end is the transport's own. What is no escape stands for itself.
#[derive(Default)]
struct Quoted {
    /// The end of a piece that may be half an escape.
    tail: Vec<u8>,
    line_break: bool,
}

impl Quoted {
    fn push(&mut self, text: &[u8], ends_line: bool, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.line_break) {
            out.extend_from_slice(b"\r\n");
        }
        let mut line = std::mem::take(&mut self.tail);
        line.extend_from_slice(text);
        if ends_line {
            let line = line.trim_ascii_end();
            let soft = line.strip_suffix(b"=");
            self.line_break = soft.is_none();
            decode_escapes(soft.unwrap_or(line), out);
        } else {
            let kept = match line.as_slice() {
                [.., b'=', _] => 2,
                [.., b'='] => 1,
                _ => 0,
            };
            self.tail = line.split_off(line.len() - kept);
            decode_escapes(&line, out);
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        let tail = std::mem::take(&mut self.tail);
        decode_escapes(tail.strip_suffix(b"=").unwrap_or(&tail), out);
    }
}

fn decode_escapes(mut text: &[u8], out: &mut Vec<u8>) {
    while let Some((first, after)) = text.split_first() {
        text = match after {
            [high, low, rest @ ..]
                if *first == b'=' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                out.push(hex_digit(*high) << 4 | hex_digit(*low));
                rest
            }
            _ => {
                out.push(*first);
                after
            }
        };
    }
}

/// The value of a byte that is a hexadecimal digit.
fn hex_digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        other => other.to_ascii_lowercase().wrapping_sub(b'a').wrapping_add(10),
    }
}
