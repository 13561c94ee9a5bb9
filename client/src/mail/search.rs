//! Finding the sealed part in a mail.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Seek as _, SeekFrom, Write};

use super::body::{Body, Encoding};
use super::fields::{self, Kind, Part};
use super::lines::{Lines, Stop};
use super::{Error, MAGIC, MAX_FORWARDED, MAX_NESTED, MEDIA_TYPE};
use crate::spool::Spool;

/// How many different media types an error names.
const MAX_SEEN: usize = 16;

/// UTF-8's byte order mark, which some editors put before a mail.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// By what a sealed part was known. The first is the strongest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// Its media type.
    MediaType,
    /// The extension of its file name.
    Extension,
    /// Its first bytes.
    FirstBytes,
}

/// A sealed part that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// By what it was known.
    pub mark: Mark,
    /// The media type its header gives; none when the input was the bare attachment.
    pub media_type: Option<String>,
    /// Its file name, without control characters.
    pub name: Option<String>,
    /// In how many levels of forwarded mails it lay.
    pub forwarded: usize,
    /// Its size in bytes.
    pub size: u64,
}

/// Finds the sealed part in `input`, a mail or the bare attachment, and writes its bytes to `out`.
///
/// Reads `input` once, to its end. Among the parts known by the strongest mark there must be one, or one that also
/// begins with [`MAGIC`]. That the bytes are a sealed mail, and whole, is for their reader to check.
///
/// # Errors
///
/// [`Error::NoSealedPart`] and [`Error::MoreThanOne`]; an error of its own for each limit; [`Error::Io`]. Nothing
/// has been written then, except with [`Error::Io`].
pub fn find(mut input: impl Read, mut out: impl Write) -> Result<Found, Error> {
    let mut head = Vec::new();
    input.by_ref().take(MAGIC.len() as u64).read_to_end(&mut head)?;
    if head == MAGIC {
        let size = io::copy(&mut head.as_slice().chain(input), &mut out)?;
        out.flush()?;
        return Ok(Found { mark: Mark::FirstBytes, media_type: None, name: None, forwarded: 0, size });
    }
    let head = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&head);
    let mut input = BufReader::with_capacity(64 << 10, head.chain(input));
    let mut search =
        Search { spool: Spool::new()?, spooled: 0, claims: BTreeMap::new(), seen: Seen::default() };
    search.message(&mut Lines::new(&mut input), Depth::default())?;
    search.choose(&mut out)
}

/// Parts with equal claims, and the last of them.
struct Claim {
    count: u64,
    start: u64,
    found: Found,
}

struct Search {
    /// All candidates, one after the other.
    spool: Spool,
    spooled: u64,
    /// By mark, and whether it begins with the magic: at most six.
    claims: BTreeMap<(Mark, bool), Claim>,
    seen: Seen,
}

impl Search {
    /// A mail. Empty lines before its header are passed over; so is, in the header, the "From " line of an mbox file.
    fn message(&mut self, lines: &mut Lines<'_>, depth: Depth) -> Result<Stop, Error> {
        loop {
            if let Some(stop) = lines.next()? {
                return Ok(stop);
            }
            if !lines.piece().0.is_empty() {
                break;
            }
        }
        lines.again();
        self.entity(lines, depth, "text/plain")
    }

    /// A header and what it describes.
    fn entity(&mut self, lines: &mut Lines<'_>, depth: Depth, default: &str) -> Result<Stop, Error> {
        let (part, stop) = fields::read(lines, default)?;
        self.seen.add(if part.has_header || depth != Depth::default() {
            &part.media_type
        } else {
            "no mail header"
        });
        if let Some(stop) = stop {
            return Ok(stop);
        }
        match &part.kind {
            Kind::Multipart { boundary } => {
                let default =
                    if part.media_type == "multipart/digest" { "message/rfc822" } else { "text/plain" };
                self.multipart(lines, depth.nested()?, boundary.clone(), default)
            }
            Kind::Message if part.encoding == Encoding::Identity => self.message(lines, depth.forwarded()?),
            Kind::Message => {
                // RFC 2046 §5.2.1 forbids it, and some relays do it all the same.
                let mut body = Body::new(lines, part.encoding);
                let mut decoded: BufReader<&mut dyn Read> = BufReader::new(&mut body);
                self.message(&mut Lines::new(&mut decoded as &mut dyn BufRead), depth.forwarded()?)?;
                Ok(body.finish()?)
            }
            Kind::Leaf => self.leaf(lines, depth, part),
        }
    }

