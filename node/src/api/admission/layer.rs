//! The first gate, before a request's body is read.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use fairpost_api::tls::{ConnectInfo, Place, Places, Source, UnderWay};
use fairpost_proto::ids::KeyId;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use tonic::body::Body;
use tonic::codegen::{Bytes, Service, http};
use tonic::{Status, codegen::BoxFuture};
use tower::Layer;

use super::{Admission, Client};
use crate::api::auth::Gate;
use crate::api::error;
use crate::config::Limits;

/// How many requests of one member or operator may be under way.
const KNOWN: usize = 1024;
/// How much longer a request may take than a service gives it: the service's own answer says more.
const GRACE: Duration = Duration::from_secs(1);

/// Bounds what is under way, for each source and in all, apart for members and operators.
#[derive(Clone)]
pub struct Arrivals(Arc<Inner>);

struct Inner {
    admission: Arc<Admission>,
    gate: Gate,
    strangers: Arc<Places<Source>>,
    known: Arc<Places<KeyId>>,
    limit: Duration,
}

impl Arrivals {
    /// The gate with these bounds. Twice what the gates behind it take: there it is known who should give way.
    pub fn new(admission: Arc<Admission>, gate: Gate, limits: &Limits) -> Self {
        let (each, all) = (limits.requests_per_source, limits.concurrent_requests);
        Self(Arc::new(Inner {
            admission,
            gate,
            strangers: Places::new(each.saturating_mul(2), all.saturating_mul(2)),
            known: Places::new(KNOWN, usize::MAX),
            limit: Duration::from_millis(limits.request_millis) + GRACE,
        }))
    }

    /// How many requests are under way: of strangers, and of members and operators.
    pub(crate) fn under_way(&self) -> (usize, usize) {
        (self.0.strangers.taken(), self.0.known.taken())
    }
}

impl Inner {
    /// A place for a request, and whether its sender is a stranger.
    fn place(&self, info: &ConnectInfo) -> (Option<Taken>, bool) {
        match info.peer.as_deref().filter(|peer| self.gate.knows(peer)) {
            Some(peer) => (self.known.take(peer.identity_key_id()).map(Taken::Known), false),
            None => (self.strangers.take(info.remote_addr.ip().into()).map(Taken::Stranger), true),
        }
    }
}

enum Taken {
    Known(#[expect(dead_code, reason = "kept until the answer is sent")] Place<KeyId>),
    Stranger(#[expect(dead_code, reason = "kept until the answer is sent")] Place<Source>),
}

/// The place of a request that has arrived: free when all of its answer is sent, or the service gives it up.
#[derive(Clone)]
pub(crate) struct Arrival(Arc<Mutex<Option<Taken>>>);

impl Arrival {
    /// Gives the place up.
    pub(crate) fn leave(&self) {
        self.0.lock().take();
    }
}

impl<S> Layer<S> for Arrivals {
    type Service = Arriving<S>;

    fn layer(&self, service: S) -> Arriving<S> {
        Arriving { service, arrivals: self.clone() }
    }
}

/// A service behind the gate.
#[derive(Clone)]
pub struct Arriving<S> {
    service: S,
    arrivals: Arrivals,
}

impl<S> Service<http::Request<Body>> for Arriving<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let Some(info) = request.extensions().get::<ConnectInfo>().cloned() else {
            return Box::pin(self.service.call(request));
        };
        let arrivals = Arc::clone(&self.arrivals.0);
        let under_way = info.connection.begin();
        let (taken, stranger) = arrivals.place(&info);
        let Some(taken) = taken else {
            return Box::pin(async move {
                // The body is not read: dropping the request ends its stream.
                drop(request);
                let what = if stranger {
                    "too many requests from this address, or in all, are under way"
                } else {
                    "too many requests of this identity are under way"
                };
                let mut client = Client::from(&info, None);
                // No member's or operator's connection is cut for that.
                client.connection = client.connection.filter(|_| stranger);
                Ok(answer(arrivals.admission.overloaded(&client, None, what).await, under_way))
            });
        };
        let arrival = Arrival(Arc::new(Mutex::new(Some(taken))));
        request.extensions_mut().insert(arrival.clone());
        // The one that is ready is used up, the other takes its place.
        let next = self.service.clone();
        let mut service = std::mem::replace(&mut self.service, next);
        Box::pin(async move {
            let response = if stranger {
                let client = Client::from(&info, Some(arrival.clone()));
                let turn = match arrivals.admission.begin(&client).await {
                    Ok(turn) => turn,
                    Err(refused) => return Ok(answer(refused, under_way)),
                };
                // A stranger's body must come within the time that its request may take.
                let call = tokio::time::timeout(arrivals.limit, service.call(request));
                let mut call = std::pin::pin!(call);
                // As far as it comes at once: parsed, and queued.
                let begun = futures::poll!(call.as_mut());
                tokio::task::yield_now().await;
                drop(turn);
                let called = match begun {
                    Poll::Ready(called) => called,
                    Poll::Pending => call.await,
                };
                match called {
                    Ok(response) => response?,
                    Err(_) => return Ok(answer(error::deadline(arrivals.limit), under_way)),
                }
            } else {
                service.call(request).await?
            };
            Ok(response.map(|body| {
                Body::new(Sent { body, _arrival: Some(Leaving(arrival)), _under_way: under_way })
            }))
        })
    }
}

fn answer(status: Status, under_way: UnderWay) -> http::Response<Body> {
    status.into_http::<Body>().map(|body| Body::new(Sent { body, _arrival: None, _under_way: under_way }))
}

