//! Commands that run to their end.

use std::ffi::OsStr;
use std::process::Stdio;

use anyhow::Context as _;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::{binary, within};

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub out: Vec<u8>,
    /// What it wrote to standard error.
    pub err: String,
}

/// Runs a command of ours with this on its standard input. One that does not end in time is killed, and an error.
pub async fn run<A: AsRef<OsStr>>(
    name: &str,
    arguments: impl IntoIterator<Item = A>,
    input: &[u8],
) -> anyhow::Result<Ended> {
    let mut process = Command::new(binary(name))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = process.stdin.take().context("no standard input")?;
    let feed = async move {
        // Whoever has read enough closes its end.
        let _ = stdin.write_all(input).await;
    };
    let working = async { tokio::join!(process.wait_with_output(), feed).0 };
    let output = within(name, working).await??;
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(Ended { code: output.status.code(), out: output.stdout, err })
}
