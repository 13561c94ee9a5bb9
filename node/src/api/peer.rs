//! The service for other members: forwarded commands, votes, shares.

use std::time::Duration;

use fairpost_api::v1::peer_server::Peer;
use fairpost_api::v1::{
    BallotVote, CastVotesRequest, CastVotesResponse, ForwardRequest, ForwardResponse, GetSharesRequest,
    GetSharesResponse, GetVotesRequest, GetVotesResponse, ShareResult,
};
use fairpost_proto::cose::Signed;
use fairpost_proto::entry::{self, Command};
use fairpost_proto::ids::ExchangeId;
use futures::future::join_all;
use tonic::{Request, Response, Status};

use super::auth::Gate;
use super::error;
use super::exchange::limit;
use crate::consensus::sequencer;
use crate::witness::service::{Handle, Received};

/// The most items in one request.
const MOST: usize = 1024;
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
}

#[tonic::async_trait]
impl Peer for PeerService {
    async fn forward(&self, request: Request<ForwardRequest>) -> Result<Response<ForwardResponse>, Status> {
        self.gate.member(&request)?;
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

    async fn cast_votes(
        &self,
        request: Request<CastVotesRequest>,
    ) -> Result<Response<CastVotesResponse>, Status> {
        self.gate.member(&request)?;
        let votes = request.into_inner().votes;
        bounded("votes", votes.len(), MOST)?;
        let votes = votes.into_iter().map(received).collect::<Result<_, _>>()?;
        self.witness.receive(votes);
        Ok(Response::new(CastVotesResponse {}))
    }

    async fn get_votes(
        &self,
        request: Request<GetVotesRequest>,
    ) -> Result<Response<GetVotesResponse>, Status> {
        self.gate.member(&request)?;
        let sequences = request.into_inner().sequences;
        bounded("sequences", sequences.len(), MOST)?;
        let mut votes = Vec::new();
        for sequence in sequences {
            votes.extend(self.witness.votes(sequence).map_err(|fault| error::internal(&fault))?);
            if votes.len() >= MOST {
                break;
            }
        }
        votes.truncate(MOST);
        Ok(Response::new(GetVotesResponse { votes: votes.into_iter().map(ballot_vote).collect() }))
    }

    async fn get_shares(
        &self,
        request: Request<GetSharesRequest>,
    ) -> Result<Response<GetSharesResponse>, Status> {
        self.gate.member(&request)?;
        // An answer must be on its way before the caller gives up.
        let wait = limit(&request, LONGEST_WAIT) * 9 / 10;
        let exchanges = request.into_inner().exchanges;
        bounded("exchanges", exchanges.len(), MOST)?;
        let exchanges: Vec<ExchangeId> =
            exchanges.iter().map(|id| ExchangeId::from_slice(id)).collect::<Option<_>>().ok_or_else(
                || error::bad_field("exchanges", "malformed", "an exchange id has 32 bytes".into()),
            )?;
        let shares = exchanges.into_iter().map(|id| share(self.witness.clone(), id, wait));
        Ok(Response::new(GetSharesResponse { shares: join_all(shares).await }))
    }
}

async fn share(witness: Handle, id: ExchangeId, wait: Duration) -> ShareResult {
    let Ok(Ok(exchange)) = tokio::time::timeout(wait, witness.certified(&id)).await else {
        return ShareResult::default();
    };
    match tokio::task::spawn_blocking(move || witness.share(&exchange)).await {
        Ok(Ok((verdict, share))) => {
            ShareResult { share: share.to_bytes().to_vec(), verdict: u32::from(verdict.code()) }
        }
        Ok(Err(problem)) => {
            tracing::debug!(exchange = %id, %problem, "gives no share");
            ShareResult::default()
        }
        Err(_) => ShareResult::default(),
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

fn bounded(field: &'static str, found: usize, most: usize) -> Result<(), Status> {
    if found <= most {
        return Ok(());
    }
    Err(error::bad_field(field, "too_many", format!("{field} has {found} items, at most {most} are taken")))
}
