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
//! Who gave something that does not hold is marked as a liar, and not asked again for this token.

use std::collections::BTreeMap;
use std::time::Duration;

use fairpost_api::v1::ShareParts;
use fairpost_api::v1::exchange_client::ExchangeClient;
use fairpost_proto::request::Method;
use fairpost_proto::threshold::Token;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::{Instant, timeout};
use tonic::Status;

use super::Client;
use super::ask;
use super::error::{Error, Failure, Fault};
use super::schedule::Schedule;
use super::shares::Shares;
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
    schedule: Schedule,
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
        let nodes = client.roster.nodes.len();
        Self {
            client,
            identity,
            mail,
            due,
            schedule: Schedule::new(nodes, nodes, Duration::ZERO, due),
            under_way: FuturesUnordered::new(),
            shares: Shares::new(&client.trust, mail.exchange()),
            refusals: BTreeMap::new(),
        }
    }

    /// Something went wrong: begins now, if it has not.
    pub(super) fn hurry(&mut self, now: Instant) {
        if now < self.due {
            let nodes = self.client.roster.nodes.len();
            (self.due, self.schedule) = (now, Schedule::new(nodes, nodes, Duration::ZERO, now));
        }
    }

    /// Asks whoever is to be asked now. The call has so much time left.
    pub(super) fn prepare(&mut self, now: Instant, left: Duration) -> Result<(), Error> {
        while now >= self.due
            && let Some(place) = self.schedule.pick(&self.client.roster.order(), now)
        {
            let Some(node) = self.client.roster.nodes.get(place) else { continue };
            let limit = left.min(self.client.options.attempt);
            let request = self.client.request(Method::Proof, self.identity, self.mail, None, Some(limit))?;
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
        self.schedule.wake().map(|wake| wake.max(self.due))
    }

    /// What comes next; none if nobody is asked. May be dropped at any moment: nothing is lost.
    pub(super) async fn next(&mut self) -> Option<(usize, Given)> {
        self.under_way.next().await
    }

    /// Takes what a node gave; the token, and what it rests on, if that makes it.
    pub(super) fn take(&mut self, place: usize, given: Given) -> Option<(ShareParts, Token)> {
        let said = match given {
            Ok(Ok(parts)) => {
                self.refusals.remove(&place);
                let strict = self.client.roster.has_lied(place);
                match self.shares.take(place, parts, strict) {
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
                self.schedule.failed(place, Instant::now(), ask::retry_delay(&status), ask::share());
                ask::interpret(&status)
            }
            Err(limit) => {
                self.schedule.failed(place, Instant::now(), Duration::ZERO, ask::share());
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
