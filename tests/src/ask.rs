//! Calls made by hand, to one node and no other: what no honest client sends, and what only this node can answer.

use fairpost::identity::Identity;
use fairpost_api::GROUP;
use fairpost_api::v1::exchange_client::ExchangeClient;
use fairpost_api::v1::{Outcome, PartyRequest, ProofParts, ShareParts, State};
use fairpost_proto::cose::Signed;
use fairpost_proto::evidence::Nro;
use fairpost_proto::ids::ClusterId;
use fairpost_proto::request::{self, Method, Request};
use rand::RngCore as _;
use tonic::Status;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;

use crate::within;

/// The request that an honest party would sign now.
pub fn request(cluster: ClusterId, method: Method, nro: &Signed<Nro>, evidence: Option<&[u8]>) -> Request {
    let mut nonce = [0; 16];
    rand::rngs::OsRng.fill_bytes(&mut nonce);
    Request {
        cluster,
        method,
        exchange: nro.payload().terms.exchange(),
        body: request::body_digest(nro.bytes(), evidence),
        time: fairpost::now(),
        nonce,
    }
}

/// The message around a request that `signer` signs.
pub fn envelope(
    signer: &Identity,
    request: Request,
    nro: &[u8],
    evidence: Option<&[u8]>,
) -> anyhow::Result<PartyRequest> {
    let request = signer.sign(request)?.bytes().to_vec();
    Ok(PartyRequest { request, nro: nro.to_vec(), evidence: evidence.unwrap_or_default().to_vec() })
}

/// Calls a method that answers with an outcome; for the proof, see [`get_proof`].
pub async fn call(node: &Channel, method: Method, message: PartyRequest) -> Result<Outcome, Status> {
    let mut client = ExchangeClient::new(node.clone());
    let asking = async {
        match method {
            Method::Redeem => client.redeem(message).await,
            Method::Withdraw => client.withdraw(message).await,
            Method::Refuse => client.refuse(message).await,
            Method::Status | Method::Proof => client.get_status(message).await,
        }
    };
    let answer = within("an answer", asking).await;
    answer.unwrap_or_else(|late| Err(Status::cancelled(late.to_string()))).map(tonic::Response::into_inner)
}

/// Asks one node for the parts of a proof.
pub async fn get_proof(
    node: &Channel,
    cluster: ClusterId,
    party: &Identity,
    nro: &Signed<Nro>,
) -> anyhow::Result<ProofParts> {
    let message = envelope(party, request(cluster, Method::Proof, nro, None), nro.bytes(), None)?;
    let mut client = ExchangeClient::new(node.clone());
    Ok(within("a proof", client.get_proof(message)).await??.into_inner())
}

/// Calls for one node's share.
pub async fn get_share(node: &Channel, message: PartyRequest) -> Result<ShareParts, Status> {
    let mut client = ExchangeClient::new(node.clone());
    let answer = within("a share", client.get_share(message)).await;
    answer.unwrap_or_else(|late| Err(Status::cancelled(late.to_string()))).map(tonic::Response::into_inner)
}

/// Whether this node says that the exchange is undecided.
pub async fn undecided(
    node: &Channel,
    cluster: ClusterId,
    party: &Identity,
    nro: &Signed<Nro>,
) -> anyhow::Result<bool> {
    let message = envelope(party, request(cluster, Method::Status, nro, None), nro.bytes(), None)?;
    Ok(call(node, Method::Status, message).await?.state() == State::Undecided)
}

/// A call to `Consensus` for this Raft.
pub fn about<T>(group: ClusterId, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert_bin(GROUP, MetadataValue::from_bytes(group.as_bytes()));
    request
}
