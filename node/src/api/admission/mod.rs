//! Admission: who is served now, who waits, and who is told to come again.
//!
//! # Specification
//!
//! Four gates, one behind the other, each with bounds of its own ([`Limits`]):
//!
//! 1. **Arrival** ([`layer`]), before a request's body is read: so many for each source (an IPv4 address, an IPv6 network
//!    of 64 bits), so many for all strangers together, and so many for each member and operator, apart from those.
//! 2. **Beginning**, also before that, and for strangers only: one request of each source at a time. The next begins when
//!    the one before has been parsed and queued at the gates behind, and everybody else was let in once; later if the source is
//!    in haste (`refusals`).
//! 3. **Check**, before signatures are verified: as many at once as there are cores, one client's at most on half of them.
//! 4. **Work**, what a verdict takes afterwards: so many at once for each party, for each source, and for all.
//!
//! At all gates but the first, requests wait, and turns go round (`fair`): first among sources, then among a
//! source's clients. A client is the key that signed, once a signature of it over the same connection has held. Until
//! then it is the connection, since anybody can write another's name on a request; and always at the second gate, where
//! nothing is read yet.
//!
//! What does not fit is refused with `RESOURCE_EXHAUSTED`, `RetryInfo` and the reason `OVERLOADED` (`refusals`). Who has so many
//! refusals coming, since it does not wait, that there is no place for another loses the connection.
//!
//! # Relies on
//!
//! [`fairpost_api::tls::Incoming`] bounds connections, and HTTP/2 the requests on each.
//!
//! # Guarantees
//!
//! Nothing here grows without bound. A flood of one client delays another by a turn of each gate, and what a source has done that
//! does not wait as it is told becomes little (`tests/abuse`).

pub(crate) mod fair;
pub mod layer;
mod refusals;
pub(crate) mod turns;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use fairpost_api::tls::{ConnectInfo, Connection, Places, Source};
use fairpost_proto::cose::Signed;
use fairpost_proto::ids::KeyId;
use fairpost_proto::request;
use parking_lot::Mutex;
use tokio::task::spawn_blocking;
use tonic::{Request, Status};

use self::fair::{Bound, Bounds, Full};
use self::layer::Arrival;
use self::refusals::{RETRY, Refusals};
use self::turns::{Turn, Turns};
use super::error;
use crate::config::Limits;

/// How many refusals are remembered, and how many are held back at once.
const REFUSALS: usize = 4096;
/// How many of those that are held back may be of one source.
const REFUSALS_PER_SOURCE: usize = 1024;
/// How long a request may wait until it begins.
const BEGIN: Duration = Duration::from_secs(1);
/// Members sign shares for each other: how many chunks of them may wait.
const SHARES: Bound = Bound { working: usize::MAX, held: 4096 };

/// Who asks, among those who come from one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    /// Somebody over the connection with this number, who has not proven anything yet.
    Connection(u64),
    /// The holder of this key.
    Party(KeyId),
}

/// Whoever sent a request.
#[derive(Clone)]
pub(crate) struct Client {
    source: Source,
    connection: Option<Arc<Connection>>,
    arrival: Option<Arrival>,
}

impl Client {
    /// The client that sent this one.
    pub(crate) fn of<T>(request: &Request<T>) -> Self {
        let arrival = request.extensions().get().cloned();
        let Some(info) = request.extensions().get::<ConnectInfo>() else {
            return Self { source: IpAddr::V4(Ipv4Addr::UNSPECIFIED).into(), connection: None, arrival };
        };
        Self::from(info, arrival)
    }

    /// The client at the other end of a connection.
    fn from(info: &ConnectInfo, arrival: Option<Arrival>) -> Self {
        let connection = Some(Arc::clone(&info.connection));
        Self { source: info.remote_addr.ip().into(), connection, arrival }
    }

    /// Who it is as far as is proven, going by what the request claims.
    fn claims(&self, signed: &[u8]) -> Who {
        let Some(connection) = &self.connection else { return Who::Connection(u64::MAX) };
        // Parsing has a price as well: who has proven nothing is not even asked for a name.
        let claimed = connection.has_proven_any().then(|| signer(signed)).flatten();
        let proven = claimed.filter(|key| connection.has_proven(key));
        proven.map_or(Who::Connection(connection.number()), Who::Party)
    }
}

/// The key that a request claims to be signed by.
fn signer(signed: &[u8]) -> Option<KeyId> {
    Signed::<request::Request>::parse(signed).ok().map(|request| request.signer().leaf_key().key_id())
}

/// A turn to begin: the next of its source begins when it is dropped.
pub(crate) type Beginning = Turn<Source, u64>;

/// A turn at work, for as long as it is kept.
pub(crate) type Working = Turn<Source, Who>;

/// The gates for parties' requests.
pub struct Admission {
    /// Among a source's connections.
    begins: Turns<Source, u64>,
    checks: Turns<Source, Who>,
    work: Turns<Source, Who>,
    shares: Turns<u16, ()>,
    refusals: Mutex<Refusals<Source, Option<Who>>>,
    held_back: Arc<Places<Source>>,
}

