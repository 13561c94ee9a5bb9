//! How an exchange lies on disk: what can be told from elsewhere is left out.
//!
//! # Specification
//!
//! A record is CBOR: round, verdict, time, sequence, place; then either NRO and evidence, in parts, or, once they were
//! dropped, their digests and when that was. Left out are
//!
//! - the exchange's id, which is the key;
//! - the leaf's digests while the bytes that they are of are here;
//! - certificates: a person's stands in each of its messages, and lies once in a column of its own, by its SHA-256. In
//!   its place is the digest.
//!
//! What is taken for a certificate is a CBOR byte string of 256 bytes or more that is just one DER sequence. That needs
//! no trust in whoever signed it: whatever is taken out is put back byte for byte.
//!
//! # Guarantees
//!
//! An exchange comes back as it was written ([`unpack`]; test `whatever_the_bytes_they_come_back`).

use fairpost_proto::cbor::{self, Reader, Writer};
use fairpost_proto::ids::{Digest, ExchangeId, Verdict};
use fairpost_proto::leaf::{Leaf, Round};

use crate::ledger::{Error, Exchange, Standing, read_place, read_time};

/// No message has more parts: each certificate has 256 bytes or more.
const MAX_PARTS: u64 = 1024;
/// `59`: a byte string whose length stands in 16 bits.
const BYTES_16: u8 = 0x59;
/// `30 82`: a sequence whose length stands in 16 bits.
const SEQUENCE_16: [u8; 2] = [0x30, 0x82];
const HEAD: usize = 4;

/// An exchange's record, and the certificates that were taken out of it.
pub(crate) struct Packed<'e> {
    pub(crate) record: Vec<u8>,
    pub(crate) certificates: Vec<(Digest, &'e [u8])>,
}

/// The record of an exchange.
pub(crate) fn pack(exchange: &Exchange) -> Packed<'_> {
    let (leaf, mut certificates) = (&exchange.leaf, Vec::new());
    let mut writer = Writer::new();
    writer.array(if exchange.dropped.is_some() { 8 } else { 7 });
    writer.uint(u64::from(leaf.round.get())).uint(u64::from(leaf.verdict.code())).uint(leaf.time.millis());
    writer.uint(exchange.sequence).uint(u64::from(exchange.place));
    match exchange.dropped {
        None => {
            put_parts(&mut writer, &exchange.nro, &mut certificates);
            match &exchange.evidence {
                None => _ = writer.null(),
                Some(evidence) => put_parts(&mut writer, evidence, &mut certificates),
            }
        }
        Some(time) => {
            writer.bytes(leaf.nro.as_bytes());
            writer.bytes_or_null(leaf.evidence.as_ref().map(|digest| digest.as_bytes().as_slice()));
            writer.uint(time.millis());
        }
    }
    Packed { record: writer.finish(), certificates }
}

/// The message as parts: its own bytes and certificates, in turn.
fn put_parts<'e>(writer: &mut Writer, mut message: &'e [u8], certificates: &mut Vec<(Digest, &'e [u8])>) {
    let mut parts: Vec<(&[u8], Digest)> = Vec::new();
    while let Some((before, certificate, after)) = split(message) {
        let digest = Digest::of(certificate);
        parts.push((before, digest));
        certificates.push((digest, certificate));
        message = after;
    }
    writer.array(parts.len() * 2 + 1);
    for (before, digest) in parts {
        writer.bytes(before).bytes(digest.as_bytes());
    }
    writer.bytes(message);
}

/// The first certificate in the message, and what stands around it.
fn split(message: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let mut from = 0;
    while let Some(found) = message.get(from..)?.iter().position(|byte| *byte == BYTES_16) {
        let start = from + found + 3;
        if let Some((before, rest)) = message.split_at_checked(start)
            && let [.., high, low] = before
            && let [tag, form, der_high, der_low, ..] = rest
            && [*tag, *form] == SEQUENCE_16
            && let length = usize::from(u16::from_be_bytes([*high, *low]))
            && length == usize::from(u16::from_be_bytes([*der_high, *der_low])) + HEAD
            && let Some((certificate, after)) = rest.split_at_checked(length)
        {
            return Some((before, certificate, after));
        }
        from += found + 1;
    }
    None
}

/// What a record says without its evidence.
pub(super) fn standing(record: &[u8]) -> Result<Standing, Error> {
    let mut reader = Reader::new(record);
    let _parts = reader.array("an exchange", 8)?;
    let (round, verdict, _time, sequence, _place) = read_head(&mut reader)?;
    Ok(Standing { verdict, sequence, round })
}

/// The exchange with this id, from its record; `certificate` gives what was taken out.
pub(super) fn unpack<E: From<Error>>(
    id: ExchangeId,
    record: &[u8],
    certificate: &mut dyn FnMut(&Digest) -> Result<Vec<u8>, E>,
) -> Result<Exchange, E> {
    let mut reader = Reader::new(record);
    let count = reader.array("an exchange", 8).map_err(Error::from)?;
    let head = read_head(&mut reader).map_err(Error::from)?;
    let (round, verdict, time, sequence, place) = head;
    let exchange = if count == 8 {
        let (nro, evidence, dropped) = read_dropped(&mut reader).map_err(Error::from)?;
        let leaf = Leaf { exchange: id, round, verdict, time, nro, evidence };
        Exchange { leaf, sequence, place, nro: Vec::new(), evidence: None, dropped: Some(dropped) }
    } else {
        let nro = read_parts(&mut reader, certificate)?;
        let evidence = if reader.null() { None } else { Some(read_parts(&mut reader, certificate)?) };
        let (nro_digest, evidence_digest) = (Digest::of(&nro), evidence.as_deref().map(Digest::of));
        let leaf = Leaf { exchange: id, round, verdict, time, nro: nro_digest, evidence: evidence_digest };
        Exchange { leaf, sequence, place, nro, evidence, dropped: None }
    };
    reader.finish().map_err(Error::from)?;
    Ok(exchange)
}

