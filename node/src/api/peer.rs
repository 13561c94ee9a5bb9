//! The service for other members: forwarded commands, votes, shares.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use fairpost_api::tls::{Place, Places};
use fairpost_api::v1::peer_server::Peer;
use fairpost_api::v1::{
    BallotVote, CastVotesRequest, CastVotesResponse, ForwardRequest, ForwardResponse, GetNewestRequest,
    GetNewestResponse, GetSharesRequest, GetSharesResponse, GetStatementRequest, GetStatementResponse,
    GetVotesRequest, GetVotesResponse, ShareResult, SuspectRequest, SuspectResponse,
};
use fairpost_proto::cose::Signed;
use fairpost_proto::entry::{self, Command};
use fairpost_proto::ids::ExchangeId;
use fairpost_proto::leaf::Round;
use fairpost_proto::round::Acknowledgement;
use futures::stream::{BoxStream, FuturesUnordered, StreamExt as _};
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

use super::admission::Admission;
use super::auth::Gate;
use super::contact::Contact;
use super::error;
use super::exchange::limit;
use crate::consensus::{MAX_SUSPICIONS, sequencer};
use crate::ledger::Exchange;
use crate::witness::collect::Collector;
use crate::witness::service::{self, Handle, Received, halted};

/// The most items in one request.
const MOST: usize = 1024;
/// The most shares that are signed one after the other, and sent in one message.
const SIGNED_TOGETHER: usize = 32;
/// How many calls of one member may be under way. No member alone fills the queue for commands, which takes 1,024 calls.
const CALLS: usize = 256;
/// When a member that has too many should call again.
const RETRY: Duration = Duration::from_millis(50);
/// How long it is tried to make a token before this node states that the exchange has none.
const TRY: Duration = Duration::from_secs(3);
/// How long a share may be waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The service.
pub struct PeerService {
    /// Who may call.
    pub gate: Gate,
    /// Orders commands, when this node leads.
    pub sequencer: sequencer::Handle,
    /// Votes and shares.
    pub witness: Handle,
    /// Whose turn it is to have shares signed.
    pub admission: Arc<Admission>,
    /// Makes the token where somebody thinks that it can't be made.
    pub collector: Collector,
    /// Hands in what waits at other members.
    pub contact: Contact,
    /// The calls of each member.
    pub calls: Arc<Places<u16>>,
    /// When it is true, streams that stay open end.
    pub halted: watch::Receiver<bool>,
}

impl PeerService {
    /// A place for each call, within the bound for each member.
    pub fn places() -> Arc<Places<u16>> {
        Places::new(CALLS, usize::MAX)
    }

    /// The member that calls, and the place of its call.
    fn caller<T>(&self, request: &Request<T>) -> Result<(u16, Place<u16>), Status> {
        let member = self.gate.member(request)?;
        let place = self.calls.take(member);
        let place =
            place.ok_or_else(|| error::overloaded("too many calls of this member are under way", RETRY))?;
        Ok((member, place))
    }
}

#[tonic::async_trait]
impl Peer for PeerService {
    async fn forward(&self, request: Request<ForwardRequest>) -> Result<Response<ForwardResponse>, Status> {
        let (_, _place) = self.caller(&request)?;
        let commands = request.into_inner().commands;
        bounded("commands", commands.len(), entry::MAX_COMMANDS)?;
        let commands: Vec<Command> = commands
            .iter()
            .map(|command| Command::parse(command))
            .collect::<Result<_, _>>()
            .map_err(|fault| error::bad_field("commands", "malformed", fault.to_string()))?;
        let results =
            self.sequencer.order(commands).await.map_err(|fault| error::unavailable(fault.to_string()))?;
        Ok(Response::new(ForwardResponse { results }))
    }

