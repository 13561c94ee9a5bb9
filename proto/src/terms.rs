//! The terms of an exchange: what sender and recipient both sign.
//!
//! # Guarantees
//!
//! A [`Terms`] that exists is well-formed: addresses are valid, the deadline lies after the creation, the key ids are
//! there where the protocol wants them ([`Terms::new`], [`Terms::parse`]; vectors `terms.json`). A change of any value
//! makes another exchange ([`Terms::exchange`]; test `any_change_of_the_terms_makes_another_exchange`). Whether the
//! lifetime suits a cluster is a question to its view: [`crate::evidence`].

use core::fmt;

use crate::cbor::{self, Reader, Writer};
use crate::ids::{ClusterId, Digest, ExchangeId, KeyId, Protocol, Timestamp};

const TAG: &str = "fairpost/terms/v1";

/// What is wrong with terms.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// They are not the deterministic CBOR that the format gives.
    #[error("terms: {0}")]
    Cbor(#[from] cbor::Error),
    /// An address is not one.
    #[error("{0}")]
    Address(#[from] AddressError),
    /// The deadline does not lie after the creation.
    #[error("the terms expire at {expires}, which is not after their creation at {created}")]
    Lifetime {
        /// When they were made.
        created: Timestamp,
        /// Their deadline.
        expires: Timestamp,
    },
    /// CMP2 names the key that the recipient will sign with; these terms don't.
    #[error("CMP2 needs the recipient's key id, and the terms have none")]
    RecipientKey,
}

/// What is wrong with an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} is no address: expected local@domain in ASCII, 3 to 254 characters, the domain in lower case"
)]
pub struct AddressError {
    /// What was given.
    pub found: String,
}

/// An e-mail address: ASCII, a dot-atom and a domain in lower case (RFC 5321 §4.1.2, no quoting, no comments).
/// Compared byte by byte.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(String);

impl Address {
    /// Its longest form in bytes (RFC 5321 §4.5.3.1.3).
    pub const MAX_BYTES: usize = 254;

    /// The address that `text` is.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if is_address(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(AddressError { found: crate::shown::text(text) })
        }
    }

    /// The address as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.0)
    }
}

fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let atom = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (3..=Address::MAX_BYTES).contains(&text.len())
        && (1..=64).contains(&local.len())
        && local.split('.').all(|part| !part.is_empty() && part.bytes().all(atom))
        && domain.split('.').all(label)
}

/// Sender or recipient: an address and the key that it signs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Where the mail comes from.
    pub address: Address,
    /// The key that signs NRO and withdrawal.
    pub key: KeyId,
}

/// Whom the mail is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Where the mail goes.
    pub address: Address,
    /// The key that signs receipt and refusal; in CMP1 it may be absent, and any valid certificate for the address
    /// will do.
    pub key: Option<KeyId>,
}

/// The terms of one exchange, with the bytes that they were read from.
#[derive(Clone, PartialEq, Eq)]
pub struct Terms {
    fields: Fields,
    bytes: Vec<u8>,
}

/// The values of [`Terms`], not yet known to fit together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// CMP1 or CMP2.
    pub protocol: Protocol,
    /// The cluster that both parties trust to decide.
    pub cluster: ClusterId,
    /// Random: no two exchanges have the same.
    pub nonce: [u8; 16],
    /// Who sends.
    pub sender: Sender,
    /// Who receives.
    pub recipient: Recipient,
    /// SHA-256(salt ‖ mail).
    pub content: Digest,
    /// When they were made; whole seconds.
    pub created: Timestamp,
    /// The deadline for the receipt; whole seconds. In time means before it.
    pub expires: Timestamp,
}

impl Terms {
    /// The terms with these values, if they fit together. Times are cut to whole seconds.
    pub fn new(fields: Fields) -> Result<Self, Error> {
        let bytes = encode(&fields);
        Self::parse(&bytes)
    }

    /// Parses the one encoding of terms.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let fields = read(&mut reader)?;
        reader.finish()?;
        if fields.expires <= fields.created {
            return Err(Error::Lifetime { created: fields.created, expires: fields.expires });
        }
        if fields.protocol == Protocol::Cmp2 && fields.recipient.key.is_none() {
            return Err(Error::RecipientKey);
        }
        Ok(Self { fields, bytes: bytes.to_vec() })
    }

    /// Their bytes, as they are signed.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The exchange that they make: SHA-256("fairpost/terms/v1" ‖ Terms).
    pub fn exchange(&self) -> ExchangeId {
        ExchangeId::new(*Digest::of_parts(&[TAG.as_bytes(), &self.bytes]).as_bytes())
    }
}

