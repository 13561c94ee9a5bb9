//! Transcripts of finished ceremonies.

use ed25519_dalek::SigningKey;
use fairpost_proto::approval::ApprovedProposal;
use fairpost_proto::ceremony::{Action, Ceremony, Kept, Kind, Message, Transcript};
use fairpost_proto::chain::key_id;
use fairpost_proto::proposal::Proposal;
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;
use serde_json::json;

use super::ceremony::sign;
use super::faults::{self, fault};
use super::{Made, approved, bytes as field, ceremony, proposal, same, show};
use crate::item::{Item, bytes};
use crate::world::{signing_key, world};

const OPERATORS: [u8; 2] = [0x41, 0x42];

/// A cluster of one server, with two operators: its transcripts are short.
fn alone() -> Proposal {
    let mut draft = world().constitution().draft();
    draft.members.truncate(1);
    draft.faults = 0;
    Proposal::new("alone", draft).unwrap()
}

/// The one member of [`alone`].
fn member() -> SigningKey {
    world().members[0].clone()
}

/// The log of the ceremony of [`alone`]: the first attempt is given up once its member has joined.
fn log() -> Vec<Vec<u8>> {
    let mut state = Ceremony::new(alone());
    let mut log = Vec::new();
    let mut say = |state: &mut Ceremony, message: Vec<u8>| {
        state.apply(&Message::parse(&message).unwrap()).unwrap();
        log.push(message);
    };
    for (attempt, until) in [(1, Kind::Join), (2, Kind::Proof)] {
        let begin = sign(state.begin(vec![0]), &signing_key(OPERATORS[0]));
        say(&mut state, begin);
        let (mut kept, mut rng) = (None::<Kept>, ChaCha20Rng::seed_from_u64(attempt));
        let mut last = Kind::Begin;
        while last != until {
            for action in state.next(&member(), kept.as_ref(), &mut rng).unwrap() {
                match action {
                    Action::Keep(new) => kept = Some(new),
                    Action::Erase => panic!("nothing is kept in front of an attempt"),
                    Action::Send(message) => {
                        last = Message::parse(&message).unwrap().kind();
                        say(&mut state, message);
                    }
                }
            }
        }
    }
    assert!(state.outcome().unwrap().token.is_some(), "{:?}", state.progress());
    log
}

fn transcript(approved: ApprovedProposal, log: &[Vec<u8>]) -> Transcript {
    let mut transcript = Transcript::new(approved);
    log.iter().for_each(|message| transcript.push(Message::parse(message).unwrap()));
    transcript
}

/// The shortest there is: one member, one attempt given up, one finished.
pub(crate) fn a_transcript() -> Transcript {
    transcript(approved(alone(), &OPERATORS), &log())
}

/// The transcript of the ceremony in `ceremony.json`.
fn transcript_of_four() -> Transcript {
    transcript(approved(proposal(), &OPERATORS), &ceremony())
}

