//! The mail that is sent: what real mails are made of, and what careless software breaks.

use fairpost_proto::ids::Timestamp;
use mail_builder::MessageBuilder;

/// A line of the text, to look for where it must not be.
pub(super) const SECRET: &str = "The keys are under the third flowerpot.";

const TEXT: &str = "Dear Ben,\r\n\r\nI hereby give notice of termination of the lease, as of the end of next month.\r\n\
                    The keys are under the third flowerpot.\r\n\r\nGreetings, Anna\r\n";
const HTML: &str = "<p>Dear Ben,</p><p>I hereby give <b>notice of termination</b> of the lease, as of the end of next \
                    month.<br>The keys are under the third flowerpot.</p><p>Greetings, Anna</p>";

/// A mail with text and HTML, two attachments, a subject and names beyond ASCII, and a header in raw 8-bit Latin-1.
pub(super) fn write(now: Timestamp, about: &str) -> std::io::Result<Vec<u8>> {
    let picture: Vec<u8> =
        b"\x89PNG\r\n\x1a\n".iter().copied().chain((0..6000_u32).map(|n| ((n * n) >> 4) as u8)).collect();
    let seconds = i64::try_from(now.seconds()).unwrap_or_default();
    let mail = MessageBuilder::new()
        .from(("Anna Müller", "anna@example.org"))
        .to(("Ben Łukasz Öztürk", "ben@example.net"))
        .subject(format!("Kündigung · 解約 · {about} 📨"))
        .date(seconds)
        .message_id(format!("{about}.{seconds}@example.org"))
        .text_body(TEXT)
        .html_body(HTML)
        .attachment(
            "application/pdf",
            "Kündigung.pdf",
            b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj <<>> endobj\n".as_slice(),
        )
        .attachment("image/png", "plan.png", picture)
        .write_to_vec()?;
    // No library writes such a header, and mailers do.
    Ok([b"X-Ort: K\xf6ln am Rhein, gr\xfc\xdfend\r\n".as_slice(), &mail].concat())
}