    fn multipart(
        &mut self,
        lines: &mut Lines<'_>,
        depth: Depth,
        boundary: Vec<u8>,
        default: &str,
    ) -> Result<Stop, Error> {
        let own = lines.enter(boundary);
        let mut stop = lines.skip()?;
        while stop == (Stop::Boundary { level: own, last: false }) {
            stop = self.entity(lines, depth, default)?;
        }
        lines.leave(own);
        if stop == (Stop::Boundary { level: own, last: true }) {
            stop = lines.skip()?;
        }
        Ok(stop)
    }

    /// Content: kept when it has a mark.
    fn leaf(&mut self, lines: &mut Lines<'_>, depth: Depth, part: Part) -> Result<Stop, Error> {
        let mut body = Body::new(lines, part.encoding);
        let mut head = Vec::new();
        body.by_ref().take(MAGIC.len() as u64).read_to_end(&mut head)?;
        let has_magic = head == MAGIC;
        let mark = if part.media_type == MEDIA_TYPE {
            Mark::MediaType
        } else if part.has_extension {
            Mark::Extension
        } else if has_magic {
            Mark::FirstBytes
        } else {
            return Ok(body.finish()?);
        };
        let size = io::copy(&mut head.as_slice().chain(&mut body), &mut self.spool)?;
        let stop = body.finish()?;
        let count = self.claims.get(&(mark, has_magic)).map_or(0, |claim| claim.count) + 1;
        let found = Found {
            mark,
            media_type: Some(part.media_type),
            name: part.name,
            forwarded: depth.forwarded,
            size,
        };
        self.claims.insert((mark, has_magic), Claim { count, start: self.spooled, found });
        self.spooled += size;
        Ok(stop)
    }

    fn choose(mut self, out: &mut impl Write) -> Result<Found, Error> {
        let strongest = self.claims.keys().next().map(|(mark, _)| *mark);
        let Some(mark) = strongest else {
            return Err(Error::NoSealedPart { seen: self.seen.to_string() });
        };
        let claim = self.claims.remove(&(mark, true)).or_else(|| self.claims.remove(&(mark, false)));
        match claim {
            Some(Claim { count: 1, start, found }) => {
                self.spool.seek(SeekFrom::Start(start))?;
                io::copy(&mut self.spool.take(found.size), out)?;
                out.flush()?;
                Ok(found)
            }
            other => Err(Error::MoreThanOne { count: other.map_or(0, |claim| claim.count) }),
        }
    }
}

/// How deep a part lies.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Depth {
    forwarded: usize,
    nested: usize,
}

impl Depth {
    fn forwarded(self) -> Result<Self, Error> {
        let forwarded = self.forwarded + 1;
        if forwarded > MAX_FORWARDED {
            return Err(Error::ForwardedTooDeep { limit: MAX_FORWARDED });
        }
        Ok(Self { forwarded, ..self })
    }

    fn nested(self) -> Result<Self, Error> {
        let nested = self.nested + 1;
        if nested > MAX_NESTED {
            return Err(Error::NestedTooDeep { limit: MAX_NESTED });
        }
        Ok(Self { nested, ..self })
    }
}

/// The media types of a mail, the first few.
#[derive(Default)]
struct Seen {
    types: Vec<String>,
    more: bool,
}

impl Seen {
    fn add(&mut self, media_type: &str) {
        if self.types.iter().any(|seen| seen == media_type) {
            return;
        }
        if self.types.len() < MAX_SEEN {
            self.types.push(media_type.to_owned());
        } else {
            self.more = true;
        }
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&if self.types.is_empty() { "nothing".to_owned() } else { self.types.join(", ") })?;
        f.write_str(if self.more { " and others" } else { "" })
    }
}
