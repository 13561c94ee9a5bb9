//! The rules of a handshake, for rustls.

use std::sync::{Arc, OnceLock};

use ed25519_dalek::VerifyingKey;
use fairpost_proto::chain;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError, ServerConfig,
    SignatureScheme, SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::credentials::Credentials;
use super::peer::{Error, PeerCertificate};

/// HTTP/2 (RFC 9113 §3.1); gRPC speaks nothing else.
const ALPN: &[u8] = b"h2";

type Versions = &'static [&'static SupportedProtocolVersion];

/// TLS 1.2 is for clients of other makes; ours meet in 1.3.
const VERSIONS: Versions = &[&TLS13, &TLS12];

/// Whom a client wants at the other end.
#[derive(Clone, Debug)]
pub enum Pin {
    /// The holder of this identity key.
    Identity(VerifyingKey),
    /// The holder of one of these: for an address behind which any member may answer.
    AnyOf(Vec<VerifyingKey>),
    /// Anybody. Only for fetching the trust file of a cluster whose id is known from elsewhere: the file proves
    /// itself by that id, and who handed it over does not matter. Nothing else may go over such a connection.
    FirstContact,
}

impl Pin {
    fn check(&self, peer: &PeerCertificate) -> Result<(), Error> {
        let identities = match self {
            Self::Identity(identity) => std::slice::from_ref(identity),
            Self::AnyOf(identities) => identities,
            Self::FirstContact => return Ok(()),
        };
        let found = peer.identity_key_id();
        match identities.iter().find(|identity| chain::key_id(identity) == found) {
            Some(identity) => Ok(peer.speaks_for(identity)?),
            None => {
                Err(Error::OtherIdentity { expected: identities.iter().map(chain::key_id).collect(), found })
            }
        }
    }
}

/// How a server shakes hands: with `credentials`, and with clients that show a certificate with a binding, or none.
pub fn server_config(credentials: &Credentials) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)?
        .with_client_cert_verifier(Arc::new(Possession))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(credentials.certified())));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// How a client shakes hands: with whom `pin` says, showing `credentials` if there are any and the server asks.
pub fn client_config(
    pin: Pin,
    credentials: Option<&Credentials>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    client(pin, credentials, VERSIONS)
}

fn client(
    pin: Pin,
    credentials: Option<&Credentials>,
    versions: Versions,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned(pin)));
    let mut config = match credentials {
        Some(credentials) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(credentials.certified())))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The cryptography of all TLS here. Named, because a process-wide default may be somebody else's.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(ring::default_provider())))
}

fn refuse(error: Error) -> rustls::Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}

/// A client's check of the server's certificate.
#[derive(Debug)]
struct Pinned(Pin);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let peer = PeerCertificate::from_der(end_entity).map_err(refuse)?;
        self.0.check(&peer).map_err(refuse)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A server's check of a client's certificate: that the client holds its key, and that it carries a binding. Not
/// whose: members and operators come and go with the view, connections stay.
#[derive(Debug)]
struct Possession;

impl ClientCertVerifier for Possession {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        PeerCertificate::from_der(end_entity).map_err(refuse)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use fairpost_proto::ids::Timestamp;
    use rustls::{ClientConnection, HandshakeKind, ProtocolVersion, ServerConnection};

    use super::*;

    fn credentials(seed: u8) -> Credentials {
        Credentials::generate(&SigningKey::from_bytes(&[seed; 32]), &[], Timestamp::EPOCH).unwrap()
    }

    fn pin(seed: u8) -> Pin {
        Pin::Identity(SigningKey::from_bytes(&[seed; 32]).verifying_key())
    }

    /// Lets both ends talk, in memory, until neither has more to say.
    fn shake_hands(
        client: Arc<ClientConfig>,
        server: Arc<ServerConfig>,
    ) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
        let name = ServerName::try_from("node-1.example").unwrap();
        let (mut client, mut server) = (ClientConnection::new(client, name)?, ServerConnection::new(server)?);
        loop {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            let heard = !bytes.is_empty();
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                server.read_tls(&mut rest).unwrap();
                server.process_new_packets()?;
            }
            let mut bytes = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            if bytes.is_empty() && !heard {
                return Ok((client, server));
            }
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                client.read_tls(&mut rest).unwrap();
                client.process_new_packets()?;
            }
        }
    }

    #[test]
    fn both_versions_prove_both_ends_and_resume_nothing() {
        const ONLY_12: Versions = &[&TLS12];
        let server = server_config(&credentials(1)).unwrap();
        for (version, versions) in [(ProtocolVersion::TLSv1_2, ONLY_12), (ProtocolVersion::TLSv1_3, VERSIONS)]
        {
            let config = client(pin(1), Some(&credentials(2)), versions).unwrap();
            for _ in 0..2 {
                let (client, server) = shake_hands(Arc::clone(&config), Arc::clone(&server)).unwrap();
                assert_eq!(
                    (client.protocol_version(), client.handshake_kind()),
                    (Some(version), Some(HandshakeKind::Full))
                );
                assert_eq!(server.alpn_protocol(), Some(ALPN));
                assert_eq!(server.peer_certificates().map(<[_]>::len), Some(1));
            }
            let wrong = client(pin(2), None, versions).unwrap();
            assert!(shake_hands(wrong, Arc::clone(&server)).is_err());
        }
    }
}
