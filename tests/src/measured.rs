//! Commands that read and write files or pipes of any size, and how much memory they take.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::binary;

/// How often the process is looked at.
const OFTEN: Duration = Duration::from_millis(2);
/// How long it may take. It may have gigabytes to do.
const PATIENCE: Duration = Duration::from_secs(300);

/// How a command ended that was measured.
#[derive(Debug)]
pub struct Measured {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard error.
    pub err: String,
    /// The most memory that it held, in bytes (proc(5), VmHWM); 0 if it ended before it was looked at.
    pub peak: u64,
}

/// Runs a command of ours with standard input from `input` and standard output to `output`: as files, or, with `pipes`,
/// through pipes.
pub fn measure<A: AsRef<OsStr>>(
    name: &str,
    arguments: impl IntoIterator<Item = A>,
    input: &Path,
    output: &Path,
    pipes: bool,
) -> anyhow::Result<Measured> {
    let (mut input, mut output) = (File::open(input)?, File::create(output)?);
    let mut command = Command::new(binary(name));
    command.args(arguments).stderr(Stdio::piped());
    if pipes {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
    } else {
        command.stdin(input.try_clone()?).stdout(output.try_clone()?);
    }
    let mut process = command.spawn()?;
    let (stdin, stdout, stderr) = (process.stdin.take(), process.stdout.take(), process.stderr.take());
    let status = format!("/proc/{}/status", process.id());
    std::thread::scope(|scope| {
        // Whoever has read enough closes its end.
        scope.spawn(move || stdin.map(|mut stdin| io::copy(&mut input, &mut stdin)));
        let copied = scope.spawn(move || stdout.map(|mut stdout| io::copy(&mut stdout, &mut output)));
        let said = scope.spawn(move || stderr.map(io::read_to_string));
        let (mut peak, started, mut killed) = (0, Instant::now(), false);
        // The kernel keeps the highest mark, so that only what comes after the last look is missed.
        let code = loop {
            peak = peak.max(high_water_mark(&status).unwrap_or(0));
            if let Some(ended) = process.try_wait()? {
                break ended.code();
            }
            if started.elapsed() > PATIENCE && !killed {
                eprintln!("{name} had not ended after {PATIENCE:?} and is killed");
                process.kill()?;
                killed = true;
            }
            std::thread::sleep(OFTEN);
        };
        if let Some(copied) = copied.join().ok().flatten() {
            copied.context("standard output")?;
        }
        let err = said.join().ok().flatten().context("standard error")??;
        Ok(Measured { code, err, peak })
    })
}

fn high_water_mark(status: &str) -> Option<u64> {
    let status = std::fs::read_to_string(status).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}
