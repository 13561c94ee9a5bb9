//! After all faults: what was begun is asked again, and every node about everything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context as _;
use fairpost::client::{Client, Options};
use fairpost::sealed_mail::SealedMail;
use fairpost_api::v1::{Outcome, ProofParts, State};
use fairpost_proto::cose::Signed;
use fairpost_proto::evidence::Nro;
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
use super::progress::count;

/// How many exchanges are looked at together.
const TOGETHER: usize = 16;
/// How long one node has for one answer. A contested exchange takes all of it.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks again, and all nodes; gives all that is known then.
pub(super) async fn round(world: &World, book: &Book) -> anyhow::Result<History> {
    let begun: Vec<_> =
        book.begun.lock().unwrap().iter().map(|(id, begun)| (*id, std::sync::Arc::clone(begun))).collect();
    let refused = refusals(world);
    book.progress.now(format!("asking again about {} exchanges", begun.len()));
    // Those that all nodes refused would cost time for nothing; they are asked about all the same.
    let again = begun.iter().map(|(id, begun)| complete(world, book, begun, refused.get(&id.to_string())));
    let again: Vec<anyhow::Result<()>> =
        futures::stream::iter(again).buffer_unordered(TOGETHER).collect().await;
    again.into_iter().collect::<anyhow::Result<()>>()?;
    book.progress.now("waiting until all nodes are level after that");
    let level = world.level().await?;

    book.progress.now("asking each node about each exchange");
    let refused = refusals(world);
    let nodes = 0..world.cluster.nodes.len();
    let channels = nodes.map(|node| world.cluster.channel(node)).collect::<anyhow::Result<Vec<_>>>()?;
    let looks = begun
        .iter()
        .map(|(id, begun)| look(world, book, *id, begun, &channels, refused.get(&id.to_string())));
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

/// The nodes that refused their vote on an exchange because they had not seen its entry in time, or a receipt in time; by the
/// exchange as it is written. The logs of a long run are long: they are read once.
fn refusals(world: &World) -> BTreeMap<String, BTreeSet<usize>> {
    let mut refused: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for node in 0..world.cluster.nodes.len() {
        let log = world.cluster.log(node);
        let lines = log.lines().filter(|line| {
            line.contains("does not vote")
                && (line.contains("was first seen") || line.contains("a receipt was seen"))
        });
        for line in lines {
            for exchange in line.split_whitespace().filter_map(|word| word.strip_prefix("exchange=")) {
                refused.entry(exchange.to_owned()).or_default().insert(node);
            }
        }
    }
    refused
}

/// Has an exchange completed that may not be.
async fn complete(
    world: &World,
    book: &Book,
    begun: &Begun,
    refused: Option<&BTreeSet<usize>>,
) -> anyhow::Result<()> {
    let mail = SealedMail::read(&begun.sealed[..])?;
    let refused = refused.map_or(0, BTreeSet::len);
    let contested = world.cluster.nodes.len() - refused < world.cluster.trust.view().quorum().q();
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
    refused: Option<&BTreeSet<usize>>,
) -> anyhow::Result<(ExchangeId, Final)> {
    let mail = SealedMail::read(&begun.sealed[..])?;
    let (trust, nro) = (&world.cluster.trust, mail.nro());
    let mut last = Final { refused: refused.cloned().unwrap_or_default(), ..Final::default() };
    // All nodes at once: a contested exchange takes each all of its time.
    let asked = channels.iter().map(|channel| ask_node(trust, book, id, begun, nro, channel));
    for (node, (answer, proof)) in futures::future::try_join_all(asked).await?.into_iter().enumerate() {
        last.nodes.insert(node, answer);
        if let Some(proof) = proof {
            last.proofs.insert(node, proof);
        }
    }
    count(&book.progress.looked);
    Ok((id, last))
}

/// What a node answers about an exchange, and its proof if there is a verdict.
async fn ask_node(
    trust: &Trust,
    book: &Book,
    id: ExchangeId,
    begun: &Begun,
    nro: &Signed<Nro>,
    channel: &Channel,
) -> anyhow::Result<(Answer, Option<Answer>)> {
    let asked = request(trust.cluster(), Method::Status, nro, None);
    let message = envelope(&begun.sender, asked, nro.bytes(), None)?;
    let answer = tokio::time::timeout(PATIENCE, call(channel, Method::Status, message)).await;
    let answer = match answer {
        Ok(Ok(outcome)) => told(book, id, &outcome),
        Ok(Err(status)) => Answer::Failed(status.to_string()),
        Err(_) => Answer::Failed(format!("no answer within {PATIENCE:?}")),
    };
    if !matches!(answer, Answer::Verdict { .. }) {
        return Ok((answer, None));
    }
    let parts = tokio::time::timeout(PATIENCE, get_proof(channel, trust.cluster(), &begun.sender, nro)).await;
    let proof = parts.context("no answer in time").and_then(|parts| proven(trust, id, parts?));
    Ok((answer, Some(proof.unwrap_or_else(|error| Answer::Failed(format!("{error:#}"))))))
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
