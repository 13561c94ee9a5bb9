//! The data folder: whose it is, and that only one process uses it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use fairpost_proto::ids::ClusterId;
use serde::{Deserialize, Serialize};
use tracing::info;

use super::{Column, Database, Error, Memory, Store};

/// Held, locked, as long as the folder is in use.
const LOCK: &str = "lock";
/// Says whose folder it is.
const IDENTITY: &str = "node.json";
/// Says which of the ledger's databases is the ledger.
const LEDGER: &str = "ledger.json";
/// The layout that this build reads and writes.
const FORMAT: u32 = 3;

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

    /// Which generation of the ledger is the ledger: 1, until a snapshot has taken its place.
    pub(super) fn generation(&self) -> Result<u32, Error> {
        let path = self.path.join(LEDGER);
        let corrupt = |reason: String| Error::Corrupt { path: path.clone(), reason };
        match read_file(&path)? {
            None => Ok(1),
            Some(bytes) => match serde_json::from_slice(&bytes) {
                Ok(Current { generation: 0 }) => Err(corrupt("generation 0, expected 1 or more".into())),
                Ok(Current { generation }) => Ok(generation),
                Err(error) => Err(corrupt(error.to_string())),
            },
        }
    }

    /// Makes this generation the ledger, at once and for good.
    pub(super) fn set_generation(&self, generation: u32) -> Result<(), Error> {
        write_file(&self.path, LEDGER, &Current { generation })
    }

    /// Where a generation of the ledger lies.
    pub(super) fn ledger(&self, generation: u32) -> PathBuf {
        let name = Store::Ledger.name();
        self.path.join(if generation == 1 { name.to_owned() } else { format!("{name}-{generation}") })
    }

    /// Removes all generations of the ledger but this one: what is left of a snapshot that was not taken to its end, or
    /// of the ledger before it.
    pub(super) fn tidy(&self, current: u32) -> Result<(), Error> {
        let current = self.ledger(current);
        let fail = |error: io::Error| Error::io(&self.path, &error);
        for entry in fs::read_dir(&self.path).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let number = name.strip_prefix("ledger-").is_some_and(|number| number.parse::<u32>().is_ok());
            if (number || name == Store::Ledger.name()) && path != current {
                info!(path = %path.display(), "removing a ledger that is not in use");
                fs::remove_dir_all(&path).map_err(|error| Error::io(&path, &error))?;
            }
        }
        Ok(())
    }
}

/// The file that names the ledger.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Current {
    generation: u32,
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

fn read_file(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(path, &error)),
    }
}

fn read(folder: &Path) -> Result<Option<Stored>, Error> {
    let path = folder.join(IDENTITY);
    let Some(bytes) = read_file(&path)? else { return Ok(None) };
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

fn write(folder: &Path, identity: &Identity) -> Result<(), Error> {
    let stored =
        Stored { format: FORMAT, node: identity.node.clone(), cluster: identity.cluster.to_string() };
    write_file(folder, IDENTITY, &stored)
}

/// Writes a file so that after a crash it is there whole, or as it was before.
fn write_file(folder: &Path, name: &str, content: &impl Serialize) -> Result<(), Error> {
    let (path, new) = (folder.join(name), folder.join(format!("{name}.new")));
    let write = || -> io::Result<()> {
        let mut bytes = serde_json::to_vec_pretty(content)?;
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
        fs::write(path.join(IDENTITY), br#"{"format": 4, "shape": "unknown"}"#).unwrap();
        let newer = Folder::open(&path, &identity("alpha", 1)).unwrap_err();
        assert_eq!(newer, Error::Format { path: path.clone(), expected: 3, found: 4 });
        for damaged in ["", "{", r#"{"format":3,"node":"alpha","cluster":"00"}"#] {
            fs::write(path.join(IDENTITY), damaged).unwrap();
            let refused = Folder::open(&path, &identity("alpha", 1)).unwrap_err();
            assert!(matches!(refused, Error::Corrupt { .. }), "{damaged}: {refused}");
        }
    }
}
