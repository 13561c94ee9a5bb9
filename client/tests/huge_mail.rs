//! A mail of 1 GiB through the library, in little memory. In a process of its own, because it looks at the process.
//!
//! It takes about 4 GiB in the folder for temporary files, all of it gone at the end.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of a test may fail it")]

mod support;

use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

use fairpost::spool::Spool;
use fairpost::{SealedMail, mail, seal};
use fairpost_proto::ids::{Protocol, Verdict};
use support::World;

/// All that the process may ever hold, its own code included.
const MEMORY: u64 = 64 << 20;

const MAIL: u64 = 1 << 30;

/// A mail that is never whole anywhere: a pattern whose period is no power of two, and which changes along the way.
struct Pattern {
    block: Vec<u8>,
    position: u64,
}

impl Pattern {
    fn new() -> Self {
        Self {
            block: (0..1_000_003_u32).map(|place| (place % 251) as u8 ^ (place >> 9) as u8).collect(),
            position: 0,
        }
    }
}

impl Read for Pattern {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let start = (self.position % self.block.len() as u64) as usize;
        let left = usize::try_from(MAIL - self.position).unwrap();
        let count = buffer.len().min(self.block.len() - start).min(left);
        buffer[..count].copy_from_slice(&self.block[start..start + count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Pattern {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = match to {
            SeekFrom::Start(position) => position,
            SeekFrom::Current(0) => self.position,
            other => panic!("{other:?}: a mail is only read from its start"),
        };
        Ok(self.position)
    }
}

/// Takes only the bytes of [`Pattern`].
struct Same(Pattern);

impl Write for Same {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let start = (self.0.position % self.0.block.len() as u64) as usize;
        let count = bytes.len().min(self.0.block.len() - start);
        assert!(bytes[..count] == self.0.block[start..start + count], "at {}", self.0.position);
        self.0.position += count as u64;
        Ok(count)
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
fn a_gibibyte_is_sealed_mailed_read_and_opened_in_64_mib() {
    let world = World::new();
    // Sealed as a part, and that part as a mail.
    let mut part = Spool::new().unwrap();
    let options = seal::Options { protocol: Protocol::Cmp2, ..seal::Options::default() };
    let out = BufWriter::new(&mut part);
    let sealed =
        seal::seal(&world.sender, &world.card(), &world.trust, options, Pattern::new(), out).unwrap();
    assert!(sealed.length > MAIL);
    part.rewind().unwrap();
    let cover = mail::Cover {
        from: &sealed.terms.sender.address,
        to: &sealed.terms.recipient.address,
        expires: sealed.terms.expires,
        exchange: sealed.exchange,
        protocol: Protocol::Cmp2,
        message_id: "one@example.org",
        date: fairpost::now(),
    };
    let mut packed = Spool::new().unwrap();
    mail::pack(&cover, BufReader::new(part), BufWriter::new(&mut packed)).unwrap();
    packed.rewind().unwrap();

    // The recipient has that mail, and all that is checked before anything is signed holds.
    let mut received = SealedMail::read(packed).unwrap();
    received.check(&world.trust, fairpost::now()).unwrap();
    let lock = received.lock_for(world.recipient.sealing_key()).unwrap();
    let token = world.token(Verdict::Released, sealed.exchange);
    let mut same = Same(Pattern::new());
    assert_eq!(received.unlock(&lock, &token, &mut same).unwrap(), MAIL);
    assert_eq!(same.0.position, MAIL);
    let held = peak();
    assert!(held < MEMORY, "{} MiB", held >> 20);
    eprintln!("{} MiB for 1 GiB", held >> 20);
}
