//! From arguments to keys, mails and clients, and from results to files.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use fairpost::client::{Client, Options};
use fairpost::identity::Identity;
use fairpost::sealed_mail::SealedMail;
use fairpost::spool::Spool;
use fairpost::trust::{self, Trust};
use fairpost_proto::ids::Span;

use crate::exit::Usage;

/// Who asks.
#[derive(Debug, Args)]
pub(crate) struct Who {
    /// Your identity.
    #[arg(long, value_name = "FILE", env = "FAIRPOST_IDENTITY")]
    identity: PathBuf,
}

impl Who {
    pub(crate) fn load(&self) -> anyhow::Result<Identity> {
        Identity::load(&self.identity).with_context(|| self.identity.display().to_string())
    }
}

/// Which cluster.
#[derive(Debug, Args)]
pub(crate) struct Cluster {
    /// The cluster's trust file, from a source that you trust.
    #[arg(long, value_name = "FILE", env = "FAIRPOST_CLUSTER")]
    cluster: PathBuf,
}

impl Cluster {
    pub(crate) fn load(&self) -> anyhow::Result<Trust> {
        load_trust(&self.cluster)
    }
}

pub(crate) fn load_trust(path: &Path) -> anyhow::Result<Trust> {
    trust::load(path).with_context(|| path.display().to_string())
}

/// A sealed mail, and whom to ask about it in whose name.
#[derive(Debug, Args)]
pub(crate) struct Exchange {
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    cluster: Cluster,
    /// How long to try, over all nodes: 30s, 2m.
    #[arg(long, value_name = "TIME", default_value = "30s", env = "FAIRPOST_TIMEOUT", value_parser = span)]
    timeout: Span,
    /// The sealed mail, or the sealed attachment alone; - or nothing for standard input.
    #[arg(value_name = "SEALED", default_value = "-")]
    pub(crate) mail: PathBuf,
}

/// What [`Exchange`] names, read.
pub(crate) struct Opened {
    pub(crate) identity: Identity,
    pub(crate) client: Client,
    pub(crate) mail: SealedMail,
}

impl Exchange {
    /// Reads all of it. To be called in a Tokio runtime.
    pub(crate) fn load(&self) -> anyhow::Result<Opened> {
        let (identity, trust) = (self.who.load()?, self.cluster.load()?);
        let deadline = Duration::from_millis(self.timeout.millis());
        let client = Client::new(trust, Options { deadline, ..Options::default() })?;
        Ok(Opened { identity, client, mail: sealed_mail(&self.mail)? })
    }
}

/// Reads a sealed mail from a file or standard input.
pub(crate) fn sealed_mail(path: &Path) -> anyhow::Result<SealedMail> {
    let input = open(path)?;
    SealedMail::read(input).with_context(|| named(path))
}

/// A file, or standard input for `-`.
pub(crate) fn open(path: &Path) -> anyhow::Result<Box<dyn Read>> {
    if is_stdin(path) {
        if io::stdin().is_terminal() {
            say!("fairpost: reading from standard input; end with Ctrl-D");
        }
        return Ok(Box::new(io::stdin().lock()));
    }
    Ok(Box::new(File::open(path).with_context(|| named(path))?))
}

/// The largest card, or file of certificates, that is read at all.
const MAX_TEXT: u64 = 256 * 1024;

/// A card or certificates, which may stand in some other text.
pub(crate) fn read_text(path: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_TEXT + 1).read_to_end(&mut bytes))
        .with_context(|| named(path))?;
    if bytes.len() as u64 > MAX_TEXT {
        bail!("{}: more than {MAX_TEXT} bytes, which is no card and no certificate", named(path));
    }
    // A mail around it may be in any character set; what counts is ASCII.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The same, to be read as often as one likes.
pub(crate) fn open_twice(path: &Path) -> anyhow::Result<Box<dyn ReadSeek>> {
    if !is_stdin(path) {
        let file = File::open(path).with_context(|| named(path))?;
        if file.metadata().with_context(|| named(path))?.is_file() {
            return Ok(Box::new(io::BufReader::new(file)));
        }
    }
    Ok(Box::new(Spool::of(open(path)?).with_context(|| named(path))?))
}

/// [`Read`] and [`Seek`].
pub(crate) trait ReadSeek: Read + Seek {}
impl<T: Read + Seek> ReadSeek for T {}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

fn named(path: &Path) -> String {
    if is_stdin(path) { "standard input".to_owned() } else { path.display().to_string() }
}

/// Where a result goes.
#[derive(Debug, Args)]
pub(crate) struct Output {
    /// Write to this file instead of standard output: whole, or not at all.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Output {
    /// Writes all of `result`.
    pub(crate) fn write(&self, result: &mut impl Read) -> anyhow::Result<()> {
        let Some(path) = &self.output else {
            let mut out = io::stdout().lock();
            io::copy(result, &mut out).and_then(|_| out.flush()).context("standard output")?;
            return Ok(());
        };
        replace(path, result)
    }

    /// For what no terminal can show: complains before anything is done.
    pub(crate) fn not_to_a_terminal(&self) -> anyhow::Result<()> {
        if self.output.is_none() && io::stdout().is_terminal() {
            let message = "this is not for a terminal: give --output FILE, or redirect standard output";
            return Err(Usage(message.to_owned()).into());
        }
        Ok(())
    }
}

/// Writes a file that only its owner may read, in one step.
pub(crate) fn replace(path: &Path, content: &mut impl Read) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = tempfile::NamedTempFile::new_in(folder).and_then(|mut file| {
        io::copy(content, &mut file)?;
        file.as_file().sync_all()?;
        Ok(file.persist(path)?)
    });
    written.with_context(|| path.display().to_string())?;
    Ok(())
}

/// A length of time: a number and s, m, h or d.
pub(crate) fn span(text: &str) -> Result<Span, String> {
    let expected =
        || format!("{text:?} is no length of time; expected a number and s, m, h or d, such as 12h");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(expected)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(expected()),
    };
    // A century is more than any of this will take.
    let number = number.parse::<u64>().ok().filter(|number| *number > 0).ok_or_else(expected)?;
    let total = number.checked_mul(seconds).filter(|total| *total <= 100 * 366 * 86_400);
    total.map(Span::from_seconds).ok_or_else(expected)
}

/// Runs what waits for the network.
pub(crate) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_have_a_unit() {
        for (text, seconds) in [("90s", 90), ("5m", 300), ("12h", 43_200), ("3d", 259_200)] {
            assert_eq!(span(text), Ok(Span::from_seconds(seconds)));
        }
        for bad in [
            "",
            "d",
            "3",
            "-1d",
            "0s",
            "1w",
            "1.5h",
            "3 d",
            "99999999999999999999d",
            "36600000d",
            "5µ",
            "1дн",
        ] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }
}
