//! Runs a key ceremony: has it begin, shows how far it is, and fetches what it made.
//!
//! The nodes make the key among themselves; nothing secret comes by here. What a node says about the ceremony is shown, and not
//! believed: the trust file is taken only from a transcript that holds ([`Transcript::check`]), for the proposal at hand.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use fairpost_api::tls::ChannelOptions;
use fairpost_api::v1::ceremony_client::CeremonyClient;
use fairpost_api::v1::{
    CeremonyProgress, CeremonyStep, GetProgressRequest, GetTranscriptRequest, SubmitRequest,
};
use fairpost_proto::ceremony::{Begin, Transcript, TranscriptError};
use fairpost_proto::chain::key_id;
use fairpost_proto::cose::Signed;
use fairpost_proto::ids::Digest;
use fairpost_proto::proposal::Proposal;
use fairpost_proto::trust::Trust;
use futures::future::join_all;
use serde::Serialize;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::operator::{self, Operator};

/// How often the nodes are asked how far they are.
const PAUSE: Duration = Duration::from_millis(200);
/// How long to wait for the last of the participants to have its share on disk, once the key is there.
const LINGER: Duration = Duration::from_secs(10);
/// The version of the JSON form.
const VERSION: u32 = 1;

/// Why there is no key, or none yet.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A node can't be called.
    #[error(transparent)]
    Operator(#[from] operator::Error),
    /// Whoever is to be left out is no member.
    #[error("the proposal has no member {found:?}; its members are {}", members.join(", "))]
    NoMember {
        /// The name.
        found: String,
        /// The names in the proposal.
        members: Vec<String>,
    },
    /// Nobody lets the attempt begin.
    #[error("no attempt can begin: {0}")]
    Refused(String),
    /// The attempt can't finish.
    #[error(
        "attempt {attempt} can't finish: {why}{}; run this again with --again{}",
        if named.is_empty() { String::new() } else { format!(" (see {})", named.join(", ")) },
        if named.is_empty() { "" } else { ", and where a member can be spared, --without it" }
    )]
    Dead {
        /// Which attempt.
        attempt: u32,
        /// Why.
        why: String,
        /// The members that are named in it.
        named: Vec<String>,
    },
    /// It takes longer than one wanted to wait.
    #[error(
        "the key ceremony waits: {waiting}; it goes on by itself when they are there, and this command can be run again"
    )]
    Waiting {
        /// For whom and what.
        waiting: String,
    },
    /// A transcript does not hold.
    #[error("the transcript of {node} does not hold: {source}")]
    Transcript {
        /// Who gave it.
        node: String,
        /// What is wrong with it.
        source: Box<TranscriptError>,
    },
    /// A transcript is of another proposal.
    #[error("the transcript of {node} is of proposal {found}, and this is {expected}")]
    Other {
        /// Who gave it.
        node: String,
        /// The digest of this proposal.
        expected: Digest,
        /// The digest of the other.
        found: Digest,
    },
}

/// How to go about it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names of members to be left out of the attempt.
    pub without: Vec<String>,
    /// Whether another attempt is to begin though one is running.
    pub again: bool,
    /// How long a node may take for an answer.
    pub patience: Duration,
    /// How long to wait for the end.
    pub timeout: Duration,
}

/// How far it is, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How many of the six steps are done.
    pub done: u8,
    /// What is going on, and for whom it waits.
    pub text: String,
}

/// A key that was made.
#[derive(Clone, Debug, Serialize)]
pub struct Made {
    /// The version of this form.
    pub version: u32,
    /// The cluster's id.
    pub cluster: String,
    /// The digest of the proposal.
    pub proposal: String,
    /// In which attempt it was made.
    pub attempt: u32,
    /// The members by name, and whether they have their share on disk.
    pub members: Vec<Member>,
    /// What members did that no honest one does.
    pub misdeeds: Vec<Misdeed>,
    /// The trust file's content.
    #[serde(skip)]
    pub trust: Trust,
}

/// A member at the end.
#[derive(Clone, Debug, Serialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Whether it took part.
    pub participated: bool,
    /// Whether it has finished.
    pub finished: bool,
}

