//! Partitions, delay and loss.

use fairpost::client::{Client, Options};
use fairpost_proto::ids::{Protocol, Span};
use fairpost_tests::Settings;
use fairpost_tests::world::World;
use fairpost_tests::{mail, open, prove};

use crate::scenario;

scenario!(a_world_works_before_anything_breaks, async {
    let world = World::start("works", Settings::default(), 1).await?;
    let client = Client::new(world.cluster.trust.clone(), Options::default())?;
    let mut sealed = world.people.seal(&world.cluster, Protocol::Cmp2, Span::from_seconds(3600))?;
    let at = std::time::Instant::now();
    assert_eq!(open(&client, &world.people, &mut sealed).await?, mail());
    prove(&client, &world.people, &mut sealed).await?;
    println!("took {:?}", at.elapsed());
    world.finish();
    Ok(())
});
