//! A cluster in a world that can be broken: each node in a network namespace of its own, on a disk of its own, with a
//! clock of its own.

mod clock;
mod disk;
mod network;
mod sandbox;
mod schedule;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use fairpost_api::v1::NodeStatus;
use futures::future::join_all;

pub use clock::Clock;
pub use disk::Disk;
pub use network::{Link, Network};
pub use sandbox::{command, full_name, kept, sandboxed};
pub use schedule::{Fault, Planned, Target, schedule};

use crate::{Cluster, People, Settings, eventually};

/// How long a node has to say how it is.
const SOON: Duration = Duration::from_secs(2);
/// How large a node's disk is.
const DISK_MEBIBYTES: u64 = 192;

/// A cluster, and all that can go wrong with it.
pub struct World {
    /// The cluster.
    pub cluster: Cluster,
    /// The network between the nodes and to the clients.
    pub network: Network,
    /// The nodes' disks. Behind the cluster, so that no node is left when they go.
    pub disks: Vec<Disk>,
    /// The nodes' clocks.
    pub clocks: Vec<Clock>,
    /// A sender and a recipient.
    pub people: People,
    name: String,
    notes: String,
    finished: bool,
}

impl World {
    /// Makes a world and starts its nodes; they are ready when this returns. `seed` decides what lossy links lose.
    pub async fn start(name: &str, settings: Settings, seed: u64) -> anyhow::Result<Self> {
        let network = Network::start(settings.nodes, seed).await?;
        let hosts: Vec<IpAddr> = (0..settings.nodes).map(|node| Network::address(node).into()).collect();
        let mut cluster = Cluster::make_at(settings, &hosts)?;
        let (mut disks, mut clocks) = (Vec::new(), Vec::new());
        let root = cluster.path();
        for (index, node) in cluster.nodes.iter_mut().enumerate() {
            let image = root.join(format!("{}.img", node.name));
            disks.push(Disk::make(&image, &root.join(&node.name).join("data"), DISK_MEBIBYTES)?);
            let clock = Clock::make(&root.join(format!("{}.clock", node.name)))?;
            let namespace = format!("--net=/run/netns/{}", Network::namespace(index));
            node.run_under(["nsenter", &namespace, "--"], clock.environment());
            clocks.push(clock);
        }
        let people = People::new(&cluster)?;
        let name = name.to_owned();
        let mut world =
            Self { cluster, network, disks, clocks, people, name, notes: String::new(), finished: false };
        for index in 0..world.cluster.nodes.len() {
            world.cluster.launch(index)?;
        }
        for index in 0..world.cluster.nodes.len() {
            world.cluster.ready(index).await?;
        }
        Ok(world)
    }

    /// How a node is; none if it does not run, or does not say so soon.
    pub async fn status(&self, node: usize) -> Option<NodeStatus> {
        self.cluster.nodes.get(node)?.process()?;
        tokio::time::timeout(SOON, self.cluster.status(node)).await.ok()?.ok()
    }

    /// Who leads, as far as those say who answer soon.
    pub async fn leader(&self) -> Option<usize> {
        let asked = join_all((0..self.cluster.nodes.len()).map(|node| self.status(node))).await;
        let leads = asked.into_iter().enumerate().filter_map(|(node, status)| Some((node, status?)));
        leads
            .filter(|(_, status)| status.role == "leader")
            .max_by_key(|(_, status)| status.term)
            .map(|(node, _)| node)
    }

    /// Waits for a leader other than this node.
    pub async fn other_leader(&self, than: usize) -> anyhow::Result<usize> {
        eventually("another leader", async || self.leader().await.filter(|leader| *leader != than)).await
    }

    /// Waits until all nodes are ready and have the same evidence log; gives their statuses.
    pub async fn level(&self) -> anyhow::Result<Vec<NodeStatus>> {
        let probe = async || {
            let asked = join_all((0..self.cluster.nodes.len()).map(|node| self.status(node))).await;
            let all: Vec<NodeStatus> = asked.into_iter().flatten().collect();
            let first = all.first()?;
            let same = all.len() == self.cluster.nodes.len()
                && all.iter().all(|status| {
                    status.ready
                        && status.sequence == first.sequence
                        && status.voted_sequence == first.sequence
                        && status.evidence_log_root == first.evidence_log_root
                });
            same.then(|| all.clone())
        };
        eventually("all nodes' being level", probe).await
    }

    /// Kills a node with SIGKILL, and returns when it is dead. Its disk goes on if it hung: a process that waits for its disk can't
    /// die before.
    pub fn kill(&mut self, node: usize) -> anyhow::Result<()> {
        self.cluster.signal(node, "KILL")?;
        if let Some(disk) = self.disks.get_mut(node) {
            disk.thaw()?;
        }
        self.cluster.kill(node)
    }

    /// Undoes all that can be undone from outside, and starts what is down.
    pub async fn heal(&mut self) -> anyhow::Result<()> {
        self.network.set_all(Link::CLEAR);
        for clock in &self.clocks {
            clock.set(0)?;
        }
        for disk in &mut self.disks {
            disk.thaw()?;
        }
        for node in 0..self.cluster.nodes.len() {
            self.cluster.has_ended(node)?;
            if self.cluster.nodes.get(node).is_some_and(|node| node.process().is_none()) {
                self.cluster.launch(node)?;
            } else {
                self.cluster.signal(node, "CONT")?;
            }
        }
        Ok(())
    }

    /// All went well: nothing need be kept.
    pub fn finish(mut self) {
        self.finished = true;
    }

    /// What to keep beside the nodes' logs if it fails.
    pub fn note(&mut self, line: &str) {
        self.notes.push_str(line);
        self.notes.push('\n');
    }

    /// Keeps the nodes' logs and the notes; gives the folder.
    fn keep(&self) -> anyhow::Result<PathBuf> {
        let folder = kept().join(&self.name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)?;
        for (index, node) in self.cluster.nodes.iter().enumerate() {
            std::fs::write(folder.join(format!("{}.log", node.name)), self.cluster.log(index))?;
        }
        std::fs::write(folder.join("notes.txt"), &self.notes)?;
        Ok(folder)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for disk in &mut self.disks {
            let _ = disk.thaw();
        }
        if !self.finished
            && let Ok(folder) = self.keep()
        {
            println!("{}: the nodes' logs are kept in {}", self.name, folder.display());
        }
    }
}