/// What a member did.
#[derive(Clone, Debug, Serialize)]
pub struct Misdeed {
    /// In which attempt.
    pub attempt: u32,
    /// Its name.
    pub member: String,
    /// What it did.
    pub what: String,
    /// Whether its own signatures prove it.
    pub proven: bool,
}

struct Node {
    name: String,
    client: CeremonyClient<Channel>,
}

type Answer = Result<CeremonyProgress, Status>;

/// Runs it to its end. `tell` hears of every change.
///
/// # Errors
///
/// Why there is no key, or none yet. The ceremony goes on all the same where it can.
pub async fn run(
    proposal: &Proposal,
    operator: &Operator,
    key: &SigningKey,
    options: &Options,
    mut tell: impl FnMut(&Line),
) -> Result<Made, Error> {
    let begun = Instant::now();
    let participants = participants(proposal, &options.without)?;
    let nodes = connect(proposal, operator, options.patience)?;
    let (mut again, mut last) = (options.again, None);
    // The attempt that this run asked for, and why it did not count.
    let mut refused: Option<(u32, String)> = None;
    loop {
        let answers = ask(&nodes, options.patience).await;
        let line = describe(proposal, &nodes, &answers);
        // Nodes that have the key start anew, and don't answer for a moment.
        let starting = line.done == 0 && last.as_ref().is_some_and(|last: &Line| last.done == 5);
        if !starting && last.as_ref() != Some(&line) {
            tell(&line);
            last = Some(line.clone());
        }
        let finished = finished(&answers);
        if !finished.is_empty() {
            return fetch(proposal, &nodes, &finished, options.patience).await;
        }
        if let Some(progress) = furthest(proposal, &answers) {
            if let Some((attempt, refusal)) = &refused
                && progress.attempt < *attempt
            {
                return Err(Error::Refused(refusal.clone()));
            }
            if progress.attempt == 0 || again {
                let (attempt, participants) = (progress.attempt + 1, participants.clone());
                let begin = Begin { proposal: proposal.digest(), attempt, participants };
                if let Some(refusal) = submit(&nodes, &answers, begin, key, options.patience).await {
                    again = false;
                    // Another run may have been faster: whether this attempt is there shows when the nodes are asked next.
                    refused = Some((attempt, refusal)).filter(|(_, refusal)| !refusal.is_empty());
                }
            } else if !progress.dead.is_empty() {
                let named: BTreeSet<String> =
                    progress.misdeeds.iter().map(|misdeed| misdeed.member.clone()).collect();
                let (attempt, why) = (progress.attempt, progress.dead.clone());
                return Err(Error::Dead { attempt, why, named: named.into_iter().collect() });
            }
        }
        if begun.elapsed() > options.timeout {
            return Err(Error::Waiting { waiting: line.text });
        }
        // Nothing tells when a node has come further.
        tokio::time::sleep(PAUSE).await;
    }
}

fn participants(proposal: &Proposal, without: &[String]) -> Result<Vec<u16>, Error> {
    let members = proposal.members();
    if let Some(found) = without.iter().find(|name| !members.iter().any(|member| member.name == **name)) {
        let members = members.iter().map(|member| member.name.clone()).collect();
        return Err(Error::NoMember { found: found.clone(), members });
    }
    let taking_part = (0..).zip(members).filter(|(_, member)| !without.contains(&member.name));
    Ok(taking_part.map(|(index, _)| index).collect())
}

fn connect(proposal: &Proposal, operator: &Operator, patience: Duration) -> Result<Vec<Node>, Error> {
    let options = ChannelOptions {
        connect_timeout: patience,
        request_timeout: Some(patience),
        ..ChannelOptions::default()
    };
    let node = |member: &fairpost_proto::view::Member| {
        let client = CeremonyClient::new(operator.channel(member, options)?);
        Ok(Node { name: member.name.clone(), client })
    };
    proposal.members().iter().map(node).collect()
}

fn timed<T>(message: T, patience: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(patience);
    request
}

