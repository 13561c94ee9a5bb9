//! The reports for people.

use fairpost_api::v1::BlameKind;

use super::{Refusals, Report, Said, Unreached};

/// Whom the nodes blame, as a table.
pub fn table(report: &Report) -> String {
    let head = ["NODE", "BLAMES", "FOR", "COUNT", "FIRST", "LAST", "PROOF", "THE FIRST WAS ABOUT"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(report.blames.iter().map(|blame| {
        [
            blame.node.clone(),
            blame.member.clone(),
            blame.kind.to_owned(),
            blame.count.to_string(),
            blame.first.clone(),
            blame.last.clone(),
            if blame.proof { "yes" } else { "no" }.to_owned(),
            blame.subject.clone(),
        ]
    }));
    let mut text = if report.blames.is_empty() { "nobody is blamed\n".to_owned() } else { columns(&rows) };
    for cleared in &report.cleared {
        text.push_str(&format!(
            "{} cleared {} at {} (operator {})\n",
            cleared.node, cleared.member, cleared.time, cleared.by
        ));
    }
    text + &silent(&report.unreached)
}

/// Why nodes did not sign, as a table.
pub fn refusals_table(report: &Refusals) -> String {
    let head = ["NODE", "LAST", "COUNT", "ASKED FOR", "EXCHANGE", "ROUND", "WHY"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(report.refusals.iter().map(|refusal| {
        [
            refusal.node.clone(),
            refusal.last.clone(),
            refusal.count.to_string(),
            refusal.asked.clone(),
            refusal.exchange.clone(),
            refusal.round.to_string(),
            refusal.message.clone(),
        ]
    }));
    let text =
        if report.refusals.is_empty() { "nothing was refused lately\n".to_owned() } else { columns(&rows) };
    text + &silent(&report.unreached)
}

/// What came of clearing a member.
pub fn cleared(member: &str, said: &[Said<u64>]) -> String {
    let mut text = String::new();
    for (node, answer) in said {
        text.push_str(&match answer {
            Ok(0) => format!("{node}: {member} was blamed for nothing\n"),
            Ok(records) => format!("{node}: {member} is cleared of {records} kinds of blame\n"),
            Err(error) => format!("{node}: not cleared: {error}\n"),
        });
    }
    text
}

pub(super) const fn kind(kind: BlameKind) -> &'static str {
    match kind {
        BlameKind::Unspecified => "unknown",
        BlameKind::Leaves => "leaves",
        BlameKind::Roots => "roots",
        BlameKind::Entries => "entries",
        BlameKind::Ballots => "ballots",
        BlameKind::Share => "share",
        BlameKind::Vote => "vote",
    }
}

fn silent(unreached: &[Unreached]) -> String {
    unreached.iter().map(|node| format!("{} does not answer: {}\n", node.node, node.error)).collect()
}

fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}
