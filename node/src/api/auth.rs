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
use fairpost_proto::proposal::Proposal;
use fairpost_proto::view::{Member, View};
use tonic::{Request, Status};

/// Tells members and operators from everybody else.
#[derive(Clone)]
pub struct Gate(Arc<Roster>);

/// Who is somebody.
struct Roster {
    members: Vec<(KeyId, VerifyingKey)>,
    operators: Vec<(KeyId, VerifyingKey)>,
    /// Where these are named.
    named_in: String,
}

impl Roster {
    fn new(members: &[Member], operators: &[VerifyingKey], named_in: String) -> Arc<Self> {
        Arc::new(Self {
            members: members.iter().map(|member| (member.key_id(), member.identity)).collect(),
            operators: operators.iter().map(|key| (chain::key_id(key), *key)).collect(),
            named_in,
        })
    }

    fn member(&self, found: KeyId) -> Option<(u16, &VerifyingKey)> {
        let place = self.members.iter().position(|(key, _)| *key == found)?;
        Some((u16::try_from(place).ok()?, &self.members.get(place)?.1))
    }

    fn operator(&self, found: KeyId) -> Option<&VerifyingKey> {
        self.operators.iter().find(|(key, _)| *key == found).map(|(_, identity)| identity)
    }
}

impl Gate {
    /// The gate of this view.
    pub fn new(view: &View) -> Self {
        let operators = &view.constitution().operators;
        Self(Roster::new(view.members(), operators, format!("epoch {}", view.epoch())))
    }

    /// The gate before there is a view: for those whom the proposal names.
    pub fn of_proposal(proposal: &Proposal) -> Self {
        Self(Roster::new(proposal.members(), &proposal.draft().operators, "the proposal".into()))
    }

    /// The index of the member that calls.
    pub fn member<T>(&self, request: &Request<T>) -> Result<u16, Status> {
        let certificate = certificate(request)?;
        let key = certificate.identity_key_id();
        let (index, identity) = self.0.member(key).ok_or_else(|| {
            refuse(format!("only members may call this, and {key} is none in {}", self.0.named_in))
        })?;
        certificate.speaks_for(identity).map_err(|error| refuse(error.to_string()))?;
        Ok(index)
    }

    /// Whether this is the certificate of a member or an operator.
    pub fn knows(&self, certificate: &PeerCertificate) -> bool {
        let key = certificate.identity_key_id();
        let member = self.0.member(key).map(|(_, identity)| identity);
        let known = member.or_else(|| self.0.operator(key));
        known.is_some_and(|identity| certificate.speaks_for(identity).is_ok())
    }

    /// That an operator calls, and no member; gives the operator's key.
    pub fn operator_alone<T>(&self, request: &Request<T>) -> Result<KeyId, Status> {
        let certificate = certificate(request)?;
        let key = certificate.identity_key_id();
        let operator = self.0.operator(key).ok_or_else(|| {
            refuse(format!("only operators may call this, and {key} is none in {}", self.0.named_in))
        })?;
        certificate.speaks_for(operator).map_err(|error| refuse(error.to_string()))?;
        Ok(key)
    }

    /// That an operator or a member calls.
    pub fn operator<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let certificate = certificate(request)?;
        let key = certificate.identity_key_id();
        match self.0.operator(key) {
            Some(operator) => certificate.speaks_for(operator).map_err(|error| refuse(error.to_string())),
            None if self.0.member(key).is_some() => self.member(request).map(|_| ()),
            None => Err(refuse(format!(
                "only operators and members may call this, and {key} is neither in {}",
                self.0.named_in
            ))),
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
