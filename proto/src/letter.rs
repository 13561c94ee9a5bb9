//! The header of a sealed mail's container: the sender's NRO, in front of the age file that it is about.
//!
//! # Guarantees
//!
//! One encoding, and nothing in it but a well-formed NRO ([`parse_header`]; vectors `letter.json`).

use crate::cbor::{self, Reader, Writer};
use crate::cose::{self, Signed};
use crate::evidence::Nro;

const TAG: &str = "fairpost/sealed/v1";

/// Why bytes are no header.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not the deterministic CBOR that the format gives.
    #[error("the sealed mail's header: {0}")]
    Cbor(#[from] cbor::Error),
    /// The NRO in it is none.
    #[error("the sealed mail's NRO: {0}")]
    Nro(#[from] cose::Error),
}

/// The one encoding of a header with this NRO.
pub fn write_header(nro: &Signed<Nro>) -> Vec<u8> {
    Writer::new().map(2).uint(0).text(TAG).uint(1).bytes(nro.bytes()).finish()
}

/// The NRO in a header: well-formed, not yet checked ([`crate::evidence::check_nro`]).
pub fn parse_header(bytes: &[u8]) -> Result<Signed<Nro>, Error> {
    let mut reader = Reader::new(bytes);
    let mut map = reader.map()?;
    map.tagged(&mut reader, TAG)?;
    map.key(&mut reader, 1)?;
    let nro = Signed::parse(reader.bytes()?)?;
    map.finish(&reader)?;
    reader.finish()?;
    Ok(nro)
}
