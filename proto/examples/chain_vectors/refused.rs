//! Chains that are refused, each for one reason.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose as Purpose,
    GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose as Usage, NameConstraints, SanType, date_time_ymd,
};

use crate::make::{
    ALICE, Authority, BEGIN, END, NOW, Outcome, RawKey, Vectors, custom, key, signer_parameters,
};

/// Chains that are refused when they are parsed.
pub(crate) fn malformed(to: &mut Vectors, root: &Authority) -> Outcome<()> {
    let alice = root.alice(|_| {})?;
    let mut refused = |name: &str, meaning: &str, chain: &[&[u8]], error: &str| {
        to.chain(name, meaning, chain, &[&root.der], error)
    };
    refused("empty", "No certificate.", &[], "has no certificate");
    let five: [&[u8]; 5] = [&alice, &root.der, &root.der, &root.der, &root.der];
    refused("five", "More than four certificates.", &five, "has 5 certificates, at most 4");
    let large = root.alice(|alice| {
        alice.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5; 4096])];
    })?;
    refused("too-large", "More than 4096 bytes.", &[&large], "at most 4096 are allowed");
    refused(
        "no-bytes",
        "A certificate without a byte.",
        &[&[]],
        "certificate 0 is no X.509 certificate in DER",
    );
    let trailing = [alice.as_slice(), &[0]].concat();
    refused(
        "trailing",
        "A byte after the end.",
        &[&trailing],
        "certificate 0 is no X.509 certificate in DER",
    );
    let truncated = alice.split_last().map(|(_, rest)| rest).unwrap_or_default();
    refused(
        "truncated",
        "The last byte is missing.",
        &[truncated],
        "certificate 0 is no X.509 certificate in DER",
    );
    let pem = b"-----BEGIN CERTIFICATE-----\n";
    refused("pem", "PEM instead of DER.", &[pem], "certificate 0 is no X.509 certificate in DER");
    let twice = [custom(&[1, 2, 3, 4], false, "0500")?, custom(&[1, 2, 3, 4], false, "0500")?];
    let twice = root.alice(|alice| alice.custom_extensions = twice.into())?;
    refused(
        "unknown-twice",
        "An unknown extension stands twice.",
        &[&twice],
        "certificate 0 has extension 1.2.3.4 twice",
    );
    let usage = custom(&[2, 5, 29, 15], true, "03020780")?;
    let twice = root.alice(|alice| alice.custom_extensions = vec![usage])?;
    refused(
        "usage-twice",
        "KeyUsage stands twice.",
        &[&twice],
        "certificate 0 has extension 2.5.29.15 twice",
    );
    let unknown = custom(&[1, 2, 3, 4], true, "0500")?;
    let critical = root.alice(|alice| alice.custom_extensions = vec![unknown])?;
    let meaning = "A critical extension is unknown.";
    refused(
        "critical-unknown",
        meaning,
        &[&critical],
        "certificate 0 is not supported: UnsupportedCriticalExtension",
    );
    let names = custom(&[2, 5, 29, 17], false, "30138111616c696365406578616d706c652e6f726700")?;
    let trailing = root.alice(|alice| {
        alice.subject_alt_names.clear();
        alice.custom_extensions = vec![names];
    })?;
    let meaning = "A byte after the end of SubjectAltName.";
    refused("trailing-in-extension", meaning, &[&trailing], "certificate 0 is no X.509 certificate in DER");
    let never = root.alice(|alice| alice.not_after = date_time_ymd(2029, 1, 1))?;
    refused("never-valid", "It ends before it begins.", &[&never], "which is never");
    let above = root.below("Above", 2, |_| {})?;
    let one = above.alice(|_| {})?;
    let meaning = "The second certificate is not the first one's issuer.";
    refused(
        "unrelated",
        meaning,
        &[&one, &root.der],
        "that of \"CN=Root\", but the one before it was issued by \"CN=Above\"",
    );
    refused(
        "reversed",
        "The issuer comes first.",
        &[&above.der, &one],
        "but the one before it was issued by \"CN=Root\"",
    );
    let issue = |bytes: Vec<u8>, algorithm| root.issue(&signer_parameters()?, &RawKey(bytes, algorithm));
    let p256 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let other = root.issue(&signer_parameters()?, &p256)?;
    refused(
        "p256-signer",
        "A signer's key for ECDSA.",
        &[&other],
        "algorithm 1.2.840.10045.2.1, not 1.3.101.112",
    );
    let noncanonical = [[0xf0].as_slice(), &[0xff; 30], &[0x7f]].concat();
    let der = issue(noncanonical, &rcgen::PKCS_ED25519)?;
    let meaning = "The second encoding of a point: its coordinate is 3 + (2^255 - 19).";
    refused("key-not-canonical", meaning, &[&der], "is not the encoding of an Ed25519 key");
    let no_point = [[2].as_slice(), &[0; 31]].concat();
    let der = issue(no_point, &rcgen::PKCS_ED25519)?;
    refused(
        "key-no-point",
        "No point has the coordinate 2.",
        &[&der],
        "is not the encoding of an Ed25519 key",
    );
    let identity = [[1].as_slice(), &[0; 31]].concat();
    let der = issue(identity, &rcgen::PKCS_ED25519)?;
    refused("key-weak", "The neutral point.", &[&der], "is an Ed25519 key of small order");
    let der = issue(vec![7; 33], &rcgen::PKCS_ED25519)?;
    refused("key-too-long", "A key of 33 bytes.", &[&der], "is not the encoding of an Ed25519 key");
    Ok(())
}

