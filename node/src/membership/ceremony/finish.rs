//! The end of a ceremony: what it made goes where a node of the cluster looks for it.
//!
//! # Specification
//!
//! Share, transcript, trust file, in this order, each synced before the next; then what was kept is destroyed. As long as
//! the transcript is not there, the ceremony is not over, and all of this is done again.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use fairpost_proto::armor;
use fairpost_proto::ceremony::{Kept, Transcript};
use fairpost_proto::trust::Trust;
use tracing::{info, warn};

use super::machine::State;
use super::{Error, Paths, kept};
use crate::config::Config;
use crate::membership::ShareFile;

/// Writes it all. Gives the trust.
///
/// # Errors
///
/// If the transcript of this state is not that of a finished ceremony, the share does not match the genesis, another
/// cluster's trust file is in the way, or a file can't be written.
pub fn finish(config: &Config, paths: &Paths, state: &State, kept: Option<&Kept>) -> Result<Trust, Error> {
    let (_, trust) = state.transcript.check()?;
    let view = trust.view();
    if let Ok(text) = fs::read_to_string(&config.trust) {
        let found = armor::decode(armor::TRUST, &text).ok().and_then(|bytes| Trust::parse(&bytes).ok());
        if found.is_none_or(|found| found.cluster() != trust.cluster()) {
            return Err(Error::OtherTrust { path: config.trust.clone() });
        }
    }
    match kept.and_then(Kept::share) {
        Some(share) => {
            ShareFile::create(&config.share, view, &config.name, &share)?;
            // It checks the share against the commitment.
            ShareFile::open(&config.share, view, &config.name)?;
        }
        None => warn!("the ceremony went on without this node: it has no share, and signs nothing"),
    }
    write(&paths.transcript, &state.transcript.to_bytes())?;
    complete(config, paths)?;
    info!(cluster = %trust.cluster(), "the key ceremony is done");
    Ok(trust)
}

/// What follows from a transcript, as far as a crash has left it undone: the trust file is there, and what was kept is
/// not. Where there is no transcript, it does nothing.
///
/// # Errors
///
/// If the transcript does not hold, or a file can't be written or removed.
pub fn complete(config: &Config, paths: &Paths) -> Result<(), Error> {
    if !paths.transcript.exists() {
        return Ok(());
    }
    if !config.trust.exists() {
        let io = |source| Error::Io { path: paths.transcript.clone(), source };
        let transcript = Transcript::parse(&fs::read(&paths.transcript).map_err(io)?)?;
        let (_, trust) = transcript.check()?;
        write(&config.trust, armor::encode(armor::TRUST, &trust.to_bytes()).as_bytes())?;
    }
    kept::File::new(paths.kept.clone()).erase()
}

/// Removes the log of a finished ceremony; it must not be in use any more.
///
/// # Errors
///
/// If it can't be removed.
pub fn remove_log(paths: &Paths) -> Result<(), Error> {
    match fs::remove_dir_all(&paths.log) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            Err(Error::Io { path: paths.log.clone(), source })
        }
        _ => Ok(()),
    }
}

/// Writes a public file so that after a crash it is there whole, or not at all. Several nodes of one machine may write the
/// same one.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let new = folder.join(name);
    let writing = || {
        let mut file = fs::File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        fs::File::open(folder)?.sync_all()
    };
    writing().map_err(|source| Error::Io { path: path.to_owned(), source })
}
