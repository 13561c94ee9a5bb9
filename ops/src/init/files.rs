//! The files of something new. They go away again unless all of it was made.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::Error;

/// What was created, newest last.
pub(crate) struct Files {
    created: Vec<PathBuf>,
}

impl Files {
    /// For the folder `root`, which must be empty or not exist.
    pub(crate) fn in_empty(root: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { path: root.to_owned(), source };
        let mut files = Self { created: vec![] };
        if root.exists() {
            if let Some(found) = fs::read_dir(root).map_err(io)?.next() {
                let found = found.map_err(io)?.file_name().to_string_lossy().into_owned();
                return Err(Error::NotEmpty { folder: root.to_owned(), found });
            }
        } else {
            fs::create_dir_all(root).map_err(io)?;
            files.created.push(root.to_owned());
        }
        Ok(files)
    }

    /// Everything is made: let it stay.
    pub(crate) fn keep(mut self) {
        self.created.clear();
    }

    /// A new folder that only its owner may look into. Fails if it is there already.
    pub(crate) fn folder(&mut self, path: PathBuf) -> Result<PathBuf, Error> {
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|source| Error::Io { path: path.clone(), source })?;
        self.created.push(path.clone());
        Ok(path)
    }

    /// The path of a new file.
    pub(crate) fn file(&mut self, folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        self.created.push(path.clone());
        path
    }

    /// Writes a file that everybody may read.
    pub(crate) fn public(path: &Path, text: &str) -> Result<(), Error> {
        fs::write(path, text).map_err(|source| Error::Io { path: path.to_owned(), source })
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for path in self.created.iter().rev() {
            // Best effort: the error that brought us here is the one to report.
            let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
    }
}
