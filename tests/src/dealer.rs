//! A key for tests that are about something else: dealt by this process, which knows all of it.
//!
//! No program that users run deals a cluster's key; the bench deals one to measure with, and throws it away.

use std::path::Path;

use anyhow::Context as _;
use fairpost_node::config::Config;
use fairpost_node::membership::{ShareFile, ceremony};
use fairpost_ops::init;
use fairpost_proto::armor;
use fairpost_proto::threshold::{self, KeyShare};
use fairpost_proto::trust::Trust;
use rand::rngs::OsRng;

/// Gives the cluster that `fairpostctl init` prepared in this folder its trust file and its nodes their shares, as a key
/// ceremony would.
pub fn deal(folder: &Path) -> anyhow::Result<Trust> {
    let (trust, shares) = key(folder)?;
    for (member, share) in trust.view().members().iter().zip(&shares) {
        let config = Config::load(&folder.join(&member.name).join("fairpostd.toml"))?;
        ShareFile::create(&config.share, trust.view(), &member.name, share)
            .with_context(|| member.name.clone())?;
    }
    std::fs::write(folder.join("cluster.trust"), armor::encode(armor::TRUST, &trust.to_bytes()))?;
    Ok(trust)
}

/// A key for the proposal in this folder, which is written nowhere.
pub fn key(folder: &Path) -> anyhow::Result<(Trust, Vec<KeyShare>)> {
    let approved = ceremony::read_proposal(&folder.join(init::PROPOSAL)).map_err(anyhow::Error::msg)?;
    let proposal = approved.agreed()?;
    let quorum = proposal.quorum();
    let (commitment, shares) = threshold::deal(quorum.q(), quorum.n(), &mut OsRng)?;
    let genesis = proposal.genesis(commitment)?;
    let message = genesis.message();
    let signed: Vec<_> = (0..).zip(&shares).map(|(index, share)| (index, share.sign(&message))).collect();
    Ok((Trust::new(genesis, threshold::combine(quorum.q(), &signed)?)?, shares))
}
