//! Starting and stopping a node, rightly and wrongly.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fairpost::client::{Client, Options};
use fairpost_node::config::Config;
use fairpost_proto::ids::{Protocol, Span, Verdict};
use fairpost_tests::{Cluster, People, Settings, mail, open, prove, run};

const HOUR: Span = Span::from_seconds(3600);

/// The right configuration of a node, and a place for wrong ones.
struct Wrong {
    right: Config,
    folder: tempfile::TempDir,
}

impl Wrong {
    fn new(right: &Path) -> Self {
        Self { right: Config::load(right).unwrap(), folder: tempfile::tempdir().unwrap() }
    }

    /// A configuration with this text.
    fn text(&self, text: &str) -> PathBuf {
        self.file("fairpostd.toml", text)
    }

    /// The right configuration, changed.
    fn config(&self, change: impl FnOnce(&mut Config)) -> PathBuf {
        let mut config = self.right.clone();
        change(&mut config);
        self.text(&config.to_toml().unwrap())
    }

    /// A file that only its owner may read.
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

/// That a node does not start with this configuration, and that its last words on standard error have these in them.
async fn refused(config: &Path, words: &[&str]) {
    let arguments = ["run".as_ref(), "--config".as_ref(), config.as_os_str()];
    let ended = run("fairpostd", arguments, b"").await.unwrap();
    assert_eq!(ended.code, Some(1), "{words:?}: {}", ended.err);
    let last = ended.err.rsplit_once("fairpostd: ").map_or("", |(_, last)| last);
    for word in words {
        assert!(last.contains(word), "{word:?} is not in {last:?}");
    }
}

/// Everything in a folder, by path.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(content(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

fn through(cluster: &Cluster, first: usize) -> Client {
    Client::new(cluster.trust.clone(), Options { first: Some(first), ..Options::default() }).unwrap()
}

/// An address that was free just now.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_must_not_start_says_why_and_nothing_is_lost() {
    let mut cluster = Cluster::start(Settings::default()).await.unwrap();
    let people = People::new(&cluster).unwrap();
    let mut sealed = people.seal(&cluster, Protocol::Cmp2, HOUR).unwrap();
    assert_eq!(open(&through(&cluster, 0), &people, &mut sealed).await.unwrap(), mail());
    // Another cluster whose node has the same name, and has been at work.
    let mut foreign = Cluster::start(Settings { nodes: 1, ..Settings::default() }).await.unwrap();
    for stopped in [cluster.stop(0).await, cluster.stop(1).await, foreign.stop(0).await] {
        assert_eq!(stopped.unwrap().code(), Some(0));
    }

    let before = content(&cluster.path());
    let wrong = Wrong::new(&cluster.nodes[0].config);
    let other = Wrong::new(&cluster.nodes[1].config).right;
    configurations(&wrong, &cluster.nodes[0].config).await;
    ports(&wrong).await;
    files(&wrong, &other, &foreign).await;
    let after = content(&cluster.path());
    for (path, bytes) in &before {
        // The others run on, and write.
        if path.starts_with(cluster.path().join("n1")) || path.starts_with(cluster.path().join("n2")) {
            assert_eq!(after.get(path), Some(bytes), "{} was changed", path.display());
        }
    }

    for node in [0, 1] {
        cluster.launch(node).unwrap();
    }
    for node in [0, 1] {
        cluster.ready(node).await.unwrap();
    }
    // The folder is in use now: a second process with ports of its own is refused, and the first works on.
    let second = wrong.config(|config| (config.listen, config.metrics_listen) = (free(), None));
    refused(&second, &["another fairpostd uses this folder", &wrong.right.data.display().to_string()]).await;
    let client = through(&cluster, 0);
    assert_eq!(prove(&client, &people, &mut sealed).await.unwrap().verdict, Verdict::Released);
    let mut another = people.seal(&cluster, Protocol::Cmp1, HOUR).unwrap();
    assert_eq!(open(&client, &people, &mut another).await.unwrap(), mail());
}

