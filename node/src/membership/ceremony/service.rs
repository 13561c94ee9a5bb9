//! The service of the ceremony: for members and operators of the proposal.

use std::path::PathBuf;
use std::sync::Arc;

use fairpost_api::v1::ceremony_server::Ceremony as Service;
use fairpost_api::v1::{
    CeremonyAwaited, CeremonyComplaint, CeremonyMisdeed, CeremonyProgress, CeremonyStep, GetProgressRequest,
    GetTranscriptRequest, SubmitRequest, SubmitResponse, TranscriptPart,
};
use fairpost_proto::ceremony::{Message, Misdeed, Offence, Refusal, Step};
use fairpost_proto::proposal::Proposal;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::machine::Log;
use super::peers::Peers;
use crate::api::auth::Gate;
use crate::consensus;

/// A part of a transcript has so many bytes.
const PART: usize = 1 << 20;

/// Has messages ordered: here if this node leads, else by the one that does. Clones are the same.
#[derive(Clone)]
pub struct Orderer {
    /// This node's part in the log.
    pub consensus: consensus::Handle,
    /// The log's state.
    pub log: Log,
    /// The others.
    pub peers: Arc<Peers>,
}

impl Orderer {
    /// Has a message ordered, and gives why it does not count; nothing if it does, or if it is in the log already. What was
    /// `passed_on` once is not passed on again.
    ///
    /// # Errors
    ///
    /// Why it was not ordered, for now: nobody leads, or who does gave no answer.
    pub async fn submit(&self, message: Vec<u8>, passed_on: bool) -> Result<String, String> {
        if self.consensus.is_leader() {
            return self.order(message).await;
        }
        let leader = self.consensus.leader().and_then(|leader| u16::try_from(leader.id).ok());
        let leader = leader.ok_or("no node leads yet")?;
        if passed_on {
            return Err("this node does not lead any more".into());
        }
        self.peers.submit(leader, message).await
    }

    async fn order(&self, bytes: Vec<u8>) -> Result<String, String> {
        let log = self.log.clone();
        // What does not count is not worth a place in the log.
        let judged = tokio::task::spawn_blocking(move || match Message::parse(&bytes) {
            Ok(message) => (log.judge(&message).map_err(Some), bytes),
            Err(error) => (Err(None), error.to_string().into_bytes()),
        });
        match judged.await.map_err(|error| error.to_string())? {
            (Ok(()), bytes) => {
                let outcome = Box::pin(self.consensus.propose(bytes.into())).await;
                let outcome = outcome.map_err(|error| error.to_string())?;
                Ok(String::from_utf8_lossy(&outcome).into_owned())
            }
            (Err(Some(Refusal::Repeated { .. })), _) => Ok(String::new()),
            (Err(Some(refusal)), _) => Ok(refusal.to_string()),
            (Err(None), problem) => Ok(String::from_utf8_lossy(&problem).into_owned()),
        }
    }
}

/// What the service tells of.
pub enum Stage {
    /// The ceremony goes on.
    Running {
        /// Has messages ordered.
        orderer: Orderer,
        /// Why this node can't go on, if it can't.
        lost: watch::Receiver<Option<String>>,
    },
    /// The cluster has its key.
    Finished {
        /// The trust file's bytes.
        trust: Vec<u8>,
        /// Where the transcript is.
        transcript: PathBuf,
    },
}

/// The service.
pub struct CeremonyService {
    /// Who may call.
    pub gate: Gate,
    /// This node's name.
    pub name: String,
    /// What it tells of.
    pub stage: Stage,
}

#[tonic::async_trait]
impl Service for CeremonyService {
    type GetTranscriptStream = BoxStream<'static, Result<TranscriptPart, Status>>;

    async fn submit(&self, request: Request<SubmitRequest>) -> Result<Response<SubmitResponse>, Status> {
        self.gate.operator(&request)?;
        let SubmitRequest { message, passed_on } = request.into_inner();
        let (found, most) = (message.len(), Message::MAX_BYTES);
        if found > most {
            return Err(Status::invalid_argument(format!(
                "a message of {found} bytes, at most {most} are taken"
            )));
        }
        match &self.stage {
            Stage::Finished { .. } => {
                Err(Status::failed_precondition("the key ceremony is over: this cluster has its key"))
            }
            Stage::Running { orderer, .. } => {
                let refusal = orderer.submit(message, passed_on).await.map_err(Status::unavailable)?;
                Ok(Response::new(SubmitResponse { refusal }))
            }
        }
    }

