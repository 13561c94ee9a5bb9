//! After the clock has stopped: every token is verified, and a sample of proofs with the mails that their tokens open.

use std::io::Cursor;

use fairpost_api::v1::ProofParts;
use fairpost_proto::ids::{ExchangeId, Verdict};
use fairpost_proto::proof::{Claim, Proof};
use fairpost_proto::threshold::{self, Token};
use fairpost_proto::trust::Trust;
use fairpost_proto::verify::{self, Opening};
use fairpost_proto::vote::{self, Certificate};

use super::load::Done;
use super::prepare::Prepared;

/// What a node gave does not hold.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A token is none.
    #[error("the token of exchange {exchange}: {source}")]
    Token {
        /// The exchange.
        exchange: ExchangeId,
        /// What is wrong with it.
        source: threshold::Error,
    },
    /// A token is not the cluster's.
    #[error(transparent)]
    Verify(#[from] Box<verify::Error>),
    /// A certificate is none.
    #[error("the certificate of exchange {exchange}: {source}")]
    Certificate {
        /// The exchange.
        exchange: ExchangeId,
        /// What is wrong with it.
        source: vote::Error,
    },
    /// A proof convinces, and is of something else.
    #[error("the proof of exchange {exchange} is for {found}, with its content {opening:?}")]
    Other {
        /// The exchange.
        exchange: ExchangeId,
        /// What it proves.
        found: String,
        /// What was seen of the mail.
        opening: Opening,
    },
    /// A thread ended before its work was done.
    #[error("a thread that verified tokens panicked")]
    Panicked,
}

/// Verifies the token of every exchange, on all processors; gives how many there were.
pub(super) fn tokens(trust: &Trust, exchanges: &[Prepared], done: &[Done]) -> Result<usize, Error> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let part = done.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let work = |part: &[Done]| part.iter().try_for_each(|done| token(trust, exchanges, done));
        let workers: Vec<_> = done.chunks(part).map(|part| scope.spawn(move || work(part))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| Error::Panicked)?)
    })?;
    Ok(done.len())
}

fn token(trust: &Trust, exchanges: &[Prepared], done: &Done) -> Result<(), Error> {
    let Some(prepared) = exchanges.get(done.place) else { return Ok(()) };
    let exchange = prepared.exchange;
    let token = Token::parse(&done.token).map_err(|source| Error::Token { exchange, source })?;
    verify::check_token(&trust.public_key(), trust.cluster(), Verdict::Released, exchange, &token)
        .map_err(|error| Error::Verify(Box::new(error)))
}

/// Has the judge look at a proof and the mail that it is about.
pub(super) fn proof(trust: &Trust, prepared: &Prepared, mail: &[u8], parts: ProofParts) -> Result<(), Error> {
    let exchange = prepared.exchange;
    let proof = Proof {
        claim: Claim::Verdict,
        trust: trust.clone(),
        nro: parts.nro,
        evidence: Some(parts.evidence).filter(|evidence| !evidence.is_empty()),
        certificate: Certificate::parse(&parts.certificate)
            .map_err(|source| Error::Certificate { exchange, source })?,
        token: Token::parse(&parts.token).map_err(|source| Error::Token { exchange, source })?,
        disclosure: None,
    };
    let report = verify::verify_with_mail(&proof, trust, Cursor::new(mail), std::io::sink())
        .map_err(|error| Error::Verify(Box::new(error)))?;
    match report.opening {
        Opening::Shown { .. } if report.exchange == exchange => Ok(()),
        opening => Err(Error::Other { exchange, found: report.exchange.to_string(), opening }),
    }
}
