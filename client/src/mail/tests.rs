//! Mails that come through, and mails that must not.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fairpost_proto::ids::{ExchangeId, Protocol, Timestamp};
use fairpost_proto::terms::Address;
use mail_parser::{MessageParser, MimeHeaders as _};
use proptest::prelude::*;

use super::mangler::{Mangle, Recoded, any_mangle, any_recoding, encoded, mangled, recoded};
use super::*;

fn packed_as(message_id: &str, sealed: &[u8]) -> Result<Vec<u8>, Error> {
    let from = Address::parse("o'hara&sons@example.org").unwrap();
    let to = Address::parse("bob@example.net").unwrap();
    let cover = Cover {
        from: &from,
        to: &to,
        expires: Timestamp::from_seconds(1_795_478_399).unwrap(),
        exchange: ExchangeId::new([0xA5; 32]),
        protocol: Protocol::Cmp2,
        message_id,
        date: Timestamp::from_seconds(1_795_391_999).unwrap(),
    };
    let mut mail = Vec::new();
    pack(&cover, sealed, &mut mail).map(|()| mail)
}

fn packed(sealed: &[u8]) -> Vec<u8> {
    packed_as("one@example.org", sealed).unwrap()
}

fn found(mail: &[u8]) -> Result<(Found, Vec<u8>), Error> {
    let mut out = Vec::new();
    find(mail, &mut out).map(|found| (found, out))
}

fn sealed() -> Vec<u8> {
    [MAGIC, &(0..=255).collect::<Vec<u8>>(), b"\r\n--\r\n\n\r"].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_bytes_come_back_from_the_mail_as_they_went_in(bytes in prop::collection::vec(any::<u8>(), 0..70_000)) {
        let (found, out) = found(&packed(&bytes)).unwrap();
        prop_assert_eq!(found.mark, Mark::MediaType);
        prop_assert!(out == bytes);
    }

    #[test]
    fn a_mangled_mail_gives_back_the_same_bytes(
        bytes in prop::collection::vec(any::<u8>(), 0..5000),
        recoding in any_recoding(),
        mangles in prop::collection::vec(any_mangle(), 0..8),
    ) {
        let sealed = [MAGIC, &bytes].concat();
        let mut mail = recoded(&packed(&sealed), &sealed, recoding);
        for mangle in mangles {
            // A relay that turns CRLF into LF has no way to keep binary content.
            if !matches!((mangle, recoding), (Mangle::LineFeedsOnly, Recoded::Binary)) {
                mail = mangled(&mail, mangle);
            }
        }
        let (_, out) = found(&mail).unwrap();
        prop_assert!(out == sealed);
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let _ = found(&bytes);
    }

    #[test]
    fn any_damage_to_a_mail_is_survived(damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40)) {
        let mut mail = mangled(&packed(&sealed()), Mangle::Forward { base64: true });
        for (place, byte) in damage {
            let at = place.index(mail.len());
            mail[at] = byte;
        }
        let _ = found(&mail);
    }
}

#[test]
fn another_parser_reads_the_mail_in_the_same_way() {
    let mail = packed(&sealed());
    let parsed = MessageParser::new().parse(&mail).unwrap();
    assert_eq!(parsed.subject(), Some("Certified mail from o'hara&sons@example.org"));
    assert_eq!(parsed.from().and_then(|from| from.first()?.address()), Some("o'hara&sons@example.org"));
    assert_eq!(parsed.to().and_then(|to| to.first()?.address()), Some("bob@example.net"));
    assert_eq!(parsed.message_id(), Some("one@example.org"));
    assert_eq!(parsed.date().map(|date| date.to_timestamp()), Some(1_795_391_999));
    assert_eq!((parsed.text_body_count(), parsed.html_body_count(), parsed.attachment_count()), (1, 1, 1));
    let attachment = parsed.attachment(0).unwrap();
    assert_eq!(attachment.attachment_name(), Some("message.fairpost"));
    assert!(attachment.is_content_type("application", "vnd.fairpost.sealed+cose"));
    assert!(attachment.contents() == sealed());
    let text = parsed.body_text(0).unwrap();
    for needed in [
        "23 November 2026, 23:59:59 UTC",
        "o'hara&sons@example.org",
        "CMP2",
        "fairpost open",
        &"a5".repeat(32),
    ] {
        assert!(text.contains(needed), "{needed} in {text}");
    }
    let html = parsed.body_html(0).unwrap();
    for needed in [
        "23 November 2026, 23:59:59 UTC",
        "<td>o&#39;hara&amp;sons@example.org</td>",
        "CMP2",
        "fairpost open",
    ] {
        assert!(html.contains(needed), "{needed} in {html}");
    }
}

