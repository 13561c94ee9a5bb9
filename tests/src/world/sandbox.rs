//! Namespaces of a test's own: network, mounts and processes.
//!
//! # Specification
//!
//! A scenario runs in a process of its own: this very executable once more, for that one test, under `unshare`. There
//! it may add interfaces, mount file systems and start processes at will: nothing of it is seen outside, and the kernel
//! takes all of it away when that process ends, however it ends. So a test that panics or is killed leaves nothing behind,
//! and there is nothing to clean up at the next start.
//!
//! No scenario waits for ever: each has a limit. When it is over the scenario is dropped where it waits, and what a failed
//! scenario leaves is kept. If it does not even wait, but hangs, a thread of its own says so a little later, thaws what disks
//! are frozen (or the kernel could not end the processes that wait for them) and ends the process; and if that does not help,
//! the process outside goes on without it.
//!
//! # Relies on
//!
//! Root, `unshare`, `setpriv` and `mount` (util-linux), `ip` (iproute2), and `/dev/net/tun`.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::command::ended;

/// Set in the process inside.
const INSIDE: &str = "FAIRPOST_SANDBOX";
/// Set this by hand to 1 where no namespaces can be had; the tests that need them then do nothing, and say so.
const NONE: &str = "FAIRPOST_NO_NETNS";
/// Where a sandbox has its files: nothing is ever there outside of one.
const SCRATCH: &str = "/tmp/fairpost-sandbox";
/// How much memory the files may take.
const SCRATCH_SIZE: &str = "size=6g";

/// How much longer than its limit a scenario may take to clean up.
const GRACE: Duration = Duration::from_secs(40);
/// How often the process inside is looked at: only the machine's load would notice.
const OFTEN: Duration = Duration::from_millis(20);

/// Scenarios measure time: one after the other.
static ONE: Mutex<()> = Mutex::new(());

/// Runs `scenario` in a sandbox, if this process is not in one already. `test` is the test's full name.
///
/// # Panics
///
/// If the scenario fails or is not done within `limit`, or no sandbox can be had.
#[allow(clippy::panic, reason = "a test fails by panicking")]
pub fn sandboxed(test: &str, limit: Duration, scenario: impl Future<Output = anyhow::Result<()>>) {
    if std::env::var_os(INSIDE).is_some() {
        if let Err(error) = inside(test, limit, scenario) {
            panic!("{error:#}");
        }
        return;
    }
    if std::env::var(NONE).is_ok_and(|set| set == "1") {
        println!("{test}: NOT RUN, because {NONE}=1 is set");
        return;
    }
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = outside(test, limit) {
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

fn outside(test: &str, limit: Duration) -> anyhow::Result<()> {
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
    let mut sandbox = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare"])
        .args(unshare)
        .arg(std::env::current_exe()?)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .env("RUST_BACKTRACE", "0")
        .env("TMPDIR", SCRATCH)
        .spawn()?;
    // It ends itself before; this is for one that can't.
    let ended = within(&mut sandbox, limit + GRACE * 2)?;
    let ended = ended.with_context(|| format!("{test} hangs, and could not be ended; it had {limit:?}"))?;
    ensure!(ended.success(), "{test} failed: {ended}; what it said stands above");
    Ok(())
}

/// How a process ended; none if it had to be killed.
fn within(process: &mut Child, limit: Duration) -> anyhow::Result<Option<ExitStatus>> {
    let started = Instant::now();
    while started.elapsed() < limit {
        if let Some(ended) = process.try_wait()? {
            return Ok(Some(ended));
        }
        std::thread::sleep(OFTEN);
    }
    // Whether it can die is not waited for.
    process.kill()?;
    Ok(None)
}

/// Ends this process when it has hung for so long.
fn end_after(test: &str, limit: Duration) -> anyhow::Result<()> {
    let test = test.to_owned();
    std::thread::Builder::new().name("limit".into()).spawn(move || {
        std::thread::sleep(limit);
        eprintln!("{test} hangs: it was over {GRACE:?} ago and has not come to its end; what runs with it:");
        let _ = Command::new("ps").args(["-eo", "pid,stat,etimes,wchan:24,args"]).status();
        thaw_all();
        std::process::exit(1);
    })?;
    Ok(())
}

/// Thaws all disks of this sandbox.
fn thaw_all() {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    for point in points.filter(|point| Path::new(point).starts_with(SCRATCH) && *point != SCRATCH) {
        // One that is not frozen can't be thawed.
        let _ = Command::new("fsfreeze").args(["-u", point]).stderr(Stdio::null()).status();
    }
}

fn inside(
    test: &str,
    limit: Duration,
    scenario: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    end_after(test, limit + GRACE)?;
    // libfaketime's shared memory is named by process id, and ids are this sandbox's own.
    for (place, options) in [(SCRATCH, SCRATCH_SIZE), ("/dev/shm", "size=64m")] {
        command("mount", ["-t", "tmpfs", "-o", options, "none", place])?;
    }
    std::fs::create_dir_all("/run/netns")?;
    command("mount", ["-t", "tmpfs", "none", "/run/netns"])?;
    command("ip", ["link", "set", "lo", "up"])?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async { tokio::time::timeout(limit, scenario).await });
    // Not waited for: a thread of it may hang as well.
    runtime.shutdown_background();
    done.with_context(|| format!("it was not done after {limit:?}"))?
}

/// Runs a command to its end, which must be a success and come soon; gives what it wrote to standard output.
pub fn command<'a>(name: &str, arguments: impl IntoIterator<Item = &'a str>) -> anyhow::Result<String> {
    let mut command = Command::new(name);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started =
        command.spawn().with_context(|| format!("{name} is missing; `tools/setup test` installs it"))?;
    let ended = ended(started).with_context(|| format!("{command:?}"))?;
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
