//! Looks at the nodes while they work: what they have used, what they have measured.

use std::time::{Duration, Instant};

use fairpost_api::tls::ChannelOptions;
use fairpost_api::v1::admin_client::AdminClient;
use fairpost_api::v1::{GetMetricsRequest, GetNodeStatusRequest, NodeStatus};
use fairpost_proto::view::View;
use futures::future::try_join_all;
use tonic::transport::Channel;

use super::numbers::{self, Histograms};
use crate::operator::{self, Operator};

/// A member does not tell how it is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no connection to be had.
    #[error(transparent)]
    Operator(#[from] operator::Error),
    /// It did not answer.
    #[error("{name} does not tell how it is: {problem}")]
    Silent {
        /// The member.
        name: String,
        /// What it said.
        problem: String,
    },
}

/// An operator's connections to all members.
pub(super) struct Watch(Vec<(String, AdminClient<Channel>)>);

/// How one node was at one moment.
pub(super) struct Look {
    pub(super) at: Instant,
    pub(super) status: NodeStatus,
    pub(super) histograms: Histograms,
}

impl Watch {
    pub(super) fn new(operator: &Operator, view: &View, patience: Duration) -> Result<Self, Error> {
        let options = ChannelOptions { request_timeout: Some(patience), ..ChannelOptions::default() };
        let members = view.members().iter();
        let clients = members
            .map(|member| Ok((member.name.clone(), AdminClient::new(operator.channel(member, options)?))));
        Ok(Self(clients.collect::<Result<_, Error>>()?))
    }

    /// Looks at all nodes at once; one look each, in the view's order.
    pub(super) async fn look(&self) -> Result<Vec<Look>, Error> {
        try_join_all(self.0.iter().map(|(name, client)| async move {
            let silent = |status: tonic::Status| Error::Silent {
                name: name.clone(),
                problem: format!("{:?}: {}", status.code(), status.message()),
            };
            let mut client = client.clone();
            let status = client.get_node_status(GetNodeStatusRequest {}).await.map_err(silent)?.into_inner();
            let at = Instant::now();
            let metrics = client.get_metrics(GetMetricsRequest {}).await.map_err(silent)?.into_inner();
            Ok(Look { at, status, histograms: numbers::parse(&metrics.prometheus) })
        }))
        .await
    }
}
