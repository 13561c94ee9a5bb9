//! The witness's metrics.

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use super::rules::Refusal;

/// Describes them to the exporter.
pub fn describe() {
    describe_counter!("fairpost_certificates_total", "Leaves whose quorum certificate this node has stored.");
    describe_counter!(
        "fairpost_refusals_total",
        "Votes, statements, acknowledgements and shares that this node did not give, by the rule that forbids it."
    );
    describe_counter!(
        "fairpost_statements_total",
        "Statements that this node has given, each a promise, for exchanges whose votes were split."
    );
    describe_counter!(
        "fairpost_acknowledgements_total",
        "Certificates of later rounds that this node has acknowledged."
    );
    describe_counter!(
        "fairpost_rounds_opened_total",
        "Later rounds that this node had opened, for exchanges whose votes were split."
    );
    describe_counter!(
        "fairpost_entries_unseen_total",
        "Entries that this node has from a snapshot, and did not vote on because it never saw them."
    );
    describe_counter!(
        "fairpost_equivocations_total",
        "Times that a member's signatures contradicted each other, by member; each once."
    );
    describe_counter!("fairpost_forks_total", "Votes whose evidence log has another root than this node's.");
    describe_counter!(
        "fairpost_invalid_shares_total",
        "Shares that failed verification, by the member that sent them."
    );
    describe_counter!(
        "fairpost_invalid_votes_total",
        "Votes and acknowledgements whose signature does not hold, by the member that sent them."
    );
    describe_gauge!(
        "fairpost_blamed",
        "1 if this node blames the member for a misdeed, until an operator clears it."
    );
    describe_histogram!("fairpost_token_batch_size", "Tokens that were combined and verified together.");
    describe_gauge!(
        "fairpost_share_usable",
        "1 if this node's share matches the public commitment and may sign; 0 also while it waits for members after a start, and for good after a roll-back."
    );
}

pub(super) fn acknowledged(leaves: usize) {
    counter!("fairpost_acknowledgements_total").increment(leaves as u64);
}

pub(super) fn stated() {
    counter!("fairpost_statements_total").increment(1);
}

pub(super) fn opened() {
    counter!("fairpost_rounds_opened_total").increment(1);
}

pub(super) fn certified(leaves: usize) {
    counter!("fairpost_certificates_total").increment(leaves as u64);
}

pub(super) fn token_batch(tokens: usize) {
    histogram!("fairpost_token_batch_size").record(tokens as f64);
}

pub(super) fn refused(refusal: &Refusal) {
    counter!("fairpost_refusals_total", "reason" => refusal.reason()).increment(1);
}

pub(super) fn skipped(entries: u64) {
    counter!("fairpost_entries_unseen_total").increment(entries);
}

pub(super) fn equivocated(member: &str) {
    counter!("fairpost_equivocations_total", "member" => member.to_owned()).increment(1);
}

pub(super) fn forked() {
    counter!("fairpost_forks_total").increment(1);
}

pub(super) fn share_usable(usable: bool) {
    gauge!("fairpost_share_usable").set(if usable { 1.0 } else { 0.0 });
}

pub(super) fn blamed(member: &str, blamed: bool) {
    gauge!("fairpost_blamed", "member" => member.to_owned()).set(if blamed { 1.0 } else { 0.0 });
}

pub(super) fn invalid_vote(member: &str) {
    counter!("fairpost_invalid_votes_total", "member" => member.to_owned()).increment(1);
}

pub(super) fn invalid_share(member: &str) {
    counter!("fairpost_invalid_shares_total", "member" => member.to_owned()).increment(1);
}