/// Chains that an anchor issued, but not for this use.
pub(crate) fn not_hers(to: &mut Vectors, root: &Authority) -> Outcome<()> {
    let alice = root.alice(|_| {})?;
    let anchors: &[&[u8]] = &[&root.der];
    let address = "the certificate is for [\"alice@example.org\"], not for";
    for (name, other) in [
        ("another", "bob@example.org"),
        ("upper-case", "Alice@example.org"),
        ("longer", "alice@example.org."),
    ] {
        let name = format!("address-{name}");
        to.chain_at(&name, "Addresses are compared byte by byte.", &[&alice], anchors, (other, NOW), address);
    }
    let unnamed = root.alice(|alice| {
        alice.subject_alt_names.clear();
        alice.distinguished_name.push(DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]), ALICE);
    })?;
    to.chain(
        "address-in-subject",
        "The subject's name does not count.",
        &[&unnamed],
        anchors,
        "the certificate is for [], not",
    );
    let dns = SanType::DnsName(ALICE.try_into()?);
    let dns = root.alice(|alice| alice.subject_alt_names = vec![dns])?;
    to.chain(
        "address-as-dns-name",
        "A dNSName is no address.",
        &[&dns],
        anchors,
        "the certificate is for [], not",
    );
    let zero = SanType::Rfc822Name(format!("{ALICE}\0.evil.example").try_into()?);
    let zero = root.alice(|alice| alice.subject_alt_names = vec![zero])?;
    to.chain(
        "address-with-zero",
        "A zero byte ends nothing.",
        &[&zero],
        anchors,
        "the certificate is for [\"alice@example.org\\0",
    );
    let error = "certificate 0 is valid from 2030-01-01T00:00:00Z on, and it is 2029-12-31T23:59:59.999Z";
    to.chain_at("not-yet", "One millisecond too early.", &[&alice], anchors, (ALICE, BEGIN - 1), error);
    let error = "certificate 0 was valid until 2031-01-01T00:00:00Z, and it is 2031-01-01T00:00:01Z";
    to.chain_at("expired", "One second too late.", &[&alice], anchors, (ALICE, END + 1000), error);
    let mut refused = |name: &str, meaning: &str, change: &dyn Fn(&mut CertificateParams), error: &str| {
        to.chain(name, meaning, &[&root.alice(|alice| change(alice))?], anchors, error);
        Outcome::Ok(())
    };
    let error = "must be for digitalSignature or nonRepudiation, and its KeyUsage is missing";
    refused("no-usage", "A signer must have KeyUsage.", &|alice| alice.key_usages.clear(), error)?;
    let error =
        "certificate 0 must be for digitalSignature or nonRepudiation, and its KeyUsage is [KeyEncipherment]";
    refused(
        "other-usage",
        "A key for encryption.",
        &|alice| alice.key_usages = vec![Usage::KeyEncipherment],
        error,
    )?;
    let (server, any) = (vec![Purpose::ServerAuth], vec![Purpose::Any]);
    let error = "certificate 0 is for [\"1.3.6.1.5.5.7.3.1\"] only";
    refused("other-purpose", "A TLS server's.", &|alice| alice.extended_key_usages = server.clone(), error)?;
    let error = "certificate 0 is for [\"2.5.29.37.0\"] only";
    refused("any-purpose", "anyExtendedKeyUsage.", &|alice| alice.extended_key_usages = any.clone(), error)?;
    let ca = |alice: &mut CertificateParams| alice.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let error = "the signer's certificate is that of a certificate authority, \"CN=Alice\"";
    refused("signer-is-authority", "A signer is no CA.", &ca, error)?;
    Ok(())
}

