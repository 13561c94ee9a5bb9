//! A node's configuration, explained: each value and where it comes from, and whether the files it names go together.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use fairpost_api::tls::{Credentials, CredentialsError};
use fairpost_node::config::{self, Config};
use fairpost_node::membership::ceremony::Paths;
use fairpost_node::membership::{self, ShareFile, read_private};
use fairpost_proto::armor;
use fairpost_proto::binding;
use fairpost_proto::trust::{self, Trust};
use serde::Serialize;
use toml::{Table, Value};

use crate::{operator, proposal};

/// The beginning of every variable that a node reads.
const PREFIX: &str = fairpost_node::config::ENVIRONMENT;
/// What stands between table and key in such a variable.
const SEPARATOR: &str = "__";
/// The version of the JSON form.
const VERSION: u32 = 1;

/// What is wrong with a configuration, or with a file that it names.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration itself.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// A file can't be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It can't be shown.
    #[error("the configuration {path}: {problem}")]
    Toml {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The trust file is not one.
    #[error("{path}: {source}")]
    Armor {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: armor::Error,
    },
    /// The proposal is not one, or not approved.
    #[error(transparent)]
    Proposal(#[from] proposal::Error),
    /// The trust file is not to be believed.
    #[error("{path}: {source}")]
    Trust {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: trust::Error,
    },
    /// The view knows no such member.
    #[error("the configuration is for node {name:?}, and {trust} knows only {}", members.join(", "))]
    Stranger {
        /// The name in the configuration.
        name: String,
        /// The trust file.
        trust: PathBuf,
        /// The members' names.
        members: Vec<String>,
    },
    /// The identity key can't be read.
    #[error(transparent)]
    Key(#[from] operator::Error),
    /// The identity key is another's.
    #[error("{path} is not the identity key of {name}: the view has {expected}, and the file {found}")]
    Identity {
        /// The file.
        path: PathBuf,
        /// The member.
        name: String,
        /// The id of the member's key.
        expected: String,
        /// The id of the key in the file.
        found: String,
    },
    /// The TLS credentials can't be read.
    #[error("{path}: {source}")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: CredentialsError,
    },
    /// The TLS credentials speak for another.
    #[error("{path} does not speak for this node: {source}")]
    Binding {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: binding::Error,
    },
    /// A secret file can't be read, or the share can't be used.
    #[error(transparent)]
    File(#[from] membership::Error),
}

/// Where a value comes from. What stands first here wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A variable of the environment.
    Environment,
    /// The configuration file.
    File,
    /// Neither sets it.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Environment => "environment",
            Self::File => "file",
            Self::Default => "default",
        })
    }
}

/// One value of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Its key, with a dot between table and key.
    pub key: String,
    /// The value in force; paths are resolved.
    pub value: String,
    /// Where it comes from.
    pub source: Source,
}

/// All values of a configuration. Serialised, this is the JSON form of `fairpostctl config show`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// Version of this form: 1.
    pub version: u32,
    /// The file.
    pub config: PathBuf,
    /// The values by key; those in tables follow the others.
    pub values: Vec<Setting>,
}

impl Settings {
    /// Every value in force for the configuration at `path`; `variables` are the names in the environment.
    pub fn read(path: &Path, variables: &[String]) -> Result<Self, Error> {
        let toml = |problem: String| Error::Toml { path: path.to_owned(), problem };
        let config = Config::load(path)?;
        let effective = Table::try_from(&config).map_err(|error| toml(error.to_string()))?;
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        let file: Table = text.parse().map_err(|error: toml::de::Error| toml(error.message().to_owned()))?;

        let mut leaves = Vec::new();
        flatten(&effective, &mut Vec::new(), &mut leaves);
        let mut values: Vec<Setting> = leaves
            .into_iter()
            .map(|(key, value)| Setting { source: source(&key, &file, variables), key: key.join("."), value })
            .collect();
        if config.metrics_listen.is_none() {
            let (key, value) = ("metrics_listen".to_owned(), "nowhere".to_owned());
            values.push(Setting { key, value, source: Source::Default });
        }
        values.sort_by(|a, b| (a.key.contains('.'), &a.key).cmp(&(b.key.contains('.'), &b.key)));
        Ok(Self { version: VERSION, config: path.to_owned(), values })
    }

    /// A table for people; without `defaults` only what somebody has set.
    pub fn table(&self, defaults: bool) -> String {
        let shown = || self.values.iter().filter(|value| defaults || value.source != Source::Default);
        let width = |cell: fn(&Setting) -> &str| {
            shown().map(|setting| cell(setting).chars().count()).max().unwrap_or(0)
        };
        let (key, value) = (width(|setting| &setting.key), width(|setting| &setting.value));
        shown()
            .map(|setting| format!("{:key$}  {:value$}  {}\n", setting.key, setting.value, setting.source))
            .collect()
    }
}

