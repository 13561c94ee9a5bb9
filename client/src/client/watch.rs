//! Watching an exchange: the verdict as soon as there is one, from whichever node has it.
//!
//! # Specification
//!
//! One node is watched (`Exchange.Watch`). It must say how the exchange stands within [`Options::attempt`], and from then on
//! give a sign of life within [`Options::silence`]. One that is silent for longer, fails, lies, or ends its stream is left
//! for the next, by the [`Schedule`].
//!
//! Every [`Options::second_opinion`], other nodes are asked for the status: as many as may be compromised. If the watched node
//! hides the verdict, it is one of these itself, so that not all of the others can hide it as well.
//!
//! # Guarantees
//!
//! - A verdict is believed with its token only (`answer::outcome`), and is the last event.
//! - No node hides a verdict for longer than [`Options::second_opinion`] and [`Options::attempt`] together (test
//!   `a_watched_node_that_lies_hides_nothing_for_long`), and none that stops for longer than [`Options::silence`].
//! - All that is under way lives in the [`Watch`]: [`Watch::next`] may be dropped at any moment, and nothing is lost; when
//!   the watch is dropped, nothing goes on.
//!
//! [`Options::attempt`]: super::Options::attempt
//! [`Options::silence`]: super::Options::silence
//! [`Options::second_opinion`]: super::Options::second_opinion

use std::future::pending;
use std::mem;
use std::time::Duration;

use fairpost_api::v1;
use fairpost_api::v1::exchange_client::ExchangeClient;
use fairpost_proto::request::Method;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tonic::{Response, Status, Streaming};

use super::answer::{self, Judged};
use super::ask;
use super::error::{Error, Fault};
use super::schedule::Schedule;
use super::tally::{Believed, Said, Tally};
use super::{Client, Outcome, Party, check_party};
use crate::identity::Identity;
use crate::sealed_mail::SealedMail;

/// After a stream that lasted for so long, the pauses begin anew.
const GOOD: Duration = Duration::from_secs(5);

/// What a watch has seen.
#[allow(
    clippy::large_enum_variant,
    reason = "there is one verdict for each exchange, and it is handed on at once"
)]
#[derive(Clone, Debug)]
pub enum Event {
    /// A node says that there is no verdict yet. It is not proven, and comes again every ten seconds or so.
    Undecided,
    /// The verdict, proven. It is the last event.
    Decided(Outcome),
}

/// An exchange that is watched: see [`Client::watch`].
pub struct Watch<'w> {
    client: &'w Client,
    identity: &'w Identity,
    mail: &'w SealedMail,
    line: Line,
    /// Whom to watch next, and when.
    schedule: Schedule,
    checks: FuturesUnordered<BoxFuture<'static, (usize, Result<v1::Outcome, Said>)>>,
    next_check: Instant,
    checked: usize,
    tally: Tally,
    /// Since when no node has said anything useful.
    alone: Instant,
    done: bool,
}

/// The node that is watched.
enum Line {
    Idle,
    Opening {
        place: usize,
        until: Instant,
        call: BoxFuture<'static, Result<Response<Streaming<v1::Outcome>>, Status>>,
    },
    Open {
        place: usize,
        since: Instant,
        until: Instant,
        /// Whether it has said anything.
        heard: bool,
        stream: Box<Streaming<v1::Outcome>>,
    },
}

/// What came over the line.
enum Word {
    Opened(Box<Streaming<v1::Outcome>>),
    Outcome(v1::Outcome),
    Status(Status),
    Ended,
    Silent,
}

impl Line {
    /// The next word. May be dropped at any moment: nothing is lost.
    async fn word(&mut self) -> (usize, Word) {
        match self {
            Self::Idle => pending().await,
            Self::Opening { place, until, call } => {
                let word = match timeout_at(*until, call).await {
                    Ok(Ok(stream)) => Word::Opened(Box::new(stream.into_inner())),
                    Ok(Err(status)) => Word::Status(status),
                    Err(_elapsed) => Word::Silent,
                };
                (*place, word)
            }
            Self::Open { place, until, stream, .. } => {
                let word = match timeout_at(*until, stream.message()).await {
                    Ok(Ok(Some(outcome))) => Word::Outcome(outcome),
                    Ok(Ok(None)) => Word::Ended,
                    Ok(Err(status)) => Word::Status(status),
                    Err(_elapsed) => Word::Silent,
                };
                (*place, word)
            }
        }
    }

