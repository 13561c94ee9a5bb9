//! Opening a later round: from the statements of a quorum to the one leaf that may be voted for in it.
//!
//! # Specification
//!
//! The statements are of `q` distinct members of the view, all for one exchange and for the round after the last one that it
//! has in the applied log. The leaf is
//!
//! 1. that of the certificate of the highest round among them, if there is one, only its round changed; else
//! 2. Released, if `f + 1` of them first saw a receipt in time; its time is the (f+1)-th earliest of these; else
//! 3. Withdrawn, if there is a valid withdrawal; else Refused, if there is a valid refusal; else Expired, if deadline and
//!    grace have passed. Its time is the (f+1)-th earliest of the statements' clocks;
//!
//! else there is none, and the round is not opened. Of `f + 1` times, the earliest of which is taken, at least one is
//! honest; and one of `f + 1` who saw a receipt has it, so that whoever collects the statements must hand it in.
//!
//! # Relies on
//!
//! Nothing but its arguments: every server computes the same leaf.
//!
//! # Guarantees
//!
//! - A certificate that anybody stated, and that is a quorum's, decides ([`open()`]; `the_highest_certificate_decides`).
//! - The leaf's evidence is here, over the NRO that it names, and its signatures and certificates hold at its time
//!   (`what_the_leaf_names_must_be_handed_in`).

use fairpost_proto::cose::{self, Signed};
use fairpost_proto::entry::Opening;
use fairpost_proto::evidence::{self, Nro};
use fairpost_proto::ids::{ClusterId, Digest, ExchangeId, KeyId, Timestamp, Verdict};
use fairpost_proto::leaf::{Leaf, Round};
use fairpost_proto::round::Statement;
use fairpost_proto::view::View;
use fairpost_proto::vote::{self, Certificate};

/// Why a round is not opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The NRO is none.
    #[error("NRO: {0}")]
    Nro(cose::Error),
    /// The exchange has no leaf in the log, so there is nothing to open.
    #[error("exchange {0} has no first round")]
    NoFirst(ExchangeId),
    /// The exchange got a leaf in this very entry.
    #[error("exchange {0} has a leaf in the same entry")]
    SameEntry(ExchangeId),
    /// The exchange has had all rounds that there are.
    #[error("exchange {0} has had the last round that there is")]
    NoMore(ExchangeId),
    /// A statement is not one, or its signature does not hold.
    #[error("statement {place}: {source}")]
    Statement {
        /// Its place, from 0.
        place: usize,
        /// What is wrong with it.
        source: cose::Error,
    },
    /// The statements do not stand in ascending order of their signers, so that one may be there twice.
    #[error("statement {place} is by {found}, which does not come after {before}")]
    Order {
        /// Its place.
        place: usize,
        /// The signer of the one before it.
        before: KeyId,
        /// Its signer.
        found: KeyId,
    },
    /// A statement is for another cluster.
    #[error("statement {place} is for cluster {found}, expected {expected}")]
    Cluster {
        /// Its place.
        place: usize,
        /// This cluster.
        expected: ClusterId,
        /// The statement's.
        found: ClusterId,
    },
    /// A statement was given in another view.
    #[error("statement {place} was given in epoch {found}, expected {expected}")]
    Epoch {
        /// Its place.
        place: usize,
        /// The view's epoch.
        expected: u32,
        /// The statement's.
        found: u32,
    },
    /// A statement is by nobody in the view.
    #[error("statement {place} is by {found}, who is no member")]
    NoMember {
        /// Its place.
        place: usize,
        /// Its signer.
        found: KeyId,
    },
    /// A statement is about another exchange.
    #[error("statement {place} is about exchange {found}, and the NRO makes {expected}")]
    Exchange {
        /// Its place.
        place: usize,
        /// The NRO's exchange.
        expected: ExchangeId,
        /// The statement's.
        found: ExchangeId,
    },
    /// A statement is for another round than the next one.
    #[error("statement {place} is for round {found}, expected {expected}")]
    Round {
        /// Its place.
        place: usize,
        /// The round after the last in the log.
        expected: Round,
        /// The statement's.
        found: Round,
    },
    /// There are more or fewer statements than a quorum.
    #[error("{found} statements, and it takes {needed}")]
    Count {
        /// The quorum.
        needed: usize,
        /// How many there are.
        found: usize,
    },
    /// A statement's certificate is not a quorum's.
    #[error("statement {place}: the certificate: {source}")]
    Certificate {
        /// Its place.
        place: usize,
        /// What is wrong with it.
        source: vote::Error,
    },
    /// NRO or evidence do not count at the leaf's time.
    #[error("{verdict} at {time}: {source}")]
    Evidence {
        /// The leaf's verdict.
        verdict: Verdict,
        /// Its time.
        time: Timestamp,
        /// What is wrong.
        source: evidence::Error,
    },
    /// The certificate's leaf names another NRO or other evidence than was handed in.
    #[error("the certificate's leaf names {expected:?}, and {found:?} was handed in")]
    ForeignEvidence {
        /// The digests that the leaf names: of the NRO and of the evidence.
        expected: (Digest, Option<Digest>),
        /// Those of what was handed in.
        found: (Digest, Option<Digest>),
    },
    /// Nothing can be decided by these statements.
    #[error(
        "nothing to decide at {time}: no receipt in time, no withdrawal, no refusal, and expiry is due at {due}"
    )]
    Nothing {
        /// The (f+1)-th earliest of the clocks.
        time: Timestamp,
        /// Deadline and grace.
        due: Timestamp,
    },
}

