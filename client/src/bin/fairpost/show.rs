//! How things are shown: as a table for people, or as JSON for programs (stable, with a version).

use std::io::{self, ErrorKind, Write as _};

use clap::{Args, ValueEnum};
use fairpost::sealed_mail::SealedMail;
use fairpost_proto::ids::Verdict;
use serde::Serialize;

/// The version of all JSON forms here.
pub(crate) const VERSION: u32 = 1;

/// How to show something.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Form {
    /// How to show it. The JSON form is stable, and has a version.
    #[arg(short = 'o', long = "format", value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    #[default]
    Table,
    Json,
}

impl Form {
    /// Prints `value`, as JSON or as `table` has it.
    pub(crate) fn print<T: Serialize>(
        self,
        value: &T,
        table: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        print(&match self.format {
            Format::Table => table(value),
            Format::Json => serde_json::to_string_pretty(value)? + "\n",
        })
    }

    /// Prints one of several values: in JSON each is one line.
    pub(crate) fn print_line<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        print(&match self.format {
            Format::Table => text(value),
            Format::Json => serde_json::to_string(value)? + "\n",
        })
    }
}

/// Writes to standard output. Whoever closed it, as `head` does, has seen enough.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// What a sealed mail says about itself.
#[derive(Debug, Serialize)]
pub(crate) struct Letter {
    version: u32,
    exchange: String,
    cluster: String,
    from: String,
    to: String,
    protocol: String,
    created: String,
    expires: String,
    size: u64,
    /// Whether an anchor of the cluster vouches for the sender; none if no cluster was given to ask.
    pub(crate) sender_vouched_for: Option<bool>,
    /// Whether the reader's own copy of the lock is in order; none if no identity was given.
    pub(crate) opens_for_you: Option<bool>,
}

impl Letter {
    pub(crate) fn of(mail: &SealedMail) -> Self {
        let terms = mail.terms();
        Self {
            version: VERSION,
            exchange: mail.exchange().to_string(),
            cluster: terms.cluster.to_string(),
            from: terms.sender.address.to_string(),
            to: terms.recipient.address.to_string(),
            protocol: terms.protocol.to_string(),
            created: terms.created.to_string(),
            expires: terms.expires.to_string(),
            size: mail.size(),
            sender_vouched_for: None,
            opens_for_you: None,
        }
    }

    pub(crate) fn table(&self) -> String {
        let who = match self.protocol.as_str() {
            "CMP1" => "whoever has this mail, once it is released",
            _ => "the recipient and the sender, once it is released; never the cluster",
        };
        let sender = match self.sender_vouched_for {
            Some(true) => "vouched for by an authority that the cluster names",
            Some(false) => "NOT vouched for: do not rely on the name",
            None => "not checked: give --cluster to check it",
        };
        let mut rows = vec![
            ("From", self.from.clone()),
            ("", sender.to_owned()),
            ("To", self.to.clone()),
            ("Sealed", self.created.clone()),
            ("Accept before", self.expires.clone()),
            ("Protocol", self.protocol.clone()),
            ("Can be read by", who.to_owned()),
            ("Size", format!("{} bytes, sealed", self.size)),
            ("Exchange", self.exchange.clone()),
            ("Cluster", self.cluster.clone()),
        ];
        if let Some(opens) = self.opens_for_you {
            let text =
                if opens { "yes, once you have signed the receipt" } else { "NO: do not sign anything" };
            rows.push(("Opens for you", text.to_owned()));
        }
        table(&rows)
    }
}

/// Two columns.
pub(crate) fn table(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

/// Names in their order.
pub(crate) fn names(names: &[String]) -> String {
    let mut sorted = names.to_vec();
    sorted.sort();
    sorted.join(", ")
}

/// A verdict in a word for programs; none is "undecided".
pub(crate) fn word(verdict: Option<Verdict>) -> String {
    verdict.map_or_else(|| "undecided".to_owned(), |verdict| verdict.to_string().to_lowercase())
}

/// What a verdict means.
pub(crate) const fn meaning(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Released => {
            "the recipient accepted in time: it can open the mail, and the sender can prove it"
        }
        Verdict::Withdrawn => "the sender called it off: nobody can ever open this mail",
        Verdict::Refused => "the recipient declined: nobody can ever open this mail",
        Verdict::Expired => "no acceptance was recorded in time: nobody can ever open this mail",
    }
}
