//! A network between namespaces, through a switch of the test's own.
//!
//! # Specification
//!
//! Each host has a TUN device in a network namespace; the last host is the test itself, where clients are. Packets go
//! through this process, which drops or delays them by the [`Link`] from their sender to their receiver. Links have a
//! direction: one-way partitions are as easy as others. The kernel needs no `netem`.
//!
//! # Guarantees
//!
//! What a link drops, and for how long it holds back what, follows from the seed and the order of the packets
//! ([`Link::fate`]).

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use tokio_tun::Tun;

use super::sandbox::command;

/// What a host's packets to another host meet with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// Whether any packet passes.
    pub open: bool,
    /// How long each is held back.
    pub delay: Duration,
    /// By how much more, at most, and at random.
    pub jitter: Duration,
    /// How many are lost: 0 to 1.
    pub loss: f64,
}

impl Link {
    /// All passes at once.
    pub const CLEAR: Self = Self { open: true, delay: Duration::ZERO, jitter: Duration::ZERO, loss: 0.0 };
    /// Nothing passes.
    pub const CUT: Self = Self { open: false, ..Self::CLEAR };

    /// How long the next packet is held back; none if it is lost.
    fn fate(&self, random: &mut ChaCha8Rng) -> Option<Duration> {
        if !self.open || (self.loss > 0.0 && random.gen_bool(self.loss.clamp(0.0, 1.0))) {
            return None;
        }
        let jitter = if self.jitter.is_zero() { 0.0 } else { random.r#gen::<f64>() };
        Some(self.delay + self.jitter.mul_f64(jitter))
    }
}

struct State {
    /// From each host to each host.
    links: Vec<Vec<Link>>,
    random: ChaCha8Rng,
}

/// The network. The nodes are hosts 0 to `nodes - 1`, and the clients are the last.
#[derive(Clone)]
pub struct Network {
    nodes: usize,
    state: Arc<Mutex<State>>,
}

/// The largest packet.
const MTU: usize = 1500;

impl Network {
    /// Makes the namespaces and the switch. To be called in a sandbox.
    pub async fn start(nodes: usize, seed: u64) -> anyhow::Result<Self> {
        let state = State {
            links: vec![vec![Link::CLEAR; nodes + 1]; nodes + 1],
            random: ChaCha8Rng::seed_from_u64(seed),
        };
        let network = Self { nodes, state: Arc::new(Mutex::new(state)) };
        let (ready, made) = oneshot::channel();
        let switch = network.clone();
        // A thread of its own: what the clients compute must delay no packet.
        std::thread::Builder::new().name("switch".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(switch.run(ready)),
                Err(error) => _ = ready.send(Err(error.into())),
            }
        })?;
        made.await.context("the switch ended")??;
        for host in 0..=nodes {
            let (device, address) = (device(host), format!("{}/24", Self::address(host)));
            if host < nodes {
                let namespace = Self::namespace(host);
                command("ip", ["netns", "add", &namespace])?;
                command("ip", ["link", "set", &device, "netns", &namespace])?;
                command("ip", ["-n", &namespace, "link", "set", "lo", "up"])?;
                command("ip", ["-n", &namespace, "address", "add", &address, "dev", &device])?;
                command("ip", ["-n", &namespace, "link", "set", &device, "up"])?;
            } else {
                command("ip", ["address", "add", &address, "dev", &device])?;
                command("ip", ["link", "set", &device, "up"])?;
            }
        }
        Ok(network)
    }

    /// A host's address.
    pub const fn address(host: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, host as u8 + 1)
    }

    /// A node's namespace.
    pub fn namespace(node: usize) -> String {
        format!("n{}", node + 1)
    }

    /// The host where the clients are.
    pub const fn clients(&self) -> usize {
        self.nodes
    }

    /// Sets the link from a host to another.
    pub fn set(&self, from: usize, to: usize, link: Link) {
        let mut state = lock(&self.state);
        if let Some(held) = state.links.get_mut(from).and_then(|row| row.get_mut(to)) {
            *held = link;
        }
    }

    /// Sets the links between two hosts, both ways.
    pub fn set_both(&self, one: usize, other: usize, link: Link) {
        self.set(one, other, link);
        self.set(other, one, link);
    }

    /// Sets all links of a node to other nodes, both ways; clients reach it as before.
    pub fn set_node(&self, node: usize, link: Link) {
        for other in (0..self.nodes).filter(|other| *other != node) {
            self.set_both(node, other, link);
        }
    }

    /// Cuts a node off from all, clients included.
    pub fn isolate(&self, node: usize) {
        self.set_node(node, Link::CUT);
        self.set_both(node, self.nodes, Link::CUT);
    }

    /// Parts the nodes: only those in the same group reach each other. Clients reach all.
    pub fn split(&self, group: &[usize]) {
        for one in 0..self.nodes {
            for other in (0..self.nodes).filter(|other| group.contains(&one) != group.contains(other)) {
                self.set(one, other, Link::CUT);
            }
        }
    }

    /// Sets all links.
    pub fn set_all(&self, link: Link) {
        let mut state = lock(&self.state);
        state.links.iter_mut().flatten().for_each(|held| *held = link);
    }

    async fn run(self, ready: oneshot::Sender<anyhow::Result<()>>) {
        let made: anyhow::Result<Vec<Arc<Tun>>> = (0..=self.nodes)
            .map(|host| {
                let tuns = Tun::builder().name(&device(host)).mtu(MTU as i32).close_on_exec().build()?;
                Ok(Arc::new(tuns.into_iter().next().context("no TUN device came")?))
            })
            .collect();
        let tuns = match made {
            Ok(tuns) => tuns,
            Err(error) => {
                let _ = ready.send(Err(error.context("TUN devices can't be made")));
                return;
            }
        };
        let mut readers = Vec::new();
        for (from, tun) in tuns.iter().enumerate() {
            readers.push(tokio::spawn(self.clone().forward(from, Arc::clone(tun), tuns.clone())));
        }
        let _ = ready.send(Ok(()));
        for reader in readers {
            let _ = reader.await;
        }
    }

    async fn forward(self, from: usize, tun: Arc<Tun>, tuns: Vec<Arc<Tun>>) {
        let mut buffer = vec![0; MTU + 64];
        loop {
            let Ok(length) = tun.recv(&mut buffer).await else { return };
            let packet = buffer.get(..length).unwrap_or_default();
            let Some((to, receiver)) = destination(packet).and_then(|to| Some((to, tuns.get(to)?))) else {
                continue;
            };
            let fate = {
                let mut state = lock(&self.state);
                let State { links, random } = &mut *state;
                links.get(from).and_then(|row| row.get(to)).and_then(|link| link.fate(random))
            };
            match fate {
                None => {}
                // A device that is down or full loses a packet, as in life.
                Some(Duration::ZERO) => _ = receiver.try_send(packet),
                Some(delay) => {
                    let (packet, receiver) = (packet.to_vec(), Arc::clone(receiver));
                    tokio::spawn(async move {
                        tokio::time::sleep(delay).await;
                        let _ = receiver.send(&packet).await;
                    });
                }
            }
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn device(host: usize) -> String {
    format!("fairpost{host}")
}

/// The host that an IPv4 packet is for.
fn destination(packet: &[u8]) -> Option<usize> {
    let (version, last) = (packet.first()? >> 4, *packet.get(19)?);
    (version == 4 && last > 0).then(|| usize::from(last) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_links_fate_follows_from_the_seed() {
        let lossy = Link {
            loss: 0.3,
            delay: Duration::from_millis(10),
            jitter: Duration::from_millis(5),
            ..Link::CLEAR
        };
        let fates = |seed| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            (0..1000).map(|_| lossy.fate(&mut random)).collect::<Vec<_>>()
        };
        assert_eq!(fates(1), fates(1));
        assert_ne!(fates(1), fates(2));
        let lost = fates(1).iter().filter(|fate| fate.is_none()).count();
        assert!((200..400).contains(&lost), "{lost} of 1000 lost");
        let kept: Vec<Duration> = fates(1).into_iter().flatten().collect();
        assert!(kept.iter().all(|delay| (10..=15).contains(&delay.as_millis())));
        let mut random = ChaCha8Rng::seed_from_u64(1);
        assert_eq!(
            (Link::CLEAR.fate(&mut random), Link::CUT.fate(&mut random)),
            (Some(Duration::ZERO), None)
        );
    }

    #[test]
    fn a_packet_goes_to_the_host_of_its_address() {
        let mut packet = vec![0; 40];
        packet[0] = 0x45;
        packet[16..20].copy_from_slice(&Network::address(3).octets());
        assert_eq!(destination(&packet), Some(3));
        packet[0] = 0x60;
        assert_eq!(destination(&packet), None, "not IPv4");
        assert_eq!(destination(&packet[..19]), None);
    }
}
