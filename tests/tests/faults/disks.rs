//! Disks that are full, broken, slow or hang.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use fairpost_tests::world::World;
use fairpost_tests::{Settings, eventually};

use crate::scenario;
use crate::traffic::{exchange, exchanges, through};

#[derive(Clone, Copy, PartialEq)]
enum End {
    Full,
    ReadOnly,
}

/// The node's disk takes no more writes: the node ends with an error that says so, the others go on, and it comes back.
async fn ends_and_comes_back(world: &mut World, node: usize, end: End) -> anyhow::Result<()> {
    exchange(world, &through(world, node)?).await?;
    let broken = Instant::now();
    match end {
        // A running node goes on in the room that it has reserved: so it is started with little. It may end at once.
        End::Full => {
            world.cluster.stop(node).await?;
            world.disks[node].fill_but(1 << 20)?;
            world.cluster.launch(node)?;
        }
        End::ReadOnly => world.disks[node].fail()?,
    }
    let client = through(world, (node + 1) % 4)?;
    let mut longest = Duration::ZERO;
    // Under traffic the node notices, sooner or later: it may have had room in reserve.
    let status = loop {
        let many = (0..8).map(|_| exchange(world, &client));
        for took in futures::future::try_join_all(many).await? {
            longest = longest.max(took);
        }
        if let Some(status) = world.cluster.has_ended(node)? {
            break status;
        }
        if end == End::Full {
            // What it frees, of logs that are done with, is taken as well.
            world.disks[node].fill()?;
        }
        let log = world.cluster.log(node);
        let tail: Vec<&str> = log.lines().rev().take(5).collect();
        ensure!(broken.elapsed() < Duration::from_secs(50), "it runs on; its log ends with {tail:#?}");
    };
    let log = world.cluster.log(node);
    let last = log.lines().last().unwrap_or_default().to_owned();
    println!("ended {:?} after its disk ({status}): {last}", broken.elapsed());
    ensure!(status.code() == Some(1), "it ended with {status}");
    let expected = match end {
        End::Full => ["is full", "free some space"],
        End::ReadOnly => ["is read-only", "make it writable"],
    };
    let said = last.to_lowercase();
    ensure!(
        expected.iter().all(|word| said.contains(word)),
        "expected {expected:?} in its last line: {last}"
    );

    longest = longest.max(exchanges(world, &client, 5).await?);
    println!("longest opening meanwhile {longest:?}");
    match end {
        End::Full => {
            // A start with no room fails as clearly, and damages nothing.
            world.cluster.launch(node)?;
            let failed =
                eventually("a start without room", async || world.cluster.has_ended(node).ok()?).await?;
            let log = world.cluster.log(node);
            let last = log.lines().last().unwrap_or_default();
            println!("started on the full disk ({failed}): {last}");
            ensure!(failed.code() == Some(1) && last.contains("free"), "{failed}: {last}");
            world.disks[node].free()?;
        }
        End::ReadOnly => world.disks[node].repair()?,
    }
    world.cluster.launch(node)?;
    world.cluster.ready(node).await?;
    world.level().await?;
    exchange(world, &through(world, node)?).await?;
    Ok(())
}

async fn both(end: End, name: &str) -> anyhow::Result<()> {
    let mut world = World::start(name, Settings::default(), 1).await?;
    let leader = world.leader().await.context("no leader")?;
    ends_and_comes_back(&mut world, (leader + 1) % 4, end).await?;
    let leader = world.leader().await.context("no leader")?;
    ends_and_comes_back(&mut world, leader, end).await?;
    world.finish();
    Ok(())
}

scenario!(a_node_whose_disk_is_full_ends_and_comes_back_when_there_is_room, both(End::Full, "disk-full"));

scenario!(
    a_node_whose_disk_turns_read_only_ends_and_comes_back_when_it_is_mended,
    both(End::ReadOnly, "disk-read-only")
);

scenario!(a_disk_that_hangs_makes_its_node_say_so_and_holds_up_nobody_else, async {
    let mut world = World::start("disk-hung", Settings::default(), 1).await?;
    for hit in ["follower", "leader"] {
        let leader = world.leader().await.context("no leader")?;
        let node = if hit == "leader" { leader } else { (leader + 1) % 4 };
        world.disks[node].freeze()?;
        let (frozen, client) = (Instant::now(), through(&world, (node + 1) % 4)?);
        let mut longest = Duration::ZERO;
        let mut said = None;
        while frozen.elapsed() < Duration::from_secs(12) {
            longest = longest.max(exchange(&world, &client).await?);
            said = said.or(world
                .status(node)
                .await
                .map(|status| status.not_ready_because)
                .filter(|why| !why.is_empty()));
        }
        println!("{hit}: longest opening {longest:?}; not ready because {said:?}");
        ensure!(said.is_some(), "a node whose disk hangs counts as ready");
        world.disks[node].thaw()?;
        world.level().await?;
        exchange(&world, &through(&world, node)?).await?;
    }
    world.finish();
    Ok(())
});

scenario!(a_node_that_is_killed_while_its_disk_hangs_comes_back, async {
    let mut world = World::start("disk-hung-killed", Settings::default(), 1).await?;
    let node = world.leader().await.context("no leader")?;
    world.disks[node].freeze()?;
    // By then it waits for its disk, and no signal reaches it before the disk goes on.
    exchanges(&world, &through(&world, (node + 1) % 4)?, 3).await?;
    let killed = Instant::now();
    world.kill(node)?;
    println!("killed with its disk hung: gone after {:?}", killed.elapsed());
    world.cluster.launch(node)?;
    world.cluster.ready(node).await?;
    world.level().await?;
    exchange(&world, &through(&world, node)?).await?;
    world.finish();
    Ok(())
});

scenario!(a_slow_disk_slows_its_node_and_no_more, async {
    let mut world = World::start("disk-slow", Settings::default(), 1).await?;
    let node = world.leader().await.context("no leader")?;
    let client = through(&world, (node + 1) % 4)?;
    let mut longest = Duration::ZERO;
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(10) {
        world.disks[node].freeze()?;
        tokio::time::sleep(Duration::from_millis(250)).await;
        world.disks[node].thaw()?;
        longest = longest.max(exchange(&world, &client).await?);
    }
    println!("the leader's disk stalls for 250 ms at a time: longest opening {longest:?}");
    world.level().await?;
    world.finish();
    Ok(())
});
