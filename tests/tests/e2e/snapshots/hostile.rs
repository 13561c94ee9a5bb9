//! A member that sends snapshots that do not hold.

use std::time::Instant;

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::DecodePrivateKey as _;
use fairpost_api::tls::{ChannelOptions, Credentials, Pin, Target, channel, client_config};
use fairpost_api::v1::RaftMessage;
use fairpost_api::v1::consensus_client::ConsensusClient;
use fairpost_node::config::Config;
use fairpost_node::ledger::{Block, Exchange, State};
use fairpost_node::store::{self, Record};
use fairpost_proto::chain::key_id;
use fairpost_proto::cose::Signed;
use fairpost_proto::grant::Grant;
use fairpost_proto::merkle::Frontier;
use fairpost_tests::{Cluster, Settings, about, open_ledger};
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};

use super::{forgetful, level, opened};

const BLOCK: u8 = 1;
const EXCHANGE: u8 = 2;
const STATE: u8 = 3;

/// A snapshot's records, as a liar may put them together.
#[derive(Clone)]
struct Told {
    state: State,
    records: Vec<(u8, Vec<u8>)>,
}

impl Told {
    /// What an honest node has; it must not run.
    fn of(cluster: &Cluster, node: usize) -> Self {
        let config = Config::load(&cluster.nodes[node].config).unwrap();
        let (ledger, _folder) = open_ledger(&config, &cluster.trust).unwrap();
        let mut records = Vec::new();
        let read = ledger.records().unwrap().read(&mut |record| {
            match record {
                Record::State(_) => {}
                Record::Block(bytes) => records.push((BLOCK, bytes.to_vec())),
                Record::Exchange(bytes) => records.push((EXCHANGE, bytes.to_vec())),
            }
            Ok::<_, store::Error>(())
        });
        read.unwrap();
        Self { state: ledger.state(), records }
    }

    /// Where the record of this kind stands.
    fn last(&self, kind: u8) -> usize {
        self.records.iter().rposition(|(found, _)| *found == kind).unwrap()
    }

    fn pack(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let state = (STATE, self.state.to_bytes());
        for (kind, record) in [&state].into_iter().chain(&self.records) {
            bytes.push(1);
            bytes.extend((record.len() as u32 + 1).to_be_bytes());
            bytes.push(*kind);
            bytes.extend(record);
        }
        bytes.push(0);
        bytes.extend((self.records.len() as u64 + 1).to_be_bytes());
        let digest = Sha256::digest(&bytes);
        bytes.extend(digest);
        bytes
    }
}

const LIAR: usize = 3;
const TERM: u64 = 1000;

