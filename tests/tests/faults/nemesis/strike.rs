//! Faults begin and end.

use std::time::{Duration, Instant};

use fairpost_tests::world::{Fault, Link, Target, World};

/// How long a slow disk stalls, and works in between.
const STALL: Duration = Duration::from_millis(300);

/// Begins a fault; gives the node that it hit, or any number if it hits no single one. None if it can't begin now, because
/// the node is down already.
pub(super) async fn begin(world: &mut World, fault: Fault) -> anyhow::Result<Option<usize>> {
    let Some(node) = aim(world, fault).await else { return Ok(None) };
    let runs = world.cluster.has_ended(node)?.is_none() && world.cluster.nodes[node].process().is_some();
    match fault {
        Fault::Kill(_) if runs => world.kill(node)?,
        Fault::Stop(_) if runs => world.cluster.signal(node, "STOP")?,
        Fault::Kill(_) | Fault::Stop(_) => return Ok(None),
        Fault::KillAll => {
            for node in 0..world.cluster.nodes.len() {
                if world.cluster.has_ended(node)?.is_none() && world.cluster.nodes[node].process().is_some() {
                    world.kill(node)?;
                }
            }
        }
        Fault::Isolate(_) => world.network.isolate(node),
        Fault::Mute(_) => others(world, node).for_each(|other| world.network.set(node, other, Link::CUT)),
        Fault::Deaf(_) => others(world, node).for_each(|other| world.network.set(other, node, Link::CUT)),
        Fault::Split(one, other) => world.network.split(&[one, other]),
        Fault::Weather(millis, percent) => {
            let delay = Duration::from_millis(millis);
            let loss = f64::from(percent) / 100.0;
            let link = Link { open: true, delay, jitter: delay / 2, loss };
            for one in 0..world.cluster.nodes.len() {
                others(world, one).for_each(|other| world.network.set(one, other, link));
            }
        }
        Fault::Clock(_, ahead) => world.clocks[node].set(ahead)?,
        Fault::FullDisk(_) => {
            // A node that is started on a disk with little room meets its end soon.
            if runs {
                world.kill(node)?;
            }
            world.disks[node].fill_but(256 << 10)?;
            world.cluster.launch(node)?;
            // What it frees at its start is taken as well.
            tokio::time::sleep(STALL).await;
            world.disks[node].fill()?;
        }
        Fault::BrokenDisk(_) => world.disks[node].fail()?,
        Fault::SlowDisk(_) | Fault::HungDisk(_) => world.disks[node].freeze()?,
    }
    Ok(Some(node))
}

fn others(world: &World, node: usize) -> impl Iterator<Item = usize> + use<> {
    (0..world.cluster.nodes.len()).filter(move |other| *other != node)
}

async fn aim(world: &World, fault: Fault) -> Option<usize> {
    match fault {
        Fault::Kill(target)
        | Fault::Stop(target)
        | Fault::Isolate(target)
        | Fault::Mute(target)
        | Fault::Deaf(target)
        | Fault::Clock(target, _)
        | Fault::FullDisk(target)
        | Fault::BrokenDisk(target)
        | Fault::SlowDisk(target)
        | Fault::HungDisk(target) => match target {
            Target::Node(node) => Some(node),
            Target::Leader => world.leader().await,
        },
        Fault::KillAll | Fault::Split(..) | Fault::Weather(..) => Some(0),
    }
}

/// Lets so much time pass, in which slow disks stall again and again.
pub(super) async fn last(
    world: &mut World,
    struck: &[(Fault, Option<usize>)],
    lasts: Duration,
) -> anyhow::Result<()> {
    let slow: Vec<usize> = struck
        .iter()
        .filter_map(|(fault, hit)| hit.filter(|_| matches!(fault, Fault::SlowDisk(_))))
        .collect();
    let end = Instant::now() + lasts;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        if slow.is_empty() {
            tokio::time::sleep(left).await;
            continue;
        }
        tokio::time::sleep(STALL.min(left)).await;
        for node in &slow {
            world.disks[*node].thaw()?;
        }
        tokio::time::sleep(STALL.min(left)).await;
        for node in &slow {
            world.disks[*node].freeze()?;
        }
    }
    Ok(())
}

/// Ends a fault.
pub(super) async fn end(world: &mut World, fault: Fault, hit: Option<usize>) -> anyhow::Result<()> {
    let Some(node) = hit else { return Ok(()) };
    match fault {
        Fault::Kill(_) | Fault::KillAll => start_all(world)?,
        Fault::Stop(_) => {
            if world.cluster.nodes[node].process().is_some() {
                world.cluster.signal(node, "CONT")?;
            }
        }
        Fault::Isolate(_) | Fault::Mute(_) | Fault::Deaf(_) | Fault::Split(..) | Fault::Weather(..) => {
            world.network.set_all(Link::CLEAR);
        }
        Fault::Clock(..) => world.clocks[node].set(0)?,
        Fault::FullDisk(_) => {
            world.disks[node].free()?;
            start_all(world)?;
        }
        Fault::BrokenDisk(_) => repair(world, node).await?,
        Fault::SlowDisk(_) | Fault::HungDisk(_) => world.disks[node].thaw()?,
    }
    Ok(())
}

/// Starts what is down.
fn start_all(world: &mut World) -> anyhow::Result<()> {
    for node in 0..world.cluster.nodes.len() {
        world.cluster.has_ended(node)?;
        if world.cluster.nodes[node].process().is_none() {
            world.cluster.launch(node)?;
        }
    }
    Ok(())
}

/// Has a broken disk checked and mounted anew. Its node has ended by itself, or is stopped for it.
async fn repair(world: &mut World, node: usize) -> anyhow::Result<()> {
    if world.cluster.has_ended(node)?.is_none() && world.cluster.nodes[node].process().is_some() {
        world.kill(node)?;
    }
    world.disks[node].repair()?;
    start_all(world)
}

/// After the last fault.
pub(super) async fn mend(world: &mut World) -> anyhow::Result<()> {
    world.heal().await
}
