//! Asking nodes, by the schedule, until one gives an answer that proves itself, or their shares make one ([`Collecting`]).

use std::error::Error as _;
use std::time::Duration;

use fairpost_api::tls::connect_error;
use fairpost_api::v1::cluster_client::ClusterClient;
use fairpost_api::v1::exchange_client::ExchangeClient;
use fairpost_api::v1::{GetNodeRequest, PartyRequest};
use fairpost_proto::request::{self, Method};
use futures::future::{BoxFuture, join_all};
use futures::stream::{FuturesUnordered, StreamExt as _};
use rand::rngs::OsRng;
use rand::{Rng as _, RngCore as _};
use tokio::time::{Instant, sleep_until, timeout};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;

use super::answer::Judged;
use super::collect::Collecting;
use super::error::{Error, Fault, Rejection};
use super::reason::Reason;
use super::roster::Node;
use super::schedule::Schedule;
use super::shares::Combined;
use super::tally::{Believed, Said, Tally};
use super::{Client, collect};
use crate::identity::Identity;
use crate::sealed_mail::SealedMail;

/// How long a node that failed is left alone first; then twice as long each time.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The shortest hedge delay.
const FLOOR: Duration = Duration::from_millis(50);
/// How long a silent node may take to say that it is there at all.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// One method of the service.
pub(super) type Call<R> =
    fn(ExchangeClient<Channel>, Request<PartyRequest>) -> BoxFuture<'static, Result<Response<R>, Status>>;

/// What happened first.
enum Happened<R> {
    /// The node at this place, asked then, answered or was silent for so long.
    Answer(usize, Instant, Result<Result<Response<R>, Status>, Duration>),
    /// The node at this place, asked for its share, gave this.
    Share(usize, collect::Given),
    /// It is time for something.
    Time,
}

impl Client {
    /// Asks nodes until one gives an answer that `judge` finds proven, their shares make one, or enough say undecided
    /// (none). All that is under way lives in the future: when it is dropped, nothing goes on.
    pub(super) async fn ask<R: Combined, T>(
        &self,
        method: Method,
        identity: &Identity,
        mail: &SealedMail,
        evidence: Option<Vec<u8>>,
        call: Call<R>,
        judge: impl Fn(R) -> Result<Judged<T>, String> + Send,
    ) -> Result<Option<T>, Error> {
        let started = Instant::now();
        let end = started + self.options.deadline;
        let mut tally = self.tally();
        let hedge = self.hedge(method);
        let mut schedule = Schedule::new(self.roster.nodes.len(), self.faults() + 1, hedge, started);
        let mut urgent = (method == Method::Redeem).then(|| started + self.calm(mail));
        let mut collecting = Collecting::new(self, identity, mail, started + 2 * hedge);
        let mut under_way = FuturesUnordered::new();
        loop {
            let now = Instant::now();
            let left = end.saturating_duration_since(now);
            if left.is_zero() {
                for place in schedule.under_way() {
                    tally.hear(place, silent(self.options.attempt.min(self.options.deadline)));
                }
                return Err(match collecting.too_few() {
                    Some(error) => error,
                    None => self.give_up(tally).await,
                });
            }
            if urgent.is_some_and(|urgent| urgent <= now) {
                schedule.hasten(now);
                urgent = None;
            }
            while let Some(place) = schedule.pick(&self.roster.order(), now) {
                let Some(node) = self.roster.nodes.get(place) else { continue };
                let limit = left.min(self.options.attempt);
                let request = self.request(method, identity, mail, evidence.as_deref(), Some(limit))?;
                let asking = timeout(limit, call(ExchangeClient::new(node.channel.clone()), request));
                under_way.push(async move { (place, now, asking.await.map_err(|_elapsed| limit)) });
            }
            collecting.prepare(now, left)?;
            let wakes = [schedule.wake(), collecting.wake(), urgent];
            let wake = wakes.into_iter().flatten().fold(end, Instant::min);
            let happened = tokio::select! {
                Some((place, asked, given)) = under_way.next() => Happened::Answer(place, asked, given),
                Some((place, given)) = collecting.next() => Happened::Share(place, given),
                () = sleep_until(wake) => Happened::Time,
            };
            let (place, asked, given) = match happened {
                Happened::Answer(place, asked, given) => (place, asked, given),
                Happened::Share(place, given) => {
                    let Some((parts, token)) = collecting.take(place, given) else { continue };
                    match judge(R::of(parts, &token)) {
                        Ok(Judged::Proven(proven)) => {
                            // They had time enough, and gave nothing.
                            schedule.under_way().for_each(|place| self.roster.failed(place));
                            return Ok(Some(proven));
                        }
                        Ok(Judged::Undecided) => {}
                        Err(lie) => {
                            tracing::warn!(lie, "a quorum's shares make an answer that does not prove itself")
                        }
                    }
                    continue;
                }
                Happened::Time => continue,
            };
            let mut told = Duration::ZERO;
            let said = match given {
                Ok(Ok(response)) => match judge(response.into_inner()) {
                    Ok(Judged::Proven(proven)) => {
                        self.roster.answered(place);
                        self.roster.took(method, asked.elapsed());
                        return Ok(Some(proven));
                    }
                    Ok(Judged::Undecided) => {
                        self.roster.took(method, asked.elapsed());
                        Said::Undecided
                    }
                    Err(lie) => {
                        self.lied(place, &lie);
                        Said::Failed(Fault::Lied, format!("its answer does not prove itself: {lie}"))
                    }
                },
                Ok(Err(status)) => {
                    told = retry_delay(&status);
                    interpret(&status)
                }
                Err(limit) => silent(limit),
            };
            if let Said::Failed(fault, message) = &said {
                if *fault != Fault::Lied {
                    tracing::debug!(place, message, "a node failed; asking the next");
                    self.roster.failed(place);
                }
                if matches!(fault, Fault::Lied | Fault::Silent | Fault::Unavailable) {
                    collecting.hurry(Instant::now());
                }
            }
            schedule.failed(place, Instant::now(), told, share());
            match tally.hear(place, said) {
                Some(Believed::Undecided) => return Ok(None),
                Some(Believed::Rejected(rejection)) => return Err(Error::Rejected(rejection)),
                None => {}
            }
        }
    }

