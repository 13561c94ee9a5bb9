//! The files that say who the node is: the cluster's trust, the identity key, the TLS key.

use std::path::Path;
use std::sync::Arc;

use ed25519_dalek::pkcs8::DecodePrivateKey as _;
use ed25519_dalek::{SigningKey, VerifyingKey};
use fairpost_api::tls::Credentials;
use fairpost_proto::trust::Trust;
use fairpost_proto::view::{Member, View};
use fairpost_proto::{armor, chain};

use super::Error;
use crate::config::Config;
use crate::membership::{self, KeySource, NoShare, ShareFile, ceremony};

pub(super) fn load_trust(config: &Config) -> Result<Trust, Error> {
    let path = &config.trust;
    let file = |problem: String| Error::File { what: "the trust file", path: path.clone(), problem };
    if !path.exists() {
        return Err(Error::NoCluster { trust: path.clone(), proposal: config.proposal.clone() });
    }
    let text = std::fs::read_to_string(path).map_err(|error| file(error.to_string()))?;
    let bytes = armor::decode(armor::TRUST, &text).map_err(|error| file(error.to_string()))?;
    Trust::parse(&bytes).map_err(|source| Error::Trust { path: path.clone(), source })
}

/// The index of the member that this configuration is for, and its identity key; `named_in` is the file that names the
/// members.
pub(super) fn load_identity(
    config: &Config,
    members: &[Member],
    named_in: &Path,
) -> Result<(u16, Arc<SigningKey>), Error> {
    let (path, name) = (&config.identity, &config.name);
    let pem = membership::read_private(path)?;
    let key = SigningKey::from_pkcs8_pem(&pem).map_err(|error| Error::File {
        what: "the identity key",
        path: path.clone(),
        problem: error.to_string(),
    })?;
    let Some((index, member)) = (0..).zip(members).find(|(_, member)| member.name == *name) else {
        let members: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
        return Err(Error::NoMember { name: name.clone(), members: members.join(", ") });
    };
    let found = key.verifying_key();
    if member.identity != found {
        return Err(Error::Identity {
            path: path.clone(),
            name: name.clone(),
            trust: named_in.to_owned(),
            expected: chain::key_id(&member.identity),
            found: chain::key_id(&found),
        });
    }
    Ok((index, Arc::new(key)))
}

/// The share. Whoever was left out of the key ceremony has none.
pub(super) fn load_share(
    config: &Config,
    view: &View,
    made: &ceremony::Paths,
) -> Result<Box<dyn KeySource + Sync>, Error> {
    if !config.share.exists() && made.transcript.exists() {
        return Ok(Box::new(NoShare(view.constitution().commitment.clone())));
    }
    Ok(Box::new(ShareFile::open(&config.share, view, &config.name)?))
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
