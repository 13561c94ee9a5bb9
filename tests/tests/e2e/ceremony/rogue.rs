//! A member that holds real keys and does not play by the rules, against three real nodes.

use std::collections::HashSet;

use ed25519_dalek::SigningKey;
use fairpost_api::v1::ceremony_client::CeremonyClient;
use fairpost_api::v1::{GetTranscriptRequest, SubmitRequest};
use fairpost_node::config::Config;
use fairpost_ops::operator;
use fairpost_proto::ceremony::{Action, Ceremony, Dealing, Kept, Kind, Message, Opening, Transcript};
use fairpost_proto::chain::key_id;
use fairpost_proto::cose::Signed;
use fairpost_proto::threshold::{Polynomial, Row};
use fairpost_tests::{Cluster, Settings, eventually, within};
use rand::rngs::OsRng;

use super::{prepared, progress, works};

const ROGUE: usize = 3;
const VICTIM: u16 = 0;

/// The member that the test plays.
struct Rogue {
    key: SigningKey,
    kept: Option<Kept>,
    said: HashSet<Vec<u8>>,
}

/// What it does with the messages that an honest member would send.
type Turn<'a> = &'a dyn Fn(&Ceremony, Message, &SigningKey) -> Vec<Vec<u8>>;

impl Rogue {
    fn of(cluster: &Cluster) -> Self {
        let config = Config::load(&cluster.nodes[ROGUE].config).unwrap();
        Self { key: operator::read_key(&config.identity).unwrap(), kept: None, said: HashSet::new() }
    }

    /// Reads the log and says what it likes, until this holds.
    async fn act(
        &mut self,
        cluster: &Cluster,
        turn: Turn<'_>,
        until: impl Fn(&Ceremony) -> bool,
    ) -> Ceremony {
        let acting = async {
            loop {
                let Some(mut state) = read(cluster).await else { continue };
                // What it says itself it need not read: so it deals before the others, which have to.
                loop {
                    if until(&state) {
                        return state;
                    }
                    let messages = self.say(&state, turn);
                    if messages.is_empty() {
                        break;
                    }
                    for message in messages {
                        submit(cluster, message.clone()).await;
                        let _ = state.apply(&Message::parse(&message).unwrap());
                    }
                }
            }
        };
        within("the rogue's part", acting).await.unwrap()
    }
}

/// Whether nobody but the rogue is awaited.
fn last_to_speak(state: &Ceremony) -> bool {
    state.progress().awaited.iter().all(|awaited| usize::from(awaited.member) == ROGUE)
}

/// The log, as the first node has it.
async fn read(cluster: &Cluster) -> Option<Ceremony> {
    let mut client = CeremonyClient::new(cluster.operator_channel(0).unwrap());
    let mut parts = client.get_transcript(GetTranscriptRequest {}).await.ok()?.into_inner();
    let mut bytes = Vec::new();
    while let Some(part) = parts.message().await.ok()? {
        bytes.extend(part.bytes);
    }
    Some(Transcript::parse(&bytes).unwrap().replay().unwrap())
}

/// Until a node has it ordered.
async fn submit(cluster: &Cluster, message: Vec<u8>) {
    let tried = async || {
        for node in 0..3 {
            let mut client = CeremonyClient::new(cluster.operator_channel(node).ok()?);
            let request = SubmitRequest { message: message.clone(), passed_on: false };
            if client.submit(request).await.is_ok() {
                return Some(());
            }
        }
        None
    };
    eventually("an order", tried).await.unwrap();
}

impl Rogue {
    /// What it has to say now, in its own way.
    fn say(&mut self, state: &Ceremony, turn: Turn<'_>) -> Vec<Vec<u8>> {
        let mut said = Vec::new();
        for action in state.next(&self.key, self.kept.as_ref(), &mut OsRng).unwrap() {
            match action {
                Action::Keep(kept) => self.kept = Some(kept),
                Action::Erase => self.kept = None,
                Action::Send(message) => {
                    let message = Message::parse(&message).unwrap();
                    if message.kind() != Kind::Join || last_to_speak(state) {
                        said.extend(turn(state, message, &self.key));
                    }
                }
            }
        }
        // What the log has in another form already is not said for ever.
        said.retain(|message| self.said.insert(message.clone()));
        said
    }
}

/// A ceremony that the rogue takes part in, up to where `until` holds.
async fn with(rogue: Turn<'_>, until: impl Fn(&Ceremony) -> bool) -> (Cluster, Rogue, Ceremony) {
    let cluster = prepared(Settings::default(), &[0, 1, 2]);
    let begun = super::ceremony(&cluster, &["--timeout", "1"]);
    assert_eq!(begun.await.code, Some(75));
    let mut player = Rogue::of(&cluster);
    let state = player.act(&cluster, rogue, until).await;
    (cluster, player, state)
}

fn done(state: &Ceremony) -> bool {
    state.outcome().is_some_and(|outcome| outcome.token.is_some())
}

