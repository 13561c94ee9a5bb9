//! Puts values into etcd, for docs/performance.md: the same clients as `fairpostctl bench`, and what a replicated, synced
//! write costs that nobody signs, votes on or verifies.
//!
//! ```text
//! etcd_load CLIENTS SECONDS ADDRESS...        addresses are host:port; HTTP/2 without TLS
//! ```
//!
//! As there: a closed loop of clients on one thread, two connections to each member, each client going round the members,
//! two seconds of warm-up. Every put is a new key of 32 bytes with a value of 1 KiB. One JSON object on standard output.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use fairpost_ops::bench::latency;
use rand::RngCore as _;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

const CONNECTIONS: usize = 2;
const WARM_UP: Duration = Duration::from_secs(2);
const VALUE: usize = 1024;

/// etcd's `etcdserverpb.PutRequest`, as far as it is used here.
#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// Its answer, of which only that it came counts.
#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {}

struct Load {
    members: Vec<Vec<Grpc<Channel>>>,
    stop: Cell<bool>,
}

impl Load {
    async fn put(&self, turn: usize) -> anyhow::Result<()> {
        let member = self.members.get(turn % self.members.len()).context("no member")?;
        let connection = member.get(turn / self.members.len() % CONNECTIONS).context("no connection")?;
        let mut grpc = connection.clone();
        let (mut key, mut value) = (vec![0; 32], vec![0; VALUE]);
        rand::thread_rng().fill_bytes(&mut key);
        rand::thread_rng().fill_bytes(&mut value);
        grpc.ready().await?;
        let codec = ProstCodec::<PutRequest, PutResponse>::default();
        let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
        grpc.unary(tonic::Request::new(PutRequest { key, value }), path, codec).await?;
        Ok(())
    }

    /// When each put ended, and how long it took.
    async fn client(&self, client: usize) -> anyhow::Result<Vec<(Instant, Duration)>> {
        let mut all = Vec::new();
        for turn in client.. {
            if self.stop.get() {
                break;
            }
            let started = Instant::now();
            self.put(turn).await?;
            all.push((Instant::now(), started.elapsed()));
        }
        Ok(all)
    }
}

async fn run(clients: usize, seconds: u64, addresses: Vec<String>) -> anyhow::Result<()> {
    anyhow::ensure!(!addresses.is_empty(), "no address");
    let connect = |address: &String| -> anyhow::Result<Vec<Grpc<Channel>>> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
        Ok((0..CONNECTIONS).map(|_| Grpc::new(endpoint.connect_lazy())).collect())
    };
    let members = addresses.iter().map(connect).collect::<Result<_, _>>()?;
    let load = Load { members, stop: Cell::new(false) };
    let clock = async {
        tokio::time::sleep(WARM_UP).await;
        let started = Instant::now();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        load.stop.set(true);
        Ok((started, Instant::now()))
    };
    let clients_done = futures::future::try_join_all((0..clients).map(|client| load.client(client)));
    let (done, (started, stopped)) = futures::future::try_join(clients_done, clock).await?;
    let all = done.iter().map(Vec::len).sum::<usize>();
    let counted: Vec<Duration> = done
        .into_iter()
        .flatten()
        .filter(|(at, _)| (started..=stopped).contains(at))
        .map(|(_, took)| took)
        .collect();
    let seconds = (stopped - started).as_secs_f64();
    let report = serde_json::json!({
        "clients": clients,
        "seconds": seconds,
        "puts": counted.len(),
        "answered": all,
        "puts_per_second": counted.len() as f64 / seconds,
        "latency_seconds": latency(counted.into_iter()),
    });
    println!("{report:#}");
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let clients = arguments.next().context("CLIENTS is missing")?.parse()?;
    let seconds = arguments.next().context("SECONDS is missing")?.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(clients, seconds, arguments.collect()))
}
