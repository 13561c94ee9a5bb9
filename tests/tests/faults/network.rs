//! Partitions, delay and loss.

use std::time::{Duration, Instant};

use anyhow::ensure;
use fairpost::client::{Client, Error, Options};
use fairpost_tests::Settings;
use fairpost_tests::world::{Link, World};

use crate::scenario;
use crate::traffic::{exchange, exchanges, seal, through};

/// How long a partition lasts: longer than an election.
const LONG: Duration = Duration::from_secs(8);

/// Waits out a partition under traffic through this node.
async fn last_out(world: &World, through_node: usize) -> anyhow::Result<Duration> {
    let (client, started) = (through(world, through_node)?, Instant::now());
    let mut longest = Duration::ZERO;
    while started.elapsed() < LONG {
        longest = longest.max(exchange(world, &client).await?);
    }
    Ok(longest)
}

async fn rejoins(world: &World, what: &str, longest: Duration) -> anyhow::Result<()> {
    let healed = Instant::now();
    world.network.set_all(Link::CLEAR);
    world.level().await?;
    println!("{what}: longest opening {longest:?}, level {:?} after the end", healed.elapsed());
    for node in 0..4 {
        exchange(world, &through(world, node)?).await?;
    }
    Ok(())
}

scenario!(a_follower_that_is_cut_off_is_missed_by_nobody_and_rejoins, async {
    let world = World::start("follower-cut-off", Settings::default(), 1).await?;
    let follower = (world.leader().await.unwrap_or(0) + 1) % 4;
    world.network.isolate(follower);
    let longest = last_out(&world, (follower + 1) % 4).await?;
    rejoins(&world, "follower cut off", longest).await?;
    world.finish();
    Ok(())
});

scenario!(a_leader_that_is_cut_off_from_the_others_is_replaced_and_rejoins, async {
    let world = World::start("leader-cut-off", Settings::default(), 2).await?;
    let leader = world.other_leader(usize::MAX).await?;
    // Clients still reach it: one that asks it first must get its answer elsewhere.
    world.network.set_node(leader, Link::CUT);
    let longest = last_out(&world, leader).await?;
    rejoins(&world, "leader cut off", longest).await?;
    world.finish();
    Ok(())
});

scenario!(a_leader_that_is_heard_by_nobody_is_replaced, async {
    let world = World::start("leader-mute", Settings::default(), 3).await?;
    let leader = world.other_leader(usize::MAX).await?;
    (0..4).for_each(|other| world.network.set(leader, other, Link::CUT));
    let longest = last_out(&world, (leader + 1) % 4).await?;
    rejoins(&world, "leader mute", longest).await?;
    world.finish();
    Ok(())
});

scenario!(a_leader_that_hears_nobody_is_replaced, async {
    let world = World::start("leader-deaf", Settings::default(), 4).await?;
    let leader = world.other_leader(usize::MAX).await?;
    (0..4).for_each(|other| world.network.set(other, leader, Link::CUT));
    let longest = last_out(&world, (leader + 1) % 4).await?;
    rejoins(&world, "leader deaf", longest).await?;
    world.finish();
    Ok(())
});

scenario!(halves_decide_nothing_and_together_they_go_on, async {
    let world = World::start("halves", Settings::default(), 5).await?;
    world.network.split(&[0, 1]);
    // What was in flight when the network broke is over by now.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let options = Options { deadline: Duration::from_secs(6), ..Options::default() };
    let client = Client::new(world.cluster.trust.clone(), options)?;
    let sealed = seal(&world)?;
    let refused = client.redeem(&world.people.recipient, &sealed).await;
    ensure!(matches!(refused, Err(Error::NoQuorum { .. })), "{refused:?}");
    world.network.set_all(Link::CLEAR);
    let asked_again = through(&world, 2)?.redeem(&world.people.recipient, &sealed).await?;
    ensure!(asked_again.verdict == fairpost_proto::ids::Verdict::Released, "{asked_again:?}");
    rejoins(&world, "halves", Duration::ZERO).await?;
    world.finish();
    Ok(())
});

scenario!(a_bad_network_slows_exchanges_and_stops_none, async {
    let world = World::start("bad-network", Settings::default(), 6).await?;
    let bad = Link {
        delay: Duration::from_millis(40),
        jitter: Duration::from_millis(20),
        loss: 0.05,
        ..Link::CLEAR
    };
    world.network.set_all(bad);
    let longest = exchanges(&world, &through(&world, 0)?, 20).await?;
    rejoins(&world, "40 to 60 ms each way, 5 % lost", longest).await?;
    world.finish();
    Ok(())
});