/// What comes before the records: version, a leader's vote of a high term, up to where the snapshot goes, the members, a
/// name, and the grants of these members.
fn head(cluster: &Cluster, granting: &[usize]) -> Vec<u8> {
    let numbers =
        |numbers: &[u64]| numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>();
    let text = |text: &str| [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat();
    let last = [&[1][..], &numbers(&[TERM - 1, LIAR as u64, 1_000_000])].concat();
    let view = cluster.trust.view();
    let member = |(id, member): (u64, &fairpost_proto::view::Member)| {
        [numbers(&[id]), text(&member.name), text(&member.address)].concat()
    };
    let members: Vec<Vec<u8>> = (0..).zip(view.members()).map(member).collect();
    let voters = [&[0, 0, 1, 0, 4][..], &numbers(&[0, 1, 2, 3]), &[0, 4], &members.concat()].concat();
    let grants = granted(cluster, granting, LIAR, TERM);
    [&[1][..], &numbers(&[TERM, LIAR as u64]), &[1], &last, &voters, &[0, 3], b"lie", &grants].concat()
}

/// What these members sign for another one to lead in a term, behind its length.
pub(crate) fn granted(cluster: &Cluster, granting: &[usize], candidate: usize, term: u64) -> Vec<u8> {
    let view = cluster.trust.view();
    let candidate = key_id(&view.members()[candidate].identity);
    let grant = |voter: &usize| {
        let key = identity(cluster, *voter);
        let grant = Grant { cluster: view.cluster(), epoch: view.epoch(), term, candidate };
        let signed = Signed::sign(grant, key_id(&key.verifying_key()), &key).bytes().to_vec();
        let length = (signed.len() as u32).to_be_bytes();
        [&(*voter as u64).to_be_bytes()[..], &length, &signed].concat()
    };
    let grants: Vec<Vec<u8>> = granting.iter().map(grant).collect();
    let grants = [&[granting.len() as u8][..], &grants.concat()].concat();
    [&(grants.len() as u32).to_be_bytes()[..], &grants].concat()
}

pub(crate) fn identity(cluster: &Cluster, node: usize) -> SigningKey {
    let config = Config::load(&cluster.nodes[node].config).unwrap();
    SigningKey::from_pkcs8_pem(&std::fs::read_to_string(config.identity).unwrap()).unwrap()
}

/// A connection to a node in the name of another.
pub(crate) fn in_the_name_of(
    cluster: &Cluster,
    liar: usize,
    to: usize,
) -> ConsensusClient<tonic::transport::Channel> {
    let credentials = Credentials::generate(&identity(cluster, liar), &[], fairpost::now()).unwrap();
    let member = &cluster.trust.view().members()[to];
    let target: Target = member.address.parse().unwrap();
    let config = client_config(Pin::Identity(member.identity), Some(&credentials)).unwrap();
    ConsensusClient::new(channel(&target, config, ChannelOptions::default()))
}

/// As a leader whom three members elected, with what they really signed.
async fn send(cluster: &Cluster, to: usize, bytes: Vec<u8>, again: Option<Vec<u8>>) -> Status {
    send_after(head(cluster, &[0, 1, LIAR]), cluster, to, bytes, again).await
}

async fn send_after(
    head: Vec<u8>,
    cluster: &Cluster,
    to: usize,
    bytes: Vec<u8>,
    again: Option<Vec<u8>>,
) -> Status {
    let chunk = |body: &[u8]| RaftMessage { body: body.to_vec() };
    let mut chunks = vec![chunk(&head)];
    chunks.extend(bytes.chunks(1 << 20).map(chunk));
    let endless = again.into_iter().flat_map(move |again| std::iter::repeat_with(move || chunk(&again)));
    let mut client = in_the_name_of(cluster, LIAR, to);
    let chunks = tokio_stream::iter(chunks.into_iter().chain(endless));
    client.install_snapshot(about(cluster.trust.cluster(), chunks)).await.unwrap_err()
}

type Lie<'a> = &'a dyn Fn(&mut Told);

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_does_not_hold_is_refused_and_the_node_goes_on() {
    let (mut cluster, people) = forgetful(Settings::default()).await;
    for node in [0, 1, 2, 3] {
        opened(&cluster, &people, node).await;
    }
    // The last member turns liar.
    level(&cluster, 3, 0).await;
    cluster.stop(3).await.unwrap();
    let whole = Told::of(&cluster, 3);
    let (block, exchange) = (whole.last(BLOCK), whole.last(EXCHANGE));
    let edit_exchange = |told: &mut Told, edit: &dyn Fn(&mut Exchange)| {
        let mut parsed = Exchange::parse(&told.records[exchange].1).unwrap();
        edit(&mut parsed);
        told.records[exchange].1 = parsed.to_bytes();
    };
    let lies: [(&str, &str, Lie<'_>); 8] = [
        ("another NRO", "evidence", &|told| edit_exchange(told, &|exchange| exchange.nro.push(0))),
        ("no evidence", "comes without its evidence", &|told| {
            let now = told.state.time;
            edit_exchange(told, &|exchange| *exchange = exchange.clone().drop_bytes(now));
        }),
        ("a missing exchange", "has a leaf and no record", &|told| _ = told.records.remove(exchange)),
        ("a missing block", "expected", &|told| _ = told.records.remove(block)),
        ("another leaf", "its leaves make", &|told| {
            let mut parsed = Block::parse(&told.records[block].1).unwrap();
            let leaf = parsed.leaves.first_mut().unwrap();
            leaf.nro = fairpost_proto::ids::Digest::of(b"another");
            told.records[block].1 = parsed.to_bytes();
        }),
        ("a time to come", "skew ahead", &|told| {
            told.state.time = fairpost::now().plus(fairpost_proto::ids::Span::from_seconds(3600));
        }),
        ("less than is here", "a fork", &|told| {
            told.state.sequence -= 1;
        }),
        ("a record of no kind", "kind Some(9)", &|told| told.records[block].0 = 9),
    ];
    // Elected by too few, and by nobody.
    for granting in [&[0, LIAR][..], &[]] {
        let refused = send_after(head(&cluster, granting), &cluster, 0, whole.pack(), None).await;
        let says = format!("shows {} grants for term {TERM}, and leads with 3", granting.len());
        assert!(refused.message().contains(&says), "{refused:?}");
    }

    for (what, says, lie) in lies {
        let mut told = whole.clone();
        lie(&mut told);
        let refused = send(&cluster, 0, told.pack(), None).await;
        assert_eq!(refused.code(), Code::InvalidArgument, "{what}: {refused:?}");
        assert!(refused.message().contains(says), "{what}: {refused:?}");
    }

    // Cut off, changed on the way, and without an end.
    let packed = whole.pack();
    let cut = send(&cluster, 0, packed[..packed.len() - 1].to_vec(), None).await;
    assert!(cut.message().contains("more bytes expected"), "{cut:?}");
    let mut changed = packed.clone();
    *changed.last_mut().unwrap() ^= 1;
    let changed = send(&cluster, 0, changed, None).await;
    assert!(changed.message().contains("SHA-256"), "{changed:?}");
    let without_end = packed[..packed.len() - 41].to_vec();
    let again = [&[1][..], &(whole.records[block].1.len() as u32 + 1).to_be_bytes(), &[BLOCK]].concat();
    let again = [again, whole.records[block].1.clone()].concat();
    let endless = send(&cluster, 0, without_end, Some(again)).await;
    assert!(endless.message().contains("follows block"), "{endless:?}");

    // A log that nobody has signed, longer than any.
    let mut unsigned = whole.clone();
    unsigned.state.sequence += 1;
    let mut log = Frontier::new();
    log.push(fairpost_proto::ids::Digest::of(b"a leaf of my own"));
    unsigned.state.log = log;
    let asked = Instant::now();
    let refused = send(&cluster, 1, unsigned.pack(), None).await;
    assert!(refused.message().contains("0 members have signed"), "{refused:?}");
    assert!(asked.elapsed().as_secs() < 30);

    // All the same: the others decide as before, and hear the leader that they chose.
    for node in 0..3 {
        let status = cluster.status(node).await.unwrap();
        assert!(status.ready && status.term < 1000, "{status:?}");
        opened(&cluster, &people, node).await;
    }
    let data = Config::load(&cluster.nodes[0].config).unwrap().data;
    assert!(data.join("ledger").is_dir() && !data.join("ledger-2").exists(), "what was refused is gone");
    let text = cluster.metrics(0).await.unwrap();
    let refused = text.lines().find(|line| line.starts_with("fairpost_snapshots_refused_total")).unwrap();
    assert!(refused.ends_with(" 11"), "{refused}");
}
