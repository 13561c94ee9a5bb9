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

#[cfg(test)]
mod tests {
    use super::super::testing::{self, begin, state};
    use super::*;
    use crate::membership::share_file;
    use crate::testing::World;

    /// Where the first member has its files.
    fn here(folder: &Path) -> (Config, Paths) {
        let config: Config = toml::from_str("name = 'n1'\nlisten = '127.0.0.1:1'").unwrap();
        let file = |name| folder.join(name);
        let config = Config { data: file("data"), trust: file("trust"), share: file("share"), ..config };
        let paths = Paths::new(&config);
        fs::create_dir_all(&paths.log).unwrap();
        (config, paths)
    }

    /// A finished ceremony, and what each member kept.
    fn finished(world: &World) -> (State, Vec<Kept>) {
        let mut state = state(world, "ours");
        begin(&mut state, world);
        let kept = testing::finish(&mut state, world);
        (state, kept)
    }

    #[test]
    fn each_file_is_there_before_the_next_and_what_was_kept_goes_last() {
        let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
        let (state, kept) = finished(&world);
        let (config, paths) = here(folder.path());
        kept::File::new(paths.kept.clone()).put(&kept[0]).unwrap();
        let nowhere = || folder.path().join("nowhere").join("file");
        let there = || {
            let files = [&config.share, &paths.transcript, &config.trust, &paths.kept];
            files.map(|path| path.exists())
        };
        let fails = |config: &Config, paths: &Paths| {
            assert!(finish(config, paths, &state, Some(&kept[0])).is_err());
        };
        // As if it had been stopped right before each of them.
        fails(&Config { share: nowhere(), ..config.clone() }, &paths);
        assert_eq!(there(), [false, false, false, true]);
        fails(&config, &Paths { transcript: nowhere(), ..paths.clone() });
        assert_eq!(there(), [true, false, false, true]);
        fails(&Config { trust: nowhere(), ..config.clone() }, &paths);
        assert_eq!(there(), [true, true, false, true]);
        // A node that starts then needs no more than the transcript.
        complete(&config, &paths).unwrap();
        assert_eq!(there(), [true, true, true, false]);
        let trust = finish(&config, &paths, &state, Some(&kept[0])).unwrap();
        assert_eq!(there(), [true, true, true, false]);
        let text = fs::read_to_string(&config.trust).unwrap();
        let written = Trust::parse(&armor::decode(armor::TRUST, &text).unwrap()).unwrap();
        assert_eq!(written.cluster(), trust.cluster());
        ShareFile::open(&config.share, trust.view(), "n1").unwrap();
        remove_log(&paths).unwrap();
        assert!(!paths.log.exists());
        remove_log(&paths).unwrap();
    }

    #[test]
    fn a_share_that_does_not_match_ends_it_and_what_was_kept_stays() {
        let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
        let (state, kept) = finished(&world);
        let (config, paths) = here(folder.path());
        kept::File::new(paths.kept.clone()).put(&kept[1]).unwrap();
        let refused = finish(&config, &paths, &state, Some(&kept[1]));
        assert!(matches!(refused, Err(Error::Secret(share_file::Error::Mismatch { .. }))), "{refused:?}");
        assert!(!paths.transcript.exists() && !config.trust.exists() && paths.kept.exists());
    }

    #[test]
    fn another_clusters_trust_file_stays_as_it_is_and_an_unfinished_ceremony_makes_none() {
        let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
        let (state, kept) = finished(&world);
        let (config, paths) = here(folder.path());
        for other in [armor::encode(armor::TRUST, &world.trust().to_bytes()), "no trust file".to_owned()] {
            fs::write(&config.trust, &other).unwrap();
            let refused = finish(&config, &paths, &state, Some(&kept[0]));
            assert!(matches!(refused, Err(Error::OtherTrust { .. })), "{refused:?}");
            assert_eq!(fs::read_to_string(&config.trust).unwrap(), other);
            assert!(!config.share.exists() && !paths.transcript.exists());
        }
        fs::remove_file(&config.trust).unwrap();
        let mut unfinished = testing::state(&world, "ours");
        begin(&mut unfinished, &world);
        let refused = finish(&config, &paths, &unfinished, Some(&kept[0]));
        assert!(matches!(refused, Err(Error::Transcript(_))), "{refused:?}");
        assert!(!config.share.exists() && !paths.transcript.exists() && !config.trust.exists());
    }
}
