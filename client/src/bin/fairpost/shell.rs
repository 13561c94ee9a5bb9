//! `fairpost completions` and `man`: for packagers and shells.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};

use crate::Arguments;
use crate::exit::Exit;
use crate::show::print;

/// Print completions for a shell.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  fairpost completions bash > /etc/bash_completion.d/fairpost")]
pub(crate) struct Completions {
    /// Which shell.
    shell: clap_complete::Shell,
}

impl Completions {
    pub(crate) fn run(self) -> anyhow::Result<Exit> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "fairpost", &mut script);
        print(&String::from_utf8(script)?)?;
        Ok(Exit::Yes)
    }
}

/// Write a man page for each verb.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  fairpost man --out /usr/local/share/man/man1")]
pub(crate) struct Man {
    /// The folder for the pages.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Man {
    pub(crate) fn run(self) -> anyhow::Result<Exit> {
        clap_mangen::generate_to(Arguments::command(), &self.out)
            .with_context(|| self.out.display().to_string())?;
        Ok(Exit::Yes)
    }
}
