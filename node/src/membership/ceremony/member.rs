//! What this node does in its ceremony: as often as the log changes, whatever [`Ceremony::next`] says.
//!
//! # Guarantees
//!
//! - What is to be kept is synced before any message that follows from it is sent.
//! - A message is sent again, as it was, until the log has it.
//! - A transcript of another member is adopted only if it holds for this node's own proposal, and is of no earlier attempt
//!   than this node's log (`checked`; test `a_transcript_of_another_proposal_or_an_earlier_attempt_is_not_adopted`).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use fairpost_proto::ceremony::{Action, Ceremony, Kept, Lost, Transcript};
use fairpost_proto::ids::Digest;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use rand::rngs::OsRng;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{debug, error, info, warn};

use super::machine::{Log, State};
use super::peers::Peers;
use super::service::Orderer;
use super::{Error, kept};

/// How long to wait before a message that was not ordered is sent again: nothing tells when somebody leads.
const RETRY: Duration = Duration::from_millis(200);
/// How often another member is asked whether it has finished.
const POLL: Duration = Duration::from_secs(1);

/// What it takes to take part.
pub struct Options {
    /// This member's index.
    pub index: u16,
    /// This member's identity key.
    pub identity: Arc<SigningKey>,
    /// The log's state.
    pub log: Log,
    /// What must not be forgotten.
    pub kept: kept::File,
    /// Has messages ordered.
    pub orderer: Orderer,
    /// The others.
    pub peers: Arc<Peers>,
    /// Where it is said why this member can't go on, if it can't.
    pub lost: watch::Sender<Option<String>>,
}

/// What a member has at the end.
pub struct Finished {
    /// The ceremony, with its token.
    pub state: State,
    /// What was kept, with the share if this member has one.
    pub kept: Option<Kept>,
}

/// Takes part until the ceremony is done.
///
/// # Errors
///
/// If what is to be kept can't be.
pub async fn take_part(options: Options) -> Result<Finished, Error> {
    let (log, peers, index) = (options.log.clone(), Arc::clone(&options.peers), options.index);
    tokio::select! {
        finished = act(options) => finished,
        never = catch_up(log, peers, index) => match never {},
    }
}

async fn act(options: Options) -> Result<Finished, Error> {
    let Options { identity, log, kept: file, orderer, lost, .. } = options;
    let mut kept = file.get()?;
    let mut changes = log.watch();
    let (mut under_way, mut sent) = (FuturesUnordered::new(), HashSet::new());
    loop {
        changes.borrow_and_update();
        let state = log.state();
        let turn = next(&state, &identity, kept.as_ref()).await?;
        let problem = turn.as_ref().err().map(ToString::to_string);
        if *lost.borrow() != problem {
            if let Some(problem) = &problem {
                error!(problem, "this node can't go on in this attempt of the key ceremony");
            }
            lost.send_replace(problem);
        }
        for action in turn.unwrap_or_default() {
            match action {
                Action::Keep(new) => {
                    kept = Some(new);
                    keep(&file, kept.as_ref())?;
                }
                Action::Erase => {
                    kept = None;
                    keep(&file, None)?;
                }
                Action::Send(message) => {
                    let digest = Digest::of(&message);
                    if sent.insert(digest) {
                        under_way.push(send(orderer.clone(), digest, message));
                    }
                }
            }
        }
        if state.ceremony.outcome().is_some_and(|outcome| outcome.token.is_some()) {
            return Ok(Finished { state, kept });
        }
        tokio::select! {
            // The log is this task's own as well, so it does not end before.
            _ = changes.changed() => {}
            Some(digest) = under_way.next() => { sent.remove(&digest); }
        }
    }
}

/// What is to be done now. Rows are checked against commitments, which takes a while where there are many members.
async fn next(
    state: &State,
    identity: &Arc<SigningKey>,
    kept: Option<&Kept>,
) -> Result<Result<Vec<Action>, Lost>, Error> {
    let (ceremony, identity, kept) = (state.ceremony.clone(), Arc::clone(identity), kept.cloned());
    let asked = tokio::task::spawn_blocking(move || ceremony.next(&identity, kept.as_ref(), &mut OsRng));
    asked.await.map_err(|error| Error::Broken(error.to_string()))
}

