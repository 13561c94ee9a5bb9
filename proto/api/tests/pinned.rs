//! A real server and real clients on loopback: who gets through to whom, and who is seen as whom.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ed25519_dalek::SigningKey;
use fairpost_api::tls::{
    self, ChannelOptions, ConnectError, ConnectInfo, Credentials, Incoming, IncomingOptions, Known,
    PeerCertificate, Pin, Target, client_config, connect_error, server_config,
};
use fairpost_api::v1::cluster_client::ClusterClient;
use fairpost_api::v1::cluster_server::{Cluster, ClusterServer};
use fairpost_api::v1::{GetNodeRequest, GetNodeResponse, GetTrustRequest, GetTrustResponse};
use fairpost_proto::binding::{self, Binding};
use fairpost_proto::chain::key_id;
use fairpost_proto::cose::Signed;
use fairpost_proto::ids::{Digest, KeyId, Timestamp};
use rcgen::{CertificateParams, CustomExtension, KeyPair, PublicKeyData as _};
use rustls::crypto::ring;
use rustls::server::ResolvesServerCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tonic::{Code, Request, Response, Status};
use x509_cert::der::Encode as _;
use x509_cert::der::asn1::OctetStringRef;

const MEMBER: u8 = 1;
const OTHER: u8 = 2;

fn identity(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn id(seed: u8) -> KeyId {
    key_id(&identity(seed).verifying_key())
}

fn pin(seed: u8) -> Pin {
    Pin::Identity(identity(seed).verifying_key())
}

fn credentials(seed: u8) -> Credentials {
    Credentials::generate(&identity(seed), &["127.0.0.1".to_owned()], Timestamp::EPOCH).unwrap()
}

/// The Cluster service, which tells the test what it sees of each caller.
struct Witness(mpsc::UnboundedSender<ConnectInfo>);

#[tonic::async_trait]
impl Cluster for Witness {
    async fn get_trust(&self, _: Request<GetTrustRequest>) -> Result<Response<GetTrustResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn get_node(&self, request: Request<GetNodeRequest>) -> Result<Response<GetNodeResponse>, Status> {
        self.0.send(request.extensions().get::<ConnectInfo>().unwrap().clone()).unwrap();
        Ok(Response::new(GetNodeResponse { name: "node-1".to_owned(), ..Default::default() }))
    }
}

struct Server {
    target: Target,
    config: Arc<ArcSwap<ServerConfig>>,
    callers: mpsc::UnboundedReceiver<ConnectInfo>,
}

impl Server {
    async fn start(config: Arc<ServerConfig>, options: IncomingOptions) -> Self {
        Self::knowing(config, options, Arc::new(|_| false)).await
    }

    async fn knowing(config: Arc<ServerConfig>, options: IncomingOptions, known: Known) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().to_string().parse().unwrap();
        let config = Arc::new(ArcSwap::new(config));
        let (sender, callers) = mpsc::unbounded_channel();
        let incoming = Incoming::knowing(listener, Arc::clone(&config), options, known);
        let service = ClusterServer::new(Witness(sender));
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        Self { target, config, callers }
    }

    async fn of(seed: u8) -> Self {
        Self::start(server_config(&credentials(seed)).unwrap(), IncomingOptions::default()).await
    }

    async fn call(&self, config: Arc<ClientConfig>) -> Result<String, Status> {
        let channel = tls::channel(&self.target, config, ChannelOptions::default());
        Ok(ClusterClient::new(channel).get_node(GetNodeRequest {}).await?.into_inner().name)
    }

    async fn caller(&mut self) -> ConnectInfo {
        self.callers.recv().await.unwrap()
    }

    async fn silent_connection(&self) -> TcpStream {
        TcpStream::connect((self.target.host(), self.target.port())).await.unwrap()
    }
}

/// A certificate for a fresh key, with the binding that `bind` makes for it, if any; and that key.
fn certified(bind: impl FnOnce(KeyId) -> Option<Signed<Binding>>) -> CertifiedKey {
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::default();
    if let Some(binding) = bind(KeyId::new(*Digest::of(&key.subject_public_key_info()).as_bytes())) {
        let content = OctetStringRef::new(binding.bytes()).unwrap().to_der().unwrap();
        parameters.custom_extensions = vec![CustomExtension::from_oid_content(binding::OID, content)];
    }
    let certificate = parameters.self_signed(&key).unwrap().der().clone();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    CertifiedKey::from_der(vec![certificate], key, &ring::default_provider()).unwrap()
}

