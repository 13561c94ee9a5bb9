//! What one server that is dead, or that sends wrong shares all the time, costs the others: `degraded [CLIENTS [SECONDS]]`.
//!
//! One run, on one cluster of four: all are well; one is killed; a rogue with its keys answers every question for a share with
//! a wrong one; the server is back. In each phase recipients redeem as fast as they can. The rates depend on the machine;
//! what counts is how they compare.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use fairpost::SealedMail;
use fairpost::client::{Client, Options};
use fairpost_proto::ids::{Protocol, Span};
use fairpost_tests::rogue::Rogue;
use fairpost_tests::{Cluster, People, Settings};
use tokio::task::JoinSet;

/// The node that is killed, and whose keys the rogue has.
const LAST: usize = 3;
/// How long the load runs in a phase before it is counted.
const WARM_UP: Duration = Duration::from_secs(2);

struct Load {
    people: Arc<People>,
    client: Client,
    mails: Vec<SealedMail>,
    clients: usize,
    /// How many mails each has in a phase.
    each: usize,
    time: Duration,
}

impl Load {
    /// How many exchanges were released in a second.
    async fn run(&mut self, what: &str) -> anyhow::Result<f64> {
        let (counted, started) = (Arc::new(AtomicUsize::new(0)), Instant::now());
        let (from, until) = (started + WARM_UP, started + WARM_UP + self.time);
        let mut tasks = JoinSet::new();
        for _ in 0..self.clients {
            let mails = self.mails.split_off(self.mails.len().saturating_sub(self.each));
            let (people, client, counted) =
                (Arc::clone(&self.people), self.client.clone(), Arc::clone(&counted));
            tasks.spawn(async move {
                for mail in &mails {
                    client.redeem(&people.recipient, mail).await?;
                    let now = Instant::now();
                    if now > until {
                        return Ok(());
                    }
                    if now > from {
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                }
                anyhow::bail!("more mails are needed: take fewer seconds")
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        let rate = counted.load(Ordering::Relaxed) as f64 / self.time.as_secs_f64();
        println!("{what:<28}{rate:8.1} exchanges/s");
        Ok(rate)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse::<usize>());
    let (clients, seconds) = (number(16)?, number(8)?);
    let mut cluster = Cluster::start(Settings::default()).await?;
    let people = Arc::new(People::new(&cluster)?);
    // More than the fastest machine can redeem meanwhile.
    let count = 4 * (seconds + WARM_UP.as_secs() as usize) * 400;
    println!("sealing {count} mails");
    let seal = || people.seal(&cluster, Protocol::Cmp2, Span::from_seconds(36_000));
    let mails = (0..count).map(|_| seal()).collect::<anyhow::Result<Vec<_>>>()?;
    let client = Client::new(cluster.trust.clone(), Options::default())?;
    let mut load = Load {
        people,
        client,
        mails,
        clients,
        each: count / clients / 4,
        time: Duration::from_secs(seconds as u64),
    };
    let healthy = load.run("all four are well").await?;
    cluster.kill(LAST)?;
    let dead = load.run("one is dead").await?;
    let rogue = Rogue::start(&cluster, LAST).await?;
    let lying = load.run("one sends wrong shares").await?;
    println!("the rogue was asked for {} shares", rogue.asked());
    drop(rogue);
    cluster.launch(LAST)?;
    cluster.ready(LAST).await.context("the node that was killed")?;
    load.run("it is back, and catches up").await?;
    println!(
        "of the rate with all well: {:.2} with one dead, {:.2} with one that lies",
        dead / healthy,
        lying / healthy
    );
    Ok(())
}
