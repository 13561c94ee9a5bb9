//! Why a cluster rejects a call, parsed once from google.rpc.ErrorInfo.

use core::fmt;

/// Why a cluster rejects a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The receipt came at or after the deadline. The exchange will expire: ask for the status after deadline and grace.
    TooLate,
    /// It was asked to expire before deadline and grace were over. Ask again after them.
    TooEarly,
    /// There is no verdict yet. Ask again later, or watch.
    Undecided,
    /// This machine's clock is more than five minutes from the cluster's. Set the clock, and ask again.
    Clock,
    /// Who asks is not the party that may, or its certificate is not valid. Use the identity that the mail names.
    Stranger,
    /// The time between sealing and the deadline is outside of what the cluster allows. The sender must seal anew.
    Lifetime,
    /// The mail or the request is for another cluster. Use the trust file of the cluster that the mail names.
    OtherCluster,
    /// By the cluster's clock the mail was sealed in the future. Wait, or have the sender set its clock and seal anew.
    CreatedLater,
    /// A certificate does not hold: expired, not yet valid, too short for the exchange, or by another authority. The one whose it
    /// is needs a new one.
    Certificate,
    /// Something is not in the form that the protocol prescribes, or a signature does not hold. The mail was damaged on its
    /// way, or one side is of another version.
    Malformed,
    /// What was handed in belongs to another mail or another call. A fault of the program that asked.
    Foreign,
    /// Evidence is missing where there must be some, or there where there must be none. A fault of the program that asked.
    Presence,
    /// The cluster's rules do not accept the evidence. The message says which.
    Invalid,
    /// The node has as much to do as it takes on. Ask again, later or elsewhere; the client does so by itself.
    Overloaded,
    /// The cluster has dropped the evidence of this exchange, as its time to keep it was over. The verdict stands, and only a
    /// proof that was fetched before can show it.
    EvidenceDropped,
    /// A reason that this version does not know, as the cluster put it; empty if it gave none.
    Other(String),
}

impl Reason {
    const KNOWN: [(&'static str, Self); 15] = [
        ("TOO_LATE", Self::TooLate),
        ("TOO_EARLY", Self::TooEarly),
        ("UNDECIDED", Self::Undecided),
        ("CLOCK", Self::Clock),
        ("STRANGER", Self::Stranger),
        ("LIFETIME", Self::Lifetime),
        ("OTHER_CLUSTER", Self::OtherCluster),
        ("CREATED_LATER", Self::CreatedLater),
        ("CERTIFICATE", Self::Certificate),
        ("MALFORMED", Self::Malformed),
        ("FOREIGN", Self::Foreign),
        ("PRESENCE", Self::Presence),
        ("INVALID", Self::Invalid),
        ("OVERLOADED", Self::Overloaded),
        ("EVIDENCE_DROPPED", Self::EvidenceDropped),
    ];

    /// The reason that an ErrorInfo names.
    pub(super) fn parse(name: String) -> Self {
        let known = Self::KNOWN.into_iter().find(|(known, _)| *known == name);
        known.map_or(Self::Other(name), |(_, reason)| reason)
    }

    /// Its name in ErrorInfo.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Other(name) => name,
            known => Self::KNOWN.iter().find(|(_, reason)| reason == known).map_or("", |(name, _)| *name),
        }
    }

    /// Whether asking again later can succeed with nothing changed on this side.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Undecided | Self::TooEarly | Self::CreatedLater | Self::Overloaded)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_read_as_it_is_written() {
        for (name, reason) in Reason::KNOWN {
            assert_eq!(Reason::parse(name.to_owned()), reason);
            assert_eq!(reason.as_str(), name);
        }
        let new = Reason::parse("FULL_MOON".to_owned());
        assert_eq!((new.as_str(), new.is_retryable()), ("FULL_MOON", false));
        assert_eq!(Reason::parse(String::new()), Reason::Other(String::new()));
    }
}
