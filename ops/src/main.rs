//! `fairpostctl`: the operators' command.

mod arguments;
mod setup;

use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::anyhow;
use arguments::{Bench, Blame, Ca, Command, Config, Format, Node};
use clap::Parser as _;
use fairpost_ops::operator::{self, Operator};
use fairpost_ops::settings::{self, Settings};
use fairpost_ops::{bench, blame, ceremony, init, proposal, status};
use fairpost_proto::misconduct;
use fairpost_proto::terms::Address;
use fairpost_proto::trust::Trust;
use fairpost_proto::view::View;

/// `EX_USAGE` of sysexits.h.
const USAGE: u8 = 64;
/// `EX_TEMPFAIL` of sysexits.h.
const AGAIN: u8 = 75;
/// Evidence does not hold.
const INVALID: u8 = 4;
/// Something is wrong with the cluster.
const DEGRADED: u8 = 2;

fn main() -> ExitCode {
    let arguments = match arguments::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { USAGE } else { 0 };
            // If nobody reads the message, there is nobody to tell.
            let _ = error.print();
            return code.into();
        }
    };
    match run(arguments.command) {
        Ok(code) => code,
        Err(error) => {
            // Without the chain of causes: every error's own text has what it needs of them.
            // If nobody reads it, there is nobody to tell: `eprintln!` would panic.
            let _ = writeln!(io::stderr(), "fairpostctl: {error}");
            match error.downcast_ref::<init::Error>() {
                Some(error) if error.is_usage() => return USAGE.into(),
                _ => {}
            }
            match error.downcast_ref::<ceremony::Error>() {
                Some(ceremony::Error::Waiting { .. }) => return AGAIN.into(),
                Some(ceremony::Error::NoMember { .. }) => return USAGE.into(),
                _ => {}
            }
            if let Some(proposal::Error::Proposal(_)) = error.downcast_ref::<proposal::Error>() {
                return USAGE.into();
            }
            if error.is::<Usage>() {
                return USAGE.into();
            }
            match error.downcast_ref::<bench::Error>() {
                Some(bench::Error::Unreached { .. }) => AGAIN.into(),
                Some(bench::Error::NotReady { .. }) => DEGRADED.into(),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Init(arguments) => setup::init(&arguments),
        Command::Node(verb) => setup::node(verb),
        Command::Operator(verb) => setup::operator(verb),
        Command::Proposal(verb) => setup::proposal(verb),
        Command::Key(verb) => setup::key(verb),
        Command::Ca(command) => authority(command),
        Command::Status { cluster, format } => {
            let report = ask(&cluster)?;
            print(&match format {
                Format::Table => status::table(&report),
                Format::Json => json(&report)?,
            })?;
            Ok(report.state.exit_code().into())
        }
        Command::Health { cluster } => {
            let report = ask(&cluster)?;
            print(&format!("{}\n", status::line(&report)))?;
            Ok(report.state.exit_code().into())
        }
        Command::Blame(command) => blamed(command),
        Command::Refusals { cluster, format } => refusals(&cluster, format),
        Command::Bench(arguments) => measure(&arguments),
        Command::Config(command) => configuration(command),
    }
}

fn authority(command: Ca) -> anyhow::Result<ExitCode> {
    match command {
        Ca::Init { dir, name } => {
            fairpost::ca::init(&dir, &name, operator::now())?;
            print(&format!("{}\n", dir.join("ca.crt").display()))?;
        }
        Ca::Issue { ca, address, csr, days } => {
            let request =
                std::fs::read_to_string(&csr).map_err(|error| anyhow!("{}: {error}", csr.display()))?;
            print(&fairpost::ca::issue(&ca, &Address::parse(&address)?, &request, days, operator::now())?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn ask(node: &Node) -> anyhow::Result<status::Report> {
    let trust = settings::read_trust(&node.cluster())?;
    let operator = Operator::open(&node.operator())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let probes = runtime.block_on(status::probe(&operator, trust.view(), node.patience()));
    Ok(status::Report::new(trust.view(), &probes))
}

fn blamed(command: Blame) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        Blame::List { cluster, format } => {
            let (trust, operator) =
                (settings::read_trust(&cluster.cluster())?, Operator::open(&cluster.operator())?);
            let asking = blame::ask(&operator, trust.view(), None, cluster.patience());
            let said = runtime.block_on(asking);
            let report = blame::Report::new(trust.view(), &said);
            print(&match format {
                Format::Table => blame::table(&report),
                Format::Json => json(&report)?,
            })?;
            Ok(if report.blames.is_empty() { reached(&said) } else { DEGRADED.into() })
        }
        Blame::Export { cluster, member } => {
            let (trust, operator) =
                (settings::read_trust(&cluster.cluster())?, Operator::open(&cluster.operator())?);
            known(&trust, &member)?;
            let asking = blame::ask(&operator, trust.view(), Some(&member), cluster.patience());
            let said = runtime.block_on(asking);
            let Some((proof, conviction)) = blame::proof_against(&trust, &member, &said) else {
                if said.iter().all(|(_, answer)| answer.is_err()) {
                    writeln!(io::stderr(), "fairpostctl: nobody answered")?;
                    return Ok(AGAIN.into());
                }
                return Err(anyhow!("no node that answered has a proof that convicts {member}"));
            };
            let misconduct::Conviction { culprit, subject, .. } = conviction;
            writeln!(io::stderr(), "convicts {culprit}: {subject}")?;
            io::stdout().write_all(&proof)?;
            Ok(ExitCode::SUCCESS)
        }
        // Without --yes the arguments are refused.
        Blame::Clear { cluster, member, yes: _, cluster_name } => {
            let (trust, operator) =
                (settings::read_trust(&cluster.cluster())?, Operator::open(&cluster.operator())?);
            let name = trust.view_of(0).and_then(View::cluster_name).unwrap_or_default();
            if name != cluster_name {
                return Err(Usage(format!(
                    "this cluster is {name:?}, not {cluster_name:?}: nothing was cleared"
                ))
                .into());
            }
            known(&trust, &member)?;
            let clearing = blame::clear(&operator, trust.view(), &member, cluster.patience());
            let said = runtime.block_on(clearing);
            print(&blame::cleared(&member, &said))?;
            Ok(reached(&said))
        }
    }
}

fn refusals(node: &Node, format: Format) -> anyhow::Result<ExitCode> {
    let (trust, operator) = (settings::read_trust(&node.cluster())?, Operator::open(&node.operator())?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let said = runtime.block_on(blame::refusals(&operator, trust.view(), node.patience()));
    let report = blame::Refusals::new(trust.view(), &said);
    print(&match format {
        Format::Table => blame::refusals_table(&report),
        Format::Json => json(&report)?,
    })?;
    Ok(reached(&said))
}

/// That the view has a member of this name.
fn known(trust: &Trust, member: &str) -> anyhow::Result<()> {
    if trust.view().member_by_name(member).is_some() {
        return Ok(());
    }
    Err(Usage(format!("there is no member {member:?}")).into())
}

/// What it says about the nodes that all, some or none of them answered.
fn reached<T>(said: &[blame::Said<T>]) -> ExitCode {
    let silent = said.iter().filter(|(_, answer)| answer.is_err()).count();
    match silent {
        0 => ExitCode::SUCCESS,
        all if all == said.len() => AGAIN.into(),
        _ => DEGRADED.into(),
    }
}

/// The command was used wrongly.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

fn measure(arguments: &Bench) -> anyhow::Result<ExitCode> {
    let trust = settings::read_trust(&arguments.cluster.cluster())?;
    let operator = Operator::open(&arguments.cluster.operator())?;
    let report = bench::run(&arguments.options(), &operator, &trust, progress());
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
    print(&match (report?, arguments.format) {
        (report, Format::Table) => bench::table(&report),
        (report, Format::Json) => json(&report)?,
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Shows on a terminal how far the bench is.
fn progress() -> bench::Progress {
    if !io::stderr().is_terminal() {
        return Arc::new(|_, _, _| {});
    }
    Arc::new(|what, done, all| match done.saturating_mul(100).checked_div(all) {
        Some(percent) => eprint!("\r\x1b[K{what}: {} %", percent.min(100)),
        None => eprint!("\r\x1b[K{what}"),
    })
}

fn configuration(command: Config) -> anyhow::Result<ExitCode> {
    match command {
        Config::Show { config, effective, format } => {
            let variables: Vec<String> =
                std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
            let settings = Settings::read(&config, &variables)?;
            print(&match format {
                Format::Table => settings.table(effective),
                Format::Json => json(&settings)?,
            })?;
        }
        Config::Validate { config } => {
            let valid = settings::validate(&config)?;
            print(&format!("{}: node {} is ready to start\n", config.display(), valid.name))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn json<T: serde::Serialize>(value: &T) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// Writes to standard output. Whoever closed it, as `head` does, has seen enough.
fn print(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