type Head = (Round, Verdict, fairpost_proto::ids::Timestamp, u64, u32);

fn read_head(reader: &mut Reader<'_>) -> Result<Head, cbor::Error> {
    let number = reader.uint()?;
    let round = u32::try_from(number).ok().and_then(Round::new).ok_or(cbor::Error::Value {
        what: "the round",
        expected: "1 to 4294967295",
        found: number.to_string(),
    })?;
    Ok((round, read_verdict(reader)?, read_time(reader)?, reader.uint()?, read_place(reader)?))
}

type Dropped = (Digest, Option<Digest>, fairpost_proto::ids::Timestamp);

fn read_dropped(reader: &mut Reader<'_>) -> Result<Dropped, cbor::Error> {
    let nro = Digest::new(reader.bytes32("the NRO's digest")?);
    let evidence =
        if reader.null() { None } else { Some(Digest::new(reader.bytes32("the evidence's digest")?)) };
    Ok((nro, evidence, read_time(reader)?))
}

fn read_verdict(reader: &mut Reader<'_>) -> Result<Verdict, cbor::Error> {
    let code = reader.uint()?;
    u8::try_from(code).ok().and_then(Verdict::from_code).ok_or(cbor::Error::Value {
        what: "the verdict",
        expected: "1 to 4",
        found: code.to_string(),
    })
}

fn read_parts<E: From<Error>>(
    reader: &mut Reader<'_>,
    certificate: &mut dyn FnMut(&Digest) -> Result<Vec<u8>, E>,
) -> Result<Vec<u8>, E> {
    let count = reader.array("a message's parts", MAX_PARTS).map_err(Error::from)?;
    let mut message = Vec::new();
    for part in 0..count {
        if part % 2 == 0 {
            message.extend_from_slice(reader.bytes().map_err(Error::from)?);
        } else {
            let digest = Digest::new(reader.bytes32("a certificate's digest").map_err(Error::from)?);
            message.extend_from_slice(&certificate(&digest)?);
        }
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use fairpost_proto::ids::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{World, after};

    fn back(exchange: &Exchange) -> Exchange {
        let packed = pack(exchange);
        let held: HashMap<Digest, Vec<u8>> =
            packed.certificates.iter().map(|(digest, der)| (*digest, der.to_vec())).collect();
        let Standing { verdict, sequence, round } = standing(&packed.record).unwrap();
        assert_eq!(
            (verdict, sequence, round),
            (exchange.leaf.verdict, exchange.sequence, exchange.leaf.round)
        );
        let mut find = |digest: &Digest| Ok::<_, Error>(held[digest].clone());
        unpack(exchange.leaf.exchange, &packed.record, &mut find).unwrap()
    }

    fn exchange(nro: Vec<u8>, evidence: Option<Vec<u8>>) -> Exchange {
        let verdict = if evidence.is_some() { Verdict::Refused } else { Verdict::Expired };
        let leaf = Leaf {
            exchange: ExchangeId::new([7; 32]),
            round: Round::FIRST,
            verdict,
            time: Timestamp::from_millis(1234).unwrap(),
            nro: Digest::of(&nro),
            evidence: evidence.as_deref().map(Digest::of),
        };
        Exchange { leaf, sequence: 9, place: 3, nro, evidence, dropped: None }
    }

    #[test]
    fn a_certificate_lies_apart_from_what_its_owner_signed() {
        let world = World::new();
        let command = world.command(1, Verdict::Released);
        let exchange = exchange(command.nro.clone(), command.evidence.clone());
        let packed = pack(&exchange);
        let ders: Vec<&[u8]> = packed.certificates.iter().map(|(_, der)| *der).collect();
        let chains = [&world.sender.chain, &world.recipient.chain].map(|chain| chain.certificates().concat());
        assert_eq!(ders, chains);
        let (whole, apart) = (exchange.to_bytes().len(), chains.concat().len());
        assert!(packed.record.len() < whole - apart, "{} of {whole}", packed.record.len());
        assert_eq!(back(&exchange), exchange);
        let dropped = exchange.drop_bytes(after(9));
        assert_eq!(back(&dropped), dropped);
        assert!(pack(&dropped).certificates.is_empty());
    }

    fn message() -> impl Strategy<Value = Vec<u8>> {
        let noise = prop::collection::vec(any::<u8>(), 0..40);
        let heads =
            prop::sample::select(vec![vec![0x59], vec![0x59, 1, 4, 0x30, 0x82, 1, 0], vec![0x30, 0x82]]);
        let certificate = (256_u16..600).prop_map(|length| {
            let der =
                [&[0x59][..], &(length + 4).to_be_bytes(), &SEQUENCE_16, &length.to_be_bytes()].concat();
            [der, vec![0x59; length.into()]].concat()
        });
        prop::collection::vec(prop_oneof![noise, heads, certificate], 0..8).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_they_come_back(nro in message(), evidence in prop::option::of(message())) {
            let exchange = exchange(nro, evidence);
            prop_assert_eq!(back(&exchange), exchange);
        }

        #[test]
        fn damaged_records_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = standing(&bytes);
            let mut none = |_: &Digest| Ok::<_, Error>(Vec::new());
            let _ = unpack(ExchangeId::new([7; 32]), &bytes, &mut none);
        }
    }
}
