//! Asking all nodes for their shares, beside a call that does not come to its end.
//!
//! # Specification
//!
//! A call that goes well asks for no share. When no node has given a proven answer within twice the hedge delay, or one
//! has lied, was silent or could not get on, all nodes are asked for their shares at once, each for at most
//! [`Options::attempt`](super::Options::attempt). Who gives none, since it knows no verdict yet or does not get on, is asked
//! again after pauses, as long as the call lasts. `q` shares make the token ([`Shares`]); whichever comes first ends the call, an
//! answer to it or the token.
//!
//! Who gave something that does not hold is marked as a liar, and not asked again for this token. Who has lied before is asked
//! later than the others.

use std::collections::BTreeMap;
use std::time::Duration;

use fairpost_api::v1::ShareParts;
use fairpost_api::v1::exchange_client::ExchangeClient;
use fairpost_proto::request::Method;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::{Instant, timeout};
use tonic::Status;

use super::Client;
use super::ask::{self, LONGEST_PAUSE};
use super::error::{Error, Failure, Fault};
use super::schedule::Schedule;
use super::shares::{Made, Shares};
use super::tally::Said;
use crate::identity::Identity;
use crate::sealed_mail::SealedMail;

/// What came of asking a node: its share, its refusal, or nothing for so long.
pub(super) type Given = Result<Result<ShareParts, Status>, Duration>;

/// Shares that are collected for one call.
pub(super) struct Collecting<'c> {
    client: &'c Client,
    identity: &'c Identity,
    mail: &'c SealedMail,
    /// When it begins.
    due: Instant,
    /// Who is asked when, once it has begun.
    schedule: Option<Schedule>,
    under_way: FuturesUnordered<BoxFuture<'static, (usize, Given)>>,
    shares: Shares<'c>,
    /// Why each of the others has given none.
    refusals: BTreeMap<usize, (Fault, String)>,
}

impl<'c> Collecting<'c> {
    /// Begins at `due`, or when something goes wrong before.
    pub(super) fn new(
        client: &'c Client,
        identity: &'c Identity,
        mail: &'c SealedMail,
        due: Instant,
    ) -> Self {
        Self {
            client,
            identity,
            mail,
            due,
            schedule: None,
            under_way: FuturesUnordered::new(),
            shares: Shares::new(&client.trust, mail.exchange()),
            refusals: BTreeMap::new(),
        }
    }

    /// Something went wrong: begins now, if it has not.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.due = self.due.min(now);
    }

    /// Asks whoever is to be asked now. The call has so much time left.
    pub(super) fn prepare(&mut self, now: Instant, left: Duration) -> Result<(), Error> {
        if now < self.due {
            return Ok(());
        }
        let client = self.client;
        let refusals = &mut self.refusals;
        let schedule = self.schedule.get_or_insert_with(|| all_but_liars(client, refusals, now));
        while let Some(place) = schedule.pick(&client.roster.order(), now) {
            let Some(node) = client.roster.nodes.get(place) else { continue };
            let limit = left.min(client.options.attempt);
            let request = client.request(Method::Proof, self.identity, self.mail, None, Some(limit))?;
            let mut exchange = ExchangeClient::new(node.channel.clone());
            self.under_way.push(Box::pin(async move {
                let given = timeout(limit, exchange.get_share(request)).await;
                (place, given.map(|given| given.map(tonic::Response::into_inner)).map_err(|_elapsed| limit))
            }));
        }
        Ok(())
    }

    /// When [`Collecting::prepare`] has something to do, if nothing comes before.
    pub(super) fn wake(&self) -> Option<Instant> {
        self.schedule.as_ref().map_or(Some(self.due), Schedule::wake)
    }

    /// What comes next; none if nobody is asked. May be dropped at any moment: nothing is lost.
    pub(super) async fn next(&mut self) -> Option<(usize, Given)> {
        self.under_way.next().await
    }

    /// Takes what a node gave; the token, and what it rests on, if that makes it.
    pub(super) fn take(&mut self, place: usize, given: Given) -> Option<Made> {
        let said = match given {
            Ok(Ok(parts)) => {
                self.refusals.remove(&place);
                match self.shares.take(place, parts) {
                    Ok(()) => {
                        let (made, liars) = self.shares.combine();
                        for (liar, lie) in liars {
                            self.lied(liar, &lie);
                        }
                        return made;
                    }
                    Err(lie) => {
                        self.lied(place, &lie);
                        return None;
                    }
                }
            }
            Ok(Err(status)) => {
                self.again(place, ask::retry_delay(&status));
                ask::interpret(&status)
            }
            Err(limit) => {
                self.again(place, Duration::ZERO);
                ask::silent(limit)
            }
        };
        let refusal = match said {
            Said::Undecided => (Fault::Undecided, "knows no verdict".to_owned()),
            Said::Rejected(rejection) => (Fault::Rejected, rejection.to_string()),
            Said::Failed(fault, message) => (fault, message),
        };
        self.refusals.insert(place, refusal);
        None
    }

    /// Asks this node again, after a pause or when it told to.
    fn again(&mut self, place: usize, told: Duration) {
        if let Some(schedule) = &mut self.schedule {
            schedule.failed(place, Instant::now(), told, ask::share());
        }
    }

    fn lied(&mut self, place: usize, lie: &str) {
        self.client.lied(place, lie);
        self.refusals.insert(place, (Fault::Lied, format!("its share does not hold: {lie}")));
    }

    /// The error when time has run out; none if nobody gave a share that may be right: then the call's own error says more.
    pub(super) fn too_few(self) -> Option<Error> {
        let (needed, found) = (self.shares.needed(), self.shares.found());
        let name = |place: usize| self.client.roster.nodes.get(place).map(|node| node.name.clone());
        let failures = self
            .refusals
            .into_iter()
            .filter_map(|(place, (fault, message))| Some(Failure { node: name(place)?, fault, message }));
        (found > 0).then(|| Error::TooFewShares { needed, found, failures: failures.collect() })
    }
}

/// All nodes at once, but those that have lied before: without them first.
fn all_but_liars(client: &Client, refusals: &mut BTreeMap<usize, (Fault, String)>, now: Instant) -> Schedule {
    let nodes = client.roster.nodes.len();
    let mut schedule = Schedule::new(nodes, nodes, Duration::ZERO, now);
    for place in (0..nodes).filter(|place| client.roster.has_lied(*place)) {
        schedule.failed(place, now, LONGEST_PAUSE, ask::share());
        refusals.insert(place, (Fault::Lied, "has lied before, and is asked later".to_owned()));
    }
    schedule
}
