//! Writing the mail around a sealed part.
//!
//! Written by hand: `mail-builder` wants each part whole in memory, and a sealed part may be of any size. All that
//! is written here is ASCII in short lines, so no header or text needs encoding.

use std::fmt::Write as _;
use std::io::{self, Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fairpost_proto::ids::{ExchangeId, Protocol, Timestamp};
use fairpost_proto::terms::Address;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use time::macros::format_description;

use super::{Error, MEDIA_TYPE};

/// The name of the attachment.
const FILE_NAME: &str = "message.fairpost";

/// Bytes to a line of base64: 76 characters (RFC 2045 §6.8).
const LINE: usize = 57;

/// Lines that are encoded at a time.
const LINES: usize = 512;

/// What the mail around a sealed part says. There is no place for the sealed mail's subject, on purpose.
#[derive(Clone, Copy, Debug)]
pub struct Cover<'a> {
    /// Who sends.
    pub from: &'a Address,
    /// Who receives.
    pub to: &'a Address,
    /// When the exchange expires.
    pub expires: Timestamp,
    /// Which exchange.
    pub exchange: ExchangeId,
    /// How the mail is locked.
    pub protocol: Protocol,
    /// The Message-ID, without angle brackets: `left@right`.
    pub message_id: &'a str,
    /// When the mail was written.
    pub date: Timestamp,
}

/// Writes a mail to `out` that carries all of `sealed`.
///
/// Both stream: memory does not grow with the sealed part.
///
/// # Errors
///
/// [`Error::MessageId`] and [`Error::Date`] before anything is written; [`Error::Io`] when reading or writing fails.
pub fn pack(cover: &Cover<'_>, mut sealed: impl Read, mut out: impl Write) -> Result<(), Error> {
    let boundaries = Boundaries::of(cover.exchange);
    out.write_all(crlf(&head(cover, &boundaries)?).as_bytes())?;
    write_base64(&mut sealed, &mut out)?;
    write!(out, "--{}--\r\n", boundaries.mixed)?;
    Ok(out.flush()?)
}

/// The two boundaries. They hold "=_", which neither base64 nor quoted-printable can produce, and no line of the
/// texts begins with "--"; so they occur nowhere else. They differ between exchanges, for mails within mails.
struct Boundaries {
    mixed: String,
    alternative: String,
}

impl Boundaries {
    fn of(exchange: ExchangeId) -> Self {
        let id: String = exchange.to_string().chars().take(32).collect();
        Self { mixed: format!("=_fairpost_{id}_m"), alternative: format!("=_fairpost_{id}_a") }
    }
}

/// Everything before the base64, in lines that end with LF.
fn head(cover: &Cover<'_>, boundaries: &Boundaries) -> Result<String, Error> {
    let Boundaries { mixed, alternative } = boundaries;
    let (from, to) = (cover.from, cover.to);
    let id = message_id(cover.message_id)?;
    let date = calendar(cover.date)?.format(&Rfc2822).map_err(|_| Error::Date { found: cover.date })?;
    let text = text(cover)?;
    let html = html(cover)?;
    Ok(format!(
        "\
From: <{from}>
To: <{to}>
Subject: Certified mail from
 {from}
Date: {date}
Message-ID: <{id}>
MIME-Version: 1.0
Content-Type: multipart/mixed;
 boundary=\"{mixed}\"

This is a certified mail in MIME format.
--{mixed}
Content-Type: multipart/alternative;
 boundary=\"{alternative}\"

--{alternative}
Content-Type: text/plain; charset=us-ascii
Content-Transfer-Encoding: 7bit

{text}
--{alternative}
Content-Type: text/html; charset=us-ascii
Content-Transfer-Encoding: 7bit

{html}
--{alternative}--

--{mixed}
Content-Type: {MEDIA_TYPE};
 name=\"{FILE_NAME}\"
Content-Transfer-Encoding: base64
Content-Disposition: attachment; filename=\"{FILE_NAME}\"

"
    ))
}

/// The facts of the cover, in the order in which they are shown.
fn facts(cover: &Cover<'_>) -> Result<[(&'static str, String); 5], Error> {
    Ok([
        ("From", cover.from.to_string()),
        ("To", cover.to.to_string()),
        ("Expires", moment(cover.expires)?),
        ("Protocol", cover.protocol.to_string()),
        ("Exchange", cover.exchange.to_string()),
    ])
}

