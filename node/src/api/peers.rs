//! This node's side of the calls to other members: one connection each, pinned to the member's identity.
//!
//! Votes and asks go out through short bounded queues, one task per member, so that a slow member delays nobody else;
//! what does not fit is dropped, because whoever misses a vote asks for it.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fairpost_api::limits;
use fairpost_api::tls::{ChannelOptions, Credentials, Pin, Target, TargetError, channel, client_config};
use fairpost_api::v1::consensus_client::ConsensusClient;
use fairpost_api::v1::peer_client::PeerClient;
use fairpost_api::v1::{
    CastVotesRequest, CommandResult, ForwardRequest, GetNewestRequest, GetSharesRequest, GetStatementRequest,
    GetVotesRequest, GetVotesResponse, ShareResult, SuspectRequest,
};
use fairpost_proto::cose::Signed;
use fairpost_proto::entry::Command;
use fairpost_proto::ids::{ExchangeId, Verdict};
use fairpost_proto::leaf::Round;
use fairpost_proto::round::Acknowledgement;
use fairpost_proto::threshold::Share;
use fairpost_proto::view::{self, View};
use futures::future::{BoxFuture, join_all};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tracing::debug;

use super::peer;
use crate::machine::Vouchers;
use crate::witness::collect::{Given, NoShare, Shares};
use crate::witness::rounds::Answer;
use crate::witness::service::{self, Received};

/// How long a call to a member may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long a member may take for a statement: it may try first to make the token.
const STATEMENT: Duration = Duration::from_secs(6);
/// How many messages may wait for one member.
const QUEUE: usize = 256;
/// How many votes go in one message.
const VOTES: usize = 1024;
/// How many shares are asked for with one call.
const BATCH: usize = 256;
/// How many commands are forwarded with one call: together they stay within the limit of a message.
const COMMANDS: usize = 64;

/// Why the other members can't be called at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A member's address in the view is none.
    #[error("the address of member {name}: {source}")]
    Address {
        /// The member.
        name: String,
        /// What is wrong.
        source: TargetError,
    },
    /// This node's TLS key can't be used.
    #[error("TLS: {0}")]
    Tls(String),
}

struct Ask {
    exchange: ExchangeId,
    answer: oneshot::Sender<Given>,
}

/// What is sent to a member.
enum Cast {
    Votes(Vec<Received>),
    Acknowledgements(Vec<Signed<Acknowledgement>>),
}

struct Forward {
    command: Vec<u8>,
    answer: oneshot::Sender<Result<CommandResult, String>>,
}

struct Member {
    peer: PeerClient<Channel>,
    consensus: ConsensusClient<Channel>,
    commands: mpsc::Sender<Forward>,
    votes: mpsc::Sender<Cast>,
    sequences: mpsc::Sender<u64>,
    shares: mpsc::Sender<Ask>,
}

/// The other members.
pub struct Peers {
    index: u16,
    members: Vec<Member>,
    witness: Arc<OnceLock<service::Handle>>,
}

impl Peers {
    /// Prepares a connection to each member (the own one is never used) and starts the tasks that send.
    pub fn start(view: &View, index: u16, credentials: &Credentials) -> Result<Arc<Self>, Error> {
        let witness = Arc::new(OnceLock::new());
        let mut members = Vec::new();
        for (member, index) in view.members().iter().zip(0_u16..) {
            // Raft has a connection of its own, so that a flood of votes can't delay a heartbeat.
            let consensus = consensus_client(connect(member, credentials)?);
            let peer = PeerClient::new(connect(member, credentials)?)
                .max_decoding_message_size(limits::PEER)
                .max_encoding_message_size(limits::PEER);
            let (votes, queued_votes) = mpsc::channel(QUEUE);
            let (sequences, queued_sequences) = mpsc::channel(QUEUE);
            let (shares, queued_shares) = mpsc::channel(QUEUE * 16);
            let (commands, queued_commands) = mpsc::channel(QUEUE * 16);
            tokio::spawn(cast(peer.clone(), queued_votes));
            tokio::spawn(ask(peer.clone(), index, queued_sequences, Arc::clone(&witness)));
            tokio::spawn(collect(peer.clone(), queued_shares));
            tokio::spawn(forward(peer.clone(), queued_commands));
            members.push(Member { peer, consensus, commands, votes, sequences, shares });
        }
        Ok(Arc::new(Self { index, members, witness }))
    }

