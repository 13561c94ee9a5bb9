//! A node's own clock, moved while it runs, by libfaketime.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The clock that the processes see which run with its [`Clock::environment`]. Only the time of day moves, not the clock that
/// measures how long something takes.
pub struct Clock {
    file: PathBuf,
    library: PathBuf,
}

impl Clock {
    /// A clock that is right, kept in this file.
    pub fn make(file: &Path) -> anyhow::Result<Self> {
        let folders = fs::read_dir("/usr/lib")?.filter_map(|entry| Some(entry.ok()?.path()));
        let library = folders
            .map(|folder| folder.join("faketime/libfaketimeMT.so.1"))
            .find(|library| library.is_file())
            .context("libfaketime is missing; `tools/setup test` installs it (Debian: faketime)")?;
        let clock = Self { file: file.to_owned(), library };
        clock.set(0)?;
        Ok(clock)
    }

    /// What to start a process with.
    pub fn environment(&self) -> Vec<(OsString, OsString)> {
        let set = |name: &str, value: &Path| (OsString::from(name), value.as_os_str().to_owned());
        vec![
            set("LD_PRELOAD", &self.library),
            set("FAKETIME_TIMESTAMP_FILE", &self.file),
            set("FAKETIME_NO_CACHE", Path::new("1")),
            set("FAKETIME_DONT_FAKE_MONOTONIC", Path::new("1")),
            set("DONT_FAKE_MONOTONIC", Path::new("1")),
        ]
    }

    /// Sets it ahead of the true time by so many milliseconds, or behind.
    pub fn set(&self, millis: i64) -> anyhow::Result<()> {
        let new = self.file.with_extension("new");
        let sign = if millis < 0 { '-' } else { '+' };
        let millis = millis.unsigned_abs();
        fs::write(&new, format!("{sign}{}.{:03}\n", millis / 1000, millis % 1000))?;
        Ok(fs::rename(new, &self.file)?)
    }
}
