//! The judge: from a proof file and the trust in a cluster, with no network, to one answer.
//!
//! # Specification
//!
//! 1. **Trust**: the proof's genesis is the trusted one, its views chain to the same key.
//! 2. **NRO**: the sender's chain, valid at the recorded time; the signature; the terms.
//! 3. **Evidence**: the same for NRR, withdrawal or refusal, over this very NRO.
//! 4. **Certificate**: votes of a quorum of one view for one leaf, which names this NRO and this evidence; its time
//!    suits the verdict.
//! 5. **Token**, of the cluster's key, for this exchange and this verdict. Votes without it prove nothing.
//! 6. **Opening**: the sealed mail opens under the token, and its content is what the terms commit to. Without the
//!    mail the answer is "accepted, content not shown".
//!
//! The first step that fails ends the verification and names itself, with what was expected and what was found.
//!
//! # Relies on
//!
//! The [`Trust`] handed in is of the cluster that the judge means. That a certificate was not revoked is attested by
//! the voters as of the leaf's place; no revocation list is consulted here.
//!
//! # Guarantees
//!
//! [`Report`] exists only for a proof that passed steps 1 to 5 ([`verify`]; tests `step_1_…` to `step_6_…` in
//! `tests/promises/judge.rs` and vectors `proof.json` break each in turn). An honest sender can't be accused (tests
//! `an_honest_sender_can_not_be_accused`, `garbage_under_a_valid_lock_is_no_delivery_and_proves_fraud`).

use std::io::{Read, Seek, SeekFrom, Write};

use crate::evidence::{self, Checked};
use crate::ids::{ClusterId, Digest, ExchangeId, Protocol, Timestamp, Verdict};
use crate::lock::Locked;
use crate::proof::{Claim, Proof};
use crate::sealed::{self, Garbage};
use crate::terms::Terms;
use crate::threshold::{self, Message, PublicKey, Token};
use crate::trust::Trust;
use crate::view::View;
use crate::vote;

/// The step that failed, and how.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Step 1: the proof is of another cluster.
    #[error("trust: the proof is of cluster {found}, and you trust {expected}")]
    Cluster {
        /// The trusted cluster.
        expected: ClusterId,
        /// The proof's.
        found: ClusterId,
    },
    /// Step 1: the votes are of a view that the proof does not hold.
    #[error("trust: the votes are of epoch {found}, and the proof knows views up to epoch {newest}")]
    Epoch {
        /// The newest view's epoch.
        newest: u32,
        /// The votes' epoch.
        found: u32,
    },
    /// Step 2: the NRO does not count.
    #[error("NRO: {0}")]
    Nro(evidence::Error),
    /// Step 3: the evidence does not count.
    #[error("evidence: {0}")]
    Evidence(evidence::Error),
    /// Step 4: the leaf is about another exchange.
    #[error("certificate: the leaf is for exchange {found}, and the NRO makes {expected}")]
    LeafExchange {
        /// The NRO's exchange.
        expected: ExchangeId,
        /// The leaf's.
        found: ExchangeId,
    },
    /// Step 4: the leaf names another NRO.
    #[error("certificate: the leaf names NRO {found}, and the proof has {expected}")]
    LeafNro {
        /// Digest of the proof's NRO.
        expected: Digest,
        /// The leaf's.
        found: Digest,
    },
    /// Step 4: the leaf names other evidence.
    #[error("certificate: the leaf names evidence {found:?}, and the proof has {expected:?}")]
    LeafEvidence {
        /// Digest of the proof's evidence.
        expected: Option<Digest>,
        /// The leaf's.
        found: Option<Digest>,
    },
    /// Step 4: a receipt that was recorded at or after the deadline.
    #[error("certificate: Released is recorded for {time}, which is not before the deadline {expires}")]
    Late {
        /// The leaf's time.
        time: Timestamp,
        /// The deadline.
        expires: Timestamp,
    },
    /// Step 4: an expiry that was recorded before deadline and grace had passed.
    #[error("certificate: Expired is recorded for {time}, before deadline and grace passed at {due}")]
    Early {
        /// The leaf's time.
        time: Timestamp,
        /// Deadline and grace.
        due: Timestamp,
    },
    /// Step 4: there is no quorum.
    #[error("certificate: {0}")]
    Certificate(#[from] vote::Error),
    /// Step 5: the token is not the cluster's for this exchange and verdict.
    #[error("token: for {verdict} of exchange {exchange}: {source}")]
    Token {
        /// The leaf's verdict.
        verdict: Verdict,
        /// The exchange.
        exchange: ExchangeId,
        /// What is wrong.
        source: threshold::Error,
    },
    /// Step 6: the mail at hand is not the one that the NRO is about.
    #[error("opening: the sealed mail has digest {found}, and the NRO is about {expected}")]
    OtherMail {
        /// The digest in the NRO.
        expected: Digest,
        /// The mail's.
        found: Digest,
    },
    /// Step 6: a mail can be opened only after it was released.
    #[error("opening: the verdict is {0}, and only a Released mail can be opened")]
    NotReleased(Verdict),
    /// Step 6: the disclosed lock is missing, or not the one in the mail.
    #[error("opening: the proof discloses the lock {found:?}, and the mail's is {expected}")]
    Disclosure {
        /// Digest of the lock in the mail.
        expected: Digest,
        /// Digest of the lock in the proof, if there is one.
        found: Option<Digest>,
    },
    /// Step 6: the mail can't be read, or its outside is malformed.
    #[error("opening: {0}")]
    Sealed(#[from] sealed::Error),
    /// Step 6: the mail does not open to what the sender signed. Against the sender, that is a proof of fraud.
    #[error("opening: {0}; the sender locked something else than it signed")]
    Garbage(Garbage),
    /// Step 6: fraud is claimed, and the mail opens to what the sender signed.
    #[error("opening: fraud is claimed, but the mail opens to content {found}, as the terms say")]
    NoFraud {
        /// The content's digest.
        found: Digest,
    },
    /// Step 6: fraud is claimed, and there is no mail to look at. For callers of [`verify`], which can't know that.
    #[error("opening: fraud is claimed, and it takes the sealed mail to see it")]
    FraudUnseen,
}

/// What the judge has seen of the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The sealed mail opens under the token, and is what the terms commit to.
    Shown {
        /// The mail's length in bytes.
        bytes: u64,
    },
    /// No mail was shown, or there is none to open (the verdict is not Released).
    NotShown,
    /// The sealed mail does not open to what the terms commit to: the claim of fraud is true.
    Fraud(Garbage),
}

