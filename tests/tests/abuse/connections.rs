//! Connections that say nothing, too little, or are too many.

use std::time::{Duration, Instant};

use bytes::Bytes;
use fairpost::client::{Client, Options};
use fairpost_proto::ids::{Protocol, Span};
use fairpost_tests::{Cluster, People, eventually, mail, open, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::wire::{self, FLOODER};

const HANDSHAKE: Duration = Duration::from_millis(3000);
const FIRST: Duration = Duration::from_millis(4000);
const REQUEST: Duration = Duration::from_millis(4000);
/// How much later something may happen on a slow machine.
const SLACK: Duration = Duration::from_secs(20);
const PER_SOURCE: usize = 32;
/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(240);

async fn cluster() -> Cluster {
    wire::start(|limits| {
        limits.handshake_millis = HANDSHAKE.as_millis() as u64;
        limits.first_request_millis = FIRST.as_millis() as u64;
        limits.request_millis = REQUEST.as_millis() as u64;
        limits.connections_per_source = PER_SOURCE;
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_or_too_little_is_cut_and_who_comes_too_often_keeps_nobody_out() {
    tokio::time::timeout(LIMIT, Box::pin(abuse())).await.expect("done in time");
}

async fn abuse() {
    let cluster = cluster().await;
    tokio::join!(
        a_silent_connection_is_cut(&cluster),
        a_handshake_byte_by_byte_is_cut(&cluster),
        a_connection_without_a_request_is_cut(&cluster),
        a_body_that_does_not_come_ends_its_request(&cluster),
        a_peer_that_is_gone_is_found_out(&cluster),
    );
    a_flood_of_connections_keeps_nobody_out(&cluster).await;
}

/// That an end came, not much before and not long after it was due.
fn assert_due(what: &str, began: Instant, due: Duration) {
    let took = began.elapsed();
    assert!(took >= due / 2 && took < due + SLACK, "{what} ended after {took:?}, due was {due:?}");
}

async fn a_silent_connection_is_cut(cluster: &Cluster) {
    let (began, mut silent) = (Instant::now(), wire::tcp(cluster, 1, FLOODER).await.unwrap());
    let _ = tokio::time::timeout(HANDSHAKE + SLACK, silent.read(&mut [0])).await.expect("cut");
    assert_due("a silent connection", began, HANDSHAKE);
}

async fn a_handshake_byte_by_byte_is_cut(cluster: &Cluster) {
    let (began, mut slow) = (Instant::now(), wire::tcp(cluster, 1, FLOODER).await.unwrap());
    // A record of a ClientHello that would have 512 bytes.
    let mut bytes = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3].into_iter().chain(std::iter::repeat(7));
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    loop {
        ticks.tick().await;
        assert!(began.elapsed() < HANDSHAKE + SLACK, "never cut");
        if slow.write_all(&[bytes.next().unwrap()]).await.is_err() {
            break;
        }
        if matches!(slow.try_read(&mut [0]), Ok(0)) {
            break;
        }
    }
    assert_due("a slow handshake", began, HANDSHAKE);
}

async fn a_connection_without_a_request_is_cut(cluster: &Cluster) {
    let (began, mut idle) = wire::tls(cluster, 1, FLOODER).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(FIRST + SLACK, idle.read_to_end(&mut answer)).await.expect("cut");
    assert_due("a connection without a request", began, FIRST);
    // The same when it speaks HTTP/2, and answers pings.
    let (began, (sender, driver)) = (Instant::now(), wire::http2(cluster, 1, FLOODER).await);
    tokio::time::timeout(FIRST + SLACK, driver).await.expect("cut").unwrap();
    drop(sender);
    assert_due("HTTP/2 without a request", began, FIRST);
}

async fn a_body_that_does_not_come_ends_its_request(cluster: &Cluster) {
    let (mut sender, driver) = wire::http2(cluster, 1, FLOODER).await;
    let began = Instant::now();
    let (answer, mut body) = sender.send_request(wire::head("/fairpost.v1.Exchange/Redeem"), false).unwrap();
    // A message of 1,000 bytes, of which ten come.
    body.send_data(Bytes::from_static(&[0, 0, 0, 3, 0xe8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), false).unwrap();
    let answer = tokio::time::timeout(REQUEST + SLACK, answer).await.expect("an answer").unwrap();
    assert_eq!(answer.headers()["grpc-status"], "4", "{answer:?}");
    assert_due("a request without its body", began, REQUEST);
    driver.abort();
}

/// Server pings come every 20 s and wait for 10 s.
async fn a_peer_that_is_gone_is_found_out(cluster: &Cluster) {
    const NODE: usize = 2;
    let strangers = async || {
        wire::sample(&wire::metrics(cluster, NODE).await, "fairpost_connections{kind=\"strangers\"}")
    };
    eventually("that all others have gone", async || strangers().await.filter(|count| *count == 0.0))
        .await
        .unwrap();
    let (_, stream) = wire::tls(cluster, NODE, FLOODER).await;
    let (sender, mut connection) = h2::client::handshake(stream).await.unwrap();
    let mut sender = sender.ready().await.unwrap();
    let (answer, mut body) = sender.send_request(wire::head("/grpc.health.v1.Health/Watch"), false).unwrap();
    body.send_data(Bytes::from_static(&[0; 5]), true).unwrap();
    // With a call under way it is not idle. From its answer on nobody reads what comes: the peer has hung.
    tokio::select! {
        _ = &mut connection => panic!("the connection ended"),
        answer = within("an answer", answer) => assert_eq!(answer.unwrap().unwrap().status(), 200),
    }
    eventually("that the peer is there", async || strangers().await.filter(|count| *count == 1.0))
        .await
        .unwrap();
    eventually("that it is found out", async || strangers().await.filter(|count| *count == 0.0))
        .await
        .unwrap();
    drop((connection, sender));
}

async fn a_flood_of_connections_keeps_nobody_out(cluster: &Cluster) {
    let people = People::new(cluster).unwrap();
    let leader = cluster.leader().await.unwrap();
    let before = cluster.status(leader).await.unwrap();
    // Finished handshakes, more than a source may have; those that are too many are closed.
    let (mut open_ones, mut closed_at_once) = (Vec::new(), 0);
    for _ in 0..PER_SOURCE * 2 {
        let (_, stream) = wire::tls(cluster, leader, FLOODER).await;
        match h2::client::handshake(stream).await {
            Ok((sender, connection)) => open_ones.push((sender, tokio::spawn(connection))),
            // It was closed before anything could be said over it.
            Err(_closed) => closed_at_once += 1,
        }
    }
    let closed = async || {
        let closed = open_ones.iter().filter(|(_, connection)| connection.is_finished()).count();
        (closed + closed_at_once >= PER_SOURCE).then_some(())
    };
    eventually("the end of connections that are too many", closed).await.unwrap();

    // And silent ones, again and again, for as long as ten mails take.
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let flood = async {
        let mut silent = std::collections::VecDeque::new();
        let mut made = 0;
        while !*stopped.borrow() {
            if let Ok(stream) = wire::tcp(cluster, leader, FLOODER).await {
                silent.push_back(stream);
                made += 1;
            }
            if silent.len() > 2000 {
                silent.pop_front();
            }
            tokio::task::yield_now().await;
        }
        made
    };
    let work = async {
        for round in 0..10 {
            let mut sealed = people.seal(cluster, Protocol::Cmp2, Span::from_seconds(3600)).unwrap();
            // Each time another connection: new ones must get in as well.
            let options = Options { first: Some(leader), ..Options::default() };
            let client = Client::new(cluster.trust.clone(), options).unwrap();
            assert_eq!(open(&client, &people, &mut sealed).await.unwrap(), mail(), "round {round}");
            cluster.status(leader).await.unwrap();
        }
        stop.send_replace(true);
    };
    let (made, ()) = tokio::join!(flood, work);
    assert!(made > 200, "the flood was no flood: {made}");
    let after = cluster.status(leader).await.unwrap();
    assert_eq!((after.role.as_str(), after.term), ("leader", before.term), "Raft kept its leader");
    // The node looks at its counters once in a while.
    let counted = async || {
        let text = wire::metrics(cluster, leader).await;
        wire::sample(&text, "fairpost_connections_closed_total").filter(|count| *count >= PER_SOURCE as f64)
    };
    eventually("that the closed connections are counted", counted).await.unwrap();
}
