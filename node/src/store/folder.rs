//! The data folder: whose it is, and that only one process uses it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use fairpost_proto::ids::ClusterId;
use serde::{Deserialize, Serialize};

use super::{Column, Database, Error, Memory, Store};

/// Held, locked, as long as the folder is in use.
const LOCK: &str = "lock";
/// Says whose folder it is.
const IDENTITY: &str = "node.json";
/// The layout that this build reads and writes.
const FORMAT: u32 = 1;

/// Whose data folder it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The node's name in the view.
    pub node: String,
    /// Its cluster.
    pub cluster: ClusterId,
}

/// A data folder in use: this process alone has it until the value is dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    // Dropping the file unlocks the folder.
    _lock: File,
}

impl Folder {
    /// Takes the folder for this node, and makes it if there is none.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] if another process has it; [`Error::OtherNode`], [`Error::OtherCluster`],
    /// [`Error::Format`] or [`Error::NoIdentity`] if it is not this node's: then nothing in it was changed;
    /// else what the file system says.
    pub fn open(path: &Path, identity: &Identity) -> Result<Self, Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| Error::io(path, &error))?;
        let lock = lock(path)?;
        match read(path)? {
            Some(found) => found.check(path, identity)?,
            None if Store::ALL.iter().any(|store| path.join(store.name()).exists()) => {
                return Err(Error::NoIdentity { path: path.to_owned(), file: IDENTITY });
            }
            None => write(path, identity)?,
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens one of its databases with these columns, and makes it if there is none.
    ///
    /// # Errors
    ///
    /// As [`Database::open`].
    pub fn database(&self, store: Store, columns: &[Column], memory: &Memory) -> Result<Database, Error> {
        Database::open(&self.path.join(store.name()), columns, memory)
    }
}

/// The identity file. A field that this build does not know is refused: it may change what the rest means.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    node: String,
    cluster: String,
}

/// The one field of the identity file that every version has.
#[derive(Deserialize)]
struct Versioned {
    format: u32,
}

impl Stored {
    fn check(self, path: &Path, identity: &Identity) -> Result<(), Error> {
        let mut cluster = [0; 32];
        hex::decode_to_slice(&self.cluster, &mut cluster).map_err(|error| Error::Corrupt {
            path: path.join(IDENTITY),
            reason: format!("its cluster is no identifier ({error})"),
        })?;
        let found = ClusterId::new(cluster);
        let path = || path.to_owned();
        if found != identity.cluster {
            return Err(Error::OtherCluster { path: path(), expected: identity.cluster, found });
        }
        if self.node != identity.node {
            let expected = identity.node.clone();
            return Err(Error::OtherNode { path: path(), expected, found: self.node });
        }
        Ok(())
    }
}

fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join(LOCK);
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.map_err(|error| Error::io(&path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { path: folder.to_owned() }),
        Err(TryLockError::Error(error)) => Err(Error::io(&path, &error)),
    }
}

fn read(folder: &Path) -> Result<Option<Stored>, Error> {
    let path = folder.join(IDENTITY);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(&path, &error)),
    };
    let corrupt = |error: serde_json::Error| {
        // It quotes names that stand in the file, which must not steer a terminal.
        let clean = |char: char| if char.is_control() { '\u{FFFD}' } else { char };
        Error::Corrupt {
            path: path.clone(),
            reason: error.to_string().chars().take(300).map(clean).collect(),
        }
    };
    // The version comes first: a newer format may have fields that this build would call damage.
    let Versioned { format } = serde_json::from_slice(&bytes).map_err(corrupt)?;
    if format != FORMAT {
        return Err(Error::Format { path: folder.to_owned(), expected: FORMAT, found: format });
    }
    serde_json::from_slice(&bytes).map(Some).map_err(corrupt)
}

/// Writes the identity so that after a crash it is there whole, or not at all.
fn write(folder: &Path, identity: &Identity) -> Result<(), Error> {
    let stored =
        Stored { format: FORMAT, node: identity.node.clone(), cluster: identity.cluster.to_string() };
    let (path, new) = (folder.join(IDENTITY), folder.join("node.json.new"));
    let write = || -> io::Result<()> {
        let mut bytes = serde_json::to_vec_pretty(&stored)?;
        bytes.push(b'\n');
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|error| Error::io(&path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(node: &str, cluster: u8) -> Identity {
        Identity { node: node.into(), cluster: ClusterId::new([cluster; 32]) }
    }

    #[test]
    fn a_folder_opens_again_for_the_same_node_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        drop(Folder::open(&path, &identity("alpha", 1)).unwrap());
        drop(Folder::open(&path, &identity("alpha", 1)).unwrap());

        let before = fs::read(path.join(IDENTITY)).unwrap();
        let other = Folder::open(&path, &identity("beta", 1)).unwrap_err();
        let named = Error::OtherNode { path: path.clone(), expected: "beta".into(), found: "alpha".into() };
        assert_eq!(other, named);
        let other = Folder::open(&path, &identity("alpha", 2)).unwrap_err();
        assert!(matches!(other, Error::OtherCluster { .. }), "{other}");
        assert_eq!(fs::read(path.join(IDENTITY)).unwrap(), before);
    }

    #[test]
    fn a_folder_in_use_is_refused_until_it_is_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let first = Folder::open(&path, &identity("alpha", 1)).unwrap();
        let second = Folder::open(&path, &identity("alpha", 1)).unwrap_err();
        assert_eq!(second, Error::InUse { path: path.clone() });
        assert!(second.to_string().contains("another fairpostd uses this folder"));
        drop(first);
        Folder::open(&path, &identity("alpha", 1)).unwrap();
    }

    #[test]
    fn databases_without_an_identity_are_not_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let folder = Folder::open(&path, &identity("alpha", 1)).unwrap();
        drop(folder.database(Store::Log, &[], &Memory::new(1 << 20)).unwrap());
        drop(folder);
        fs::remove_file(path.join(IDENTITY)).unwrap();
        let refused = Folder::open(&path, &identity("alpha", 1)).unwrap_err();
        assert_eq!(refused, Error::NoIdentity { path: path.clone(), file: IDENTITY });
        assert!(!path.join(IDENTITY).exists());
    }

    #[test]
    fn a_newer_format_is_named_and_damage_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        drop(Folder::open(&path, &identity("alpha", 1)).unwrap());
        fs::write(path.join(IDENTITY), br#"{"format": 2, "shape": "unknown"}"#).unwrap();
        let newer = Folder::open(&path, &identity("alpha", 1)).unwrap_err();
        assert_eq!(newer, Error::Format { path: path.clone(), expected: 1, found: 2 });
        for damaged in ["", "{", r#"{"format":1,"node":"alpha","cluster":"00"}"#] {
            fs::write(path.join(IDENTITY), damaged).unwrap();
            let refused = Folder::open(&path, &identity("alpha", 1)).unwrap_err();
            assert!(matches!(refused, Error::Corrupt { .. }), "{damaged}: {refused}");
        }
    }
}
