//! Errors as clients see them: a gRPC status with details that a program can act on (AIP-193).

use std::collections::HashMap;
use std::time::Duration;

use fairpost_proto::{evidence, request};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::metrics;

/// The domain of every ErrorInfo.
const DOMAIN: &str = "fairpost";

/// A field of the request is malformed or does not verify.
pub fn bad_field(field: &'static str, reason: &'static str, message: String) -> Status {
    metrics::rejected(reason);
    let mut details = ErrorDetails::with_bad_request_violation(field, &message);
    details.set_error_info(reason.to_uppercase(), DOMAIN, HashMap::new());
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// The request is sound, and can't be granted as things are.
pub fn precondition(reason: &'static str, message: String, metadata: &[(&str, String)]) -> Status {
    metrics::rejected(reason);
    let metadata: HashMap<String, String> =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    let details = ErrorDetails::with_error_info(reason.to_uppercase(), DOMAIN, metadata);
    Status::with_error_details(Code::FailedPrecondition, message, details)
}

/// The caller is no party of the exchange.
pub fn stranger(message: String) -> Status {
    metrics::rejected("stranger");
    let details = ErrorDetails::with_error_info("STRANGER", DOMAIN, HashMap::new());
    Status::with_error_details(Code::PermissionDenied, message, details)
}

/// No quorum just now: asking again later, or another node, helps.
pub fn unavailable(message: impl Into<String>) -> Status {
    metrics::rejected("unavailable");
    let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(200)));
    Status::with_error_details(Code::Unavailable, message, details)
}

/// There is too much to do. Asking again after `retry` helps, or another node.
pub fn overloaded(what: &str, retry: Duration) -> Status {
    metrics::rejected("overloaded");
    let mut details = ErrorDetails::with_retry_info(Some(retry));
    details.set_error_info("OVERLOADED", DOMAIN, HashMap::new());
    let message = format!("{what}; ask again in {} ms, or ask another node", retry.as_millis());
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

/// Time ran out. What was asked may still happen; asking again is safe.
pub fn deadline(waited: Duration) -> Status {
    metrics::rejected("deadline");
    let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(200)));
    let message =
        format!("no verdict within {} ms; ask again, here or another node: it is safe", waited.as_millis());
    Status::with_error_details(Code::DeadlineExceeded, message, details)
}

/// This node fails.
pub fn internal(error: &dyn std::error::Error) -> Status {
    tracing::error!(%error, "a request failed for a fault of this node");
    metrics::rejected("internal");
    Status::internal("this node has a fault; its log says which. Ask another node")
}

/// Evidence that does not count.
pub fn evidence(field: &'static str, error: &evidence::Error) -> Status {
    use evidence::Error as E;
    let message = error.to_string();
    match error {
        E::Cose { .. } => bad_field(field, "malformed", message),
        E::Certificate { .. } | E::CertificateTooShort { .. } => bad_field(field, "certificate", message),
        E::ForeignKey { .. } | E::ForeignExchange { .. } | E::ForeignNro { .. } => {
            bad_field(field, "foreign", message)
        }
        E::ForeignCluster { .. } => precondition("other_cluster", message, &[]),
        E::Lifetime { .. } => precondition("lifetime", message, &[]),
        E::CreatedLater { .. } => precondition("created_later", message, &[]),
        E::Presence { .. } => bad_field(field, "presence", message),
    }
}

/// A request that is not taken.
pub fn request(error: &request::Error) -> Status {
    use request::Error as E;
    let message = error.to_string();
    match error {
        E::Cose(_) => bad_field("request", "malformed", message),
        E::Cluster { .. } => precondition("other_cluster", message, &[]),
        E::Method { .. } | E::Exchange { .. } | E::Body { .. } => bad_field("request", "foreign", message),
        E::Time { server, .. } => {
            precondition("clock", message, &[("server_time_millis", server.millis().to_string())])
        }
        E::Stranger { .. } | E::Certificate(_) => stranger(message),
    }
}
