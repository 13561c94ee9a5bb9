//! A place on disk for bytes that must be read twice, or withheld until they have been checked.
//!
//! # Guarantees
//!
//! - Nobody else can open the file: it has no name, and its mode is 0600 ([`Spool::new`];
//!   `a_spool_has_no_name_and_is_for_its_owner_alone`).
//! - It is gone when the spool is dropped or the process dies, because nothing links to it.

use std::fs::{File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt as _;

/// An unlinked file of mode 0600 in the directory for temporary files (`TMPDIR`, else `/tmp`).
#[derive(Debug)]
pub struct Spool {
    file: File,
}

impl Spool {
    /// An empty spool.
    ///
    /// # Errors
    ///
    /// When the directory for temporary files does not take a file; the message names the directory.
    pub fn new() -> io::Result<Self> {
        let file = tempfile::tempfile().map_err(in_directory)?;
        // `tempfile` opens with O_TMPFILE, for which the mode is 0666 less the umask.
        file.set_permissions(Permissions::from_mode(0o600)).map_err(in_directory)?;
        Ok(Self { file })
    }

    /// A spool that holds all of `input`, ready to be read from its start.
    ///
    /// # Errors
    ///
    /// When `input` can't be read, or the bytes find no room.
    pub fn of(mut input: impl Read) -> io::Result<Self> {
        let mut spool = Self::new()?;
        io::copy(&mut input, &mut spool)?;
        spool.rewind()?;
        Ok(spool)
    }

    /// How many bytes it holds.
    ///
    /// # Errors
    ///
    /// When the system can't tell.
    pub fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

impl Read for Spool {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).map_err(in_directory)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Spool {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// The error with the directory's name: "no space left" helps only whoever knows where.
fn in_directory(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::Interrupted {
        return error;
    }
    let directory = std::env::temp_dir();
    io::Error::new(error.kind(), format!("temporary file in {}: {error}", directory.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_spool_has_no_name_and_is_for_its_owner_alone() {
        let spool = Spool::new().unwrap();
        let metadata = spool.file.metadata().unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
        assert_eq!(metadata.nlink(), 0);
    }

    #[test]
    fn what_went_in_comes_out_as_often_as_it_is_wanted() {
        let bytes: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        let mut spool = Spool::of(bytes.as_slice()).unwrap();
        assert_eq!(spool.size().unwrap(), bytes.len() as u64);
        for _ in 0..2 {
            let mut out = Vec::new();
            spool.read_to_end(&mut out).unwrap();
            assert!(out == bytes);
            spool.rewind().unwrap();
        }
    }
}
