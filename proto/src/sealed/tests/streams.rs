//! Streams that fail, and streams that are long.

use std::cell::Cell;
use std::io::{self, Read, Write};

use super::*;

/// A reader and writer that fails after so many bytes.
struct Failing(usize);

impl Read for Failing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.write(buffer)?;
        buffer[..length].fill(7);
        Ok(length)
    }
}

impl Write for Failing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(self.0);
        self.0 -= length;
        if length == 0 { Err(io::Error::other("the disk is on fire")) } else { Ok(length) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_failing_stream_accuses_nobody() {
    let (body, content) = body(Protocol::Cmp1, &[5; 200_000]);
    let lock = inspect(&body[..], Protocol::Cmp1, EXCHANGE).unwrap().lock_in_the_open().unwrap();
    for length in [0, 10, 300, 1000, 100_000, body.len()] {
        let input = body[..length].chain(Failing(0));
        let refused = open(input, &lock, &token(), content, io::sink()).unwrap_err();
        assert!(
            matches!(&refused, Error::Read(error) if error.to_string().contains("fire")),
            "{length}: {refused}"
        );
    }
    let refused = open(&body[..], &lock, &token(), content, Failing(100_000)).unwrap_err();
    assert!(matches!(&refused, Error::Write(error) if error.to_string().contains("fire")), "{refused}");

    let sealing = sealing(Protocol::Cmp1, EXCHANGE);
    assert!(matches!(seal(&sealing, &salt(), Failing(100_000), io::sink()), Err(Error::Read(_))));
    for room in [0, 10, 300, 100_000] {
        let sealed = seal(&sealing, &salt(), &[5; 200_000][..], Failing(room));
        assert!(matches!(sealed, Err(Error::Write(_))), "{room}");
    }
    assert!(matches!(content_commitment(&salt(), Failing(9)), Err(Error::Read(_))));
    assert!(matches!(body_digest(Failing(9)), Err(Error::Read(_))));
    assert!(matches!(inspect(Failing(0), Protocol::Cmp1, EXCHANGE), Err(Error::Read(_))));
}

/// Counts what goes in and out, and fails the test if much more is in than out.
struct Lag<'c, S> {
    stream: S,
    held: &'c Cell<i64>,
}

impl<S: Read> Read for Lag<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.stream.read(buffer)?;
        self.held.set(self.held.get() + length as i64);
        assert!(self.held.get() < 300_000, "{} bytes are held", self.held.get());
        Ok(length)
    }
}

impl<S: Write> Write for Lag<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.set(self.held.get() - bytes.len() as i64);
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[test]
fn any_size_goes_through_in_constant_memory() {
    let (held, length) = (Cell::new(0), 20_000_000);
    let mut body = Vec::new();
    let mail = Lag { stream: io::repeat(7).take(length), held: &held };
    let out = Lag { stream: &mut body, held: &held };
    let sealed = seal(&sealing(Protocol::Cmp1, EXCHANGE), &salt(), mail, out).unwrap();

    let lock = inspect(&body[..], Protocol::Cmp1, EXCHANGE).unwrap().lock_in_the_open().unwrap();
    held.set(0);
    let input = Lag { stream: &body[..], held: &held };
    let out = Lag { stream: io::sink(), held: &held };
    assert_eq!(open(input, &lock, &token(), sealed.content, out).unwrap().bytes, length);
}

#[test]
fn a_container_holds_any_header_up_to_its_limit() {
    for length in [0, 1, MAX_HEADER as usize] {
        let header = vec![b'h'; length];
        let mut container = Vec::new();
        write_header(&header, &mut container).unwrap();
        container.extend_from_slice(b"body");
        let mut reader = &container[..];
        assert_eq!(read_header(&mut reader).unwrap(), header);
        assert_eq!(reader, b"body");
    }
    let (limit, found) = (MAX_HEADER, u64::from(MAX_HEADER) + 1);
    assert!(matches!(
        write_header(&vec![0; 65_537], io::sink()),
        Err(Error::ContainerHeader { limit: l, found: f }) if (l, f) == (limit, found)
    ));
    assert!(matches!(read_header(Failing(9)), Err(Error::Magic { .. })));
    assert!(matches!(read_header((&MAGIC[..]).chain(Failing(3))), Err(Error::Read(_))));
}
