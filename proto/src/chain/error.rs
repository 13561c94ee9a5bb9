//! Why a certificate does not convince.

use crate::ids::Timestamp;

/// Why a chain or an anchor is not one, or why a chain does not convince.
///
/// `place` is that of the certificate in its chain: 0 is the signer's, 1 its issuer's, and so on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no certificate at all.
    #[error("the chain has no certificate")]
    Empty,
    /// The chain is too long.
    #[error("the chain has {found} certificates, at most {most} are allowed")]
    TooMany {
        /// How many there may be.
        most: usize,
        /// How many there are.
        found: usize,
    },
    /// A certificate is too large.
    #[error("certificate {place} has {found} bytes, at most {most} are allowed")]
    TooLarge {
        /// Its place.
        place: usize,
        /// How many bytes it may have.
        most: usize,
        /// How many it has.
        found: usize,
    },
    /// A certificate is not DER, or something is left over at its end or at the end of a part.
    #[error("certificate {place} is no X.509 certificate in DER: {problem}")]
    Der {
        /// Its place.
        place: usize,
        /// What the parser says.
        problem: String,
    },
    /// A certificate has something that its verification does not support: another version than 3, unique identifiers,
    /// or a critical extension that is unknown.
    #[error("certificate {place} is not supported: {problem}")]
    Unsupported {
        /// Its place.
        place: usize,
        /// What rustls-webpki says.
        problem: webpki::Error,
    },
    /// An extension stands twice.
    #[error("certificate {place} has extension {oid} twice")]
    DuplicateExtension {
        /// Its place.
        place: usize,
        /// Which extension.
        oid: String,
    },
    /// A certificate ends before it begins.
    #[error("certificate {place} is valid from {not_before} to {not_after}, which is never")]
    Validity {
        /// Its place.
        place: usize,
        /// When it begins.
        not_before: Timestamp,
        /// When it ends.
        not_after: Timestamp,
    },
    /// A certificate is not its predecessor's issuer.
    #[error("certificate {place} is that of {found:?}, but the one before it was issued by {expected:?}")]
    Order {
        /// Its place.
        place: usize,
        /// The issuer of the one before it.
        expected: String,
        /// Its subject.
        found: String,
    },
    /// A key has an algorithm that does not count here.
    #[error("the key is for algorithm {found}, not {expected}")]
    Algorithm {
        /// What it should be for.
        expected: &'static str,
        /// The OID that it has.
        found: String,
    },
    /// A key's bytes are no Ed25519 key in its one encoding (RFC 8032 §5.1.2).
    #[error("{found} is not the encoding of an Ed25519 key")]
    Key {
        /// Its bytes in hexadecimal, the first 64 of them.
        found: String,
    },
    /// A key is a point of small order: a signature under it can hold for any message.
    #[error("{found} is an Ed25519 key of small order")]
    WeakKey {
        /// Its bytes in hexadecimal.
        found: String,
    },
    /// The signer's certificate is for other addresses.
    #[error("the certificate is for {found:?}, not for {expected:?}")]
    Address {
        /// The address that was asked for.
        expected: String,
        /// The addresses (rfc822Name) in it.
        found: Vec<String>,
    },
    /// A certificate is not valid yet.
    #[error("certificate {place} is valid from {not_before} on, and it is {at}")]
    NotYetValid {
        /// Its place.
        place: usize,
        /// When it begins.
        not_before: Timestamp,
        /// The time that counts.
        at: Timestamp,
    },
    /// A certificate is no longer valid.
    #[error("certificate {place} was valid until {not_after}, and it is {at}")]
    Expired {
        /// Its place.
        place: usize,
        /// When it ended.
        not_after: Timestamp,
        /// The time that counts.
        at: Timestamp,
    },
    /// A certificate's key may not be used for this.
    #[error("the key of certificate {place} must be for {expected}, and its KeyUsage is {found}")]
    KeyUsage {
        /// Its place.
        place: usize,
        /// What it should be for.
        expected: &'static str,
        /// What it is for.
        found: String,
    },
    /// A certificate is for other purposes than mail.
    #[error("certificate {place} is for {found:?} only, not for {expected}")]
    Purpose {
        /// Its place.
        place: usize,
        /// What it should be for.
        expected: &'static str,
        /// The OIDs in its ExtendedKeyUsage.
        found: Vec<String>,
    },
    /// The signer's certificate is a CA's.
    #[error("the signer's certificate is that of a certificate authority, {subject:?}")]
    SignerIsAuthority {
        /// Its subject.
        subject: String,
    },
    /// A certificate that should be a CA's is not (BasicConstraints).
    #[error("certificate {place} is not that of a certificate authority: {subject:?}")]
    NotAuthority {
        /// Its place.
        place: usize,
        /// Its subject.
        subject: String,
    },
    /// No anchor issued the chain.
    #[error("no trust anchor is {issuer:?}, the issuer of the certificates; there are {anchors:?}")]
    NoAnchor {
        /// The issuer of the chain's last certificate.
        issuer: String,
        /// The subjects of the anchors.
        anchors: Vec<String>,
    },
    /// The path from the signer's certificate to an anchor does not hold.
    #[error("the certificates do not lead to trust anchor {anchor:?}: {problem}")]
    Path {
        /// The anchor's subject.
        anchor: String,
        /// What rustls-webpki says.
        problem: webpki::Error,
    },
    /// The anchor allows fewer CAs between itself and the signer (pathLenConstraint).
    #[error("trust anchor {anchor:?} allows {most} authorities below it, and there are {found}")]
    PathLength {
        /// The anchor's subject.
        anchor: String,
        /// How many it allows.
        most: usize,
        /// How many there are.
        found: usize,
    },
    /// The anchor is not valid yet.
    #[error("trust anchor {anchor:?} is valid from {not_before} on, and it is {at}")]
    AnchorNotYetValid {
        /// The anchor's subject.
        anchor: String,
        /// When it begins.
        not_before: Timestamp,
        /// The time that counts.
        at: Timestamp,
    },
    /// The anchor is no longer valid.
    #[error("trust anchor {anchor:?} was valid until {not_after}, and it is {at}")]
    AnchorExpired {
        /// The anchor's subject.
        anchor: String,
        /// When it ended.
        not_after: Timestamp,
        /// The time that counts.
        at: Timestamp,
    },
    /// An anchor that names itself as its issuer did not sign itself.
    #[error("trust anchor {anchor:?} says that it signed itself, and did not: {problem}")]
    SelfSignature {
        /// The anchor's subject.
        anchor: String,
        /// What rustls-webpki says.
        problem: webpki::Error,
    },
}
