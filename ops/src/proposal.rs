//! Proposals, as operators make, read and approve them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::DecodePublicKey as _;
use ed25519_dalek::{SigningKey, VerifyingKey};
use fairpost_proto::approval::{self, ApprovedProposal};
use fairpost_proto::armor;
use fairpost_proto::chain::{self, Anchor, key_id};
use fairpost_proto::ids::Digest;
use fairpost_proto::proposal::{self, Draft, Proposal};
use fairpost_proto::view::Parameters;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::init;
use crate::node::read_card;

/// The largest file of a public key or a certificate that is read.
const MAX_BYTES: u64 = 64 * 1024;

/// Why a proposal can't be made, read or approved.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}: expected {expected}: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A node's card is none.
    #[error(transparent)]
    Card(#[from] init::Error),
    /// The proposal would not be valid.
    #[error(transparent)]
    Proposal(#[from] proposal::Error),
    /// An approval does not hold.
    #[error(transparent)]
    Approval(#[from] approval::Error),
    /// Two files are about different proposals.
    #[error("{path} is about proposal {found}, and the first one is {expected}")]
    Other {
        /// The file.
        path: PathBuf,
        /// The digest of the first.
        expected: Digest,
        /// The digest of this one.
        found: Digest,
    },
}

/// What to propose: files for people's and servers' parts.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cluster's name.
    pub name: String,
    /// The nodes' cards.
    pub cards: Vec<PathBuf>,
    /// How many of them may be compromised; none: as many as so many nodes stand.
    pub faults: Option<usize>,
    /// The operators' public keys, PEM.
    pub operators: Vec<PathBuf>,
    /// How many of these must agree; none: more than half.
    pub agreeing: Option<u64>,
    /// The trust anchors' certificates, PEM.
    pub anchors: Vec<PathBuf>,
    /// The auditors' public keys, PEM.
    pub auditors: Vec<PathBuf>,
    /// The rules.
    pub parameters: Parameters,
}

/// Makes a proposal, which nobody has approved yet.
pub fn new(options: &Options) -> Result<ApprovedProposal, Error> {
    let keys =
        |paths: &[PathBuf]| paths.iter().map(|path| read_public_key(path)).collect::<Result<Vec<_>, _>>();
    let members = options.cards.iter().map(|path| read_card(path)).collect::<Result<Vec<_>, _>>()?;
    let operators = keys(&options.operators)?;
    let draft = Draft {
        faults: options.faults.unwrap_or(fairpost_proto::quorum::Quorum::most_faults(members.len())),
        members,
        agreeing: options.agreeing.unwrap_or((operators.len() as u64 / 2 + 1).min(operators.len() as u64)),
        operators,
        anchors: options.anchors.iter().map(|path| read_anchor(path)).collect::<Result<_, _>>()?,
        auditors: keys(&options.auditors)?,
        parameters: options.parameters,
    };
    Ok(ApprovedProposal::new(Proposal::new(&options.name, draft)?))
}

/// Reads a proposal with its approvals.
pub fn read(path: &Path) -> Result<ApprovedProposal, Error> {
    fairpost_node::membership::ceremony::read_proposal(path).map_err(|problem| Error::File {
        path: path.to_owned(),
        expected: "a proposal",
        problem,
    })
}

/// The file's text.
pub fn text(approved: &ApprovedProposal) -> String {
    armor::encode(armor::PROPOSAL, &approved.to_bytes())
}

/// Adds an operator's approval to the file.
pub fn approve(path: &Path, operator: &SigningKey) -> Result<ApprovedProposal, Error> {
    let mut approved = read(path)?;
    approved.approve(operator)?;
    let io = |source| Error::Io { path: path.to_owned(), source };
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    fs::write(&fresh, text(&approved)).and_then(|()| fs::rename(&fresh, path)).map_err(io)?;
    Ok(approved)
}

/// The approvals of several copies of one proposal, together.
pub fn merge(paths: &[PathBuf]) -> Result<ApprovedProposal, Error> {
    let mut merged: Option<ApprovedProposal> = None;
    for path in paths {
        let next = read(path)?;
        match &mut merged {
            None => merged = Some(next),
            Some(merged) => {
                let (expected, found) = (merged.proposal().digest(), next.proposal().digest());
                if expected != found {
                    return Err(Error::Other { path: path.clone(), expected, found });
                }
                merged.merge(next)?;
            }
        }
    }
    merged.ok_or_else(|| Error::File {
        path: PathBuf::new(),
        expected: "at least one proposal",
        problem: "none was given".into(),
    })
}

/// What an operator has to look at before approving.
pub fn describe(approved: &ApprovedProposal) -> String {
    let (proposal, quorum) = (approved.proposal(), approved.proposal().quorum());
    let (draft, mut text) = (proposal.draft(), String::new());
    let mut line = |what: &str, value: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{what:<12}{value}");
    };
    line("proposal", proposal.digest().to_string());
    line("cluster", proposal.name().to_owned());
    line(
        "quorum",
        format!(
            "{} of {} decide; {} may be compromised, {} may be down",
            quorum.q(),
            quorum.n(),
            quorum.f(),
            quorum.spare()
        ),
    );
    for member in proposal.members() {
        line("member", format!("{:<12}{:<28}{}", member.name, member.address, member.key_id()));
    }
    let approvers: Vec<_> = approved.approvers().collect();
    for operator in &draft.operators {
        let key = key_id(operator);
        line("operator", format!("{key}{}", if approvers.contains(&key) { "  has approved" } else { "" }));
    }
    let (found, needed) = (approvers.len(), draft.agreeing);
    line(
        "approvals",
        format!(
            "{found} of the {needed} that it takes{}",
            if found as u64 >= needed { ": a key ceremony can begin" } else { "" }
        ),
    );
    for anchor in &draft.anchors {
        line("anchor", format!("{}  SHA-256 {}", anchor.subject(), Digest::of(anchor.der())));
    }
    for auditor in &draft.auditors {
        line("auditor", key_id(auditor).to_string());
    }
    let Parameters { skew, grace, shortest_lifetime, longest_lifetime, feature_level, retention } =
        draft.parameters;
    line(
        "rules",
        format!(
            "skew {skew}, grace {grace}, lifetime {shortest_lifetime} to {longest_lifetime}, retention {retention}, \
         feature level {feature_level}"
        ),
    );
    text
}

/// Reads an Ed25519 public key: SubjectPublicKeyInfo in PEM (RFC 8410), as `openssl pkey -pubout` writes it.
pub fn read_public_key(path: &Path) -> Result<VerifyingKey, Error> {
    let text = String::from_utf8_lossy(&read_small(path)?).into_owned();
    VerifyingKey::from_public_key_pem(&text).map_err(|error| Error::File {
        path: path.to_owned(),
        expected: "an Ed25519 public key in PEM",
        problem: error.to_string(),
    })
}

fn read_anchor(path: &Path) -> Result<Anchor, Error> {
    let wrong =
        |problem: String| Error::File { path: path.to_owned(), expected: "a CA certificate in PEM", problem };
    let der = CertificateDer::from_pem_slice(&read_small(path)?).map_err(|error| wrong(error.to_string()))?;
    Anchor::parse(der.to_vec()).map_err(|error: chain::Error| wrong(error.to_string()))
}

fn read_small(path: &Path) -> Result<Vec<u8>, Error> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes))
        .map_err(|source| Error::Io { path: path.to_owned(), source })?;
    Ok(bytes)
}
