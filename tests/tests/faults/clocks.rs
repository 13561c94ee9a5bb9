//! Clocks that are wrong.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use fairpost_tests::world::World;
use fairpost_tests::{Settings, eventually};

use crate::scenario;
use crate::traffic::{exchange, exchanges, through};

/// In milliseconds.
const SKEW: u64 = 10_000;
const HOUR: i64 = 3_600_000;

fn settings() -> Settings {
    Settings { skew_millis: SKEW, ..Settings::default() }
}

async fn a_wrong_follower(world: &World, ahead: i64) -> anyhow::Result<()> {
    let leader = world.other_leader(usize::MAX).await?;
    let node = (leader + 1) % 4;
    world.clocks[node].set(ahead)?;
    let why = async || {
        world.status(node).await.map(|status| status.not_ready_because).filter(|why| why.contains("clock"))
    };
    println!("{ahead:+} ms: not ready because {}", eventually("its alarm", why).await?);
    let client = through(world, leader)?;
    let longest = exchanges(world, &client, 10).await?;
    ensure!(world.leader().await == Some(leader), "a wrong follower cost the leader its place");
    // Whoever asks it gets an answer from it or another: it takes part in ordering, but does not vote.
    world.clocks[node].set(0)?;
    let level = world.level().await?;
    println!("a follower's clock {ahead:+} ms: longest opening {longest:?}");
    let uncertified: u64 = level.iter().map(|status| status.uncertified).max().unwrap_or_default();
    ensure!(uncertified == 0, "{uncertified} leaves without a certificate");
    exchange(world, &through(world, node)?).await?;
    Ok(())
}

scenario!(a_follower_with_a_wrong_clock_is_missed_by_nobody_and_votes_again_when_it_is_right, async {
    let world = World::start("clock-follower", settings(), 1).await?;
    for ahead in [HOUR, -HOUR, 15_000, -15_000] {
        a_wrong_follower(&world, ahead).await?;
    }
    world.finish();
    Ok(())
});

async fn a_wrong_leader(world: &World, ahead: i64) -> anyhow::Result<()> {
    let leader = world.other_leader(usize::MAX).await?;
    let client = through(world, leader)?;
    exchange(world, &client).await?;
    world.clocks[leader].set(ahead)?;
    let wrong = Instant::now();
    // Through the very node: what it took in before it knew must not be lost either.
    let first = exchange(world, &client).await?;
    let next = world.leader().await.context("no leader")?;
    println!(
        "the leader's clock {ahead:+} ms: opened after {first:?}, node {next} leads after {:?}",
        wrong.elapsed()
    );
    ensure!(next != leader, "it still leads");
    exchanges(world, &through(world, next)?, 5).await?;
    // What the wrong clock stamped, if anything, holds nobody up when it is right again.
    world.clocks[leader].set(0)?;
    let right = Instant::now();
    exchanges(world, &client, 5).await?;
    let level = world.level().await?;
    println!("right again: five exchanges and level within {:?}", right.elapsed());
    for status in &level {
        ensure!(
            status.uncertified == 0,
            "{}: {} leaves without a certificate",
            status.name,
            status.uncertified
        );
    }
    Ok(())
}

scenario!(a_leader_with_a_wrong_clock_is_replaced_and_no_time_is_spoilt, async {
    let world = World::start("clock-leader", settings(), 1).await?;
    for ahead in [HOUR, -HOUR, 15_000, -15_000] {
        a_wrong_leader(&world, ahead).await?;
    }
    world.finish();
    Ok(())
});

scenario!(clocks_within_the_skew_cost_nothing, async {
    let world = World::start("clock-within", settings(), 1).await?;
    let leader = world.other_leader(usize::MAX).await?;
    // The leader and the others lie up to nine tenths of the skew apart.
    for (leads, others) in [(4_500, -4_500), (-4_500, 4_500), (9_000, 0), (-9_000, 0), (0, 0)] {
        for node in 0..4 {
            world.clocks[node].set(if node == leader { leads } else { others })?;
        }
        let longest = exchanges(&world, &through(&world, leader)?, 10).await?;
        println!("leader {leads:+} ms, others {others:+} ms: longest opening {longest:?}");
        ensure!(world.leader().await == Some(leader), "the leader lost its place");
        ensure!(longest < Duration::from_secs(3), "{longest:?}");
    }
    world.level().await?;
    world.finish();
    Ok(())
});
