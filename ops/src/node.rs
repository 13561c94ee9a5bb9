//! One new server: its keys, its configuration, and the public card by which it asks to become a member.
//!
//! No private key leaves the folder: the card is all that anybody else needs.
//!
//! # Specification
//!
//! | file | what it is |
//! |---|---|
//! | `fairpostd.toml` | the configuration |
//! | `identity.key` | the Ed25519 identity key, mode 0600 |
//! | `tls.pem` | the TLS key with its binding to the identity, mode 0600 |
//! | `node.card` | the public card |
//!
//! The approved proposal is to be put beside them as `cluster.proposal`; the key ceremony adds `share.toml` and
//! `cluster.trust`.
//!
//! # Guarantees
//!
//! What is in the folder already is never touched, and a failure leaves nothing behind (as [`crate::init`]).

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use fairpost_api::tls::{Credentials, Target};
use fairpost_node::membership::write_private;
use fairpost_proto::armor;
use fairpost_proto::chain::key_id;
use fairpost_proto::cose::Signed;
use fairpost_proto::ids::Timestamp;
use fairpost_proto::node_card::{self, NodeCard};
use fairpost_proto::view::Member;
use rand::rngs::OsRng;
use serde::Serialize;

use crate::init::{Error, Files, METRICS_OFFSET};
use crate::operator;

/// The name of a node's configuration.
pub const CONFIG: &str = "fairpostd.toml";
/// The name of a node's card.
pub const CARD: &str = "node.card";

/// What server to prepare.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder for everything; it must be empty, or not exist.
    pub folder: PathBuf,
    /// Its name in the cluster.
    pub name: String,
    /// Where members and clients reach it: host and port.
    pub address: String,
    /// Where it listens; none: on all addresses of the machine, at the port of `address`.
    pub listen: Option<SocketAddr>,
}

/// Makes the keys and files. Gives the member that the card asks for.
///
/// # Errors
///
/// If the address is none, the folder is not empty, or a file can't be written.
pub fn init(options: &Options, now: Timestamp) -> Result<Member, Error> {
    let Options { folder, name, address, listen } = options;
    // As members and clients will read it.
    let _reachable: Target =
        address.parse().map_err(|source| Error::Address { address: address.clone(), source })?;
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = port.parse().unwrap_or_default();
    let listen = listen.unwrap_or(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port));
    let metrics = listen
        .port()
        .checked_add(METRICS_OFFSET)
        .map(|port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
    let mut files = Files::in_empty(folder)?;
    let member =
        write(&mut files, folder, &New { name, address, listen, metrics, names: &[host], own: true }, now)?;
    files.keep();
    Ok(member)
}

/// A node before its files are written.
pub(crate) struct New<'a> {
    pub(crate) name: &'a str,
    pub(crate) address: &'a str,
    pub(crate) listen: SocketAddr,
    pub(crate) metrics: Option<SocketAddr>,
    /// For the TLS certificate.
    pub(crate) names: &'a [String],
    /// Whether proposal and trust file lie in its own folder, rather than beside it.
    pub(crate) own: bool,
}

/// Writes a node's files into this folder, which is there.
pub(crate) fn write(
    files: &mut Files,
    folder: &Path,
    new: &New<'_>,
    now: Timestamp,
) -> Result<Member, Error> {
    let identity = SigningKey::generate(&mut OsRng);
    operator::write_key(&files.file(folder, "identity.key"), &identity)?;
    let credentials = Credentials::generate(&identity, new.names, now)?;
    write_private(&files.file(folder, "tls.pem"), &credentials.to_pem()?)?;
    let member = Member {
        name: new.name.to_owned(),
        address: new.address.to_owned(),
        identity: identity.verifying_key(),
    };
    let card = Signed::sign(NodeCard(member.clone()), key_id(&member.identity), &identity);
    // As others will read it: a name or an address that no card can have fails here.
    node_card::check(card.bytes())?;
    Files::public(&files.file(folder, CARD), &armor::encode(armor::NODE_CARD, card.bytes()))?;
    Files::public(&files.file(folder, CONFIG), &configuration(new)?)?;
    Ok(member)
}

/// What a configuration has to say; all else has a default.
#[derive(Serialize)]
struct Configuration<'a> {
    name: &'a str,
    listen: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics_listen: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proposal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trust: Option<&'a str>,
}

fn configuration(new: &New<'_>) -> Result<String, Error> {
    let values = Configuration {
        name: new.name,
        listen: new.listen,
        metrics_listen: new.metrics,
        proposal: new.own.then_some("cluster.proposal"),
        trust: new.own.then_some("cluster.trust"),
    };
    let text = toml::to_string(&values)
        .map_err(|error| Error::Config { name: new.name.to_owned(), problem: error.to_string() })?;
    Ok(format!(
        "# Node {}. What is not set here has its default: `fairpostctl config show --effective --config {CONFIG}`\n\
         # shows every value and where it comes from.\n\n{text}",
        new.name
    ))
}

/// Reads a card from its file, and checks it.
pub fn read_card(path: &Path) -> Result<Member, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    let bytes = armor::decode(armor::NODE_CARD, &text)
        .map_err(|source| Error::Armor { path: path.to_owned(), source })?;
    node_card::check(&bytes).map_err(|source| Error::CardFile { path: path.to_owned(), source })
}
