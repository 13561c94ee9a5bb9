//! What one member does in a ceremony, and what it has to keep for that.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use hmac::{Hmac, Mac as _};
use rand::{CryptoRng, RngCore};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::attempt::{Attempt, Dealt};
use super::message::{Context, OVERHEAD, read_attempt};
use super::{Ceremony, Dealing, Join, Kind, Opening, Proof, Qualified, Report};
use crate::cbor::{self, Reader, Writer};
use crate::chain::key_id;
use crate::cose::{Payload, Signed};
use crate::ids::{Digest, KeyId};
use crate::proposal::Proposal;
use crate::sealed::SealingKey;
use crate::threshold::{self, DealingCommitment, KeyShare, Polynomial, Row, sum_of_rows};

const TAG: &str = "fairpost/ceremony-kept/v1";
const INFO: &[u8] = b"fairpost/ceremony-row/v1";
/// What is kept of what was sent, in this order.
const SENT: [Kind; 5] = [Kind::Join, Kind::Dealing, Kind::Report, Kind::Qualified, Kind::Proof];

/// What the caller has to do for its member, in the order given.
pub enum Action {
    /// Put this in the place of what is kept, so that it outlives a crash, before anything that follows is sent.
    Keep(Kept),
    /// Bring this message into the log. It comes again, byte by byte the same, until it is there.
    Send(Vec<u8>),
    /// Destroy what is kept: it belongs to an attempt that is over, and this member takes no part in the new one.
    Erase,
}

/// Why a member can't go on in this attempt.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The member has joined, and does not know its one-time key any more.
    #[error("this member joined attempt {attempt}, but what it kept for that is not there")]
    Nothing {
        /// The attempt.
        attempt: u32,
    },
    /// What is kept belongs to an attempt of the same number that began otherwise.
    #[error("what is kept is of an attempt that began with {found}, but the log's began with {expected}")]
    Begin {
        /// The log's.
        expected: Digest,
        /// What is kept is for this.
        found: Digest,
    },
    /// The log has another message of this member than the one that it kept.
    #[error(
        "the log has another {kind} of this member than what it kept: was its disk set back, or its identity copied?"
    )]
    Other {
        /// Which message.
        kind: Kind,
    },
    /// The arithmetic fails, which no input should bring about.
    #[error("{0}")]
    Arithmetic(String),
}

impl From<threshold::Error> for Lost {
    fn from(error: threshold::Error) -> Self {
        Self::Arithmetic(error.to_string())
    }
}

