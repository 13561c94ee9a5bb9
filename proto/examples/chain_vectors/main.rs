//! Makes the certificates in `proto/vectors/chain` anew: `cargo run -p fairpost-proto --example chain_vectors`.
//!
//! Keys are fixed, save those of the authorities that sign with ECDSA, whose signatures are random anyway: so every run
//! gives other bytes that mean the same.

mod make;
mod refused;

use rcgen::{
    BasicConstraints, CustomExtension, ExtendedKeyUsagePurpose as Purpose, IsCa, KeyPair,
    KeyUsagePurpose as Usage, SanType, date_time_ymd,
};

use make::{ALICE, Authority, BEGIN, END, Outcome, RawKey, Vectors, authority_parameters, custom, key};
use refused::{malformed, not_hers, not_issued};

fn main() -> Outcome<()> {
    let root = Authority::root("Root", key(1)?, |_| {})?;
    let mut chains = Vectors::default();
    convincing(&mut chains, &root)?;
    malformed(&mut chains, &root)?;
    not_hers(&mut chains, &root)?;
    not_issued(&mut chains, &root)?;
    chains.write("chains.json")?;
    let mut anchors = Vectors::default();
    trusted(&mut anchors, &root)?;
    anchors.write("anchors.json")
}

/// Chains that convince.
fn convincing(to: &mut Vectors, root: &Authority) -> Outcome<()> {
    let alice = root.alice(|_| {})?;
    to.chain("direct", "The anchor issued the signer's certificate.", &[&alice], &[&root.der], "");
    to.chain("with-anchor", "The anchor may stand in the chain.", &[&alice, &root.der], &[&root.der], "");
    to.chain_at(
        "first-millisecond",
        "Valid from its first millisecond on.",
        &[&alice],
        &[&root.der],
        (ALICE, BEGIN),
        "",
    );
    let meaning = "Times of certificates are whole seconds, and the last one counts to its end.";
    to.chain_at("last-millisecond", meaning, &[&alice], &[&root.der], (ALICE, END + 999), "");
    let above = root.below("Above", 2, |_| {})?;
    let middle = above.below("Middle", 3, |_| {})?;
    let lowest = middle.below("Lowest", 4, |_| {})?;
    let far = lowest.alice(|_| {})?;
    let one = above.alice(|_| {})?;
    to.chain("one-between", "One authority between.", &[&one, &above.der], &[&root.der], "");
    let meaning = "Three authorities between: the longest chain.";
    to.chain("three-between", meaning, &[&far, &lowest.der, &middle.der, &above.der], &[&root.der], "");
    let meaning = "An authority that another one issued may be an anchor.";
    to.chain("anchor-between", meaning, &[&far, &lowest.der], &[&middle.der], "");
    let other = Authority::root("Other", key(5)?, |_| {})?;
    to.chain("second-anchor", "One of the anchors is enough.", &[&alice], &[&other.der, &root.der], "");
    let renewed = Authority::root("Root", key(6)?, |_| {})?;
    let meaning = "Two anchors of one name: an authority that changed its key.";
    to.chain("renewed-anchor", meaning, &[&alice], &[&renewed.der, &root.der], "");
    let with_p256 = Authority::root("P-256", KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?, |_| {})?;
    let with_p384 = Authority::root("P-384", KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?, |_| {})?;
    to.chain("p256", "ECDSA with P-256 and SHA-256.", &[&with_p256.alice(|_| {})?], &[&with_p256.der], "");
    to.chain("p384", "ECDSA with P-384 and SHA-384.", &[&with_p384.alice(|_| {})?], &[&with_p384.der], "");
    let several = root.alice(|alice| {
        let names = ["a@example.org", ALICE].into_iter().flat_map(|name| name.try_into());
        alice.subject_alt_names = names.map(SanType::Rfc822Name).collect();
    })?;
    to.chain(
        "several-addresses",
        "One of its addresses is the one asked for.",
        &[&several],
        &[&root.der],
        "",
    );
    let usage = root.alice(|alice| alice.key_usages = vec![Usage::ContentCommitment])?;
    to.chain("non-repudiation", "nonRepudiation alone is enough.", &[&usage], &[&root.der], "");
    let bare = root.alice(|alice| alice.extended_key_usages.clear())?;
    to.chain("no-purpose", "ExtendedKeyUsage may be missing.", &[&bare], &[&root.der], "");
    let unsaid = root.below("Unsaid", 7, |below| below.key_usages.clear())?;
    let under = unsaid.alice(|_| {})?;
    to.chain("issuer-no-usage", "An issuer may have no KeyUsage.", &[&under, &unsaid.der], &[&root.der], "");
    let short = root.below("Short", 8, |below| below.not_after = date_time_ymd(2030, 7, 1))?;
    let meaning = "The chain ends with the first of its certificates: `not_after` is its issuer's.";
    to.chain("issuer-ends-first", meaning, &[&short.alice(|_| {})?, &short.der], &[&root.der], "");
    let last =
        Authority::root("Last", key(9)?, |last| last.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)))?;
    let meaning = "The anchor allows no authority below it, and there is none.";
    to.chain("path-length-zero", meaning, &[&last.alice(|_| {})?], &[&last.der], "");
    Ok(())
}

