//! Asking the members.

use std::error::Error as _;
use std::time::{Duration, Instant};

use fairpost_api::tls::{ChannelOptions, connect_error};
use fairpost_api::v1::admin_client::AdminClient;
use fairpost_api::v1::{GetNodeStatusRequest, NodeStatus};
use fairpost_proto::view::{Member, View};
use futures::future::join_all;

use crate::operator::{self, Operator};

/// What came of asking one member.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The member's name in the view.
    pub name: String,
    /// Its address in the view.
    pub address: String,
    /// Its answer, or why there is none.
    pub outcome: Result<Answer, String>,
}

/// A member's answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// How it is, in its own words.
    pub status: NodeStatus,
    /// How far its clock is ahead of this machine's, in milliseconds, half the round trip assumed each way.
    pub clock_offset_millis: i64,
    /// How long the answer took.
    pub round_trip: Duration,
}

/// Asks every member of `view`, each for at most `patience`.
pub async fn probe(operator: &Operator, view: &View, patience: Duration) -> Vec<Probe> {
    join_all(view.members().iter().map(|member| async move {
        let outcome = match tokio::time::timeout(patience, ask(operator, member, patience)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(format!("no answer within {patience:?}")),
        };
        Probe { name: member.name.clone(), address: member.address.clone(), outcome }
    }))
    .await
}

async fn ask(operator: &Operator, member: &Member, patience: Duration) -> Result<Answer, String> {
    let options = ChannelOptions {
        connect_timeout: patience,
        request_timeout: Some(patience),
        ..ChannelOptions::default()
    };
    let channel = operator.channel(member, options).map_err(|error| error.to_string())?;
    let mut client = AdminClient::new(channel);
    // The first call also connects; the second alone is timed.
    client.get_node_status(GetNodeStatusRequest {}).await.map_err(|status| explain(&status))?;
    let (asked, sent) = (operator::now(), Instant::now());
    let answer = client.get_node_status(GetNodeStatusRequest {}).await.map_err(|status| explain(&status))?;
    let (status, round_trip) = (answer.into_inner(), sent.elapsed());
    let clock_offset_millis = offset(asked.millis(), round_trip, status.server_time_millis);
    Ok(Answer { status, clock_offset_millis, round_trip })
}

/// How far the server's clock is ahead, if it looked at it half-way through the round trip.
fn offset(asked_millis: u64, round_trip: Duration, server_millis: u64) -> i64 {
    let half = u64::try_from(round_trip.as_millis() / 2).unwrap_or(u64::MAX);
    let here = asked_millis.saturating_add(half);
    let distance = i64::try_from(server_millis.abs_diff(here)).unwrap_or(i64::MAX);
    if server_millis >= here { distance } else { -distance }
}

pub(crate) fn explain(status: &tonic::Status) -> String {
    match connect_error(status) {
        Some(error) => error.to_string(),
        None => match (status.message(), status.source()) {
            ("", None) => status.code().description().to_owned(),
            ("", Some(source)) => source.to_string(),
            (message, _) => message.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_allows_for_half_the_round_trip() {
        let trip = Duration::from_millis(10);
        assert_eq!(offset(1_000, trip, 1_005), 0);
        assert_eq!(offset(1_000, trip, 3_005), 2_000);
        assert_eq!(offset(10_000, trip, 9_005), -1_000);
        assert_eq!(offset(0, trip, u64::MAX), i64::MAX);
    }
}
