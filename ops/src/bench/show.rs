//! A report for people.

use std::fmt::Write as _;

use super::report::{Latency, Report};

/// The whole report as a text.
pub fn table(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut text, report);
    text
}

fn write(text: &mut String, report: &Report) -> std::fmt::Result {
    let Report { clients, seconds, exchanges, .. } = report;
    let (entry, tokens) = (report.batch, report.token_batch);
    write!(text, "{clients} clients, {seconds:.1} s, {exchanges} exchanges; ")?;
    writeln!(text, "{entry:.1} in an entry, {tokens:.1} tokens checked together")?;
    if report.calls_again > 0 {
        writeln!(
            text,
            "{} calls had to be made again: the cluster had no room or no quorum",
            report.calls_again
        )?;
    }
    let (rate, bound) = (report.exchanges_per_second, report.bound_per_second);
    writeln!(text, "\nrate   {rate:>9.1} exchanges/s")?;
    writeln!(text, "bound  {bound:>9.1} exchanges/s, by cryptography alone on {} cores", report.bound.cores)?;
    writeln!(text, "share  {:>9.1} %", report.share_of_bound * 100.0)?;

    writeln!(
        text,
        "\n{:<44} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "CLIENTS SEE (ms)", "mean", "p50", "p90", "p99", "max"
    )?;
    let mut row = |name: &str, latency: &Latency| {
        let Latency { mean, p50, p90, p99, max, .. } = latency;
        let ms = |seconds: &f64| seconds * 1e3;
        let (mean, p50, p90, p99, max) = (ms(mean), ms(p50), ms(p90), ms(p99), ms(max));
        writeln!(text, "{name:<44} {mean:>9.2} {p50:>9.2} {p90:>9.2} {p99:>9.2} {max:>9.2}")
    };
    row("redeem: receipt to token", &report.latency_seconds)?;
    if let Some(latency) = &report.proof_latency_seconds {
        row("proof", latency)?;
    }

    writeln!(text, "\n{:<44} {:>9} {:>9} {:>9} {:>9}", "NODES MEASURE (ms)", "count", "mean", "p50", "p99")?;
    for stage in &report.stages {
        let name = stage.stage.trim_start_matches("fairpost_");
        let (mean, p50, p99) = (stage.mean * 1e3, stage.p50 * 1e3, stage.p99 * 1e3);
        writeln!(text, "{name:<44} {:>9.0} {mean:>9.2} {p50:>9.2} {p99:>9.2}", stage.count)?;
    }

    writeln!(text, "\n{:<44} {:>9} {:>9} {:>9}", "BOUND (µs)", "once", "times", "together")?;
    for cost in &report.bound.operations {
        let (once, together) = (cost.seconds * 1e6, cost.seconds_per_exchange * 1e6);
        writeln!(text, "{:<44} {once:>9.1} {:>9.2} {together:>9.1}", cost.operation, cost.per_exchange)?;
    }
    writeln!(text, "{:<44} {:>29.1}", "an exchange", report.bound.seconds_per_exchange * 1e6)?;

    if let Some(unavoidable) = &report.unavoidable {
        writeln!(
            text,
            "\n{:<44} {:>9} {:>9} {:>9}",
            "ONE EXCHANGE WAITS FOR (µs)", "once", "times", "together"
        )?;
        for part in &unavoidable.parts {
            let (once, together) = (part.seconds * 1e6, part.seconds_together * 1e6);
            writeln!(text, "{:<44} {once:>9.1} {:>9.2} {together:>9.1}", part.part, part.times)?;
        }
        let ratio = unavoidable.latency_ratio;
        writeln!(text, "{:<44} {:>29.1}", "all of it", unavoidable.seconds * 1e6)?;
        writeln!(text, "the median exchange took {ratio:.2} times that")?;
    }

    writeln!(
        text,
        "\n{:<12} {:<10} {:>18} {:>10} {:>12}",
        "NODE", "ROLE", "CPU/EXCHANGE (ms)", "CPU (%)", "MEMORY (MB)"
    )?;
    let memory =
        |bytes: Option<u64>| bytes.map_or("?".to_owned(), |bytes| format!("{:.1}", bytes as f64 / 1e6));
    for node in &report.nodes {
        let (each, cpu) = (node.cpu_seconds_per_exchange * 1e3, node.cpu * 100.0);
        let memory = memory(node.resident_bytes);
        writeln!(text, "{:<12} {:<10} {each:>18.3} {cpu:>10.1} {memory:>12}", node.name, node.role)?;
    }
    let each = report.client.cpu_seconds_per_exchange * 1e3;
    let memory = memory(report.client.resident_bytes);
    writeln!(text, "{:<12} {:<10} {each:>18.3} {:>10.1} {memory:>12}", "this bench", "", each * rate / 10.0)?;
    if let Some(others) = report.others_cpu {
        let cores = report.bound.cores;
        let advice =
            if others > cores as f64 / 10.0 { "; what was measured says little: measure alone" } else { "" };
        writeln!(text, "\nanything else used {others:.2} of {cores} processors of this machine{advice}")?;
    }
    writeln!(
        text,
        "\n{} tokens and {} proofs with their mails were verified afterwards.",
        report.checked.tokens, report.checked.proofs
    )
}