/// A binding that names the member and that somebody else signed.
fn forged(tls_key: KeyId) -> Option<Signed<Binding>> {
    Some(Signed::sign(Binding { tls_key, created: Timestamp::EPOCH }, id(MEMBER), &identity(OTHER)))
}

/// The member's certificate, in the hands of somebody without its key.
fn stolen() -> CertifiedKey {
    let certificate = CertificateDer::from(credentials(MEMBER).certificate_der().to_vec());
    CertifiedKey::new(vec![certificate], Arc::clone(&certified(|_| None).key))
}

fn server_with(certified: CertifiedKey) -> Arc<ServerConfig> {
    let mut config = (*server_config(&credentials(OTHER)).unwrap()).clone();
    let resolver: Arc<dyn ResolvesServerCert> = Arc::new(SingleCertAndKey::from(certified));
    config.cert_resolver = resolver;
    Arc::new(config)
}

fn client_with(certified: CertifiedKey) -> Arc<ClientConfig> {
    let mut config = (*client_config(pin(MEMBER), None).unwrap()).clone();
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
    Arc::new(config)
}

/// What the client has against the server's certificate.
fn refusal(status: &Status) -> &tls::Error {
    match connect_error(status) {
        Some(ConnectError::Refused { source, .. }) => source.downcast_ref().unwrap(),
        other => panic!("{other:?} in {status:?}"),
    }
}

#[tokio::test]
async fn a_client_reaches_the_identity_that_it_pinned() {
    let server = Server::of(MEMBER).await;
    let any = Pin::AnyOf([OTHER, MEMBER].map(|seed| identity(seed).verifying_key()).to_vec());
    for pin in [pin(MEMBER), any, Pin::FirstContact] {
        assert_eq!(server.call(client_config(pin, None).unwrap()).await.unwrap(), "node-1");
    }
}

