//! A sender and a recipient with certificates of the cluster's development CA.

use std::io::{Cursor, Read as _};

use anyhow::bail;
use fairpost::ca;
use fairpost::card::Card;
use fairpost::client::{Client, Disclosure, Opening};
use fairpost::identity::Identity;
use fairpost::seal;
use fairpost::sealed_mail::SealedMail;
use fairpost_proto::ids::{Protocol, Span, Verdict};
use fairpost_proto::proof::Proof;
use fairpost_proto::terms::Address;
use fairpost_proto::verify::{self, Report};

use crate::Cluster;

/// A sender and a recipient.
pub struct People {
    /// sender@example.org.
    pub sender: Identity,
    /// recipient@example.org.
    pub recipient: Identity,
}

/// A mail with attachments, UTF-8 and 8-bit headers, a NUL and long lines: what must come out byte for byte.
pub fn mail() -> Vec<u8> {
    let mut mail = b"From: sender@example.org\r\nTo: recipient@example.org\r\nSubject: Gr\xfc\xdfe und \xe2\x98\x83\r\n\
        MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=frontier\r\n\r\n--frontier\r\n\
        Content-Type: text/plain; charset=utf-8\r\n\r\nZu Ihren H\xc3\xa4nden.\r\n--frontier\r\n\
        Content-Type: application/octet-stream; name=data.bin\r\n\r\n"
        .to_vec();
    mail.extend((0..20_000_u32).map(|byte| (byte % 251) as u8));
    mail.extend(b"\r\n--frontier--\r\n");
    mail
}

impl People {
    /// Makes both, certified by the cluster's CA.
    pub fn new(cluster: &Cluster) -> anyhow::Result<Self> {
        let person = |address: &str| -> anyhow::Result<Identity> {
            let address = Address::parse(address)?;
            let mut identity = Identity::generate(address.clone());
            let request = identity.request_csr()?;
            let certificate = ca::issue(&cluster.ca(), &address, &request, 365, fairpost::now())?;
            identity.install(&certificate, fairpost::now())?;
            Ok(identity)
        };
        Ok(Self { sender: person("sender@example.org")?, recipient: person("recipient@example.org")? })
    }

    /// Seals [`mail`] from the sender to the recipient.
    pub fn seal(&self, cluster: &Cluster, protocol: Protocol, lifetime: Span) -> anyhow::Result<SealedMail> {
        let card = Card::parse(&self.recipient.card(fairpost::now())?)?;
        let mut sealed = Vec::new();
        let options = seal::Options { protocol, lifetime, now: fairpost::now() };
        seal::seal(&self.sender, &card, &cluster.trust, options, Cursor::new(mail()), &mut sealed)?;
        Ok(SealedMail::read(&sealed[..])?)
    }
}

/// The recipient opens the mail; gives it.
pub async fn open(client: &Client, people: &People, mail: &mut SealedMail) -> anyhow::Result<Vec<u8>> {
    match client.open(&people.recipient, mail).await? {
        Opening::Opened { mail: mut opened, .. } => {
            let mut bytes = Vec::new();
            opened.read_to_end(&mut bytes)?;
            Ok(bytes)
        }
        Opening::Shut(outcome) => bail!("the mail stays shut: {}", outcome.verdict),
    }
}

/// The sender proves the verdict, and the judge accepts the proof after it was written down and read again.
pub async fn prove(client: &Client, people: &People, mail: &mut SealedMail) -> anyhow::Result<Report> {
    let (proof, _) = client.proof(&people.sender, mail, Disclosure::Content).await?;
    let proof = Proof::parse(&proof.to_bytes())?;
    let report = verify::verify(&proof, client.trust())?;
    if report.verdict != Verdict::Released {
        return Ok(report);
    }
    Ok(verify::verify_with_mail(&proof, client.trust(), mail.part()?, std::io::sink())?)
}
