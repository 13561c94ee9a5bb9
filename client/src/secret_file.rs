//! Files that only their owner may read.
//!
//! # Guarantees
//!
//! - A file is made with mode 0600, and one that others can open is not read (`read`; test
//!   `a_file_that_others_may_read_is_refused`).
//! - A file is replaced whole or not at all (`replace`).

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// The largest file that is read at all.
const MAX_BYTES: u64 = 64 * 1024;

/// Why a file can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system says no.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others than its owner may read or write it.
    #[error("{path} has mode {mode:04o}, and it holds a secret: run chmod 600 {path}")]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is larger than any that is read.
    #[error("{path} has {found} bytes, at most {MAX_BYTES} are read")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: u64,
    },
}

/// Writes a file that is not there yet.
pub(crate) fn create(path: &Path, text: &str) -> Result<(), Error> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io)
}

/// Writes a file in the place of the one that is there, if one is.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), Error> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Such a file has mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(io)?;
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(io)?;
    file.persist(path).map_err(|error| io(error.error))?;
    Ok(())
}

/// Reads a file, if nobody but its owner may.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<String>, Error> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Error::Mode { path: path.to_owned(), mode });
    }
    if metadata.len() > MAX_BYTES {
        return Err(Error::TooLarge { path: path.to_owned(), found: metadata.len() });
    }
    let mut text = Zeroizing::new(String::with_capacity(MAX_BYTES as usize));
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(io)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        create(&path, "secret").unwrap();
        assert_eq!(read(&path).unwrap().as_str(), "secret");
        for mode in [0o640, 0o604, 0o620, 0o666] {
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert!(matches!(read(&path), Err(Error::Mode { mode: found, .. }) if found == mode));
        }
    }

    #[test]
    fn what_is_there_is_kept_by_create_and_replaced_by_replace() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        create(&path, "one").unwrap();
        assert!(create(&path, "two").is_err());
        assert_eq!(read(&path).unwrap().as_str(), "one");
        replace(&path, "two").unwrap();
        assert_eq!(read(&path).unwrap().as_str(), "two");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_file_too_large_to_be_one_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        create(&path, &"x".repeat(MAX_BYTES as usize + 1)).unwrap();
        assert!(matches!(read(&path), Err(Error::TooLarge { found, .. }) if found == MAX_BYTES + 1));
    }
}
