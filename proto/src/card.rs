//! Cards: what a sender must know of a recipient, signed by the recipient's identity key.
//!
//! # Guarantees
//!
//! A card that passed [`check`] is by the key that an anchor's certificate gives its address, and its sealing key is
//! canonical and not of low order (vectors `card.json`).

use crate::cbor::{Map, Reader, Writer};
use crate::chain::{self, Anchor, Chain};
use crate::cose::{self, Payload, Signed};
use crate::ids::Timestamp;
use crate::sealed::SealingPublicKey;
use crate::terms::{self, Address};

/// Why a card is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not a well-formed card, or its signature does not hold.
    #[error("card: {0}")]
    Cose(#[from] cose::Error),
    /// Its certificate does not convince.
    #[error("the card of {address}: {source}")]
    Certificate {
        /// The address on the card.
        address: Address,
        /// What is wrong.
        source: chain::Error,
    },
}

/// What a person's identity key says of itself.
#[derive(Clone, Debug)]
pub struct Card {
    /// Where its owner receives mail.
    pub address: Address,
    /// The key that CMP2 seals to.
    pub sealing_key: SealingPublicKey,
    /// When it was made.
    pub created: Timestamp,
}

impl Payload for Card {
    const TYP: &'static str = "application/vnd.fairpost.card+cose";
    const TAG: &'static str = "fairpost/card/v1";
    const KEYS: usize = 4;
    type Signer = Chain;

    fn read(map: &mut Map, reader: &mut Reader<'_>) -> Result<Self, cose::Error> {
        let invalid = |error: &dyn core::fmt::Display| cose::Error::Payload(error.to_string());
        map.key(reader, 1)?;
        let address = terms::read_address(reader).map_err(|error| invalid(&error))?;
        map.key(reader, 2)?;
        let sealing_key = SealingPublicKey::from_bytes(reader.bytes32("the sealing key")?)
            .map_err(|error| invalid(&error))?;
        map.key(reader, 3)?;
        Ok(Self { address, sealing_key, created: terms::read_seconds(reader, "created")? })
    }

    fn write(&self, writer: &mut Writer) {
        writer.uint(1).text(self.address.as_str()).uint(2).bytes(&self.sealing_key.to_bytes());
        writer.uint(3).uint(self.created.seconds());
    }
}

/// Parses a card and checks that it is its owner's: an anchor vouches for the certificate at `at`, and the
/// certificate's key signed it.
pub fn check(bytes: &[u8], anchors: &[Anchor], at: Timestamp) -> Result<Signed<Card>, Error> {
    let card = Signed::<Card>::parse(bytes)?;
    let address = &card.payload().address;
    card.signer()
        .verify(anchors, address.as_str(), at)
        .map_err(|source| Error::Certificate { address: address.clone(), source })?;
    card.verify_by_chain()?;
    Ok(card)
}
