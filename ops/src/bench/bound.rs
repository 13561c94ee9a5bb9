//! The cryptographic bound: how long the operations take that no implementation of the protocol could leave out, and how
//! many exchanges they alone would allow.
//!
//! # Specification
//!
//! Per exchange, over all `n` servers, with entries of `b` exchanges (as measured in the run):
//!
//! | operation | how often | why |
//! |---|---|---|
//! | check of NRO and of NRR | `n` each | each server judges for itself |
//! | check of a request | 1, and 1 for the proof | by the contact |
//! | check of a certificate | `n` × certificates / exchanges | once each, by a server that remembers |
//! | signature on an entry | 1 / `b` | by the leader |
//! | check of an entry's signature | (`n` − 1) / `b` | by all others |
//! | signature on a vote | `n` / `b` | by each server |
//! | check of a vote | `n` (`q` − 1) / `b` | a certificate takes `q` votes; its own vote a server need not check |
//! | share | `q` | as many as make a token |
//! | combination | 1 | by the contact; the mean over sets of members |
//! | check of a token | 1 | by the contact, its part of a batch as large as those of the run |
//!
//! Each is measured here, on one thread, before and after the load, on objects of the run's sizes; the median counts. The
//! **bound** is the number of processors over the sum. Hashing, parsing, networking and disks are not in it: it can't be
//! reached, only approached.
//!
//! The **unavoidable time** of one exchange alone in the cluster is what has to happen one after the other: three
//! syncs (entry, ballot, certificate), the signatures on the way of a receipt (three checks by the contact, three and a signed
//! vote by another server, `q` − 1 votes), one share, one combination, one check of the token by itself.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use fairpost_proto::chain;
use fairpost_proto::cose::{self, Signed};
use fairpost_proto::evidence::{Nro, Nrr};
use fairpost_proto::ids::{Digest, ExchangeId, Timestamp};
use fairpost_proto::request::{self, Method};
use fairpost_proto::threshold::{self, KeyShare, Message, PublicKey, Share, Token};
use fairpost_proto::view::View;
use fairpost_proto::vote::Vote;
use rand::rngs::OsRng;

use super::people::People;
use super::prepare::{Prepared, random};
use super::report::{Cost, Part};

/// How long each operation is measured, before the load and after it.
const BUDGET: Duration = Duration::from_millis(150);
/// How often it is measured at least.
const LEAST: usize = 15;

/// How many tokens are verified together at most.
pub(super) const MOST_TOKENS: usize = 128;

/// Why there is no bound.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No exchange was prepared.
    #[error("there is no exchange to measure with")]
    Nothing,
    /// A signed object does not hold.
    #[error(transparent)]
    Cose(#[from] cose::Error),
    /// An identity can't sign.
    #[error(transparent)]
    Identity(#[from] fairpost::identity::Error),
    /// Good tokens do not verify together.
    #[error("good tokens do not verify together")]
    Tokens,
    /// No key can be dealt.
    #[error(transparent)]
    Threshold(#[from] threshold::Error),
}

/// The operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Nro,
    Nrr,
    Request,
    Certificate,
    SignServer,
    CheckServer,
    Share,
    Combine,
    Token,
}

impl Operation {
    const ALL: [Self; 9] = [
        Self::Nro,
        Self::Nrr,
        Self::Request,
        Self::Certificate,
        Self::SignServer,
        Self::CheckServer,
        Self::Share,
        Self::Combine,
        Self::Token,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Nro => "check an NRO",
            Self::Nrr => "check an NRR",
            Self::Request => "check a request",
            Self::Certificate => "check a certificate",
            Self::SignServer => "sign an entry or a vote",
            Self::CheckServer => "check an entry or a vote",
            Self::Share => "make a share",
            Self::Combine => "combine shares",
            Self::Token => "check a token",
        }
    }
}

/// What a run was like, as far as the bound depends on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Servers.
    pub(super) n: usize,
    /// Votes and shares that it takes.
    pub(super) q: usize,
    /// Exchanges in an entry.
    pub(super) batch: f64,
    /// Tokens that a contact verifies together.
    pub(super) tokens: usize,
    /// Certificates that each server sees for the first time, per exchange.
    pub(super) certificates: f64,
    /// Whether the proof is asked for.
    pub(super) proof: bool,
}

