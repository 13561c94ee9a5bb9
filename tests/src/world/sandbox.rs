//! Namespaces of a test's own: network, mounts and processes.
//!
//! # Specification
//!
//! A scenario runs in a process of its own: this very executable once more, for that one test, under `unshare`. There
//! it may add interfaces, mount file systems and start processes at will: nothing of it is seen outside, and the kernel
//! takes all of it away when that process ends, however it ends. So a test that panics or is killed leaves nothing behind,
//! and there is nothing to clean up at the next start.
//!
//! # Relies on
//!
//! Root, `unshare`, `setpriv` and `mount` (util-linux), `ip` (iproute2), and `/dev/net/tun`.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, bail, ensure};

/// Set in the process inside.
const INSIDE: &str = "FAIRPOST_SANDBOX";
/// Set this by hand to 1 where no namespaces can be had; the tests that need them then do nothing, and say so.
const NONE: &str = "FAIRPOST_NO_NETNS";
/// Where a sandbox has its files: nothing is ever there outside of one.
const SCRATCH: &str = "/tmp/fairpost-sandbox";
/// How much memory the files may take.
const SCRATCH_SIZE: &str = "size=6g";

/// Scenarios measure time: one after the other.
static ONE: Mutex<()> = Mutex::new(());

/// Runs `scenario` in a sandbox, if this process is not in one already. `test` is the test's full name.
///
/// # Panics
///
/// If the scenario fails, or no sandbox can be had.
#[allow(clippy::panic, reason = "a test fails by panicking")]
pub fn sandboxed(test: &str, scenario: impl Future<Output = anyhow::Result<()>>) {
    if std::env::var_os(INSIDE).is_some() {
        if let Err(error) = inside(scenario) {
            panic!("{error:#}");
        }
        return;
    }
    if std::env::var(NONE).is_ok_and(|set| set == "1") {
        println!("{test}: NOT RUN, because {NONE}=1 is set");
        return;
    }
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = outside(test) {
        panic!("{error:#}");
    }
}

/// The test's full name, as libtest knows it, from a module path and a function's name.
pub fn full_name(module: &str, function: &str) -> String {
    match module.split_once("::") {
        Some((_, module)) => format!("{module}::{function}"),
        None => function.to_owned(),
    }
}

fn outside(test: &str) -> anyhow::Result<()> {
    for tool in ["setpriv", "unshare", "mount", "ip"] {
        let found = Command::new(tool).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
        found.with_context(|| format!("{tool} is missing; `tools/setup test` installs it"))?;
    }
    ensure!(
        Path::new("/dev/net/tun").exists(),
        "there is no /dev/net/tun: this kernel gives no TUN devices; {NONE}=1 leaves these tests out"
    );
    let unshare = ["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let try_it = Command::new("unshare").args(unshare).arg("true").output()?;
    ensure!(
        try_it.status.success(),
        "no namespaces can be had here (root is needed): {}; {NONE}=1 leaves these tests out",
        String::from_utf8_lossy(&try_it.stderr)
    );
    std::fs::create_dir_all(SCRATCH)?;
    // The sandbox dies with this process.
    let ended = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare"])
        .args(unshare)
        .arg(std::env::current_exe()?)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .env("RUST_BACKTRACE", "0")
        .env("TMPDIR", SCRATCH)
        .status()?;
    ensure!(ended.success(), "{test} failed: {ended}; what it said stands above");
    Ok(())
}

fn inside(scenario: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    // libfaketime's shared memory is named by process id, and ids are this sandbox's own.
    for (place, options) in [(SCRATCH, SCRATCH_SIZE), ("/dev/shm", "size=64m")] {
        command("mount", ["-t", "tmpfs", "-o", options, "none", place])?;
    }
    std::fs::create_dir_all("/run/netns")?;
    command("mount", ["-t", "tmpfs", "none", "/run/netns"])?;
    command("ip", ["link", "set", "lo", "up"])?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(scenario)
}

/// Runs a command to its end, which must be a success; gives what it wrote to standard output.
pub fn command<'a>(name: &str, arguments: impl IntoIterator<Item = &'a str>) -> anyhow::Result<String> {
    let mut command = Command::new(name);
    command.args(arguments).stdin(Stdio::null());
    let ended =
        command.output().with_context(|| format!("{name} is missing; `tools/setup test` installs it"))?;
    if !ended.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&ended.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
}

/// The folder where what a failed test leaves is kept: beside the executables.
pub fn kept() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.ancestors().nth(3).unwrap_or(Path::new(".")).join("faults")
}
