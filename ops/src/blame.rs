//! Whom the nodes blame, and why they did not sign.
//!
//! # Specification
//!
//! Every member of the newest view in the trust file is asked, as for [`crate::status`]. What each says is shown as its
//! word: a node that lies can blame whom it likes. Only a proof of misconduct speaks for itself, and it is given out
//! only if it convicts the member by the trust file at hand ([`proof_against`]; test
//! `only_a_proof_that_convicts_the_member_is_given_out`).

mod show;

use std::time::Duration;

use fairpost_api::tls::ChannelOptions;
use fairpost_api::v1::admin_client::AdminClient;
use fairpost_api::v1::{
    Blames, ClearBlameRequest, GetBlamesRequest, GetRefusalsRequest, Refusal as RefusalMessage,
};
use fairpost_proto::ids::{ExchangeId, KeyId, Timestamp};
use fairpost_proto::misconduct::{self, Culprit, Misconduct};
use fairpost_proto::trust::Trust;
use fairpost_proto::view::{Member, View};
use futures::future::join_all;
use serde::Serialize;
use tonic::transport::Channel;

use crate::operator::Operator;
use crate::status::explain;

pub use show::{cleared, refusals_table, table};

/// The version of the JSON forms.
const VERSION: u32 = 1;
/// The largest answer that is taken: proofs have a trust file in them.
const ANSWER: usize = 64 << 20;

/// What a node said, or why it said nothing.
pub type Said<T> = (String, Result<T, String>);

/// Serialised, the JSON form of `fairpostctl blame list`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Version of this form: 1.
    pub version: u32,
    /// The cluster's id.
    pub cluster: String,
    /// What each node blames members for.
    pub blames: Vec<Blame>,
    /// The last time that each node was told to clear a member.
    pub cleared: Vec<Clearing>,
    /// Nodes that did not answer.
    pub unreached: Vec<Unreached>,
}

/// What a node blames a member for, of one kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Blame {
    /// The node that says so.
    pub node: String,
    /// Whom it blames: a name, or the identity of one who is no member any more.
    pub member: String,
    /// The kind.
    pub kind: &'static str,
    /// When the first was found.
    pub first: String,
    /// When the last was found.
    pub last: String,
    /// How many were found.
    pub count: u64,
    /// What the first was about.
    pub subject: String,
    /// Whether there is a proof that anybody can verify.
    pub proof: bool,
}

/// That a member was cleared on a node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Clearing {
    /// The node.
    pub node: String,
    /// The member.
    pub member: String,
    /// When.
    pub time: String,
    /// The operator's key.
    pub by: String,
}

/// A node that did not answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unreached {
    /// Its name.
    pub node: String,
    /// Why not.
    pub error: String,
}

/// Serialised, the JSON form of `fairpostctl refusals`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Refusals {
    /// Version of this form: 1.
    pub version: u32,
    /// The cluster's id.
    pub cluster: String,
    /// What nodes did not sign, the newest first.
    pub refusals: Vec<Refusal>,
    /// Nodes that did not answer.
    pub unreached: Vec<Unreached>,
}

/// Something that a node did not sign.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Refusal {
    /// The node.
    pub node: String,
    /// What was asked for: vote, statement, acknowledgement or share.
    pub asked: String,
    /// The exchange.
    pub exchange: String,
    /// The round.
    pub round: u32,
    /// The rule, in a word.
    pub reason: String,
    /// The same in a sentence.
    pub message: String,
    /// When it was refused first.
    pub first: String,
    /// When it was refused last.
    pub last: String,
    /// How often.
    pub count: u64,
}

/// Asks all members, each for at most `patience`, whom they blame: everybody, or one, with the evidence.
pub async fn ask(
    operator: &Operator,
    view: &View,
    member: Option<&str>,
    patience: Duration,
) -> Vec<Said<Blames>> {
    let member = member.unwrap_or_default();
    each(operator, view, patience, async |mut client: AdminClient<Channel>| {
        client
            .get_blames(GetBlamesRequest { member: member.to_owned() })
            .await
            .map(tonic::Response::into_inner)
    })
    .await
}

/// Has all members clear one; gives how many kinds of blame went with it on each.
pub async fn clear(operator: &Operator, view: &View, member: &str, patience: Duration) -> Vec<Said<u64>> {
    each(operator, view, patience, async |mut client: AdminClient<Channel>| {
        let request = ClearBlameRequest { member: member.to_owned() };
        client.clear_blame(request).await.map(|answer| answer.into_inner().records)
    })
    .await
}

/// Asks all members why they did not sign.
pub async fn refusals(
    operator: &Operator,
    view: &View,
    patience: Duration,
) -> Vec<Said<Vec<RefusalMessage>>> {
    each(operator, view, patience, async |mut client: AdminClient<Channel>| {
        client.get_refusals(GetRefusalsRequest {}).await.map(|answer| answer.into_inner().refusals)
    })
    .await
}

