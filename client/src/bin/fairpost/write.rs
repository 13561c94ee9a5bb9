//! `fairpost seal`

use std::io::{BufReader, BufWriter, Seek as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use fairpost::card::Card;
use fairpost::mail::{self, Cover};
use fairpost::seal::{self, Sealed};
use fairpost::spool::Spool;
use fairpost_proto::ids::{Protocol, Span, Timestamp};

use crate::exit::Exit;
use crate::files::{Cluster, Output, Who, open_twice, read_text, span};

/// Seal a mail: the recipient can open it only by signing a receipt.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  fairpost seal --identity anna.id --to ben.card --cluster cluster.trust mail.eml > sealed.eml"
)]
pub(crate) struct Seal {
    #[command(flatten)]
    who: Who,
    /// The recipient's card.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    #[command(flatten)]
    cluster: Cluster,
    /// Who can read the mail once it is released.
    #[arg(long, value_enum, default_value_t, env = "FAIRPOST_PROTOCOL")]
    protocol: Choice,
    /// How long the recipient has to accept: 90s, 5m, 12h, 3d.
    #[arg(long, value_name = "TIME", default_value = "3d", env = "FAIRPOST_EXPIRES", value_parser = span)]
    expires: Span,
    /// Write the sealed part alone, not a mail around it.
    #[arg(long)]
    bare: bool,
    #[command(flatten)]
    output: Output,
    /// The mail (RFC 5322), headers and all; - or nothing for standard input.
    #[arg(default_value = "-")]
    mail: PathBuf,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Choice {
    /// Whoever holds the sealed mail and the cluster's token.
    Cmp1,
    /// The recipient and the sender, with the cluster's token. Not the cluster.
    #[default]
    Cmp2,
}

impl Seal {
    pub(crate) fn run(self) -> anyhow::Result<Exit> {
        if self.bare {
            self.output.not_to_a_terminal()?;
        }
        let (identity, trust) = (self.who.load()?, self.cluster.load()?);
        let to = || self.to.display().to_string();
        let card = read_text(&self.to)?;
        let card = Card::parse(&card).with_context(to)?;
        let protocol = match self.protocol {
            Choice::Cmp1 => Protocol::Cmp1,
            Choice::Cmp2 => Protocol::Cmp2,
        };
        let now = fairpost::now();
        let options = seal::Options { protocol, lifetime: self.expires, now };
        let mut part = Spool::new()?;
        let mail = open_twice(&self.mail)?;
        let sealed = seal::seal(&identity, &card, &trust, options, mail, BufWriter::new(&mut part))?;
        part.rewind()?;
        if self.bare {
            self.output.write(&mut part)?;
        } else {
            self.output.write(&mut pack(&sealed, part, now)?)?;
        }
        let (to, expires) = (&sealed.terms.recipient.address, sealed.terms.expires);
        say!(
            "Sealed for {to} under {protocol}; to be accepted before {expires}. Exchange {}.",
            sealed.exchange
        );
        Ok(Exit::Yes)
    }
}

/// The mail around the sealed part.
fn pack(sealed: &Sealed, part: Spool, now: Timestamp) -> anyhow::Result<Spool> {
    let terms = &sealed.terms;
    let domain = terms.sender.address.as_str().rsplit_once('@').map_or("invalid", |(_, domain)| domain);
    let cover = Cover {
        from: &terms.sender.address,
        to: &terms.recipient.address,
        expires: terms.expires,
        exchange: sealed.exchange,
        protocol: terms.protocol,
        // Nobody can guess another's exchange id, nor reach the limit of 250 with the longest domain.
        message_id: &format!("{}@{domain}", sealed.exchange.to_string().get(..32).unwrap_or_default()),
        date: now,
    };
    let mut packed = Spool::new()?;
    mail::pack(&cover, BufReader::new(part), BufWriter::new(&mut packed))?;
    packed.rewind()?;
    Ok(packed)
}
