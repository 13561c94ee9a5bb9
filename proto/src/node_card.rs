//! Node cards: what a new server says of itself to whoever writes the proposal.
//!
//! # Guarantees
//!
//! A card that passed [`check`] was signed by the identity key that it names: nobody brings another's key into a
//! proposal under a name of its own (vectors `node_card.json`). Whether the server is the one that one means can't be
//! seen in it: operators compare the key's id.

use crate::cbor::{Map, Reader, Writer};
use crate::cose::{self, Payload, Signed};
use crate::ids::KeyId;
use crate::view::{self, Member};

/// Why a card is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not a well-formed card, or its signature does not hold.
    #[error("node card: {0}")]
    Cose(#[from] cose::Error),
    /// It says to be signed by another key than the one that it names.
    #[error("the card names key {expected}, and is signed by {found}")]
    Signer {
        /// The key that it names.
        expected: KeyId,
        /// The key that it says to be signed by.
        found: KeyId,
    },
}

/// The payload of a card: the member that the server asks to become.
#[derive(Clone, Debug)]
pub struct NodeCard(pub Member);

impl Payload for NodeCard {
    const TYP: &'static str = "application/vnd.fairpost.node-card+cose";
    const TAG: &'static str = "fairpost/node-card/v1";
    const KEYS: usize = 2;
    type Signer = KeyId;

    fn read(map: &mut Map, reader: &mut Reader<'_>) -> Result<Self, cose::Error> {
        map.key(reader, 1)?;
        view::read_member(reader).map(Self).map_err(|error| match error {
            view::Error::Cbor(error) => cose::Error::Cbor(error),
            error => cose::Error::Payload(error.to_string()),
        })
    }

    fn write(&self, writer: &mut Writer) {
        view::write_member(writer.uint(1), &self.0);
    }
}

/// Parses a card, and checks that the key that it names signed it.
pub fn check(bytes: &[u8]) -> Result<Member, Error> {
    let card = Signed::<NodeCard>::parse(bytes)?;
    let NodeCard(member) = card.payload();
    let (expected, found) = (member.key_id(), *card.signer());
    if expected != found {
        return Err(Error::Signer { expected, found });
    }
    card.verify(&member.identity)?;
    Ok(member.clone())
}
