//! `fairpost demo`: the whole story on a cluster of its own, told to somebody who has never heard of it.
//!
//! [`story`] is the tale; [`scene`] runs the commands of it, as a user would, and holds what they do against what was
//! expected; [`nodes`] are the servers' processes; [`mail`] is the mail that is sent.
//!
//! # Guarantees
//!
//! Every process that the demo starts ends with it: by its end, by an error, by a panic, by Ctrl-C or SIGTERM
//! ([`nodes::Nodes`]'s `Drop`, which runs in all these cases because signals end the story and not the process).

mod mail;
mod nodes;
mod scene;
mod story;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Exit;
use crate::files::block_on;

/// See it all happen: starts four servers on this machine, and sends certified mails through them.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  fairpost demo --dir /tmp/fairpost-demo\n\n\
                        Needs fairpostd and fairpostctl beside this program. Exits with 0 if all went as it should, and \
                        with 1 if anything did not; then its files stay, and it says where.")]
pub(crate) struct Demo {
    /// Where all files go, and stay; it must be empty, or not exist [default: a temporary folder, removed at the end].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Demo {
    pub(crate) fn run(self) -> anyhow::Result<Exit> {
        let (folder, temporary) = match self.dir {
            Some(folder) => (empty(&folder)?, None),
            None => {
                let folder = tempfile::Builder::new().prefix("fairpost-demo-").tempdir()?;
                (folder.path().to_owned(), Some(folder))
            }
        };
        let told = block_on(async {
            let (mut interrupt, mut terminate) =
                (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
            tokio::select! {
                told = Box::pin(story::tell(&folder)) => told.map(|()| true),
                _ = interrupt.recv() => Ok(false),
                _ = terminate.recv() => Ok(false),
            }
        });
        match (told, temporary) {
            (Ok(true), _) => Ok(Exit::Yes),
            (Ok(false), _) => bail!("the demo was interrupted; its servers have been stopped"),
            (Err(error), temporary) => {
                if let Some(temporary) = temporary {
                    let path = temporary.keep();
                    say!("\nAll files of the demo, the servers' logs among them, are in {}.", path.display());
                }
                Err(error.context("the demo did not go as it should"))
            }
        }
    }
}

/// The folder, made if it is missing.
fn empty(folder: &Path) -> anyhow::Result<PathBuf> {
    let named = || folder.display().to_string();
    std::fs::create_dir_all(folder).with_context(named)?;
    if std::fs::read_dir(folder).with_context(named)?.next().is_some() {
        bail!("{} is not empty; choose another folder, or remove this one first", folder.display());
    }
    folder.canonicalize().with_context(named)
}