    async fn get_progress(
        &self,
        request: Request<GetProgressRequest>,
    ) -> Result<Response<CeremonyProgress>, Status> {
        self.gate.operator(&request)?;
        let node = self.name.clone();
        Ok(Response::new(match &self.stage {
            Stage::Finished { trust, .. } => CeremonyProgress {
                node,
                step: CeremonyStep::Done.into(),
                trust: trust.clone(),
                ..CeremonyProgress::default()
            },
            Stage::Running { orderer, lost } => {
                let leader = orderer.consensus.leader().and_then(|leader| leader.member);
                CeremonyProgress {
                    node,
                    lost: lost.borrow().clone().unwrap_or_default(),
                    leader: leader.map(|leader| leader.name).unwrap_or_default(),
                    ..progress(&orderer.log)
                }
            }
        }))
    }

    async fn get_transcript(
        &self,
        request: Request<GetTranscriptRequest>,
    ) -> Result<Response<Self::GetTranscriptStream>, Status> {
        self.gate.operator(&request)?;
        let bytes = match &self.stage {
            Stage::Running { orderer, .. } => orderer.log.state().transcript.to_bytes(),
            Stage::Finished { transcript, .. } => tokio::fs::read(transcript)
                .await
                .map_err(|error| Status::not_found(format!("this node has no transcript: {error}")))?,
        };
        let parts: Vec<_> =
            bytes.chunks(PART).map(|part| Ok(TranscriptPart { bytes: part.to_vec() })).collect();
        Ok(Response::new(stream::iter(parts).boxed()))
    }
}

fn progress(log: &Log) -> CeremonyProgress {
    let ceremony = log.ceremony();
    let (proposal, progress) = (ceremony.proposal(), ceremony.progress());
    let name = |index: &u16| name(proposal, *index);
    CeremonyProgress {
        proposal: proposal.digest().as_bytes().to_vec(),
        attempt: progress.attempt,
        step: step(progress.step).into(),
        missing: u32::try_from(progress.missing).unwrap_or(u32::MAX),
        awaited: progress
            .awaited
            .iter()
            .map(|awaited| CeremonyAwaited { member: name(&awaited.member), what: awaited.kind.to_string() })
            .collect(),
        dead: progress.dead.as_ref().map(ToString::to_string).unwrap_or_default(),
        misdeeds: progress.misdeeds.iter().map(|misdeed| misdeed_of(proposal, misdeed)).collect(),
        complaints: progress
            .complaints
            .iter()
            .map(|complaint| CeremonyComplaint {
                by: name(&complaint.by),
                dealer: name(&complaint.dealer),
                opened: complaint.opened,
            })
            .collect(),
        participants: ceremony.participants().iter().map(name).collect(),
        ..CeremonyProgress::default()
    }
}

fn misdeed_of(proposal: &Proposal, misdeed: &Misdeed) -> CeremonyMisdeed {
    let messages = match &misdeed.offence {
        Offence::Equivocation { first, second, .. } => vec![first.clone(), second.clone()],
        Offence::WrongRow { dealing, opening } => vec![dealing.clone(), opening.clone()],
        Offence::WrongShare { genesis, proof } => vec![genesis.clone(), proof.clone()],
        Offence::OtherLog { message, .. } => vec![message.clone()],
    };
    CeremonyMisdeed {
        attempt: misdeed.attempt,
        member: name(proposal, misdeed.member),
        what: misdeed.offence.to_string(),
        convicts: misdeed.offence.convicts(),
        messages,
    }
}

fn name(proposal: &Proposal, index: u16) -> String {
    proposal.member(index).map_or_else(|| format!("member {index}"), |(member, _)| member.name.clone())
}

const fn step(step: Step) -> CeremonyStep {
    match step {
        Step::NotBegun => CeremonyStep::NotBegun,
        Step::Joining => CeremonyStep::Joining,
        Step::Dealing => CeremonyStep::Dealing,
        Step::Reporting => CeremonyStep::Reporting,
        Step::Signing => CeremonyStep::Signing,
        Step::Proving => CeremonyStep::Proving,
        Step::Done => CeremonyStep::Done,
    }
}
