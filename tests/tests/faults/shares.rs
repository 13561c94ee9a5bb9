//! Clients whose cluster is whole for them, and in pieces for itself.

use std::time::{Duration, Instant};

use anyhow::ensure;
use fairpost::client::{Client, Options};
use fairpost_proto::ids::Verdict;
use fairpost_proto::request::Method;
use fairpost_tests::world::{Link, World};
use fairpost_tests::{Settings, call, envelope, mail, open, prove, request};

use crate::scenario;
use crate::traffic::{exchange, seal, through};

/// How long a node that can't collect gets to show it.
const SHORT: Duration = Duration::from_secs(2);

scenario!(parties_collect_shares_themselves_while_no_node_reaches_another, async {
    let mut world = World::start("own-shares", Settings::default(), 7).await?;
    let mut sealed = seal(&world)?;
    let contact = 0;
    through(&world, contact)?.redeem(&world.people.recipient, &sealed).await?;
    world.level().await?;
    // The contact alone has the token. The others hold what shares take, and can't get them from each other.
    (0..4).for_each(|node| world.network.set_node(node, Link::CUT));
    world.cluster.signal(contact, "STOP")?;
    let options = Options { first: Some(1), ..Options::default() };

    let started = Instant::now();
    let sender = Client::new(world.cluster.trust.clone(), options)?;
    let report = prove(&sender, &world.people, &mut sealed).await?;
    ensure!(report.verdict == Verdict::Released, "{}", report.verdict);
    println!("the sender's proof took {:?}", started.elapsed());

    let started = Instant::now();
    let recipient = Client::new(world.cluster.trust.clone(), options)?;
    ensure!(open(&recipient, &world.people, &mut sealed).await? == mail(), "another mail came out");
    println!("the recipient's token took {:?}", started.elapsed());

    // No node could have given them the token.
    let trust = &world.cluster.trust;
    for node in 1..4 {
        let asked = request(trust.cluster(), Method::Status, sealed.nro(), None);
        let message = envelope(&world.people.sender, asked, sealed.nro().bytes(), None)?;
        let channel = world.cluster.channel(node)?;
        let alone = tokio::time::timeout(SHORT, call(&channel, Method::Status, message)).await;
        ensure!(!matches!(alone, Ok(Ok(_))), "node {node} has collected: {alone:?}");
    }

    world.network.set_all(Link::CLEAR);
    world.cluster.signal(contact, "CONT")?;
    world.level().await?;
    exchange(&world, &through(&world, 1)?).await?;
    world.finish();
    Ok(())
});
