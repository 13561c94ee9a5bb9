//! A mail of 150 MiB goes in and out in little memory. In a process of its own, because it looks at the process.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of a test may fail it")]

use std::io::{self, BufReader, Read, Write};

use fairpost::mail::{self, Cover, MAGIC};
use fairpost_proto::ids::{ExchangeId, Protocol, Timestamp};
use fairpost_proto::terms::Address;

/// So much more than before may be held at once.
const MEMORY: u64 = 8 << 20;

/// The longest mail that most providers would take, and then some.
const MAIL: u64 = 150 << 20;

/// The bytes of the sealed part: any that repeat with no power of two.
fn byte(position: u64) -> u8 {
    match MAGIC.get(position as usize) {
        Some(magic) => *magic,
        None => (position % 251) as u8 ^ (position >> 16) as u8,
    }
}

struct Sealed {
    position: u64,
    size: u64,
}

impl Read for Sealed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min((self.size - self.position) as usize);
        for slot in &mut buffer[..count] {
            *slot = byte(self.position);
            self.position += 1;
        }
        Ok(count)
    }
}

/// Takes only the bytes that [`Sealed`] gives.
struct Same {
    position: u64,
}

impl Write for Same {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for found in bytes {
            assert_eq!(*found, byte(self.position), "at {}", self.position);
            self.position += 1;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The most memory this process has ever held, in bytes (proc(5), VmHWM).
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn a_long_mail_is_never_held_in_memory() {
    let size = MAIL / 78 * 57;
    let from = Address::parse("alice@example.org").unwrap();
    let to = Address::parse("bob@example.net").unwrap();
    let cover = Cover {
        from: &from,
        to: &to,
        expires: Timestamp::from_seconds(1_795_478_399).unwrap(),
        exchange: ExchangeId::new([7; 32]),
        protocol: Protocol::Cmp1,
        message_id: "long@example.org",
        date: Timestamp::from_seconds(1_795_391_999).unwrap(),
    };
    let mut out = tempfile::tempfile().unwrap();
    let before = peak();
    mail::pack(&cover, Sealed { position: 0, size }, &mut out).unwrap();
    assert!(out.metadata().unwrap().len() > MAIL - 100);
    io::Seek::rewind(&mut out).unwrap();
    let mut same = Same { position: 0 };
    let found = mail::find(BufReader::new(out), &mut same).unwrap();
    assert_eq!((found.size, same.position), (size, size));
    let more = peak() - before;
    assert!(more < MEMORY, "{more} bytes more than before");
}
