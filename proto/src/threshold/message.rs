//! What a share of the cluster's key may sign.

use core::fmt;

use crate::ids::{ClusterId, Digest, ExchangeId, Verdict};

/// A message for the threshold key: the only three kinds that a share ever signs.
///
/// # Layout
///
/// One byte: the length of the domain string. The domain string, in ASCII. Then fields of fixed size, with
/// nothing between them:
///
/// | kind | domain string | fields |
/// |---|---|---|
/// | [`Verdict`](Message::Verdict) | `fairpost/verdict/v1` | cluster (32), verdict (1, its code), exchange id (32) |
/// | [`Genesis`](Message::Genesis) | `fairpost/genesis-token/v1` | digest (32) |
/// | [`View`](Message::View) | `fairpost/view/v1` | cluster (32), digest (32) |
///
/// The length byte and the domain string tell the kinds apart, and within a kind every message is of one size:
/// so no message is the beginning of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// The one verdict on an exchange. Its token is the proof, and for [`Verdict::Released`] the key.
    Verdict {
        /// The cluster that decides.
        cluster: ClusterId,
        /// What it decides.
        verdict: Verdict,
        /// On which exchange.
        exchange: ExchangeId,
    },
    /// The genesis: its token shows that the shares of the first view work.
    Genesis {
        /// The cluster's id, which is the digest of its genesis.
        digest: Digest,
    },
    /// A later view of a cluster.
    View {
        /// The cluster.
        cluster: ClusterId,
        /// The digest of the view.
        digest: Digest,
    },
}

impl Message {
    /// The message that opens the mail of `exchange`: the verdict Released on it.
    pub const fn released(cluster: ClusterId, exchange: ExchangeId) -> Self {
        Self::Verdict { cluster, verdict: Verdict::Released, exchange }
    }

    /// The bytes that are signed, in the layout above.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Verdict { cluster, verdict, exchange } => {
                domain(b"fairpost/verdict/v1", &[cluster.as_bytes(), &[verdict.code()], exchange.as_bytes()])
            }
            Self::Genesis { digest } => domain(b"fairpost/genesis-token/v1", &[digest.as_bytes()]),
            Self::View { cluster, digest } => {
                domain(b"fairpost/view/v1", &[cluster.as_bytes(), digest.as_bytes()])
            }
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verdict { cluster, verdict, exchange } => {
                write!(f, "verdict {verdict} of cluster {cluster} on exchange {exchange}")
            }
            Self::Genesis { digest } => write!(f, "genesis {digest}"),
            Self::View { cluster, digest } => write!(f, "view {digest} of cluster {cluster}"),
        }
    }
}

/// The domain's length, the domain, the fields. The array's type bounds the length to what a byte can say.
fn domain<const N: usize>(domain: &[u8; N], fields: &[&[u8]]) -> Vec<u8> {
    const { assert!(N <= u8::MAX as usize) };
    let mut bytes = vec![N as u8];
    bytes.extend_from_slice(domain);
    for field in fields {
        bytes.extend_from_slice(field);
    }
    bytes
}
