//! What relays, lists and people do to a mail on its way, for tests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::MEDIA_TYPE;

/// What a relay does to the transfer encoding of the sealed part.
#[derive(Clone, Copy, Debug)]
pub(super) enum Recoded {
    Base64 { width: usize, blank_lines: bool },
    Quoted,
    Binary,
}

pub(super) fn encoded(sealed: &[u8], how: Recoded) -> (&'static str, Vec<u8>) {
    match how {
        Recoded::Base64 { width, blank_lines } => {
            let text = STANDARD.encode(sealed);
            let end = if blank_lines { " \t\r\n\r\n" } else { "\r\n" };
            let lines = text.as_bytes().chunks(width).map(|line| [line, end.as_bytes()].concat());
            ("base64", lines.flatten().collect())
        }
        Recoded::Quoted => {
            let mut text = Vec::new();
            for line in sealed.chunks(20) {
                for byte in line {
                    match byte {
                        b'!'..=b'~' if *byte != b'=' => text.push(*byte),
                        other => text.extend_from_slice(format!("={other:02X}").as_bytes()),
                    }
                }
                text.extend_from_slice(b"=\r\n");
            }
            ("Quoted-Printable", text)
        }
        Recoded::Binary => ("binary", [sealed, b"\r\n"].concat()),
    }
}

/// The packed mail with its sealed part in another encoding.
pub(super) fn recoded(mail: &[u8], sealed: &[u8], how: Recoded) -> Vec<u8> {
    let (name, body) = encoded(sealed, how);
    let marker = b"Content-Disposition: attachment; filename=\"message.fairpost\"\r\n\r\n";
    let at = mail.windows(marker.len()).position(|window| window == marker).unwrap() + marker.len();
    let end = mail.len() - mail.rsplitn(2, |byte| *byte == b'=').next().unwrap().len() - 3;
    assert!(mail[end..].starts_with(b"--=_fairpost_"));
    let mail = [&mail[..at], &body, &mail[end..]].concat();
    replaced(
        &mail,
        "Content-Transfer-Encoding: base64",
        format!("Content-Transfer-Encoding: {name}").as_bytes(),
    )
}

/// What happens to a mail on its way.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mangle {
    RefoldHeaders,
    RewriteMessageId,
    ManyHeaders,
    MixedCase,
    LineFeedsOnly,
    FooterPart,
    FooterText,
    NewBoundary,
    MboxLine,
    Forward { base64: bool },
    ForwardAsFile,
    LoseMediaType,
    Rename,
}

