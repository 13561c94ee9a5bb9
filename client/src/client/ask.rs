//! Going from node to node until one answers.

use std::error::Error as _;
use std::time::Duration;

use fairpost_api::tls::connect_error;
use fairpost_api::v1::cluster_client::ClusterClient;
use fairpost_api::v1::exchange_client::ExchangeClient;
use fairpost_api::v1::{GetNodeRequest, PartyRequest};
use fairpost_proto::request::{self, Method};
use futures::future::{BoxFuture, join_all};
use rand::rngs::OsRng;
use rand::{Rng as _, RngCore as _};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;

use super::Client;
use super::answer::Judged;
use super::error::{Error, Fault, Rejection};
use super::roster::Node;
use super::tally::{Believed, Said, Tally};
use crate::identity::Identity;
use crate::sealed_mail::SealedMail;

/// The first pause between rounds over all nodes; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long a silent node may take to say that it is there at all.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// One method of the service.
pub(super) type Call<R> =
    fn(ExchangeClient<Channel>, Request<PartyRequest>) -> BoxFuture<'static, Result<Response<R>, Status>>;

impl Client {
    /// Asks nodes until one gives an answer that `judge` finds proven, or enough say undecided (none).
    pub(super) async fn ask<R, T>(
        &self,
        method: Method,
        identity: &Identity,
        mail: &SealedMail,
        evidence: Option<Vec<u8>>,
        call: Call<R>,
        judge: impl Fn(R) -> Result<Judged<T>, String> + Send,
    ) -> Result<Option<T>, Error> {
        let end = Instant::now() + self.options.deadline;
        let mut tally = Tally::new(self.trust.view().quorum().f());
        let mut pause = FIRST_PAUSE;
        loop {
            let mut asked_to_wait = Duration::ZERO;
            for place in self.roster.order() {
                let Some(node) = self.roster.nodes.get(place) else { continue };
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(self.give_up(tally).await);
                }
                let limit = left.min(self.options.attempt);
                let request = self.request(method, identity, mail, evidence.as_deref(), limit)?;
                let given = timeout(limit, call(ExchangeClient::new(node.channel.clone()), request)).await;
                let said = match given {
                    Ok(Ok(response)) => match judge(response.into_inner()) {
                        Ok(Judged::Proven(proven)) => {
                            self.roster.answered(place);
                            return Ok(Some(proven));
                        }
                        Ok(Judged::Undecided) => Said::Undecided,
                        Err(lie) => {
                            tracing::warn!(node = node.name, lie, "an answer does not prove itself");
                            self.roster.lied(place);
                            Said::Failed(Fault::Lied, format!("its answer does not prove itself: {lie}"))
                        }
                    },
                    Ok(Err(status)) => {
                        let delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
                        asked_to_wait = asked_to_wait.max(delay.unwrap_or_default());
                        interpret(&status)
                    }
                    Err(_elapsed) => silent(limit),
                };
                if let Said::Failed(fault, message) = &said
                    && *fault != Fault::Lied
                {
                    tracing::debug!(node = node.name, message, "a node failed; asking the next");
                    self.roster.failed(place);
                }
                match tally.hear(place, said) {
                    Some(Believed::Undecided) => return Ok(None),
                    Some(Believed::Rejected(rejection)) => return Err(Error::Rejected(rejection)),
                    None => {}
                }
            }
            let left = end.saturating_duration_since(Instant::now());
            sleep(jittered(pause).max(asked_to_wait).min(left)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// What to send: signed anew for each attempt, since a request is good for five minutes and one use.
    fn request(
        &self,
        method: Method,
        identity: &Identity,
        mail: &SealedMail,
        evidence: Option<&[u8]>,
        limit: Duration,
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
        request.set_timeout(limit);
        Ok(request)
    }

    /// The error when time has run out. A node that works without a quorum is as silent as one that hangs: so those
    /// that were silent are asked for a sign of life.
    async fn give_up(&self, mut tally: Tally) -> Error {
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

fn silent(limit: Duration) -> Said {
    Said::Failed(Fault::Silent, format!("no answer within {} ms", limit.as_millis()))
}

/// What an error status means for the one who asked.
fn interpret(status: &Status) -> Said {
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
            let reason = info.map(|info| info.reason).unwrap_or_default();
            Said::Rejected(Rejection { code: status.code(), reason, message })
        }
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => {
            Said::Failed(Fault::Unavailable, message)
        }
        code => Said::Failed(Fault::Broken, format!("{code:?}: {message}")),
    }
}

/// Half of `pause` to all of it, so that clients do not come back all at once.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::thread_rng().gen_range(0.5..=1.0))
}
