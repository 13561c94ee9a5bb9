//! A cluster in a world that can be broken: each node in a network namespace of its own, on a disk of its own, with a
//! clock of its own.

mod clock;
mod disk;
mod network;
mod sandbox;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

pub use clock::Clock;
pub use disk::Disk;
pub use network::{Link, Network};
pub use sandbox::{command, full_name, kept, sandboxed};

use crate::{Cluster, People, Settings};

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
        let mut world = Self { cluster, network, disks, clocks, people, name, finished: false };
        for index in 0..world.cluster.nodes.len() {
            world.cluster.launch(index)?;
        }
        for index in 0..world.cluster.nodes.len() {
            world.cluster.ready(index).await?;
        }
        Ok(world)
    }

    /// All went well: nothing need be kept.
    pub fn finish(mut self) {
        self.finished = true;
    }

    /// Keeps the nodes' logs, and these words; gives the folder.
    pub fn keep(&self, words: &str) -> anyhow::Result<PathBuf> {
        let folder = kept().join(&self.name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)?;
        for (index, node) in self.cluster.nodes.iter().enumerate() {
            std::fs::write(folder.join(format!("{}.log", node.name)), self.cluster.log(index))?;
        }
        append(&folder.join("schedule.txt"), words)?;
        Ok(folder)
    }
}

fn append(path: &Path, words: &str) -> anyhow::Result<()> {
    Ok(std::fs::write(path, words)?)
}

impl Drop for World {
    fn drop(&mut self) {
        for disk in &mut self.disks {
            let _ = disk.thaw();
        }
        if !self.finished
            && let Ok(folder) = self.keep("")
        {
            println!("{}: the nodes' logs are kept in {}", self.name, folder.display());
        }
    }
}
