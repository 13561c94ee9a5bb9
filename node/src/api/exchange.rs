//! The service for senders and recipients.

use std::sync::Arc;
use std::time::Duration;

use fairpost_api::v1::exchange_server::Exchange as Service;
use fairpost_api::v1::{Outcome, PartyRequest, ProofParts, ShareParts, State};
use fairpost_proto::evidence;
use fairpost_proto::ids::{Timestamp, Verdict};
use fairpost_proto::request::Method;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status};

use super::admission::layer::Arrival;
use super::admission::{Admission, Client, Working};
use super::contact::{Admitted, Contact};
use super::error;
use super::watch::Watchers;
use crate::clock;
use crate::ledger::Exchange;
use crate::store::VerifiedToken;
use crate::witness::service;

/// The service over a contact.
pub struct ExchangeService {
    contact: Contact,
    admission: Arc<Admission>,
    watchers: Watchers,
    limit: Duration,
}

/// A request that holds, and its turn at work.
struct Taken {
    admitted: Admitted,
    evidence: Option<Vec<u8>>,
    _turn: Working,
}

impl ExchangeService {
    /// Requests whose callers set no deadline, or a later one, end after `limit`.
    pub fn new(contact: Contact, admission: Arc<Admission>, watchers: Watchers, limit: Duration) -> Self {
        Self { contact, admission, watchers, limit }
    }

    /// Checks what was signed, and the evidence for `verdict`, if that is still open; then waits for a turn at work.
    async fn admit(
        &self,
        method: Method,
        verdict: Option<Verdict>,
        request: Request<PartyRequest>,
    ) -> Result<Taken, Status> {
        let client = Client::of(&request);
        let PartyRequest { request, nro, evidence } = request.into_inner();
        let evidence = Some(evidence).filter(|evidence| !evidence.is_empty());
        let (contact, signed) = (self.contact.clone(), request.clone());
        let checked = self.admission.check(&client, &request, move || {
            let admitted = contact.admit(method, &signed, &nro, evidence.as_deref())?;
            if let Some(verdict) = verdict
                && !contact.stands(&admitted.exchange)?
            {
                // The contact checks it once more, and finds the signatures in memory.
                evidence::check_evidence(
                    &contact.view,
                    verdict,
                    &admitted.nro,
                    evidence.as_deref(),
                    admitted.now,
                )
                .map_err(|fault| error::evidence("evidence", &fault))?;
            }
            Ok((admitted, evidence))
        });
        let (admitted, evidence) = checked.await?;
        let turn = self.admission.work(&client, &request).await?;
        Ok(Taken { admitted, evidence, _turn: turn })
    }

    async fn submit(
        &self,
        method: Method,
        verdict: Verdict,
        request: Request<PartyRequest>,
    ) -> Answer<Outcome> {
        let limit = patience(&request, self.limit);
        within(limit, async {
            let mut taken = self.admit(method, Some(verdict), request).await?;
            let evidence = taken.evidence.take();
            let (exchange, token) = self.contact.decide(&taken.admitted, verdict, evidence).await?;
            Ok(Response::new(outcome(Some((exchange, token)))))
        })
        .await
    }

    /// The verdict that stands, or that comes about because deadline and grace have passed.
    async fn standing(&self, admitted: &Admitted) -> Result<Option<(Exchange, VerifiedToken)>, Status> {
        if self.contact.stands(&admitted.exchange)? {
            return self.contact.finish(&admitted.exchange).await.map(Some);
        }
        if !self.contact.is_due(admitted) {
            return self.may_deny().map(|()| None);
        }
        match self.contact.decide(admitted, Verdict::Expired, None).await {
            Ok(decided) => Ok(Some(decided)),
            // The leader's clock is behind this one: not yet.
            Err(status) if status.code() == tonic::Code::FailedPrecondition => self.may_deny().map(|()| None),
            Err(status) => Err(status),
        }
    }

    /// Whether "undecided" may be said: not by a node that has forgotten for now what it once held.
    fn may_deny(&self) -> Result<(), Status> {
        if let Some(reason) = self.contact.consensus.recovering() {
            return Err(error::unavailable(reason));
        }
        let applied = self.contact.ledger.state().sequence;
        let signed = self.contact.witness.voted().map_err(|fault| error::internal(&fault))?;
        if applied < signed {
            let message =
                format!("the ledger is at entry {applied} of {signed}, and catches up; ask another");
            return Err(error::unavailable(message));
        }
        Ok(())
    }