async fn each<T>(
    operator: &Operator,
    view: &View,
    patience: Duration,
    call: impl AsyncFn(AdminClient<Channel>) -> Result<T, tonic::Status>,
) -> Vec<Said<T>> {
    let call = &call;
    join_all(view.members().iter().map(|member| async move {
        let asking = async {
            let client = client(operator, member, patience)?;
            call(client).await.map_err(|status| explain(&status))
        };
        let late = |_| Err(format!("no answer within {patience:?}"));
        (member.name.clone(), tokio::time::timeout(patience, asking).await.unwrap_or_else(late))
    }))
    .await
}

fn client(operator: &Operator, member: &Member, patience: Duration) -> Result<AdminClient<Channel>, String> {
    let options = ChannelOptions {
        connect_timeout: patience,
        request_timeout: Some(patience),
        ..ChannelOptions::default()
    };
    let channel = operator.channel(member, options).map_err(|error| error.to_string())?;
    Ok(AdminClient::new(channel).max_decoding_message_size(ANSWER))
}

impl Report {
    /// What these answers amount to.
    pub fn new(view: &View, said: &[Said<Blames>]) -> Self {
        let (mut blames, mut clearings) = (Vec::new(), Vec::new());
        for (node, answer) in answers(said) {
            blames.extend(answer.blames.iter().map(|blame| Blame {
                node: node.to_owned(),
                member: named(&blame.member, &blame.identity),
                kind: show::kind(blame.kind()),
                first: time(blame.first_millis),
                last: time(blame.last_millis),
                count: blame.count,
                subject: printable(&blame.subject),
                proof: blame.transferable,
            }));
            clearings.extend(answer.cleared.iter().map(|cleared| Clearing {
                node: node.to_owned(),
                member: named(&cleared.member, &cleared.identity),
                time: time(cleared.time_millis),
                by: hex::encode(&cleared.by),
            }));
        }
        let (version, cluster) = (VERSION, view.cluster().to_string());
        Self { version, cluster, blames, cleared: clearings, unreached: unreached(said) }
    }
}

impl Refusals {
    /// What these answers amount to.
    pub fn new(view: &View, said: &[Said<Vec<RefusalMessage>>]) -> Self {
        let mut newest: Vec<(u64, Refusal)> = Vec::new();
        for (node, answer) in answers(said) {
            newest.extend(answer.iter().map(|refused| {
                let refusal = Refusal {
                    node: node.to_owned(),
                    asked: printable(&refused.asked),
                    exchange: ExchangeId::from_slice(&refused.exchange)
                        .map_or_else(|| hex::encode(&refused.exchange), |id| id.to_string()),
                    round: refused.round,
                    reason: printable(&refused.reason),
                    message: printable(&refused.message),
                    first: time(refused.first_millis),
                    last: time(refused.last_millis),
                    count: refused.count,
                };
                (refused.last_millis, refusal)
            }));
        }
        newest.sort_by_key(|(last, _)| std::cmp::Reverse(*last));
        let refusals = newest.into_iter().map(|(_, refusal)| refusal).collect();
        let (version, cluster) = (VERSION, view.cluster().to_string());
        Self { version, cluster, refusals, unreached: unreached(said) }
    }
}

/// The first proof among these answers that convicts the member of this name, and of what.
pub fn proof_against(
    trust: &Trust,
    member: &str,
    said: &[Said<Blames>],
) -> Option<(Vec<u8>, misconduct::Conviction)> {
    let identity = trust.view().member_by_name(member).map(|(_, member)| member.key_id())?;
    let blames = answers(said).flat_map(|(_, answer)| &answer.blames);
    blames.filter(|blame| blame.transferable).find_map(|blame| {
        let proof = Misconduct::parse(&blame.evidence).ok()?;
        let conviction = misconduct::verify(&proof, trust).ok()?;
        let convicted =
            matches!(&conviction.culprit, Culprit::Member { identity: found, .. } if *found == identity);
        convicted.then(|| (blame.evidence.clone(), conviction))
    })
}

fn answers<T>(said: &[Said<T>]) -> impl Iterator<Item = (&str, &T)> {
    said.iter().filter_map(|(node, answer)| answer.as_ref().ok().map(|answer| (node.as_str(), answer)))
}

fn unreached<T>(said: &[Said<T>]) -> Vec<Unreached> {
    let silent = said.iter().filter_map(|(node, answer)| Some((node, answer.as_ref().err()?)));
    silent.map(|(node, error)| Unreached { node: node.clone(), error: error.clone() }).collect()
}

/// A member's name; of one who is no member any more, the identity.
fn named(name: &str, identity: &[u8]) -> String {
    if !name.is_empty() {
        return printable(name);
    }
    KeyId::from_slice(identity).map_or_else(|| hex::encode(identity), |key| key.to_string())
}

/// What a node said, without what steers a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '?' } else { char }).collect()
}

fn time(millis: u64) -> String {
    Timestamp::from_millis(millis).map_or_else(|| "?".into(), |time| time.to_string())
}

#[cfg(test)]
#[path = "blame/tests.rs"]
mod tests;