impl Admission {
    /// The gates with these bounds.
    pub fn new(limits: &Limits) -> Arc<Self> {
        let cores = available_parallelism().map_or(1, usize::from);
        let (all, source, party) =
            (limits.concurrent_requests, limits.requests_per_source, limits.requests_per_party);
        let bound = |working: usize, held| Bound { working: working.max(1), held };
        // As many as can have arrived.
        let begins = Bounds {
            lane: bound(1, limits.requests_per_connection as usize),
            group: bound(1, source.saturating_mul(2)),
            all: bound(usize::MAX, all.saturating_mul(2)),
        };
        let checks =
            Bounds { lane: bound(cores / 2, party), group: bound(cores, source), all: bound(cores, all) };
        let work = Bounds {
            lane: bound(limits.working_per_party, party),
            group: bound(source, source),
            all: bound(all, all),
        };
        let shares = Bounds {
            lane: Bound { working: cores, ..SHARES },
            group: SHARES,
            all: bound(cores, SHARES.held),
        };
        Arc::new(Self {
            begins: Turns::new(begins),
            checks: Turns::new(checks),
            work: Turns::new(work),
            shares: Turns::new(shares),
            refusals: Mutex::new(Refusals::new(REFUSALS)),
            held_back: Places::new(REFUSALS_PER_SOURCE, REFUSALS),
        })
    }

    /// Waits until a stranger's request may begin, which is later for a source in haste.
    pub(crate) async fn begin(&self, client: &Client) -> Result<Beginning, Status> {
        let connection = client.connection.as_ref().map_or(u64::MAX, |connection| connection.number());
        let turn = tokio::time::timeout(BEGIN, async {
            let turn = self.begins.take(client.source, connection).await?;
            let pause = self.refusals.lock().pause(&client.source, Instant::now());
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            Ok(turn)
        });
        match turn.await.unwrap_or(Err(Full::Group)) {
            Ok(turn) => Ok(turn),
            Err(full) => Err(self.refuse(client, Some(Who::Connection(connection)), full).await),
        }
    }

    /// Does `check`, which verifies what `signed` and its company claim, when it is the client's turn.
    pub(crate) async fn check<T: Send + 'static>(
        &self,
        client: &Client,
        signed: &[u8],
        check: impl FnOnce() -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let who = client.claims(signed);
        let turn = match self.checks.take(client.source, who).await {
            Ok(turn) => turn,
            Err(full) => return Err(self.refuse(client, Some(who), full).await),
        };
        // The turn lasts as long as the thread works, also when nobody waits for its answer any more.
        let checked = spawn_blocking(move || {
            let checked = check();
            drop(turn);
            checked
        });
        checked.await.map_err(|_| error::unavailable("the node stops; ask another"))?
    }

    /// Waits for the turn at work of the client whose request, `signed`, was found to hold.
    pub(crate) async fn work(&self, client: &Client, signed: &[u8]) -> Result<Working, Status> {
        let who = signer(signed).map_or(client.claims(signed), Who::Party);
        if let (Some(connection), Who::Party(key)) = (&client.connection, who) {
            connection.prove(key);
        }
        match self.work.take(client.source, who).await {
            Ok(turn) => Ok(turn),
            Err(full) => Err(self.refuse(client, Some(who), full).await),
        }
    }

    /// Does `sign`, for a member, when it is the member's turn.
    pub(crate) async fn share<T: Send + 'static>(
        &self,
        member: u16,
        sign: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Status> {
        let turn = self.shares.take(member, ()).await;
        let turn = turn.map_err(|_| error::overloaded("too many shares are asked for", RETRY))?;
        let signed = spawn_blocking(move || {
            let signed = sign();
            drop(turn);
            signed
        });
        signed.await.map_err(|_| error::unavailable("the node stops; ask another"))
    }

    /// The answer to what does not fit: at once, or, for who was told to wait and did not, when it should have come.
    async fn refuse(&self, client: &Client, who: Option<Who>, full: Full) -> Status {
        // While it is held back it takes nobody's place.
        if let Some(arrival) = &client.arrival {
            arrival.leave();
        }
        let what = match (full, who) {
            (Full::Lane, Some(Who::Party(_))) => "too many requests of this key are under way",
            (Full::Lane, _) => "too many requests of this connection are under way",
            (Full::Group, _) => "too many requests from this address are under way",
            (Full::All, _) => "too many requests are under way",
        };
        self.overloaded(client, who, what).await
    }

    /// The answer to what does not fit, when it is time for it.
    pub(crate) async fn overloaded(&self, client: &Client, who: Option<Who>, what: &str) -> Status {
        let refusal = self.refusals.lock().refuse(client.source, who, Instant::now());
        if !refusal.hold.is_zero() {
            match (self.held_back.take(client.source), &client.connection) {
                (Some(_held), _) => tokio::time::sleep(refusal.hold).await,
                (None, Some(connection)) => connection.cut(),
                (None, None) => {}
            }
        }
        error::overloaded(what, refusal.retry)
    }

    /// How many wait at each gate, and how many are through.
    pub(crate) fn depths(&self) -> [(&'static str, (usize, usize)); 5] {
        [
            ("begins", self.begins.depth()),
            ("checks", self.checks.depth()),
            ("work", self.work.depth()),
            ("shares", self.shares.depth()),
            ("refusals", (self.held_back.taken(), 0)),
        ]
    }
}
