//! `fairpost withdraw`, `status` and `proof`.

use anyhow::bail;
use clap::Args;
use fairpost::client::Disclosure;
use fairpost_proto::ids::Verdict;
use serde::Serialize;

use crate::exit::Exit;
use crate::files::{Exchange, Output, block_on};
use crate::show::{Form, VERSION, meaning, names, print, table, word};

/// Call off a mail that you sent, if it is still undecided.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  fairpost withdraw --identity anna.id --cluster cluster.trust sealed.eml")]
pub(crate) struct Withdraw {
    #[command(flatten)]
    exchange: Exchange,
}

impl Withdraw {
    pub(crate) fn run(self) -> anyhow::Result<Exit> {
        let outcome = block_on(async {
            let at = self.exchange.load()?;
            Ok(at.client.withdraw(&at.identity, &at.mail).await?)
        })?;
        stands(outcome.verdict, Verdict::Withdrawn)
    }
}

/// Prints the verdict that stands; it is an error if another was asked for.
pub(crate) fn stands(verdict: Verdict, wanted: Verdict) -> anyhow::Result<Exit> {
    if verdict != wanted {
        bail!("too late for that. Verdict: {verdict}: {}", meaning(verdict));
    }
    print(&format!("{verdict}: {}\n", meaning(verdict)))?;
    Ok(Exit::Yes)
}

/// Show the verdict on a mail that you sent or got.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  fairpost status --identity anna.id --cluster cluster.trust sealed.eml")]
pub(crate) struct Status {
    #[command(flatten)]
    exchange: Exchange,
    #[command(flatten)]
    form: Form,
}

/// The JSON form of `fairpost status`.
#[derive(Serialize)]
struct Standing {
    version: u32,
    exchange: String,
    verdict: String,
    meaning: &'static str,
    expires: String,
}

impl Status {
    pub(crate) fn run(self) -> anyhow::Result<Exit> {
        let standing = block_on(async {
            let at = self.exchange.load()?;
            let outcome = at.client.status(&at.identity, &at.mail).await?;
            let verdict = outcome.map(|outcome| outcome.verdict);
            Ok(Standing {
                version: VERSION,
                exchange: at.mail.exchange().to_string(),
                verdict: word(verdict),
                meaning: verdict.map_or("no verdict yet", meaning),
                expires: at.mail.terms().expires.to_string(),
            })
        })?;
        self.form.print(&standing, |standing| {
            table(&[
                ("Verdict", format!("{}: {}", standing.verdict, standing.meaning)),
                ("Deadline", standing.expires.clone()),
                ("Exchange", standing.exchange.clone()),
            ])
        })?;
        Ok(Exit::Yes)
    }
}

/// Get the proof of the verdict, whatever it is: for anybody who has the cluster's trust file.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  fairpost proof --identity anna.id --cluster cluster.trust sealed.eml > proof"
)]
pub(crate) struct MakeProof {
    #[command(flatten)]
    exchange: Exchange,
    /// Prove that the mail was accepted, without what lets the proof's readers open it (CMP2).
    #[arg(long)]
    without_content: bool,
    #[command(flatten)]
    output: Output,
}

impl MakeProof {
    pub(crate) fn run(self) -> anyhow::Result<Exit> {
        self.output.not_to_a_terminal()?;
        let disclosure = if self.without_content { Disclosure::Acceptance } else { Disclosure::Content };
        let (proof, report) = block_on(async {
            let at = self.exchange.load()?;
            Ok(at.client.proof(&at.identity, &at.mail, disclosure).await?)
        })?;
        self.output.write(&mut proof.to_bytes().as_slice())?;
        let voters = names(&report.voters);
        say!("Proof of: {}, recorded at {}, voted for by {voters}.", report.verdict, report.time);
        Ok(Exit::Yes)
    }
}
