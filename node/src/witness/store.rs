//! What this server has signed, promised and seen: local, never in a snapshot, never rewritten by Raft.
//!
//! # Guarantees
//!
//! - It belongs to one share: a share that was bound to another store (or whose store is gone) does not sign
//!   ([`Store::open`]; `a_share_without_its_store_does_not_sign`).
//! - A choice counts only for the leaves that it was made for, whatever the ledger has by now under that sequence
//!   ([`Store::chosen`]; `a_choice_is_for_the_leaves_it_was_made_for`).
//! - Votes, promises, statements, acknowledgements, certificates and first-seen receipts are synced before the call that
//!   wrote them returns; a promise and the statement that it was made with are written as a whole.
//! - What a member is blamed for, and that it was cleared, is there after a restart (`Store::blamed`;
//!   `what_a_member_is_blamed_for_survives_a_restart_and_a_clearing_too`).
//! - A roll-back that was found stays found ([`Store::roll_back`]; `who_is_shown_a_later_number_of_its_own_signs_nothing_any_more`).
//! - Of each member the object with the highest number that it signed is written with what is written anyway, and never by a
//!   sync of its own ([`Store::note`]; `what_others_signed_last_goes_to_disk_with_what_is_written_anyway`).
//! - Which certificates it has of an exchange is known whatever the ledger has become since ([`Store::held`];
//!   `a_certificate_of_another_log_is_known`).

pub(super) mod blamed;

use std::sync::Arc;

use bytes::Bytes;
use fairpost_proto::cbor::{self, Reader, Writer};
use fairpost_proto::cose::Signed as Cose;
use fairpost_proto::ids::{Digest, ExchangeId, KeyId, Timestamp};
use fairpost_proto::leaf::{Leaf, Round};
use fairpost_proto::round::Acknowledgement;
use fairpost_proto::vote::{Certificate, Vote};
use parking_lot::Mutex;
use rand::RngCore as _;

use super::newest::{Newest, Numbered};
use super::rules::{Log, Signed};
use super::tally::{self, Counted, Leaves, Tally};
use crate::ledger::{Block, read_time};
use crate::membership::{self, KeySource};
use crate::store::{self, Column, Database, Durability, Handle, Ops, Order};

const VOTED: Column = Column::new("voted");
const BALLOTS: Column = Column::new("ballots");
const CERTIFICATES: Column = Column::new("certificates");
/// By exchange and round: which block's certificates have the leaf's.
const HELD: Column = Column::new("held");
const PROMISED: Column = Column::new("promised");
/// By exchange and round: what was stated.
const STATEMENTS: Column = Column::new("statements");
/// By exchange and round: what this server has acknowledged.
const ACKNOWLEDGED: Column = Column::new("acknowledged");
/// By exchange and round: the acknowledgements of a quorum.
const ACKNOWLEDGEMENTS: Column = Column::new("acknowledgements");
const RECEIPTS: Column = Column::new("receipts");
/// By member and kind: what a member is blamed for.
const BLAMED: Column = Column::new("blamed");
/// By member: the object with the highest number that it signed.
const NEWEST: Column = Column::new("newest");
const META: Column = Column::new("meta");

const ID: &[u8] = b"id";
const NUMBER: &[u8] = b"number";
/// The longest evidence log that this server has signed.
const LOG: &[u8] = b"log";
/// That this server was rolled back.
const ROLLED_BACK: &[u8] = b"rolled back";

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
    /// This server has no share: the key was made without it.
    NoShare,
    /// The share is bound to a store that is not here: this server forgot what it signed.
    Lost {
        /// The store that the share is bound to.
        expected: String,
        /// The store that is here, if any.
        found: Option<String>,
    },
    /// The share is open, and too few members have told yet what they hold of this server's.
    Waits {
        /// How many have, this server included.
        told: usize,
        /// How many must.
        needed: usize,
    },
    /// A member holds what this server has signed and forgotten: its disk or machine was set back.
    RolledBack {
        /// The number of what it remembered to have signed last.
        own: u64,
        /// The number under which it has signed something.
        found: u64,
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
    /// The choice, if it was made for just this block: if it ends in the same log, and its leaves still make the ballot that
    /// was chosen. A ledger that was lost and rebuilt may have other leaves under the same sequence, or other leaves before
    /// them, and those were never chosen. Choices of before do not name the log.
    fn of(block: &Block, number: u64, leaves: Leaves, ballot: Digest, log: Option<Digest>) -> Option<Self> {
        let same = log.is_none_or(|root| root == block.log_root) && tally::root(block, &leaves) == ballot;
        same.then_some(Self { number, leaves })
    }
}