    const fn place(&self) -> Option<usize> {
        match self {
            Self::Idle => None,
            Self::Opening { place, .. } | Self::Open { place, .. } => Some(*place),
        }
    }

    const fn is_heard(&self) -> bool {
        matches!(self, Self::Open { heard: true, .. })
    }
}

/// What [`Watch::next`] waits for.
enum Happened {
    Word(usize, Word),
    Checked(usize, Result<v1::Outcome, Said>),
    Time,
}

impl Client {
    /// Either party watches the exchange: [`Watch::next`] gives the verdict as soon as there is one, and says meanwhile
    /// that there is none. Nothing is sent before it is called.
    ///
    /// # Errors
    ///
    /// [`Error::Evidence`] or [`Error::Stranger`].
    pub fn watch<'w>(&'w self, identity: &'w Identity, mail: &'w SealedMail) -> Result<Watch<'w>, Error> {
        mail.check(&self.trust, crate::now())?;
        check_party(identity, mail, Party::Either)?;
        let now = Instant::now();
        Ok(Watch {
            client: self,
            identity,
            mail,
            line: Line::Idle,
            schedule: self.one_at_a_time(now),
            checks: FuturesUnordered::new(),
            next_check: now + self.options.second_opinion,
            checked: 0,
            tally: self.tally(),
            alone: now,
            done: false,
        })
    }

    fn one_at_a_time(&self, now: Instant) -> Schedule {
        Schedule::new(self.roster.nodes.len(), 1, Duration::ZERO, now)
    }
}