    async fn suspect(&self, request: Request<SuspectRequest>) -> Result<Response<SuspectResponse>, Status> {
        let (member, _place) = self.caller(&request)?;
        let SuspectRequest { suspicions, command } = request.into_inner();
        bounded("suspicions", suspicions.len(), MAX_SUSPICIONS)?;
        let malformed = |field, fault: String| error::bad_field(field, "malformed", fault);
        self.contact
            .consensus
            .hear_suspicions(&suspicions)
            .map_err(|fault| malformed("suspicions", fault.to_string()))?;
        if !command.is_empty() {
            let Ok(Command::Party(demand)) = Command::parse(&command) else {
                return Err(malformed("command", "a party's command expected".into()));
            };
            let asked = self.contact.trials.asked(&self.contact, member, demand);
            asked.map_err(|fault| error::evidence("command", &fault))?;
        }
        Ok(Response::new(SuspectResponse {}))
    }

    async fn cast_votes(
        &self,
        request: Request<Streaming<CastVotesRequest>>,
    ) -> Result<Response<CastVotesResponse>, Status> {
        let (member, _place) = self.caller(&request)?;
        let mut stop = self.halted.clone();
        let mut messages = pin!(request.into_inner().take_until(halted(&mut stop)));
        while let Some(message) = messages.next().await {
            let CastVotesRequest { votes, acknowledgements } = message?;
            bounded("votes", votes.len(), MOST)?;
            bounded("acknowledgements", acknowledgements.len(), MOST)?;
            let votes = votes.into_iter().map(received).collect::<Result<_, _>>()?;
            let acknowledgements =
                acknowledgements.iter().map(|bytes| acknowledgement(bytes)).collect::<Result<_, _>>()?;
            self.witness.receive(member, votes);
            self.witness.receive_acknowledgements(member, acknowledgements);
        }
        Ok(Response::new(CastVotesResponse {}))
    }

    async fn get_votes(
        &self,
        request: Request<GetVotesRequest>,
    ) -> Result<Response<GetVotesResponse>, Status> {
        let (_, _place) = self.caller(&request)?;
        let sequences = request.into_inner().sequences;
        bounded("sequences", sequences.len(), MOST)?;
        let (mut votes, mut acknowledgements) = (Vec::new(), Vec::new());
        for sequence in sequences {
            votes.extend(self.witness.votes(sequence).map_err(|fault| error::internal(&fault))?);
            let more = self.witness.acknowledgements(sequence).map_err(|fault| error::internal(&fault))?;
            acknowledgements.extend(more);
            if votes.len() >= MOST || acknowledgements.len() >= MOST {
                break;
            }
        }
        votes.truncate(MOST);
        acknowledgements.truncate(MOST);
        Ok(Response::new(GetVotesResponse {
            votes: votes.into_iter().map(ballot_vote).collect(),
            acknowledgements: acknowledgements.iter().map(|signed| signed.bytes().to_vec()).collect(),
        }))
    }

    async fn get_statement(
        &self,
        request: Request<GetStatementRequest>,
    ) -> Result<Response<GetStatementResponse>, Status> {
        let (_, _place) = self.caller(&request)?;
        let GetStatementRequest { exchange, round } = request.into_inner();
        let malformed = |field, fault: &str| error::bad_field(field, "malformed", fault.into());
        let exchange = ExchangeId::from_slice(&exchange)
            .ok_or_else(|| malformed("exchange", "an exchange id has 32 bytes"))?;
        let round = Round::new(round).ok_or_else(|| malformed("round", "rounds count from 1"))?;
        // Who asks may not know that nothing is wrong. A promise would make it so: try first.
        if self.witness.is_certified(&exchange).map_err(|fault| error::internal(&fault))?
            && let Ok(Ok(_)) = tokio::time::timeout(TRY, self.collector.token(&exchange)).await
        {
            return Err(Status::failed_precondition("the exchange is decided"));
        }
        let statement = self.witness.statement(&exchange, round).await.map_err(|fault| match fault {
            service::Error::Refused(refusal) => Status::failed_precondition(refusal.to_string()),
            service::Error::Closed(reason) => error::unavailable(reason),
            other => error::internal(&other),
        })?;
        let evidence = self.witness.evidence(&exchange).map_err(|fault| error::internal(&fault))?;
        Ok(Response::new(GetStatementResponse {
            statement: statement.bytes().to_vec(),
            evidence: evidence.into_iter().map(|demand| Command::Party(demand).to_bytes()).collect(),
        }))
    }

