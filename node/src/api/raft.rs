//! The service that carries Raft's messages, and this node's side of it.
//!
//! What a message may say is for the consensus layer's guard; here it is made sure who says it.
//!
//! Entries go over a stream for each member that stays open (a `Line`): a call of its own for each entry would cost
//! both sides more than the entry does. It carries one message and then its answer, so an answer can't be taken for
//! another's: a line whose answer nobody waited for is closed, and the next message opens a new one.
//!
//! Members take part in more than one Raft in their life: in that of their key ceremony, and then in the cluster's. Every call
//! says which one it is for ([`GROUP`]), and one for another is not answered.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use fairpost_api::GROUP;
use fairpost_api::v1::RaftMessage;
use fairpost_api::v1::consensus_client::ConsensusClient;
use fairpost_api::v1::consensus_server::Consensus;
use fairpost_proto::ids::ClusterId;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, Streaming};

use super::auth::Gate;
use crate::consensus::transport::{Error, Transport};
use crate::consensus::{self, Member};
use crate::witness::service::halted;

/// The service.
pub struct RaftService {
    gate: Gate,
    group: ClusterId,
    consensus: consensus::Handle,
    halted: watch::Receiver<bool>,
}

impl RaftService {
    /// Hands messages of members for this group to `consensus`, until `halted`.
    pub const fn new(
        gate: Gate,
        group: ClusterId,
        consensus: consensus::Handle,
        halted: watch::Receiver<bool>,
    ) -> Self {
        Self { gate, group, consensus, halted }
    }

    /// The member that calls, about this node's Raft.
    fn caller<T>(&self, request: &Request<T>) -> Result<u64, Status> {
        let from = self.gate.member(request)?;
        let found = request.metadata().get_bin(GROUP).and_then(|value| value.to_bytes().ok());
        if found.as_deref() == Some(&self.group.as_bytes()[..]) {
            return Ok(from.into());
        }
        let found = found.map_or("no group".into(), hex::encode);
        Err(Status::failed_precondition(format!(
            "this node takes part in the Raft of {}, and the call is for {found}: one of the two has yet to finish, or to \
             begin, its key ceremony",
            self.group
        )))
    }
}

#[tonic::async_trait]
impl Consensus for RaftService {
    type AppendStream = BoxStream<'static, Result<RaftMessage, Status>>;

    async fn append(
        &self,
        request: Request<Streaming<RaftMessage>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let from = self.caller(&request)?;
        let (consensus, mut stop) = (self.consensus.clone(), self.halted.clone());
        let messages = request.into_inner().take_until(async move { halted(&mut stop).await });
        let answers = messages.then(move |message| {
            let consensus = consensus.clone();
            async move { answer(Box::pin(consensus.append_entries(from, message?.body.into())).await) }
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn vote(&self, request: Request<RaftMessage>) -> Result<Response<RaftMessage>, Status> {
        let from = self.caller(&request)?;
        let body = request.into_inner().body.into();
        answer(Box::pin(self.consensus.vote(from, body)).await).map(Response::new)
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<RaftMessage>>,
    ) -> Result<Response<RaftMessage>, Status> {
        let from = self.caller(&request)?;
        let chunks = request.into_inner().map(|chunk| chunk.map(|message| Bytes::from(message.body)));
        answer(Box::pin(self.consensus.install_snapshot(from, chunks)).await).map(Response::new)
    }
}

fn answer(result: Result<Bytes, consensus::Refusal>) -> Result<RaftMessage, Status> {
    match result {
        Ok(body) => Ok(message(body)),
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
    group: ClusterId,
    members: Arc<[ConsensusClient<Channel>]>,
    /// The open line to each member, while nothing is under way on it.
    lines: Arc<Mutex<HashMap<u64, Line>>>,
}

/// An open stream of entries to a member, and of its answers.
struct Line {
    messages: mpsc::Sender<RaftMessage>,
    answers: Streaming<RaftMessage>,
}

impl Line {
    /// Opens it with its first message: that way there is one round trip, and Raft does not wait for two.
    async fn open(
        mut client: ConsensusClient<Channel>,
        group: ClusterId,
        first: RaftMessage,
    ) -> Result<Self, Status> {
        let (messages, receiver) = mpsc::channel(1);
        // It is empty.
        let _ = messages.try_send(first);
        let answers = client.append(about(group, ReceiverStream::new(receiver))).await?.into_inner();
        Ok(Self { messages, answers })
    }

    async fn answer(&mut self) -> Result<Bytes, Status> {
        let answer = self.answers.message().await?;
        answer.map(|answer| answer.body.into()).ok_or_else(|| Status::unavailable("the stream has ended"))
    }
}

impl RaftTransport {
    /// The Raft of this group, over these connections by index.
    pub fn new(group: ClusterId, members: Vec<ConsensusClient<Channel>>) -> Self {
        Self { group, members: members.into(), lines: Arc::default() }
    }

    fn client(&self, to: u64) -> Result<ConsensusClient<Channel>, Error> {
        let client = usize::try_from(to).ok().and_then(|index| self.members.get(index));
        client.cloned().ok_or_else(|| Error::Unreachable(format!("there is no member {to}")))
    }
}

impl Transport for RaftTransport {
    async fn append_entries(&self, to: u64, _: &Member, request: Bytes) -> Result<Bytes, Error> {
        // Out of its place while it is under way: if nobody waits for the answer any more, it is dropped with it.
        let open = self.lines.lock().remove(&to);
        if let Some(mut line) = open
            && line.messages.try_send(message(request.clone())).is_ok()
        {
            match carried(line.answer().await) {
                // The member was restarted, or the connection lost: a new line will show.
                Err(Error::Unreachable(_)) => {}
                answer => {
                    self.lines.lock().insert(to, line);
                    return answer;
                }
            }
        }
        let mut line = carried(Line::open(self.client(to)?, self.group, message(request)).await)?;
        let answer = carried(line.answer().await)?;
        self.lines.lock().insert(to, line);
        Ok(answer)
    }

    async fn vote(&self, to: u64, _: &Member, request: Bytes) -> Result<Bytes, Error> {
        body(self.client(to)?.vote(about(self.group, message(request))).await)
    }

    fn install_snapshot(
        &self,
        to: u64,
        _: &Member,
        chunks: BoxStream<'static, Bytes>,
    ) -> impl Future<Output = Result<Bytes, Error>> + Send {
        let (client, group) = (self.client(to), self.group);
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
            let (answer, ()) =
                tokio::join!(client.install_snapshot(about(group, ReceiverStream::new(receiver))), feed);
            body(answer)
        }
    }
}

/// The call, for this group.
fn about<T>(group: ClusterId, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert_bin(GROUP, MetadataValue::from_bytes(group.as_bytes()));
    request
}

fn message(body: Bytes) -> RaftMessage {
    RaftMessage { body: body.into() }
}

fn body(answer: Result<Response<RaftMessage>, Status>) -> Result<Bytes, Error> {
    carried(answer.map(|answer| answer.into_inner().body.into()))
}

fn carried<T>(answer: Result<T, Status>) -> Result<T, Error> {
    match answer {
        Ok(answer) => Ok(answer),
        Err(status) if status.code() == Code::InvalidArgument => {
            Err(Error::Refused(status.message().to_owned()))
        }
        Err(status) => Err(Error::Unreachable(format!("{:?}: {}", status.code(), status.message()))),
    }
}
