//! Everything at once: faults by a seed while clients work, and what clients saw is checked.

mod clients;
mod last;
mod progress;
mod strike;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use fairpost_tests::Settings;
use fairpost_tests::history::{Answer, History, check};
use fairpost_tests::world::{Planned, World, kept, schedule};

use crate::scenario;
use clients::Book;
use progress::{Progress, count};

/// For how long there are faults, in seconds.
const SECONDS: &str = "FAIRPOST_FAULT_SECONDS";
/// Set this to run again what failed.
const SEED: &str = "FAIRPOST_SEED";
/// How many clients work at once.
const CLIENTS: u64 = 6;
/// About how many exchanges they begin, at most: each is looked at in the end, at every node.
const EXCHANGES: u32 = 1200;
/// How much longer than the faults all may take: what is under way comes to its end, and everything is looked at.
const MORE: Duration = Duration::from_secs(120);
/// How much longer the start, and what is kept of a failure, may take.
const AROUND: Duration = Duration::from_secs(60);
/// The skew, in milliseconds: some clocks go wrong by less, and some by more.
const SKEW: u64 = 5_000;

fn number(name: &str) -> anyhow::Result<Option<u64>> {
    let set = std::env::var(name).ok();
    set.map(|text| text.parse().with_context(|| format!("{name} is {text:?}, expected a number"))).transpose()
}

fn length() -> anyhow::Result<Duration> {
    Ok(Duration::from_secs(number(SECONDS)?.unwrap_or(60)))
}

scenario!(whatever_fails_no_client_sees_what_must_not_be, length().unwrap() + MORE + AROUND, async {
    let seed = number(SEED)?.unwrap_or_else(rand::random);
    let length = length()?;
    println!("{SEED}={seed} {SECONDS}={}", length.as_secs());
    let progress = Progress::begin();
    let running = tokio::time::timeout(length + MORE, Box::pin(run(seed, length, &progress)));
    let ran = tokio::select! {
        ran = running => ran,
        () = progress.tell() => return Ok(()),
    };
    let ran = ran.with_context(|| format!("not done {MORE:?} after the faults: {progress}")).flatten();
    ran.with_context(|| {
        format!(
            "replay with {SEED}={seed} {SECONDS}={}; logs, schedule and history are in {}",
            length.as_secs(),
            kept().join("nemesis").display()
        )
    })
});

async fn run(seed: u64, length: Duration, progress: &Arc<Progress>) -> anyhow::Result<()> {
    let settings = Settings { skew_millis: SKEW, ..Settings::default() };
    let mut world = World::start("nemesis", settings, seed).await?;
    let plan = schedule(seed, world.cluster.nodes.len(), length);
    world.note(&format!("{SEED}={seed} {SECONDS}={}", length.as_secs()));
    for planned in &plan {
        world.note(&planned.to_string());
    }
    let book = Arc::new(Book::new(world.cluster.trust.clone(), Arc::clone(progress)));
    let pause = length * CLIENTS as u32 / EXCHANGES;
    let over = Arc::new(AtomicBool::new(false));
    let working: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let party = clients::Party::new(&world, seed.wrapping_add(client))?;
            Ok(tokio::spawn(party.work(Arc::clone(&book), Arc::clone(&over), pause)))
        })
        .collect::<anyhow::Result<_>>()?;
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    let struck = strike_all(&mut world, &plan, length, &mut counts, &book).await;
    progress.now("waiting for the clients' last answers");
    let gap = book.longest_gap(book.millis());
    over.store(true, Ordering::SeqCst);
    for client in working {
        client.await??;
    }
    struck?;

    let healed = Instant::now();
    progress.now("waiting until all nodes are ready");
    strike::mend(&mut world).await?;
    for node in 0..world.cluster.nodes.len() {
        world.cluster.ready(node).await?;
    }
    progress.now("waiting until all nodes are level");
    world.level().await?;
    let level_after = healed.elapsed();
    let history = last::round(&world, &book).await?;
    report(&mut world, seed, &history, &counts, level_after, gap)?;
    world.finish();
    Ok(())
}

/// Strikes by the plan, for so long: what begins together ends together.
async fn strike_all(
    world: &mut World,
    plan: &[Planned],
    length: Duration,
    counts: &mut BTreeMap<&'static str, usize>,
    book: &Book,
) -> anyhow::Result<()> {
    let (mut rest, began) = (plan.iter().peekable(), Instant::now());
    while let Some(first) = rest.next() {
        // Beginning and ending them takes time that no plan knows.
        if began.elapsed() >= length {
            world.note("the time is over: nothing more goes wrong");
            break;
        }
        book.progress.now("calm");
        tokio::time::sleep(first.after).await;
        let mut together = vec![first];
        while let Some(more) = rest.next_if(|planned| planned.after.is_zero()) {
            together.push(more);
        }
        let mut struck = Vec::new();
        for planned in together {
            let line = format!("{:>7} ms: {:?} for {:?}", book.millis(), planned.fault, planned.lasts);
            book.progress.now(line.clone());
            let hit = strike::begin(world, planned.fault).await.with_context(|| line.clone())?;
            world.note(&format!("{line}: {hit:?}"));
            if hit.is_some() {
                *counts.entry(planned.fault.kind()).or_default() += 1;
                count(&book.progress.faults);
            }
            struck.push((planned.fault, hit));
        }
        strike::last(world, &struck, first.lasts).await?;
        for (fault, hit) in struck {
            book.progress.now(format!("the end of {fault:?}"));
            strike::end(world, fault, hit).await.with_context(|| format!("the end of {fault:?}"))?;
        }
        world.note(&format!("{:>7} ms: over", book.millis()));
    }
    Ok(())
}

fn report(
    world: &mut World,
    seed: u64,
    history: &History,
    counts: &BTreeMap<&'static str, usize>,
    level_after: Duration,
    longest_gap: Duration,
) -> anyhow::Result<()> {
    for event in &history.events {
        let answer = match &event.answer {
            Answer::Verdict { verdict, .. } => verdict.to_string(),
            other => format!("{other:?}"),
        };
        let line = format!(
            "{} {:>8} to {:>8} ms {:<8} {answer}",
            event.exchange, event.start, event.end, event.operation
        );
        world.note(&line);
    }
    let findings = check(history);
    let answered: BTreeSet<_> = history
        .events
        .iter()
        .filter(|event| matches!(event.answer, Answer::Verdict { .. } | Answer::Proof(_)))
        .map(|event| event.exchange)
        .collect();
    println!(
        "{SEED}={seed}: {} operations on {} exchanges, {} answered during the faults, {} decided in the end, {} contested; \
         faults {counts:?}; longest time without any answer {longest_gap:?}; level {level_after:?} after the end",
        history.events.len(),
        history.finals.len(),
        answered.len(),
        findings.decided,
        findings.contested.len()
    );
    for exchange in &findings.contested {
        println!("contested: {exchange}");
    }
    for violation in &findings.violations {
        world.note(&format!("VIOLATION {violation}"));
    }
    let shown: Vec<String> = findings.violations.iter().take(10).map(ToString::to_string).collect();
    if !shown.is_empty() {
        bail!("{} violations, such as:\n{}", findings.violations.len(), shown.join("\n"));
    }
    if answered.is_empty() {
        bail!("no client had any answer: nothing was shown");
    }
    Ok(())
}
