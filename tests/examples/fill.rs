//! Fills a cluster that was never started with exchanges: `fill CLUSTER EXCHANGES [BLOCK [PEOPLE]]`.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use fairpost_tests::{Filling, fill};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder: PathBuf = arguments.next().context("usage: fill CLUSTER EXCHANGES [BLOCK [PEOPLE]]")?.into();
    let mut number = |default: Option<usize>| match arguments.next() {
        Some(text) => text.parse().with_context(|| format!("a number expected, {text} found")),
        None => default.context("how many exchanges?"),
    };
    let (exchanges, block, people) = (number(None)?, number(Some(64))?, number(Some(1000))?);
    let threads = std::thread::available_parallelism()?.get();
    let started = Instant::now();
    let filled = fill(&folder, Filling { exchanges, block, people, threads }).await?;
    println!(
        "{} exchanges in {:.1} s; on each node {} bytes of ledger and {} of witness: {:.0} for each exchange",
        filled.exchanges,
        started.elapsed().as_secs_f64(),
        filled.ledger_bytes,
        filled.witness_bytes,
        (filled.ledger_bytes + filled.witness_bytes) as f64 / filled.exchanges as f64,
    );
    Ok(())
}
