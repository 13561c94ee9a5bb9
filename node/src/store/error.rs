use std::io;
use std::path::{Path, PathBuf};

use fairpost_proto::ids::ClusterId;

/// Why the store cannot go on. It can be cloned, because one failed write fails everything queued behind it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another process has the folder open.
    #[error(
        "{} is in use: another fairpostd uses this folder; stop it, or give this node a folder of its own",
        path.display()
    )]
    InUse {
        /// The folder, or the database in it.
        path: PathBuf,
    },
    /// The file system does not let this user write.
    #[error("cannot write to {}: {reason}; let the user that runs fairpostd write there", path.display())]
    NotWritable {
        /// What could not be written.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The file system is read-only: mounted so, or turned so by an error of the disk.
    #[error(
        "the disk of {} is read-only: {reason}; see why (an error of the disk turns its file system read-only: check it), \
         make it writable and start this node again", path.display()
    )]
    ReadOnly {
        /// What could not be written.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// No space is left.
    #[error("the disk of {} is full: {reason}; free some space and start this node again", path.display())]
    DiskFull {
        /// What could not be written.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// What is on disk is not what was written.
    #[error(
        "{} is damaged: {reason}; check the disk, and do not start this node from an older copy of it",
        path.display()
    )]
    Corrupt {
        /// The damaged database or file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The folder was made by another node.
    #[error(
        "{} is the data folder of node {found}, not of {expected}; nothing was changed",
        path.display()
    )]
    OtherNode {
        /// The folder.
        path: PathBuf,
        /// The name that this node goes by.
        expected: String,
        /// The name in the folder.
        found: String,
    },
    /// The folder was made in another cluster.
    #[error(
        "{} is a data folder of cluster {found}, not of {expected}; nothing was changed",
        path.display()
    )]
    OtherCluster {
        /// The folder.
        path: PathBuf,
        /// This node's cluster.
        expected: ClusterId,
        /// The cluster in the folder.
        found: ClusterId,
    },
    /// The folder has a layout that this build does not know.
    #[error(
        "{} has format {found}, this fairpostd knows {expected}: use the version that wrote it, or a newer one",
        path.display()
    )]
    Format {
        /// The folder.
        path: PathBuf,
        /// The format of this build.
        expected: u32,
        /// The format in the folder.
        found: u32,
    },
    /// There are databases, but not the file that says whose they are.
    #[error(
        "{} holds databases but no {file}: it is not whole, restore that file or use an empty folder",
        path.display()
    )]
    NoIdentity {
        /// The folder.
        path: PathBuf,
        /// The missing file.
        file: &'static str,
    },
    /// Any other failure of the file system or of RocksDB.
    #[error("{}: {reason}", path.display())]
    Failed {
        /// What was worked on.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The database was opened without this column.
    #[error("{} has no column {column}: this is a fault in fairpostd", path.display())]
    NoColumn {
        /// The database.
        path: PathBuf,
        /// The column asked for.
        column: &'static str,
    },
    /// The writer was closed: the node is shutting down.
    #[error("the {store} database takes no more writes: this node is shutting down")]
    Closed {
        /// Its name.
        store: &'static str,
    },
    /// The writer's thread ended by a panic.
    #[error("the thread that writes the {store} database broke down; this node has to stop")]
    Panicked {
        /// Its name.
        store: &'static str,
    },
}

impl Error {
    /// What a failed call to the operating system means for `path`.
    pub(super) fn io(path: &Path, error: &io::Error) -> Self {
        let (path, reason) = (path.to_owned(), error.to_string());
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::NotWritable { path, reason },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path, reason },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path, reason },
            _ => Self::Failed { path, reason },
        }
    }

    /// What an error of RocksDB means for the database at `path`.
    ///
    /// RocksDB hands the system's error on as text only, so it is told apart by the text of `strerror`.
    pub(super) fn rocksdb(path: &Path, error: &rocksdb::Error) -> Self {
        let (path, reason) = (path.to_owned(), error.to_string());
        let says = |text: &str| reason.contains(text);
        if says("No space left on device") || says("Disk quota exceeded") {
            Self::DiskFull { path, reason }
        } else if says("Read-only file system") {
            Self::ReadOnly { path, reason }
        } else if says("Permission denied") {
            Self::NotWritable { path, reason }
        } else if says("lock hold by current process") || says("While lock file") {
            Self::InUse { path }
        } else if error.kind() == rocksdb::ErrorKind::Corruption {
            Self::Corrupt { path, reason }
        } else {
            Self::Failed { path, reason }
        }
    }
}