async fn ask(nodes: &[Node], patience: Duration) -> Vec<Answer> {
    let asking = nodes.iter().map(|node| {
        let mut client = node.client.clone();
        async move {
            let asked = client.get_progress(timed(GetProgressRequest {}, patience));
            // The channel's own limit counts from the connection on.
            match tokio::time::timeout(patience, asked).await {
                Ok(answer) => answer.map(tonic::Response::into_inner),
                Err(_) => Err(Status::deadline_exceeded("no answer")),
            }
        }
    });
    join_all(asking).await
}

/// The places of those that have finished.
fn finished(answers: &[Answer]) -> Vec<usize> {
    let done = |answer: &Answer| answer.as_ref().is_ok_and(|progress| !progress.trust.is_empty());
    answers.iter().enumerate().filter(|(_, answer)| done(answer)).map(|(place, _)| place).collect()
}

/// Whether a node speaks of this proposal.
fn about(proposal: &Proposal, progress: &CeremonyProgress) -> bool {
    progress.proposal == proposal.digest().as_bytes()
}

/// The answer of whoever is furthest.
fn furthest<'a>(proposal: &Proposal, answers: &'a [Answer]) -> Option<&'a CeremonyProgress> {
    let answers = answers.iter().filter_map(|answer| answer.as_ref().ok());
    answers
        .filter(|progress| about(proposal, progress))
        .max_by_key(|progress| (progress.attempt, progress.step))
}

/// Has an attempt begin, through whichever node orders it. Gives why it does not count, empty if it does; nothing if no
/// node orders anything yet.
async fn submit(
    nodes: &[Node],
    answers: &[Answer],
    begin: Begin,
    key: &SigningKey,
    patience: Duration,
) -> Option<String> {
    let message = Signed::sign(begin, key_id(&key.verifying_key()), key).bytes().to_vec();
    for (node, _) in nodes.iter().zip(answers).filter(|(_, answer)| answer.is_ok()) {
        let request = SubmitRequest { message: message.clone(), passed_on: false };
        if let Ok(answer) = node.client.clone().submit(timed(request, patience)).await {
            return Some(answer.into_inner().refusal);
        }
    }
    None
}

/// What is going on, for people.
fn describe(proposal: &Proposal, nodes: &[Node], answers: &[Answer]) -> Line {
    let mut problems = Vec::new();
    for (node, answer) in nodes.iter().zip(answers) {
        let name = &node.name;
        match answer {
            Err(status) if matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated) => {
                problems.push(format!("{name}: {}", status.message()));
            }
            Err(_) => problems.push(format!("{name} does not answer")),
            Ok(progress) if progress.trust.is_empty() && !about(proposal, progress) => {
                problems.push(format!("{name} has another proposal"));
            }
            Ok(progress) if !progress.lost.is_empty() => problems.push(format!("{name}: {}", progress.lost)),
            Ok(_) => {}
        }
    }
    let Some(progress) = furthest(proposal, answers) else {
        let text = if problems.is_empty() { "done".into() } else { problems.join("; ") };
        return Line { done: if problems.is_empty() { 6 } else { 0 }, text };
    };
    let (done, doing) = match progress.step() {
        CeremonyStep::Unspecified | CeremonyStep::NotBegun => (0, "not begun"),
        CeremonyStep::Joining => (0, "one-time keys are published"),
        CeremonyStep::Dealing => (1, "secrets are drawn and dealt"),
        CeremonyStep::Reporting => (2, "what was dealt is checked"),
        CeremonyStep::Signing => (3, "the set that counts is signed"),
        CeremonyStep::Proving => (4, "the shares are shown to work"),
        CeremonyStep::Done => (5, "the nodes write their shares"),
    };
    let mut text = match progress.attempt {
        0 => doing.to_owned(),
        attempt => format!("attempt {attempt}: {doing}"),
    };
    if progress.missing > 0 {
        let awaited: Vec<String> =
            progress.awaited.iter().map(|awaited| format!("{} ({})", awaited.member, awaited.what)).collect();
        text.push_str(&format!(", waiting for {} of {}", progress.missing, awaited.join(", ")));
    }
    for complaint in &progress.complaints {
        let state = if complaint.opened { "answered" } else { "open" };
        problems.push(format!("{} complains of {} ({state})", complaint.by, complaint.dealer));
    }
    for misdeed in &progress.misdeeds {
        problems.push(format!("{} {}", misdeed.member, misdeed.what));
    }
    for problem in problems {
        text.push_str("; ");
        text.push_str(&problem);
    }
    Line { done, text }
}

