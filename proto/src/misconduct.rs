//! Proof of misconduct: two things that one server signed and that no honest server signs both.
//!
//! # Specification
//!
//! An honest member votes for one leaf of an exchange in a round, signs one root for a size of the evidence log, and
//! stamps one entry for a term and sequence. An honest quorum signs one verdict on an exchange. Whoever did two of a kind is
//! convicted by its own signatures, to anybody who holds the cluster's trust file: no witness is needed, and none is believed.
//!
//! # Relies on
//!
//! The [`Trust`] handed in is of the cluster that the judge means.
//!
//! # Guarantees
//!
//! A [`Conviction`] exists only for two valid signatures of one member (or two valid tokens) over statements that
//! contradict each other ([`verify`]; vectors `misconduct.json` break each condition in turn; test
//! `no_honest_member_can_be_convicted`).

use core::fmt;

use crate::cbor::{self, Reader, Writer};
use crate::cose::{self, Payload, Signed};
use crate::entry::Head;
use crate::ids::{ClusterId, ExchangeId, KeyId, Verdict};
use crate::leaf::{self, Leaf};
use crate::merkle::{self, InclusionProof};
use crate::threshold::{self, Message, Token};
use crate::trust::{self, Trust};
use crate::view::Member;
use crate::vote::{self, Vote};

/// Key 0 of the file.
pub const TAG: &str = "fairpost/misconduct/v1";

/// The largest file that is read at all.
pub const MAX_BYTES: usize = trust::MAX_BYTES + 1024 * 1024;

/// Why bytes are no proof of misconduct, or convict nobody.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is larger than any that is read.
    #[error("the proof of misconduct has {found} bytes, at most {MAX_BYTES} are read")]
    TooLarge {
        /// Its size.
        found: usize,
    },
    /// It is not the deterministic CBOR that the format gives.
    #[error("misconduct: {0}")]
    Cbor(#[from] cbor::Error),
    /// Its genesis and views do not hold together.
    #[error("misconduct: {0}")]
    Trust(#[from] trust::Error),
    /// One of its statements is not one, or its signature does not hold.
    #[error("misconduct: {0}")]
    Statement(#[from] cose::Error),
    /// A token is not one, or not the cluster's.
    #[error("misconduct: the token: {0}")]
    Token(#[from] threshold::Error),
    /// A vote's ballot does not hold the leaf.
    #[error("misconduct: the vote is not for this leaf: {0}")]
    Ballot(#[from] merkle::Error),
    /// The statements do not stand in ascending order of their bytes.
    #[error("misconduct: the second statement does not come after the first")]
    Order,
    /// It is about another cluster than the trusted one.
    #[error("misconduct: it is about cluster {found}, and you trust {expected}")]
    Cluster {
        /// The trusted cluster.
        expected: ClusterId,
        /// The one that it is about.
        found: ClusterId,
    },
    /// A statement was made in a view that the file does not hold.
    #[error("misconduct: a statement is of epoch {found}, and the file knows views up to epoch {newest}")]
    Epoch {
        /// The newest view's epoch.
        newest: u32,
        /// The statement's.
        found: u32,
    },
    /// A statement is by nobody in the view.
    #[error("misconduct: a statement is by {found}, who is no member in epoch {epoch}")]
    NoMember {
        /// The view's epoch.
        epoch: u32,
        /// Its signer.
        found: KeyId,
    },
    /// The statements are by two members: that convicts neither.
    #[error("misconduct: one statement is by {first}, the other by {second}")]
    Signers {
        /// Who signed the first.
        first: KeyId,
        /// Who signed the second.
        second: KeyId,
    },
    /// The statements are about different things, so both may be true.
    #[error("misconduct: one statement is about {first}, the other about {second}")]
    Subjects {
        /// What the first is about.
        first: String,
        /// What the second is about.
        second: String,
    },
    /// The statements say the same.
    #[error("misconduct: both statements are for {0}")]
    Alike(String),
}

/// A vote for a leaf.
#[derive(Clone, Debug)]
pub struct Voted {
    /// The leaf.
    pub leaf: Leaf,
    /// The vote.
    pub vote: Signed<Vote>,
    /// That the leaf stands in the vote's ballot.
    pub proof: InclusionProof,
}

/// The cluster's word on an exchange.
#[derive(Clone, Copy, Debug)]
pub struct Signature {
    /// The exchange.
    pub exchange: ExchangeId,
    /// The verdict.
    pub verdict: Verdict,
    /// The token over it.
    pub token: Token,
}

/// Two statements that no honest server makes both.
#[derive(Clone, Debug)]
pub enum Act {
    /// A member voted for two leaves of one exchange in one round (perhaps in one ballot).
    Leaves(Box<[Voted; 2]>),
    /// A member signed two roots for one size of the evidence log.
    Roots(Box<[Signed<Vote>; 2]>),
    /// A leader stamped two entries for one term and sequence.
    Entries(Box<[Signed<Head>; 2]>),
    /// The cluster's key signed two verdicts on one exchange.
    Tokens(Box<[Signature; 2]>),
}

/// Who is convicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Culprit {
    /// One member.
    Member {
        /// Its name.
        name: String,
        /// Its identity key.
        identity: KeyId,
        /// The epoch in which it signed (the first of the two statements).
        epoch: u32,
    },
    /// So many members together, unnamed: as many as it takes to make two tokens.
    Members {
        /// At least so many.
        at_least: usize,
    },
}

impl fmt::Display for Culprit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member { name, identity, epoch } => {
                write!(f, "{name} (identity {identity}, epoch {epoch})")
            }
            Self::Members { at_least } => write!(f, "at least {at_least} members"),
        }
    }
}

