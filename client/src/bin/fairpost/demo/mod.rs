//! placeholder
use crate::exit::Exit;
/// Demo
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  fairpost demo")]
pub(crate) struct Demo {}
impl Demo {
    pub(crate) fn run(self) -> anyhow::Result<Exit> {
        Ok(Exit::Yes)
    }
}
