//! `fairpost show`, `open` and `refuse`: what recipients do.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use fairpost::client::{self, Fraud, Opening};
use fairpost::identity::Identity;

use crate::exit::Exit;
use crate::files::{Exchange, Output, block_on, load_trust, replace, sealed_mail};
use crate::show::{Form, Letter, meaning};

/// Show who sent a sealed mail, what signing means, and until when. Signs nothing, asks nobody.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  fairpost show --cluster cluster.trust sealed.eml")]
pub(crate) struct Show {
    /// The cluster's trust file: to check that the sender is who it says.
    #[arg(long, value_name = "FILE", env = "FAIRPOST_CLUSTER")]
    cluster: Option<PathBuf>,
    /// Your identity: to check that the mail will open for you.
    #[arg(long, value_name = "FILE", env = "FAIRPOST_IDENTITY")]
    identity: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
    /// The sealed mail, or the sealed attachment alone; - or nothing for standard input.
    #[arg(value_name = "SEALED", default_value = "-")]
    mail: PathBuf,
}

impl Show {
    pub(crate) fn run(self) -> anyhow::Result<Exit> {
        let mail = sealed_mail(&self.mail)?;
        let mut letter = Letter::of(&mail);
        let mut faults: Vec<anyhow::Error> = Vec::new();
        if let Some(path) = &self.cluster {
            let checked = mail.check(&load_trust(path)?, fairpost::now());
            letter.sender_vouched_for = Some(checked.is_ok());
            faults.extend(checked.err().map(Into::into));
        }
        if let Some(path) = &self.identity {
            let identity = Identity::load(path).with_context(|| path.display().to_string())?;
            let lock = mail.lock_for(identity.sealing_key());
            letter.opens_for_you = Some(lock.is_ok());
            faults.extend(lock.err().map(|error| client::Error::from(error).into()));
        }
        self.form.print(&letter, Letter::table)?;
        faults.into_iter().next().map_or(Ok(Exit::Yes), Err)
    }
}

/// Accept a sealed mail: signs the receipt, and opens the mail. The sender then has proof that you got it.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  fairpost open --identity ben.id --cluster cluster.trust sealed.eml > mail.eml"
)]
pub(crate) struct Open {
    #[command(flatten)]
    exchange: Exchange,
    #[command(flatten)]
    output: Output,
    /// Where a proof of fraud goes if the sender sealed something else than it signed [default: SEALED.fraud].
    #[arg(long, value_name = "FILE")]
    fraud_proof: Option<PathBuf>,
}

impl Open {
    pub(crate) fn run(self) -> anyhow::Result<Exit> {
        let opened = block_on(async {
            let mut at = self.exchange.load()?;
            let terms = at.mail.terms();
            say!("Accepting the mail of {} to {}.", terms.sender.address, terms.recipient.address);
            Ok(at.client.open(&at.identity, &mut at.mail).await)
        })?;
        match opened {
            Ok(Opening::Opened { mut mail, length, .. }) => {
                self.output.write(&mut mail)?;
                say!(
                    "Your receipt is recorded, and the mail is open: {length} bytes, as the sender signed them."
                );
                Ok(Exit::Yes)
            }
            Ok(Opening::Shut(outcome)) => {
                bail!("the mail stays shut. Verdict: {}: {}", outcome.verdict, meaning(outcome.verdict))
            }
            Err(client::Error::Fraud(fraud)) => {
                keep(&fraud, &self.fraud_file());
                Err(client::Error::Fraud(fraud).into())
            }
            Err(other) => Err(other.into()),
        }
    }

    fn fraud_file(&self) -> PathBuf {
        let sealed = &self.exchange.mail;
        let beside = || {
            let name = if sealed == Path::new("-") { "sealed".into() } else { OsString::from(sealed) };
            PathBuf::from([name, ".fraud".into()].into_iter().collect::<OsString>())
        };
        self.fraud_proof.clone().unwrap_or_else(beside)
    }
}

/// Writes a proof of fraud, and says what to do with it.
fn keep(fraud: &Fraud, path: &Path) {
    let written = match &fraud.proof {
        Ok(proof) => replace(path, &mut proof.to_bytes().as_slice()).map_err(|error| format!("{error:#}")),
        Err(error) => Err(error.to_string()),
    };
    match written {
        Ok(()) => say!(
            "The mail is released, and does not open to what its sender signed. {path} proves that. Keep the sealed mail \
             with it: anybody can check both with\n  fairpost verify --cluster cluster.trust {path} --mail SEALED",
            path = path.display()
        ),
        Err(error) => say!(
            "The mail is released, and does not open to what its sender signed. No proof of that could be written \
             ({error}). Keep the sealed mail, and open it again to get the proof."
        ),
    }
}

/// Decline a sealed mail. The sender then has proof of that, and nobody can open the mail.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  fairpost refuse --identity ben.id --cluster cluster.trust sealed.eml")]
pub(crate) struct Refuse {
    #[command(flatten)]
    exchange: Exchange,
}

impl Refuse {
    pub(crate) fn run(self) -> anyhow::Result<Exit> {
        let outcome = block_on(async {
            let at = self.exchange.load()?;
            Ok(at.client.refuse(&at.identity, &at.mail).await?)
        })?;
        crate::ask::stands(outcome.verdict, fairpost_proto::ids::Verdict::Refused)
    }
}
