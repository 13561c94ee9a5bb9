//! What a cheating sender or a meddling carrier may try.

use std::io::{self, Read};

use super::*;

#[test]
fn a_copy_spliced_from_another_exchange_is_refused() {
    let mut other = Vec::new();
    seal(&sealing(Protocol::Cmp2, OTHER), &salt(), &b"mail"[..], &mut other).unwrap();
    let (theirs, _) = header_of(&other);
    // The whole stanza of the other exchange, but for the name of the exchange.
    let spliced = with_stanza(&body(Protocol::Cmp2, b"mail").0, Protocol::Cmp2, |header| {
        header.args[1].clone_from(&theirs.args[1]);
        header.body.clone_from(&theirs.body);
    });
    let stanza = inspect(&spliced[..], Protocol::Cmp2, EXCHANGE).unwrap();
    for key in [recipient(), sender()] {
        assert!(matches!(stanza.lock_for(&key), Err(Error::NoCopy { exchange: EXCHANGE, .. })));
    }
}

#[test]
fn a_copy_of_another_lock_is_refused() {
    let (ours, theirs) = (body(Protocol::Cmp2, b"mail").0, body(Protocol::Cmp2, b"mail").0);
    let (theirs, _) = header_of(&theirs);
    let mixed = with_stanza(&ours, Protocol::Cmp2, |header| header.body.clone_from(&theirs.body));
    let stanza = inspect(&mixed[..], Protocol::Cmp2, EXCHANGE).unwrap();
    assert!(matches!(stanza.lock_for(&recipient()), Err(Error::OtherLock { .. })));
}

#[test]
fn a_copy_of_an_invalid_lock_is_refused() {
    let mut identity = [0; Locked::SIZE];
    identity[0] = 0xc0;
    let body = with_stanza(&body(Protocol::Cmp2, b"mail").0, Protocol::Cmp2, |header| {
        let public = <hpke::kem::X25519HkdfSha256 as hpke::Kem>::PublicKey::from_bytes(
            &recipient().public().to_bytes(),
        )
        .unwrap();
        use hpke::{Deserializable as _, Serializable as _};
        let (key, ciphertext) = hpke::single_shot_seal::<
            hpke::aead::ChaCha20Poly1305,
            hpke::kdf::HkdfSha256,
            hpke::kem::X25519HkdfSha256,
            _,
        >(
            &hpke::OpModeS::Base,
            &public,
            &[&b"fairpost/cmp2/v1"[..], EXCHANGE.as_bytes()].concat(),
            &identity,
            &[],
            &mut ChaCha20Rng::seed_from_u64(1),
        )
        .unwrap();
        let copy = [key.to_bytes().as_slice(), &ciphertext].concat();
        *header = super::stanza::cmp2(EXCHANGE, Digest::of(&identity), [&copy[..], &copy].concat());
    });
    let stanza = inspect(&body[..], Protocol::Cmp2, EXCHANGE).unwrap();
    let refused = stanza.lock_for(&recipient()).unwrap_err();
    assert!(matches!(refused, Error::Lock(_)) && refused.to_string().contains("identity"), "{refused}");
}

#[test]
fn a_stanza_of_any_other_length_is_refused() {
    for (protocol, expected) in [(Protocol::Cmp1, 80), (Protocol::Cmp2, 256)] {
        let good = body(protocol, b"mail").0;
        for length in [0, expected - 1, expected + 1, expected * 2].into_iter().chain([128, 384]) {
            let other = with_stanza(&good, protocol, |header| header.body.resize(length, 0));
            let refused = inspect(&other[..], protocol, EXCHANGE).unwrap_err();
            assert!(
                matches!(refused, Error::StanzaBody { expected: e, found } if (e, found) == (expected, length)),
                "{protocol}, {length} bytes: {refused}"
            );
        }
    }
}

#[test]
fn another_lock_is_refused_and_accuses_nobody() {
    let (ours, content) = body(Protocol::Cmp2, b"mail");
    let theirs = body(Protocol::Cmp2, b"mail").0;
    let lock = inspect(&theirs[..], Protocol::Cmp2, EXCHANGE).unwrap().lock_for(&recipient()).unwrap();
    let outcome = open(&ours[..], &lock, &token(), content, io::sink());
    assert!(matches!(outcome, Err(Error::OtherLock { .. })), "{outcome:?}");
}

#[test]
fn no_changed_bit_opens() {
    for protocol in [Protocol::Cmp1, Protocol::Cmp2] {
        let (body, content) = body(protocol, b"a mail");
        let (_, header) = header_of(&body);
        for place in 0..body.len() {
            let mut changed = body.clone();
            changed[place] ^= 1;
            let refused = receive(&changed, protocol, &token(), content).unwrap_err();
            let in_payload = place >= header.len();
            let garbage = matches!(refused, Error::Garbage(Garbage::Payload { after: 0 }));
            assert_eq!(in_payload, garbage, "{protocol}, byte {place}: {refused}");
        }
    }
}

