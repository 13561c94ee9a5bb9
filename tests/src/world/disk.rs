//! A disk of a node's own, which can be full, break, hang and be repaired.
//!
//! # Specification
//!
//! An ext4 file system in a file, on a loop device, mounted at the node's data folder.
//!
//! - **Full**: a file takes all the room that is left.
//! - **Broken**: the file system meets an error and turns read-only at once, under the writers' feet, as it does
//!   when a real disk fails (`errors=remount-ro`, set off through `/sys`). A plain `mount -o remount,ro` would not: the
//!   kernel refuses it while files are open for writing. Repaired by `e2fsck` and a new mount.
//! - **Slow**: the file system is frozen and thawed in turns (`fsfreeze`): every write and sync waits. This needs neither a
//!   device mapper nor control groups.
//!
//! Whoever writes to a frozen file system waits until it is thawed, even for its own end when it is killed. So whatever else is
//! done to a disk thaws it first.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::sandbox::command;

/// A disk, mounted.
pub struct Disk {
    image: PathBuf,
    point: PathBuf,
    device: String,
    frozen: bool,
}

impl Disk {
    /// Makes a disk of so many MiB and mounts it at `point`, a new folder.
    pub fn make(image: &Path, point: &Path, mebibytes: u64) -> anyhow::Result<Self> {
        fs::File::create_new(image)?.set_len(mebibytes << 20)?;
        // No blocks are reserved for root: full is full.
        let options = ["-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-J", "size=4"];
        command("mkfs.ext4", options.into_iter().chain([text(image)?]))?;
        fs::create_dir(point)?;
        let (image, point) = (image.to_owned(), point.to_owned());
        let mut disk = Self { image, point, device: String::new(), frozen: false };
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&mut self) -> anyhow::Result<()> {
        command("mount", ["-o", "loop,errors=remount-ro", text(&self.image)?, text(&self.point)?])?;
        let source = command("findmnt", ["-n", "-o", "SOURCE", "--mountpoint", text(&self.point)?])?;
        source.trim().trim_start_matches("/dev/").clone_into(&mut self.device);
        Ok(())
    }

    fn ballast(&self) -> PathBuf {
        self.point.join("ballast")
    }

    /// Leaves no room but so many bytes. RocksDB reserves room for its logs, and a node that runs goes on in that: so no
    /// process may use it, and what one had reserved is given back first.
    pub fn fill_but(&mut self, left: u64) -> anyhow::Result<()> {
        self.thaw()?;
        give_back(&self.point)?;
        let spare = self.point.join("spare");
        command("fallocate", ["-l", &left.to_string(), text(&spare)?])?;
        self.fill()?;
        Ok(fs::remove_file(spare)?)
    }

    /// Leaves no room.
    pub fn fill(&mut self) -> anyhow::Result<()> {
        self.thaw()?;
        let ballast = self.ballast();
        let mut length = 0_u64;
        // Large steps first, then what is left.
        for step in [16 << 20, 1 << 20, 64 << 10, 4 << 10] {
            loop {
                let range = [format!("{length}"), format!("{step}")];
                let [offset, step_text] = &range;
                let taken = command("fallocate", ["-o", offset, "-l", step_text, text(&ballast)?]);
                if taken.is_err() {
                    break;
                }
                length += step;
            }
        }
        command("sync", ["-f", text(&self.point)?])?;
        Ok(())
    }

    /// Gives the room back.
    pub fn free(&mut self) -> anyhow::Result<()> {
        self.thaw()?;
        Ok(fs::remove_file(self.ballast())?)
    }

    /// Turns read-only because of an error.
    pub fn fail(&mut self) -> anyhow::Result<()> {
        self.thaw()?;
        let trigger = format!("/sys/fs/ext4/{}/trigger_fs_error", self.device);
        fs::write(&trigger, "a test wants it").with_context(|| trigger)
    }

    /// Checks and mounts anew. No process may use it.
    pub fn repair(&mut self) -> anyhow::Result<()> {
        self.thaw()?;
        command("umount", [text(&self.point)?])?;
        // Exit 1 means "errors were corrected".
        let checked = std::process::Command::new("e2fsck").args(["-f", "-y"]).arg(&self.image).output()?;
        anyhow::ensure!(checked.status.code().is_some_and(|code| code <= 1), "e2fsck: {checked:?}");
        self.mount()
    }

    /// Has every write and sync wait.
    pub fn freeze(&mut self) -> anyhow::Result<()> {
        if !self.frozen {
            command("fsfreeze", ["-f", text(&self.point)?])?;
            self.frozen = true;
        }
        Ok(())
    }

    /// Lets them go on.
    pub fn thaw(&mut self) -> anyhow::Result<()> {
        if self.frozen {
            command("fsfreeze", ["-u", text(&self.point)?])?;
            self.frozen = false;
        }
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A frozen file system would outlive its sandbox.
        let _ = self.thaw();
    }
}

/// Gives back what files have reserved beyond their ends.
fn give_back(folder: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
        if kind.is_dir() {
            give_back(&path)?;
        } else if kind.is_file() {
            let file = fs::File::options().write(true).open(&path)?;
            file.set_len(file.metadata()?.len())?;
        }
    }
    Ok(())
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path that is no text")
}
