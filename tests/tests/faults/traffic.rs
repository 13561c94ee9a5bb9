//! Exchanges while something is broken.

use std::time::{Duration, Instant};

use anyhow::ensure;
use fairpost::client::{Client, Options};
use fairpost::sealed_mail::SealedMail;
use fairpost_proto::ids::{Protocol, Span, Verdict};
use fairpost_tests::world::World;
use fairpost_tests::{mail, open, prove};

pub(crate) const HOUR: Span = Span::from_seconds(3600);

/// A client that asks this node first.
pub(crate) fn through(world: &World, first: usize) -> anyhow::Result<Client> {
    let options = Options {
        first: Some(first),
        attempt: Duration::from_secs(3),
        deadline: Duration::from_secs(50),
        ..Options::default()
    };
    Ok(Client::new(world.cluster.trust.clone(), options)?)
}

pub(crate) fn seal(world: &World) -> anyhow::Result<SealedMail> {
    world.people.seal(&world.cluster, Protocol::Cmp2, HOUR)
}

/// A fresh exchange is released and proven; gives how long the opening took.
pub(crate) async fn exchange(world: &World, client: &Client) -> anyhow::Result<Duration> {
    let mut sealed = seal(world)?;
    let started = Instant::now();
    ensure!(open(client, &world.people, &mut sealed).await? == mail(), "another mail came out");
    let took = started.elapsed();
    let report = prove(client, &world.people, &mut sealed).await?;
    ensure!(report.verdict == Verdict::Released, "{}", report.verdict);
    Ok(took)
}

/// So many exchanges; gives the longest time to open one.
pub(crate) async fn exchanges(world: &World, client: &Client, count: usize) -> anyhow::Result<Duration> {
    let mut longest = Duration::ZERO;
    for _ in 0..count {
        longest = longest.max(exchange(world, client).await?);
    }
    Ok(longest)
}