#[test]
fn the_mail_is_ascii_in_short_lines_that_end_with_crlf() {
    let mail = packed(&[0xFF; 10_000]);
    assert!(mail.is_ascii());
    assert!(mail.ends_with(b"\r\n"));
    for line in mail.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r\n").expect("CRLF");
        assert!(line.len() <= 78 && !line.contains(&b'\r'), "{}", String::from_utf8_lossy(line));
    }
}

#[test]
fn a_message_id_cannot_add_a_header() {
    for bad in [
        "a\r\nBcc: x@y",
        "a@b\r\nBcc: x@y",
        "a@b\nX",
        "a@b>\r",
        "",
        "@",
        "a@",
        "a@b@c",
        "ä@b",
        "a b@c",
        "<a@b>",
        "a\0@b",
    ] {
        assert!(matches!(packed_as(bad, b""), Err(Error::MessageId { .. })), "{bad:?}");
    }
    assert!(Address::parse("a@b\r\nBcc: x@y").is_err());
}

#[test]
fn the_bare_attachment_is_known_by_its_first_bytes() {
    let (found, out) = found(&sealed()).unwrap();
    assert_eq!((found.mark, found.media_type, found.size), (Mark::FirstBytes, None, sealed().len() as u64));
    assert!(out == sealed());
}

#[test]
fn a_mail_that_is_nothing_but_the_attachment_is_read() {
    for type_and_name in [
        "Content-Type: application/vnd.fairpost.sealed+cose",
        "Content-Type: application/octet-stream; name=\"=?utf-8?Q?F=C3=BCr_Bob?=\"; NAME=\"für Bob.FairPost\"",
        "Content-Disposition: attachment; filename*=utf-8''f%C3%BCr%20Bob.fairpost",
        "Content-Type: application/vnd.fairpost.sealed+cose; name=\"renamed.eml\"",
        "X-Nothing: at all",
    ] {
        let (_, body) = encoded(&sealed(), Recoded::Base64 { width: 60, blank_lines: true });
        let head = format!(
            "From: a@example.org\r\n{type_and_name}\r\ncontent-transfer-ENCODING : Base64 (rfc 2045)\r\n\r\n"
        );
        let (_, out) = found(&[head.as_bytes(), &body].concat()).unwrap();
        assert!(out == sealed(), "{type_and_name}");
    }
}

#[test]
fn the_media_type_goes_before_the_extension_and_the_extension_before_the_first_bytes() {
    let parts = [
        "Content-Type: application/octet-stream\r\n\r\nFPSEAL1\nbytes",
        "Content-Type: application/octet-stream; name=\"x.fairpost\"\r\n\r\nFPSEAL1\nextension",
        "Content-Type: Application/Vnd.Fairpost.Sealed+COSE\r\n\r\nFPSEAL1\nmedia type",
    ];
    let marks =
        [(Mark::FirstBytes, "bytes"), (Mark::Extension, "extension"), (Mark::MediaType, "media type")];
    for (count, (mark, content)) in (1..).zip(marks) {
        let (found, out) = found(&multipart(&parts[..count])).unwrap();
        assert_eq!(found.mark, mark);
        assert_eq!(String::from_utf8_lossy(&out), format!("FPSEAL1\n{content}"));
    }
}

fn multipart(parts: &[&str]) -> Vec<u8> {
    let parts: String = parts.iter().map(|part| format!("--b\r\n{part}\r\n")).collect();
    format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{parts}--b--\r\n").into_bytes()
}

