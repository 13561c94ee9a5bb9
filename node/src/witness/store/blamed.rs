//! What members are blamed for, on disk.

use fairpost_proto::ids::KeyId;

use super::{BLAMED, Error, Store, damaged};
use crate::store::{Durability, Ops, Order};
use crate::witness::blame::{Cleared, Kind, Record};

/// In the place of a kind: when the member was last cleared.
const CLEARED: u8 = 0xff;

/// A value of the column, or that there is none any more.
pub(in crate::witness) enum Change<'a> {
    /// What a member is blamed for.
    Put(&'a Record),
    /// A member is not blamed for this any more.
    Remove(KeyId, Kind),
    /// A member was cleared.
    Cleared(KeyId, &'a Cleared),
}

/// All that the column has.
type Blamed = (Vec<Record>, Vec<(KeyId, Cleared)>);

impl Store {
    /// Everything that anybody is blamed for, and who was cleared.
    pub(in crate::witness) fn blamed(&self) -> Result<Blamed, Error> {
        let (mut records, mut cleared) = (Vec::new(), Vec::new());
        for entry in self.database.range(BLAMED, &[], None, Order::Ascending)? {
            let (key, value) = entry?;
            let (member, kind) = key.split_at_checked(32).ok_or_else(|| damaged("a blame's key"))?;
            let member = KeyId::from_slice(member).ok_or_else(|| damaged("a blame's key"))?;
            match kind {
                [CLEARED] => cleared.push((member, Cleared::parse(&value)?)),
                [kind] => {
                    let kind = Kind::from_code(*kind).ok_or_else(|| damaged("a blame's kind"))?;
                    records.push(Record::parse(member, kind, &value)?);
                }
                _ => return Err(damaged("a blame's key")),
            }
        }
        Ok((records, cleared))
    }

    /// Makes these changes, synced and as a whole.
    pub(in crate::witness) async fn blame(&self, changes: &[Change<'_>]) -> Result<(), Error> {
        let mut ops = Ops::new();
        for change in changes {
            match change {
                Change::Put(record) => {
                    ops.put(BLAMED, key(&record.member, record.kind.code()), record.to_bytes())
                }
                Change::Remove(member, kind) => ops.delete(BLAMED, key(member, kind.code())),
                Change::Cleared(member, cleared) => ops.put(BLAMED, key(member, CLEARED), cleared.to_bytes()),
            };
        }
        Ok(self.writer.write(ops, Durability::Synced).await?)
    }
}

fn key(member: &KeyId, kind: u8) -> Vec<u8> {
    [&member.as_bytes()[..], &[kind]].concat()
}
