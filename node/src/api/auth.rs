//! Who is calling: from the TLS client certificate to a member or an operator of the view.
//!
//! # Relies on
//!
//! The TLS handshake proved that the caller holds the certificate's key ([`fairpost_api::tls`]).
//!
//! # Guarantees
//!
//! Only a certificate with a binding that the identity key of a member (or operator) signed passes for that member (or
//! operator): [`Gate::member`], [`Gate::operator`], [`Gate::operator_alone`].

use std::sync::Arc;

use ed25519_dalek::VerifyingKey;
use fairpost_api::tls::{ConnectInfo, PeerCertificate};
use fairpost_proto::chain;
use fairpost_proto::ids::KeyId;
use fairpost_proto::view::View;
use tonic::{Request, Status};

/// Tells members and operators from everybody else.
#[derive(Clone)]
pub struct Gate {
    view: Arc<View>,
}

impl Gate {
    /// The gate of this view.
    pub const fn new(view: Arc<View>) -> Self {
        Self { view }
    }

    /// The index of the member that calls.
    pub fn member<T>(&self, request: &Request<T>) -> Result<u16, Status> {
        let certificate = certificate(request)?;
        let key = certificate.identity_key_id();
        let (index, member) = self.view.member_by_key(key).ok_or_else(|| {
            refuse(format!("only members may call this, and {key} is none in epoch {}", self.view.epoch()))
        })?;
        certificate.speaks_for(&member.identity).map_err(|error| refuse(error.to_string()))?;
        Ok(index)
    }

    /// Whether this is the certificate of a member or an operator.
    pub fn knows(&self, certificate: &PeerCertificate) -> bool {
        let key = certificate.identity_key_id();
        let member = self.view.member_by_key(key).map(|(_, member)| &member.identity);
        let operator =
            || self.view.constitution().operators.iter().find(|operator| chain::key_id(operator) == key);
        member.or_else(operator).is_some_and(|identity| certificate.speaks_for(identity).is_ok())
    }

    /// That an operator calls, and no member; gives the operator's key.
    pub fn operator_alone<T>(&self, request: &Request<T>) -> Result<KeyId, Status> {
        let certificate = certificate(request)?;
        let key = certificate.identity_key_id();
        let operator = self.find_operator(key).ok_or_else(|| {
            refuse(format!("only operators may call this, and {key} is none in epoch {}", self.view.epoch()))
        })?;
        certificate.speaks_for(operator).map_err(|error| refuse(error.to_string()))?;
        Ok(key)
    }

    fn find_operator(&self, key: KeyId) -> Option<&VerifyingKey> {
        self.view.constitution().operators.iter().find(|operator| chain::key_id(operator) == key)
    }

    /// That an operator or a member calls.
    pub fn operator<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let certificate = certificate(request)?;
        let key = certificate.identity_key_id();
        match self.find_operator(key) {
            Some(operator) => certificate.speaks_for(operator).map_err(|error| refuse(error.to_string())),
            None if self.view.member_by_key(key).is_some() => self.member(request).map(|_| ()),
            None => {
                let epoch = self.view.epoch();
                Err(refuse(format!(
                    "only operators and members may call this, and {key} is neither in epoch {epoch}"
                )))
            }
        }
    }
}

fn certificate<T>(request: &Request<T>) -> Result<Arc<PeerCertificate>, Status> {
    let info = request.extensions().get::<ConnectInfo>();
    info.and_then(|info| info.peer.clone()).ok_or_else(|| {
        super::metrics::rejected("no_client_certificate");
        Status::unauthenticated(
            "this service asks for a TLS client certificate bound to a member's or operator's key",
        )
    })
}

fn refuse(message: String) -> Status {
    super::metrics::rejected("stranger");
    Status::permission_denied(message)
}