/// What a proof of misconduct proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conviction {
    /// Who did it.
    pub culprit: Culprit,
    /// What both statements are about.
    pub subject: String,
    /// What the first one says of it.
    pub first: String,
    /// What the second one says of it.
    pub second: String,
}

/// A well-formed proof of misconduct. Whether it convicts is for [`verify`] to say.
#[derive(Clone, Debug)]
pub struct Misconduct {
    /// The cluster's genesis and views.
    pub trust: Trust,
    /// What was done.
    pub act: Act,
}

impl Voted {
    fn write(&self) -> Vec<u8> {
        let proved = self.vote.with_proof(&vote::write_proof(&self.proof));
        Writer::new().array(2).bytes(&self.leaf.to_bytes()).bytes(&proved).finish()
    }

    fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        reader.array_of("a leaf and its vote", 2, "2")?;
        let leaf = Leaf::parse(reader.bytes()?)?;
        let (vote, proof) = Signed::parse_proved(reader.bytes()?)?;
        reader.finish()?;
        Ok(Self { leaf, vote, proof: vote::read_proof(&proof)? })
    }
}

impl Signature {
    fn write(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.array(3).bytes(self.exchange.as_bytes()).uint(u64::from(self.verdict.code()));
        writer.bytes(&self.token.to_bytes()).finish()
    }

    fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        reader.array_of("a verdict and its token", 3, "3")?;
        let exchange = ExchangeId::new(reader.bytes32("the exchange id")?);
        let verdict = leaf::read_verdict(&mut reader)?;
        let token = Token::parse(reader.bytes()?)?;
        reader.finish()?;
        Ok(Self { exchange, verdict, token })
    }
}

impl Misconduct {
    /// This act against the cluster of `trust`; the order of its statements does not matter.
    pub fn new(trust: Trust, act: Act) -> Self {
        let mut act = act;
        let [first, second] = act.statements();
        if first > second {
            match &mut act {
                Act::Leaves(both) => both.reverse(),
                Act::Roots(both) => both.reverse(),
                Act::Entries(both) => both.reverse(),
                Act::Tokens(both) => both.reverse(),
            }
        }
        Self { trust, act }
    }

    /// Whether bytes begin like a proof of misconduct, rather than like one of a verdict or of fraud.
    pub fn is(bytes: &[u8]) -> bool {
        let mut reader = Reader::new(bytes);
        let Ok(mut map) = reader.map() else { return false };
        map.key(&mut reader, 0).is_ok() && reader.text("the tag", 64).is_ok_and(|tag| tag == TAG)
    }

    /// Its one encoding.
    pub fn to_bytes(&self) -> Vec<u8> {
        let [first, second] = self.act.statements();
        let mut writer = Writer::new();
        writer.map(5).uint(0).text(TAG).uint(1).bytes(&self.trust.to_bytes());
        writer.uint(2).uint(self.act.kind()).uint(3).bytes(&first).uint(4).bytes(&second);
        writer.finish()
    }

    /// Parses the one encoding of a proof of misconduct.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_BYTES {
            return Err(Error::TooLarge { found: bytes.len() });
        }
        let mut reader = Reader::new(bytes);
        let mut map = reader.map()?;
        map.tagged(&mut reader, TAG)?;
        map.key(&mut reader, 1)?;
        let trust = Trust::parse(reader.bytes()?)?;
        map.key(&mut reader, 2)?;
        let kind = reader.uint()?;
        map.key(&mut reader, 3)?;
        let first = reader.bytes()?;
        map.key(&mut reader, 4)?;
        let second = reader.bytes()?;
        map.finish(&reader)?;
        reader.finish()?;
        if first > second {
            return Err(Error::Order);
        }
        let act = match kind {
            1 => Act::Leaves(Box::new([Voted::parse(first)?, Voted::parse(second)?])),
            2 => Act::Roots(Box::new([Signed::parse(first)?, Signed::parse(second)?])),
            3 => Act::Entries(Box::new([Signed::parse(first)?, Signed::parse(second)?])),
            4 => Act::Tokens(Box::new([Signature::parse(first)?, Signature::parse(second)?])),
            found => {
                let (what, expected) = ("the kind of misconduct", "1 to 4");
                return Err(cbor::Error::Value { what, expected, found: found.to_string() }.into());
            }
        };
        Ok(Self { trust, act })
    }
}

impl Act {
    const fn kind(&self) -> u64 {
        match self {
            Self::Leaves(_) => 1,
            Self::Roots(_) => 2,
            Self::Entries(_) => 3,
            Self::Tokens(_) => 4,
        }
    }