#[test]
fn of_two_with_the_same_mark_the_one_with_the_magic_counts() {
    let named = "Content-Type: application/applefile; name=x.fairpost\r\n\r\nresource fork";
    let sealed = "Content-Type: application/octet-stream; name=x.fairpost\r\n\r\nFPSEAL1\nsealed";
    for parts in [[named, sealed], [sealed, named]] {
        let (found, out) = found(&multipart(&parts)).unwrap();
        assert_eq!(
            (found.name.as_deref(), out.as_slice()),
            (Some("x.fairpost"), b"FPSEAL1\nsealed".as_slice())
        );
    }
}

#[test]
fn more_than_one_sealed_part_is_an_error_that_counts_them() {
    let part = "Content-Type: application/vnd.fairpost.sealed+cose\r\n\r\nFPSEAL1\nsealed";
    let mut out = Vec::new();
    let error = find(multipart(&[part, part, part]).as_slice(), &mut out).unwrap_err();
    assert!(matches!(error, Error::MoreThanOne { count: 3 }), "{error}");
    assert!(out.is_empty());
}

#[test]
fn without_a_sealed_part_the_error_tells_what_was_seen() {
    let parts =
        ["Content-Type: text/html\r\n\r\nx", "Content-Type: application/ms-tnef; name=winmail.dat\r\n\r\nx"];
    let error = found(&multipart(&parts)).unwrap_err().to_string();
    for needed in [MEDIA_TYPE, ".fairpost", "FPSEAL1", "multipart/mixed, text/html, application/ms-tnef"] {
        assert!(error.contains(needed), "{needed} in {error}");
    }
    let error = found(b"\x89PNG\r\n\r\nno mail").unwrap_err().to_string();
    assert!(error.contains("no mail header"), "{error}");
    let error = found(b"").unwrap_err().to_string();
    assert!(error.contains("nothing"), "{error}");
}

#[test]
fn what_a_mail_names_cannot_steer_a_terminal() {
    let part =
        "Content-Type: application/vnd.fairpost.sealed+cose; name=\"\x1b[2J\x07x.fairpost\"\r\n\r\nFPSEAL1\n";
    let (found, _) = found(&multipart(&[part])).unwrap();
    assert!(found.name.unwrap().chars().all(|each| !each.is_control()));
    let error = self::found(&multipart(&["Content-Type: a/\x1b[2J\r\n\r\n"])).unwrap_err().to_string();
    assert!(!error.contains('\x1b'), "{error:?}");
}

#[test]
fn eight_levels_of_forwarding_are_followed_and_the_ninth_is_an_error() {
    for base64 in [false, true] {
        let mut mail = packed(&sealed());
        for level in 1..=MAX_FORWARDED {
            mail = mangled(&mail, Mangle::Forward { base64 });
            let (found, out) = found(&mail).unwrap();
            assert_eq!(found.forwarded, level);
            assert!(out == sealed());
        }
        mail = mangled(&mail, Mangle::Forward { base64 });
        assert!(matches!(found(&mail), Err(Error::ForwardedTooDeep { limit: MAX_FORWARDED })));
    }
}

#[test]
fn thirty_two_multiparts_within_each_other_are_followed_and_no_more() {
    let nested = |levels: usize| -> String {
        let open: String = (0..levels)
            .map(|level| format!("Content-Type: multipart/mixed; boundary=b{level}\n\n--b{level}\n"))
            .collect();
        open + "Content-Type: application/vnd.fairpost.sealed+cose\n\nFPSEAL1\nsealed"
    };
    // None of them is closed, as in a mail that was cut off.
    let (_, out) = found(nested(MAX_NESTED).as_bytes()).unwrap();
    assert!(out == b"FPSEAL1\nsealed");
    let error = found(nested(MAX_NESTED + 1).as_bytes()).unwrap_err();
    assert!(matches!(error, Error::NestedTooDeep { limit: MAX_NESTED }), "{error}");
}

#[test]
fn a_header_beyond_its_limits_is_an_error() {
    let long = format!("X: {}\r\n\r\nFPSEAL1\n", "x".repeat(MAX_HEADER));
    assert!(matches!(found(long.as_bytes()), Err(Error::HeaderTooLong { limit: MAX_HEADER })));
    let field = format!("Content-Type: text/plain; {}\r\n\r\n", " x=y;\r\n".repeat(MAX_FIELD / 5));
    let error = found(field.as_bytes()).unwrap_err();
    assert!(matches!(error, Error::FieldTooLong { field: "Content-Type", limit: MAX_FIELD }), "{error}");
    let within = format!("X: {}\r\n\r\nFPSEAL1\n", "x".repeat(MAX_HEADER - 100));
    assert!(found(within.as_bytes()).is_ok());
}

