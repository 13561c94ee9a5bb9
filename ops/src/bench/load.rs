//! Clients in a closed loop: each asks for its next exchange as soon as it has all of the last one.
//!
//! They share a machine with the nodes, so they do as little as they can: all on one thread, over few connections. Only the
//! request is signed while the clock runs, because it has to be signed within minutes of its use.

use std::cell::Cell;
use std::time::{Duration, Instant};

use fairpost::identity::{self, Identity};
use fairpost_api::tls::{ChannelOptions, Pin, Target, TargetError, channel, client_config, connect_error};
use fairpost_api::v1::exchange_client::ExchangeClient;
use fairpost_api::v1::{PartyRequest, ProofParts, State};
use fairpost_proto::ids::{ClusterId, Digest, ExchangeId};
use fairpost_proto::request::{self, Method};
use fairpost_proto::view::View;
use futures::future::try_join_all;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use super::people::People;
use super::prepare::{Prepared, random};
use crate::operator;

/// How long one call may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long an exchange may take, calls that are made again included.
const LIMIT: Duration = Duration::from_secs(60);
/// How long to wait before a call is made again, where the node does not say.
const PAUSE: Duration = Duration::from_millis(50);

/// Why the load ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A member's address is none.
    #[error("the address of member {member}: {source}")]
    Address {
        /// The member.
        member: String,
        /// What is wrong with its address.
        source: TargetError,
    },
    /// TLS can't be set up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// A request can't be signed.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// A node refused what it should have taken, or never took it.
    #[error("{node} did not {method} exchange {exchange}: {problem}")]
    Call {
        /// The node.
        node: String,
        /// What it was asked for.
        method: Method,
        /// About which exchange.
        exchange: ExchangeId,
        /// What it said.
        problem: String,
    },
}

/// An exchange that was answered.
pub(super) struct Done {
    /// Its place among the exchanges that were prepared.
    pub(super) place: usize,
    /// When the last answer was there.
    pub(super) at: Instant,
    /// From the recipient's request to the token.
    pub(super) redeem: Duration,
    /// From the sender's request to the proof; none if none was asked for.
    pub(super) proof: Option<Duration>,
    /// The token, as it came.
    pub(super) token: Vec<u8>,
}

struct Node {
    name: String,
    clients: Vec<ExchangeClient<Channel>>,
}

/// The nodes, and connections to each.
pub(super) struct Nodes {
    cluster: ClusterId,
    nodes: Vec<Node>,
}

/// Exchanges to be taken, each once, and when to stop.
pub(super) struct Work<'a> {
    exchanges: &'a [Prepared],
    next: Cell<usize>,
    /// Calls that were made again.
    pub(super) again: Cell<u64>,
    stop: tokio::sync::watch::Sender<bool>,
}

impl<'a> Work<'a> {
    pub(super) fn new(exchanges: &'a [Prepared]) -> Self {
        Self {
            exchanges,
            next: Cell::new(0),
            again: Cell::new(0),
            stop: tokio::sync::watch::Sender::new(false),
        }
    }

    /// No client takes another exchange.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until it was stopped, or the exchanges ran out.
    pub(super) async fn stopped(&self) {
        // This holds the sender: it can't be gone.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    fn take(&self) -> Option<(usize, &'a Prepared)> {
        if *self.stop.borrow() {
            return None;
        }
        let place = self.next.replace(self.next.get() + 1);
        let taken = self.exchanges.get(place);
        if taken.is_none() {
            self.stop();
        }
        taken.map(|exchange| (place, exchange))
    }
}

impl Nodes {
    /// So many connections to each member; they are made when they are first used. Must be called in a Tokio runtime.
    pub(super) fn new(view: &View, connections: usize) -> Result<Self, Error> {
        let nodes = view.members().iter().map(|member| {
            let target: Target = member
                .address
                .parse()
                .map_err(|source| Error::Address { member: member.name.clone(), source })?;
            let tls = client_config(Pin::Identity(member.identity), None)?;
            let options = ChannelOptions { request_timeout: Some(PATIENCE), ..ChannelOptions::default() };
            let clients = (0..connections.max(1))
                .map(|_| ExchangeClient::new(channel(&target, tls.clone(), options)))
                .collect();
            Ok(Node { name: member.name.clone(), clients })
        });
        Ok(Self { cluster: view.cluster(), nodes: nodes.collect::<Result<_, Error>>()? })
    }

    /// Runs so many clients until the work is stopped or done; gives what they have done, in no order.
    pub(super) async fn run(
        &self,
        people: &People,
        work: &Work<'_>,
        clients: usize,
        proof: bool,
    ) -> Result<Vec<Done>, Error> {
        let done = try_join_all((0..clients).map(|client| self.client(people, work, client, proof))).await?;
        Ok(done.into_iter().flatten().collect())
    }

