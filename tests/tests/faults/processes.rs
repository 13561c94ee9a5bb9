//! Processes that are killed or stopped, and what they cost when nothing happens.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use fairpost::client::{Client, Options};
use fairpost_tests::world::World;
use fairpost_tests::{Cluster, People, Settings, mail, open};

use crate::scenario;
use crate::traffic::{HOUR, exchange, seal, through};

/// How many leaders are killed.
const KILLS: usize = 8;
/// The promise.
const GAP: Duration = Duration::from_secs(3);

scenario!(a_leader_killed_leaves_no_client_without_an_answer_for_three_seconds, async {
    let mut world = World::start("leader-killed", Settings::default(), 1).await?;
    let mut gaps = Vec::new();
    for kill in 0..KILLS {
        world.level().await?;
        let leader = world.other_leader(usize::MAX).await?;
        // The client that suffers most has just begun to ask, and not the leader.
        let first = if kill % 2 == 0 { leader } else { (leader + 1) % 4 };
        let options = Options { first: Some(first), ..Options::default() };
        let client = Client::new(world.cluster.trust.clone(), options)?;
        exchange(&world, &client).await?;
        let mut sealed = seal(&world)?;
        world.cluster.kill(leader)?;
        let killed = Instant::now();
        ensure!(open(&client, &world.people, &mut sealed).await? == mail(), "another mail came out");
        gaps.push(killed.elapsed());
        world.cluster.launch(leader)?;
        world.cluster.ready(leader).await?;
    }
    let longest = gaps.iter().max().copied().unwrap_or_default();
    println!("{KILLS} leaders killed: gaps {gaps:?}, longest {longest:?}");
    ensure!(longest < GAP, "{longest:?} without an answer, at most {GAP:?} are promised");
    world.finish();
    Ok(())
});

scenario!(a_leader_that_stops_is_replaced_and_follows_when_it_goes_on, async {
    let mut world = World::start("leader-stopped", Settings::default(), 1).await?;
    for _ in 0..3 {
        let leader = world.other_leader(usize::MAX).await?;
        world.cluster.signal(leader, "STOP")?;
        let took = exchange(&world, &through(&world, (leader + 1) % 4)?).await?;
        println!("a leader stopped: opened after {took:?}");
        world.cluster.signal(leader, "CONT")?;
        world.level().await?;
        exchange(&world, &through(&world, leader)?).await?;
    }
    world.finish();
    Ok(())
});

/// How long the idle cluster is watched.
const WATCH: Duration = Duration::from_secs(20);
/// The promise, as a part of one core.
const IDLE: f64 = 0.01;
/// Ticks of /proc's clock in a second, on every Linux.
const TICKS: f64 = 100.0;

/// The processor time that a process has used.
fn used(process: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name may have spaces: count from its end. utime and stime are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')').context("no name")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks =
        |index: usize| -> anyhow::Result<f64> { Ok(fields.get(index).context("too short")?.parse::<f64>()?) };
    Ok((ticks(11)? + ticks(12)?) / TICKS)
}

// No network of its own: the switch is not what is measured.
scenario!(an_idle_node_takes_less_than_a_hundredth_of_a_core, async {
    let cluster = Cluster::start(Settings::default()).await?;
    let people = People::new(&cluster)?;
    let client = Client::new(cluster.trust.clone(), Options::default())?;
    let mut sealed = people.seal(&cluster, fairpost_proto::ids::Protocol::Cmp2, HOUR)?;
    ensure!(open(&client, &people, &mut sealed).await? == mail(), "another mail came out");
    let processes: Vec<u32> = cluster.nodes.iter().filter_map(fairpost_tests::Node::process).collect();
    let before = processes.iter().map(|process| used(*process)).collect::<anyhow::Result<Vec<_>>>()?;
    tokio::time::sleep(WATCH).await;
    let mut shares = Vec::new();
    for (process, before) in processes.iter().zip(before) {
        shares.push((used(*process)? - before) / WATCH.as_secs_f64());
    }
    println!(
        "idle nodes take {:?} of a core",
        shares.iter().map(|share| format!("{:.2} %", share * 100.0)).collect::<Vec<_>>()
    );
    ensure!(
        shares.len() == 4 && shares.iter().all(|share| *share < IDLE),
        "{shares:?}, promised: below {IDLE}"
    );
    Ok(())
});
