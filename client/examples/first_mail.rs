//! The first certified mail by program: seal, open, prove, verify.
//!
//! You need a cluster that runs, and two identities that its authority has certified. For trying out, on one machine:
//!
//! ```text
//! fairpostctl init --dir cluster --nodes 4
//! for n in 1 2 3 4; do fairpostd run --config cluster/n$n/fairpostd.toml & done
//! fairpostctl key ceremony --dir cluster
//! mkdir people
//! fairpost identity new anna@example.org --out people/sender.id --ca cluster/ca
//! fairpost identity new ben@example.net --out people/recipient.id --ca cluster/ca
//! cargo run -p fairpost --example first_mail -- cluster/cluster.trust people
//! ```

use std::io::{Cursor, Read as _};
use std::path::Path;
use std::sync::Arc;

use fairpost::client::{Client, Disclosure, Opening, Options};
use fairpost::{Card, Identity, SealedMail, seal, trust, verify};

const MAIL: &[u8] =
    b"From: anna@example.org\r\nTo: ben@example.net\r\nSubject: Hello\r\n\r\nThe first one.\r\n";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(trust), Some(people)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!(
            "usage: first_mail CLUSTER.TRUST FOLDER, where the folder holds sender.id and recipient.id"
        );
    };

    // Which cluster you mean. The file must come from a source that you trust: everything rests on it.
    let trust = trust::load(Path::new(&trust))?;
    let sender = Identity::load(&Path::new(&people).join("sender.id"))?;
    let recipient = Identity::load(&Path::new(&people).join("recipient.id"))?;

    // What the recipient hands out, and the sender needs.
    let card = Card::parse(&recipient.card(fairpost::now())?)?;

    // The sender seals. Nobody is asked for that. The sealed bytes travel as they like; `fairpost::mail::pack` makes an
    // e-mail of them.
    let mut sealed = Vec::new();
    let made = seal::seal(&sender, &card, &trust, seal::Options::default(), Cursor::new(MAIL), &mut sealed)?;
    println!("sealed: exchange {}, to be accepted before {}", made.exchange, made.terms.expires);

    // The recipient looks at the mail, signs the receipt, and gets the mail. It does not matter which servers are up, as
    // long as enough of them are; and no answer is believed that does not prove itself.
    let client = Client::new(trust.clone(), Options::default())?;
    let mut mail = SealedMail::read(sealed.as_slice())?;
    println!("a mail from {}", mail.terms().sender.address);
    match client.open(&recipient, &mut mail).await? {
        Opening::Opened { mail: mut content, length, .. } => {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes)?;
            anyhow::ensure!(bytes == MAIL, "it must be the mail that was sealed");
            println!("opened: {length} bytes");
        }
        Opening::Shut(outcome) => anyhow::bail!("it stays shut: {}", outcome.verdict),
    }

    // From that moment on the sender can prove it.
    let (proof, _) = client.proof(&sender, &mail, Disclosure::Content).await?;
    let file = proof.to_bytes();

    // And anybody can check the proof, with no network: here with the sealed mail, to see that it opens to what the
    // sender signed. What was opened on the way is thrown away.
    let proof = fairpost::Proof::parse(&file)?;
    let report = verify::verify_with_mail(&proof, &trust, mail.part()?, std::io::sink())?;
    println!("proved: {} at {}, by the votes of {}", report.verdict, report.time, report.voters.join(", "));

    // A clone of the client is cheap, and goes into any task.
    let (client, sender) = (client.clone(), Arc::new(sender));
    let asking = tokio::spawn(async move { client.status(&sender, &mail).await });
    anyhow::ensure!(asking.await??.is_some_and(|outcome| outcome.verdict == report.verdict), "it stands");
    Ok(())
}
