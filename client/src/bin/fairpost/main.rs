//! `fairpost`: the command of senders, recipients and judges.
//!
//! One file for each group of verbs; [`exit`] has the exit codes, [`files`] how arguments become keys, mails and
//! clients, [`show`] how things are shown. The verbs are thin: what they do is in the library.

/// Says something on standard error. If nobody reads it, there is nobody to tell: `eprintln!` would panic.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

mod ask;
mod demo;
mod exit;
mod files;
mod identity;
mod judge;
mod read;
mod shell;
mod show;
mod watch;
mod write;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use exit::Exit;

/// Certified mail: the recipient can read it if and only if the sender can prove that it was delivered.
#[derive(Debug, Parser)]
#[command(name = "fairpost", version, after_help = format!("Start here:\n  fairpost demo\n\n{}", exit::HELP))]
pub(crate) struct Arguments {
    /// Say on standard error what is going on.
    #[arg(short, long, global = true)]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make keys, get them certified, hand out a card.
    #[command(subcommand)]
    Identity(identity::Verb),
    Seal(write::Seal),
    Show(read::Show),
    Open(read::Open),
    Refuse(read::Refuse),
    Withdraw(ask::Withdraw),
    Status(ask::Status),
    Watch(watch::Watch),
    Proof(ask::MakeProof),
    Verify(judge::Verify),
    Demo(demo::Demo),
    Completions(shell::Completions),
    Man(shell::Man),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Yes };
            // If nobody reads the message, there is nobody to tell.
            let _ = error.print();
            return exit.into();
        }
    };
    let level = if arguments.verbose { tracing::Level::DEBUG } else { tracing::Level::ERROR };
    // Nor may the log panic when nobody reads it.
    let logs = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr);
    logs.log_internal_errors(false).init();
    match run(arguments.command) {
        Ok(exit) => exit.into(),
        Err(error) => {
            say!("fairpost: {}", exit::text(&error));
            exit::of(&error).into()
        }
    }
}

fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Identity(verb) => verb.run(),
        Command::Seal(verb) => verb.run(),
        Command::Show(verb) => verb.run(),
        Command::Open(verb) => verb.run(),
        Command::Refuse(verb) => verb.run(),
        Command::Withdraw(verb) => verb.run(),
        Command::Status(verb) => verb.run(),
        Command::Watch(verb) => verb.run(),
        Command::Proof(verb) => verb.run(),
        Command::Verify(verb) => verb.run(),
        Command::Demo(verb) => verb.run(),
        Command::Completions(verb) => verb.run(),
        Command::Man(verb) => verb.run(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_verb_has_an_example() {
        fn check(command: &clap::Command) {
            if command.get_subcommands().next().is_none() {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Example:\n  fairpost "), "{}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        Arguments::command().debug_assert();
        check(&Arguments::command());
    }
}
