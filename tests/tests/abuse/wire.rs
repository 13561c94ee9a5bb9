//! Connections below gRPC, from an address of one's choice.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use bytes::Bytes;
use fairpost_api::tls::{Pin, client_config};
use fairpost_node::config::Limits;
use fairpost_tests::{Cluster, Settings, within};
use h2::client::SendRequest;
use rustls_pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codegen::http;

pub(super) const FLOODER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));

/// Four nodes with these limits. Raft is patient: on a machine that is busy with other things a leader may be silent for a
/// second, and what is asked here is whether abuse takes it from its followers.
pub(super) async fn start(limits: impl Fn(&mut Limits)) -> Cluster {
    let mut cluster = Cluster::make(Settings::default()).unwrap();
    for node in 0..4 {
        cluster
            .configure(node, "\n[raft]\nelection_min_millis = 3000\nelection_max_millis = 5000\n")
            .unwrap();
    }
    cluster.limit(limits).unwrap();
    for node in 0..4 {
        cluster.launch(node).unwrap();
    }
    for node in 0..4 {
        cluster.ready(node).await.unwrap();
    }
    cluster
}

pub(super) fn address(cluster: &Cluster, node: usize) -> SocketAddr {
    cluster.trust.view().members()[node].address.parse().unwrap()
}

/// A connection over which nothing was said yet.
pub(super) async fn tcp(cluster: &Cluster, node: usize, from: IpAddr) -> std::io::Result<TcpStream> {
    connect(address(cluster, node), from).await
}

async fn connect(address: SocketAddr, from: IpAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    within("a connection", socket.connect(address)).await.map_err(std::io::Error::other)?
}

/// All that it takes to connect to a node.
pub(super) struct Node {
    address: SocketAddr,
    pin: Pin,
}

pub(super) fn node(cluster: &Cluster, node: usize) -> Node {
    let pin = Pin::Identity(cluster.trust.view().members()[node].identity);
    Node { address: address(cluster, node), pin }
}

impl Node {
    /// A connection after the TLS handshake.
    pub(super) async fn tls(&self, from: IpAddr) -> std::io::Result<TlsStream<TcpStream>> {
        let connector = TlsConnector::from(client_config(self.pin.clone(), None).unwrap());
        let name = ServerName::try_from("node.example").unwrap();
        let stream = connect(self.address, from).await?;
        within("a handshake", connector.connect(name, stream)).await.map_err(std::io::Error::other)?
    }
}

/// A connection after the TLS handshake, and when it was begun. On a slow machine a handshake can be cut; then it is begun
/// again, a few times.
pub(super) async fn tls(cluster: &Cluster, at: usize, from: IpAddr) -> (Instant, TlsStream<TcpStream>) {
    let node = node(cluster, at);
    for _ in 0..5 {
        let began = Instant::now();
        if let Ok(stream) = node.tls(from).await {
            return (began, stream);
        }
    }
    panic!("five handshakes did not come to an end");
}

/// A connection that speaks HTTP/2, driven by a task of its own until that is aborted.
pub(super) async fn http2(
    cluster: &Cluster,
    node: usize,
    from: IpAddr,
) -> (SendRequest<Bytes>, tokio::task::JoinHandle<()>) {
    let (_, stream) = tls(cluster, node, from).await;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(async move {
        let _ = connection.await;
    });
    (sender, driver)
}

/// The head of a gRPC call.
pub(super) fn head(path: &str) -> http::Request<()> {
    http::Request::post(format!("https://node.example{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

/// Everything that a node's exporter tells.
pub(super) async fn metrics(cluster: &Cluster, node: usize) -> String {
    cluster.metrics(node).await.unwrap()
}

/// The sample of a metric with these labels; none if there is none yet.
pub(super) fn sample(text: &str, metric: &str) -> Option<f64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    lines.next_back().map(|value| value.parse().unwrap())
}