    fn statements(&self) -> [Vec<u8>; 2] {
        match self {
            Self::Leaves(both) => both.each_ref().map(Voted::write),
            Self::Roots(both) => both.each_ref().map(|vote| vote.bytes().to_vec()),
            Self::Entries(both) => both.each_ref().map(|head| head.bytes().to_vec()),
            Self::Tokens(both) => both.each_ref().map(Signature::write),
        }
    }
}

/// Whom the two statements convict, and of what.
///
/// # Errors
///
/// The first condition that does not hold. Then nobody is convicted, least of all whom the file accuses.
pub fn verify(misconduct: &Misconduct, trusted: &Trust) -> Result<Conviction, Error> {
    let trust = &misconduct.trust;
    let (expected, found) = (trusted.cluster(), trust.cluster());
    if expected != found {
        return Err(Error::Cluster { expected, found });
    }
    match &misconduct.act {
        Act::Leaves(both) => {
            let said = |voted: &Voted| {
                voted.proof.verify(&voted.leaf.hash(), &voted.vote.payload().ballot)?;
                let Leaf { exchange, round, verdict, time, .. } = voted.leaf;
                let subject = format!("exchange {exchange}, round {round}");
                Ok((subject, format!("{verdict} at {time} (leaf {})", voted.leaf.hash())))
            };
            by_a_member(trust, both.each_ref().map(|voted| &voted.vote), both.each_ref().map(said))
        }
        Act::Roots(both) => {
            let said = |vote: &Signed<Vote>| {
                let Vote { log_size, log_root, .. } = vote.payload();
                Ok((format!("the evidence log of size {log_size}"), format!("root {log_root}")))
            };
            by_a_member(trust, both.each_ref(), both.each_ref().map(said))
        }
        Act::Entries(both) => {
            let said = |head: &Signed<Head>| {
                let Head { epoch, term, sequence, .. } = head.payload();
                let subject = format!("entry {sequence} of term {term} in epoch {epoch}");
                Ok((subject, format!("head {}", head.digest())))
            };
            by_a_member(trust, both.each_ref(), both.each_ref().map(said))
        }
        Act::Tokens(both) => {
            let cluster = trust.cluster();
            let said = |signature: &Signature| {
                let Signature { exchange, verdict, token } = *signature;
                let message = Message::Verdict { cluster, verdict, exchange };
                trust.public_key().verify(&message, &token)?;
                Ok((format!("exchange {exchange}"), verdict.to_string()))
            };
            // Two quorums of one view share so many members that signed both.
            let quorum = trust.view().quorum();
            let at_least = (2 * quorum.q()).saturating_sub(quorum.n());
            let culprit = Culprit::Members { at_least };
            contradiction(culprit, both.each_ref().map(said))
        }
    }
}

/// What a signed statement says about where it was made.
trait Placed: Payload<Signer = KeyId> {
    fn cluster(&self) -> ClusterId;
    fn epoch(&self) -> u32;
}

impl Placed for Vote {
    fn cluster(&self) -> ClusterId {
        self.cluster
    }

    fn epoch(&self) -> u32 {
        self.epoch
    }
}

impl Placed for Head {
    fn cluster(&self) -> ClusterId {
        self.cluster
    }

    fn epoch(&self) -> u32 {
        self.epoch
    }
}

/// What a statement is about, and what it says of that.
type Said = Result<(String, String), Error>;

fn by_a_member<P: Placed>(
    trust: &Trust,
    signed: [&Signed<P>; 2],
    said: [Said; 2],
) -> Result<Conviction, Error> {
    let [first, second] = signed;
    let member = author(trust, first)?;
    author(trust, second)?;
    let (one, other) = (*first.signer(), *second.signer());
    if one != other {
        return Err(Error::Signers { first: one, second: other });
    }
    let culprit =
        Culprit::Member { name: member.name.clone(), identity: one, epoch: first.payload().epoch() };
    contradiction(culprit, said)
}

/// The member that signed this.
fn author<'t, P: Placed>(trust: &'t Trust, signed: &Signed<P>) -> Result<&'t Member, Error> {
    let (expected, found) = (trust.cluster(), signed.payload().cluster());
    if expected != found {
        return Err(Error::Cluster { expected, found });
    }
    let epoch = signed.payload().epoch();
    let view = trust.view_of(epoch);
    let view = view.ok_or_else(|| Error::Epoch { newest: trust.view().epoch(), found: epoch })?;
    let found = *signed.signer();
    let (_, member) = view.member_by_key(found).ok_or(Error::NoMember { epoch, found })?;
    signed.verify(&member.identity)?;
    Ok(member)
}

fn contradiction(culprit: Culprit, said: [Said; 2]) -> Result<Conviction, Error> {
    let [first, second] = said;
    let ((subject, first), (other, second)) = (first?, second?);
    if subject != other {
        return Err(Error::Subjects { first: subject, second: other });
    }
    if first == second {
        return Err(Error::Alike(first));
    }
    Ok(Conviction { culprit, subject, first, second })
}
