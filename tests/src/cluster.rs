//! A cluster of real processes.

use std::ffi::OsString;
use std::fs::File;
use std::future::Future;
use std::io::Write as _;
use std::net::{IpAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use fairpost_api::tls::{ChannelOptions, Pin, Target, channel, client_config};
use fairpost_api::v1::admin_client::AdminClient;
use fairpost_api::v1::{GetNodeStatusRequest, NodeStatus};
use fairpost_node::config::{Config, Limits};
use fairpost_ops::operator::Operator;
use fairpost_proto::trust::Trust;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::dealer;

/// How long anything in a test may take before the test has failed. Machines are shared and slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How long a process that was killed may take to be gone.
const GONE: Duration = Duration::from_secs(20);
/// How long to wait before a process that does not listen yet is tried again.
const RETRY: Duration = Duration::from_millis(25);

/// The executable of this name, beside the test's own.
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let folder = own.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    let path = folder.join(name);
    assert!(path.is_file(), "{} is missing: run `cargo build --workspace` first", path.display());
    path
}

/// What `work` gives, or an error when it takes longer than a test may.
pub async fn within<T>(what: &str, work: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::time::timeout(PATIENCE, work)
        .await
        .with_context(|| format!("{what} took longer than {PATIENCE:?}"))
}

/// What `probe` gives, once it gives something: for what no event tells of.
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> anyhow::Result<T> {
    let asking = async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            tokio::time::sleep(RETRY).await;
        }
    };
    within(what, asking).await
}

/// How a cluster is made.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How many nodes.
    pub nodes: usize,
    /// How many of them may be compromised; none: as many as so many nodes stand.
    pub faults: Option<usize>,
    /// The skew, in milliseconds.
    pub skew_millis: u64,
    /// The grace, in milliseconds.
    pub grace_millis: u64,
    /// The longest lifetime, in seconds.
    pub longest_lifetime_seconds: u64,
    /// For how many seconds signed bytes are kept.
    pub retention_seconds: u64,
}

impl Default for Settings {
    /// Four nodes, a skew for slow machines, a short grace.
    fn default() -> Self {
        let day = 24 * 3600;
        Self {
            nodes: 4,
            faults: None,
            skew_millis: 20_000,
            grace_millis: 1000,
            longest_lifetime_seconds: 90 * day,
            retention_seconds: 913 * day,
        }
    }
}

/// One node: its configuration, and its process if it runs.
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its configuration file.
    pub config: PathBuf,
    log: PathBuf,
    process: Option<Child>,
    /// What its process is started by, if not directly.
    under: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

impl Node {
    /// Has its process started by this command, which must become the process itself, and with these variables.
    pub fn run_under<A: Into<OsString>>(
        &mut self,
        command: impl IntoIterator<Item = A>,
        environment: Vec<(OsString, OsString)>,
    ) {
        self.under = command.into_iter().map(Into::into).collect();
        self.environment = environment;
    }

    /// Its process's id, if it was started and not waited for.
    pub fn process(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }
}

/// Nodes of one cluster.
pub struct Cluster {
    /// What clients hold of it.
    pub trust: Trust,
    /// The nodes, by the member's index.
    pub nodes: Vec<Node>,
    operator: Operator,
    folder: TempDir,
    /// Keeps the ports of nodes that are down from other tests.
    _ports: TcpListener,
}

