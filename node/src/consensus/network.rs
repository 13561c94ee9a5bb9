//! openraft's network over any [`Transport`].

use std::future::Future;
use std::iter;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use openraft::error::{
    Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft::network::{Backoff, RPCOption};
use openraft::{OptionalSend, RaftNetwork, RaftNetworkFactory, Snapshot};

use super::clocks::Clocks;
use super::codec::{self, Encode};
use super::message::{self, Append, Appended, Elect, Elected, Install, Installed};
use super::transport::{Error, Transport};
use super::types::{Member, TypeConfig, Vote};

/// The largest chunk of a snapshot.
pub const CHUNK_BYTES: usize = 1 << 20;

/// Makes a connection to each member.
#[derive(Clone)]
pub(super) struct Network<T> {
    transport: T,
    pause: Duration,
    clocks: Clocks,
}

impl<T> Network<T> {
    /// Over this transport; a member that gives no answer is left alone for `pause`.
    pub(super) const fn new(transport: T, pause: Duration, clocks: Clocks) -> Self {
        Self { transport, pause, clocks }
    }
}

/// The way to one member.
pub(super) struct Connection<T> {
    network: Network<T>,
    to: u64,
    member: Member,
}

impl<T: Transport> RaftNetworkFactory<TypeConfig> for Network<T> {
    type Network = Connection<T>;

    async fn new_client(&mut self, to: u64, member: &Member) -> Connection<T> {
        Connection { network: self.clone(), to, member: member.clone() }
    }
}

type Failure = RPCError<u64, Member, RaftError<u64>>;

/// Any failure has openraft pause before it tries again; it would retry others at once, and forever.
fn failed(error: &Error) -> Failure {
    Unreachable::new(error).into()
}

fn garbled(error: &codec::Error) -> Failure {
    Unreachable::new(error).into()
}

impl<T> Connection<T> {
    fn write(&self, message: &impl Encode) -> Result<Bytes, Failure> {
        let message = message::encode(message).map_err(|error| garbled(&error))?;
        Ok(message::timed(self.network.clocks.now(), &message))
    }

    fn read<M: Encode>(&self, answer: Result<Bytes, Error>, asked: Instant) -> Result<M, Failure> {
        let answer = answer.map_err(|error| failed(&error))?;
        let (time, answer) = message::untimed(answer).map_err(|error| garbled(&error))?;
        self.network.clocks.heard(self.to, time, Some(asked));
        message::decode(answer).map_err(|error| garbled(&error))
    }
}

impl<T: Transport> RaftNetwork<TypeConfig> for Connection<T> {
    async fn append_entries(&mut self, request: Append, _: RPCOption) -> Result<Appended, Failure> {
        let (request, asked) = (self.write(&request)?, Instant::now());
        let transport = &self.network.transport;
        let answer = transport.append_entries(self.to, &self.member, request).await;
        self.read(answer, asked)
    }

    async fn vote(&mut self, request: Elect, _: RPCOption) -> Result<Elected, Failure> {
        let (request, asked) = (self.write(&request)?, Instant::now());
        let answer = self.network.transport.vote(self.to, &self.member, request).await;
        self.read(answer, asked)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<TypeConfig>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<Installed, StreamingError<TypeConfig, Fatal<u64>>> {
        let head = message::encode(&Install { vote, meta: snapshot.meta });
        let head = head.map_err(|error| NetworkError::new(&error))?;
        let chunks = stream::iter(iter::once(head).chain(chunks(snapshot.snapshot.bytes().clone()))).boxed();
        let sent = self.network.transport.install_snapshot(self.to, &self.member, chunks);
        let answer = tokio::select! {
            closed = cancel => return Err(closed.into()),
            answer = sent => answer.map_err(|error| Unreachable::new(&error))?,
        };
        Ok(message::decode(answer).map_err(|error| Unreachable::new(&error))?)
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(iter::repeat(self.network.pause))
    }
}

/// The bytes in chunks of which none is too large.
fn chunks(mut bytes: Bytes) -> impl Iterator<Item = Bytes> + Send {
    iter::from_fn(move || {
        let next = bytes.split_to(CHUNK_BYTES.min(bytes.len()));
        if next.is_empty() { None } else { Some(next) }
    })
}