/// Anchors, good and bad.
fn trusted(to: &mut Vectors, root: &Authority) -> Outcome<()> {
    to.anchor("ed25519", "An authority that signed itself.", &root.der, "");
    let with_p256 = Authority::root("P-256", KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?, |_| {})?;
    to.anchor("p256", "ECDSA with P-256.", &with_p256.der, "");
    let with_p384 = Authority::root("P-384", KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?, |_| {})?;
    to.anchor("p384", "ECDSA with P-384.", &with_p384.der, "");
    let below = root.below("Below", 2, |_| {})?;
    to.anchor("issued", "An authority that another one issued.", &below.der, "");
    let unsaid = Authority::root("Unsaid", key(3)?, |unsaid| unsaid.key_usages.clear())?;
    to.anchor("no-usage", "KeyUsage may be missing.", &unsaid.der, "");
    let signer = Authority::root("Alice", key(10)?, |alice| alice.is_ca = IsCa::NoCa)?;
    to.anchor(
        "no-authority",
        "No CA's.",
        &signer.der,
        "is not that of a certificate authority: \"CN=Alice\"",
    );
    let crl = Authority::root("Lists", key(3)?, |crl| crl.key_usages = vec![Usage::CrlSign])?;
    to.anchor(
        "other-usage",
        "A key for CRLs.",
        &crl.der,
        "must be for keyCertSign, and its KeyUsage is [CRLSign]",
    );
    let server =
        Authority::root("Servers", key(3)?, |tls| tls.extended_key_usages = vec![Purpose::ServerAuth])?;
    to.anchor("other-purpose", "For TLS servers.", &server.der, "is for [\"1.3.6.1.5.5.7.3.1\"] only");
    let rsa = root.issue(&authority_parameters("RSA"), &RawKey(vec![0x30, 0], &rcgen::PKCS_RSA_SHA256))?;
    to.anchor("rsa", "RSA does not count.", &rsa, "algorithm 1.2.840.113549.1.1.1, not Ed25519 or ECDSA");
    let mut changed = root.der.clone();
    if let Some(last) = changed.last_mut() {
        *last ^= 1;
    }
    let error =
        "trust anchor \"CN=Root\" says that it signed itself, and did not: InvalidSignatureForPublicKey";
    to.anchor("signature-changed", "The last bit of the signature.", &changed, error);
    let trailing = [root.der.as_slice(), &[0]].concat();
    to.anchor("trailing", "A byte after the end.", &trailing, "is no X.509 certificate in DER");
    let large = Authority::root("Large", key(3)?, |large| {
        large.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5; 4096])];
    })?;
    to.anchor("too-large", "More than 4096 bytes.", &large.der, "at most 4096 are allowed");
    let never = Authority::root("Never", key(3)?, |never| never.not_after = date_time_ymd(2024, 1, 1))?;
    to.anchor("never-valid", "It ends before it begins.", &never.der, "which is never");
    let unknown = custom(&[1, 2, 3, 4], true, "0500")?;
    let critical =
        Authority::root("Critical", key(3)?, |critical| critical.custom_extensions = vec![unknown])?;
    to.anchor(
        "critical-unknown",
        "A critical extension is unknown.",
        &critical.der,
        "UnsupportedCriticalExtension",
    );
    Ok(())
}