/// Why bytes are nothing that a member keeps.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not the deterministic CBOR that the format gives.
    #[error("what is kept: {0}")]
    Cbor(#[from] cbor::Error),
    /// Its share is none.
    #[error("what is kept: {0}")]
    Share(#[from] threshold::Error),
}

/// What a member keeps on its disk during an attempt: a seed, from which its one-time key and its polynomial follow; the
/// messages that it has sent; and at the end its share.
///
/// It is secret: wiped from memory when dropped, without `Debug`. When the token is there and the share is where it
/// belongs, it is to be destroyed: whoever finds it in a backup, with the log, has the share.
#[derive(Clone)]
pub struct Kept {
    attempt: u32,
    begin: Digest,
    seed: Zeroizing<[u8; 32]>,
    sent: BTreeMap<Kind, Vec<u8>>,
    share: Option<Zeroizing<[u8; 32]>>,
}

impl Kept {
    fn new<R: RngCore + CryptoRng>(context: &Context, rng: &mut R) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *seed);
        Self { attempt: context.attempt, begin: context.begin, seed, sent: BTreeMap::new(), share: None }
    }

    /// The attempt that it is for.
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// This member's share of the key, once all of its rows are there. It is good for nothing until
    /// [`Ceremony::outcome`] has the token.
    pub fn share(&self) -> Option<KeyShare> {
        self.share.as_ref().and_then(|share| KeyShare::from_bytes(share).ok())
    }

    /// What was kept when the attempt came to this step.
    #[cfg(test)]
    pub(super) fn back_at(mut self, step: super::Step) -> Self {
        use super::Step;
        let until = match step {
            Step::NotBegun | Step::Joining => 0,
            Step::Dealing => 1,
            Step::Reporting => 2,
            Step::Signing => 3,
            Step::Proving => 4,
            Step::Done => 5,
        };
        self.sent.retain(|kind, _| SENT.iter().take(until).any(|sent| sent == kind));
        self.share = self.share.filter(|_| until > 2);
        self
    }

    /// Its one encoding.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut writer = Writer::new();
        writer.map(6).uint(0).text(TAG).uint(1).uint(u64::from(self.attempt));
        writer.uint(2).bytes(self.begin.as_bytes()).uint(3).bytes(&*self.seed).uint(4).array(SENT.len());
        for kind in SENT {
            writer.bytes_or_null(self.sent.get(&kind).map(Vec::as_slice));
        }
        writer.uint(5).bytes_or_null(self.share.as_ref().map(|share| &share[..]));
        Zeroizing::new(writer.finish())
    }

    /// Reads it.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let mut map = reader.map()?;
        map.tagged(&mut reader, TAG)?;
        map.key(&mut reader, 1)?;
        let attempt = read_attempt(&mut reader)?;
        map.key(&mut reader, 2)?;
        let begin = Digest::new(reader.bytes32("the digest of the begin")?);
        map.key(&mut reader, 3)?;
        let seed = Zeroizing::new(reader.bytes32("the seed")?);
        map.key(&mut reader, 4)?;
        reader.array_of("the messages sent", SENT.len() as u64, "5")?;
        let mut sent = BTreeMap::new();
        for kind in SENT {
            if let Some(message) = reader.bytes_or_null()? {
                sent.insert(kind, message.to_vec());
            }
        }
        map.key(&mut reader, 5)?;
        let share = if reader.null() { None } else { Some(Zeroizing::new(reader.bytes32("the share")?)) };
        map.finish(&reader)?;
        reader.finish()?;
        if let Some(share) = &share {
            KeyShare::from_bytes(share)?;
        }
        Ok(Self { attempt, begin, seed, sent, share })
    }

    fn one_time(&self) -> SealingKey {
        SealingKey::generate(&mut Stream::new(&self.seed, &[b"one-time key"]))
    }

    fn polynomial(&self, q: usize) -> Result<Polynomial, threshold::Error> {
        Polynomial::random(q, &mut Stream::new(&self.seed, &[b"polynomial"]))
    }
}

/// Randomness from a seed: HMAC-SHA256 over a label and a counter (NIST SP 800-108, counter mode).
struct Stream {
    key: Zeroizing<[u8; 32]>,
    counter: u64,
    block: Zeroizing<[u8; 32]>,
    used: usize,
}

impl Stream {
    fn new(seed: &[u8; 32], label: &[&[u8]]) -> Self {
        let key = Zeroizing::new(mac(seed, label));
        Self { key, counter: 0, block: Zeroizing::new([0; 32]), used: 32 }
    }
}

fn mac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    // A key shorter than a block of SHA-256 is filled up with zeros (RFC 2104).
    let mut block = Zeroizing::new([0; 64]);
    block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    let mut mac = <Hmac<Sha256> as hmac::digest::KeyInit>::new((&*block).into());
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

impl RngCore for Stream {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_be_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_be_bytes(bytes)
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        for byte in dest {
            if self.used == self.block.len() {
                self.block = Zeroizing::new(mac(&self.key, &[&self.counter.to_be_bytes()]));
                (self.counter, self.used) = (self.counter + 1, 0);
            }
            *byte = self.block.get(self.used).copied().unwrap_or_default();
            self.used += 1;
        }
    }

    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), rand::Error> {
        self.fill_bytes(dest);
        Ok(())
    }
}

impl CryptoRng for Stream {}

/// What a row is sealed with: it opens for this reader alone, and only as a row by this dealer in this attempt.
pub(super) fn info(context: &Context, dealer: KeyId, reader: KeyId) -> Vec<u8> {
    let parts: [&[u8]; 5] =
        [INFO, context.proposal.as_bytes(), context.begin.as_bytes(), dealer.as_bytes(), reader.as_bytes()];
    parts.concat()
}

/// One member's turn in an attempt.
struct Turn<'a> {
    proposal: &'a Proposal,
    attempt: &'a Attempt,
    me: u16,
    place: usize,
    identity: &'a SigningKey,
    kept: Kept,
    changed: bool,
    messages: Vec<Vec<u8>>,
}

