//! How long a synced write takes on the nodes' disk.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long it is measured.
const BUDGET: Duration = Duration::from_millis(750);
/// How often it is measured at least.
const LEAST: usize = 10;

/// The disk can't be measured.
#[derive(Debug, thiserror::Error)]
#[error("can't measure the disk in {folder}: {source}")]
pub struct Error {
    folder: PathBuf,
    source: io::Error,
}

/// Seconds that each of many writes took: so many bytes at the end of a new file in `folder`, and `fdatasync`. That is
/// how the databases write their logs. The file is gone afterwards.
pub(super) fn syncs(folder: &Path, bytes: usize) -> Result<Vec<f64>, Error> {
    measure(folder, bytes).map_err(|source| Error { folder: folder.to_owned(), source })
}

fn measure(folder: &Path, bytes: usize) -> io::Result<Vec<f64>> {
    let path = folder.join(format!(".bench-{}", std::process::id()));
    let mut file = File::options().write(true).create_new(true).open(&path)?;
    // Without a name it can't be left behind.
    std::fs::remove_file(&path)?;
    let record = vec![0x5a; bytes];
    let (begin, mut samples) = (Instant::now(), Vec::new());
    while samples.len() < LEAST || begin.elapsed() < BUDGET {
        let started = Instant::now();
        file.write_all(&record)?;
        file.sync_data()?;
        samples.push(started.elapsed().as_secs_f64());
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_measured_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        assert!(syncs(folder.path(), 4096).unwrap().len() >= LEAST);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let missing = folder.path().join("missing");
        assert!(syncs(&missing, 1).unwrap_err().to_string().contains("missing"));
    }
}