fn flatten(table: &Table, path: &mut Vec<String>, leaves: &mut Vec<(Vec<String>, String)>) {
    for (key, value) in table {
        path.push(key.clone());
        match value {
            Value::Table(inner) => flatten(inner, path, leaves),
            Value::String(text) => leaves.push((path.clone(), text.clone())),
            other => leaves.push((path.clone(), other.to_string())),
        }
        path.pop();
    }
}

fn source(key: &[String], file: &Table, variables: &[String]) -> Source {
    let variable = format!("{PREFIX}{}", key.join(SEPARATOR));
    if variables.iter().any(|name| name.eq_ignore_ascii_case(&variable)) {
        return Source::Environment;
    }
    let mut place = Some(file);
    let Some((last, tables)) = key.split_last() else { return Source::Default };
    for name in tables {
        place = place.and_then(|table| table.get(name)).and_then(Value::as_table);
    }
    if place.is_some_and(|table| table.contains_key(last)) { Source::File } else { Source::Default }
}

/// Reads the configuration at `path` and every file that it names, and checks that they are one node's.
pub fn validate(path: &Path) -> Result<Config, Error> {
    let config = Config::load(path)?;
    // Before the key ceremony, the proposal says who the members are.
    let due = Paths::new(&config).is_due(&config);
    let (members, named_in) = if due {
        let approved = proposal::read(&config.proposal)?;
        (approved.agreed().map_err(proposal::Error::from)?.members().to_vec(), &config.proposal)
    } else {
        (read_trust(&config.trust)?.view().members().to_vec(), &config.trust)
    };
    let member = members.iter().find(|member| member.name == config.name).ok_or_else(|| Error::Stranger {
        name: config.name.clone(),
        trust: named_in.clone(),
        members: members.iter().map(|member| member.name.clone()).collect(),
    })?;
    let identity = operator::read_key(&config.identity)?.verifying_key();
    if identity != member.identity {
        let id = |key| fairpost_proto::chain::key_id(key).to_string();
        let (expected, found) = (id(&member.identity), id(&identity));
        return Err(Error::Identity { path: config.identity, name: config.name, expected, found });
    }
    let credentials = Credentials::from_pem(&read_private(&config.tls)?)
        .map_err(|source| Error::Credentials { path: config.tls.clone(), source })?;
    credentials
        .certificate()
        .speaks_for(&identity)
        .map_err(|source| Error::Binding { path: config.tls.clone(), source })?;
    if !due {
        ShareFile::open(&config.share, read_trust(&config.trust)?.view(), &config.name)?;
    }
    Ok(config)
}

/// Reads a trust file.
pub fn read_trust(path: &Path) -> Result<Trust, Error> {
    let path = || path.to_owned();
    let mut text = String::new();
    File::open(path())
        .and_then(|file| file.take(armor::MAX_BYTES as u64 + 1).read_to_string(&mut text))
        .map_err(|source| Error::Io { path: path(), source })?;
    let bytes = armor::decode(armor::TRUST, &text).map_err(|source| Error::Armor { path: path(), source })?;
    Trust::parse(&bytes).map_err(|source| Error::Trust { path: path(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "name = 'n1'\nlisten = '127.0.0.1:7401'\n[raft]\nheartbeat_millis = 90\n";

    fn settings(variables: &[&str]) -> Settings {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fairpostd.toml");
        std::fs::write(&path, FILE).unwrap();
        Settings::read(&path, &variables.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    fn one<'a>(settings: &'a Settings, key: &str) -> &'a Setting {
        settings.values.iter().find(|setting| setting.key == key).unwrap()
    }

    #[test]
    fn each_value_says_where_it_comes_from() {
        let settings = settings(&["FAIRPOSTD_LIMITS__BATCH", "PATH"]);
        assert_eq!(
            one(&settings, "name"),
            &Setting { key: "name".into(), value: "n1".into(), source: Source::File }
        );
        assert_eq!(one(&settings, "raft.heartbeat_millis").source, Source::File);
        assert_eq!(one(&settings, "raft.election_min_millis").source, Source::Default);
        assert_eq!(one(&settings, "limits.batch").source, Source::Environment);
        assert_eq!(one(&settings, "metrics_listen").value, "nowhere");
    }

    #[test]
    fn without_defaults_only_what_is_set_is_shown() {
        let settings = settings(&[]);
        let keys = |text: String| {
            text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(keys(settings.table(false)), ["listen", "name", "raft.heartbeat_millis"]);
        assert_eq!(keys(settings.table(true)).len(), settings.values.len());
    }
}