impl Ceremony {
    /// What the member with this identity has to do now. `kept` is what it was last told to keep; `rng` is asked for
    /// one seed for each attempt.
    ///
    /// To be called when all of the log that is at hand has been [applied](Ceremony::apply), and again after each
    /// message: who calls it while an old log is read again only says what was said already. It changes nothing: what
    /// the member has to do is there until the log shows that it is done.
    ///
    /// # Errors
    ///
    /// [`Lost`]: the member can't go on in this attempt, and says nothing more in it.
    pub fn next<R: RngCore + CryptoRng>(
        &self,
        identity: &SigningKey,
        kept: Option<&Kept>,
        rng: &mut R,
    ) -> Result<Vec<Action>, Lost> {
        let proposal = self.proposal();
        let Some(attempt) = self.attempt() else { return Ok(Vec::new()) };
        let Some(me) = proposal.index_of(key_id(&identity.verifying_key())) else { return Ok(Vec::new()) };
        let context = &attempt.context;
        if kept.is_some_and(|kept| kept.attempt > context.attempt) {
            // The log is not read to its end.
            return Ok(Vec::new());
        }
        let Some(place) = attempt.place(me) else {
            let old = kept.filter(|kept| kept.attempt < context.attempt);
            return Ok(old.map(|_| Action::Erase).into_iter().collect());
        };
        let joined = attempt.joins.get(&me);
        let (kept, changed) = match kept {
            Some(kept) if kept.attempt == context.attempt && kept.begin != context.begin => {
                return Err(Lost::Begin { expected: context.begin, found: kept.begin });
            }
            Some(kept) if kept.attempt == context.attempt => (kept.clone(), false),
            _ if joined.is_some() => return Err(Lost::Nothing { attempt: context.attempt }),
            _ => (Kept::new(context, rng), true),
        };
        if joined.is_some_and(|join| join.payload().one_time != kept.one_time().public()) {
            return Err(Lost::Other { kind: Kind::Join });
        }
        let messages = Vec::new();
        let mut turn = Turn { proposal, attempt, me, place, identity, kept, changed, messages };
        turn.take()?;
        let keep = turn.changed.then_some(Action::Keep(turn.kept));
        Ok(keep.into_iter().chain(turn.messages.into_iter().map(Action::Send)).collect())
    }
}

