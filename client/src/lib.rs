//! What senders, recipients and judges do with Fairpost: sealing, opening, proving.
//!
//! Fairpost is certified e-mail: the recipient can read a mail if and only if the sender can prove that it was delivered.
//! A cluster of servers decides; this library is everybody else's part.
//!
//! | who | does what | with |
//! |---|---|---|
//! | everybody | knows which cluster is meant | [`trust`]: the file `cluster.trust` |
//! | sender, recipient | have keys and a certificate | [`Identity`], in a file of mode 0600 |
//! | recipient | hands out a card | [`Identity::card`], [`Card`] |
//! | sender | seals a mail, and sends it | [`seal::seal`], [`mail::pack()`] |
//! | recipient | looks at it, and opens or refuses it | [`SealedMail`], [`Client::open`], [`Client::refuse`] |
//! | sender | withdraws it, or proves what became of it | [`Client::withdraw`], [`Client::proof`] |
//! | either | asks where it stands | [`Client::status`] |
//! | judge | verifies a proof, offline | [`verify`] |
//!
//! `examples/first_mail.rs` goes through all of it on one page. [`ca`] is an authority for development.
//!
//! # Relies on
//!
//! - The trust file is from a source that its holder trusts. Nothing else is believed: no server, no mail, no proof.
//! - This machine's clock is within five minutes of the cluster's.
//!
//! # Guarantees
//!
//! - Nothing is signed before everything that can be checked has been ([`client`], [`sealed_mail`]).
//! - Nothing of a mail is handed over before its content has been checked ([`Client::open`]).
//! - Memory does not grow with a mail: what must be kept is in [`spool`].

pub mod ca;
pub mod card;
pub mod client;
pub mod identity;
pub mod mail;
pub mod pem;
pub mod seal;
pub mod sealed_mail;
pub mod secret_file;
pub mod spool;
pub mod trust;
pub mod x509;

use std::time::{SystemTime, UNIX_EPOCH};

use fairpost_proto::ids::Timestamp;

pub use card::Card;
pub use client::Client;
pub use fairpost_proto::proof::Proof;
pub use fairpost_proto::{armor, verify};
pub use identity::Identity;
pub use sealed_mail::SealedMail;
pub use trust::Trust;

/// What this machine's clock says.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).ok().and_then(Timestamp::from_millis).unwrap_or(Timestamp::EPOCH)
}