/// Where the certificate of a leaf lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The leaf's round.
    pub round: Round,
    /// Its entry's sequence.
    pub sequence: u64,
    /// The root of the evidence log after that entry.
    pub root: Digest,
    /// The leaf's place among the entry's.
    pub place: u32,
}

/// What a statement says beside where it belongs: stored before it was signed.
#[derive(Clone, Debug)]
pub struct Stated {
    /// Its number.
    pub number: u64,
    /// The certificate of the highest round.
    pub certificate: Option<Certificate>,
    /// When a receipt was first seen.
    pub receipt: Option<Timestamp>,
    /// The clock.
    pub clock: Timestamp,
}

impl Stated {
    fn to_bytes(&self) -> Vec<u8> {
        let certificate = self.certificate.as_ref().map(Certificate::to_bytes);
        let mut writer = Writer::new();
        writer.array(4).uint(self.number).bytes_or_null(certificate.as_deref());
        match self.receipt {
            None => writer.null(),
            Some(receipt) => writer.uint(receipt.millis()),
        };
        writer.uint(self.clock.millis()).finish()
    }

    fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        reader.array_of("a statement", 4, "4")?;
        let number = reader.uint()?;
        let certificate = reader.bytes_or_null()?.map(Certificate::parse).transpose();
        let certificate = certificate.map_err(|error| Error::Damaged(error.to_string()))?;
        let receipt = if reader.null() { None } else { Some(read_time(&mut reader)?) };
        let clock = read_time(&mut reader)?;
        reader.finish()?;
        Ok(Self { number, certificate, receipt, clock })
    }
}

/// A receipt that this server saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// When it saw the first one for the exchange.
    pub seen: Timestamp,
    /// The NRO and the NRR, if they are kept here; else the ledger has them.
    pub signed: Option<(Vec<u8>, Vec<u8>)>,
}

/// The witness store.
#[derive(Clone)]
pub struct Store {
    database: Database,
    writer: Handle,
    newest: Arc<Mutex<Newest>>,
}

impl Store {
    /// The columns of its database.
    pub const COLUMNS: &[Column] = &[
        VOTED,
        BALLOTS,
        CERTIFICATES,
        HELD,
        PROMISED,
        STATEMENTS,
        ACKNOWLEDGED,
        ACKNOWLEDGEMENTS,
        RECEIPTS,
        BLAMED,
        NEWEST,
        META,
    ];

    /// Opens the store that belongs to `share`, and binds a share that was never used to a new one.
    pub async fn open(
        database: Database,
        writer: Handle,
        share: &mut dyn KeySource,
    ) -> Result<(Self, Standing), Error> {
        let store = Self { database, writer, newest: Arc::default() };
        store.restore_newest()?;
        if share.share().is_none() {
            return Ok((store, Standing::NoShare));
        }
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
        let standing = match (standing, store.rolled_back()?) {
            (Standing::Open, Some((own, found))) => Standing::RolledBack { own, found },
            (standing, _) => standing,
        };
        Ok((store, standing))
    }

    fn restore_newest(&self) -> Result<(), Error> {
        let mut newest = self.newest.lock();
        for entry in self.database.range(NEWEST, &[], None, Order::Ascending)? {
            let (key, value) = entry?;
            let member = KeyId::from_slice(&key).ok_or_else(|| damaged("a member's key"))?;
            newest.restore(member, stored_number(&value)?, value.to_vec());
        }
        Ok(())
    }

    /// Keeps an object that a member has signed, which was checked, if its number is the highest; in memory, until
    /// something is written.
    pub fn note(&self, member: KeyId, number: u64, bytes: &[u8]) {
        self.newest.lock().note(member, number, bytes);
    }

    /// The object with the highest number that a member has signed, as far as this server has seen it.
    pub fn newest(&self, member: &KeyId) -> Option<Vec<u8>> {
        self.newest.lock().of(member).map(<[u8]>::to_vec)
    }

    /// Writes what was noted; no sync, for it is about others.
    pub async fn write_newest(&self) -> Result<(), Error> {
        let mut ops = Ops::new();
        self.put_newest(&mut ops);
        if ops.is_empty() {
            return Ok(());
        }
        Ok(self.writer.write(ops, Durability::Buffered).await?)
    }

    fn put_newest(&self, ops: &mut Ops) {
        for (member, bytes) in self.newest.lock().take_changed() {
            ops.put(NEWEST, member.as_bytes(), bytes);
        }
    }

