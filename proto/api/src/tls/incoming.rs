//! A server's side: from a listening socket to TLS streams for tonic.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use fairpost_proto::ids::KeyId;
use futures::Stream;
use futures::stream::{self, StreamExt as _};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::Connected;

use super::connection::Connection;
use super::peer::{Error, PeerCertificate};
use super::places::{Connections, Places, Seat, Source};
use super::portions::Portions;

/// How long to wait when the system has no file or no memory for a connection: none of them tells when it has.
const EXHAUSTED: Duration = Duration::from_millis(100);
/// How many bytes of a stranger's connection are read before others are let in.
const PORTION: usize = 8 * 1024;

/// Bounds on what strangers can make a server hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IncomingOptions {
    /// How long a handshake may take. 5 s.
    pub handshake_timeout: Duration,
    /// How many handshakes may be under way; at least 1. One more, and the oldest gives way: a flood of silent
    /// connections then costs its sender more than a honest client, which is done in a round trip or two. 512.
    pub max_handshakes: usize,
    /// How many of them may come from one [`Source`]; one more, and the oldest of that source gives way. 64.
    pub max_handshakes_per_source: usize,
    /// How many connections of strangers may be open. One more is closed at once. 4,096.
    pub max_connections: usize,
    /// How many of them may come from one [`Source`]. 128.
    pub max_connections_per_source: usize,
    /// How many connections each of those may have that are [`Known`]: they count for nothing else. 64.
    pub max_connections_per_known: usize,
    /// How long a stranger's connection may stay after its handshake without a request. 10 s.
    pub first_request: Duration,
    /// How long a stranger's connection may stay without a request after the last one. 5 min.
    pub idle: Duration,
}

impl Default for IncomingOptions {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(5),
            max_handshakes: 512,
            max_handshakes_per_source: 64,
            max_connections: 4096,
            max_connections_per_source: 128,
            max_connections_per_known: 64,
            first_request: Duration::from_secs(10),
            idle: Duration::from_secs(300),
        }
    }
}

/// Tells whether a certificate's holder is somebody whom strangers must not keep out: a member, an operator.
pub type Known = Arc<dyn Fn(&PeerCertificate) -> bool + Send + Sync>;

/// Who is at the other end. A service finds it with `request.extensions().get::<ConnectInfo>()`.
#[derive(Clone, Debug)]
pub struct ConnectInfo {
    /// The address that the connection comes from.
    pub remote_addr: SocketAddr,
    /// The client's certificate, if it showed one. It holds that key; whether the identity that the binding names is
    /// anybody, and has signed it, is still to be asked: [`PeerCertificate::speaks_for`].
    pub peer: Option<Arc<PeerCertificate>>,
    /// What is remembered of the connection.
    pub connection: Arc<Connection>,
}

/// Connections with a finished handshake, for tonic's `serve_with_incoming_shutdown`.
///
/// The configuration is read anew for each connection, so that storing another one in the `ArcSwap` changes the
/// certificate without a restart. What goes wrong with one connection ends that connection, and is logged at level
/// debug; this stream never ends and yields no error. Dropping it closes the listener and all unfinished handshakes.
pub struct Incoming {
    streams: Pin<Box<dyn Stream<Item = TlsStream> + Send>>,
    connections: Connections,
}

impl Incoming {
    /// Takes connections from `listener`; nobody is known.
    pub fn new(listener: TcpListener, config: Arc<ArcSwap<ServerConfig>>, options: IncomingOptions) -> Self {
        Self::knowing(listener, config, options, Arc::new(|_| false))
    }

    /// Takes connections from `listener`; whom `known` knows has places that nobody else can take.
    pub fn knowing(
        listener: TcpListener,
        config: Arc<ArcSwap<ServerConfig>>,
        options: IncomingOptions,
        known: Known,
    ) -> Self {
        let connections = Connections {
            strangers: Places::new(options.max_connections_per_source, options.max_connections),
            known: Places::new(options.max_connections_per_known, usize::MAX),
            handshakes: Arc::default(),
            refused: Arc::default(),
        };
        let acceptor = Acceptor {
            listener,
            config,
            seating: Seating { options, known, connections: connections.clone() },
            handshakes: JoinSet::new(),
            unfinished: VecDeque::new(),
        };
        let streams = stream::unfold(acceptor, |mut acceptor| async move {
            let stream = acceptor.next().await;
            Some((stream, acceptor))
        });
        Self { streams: Box::pin(streams), connections }
    }

    /// How many there are, at any time.
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }
}

impl Stream for Incoming {
    type Item = io::Result<TlsStream>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.streams.poll_next_unpin(context).map(|next| next.map(Ok))
    }
}

struct Acceptor {
    listener: TcpListener,
    config: Arc<ArcSwap<ServerConfig>>,
    seating: Seating,
    /// Each in a task of its own, so that none waits for another.
    handshakes: JoinSet<Option<TlsStream>>,
    /// Oldest first. Some may have finished since.
    unfinished: VecDeque<(Source, AbortHandle)>,
}

/// Who may sit down.
#[derive(Clone)]
struct Seating {
    options: IncomingOptions,
    known: Known,
    connections: Connections,
}

impl Seating {
    fn seat(&self, source: Source, peer: Option<&PeerCertificate>) -> Option<Seat> {
        let key: Option<KeyId> = peer.filter(|peer| (self.known)(peer)).map(PeerCertificate::identity_key_id);
        let seat = match key {
            Some(key) => self.connections.known.take(key).map(Seat::Known),
            None => self.connections.strangers.take(source).map(Seat::Of),
        };
        if seat.is_none() {
            self.connections.refused.fetch_add(1, Ordering::Relaxed);
        }
        seat
    }
}

