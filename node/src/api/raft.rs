//! The service that carries Raft's messages, and this node's side of it.
//!
//! What a message may say is for the consensus layer's guard; here it is made sure who says it.

use std::sync::Arc;

use bytes::Bytes;
use fairpost_api::v1::RaftMessage;
use fairpost_api::v1::consensus_client::ConsensusClient;
use fairpost_api::v1::consensus_server::Consensus;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, Streaming};

use super::auth::Gate;
use super::peers::Peers;
use crate::consensus::transport::{Error, Transport};
use crate::consensus::{self, Member};

/// The service.
pub struct RaftService {
    gate: Gate,
    consensus: consensus::Handle,
}

impl RaftService {
    /// Hands messages of members to `consensus`.
    pub const fn new(gate: Gate, consensus: consensus::Handle) -> Self {
        Self { gate, consensus }
    }
}

#[tonic::async_trait]
impl Consensus for RaftService {
    async fn append(&self, request: Request<RaftMessage>) -> Result<Response<RaftMessage>, Status> {
        let from = u64::from(self.gate.member(&request)?);
        let body = request.into_inner().body.into();
        answer(Box::pin(self.consensus.append_entries(from, body)).await)
    }

    async fn vote(&self, request: Request<RaftMessage>) -> Result<Response<RaftMessage>, Status> {
        let from = u64::from(self.gate.member(&request)?);
        let body = request.into_inner().body.into();
        answer(Box::pin(self.consensus.vote(from, body)).await)
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<RaftMessage>>,
    ) -> Result<Response<RaftMessage>, Status> {
        let from = u64::from(self.gate.member(&request)?);
        let chunks = request.into_inner().map(|chunk| chunk.map(|message| Bytes::from(message.body)));
        answer(Box::pin(self.consensus.install_snapshot(from, chunks)).await)
    }
}

fn answer(result: Result<Bytes, consensus::Refusal>) -> Result<Response<RaftMessage>, Status> {
    match result {
        Ok(body) => Ok(Response::new(RaftMessage { body: body.into() })),
        Err(consensus::Refusal::Fatal(problem)) => Err(Status::unavailable(problem)),
        Err(refusal) => {
            tracing::warn!(%refusal, "a Raft message is refused");
            super::metrics::rejected("raft");
            Err(Status::invalid_argument(refusal.to_string()))
        }
    }
}

/// Carries Raft's messages to the other members.
#[derive(Clone)]
pub struct RaftTransport {
    peers: Arc<Peers>,
}

impl RaftTransport {
    /// Over these connections.
    pub const fn new(peers: Arc<Peers>) -> Self {
        Self { peers }
    }

    fn client(&self, to: u64) -> Result<ConsensusClient<Channel>, Error> {
        let client = u16::try_from(to).ok().and_then(|index| self.peers.consensus(index));
        client.ok_or_else(|| Error::Unreachable(format!("there is no member {to}")))
    }
}

impl Transport for RaftTransport {
    async fn append_entries(&self, to: u64, _: &Member, request: Bytes) -> Result<Bytes, Error> {
        carried(self.client(to)?.append(message(request)).await)
    }

    async fn vote(&self, to: u64, _: &Member, request: Bytes) -> Result<Bytes, Error> {
        carried(self.client(to)?.vote(message(request)).await)
    }

    fn install_snapshot(
        &self,
        to: u64,
        _: &Member,
        chunks: BoxStream<'static, Bytes>,
    ) -> impl Future<Output = Result<Bytes, Error>> + Send {
        let client = self.client(to);
        // A channel in between: the compiler can't see that a mapped stream in a future is Send (rust-lang/rust#102211).
        let (sender, receiver) = mpsc::channel(1);
        async move {
            let mut client = client?;
            let mut chunks = chunks;
            let feed = async move {
                while let Some(chunk) = chunks.next().await {
                    if sender.send(message(chunk)).await.is_err() {
                        break;
                    }
                }
            };
            let (answer, ()) = tokio::join!(client.install_snapshot(ReceiverStream::new(receiver)), feed);
            carried(answer)
        }
    }
}

fn message(body: Bytes) -> RaftMessage {
    RaftMessage { body: body.into() }
}

fn carried(answer: Result<Response<RaftMessage>, Status>) -> Result<Bytes, Error> {
    match answer {
        Ok(answer) => Ok(answer.into_inner().body.into()),
        Err(status) if status.code() == Code::InvalidArgument => {
            Err(Error::Refused(status.message().to_owned()))
        }
        Err(status) => Err(Error::Unreachable(format!("{:?}: {}", status.code(), status.message()))),
    }
}