    /// This node's share, once it may be given, and what it rests on.
    async fn share(&self, admitted: &Admitted, limit: Duration) -> Result<ShareParts, Status> {
        if !self.contact.stands(&admitted.exchange)? {
            self.may_deny()?;
            return Err(undecided());
        }
        let witness = self.contact.witness.clone();
        if let Some(reason) = witness.closed_because() {
            return Err(error::unavailable(reason));
        }
        // What to do next must be said before the caller gives up.
        let certified = tokio::time::timeout(limit / 10 * 9, witness.certified(&admitted.exchange)).await;
        let certified = certified.map_err(|_| error::unavailable("the verdict is not certified here yet"))?;
        let exchange = certified.map_err(|fault| error::internal(&fault))?;
        if let Some(dropped) = exchange.dropped {
            return Err(dropped_by_policy(dropped));
        }
        let signed = tokio::task::spawn_blocking(move || {
            let (verdict, share) = witness.share(&exchange)?;
            Ok((verdict, share, witness.certificate(&exchange)?, exchange))
        });
        let signed = signed.await.map_err(|_| error::unavailable("the node stops; ask another"))?;
        let (verdict, share, certificate, exchange) = signed.map_err(|fault| match fault {
            service::Error::Refused(refusal) => {
                error::unavailable(format!("this node gives no share: {refusal}"))
            }
            service::Error::Closed(reason) => error::unavailable(reason),
            other => error::internal(&other),
        })?;
        Ok(ShareParts {
            state: state(verdict).into(),
            nro: exchange.nro,
            evidence: exchange.evidence.unwrap_or_default(),
            certificate: certificate.ok_or_else(elsewhere)?.to_bytes(),
            share: share.to_bytes().to_vec(),
        })
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Service for ExchangeService {
    async fn redeem(&self, request: Request<PartyRequest>) -> Answer<Outcome> {
        self.submit(Method::Redeem, Verdict::Released, request).await
    }

    async fn withdraw(&self, request: Request<PartyRequest>) -> Answer<Outcome> {
        self.submit(Method::Withdraw, Verdict::Withdrawn, request).await
    }

    async fn refuse(&self, request: Request<PartyRequest>) -> Answer<Outcome> {
        self.submit(Method::Refuse, Verdict::Refused, request).await
    }

    async fn get_status(&self, request: Request<PartyRequest>) -> Answer<Outcome> {
        let limit = patience(&request, self.limit);
        within(limit, async {
            let taken = self.admit(Method::Status, None, request).await?;
            Ok(Response::new(outcome(self.standing(&taken.admitted).await?)))
        })
        .await
    }

    type WatchStream = BoxStream<'static, Result<Outcome, Status>>;

    async fn watch(&self, request: Request<PartyRequest>) -> Answer<Self::WatchStream> {
        let limit = patience(&request, self.limit);
        within(limit, async {
            let arrival = request.extensions().get::<Arrival>().cloned();
            let Taken { admitted, .. } = self.admit(Method::Status, None, request).await?;
            let watching = self.watchers.watch(admitted)?;
            // Who waits does no work, and has a watcher's place: its turn and its place among the requests are free.
            if let Some(arrival) = arrival {
                arrival.leave();
            }
            Ok(Response::new(watching))
        })
        .await
    }

    async fn get_proof(&self, request: Request<PartyRequest>) -> Answer<ProofParts> {
        let limit = patience(&request, self.limit);
        within(limit, async {
            let taken = self.admit(Method::Proof, None, request).await?;
            let Some((exchange, token)) = self.standing(&taken.admitted).await? else {
                return Err(undecided());
            };
            if let Some(dropped) = exchange.dropped {
                return Err(dropped_by_policy(dropped));
            }
            let certificate =
                self.contact.witness.certificate(&exchange).map_err(|fault| error::internal(&fault))?;
            Ok(Response::new(ProofParts {
                state: state(exchange.leaf.verdict).into(),
                nro: exchange.nro,
                evidence: exchange.evidence.unwrap_or_default(),
                certificate: certificate.ok_or_else(elsewhere)?.to_bytes(),
                token: token.to_bytes().to_vec(),
            }))
        })
        .await
    }

    async fn get_share(&self, request: Request<PartyRequest>) -> Answer<ShareParts> {
        let limit = patience(&request, self.limit);
        within(limit, async {
            let taken = self.admit(Method::Proof, None, request).await?;
            self.share(&taken.admitted, limit).await.map(Response::new)
        })
        .await
    }
}

fn undecided() -> Status {
    let message = "the exchange is undecided: there is nothing to prove yet".to_owned();
    error::precondition("undecided", message, &[])
}

fn elsewhere() -> Status {
    error::unavailable("the certificate is not here; ask another node")
}

fn dropped_by_policy(dropped: Timestamp) -> Status {
    let message = format!(
        "this exchange's signed statements were dropped at {dropped}, because the time for which the cluster keeps them \
         was over; the verdict and its token are still given"
    );
    error::precondition("evidence_dropped", message, &[("dropped_millis", dropped.millis().to_string())])
}

const fn state(verdict: Verdict) -> State {
    match verdict {
        Verdict::Released => State::Released,
        Verdict::Withdrawn => State::Withdrawn,
        Verdict::Refused => State::Refused,
        Verdict::Expired => State::Expired,
    }
}

pub(super) fn outcome(decided: Option<(Exchange, VerifiedToken)>) -> Outcome {
    let server_time_millis = clock::now().millis();
    match decided {
        None => Outcome { state: State::Undecided.into(), server_time_millis, ..Outcome::default() },
        Some((exchange, token)) => Outcome {
            state: state(exchange.leaf.verdict).into(),
            token: token.to_bytes().to_vec(),
            evidence: exchange.evidence.unwrap_or_default(),
            server_time_millis,
            evidence_dropped_millis: exchange.dropped.map_or(0, Timestamp::millis),
        },
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Answer<T>>) -> Answer<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(answer) => answer,
        Err(_) => Err(error::deadline(limit)),
    }
}

/// How long to work on a request: an answer that says what to do next must arrive before the caller gives up.
fn patience<T>(request: &Request<T>, most: Duration) -> Duration {
    let asked = limit(request, Duration::MAX);
    most.min(asked / 10 * 9)
}

/// How long the caller waits, by its `grpc-timeout`, and at most `most`.
pub(super) fn limit<T>(request: &Request<T>, most: Duration) -> Duration {
    let asked = request.metadata().get("grpc-timeout").and_then(|value| parse_timeout(value.to_str().ok()?));
    asked.map_or(most, |asked| asked.min(most))
}

/// A `grpc-timeout`: up to eight digits and a unit.
fn parse_timeout(value: &str) -> Option<Duration> {
    let unit = value.char_indices().last()?;
    let digits = value.get(..unit.0).filter(|digits| digits.len() <= 8)?;
    let amount: u64 = digits.parse().ok()?;
    match unit.1 {
        'H' => Some(Duration::from_secs(amount * 3600)),
        'M' => Some(Duration::from_secs(amount * 60)),
        'S' => Some(Duration::from_secs(amount)),
        'm' => Some(Duration::from_millis(amount)),
        'u' => Some(Duration::from_micros(amount)),
        'n' => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_deadline_is_honoured_and_bounded() {
        let mut request = Request::new(());
        assert_eq!(limit(&request, Duration::from_secs(10)), Duration::from_secs(10));
        request.metadata_mut().insert("grpc-timeout", "1500m".parse().unwrap());
        assert_eq!(limit(&request, Duration::from_secs(10)), Duration::from_millis(1500));
        request.metadata_mut().insert("grpc-timeout", "99999999H".parse().unwrap());
        assert_eq!(limit(&request, Duration::from_secs(10)), Duration::from_secs(10));
        assert_eq!(patience(&request, Duration::from_secs(10)), Duration::from_secs(10));
        request.metadata_mut().insert("grpc-timeout", "1S".parse().unwrap());
        assert_eq!(
            patience(&request, Duration::from_secs(10)),
            Duration::from_millis(900),
            "before the caller gives up"
        );
        for odd in ["", "S", "1", "1x", "123456789S", "-1S"] {
            assert_eq!(parse_timeout(odd), None, "{odd}");
        }
    }
}