impl Acceptor {
    async fn next(&mut self) -> TlsStream {
        loop {
            tokio::select! {
                Some(handshake) = self.handshakes.join_next() => {
                    if let Ok(Some(stream)) = handshake {
                        return stream;
                    }
                }
                accepted = self.listener.accept() => match accepted {
                    Ok((socket, remote_addr)) => self.begin(socket, remote_addr),
                    Err(error) if of_one_connection(&error) => {}
                    Err(error) => {
                        tracing::warn!(%error, "can't accept connections");
                        sleep(EXHAUSTED).await;
                    }
                },
            }
        }
    }

    fn begin(&mut self, socket: TcpStream, remote_addr: SocketAddr) {
        let source = Source::from(remote_addr.ip());
        self.make_room(source);
        let (config, limit) = (self.config.load_full(), self.seating.options.handshake_timeout);
        let (seating, under_way) = (self.seating.clone(), Handshake::new(&self.seating.connections));
        let handshake = self.handshakes.spawn(async move {
            let _under_way = under_way;
            match timeout(limit, shake_hands(socket, remote_addr, config, seating)).await {
                Ok(Ok(stream)) => Some(stream),
                Ok(Err(error)) => {
                    tracing::debug!(%remote_addr, %error, "TLS handshake failed");
                    None
                }
                Err(_elapsed) => {
                    tracing::debug!(%remote_addr, ?limit, "TLS handshake took too long");
                    None
                }
            }
        });
        self.unfinished.push_back((source, handshake));
    }

    /// Ends the oldest handshake of the source, or of the busiest source, if there are too many.
    ///
    /// Who comes is known only at a handshake's end. So nobody is turned away before it: members would be too.
    fn make_room(&mut self, source: Source) {
        let options = &self.seating.options;
        let (each, all) = (options.max_handshakes_per_source.max(1), options.max_handshakes.max(1));
        if self.unfinished.len() < each.min(all) {
            return;
        }
        self.unfinished.retain(|(_, handshake)| !handshake.is_finished());
        let mut counts: HashMap<Source, usize> = HashMap::new();
        for (of, _) in &self.unfinished {
            *counts.entry(*of).or_default() += 1;
        }
        let full = if counts.get(&source).is_some_and(|count| *count >= each) {
            Some(source)
        } else if self.unfinished.len() >= all {
            counts.into_iter().max_by_key(|(_, count)| *count).map(|(busiest, _)| busiest)
        } else {
            None
        };
        let oldest = full.and_then(|full| self.unfinished.iter().position(|(of, _)| *of == full));
        if let Some((source, oldest)) = oldest.and_then(|place| self.unfinished.remove(place)) {
            tracing::debug!(%source, "too many handshakes under way, the oldest gives way");
            self.seating.connections.refused.fetch_add(1, Ordering::Relaxed);
            oldest.abort();
        }
    }
}

/// Counts a handshake while it is under way.
struct Handshake(Arc<AtomicU64>);

impl Handshake {
    fn new(connections: &Connections) -> Self {
        connections.handshakes.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&connections.handshakes))
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn shake_hands(
    socket: TcpStream,
    remote_addr: SocketAddr,
    config: Arc<ServerConfig>,
    seating: Seating,
) -> io::Result<TlsStream> {
    socket.set_nodelay(true)?;
    let stream = TlsAcceptor::from(config).accept(socket).await?;
    let presented = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let peer = presented
        .map(|certificate| PeerCertificate::from_der(certificate).map(Arc::new))
        .transpose()
        .map_err(|error: Error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let seat = seating.seat(remote_addr.ip().into(), peer.as_deref());
    let seat = seat.ok_or_else(|| io::Error::other("too many connections are open, this one is closed"))?;
    let options = seating.options;
    let cut = matches!(seat, Seat::Of(_)).then(|| Cut {
        first: options.first_request,
        next: options.idle,
        look: Box::pin(sleep(options.first_request)),
    });
    let stream = Portions::new(stream, if cut.is_some() { PORTION } else { usize::MAX });
    let info = ConnectInfo { remote_addr, peer, connection: Connection::new() };
    Ok(TlsStream { stream, info, cut, _seat: seat })
}

/// When a connection without a request is cut.
struct Cut {
    first: Duration,
    next: Duration,
    /// When to look at it again.
    look: Pin<Box<Sleep>>,
}

impl Cut {
    /// Ready when the connection's time is over.
    fn poll(&mut self, connection: &Connection, context: &mut Context<'_>) -> Poll<()> {
        while self.look.as_mut().poll(context).is_ready() {
            match connection.may_idle(self.first, self.next) {
                Some(left) => self.look.as_mut().reset(Instant::now() + left),
                None => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }
}

/// Whether the error is of the connection that was about to be accepted, and the next one is not affected.
fn of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, TimedOut};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | TimedOut)
}

/// A connection with a finished handshake.
pub struct TlsStream {
    stream: Portions<tokio_rustls::server::TlsStream<TcpStream>>,
    info: ConnectInfo,
    /// None for whom the server knows: those may be silent, and are found dead by pings.
    cut: Option<Cut>,
    /// Its place among the connections that may be open.
    _seat: Seat,
}

impl Connected for TlsStream {
    type ConnectInfo = ConnectInfo;

    fn connect_info(&self) -> ConnectInfo {
        self.info.clone()
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { cut, info, .. } = &mut *self;
        if info.connection.is_cut() {
            tracing::debug!(remote_addr = %info.remote_addr, "a connection that asks for too much is cut");
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "too much was asked for",
            )));
        }
        if cut.as_mut().is_some_and(|cut| cut.poll(&info.connection, context).is_ready()) {
            tracing::debug!(remote_addr = %info.remote_addr, "a connection without a request is cut");
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no request came")));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