    /// Where answers with votes go.
    pub fn answer_to(&self, witness: service::Handle) {
        let _ = self.witness.set(witness);
    }

    /// The Raft connections to the members, by index.
    pub fn consensus(&self) -> Vec<ConsensusClient<Channel>> {
        self.members.iter().map(|member| member.consensus.clone()).collect()
    }

    /// A member's statement for a round of an exchange, with the evidence that it has.
    pub fn statement(
        &self,
        member: u16,
        exchange: ExchangeId,
        round: Round,
    ) -> BoxFuture<'static, Result<Answer, String>> {
        let client = self.members.get(usize::from(member)).map(|member| member.peer.clone());
        Box::pin(async move {
            let mut client = client.ok_or("there is no such member")?;
            let exchange = exchange.as_bytes().to_vec();
            let mut request = Request::new(GetStatementRequest { exchange, round: round.get() });
            request.set_timeout(STATEMENT);
            let answer =
                client.get_statement(request).await.map_err(|status| describe(&status))?.into_inner();
            let statement = Signed::parse(&answer.statement).map_err(|error| error.to_string())?;
            // What is malformed is not worth more than nothing.
            let evidence = answer.evidence.iter().filter_map(|bytes| match Command::parse(bytes) {
                Ok(Command::Party(demand)) => Some(demand),
                _ => None,
            });
            Ok(Answer { statement, evidence: evidence.collect() })
        })
    }

    /// Tells all other members of suspicions, or of a command that waits. Who gives no answer is not told.
    pub async fn suspect(&self, request: SuspectRequest) {
        let others = self.members.iter().zip(0_u16..).filter(|(_, index)| *index != self.index);
        let told = others.map(|(member, index)| {
            let (mut client, request) = (member.peer.clone(), timed(request.clone()));
            async move {
                if let Err(status) = client.suspect(request).await {
                    debug!(index, status = describe(&status), "a member was not told of suspicions");
                }
            }
        });
        join_all(told).await;
    }

    /// Has the leader order a command.
    pub async fn forward(&self, leader: u16, command: &Command) -> Result<CommandResult, String> {
        let member = self.members.get(usize::from(leader)).ok_or("the leader is no member")?;
        let (answer, receiver) = oneshot::channel();
        let forward = Forward { command: command.to_bytes(), answer };
        member.commands.try_send(forward).map_err(|_| "too many commands wait for the leader")?;
        receiver.await.map_err(|_| "the call ended without an answer")?
    }
}

/// A connection to a member, and to nobody else.
pub(crate) fn connect(member: &view::Member, credentials: &Credentials) -> Result<Channel, Error> {
    let target: Target =
        member.address.parse().map_err(|source| Error::Address { name: member.name.clone(), source })?;
    let config = client_config(Pin::Identity(member.identity), Some(credentials))
        .map_err(|error| Error::Tls(error.to_string()))?;
    // When the network is back, TCP goes on sending only after a pause as long as the outage: a connection that
    // gave no sign of life is made anew long before.
    let options = ChannelOptions {
        connect_timeout: TIMEOUT,
        keepalive: Some(TIMEOUT),
        keepalive_timeout: TIMEOUT,
        // Calls have limits of their own, but for streams, which stay open. Raft waits for as long as it wants
        // to, and for a snapshot for as long as it goes on.
        request_timeout: None,
    };
    Ok(channel(&target, config, options))
}

/// The client of a member's Raft.
pub(crate) fn consensus_client(channel: Channel) -> ConsensusClient<Channel> {
    ConsensusClient::new(channel)
        .max_decoding_message_size(limits::CONSENSUS)
        .max_encoding_message_size(limits::CONSENSUS)
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(TIMEOUT);
    request
}

