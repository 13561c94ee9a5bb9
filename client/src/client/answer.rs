//! Whether an answer proves itself. Pure.

use fairpost_api::v1::{self, ProofParts, State};
use fairpost_proto::chain::Chain;
use fairpost_proto::cose::{Payload, Signed};
use fairpost_proto::evidence::{Answer, Nro, Nrr, Refusal, Withdrawal};
use fairpost_proto::ids::{ExchangeId, KeyId, Verdict};
use fairpost_proto::lock::Locked;
use fairpost_proto::proof::{Claim, Proof};
use fairpost_proto::threshold::Token;
use fairpost_proto::trust::Trust;
use fairpost_proto::verify::{self, Report};
use fairpost_proto::vote::Certificate;

use super::Outcome;

/// What an answer amounts to.
pub(super) enum Judged<T> {
    /// It proves itself.
    Proven(T),
    /// It says that there is no verdict, which can't be proven.
    Undecided,
}

/// Judges the answer about `nro`'s exchange; or says how it lies.
pub(super) fn outcome(
    trust: &Trust,
    nro: &Signed<Nro>,
    given: v1::Outcome,
) -> Result<Judged<Outcome>, String> {
    let verdict = match given.state() {
        State::Undecided => return Ok(Judged::Undecided),
        other => verdict(other)?,
    };
    let token = Token::parse(&given.token).map_err(|error| error.to_string())?;
    let exchange = nro.payload().terms.exchange();
    verify::check_token(&trust.public_key(), trust.cluster(), verdict, exchange, &token)
        .map_err(|error| error.to_string())?;
    let terms = &nro.payload().terms;
    let evidence = Some(given.evidence).filter(|bytes| !bytes.is_empty());
    match (verdict, evidence.as_deref()) {
        (Verdict::Released, Some(bytes)) => check::<Nrr>(bytes, exchange, terms.recipient.key)?,
        (Verdict::Refused, Some(bytes)) => check::<Refusal>(bytes, exchange, terms.recipient.key)?,
        (Verdict::Withdrawn, Some(bytes)) => check::<Withdrawal>(bytes, exchange, Some(terms.sender.key))?,
        (Verdict::Expired, None) => {}
        (Verdict::Expired, Some(_)) => return Err("Expired comes with evidence".to_owned()),
        // The token alone proves the verdict.
        (_, None) if given.evidence_dropped_millis > 0 => {}
        (verdict, None) => return Err(format!("{verdict} comes without evidence")),
    }
    Ok(Judged::Proven(Outcome { verdict, token, evidence }))
}

/// Puts a proof together and has the judge look at it; or says how it lies. In CMP2 `lock` is disclosed if the mail was
/// released.
pub(super) fn proof(
    trust: &Trust,
    exchange: ExchangeId,
    claim: Claim,
    lock: Option<&Locked>,
    given: ProofParts,
) -> Result<(Proof, Report), String> {
    let expected = verdict(given.state())?;
    let proof = Proof {
        claim,
        trust: trust.clone(),
        nro: given.nro,
        evidence: Some(given.evidence).filter(|bytes| !bytes.is_empty()),
        certificate: Certificate::parse(&given.certificate).map_err(|error| error.to_string())?,
        token: Token::parse(&given.token).map_err(|error| error.to_string())?,
        disclosure: lock.filter(|_| expected == Verdict::Released).cloned(),
    };
    let report = verify::verify(&proof, trust).map_err(|error| error.to_string())?;
    if report.exchange != exchange {
        return Err(format!("the proof is for exchange {}, and {exchange} was asked for", report.exchange));
    }
    if report.verdict != expected {
        return Err(format!("it says {expected}, and its proof is for {}", report.verdict));
    }
    Ok((proof, report))
}

pub(super) fn verdict(state: State) -> Result<Verdict, String> {
    match state {
        State::Released => Ok(Verdict::Released),
        State::Withdrawn => Ok(Verdict::Withdrawn),
        State::Refused => Ok(Verdict::Refused),
        State::Expired => Ok(Verdict::Expired),
        other => Err(format!("its state is {}", other.as_str_name())),
    }
}

/// That `bytes` is evidence of its kind, for this exchange, signed by the key that the terms name. The verdict itself
/// rests on the token; whether the certificate was valid when it was recorded is in the proof.
fn check<P>(bytes: &[u8], expected: ExchangeId, key: Option<KeyId>) -> Result<(), String>
where
    P: Payload<Signer = Chain> + AsRef<Answer>,
{
    let evidence = Signed::<P>::parse(bytes).map_err(|error| error.to_string())?;
    let found = evidence.payload().as_ref().exchange;
    if found != expected {
        return Err(format!("its evidence is for exchange {found}, not {expected}"));
    }
    let found = evidence.signer().leaf_key().key_id();
    if let Some(expected) = key.filter(|key| *key != found) {
        return Err(format!("its evidence is signed by key {found}, not {expected}"));
    }
    evidence.verify_by_chain().map_err(|error| error.to_string())
}
