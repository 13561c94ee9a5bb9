//! Python with the example's libraries, in the target folder. Everything has a time after which it is killed.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use fairpost_proto::ids::Digest;
use fairpost_tests::Ended;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::OnceCell;

/// Fetching and unpacking the libraries, once for each list of them.
const INSTALL: Duration = Duration::from_secs(300);
/// Anything else.
const RUN: Duration = Duration::from_secs(120);

/// The repository.
pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn example() -> PathBuf {
    root().join("client/python")
}

/// The example, ready to run.
pub(super) struct Python {
    interpreter: PathBuf,
    stubs: TempDir,
}

impl Python {
    /// Makes what is needed, once for all tests.
    pub(super) async fn ready() -> Self {
        static INTERPRETER: OnceCell<PathBuf> = OnceCell::const_new();
        let interpreter = INTERPRETER.get_or_init(environment).await.clone();
        let stubs = tempfile::tempdir().unwrap();
        let mut protoc = command(&interpreter);
        protoc.args(["-m", "grpc_tools.protoc", "-I"]).arg(root().join("proto/api"));
        for kind in ["python_out", "grpc_python_out"] {
            protoc.arg(format!("--{kind}={}", stubs.path().display()));
        }
        done("making the stubs", protoc.arg("fairpost/v1/exchange.proto"), RUN).await;
        Self { interpreter, stubs }
    }

    /// Runs Python with these arguments, in this folder; a script's name is one of the example's.
    pub(super) async fn run(&self, words: &[&OsStr], folder: &Path) -> Ended {
        let path = std::env::join_paths([self.stubs.path().to_owned(), example()]).unwrap();
        let mut python = command(&self.interpreter);
        python.env("PYTHONPATH", path).current_dir(folder);
        for word in words {
            let script = Path::new(word).extension() == Some("py".as_ref());
            if script {
                python.arg(example().join(word))
            } else {
                python.arg(word)
            };
        }
        limited("the Python example", &mut python, RUN).await
    }

    /// Runs a command of the example, and expects this exit code. Gives standard output.
    pub(super) async fn example(&self, code: i32, line: &str, folder: &Path) -> Vec<u8> {
        let words = ["-m", "fairpost_example"].into_iter().chain(line.split_whitespace());
        let words: Vec<&OsStr> = words.map(OsStr::new).collect();
        let ended = self.run(&words, folder).await;
        assert_eq!(ended.code, Some(code), "{line}: {}", ended.err);
        // An error is a line for people, and no trace.
        assert!(!ended.err.contains("Traceback"), "{line}: {}", ended.err);
        ended.out
    }
}

/// The interpreter of an environment with the libraries in requirements.txt. It is made beside its place and moved there:
/// so it is whole, or not there.
async fn environment() -> PathBuf {
    let requirements = example().join("requirements.txt");
    let asked = done("asking Python its version", command("python3").args(["-VV"]), RUN).await;
    let list = fs::read(&requirements).unwrap();
    let digest = Digest::of_parts(&[&list, &asked]).to_string();
    let own = std::env::current_exe().unwrap();
    let target = own.ancestors().nth(3).unwrap().join("python");
    let place = target.join(digest.get(..16).unwrap());
    let interpreter = place.join("bin/python");
    if interpreter.exists() {
        return interpreter;
    }
    fs::create_dir_all(&target).unwrap();
    let new = tempfile::tempdir_in(&target).unwrap();
    let folder = new.path().join("environment");
    let what = "python3 -m venv (on Debian it takes the package python3-venv; tools/setup test installs it)";
    done(what, command("python3").args(["-m", "venv"]).arg(&folder), RUN).await;
    let mut pip = command(folder.join("bin/python"));
    // Wheels only: nothing is compiled here.
    pip.args(["-m", "pip", "install", "--quiet", "--only-binary", ":all:", "--no-input"]);
    pip.args(["--disable-pip-version-check", "--retries", "2", "--timeout", "20", "-r"]).arg(&requirements);
    done("installing the Python example's libraries with pip", &mut pip, INSTALL).await;
    // Another process may have been faster; its environment is as good.
    if let Err(error) = fs::rename(&folder, &place) {
        assert!(interpreter.exists(), "{}: {error}", place.display());
    }
    interpreter
}

/// A command in a process group of its own, which reads nothing.
fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env_remove("PYTHONPATH").env_remove("PYTHONHOME").env("PYTHONDONTWRITEBYTECODE", "1");
    command.process_group(0).kill_on_drop(true);
    command
}

/// Runs it to its end, which must be a good one. Gives standard output.
async fn done(what: &str, command: &mut Command, limit: Duration) -> Vec<u8> {
    let ended = limited(what, command, limit).await;
    assert_eq!(ended.code, Some(0), "{what} failed: {}{}", String::from_utf8_lossy(&ended.out), ended.err);
    ended.out
}

/// Runs it to its end. When the time is over it is killed with all that it started, and the test fails.
async fn limited(what: &str, command: &mut Command, limit: Duration) -> Ended {
    let process = command.spawn().unwrap_or_else(|error| panic!("{what}: {error}"));
    let group = process.id().unwrap();
    match tokio::time::timeout(limit, process.wait_with_output()).await {
        Ok(output) => {
            let output = output.unwrap();
            let err = String::from_utf8_lossy(&output.stderr).into_owned();
            Ended { code: output.status.code(), out: output.stdout, err }
        }
        Err(_elapsed) => {
            let _ = std::process::Command::new("kill").args(["-KILL", "--", &format!("-{group}")]).status();
            panic!("{what} took longer than {} s, and was killed", limit.as_secs())
        }
    }
}
