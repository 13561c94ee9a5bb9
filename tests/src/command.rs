//! Commands that run to their end.

use std::ffi::OsStr;
use std::process::{Child, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::cluster::PATIENCE;
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

/// Waits for a command's end and for what it writes into its pipes. One that does not end in time is killed, and an error.
pub fn ended(process: Child) -> anyhow::Result<Output> {
    ended_in(process, PATIENCE)
}

fn ended_in(process: Child, limit: Duration) -> anyhow::Result<Output> {
    let (id, (over, is_over)) = (process.id(), channel::<()>());
    // Until it was waited for, its id is no other's.
    let guard = std::thread::spawn(move || {
        let late = is_over.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
        if late {
            let _ = std::process::Command::new("kill").args(["-KILL", &id.to_string()]).status();
        }
        late
    });
    let output = process.wait_with_output();
    drop(over);
    if guard.join().unwrap_or(true) {
        bail!("process {id} had not ended after {limit:?}: {output:?}");
    }
    Ok(output?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str) -> Child {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", line]).stdout(Stdio::piped()).spawn().unwrap()
    }

    #[test]
    fn a_command_that_does_not_end_is_killed() {
        let output = ended_in(shell("echo said"), PATIENCE).unwrap();
        assert_eq!((output.stdout.as_slice(), output.status.code()), (&b"said\n"[..], Some(0)));
        let error = ended_in(shell("exec sleep 1000"), Duration::from_millis(50)).unwrap_err().to_string();
        assert!(error.contains("had not ended after 50ms"), "{error}");
    }
}
