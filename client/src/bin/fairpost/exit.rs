//! Exit codes, and which error has which.

use std::process::ExitCode;

use fairpost::client;
use fairpost::sealed_mail;
use fairpost_proto::{evidence, misconduct, proof, verify};

/// The codes, for `--help`.
pub(crate) const HELP: &str = "Exit codes: 0 yes, 1 error, 3 no quorum, 4 evidence invalid, 5 valid but content not \
                               shown, 64 wrong usage, 75 nobody reached: try again.";

/// How the command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done; or the answer is yes.
    Yes = 0,
    /// Not done; standard error says why.
    Error = 1,
    /// The cluster was reached, and has no quorum just now.
    NoQuorum = 3,
    /// Evidence does not hold.
    Invalid = 4,
    /// A proof holds, and what the mail says was not shown.
    NotShown = 5,
    /// The command was not understood (`EX_USAGE` of sysexits.h).
    Usage = 64,
    /// No node was reached (`EX_TEMPFAIL`).
    TryAgain = 75,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        (exit as u8).into()
    }
}

/// A command line that clap lets pass, and that makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// An error and its causes, each said once: most of ours repeat their cause in their own words.
pub(crate) fn text(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| match text.as_str() {
        "" => cause,
        said if said.contains(&cause) => text,
        _ => format!("{text}: {cause}"),
    })
}

/// The code for an error.
pub(crate) fn of(error: &anyhow::Error) -> Exit {
    for cause in error.chain() {
        if cause.is::<Usage>() {
            return Exit::Usage;
        }
        if cause.is::<verify::Error>()
            || cause.is::<proof::Error>()
            || cause.is::<evidence::Error>()
            || cause.is::<misconduct::Error>()
        {
            return Exit::Invalid;
        }
        if let Some(error) = cause.downcast_ref::<client::Error>() {
            return of_client(error);
        }
        if let Some(error) = cause.downcast_ref::<sealed_mail::Error>() {
            return match error {
                sealed_mail::Error::Mail(_) | sealed_mail::Error::Io(_) => Exit::Error,
                _ => Exit::Invalid,
            };
        }
    }
    Exit::Error
}

const fn of_client(error: &client::Error) -> Exit {
    match error {
        client::Error::NotReached { .. } => Exit::TryAgain,
        client::Error::NoQuorum { .. }
        | client::Error::NotEnough { .. }
        | client::Error::TooFewShares { .. } => Exit::NoQuorum,
        client::Error::Evidence(_)
        | client::Error::Sealed(_)
        | client::Error::Fraud(_)
        | client::Error::OtherNro { .. } => Exit::Invalid,
        _ => Exit::Error,
    }
}