#[test]
fn no_cut_and_no_addition_opens() {
    let (body, content) = body(Protocol::Cmp1, &[5; 70_000]);
    let (_, header) = header_of(&body);
    for length in (0..header.len() + 40).chain([body.len() - 1, header.len() + 16 + 65_536 + 16]) {
        let refused = receive(&body[..length], Protocol::Cmp1, &token(), content).unwrap_err();
        let garbage = matches!(refused, Error::Garbage(Garbage::Payload { .. }));
        assert_eq!(length >= header.len(), garbage, "{length} bytes: {refused}");
    }
    let longer = [&body[..], &[0]].concat();
    let refused = receive(&longer, Protocol::Cmp1, &token(), content).unwrap_err();
    assert!(matches!(refused, Error::Garbage(Garbage::Payload { after: 65_536 })), "{refused}");
}

#[test]
fn garbage_says_which() {
    let protocol = Protocol::Cmp2;
    let (good, content) = body(protocol, b"mail");

    let (_, header) = header_of(&good);
    let mac = header.len() - 10;
    let mut other_mac = good.clone();
    other_mac[mac] = if good[mac] == b'A' { b'B' } else { b'A' };
    assert!(matches!(
        receive(&other_mac, protocol, &token(), content),
        Err(Error::Garbage(Garbage::HeaderMac))
    ));

    // A stanza that is in order, around the lock of another file key.
    let (other, _) = header_of(&body(protocol, b"mail").0);
    let other_key = with_stanza(&good, protocol, |header| *header = other);
    assert!(matches!(
        receive(&other_key, protocol, &token(), content),
        Err(Error::Garbage(Garbage::HeaderMac))
    ));

    let committed = Digest::of(b"something else");
    assert!(matches!(
        receive(&good, protocol, &token(), committed),
        Err(Error::Garbage(Garbage::Content { committed: c, found })) if (c, found) == (committed, content)
    ));

    let mut elsewhere = sealing(protocol, EXCHANGE);
    elsewhere.cluster = ClusterId::new([8; 32]);
    let mut locked_elsewhere = Vec::new();
    seal(&elsewhere, &salt(), &b"mail"[..], &mut locked_elsewhere).unwrap();
    assert!(matches!(
        receive(&locked_elsewhere, protocol, &token(), content),
        Err(Error::Garbage(Garbage::Lock(lock::Error::WrongU { .. })))
    ));

    let mut short = Vec::new();
    seal_plaintext(&sealing(protocol, EXCHANGE), &[9; 31][..], &mut short).unwrap();
    assert!(matches!(
        receive(&short, protocol, &token(), Digest::of(&[9; 31])),
        Err(Error::Garbage(Garbage::NoSalt { expected: 32, found: 31 }))
    ));
}

#[test]
fn what_the_age_crate_writes_around_our_stanza_is_refused_for_its_grease() {
    struct Ours(Header);
    impl age::Recipient for Ours {
        fn wrap_file_key(
            &self,
            _: &FileKey,
        ) -> Result<(Vec<age_core::format::Stanza>, std::collections::HashSet<String>), age::EncryptError>
        {
            let Header { tag, args, body } = &self.0;
            let (tag, args, body) = (tag.clone(), args.clone(), body.clone());
            Ok((vec![age_core::format::Stanza { tag, args, body }], Default::default()))
        }
    }
    let ours = Ours(header_of(&body(Protocol::Cmp1, b"mail").0).0);
    let mut body = Vec::new();
    let age = age::Encryptor::with_recipients(std::iter::once(&ours as &dyn age::Recipient)).unwrap();
    age.wrap_output(&mut body).unwrap().finish().unwrap();
    let refused = inspect(&body[..], Protocol::Cmp1, EXCHANGE).unwrap_err();
    assert!(matches!(&refused, Error::SecondStanza { found } if found.contains("-grease")), "{refused}");
}

#[test]
fn a_header_beyond_64_kib_is_refused_however_it_gets_there() {
    let start = b"age-encryption.org/v1\n-> fairpost-cmp1 x\n";
    let full_line = [&[b'A'; 64][..], b"\n"].concat();
    let endless: [Box<dyn Read>; 3] = [
        Box::new(start.chain(io::repeat(b'A'))),
        Box::new(start.chain(io::Cursor::new(full_line.repeat(2000)))),
        Box::new(start.chain(io::Cursor::new(b"-> x\n\n".repeat(20_000)))),
    ];
    for body in endless {
        let refused = inspect(body, Protocol::Cmp1, EXCHANGE).unwrap_err();
        assert!(matches!(refused, Error::AgeHeaderTooLong { limit: MAX_AGE_HEADER }), "{refused}");
    }
    assert!(matches!(
        inspect(io::repeat(b'A'), Protocol::Cmp1, EXCHANGE),
        Err(Error::NotAge { found, .. }) if found.len() == 22
    ));
}
