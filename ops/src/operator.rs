//! An operator's key: kept in a file of mode 0600, and shown to nodes through TLS.
//!
//! Files of identity keys are PKCS #8 in PEM (RFC 8410, RFC 7468), in the version that `openssl pkey` reads as well.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{self, DecodePrivateKey as _, EncodePrivateKey as _, KeypairBytes};
use fairpost_api::tls::{self, ChannelOptions, Credentials, CredentialsError, Pin, Target, TargetError};
use fairpost_node::membership::{self, read_private, write_private};
use fairpost_proto::ids::Timestamp;
use fairpost_proto::view::Member;
use tonic::transport::Channel;
use zeroize::Zeroize as _;

/// Why an operator's key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its file can't be read or written, or others may read it.
    #[error(transparent)]
    File(#[from] membership::Error),
    /// The file holds no key.
    #[error("{path} holds no Ed25519 key in PKCS #8 PEM: {source}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pkcs8::Error,
    },
    /// No TLS credentials can be made of it.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// TLS does not take the credentials.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// A member's address is none.
    #[error("the address of member {member}: {source}")]
    Address {
        /// The member.
        member: String,
        /// What is wrong with its address.
        source: TargetError,
    },
}

/// Who asks: TLS credentials that speak for an operator's key.
pub struct Operator {
    credentials: Credentials,
}

impl Operator {
    /// The operator whose key lies in the file `key`.
    pub fn open(key: &Path) -> Result<Self, Error> {
        let identity = read_key(key)?;
        Ok(Self { credentials: Credentials::generate(&identity, &[], now())? })
    }

    /// A channel to `member`, and to nobody else. It connects when it is first used.
    pub fn channel(&self, member: &Member, options: ChannelOptions) -> Result<Channel, Error> {
        let target: Target = member
            .address
            .parse()
            .map_err(|source| Error::Address { member: member.name.clone(), source })?;
        let config = tls::client_config(Pin::Identity(member.identity), Some(&self.credentials))?;
        Ok(tls::channel(&target, config, options))
    }
}

/// Reads an identity key from its file, if nobody but its owner may.
pub fn read_key(path: &Path) -> Result<SigningKey, Error> {
    let text = read_private(path)?;
    SigningKey::from_pkcs8_pem(&text).map_err(|source| Error::Key { path: path.to_owned(), source })
}

/// Writes an identity key to a file of mode 0600.
pub fn write_key(path: &Path, key: &SigningKey) -> Result<(), Error> {
    // Without the public key this is version 1 of the format, the one that every tool reads.
    let mut pair = KeypairBytes { secret_key: key.to_bytes(), public_key: None };
    let pem = pair.to_pkcs8_pem(LineEnding::LF);
    pair.secret_key.zeroize();
    Ok(write_private(path, &pem.map_err(|source| Error::Key { path: path.to_owned(), source })?)?)
}

/// What this machine's clock says.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).ok().and_then(Timestamp::from_millis).unwrap_or(Timestamp::EPOCH)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_comes_back_from_its_file_and_nobody_else_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("operator.key");
        let key = SigningKey::from_bytes(&[7; 32]);
        write_key(&path, &key).unwrap();
        assert_eq!(read_key(&path).unwrap().to_bytes(), key.to_bytes());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read_key(&path), Err(Error::File(membership::Error::Mode { mode: 0o640, .. }))));
    }

    #[test]
    fn the_file_is_the_form_of_rfc_8410() {
        // RFC 8410 §10.3, the example without a public key.
        let pem = "-----BEGIN PRIVATE KEY-----\n\
                   MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                   -----END PRIVATE KEY-----\n";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.key");
        write_private(&path, pem).unwrap();
        let key = read_key(&path).unwrap();
        write_key(&path, &key).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), pem);
    }
}