fn sign(dealing: Dealing, key: &SigningKey) -> Vec<u8> {
    Signed::sign(dealing, key_id(&key.verifying_key()), key).bytes().to_vec()
}

/// Its dealing, in which the victim's row is garbage.
fn spoiled(message: &Message, key: &SigningKey) -> Option<Vec<u8>> {
    let Message::Dealing(signed) = message else { return None };
    let mut dealing = signed.payload().clone();
    if let Some(byte) = dealing.rows[usize::from(VICTIM)].last_mut() {
        *byte ^= 1;
    }
    Some(sign(dealing, key))
}

/// Whether all others have reported, and whoever complained has an answer: the set is closed with the last report.
fn has_answered(state: &Ceremony) -> bool {
    let progress = state.progress();
    let open = progress.complaints.iter().any(|complaint| !complaint.opened);
    last_to_speak(state) && (!open || !progress.misdeeds.is_empty())
}

/// Whether its dealing is among those that count; the three honest ones may have been faster.
fn complained(state: &Ceremony) -> bool {
    state.progress().complaints.iter().any(|complaint| usize::from(complaint.dealer) == ROGUE)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dealing_that_does_not_fit_is_complained_of_and_counts_only_once_it_is_opened() {
    // The rogue opens the row when it is asked to, as an honest dealer whose encryption failed: all goes well.
    for _ in 0..10 {
        let honest_else = |state: &Ceremony, message: Message, key: &SigningKey| match message.kind() {
            Kind::Report if !has_answered(state) => vec![],
            _ => vec![spoiled(&message, key).unwrap_or_else(|| message.bytes().to_vec())],
        };
        let (mut cluster, _, state) = with(&honest_else, done).await;
        let made = super::ceremony(&cluster, &[]).await;
        assert_eq!(made.code, Some(0), "{}", made.err);
        works(&mut cluster, &[0, 1, 2]).await;
        if complained(&state) {
            return;
        }
    }
    panic!("in ten ceremonies the rogue never dealt among the first three");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_publishes_a_wrong_row_is_convicted_by_name_and_its_dealing_is_out() {
    for _ in 0..10 {
        let lying = |state: &Ceremony, message: Message, key: &SigningKey| match &message {
            Message::Report(_) if !has_answered(state) => vec![],
            Message::Dealing(_) => spoiled(&message, key).into_iter().collect(),
            Message::Opening(signed) => {
                let Opening { context, dealing, reader, .. } = signed.payload().clone();
                let row: Row = Polynomial::random(3, &mut OsRng).unwrap().row(reader);
                let opening = Opening { context, dealing, reader, row };
                vec![Signed::sign(opening, key_id(&key.verifying_key()), key).bytes().to_vec()]
            }
            _ => vec![message.bytes().to_vec()],
        };
        let (mut cluster, _, state) = with(&lying, done).await;
        if state.progress().misdeeds.is_empty() {
            continue;
        }
        let misdeed = &state.progress().misdeeds[0];
        assert_eq!(usize::from(misdeed.member), ROGUE);
        assert!(misdeed.offence.convicts());
        // Operators are told by name.
        let told = super::ceremony(&cluster, &[]).await;
        assert_eq!(told.code, Some(0), "{}", told.err);
        let told = String::from_utf8(told.out).unwrap();
        assert!(told.contains("n4          opened a row that does not fit its own commitment"), "{told}");
        works(&mut cluster, &[0, 1, 2]).await;
        return;
    }
    panic!("in ten ceremonies the rogue never dealt among the first three");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_goes_silent_half_way_is_awaited_and_another_attempt_can_begin() {
    let silent = |_: &Ceremony, message: Message, _: &SigningKey| match message.kind() {
        Kind::Join | Kind::Dealing => vec![message.bytes().to_vec()],
        _ => vec![],
    };
    let waits_for_report = |state: &Ceremony| {
        let progress = state.progress();
        progress.awaited.len() == 1
            && progress
                .awaited
                .iter()
                .all(|awaited| awaited.kind == Kind::Report && usize::from(awaited.member) == ROGUE)
    };
    let (mut cluster, _, _) = with(&silent, waits_for_report).await;
    let told = super::ceremony(&cluster, &["--timeout", "1"]).await;
    assert_eq!(told.code, Some(75));
    assert!(told.err.contains("waiting for 1 of n4 (report)"), "{}", told.err);
    // The real node takes its place, and has nothing of what it would have to know of this attempt.
    cluster.launch(ROGUE).unwrap();
    let lost = eventually("the node that has forgotten", async || {
        progress(&cluster, ROGUE).await.map(|progress| progress.lost).filter(|lost| !lost.is_empty())
    });
    assert!(lost.await.unwrap().contains("what it kept for that is not there"));
    let made = super::ceremony(&cluster, &["--again"]).await;
    assert_eq!(made.code, Some(0), "{}", made.err);
    assert!(String::from_utf8(made.out).unwrap().contains("n4          has its share"));
    works(&mut cluster, &[0, 1, 2, 3]).await;
}