fn describe(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

impl service::Peers for Peers {
    fn cast(&self, votes: Vec<Received>) {
        for (member, index) in self.members.iter().zip(0_u16..) {
            if index != self.index && member.votes.try_send(Cast::Votes(votes.clone())).is_err() {
                debug!(index, "too many votes wait for a member: some are dropped, and it will ask");
            }
        }
    }

    fn acknowledge(&self, acknowledgements: Vec<Signed<Acknowledgement>>) {
        for (member, index) in self.members.iter().zip(0_u16..) {
            // Whoever misses them asks.
            if index != self.index {
                let _ = member.votes.try_send(Cast::Acknowledgements(acknowledgements.clone()));
            }
        }
    }

    fn ask(&self, members: Vec<u16>, sequence: u64) {
        for index in members {
            if let Some(member) = self.members.get(usize::from(index)) {
                // A full queue asks already.
                let _ = member.sequences.try_send(sequence);
            }
        }
    }

    fn newest(&self, member: u16) -> BoxFuture<'static, Result<Option<Vec<u8>>, String>> {
        let client = self.members.get(usize::from(member)).map(|member| member.peer.clone());
        Box::pin(async move {
            let mut client = client.ok_or("there is no such member")?;
            let answer = client.get_newest(timed(GetNewestRequest {})).await;
            let newest = answer.map_err(|status| describe(&status))?.into_inner().newest;
            Ok((!newest.is_empty()).then_some(newest))
        })
    }
}

impl Vouchers for Peers {
    fn votes(&self, sequence: u64) -> BoxFuture<'static, Vec<Received>> {
        let others = self.members.iter().zip(0_u16..).filter(|(_, index)| *index != self.index);
        let asked: Vec<_> = others
            .map(|(member, _)| {
                let mut client = member.peer.clone();
                async move { client.get_votes(timed(GetVotesRequest { sequences: vec![sequence] })).await }
            })
            .collect();
        Box::pin(async move {
            let answers = join_all(asked).await.into_iter().filter_map(Result::ok);
            let votes = answers.flat_map(|answer| answer.into_inner().votes);
            votes.filter_map(|vote| peer::received(vote).ok()).collect()
        })
    }
}

impl Shares for Peers {
    fn share(&self, member: u16, exchange: ExchangeId) -> BoxFuture<'static, Given> {
        let (answer, receiver) = oneshot::channel();
        let queue = self.members.get(usize::from(member)).map(|member| member.shares.clone());
        Box::pin(async move {
            let none = |problem: &str| NoShare::None(problem.to_owned());
            let queue = queue.ok_or_else(|| none("there is no such member"))?;
            let ask = Ask { exchange, answer };
            queue.try_send(ask).map_err(|_| none("too many asks wait for this member"))?;
            receiver.await.map_err(|_| none("the call ended without an answer"))?
        })
    }
}

/// Casts what is queued over a stream that stays open: a call of its own for each vote would cost more than the vote.
async fn cast(mut client: PeerClient<Channel>, mut queue: mpsc::Receiver<Cast>) {
    while let Some(first) = queue.recv().await {
        let (sender, receiver) = mpsc::channel(1);
        let open = client.cast_votes(ReceiverStream::new(receiver));
        let feed = async {
            let (mut votes, mut acknowledgements) = (Vec::new(), Vec::new());
            let mut next = Some(first);
            loop {
                while let Some(cast) = next.take() {
                    match cast {
                        Cast::Votes(more) => votes.extend(more),
                        Cast::Acknowledgements(more) => acknowledgements.extend(more),
                    }
                    if votes.len() < VOTES && acknowledgements.len() < VOTES {
                        next = queue.try_recv().ok();
                    }
                }
                let rest = votes.split_off(votes.len().min(VOTES));
                let later = acknowledgements.split_off(acknowledgements.len().min(VOTES));
                let request = CastVotesRequest {
                    votes: votes.into_iter().map(peer::ballot_vote).collect(),
                    acknowledgements: acknowledgements.iter().map(|signed| signed.bytes().to_vec()).collect(),
                };
                if sender.send(request).await.is_err() {
                    return;
                }
                (votes, acknowledgements) = (rest, later);
                if votes.is_empty() && acknowledgements.is_empty() {
                    let Some(more) = queue.recv().await else { return };
                    next = Some(more);
                }
            }
        };
        tokio::select! {
            ended = open => {
                let status = ended.err().as_ref().map(describe);
                debug!(status, "votes did not arrive; their reader will ask");
            }
            () = feed => {}
        }
    }
}

