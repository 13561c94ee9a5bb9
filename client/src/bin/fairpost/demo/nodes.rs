//! The servers: four processes on this machine, which end with their owner.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use fairpost_api::tls::{ChannelOptions, ConnectError, Pin, Target, channel, client_config, connect_error};
use fairpost_proto::trust::Trust;
use fairpost_proto::view::Member;
use rand::Rng as _;
use tokio::time::{sleep, timeout};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// How many servers.
const COUNT: u16 = 4;
/// How far above a server's port `fairpostctl init` puts its port for metrics.
const METRICS: u16 = 100;
/// How long the servers may take to start.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long to wait before a server that does not listen yet is tried again: nothing tells when it does.
const RETRY: Duration = Duration::from_millis(50);

/// The running servers.
pub(super) struct Nodes(Vec<Node>);

struct Node {
    name: String,
    process: Child,
    log: PathBuf,
}

impl Nodes {
    /// Starts all servers of the cluster that was prepared in `folder`.
    pub(super) fn start(folder: &Path) -> anyhow::Result<Self> {
        let program = beside("fairpostd")?;
        // All are in here before the first is waited for, so that none outlives an error.
        let mut nodes = Self(Vec::new());
        for number in 1..=COUNT {
            let name = format!("n{number}");
            let log = folder.join(format!("{name}.log"));
            let config = folder.join(&name).join("fairpostd.toml");
            let stderr = File::create(&log).with_context(|| log.display().to_string())?;
            let mut command = Command::new(&program);
            command.args(["run", "--config"]).arg(config);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
            without_settings(&mut command);
            let process = command.spawn().with_context(|| program.display().to_string())?;
            nodes.0.push(Node { name, process, log });
        }
        Ok(nodes)
    }

    /// Waits until each of them says that it is ready.
    pub(super) async fn ready(&mut self, trust: &Trust) -> anyhow::Result<()> {
        for (node, member) in self.0.iter_mut().zip(trust.view().members()) {
            match timeout(PATIENCE, node.ready(member)).await {
                Ok(ready) => ready?,
                Err(_) => bail!(
                    "{} was not ready within {PATIENCE:?}; it logged:\n{}",
                    node.name,
                    node.last_words()
                ),
            }
        }
        Ok(())
    }

    /// Their names and process ids.
    pub(super) fn list(&self) -> Vec<(String, u32)> {
        self.0.iter().map(|node| (node.name.clone(), node.process.id())).collect()
    }

    /// Kills the server of this name with SIGKILL, and waits until it is gone. Gives its process id.
    pub(super) fn kill(&mut self, name: &str) -> anyhow::Result<u32> {
        let place = self.0.iter().position(|node| node.name == name);
        let mut node = self.0.remove(place.with_context(|| format!("there is no server {name} to kill"))?);
        let id = node.process.id();
        node.end();
        Ok(id)
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(Node::end);
    }
}

impl Node {
    /// Waits until its health service says that it serves.
    async fn ready(&mut self, member: &Member) -> anyhow::Result<()> {
        let target: Target = member.address.parse()?;
        let config = client_config(Pin::Identity(member.identity), None)?;
        let mut health = HealthClient::new(channel(&target, config, ChannelOptions::default()));
        loop {
            if let Some(status) = self.process.try_wait()? {
                bail!("{} ended ({status}); it logged:\n{}", self.name, self.last_words());
            }
            // The service "" is the whole server.
            match health.watch(HealthCheckRequest { service: String::new() }).await {
                Ok(watch) => {
                    let mut watch = watch.into_inner();
                    while let Ok(Some(update)) = watch.message().await {
                        if update.status() == ServingStatus::Serving {
                            return Ok(());
                        }
                    }
                }
                Err(status) => match connect_error(&status) {
                    // It does not listen yet.
                    Some(ConnectError::Tcp { .. }) => {}
                    Some(other) => bail!("{}: {other}", self.name),
                    None => tracing::debug!(node = self.name, %status, "its health can't be watched"),
                },
            }
            sleep(RETRY).await;
        }
    }

    fn end(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// The end of its log.
    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(10)..).unwrap_or_default().join("\n")
    }
}

/// A program beside this one.
pub(super) fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.with_file_name(name);
    ensure!(path.is_file(), "{} is missing; build it with: cargo build --workspace --bins", path.display());
    Ok(path)
}

/// The user's own settings would lead the demo's commands elsewhere.
pub(super) fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FAIRPOST") {
            command.env_remove(name);
        }
    }
}

/// A port after which all ports that the servers will take are free now. Below 32768 no system takes them for
/// outgoing connections.
pub(super) fn free_base_port() -> anyhow::Result<u16> {
    for _ in 0..100 {
        let base = rand::thread_rng().gen_range(20_000..32_000);
        let mut ports = (1..=COUNT).flat_map(|number| [base + number, base + METRICS + number]);
        if ports.all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return Ok(base);
        }
    }
    bail!("found no {} free ports between 20000 and 32100", 2 * COUNT)
}
