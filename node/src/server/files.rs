//! The files that say who the node is: the cluster's trust, the identity key, the TLS key.

use std::sync::Arc;

use ed25519_dalek::pkcs8::DecodePrivateKey as _;
use ed25519_dalek::{SigningKey, VerifyingKey};
use fairpost_api::tls::Credentials;
use fairpost_proto::trust::Trust;
use fairpost_proto::view::View;
use fairpost_proto::{armor, chain};

use super::Error;
use crate::config::Config;
use crate::membership;

pub(super) fn load_trust(config: &Config) -> Result<Trust, Error> {
    let path = &config.trust;
    let file = |problem: String| Error::File { what: "the trust file", path: path.clone(), problem };
    let text = std::fs::read_to_string(path).map_err(|error| file(error.to_string()))?;
    let bytes = armor::decode(armor::TRUST, &text).map_err(|error| file(error.to_string()))?;
    Trust::parse(&bytes).map_err(|source| Error::Trust { path: path.clone(), source })
}

pub(super) fn load_identity(config: &Config, view: &View) -> Result<(u16, Arc<SigningKey>), Error> {
    let (path, name) = (&config.identity, &config.name);
    let pem = membership::read_private(path)?;
    let key = SigningKey::from_pkcs8_pem(&pem).map_err(|error| Error::File {
        what: "the identity key",
        path: path.clone(),
        problem: error.to_string(),
    })?;
    let Some((index, member)) = view.member_by_name(name) else {
        let members: Vec<&str> = view.members().iter().map(|member| member.name.as_str()).collect();
        return Err(Error::NoMember { name: name.clone(), members: members.join(", ") });
    };
    let found = key.verifying_key();
    if member.identity != found {
        return Err(Error::Identity {
            path: path.clone(),
            name: name.clone(),
            trust: config.trust.clone(),
            expected: chain::key_id(&member.identity),
            found: chain::key_id(&found),
        });
    }
    Ok((index, Arc::new(key)))
}

/// The TLS key, which must speak for `identity`: with another one the node would run, and no member talk to it.
pub(super) fn load_credentials(config: &Config, identity: &VerifyingKey) -> Result<Credentials, Error> {
    let path = &config.tls;
    let pem = membership::read_private(path)?;
    let credentials = Credentials::from_pem(&pem).map_err(|error| Error::File {
        what: "the TLS key",
        path: path.clone(),
        problem: error.to_string(),
    })?;
    let speaks = credentials.certificate().speaks_for(identity);
    speaks.map_err(|source| Error::Binding { path: path.clone(), name: config.name.clone(), source })?;
    Ok(credentials)
}
