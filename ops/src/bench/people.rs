//! Senders and recipients for a run, certified by the cluster's development CA.

use std::path::Path;

use fairpost::ca;
use fairpost::identity::{self, Identity};
use fairpost_proto::ids::Timestamp;
use fairpost_proto::terms::{Address, AddressError};

/// How long their certificates last, in days.
const DAYS: u32 = 30;

/// Why there are no people.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The CA does not issue.
    #[error("{0}; the bench needs the key of a CA that the cluster believes: give its folder with --ca")]
    Ca(#[from] ca::Error),
    /// A certificate does not suit.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// An address is none.
    #[error(transparent)]
    Address(#[from] AddressError),
}

/// As many senders as recipients.
pub(super) struct People {
    senders: Vec<Identity>,
    recipients: Vec<Identity>,
}

impl People {
    /// Makes so many pairs, at least one.
    pub(super) fn new(ca: &Path, pairs: usize, now: Timestamp) -> Result<Self, Error> {
        let make = |role: &str| -> Result<Vec<Identity>, Error> {
            (0..pairs.max(1))
                .map(|number| certified(ca, &format!("{role}-{number}@bench.example"), now))
                .collect()
        };
        Ok(Self { senders: make("sender")?, recipients: make("recipient")? })
    }

    /// Sender and recipient of the exchange with this number. Over many exchanges every sender writes to every recipient.
    pub(super) fn pair(&self, number: usize) -> Option<(&Identity, &Identity)> {
        let pairs = self.senders.len();
        let sender = self.senders.get(number % pairs)?;
        Some((sender, self.recipients.get((number + number / pairs) % pairs)?))
    }

    /// How many certificates they have together.
    pub(super) const fn certificates(&self) -> usize {
        self.senders.len() + self.recipients.len()
    }
}

fn certified(ca: &Path, address: &str, now: Timestamp) -> Result<Identity, Error> {
    let address = Address::parse(address)?;
    let mut identity = Identity::generate(address.clone());
    let certificate = ca::issue_for_key(ca, &address, &identity.verifying_key(), DAYS, now)?;
    identity.install(&certificate, now)?;
    Ok(identity)
}
