//! What this server has signed, promised and seen: local, never in a snapshot, never rewritten by Raft.
//!
//! # Guarantees
//!
//! - It belongs to one share: a share that was bound to another store (or whose store is gone) does not sign
//!   ([`Store::open`]; `a_share_without_its_store_does_not_sign`).
//! - A choice counts only for the leaves that it was made for, whatever the ledger has by now under that sequence
//!   ([`Store::chosen`]; `a_choice_is_for_the_leaves_it_was_made_for`).
//! - Votes, certificates and first-seen receipts are synced before the call that wrote them returns.

use bytes::Bytes;
use fairpost_proto::cbor::{self, Reader, Writer};
use fairpost_proto::cose::Signed as Cose;
use fairpost_proto::ids::{Digest, ExchangeId, Timestamp};
use fairpost_proto::leaf::Round;
use fairpost_proto::vote::Vote;
use rand::RngCore as _;

use super::rules::Signed;
use super::tally::{self, Counted, Leaves, Tally};
use crate::ledger::Block;
use crate::membership::{self, KeySource};
use crate::store::{self, Column, Database, Durability, Handle, Ops};

const VOTED: Column = Column::new("voted");
const BALLOTS: Column = Column::new("ballots");
const CERTIFICATES: Column = Column::new("certificates");
const PROMISED: Column = Column::new("promised");
const RECEIPTS: Column = Column::new("receipts");
const META: Column = Column::new("meta");

const ID: &[u8] = b"id";
const NUMBER: &[u8] = b"number";

