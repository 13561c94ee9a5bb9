//! This node's calls to the other members of a proposal.

use std::time::Duration;

use fairpost_api::tls::Credentials;
use fairpost_api::v1::ceremony_client::CeremonyClient;
use fairpost_api::v1::{GetProgressRequest, GetTranscriptRequest, SubmitRequest};
use fairpost_proto::ceremony::Transcript;
use fairpost_proto::proposal::Proposal;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::api::peers::{Error, connect};

/// How long a call may take: an order waits for a majority's disks.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a transcript may take.
const TRANSCRIPT: Duration = Duration::from_secs(60);

/// The members of a proposal, by index.
pub struct Peers(Vec<CeremonyClient<Channel>>);

impl Peers {
    /// Prepares a connection to each.
    ///
    /// # Errors
    ///
    /// If an address is none, or the credentials can't be used.
    pub fn new(proposal: &Proposal, credentials: &Credentials) -> Result<Self, Error> {
        let client = |member| connect(member, credentials).map(CeremonyClient::new);
        Ok(Self(proposal.members().iter().map(client).collect::<Result<_, _>>()?))
    }

    /// Has a member order a message, which it does only if it leads. Gives why the message does not count, or nothing.
    ///
    /// # Errors
    ///
    /// Why it was not ordered.
    pub async fn submit(&self, member: u16, message: Vec<u8>) -> Result<String, String> {
        let mut request = Request::new(SubmitRequest { message, passed_on: true });
        request.set_timeout(TIMEOUT);
        let answer = self.client(member)?.submit(request).await.map_err(|status| describe(&status))?;
        Ok(answer.into_inner().refusal)
    }

    /// The transcript that a member has, if it has finished. Nothing in it is checked.
    ///
    /// # Errors
    ///
    /// If the member does not answer, or not with a transcript.
    pub async fn transcript(&self, member: u16) -> Result<Option<Transcript>, String> {
        let mut request = Request::new(GetProgressRequest {});
        request.set_timeout(TIMEOUT);
        let mut client = self.client(member)?;
        let progress = client.get_progress(request).await.map_err(|status| describe(&status))?;
        if progress.into_inner().trust.is_empty() {
            return Ok(None);
        }
        let mut request = Request::new(GetTranscriptRequest {});
        request.set_timeout(TRANSCRIPT);
        let mut parts =
            client.get_transcript(request).await.map_err(|status| describe(&status))?.into_inner();
        let mut bytes = Vec::new();
        while let Some(part) = parts.message().await.map_err(|status| describe(&status))? {
            bytes.extend(part.bytes);
            if bytes.len() > Transcript::MAX_BYTES {
                return Err("a transcript without end".into());
            }
        }
        // Its points are checked: not on the threads that keep the network going.
        let parsed = tokio::task::spawn_blocking(move || Transcript::parse(&bytes)).await;
        parsed.map_err(|error| error.to_string())?.map(Some).map_err(|error| error.to_string())
    }

    /// How many members there are.
    pub const fn count(&self) -> usize {
        self.0.len()
    }

    fn client(&self, member: u16) -> Result<CeremonyClient<Channel>, String> {
        self.0.get(usize::from(member)).cloned().ok_or_else(|| format!("there is no member {member}"))
    }
}

fn describe(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}