impl Cluster {
    /// Makes a cluster and starts all its nodes; they are ready when this returns.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        let mut cluster = Self::make(settings)?;
        for index in 0..cluster.nodes.len() {
            cluster.launch(index)?;
        }
        for index in 0..cluster.nodes.len() {
            cluster.ready(index).await?;
        }
        Ok(cluster)
    }

    /// Makes a cluster and starts nothing.
    pub fn make(settings: Settings) -> anyhow::Result<Self> {
        Self::make_at(settings, &[])
    }

    /// Makes a cluster whose nodes have these addresses, or all the loopback address if there are none. Its key is dealt.
    pub fn make_at(settings: Settings, hosts: &[IpAddr]) -> anyhow::Result<Self> {
        let mut cluster = Self::prepare(settings, hosts)?;
        cluster.trust = dealer::deal(&cluster.path())?;
        Ok(cluster)
    }

    /// Prepares a cluster whose key is yet to be made. Until then its `trust` names the same members, and a key that nobody
    /// has.
    pub fn prepare(settings: Settings, hosts: &[IpAddr]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("cluster");
        let (base, ports) = free_ports(settings.nodes)?;
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let hosts = if hosts.is_empty() { vec![] } else { vec!["--hosts".to_owned(), hosts.join(",")] };
        let faults = settings.faults.map_or(vec![], |faults| vec!["--faults".to_owned(), faults.to_string()]);
        let made = Command::new(binary("fairpostctl"))
            .args(["init", "--name", "test", "--dir"])
            .arg(&path)
            .args(["--nodes", &settings.nodes.to_string()])
            .args(["--base-port", &base.to_string()])
            .args(["--skew-ms", &settings.skew_millis.to_string()])
            .args(["--grace-ms", &settings.grace_millis.to_string()])
            .args(["--shortest-lifetime-s", "1"])
            .args(["--longest-lifetime-s", &settings.longest_lifetime_seconds.to_string()])
            .args(["--retention-s", &settings.retention_seconds.to_string()])
            .args(hosts)
            .args(faults)
            .output()?;
        ensure!(made.status.success(), "fairpostctl init: {}", String::from_utf8_lossy(&made.stderr));
        let (trust, _) = dealer::key(&path)?;
        let operator = Operator::open(&path.join("operator/operator.key"))?;
        let nodes = trust.view().members().iter().map(|member| Node {
            name: member.name.clone(),
            config: path.join(&member.name).join("fairpostd.toml"),
            log: path.join(format!("{}.log", member.name)),
            process: None,
            under: vec![],
            environment: vec![],
        });
        let nodes = nodes.collect();
        Ok(Self { trust, nodes, operator, folder, _ports: ports })
    }

    /// The cluster's folder, as `fairpostctl init` made it.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("cluster")
    }

    /// The development CA's folder.
    pub fn ca(&self) -> PathBuf {
        self.path().join("ca")
    }

    fn node(&mut self, index: usize) -> anyhow::Result<&mut Node> {
        self.nodes.get_mut(index).context("no such node")
    }

    /// Starts a node's process; it need not be ready when this returns.
    pub fn launch(&mut self, index: usize) -> anyhow::Result<()> {
        let node = self.node(index)?;
        ensure!(node.process.is_none(), "{} runs already", node.name);
        let log = File::options().create(true).append(true).open(&node.log)?;
        let mut words = node.under.iter().cloned().chain([binary("fairpostd").into()]);
        let process = Command::new(words.next().unwrap_or_default())
            .args(words)
            .args(["run", "--log", "info,openraft=warn", "--config"])
            .arg(&node.config)
            .envs(node.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        node.process = Some(process);
        Ok(())
    }

    /// Kills a node with SIGKILL, and returns when it is dead. One that waits for a disk that hangs dies only once the disk
    /// goes on: then this fails, after a while.
    pub fn kill(&mut self, index: usize) -> anyhow::Result<()> {
        let node = self.node(index)?;
        let mut process = node.process.take().context("the node does not run")?;
        end(&mut process).with_context(|| format!("killing {}", node.name))
    }

    /// The id of a node's process, if it runs.
    pub fn process_id(&self, index: usize) -> Option<u32> {
        self.nodes.get(index)?.process.as_ref().map(Child::id)
    }

    /// Changes the limits of all nodes; to be called before they start.
    pub fn limit(&self, change: impl Fn(&mut Limits)) -> anyhow::Result<()> {
        for node in &self.nodes {
            let mut config = Config::load(&node.config)?;
            change(&mut config.limits);
            std::fs::write(&node.config, config.to_toml()?)?;
        }
        Ok(())
    }

    /// Sends a node a signal by name, for example TERM, STOP or CONT.
    pub fn signal(&mut self, index: usize, signal: &str) -> anyhow::Result<()> {
        let process = self.node(index)?.process.as_ref().context("the node does not run")?;
        let sent = Command::new("kill").args([&format!("-{signal}"), &process.id().to_string()]).status()?;
        ensure!(sent.success(), "kill -{signal} failed");
        Ok(())
    }

    /// Waits until a node's process has ended by itself.
    pub async fn ended(&mut self, index: usize) -> anyhow::Result<ExitStatus> {
        ensure!(self.node(index)?.process.is_some(), "the node does not run");
        // The process stays this cluster's while it is waited for, so that it is killed if it never ends.
        eventually("a node's end", async || self.has_ended(index).transpose()).await?
    }

    /// Stops a node as an operator would, with SIGTERM, and waits for its end.
    pub async fn stop(&mut self, index: usize) -> anyhow::Result<ExitStatus> {
        self.signal(index, "TERM")?;
        self.ended(index).await
    }

    /// Adds lines to the end of a node's configuration.
    pub fn configure(&mut self, index: usize, lines: &str) -> anyhow::Result<()> {
        let mut file = File::options().append(true).open(&self.node(index)?.config)?;
        Ok(file.write_all(lines.as_bytes())?)
    }

    /// What a node's exporter says.
    pub async fn metrics(&self, index: usize) -> anyhow::Result<String> {
        let config = Config::load(&self.nodes.get(index).context("no such node")?.config)?;
        let address = config.metrics_listen.context("no metrics")?;
        let asking = async {
            let mut stream = TcpStream::connect(address).await?;
            let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            stream.write_all(request).await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            std::io::Result::Ok(text)
        };
        let text = within("a node's metrics", asking).await??;
        ensure!(text.starts_with("HTTP/1.1 200"), "{text}");
        Ok(text)
    }

    /// How a node's process ended, if it has. It counts as not running then.
    pub fn has_ended(&mut self, index: usize) -> anyhow::Result<Option<ExitStatus>> {
        let node = self.node(index)?;
        let ended = node.process.as_mut().map(Child::try_wait).transpose()?.flatten();
        if ended.is_some() {
            node.process = None;
        }
        Ok(ended)
    }

    /// What a node has logged so far.
    pub fn log(&self, index: usize) -> String {
        let node = self.nodes.get(index);
        node.and_then(|node| std::fs::read_to_string(&node.log).ok()).unwrap_or_default()
    }

    /// A connection to a node, without a client certificate.
    pub fn channel(&self, index: usize) -> anyhow::Result<Channel> {
        let member = self.trust.view().members().get(index).context("no such member")?;
        let target: Target = member.address.parse()?;
        let config = client_config(Pin::Identity(member.identity), None)?;
        Ok(channel(&target, config, ChannelOptions::default()))
    }

    /// A connection to a node with the operator's certificate.
    pub fn operator_channel(&self, index: usize) -> anyhow::Result<Channel> {
        let member = self.trust.view().members().get(index).context("no such member")?;
        Ok(self.operator.channel(member, ChannelOptions::default())?)
    }

    /// Waits until a node is ready, by its gRPC health service.
    pub async fn ready(&mut self, index: usize) -> anyhow::Result<()> {
        let mut health = HealthClient::new(self.channel(index)?);
        let waiting = async {
            loop {
                if let Some(status) =
                    self.node(index)?.process.as_mut().and_then(|process| process.try_wait().ok()?)
                {
                    bail!("the node ended with {status}");
                }
                match health.watch(HealthCheckRequest { service: String::new() }).await {
                    Ok(watch) => {
                        let mut watch = watch.into_inner();
                        while let Ok(Some(update)) = watch.message().await {
                            if update.status() == ServingStatus::Serving {
                                return Ok(());
                            }
                        }
                    }
                    Err(_) => tokio::time::sleep(RETRY).await,
                }
            }
        };
        let ready = within("a node's readiness", waiting).await;
        ready
            .and_then(|ready| ready)
            .with_context(|| format!("the log of node {index}:\n{}", self.log(index)))
    }

    /// How a node is.
    pub async fn status(&self, index: usize) -> anyhow::Result<NodeStatus> {
        let mut admin = AdminClient::new(self.operator_channel(index)?);
        Ok(within("a node's status", admin.get_node_status(GetNodeStatusRequest {})).await??.into_inner())
    }

    /// The index of the node that leads.
    pub async fn leader(&self) -> anyhow::Result<usize> {
        let runs = |index: &usize| self.nodes.get(*index).is_some_and(|node| node.process.is_some());
        let running: Vec<usize> = (0..self.nodes.len()).filter(runs).collect();
        self.leader_among(&running).await
    }

    /// The index of the node that leads, where only these are asked: others may hang.
    pub async fn leader_among(&self, nodes: &[usize]) -> anyhow::Result<usize> {
        let leads = async || {
            for index in nodes {
                if self.status(*index).await.is_ok_and(|status| status.role == "leader") {
                    return Some(*index);
                }
            }
            None
        };
        eventually("finding the leader", leads).await
    }

    /// What a node's gRPC health service says of `service`; the empty name is the whole node.
    pub async fn health(&self, index: usize, service: &str) -> anyhow::Result<ServingStatus> {
        let mut health = HealthClient::new(self.channel(index)?);
        let asked = HealthCheckRequest { service: service.to_owned() };
        let answer = within("a node's health", health.check(asked)).await??;
        Ok(answer.into_inner().status())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut process) = node.process.take()
                && let Err(error) = end(&mut process)
            {
                eprintln!("{}: {error:#}", node.name);
            }
        }
    }
}

