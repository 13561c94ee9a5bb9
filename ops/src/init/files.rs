//! The files of a new cluster. They go away again unless the whole cluster was made.

use std::fs::{self, DirBuilder};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use fairpost::ca;
use fairpost_api::tls::Credentials;
use fairpost_node::config::Config;
use fairpost_node::membership::{ShareFile, write_private};
use fairpost_proto::armor;
use fairpost_proto::ids::Timestamp;
use fairpost_proto::threshold::KeyShare;
use fairpost_proto::trust::Trust;
use fairpost_proto::view::View;
use serde::Serialize;

use super::{Error, Keys, Node};
use crate::operator;

/// The name of a node's configuration.
pub(super) const CONFIG: &str = "fairpostd.toml";
/// The name of the trust file.
pub(super) const TRUST: &str = "cluster.trust";

/// What was created, newest last.
pub(super) struct Files {
    root: PathBuf,
    created: Vec<PathBuf>,
}

impl Files {
    /// The folder `root`, which must be empty or not exist.
    pub(super) fn in_empty(root: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { path: root.to_owned(), source };
        let mut files = Self { root: root.to_owned(), created: vec![] };
        if root.exists() {
            if let Some(found) = fs::read_dir(root).map_err(io)?.next() {
                let found = found.map_err(io)?.file_name().to_string_lossy().into_owned();
                return Err(Error::NotEmpty { folder: root.to_owned(), found });
            }
        } else {
            fs::create_dir_all(root).map_err(io)?;
            files.created.push(root.to_owned());
        }
        Ok(files)
    }

    /// Everything is made: let it stay.
    pub(super) fn keep(mut self) {
        self.created.clear();
    }

    /// A new folder that only its owner may look into. Fails if it is there already.
    fn folder(&mut self, name: &str) -> Result<PathBuf, Error> {
        let path = self.root.join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|source| Error::Io { path: path.clone(), source })?;
        self.created.push(path.clone());
        Ok(path)
    }

    fn public(path: &Path, text: &str) -> Result<(), Error> {
        fs::write(path, text).map_err(|source| Error::Io { path: path.to_owned(), source })
    }

    /// The development CA; its certificate, DER.
    pub(super) fn ca(&mut self, name: &str, now: Timestamp) -> Result<Vec<u8>, Error> {
        let folder = self.folder("ca")?;
        Ok(ca::init(&folder, name, now)?)
    }

    /// The operator's key.
    pub(super) fn operator(&mut self, key: &SigningKey) -> Result<(), Error> {
        let folder = self.folder("operator")?;
        Ok(operator::write_key(&folder.join("operator.key"), key)?)
    }

    /// A node's configuration and secrets.
    pub(super) fn node(
        &mut self,
        keys: &Keys,
        share: &KeyShare,
        view: &View,
        now: Timestamp,
    ) -> Result<(), Error> {
        let folder = self.folder(&keys.node.name)?;
        operator::write_key(&folder.join("identity.key"), &keys.identity)?;
        let names = [keys.node.listen.ip().to_string()];
        let credentials = Credentials::generate(&keys.identity, &names, now)?;
        write_private(&folder.join("tls.pem"), &credentials.to_pem()?)?;
        ShareFile::create(&folder.join("share.toml"), view, &keys.node.name, share)?;
        Self::public(&keys.node.config, &configuration(&keys.node)?)
    }

    /// The trust file.
    pub(super) fn trust(&mut self, trust: &Trust) -> Result<(), Error> {
        let path = self.root.join(TRUST);
        self.created.push(path.clone());
        Self::public(&path, &armor::encode(armor::TRUST, &trust.to_bytes()))
    }

    /// Reads back, as a node would, what others will rely on.
    pub(super) fn check(&self, view: &View) -> Result<(), Error> {
        let path = self.root.join(TRUST);
        let text = fs::read_to_string(&path).map_err(|source| Error::Io { path, source })?;
        let trust = Trust::parse(&armor::decode(armor::TRUST, &text)?)?;
        for member in view.members() {
            let folder = self.root.join(&member.name);
            ShareFile::open(&folder.join("share.toml"), trust.view(), &member.name)?;
            Config::load(&folder.join(CONFIG))
                .map_err(|error| Error::Config { name: member.name.clone(), problem: error.to_string() })?;
        }
        Ok(())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for path in self.created.iter().rev() {
            // Best effort: the error that brought us here is the one to report.
            let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
    }
}

/// What a configuration has to say; all else has a default.
#[derive(Serialize)]
struct Configuration<'a> {
    name: &'a str,
    listen: SocketAddr,
    metrics_listen: SocketAddr,
}

fn configuration(node: &Node) -> Result<String, Error> {
    let values = Configuration { name: &node.name, listen: node.listen, metrics_listen: node.metrics };
    let text = toml::to_string(&values)
        .map_err(|error| Error::Config { name: node.name.clone(), problem: error.to_string() })?;
    Ok(format!(
        "# Node {}. What is not set here has its default: `fairpostctl config show --effective --config {CONFIG}`\n\
         # shows every value and where it comes from.\n\n{text}",
        node.name
    ))
}
