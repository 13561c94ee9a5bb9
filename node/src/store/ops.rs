use bytes::Bytes;

use super::Column;

/// Changes to one database that are made together or not at all, in the order in which they were added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ops {
    list: Vec<Op>,
    bytes: usize,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Sets a key.
    Put { column: Column, key: Vec<u8>, value: Bytes },
    /// Removes a key.
    Delete { column: Column, key: Vec<u8> },
    /// Removes all keys from the first, inclusive, to the last, exclusive.
    DeleteRange { column: Column, from: Vec<u8>, to: Vec<u8> },
}

/// What one operation costs beside its key and value, roughly.
const OVERHEAD: usize = 32;

impl Ops {
    /// No change yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, column: Column, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> &mut Self {
        let (key, value) = (key.as_ref().to_vec(), value.into());
        let bytes = key.len().saturating_add(value.len());
        self.add(Op::Put { column, key, value }, bytes)
    }

    /// Removes `key`, if it is there.
    pub fn delete(&mut self, column: Column, key: impl AsRef<[u8]>) -> &mut Self {
        let key = key.as_ref().to_vec();
        let bytes = key.len();
        self.add(Op::Delete { column, key }, bytes)
    }

    /// Removes all keys from `from`, inclusive, to `to`, exclusive.
    pub fn delete_range(
        &mut self,
        column: Column,
        from: impl AsRef<[u8]>,
        to: impl AsRef<[u8]>,
    ) -> &mut Self {
        let (from, to) = (from.as_ref().to_vec(), to.as_ref().to_vec());
        let bytes = from.len().saturating_add(to.len());
        self.add(Op::DeleteRange { column, from, to }, bytes)
    }

    /// Adds all of `more` behind these.
    pub fn append(&mut self, more: Self) -> &mut Self {
        self.bytes = self.bytes.saturating_add(more.bytes);
        self.list.extend(more.list);
        self
    }

    /// Whether there is nothing to change.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// About how many bytes these changes take in memory.
    pub fn size(&self) -> usize {
        self.bytes
    }

    /// The changes in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Op> {
        self.list.iter()
    }

    fn add(&mut self, op: Op, bytes: usize) -> &mut Self {
        self.bytes = self.bytes.saturating_add(bytes).saturating_add(OVERHEAD);
        self.list.push(op);
        self
    }
}