impl core::ops::Deref for Terms {
    type Target = Fields;

    fn deref(&self) -> &Fields {
        &self.fields
    }
}

impl fmt::Debug for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fields.fmt(f)
    }
}

fn encode(fields: &Fields) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.map(9).uint(0).text(TAG);
    writer.uint(1).uint(u64::from(fields.protocol.code()));
    writer.uint(2).bytes(fields.cluster.as_bytes());
    writer.uint(3).bytes(&fields.nonce);
    writer.uint(4).array(2).text(fields.sender.address.as_str()).bytes(fields.sender.key.as_bytes());
    writer.uint(5).array(2).text(fields.recipient.address.as_str());
    writer.bytes_or_null(fields.recipient.key.as_ref().map(|key| key.as_bytes().as_slice()));
    writer.uint(6).bytes(fields.content.as_bytes());
    writer.uint(7).uint(fields.created.seconds());
    writer.uint(8).uint(fields.expires.seconds());
    writer.finish()
}

fn read(reader: &mut Reader<'_>) -> Result<Fields, Error> {
    let mut map = reader.map()?;
    map.tagged(reader, TAG)?;
    map.key(reader, 1)?;
    let protocol = match reader.uint()? {
        1 => Protocol::Cmp1,
        2 => Protocol::Cmp2,
        found => {
            let (what, expected) = ("the protocol", "1 (CMP1) or 2 (CMP2)");
            return Err(cbor::Error::Value { what, expected, found: found.to_string() }.into());
        }
    };
    map.key(reader, 2)?;
    let cluster = ClusterId::new(reader.bytes32("the cluster id")?);
    map.key(reader, 3)?;
    let nonce = reader.fixed("the nonce", "16 bytes")?;
    map.key(reader, 4)?;
    reader.array_of("the sender", 2, "2")?;
    let sender =
        Sender { address: read_address(reader)?, key: KeyId::new(reader.bytes32("the sender's key id")?) };
    map.key(reader, 5)?;
    reader.array_of("the recipient", 2, "2")?;
    let address = read_address(reader)?;
    let key = if reader.null() { None } else { Some(KeyId::new(reader.bytes32("the recipient's key id")?)) };
    map.key(reader, 6)?;
    let content = Digest::new(reader.bytes32("the content's digest")?);
    map.key(reader, 7)?;
    let created = read_seconds(reader, "created")?;
    map.key(reader, 8)?;
    let expires = read_seconds(reader, "expires")?;
    map.finish(reader)?;
    let recipient = Recipient { address, key };
    Ok(Fields { protocol, cluster, nonce, sender, recipient, content, created, expires })
}

pub(crate) fn read_address(reader: &mut Reader<'_>) -> Result<Address, Error> {
    Ok(Address::parse(reader.text("an address", Address::MAX_BYTES)?)?)
}

/// A time in seconds.
pub(crate) fn read_seconds(reader: &mut Reader<'_>, what: &'static str) -> Result<Timestamp, cbor::Error> {
    let seconds = reader.uint()?;
    Timestamp::from_seconds(seconds).ok_or(cbor::Error::Value {
        what,
        expected: "a time before the year 10000",
        found: seconds.to_string(),
    })
}

/// A time in milliseconds.
pub(crate) fn read_millis(reader: &mut Reader<'_>, what: &'static str) -> Result<Timestamp, cbor::Error> {
    let millis = reader.uint()?;
    Timestamp::from_millis(millis).ok_or(cbor::Error::Value {
        what,
        expected: "a time before the year 10000",
        found: millis.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_ascii_with_a_lower_case_domain() {
        for good in ["a@b", "sender@example.org", "O'Neil+tag@mail.example.org", "a.b-c@1.example"] {
            assert_eq!(Address::parse(good).map(|address| address.to_string()).as_deref(), Ok(good));
        }
        for bad in [
            "", "a", "@b", "a@", "a b@c", "a@B.org", "ä@b.org", "a@b..org", ".a@b", "a@-b", "a\r\n@b",
            "a@b@c",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
        assert!(Address::parse(&format!("a@{}", "b".repeat(300))).is_err());
    }
}
