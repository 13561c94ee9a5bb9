//! A server's side: from a listening socket to TLS streams for tonic.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::Stream;
use futures::stream::{self, StreamExt as _};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::Connected;

use super::peer::{Error, PeerCertificate};

/// How long to wait when the system has no file or no memory for a connection: none of them tells when it has.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Bounds on what strangers can make a server hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IncomingOptions {
    /// How long a handshake may take. 5 s.
    pub handshake_timeout: Duration,
    /// How many handshakes may be under way; at least 1. One more, and the oldest gives way: a flood of silent
    /// connections then costs its sender more than a honest client, which is done in a round trip or two. 512.
    pub max_handshakes: usize,
    /// How many connections may be open, handshakes included. One more is closed at once. 4,096.
    pub max_connections: usize,
}

impl Default for IncomingOptions {
    fn default() -> Self {
        Self { handshake_timeout: Duration::from_secs(5), max_handshakes: 512, max_connections: 4096 }
    }
}

/// Who is at the other end. A service finds it with `request.extensions().get::<ConnectInfo>()`.
#[derive(Clone, Debug)]
pub struct ConnectInfo {
    /// The address that the connection comes from.
    pub remote_addr: SocketAddr,
    /// The client's certificate, if it showed one. It holds that key; whether the identity that the binding names is
    /// anybody, and has signed it, is still to be asked: [`PeerCertificate::speaks_for`].
    pub peer: Option<Arc<PeerCertificate>>,
}

/// Connections with a finished handshake, for tonic's `serve_with_incoming_shutdown`.
///
/// The configuration is read anew for each connection, so that storing another one in the `ArcSwap` changes the
/// certificate without a restart. What goes wrong with one connection ends that connection, and is logged at level
/// debug; this stream never ends and yields no error. Dropping it closes the listener and all unfinished handshakes.
pub struct Incoming(Pin<Box<dyn Stream<Item = TlsStream> + Send>>);

impl Incoming {
    /// Takes connections from `listener`.
    pub fn new(listener: TcpListener, config: Arc<ArcSwap<ServerConfig>>, options: IncomingOptions) -> Self {
        let acceptor = Acceptor {
            listener,
            config,
            options,
            handshakes: JoinSet::new(),
            unfinished: VecDeque::new(),
            open: Arc::new(Semaphore::new(options.max_connections.min(Semaphore::MAX_PERMITS))),
        };
        Self(Box::pin(stream::unfold(acceptor, |mut acceptor| async move {
            let stream = acceptor.next().await;
            Some((stream, acceptor))
        })))
    }
}

impl Stream for Incoming {
    type Item = io::Result<TlsStream>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(context).map(|next| next.map(Ok))
    }
}

struct Acceptor {
    listener: TcpListener,
    config: Arc<ArcSwap<ServerConfig>>,
    options: IncomingOptions,
    /// Each in a task of its own, so that none waits for another.
    handshakes: JoinSet<Option<TlsStream>>,
    /// Oldest first. Some may have finished since.
    unfinished: VecDeque<AbortHandle>,
    open: Arc<Semaphore>,
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
        let max = self.options.max_handshakes.max(1);
        if self.unfinished.len() >= max {
            self.unfinished.retain(|handshake| !handshake.is_finished());
        }
        if self.unfinished.len() >= max
            && let Some(oldest) = self.unfinished.pop_front()
        {
            tracing::debug!(max, "too many handshakes under way, the oldest gives way");
            oldest.abort();
        }
        let Ok(permit) = Arc::clone(&self.open).try_acquire_owned() else {
            let max = self.options.max_connections;
            tracing::warn!(%remote_addr, max, "too many connections are open, this one is closed");
            return;
        };
        let (config, limit) = (self.config.load_full(), self.options.handshake_timeout);
        self.unfinished.push_back(self.handshakes.spawn(async move {
            match timeout(limit, shake_hands(socket, remote_addr, config, permit)).await {
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
        }));
    }
}

async fn shake_hands(
    socket: TcpStream,
    remote_addr: SocketAddr,
    config: Arc<ServerConfig>,
    permit: OwnedSemaphorePermit,
) -> io::Result<TlsStream> {
    socket.set_nodelay(true)?;
    let stream = TlsAcceptor::from(config).accept(socket).await?;
    let presented = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let peer = presented
        .map(|certificate| PeerCertificate::from_der(certificate).map(Arc::new))
        .transpose()
        .map_err(|error: Error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(TlsStream { stream, info: ConnectInfo { remote_addr, peer }, _permit: permit })
}

/// Whether the error is of the connection that was about to be accepted, and the next one is not affected.
fn of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, TimedOut};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | TimedOut)
}

/// A connection with a finished handshake.
pub struct TlsStream {
    stream: tokio_rustls::server::TlsStream<TcpStream>,
    info: ConnectInfo,
    /// Its place among the connections that may be open.
    _permit: OwnedSemaphorePermit,
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
