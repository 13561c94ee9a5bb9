//! Mails sealed and signed before the clock starts: terms, NRO and NRR of each exchange.
//!
//! A cluster never sees a mail, only what is signed about it. So most exchanges have terms and an NRO over a digest that is
//! drawn at random: sealing a mail costs the sender as much as the cluster spends on the exchange, and would
//! prove nothing. One exchange in [`SAMPLE`] has a real mail, which the token must open afterwards.

use std::io::Cursor;
use std::sync::atomic::{AtomicUsize, Ordering};

use fairpost::card::{self, Card};
use fairpost::{identity, seal};
use fairpost_proto::cose::Signed;
use fairpost_proto::evidence::{Answer, Nro, Nrr};
use fairpost_proto::ids::{Digest, ExchangeId, Protocol, Span, Timestamp};
use fairpost_proto::request;
use fairpost_proto::terms::{self, Fields, Recipient, Sender, Terms};
use fairpost_proto::trust::Trust;
use rand::RngCore as _;

use super::people::People;

/// One exchange in so many has a real mail.
pub(super) const SAMPLE: usize = 50;
/// How long an exchange lasts, if the cluster's rules allow that: longer than any run.
const LIFETIME: Span = Span::from_seconds(86_400);
/// The mail, where there is one.
const MAIL: &[u8] =
    b"From: sender@bench.example\r\nTo: recipient@bench.example\r\nSubject: Notice\r\n\r\nDear reader.\r\n";

/// Why an exchange can't be prepared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The terms do not go together.
    #[error(transparent)]
    Terms(#[from] terms::Error),
    /// Signing failed.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// A card does not convince.
    #[error(transparent)]
    Card(#[from] card::Error),
    /// Sealing failed.
    #[error(transparent)]
    Seal(#[from] seal::Error),
    /// A thread ended before its work was done.
    #[error("a thread that prepared exchanges panicked")]
    Panicked,
}

/// An exchange that is ready to be redeemed.
pub(super) struct Prepared {
    /// Its number, by which [`People::pair`] finds who signs.
    pub(super) number: usize,
    pub(super) exchange: ExchangeId,
    pub(super) nro: Vec<u8>,
    pub(super) nrr: Vec<u8>,
    /// What a request to redeem signs of what comes with it.
    pub(super) redeem_body: Digest,
    /// What a request for the proof signs of what comes with it.
    pub(super) proof_body: Digest,
    /// The sealed mail, if there is one.
    pub(super) mail: Option<Vec<u8>>,
}

/// Prepares the exchanges with the numbers from `first` on, on all processors. `done` is told how many are ready.
pub(super) fn prepare(
    people: &People,
    trust: &Trust,
    first: usize,
    count: usize,
    now: Timestamp,
    done: &(dyn Fn(usize) + Sync),
) -> Result<Vec<Prepared>, Error> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let ready = AtomicUsize::new(0);
    let work = |numbers: std::ops::Range<usize>| -> Result<Vec<Prepared>, Error> {
        numbers
            .filter_map(|number| {
                let made = one(people, trust, number, now).transpose()?;
                done(ready.fetch_add(1, Ordering::Relaxed) + 1);
                Some(made)
            })
            .collect()
    };
    let share = count.div_ceil(threads).max(1);
    let parts = (first..first + count).step_by(share).map(|begin| begin..(begin + share).min(first + count));
    std::thread::scope(|scope| {
        let workers: Vec<_> = parts.map(|numbers| scope.spawn(|| work(numbers))).collect();
        let mut all = Vec::with_capacity(count);
        for worker in workers {
            all.extend(worker.join().map_err(|_| Error::Panicked)??);
        }
        Ok(all)
    })
}

/// None if there are no people.
fn one(people: &People, trust: &Trust, number: usize, now: Timestamp) -> Result<Option<Prepared>, Error> {
    let Some((sender, recipient)) = people.pair(number) else { return Ok(None) };
    let rules = trust.view().parameters();
    let lifetime = LIFETIME.clamp(rules.shortest_lifetime, rules.longest_lifetime);
    let (nro, mail) = if number.is_multiple_of(SAMPLE) {
        let card = Card::parse(&recipient.card(now)?)?;
        let mut mail = Vec::new();
        // CMP1, so that whoever has the token can open it.
        let options = seal::Options { protocol: Protocol::Cmp1, lifetime, now };
        let sealed = seal::seal(sender, &card, trust, options, Cursor::new(MAIL), &mut mail)?;
        (sealed.nro, Some(mail))
    } else {
        let created = Timestamp::from_seconds(now.seconds()).unwrap_or(now);
        let terms = Terms::new(Fields {
            protocol: Protocol::Cmp2,
            cluster: trust.cluster(),
            nonce: random(),
            sender: Sender { address: sender.address().clone(), key: sender.key_id() },
            recipient: Recipient { address: recipient.address().clone(), key: Some(recipient.key_id()) },
            content: Digest::new(random()),
            created,
            expires: created.plus(lifetime),
        })?;
        (sender.sign(Nro { terms, sealed: Digest::new(random()) })?, None)
    };
    let nrr = recipient.sign(Nrr(Answer::to(&nro)))?.bytes().to_vec();
    Ok(Some(Prepared {
        number,
        exchange: nro.payload().terms.exchange(),
        redeem_body: request::body_digest(nro.bytes(), Some(&nrr)),
        proof_body: request::body_digest(nro.bytes(), None),
        nro: Signed::bytes(&nro).to_vec(),
        nrr,
        mail,
    }))
}

pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::thread_rng().fill_bytes(&mut bytes);
    bytes
}
