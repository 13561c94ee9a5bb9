//! The service for everybody: what this cluster and this node are.

use std::sync::Arc;

use fairpost_api::v1::cluster_server::Cluster;
use fairpost_api::v1::{GetNodeRequest, GetNodeResponse, GetTrustRequest, GetTrustResponse};
use fairpost_proto::trust::Trust;
use tonic::{Request, Response, Status};

use crate::clock;

/// The service.
pub struct ClusterService {
    /// This node's name.
    pub name: String,
    /// The genesis and views.
    pub trust: Arc<Trust>,
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn get_trust(&self, _: Request<GetTrustRequest>) -> Result<Response<GetTrustResponse>, Status> {
        Ok(Response::new(GetTrustResponse { trust: self.trust.to_bytes() }))
    }

    async fn get_node(&self, _: Request<GetNodeRequest>) -> Result<Response<GetNodeResponse>, Status> {
        Ok(Response::new(GetNodeResponse {
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster: self.trust.cluster().as_bytes().to_vec(),
            server_time_millis: clock::now().millis(),
        }))
    }
}