/// What a proof proves.
#[derive(Clone, Debug)]
pub struct Report {
    /// The cluster.
    pub cluster: ClusterId,
    /// The exchange.
    pub exchange: ExchangeId,
    /// Its terms.
    pub terms: Terms,
    /// Its verdict.
    pub verdict: Verdict,
    /// When it was recorded.
    pub time: Timestamp,
    /// The epoch of the view that decided.
    pub epoch: u32,
    /// The names of the members that voted.
    pub voters: Vec<String>,
    /// What was seen of the content.
    pub opening: Opening,
}

/// Steps 1 to 5: everything but the content.
///
/// `Ok` says nothing of a claim of fraud, which is about the content: who has no mail to go on with
/// [`verify_with_mail`] must answer such a claim with [`Error::FraudUnseen`].
pub fn verify(proof: &Proof, trusted: &Trust) -> Result<Report, Error> {
    let view = step_trust(proof, trusted)?;
    let leaf = proof.certificate.leaf();

    evidence::check_nro(view, &proof.nro, leaf.time).map_err(Error::Nro)?;
    let checked = evidence::check(view, leaf.verdict, &proof.nro, proof.evidence.as_deref(), leaf.time)
        .map_err(Error::Evidence)?;
    step_certificate(proof, view, &checked)?;
    check_token(&trusted.public_key(), view.cluster(), leaf.verdict, leaf.exchange, &proof.token)?;

    let voters = proof.certificate.votes().filter_map(|vote| view.member_by_key(*vote.signer()));
    Ok(Report {
        cluster: view.cluster(),
        exchange: leaf.exchange,
        terms: checked.terms().clone(),
        verdict: leaf.verdict,
        time: leaf.time,
        epoch: view.epoch(),
        voters: voters.map(|(_, member)| member.name.clone()).collect(),
        opening: Opening::NotShown,
    })
}