    /// Keeps, synced, that this server was rolled back: it remembered to have numbered as far as `own`, and had signed
    /// something under the number `found`.
    pub async fn roll_back(&self, own: u64, found: u64) -> Result<(), Error> {
        let mut ops = Ops::new();
        ops.put(META, ROLLED_BACK, Writer::new().array(2).uint(own).uint(found).finish());
        Ok(self.writer.write(ops, Durability::Synced).await?)
    }

    pub(crate) fn rolled_back(&self) -> Result<Option<(u64, u64)>, Error> {
        let Some(bytes) = self.database.get(META, ROLLED_BACK)? else { return Ok(None) };
        let mut reader = Reader::new(&bytes);
        reader.array_of("a roll-back", 2, "2")?;
        let numbers = (reader.uint()?, reader.uint()?);
        reader.finish()?;
        Ok(Some(numbers))
    }

    /// The longest evidence log that this server has signed; none before the first.
    pub fn log(&self) -> Result<Option<Log>, Error> {
        let Some(bytes) = self.database.get(META, LOG)? else { return Ok(None) };
        let mut reader = Reader::new(&bytes);
        reader.array_of("a log", 2, "2")?;
        let log = Log { size: reader.uint()?, root: Digest::new(reader.bytes32("the log's root")?) };
        reader.finish()?;
        Ok(Some(log))
    }

    async fn mark(&self) -> Result<[u8; 16], Error> {
        let mut id = [0; 16];
        rand::rngs::OsRng.fill_bytes(&mut id);
        let mut ops = Ops::new();
        ops.put(META, ID, id.to_vec());
        self.writer.write(ops, Durability::Synced).await?;
        Ok(id)
    }

    /// What this server has signed about an exchange: its vote and its acknowledgement in this round, and its promise.
    pub fn signed(&self, exchange: &ExchangeId, round: Round) -> Result<Signed, Error> {
        let voted = self.database.get(VOTED, voted_key(exchange, round))?;
        let promised = self.database.get(PROMISED, exchange.as_bytes())?;
        Ok(Signed {
            voted: voted
                .map(|bytes| Digest::from_slice(&bytes).ok_or_else(|| damaged("a vote")))
                .transpose()?,
            acknowledged: match round {
                Round::FIRST => None,
                round => self.acknowledged(exchange, round)?.map(|(_, leaf)| leaf),
            },
            promised: promised
                .map(|bytes| parse_round(&bytes).ok_or_else(|| damaged("a promise")))
                .transpose()?,
        })
    }

    /// The first receipt that this server saw for the exchange.
    pub fn receipt(&self, exchange: &ExchangeId) -> Result<Option<Receipt>, Error> {
        let Some(bytes) = self.database.get(RECEIPTS, exchange.as_bytes())? else { return Ok(None) };
        let mut reader = Reader::new(&bytes);
        reader.array_of("a receipt", 3, "3")?;
        let seen = read_time(&mut reader)?;
        let (nro, nrr) = (reader.bytes_or_null()?, reader.bytes_or_null()?);
        let signed = nro.zip(nrr).map(|(nro, nrr)| (nro.to_vec(), nrr.to_vec()));
        reader.finish()?;
        Ok(Some(Receipt { seen, signed }))
    }

    /// Keeps a receipt, synced; the first one stands.
    pub async fn put_receipt(&self, exchange: &ExchangeId, receipt: &Receipt) -> Result<(), Error> {
        if self.receipt(exchange)?.is_some() {
            return Ok(());
        }
        let mut ops = Ops::new();
        put_receipt(&mut ops, exchange, receipt);
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
        let named = match reader.array("a ballot", 4)? {
            3 => false,
            4 => true,
            found => return Err(cbor::Error::Length { what: "a ballot", expected: "3 or 4", found }.into()),
        };
        let number = reader.uint()?;
        let leaves = Leaves::parse(reader.bytes()?, block.leaves.len());
        let ballot = Digest::new(reader.bytes32("the ballot's root")?);
        let log = if named { Some(Digest::new(reader.bytes32("the log's root")?)) } else { None };
        reader.finish()?;
        Ok(leaves.and_then(|leaves| Chosen::of(block, number, leaves, ballot, log)))
    }

    /// The number of what was signed last in this epoch: votes, statements and acknowledgements share one counter. Whoever
    /// numbers is one task.
    pub fn number(&self) -> Result<u64, Error> {
        match self.database.get(META, NUMBER)? {
            None => Ok(0),
            Some(bytes) => Ok(u64::from_be_bytes(bytes.try_into().map_err(|_| damaged("the counter"))?)),
        }
    }

