//! A sender and a recipient with certificates of the cluster's development CA.

use std::io::{Cursor, Read as _};
use std::path::Path;

use anyhow::bail;
use fairpost::ca;
use fairpost::card::Card;
use fairpost::client::{Client, Disclosure, Opening};
use fairpost::identity::Identity;
use fairpost::seal;
use fairpost::sealed_mail::SealedMail;
use fairpost_proto::evidence::Nro;
use fairpost_proto::ids::{Digest, Protocol, Span, Timestamp, Verdict};
use fairpost_proto::letter;
use fairpost_proto::proof::Proof;
use fairpost_proto::sealed::{self, Access, Salt, Sealing};
use fairpost_proto::terms::{Address, Fields, Recipient, Sender, Terms};
use fairpost_proto::verify::{self, Report};
use rand::RngCore as _;
use rand::rngs::OsRng;

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
    let mut mail =
        b"From: sender@example.org\r\nTo: recipient@example.org\r\nSubject: Gr\xfc\xdfe und \xe2\x98\x83\r\n\
        MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=frontier\r\n\r\n--frontier\r\n\
        Content-Type: text/plain; charset=utf-8\r\n\r\nZu Ihren H\xc3\xa4nden.\r\n--frontier\r\n\
        Content-Type: application/octet-stream; name=data.bin\r\n\r\n"
            .to_vec();
    mail.extend((0..20_000_u32).map(|byte| (byte % 251) as u8));
    mail.extend(b"\r\n--frontier--\r\n");
    mail
}

/// A mail that is not what its sender signed, as the sender sends it and as the recipient reads it.
pub struct Fraud {
    /// The sealed part.
    pub part: Vec<u8>,
    /// The same, read.
    pub mail: SealedMail,
}

/// A new identity with a certificate of the CA in `ca`, issued at `at` for so many days.
pub fn certified(ca: &Path, address: &str, days: u32, at: Timestamp) -> anyhow::Result<Identity> {
    let address = Address::parse(address)?;
    let mut identity = Identity::generate(address.clone());
    let certificate = ca::issue(ca, &address, &identity.request_csr()?, days, at)?;
    identity.install(&certificate, at)?;
    Ok(identity)
}

impl People {
    /// Makes both, certified by the cluster's CA.
    pub fn new(cluster: &Cluster) -> anyhow::Result<Self> {
        let person = |address| certified(&cluster.ca(), address, 365, fairpost::now());
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

    /// The terms of an exchange from the sender to the recipient that begins now and lasts an hour.
    pub fn terms(&self, cluster: &Cluster, protocol: Protocol, content: Digest) -> Fields {
        let mut nonce = [0; 16];
        OsRng.fill_bytes(&mut nonce);
        let (sender, recipient) = (&self.sender, &self.recipient);
        let created = fairpost::now();
        Fields {
            protocol,
            cluster: cluster.trust.cluster(),
            nonce,
            sender: Sender { address: sender.address().clone(), key: sender.key_id() },
            recipient: Recipient { address: recipient.address().clone(), key: Some(recipient.key_id()) },
            content,
            created,
            expires: created.plus(Span::from_seconds(3600)),
        }
    }

    /// Seals `garbage` under terms that promise [`mail`]: all that can be checked before the release is in order.
    pub fn defraud(&self, cluster: &Cluster, protocol: Protocol, garbage: &[u8]) -> anyhow::Result<Fraud> {
        let salt = Salt::generate(&mut OsRng);
        let promised = sealed::content_commitment(&salt, &mail()[..])?;
        let terms = Terms::new(self.terms(cluster, protocol, promised))?;
        let recipient = self.recipient.sealing_key().public();
        let access = match protocol {
            Protocol::Cmp1 => Access::Cmp1,
            Protocol::Cmp2 => Access::Cmp2 { recipient, sender: self.sender.sealing_key().public() },
        };
        let (trust, exchange) = (&cluster.trust, terms.exchange());
        let sealing = Sealing { cluster: trust.cluster(), key: trust.public_key(), exchange, access };
        let mut body = Vec::new();
        let made = sealed::seal(&sealing, &salt, garbage, &mut body)?;
        let nro = self.sender.sign(Nro { terms, sealed: made.digest })?;
        let mut part = Vec::new();
        sealed::write_header(&letter::write_header(&nro), &mut part)?;
        part.extend(body);
        Ok(Fraud { mail: SealedMail::read(&part[..])?, part })
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