#[test]
fn transcripts_show_what_they_show_in_the_vectors() {
    let mut made = Made::default();
    let fields = |bytes: &[u8]| json!({ "transcript": hex::encode(bytes) });
    let read = |transcript: &Transcript| {
        let (ceremony, trust) = transcript.check().unwrap_or_else(|error| panic!("{error}"));
        json!({
            "transcript": hex::encode(transcript.to_bytes()),
            "attempt": ceremony.progress().attempt.to_string(),
            "trust": hex::encode(trust.to_bytes()),
        })
    };
    let (whole, log) = (a_transcript(), log());
    made.valid("four", "The ceremony in `ceremony.json`.", read(&transcript_of_four()));
    made.valid("two-attempts", "A cluster of one, whose first attempt was given up.", read(&whole));
    let (begin, second) = (&log[0], &log[2]);
    assert_eq!(Message::parse(second).unwrap().kind(), Kind::Begin);

    let item = Item::decode(&whole.to_bytes());
    made.faults("", faults::tagged(&item), fields);
    let good: Vec<Vec<u8>> = whole.messages().iter().map(|message| message.bytes().to_vec()).collect();
    let list = |messages: &[Vec<u8>]| Item::Array(messages.iter().map(bytes).collect());
    let with = |messages: &[Vec<u8>]| item.with(2, list(messages)).encode();
    let changed = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut messages = good.clone();
        change(&mut messages);
        with(&messages)
    };
    assert_eq!(with(&good), whole.to_bytes());
    let unapproved = |operators: &[u8]| transcript(approved(alone(), operators), &log).to_bytes();
    let forged = {
        let Message::Join(join) = Message::parse(&good[2]).unwrap() else { panic!("no join") };
        fairpost_proto::cose::Signed::sign(
            join.payload().clone(),
            key_id(&member().verifying_key()),
            &signing_key(0x77),
        )
    };
    let by_member = {
        let Message::Begin(begin) = Message::parse(begin).unwrap() else { panic!("no begin") };
        sign(begin.payload().clone(), &member())
    };
    let vote = world().vote(0, &world().leaf(fairpost_proto::ids::Verdict::Released), |_| {}).0;
    let last = good.len() - 1;
    made.faults(
        "",
        vec![
            fault(
                "unapproved",
                "Nobody approved the proposal.",
                "0 of the proposal's operators approved it, and it takes 2",
                unapproved(&[]),
            ),
            fault(
                "approved-by-one",
                "One of two operators approved the proposal.",
                "1 of the proposal's operators approved it, and it takes 2",
                unapproved(&OPERATORS[..1]),
            ),
            fault(
                "other-proposal",
                "The messages are about another proposal.",
                "message 0 of the transcript: the message is about proposal",
                item.with(1, bytes(approved(proposal(), &OPERATORS).to_bytes())).encode(),
            ),
            fault(
                "proposal-bare",
                "A proposal without the approvals around it.",
                "this is \"fairpost/proposal/v1\", expected",
                item.with(1, bytes(alone().bytes())).encode(),
            ),
            fault(
                "proposal-null",
                "Null for the proposal.",
                "a byte string expected",
                item.with(1, Item::Null).encode(),
            ),
            fault("no-messages", "Nothing was said.", "ends before the token", with(&[])),
            fault(
                "without-end",
                "The share of the genesis token is missing.",
                "ends before the token",
                changed(&|messages| drop(messages.pop())),
            ),
            fault(
                "without-first-begin",
                "The attempt that was given up never began.",
                "message 0 of the transcript: attempt 2 can't begin, the next is 1",
                changed(&|messages| drop(messages.remove(0))),
            ),
            fault(
                "without-begin",
                "The attempt that made the key never began.",
                "message 1 of the transcript: the message is of attempt 2, and the running one is 1",
                changed(&|messages| drop(messages.remove(1))),
            ),
            fault(
                "void",
                "All of the log: with what was said in the attempt that was given up.",
                "message 2 of the transcript is a begin, and what stands before it is void",
                with(&log),
            ),
            fault(
                "begins-swapped",
                "The second attempt first.",
                "message 0 of the transcript: attempt 2 can't begin, the next is 1",
                changed(&|messages| messages.swap(0, 1)),
            ),
            fault(
                "early",
                "A dealing in front of the join.",
                "message 2 of the transcript: the dealing of server-1 comes too early",
                changed(&|messages| messages.swap(2, 3)),
            ),
            fault(
                "twice",
                "A message twice.",
                "message 3 of the transcript: the join of server-1 is there already",
                changed(&|messages| messages.insert(3, messages[2].clone())),
            ),
            fault(
                "begin-after-end",
                "Another attempt, after the key was made.",
                &format!("message {} of the transcript is a begin", last + 1),
                changed(&|messages| messages.push(messages[1].clone())),
            ),
            fault(
                "begin-by-member",
                "The member lets an attempt begin, and there are operators.",
                "message 0 of the transcript",
                changed(&|messages| messages[0].clone_from(&by_member)),
            ),
            fault(
                "forged",
                "Another key signed in the member's name.",
                "message 2 of the transcript: the signature on this",
                changed(&|messages| messages[2] = forged.bytes().to_vec()),
            ),
            fault(
                "vote",
                "A vote has no place here.",
                "message 2 of the transcript: this is of type \"application/vnd.fairpost.vote+cose\"",
                changed(&|messages| messages[2] = vote.bytes().to_vec()),
            ),
            fault(
                "message-truncated",
                "A message without its last byte.",
                &format!("message {last} of the transcript: malformed: the bytes end"),
                changed(&|messages| assert!(messages[last].pop().is_some())),
            ),
            fault(
                "message-null",
                "Null for a message.",
                "a byte string expected",
                item.with(2, Item::Array(vec![Item::Null])).encode(),
            ),
            fault(
                "messages-null",
                "Null for the messages.",
                "an array expected",
                item.with(2, Item::Null).encode(),
            ),
            fault(
                "65537",
                "More messages than are read.",
                "the messages has length 65537",
                item.with(2, crate::item::raw(&[0x9a, 0, 1, 0, 1])).encode(),
            ),
        ],
        fields,
    );

    made.keep("transcript.json", |vector| {
        let bytes = field(vector, "transcript");
        let transcript = Transcript::parse(&bytes).map_err(show)?;
        assert_eq!(transcript.to_bytes(), bytes);
        let (ceremony, trust) = transcript.check().map_err(show)?;
        same(vector, "attempt", ceremony.progress().attempt)?;
        same(vector, "trust", hex::encode(trust.to_bytes()))
    });
}