/// All steps. `container` is the sealed part of the mail, from its magic on; the opened mail goes to `out`, and must be
/// thrown away unless the answer is `Ok` and [`Opening::Shown`].
pub fn verify_with_mail<R: Read + Seek, W: Write>(
    proof: &Proof,
    trusted: &Trust,
    container: R,
    out: W,
) -> Result<Report, Error> {
    let mut report = verify(proof, trusted)?;
    if report.verdict != Verdict::Released {
        return Err(Error::NotReleased(report.verdict));
    }
    let nro = evidence::check_nro(deciding_view(proof)?, &proof.nro, report.time).map_err(Error::Nro)?;
    let opened = open(
        container,
        &nro.payload().terms,
        nro.payload().sealed,
        proof.disclosure.as_ref(),
        &proof.token,
        out,
    );
    report.opening = match (proof.claim, opened) {
        (Claim::Verdict, Ok(bytes)) => Opening::Shown { bytes },
        (Claim::Fraud, Ok(_)) => return Err(Error::NoFraud { found: report.terms.content }),
        (Claim::Fraud, Err(Error::Garbage(garbage))) => Opening::Fraud(garbage),
        (_, Err(error)) => return Err(error),
    };
    Ok(report)
}

/// Opens the sealed mail in `container` with the release token, which the caller has checked, and compares its content
/// with what the terms commit to. In CMP2 `lock` is the one out of a party's own copy. Gives the mail's length.
pub fn open<R: Read + Seek, W: Write>(
    mut container: R,
    terms: &Terms,
    sealed_digest: Digest,
    lock: Option<&Locked>,
    token: &Token,
    out: W,
) -> Result<u64, Error> {
    sealed::read_header(&mut container)?;
    let start = container.stream_position().map_err(sealed::Error::from)?;
    let found = sealed::body_digest(&mut container)?;
    if found != sealed_digest {
        return Err(Error::OtherMail { expected: sealed_digest, found });
    }
    container.seek(SeekFrom::Start(start)).map_err(sealed::Error::from)?;
    let stanza = sealed::inspect(&mut container, terms.protocol, terms.exchange())?;
    let locked = match terms.protocol {
        Protocol::Cmp1 => stanza.lock_in_the_open()?,
        Protocol::Cmp2 => {
            let expected = stanza.lock_digest();
            match lock {
                Some(lock) if lock.digest() == expected => lock.clone(),
                other => return Err(Error::Disclosure { expected, found: other.map(Locked::digest) }),
            }
        }
    };
    container.seek(SeekFrom::Start(start)).map_err(sealed::Error::from)?;
    match sealed::open(container, &locked, token, terms.content, out) {
        Ok(opened) => Ok(opened.bytes),
        Err(sealed::Error::Garbage(garbage)) => Err(Error::Garbage(garbage)),
        Err(other) => Err(other.into()),
    }
}

/// That `token` is the cluster's for this verdict on this exchange.
pub fn check_token(
    key: &PublicKey,
    cluster: ClusterId,
    verdict: Verdict,
    exchange: ExchangeId,
    token: &Token,
) -> Result<(), Error> {
    let message = Message::Verdict { cluster, verdict, exchange };
    key.verify(&message, token).map_err(|source| Error::Token { verdict, exchange, source })
}

fn step_trust<'p>(proof: &'p Proof, trusted: &Trust) -> Result<&'p View, Error> {
    let (expected, found) = (trusted.cluster(), proof.trust.cluster());
    if expected != found {
        return Err(Error::Cluster { expected, found });
    }
    // The cluster's id is the digest of its genesis, which holds the key: equal ids are equal keys.
    deciding_view(proof)
}

fn deciding_view(proof: &Proof) -> Result<&View, Error> {
    let found = proof.certificate.epoch().unwrap_or_default();
    proof.trust.view_of(found).ok_or(Error::Epoch { newest: proof.trust.view().epoch(), found })
}

fn step_certificate(proof: &Proof, view: &View, checked: &Checked) -> Result<(), Error> {
    let leaf = proof.certificate.leaf();
    let (expected, found) = (checked.exchange, leaf.exchange);
    if expected != found {
        return Err(Error::LeafExchange { expected, found });
    }
    let (expected, found) = (checked.nro.digest(), leaf.nro);
    if expected != found {
        return Err(Error::LeafNro { expected, found });
    }
    let (expected, found) = (checked.evidence, leaf.evidence);
    if expected != found {
        return Err(Error::LeafEvidence { expected, found });
    }
    let (time, expires) = (leaf.time, checked.terms().expires);
    let due = expires.plus(view.parameters().grace);
    match leaf.verdict {
        Verdict::Released if time >= expires => return Err(Error::Late { time, expires }),
        Verdict::Expired if time < due => return Err(Error::Early { time, due }),
        _ => {}
    }
    Ok(proof.certificate.check(view)?)
}
