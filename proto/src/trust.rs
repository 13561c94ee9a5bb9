//! What a client or a judge must hold of a cluster: its genesis and the views that followed.
//!
//! # Guarantees
//!
//! In a [`Trust`] that exists, a token of `PK` stands under the genesis and under every view, each view follows the one
//! before it, and `PK` is the same in all ([`Trust::new`], [`Trust::extend`]; vectors `trust.json`,
//! `tests/promises/trust.rs`). Whether it is the cluster that one *means* can't be seen in it: the file must come from
//! a source that its holder trusts, or match a cluster id that does.

use crate::cbor::{self, Reader, Writer};
use crate::ids::{ClusterId, Digest};
use crate::threshold::{self, PublicKey, Token};
use crate::view::{self, View};

const TAG: &str = "fairpost/trust/v1";
const MAX_VIEWS: u64 = 4096;

/// The largest trust file that is read at all.
pub const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Why a trust file is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is larger than any that is read.
    #[error("the trust file has {found} bytes, at most {MAX_BYTES} are read")]
    TooLarge {
        /// Its size.
        found: usize,
    },
    /// It is not the deterministic CBOR that the format gives.
    #[error("trust: {0}")]
    Cbor(#[from] cbor::Error),
    /// A view is not one.
    #[error("epoch {epoch}: {source}")]
    View {
        /// Which view; 0 is the genesis.
        epoch: u64,
        /// What is wrong with it.
        source: view::Error,
    },
    /// A token is not one, or not the key's over this view.
    #[error("the token over epoch {epoch}: {source}")]
    Token {
        /// Which view.
        epoch: u64,
        /// What is wrong with it.
        source: threshold::Error,
    },
    /// A view does not have the epoch of its place.
    #[error("a view of epoch {found} stands where epoch {expected} belongs")]
    Epoch {
        /// The epoch of its place.
        expected: u64,
        /// Its epoch.
        found: u32,
    },
    /// A view names another predecessor.
    #[error("the view of epoch {epoch} follows {found:?}, but the view before it is {expected}")]
    Predecessor {
        /// Its epoch.
        epoch: u64,
        /// Digest of the view before.
        expected: Digest,
        /// The digest that it names.
        found: Option<Digest>,
    },
    /// A view has another public key than the genesis.
    #[error("the view of epoch {epoch} has public key {found:?}, but the genesis has {expected:?}")]
    PublicKey {
        /// Its epoch.
        epoch: u64,
        /// The key of the genesis.
        expected: PublicKey,
        /// Its key.
        found: PublicKey,
    },
}

/// A cluster's genesis and views, each under a token of its key.
#[derive(Clone, Debug)]
pub struct Trust {
    views: Vec<(View, Token)>,
    current: View,
}

impl Trust {
    /// The trust in a cluster that has only its genesis.
    pub fn new(genesis: View, token: Token) -> Result<Self, Error> {
        if genesis.epoch() != 0 {
            return Err(Error::Epoch { expected: 0, found: genesis.epoch() });
        }
        check_token(0, &genesis.public_key(), &genesis, &token)?;
        Ok(Self { current: genesis.clone(), views: vec![(genesis, token)] })
    }

    /// Parses and checks the one encoding of a trust file.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_BYTES {
            return Err(Error::TooLarge { found: bytes.len() });
        }
        let mut reader = Reader::new(bytes);
        let mut map = reader.map()?;
        map.tagged(&mut reader, TAG)?;
        map.key(&mut reader, 1)?;
        let genesis =
            View::parse_genesis(reader.bytes()?).map_err(|source| Error::View { epoch: 0, source })?;
        map.key(&mut reader, 2)?;
        let token = read_token(&mut reader, 0)?;
        let mut trust = Self::new(genesis, token)?;
        map.key(&mut reader, 3)?;
        for epoch in 1..=reader.array("the views", MAX_VIEWS)? {
            reader.array_of("a view and its token", 2, "2")?;
            let view = View::parse_view(reader.bytes()?, trust.cluster())
                .map_err(|source| Error::View { epoch, source })?;
            let token = read_token(&mut reader, epoch)?;
            trust.extend(view, token)?;
        }
        map.finish(&reader)?;
        reader.finish()?;
        Ok(trust)
    }

    /// Adds the next view.
    pub fn extend(&mut self, view: View, token: Token) -> Result<(), Error> {
        let epoch = self.views.len() as u64;
        if u64::from(view.epoch()) != epoch {
            return Err(Error::Epoch { expected: epoch, found: view.epoch() });
        }
        let (expected, found) = (self.current.digest(), view.previous().map(|previous| previous.view));
        if found != Some(expected) {
            return Err(Error::Predecessor { epoch, expected, found });
        }
        let (expected, found) = (self.public_key(), view.public_key());
        if expected != found {
            return Err(Error::PublicKey { epoch, expected, found });
        }
        check_token(epoch, &expected, &view, &token)?;
        self.current = view.clone();
        self.views.push((view, token));
        Ok(())
    }

    /// Its one encoding.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.map(4).uint(0).text(TAG);
        let mut views = self.views.iter();
        if let Some((genesis, token)) = views.next() {
            writer.uint(1).bytes(genesis.bytes()).uint(2).bytes(&token.to_bytes());
        }
        writer.uint(3).array(views.len());
        for (view, token) in views {
            writer.array(2).bytes(view.bytes()).bytes(&token.to_bytes());
        }
        writer.finish()
    }

    /// The cluster's id.
    pub const fn cluster(&self) -> ClusterId {
        self.current.cluster()
    }

    /// The cluster's public key.
    pub fn public_key(&self) -> PublicKey {
        self.current.public_key()
    }

    /// The newest view.
    pub const fn view(&self) -> &View {
        &self.current
    }

    /// The view of this epoch, if it is known.
    pub fn view_of(&self, epoch: u32) -> Option<&View> {
        self.views.get(epoch as usize).map(|(view, _)| view)
    }
}

fn check_token(epoch: u64, key: &PublicKey, view: &View, token: &Token) -> Result<(), Error> {
    key.verify(&view.message(), token).map_err(|source| Error::Token { epoch, source })
}

fn read_token(reader: &mut Reader<'_>, epoch: u64) -> Result<Token, Error> {
    Token::parse(reader.bytes()?).map_err(|source| Error::Token { epoch, source })
}
