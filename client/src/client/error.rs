//! Why a call failed: one enum that a program can act on.

use core::fmt;
use std::io;

use fairpost_api::tls::TargetError;
use fairpost_proto::evidence;
use fairpost_proto::ids::{Digest, KeyId};
use fairpost_proto::proof::Proof;
use fairpost_proto::sealed::{self, Garbage};
use fairpost_proto::terms::Address;
use tonic::Code;

use super::reason::Reason;
use crate::identity;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No node could be reached. Asking again is safe.
    #[error("no node could be reached: {}", listed(.failures))]
    NotReached {
        /// The last failure of each node.
        failures: Vec<Failure>,
    },
    /// Nodes were reached, and together they are no quorum just now. What was asked may still happen; asking again
    /// is safe.
    #[error("the cluster has no quorum just now: {}", listed(.failures))]
    NoQuorum {
        /// The last failure of each node.
        failures: Vec<Failure>,
    },
    /// Nodes answered, and no answer proved itself.
    #[error("no answer could be believed: {}", listed(.failures))]
    NotBelieved {
        /// The last failure of each node.
        failures: Vec<Failure>,
    },
    /// Nodes say that there is no verdict, and they are so few that those who hold it can all be among the others. Asking
    /// again is safe.
    #[error(
        "it is not known whether there is a verdict: that there is none is believed when {needed} nodes say so, and {found} do: {}",
        listed(.failures)
    )]
    NotEnough {
        /// How many must say so.
        needed: usize,
        /// How many do.
        found: usize,
        /// The last word of each node.
        failures: Vec<Failure>,
    },
    /// There is a verdict that a quorum has certified, and too few nodes gave their shares of its token just now. Asking
    /// again is safe.
    #[error("it takes {needed} shares to make the token, and {found} came: {}", listed(.failures))]
    TooFewShares {
        /// How many make the token.
        needed: usize,
        /// How many came.
        found: usize,
        /// Why each of the others gave none.
        failures: Vec<Failure>,
    },
    /// The cluster rejects it, and asking again will not help.
    #[error("the cluster rejects it: {0}")]
    Rejected(Rejection),
    /// There is no verdict yet, so there is nothing to prove.
    #[error("the exchange is undecided: there is nothing to prove yet")]
    Undecided,
    /// The verdict on this exchange was reached with another statement of the sender than the one in this mail.
    #[error(
        "the verdict is about another mail of the same exchange: its NRO is {found}, this mail's {expected}"
    )]
    OtherNro {
        /// Digest of the mail's NRO.
        expected: Digest,
        /// Digest of the NRO that was recorded.
        found: Digest,
    },
    /// The sender locked something else than it signed. Whoever has the proof and the sealed mail can show it.
    #[error("{0}")]
    Fraud(Box<Fraud>),
    /// The identity is not the party that may do this.
    #[error(
        "this is for the {party}, and you are {identity} with key {key}; the mail is from {sender} to {recipient}"
    )]
    Stranger {
        /// Who may do it.
        party: Party,
        /// Who tried.
        identity: Address,
        /// With which key.
        key: KeyId,
        /// The sender in the terms.
        sender: Address,
        /// The recipient in the terms.
        recipient: Address,
    },
    /// The sender's statement does not count. Nothing was signed.
    #[error("the sender's statement does not count: {0}")]
    Evidence(#[from] evidence::Error),
    /// The lock is bad, or not for this identity. Nothing was signed.
    #[error(transparent)]
    Sealed(#[from] sealed::Error),
    /// The identity can't sign.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// A member's address in the view is none.
    #[error("the address of node {node}: {source}")]
    Address {
        /// The node.
        node: String,
        /// What is wrong.
        source: TargetError,
    },
    /// TLS can't be set up.
    #[error("TLS for node {node}: {problem}")]
    Tls {
        /// The node.
        node: String,
        /// What is wrong.
        problem: String,
    },
    /// Spooling failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Error {
    /// Whether the same call can succeed later, with nothing changed on this side. Asking again is always safe; whether it
    /// helps, this says.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::NotReached { .. }
            | Self::NoQuorum { .. }
            | Self::NotBelieved { .. }
            | Self::NotEnough { .. }
            | Self::TooFewShares { .. }
            | Self::Undecided => true,
            Self::Rejected(rejection) => rejection.reason.is_retryable(),
            _ => false,
        }
    }
}

/// Who may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// The sender.
    Sender,
    /// The recipient.
    Recipient,
    /// Either of them.
    Either,
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sender => "sender",
            Self::Recipient => "recipient",
            Self::Either => "sender or the recipient",
        })
    }
}

/// How one node failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The node's name in the view.
    pub node: String,
    /// In what way.
    pub fault: Fault,
    /// What exactly.
    pub message: String,
}

/// In what way a node failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is no connection.
    Unreachable,
    /// It did not answer in time.
    Silent,
    /// It has no quorum just now, or no time.
    Unavailable,
    /// It has as much to do as it takes on.
    Overloaded,
    /// It has a fault of its own.
    Broken,
    /// It gave an answer that does not prove itself.
    Lied,
    /// It rejected the call, and too few others did.
    Rejected,
    /// It says undecided, and too few others do.
    Undecided,
}

fn listed(failures: &[Failure]) -> String {
    let listed: Vec<String> =
        failures.iter().map(|failure| format!("{}: {}", failure.node, failure.message)).collect();
    listed.join("; ")
}

/// Why the cluster does not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The gRPC status code.
    pub code: Code,
    /// The reason for programs: each says what to do.
    pub reason: Reason,
    /// The reason for people.
    pub message: String,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A sender's fraud, caught when its mail was opened.
#[derive(Debug)]
pub struct Fraud {
    /// In what way the mail is garbage.
    pub garbage: Garbage,
    /// The proof for a judge, who needs the sealed mail beside it; or why it could not be had just now
    /// ([`Client::fraud_proof`](super::Client::fraud_proof) asks again).
    pub proof: Result<Proof, Error>,
}

impl fmt::Display for Fraud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the sender locked something else than it signed: {}", self.garbage)
    }
}
