//! Transcripts: what is left of a log, and what whoever reads it can see.

use super::*;
use crate::approval::{self, ApprovedProposal};

/// The transcript of this log, as a member writes it down that takes part in it.
fn transcript(approved: &ApprovedProposal, log: &[Vec<u8>]) -> Transcript {
    let mut ceremony = Ceremony::new(approved.proposal().clone());
    let mut transcript = Transcript::new(approved.clone());
    for message in log.iter().map(|message| parse(message)) {
        if ceremony.apply(&message).is_ok() {
            transcript.push(message);
        }
    }
    transcript
}

fn approved(harness: &Harness) -> ApprovedProposal {
    let mut approved = ApprovedProposal::new(harness.proposal.clone());
    approved.approve(&operator()).unwrap();
    approved
}

/// As another reads it.
fn read(transcript: &Transcript) -> Transcript {
    let bytes = transcript.to_bytes();
    let read = Transcript::parse(&bytes).unwrap();
    assert_eq!(read.to_bytes(), bytes);
    read
}

fn kinds(transcript: &Transcript) -> Vec<Kind> {
    transcript.messages().iter().map(Message::kind).collect()
}

#[test]
fn a_transcript_makes_the_genesis_that_the_log_made() {
    let harness = honest(4, 1, 3, ROUGH);
    let transcript = read(&transcript(&approved(&harness), &harness.log));
    assert_eq!(transcript.proposal().proposal().digest(), harness.proposal.digest());
    let (ceremony, trust) = transcript.check().unwrap();
    let [seen, made] = [&ceremony, &harness.ceremony].map(|ceremony| ceremony.outcome().unwrap());
    assert_eq!(seen.genesis.bytes(), made.genesis.bytes());
    assert_eq!(seen.token, made.token);
    assert_eq!(trust.cluster(), made.genesis.cluster());
}

#[test]
fn what_was_said_in_an_attempt_is_void_once_the_next_begins() {
    let mut harness = honest_until(6, 1, |step| step == Step::Reporting);
    let first = harness.log.clone();
    harness.begin(vec![0, 1, 2, 3, 4]);
    harness.pending.clear();
    harness.run();
    let begins = [&first[0], &harness.log[first.len()]];

    let short = read(&transcript(&approved(&harness), &harness.log));
    assert_eq!(kinds(&short)[..3], [Kind::Begin, Kind::Begin, Kind::Join]);
    assert_eq!(short.messages().iter().map(Message::kind).filter(|kind| *kind == Kind::Begin).count(), 2);
    assert_eq!(short.messages()[..2].iter().map(Message::bytes).collect::<Vec<_>>(), begins);
    assert!(first[1..].iter().all(|void| short.messages().iter().all(|kept| kept.bytes() != void)));

    let (ceremony, trust) = short.check().unwrap();
    let [seen, made] = [&ceremony, &harness.ceremony].map(|ceremony| ceremony.outcome().unwrap());
    assert_eq!(seen.genesis.bytes(), made.genesis.bytes());
    assert_eq!(seen.token, made.token);
    assert_eq!(trust.cluster(), made.genesis.cluster());
    assert_eq!(ceremony.progress().attempt, 2);

    // All of the log is no transcript: what is void is not in it.
    let mut whole = short.clone();
    whole.messages.insert(1, parse(&first[1]));
    let error = Transcript::parse(&whole.to_bytes()).unwrap_err();
    assert!(matches!(error, TranscriptError::Void { place: 2 }), "{error}");
    // And without the first begin there is no second one.
    let mut second = short;
    second.messages.remove(0);
    let error = second.check().err().unwrap();
    let number = Refusal::Number { expected: 1, found: 2 };
    assert!(
        matches!(&error, TranscriptError::Refused { place: 0, source } if source.to_string() == number.to_string()),
        "{error}"
    );
}

#[test]
fn a_transcript_that_ends_too_early_shows_nothing() {
    let harness = honest(4, 1, 6, CALM);
    let whole = transcript(&approved(&harness), &harness.log);
    for length in 0..whole.messages().len() {
        let mut cut = whole.clone();
        cut.messages.truncate(length);
        let cut = read(&cut);
        assert!(matches!(cut.check(), Err(TranscriptError::Unfinished)), "{length} messages");
        assert!(cut.replay().is_ok());
    }
    // A key that is fixed is not yet one that works.
    let mut unproved = whole.clone();
    unproved.messages.retain(|message| message.kind() != Kind::Proof);
    assert!(unproved.replay().unwrap().outcome().is_some());
    assert!(matches!(unproved.check(), Err(TranscriptError::Unfinished)));
    whole.check().unwrap();
}

#[test]
fn a_transcript_of_a_proposal_that_was_not_approved_shows_nothing() {
    let harness = honest(4, 1, 6, CALM);
    let unapproved = read(&transcript(&ApprovedProposal::new(harness.proposal.clone()), &harness.log));
    for error in [unapproved.check().err(), unapproved.replay().err()] {
        let error = error.unwrap();
        let few =
            matches!(error, TranscriptError::Approval(approval::Error::TooFew { expected: 1, found: 0 }));
        assert!(few, "{error}");
    }
}

#[test]
fn a_transcript_in_another_order_is_refused_with_the_place() {
    let harness = honest(4, 1, 6, CALM);
    let whole = transcript(&approved(&harness), &harness.log);
    let kinds = kinds(&whole);
    let first = |kind| kinds.iter().position(|found| *found == kind).unwrap();
    // The first of each kind comes before the last one of the kind that it rests on.
    for (kind, step) in [
        (Kind::Dealing, Step::Joining),
        (Kind::Report, Step::Dealing),
        (Kind::Qualified, Step::Reporting),
        (Kind::Proof, Step::Signing),
    ] {
        let place = first(kind);
        let mut other = whole.clone();
        other.messages.swap(place - 1, place);
        match other.check().err().unwrap() {
            TranscriptError::Refused { place: found, source: Refusal::Early { step: found_step, .. } } => {
                assert_eq!((found, found_step), (place - 1, step));
            }
            error => panic!("{kind}: {error}"),
        }
    }
    // Dealings in another order are another list: who reports of the one that there was has signed for another log.
    let place = first(Kind::Dealing);
    let mut other = whole.clone();
    other.messages.swap(place, place + 1);
    let error = other.check().err().unwrap();
    let early = matches!(
        error,
        TranscriptError::Refused { place, source: Refusal::Early { step: Step::Reporting, .. } }
            if place == first(Kind::Qualified)
    );
    assert!(early, "{error}");
    // A message that is there twice, and one of another ceremony.
    let mut twice = whole.clone();
    twice.messages.insert(2, twice.messages[1].clone());
    let error = twice.check().err().unwrap();
    assert!(
        matches!(error, TranscriptError::Refused { place: 2, source: Refusal::Repeated { .. } }),
        "{error}"
    );
    let mut foreign = whole;
    foreign.messages[1] = parse(&honest(6, 1, 6, CALM).log[1]);
    let error = foreign.check().err().unwrap();
    assert!(
        matches!(error, TranscriptError::Refused { place: 1, source: Refusal::Proposal { .. } }),
        "{error}"
    );
}

#[test]
fn a_transcript_that_is_too_large_is_not_read() {
    let most = Transcript::MAX_BYTES;
    let error = Transcript::parse(&vec![0xa3; most + 1]).unwrap_err();
    assert!(matches!(error, TranscriptError::TooLarge { found } if found == most + 1));
    assert!(matches!(Transcript::parse(&vec![0xa3; most]), Err(TranscriptError::Cbor(_))));
}
