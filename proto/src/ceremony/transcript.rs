//! Transcripts: what a finished ceremony leaves behind, for members that missed its end and for auditors.
//!
//! # Specification
//!
//! The approved proposal, and the messages of the ceremony's log that count: all begins, and what was said in the last
//! attempt. So all begins come first. Whoever applies them gets the genesis and its token, and sees for itself that
//! `q + f` members signed the set of dealings and that their shares work.
//!
//! # Guarantees
//!
//! A [`Transcript`] that [`Transcript::check`] accepts made a genesis with its token in the attempt that it ends with
//! (vectors `transcript.json`; tests in `tests/transcript.rs`). It holds no secret: rows are sealed to keys that were
//! destroyed.

use super::{Ceremony, Message, Refusal};
use crate::approval::{self, ApprovedProposal};
use crate::cbor::{self, Reader, Writer};
use crate::cose;
use crate::trust::{self, Trust};

const TAG: &str = "fairpost/ceremony-transcript/v1";
/// More than an attempt of 64 members has, with begins to spare.
const MOST: u64 = 1 << 16;

const fn is_begin(message: &Message) -> bool {
    matches!(message, Message::Begin(_))
}

/// Why a transcript shows nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not the deterministic CBOR that the format gives.
    #[error("transcript: {0}")]
    Cbor(#[from] cbor::Error),
    /// It is larger than any that is read.
    #[error("the transcript has {found} bytes, at most {expected} are read", expected = Transcript::MAX_BYTES)]
    TooLarge {
        /// Its size.
        found: usize,
    },
    /// The proposal is none, or not approved.
    #[error("transcript: {0}")]
    Approval(#[from] approval::Error),
    /// A message is not well-formed.
    #[error("message {place} of the transcript: {source}")]
    Message {
        /// Its place, from 0.
        place: usize,
        /// What is wrong with it.
        source: cose::Error,
    },
    /// A begin stands behind what was said in an attempt, which it makes void.
    #[error("message {place} of the transcript is a begin, and what stands before it is void")]
    Void {
        /// Its place, from 0.
        place: usize,
    },
    /// A message does not count where it stands.
    #[error("message {place} of the transcript: {source}")]
    Refused {
        /// Its place, from 0.
        place: usize,
        /// Why not.
        source: Refusal,
    },
    /// It ends before the ceremony did.
    #[error("the transcript ends before the token over the genesis is there")]
    Unfinished,
    /// What it made is no trust file.
    #[error(transparent)]
    Trust(#[from] trust::Error),
}

/// A ceremony's messages, well-formed; [`Transcript::check`] says whether they made a key.
#[derive(Clone, Debug)]
pub struct Transcript {
    proposal: ApprovedProposal,
    pub(super) messages: Vec<Message>,
}

impl Transcript {
    /// The largest that is read at all: 64 dealings, 64 × 64 openings, and begins.
    pub const MAX_BYTES: usize = 32 * 1024 * 1024;

    /// Before the first message.
    pub const fn new(proposal: ApprovedProposal) -> Self {
        Self { proposal, messages: Vec::new() }
    }

    /// Adds a message that [`Ceremony::apply`] took. A begin makes void what was said in the attempt before.
    pub fn push(&mut self, message: Message) {
        if is_begin(&message) {
            self.messages.retain(is_begin);
        }
        self.messages.push(message);
    }

    /// The proposal and its approvals.
    pub const fn proposal(&self) -> &ApprovedProposal {
        &self.proposal
    }

    /// The messages, in the log's order.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Its one encoding.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer
            .map(3)
            .uint(0)
            .text(TAG)
            .uint(1)
            .bytes(&self.proposal.to_bytes())
            .uint(2)
            .array(self.messages.len());
        for message in &self.messages {
            writer.bytes(message.bytes());
        }
        writer.finish()
    }

    /// Parses it.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(Error::TooLarge { found: bytes.len() });
        }
        let mut reader = Reader::new(bytes);
        let mut map = reader.map()?;
        map.tagged(&mut reader, TAG)?;
        map.key(&mut reader, 1)?;
        let mut transcript = Self::new(ApprovedProposal::parse(reader.bytes()?)?);
        map.key(&mut reader, 2)?;
        let count = reader.array("the messages", MOST)?;
        for place in 0..count as usize {
            let message =
                Message::parse(reader.bytes()?).map_err(|source| Error::Message { place, source })?;
            let said = transcript.messages.last().is_some_and(|last| !is_begin(last));
            if said && is_begin(&message) {
                return Err(Error::Void { place });
            }
            transcript.messages.push(message);
        }
        map.finish(&reader)?;
        reader.finish()?;
        Ok(transcript)
    }

    /// The ceremony that these messages are, as far as they go.
    pub fn replay(&self) -> Result<Ceremony, Error> {
        let mut ceremony = Ceremony::new(self.proposal.agreed()?.clone());
        for (place, message) in self.messages.iter().enumerate() {
            ceremony.apply(message).map_err(|source| Error::Refused { place, source })?;
        }
        Ok(ceremony)
    }

    /// The finished ceremony, and the trust file that it made.
    pub fn check(&self) -> Result<(Ceremony, Trust), Error> {
        let ceremony = self.replay()?;
        let outcome = ceremony.outcome().and_then(|outcome| Some((outcome.genesis, outcome.token?)));
        let (genesis, token) = outcome.ok_or(Error::Unfinished)?;
        let trust = Trust::new(genesis.clone(), *token)?;
        Ok((ceremony, trust))
    }
}
