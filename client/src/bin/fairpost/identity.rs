//! `fairpost identity …`

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;
use fairpost::ca;
use fairpost::identity::Identity;
use fairpost_proto::terms::Address;

use crate::exit::{Exit, Usage};
use crate::files::read_text;
use crate::show::print;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make new keys for an address. A certificate request goes to standard output, or, with --ca, a certificate into
    /// the identity at once.
    #[command(after_help = "Example:\n  fairpost identity new anna@example.org --out anna.id > anna.csr")]
    New {
        /// Your mail address.
        address: String,
        /// The file for the identity; it must not be there yet.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// A development CA, made by `fairpostctl ca init`, that certifies the keys at once.
        #[arg(long, value_name = "DIR")]
        ca: Option<PathBuf>,
        /// For how many days, with --ca.
        #[arg(long, default_value_t = 365, requires = "ca")]
        days: u32,
    },
    /// Print your card: what others need to write to you. It is public.
    #[command(after_help = "Example:\n  fairpost identity card anna.id > anna.card")]
    Card {
        /// Your identity.
        #[arg(env = "FAIRPOST_IDENTITY")]
        identity: PathBuf,
    },
    /// Put the certificate that a CA has issued into your identity.
    #[command(after_help = "Example:\n  fairpost identity install anna.id anna.crt")]
    Install {
        /// Your identity.
        identity: PathBuf,
        /// The certificate and, below it, its issuers' up to the trust anchor, in PEM.
        certificate: PathBuf,
    },
}

impl Verb {
    pub(crate) fn run(self) -> anyhow::Result<Exit> {
        let now = fairpost::now();
        match self {
            Self::New { address, out, ca, days } => {
                let address = Address::parse(&address).map_err(|error| Usage(error.to_string()))?;
                let mut identity = Identity::generate(address);
                let request = match ca {
                    Some(folder) => {
                        let key = identity.verifying_key();
                        let certificate = ca::issue_for_key(&folder, identity.address(), &key, days, now)?;
                        identity.install(&certificate, now)?;
                        None
                    }
                    None => Some(identity.request_csr()?),
                };
                identity.create(&out)?;
                say!("Wrote {}: it is secret, keep it safe.", out.display());
                if let Some(request) = request {
                    print(&request)?;
                }
            }
            Self::Card { identity } => {
                let card = Identity::load(&identity).and_then(|identity| identity.card(now));
                print(&card.with_context(|| identity.display().to_string())?)?;
            }
            Self::Install { identity, certificate } => {
                let mut held = Identity::load(&identity).with_context(|| identity.display().to_string())?;
                let text = read_text(&certificate)?;
                held.install(&text, now).with_context(|| certificate.display().to_string())?;
                held.save(&identity)?;
                say!("{} is certified for {}.", identity.display(), held.address());
            }
        }
        Ok(Exit::Yes)
    }
}
