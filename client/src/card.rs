//! Cards: what a sender must have of a recipient, as a text that can be mailed and pasted.

use fairpost_proto::armor;
use fairpost_proto::card as proto;
use fairpost_proto::cose::{self, Signed};
use fairpost_proto::ids::{KeyId, Timestamp};
use fairpost_proto::sealed::SealingPublicKey;
use fairpost_proto::terms::Address;
use fairpost_proto::trust::Trust;

/// Why a card is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text holds no card.
    #[error("the card: {0}")]
    Armor(#[from] armor::Error),
    /// What it holds is none.
    #[error("the card: {0}")]
    Cose(#[from] cose::Error),
    /// Nobody whom the cluster trusts says that it is its owner's.
    #[error(transparent)]
    Card(#[from] proto::Error),
}

/// A well-formed card. Whether it is its owner's is for [`Card::check`] to say.
#[derive(Clone, Debug)]
pub struct Card(Signed<proto::Card>);

impl Card {
    /// Reads a card from a text that has it somewhere.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Ok(Self(Signed::parse(&armor::decode(armor::CARD, text)?)?))
    }

    /// Checks that an anchor of the cluster vouches, now, for its owner's certificate, and that the owner signed it.
    pub fn check(&self, trust: &Trust, now: Timestamp) -> Result<(), Error> {
        proto::check(self.0.bytes(), trust.view().anchors(), now)?;
        Ok(())
    }

    /// Where its owner receives mail.
    pub fn address(&self) -> &Address {
        &self.0.payload().address
    }

    /// The digest of its owner's signing key.
    pub fn key_id(&self) -> KeyId {
        self.0.signer().leaf_key().key_id()
    }

    /// The key that CMP2 seals to.
    pub fn sealing_key(&self) -> SealingPublicKey {
        self.0.payload().sealing_key
    }
}
