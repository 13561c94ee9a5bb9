//! The inputs that are kept: `tests/corpus/NAME/FILE`, for the target NAME.

use std::fs;
use std::path::{Path, PathBuf};

/// A file of a target's corpus.
pub(crate) struct File {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
}

impl File {
    /// That it was taken or refused as its name says.
    pub(crate) fn expects(&self, taken: bool) -> Result<(), String> {
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match taken {
            true if name.starts_with("refused") => Err("is taken, and should be refused".to_owned()),
            false if name.starts_with("valid") => Err("is refused, and should be taken".to_owned()),
            _ => Ok(()),
        }
    }
}

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(target)
}

/// All files of this target, by name.
pub(crate) fn read(target: &str) -> Result<Vec<File>, String> {
    let folder = folder(target);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(&folder).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort();
    paths.into_iter().map(|path| Ok(File { bytes: fs::read(&path).map_err(failed)?, path })).collect()
}

/// Keeps an input that broke a rule, so that the next run begins with it. Gives its path, if it could be written.
pub(crate) fn keep(target: &str, bytes: &[u8]) -> Option<PathBuf> {
    // FNV-1a: a name that is the same for the same bytes.
    let name = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    write(target, &format!("found-{name:016x}"), bytes)
}

/// Writes a file of a target's corpus.
pub(crate) fn write(target: &str, name: &str, bytes: &[u8]) -> Option<PathBuf> {
    let folder = folder(target);
    fs::create_dir_all(&folder).ok()?;
    let path = folder.join(name);
    fs::write(&path, bytes).ok()?;
    Some(path)
}