impl Watch<'_> {
    /// The next event; none after the verdict.
    ///
    /// **Cancel safety.** May be dropped at any moment, as by `select!`, and called again: no event is lost.
    ///
    /// # Errors
    ///
    /// [`Error::Rejected`] is the end. [`Error::NotReached`], [`Error::NoQuorum`] and [`Error::NotBelieved`] come when no node
    /// has said anything useful for [`Options::deadline`](super::Options::deadline); calling again goes on.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        while !self.done {
            self.prepare()?;
            let wake = self.wake();
            let happened = tokio::select! {
                (place, word) = self.line.word() => Happened::Word(place, word),
                Some((place, given)) = self.checks.next() => Happened::Checked(place, given),
                () = sleep_until(wake) => Happened::Time,
            };
            let event = match happened {
                Happened::Word(place, word) => self.heard(place, word)?,
                Happened::Checked(place, Ok(given)) => self.judge(place, given)?,
                Happened::Checked(place, Err(said)) => self.take(place, said).map(|()| None)?,
                Happened::Time => None,
            };
            if event.is_some() {
                return Ok(event);
            }
            if self.is_lost() {
                let tally = mem::replace(&mut self.tally, self.client.tally());
                // From here on it may be dropped: then the caller has had no error, and gets it after as long again.
                self.alone = Instant::now();
                return Err(self.client.give_up(tally).await);
            }
        }
        Ok(None)
    }

    /// Starts what is due.
    fn prepare(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        if let Some(place) = self.schedule.pick(&self.client.roster.order(), now) {
            self.open(place, now)?;
        }
        if now >= self.next_check {
            self.next_check = now + self.client.options.second_opinion;
            self.check()?;
        }
        Ok(())
    }

    fn open(&mut self, place: usize, now: Instant) -> Result<(), Error> {
        let Some(node) = self.client.roster.nodes.get(place) else { return Ok(()) };
        let request = self.client.request(Method::Status, self.identity, self.mail, None, None)?;
        let mut exchange = ExchangeClient::new(node.channel.clone());
        let call = Box::pin(async move { exchange.watch(request).await });
        self.line = Line::Opening { place, until: now + self.client.options.attempt, call };
        Ok(())
    }

    /// Asks others than the watched node, another one first each time.
    fn check(&mut self) -> Result<(), Error> {
        let nodes = &self.client.roster.nodes;
        let others = (0..nodes.len()).map(|step| (self.checked + step) % nodes.len());
        let others: Vec<usize> = others.filter(|place| Some(*place) != self.line.place()).collect();
        let (limit, count) = (self.client.options.attempt, self.client.faults().max(1));
        for place in others.into_iter().take(count) {
            let Some(node) = nodes.get(place) else { continue };
            let request = self.client.request(Method::Status, self.identity, self.mail, None, Some(limit))?;
            let mut exchange = ExchangeClient::new(node.channel.clone());
            self.checks.push(Box::pin(async move {
                let given = match timeout(limit, exchange.get_status(request)).await {
                    Ok(Ok(given)) => Ok(given.into_inner()),
                    Ok(Err(status)) => Err(ask::interpret(&status)),
                    Err(_elapsed) => Err(ask::silent(limit)),
                };
                (place, given)
            }));
            self.checked = place + 1;
        }
        Ok(())
    }

    /// When something is due next.
    fn wake(&self) -> Instant {
        let mut wake = self.next_check;
        if let Some(due) = self.schedule.wake() {
            wake = wake.min(due);
        }
        if self.line.is_heard() { wake } else { wake.min(self.alone + self.client.options.deadline) }
    }

    fn is_lost(&self) -> bool {
        !self.line.is_heard() && Instant::now() >= self.alone + self.client.options.deadline
    }

    /// What came from the watched node.
    fn heard(&mut self, place: usize, word: Word) -> Result<Option<Event>, Error> {
        let (now, limits) = (Instant::now(), &self.client.options);
        let mut told = Duration::ZERO;
        let said = match word {
            Word::Opened(stream) => {
                let until = now + limits.attempt;
                self.line = Line::Open { place, since: now, until, heard: false, stream };
                return Ok(None);
            }
            Word::Outcome(given) => {
                if let Line::Open { until, heard, .. } = &mut self.line {
                    (*until, *heard) = (now + limits.silence, true);
                }
                return self.judge(place, given);
            }
            // The node ends a stream that has lasted long enough, or it stops.
            Word::Ended => None,
            Word::Status(status) => {
                told = ask::retry_delay(&status);
                Some(ask::interpret(&status))
            }
            Word::Silent if self.line.is_heard() => Some(ask::silent(limits.silence)),
            Word::Silent => Some(ask::silent(limits.attempt)),
        };
        self.hang_up(place, now, told);
        match said {
            Some(said) => self.take(place, said).map(|()| None),
            None => Ok(None),
        }
    }

    /// Leaves the watched node for the next; it has told to wait for so long before it is asked again.
    fn hang_up(&mut self, place: usize, now: Instant, told: Duration) {
        let line = mem::replace(&mut self.line, Line::Idle);
        if line.is_heard() {
            self.alone = now;
        }
        if matches!(line, Line::Open { since, .. } if now.duration_since(since) >= GOOD) {
            self.schedule = self.client.one_at_a_time(now);
        }
        self.schedule.failed(place, now, told, ask::share());
    }

    /// Whether an answer proves itself.
    fn judge(&mut self, place: usize, given: v1::Outcome) -> Result<Option<Event>, Error> {
        let client = self.client;
        match answer::outcome(&client.trust, self.mail.nro(), given) {
            Ok(Judged::Proven(outcome)) => {
                client.roster.answered(place);
                (self.done, self.line) = (true, Line::Idle);
                self.checks.clear();
                Ok(Some(Event::Decided(outcome)))
            }
            Ok(Judged::Undecided) => {
                self.alone = Instant::now();
                self.tally.hear(place, Said::Undecided);
                // Of nodes that are asked beside the watched one the caller hears when there is no such.
                let tell = self.line.place() == Some(place) || !self.line.is_heard();
                Ok(tell.then_some(Event::Undecided))
            }
            Err(lie) => {
                client.lied(place, &lie);
                if self.line.place() == Some(place) {
                    self.hang_up(place, Instant::now(), Duration::ZERO);
                }
                let message = format!("its answer does not prove itself: {lie}");
                self.take(place, Said::Failed(Fault::Lied, message)).map(|()| None)
            }
        }
    }

    /// Takes down what does not prove itself.
    fn take(&mut self, place: usize, said: Said) -> Result<(), Error> {
        if let Said::Failed(fault, _) = &said
            && *fault != Fault::Lied
        {
            self.client.roster.failed(place);
        }
        match self.tally.hear(place, said) {
            Some(Believed::Rejected(rejection)) => {
                (self.done, self.line) = (true, Line::Idle);
                self.checks.clear();
                Err(Error::Rejected(rejection))
            }
            _ => Ok(()),
        }
    }
}
