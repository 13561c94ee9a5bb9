//! Hostile bytes for what a sender, a recipient or a judge reads.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of a test may fail it")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use fairpost::mail::{self, Cover, MAGIC};
use fairpost::{Card, Identity, SealedMail, ca, trust};
use fairpost_hostile::{Target, run};
use fairpost_proto::ids::{ExchangeId, Protocol, Timestamp};
use fairpost_proto::terms::Address;
use support::World;

fn packed(sealed: &[u8]) -> Vec<u8> {
    let (from, to) = (Address::parse("a@example.org").unwrap(), Address::parse("b@example.net").unwrap());
    let cover = Cover {
        from: &from,
        to: &to,
        expires: Timestamp::from_seconds(1_795_478_399).unwrap(),
        exchange: ExchangeId::new([0xA5; 32]),
        protocol: Protocol::Cmp2,
        message_id: "one@example.org",
        date: Timestamp::from_seconds(1_795_391_999).unwrap(),
    };
    let mut mail = Vec::new();
    mail::pack(&cover, sealed, &mut mail).unwrap();
    mail
}

/// The mail within a mail, in base64 if `encoded`.
fn forwarded(mail: &[u8], encoded: bool) -> Vec<u8> {
    use base64::Engine as _;
    let (encoding, body) = if encoded {
        let text = base64::engine::general_purpose::STANDARD.encode(mail);
        let lines: Vec<&[u8]> = text.as_bytes().chunks(76).collect();
        ("base64", lines.join(&b"\r\n"[..]))
    } else {
        ("8bit", mail.to_vec())
    };
    let head = format!(
        "From: x@example.org\r\nContent-Type: multipart/mixed; boundary=\"f f\"\r\n\r\n--f f\r\n\r\nSee below\r\n--f f\r\n\
         Content-Type: message/rfc822; name*0*=utf-8''a%20; name*1=\"b.eml\" (a (nested) comment)\r\n\
         Content-Transfer-Encoding: {encoding}\r\n\r\n"
    );
    [head.as_bytes(), &body, b"\r\n--f f--\r\n"].concat()
}

#[test]
fn a_sealed_part_is_looked_for_in_anything() {
    let sealed = [MAGIC, &(0..=255).collect::<Vec<u8>>(), b"\r\n--\r\n\n\r"].concat();
    let mail = packed(&sealed);
    let quoted = format!(
        "From x Mon Nov 23 12:00:00 2026\n{}: application/octet-stream; name=\"=?utf-8?B?w7w=?= x.fairpost\"\n\
         Content-Transfer-Encoding: quoted-printable\n\n=46PSEAL1=0A=\n=C3=BC  \nend\n",
        "Content-Type"
    );
    let find = |bytes: &[u8]| mail::find(bytes, std::io::sink()).map(drop);
    run(vec![
        Target::new("mail", find)
            .seed(mail.clone())
            .seed(forwarded(&mail, true))
            .seed(forwarded(&forwarded(&mail, false), true))
            .seed(quoted)
            .seed(sealed)
            .places(&["the mail", "no sealed part", "a header of the mail"])
            // Buffers of 64 KiB, one more for each mail within a mail that is encoded, and a header's fields.
            .memory(1, 1 << 20)
            .longest(2 << 20),
    ]);
}

#[test]
fn a_sealed_mail_is_read() {
    let world = World::new();
    let (_, part) = world.seal(Protocol::Cmp2);
    run(vec![
        Target::new("sealed-mail", |bytes: &[u8]| SealedMail::read(bytes).map(drop))
            .seed(packed(&part))
            .seed(part)
            .places(&[
                "the mail",
                "no sealed part",
                "a header of the mail",
                "a sealed mail begins",
                "the container",
                "the sealed mail",
                "the sender's signature",
                "the body",
            ])
            .memory(3, 2 << 20),
    ]);
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A secret file that `read` reads.
fn secret<T, E: std::fmt::Display>(
    name: &'static str,
    file: &'static str,
    read: impl Fn(&Path) -> Result<T, E> + 'static,
) -> Target {
    let folder = tempfile::tempdir().unwrap();
    Target::new(name, move |bytes| {
        let path = folder.path().join(file);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        read(&path)
    })
}

#[test]
fn files_and_texts_of_people() {
    let world = World::new();
    let folder = world.write_files();
    let installed = |bytes: &[u8]| {
        let mut identity = Identity::generate(Address::parse("carol@example.org").unwrap());
        // The key is another one, so that nothing is installed; all of it is read before.
        match identity.install(&text(bytes), fairpost::now()) {
            Err(fairpost::identity::Error::ForeignKey { .. }) => Ok(()),
            other => other,
        }
    };
    let ca_folder = folder.join("ca");
    let carol = Identity::generate(Address::parse("carol@example.org").unwrap());
    let address = carol.address().clone();
    let issue =
        move |bytes: &[u8]| ca::issue(&ca_folder, &address, &text(bytes), 30, fairpost::now()).map(drop);
    let identity = fs::read(folder.join("sender.id")).unwrap();
    let start = identity.windows(27).position(|window| window == b"-----BEGIN CERTIFICATE-----").unwrap();
    run(vec![
        secret("identity-file", "sender.id", Identity::load)
            .seed(identity.clone())
            .places(&["identity", "certificate", "sender.id", "signing"])
            // The file's text lies in one piece of 64 KiB, which is the most that is read.
            .memory(24, 512 << 10),
        Target::new("certificate-chain-pem", installed)
            .seed(&identity[start..])
            .places(&["certificate", "block"])
            .memory(24, 512 << 10),
        Target::new("certificate-request", issue)
            .seed(carol.request_csr().unwrap())
            .places(&["certificate request"])
            .memory(24, 512 << 10),
        Target::new("card-text", |bytes| Card::parse(&text(bytes)).map(drop))
            .seed(fs::read(folder.join("recipient.card")).unwrap())
            .places(&["the card: "]),
        Target::new("trust-text", |bytes| trust::parse(&text(bytes)).map(drop))
            .seed(fs::read(folder.join("cluster.trust")).unwrap())
            .places(&["the trust file: "])
            .memory(24, 512 << 10),
    ]);
}
