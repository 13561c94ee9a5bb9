//! `fairpostd`: runs a node.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use fairpost_node::config::Config;
use fairpost_node::server;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A Fairpost server: one of several that decide certified-mail exchanges together.
#[derive(Parser)]
#[command(version, after_help = "Example:\n  fairpostd run --config /etc/fairpost/n1/fairpostd.toml")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run until SIGTERM or SIGINT.
    #[command(after_help = "Example:\n  fairpostd run --config n1/fairpostd.toml --log info,openraft=warn")]
    Run {
        /// The configuration file; its relative paths are relative to its folder.
        #[arg(long, env = "FAIRPOSTD_CONFIG", value_name = "FILE")]
        config: PathBuf,
        /// What to log: a level, or levels by part.
        #[arg(long, env = "FAIRPOSTD_LOG", default_value = "info,openraft=warn", value_name = "FILTER")]
        log: String,
        /// How to log: for people or for programs.
        #[arg(long, env = "FAIRPOSTD_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
        log_format: LogFormat,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    /// Lines of text.
    Text,
    /// One JSON object a line.
    Json,
}

/// How many tasks a thread runs before it looks at sockets and timers again. With tokio's 61, whoever keeps a node busy with
/// many small tasks keeps what others send from being seen.
const TASKS: u32 = 7;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let usage = error.use_stderr();
            let _ = error.print();
            // sysexits: EX_USAGE. Asking for help is no error.
            return if usage { ExitCode::from(64) } else { ExitCode::SUCCESS };
        }
    };
    let Command::Run { config, log, log_format } = arguments.command;
    match start(config, &log, log_format) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "fairpostd: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(config: PathBuf, log: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(log)?;
    // Whoever reads the log may go away: that must not panic the task that logs.
    let logs = tracing_subscriber::fmt().log_internal_errors(false);
    let logs = logs.with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => logs.with_ansi(false).init(),
        LogFormat::Json => logs.json().init(),
    }
    let config = Config::load(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().event_interval(TASKS).build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        Ok(server::run(config, stop).await?)
    })
}