#[test]
fn a_footer_below_the_base64_is_left_out() {
    for footer in [
        "_______________\r\nlist mailing list",
        "-- \r\nSent from my phone",
        "\r\nScanned by a gateway, twice.",
    ] {
        for bytes in [sealed(), [sealed(), vec![0]].concat(), [sealed(), vec![0; 2]].concat()] {
            let body = STANDARD.encode(&bytes);
            let mail = format!(
                "Content-Type: {MEDIA_TYPE}\nContent-Transfer-Encoding: base64\n\n{body}\n{footer}\n"
            );
            assert!(found(mail.as_bytes()).unwrap().1 == bytes, "{footer}");
        }
    }
}

#[test]
fn binary_content_keeps_its_line_ends_wherever_pieces_of_lines_are_cut() {
    for length in (0..20).chain(8170..8210).chain(16_370..16_390) {
        for end in ["", "\n", "\r", "\r\n", "\n\r", "\r\r", "\r\n\r\n"] {
            let content = format!("FPSEAL1\n{}{end}", "x".repeat(length));
            let mail = multipart(&[&format!("Content-Type: x/y\r\n\r\n{content}"), "\r\nnext"]);
            assert!(found(&mail).unwrap().1 == content.as_bytes(), "{length} {end:?}");
        }
    }
}

#[test]
fn quoted_printable_is_decoded_wherever_pieces_of_lines_are_cut() {
    for length in 8170..8200 {
        let body = format!("=46PSEAL1=0a{}=3D=3d=\r\n=C3=BC  \r\n=ZZ", "x".repeat(length));
        let mail = multipart(&[&format!("Content-Transfer-Encoding: quoted-printable\r\n\r\n{body}")]);
        let content = format!("FPSEAL1\n{}==ü\r\n=ZZ", "x".repeat(length));
        assert!(found(&mail).unwrap().1 == content.as_bytes(), "{length}");
    }
}

#[test]
fn the_parts_of_a_digest_are_mails() {
    let mail =
        b"Content-Type: multipart/digest; boundary=d\n\n--d\n\nContent-Type: x/y\n\nFPSEAL1\nsealed\n--d--\n";
    let (found, out) = found(mail).unwrap();
    assert_eq!((found.forwarded, out.as_slice()), (1, b"FPSEAL1\nsealed".as_slice()));
}

#[test]
fn a_byte_order_mark_and_empty_lines_before_a_mail_are_passed_over() {
    let mail = [b"\xEF\xBB\xBF\r\n\n".as_slice(), &packed(&sealed())].concat();
    assert!(found(&mail).unwrap().1 == sealed());
}

#[test]
fn a_mail_that_a_library_forwards_is_found() {
    let mut mail = Vec::new();
    mail_builder::MessageBuilder::new()
        .from("a@example.org")
        .to("b@example.org")
        .subject("Fwd: Certified mail")
        .text_body("see attached")
        .attachment("message/rfc822", "forwarded.eml", packed(&sealed()))
        .write_to(&mut mail)
        .unwrap();
    let (found, out) = found(&mail).unwrap();
    assert_eq!((found.forwarded, found.mark), (1, Mark::MediaType));
    assert!(out == sealed());
}

#[test]
fn a_line_that_only_begins_like_a_boundary_is_content() {
    let content = "FPSEAL1\n--bc\n--b--c\n --b\n--B\n-b";
    let mail = multipart(&[&format!("Content-Type: x/y\r\n\r\n{content}")]);
    assert_eq!(String::from_utf8(found(&mail).unwrap().1).unwrap(), content);
}

#[test]
fn of_a_field_that_is_there_twice_the_first_counts() {
    let head = format!("Content-Type: {MEDIA_TYPE}\nContent-Type: text/plain; name=x.eml\n\n");
    assert_eq!(found(format!("{head}sealed").as_bytes()).unwrap().1, b"sealed");
}
