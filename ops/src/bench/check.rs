//! After the clock has stopped: every token is verified, and a sample of proofs with the mails that their tokens open.

use std::io::Cursor;

use fairpost_api::v1::ProofParts;
use fairpost_proto::ids::{ExchangeId, Verdict};
use fairpost_proto::proof::{Claim, Proof};
use fairpost_proto::threshold::{self, Message, Token};
use fairpost_proto::trust::Trust;
use fairpost_proto::verify::{self, Opening};
use fairpost_proto::vote::{self, Certificate};
use rand::rngs::OsRng;

use super::load::Done;
use super::prepare::Prepared;

/// How many tokens are verified together.
const TOGETHER: usize = 128;

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
        let work =
            |part: &[Done]| part.chunks(TOGETHER).try_for_each(|some| together(trust, exchanges, some));
        let workers: Vec<_> = done.chunks(part).map(|part| scope.spawn(move || work(part))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| Error::Panicked)?)
    })?;
    Ok(done.len())
}

/// Verifies them together, and each by itself only to find the wrong one.
fn together(trust: &Trust, exchanges: &[Prepared], done: &[Done]) -> Result<(), Error> {
    let mut signed = Vec::with_capacity(done.len());
    for done in done {
        let Some(prepared) = exchanges.get(done.place) else { continue };
        let exchange = prepared.exchange;
        let token = Token::parse(&done.token).map_err(|source| Error::Token { exchange, source })?;
        signed.push((exchange, token));
    }
    let (key, cluster) = (trust.public_key(), trust.cluster());
    let messages: Vec<_> =
        signed.iter().map(|(exchange, token)| (Message::released(cluster, *exchange), *token)).collect();
    if key.verify_batch(&messages, &mut OsRng) {
        return Ok(());
    }
    signed.iter().try_for_each(|(exchange, token)| {
        verify::check_token(&key, cluster, Verdict::Released, *exchange, token)
            .map_err(|error| Error::Verify(Box::new(error)))
    })
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rand::rngs::OsRng;

    use super::super::people::People;
    use super::super::prepare::prepare;
    use super::*;
    use crate::{init, operator, proposal};

    /// A cluster that does not run: its trust, prepared exchanges, and the token of each.
    struct Paper {
        _folder: tempfile::TempDir,
        trust: Trust,
        exchanges: Vec<Prepared>,
        done: Vec<Done>,
    }

    fn paper(count: usize) -> Paper {
        let folder = tempfile::tempdir().unwrap();
        let now = operator::now();
        init::run(&init::Options::new(folder.path()), now).unwrap();
        let approved = proposal::read(&folder.path().join(init::PROPOSAL)).unwrap();
        let (commitment, keys) = threshold::deal(3, 4, &mut OsRng).unwrap();
        let genesis = approved.agreed().unwrap().genesis(commitment).unwrap();
        let sign = |message: Message| {
            let shares: Vec<_> = (0..).zip(&keys).map(|(index, key)| (index, key.sign(&message))).collect();
            threshold::combine(3, &shares).unwrap()
        };
        let token = sign(genesis.message());
        let trust = Trust::new(genesis, token).unwrap();
        let people = People::new(&folder.path().join("ca"), 3, now).unwrap();
        let exchanges = prepare(&people, &trust, 1, count, now, &|_| {}).unwrap();
        assert_eq!(exchanges.len(), count);
        let token = |exchange| sign(Message::released(trust.cluster(), exchange)).to_bytes().to_vec();
        let done = exchanges.iter().enumerate().map(|(place, prepared)| Done {
            place,
            at: Instant::now(),
            redeem: Duration::ZERO,
            proof: None,
            token: token(prepared.exchange),
        });
        let done = done.collect();
        Paper { _folder: folder, trust, exchanges, done }
    }

    #[test]
    fn the_tokens_of_all_exchanges_are_verified() {
        let paper = paper(5);
        assert_eq!(tokens(&paper.trust, &paper.exchanges, &paper.done).unwrap(), 5);
    }

    #[test]
    fn one_wrong_token_among_many_is_found() {
        for place in 0..5 {
            let mut paper = paper(5);
            let other = paper.done[(place + 1) % 5].token.clone();
            paper.done[place].token = other;
            let wrong = tokens(&paper.trust, &paper.exchanges, &paper.done).unwrap_err();
            let expected = paper.exchanges[place].exchange;
            assert!(
                matches!(&wrong, Error::Verify(error) if matches!(&**error, verify::Error::Token { exchange, .. } if *exchange == expected)),
                "{wrong}"
            );
        }
    }

    #[test]
    fn what_is_no_token_is_named_with_its_exchange() {
        let mut paper = paper(1);
        paper.done[0].token.pop();
        let wrong = tokens(&paper.trust, &paper.exchanges, &paper.done).unwrap_err();
        assert!(wrong.to_string().contains(&paper.exchanges[0].exchange.to_string()), "{wrong}");
    }
}
