//! A report for people.

use super::report::{Node, Report, Share, State};

const HEAD: [&str; 10] =
    ["MEMBER", "ROLE", "VERSION", "TERM", "INDEX", "APPLIED", "LAG", "SHARE", "CLOCK", "READY"];

/// The whole report: verdict, quorum, alarms, and a table of the members.
pub fn table(report: &Report) -> String {
    let quorum = &report.quorum;
    let mut text = format!(
        "cluster  {}, epoch {}\nstate    {}\nquorum   {} of {} needed, {} usable; {}\nleader   {}\n",
        report.cluster,
        report.epoch,
        state(report.state),
        quorum.quorum,
        quorum.members,
        quorum.usable,
        margin(quorum.margin),
        report.leader.as_deref().unwrap_or("none known"),
    );
    if quorum.faults == 0 {
        text.push_str("         crash-tolerant only: no compromised node is tolerated\n");
    }
    for alarm in &report.alarms {
        text.push_str(&format!("alarm    {alarm}\n"));
    }
    text.push('\n');
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(report.nodes.iter().map(row));
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|column| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// The report in one line.
pub fn line(report: &Report) -> String {
    let ready = report.nodes.iter().filter(|node| node.ready).count();
    let first = report.alarms.first().map(|alarm| format!("; {alarm}")).unwrap_or_default();
    format!(
        "{}: {ready} of {} ready, {}, leader {}{first}",
        state(report.state),
        report.quorum.members,
        margin(report.quorum.margin),
        report.leader.as_deref().unwrap_or("none known"),
    )
}

const fn state(state: State) -> &'static str {
    match state {
        State::Fine => "fine",
        State::Degraded => "degraded",
        State::NoQuorum => "no quorum",
        State::Unreached => "nobody answered",
    }
}

fn margin(margin: i64) -> String {
    match margin {
        0 => "no more may fail".into(),
        1.. => format!("{margin} more may fail"),
        _ => format!("{} missing", margin.unsigned_abs()),
    }
}

fn row(node: &Node) -> [String; 10] {
    let number = |value: Option<u64>| value.map_or_else(|| "-".into(), |value| value.to_string());
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
    let share = match node.share {
        Some(Share::Working) => "working",
        Some(Share::Closed) => "closed",
        Some(Share::Bad) => "bad",
        Some(Share::Unknown) => "unknown",
        None => "-",
    };
    let ready = match (node.reached, node.ready) {
        (false, _) => "no answer",
        (true, true) => "yes",
        (true, false) => "no",
    };
    [
        node.name.clone(),
        text(&node.role),
        text(&node.version),
        number(node.term),
        number(node.last_log_index),
        number(node.applied_index),
        number(node.lag),
        share.into(),
        node.clock_offset_seconds.map_or_else(|| "-".into(), |offset| format!("{offset:+.3} s")),
        ready.into(),
    ]
}