async fn ask(
    mut client: PeerClient<Channel>,
    member: u16,
    mut queue: mpsc::Receiver<u64>,
    witness: Arc<OnceLock<service::Handle>>,
) {
    while let Some(first) = queue.recv().await {
        let mut sequences = vec![first];
        while let Ok(more) = queue.try_recv() {
            sequences.push(more);
        }
        sequences.sort_unstable();
        sequences.dedup();
        match client.get_votes(timed(GetVotesRequest { sequences })).await {
            Ok(answer) => {
                // What is malformed is not worth more than no answer.
                let GetVotesResponse { votes, acknowledgements } = answer.into_inner();
                let votes = votes.into_iter().filter_map(|vote| peer::received(vote).ok());
                let acknowledgements =
                    acknowledgements.iter().filter_map(|bytes| peer::acknowledgement(bytes).ok());
                if let Some(witness) = witness.get() {
                    witness.receive(member, votes.collect());
                    witness.receive_acknowledgements(member, acknowledgements.collect());
                }
            }
            Err(status) => debug!(status = describe(&status), "no votes from a member"),
        }
    }
}

/// Takes what waits in a queue, at most so many: what is queued at the same moment goes together. Nothing if the queue
/// has ended.
async fn gather<T>(queue: &mut mpsc::Receiver<T>, most: usize) -> Vec<T> {
    let mut gathered = Vec::new();
    if queue.recv_many(&mut gathered, most).await > 0 {
        // Tasks that were woken together come one after the other.
        tokio::task::yield_now().await;
        while gathered.len() < most
            && let Ok(more) = queue.try_recv()
        {
            gathered.push(more);
        }
    }
    gathered
}

async fn forward(client: PeerClient<Channel>, mut queue: mpsc::Receiver<Forward>) {
    loop {
        let batch = gather(&mut queue, COMMANDS).await;
        if batch.is_empty() {
            return;
        }
        // The leader answers when an entry is applied: the next batch does not wait for that.
        tokio::spawn(forward_batch(client.clone(), batch));
    }
}

async fn forward_batch(mut client: PeerClient<Channel>, batch: Vec<Forward>) {
    let (commands, answers): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|forward| (forward.command, forward.answer)).unzip();
    let answer = client.forward(timed(ForwardRequest { commands })).await;
    let mut results = match answer {
        Ok(answer) => Ok(answer.into_inner().results.into_iter()),
        Err(status) => Err(describe(&status)),
    };
    for answer in answers {
        let result = match &mut results {
            Ok(results) => results.next().ok_or_else(|| "fewer results than commands".to_owned()),
            Err(problem) => Err(problem.clone()),
        };
        // Whoever asked may have given up.
        let _ = answer.send(result);
    }
}

async fn collect(client: PeerClient<Channel>, mut queue: mpsc::Receiver<Ask>) {
    loop {
        let asks = gather(&mut queue, BATCH).await;
        if asks.is_empty() {
            return;
        }
        // A member may wait for a certificate before it answers: the next batch does not wait for that.
        tokio::spawn(collect_batch(client.clone(), asks));
    }
}

async fn collect_batch(client: PeerClient<Channel>, asks: Vec<Ask>) {
    // Several may ask for the same share.
    let mut waiting: HashMap<Vec<u8>, Vec<Ask>> = HashMap::new();
    for ask in asks {
        waiting.entry(ask.exchange.as_bytes().to_vec()).or_default().push(ask);
    }
    let problem = match collect_shares(client, &mut waiting).await {
        Ok(()) => "fewer answers than asks".to_owned(),
        Err(status) => describe(&status),
    };
    for ask in waiting.into_values().flatten() {
        let _ = ask.answer.send(Err(NoShare::None(problem.clone())));
    }
}

/// Answers asks as their shares come; what is left has no answer.
async fn collect_shares(
    mut client: PeerClient<Channel>,
    waiting: &mut HashMap<Vec<u8>, Vec<Ask>>,
) -> Result<(), Status> {
    let exchanges = waiting.keys().cloned().collect();
    let mut answers = client.get_shares(timed(GetSharesRequest { exchanges })).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        for result in answer.shares {
            for ask in waiting.remove(&result.exchange).into_iter().flatten() {
                // Whoever asked may be satisfied by now.
                let _ = ask.answer.send(parse(&result));
            }
        }
    }
    Ok(())
}

fn parse(result: &ShareResult) -> Given {
    if result.share.is_empty() {
        return Err(NoShare::None("it has no certificate yet, or does not sign".into()));
    }
    let verdict = u8::try_from(result.verdict).ok().and_then(Verdict::from_code);
    let other = || NoShare::None(format!("verdict {}, expected 1 to 4", result.verdict));
    let share = Share::parse(&result.share)
        .map_err(|error| NoShare::Malformed { bytes: result.share.clone(), problem: error.to_string() });
    Ok((verdict.ok_or_else(other)?, share?))
}