    async fn client(
        &self,
        people: &People,
        work: &Work<'_>,
        client: usize,
        proof: bool,
    ) -> Result<Vec<Done>, Error> {
        let mut all = Vec::new();
        // Each client goes round the nodes, and they do not all begin with the same.
        let mut turn = client;
        while let Some((place, exchange)) = work.take() {
            let Some((sender, recipient)) = people.pair(exchange.number) else { break };
            let started = Instant::now();
            let token = self.redeem(work, recipient, exchange, &mut turn).await?;
            let redeemed = Instant::now();
            let mut done = Done { place, at: redeemed, redeem: redeemed - started, proof: None, token };
            if proof {
                let parts = self.proof(work, sender, exchange, &mut turn).await?;
                if parts.token != done.token {
                    return Err(self.fault(turn, Method::Proof, exchange, "its token is another one".into()));
                }
                done.at = Instant::now();
                done.proof = Some(done.at - redeemed);
            }
            all.push(done);
            turn += 1;
        }
        Ok(all)
    }

    /// The recipient hands in the receipt; gives the token.
    async fn redeem(
        &self,
        work: &Work<'_>,
        recipient: &Identity,
        exchange: &Prepared,
        turn: &mut usize,
    ) -> Result<Vec<u8>, Error> {
        let ask = async |mut client: ExchangeClient<Channel>, request| client.redeem(request).await;
        let body = exchange.redeem_body;
        let answer =
            self.call(work, recipient, exchange, Method::Redeem, body, &exchange.nrr, turn, ask).await?;
        match answer.state() {
            State::Released => Ok(answer.token),
            other => {
                Err(self.fault(*turn, Method::Redeem, exchange, format!("it says {}", other.as_str_name())))
            }
        }
    }

    /// The sender asks the same node for all parts of the proof.
    pub(super) async fn proof(
        &self,
        work: &Work<'_>,
        sender: &Identity,
        exchange: &Prepared,
        turn: &mut usize,
    ) -> Result<ProofParts, Error> {
        let ask = async |mut client: ExchangeClient<Channel>, request| client.get_proof(request).await;
        self.call(work, sender, exchange, Method::Proof, exchange.proof_body, &[], turn, ask).await
    }

    /// Calls the node whose turn it is; while that has no room or no quorum, again, and the next one.
    #[expect(
        clippy::too_many_arguments,
        reason = "private, and one struct for one caller would hide as much"
    )]
    async fn call<T>(
        &self,
        work: &Work<'_>,
        signer: &Identity,
        exchange: &Prepared,
        method: Method,
        body: Digest,
        evidence: &[u8],
        turn: &mut usize,
        ask: impl AsyncFn(ExchangeClient<Channel>, Request<PartyRequest>) -> Result<tonic::Response<T>, Status>,
    ) -> Result<T, Error> {
        let started = Instant::now();
        loop {
            let signed = signer.sign(request::Request {
                cluster: self.cluster,
                method,
                exchange: exchange.exchange,
                body,
                time: operator::now(),
                nonce: random(),
            })?;
            let mut request = Request::new(PartyRequest {
                request: signed.bytes().to_vec(),
                nro: exchange.nro.clone(),
                evidence: evidence.to_vec(),
            });
            request.set_timeout(PATIENCE);
            let Some(client) = self.connection(*turn) else {
                return Err(self.fault(*turn, method, exchange, "there is no such node".into()));
            };
            match ask(client, request).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) if is_passing(&status) && started.elapsed() < LIMIT => {
                    let info = status.get_details_retry_info();
                    tokio::time::sleep(info.and_then(|info| info.retry_delay).unwrap_or(PAUSE)).await;
                    work.again.set(work.again.get() + 1);
                    *turn += 1;
                }
                Err(status) => return Err(self.fault(*turn, method, exchange, explain(&status))),
            }
        }
    }

    fn node(&self, turn: usize) -> Option<&Node> {
        self.nodes.get(turn % self.nodes.len().max(1))
    }

    fn connection(&self, turn: usize) -> Option<ExchangeClient<Channel>> {
        let node = self.node(turn)?;
        node.clients.get(turn / self.nodes.len().max(1) % node.clients.len().max(1)).cloned()
    }

    fn fault(&self, turn: usize, method: Method, exchange: &Prepared, problem: String) -> Error {
        let node = self.node(turn).map(|node| node.name.clone()).unwrap_or_default();
        Error::Call { node, method, exchange: exchange.exchange, problem }
    }
}

/// Whether asking again may help.
fn is_passing(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded)
}

fn explain(status: &Status) -> String {
    match connect_error(status) {
        Some(error) => error.to_string(),
        None => format!("{:?}: {}", status.code(), status.message()),
    }
}
