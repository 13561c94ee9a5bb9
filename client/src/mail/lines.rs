//! A mail as lines, and the boundaries among them.

use std::io::{self, BufRead, Read as _};

/// The longest piece of a line that is held at once. Longer lines come in several pieces.
const MAX_PIECE: u64 = 8192;

/// The longest boundary that counts as one. RFC 2046 §5.1.1 allows 70.
pub(super) const MAX_BOUNDARY: usize = 1000;

/// Where the text of a part ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// At a boundary of the multipart entered as number `level`; `last` when no further part follows.
    Boundary { level: usize, last: bool },
    /// At the end of the input.
    End,
}

/// Reads lines, however they end, and stops at the boundaries of all multiparts that are open.
pub(super) struct Lines<'a> {
    input: &'a mut dyn BufRead,
    boundaries: Vec<Vec<u8>>,
    piece: Vec<u8>,
    /// The piece begins a line.
    starts: bool,
    /// The next piece goes on with the same line.
    goes_on: bool,
    /// A CR that ended the last piece: it may belong to a line end.
    held_cr: bool,
    /// The piece is to be given out once more.
    again: bool,
}

impl<'a> Lines<'a> {
    pub(super) fn new(input: &'a mut dyn BufRead) -> Self {
        Self {
            input,
            boundaries: Vec::new(),
            piece: Vec::new(),
            starts: true,
            goes_on: false,
            held_cr: false,
            again: false,
        }
    }

    /// Goes to the next piece, or tells what stops it. A boundary's line is consumed; the end comes again and again.
    pub(super) fn next(&mut self) -> io::Result<Option<Stop>> {
        if std::mem::take(&mut self.again) {
            return Ok(None);
        }
        self.piece.clear();
        if std::mem::take(&mut self.held_cr) {
            self.piece.push(b'\r');
        }
        (&mut *self.input).take(MAX_PIECE).read_until(b'\n', &mut self.piece)?;
        if self.piece.is_empty() {
            return Ok(Some(Stop::End));
        }
        self.starts = !self.goes_on;
        self.goes_on = !self.piece.ends_with(b"\n");
        if self.piece.len() > 1 && self.piece.ends_with(b"\r") {
            self.piece.pop();
            self.held_cr = true;
        }
        Ok(self.boundary())
    }

    /// Has [`Lines::next`] give the present piece once more.
    pub(super) fn again(&mut self) {
        self.again = true;
    }

    /// Whether the piece begins a line.
    pub(super) fn starts(&self) -> bool {
        self.starts
    }

    /// The piece, and the line end after it: CRLF, LF or, within a line, nothing.
    pub(super) fn piece(&self) -> (&[u8], &[u8]) {
        let end = match self.piece.as_slice() {
            [.., b'\r', b'\n'] => 2,
            [.., b'\n'] => 1,
            _ => 0,
        };
        self.piece.split_at(self.piece.len() - end)
    }

    /// Passes over everything up to the next stop.
    pub(super) fn skip(&mut self) -> io::Result<Stop> {
        loop {
            if let Some(stop) = self.next()? {
                return Ok(stop);
            }
        }
    }

    /// Enters a multipart; gives its level.
    pub(super) fn enter(&mut self, boundary: Vec<u8>) -> usize {
        self.boundaries.push(boundary);
        self.boundaries.len() - 1
    }

    /// Leaves the multipart of this level, and all within it.
    pub(super) fn leave(&mut self, level: usize) {
        self.boundaries.truncate(level);
    }

    /// The boundary that the piece is, innermost first. White space after it is padding (RFC 2046 §5.1.1).
    fn boundary(&self) -> Option<Stop> {
        if !self.starts || self.boundaries.is_empty() {
            return None;
        }
        let text = self.piece.strip_prefix(b"--")?.trim_ascii_end();
        self.boundaries.iter().enumerate().rev().find_map(|(level, boundary)| {
            match text.strip_prefix(boundary.as_slice())? {
                b"" => Some(Stop::Boundary { level, last: false }),
                b"--" => Some(Stop::Boundary { level, last: true }),
                _ => None,
            }
        })
    }
}