    /// Writes, synced and as a whole, which leaves of these entries this server votes for, and when it first saw the
    /// receipts that are among those that it does not vote for.
    pub async fn choose(
        &self,
        choices: &[(Block, Leaves)],
        receipts: &[(ExchangeId, Timestamp)],
    ) -> Result<(), Error> {
        let mut ops = Ops::new();
        for (exchange, seen) in receipts {
            if self.receipt(exchange)?.is_none() {
                put_receipt(&mut ops, exchange, &Receipt { seen: *seen, signed: None });
            }
        }
        let (mut number, mut log) = (self.number()?, self.log()?);
        for (block, leaves) in choices {
            number = number.checked_add(1).ok_or_else(|| damaged("the counter"))?;
            let ballot = tally::root(block, leaves);
            let record = Writer::new()
                .array(4)
                .uint(number)
                .bytes(leaves.as_bytes())
                .bytes(ballot.as_bytes())
                .bytes(block.log_root.as_bytes())
                .finish();
            ops.put(BALLOTS, block.sequence.to_be_bytes(), record);
            let signed = Log::after(block);
            log = log.filter(|log| log.size > signed.size).or(Some(signed));
            for (_, leaf) in block.leaves.iter().enumerate().filter(|(place, _)| leaves.contains(*place)) {
                ops.put(VOTED, voted_key(&leaf.exchange, leaf.round), leaf.hash().as_bytes().to_vec());
            }
        }
        ops.put(META, NUMBER, number.to_be_bytes().to_vec());
        if let Some(log) = log {
            ops.put(META, LOG, Writer::new().array(2).uint(log.size).bytes(log.root.as_bytes()).finish());
        }
        self.put_newest(&mut ops);
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

    /// The certificate of the highest round that is stored for an exchange, whatever log it belongs to.
    pub fn held(&self, exchange: &ExchangeId) -> Result<Option<Held>, Error> {
        let mut held = self.database.prefix(HELD, exchange.as_bytes(), Order::Descending)?;
        let Some((key, value)) = held.next().transpose()? else { return Ok(None) };
        let round = key.get(32..).and_then(parse_round).ok_or_else(|| damaged("a certificate's key"))?;
        let mut reader = Reader::new(&value);
        reader.array_of("a certificate's place", 3, "3")?;
        let sequence = reader.uint()?;
        let root = Digest::new(reader.bytes32("the log's root")?);
        let place = crate::ledger::read_place(&mut reader)?;
        reader.finish()?;
        Ok(Some(Held { round, sequence, root, place }))
    }

    /// What was stated for an exchange and round.
    pub fn stated(&self, exchange: &ExchangeId, round: Round) -> Result<Option<Stated>, Error> {
        let bytes = self.database.get(STATEMENTS, round_key(exchange, round))?;
        bytes.map(|bytes| Stated::parse(&bytes)).transpose()
    }

    /// Writes, synced and as a whole, what will be stated for an exchange and round, and the promise that goes with it.
    /// Gives it with its number.
    pub async fn state(&self, exchange: &ExchangeId, round: Round, stated: Stated) -> Result<Stated, Error> {
        let number = self.number()?.checked_add(1).ok_or_else(|| damaged("the counter"))?;
        let stated = Stated { number, ..stated };
        let mut ops = Ops::new();
        ops.put(PROMISED, exchange.as_bytes(), round.get().to_be_bytes().to_vec());
        ops.put(STATEMENTS, round_key(exchange, round), stated.to_bytes());
        ops.put(META, NUMBER, number.to_be_bytes().to_vec());
        self.writer.write(ops, Durability::Synced).await?;
        Ok(stated)
    }

    /// What this server has acknowledged for an exchange and round: the number and the leaf's hash.
    pub fn acknowledged(&self, exchange: &ExchangeId, round: Round) -> Result<Option<(u64, Digest)>, Error> {
        let Some(bytes) = self.database.get(ACKNOWLEDGED, round_key(exchange, round))? else {
            return Ok(None);
        };
        let mut reader = Reader::new(&bytes);
        reader.array_of("an acknowledgement", 2, "2")?;
        let acknowledged = (reader.uint()?, Digest::new(reader.bytes32("the leaf's hash")?));
        reader.finish()?;
        Ok(Some(acknowledged))
    }

    /// Writes, synced and as a whole, that this server acknowledges the certificates of these leaves.
    pub async fn acknowledge(&self, leaves: &[Leaf]) -> Result<(), Error> {
        let (mut ops, mut number) = (Ops::new(), self.number()?);
        for leaf in leaves {
            number = number.checked_add(1).ok_or_else(|| damaged("the counter"))?;
            let record = Writer::new().array(2).uint(number).bytes(leaf.hash().as_bytes()).finish();
            ops.put(ACKNOWLEDGED, round_key(&leaf.exchange, leaf.round), record);
        }
        ops.put(META, NUMBER, number.to_be_bytes().to_vec());
        Ok(self.writer.write(ops, Durability::Synced).await?)
    }

    /// The acknowledgements of a quorum for an exchange and round, if they are stored.
    pub fn acknowledgements(
        &self,
        exchange: &ExchangeId,
        round: Round,
    ) -> Result<Vec<Cose<Acknowledgement>>, Error> {
        let Some(bytes) = self.database.get(ACKNOWLEDGEMENTS, round_key(exchange, round))? else {
            return Ok(Vec::new());
        };
        let mut reader = Reader::new(&bytes);
        let count = reader.array("the acknowledgements", 64)?;
        let mut acknowledgements = Vec::new();
        for _ in 0..count {
            let signed = Cose::parse(reader.bytes()?).map_err(|error| Error::Damaged(error.to_string()))?;
            acknowledgements.push(signed);
        }
        reader.finish()?;
        Ok(acknowledgements)
    }

    /// Writes, synced and as a whole, for each of these exchanges and rounds the acknowledgements of a quorum.
    pub async fn put_acknowledgements(
        &self,
        quorums: &[(ExchangeId, Round, Vec<Cose<Acknowledgement>>)],
    ) -> Result<(), Error> {
        let mut ops = Ops::new();
        for (exchange, round, acknowledgements) in quorums {
            let mut writer = Writer::new();
            writer.array(acknowledgements.len());
            for signed in acknowledgements {
                writer.bytes(signed.bytes());
            }
            ops.put(ACKNOWLEDGEMENTS, round_key(exchange, *round), writer.finish());
        }
        self.put_newest(&mut ops);
        Ok(self.writer.write(ops, Durability::Synced).await?)
    }

    /// Writes, synced and as a whole, the votes of these entries that certify these of their leaves.
    pub async fn put_certificates(&self, tallies: &[(Tally, Leaves)]) -> Result<(), Error> {
        let mut ops = Ops::new();
        for (tally, certified) in tallies {
            let (sequence, root) = (tally.block().sequence, tally.block().log_root);
            for (place, leaf) in tally.fresh(certified) {
                let held =
                    Writer::new().array(3).uint(sequence).bytes(root.as_bytes()).uint(place as u64).finish();
                ops.put(HELD, round_key(&leaf.exchange, leaf.round), held);
            }
            let mut writer = Writer::new();
            writer.array(tally.votes().count());
            for counted in tally.votes() {
                writer.array(2).bytes(counted.vote.bytes()).bytes(counted.leaves.as_bytes());
            }
            ops.put(CERTIFICATES, certificate_key(tally.block()), Bytes::from(writer.finish()));
        }
        self.put_newest(&mut ops);
        Ok(self.writer.write(ops, Durability::Synced).await?)
    }
}

/// A certificate belongs to a block with all its history: another block under the same sequence has another root.
fn certificate_key(block: &Block) -> Vec<u8> {
    [&block.sequence.to_be_bytes()[..], block.log_root.as_bytes()].concat()
}

fn put_receipt(ops: &mut Ops, exchange: &ExchangeId, receipt: &Receipt) {
    let (nro, nrr) = match &receipt.signed {
        Some((nro, nrr)) => (Some(nro.as_slice()), Some(nrr.as_slice())),
        None => (None, None),
    };
    let mut writer = Writer::new();
    writer.array(3).uint(receipt.seen.millis()).bytes_or_null(nro).bytes_or_null(nrr);
    ops.put(RECEIPTS, exchange.as_bytes(), writer.finish());
}

/// Most exchanges have one round, and its vote lies under their id alone.
fn voted_key(exchange: &ExchangeId, round: Round) -> Vec<u8> {
    if round == Round::FIRST { exchange.as_bytes().to_vec() } else { round_key(exchange, round) }
}

/// The rounds of an exchange, in their order.
fn round_key(exchange: &ExchangeId, round: Round) -> Vec<u8> {
    [&exchange.as_bytes()[..], &round.get().to_be_bytes()].concat()
}

/// The number of an object that was checked before it was stored.
pub(crate) fn stored_number(bytes: &[u8]) -> Result<u64, Error> {
    Numbered::parse(bytes).map(|object| object.number()).map_err(|error| Error::Damaged(error.to_string()))
}

fn damaged(what: &str) -> Error {
    Error::Damaged(format!("{what} does not parse"))
}

fn parse_round(bytes: &[u8]) -> Option<Round> {
    Round::new(u32::from_be_bytes(bytes.try_into().ok()?))
}