async fn configurations(wrong: &Wrong, right: &Path) {
    let text = fs::read_to_string(right).unwrap();
    let typo = wrong.text(&format!("lisen = '127.0.0.1:1'\n{text}"));
    refused(&typo, &["lisen", "one of `name`, `listen`", &typo.display().to_string()]).await;
    let missing = wrong.folder.path().join("nowhere.toml");
    refused(&missing, &[&missing.display().to_string(), "fairpostctl init"]).await;
    let port = wrong.text("name = 'n1'\nlisten = '127.0.0.1:99999'\n");
    refused(&port, &["listen", "socket address", &port.display().to_string()]).await;
    let impatient = wrong.config(|config| config.raft.heartbeat_millis = 999);
    refused(&impatient, &["heartbeat_millis", "999", "600"]).await;
    let stranger = wrong.config(|config| config.name = "n9".into());
    refused(&stranger, &["\"n9\"", "n1, n2, n3, n4"]).await;
    let bare = wrong.text("");
    refused(&bare, &["missing field `name`"]).await;
}

async fn ports(wrong: &Wrong) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let (words, question) = (address.to_string(), "is another process using the port?");
    let grpc = wrong.config(|config| config.listen = address);
    refused(&grpc, &["can't listen on", &words, question]).await;
    let metrics = wrong.config(|config| config.metrics_listen = Some(address));
    refused(&metrics, &["can't serve metrics on", &words, question]).await;
}

async fn files(wrong: &Wrong, other: &Config, foreign: &Cluster) {
    let foreigner = Wrong::new(&foreign.nodes[0].config).right;
    let path = |path: &Path| path.display().to_string();

    let config = wrong.config(|config| config.data = other.data.clone());
    refused(&config, &["n1", "n2", &path(&other.data)]).await;
    let config = wrong.config(|config| config.data = foreigner.data.clone());
    let (ours, theirs) = (cluster_of(&wrong.right), cluster_of(&foreigner));
    refused(&config, &[&ours, &theirs, &path(&foreigner.data)]).await;

    let config = wrong.config(|config| config.identity = other.identity.clone());
    refused(&config, &[&path(&other.identity), "n1", "key"]).await;
    let config = wrong.config(|config| config.tls = other.tls.clone());
    refused(&config, &[&path(&other.tls), "n1"]).await;

    let config = wrong.config(|config| config.share = other.share.clone());
    refused(&config, &[&path(&other.share), "for member n2", "this is n1"]).await;
    let config = wrong.config(|config| config.share = foreigner.share.clone());
    refused(&config, &[&path(&foreigner.share), &ours, &theirs]).await;
    let share = fs::read_to_string(&other.share).unwrap();
    let forged = wrong.file("share.toml", &share.replace("\"n2\"", "\"n1\""));
    let config = wrong.config(|config| config.share = forged.clone());
    refused(&config, &[&path(&forged), "does not match", "restore the right file"]).await;
    for secret in [&wrong.right.share, &wrong.right.identity, &wrong.right.tls] {
        let readable = wrong.file("readable", &fs::read_to_string(secret).unwrap());
        fs::set_permissions(&readable, fs::Permissions::from_mode(0o644)).unwrap();
        let config = wrong.config(|config| match secret {
            secret if *secret == config.share => config.share = readable.clone(),
            secret if *secret == config.identity => config.identity = readable.clone(),
            _ => config.tls = readable.clone(),
        });
        refused(&config, &[&path(&readable), "0644", "chmod 0600"]).await;
    }

    let trust = fs::read_to_string(&wrong.right.trust).unwrap();
    let middle = trust.len() / 2;
    let flipped = if trust[middle..].starts_with('A') { "B" } else { "A" };
    let damages = [
        format!("{}{flipped}{}", &trust[..middle], &trust[middle + 1..]),
        trust[..middle].to_owned(),
        String::new(),
    ];
    for damaged in damages {
        let file = wrong.file("cluster.trust", &damaged);
        let config = wrong.config(|config| config.trust = file.clone());
        refused(&config, &["trust file", &path(&file)]).await;
    }
    let config = wrong.config(|config| config.trust = foreigner.trust.clone());
    refused(&config, &[&path(&wrong.right.identity), &path(&foreigner.trust), "n1"]).await;
}

fn cluster_of(config: &Config) -> String {
    fairpost::trust::load(&config.trust).unwrap().cluster().to_string()
}
