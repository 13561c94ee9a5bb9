//! A client's side: a gRPC channel to one address, over pinned TLS.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::{CertificateError, ClientConfig};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Status;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::peer;

/// Why a text names no server.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It has no port.
    #[error("{0:?} is not host:port")]
    Form(String),
    /// Its host is neither a DNS name nor an IP address.
    #[error("{0:?} is neither a DNS name nor an IP address")]
    Host(String),
    /// Its port is not a number from 1 to 65535.
    #[error("{0:?} is not a port, expected 1 to 65535")]
    Port(String),
}

/// Where a server listens: `node-1.example:7443`, `192.0.2.1:7443` or `[2001:db8::1]:7443`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    name: ServerName<'static>,
    host: String,
    port: u16,
    uri: Uri,
}

impl Target {
    /// The server at this DNS name or IP address, and port.
    pub fn new(host: &str, port: u16) -> Result<Self, TargetError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TargetError::Host(host.to_owned()))?;
        if port == 0 {
            return Err(TargetError::Port(port.to_string()));
        }
        let authority =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let uri = Uri::builder().scheme("https").authority(authority).path_and_query("/").build();
        Ok(Self {
            name,
            host: host.to_owned(),
            port,
            uri: uri.map_err(|_| TargetError::Host(host.to_owned()))?,
        })
    }

    /// Its DNS name or IP address, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let (host, port) = text.rsplit_once(':').ok_or_else(|| TargetError::Form(text.to_owned()))?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(host) if host.contains(':') => host,
            None if !host.contains(':') => host,
            _ => return Err(TargetError::Form(text.to_owned())),
        };
        let number = port.parse().map_err(|_| TargetError::Port(port.to_owned()))?;
        Self::new(host, number)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// How patient a channel is.
///
/// The sizes of messages are not the channel's: set them on each client, from [`crate::limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelOptions {
    /// How long name lookup, TCP and TLS may take together. 5 s.
    pub connect_timeout: Duration,
    /// How long a call may take whose own deadline is no earlier; none: as long as it likes. 30 s.
    pub request_timeout: Option<Duration>,
    /// How often to ask a silent server for a sign of life, calls or none; none: never. 10 s.
    pub keepalive: Option<Duration>,
    /// How long to wait for that sign before the connection is given up. 5 s.
    pub keepalive_timeout: Duration,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            request_timeout: Some(Duration::from_secs(30)),
            keepalive: Some(Duration::from_secs(10)),
            keepalive_timeout: Duration::from_secs(5),
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers there.
    #[error("can't connect to {target}: {source}")]
    Tcp {
        /// Where.
        target: String,
        /// What the system says.
        source: io::Error,
    },
    /// The server is not the one that was asked for.
    #[error("refused to talk to {target}: {source}")]
    Refused {
        /// Where.
        target: String,
        /// What its certificate lacks.
        source: Arc<dyn StdError + Send + Sync>,
    },
    /// The handshake failed for another reason.
    #[error("TLS handshake with {target}: {source}")]
    Tls {
        /// Where.
        target: String,
        /// What TLS says.
        source: io::Error,
    },
    /// It took too long.
    #[error("no connection to {target} within {limit:?}")]
    Timeout {
        /// Where.
        target: String,
        /// The limit.
        limit: Duration,
    },
}

/// A channel to `target`. It connects when it is first used, and again after a connection was lost; meanwhile calls
/// fail with UNAVAILABLE, and [`connect_error`] finds out why. Must be called in a Tokio runtime.
pub fn channel(target: &Target, config: Arc<ClientConfig>, options: ChannelOptions) -> Channel {
    // To tonic this is plain HTTP/2, as it does not see our TLS; to the server it is https.
    let mut endpoint = Endpoint::from(Uri::from_static("http://fairpost.invalid"))
        .origin(target.uri.clone())
        .tcp_nodelay(true);
    if let Some(limit) = options.request_timeout {
        endpoint = endpoint.timeout(limit);
    }
    if let Some(interval) = options.keepalive {
        endpoint = endpoint
            .http2_keep_alive_interval(interval)
            .keep_alive_timeout(options.keepalive_timeout)
            .keep_alive_while_idle(true);
    }
    let (target, limit) = (target.clone(), options.connect_timeout);
    endpoint.connect_with_connector_lazy(service_fn(move |_: Uri| {
        let (target, config) = (target.clone(), Arc::clone(&config));
        async move {
            match timeout(limit, connect(&target, config)).await {
                Ok(connected) => connected.map(TokioIo::new),
                Err(_elapsed) => Err(ConnectError::Timeout { target: target.to_string(), limit }),
            }
        }
    }))
}

/// Why the channel could not connect, if that is what `status` is about.
pub fn connect_error(status: &Status) -> Option<&ConnectError> {
    let mut error = status.source();
    while let Some(inner) = error {
        if let Some(found) = inner.downcast_ref() {
            return Some(found);
        }
        error = inner.source();
    }
    None
}

async fn connect(target: &Target, config: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, ConnectError> {
    let unreachable = |source| ConnectError::Tcp { target: target.to_string(), source };
    let socket = TcpStream::connect((target.host.as_str(), target.port)).await.map_err(unreachable)?;
    socket.set_nodelay(true).map_err(unreachable)?;
    let shaken = TlsConnector::from(config).connect(target.name.clone(), socket).await;
    shaken.map_err(|source| match refusal(&source) {
        Some(source) => ConnectError::Refused { target: target.to_string(), source },
        None => ConnectError::Tls { target: target.to_string(), source },
    })
}

/// What our own verifier had against the server's certificate.
fn refusal(error: &io::Error) -> Option<Arc<dyn StdError + Send + Sync>> {
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) if other.0.is::<peer::Error>() => {
            Some(Arc::clone(&other.0))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_as_they_are_shown() {
        for text in ["node-1.example:7443", "192.0.2.1:1", "[2001:db8::1]:65535", "localhost:80"] {
            assert_eq!(text.parse::<Target>().map(|target| target.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_is_no_target_is_refused() {
        let refused = |text: &str| text.parse::<Target>().expect_err(text);
        assert_eq!(refused("node-1"), TargetError::Form("node-1".into()));
        assert_eq!(refused("2001:db8::1:80"), TargetError::Form("2001:db8::1:80".into()));
        assert_eq!(refused("[node-1]:80"), TargetError::Form("[node-1]:80".into()));
        assert_eq!(refused("a b:80"), TargetError::Host("a b".into()));
        assert_eq!(refused(":80"), TargetError::Host(String::new()));
        assert_eq!(refused("node:0"), TargetError::Port("0".into()));
        assert_eq!(refused("node:65536"), TargetError::Port("65536".into()));
        assert_eq!(refused("user@node:80"), TargetError::Host("user@node".into()));
    }
}
