//! A member with real keys that lies: it stands in the place of a node, and gives wrong shares to whoever asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use ed25519_dalek::SigningKey;
use fairpost_api::tls::{
    ChannelOptions, Credentials, Incoming, IncomingOptions, Pin, Target, channel, client_config,
    server_config,
};
use fairpost_api::v1::peer_client::PeerClient;
use fairpost_api::v1::peer_server::{Peer, PeerServer};
use fairpost_api::v1::{
    BallotVote, CastVotesRequest, CastVotesResponse, ForwardRequest, ForwardResponse, GetNewestRequest,
    GetNewestResponse, GetSharesRequest, GetSharesResponse, GetStatementRequest, GetStatementResponse,
    GetVotesRequest, GetVotesResponse, ShareResult, SuspectRequest, SuspectResponse,
};
use fairpost_node::config::Config;
use fairpost_node::membership::{KeySource as _, ShareFile, read_private};
use fairpost_ops::operator::read_key;
use fairpost_proto::chain;
use fairpost_proto::cose::Signed;
use fairpost_proto::ids::{ClusterId, ExchangeId, KeyId, Verdict};
use fairpost_proto::threshold::{KeyShare, Message};
use fairpost_proto::vote::Vote;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status, Streaming};

use crate::{Cluster, within};

/// A member that lies.
pub struct Rogue {
    identity: SigningKey,
    credentials: Credentials,
    asked: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Rogue {
    /// Takes the place of the node at `index`, which must not run.
    pub async fn start(cluster: &Cluster, index: usize) -> anyhow::Result<Self> {
        let config = Config::load(&cluster.nodes.get(index).context("no such node")?.config)?;
        let identity = read_key(&config.identity)?;
        let credentials = Credentials::from_pem(&read_private(&config.tls)?)?;
        let share = ShareFile::open(&config.share, cluster.trust.view(), &config.name)?;
        let secret = KeyShare::from_bytes(&share.share().context("it has no share")?.to_bytes())?;
        let asked = Arc::<AtomicUsize>::default();
        let liar = Liar { cluster: cluster.trust.cluster(), share: secret, asked: Arc::clone(&asked) };
        let listener = TcpListener::bind(config.listen).await?;
        let tls = Arc::new(server_config(&credentials)?.into());
        let incoming = Incoming::new(listener, tls, IncomingOptions::default());
        let server = Server::builder().add_service(PeerServer::new(liar));
        let serving = tokio::spawn(async move { drop(server.serve_with_incoming(incoming).await) });
        Ok(Self { identity, credentials, asked, serving })
    }

    /// For how many shares it was asked so far.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// A connection to a node with this member's certificate.
    pub fn channel(&self, cluster: &Cluster, node: usize) -> anyhow::Result<Channel> {
        let member = cluster.trust.view().members().get(node).context("no such member")?;
        let target: Target = member.address.parse()?;
        let config = client_config(Pin::Identity(member.identity), Some(&self.credentials))?;
        Ok(channel(&target, config, ChannelOptions::default()))
    }

    /// This vote, signed by this member.
    pub fn sign(&self, vote: Vote) -> Signed<Vote> {
        self.forge(vote, chain::key_id(&self.identity.verifying_key()))
    }

    /// This vote, signed by this member in the name of another.
    pub fn forge(&self, vote: Vote, name: KeyId) -> Signed<Vote> {
        Signed::sign(vote, name, &self.identity)
    }

    /// A vote that the node has on an entry, of whichever member, and the leaves that it is for.
    pub async fn peek(
        &self,
        cluster: &Cluster,
        node: usize,
        sequence: u64,
    ) -> anyhow::Result<(Signed<Vote>, Vec<u8>)> {
        let mut peer = PeerClient::new(self.channel(cluster, node)?);
        let asking = peer.get_votes(GetVotesRequest { sequences: vec![sequence] });
        let answer = within("votes", asking).await??.into_inner();
        let vote = answer.votes.into_iter().next().context("the node has no vote")?;
        Ok((Signed::parse(&vote.vote)?, vote.leaves))
    }

    /// Sends votes to a node, and waits until it has taken them in.
    pub async fn cast(
        &self,
        cluster: &Cluster,
        node: usize,
        votes: &[(Signed<Vote>, Vec<u8>)],
    ) -> anyhow::Result<()> {
        let mut peer = PeerClient::new(self.channel(cluster, node)?);
        let votes = votes
            .iter()
            .map(|(vote, leaves)| BallotVote { vote: vote.bytes().to_vec(), leaves: leaves.clone() });
        let request = CastVotesRequest { votes: votes.collect(), acknowledgements: vec![] };
        within("casting votes", peer.cast_votes(stream::iter([request]))).await??;
        Ok(())
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What it serves.
struct Liar {
    cluster: ClusterId,
    share: KeyShare,
    asked: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl Peer for Liar {
    async fn forward(&self, _: Request<ForwardRequest>) -> Result<Response<ForwardResponse>, Status> {
        Err(Status::unavailable("it leads nobody"))
    }

    async fn suspect(&self, _: Request<SuspectRequest>) -> Result<Response<SuspectResponse>, Status> {
        Ok(Response::new(SuspectResponse {}))
    }

    async fn cast_votes(
        &self,
        request: Request<Streaming<CastVotesRequest>>,
    ) -> Result<Response<CastVotesResponse>, Status> {
        let mut votes = request.into_inner();
        while votes.next().await.transpose()?.is_some() {}
        Ok(Response::new(CastVotesResponse {}))
    }

    async fn get_votes(&self, _: Request<GetVotesRequest>) -> Result<Response<GetVotesResponse>, Status> {
        Ok(Response::new(GetVotesResponse::default()))
    }

    async fn get_statement(
        &self,
        _: Request<GetStatementRequest>,
    ) -> Result<Response<GetStatementResponse>, Status> {
        Err(Status::unavailable("it states nothing"))
    }

    async fn get_newest(&self, _: Request<GetNewestRequest>) -> Result<Response<GetNewestResponse>, Status> {
        Err(Status::unavailable("it tells nothing"))
    }

    type GetSharesStream = BoxStream<'static, Result<GetSharesResponse, Status>>;

    /// For every exchange, at once, its share of another verdict's token.
    async fn get_shares(
        &self,
        request: Request<GetSharesRequest>,
    ) -> Result<Response<Self::GetSharesStream>, Status> {
        let ids = request.into_inner().exchanges;
        let ids = ids.iter().filter_map(|id| ExchangeId::from_slice(id));
        let shares = ids.map(|exchange| {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let message = Message::Verdict { cluster: self.cluster, verdict: Verdict::Withdrawn, exchange };
            ShareResult {
                exchange: exchange.as_bytes().to_vec(),
                share: self.share.sign(&message).to_bytes().to_vec(),
                verdict: u32::from(Verdict::Released.code()),
            }
        });
        let answer = GetSharesResponse { shares: shares.collect() };
        Ok(Response::new(stream::iter([Ok(answer)]).boxed()))
    }
}