fn keep(file: &kept::File, kept: Option<&Kept>) -> Result<(), Error> {
    tokio::task::block_in_place(|| kept.map_or_else(|| file.erase(), |kept| file.put(kept)))
}

/// Sends a message once, and comes back when it was ordered, or when it is time to try again.
async fn send(orderer: Orderer, digest: Digest, message: Vec<u8>) -> Digest {
    match orderer.submit(message, false).await {
        Ok(refusal) if refusal.is_empty() => {}
        Ok(refusal) => {
            // The log of whoever leads may be ahead of this node's; then this is not said again.
            info!(refusal, "a message of this node does not count");
            sleep(RETRY).await;
        }
        Err(problem) => {
            debug!(problem, "a message is not ordered yet");
            sleep(RETRY).await;
        }
    }
    digest
}

/// Asks the others in turn whether they have finished without this node, and takes their transcript then.
async fn catch_up(log: Log, peers: Arc<Peers>, index: u16) -> std::convert::Infallible {
    let others: Vec<u16> = (0..peers.count() as u16).filter(|other| *other != index).collect();
    let mut tick = interval(POLL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        for other in &others {
            tick.tick().await;
            match peers.transcript(*other).await {
                Ok(None) => {}
                Err(problem) => {
                    debug!(other, problem, "another member does not tell whether it has finished")
                }
                Ok(Some(transcript)) => {
                    let state = log.state();
                    let checked = tokio::task::spawn_blocking(move || checked(&state, transcript)).await;
                    match checked.map_err(|error| error.to_string()).and_then(|checked| checked) {
                        Ok((ceremony, transcript)) => {
                            info!(other, "the ceremony was finished without this node: its transcript holds");
                            log.adopt(ceremony, transcript);
                        }
                        Err(problem) => warn!(other, problem, "another member's transcript is not taken"),
                    }
                }
            }
        }
        if others.is_empty() {
            std::future::pending::<()>().await;
        }
    }
}

/// The ceremony of a transcript, if it is one of this node's proposal, whole, and of no earlier attempt.
fn checked(own: &State, transcript: Transcript) -> Result<(Ceremony, Transcript), String> {
    let (expected, found) = (own.ceremony.proposal().digest(), transcript.proposal().proposal().digest());
    if expected != found {
        return Err(format!("it is of proposal {found}, and this node's is {expected}"));
    }
    let (ceremony, _) = transcript.check().map_err(|error| error.to_string())?;
    let (least, found) = (own.ceremony.progress().attempt, ceremony.progress().attempt);
    if found < least {
        return Err(format!("it is of attempt {found}, and this node knows of attempt {least}"));
    }
    Ok((ceremony, transcript))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{begin, finish, state};
    use super::*;
    use crate::testing::World;

    #[test]
    fn a_transcript_of_another_proposal_or_an_earlier_attempt_is_not_adopted() {
        let world = World::new();
        let mut made = state(&world, "ours");
        begin(&mut made, &world);
        begin(&mut made, &world);
        let unfinished = made.transcript.clone();
        finish(&mut made, &world);
        let made = made.transcript;
        let mut own = state(&world, "ours");
        for attempt in 0..=2 {
            assert_eq!(own.ceremony.progress().attempt, attempt);
            let (ceremony, transcript) =
                checked(&own, made.clone()).map_err(|why| format!("{attempt}: {why}")).unwrap();
            assert!(ceremony.outcome().is_some_and(|outcome| outcome.token.is_some()));
            assert_eq!(transcript.to_bytes(), made.to_bytes());
            begin(&mut own, &world);
        }
        let refused = |own: &State, transcript: &Transcript| checked(own, transcript.clone()).err().unwrap();
        let earlier = refused(&own, &made);
        assert!(earlier.contains("of attempt 2, and this node knows of attempt 3"), "{earlier}");
        let other = state(&world, "another");
        let foreign = refused(&other, &made);
        let own = other.ceremony.proposal().digest().to_string();
        assert!(foreign.contains("it is of proposal") && foreign.contains(&own), "{foreign}");
        let unfinished = refused(&state(&world, "ours"), &unfinished);
        assert!(unfinished.contains("ends before the token"), "{unfinished}");
    }
}