#[tokio::test]
async fn a_client_refuses_another_identity() {
    let mut server = Server::of(OTHER).await;
    for pin in [pin(MEMBER), Pin::AnyOf(vec![identity(MEMBER).verifying_key()])] {
        let status = server.call(client_config(pin, None).unwrap()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        let tls::Error::OtherIdentity { expected, found } = refusal(&status) else { panic!("{status:?}") };
        assert_eq!((expected.as_slice(), *found), ([id(MEMBER)].as_slice(), id(OTHER)));
        let told = format!("speaks for identity {}, expected {}", id(OTHER), id(MEMBER));
        assert!(status.message().contains(&told), "{}", status.message());
    }
    let nobody = server.call(client_config(Pin::AnyOf(vec![]), None).unwrap()).await.unwrap_err();
    assert!(matches!(refusal(&nobody), tls::Error::OtherIdentity { .. }));
    assert!(server.callers.try_recv().is_err(), "nothing was said to it");
}

#[tokio::test]
async fn a_client_refuses_a_forged_binding() {
    let server = Server::start(server_with(certified(forged)), IncomingOptions::default()).await;
    let status = server.call(client_config(pin(MEMBER), None).unwrap()).await.unwrap_err();
    assert!(matches!(refusal(&status), tls::Error::Binding(binding::Error::Cose(_))), "{status:?}");
}

#[tokio::test]
async fn a_client_refuses_a_server_without_a_binding() {
    let server = Server::start(server_with(certified(|_| None)), IncomingOptions::default()).await;
    for pin in [pin(MEMBER), Pin::FirstContact] {
        let status = server.call(client_config(pin, None).unwrap()).await.unwrap_err();
        assert!(matches!(refusal(&status), tls::Error::Bindings { found: 0 }), "{status:?}");
    }
}

#[tokio::test]
async fn a_client_refuses_a_server_without_the_certificates_key() {
    let server = Server::start(server_with(stolen()), IncomingOptions::default()).await;
    let status = server.call(client_config(pin(MEMBER), None).unwrap()).await.unwrap_err();
    assert!(matches!(connect_error(&status), Some(ConnectError::Tls { .. })), "{status:?}");
}

#[tokio::test]
async fn a_caller_without_a_certificate_is_nobody() {
    let mut server = Server::of(MEMBER).await;
    server.call(client_config(pin(MEMBER), None).unwrap()).await.unwrap();
    let caller = server.caller().await;
    assert!(caller.peer.is_none());
    assert!(caller.remote_addr.ip().is_loopback());
}

#[tokio::test]
async fn a_caller_is_seen_as_who_it_is() {
    let mut server = Server::of(MEMBER).await;
    let own = credentials(OTHER);
    server.call(client_config(pin(MEMBER), Some(&own)).unwrap()).await.unwrap();
    let seen = server.caller().await.peer.unwrap();
    assert_eq!((seen.identity_key_id(), seen.tls_key_id()), (id(OTHER), own.certificate().tls_key_id()));
    assert!(seen.speaks_for(&identity(OTHER).verifying_key()).is_ok());
    assert!(seen.speaks_for(&identity(MEMBER).verifying_key()).is_err());
}

#[tokio::test]
async fn a_caller_with_a_forged_binding_speaks_for_nobody() {
    let mut server = Server::of(MEMBER).await;
    server.call(client_with(certified(forged))).await.unwrap();
    let seen: Arc<PeerCertificate> = server.caller().await.peer.unwrap();
    assert_eq!(seen.identity_key_id(), id(MEMBER), "so it claims");
    assert!(seen.speaks_for(&identity(MEMBER).verifying_key()).is_err());
    assert!(seen.speaks_for(&identity(OTHER).verifying_key()).is_ok(), "its author can be named");
}

#[tokio::test]
async fn a_caller_without_a_binding_or_without_its_key_is_turned_away() {
    let mut server = Server::of(MEMBER).await;
    for certified in [certified(|_| None), stolen()] {
        let status = server.call(client_with(certified)).await.unwrap_err();
        assert!(
            connect_error(&status).is_none_or(|error| matches!(error, ConnectError::Tls { .. })),
            "{status:?}"
        );
    }
    assert!(server.callers.try_recv().is_err(), "no call arrived");
}

#[tokio::test]
async fn a_silent_connection_delays_nobody() {
    let long = IncomingOptions { handshake_timeout: Duration::from_secs(3600), ..Default::default() };
    let server = Server::start(server_config(&credentials(MEMBER)).unwrap(), long).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(server.silent_connection().await);
    }
    server.call(client_config(pin(MEMBER), None).unwrap()).await.unwrap();
    for connection in &silent {
        let waiting = connection.try_read(&mut [0]).unwrap_err();
        assert_eq!(waiting.kind(), std::io::ErrorKind::WouldBlock, "still open");
    }
}

#[tokio::test]
async fn the_oldest_handshake_gives_way_when_there_are_too_many() {
    let options = IncomingOptions {
        handshake_timeout: Duration::from_secs(3600),
        max_handshakes: 2,
        ..Default::default()
    };
    let server = Server::start(server_config(&credentials(MEMBER)).unwrap(), options).await;
    let mut oldest = server.silent_connection().await;
    let newer = server.silent_connection().await;
    server.call(client_config(pin(MEMBER), None).unwrap()).await.unwrap();
    assert_eq!(oldest.read(&mut [0]).await.unwrap(), 0, "closed by the server");
    assert!(newer.try_read(&mut [0]).is_err(), "still open");
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_ended() {
    let options = IncomingOptions { handshake_timeout: Duration::from_millis(50), ..Default::default() };
    let server = Server::start(server_config(&credentials(MEMBER)).unwrap(), options).await;
    let mut silent = server.silent_connection().await;
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_connection_too_many_is_closed_and_a_closed_one_makes_room() {
    let options = IncomingOptions { max_connections: 1, ..Default::default() };
    let server = Server::start(server_config(&credentials(MEMBER)).unwrap(), options).await;
    let config = client_config(pin(MEMBER), None).unwrap();
    let first = tls::channel(&server.target, Arc::clone(&config), ChannelOptions::default());
    ClusterClient::new(first.clone()).get_node(GetNodeRequest {}).await.unwrap();

    server.call(Arc::clone(&config)).await.unwrap_err();
    ClusterClient::new(first.clone()).get_node(GetNodeRequest {}).await.unwrap();

    drop(first);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while server.call(Arc::clone(&config)).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "the place is never free again");
    }
}