impl Turn<'_> {
    fn take(&mut self) -> Result<(), Lost> {
        let (attempt, me) = (self.attempt, self.me);
        if !attempt.joins.contains_key(&me) {
            let join = Join { context: attempt.context, one_time: self.kept.one_time().public() };
            self.say(Kind::Join, |_| Ok(join))?;
        }
        let dealt = attempt.dealings.iter().any(|dealt| dealt.dealer == me);
        if attempt.all_joined() && attempt.dealings_digest.is_none() && !dealt {
            self.say(Kind::Dealing, Self::deal)?;
        }
        if let Some(dealings) = attempt.dealings_digest.filter(|_| !attempt.reports.contains_key(&me)) {
            self.say(Kind::Report, |turn| Ok(turn.report(dealings)))?;
        }
        self.open()?;
        let Some(set) = &attempt.set else { return Ok(()) };
        // What the log says is enough for others; a member that signs has its rows itself.
        if attempt.lacking(me).is_some() || !self.have_share()? {
            return Ok(());
        }
        if !attempt.signatures.contains_key(&me) {
            let qualified = Qualified { context: attempt.context, set: set.digest };
            self.say(Kind::Qualified, |_| Ok(qualified))?;
        }
        if let Some(Ok(genesis)) = &attempt.genesis
            && !attempt.proofs.contains_key(&me)
        {
            self.say(Kind::Proof, |turn| {
                let share = turn.kept.share().ok_or(threshold::Error::Scalar)?;
                let (digest, share) = (genesis.cluster(), share.sign(&genesis.message()));
                Ok(Proof { context: attempt.context, genesis: Digest::new(*digest.as_bytes()), share })
            })?;
        }
        Ok(())
    }

    /// Says it once; then always the same again.
    fn say<P: Payload<Signer = KeyId>>(
        &mut self,
        kind: Kind,
        make: impl FnOnce(&Self) -> Result<P, Lost>,
    ) -> Result<(), Lost> {
        let message = match self.kept.sent.get(&kind) {
            Some(message) => message.clone(),
            None => {
                let message = self.sign(make(self)?);
                self.kept.sent.insert(kind, message.clone());
                self.changed = true;
                message
            }
        };
        self.messages.push(message);
        Ok(())
    }

    fn sign<P: Payload<Signer = KeyId>>(&self, payload: P) -> Vec<u8> {
        Signed::sign(payload, key_id(&self.identity.verifying_key()), self.identity).bytes().to_vec()
    }

    fn key_id(&self, member: u16) -> KeyId {
        // All participants are members.
        self.proposal.member(member).map_or(KeyId::new([0; 32]), |(_, key)| key)
    }

    fn deal(&self) -> Result<Dealing, Lost> {
        let context = self.attempt.context;
        let polynomial = self.kept.polynomial(self.proposal.quorum().q())?;
        let seal = |member: &u16| {
            // All have joined.
            let join = self.attempt.joins.get(member).map(|join| join.payload().one_time);
            let key = join.ok_or_else(|| Lost::Arithmetic(format!("member {member} has no one-time key")))?;
            let reader = self.key_id(*member);
            let label: [&[u8]; 3] = [b"row", reader.as_bytes(), &key.to_bytes()];
            let mut rng = Stream::new(&self.kept.seed, &label);
            key.seal_for(
                &info(&context, self.key_id(self.me), reader),
                &polynomial.row(*member).to_bytes(),
                &mut rng,
            )
            .map_err(|error| Lost::Arithmetic(error.to_string()))
        };
        let rows = self.attempt.participants.iter().map(seal).collect::<Result<_, _>>()?;
        Ok(Dealing { context, commitment: polynomial.commitment()?, rows })
    }

    /// This member's row of a dealing: published, or sealed to it, and checked against the commitment.
    fn row(&self, dealt: &Dealt) -> Option<Row> {
        if let Some(row) = Attempt::opened_row(dealt, self.me) {
            return Some(row);
        }
        let Dealing { context, commitment, rows } = dealt.signed.payload();
        let info = info(context, self.key_id(dealt.dealer), self.key_id(self.me));
        let bytes = Zeroizing::new(self.kept.one_time().open_for(&info, rows.get(self.place)?)?);
        Row::parse(&bytes).ok().filter(|row| commitment.holds(self.me, row))
    }

    fn report(&self, dealings: Digest) -> Report {
        let without = |(_, dealt): &(u16, &Dealt)| self.row(dealt).is_none();
        let complaints = (0..).zip(&self.attempt.dealings).filter(without).map(|(place, _)| place).collect();
        Report { context: self.attempt.context, dealings, complaints }
    }

    /// Opens the rows of those that complain. At most `f` of each dealing, which is for the log to say:
    /// [`Attempt::is_to_open`].
    fn open(&mut self) -> Result<(), Lost> {
        let asked: Vec<(&Dealt, u16)> =
            self.attempt.to_open(self.proposal).filter(|(dealt, _)| dealt.dealer == self.me).collect();
        let Some((dealt, _)) = asked.first() else { return Ok(()) };
        let polynomial = self.kept.polynomial(self.proposal.quorum().q())?;
        if polynomial.commitment()? != dealt.signed.payload().commitment {
            return Err(Lost::Other { kind: Kind::Dealing });
        }
        for (dealt, reader) in asked {
            let (context, dealing) = (self.attempt.context, dealt.digest);
            let opening = Opening { context, dealing, reader, row: polynomial.row(reader) };
            let message = self.sign(opening);
            self.messages.push(message);
        }
        Ok(())
    }

    /// Adds the rows of the qualified dealings up, if they are all there.
    fn have_share(&mut self) -> Result<bool, Lost> {
        if self.kept.share.is_some() {
            return Ok(true);
        }
        let rows: Option<Vec<Row>> = self.attempt.qualified().map(|dealt| self.row(dealt)).collect();
        let Some(rows) = rows else { return Ok(false) };
        self.kept.share = Some(sum_of_rows(&rows)?.to_bytes());
        self.changed = true;
        Ok(true)
    }
}

const _: () = {
    // The largest dealing fits its envelope, with 1 kB to spare for what is around commitment and rows.
    let (n, q) = (64, 43);
    assert!(DealingCommitment::size(q) + n * (Row::size(q) + OVERHEAD + 3) + 1024 <= Dealing::MAX_BYTES);
};