/// Who can read the mail once it is released.
fn readers(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Cmp1 => "Once you have opened it, whoever holds a copy of this mail can read it.",
        Protocol::Cmp2 => "Nobody but you can read it.",
    }
}

const WHAT: &str = "This is a certified mail: it opens when you sign a receipt for it.";
const HOW: &str = "To open it, save this mail, or only its attachment, and run:";
const SHOW: &str = "fairpost show message.fairpost";
const OPEN: &str =
    "fairpost open --identity you.id --cluster cluster.trust \\\n    message.fairpost > mail.eml";
const WHICH: &[&str] = &[
    "Showing tells who sent it and until when, and signs nothing.",
    "Opening signs the receipt: the sender then has proof that you got the mail.",
    "To decline it, run: fairpost refuse. Once it has expired, it stays shut.",
];
const TRUST: &str = "This cover is not signed. Rely on what fairpost show says instead.";

fn text(cover: &Cover<'_>) -> Result<String, Error> {
    let mut text = format!("{WHAT}\n{}\n\n", readers(cover.protocol));
    for (name, value) in facts(cover)? {
        let _ = writeln!(text, "  {:<10}{value}", format!("{name}:"));
    }
    let _ = writeln!(text, "\n{HOW}\n\n  {SHOW}\n  {OPEN}\n\n{}\n\n{TRUST}", WHICH.join("\n"));
    Ok(text)
}

fn html(cover: &Cover<'_>) -> Result<String, Error> {
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"us-ascii\"><title>Certified mail</title></head>\n\
         <body>\n<p><strong>\n{}\n</strong><br>\n{}</p>\n<table>\n",
        escape(WHAT),
        escape(readers(cover.protocol))
    );
    for (name, value) in facts(cover)? {
        let _ =
            writeln!(html, "<tr><th align=\"left\">{}</th>\n<td>{}</td></tr>", escape(name), escape(&value));
    }
    let _ = write!(
        html,
        "</table>\n<p>{}</p>\n<pre>{}\n{}</pre>\n<p>{}</p>\n<p>\n{}\n</p>\n</body>\n</html>\n",
        escape(HOW),
        escape(SHOW),
        escape(OPEN),
        escape(&WHICH.join("\n")),
        escape(TRUST)
    );
    Ok(html)
}

/// `text` as HTML text or attribute value.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// `text` as a Message-ID: `left@right` without space, control or bracket (RFC 5322 §3.6.4, without its quoting).
fn message_id(text: &str) -> Result<&str, Error> {
    let allowed = |byte: u8| byte.is_ascii_graphic() && !b"<>()[]\\\",;:@".contains(&byte);
    let side = |side: &str| !side.is_empty() && side.bytes().all(allowed);
    match text.split_once('@') {
        Some((left, right)) if text.len() <= 250 && side(left) && side(right) => Ok(text),
        _ => Err(Error::MessageId { found: text.chars().take(64).collect() }),
    }
}

fn calendar(time: Timestamp) -> Result<OffsetDateTime, Error> {
    let seconds = i64::try_from(time.seconds()).map_err(|_| Error::Date { found: time })?;
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| Error::Date { found: time })
}

/// `time` for people, in UTC.
fn moment(time: Timestamp) -> Result<String, Error> {
    let format =
        format_description!("[day padding:none] [month repr:long] [year], [hour]:[minute]:[second] UTC");
    calendar(time)?.format(format).map_err(|_| Error::Date { found: time })
}

fn crlf(text: &str) -> String {
    text.replace('\n', "\r\n")
}

/// All of `input` in base64, in lines of 76 characters.
fn write_base64(input: &mut impl Read, out: &mut impl Write) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(LINE * LINES);
    let mut text = String::with_capacity(LINES * 78);
    loop {
        bytes.clear();
        text.clear();
        input.take((LINE * LINES) as u64).read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            return Ok(());
        }
        for line in bytes.chunks(LINE) {
            STANDARD.encode_string(line, &mut text);
            text.push_str("\r\n");
        }
        out.write_all(text.as_bytes())?;
    }
}