#[tokio::test]
async fn strangers_take_no_place_of_those_who_are_known() {
    let options = IncomingOptions {
        handshake_timeout: Duration::from_secs(3600),
        max_handshakes_per_source: 4,
        max_connections_per_source: 2,
        max_connections_per_known: 1,
        ..Default::default()
    };
    let known = Arc::new(|peer: &PeerCertificate| peer.speaks_for(&identity(OTHER).verifying_key()).is_ok());
    let config = server_config(&credentials(MEMBER)).unwrap();
    let server = Server::knowing(config, options, known).await;
    let connect = |shown: Option<&Credentials>| {
        let channel = tls::channel(
            &server.target,
            client_config(pin(MEMBER), shown).unwrap(),
            ChannelOptions::default(),
        );
        async { ClusterClient::new(channel.clone()).get_node(GetNodeRequest {}).await.map(|_| channel) }
    };
    let (member, stranger) = (credentials(OTHER), credentials(7));
    // One place with nothing shown, one with a certificate of nobody's: the source has no third.
    let _strangers = (connect(None).await.unwrap(), connect(Some(&stranger)).await.unwrap());
    connect(None).await.unwrap_err();
    connect(Some(&stranger)).await.unwrap_err();
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(server.silent_connection().await);
    }
    let _known = connect(Some(&member)).await.unwrap();
    connect(Some(&member)).await.unwrap_err();
    for gave_way in silent.iter_mut().take(4) {
        assert_eq!(gave_way.read(&mut [0]).await.unwrap(), 0, "the source's oldest handshakes gave way");
    }
}

#[tokio::test]
async fn a_connection_without_a_request_is_cut() {
    let limit = Duration::from_millis(300);
    let options = IncomingOptions { first_request: limit, idle: limit, ..Default::default() };
    let server = Server::start(server_config(&credentials(MEMBER)).unwrap(), options).await;
    let config = client_config(pin(MEMBER), None).unwrap();
    let name = ServerName::try_from("node-1").unwrap();
    let stream = server.silent_connection().await;
    let mut silent = TlsConnector::from(config).connect(name, stream).await.unwrap();
    let connected = tokio::time::Instant::now();
    let mut answer = Vec::new();
    // The server's settings may come first; then the end, clean or not.
    let _ = tokio::time::timeout(Duration::from_secs(20), silent.read_to_end(&mut answer)).await.unwrap();
    assert!(connected.elapsed() >= limit / 2);
}

#[tokio::test]
async fn new_credentials_need_no_restart() {
    let server = Server::of(OTHER).await;
    let config = client_config(pin(MEMBER), None).unwrap();
    assert!(server.call(Arc::clone(&config)).await.is_err());
    server.config.store(server_config(&credentials(MEMBER)).unwrap());
    server.call(config).await.unwrap();
}

#[tokio::test]
async fn a_channel_says_why_it_cannot_connect_and_tries_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target: Target = listener.local_addr().unwrap().to_string().parse().unwrap();
    let options = ChannelOptions { connect_timeout: Duration::from_millis(50), ..Default::default() };
    let channel = tls::channel(&target, client_config(pin(MEMBER), None).unwrap(), options);
    let mut client = ClusterClient::new(channel);

    // The system takes the connection, and nobody answers.
    let status = client.get_node(GetNodeRequest {}).await.unwrap_err();
    assert!(matches!(connect_error(&status), Some(ConnectError::Timeout { .. })), "{status:?}");
    assert!(status.message().contains(&target.to_string()), "{}", status.message());

    let config = Arc::new(ArcSwap::new(server_config(&credentials(MEMBER)).unwrap()));
    let (sender, _callers) = mpsc::unbounded_channel();
    let incoming = Incoming::new(listener, config, IncomingOptions::default());
    let service = ClusterServer::new(Witness(sender));
    let server =
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    let patient = tls::channel(&target, client_config(pin(MEMBER), None).unwrap(), ChannelOptions::default());
    ClusterClient::new(patient).get_node(GetNodeRequest {}).await.unwrap();
    server.abort();
    assert!(server.await.unwrap_err().is_cancelled());

    let status = client.get_node(GetNodeRequest {}).await.unwrap_err();
    assert!(matches!(connect_error(&status), Some(ConnectError::Tcp { .. })), "{status:?}");
}
