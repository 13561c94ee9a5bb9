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

use super::{Admission, RETRY};
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
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
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
                arrivals.admission.hold_back((info.remote_addr.ip().into(), None)).await;
                let what = if stranger {
                    "too many requests from this address, or in all, are under way"
                } else {
                    "too many requests of this identity are under way"
                };
                Ok(answer(error::overloaded(what, RETRY), under_way))
            });
        };
        let arrival = Arrival(Arc::new(Mutex::new(Some(taken))));
        request.extensions_mut().insert(arrival.clone());
        let call = self.service.call(request);
        Box::pin(async move {
            let response = if stranger {
                // A stranger's body must come within the time that its request may take.
                match tokio::time::timeout(arrivals.limit, call).await {
                    Ok(response) => response?,
                    Err(_) => return Ok(answer(error::deadline(arrivals.limit), under_way)),
                }
            } else {
                call.await?
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