/// Takes the transcript of one that has finished, and waits a little for the others to finish.
async fn fetch(
    proposal: &Proposal,
    nodes: &[Node],
    finished_places: &[usize],
    patience: Duration,
) -> Result<Made, Error> {
    let mut problem = None;
    let mut taken = None;
    for node in finished_places.iter().filter_map(|place| nodes.get(*place)) {
        match transcript(proposal, node, patience).await {
            Ok(transcript) => {
                taken = Some(transcript);
                break;
            }
            Err(error) => problem = Some(error),
        }
    }
    let Some((ceremony, trust)) = taken else {
        return Err(
            problem.unwrap_or_else(|| Error::Waiting { waiting: "no node gives the transcript".into() })
        );
    };
    let took_part = ceremony.participants();
    let since = Instant::now();
    let done = loop {
        let done = finished(&ask(nodes, patience).await);
        let all = took_part.iter().all(|member| done.contains(&usize::from(*member)));
        if all || since.elapsed() > LINGER {
            break done;
        }
        tokio::time::sleep(PAUSE).await;
    };
    let members = nodes.iter().enumerate().map(|(place, node)| Member {
        name: node.name.clone(),
        participated: took_part.iter().any(|member| usize::from(*member) == place),
        finished: done.contains(&place),
    });
    let progress = ceremony.progress();
    let name =
        |index: u16| proposal.member(index).map_or_else(String::new, |(member, _)| member.name.clone());
    let misdeeds = progress.misdeeds.iter().map(|misdeed| Misdeed {
        attempt: misdeed.attempt,
        member: name(misdeed.member),
        what: misdeed.offence.to_string(),
        proven: misdeed.offence.convicts(),
    });
    Ok(Made {
        version: VERSION,
        cluster: trust.cluster().to_string(),
        proposal: proposal.digest().to_string(),
        attempt: progress.attempt,
        members: members.collect(),
        misdeeds: misdeeds.collect(),
        trust,
    })
}

async fn transcript(
    proposal: &Proposal,
    node: &Node,
    patience: Duration,
) -> Result<(fairpost_proto::ceremony::Ceremony, Trust), Error> {
    let silent = |problem: String| Error::Waiting { waiting: format!("{}: {problem}", node.name) };
    let read = async {
        let mut client = node.client.clone();
        let mut parts = client.get_transcript(Request::new(GetTranscriptRequest {})).await?.into_inner();
        let mut bytes = Vec::new();
        while let Some(part) = parts.message().await? {
            bytes.extend(part.bytes);
            if bytes.len() > Transcript::MAX_BYTES {
                return Err(Status::out_of_range("its transcript has no end"));
            }
        }
        Ok(bytes)
    };
    let bytes = match tokio::time::timeout(patience.saturating_mul(10), read).await {
        Ok(read) => read.map_err(|status: Status| silent(status.message().to_owned()))?,
        Err(_) => return Err(silent("its transcript does not come to an end".into())),
    };
    verify(&bytes, Some(proposal.digest()), &node.name)
}

/// Checks a transcript, of this proposal if one is given: the ceremony, and the trust file that it made.
///
/// # Errors
///
/// [`Error::Transcript`] or [`Error::Other`]; `from` is named in it.
pub fn verify(
    bytes: &[u8],
    proposal: Option<Digest>,
    from: &str,
) -> Result<(fairpost_proto::ceremony::Ceremony, Trust), Error> {
    let wrong = |source| Error::Transcript { node: from.to_owned(), source: Box::new(source) };
    let transcript = Transcript::parse(bytes).map_err(wrong)?;
    let found = transcript.proposal().proposal().digest();
    if let Some(expected) = proposal.filter(|expected| *expected != found) {
        return Err(Error::Other { node: from.to_owned(), expected, found });
    }
    transcript.check().map_err(wrong)
}
