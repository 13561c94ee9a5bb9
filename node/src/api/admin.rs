//! The service for operators.

use std::time::Instant;

use fairpost_api::v1::admin_server::Admin;
use fairpost_api::v1::{
    Blames, ClearBlameRequest, ClearBlameResponse, GetBlamesRequest, GetMetricsRequest, GetNodeStatusRequest,
    GetRefusalsRequest, Metrics, NodeStatus, Refusals, ShareState,
};
use metrics_exporter_prometheus::PrometheusHandle;
use tonic::{Request, Response, Status};

use super::auth::Gate;
use super::blame;
use super::contact::Contact;
use super::error;
use crate::clock;
use crate::health::Health;
use crate::usage;

/// The service.
pub struct AdminService {
    /// Who may call.
    pub gate: Gate,
    /// This node's name.
    pub name: String,
    /// Everything that a status tells of.
    pub contact: Contact,
    /// Whether this node is ready.
    pub health: Health,
    /// When it started.
    pub started: Instant,
    /// What is measured here.
    pub metrics: PrometheusHandle,
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn get_node_status(
        &self,
        request: Request<GetNodeStatusRequest>,
    ) -> Result<Response<NodeStatus>, Status> {
        self.gate.operator(&request)?;
        let (raft, witness) = (self.contact.consensus.status(), &self.contact.witness);
        let state = self.contact.ledger.state();
        let leader =
            raft.leader.and_then(|leader| self.contact.view.members().get(usize::try_from(leader).ok()?));
        let not_ready = self.health.not_ready();
        Ok(Response::new(NodeStatus {
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role: raft.role.to_owned(),
            term: raft.term,
            leader: leader.map(|member| member.name.clone()).unwrap_or_default(),
            last_log_index: raft.last_log_index,
            applied_index: raft.applied_index,
            sequence: state.sequence,
            evidence_log_size: state.log.size(),
            evidence_log_root: state.log.root().as_bytes().to_vec(),
            share: if witness.may_sign() { ShareState::Working } else { ShareState::Closed }.into(),
            ready: not_ready.is_none(),
            not_ready_because: not_ready.unwrap_or_default(),
            server_time_millis: clock::now().millis(),
            uptime_seconds: self.started.elapsed().as_secs(),
            voted_sequence: witness.voted().map_err(|fault| error::internal(&fault))?,
            epoch: self.contact.view.epoch(),
            uncertified: witness.uncertified() as u64,
            cpu_seconds: usage::cpu().as_secs_f64(),
            resident_bytes: usage::resident_bytes(),
            blamed: witness.blame().names(),
        }))
    }

    async fn get_metrics(&self, request: Request<GetMetricsRequest>) -> Result<Response<Metrics>, Status> {
        self.gate.operator(&request)?;
        Ok(Response::new(Metrics { prometheus: self.metrics.render() }))
    }

    async fn get_blames(&self, request: Request<GetBlamesRequest>) -> Result<Response<Blames>, Status> {
        self.gate.operator(&request)?;
        let GetBlamesRequest { member } = request.into_inner();
        let view = &self.contact.view;
        let only = if member.is_empty() { None } else { Some(blame::member(view, &member)?) };
        Ok(Response::new(blame::all(view, self.contact.witness.blame(), only)))
    }

    async fn clear_blame(
        &self,
        request: Request<ClearBlameRequest>,
    ) -> Result<Response<ClearBlameResponse>, Status> {
        // A member could clear itself.
        let by = self.gate.operator_alone(&request)?;
        let member = blame::member(&self.contact.view, &request.into_inner().member)?;
        let cleared = self.contact.witness.blame().clear(member, by).await;
        let records = cleared.map_err(|stopped| error::unavailable(stopped.to_string()))?;
        Ok(Response::new(ClearBlameResponse { records }))
    }

    async fn get_refusals(&self, request: Request<GetRefusalsRequest>) -> Result<Response<Refusals>, Status> {
        self.gate.operator(&request)?;
        let refusals = self.contact.witness.refusals();
        Ok(Response::new(Refusals { refusals: refusals.iter().map(blame::refusal).collect() }))
    }
}
