//! Waiting for a verdict, and what to do with each error.
//!
//! As for `first_mail`, you need a cluster that runs, an identity and a sealed mail from or to its owner:
//!
//! ```text
//! cargo run -p fairpost --example watch -- cluster/cluster.trust people/sender.id sealed.eml
//! ```

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use fairpost::client::{Client, Error, Event, Options, Outcome, Reason};
use fairpost::{Identity, SealedMail, trust};

/// Waits until there is a verdict, for as long as it takes.
async fn verdict(client: &Client, identity: &Identity, mail: &SealedMail) -> Result<Outcome, Error> {
    let mut watch = client.watch(identity, mail)?;
    loop {
        match watch.next().await {
            Ok(Some(Event::Undecided)) => println!("no verdict yet"),
            Ok(Some(Event::Decided(outcome))) => return Ok(outcome),
            // After the verdict: not reached here.
            Ok(None) => return Err(Error::Undecided),
            // Nobody can be reached just now. The watch goes on when it is asked again.
            Err(error) if error.is_retryable() => eprintln!("{error}; still watching"),
            Err(error) => return Err(error),
        }
    }
}

/// What to tell whoever is in front of the screen.
fn advice(error: &Error) -> String {
    match error {
        Error::Rejected(rejection) => match &rejection.reason {
            Reason::TooLate => {
                "The deadline has passed. Ask for the status: it will have expired.".to_owned()
            }
            Reason::Clock => "Set this machine's clock.".to_owned(),
            Reason::Stranger => "This identity is not a party of this mail.".to_owned(),
            other => format!("The cluster says no ({other}): {rejection}"),
        },
        Error::Fraud(fraud) => format!("Keep the mail and the proof, and show them to a judge: {fraud}"),
        error if error.is_retryable() => format!("Try again later: {error}"),
        error => error.to_string(),
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [trust, identity, mail] = arguments.as_slice() else {
        anyhow::bail!("usage: watch CLUSTER.TRUST IDENTITY SEALED");
    };
    let options = Options { deadline: Duration::from_secs(60), ..Options::default() };
    let client = Client::new(trust::load(Path::new(trust))?, options)?;
    let identity = Identity::load(Path::new(identity))?;
    let mail = SealedMail::read(File::open(mail)?)?;

    match verdict(&client, &identity, &mail).await {
        Ok(outcome) => println!("{}", outcome.verdict),
        Err(error) => anyhow::bail!(advice(&error)),
    }
    Ok(())
}
