//! Sealing and reading back, without any cluster.

mod support;

use fairpost::seal;
use fairpost::sealed_mail::{self, SealedMail};
use fairpost_proto::evidence;
use fairpost_proto::ids::{Protocol, Span, Verdict};
use support::{MAIL, World};

#[test]
fn what_is_sealed_is_read_back_and_opens_with_the_release_token_alone() {
    let world = World::new();
    for protocol in [Protocol::Cmp1, Protocol::Cmp2] {
        let (sealed, bytes) = world.seal(protocol);
        let mut mail = SealedMail::read(bytes.as_slice()).unwrap();
        mail.check(&world.trust, fairpost::now()).unwrap();
        assert_eq!(mail.terms(), &sealed.terms);
        assert_eq!(mail.terms().protocol, protocol);
        assert_eq!(mail.exchange(), sealed.exchange);
        for party in [&world.recipient, &world.sender] {
            let lock = mail.lock_for(party.sealing_key()).unwrap();
            let mut out = Vec::new();
            let length =
                mail.unlock(&lock, &world.token(Verdict::Released, sealed.exchange), &mut out).unwrap();
            assert_eq!((out.as_slice(), length), (MAIL, MAIL.len() as u64));
            for verdict in [Verdict::Withdrawn, Verdict::Refused, Verdict::Expired] {
                let mut nothing = Vec::new();
                assert!(mail.unlock(&lock, &world.token(verdict, sealed.exchange), &mut nothing).is_err());
                assert_eq!(nothing, b"");
            }
        }
    }
}

#[test]
fn in_cmp2_a_stranger_finds_no_lock_to_open() {
    let world = World::new();
    let mail = world.sealed_mail(Protocol::Cmp2);
    assert!(mail.lock_for(World::new().recipient.sealing_key()).is_err());
    assert!(world.sealed_mail(Protocol::Cmp1).lock_for(World::new().recipient.sealing_key()).is_ok());
}

#[test]
fn no_changed_byte_is_taken() {
    let world = World::new();
    let (_, bytes) = world.seal(Protocol::Cmp2);
    for at in (0..bytes.len()).step_by(7).chain([bytes.len() - 1]) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(SealedMail::read(changed.as_slice()).is_err(), "byte {at}");
    }
    let cut = &bytes[..bytes.len() - 1];
    assert!(matches!(SealedMail::read(cut), Err(sealed_mail::Error::Body { .. })));
}

#[test]
fn a_mail_for_another_cluster_is_refused() {
    let (world, other) = (World::new(), World::new());
    let checked = world.sealed_mail(Protocol::Cmp1).check(&other.trust, fairpost::now());
    assert!(matches!(checked, Err(evidence::Error::ForeignCluster { .. })));
}

#[test]
fn what_the_cluster_would_refuse_is_not_sealed() {
    let world = World::new();
    let refused = |options: seal::Options| {
        let mut out = Vec::new();
        let mail = std::io::Cursor::new(MAIL);
        let error =
            seal::seal(&world.sender, &world.card(), &world.trust, options, mail, &mut out).unwrap_err();
        assert_eq!(out, b"", "nothing may be written");
        error
    };
    let days =
        |days: u64| seal::Options { lifetime: Span::from_seconds(days * 86_400), ..seal::Options::default() };
    // The certificate lasts 30 days, the cluster allows 90.
    assert!(matches!(refused(days(31)), seal::Error::Refused(evidence::Error::CertificateTooShort { .. })));
    assert!(matches!(refused(days(91)), seal::Error::Refused(evidence::Error::Lifetime { .. })));
    assert!(matches!(refused(days(0)), seal::Error::Terms(_)));
}

#[test]
fn a_card_that_no_anchor_vouches_for_is_refused() {
    let (world, other) = (World::new(), World::new());
    let mail = std::io::Cursor::new(MAIL);
    let sealed =
        seal::seal(&world.sender, &other.card(), &world.trust, seal::Options::default(), mail, Vec::new());
    assert!(matches!(sealed, Err(seal::Error::Card(_))));
}