pub(super) fn mangled(mail: &[u8], how: Mangle) -> Vec<u8> {
    let lines = |change: &dyn Fn(&[u8]) -> Vec<u8>| -> Vec<u8> {
        mail.split_inclusive(|byte| *byte == b'\n').flat_map(change).collect()
    };
    let prefixed = |line: &[u8], prefix: &str| {
        line.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    let everywhere = |from: &str, to: &str| -> Vec<u8> {
        let mut rest = mail;
        let mut out = Vec::new();
        while let Some(at) = rest.windows(from.len()).position(|window| window == from.as_bytes()) {
            out.extend_from_slice(&rest[..at]);
            out.extend_from_slice(to.as_bytes());
            rest = &rest[at + from.len()..];
        }
        [&out, rest].concat()
    };
    let forwarded = |headers: &str, body: &[u8]| {
        let start = format!(
            "From: x@example.org\r\nSubject: Fwd\r\nContent-Type: multipart/mixed; boundary=fwd{0}\r\n\r\n--fwd{0}\r\n\r\n\
             See below\r\n--fwd{0}\r\n{headers}\r\n",
            mail.len()
        );
        [start.as_bytes(), body, format!("\r\n--fwd{}--\r\n", mail.len()).as_bytes()].concat()
    };
    match how {
        Mangle::RefoldHeaders => lines(&|line| {
            if !prefixed(line, "Content-Type:") {
                return line.to_vec();
            }
            String::from_utf8_lossy(line).replace(": ", ":\r\n\t (a \\) comment (nested))\r\n ").into_bytes()
        }),
        Mangle::RewriteMessageId => lines(&|line| match prefixed(line, "Message-ID:") {
            true => b"Message-ID: <another@relay.example>\r\n".to_vec(),
            false => line.to_vec(),
        }),
        Mangle::ManyHeaders => {
            let headers: String =
                (0..10_000).map(|n| format!("X-Hop-{n}: {}\r\n\tfolded\r\n", n * n)).collect();
            [headers.as_bytes(), mail].concat()
        }
        Mangle::MixedCase => lines(&|line| match prefixed(line, "Content-") && !line.contains(&b'=') {
            true => line.to_ascii_uppercase(),
            false => line.to_vec(),
        }),
        Mangle::LineFeedsOnly => everywhere("\r\n", "\n"),
        Mangle::FooterPart => {
            let tail = b"\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nScanned \xC3\xBC\r\n";
            let Some(at) = mail.windows(3).rposition(|window| window == b"\n--") else {
                return mail.to_vec();
            };
            let last = mail[at + 1..].trim_ascii_end();
            let boundary = last.strip_suffix(b"--").unwrap_or(last);
            [&mail[..=at], boundary, tail, last, b"\r\n"].concat()
        }
        Mangle::FooterText => [mail, b"\r\n-- \r\nThis list is run by nobody.\r\n"].concat(),
        Mangle::NewBoundary => everywhere("=_fairpost_", "----=_Part 7?/'_"),
        Mangle::MboxLine => [b"From sender@example.org Mon Nov 23 12:00:00 2026\n", mail].concat(),
        Mangle::Forward { base64: false } => forwarded("Content-Type: message/rfc822\r\n", mail),
        Mangle::Forward { base64: true } => {
            let (_, body) = encoded(mail, Recoded::Base64 { width: 76, blank_lines: false });
            forwarded("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n", &body)
        }
        Mangle::ForwardAsFile => {
            let (_, body) = encoded(mail, Recoded::Base64 { width: 72, blank_lines: false });
            let headers = "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\
                           Content-Disposition: attachment;\r\n filename*0*=utf-8''a%20;\r\n filename*1=\"mail.eml\"\r\n";
            forwarded(headers, &body)
        }
        Mangle::LoseMediaType => everywhere(MEDIA_TYPE, "application/octet-stream"),
        Mangle::Rename => everywhere("message.fairpost\"", "attachment-1.bin\""),
    }
}

pub(super) fn any_mangle() -> impl Strategy<Value = Mangle> {
    prop_oneof![
        Just(Mangle::RefoldHeaders),
        Just(Mangle::RewriteMessageId),
        Just(Mangle::ManyHeaders),
        Just(Mangle::MixedCase),
        Just(Mangle::LineFeedsOnly),
        Just(Mangle::FooterPart),
        Just(Mangle::FooterText),
        Just(Mangle::NewBoundary),
        Just(Mangle::MboxLine),
        any::<bool>().prop_map(|base64| Mangle::Forward { base64 }),
        Just(Mangle::ForwardAsFile),
        Just(Mangle::LoseMediaType),
        Just(Mangle::Rename),
    ]
}

pub(super) fn any_recoding() -> impl Strategy<Value = Recoded> {
    prop_oneof![
        4 => (1usize..2000, any::<bool>()).prop_map(|(width, blank_lines)| Recoded::Base64 { width, blank_lines }),
        2 => Just(Recoded::Quoted),
        1 => Just(Recoded::Binary),
    ]
}

fn replaced(mail: &[u8], from: &str, to: &[u8]) -> Vec<u8> {
    let at = mail
        .windows(from.len())
        .position(|window| window == from.as_bytes())
        .unwrap_or_else(|| panic!("no {from}"));
    [&mail[..at], to, &mail[at + from.len()..]].concat()
}