/// Chains that no anchor issued.
pub(crate) fn not_issued(to: &mut Vectors, root: &Authority) -> Outcome<()> {
    let alice = root.alice(|_| {})?;
    to.chain("no-anchors", "Nobody is trusted.", &[&alice], &[], "no trust anchor is \"CN=Root\"");
    let other = Authority::root("Other", key(5)?, |_| {})?;
    let error = "no trust anchor is \"CN=Root\", the issuer of the certificates; there are [\"CN=Other\"]";
    to.chain("other-anchor", "Another authority is trusted.", &[&alice], &[&other.der], error);
    let forger = Authority::root("Root", key(6)?, |_| {})?;
    let error = "do not lead to trust anchor \"CN=Root\": InvalidSignatureForPublicKey";
    to.chain(
        "forged",
        "Issued by one who took the anchor's name.",
        &[&forger.alice(|_| {})?],
        &[&root.der],
        error,
    );
    let meaning = "The same, with the forger's own certificate in the chain.";
    to.chain("forged-with-root", meaning, &[&forger.alice(|_| {})?, &forger.der], &[&root.der], error);
    let mut changed = alice.clone();
    if let Some(last) = changed.last_mut() {
        *last ^= 1;
    }
    to.chain("signature-changed", "The last bit of the signature.", &[&changed], &[&root.der], error);
    let itself = Authority::root("Alice", key(10)?, |alice| {
        alice.is_ca = IsCa::NoCa;
        alice.key_usages = vec![Usage::DigitalSignature];
        alice.subject_alt_names = ALICE.try_into().map(SanType::Rfc822Name).into_iter().collect();
    })?;
    to.chain(
        "self-signed",
        "A signer vouches for itself.",
        &[&itself.der],
        &[&root.der],
        "no trust anchor is \"CN=Alice\"",
    );

    let mut below = |name: &str, meaning: &str, change: &dyn Fn(&mut CertificateParams), error: &str| {
        let below = root.below("Below", 2, |below| change(below))?;
        to.chain(name, meaning, &[&below.alice(|_| {})?, &below.der], &[&root.der], error);
        Outcome::Ok(())
    };
    let error = "certificate 1 is not that of a certificate authority: \"CN=Below\"";
    below(
        "issuer-no-authority",
        "An issuer without BasicConstraints.",
        &|below| below.is_ca = IsCa::NoCa,
        error,
    )?;
    below(
        "issuer-not-authority",
        "An issuer that is said to be none.",
        &|below| below.is_ca = IsCa::ExplicitNoCa,
        error,
    )?;
    let error = "certificate 1 must be for keyCertSign, and its KeyUsage is [CRLSign]";
    below(
        "issuer-other-usage",
        "An issuer's key for CRLs.",
        &|below| below.key_usages = vec![Usage::CrlSign],
        error,
    )?;
    let (purpose, error) = (vec![Purpose::ServerAuth], "certificate 1 is for [\"1.3.6.1.5.5.7.3.1\"] only");
    below(
        "issuer-other-purpose",
        "An issuer for TLS servers.",
        &|below| below.extended_key_usages = purpose.clone(),
        error,
    )?;
    let early = |below: &mut CertificateParams| below.not_after = date_time_ymd(2030, 5, 31);
    below(
        "issuer-expired",
        "An issuer that has expired.",
        &early,
        "certificate 1 was valid until 2030-05-31T00:00:00Z",
    )?;
    let late = |below: &mut CertificateParams| below.not_before = date_time_ymd(2030, 6, 2);
    below(
        "issuer-not-yet",
        "An issuer that is not yet valid.",
        &late,
        "certificate 1 is valid from 2030-06-02T00:00:00Z",
    )?;
    let constrain = |below: &mut CertificateParams| {
        let permitted_subtrees = vec![GeneralSubtree::Rfc822Name("example.org".into())];
        below.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: vec![] });
    };
    let meaning = "Constraints on addresses are not evaluated, so who carries them is refused.";
    below("issuer-constrained", meaning, &constrain, "\"CN=Root\": NameConstraintViolation")?;

    let short = root.below("Short", 3, |short| short.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)))?;
    let under = short.below("Under", 4, |_| {})?;
    let chain: [&[u8]; 3] = [&under.alice(|_| {})?, &under.der, &short.der];
    let meaning = "An issuer that allows no authority below it.";
    to.chain("issuer-path-length", meaning, &chain, &[&root.der], "\"CN=Root\": PathLenConstraintViolated");
    let last =
        Authority::root("Last", key(9)?, |last| last.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)))?;
    let under = last.below("Under", 4, |_| {})?;
    let chain: [&[u8]; 2] = [&under.alice(|_| {})?, &under.der];
    let meaning = "An anchor that allows no authority below it.";
    to.chain(
        "anchor-path-length",
        meaning,
        &chain,
        &[&last.der],
        "\"CN=Last\" allows 0 authorities below it, and there are 1",
    );
    let old = Authority::root("Old", key(5)?, |old| old.not_after = date_time_ymd(2030, 5, 31))?;
    let error =
        "trust anchor \"CN=Old\" was valid until 2030-05-31T00:00:00Z, and it is 2030-06-01T00:00:00Z";
    to.chain("anchor-expired", "An anchor that has expired.", &[&old.alice(|_| {})?], &[&old.der], error);
    let new = Authority::root("New", key(5)?, |new| new.not_before = date_time_ymd(2030, 6, 2))?;
    let error =
        "trust anchor \"CN=New\" is valid from 2030-06-02T00:00:00Z on, and it is 2030-06-01T00:00:00Z";
    to.chain(
        "anchor-not-yet",
        "An anchor that is not yet valid.",
        &[&new.alice(|_| {})?],
        &[&new.der],
        error,
    );
    Ok(())
}
