//! Blame and refusals as operators see them.

use fairpost_api::v1::{Blame, BlameKind, Blames, Clearing, Refusal};
use fairpost_proto::ids::KeyId;
use fairpost_proto::view::View;
use tonic::Status;

use super::error;
use crate::witness::blame::{Handle, Kind};
use crate::witness::refusals::Refused;

/// The identity of the member of this name.
pub(super) fn member(view: &View, name: &str) -> Result<KeyId, Status> {
    let known = view.member_by_name(name).map(|(_, member)| member.key_id());
    known.ok_or_else(|| {
        let names: Vec<&str> = view.members().iter().map(|member| member.name.as_str()).collect();
        let message = format!("there is no member {name:?}; the members are {}", names.join(", "));
        error::bad_field("member", "no_member", message)
    })
}

/// Whom this node blames: everybody, or only one, with the evidence.
pub(super) fn all(view: &View, blame: &Handle, only: Option<KeyId>) -> Blames {
    let name =
        |key: KeyId| view.member_by_key(key).map_or_else(String::new, |(_, member)| member.name.clone());
    let wanted = |key: KeyId| only.is_none_or(|only| only == key);
    let records = blame.records().into_iter().filter(|record| wanted(record.member));
    let blames = records.map(|record| Blame {
        member: name(record.member),
        identity: record.member.as_bytes().to_vec(),
        kind: kind(record.kind).into(),
        first_millis: record.first.millis(),
        last_millis: record.last.millis(),
        count: record.count,
        subject: record.subject,
        transferable: record.kind.is_transferable(),
        evidence: if only.is_some() { record.evidence } else { Vec::new() },
    });
    let cleared = blame.cleared().into_iter().filter(|(member, _)| wanted(*member));
    let cleared = cleared.map(|(member, cleared)| Clearing {
        member: name(member),
        identity: member.as_bytes().to_vec(),
        time_millis: cleared.time.millis(),
        by: cleared.by.as_bytes().to_vec(),
        records: cleared.records,
    });
    Blames { blames: blames.collect(), cleared: cleared.collect() }
}

const fn kind(kind: Kind) -> BlameKind {
    match kind {
        Kind::Leaves => BlameKind::Leaves,
        Kind::Roots => BlameKind::Roots,
        Kind::Entries => BlameKind::Entries,
        Kind::Ballots => BlameKind::Ballots,
        Kind::Share => BlameKind::Share,
        Kind::Vote => BlameKind::Vote,
    }
}

/// What this node did not sign.
pub(super) fn refusal(refused: &Refused) -> Refusal {
    Refusal {
        asked: refused.asked.word().to_owned(),
        exchange: refused.exchange.as_bytes().to_vec(),
        round: refused.round.get(),
        reason: refused.refusal.reason().to_owned(),
        message: refused.refusal.to_string(),
        first_millis: refused.first.millis(),
        last_millis: refused.last.millis(),
        count: refused.count,
    }
}