/// Why the witness store can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database fails.
    #[error("witness store: {0}")]
    Store(#[from] store::Error),
    /// A record is not one.
    #[error("a witness record is damaged: {0}")]
    Damaged(String),
    /// The share's file can't be written.
    #[error(transparent)]
    Share(#[from] membership::Error),
}

impl From<cbor::Error> for Error {
    fn from(error: cbor::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// Whether this server may sign at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The store is the one that the share is bound to.
    Open,
    /// The share is bound to a store that is not here: this server forgot what it signed.
    Lost {
        /// The store that the share is bound to.
        expected: String,
        /// The store that is here, if any.
        found: Option<String>,
    },
}

/// A ballot that this server chose, stored before it was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The vote's number.
    pub number: u64,
    /// The leaves voted for.
    pub leaves: Leaves,
}

impl Chosen {
    /// The choice, if it was made for just this block: if its leaves still make the ballot that was chosen. A ledger that
    /// was lost and rebuilt may have other leaves under the same sequence, and those were never chosen.
    fn of(block: &Block, number: u64, leaves: Leaves, ballot: Digest) -> Option<Self> {
        (tally::root(block, &leaves) == ballot).then_some(Self { number, leaves })
    }
}

/// The witness store.
#[derive(Clone)]
pub struct Store {
    database: Database,
    writer: Handle,
}

impl Store {
    /// The columns of its database.
    pub const COLUMNS: &[Column] = &[VOTED, BALLOTS, CERTIFICATES, PROMISED, RECEIPTS, META];

    /// Opens the store that belongs to `share`, and binds a share that was never used to a new one.
    pub async fn open(
        database: Database,
        writer: Handle,
        share: &mut dyn KeySource,
    ) -> Result<(Self, Standing), Error> {
        let store = Self { database, writer };
        let held: Option<[u8; 16]> = store.database.get(META, ID)?.and_then(|id| id.try_into().ok());
        let standing = match (share.witness(), held) {
            (Some(expected), Some(found)) if expected == found => Standing::Open,
            (Some(expected), found) => {
                Standing::Lost { expected: hex::encode(expected), found: found.map(hex::encode) }
            }
            (None, held) => {
                let id = match held {
                    Some(id) => id,
                    None => store.mark().await?,
                };
                share.bind(id)?;
                Standing::Open
            }
        };
        Ok((store, standing))
    }

    async fn mark(&self) -> Result<[u8; 16], Error> {
        let mut id = [0; 16];
        rand::rngs::OsRng.fill_bytes(&mut id);
        let mut ops = Ops::new();
        ops.put(META, ID, id.to_vec());
        self.writer.write(ops, Durability::Synced).await?;
        Ok(id)
    }

    /// What this server has signed about an exchange: its vote in this round, and its promise.
    pub fn signed(&self, exchange: &ExchangeId, round: Round) -> Result<Signed, Error> {
        let voted = self.database.get(VOTED, voted_key(exchange, round))?;
        let promised = self.database.get(PROMISED, exchange.as_bytes())?;
        Ok(Signed {
            voted: voted
                .map(|bytes| Digest::from_slice(&bytes).ok_or_else(|| damaged("a vote")))
                .transpose()?,
            acknowledged: None,
            promised: promised
                .map(|bytes| parse_round(&bytes).ok_or_else(|| damaged("a promise")))
                .transpose()?,
        })
    }

    /// When this server first saw a receipt for the exchange.
    pub fn receipt(&self, exchange: &ExchangeId) -> Result<Option<Timestamp>, Error> {
        let bytes = self.database.get(RECEIPTS, exchange.as_bytes())?;
        bytes.map(|bytes| parse_time(&bytes).ok_or_else(|| damaged("a first-seen time"))).transpose()
    }

    /// Keeps when a receipt was first seen; the first time stands.
    pub async fn put_receipt(&self, exchange: &ExchangeId, seen: Timestamp) -> Result<(), Error> {
        if self.receipt(exchange)?.is_some() {
            return Ok(());
        }
        let mut ops = Ops::new();
        ops.put(RECEIPTS, exchange.as_bytes(), seen.millis().to_be_bytes().to_vec());
        Ok(self.writer.write(ops, Durability::Synced).await?)
    }

    /// Sequence of the last entry that a ballot was chosen for; 0 before the first.
    pub fn last_chosen(&self) -> Result<u64, Error> {
        let last = self.database.last(BALLOTS)?;
        last.map_or(Ok(0), |(key, _)| {
            let key: [u8; 8] = key.as_ref().try_into().map_err(|_| damaged("a ballot's key"))?;
            Ok(u64::from_be_bytes(key))
        })
    }

    /// The ballot chosen for just this block.
    pub fn chosen(&self, block: &Block) -> Result<Option<Chosen>, Error> {
        let Some(bytes) = self.database.get(BALLOTS, block.sequence.to_be_bytes())? else { return Ok(None) };
        let mut reader = Reader::new(&bytes);
        reader.array_of("a ballot", 3, "3")?;
        let number = reader.uint()?;
        let leaves = Leaves::parse(reader.bytes()?, block.leaves.len());
        let ballot = Digest::new(reader.bytes32("the ballot's root")?);
        Ok(leaves.and_then(|leaves| Chosen::of(block, number, leaves, ballot)))
    }

    /// Writes, synced and as a whole, which leaves of these entries this server votes for.
    pub async fn choose(&self, choices: &[(Block, Leaves)]) -> Result<(), Error> {
        let mut ops = Ops::new();
        let mut number = match self.database.get(META, NUMBER)? {
            None => 0,
            Some(bytes) => u64::from_be_bytes(bytes.try_into().map_err(|_| damaged("the counter"))?),
        };
        for (block, leaves) in choices {
            number = number.checked_add(1).ok_or_else(|| damaged("the counter"))?;
            let ballot = tally::root(block, leaves);
            let record = Writer::new()
                .array(3)
                .uint(number)
                .bytes(leaves.as_bytes())
                .bytes(ballot.as_bytes())
                .finish();
            ops.put(BALLOTS, block.sequence.to_be_bytes(), record);
            for (_, leaf) in block.leaves.iter().enumerate().filter(|(place, _)| leaves.contains(*place)) {
                ops.put(VOTED, voted_key(&leaf.exchange, leaf.round), leaf.hash().as_bytes().to_vec());
            }
        }
        ops.put(META, NUMBER, number.to_be_bytes().to_vec());
        Ok(self.writer.write(ops, Durability::Synced).await?)
    }

    /// The votes of the certificates stored for an entry.
    pub fn certificate(&self, block: &Block) -> Result<Vec<Counted>, Error> {
        let Some(bytes) = self.database.get(CERTIFICATES, certificate_key(block))? else {
            return Ok(Vec::new());
        };
        let mut reader = Reader::new(&bytes);
        let count = reader.array("the votes", 64)?;
        let mut votes = Vec::new();
        for _ in 0..count {
            reader.array_of("a vote", 2, "2")?;
            let vote =
                Cose::<Vote>::parse(reader.bytes()?).map_err(|error| Error::Damaged(error.to_string()))?;
            let leaves =
                Leaves::parse(reader.bytes()?, block.leaves.len()).ok_or_else(|| damaged("a vote"))?;
            votes.push(Counted { vote, leaves });
        }
        reader.finish()?;
        Ok(votes)
    }

    /// Writes, synced and as a whole, the votes that certify leaves of these entries.
    pub async fn put_certificates(&self, tallies: &[Tally]) -> Result<(), Error> {
        let mut ops = Ops::new();
        for tally in tallies {
            let mut writer = Writer::new();
            writer.array(tally.votes().count());
            for counted in tally.votes() {
                writer.array(2).bytes(counted.vote.bytes()).bytes(counted.leaves.as_bytes());
            }
            ops.put(CERTIFICATES, certificate_key(tally.block()), Bytes::from(writer.finish()));
        }
        Ok(self.writer.write(ops, Durability::Synced).await?)
    }
}

/// A certificate belongs to a block with all its history: another block under the same sequence has another root.
fn certificate_key(block: &Block) -> Vec<u8> {
    [&block.sequence.to_be_bytes()[..], block.log_root.as_bytes()].concat()
}

/// Most exchanges have one round, and its vote lies under their id alone.
fn voted_key(exchange: &ExchangeId, round: Round) -> Vec<u8> {
    if round == Round::FIRST { exchange.as_bytes().to_vec() } else { round_key(exchange, round) }
}

/// The rounds of an exchange, in their order.
fn round_key(exchange: &ExchangeId, round: Round) -> Vec<u8> {
    [&exchange.as_bytes()[..], &round.get().to_be_bytes()].concat()
}

fn damaged(what: &str) -> Error {
    Error::Damaged(format!("{what} does not parse"))
}

fn parse_round(bytes: &[u8]) -> Option<Round> {
    Round::new(u32::from_be_bytes(bytes.try_into().ok()?))
}

fn parse_time(bytes: &[u8]) -> Option<Timestamp> {
    Timestamp::from_millis(u64::from_be_bytes(bytes.try_into().ok()?))
}