    async fn get_newest(
        &self,
        request: Request<GetNewestRequest>,
    ) -> Result<Response<GetNewestResponse>, Status> {
        let (member, _place) = self.caller(&request)?;
        Ok(Response::new(GetNewestResponse { newest: self.witness.newest(member).unwrap_or_default() }))
    }

    type GetSharesStream = BoxStream<'static, Result<GetSharesResponse, Status>>;

    async fn get_shares(
        &self,
        request: Request<GetSharesRequest>,
    ) -> Result<Response<Self::GetSharesStream>, Status> {
        let (member, place) = self.caller(&request)?;
        // An answer must be on its way before the caller gives up.
        let wait = limit(&request, LONGEST_WAIT) * 9 / 10;
        let exchanges = request.into_inner().exchanges;
        bounded("exchanges", exchanges.len(), MOST)?;
        let exchanges: Vec<ExchangeId> =
            exchanges.iter().map(|id| ExchangeId::from_slice(id)).collect::<Option<_>>().ok_or_else(
                || error::bad_field("exchanges", "malformed", "an exchange id has 32 bytes".into()),
            )?;
        let decided: FuturesUnordered<_> =
            exchanges.into_iter().map(|id| certified(self.witness.clone(), id, wait)).collect();
        let (witness, admission) = (self.witness.clone(), Arc::clone(&self.admission));
        let place = Arc::new(place);
        // Those that are ready together are signed together, on one thread of those for long work.
        let shares = decided.ready_chunks(SIGNED_TOGETHER).then(move |ready| {
            let (witness, admission, place) = (witness.clone(), Arc::clone(&admission), Arc::clone(&place));
            async move {
                let _place = place;
                let signed = admission.share(member, move || {
                    ready.into_iter().map(|(id, exchange)| share(&witness, id, exchange)).collect()
                });
                Ok(GetSharesResponse { shares: signed.await? })
            }
        });
        Ok(Response::new(shares.boxed()))
    }
}

/// The exchange, once it is certified; none if it is not in time.
async fn certified(witness: Handle, id: ExchangeId, wait: Duration) -> (ExchangeId, Option<Exchange>) {
    let certified = tokio::time::timeout(wait, witness.certified(&id)).await;
    (id, certified.ok().and_then(Result::ok))
}

fn share(witness: &Handle, id: ExchangeId, exchange: Option<Exchange>) -> ShareResult {
    let none = ShareResult { exchange: id.as_bytes().to_vec(), ..ShareResult::default() };
    let Some(exchange) = exchange else { return none };
    match witness.share(&exchange) {
        Ok((verdict, share)) => {
            ShareResult { share: share.to_bytes().to_vec(), verdict: u32::from(verdict.code()), ..none }
        }
        Err(problem) => {
            tracing::debug!(exchange = %id, %problem, "gives no share");
            none
        }
    }
}

/// A vote as it goes over the wire.
pub(super) fn ballot_vote(received: Received) -> BallotVote {
    BallotVote { vote: received.vote.bytes().to_vec(), leaves: received.leaves }
}

/// A vote as it comes in: well-formed, not yet checked.
pub(super) fn received(vote: BallotVote) -> Result<Received, Status> {
    let malformed = |fault: String| error::bad_field("votes", "malformed", fault);
    bounded("votes.leaves", vote.leaves.len(), entry::MAX_COMMANDS / 8)?;
    let signed = Signed::parse(&vote.vote).map_err(|fault| malformed(fault.to_string()))?;
    Ok(Received { vote: signed, leaves: vote.leaves })
}

/// An acknowledgement as it comes in: well-formed, not yet checked.
pub(super) fn acknowledgement(bytes: &[u8]) -> Result<Signed<Acknowledgement>, Status> {
    Signed::parse(bytes).map_err(|fault| error::bad_field("acknowledgements", "malformed", fault.to_string()))
}

fn bounded(field: &'static str, found: usize, most: usize) -> Result<(), Status> {
    if found <= most {
        return Ok(());
    }
    Err(error::bad_field(field, "too_many", format!("{field} has {found} items, at most {most} are taken")))
}
