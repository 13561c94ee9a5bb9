//! What servers sign to open a later round for an exchange whose votes were split, and to end it.
//!
//! # Specification
//!
//! - **Statement**: what a member knows of the exchange, and its promise to vote and to acknowledge in no round below this
//!   one, and to give no share on a certificate of round 1 alone. It carries the certificate of the highest round that its
//!   author holds for the exchange, whole. Statements of a quorum open the round: from them everybody computes the one leaf
//!   that may be voted for in it.
//! - **Acknowledgement**: its author has the certificate of this leaf on disk, and has promised no higher round. In later
//!   rounds a share is given only against the acknowledgements of a quorum.
//!
//! A member gives at most one statement for each exchange and round, and always the same bytes.
//!
//! # Guarantees
//!
//! A parsed [`Statement`] is for round 2 or later, and its certificate, if it has one, for a lower round of the same
//! exchange. Whether that certificate is a quorum's is for [`Certificate::check`] to say (vectors `statement.json`,
//! `acknowledgement.json`).

use crate::cbor::{self, Map, Reader, Writer};
use crate::cose::{self, Payload};
use crate::ids::{ClusterId, Digest, ExchangeId, KeyId, Timestamp};
use crate::leaf::{self, Round};
use crate::quorum::Quorum;
use crate::terms;
use crate::vote::{self, Certificate};

/// The largest statement that is read: a certificate has a vote and its proof for each member at most.
const MAX_STATEMENT: usize = (Quorum::MAX_SERVERS + 1) * 3 * 1024;

/// What a member knows of an exchange, and what it promises.
#[derive(Clone, Debug)]
pub struct Statement {
    /// The cluster.
    pub cluster: ClusterId,
    /// The view's epoch.
    pub epoch: u32,
    /// The exchange.
    pub exchange: ExchangeId,
    /// The round that it may open: 2 or later.
    pub round: Round,
    /// The certificate of the highest round that the author holds for the exchange.
    pub certificate: Option<Certificate>,
    /// When the author first saw a receipt for the exchange.
    pub receipt: Option<Timestamp>,
    /// The author's clock.
    pub clock: Timestamp,
    /// Counts what this member signs in this epoch; votes, statements and acknowledgements share one counter.
    pub number: u64,
}

impl Payload for Statement {
    const TYP: &'static str = "application/vnd.fairpost.statement+cose";
    const TAG: &'static str = "fairpost/statement/v1";
    const KEYS: usize = 9;
    const MAX_BYTES: usize = MAX_STATEMENT;
    type Signer = KeyId;

    fn read(map: &mut Map, reader: &mut Reader<'_>) -> Result<Self, cose::Error> {
        let (cluster, epoch, exchange, round) = read_place(map, reader)?;
        map.key(reader, 5)?;
        let certificate =
            reader.bytes_or_null()?.map(Certificate::parse).transpose().map_err(|error| match error {
                vote::Error::Cbor(error) => error.into(),
                other => cose::Error::Payload(other.to_string()),
            })?;
        if let Some(leaf) = certificate.as_ref().map(Certificate::leaf) {
            if leaf.exchange != exchange {
                return Err(cose::Error::Payload(format!(
                    "the certificate is for exchange {}, and the statement for {exchange}",
                    leaf.exchange
                )));
            }
            if leaf.round >= round {
                return Err(cose::Error::Payload(format!(
                    "the certificate is of round {}, expected one below the statement's {round}",
                    leaf.round
                )));
            }
        }
        map.key(reader, 6)?;
        let receipt = if reader.null() {
            None
        } else {
            Some(terms::read_millis(reader, "the time of the first receipt")?)
        };
        map.key(reader, 7)?;
        let clock = terms::read_millis(reader, "the time of the statement")?;
        map.key(reader, 8)?;
        let number = reader.uint()?;
        Ok(Self { cluster, epoch, exchange, round, certificate, receipt, clock, number })
    }

    fn write(&self, writer: &mut Writer) {
        write_place(writer, self.cluster, self.epoch, self.exchange, self.round);
        let certificate = self.certificate.as_ref().map(Certificate::to_bytes);
        writer.uint(5).bytes_or_null(certificate.as_deref()).uint(6);
        match self.receipt {
            None => writer.null(),
            Some(receipt) => writer.uint(receipt.millis()),
        };
        writer.uint(7).uint(self.clock.millis()).uint(8).uint(self.number);
    }
}

/// A member has a certificate of a later round on disk, and has promised no higher round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The cluster.
    pub cluster: ClusterId,
    /// The view's epoch.
    pub epoch: u32,
    /// The exchange.
    pub exchange: ExchangeId,
    /// The certificate's round: 2 or later.
    pub round: Round,
    /// The hash of the certificate's leaf: [`crate::leaf::Leaf::hash`].
    pub leaf: Digest,
    /// Counts what this member signs in this epoch.
    pub number: u64,
}

impl Payload for Acknowledgement {
    const TYP: &'static str = "application/vnd.fairpost.acknowledgement+cose";
    const TAG: &'static str = "fairpost/acknowledgement/v1";
    const KEYS: usize = 7;
    type Signer = KeyId;

    fn read(map: &mut Map, reader: &mut Reader<'_>) -> Result<Self, cose::Error> {
        let (cluster, epoch, exchange, round) = read_place(map, reader)?;
        map.key(reader, 5)?;
        let leaf = Digest::new(reader.bytes32("the leaf's digest")?);
        map.key(reader, 6)?;
        let number = reader.uint()?;
        Ok(Self { cluster, epoch, exchange, round, leaf, number })
    }

    fn write(&self, writer: &mut Writer) {
        write_place(writer, self.cluster, self.epoch, self.exchange, self.round);
        writer.uint(5).bytes(self.leaf.as_bytes()).uint(6).uint(self.number);
    }
}

/// What both begin with: keys 1 to 4.
fn read_place(
    map: &mut Map,
    reader: &mut Reader<'_>,
) -> Result<(ClusterId, u32, ExchangeId, Round), cbor::Error> {
    map.key(reader, 1)?;
    let cluster = ClusterId::new(reader.bytes32("the cluster id")?);
    map.key(reader, 2)?;
    let epoch = vote::read_epoch(reader)?;
    map.key(reader, 3)?;
    let exchange = ExchangeId::new(reader.bytes32("the exchange id")?);
    map.key(reader, 4)?;
    let round = leaf::read_round(reader)?;
    if round == Round::FIRST {
        let (what, expected) = ("the round", "2 to 4294967295");
        return Err(cbor::Error::Value { what, expected, found: round.to_string() });
    }
    Ok((cluster, epoch, exchange, round))
}

fn write_place(writer: &mut Writer, cluster: ClusterId, epoch: u32, exchange: ExchangeId, round: Round) {
    writer.uint(1).bytes(cluster.as_bytes()).uint(2).uint(u64::from(epoch));
    writer.uint(3).bytes(exchange.as_bytes()).uint(4).uint(u64::from(round.get()));
}
