//! After all faults: what was begun is asked again, and every node about everything.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use fairpost::client::{Client, Options};
use fairpost::sealed_mail::SealedMail;
use fairpost_api::v1::{Outcome, ProofParts, State};
use fairpost_proto::ids::{ExchangeId, Verdict};
use fairpost_proto::proof::{Claim, Proof};
use fairpost_proto::request::Method;
use fairpost_proto::threshold::Token;
use fairpost_proto::trust::Trust;
use fairpost_proto::verify;
use fairpost_proto::vote::Certificate;
use fairpost_tests::history::{Answer, Final, History};
use fairpost_tests::world::World;
use fairpost_tests::{call, envelope, get_proof, request};
use futures::StreamExt as _;
use tonic::transport::Channel;

use super::clients::{Begun, Book, ask};

/// How many exchanges are looked at together.
const TOGETHER: usize = 8;
/// How long one node has for one answer. A contested exchange takes all of it.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks again, and all nodes; gives all that is known then.
pub(super) async fn round(world: &World, book: &Book) -> anyhow::Result<History> {
    let begun: Vec<_> =
        book.begun.lock().unwrap().iter().map(|(id, begun)| (*id, std::sync::Arc::clone(begun))).collect();
    let logs: Vec<String> = (0..world.cluster.nodes.len()).map(|node| world.cluster.log(node)).collect();
    // Those that all nodes refused would cost time for nothing; they are asked about all the same.
    let again = begun.iter().map(|(id, begun)| complete(world, book, *id, begun, &logs));
    let again: Vec<anyhow::Result<()>> =
        futures::stream::iter(again).buffer_unordered(TOGETHER).collect().await;
    again.into_iter().collect::<anyhow::Result<()>>()?;
    let level = world.level().await?;

    let logs: Vec<String> = (0..world.cluster.nodes.len()).map(|node| world.cluster.log(node)).collect();
    let channels =
        (0..logs.len()).map(|node| world.cluster.channel(node)).collect::<anyhow::Result<Vec<_>>>()?;
    let looks = begun.iter().map(|(id, begun)| look(world, book, *id, begun, &channels, &logs));
    let looked: Vec<anyhow::Result<(ExchangeId, Final)>> =
        futures::stream::iter(looks).buffer_unordered(TOGETHER).collect().await;
    let quorum = world.cluster.trust.view().quorum();
    Ok(History {
        events: book.events(),
        finals: looked.into_iter().collect::<anyhow::Result<_>>()?,
        logs: level
            .iter()
            .enumerate()
            .map(|(node, status)| (node, (status.evidence_log_size, status.evidence_log_root.clone())))
            .collect(),
        nodes: quorum.n(),
        quorum: quorum.q(),
    })
}

/// The nodes that refused their vote on an exchange because they had not seen its entry in time, or a receipt in time.
fn refused(id: ExchangeId, logs: &[String]) -> BTreeSet<usize> {
    let id = format!("exchange={id}");
    let refuses = |line: &str| {
        line.contains("does not vote")
            && line.contains(&id)
            && (line.contains("was first seen") || line.contains("a receipt was seen"))
    };
    (0..logs.len()).filter(|node| logs[*node].lines().any(refuses)).collect()
}

/// Has an exchange completed that may not be.
async fn complete(
    world: &World,
    book: &Book,
    id: ExchangeId,
    begun: &Begun,
    logs: &[String],
) -> anyhow::Result<()> {
    let mail = SealedMail::read(&begun.sealed[..])?;
    let contested = logs.len() - refused(id, logs).len() < world.cluster.trust.view().quorum().q();
    // Nothing can complete it, but whoever asks must not get a false answer either.
    let deadline = if contested { PATIENCE } else { Duration::from_secs(30) };
    let options = Options { deadline, attempt: PATIENCE, ..Options::default() };
    let client = Client::new(world.cluster.trust.clone(), options)?;
    let (sender, recipient) = (&begun.sender, &begun.recipient);
    let answer = ask(book, &client, sender, recipient, &mail, begun.operation).await;
    if !matches!(answer, Answer::Verdict { .. }) && !contested {
        // Its deadline has passed: then there is another verdict.
        ask(book, &client, sender, recipient, &mail, "status").await;
    }
    Ok(())
}

async fn look(
    world: &World,
    book: &Book,
    id: ExchangeId,
    begun: &Begun,
    channels: &[Channel],
    logs: &[String],
) -> anyhow::Result<(ExchangeId, Final)> {
    let mail = SealedMail::read(&begun.sealed[..])?;
    let (trust, nro) = (&world.cluster.trust, mail.nro());
    let mut last = Final { refused: refused(id, logs), ..Final::default() };
    for (node, channel) in channels.iter().enumerate() {
        let asked = request(trust.cluster(), Method::Status, nro, None);
        let message = envelope(&begun.sender, asked, nro.bytes(), None)?;
        let answer = tokio::time::timeout(PATIENCE, call(channel, Method::Status, message)).await;
        let answer = match answer {
            Ok(Ok(outcome)) => told(book, id, &outcome),
            Ok(Err(status)) => Answer::Failed(status.to_string()),
            Err(_) => Answer::Failed(format!("no answer within {PATIENCE:?}")),
        };
        let decided = matches!(answer, Answer::Verdict { .. });
        last.nodes.insert(node, answer);
        if decided {
            let parts =
                tokio::time::timeout(PATIENCE, get_proof(channel, trust.cluster(), &begun.sender, nro)).await;
            let proof = parts.context("no answer in time").and_then(|parts| proven(trust, id, parts?));
            last.proofs.insert(node, proof.unwrap_or_else(|error| Answer::Failed(format!("{error:#}"))));
        }
    }
    Ok((id, last))
}

fn told(book: &Book, id: ExchangeId, outcome: &Outcome) -> Answer {
    match verdict(outcome.state()) {
        Some(verdict) => book.judge(id, verdict, &outcome.token),
        None => Answer::Undecided,
    }
}

const fn verdict(state: State) -> Option<Verdict> {
    match state {
        State::Released => Some(Verdict::Released),
        State::Withdrawn => Some(Verdict::Withdrawn),
        State::Refused => Some(Verdict::Refused),
        State::Expired => Some(Verdict::Expired),
        _ => None,
    }
}

/// What the judge says of one node's proof.
fn proven(trust: &Trust, id: ExchangeId, parts: ProofParts) -> anyhow::Result<Answer> {
    let proof = Proof {
        claim: Claim::Verdict,
        trust: trust.clone(),
        nro: parts.nro.clone(),
        evidence: Some(parts.evidence.clone()).filter(|bytes| !bytes.is_empty()),
        certificate: Certificate::parse(&parts.certificate)?,
        token: Token::parse(&parts.token)?,
        disclosure: None,
    };
    let report = verify::verify(&proof, trust)?;
    anyhow::ensure!(report.exchange == id, "the proof is for {}", report.exchange);
    anyhow::ensure!(verdict(parts.state()) == Some(report.verdict), "it says {:?}", parts.state());
    Ok(Answer::Proof(report.verdict))
}
