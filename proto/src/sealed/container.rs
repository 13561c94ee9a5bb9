//! The container around a sealed mail.

use std::io::{Read, Write};

use sha2::{Digest as _, Sha256};

use super::{Error, each_piece};
use crate::ids::Digest;

/// How a container begins.
pub const MAGIC: [u8; 8] = *b"FPSEAL1\n";

/// The greatest length of a container's header, in bytes.
pub const MAX_HEADER: u32 = 64 * 1024;

/// Reads a container's header. The reader then stands at the body: nothing beyond the header is read.
///
/// # Errors
///
/// [`Error::Magic`], [`Error::ContainerHeader`], [`Error::ContainerCut`] or [`Error::Read`].
pub fn read_header<R: Read>(mut container: R) -> Result<Vec<u8>, Error> {
    let magic = read_up_to(&mut container, MAGIC.len() as u64)?;
    if magic != MAGIC {
        return Err(Error::Magic { found: hex::encode(magic) });
    }
    let length = read_up_to(&mut container, 4)?;
    let length: [u8; 4] = length
        .as_slice()
        .try_into()
        .map_err(|_| Error::ContainerCut { expected: 12, found: 8 + length.len() as u64 })?;
    let length = u32::from_be_bytes(length);
    if length > MAX_HEADER {
        return Err(Error::ContainerHeader { limit: MAX_HEADER, found: length.into() });
    }
    let header = read_up_to(&mut container, length.into())?;
    match header.len() as u64 {
        found if found == u64::from(length) => Ok(header),
        found => Err(Error::ContainerCut { expected: length.into(), found }),
    }
}

/// Writes a container up to where its body begins.
///
/// # Errors
///
/// [`Error::ContainerHeader`] or [`Error::Write`].
pub fn write_header<W: Write>(header: &[u8], mut out: W) -> Result<(), Error> {
    let found = header.len() as u64;
    let length = u32::try_from(found).ok().filter(|length| *length <= MAX_HEADER);
    let length = length.ok_or(Error::ContainerHeader { limit: MAX_HEADER, found })?;
    [&MAGIC[..], &length.to_be_bytes(), header]
        .iter()
        .try_for_each(|part| out.write_all(part))
        .map_err(Error::Write)
}

/// SHA-256 of a body, from where the reader stands to its end: the digest that the NRO names.
///
/// # Errors
///
/// [`Error::Read`].
pub fn body_digest<R: Read>(body: R) -> Result<Digest, Error> {
    let mut hasher = Sha256::new();
    let take = |piece: &[u8]| {
        hasher.update(piece);
        Ok(())
    };
    each_piece(body, take, |_, error| Error::Read(error))?;
    Ok(Digest::new(hasher.finalize().into()))
}

/// So many bytes, or fewer if the reader ends before.
fn read_up_to<R: Read>(reader: &mut R, length: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    reader.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}
