//! `fairpost watch`.

use clap::Args;
use fairpost::client::Event;
use serde::Serialize;

use crate::exit::Exit;
use crate::files::{Exchange, block_on};
use crate::show::{Form, VERSION, meaning, word};

/// Wait for the verdict on a mail that you sent or got, and show it as soon as there is one.
///
/// It goes on while servers come and go. It ends without a verdict when none can be reached for as long as --timeout
/// says.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  fairpost watch --identity anna.id --cluster cluster.trust sealed.eml")]
pub(crate) struct Watch {
    #[command(flatten)]
    exchange: Exchange,
    #[command(flatten)]
    form: Form,
}

/// The JSON form of an event.
#[derive(Serialize)]
struct Seen<'s> {
    version: u32,
    time: String,
    exchange: &'s str,
    verdict: String,
    meaning: &'static str,
    expires: &'s str,
}

impl Watch {
    pub(crate) fn run(self) -> anyhow::Result<Exit> {
        block_on(async {
            let at = self.exchange.load()?;
            let (exchange, expires) = (at.mail.exchange().to_string(), at.mail.terms().expires.to_string());
            let mut watch = at.client.watch(&at.identity, &at.mail)?;
            let mut told = false;
            loop {
                let verdict = match watch.next().await? {
                    Some(Event::Undecided) => None,
                    Some(Event::Decided(outcome)) => Some(outcome.verdict),
                    None => return Ok(Exit::Yes),
                };
                let seen = Seen {
                    version: VERSION,
                    time: fairpost::now().to_string(),
                    exchange: &exchange,
                    verdict: word(verdict),
                    meaning: verdict.map_or("no verdict yet", meaning),
                    expires: &expires,
                };
                // People are told once that there is nothing yet; programs get every sign of life.
                let again = told && verdict.is_none();
                self.form.print_line(&seen, |seen| match verdict {
                    None if again => String::new(),
                    None => format!("{}: {} (the deadline is {expires})\n", seen.verdict, seen.meaning),
                    Some(_) => format!("{}: {}\n", seen.verdict, seen.meaning),
                })?;
                told = true;
            }
        })
    }
}
