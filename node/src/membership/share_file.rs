//! The file that a share lies in.
//!
//! # Guarantees
//!
//! - It is readable by its owner only, or it is not used.
//! - It is bound to one witness store before its first signature, and the binding is on disk before it is used.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use fairpost_proto::ids::ClusterId;
use fairpost_proto::threshold::{Commitment, KeyShare};
use fairpost_proto::view::View;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::KeySource;

/// The largest secret file that is read at all.
const MAX_BYTES: u64 = 64 * 1024;

/// Why a share can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read or written.
    #[error("the file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Others than its owner may read it.
    #[error("the file {path} has mode {mode:04o}; it holds a secret: run `chmod 0600` on it")]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is larger than any secret of a node.
    #[error("the file {path} has more than {most} bytes, which is more than any that belongs there")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        most: u64,
    },
    /// It is not a share file.
    #[error("the share file {path}: {problem}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// It is of another cluster.
    #[error("the share file {path} is of cluster {found}, and this node's is {expected}")]
    Cluster {
        /// The file.
        path: PathBuf,
        /// This node's cluster.
        expected: ClusterId,
        /// The file's, as it stands there.
        found: String,
    },
    /// It is another member's, or of another view.
    #[error("the share file {path} is for member {found} in epoch {epoch}, and this is {expected}")]
    Member {
        /// The file.
        path: PathBuf,
        /// This node's name.
        expected: String,
        /// The file's.
        found: String,
        /// The file's epoch.
        epoch: u32,
    },
    /// The share does not match the public commitment.
    #[error("the share in {path} does not match the cluster's public commitment: restore the right file")]
    Mismatch {
        /// The file.
        path: PathBuf,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    format: u32,
    cluster: String,
    epoch: u32,
    member: String,
    share: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    witness: Option<String>,
}

/// A share, from its file.
pub struct ShareFile {
    path: PathBuf,
    cluster: ClusterId,
    member: String,
    epoch: u32,
    commitment: Commitment,
    share: KeyShare,
    witness: Option<[u8; 16]>,
}

impl ShareFile {
    /// Writes the file for `member`'s share, which is not bound to a witness store yet.
    pub fn create(path: &Path, view: &View, member: &str, share: &KeyShare) -> Result<(), Error> {
        write(path, view.cluster(), view.epoch(), member, share, None)
    }

    /// Opens the file and checks the share against the view's commitment.
    pub fn open(path: &Path, view: &View, member: &str) -> Result<Self, Error> {
        let malformed = |problem: String| Error::Malformed { path: path.to_owned(), problem };
        let raw = read_private(path)?;
        let text: Text = toml::from_str(&raw).map_err(|error| {
            // The line itself may be the secret, so only its number is shown.
            let before = error.span().and_then(|span| raw.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            malformed(format!("line {line}: {}", shown(&error.message().replace('\n', ", "))))
        })?;
        if text.format != 1 {
            return Err(malformed(format!("format {}, expected 1", text.format)));
        }
        if text.cluster != view.cluster().to_string() {
            let (expected, found) = (view.cluster(), shown(&text.cluster));
            return Err(Error::Cluster { path: path.to_owned(), expected, found });
        }
        if text.member != member || text.epoch != view.epoch() {
            let (expected, found, epoch) = (member.to_owned(), shown(&text.member), text.epoch);
            return Err(Error::Member { path: path.to_owned(), expected, found, epoch });
        }
        let share = Zeroizing::new(text.share);
        let share = Zeroizing::new(
            hex::decode(&*share).map_err(|_| malformed("the share is not hexadecimal".into()))?,
        );
        let share: Zeroizing<[u8; 32]> = Zeroizing::new(
            share
                .as_slice()
                .try_into()
                .map_err(|_| malformed(format!("a share of {} bytes, not 32", share.len())))?,
        );
        let share = KeyShare::from_bytes(&share).map_err(|error| malformed(error.to_string()))?;
        let witness = match text.witness {
            None => None,
            Some(id) => {
                let id = hex::decode(&id).ok().and_then(|id| id.try_into().ok());
                Some(id.ok_or_else(|| malformed("the witness id is not 16 bytes of hexadecimal".into()))?)
            }
        };
        let commitment = view.constitution().commitment.clone();
        let expected = view.member_by_name(member).map(|(index, _)| commitment.share_key(index));
        if expected != Some(share.public_share()) {
            return Err(Error::Mismatch { path: path.to_owned() });
        }
        let (path, cluster, member, epoch) =
            (path.to_owned(), view.cluster(), member.to_owned(), view.epoch());
        Ok(Self { path, cluster, member, epoch, commitment, share, witness })
    }
}

/// The beginning of what stands in the file, for an error.
fn shown(text: &str) -> String {
    text.chars().take(80).map(|char| if char.is_control() { '\u{FFFD}' } else { char }).collect()
}

impl KeySource for ShareFile {
    fn commitment(&self) -> &Commitment {
        &self.commitment
    }

    fn share(&self) -> Option<&KeyShare> {
        Some(&self.share)
    }

    fn epoch(&self) -> u32 {
        self.epoch
    }

    fn witness(&self) -> Option<[u8; 16]> {
        self.witness
    }

    fn bind(&mut self, witness: [u8; 16]) -> Result<(), Error> {
        write(&self.path, self.cluster, self.epoch, &self.member, &self.share, Some(witness))?;
        self.witness = Some(witness);
        Ok(())
    }
}

fn write(
    path: &Path,
    cluster: ClusterId,
    epoch: u32,
    member: &str,
    share: &KeyShare,
    witness: Option<[u8; 16]>,
) -> Result<(), Error> {
    let share = hex::encode(*share.to_bytes());
    let witness = witness.map(hex::encode);
    let text =
        Text { format: 1, cluster: cluster.to_string(), epoch, member: member.to_owned(), share, witness };
    let rendered = toml::to_string(&text)
        .map_err(|error| Error::Malformed { path: path.to_owned(), problem: error.to_string() })?;
    drop(Zeroizing::new(text.share));
    write_private(path, &Zeroizing::new(rendered))
}

/// Reads a secret file of text, if nobody but its owner may.
pub fn read_private(path: &Path) -> Result<Zeroizing<String>, Error> {
    let bytes = read_secret(path, MAX_BYTES)?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let source = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
        Error::Io { path: path.to_owned(), source }
    })?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Reads a secret file of at most so many bytes, if nobody but its owner may.
pub(crate) fn read_secret(path: &Path, most: u64) -> Result<Zeroizing<Vec<u8>>, Error> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(io)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Error::Mode { path: path.to_owned(), mode });
    }
    // Room for all of it: growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(most.min(metadata.len()) as usize + 1));
    File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes)).map_err(io)?;
    if bytes.len() as u64 > most {
        return Err(Error::TooLarge { path: path.to_owned(), most });
    }
    Ok(bytes)
}

/// Writes a secret file of text, as `write_secret`.
pub fn write_private(path: &Path, content: &str) -> Result<(), Error> {
    write_secret(path, content.as_bytes())
}

/// Writes a secret file of mode 0600 as a whole: after a crash there is the old content or the new, never a part.
pub(crate) fn write_secret(path: &Path, content: &[u8]) -> Result<(), Error> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let fresh = path.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh).map_err(io)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(io)?;
    fs::rename(&fresh, path).map_err(io)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)
}