struct Leaving(Arrival);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// An answer, with what its request holds until it is sent.
struct Sent {
    body: Body,
    _arrival: Option<Leaving>,
    _under_way: UnderWay,
}

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Instant;

    use fairpost_api::tls::Connection;
    use futures::FutureExt as _;
    use tonic::Code;
    use tonic_types::StatusExt as _;

    use super::super::REFUSALS_PER_SOURCE;
    use super::*;
    use crate::testing::World;

    /// Behind the gate is somebody who notes which requests get there, and answers at once, or never.
    struct Tried {
        arrivals: Arrivals,
        answers: bool,
        begun: Arc<Mutex<Vec<&'static str>>>,
    }

    impl Tried {
        fn new(answers: bool, limits: &Limits) -> Self {
            let gate = Gate::new(&World::new().view);
            let arrivals = Arrivals::new(Admission::new(limits), gate, limits);
            Self { arrivals, answers, begun: Arc::default() }
        }

        /// A request from 192.0.2.`host`.
        fn ask(
            &self,
            name: &'static str,
            host: u8,
            connection: &Arc<Connection>,
        ) -> impl Future<Output = http::Response<Body>> + use<> {
            let (answers, begun) = (self.answers, Arc::clone(&self.begun));
            let service = tower::service_fn(move |_: http::Request<Body>| {
                begun.lock().push(name);
                async move {
                    if !answers {
                        pending::<()>().await;
                    }
                    Ok(http::Response::new(Body::empty()))
                }
            });
            let mut request = http::Request::new(Body::empty());
            let remote_addr = ([192, 0, 2, host], 1).into();
            let connection = Arc::clone(connection);
            request.extensions_mut().insert(ConnectInfo { remote_addr, peer: None, connection });
            self.arrivals.layer(service).call(request).map(Result::unwrap)
        }

        fn begun(&self) -> Vec<&'static str> {
            std::mem::take(&mut self.begun.lock())
        }
    }

    #[tokio::test]
    async fn a_source_begins_one_request_after_the_other_and_nobody_else_waits_for_them() {
        let tried = Tried::new(true, &Limits::default());
        let [first, second, other] = [(); 3].map(|()| Connection::new());
        futures::join!(
            tried.ask("a1", 1, &first),
            tried.ask("a2", 1, &first),
            tried.ask("a3", 1, &first),
            tried.ask("b1", 1, &second),
            tried.ask("c1", 2, &other),
        );
        // Also among a source's connections, turns go round.
        assert_eq!(tried.begun(), ["a1", "c1", "a2", "b1", "a3"]);
    }

    #[tokio::test]
    async fn a_turn_to_begin_is_over_when_the_request_has_to_wait() {
        let tried = Tried::new(false, &Limits::default());
        let connection = Connection::new();
        let mut asked = [tried.ask("a1", 1, &connection).boxed(), tried.ask("a2", 1, &connection).boxed()];
        for _ in 0..3 {
            for ask in &mut asked {
                assert!(ask.now_or_never().is_none(), "nobody answers");
            }
            tokio::task::yield_now().await;
        }
        assert_eq!(tried.begun(), ["a1", "a2"]);
    }

    #[tokio::test]
    async fn who_does_not_wait_begins_later_and_nobody_else() {
        let limits = Limits { requests_per_connection: 1, request_millis: 60_000, ..Limits::default() };
        let tried = Tried::new(true, &limits);
        let (connection, other) = (Connection::new(), Connection::new());
        let client = Client {
            source: Source::from(std::net::IpAddr::from([192, 0, 2, 1])),
            connection: None,
            arrival: None,
        };
        for _ in 0..1000 {
            // Nobody waits for the answers, which are held back.
            let _ = tried.arrivals.0.admission.overloaded(&client, None, "too many").now_or_never();
        }
        let began = Instant::now();
        let mut slowed = Box::pin(tried.ask("slowed", 1, &connection));
        assert!(slowed.as_mut().now_or_never().is_none());
        tried.ask("other", 2, &other).await;
        assert_eq!(tried.begun(), ["other"]);
        slowed.await;
        assert!(began.elapsed() >= Duration::from_millis(50), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused_with_the_time_to_come_again() {
        let limits = Limits { requests_per_source: 1, ..Limits::default() };
        let tried = Tried::new(false, &limits);
        let connection = Connection::new();
        let mut under_way =
            [tried.ask("a1", 1, &connection).boxed(), tried.ask("a2", 1, &connection).boxed()];
        for ask in &mut under_way {
            assert!(ask.now_or_never().is_none());
        }
        let refused = tried.ask("a3", 1, &connection).now_or_never().expect("an answer at once");
        let status = Status::from_header_map(refused.headers()).unwrap();
        assert_eq!(status.code(), Code::ResourceExhausted);
        let delay = status.get_details_retry_info().and_then(|info| info.retry_delay).unwrap();
        assert_eq!(delay, Duration::from_millis(200));
        assert_eq!(status.get_details_error_info().unwrap().reason, "OVERLOADED");
        let began = Instant::now();
        tried.ask("a4", 1, &connection).await;
        assert!(began.elapsed() >= delay, "who does not wait is made to wait");
    }

    #[tokio::test]
    async fn who_has_too_many_refusals_coming_loses_the_connection() {
        let limits = Limits { requests_per_source: 1, ..Limits::default() };
        let tried = Tried::new(false, &limits);
        let connection = Connection::new();
        // Two are under way, one is refused at once, and the others wait for their refusals.
        let asked = (0..3 + REFUSALS_PER_SOURCE).map(|_| tried.ask("a", 1, &connection).boxed());
        let mut asked: Vec<_> = asked.collect();
        assert_eq!(asked.iter_mut().filter_map(|ask| ask.now_or_never()).count(), 1);
        assert!(!connection.is_cut());
        assert!(tried.ask("one more", 1, &connection).now_or_never().is_some());
        assert!(connection.is_cut());
    }
}