/// Kills a process, which may have ended by itself, and waits until it is gone; not for ever.
fn end(process: &mut Child) -> anyhow::Result<()> {
    process.kill()?;
    let killed = Instant::now();
    while process.try_wait()?.is_none() {
        ensure!(killed.elapsed() < GONE, "process {} was killed and is there {GONE:?} later", process.id());
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Below the ports that systems give to outgoing connections (Linux: from 32768 on): one of those could take a node's
/// port while the node is down.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
/// How many ports a cluster has to itself: `fairpostctl init` takes base + node, and base + 100 + node.
const STRIDE: u16 = 200;

/// A base port, and what keeps other tests, of any process, from taking it as well: a listener on that very port,
/// which no node uses.
fn free_ports(nodes: usize) -> anyhow::Result<(u16, TcpListener)> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let slots = (PORTS.end - PORTS.start) / STRIDE;
    // Processes begin at different places.
    let start = (std::process::id() % u32::from(slots)) as u16;
    let bind = |port| TcpListener::bind(("127.0.0.1", port));
    for _ in 0..slots {
        let slot = (start + NEXT.fetch_add(1, Ordering::Relaxed) % slots) % slots;
        let base = PORTS.start + slot * STRIDE;
        let Ok(reserved) = bind(base) else { continue };
        if (1..=nodes as u16).flat_map(|node| [base + node, base + 100 + node]).all(|port| bind(port).is_ok())
        {
            return Ok((base, reserved));
        }
    }
    bail!("no free ports in {PORTS:?}")
}