impl Shape {
    fn per_exchange(&self, operation: Operation) -> f64 {
        let (n, q) = (self.n as f64, self.q as f64);
        match operation {
            Operation::Nro | Operation::Nrr => n,
            Operation::Request => 1.0 + f64::from(u8::from(self.proof)),
            Operation::Certificate => n * self.certificates,
            Operation::SignServer => (1.0 + n) / self.batch,
            Operation::CheckServer => (n - 1.0 + n * (q - 1.0)) / self.batch,
            Operation::Share => q,
            Operation::Combine | Operation::Token => 1.0,
        }
    }

    fn on_the_way(&self, operation: Operation) -> f64 {
        match operation {
            // The contact, and after the order another server.
            Operation::Nro | Operation::Nrr => 2.0,
            Operation::CheckServer => self.q as f64,
            Operation::SignServer => 2.0,
            Operation::Certificate => 0.0,
            Operation::Request | Operation::Share | Operation::Combine | Operation::Token => 1.0,
        }
    }
}

/// What is operated on: objects of the run, and a key of the same threshold.
pub(super) struct Bench<'a> {
    view: &'a View,
    now: Timestamp,
    nro: Signed<Nro>,
    nrr: Signed<Nrr>,
    request: Signed<request::Request>,
    server: SigningKey,
    vote: Signed<Vote>,
    share: KeyShare,
    /// Shares of one token by each set of members that are asked together.
    sets: Vec<Vec<(u16, Share)>>,
    /// Tokens of different exchanges.
    tokens: Vec<(Message, Token)>,
    key: PublicKey,
    samples: Vec<(Operation, Vec<f64>)>,
    /// How long a token takes in a batch of the run's size.
    batched: Vec<f64>,
}

impl<'a> Bench<'a> {
    pub(super) fn new(
        view: &'a View,
        people: &People,
        prepared: &Prepared,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let (_, recipient) = people.pair(prepared.number).ok_or(Error::Nothing)?;
        let request = recipient.sign(request::Request {
            cluster: view.cluster(),
            method: Method::Redeem,
            exchange: prepared.exchange,
            body: prepared.redeem_body,
            time: now,
            nonce: random(),
        })?;
        let server = SigningKey::generate(&mut OsRng);
        let vote = vote(view, &server);
        let quorum = view.quorum();
        let (commitment, mut keys) = threshold::deal(quorum.q(), quorum.n(), &mut OsRng)?;
        let sets = sets(&keys, quorum.q(), &Message::released(view.cluster(), prepared.exchange));
        let tokens = (0..MOST_TOKENS).map(|_| -> Result<_, Error> {
            let message = Message::released(view.cluster(), ExchangeId::new(random()));
            let shares: Vec<_> = (0..).zip(&keys).map(|(index, key)| (index, key.sign(&message))).collect();
            Ok((message, threshold::combine(quorum.q(), &shares)?))
        });
        let tokens = tokens.collect::<Result<_, _>>()?;
        Ok(Self {
            view,
            now,
            nro: Signed::parse(&prepared.nro)?,
            nrr: Signed::parse(&prepared.nrr)?,
            request,
            server,
            vote,
            share: keys.pop().ok_or(Error::Nothing)?,
            sets,
            tokens,
            key: commitment.public_key(),
            samples: Operation::ALL.iter().map(|operation| (*operation, Vec::new())).collect(),
            batched: Vec::new(),
        })
    }

    /// Measures every operation; what was measured before counts as well.
    pub(super) fn measure(&mut self) -> Result<(), Error> {
        // Once each, to see that what is measured is what succeeds.
        self.nro.verify_by_chain()?;
        self.nrr.verify_by_chain()?;
        self.request.verify_by_chain()?;
        self.vote.verify(&self.server.verifying_key())?;
        let (message, token) = self.tokens.first().ok_or(Error::Nothing)?;
        self.key.verify(message, token)?;
        let key = self.server.verifying_key();
        let mut samples = std::mem::take(&mut self.samples);
        for (operation, taken) in &mut samples {
            taken.extend(match operation {
                Operation::Nro => time(|| self.nro.verify_by_chain().is_ok()),
                Operation::Nrr => time(|| self.nrr.verify_by_chain().is_ok()),
                Operation::Request => time(|| self.request.verify_by_chain().is_ok()),
                Operation::Certificate => time(|| self.certificate()),
                Operation::SignServer => time(|| vote(self.view, &self.server)),
                Operation::CheckServer => time(|| self.vote.verify(&key).is_ok()),
                Operation::Share => time(|| self.share.sign(message)),
                Operation::Combine => {
                    let combine = |set: &Vec<_>| threshold::combine(set.len(), set).is_ok();
                    shared(self.sets.len(), time(|| self.sets.iter().all(combine)))
                }
                Operation::Token => time(|| self.key.verify(message, token).is_ok()),
            });
        }
        self.samples = samples;
        Ok(())
    }