    /// How long a node may take before the next one is asked as well. One at a time, and more when it takes long: as many
    /// as can be compromised, and one.
    fn hedge(&self, method: Method) -> Duration {
        let most = self.options.attempt / 2;
        self.options.hedge.unwrap_or_else(|| self.roster.usual(method).clamp(FLOOR.min(most), most))
    }

    /// How long it is until a receipt's deadline is near: from then on it goes to all nodes at once, since each that has
    /// seen it in time is a witness that it was.
    fn calm(&self, mail: &SealedMail) -> Duration {
        let parameters = self.trust.view().parameters();
        let near = parameters.skew.millis() * 2 + parameters.grace.millis();
        let left = mail.terms().expires.millis().saturating_sub(crate::now().millis());
        Duration::from_millis(left.saturating_sub(near))
    }

    /// What to send: signed anew for each attempt, since a request is good for five minutes and one use.
    pub(super) fn request(
        &self,
        method: Method,
        identity: &Identity,
        mail: &SealedMail,
        evidence: Option<&[u8]>,
        limit: Option<Duration>,
    ) -> Result<Request<PartyRequest>, Error> {
        let nro = mail.nro().bytes();
        let mut nonce = [0; 16];
        OsRng.fill_bytes(&mut nonce);
        let signed = identity.sign(request::Request {
            cluster: self.trust.cluster(),
            method,
            exchange: mail.exchange(),
            body: request::body_digest(nro, evidence),
            time: crate::now(),
            nonce,
        })?;
        let mut request = Request::new(PartyRequest {
            request: signed.bytes().to_vec(),
            nro: nro.to_vec(),
            evidence: evidence.unwrap_or_default().to_vec(),
        });
        if let Some(limit) = limit {
            request.set_timeout(limit);
        }
        Ok(request)
    }

    /// The error when time has run out. A node that works without a quorum is as silent as one that hangs: so those
    /// that were silent are asked for a sign of life.
    pub(super) async fn give_up(&self, mut tally: Tally) -> Error {
        let silent = tally.silent();
        let alive = silent.iter().filter_map(|place| self.roster.nodes.get(*place)).map(is_alive);
        for (place, alive) in silent.iter().zip(join_all(alive).await) {
            if alive {
                let message = "is there, and had no answer in time".to_owned();
                tally.hear(*place, Said::Failed(Fault::Unavailable, message));
            }
        }
        let names: Vec<&str> = self.roster.nodes.iter().map(|node| node.name.as_str()).collect();
        tally.give_up(&names)
    }
}

async fn is_alive(node: &Node) -> bool {
    let mut cluster = ClusterClient::new(node.channel.clone());
    matches!(timeout(SIGN_OF_LIFE, cluster.get_node(GetNodeRequest {})).await, Ok(Ok(_)))
}

pub(super) fn silent(limit: Duration) -> Said {
    Said::Failed(Fault::Silent, format!("no answer within {} ms", limit.as_millis()))
}

/// What an error status means for the one who asked.
pub(super) fn interpret(status: &Status) -> Said {
    if let Some(error) = connect_error(status) {
        return Said::Failed(Fault::Unreachable, error.to_string());
    }
    // What has a source was made on this side.
    if status.source().is_some() {
        let fault = match status.code() {
            Code::DeadlineExceeded | Code::Cancelled => Fault::Silent,
            _ => Fault::Unreachable,
        };
        return Said::Failed(fault, status.message().to_owned());
    }
    let message = status.message().to_owned();
    match status.code() {
        Code::InvalidArgument | Code::PermissionDenied | Code::FailedPrecondition => {
            let info = status.get_details_error_info();
            let reason = Reason::parse(info.map(|info| info.reason).unwrap_or_default());
            // The same word as in an answer, and believed by the same number.
            if reason == Reason::Undecided {
                return Said::Undecided;
            }
            Said::Rejected(Rejection { code: status.code(), reason, message })
        }
        Code::Unavailable | Code::DeadlineExceeded => Said::Failed(Fault::Unavailable, message),
        Code::ResourceExhausted => Said::Failed(Fault::Overloaded, message),
        code => Said::Failed(Fault::Broken, format!("{code:?}: {message}")),
    }
}

/// How long a node told to wait before it is asked again.
pub(super) fn retry_delay(status: &Status) -> Duration {
    status.get_details_retry_info().and_then(|info| info.retry_delay).unwrap_or_default()
}

/// What is taken of a pause: half of it to all, so that clients do not come back all at once.
pub(super) fn share() -> f64 {
    rand::thread_rng().gen_range(0.5..=1.0)
}