/// A statement that holds.
struct Stated {
    certificate: Option<Certificate>,
    receipt: Option<Timestamp>,
    clock: Timestamp,
}

/// The NRO that was handed in, which says what exchange it is about. It is not checked yet.
pub fn nro(opening: &Opening) -> Result<Signed<Nro>, Error> {
    Signed::parse(&opening.nro).map_err(Error::Nro)
}

/// The one leaf that may be voted for in the round after `last`, which is the last one in the applied log of the exchange
/// that the NRO is about.
pub fn open(view: &View, nro: &Signed<Nro>, last: Round, opening: &Opening) -> Result<Leaf, Error> {
    let (exchange, expires) = (nro.payload().terms.exchange(), nro.payload().terms.expires);
    let round = last.next().ok_or(Error::NoMore(exchange))?;
    let stated = statements(view, exchange, round, &opening.statements)?;

    let leaf = |verdict, time| Leaf {
        exchange,
        round,
        verdict,
        time,
        nro: nro.digest(),
        evidence: opening.evidence(verdict).map(Digest::of),
    };
    let check = |leaf: &Leaf| {
        evidence::check(view, leaf.verdict, &opening.nro, opening.evidence(leaf.verdict), leaf.time)
            .map_err(|source| Error::Evidence { verdict: leaf.verdict, time: leaf.time, source })
    };
    // Two certificates of one round have one leaf: any two quorums share an honest member.
    let highest = stated.iter().filter_map(|stated| stated.certificate.as_ref());
    if let Some(certified) = highest.map(Certificate::leaf).max_by_key(|leaf| leaf.round) {
        let handed_in = leaf(certified.verdict, certified.time);
        let (expected, found) = ((certified.nro, certified.evidence), (handed_in.nro, handed_in.evidence));
        if expected != found {
            return Err(Error::ForeignEvidence { expected, found });
        }
        check(&handed_in)?;
        return Ok(handed_in);
    }
    let earliest = |times: Vec<Timestamp>| {
        let mut times = times;
        times.sort_unstable();
        times.get(view.quorum().f()).copied()
    };
    let in_time = stated.iter().filter_map(|stated| stated.receipt).filter(|seen| *seen < expires);
    if let Some(time) = earliest(in_time.collect()) {
        let released = leaf(Verdict::Released, time);
        check(&released)?;
        return Ok(released);
    }
    let due = expires.plus(view.parameters().grace);
    let clocks = stated.iter().map(|stated| stated.clock).collect();
    // A quorum has more than f members.
    let time = earliest(clocks).unwrap_or(Timestamp::EPOCH);
    for verdict in [Verdict::Withdrawn, Verdict::Refused] {
        let leaf = leaf(verdict, time);
        if leaf.evidence.is_some() && check(&leaf).is_ok() {
            return Ok(leaf);
        }
    }
    if time < due {
        return Err(Error::Nothing { time, due });
    }
    let expired = leaf(Verdict::Expired, time);
    check(&expired)?;
    Ok(expired)
}

/// The statements, if they are a quorum's for this exchange and round.
fn statements(
    view: &View,
    exchange: ExchangeId,
    round: Round,
    statements: &[Vec<u8>],
) -> Result<Vec<Stated>, Error> {
    let (needed, found) = (view.quorum().q(), statements.len());
    if needed != found {
        return Err(Error::Count { needed, found });
    }
    let (mut before, mut stated): (Option<KeyId>, Vec<Stated>) = (None, Vec::with_capacity(needed));
    for (place, bytes) in statements.iter().enumerate() {
        let signed =
            Signed::<Statement>::parse(bytes).map_err(|source| Error::Statement { place, source })?;
        let found = *signed.signer();
        if let Some(before) = before.replace(found).filter(|before| *before >= found) {
            return Err(Error::Order { place, before, found });
        }
        stated.push(statement(view, exchange, round, place, &signed)?);
    }
    Ok(stated)
}

/// One statement, at its place among the others, if it holds for this exchange and round.
fn statement(
    view: &View,
    exchange: ExchangeId,
    round: Round,
    place: usize,
    signed: &Signed<Statement>,
) -> Result<Stated, Error> {
    let statement = signed.payload();
    let (expected, found) = (view.cluster(), statement.cluster);
    if expected != found {
        return Err(Error::Cluster { place, expected, found });
    }
    let (expected, found) = (view.epoch(), statement.epoch);
    if expected != found {
        return Err(Error::Epoch { place, expected, found });
    }
    let (expected, found) = (exchange, statement.exchange);
    if expected != found {
        return Err(Error::Exchange { place, expected, found });
    }
    let (expected, found) = (round, statement.round);
    if expected != found {
        return Err(Error::Round { place, expected, found });
    }
    let found = *signed.signer();
    let (_, member) = view.member_by_key(found).ok_or(Error::NoMember { place, found })?;
    signed.verify(&member.identity).map_err(|source| Error::Statement { place, source })?;
    if let Some(certificate) = &statement.certificate {
        certificate.check(view).map_err(|source| Error::Certificate { place, source })?;
    }
    let (receipt, clock) = (statement.receipt, statement.clock);
    Ok(Stated { certificate: statement.certificate.clone(), receipt, clock })
}

/// Whether a statement, by itself, would hold for this exchange and round.
pub fn holds(
    view: &View,
    exchange: ExchangeId,
    round: Round,
    signed: &Signed<Statement>,
) -> Result<(), Error> {
    statement(view, exchange, round, 0, signed).map(drop)
}
