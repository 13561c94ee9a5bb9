//! The file with what a member keeps during an attempt.
//!
//! # Guarantees
//!
//! - After a crash there is the old content or the new, never a part: [`File::put`] returns when it is synced.
//! - What is replaced or erased is overwritten before its place is given back. On file systems and disks that write
//!   elsewhere instead, copies can stay behind: the folder belongs on a disk that is encrypted.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use fairpost_proto::ceremony::Kept;
use zeroize::Zeroizing;

use super::Error;
use crate::membership::share_file::{read_secret, write_secret};

/// More than what a member of the largest cluster keeps.
const MAX_BYTES: u64 = 512 * 1024;

/// The file.
#[derive(Debug)]
pub struct File(PathBuf);

impl File {
    /// At this place; it need not be there yet.
    pub const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// What is kept, if there is something.
    ///
    /// # Errors
    ///
    /// If it can't be read, or is damaged.
    pub fn get(&self) -> Result<Option<Kept>, Error> {
        if !self.0.exists() {
            return Ok(None);
        }
        let bytes = read_secret(&self.0, MAX_BYTES)?;
        Kept::parse(&bytes).map(Some).map_err(|source| Error::Kept { path: self.0.clone(), source })
    }

    /// Keeps this, synced, in the place of what was there.
    ///
    /// # Errors
    ///
    /// If it can't be written: then the old content is there.
    pub fn put(&self, kept: &Kept) -> Result<(), Error> {
        let bytes: Zeroizing<Vec<u8>> = kept.to_bytes();
        let old = OpenOptions::new().write(true).open(&self.0).ok();
        write_secret(&self.0, &bytes)?;
        // The name stands for the new file by now.
        old.map_or(Ok(()), overwrite).map_err(|source| self.failed(source))
    }

    /// Destroys it.
    ///
    /// # Errors
    ///
    /// If it can't be removed.
    pub fn erase(&self) -> Result<(), Error> {
        for path in [self.0.clone(), self.0.with_extension("new")] {
            let file = match OpenOptions::new().write(true).open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(self.failed(error)),
            };
            overwrite(file).and_then(|()| fs::remove_file(&path)).map_err(|error| self.failed(error))?;
        }
        let folder = self.0.parent().unwrap_or(Path::new("."));
        fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| self.failed(error))
    }

    fn failed(&self, source: std::io::Error) -> Error {
        Error::Io { path: self.0.clone(), source }
    }
}

fn overwrite(mut file: fs::File) -> std::io::Result<()> {
    let length = usize::try_from(file.metadata()?.len()).unwrap_or_default();
    file.rewind()?;
    file.write_all(&vec![0; length])?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use ed25519_dalek::SigningKey;
    use fairpost_proto::ceremony::{Action, Ceremony, Message};
    use fairpost_proto::chain::key_id;
    use fairpost_proto::cose::Signed;
    use fairpost_proto::proposal::Proposal;

    use super::*;
    use crate::testing::World;

    fn something() -> Kept {
        let world = World::new();
        let proposal = Proposal::new("kept", world.view.constitution().draft()).unwrap();
        let mut state = Ceremony::new(proposal);
        let begin = state.begin(vec![0, 1, 2, 3]);
        let key: &SigningKey = &world.identities[0];
        let begin = Signed::sign(begin, key_id(&key.verifying_key()), key);
        state.apply(&Message::parse(begin.bytes()).unwrap()).unwrap();
        let actions = state.next(key, None, &mut rand::rngs::OsRng).unwrap();
        let kept = actions.into_iter().find_map(|action| match action {
            Action::Keep(kept) => Some(kept),
            _ => None,
        });
        kept.unwrap()
    }

    #[test]
    fn what_is_kept_is_there_again_and_its_owners_alone_until_it_is_erased() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept");
        let file = File::new(path.clone());
        assert!(file.get().unwrap().is_none());
        let kept = something();
        file.put(&kept).unwrap();
        // Whoever still has the old file open finds nothing in it.
        let emptied = |mut old: fs::File| {
            let mut left = Vec::new();
            std::io::Read::read_to_end(&mut old, &mut left).unwrap();
            assert!(left.iter().all(|byte| *byte == 0) && !left.is_empty());
        };
        let old = fs::File::open(&path).unwrap();
        file.put(&kept).unwrap();
        emptied(old);
        assert_eq!(*file.get().unwrap().unwrap().to_bytes(), *kept.to_bytes());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // So it is at the end, with what a crash left of the next content.
        fs::write(path.with_extension("new"), b"half").unwrap();
        let old = fs::File::open(&path).unwrap();
        file.erase().unwrap();
        emptied(old);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        file.erase().unwrap();
    }

    #[test]
    fn damage_is_an_error_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept");
        let file = File::new(path.clone());
        file.put(&something()).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(40);
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(file.get(), Err(Error::Kept { .. })));
        assert_eq!(fs::read(&path).unwrap(), bytes);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(file.get(), Err(Error::Secret(_))));
    }
}