    /// Measures how long a token takes when so many are verified together.
    pub(super) fn measure_tokens(&mut self, together: usize) -> Result<(), Error> {
        let batch = self.tokens.get(..together.clamp(1, MOST_TOKENS)).ok_or(Error::Nothing)?;
        if !self.key.verify_batch(batch, &mut OsRng) {
            return Err(Error::Tokens);
        }
        self.batched = shared(batch.len(), time(|| self.key.verify_batch(batch, &mut OsRng)));
        Ok(())
    }

    fn certificate(&self) -> bool {
        let terms = &self.nro.payload().terms;
        self.nro.signer().verify(self.view.anchors(), terms.sender.address.as_str(), self.now).is_ok()
    }

    /// What each operation costs an exchange.
    pub(super) fn costs(&self, shape: &Shape) -> Vec<Cost> {
        let costs = self.samples.iter().map(|(operation, samples)| {
            let (name, samples) = match operation {
                Operation::Token => (format!("check a token, {} together", shape.tokens), &self.batched),
                other => (other.name().to_owned(), samples),
            };
            let (seconds, per_exchange) = (median(samples), shape.per_exchange(*operation));
            Cost { operation: name, seconds, per_exchange, seconds_per_exchange: seconds * per_exchange }
        });
        costs.collect()
    }

    /// What a single exchange has to wait for; `sync` is how long a synced write takes.
    pub(super) fn way(&self, shape: &Shape, sync: f64) -> Vec<Part> {
        let parts = self.samples.iter().map(|(operation, samples)| {
            let (seconds, times) = (median(samples), shape.on_the_way(*operation));
            Part { part: operation.name(), seconds, times, seconds_together: seconds * times }
        });
        let syncs = Part { part: "sync", seconds: sync, times: 3.0, seconds_together: 3.0 * sync };
        std::iter::once(syncs).chain(parts.filter(|part| part.times > 0.0)).collect()
    }
}

fn vote(view: &View, key: &SigningKey) -> Signed<Vote> {
    let vote = Vote {
        cluster: view.cluster(),
        epoch: view.epoch(),
        sequence: 1 << 20,
        log_size: 1 << 24,
        log_root: Digest::of(b"root"),
        ballot: Digest::of(b"ballot"),
        number: 1 << 20,
    };
    Signed::sign(vote, chain::key_id(&key.verifying_key()), key)
}

/// The shares of one token by `q` members: beginning with each of them, and going round.
fn sets(keys: &[KeyShare], q: usize, message: &Message) -> Vec<Vec<(u16, Share)>> {
    let shares: Vec<(u16, Share)> = (0..).zip(keys).map(|(index, key)| (index, key.sign(message))).collect();
    let set = |first: usize| shares.iter().cycle().skip(first).take(q).copied().collect();
    (0..shares.len()).map(set).collect()
}

/// How long each of `count` parts took, of work that was measured together.
fn shared(count: usize, samples: Vec<f64>) -> Vec<f64> {
    samples.into_iter().map(|seconds| seconds / count.max(1) as f64).collect()
}

/// How long each of many runs took, in seconds.
fn time<T>(mut work: impl FnMut() -> T) -> Vec<f64> {
    let (begin, mut samples) = (Instant::now(), Vec::new());
    while samples.len() < LEAST || begin.elapsed() < BUDGET {
        let started = Instant::now();
        black_box(work());
        samples.push(started.elapsed().as_secs_f64());
    }
    samples
}

/// The middle one of them; zero of none.
pub(super) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operations_are_counted_over_all_servers() {
        let shape = Shape { n: 4, q: 3, batch: 10.0, tokens: 3, certificates: 0.05, proof: true };
        let count = |operation| shape.per_exchange(operation);
        assert_eq!((count(Operation::Nro), count(Operation::Nrr)), (4.0, 4.0));
        assert_eq!(count(Operation::Request), 2.0);
        assert_eq!(count(Operation::Certificate), 0.2);
        assert_eq!(count(Operation::SignServer), 0.5, "one entry and four votes for ten exchanges");
        assert_eq!(count(Operation::CheckServer), 1.1, "three entries and eight votes for ten exchanges");
        assert_eq!(
            (count(Operation::Share), count(Operation::Combine), count(Operation::Token)),
            (3.0, 1.0, 1.0)
        );
        assert_eq!(Shape { proof: false, ..shape }.per_exchange(Operation::Request), 1.0);
    }

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        assert_eq!(median(&[5.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[]), 0.0);
    }
}
