//! One RocksDB: named columns, reads of the present state or of a fixed view.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBIterator,
    DBRecoveryMode, IteratorMode, Options, PrefixRange, ReadOptions, SnapshotWithThreadMode, WriteBatch,
    WriteBufferManager, WriteOptions,
};

use super::ops::Op;
use super::{Durability, Error, Ops, Sink};

/// One key and its value.
pub type KeyValue = (Box<[u8]>, Box<[u8]>);

/// A named part of a database, with keys of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Column(&'static str);

impl Column {
    /// The column of this name.
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// Its name on disk.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

/// The memory that all databases of a node share: read blocks, with their indexes and filters, and write
/// buffers, within one bound.
#[derive(Clone)]
pub struct Memory {
    cache: Cache,
    buffers: WriteBufferManager,
}

impl Memory {
    /// About `bytes` in all; a quarter of it is for write buffers.
    pub fn new(bytes: usize) -> Self {
        let cache = Cache::new_lru_cache(bytes);
        // Write buffers are charged to the cache, so that one number bounds both.
        let buffers =
            WriteBufferManager::new_write_buffer_manager_with_cache(bytes / 4, false, cache.clone());
        Self { cache, buffers }
    }
}

impl Default for Memory {
    /// 128 MiB.
    fn default() -> Self {
        Self::new(128 << 20)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("used", &self.cache.get_usage()).finish_non_exhaustive()
    }
}

/// In which order entries are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// From the smallest key on.
    Ascending,
    /// From the largest key on.
    Descending,
}

/// One open database. Clones are the same database.
///
/// It is read by anybody and written by its [`Writer`](super::Writer) alone.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

struct Inner {
    path: PathBuf,
    db: DB,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Database").field(&self.0.path).finish()
    }
}

impl Database {
    /// Opens the database at `path` with these columns; makes it, and columns that it lacks, where needed.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`], [`Error::NotWritable`], [`Error::DiskFull`], [`Error::Corrupt`] or [`Error::Failed`].
    pub fn open(path: &Path, columns: &[Column], memory: &Memory) -> Result<Self, Error> {
        let options = options(memory);
        // RocksDB demands its own "default" column; it stays empty.
        let names = columns.iter().map(|column| column.name()).chain([rocksdb::DEFAULT_COLUMN_FAMILY_NAME]);
        let columns = names.map(|name| ColumnFamilyDescriptor::new(name, options.clone()));
        let db =
            DB::open_cf_descriptors(&options, path, columns).map_err(|error| Error::rocksdb(path, &error))?;
        Ok(Self(Arc::new(Inner { path: path.to_owned(), db })))
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The value of `key`, if there is one.
    ///
    /// # Errors
    ///
    /// If the disk fails, or what is read does not match its checksum.
    pub fn get(&self, column: Column, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Error> {
        self.0.db.get_cf(self.0.column(column)?, key).map_err(|error| self.0.error(&error))
    }

    /// The entries with keys from `from`, inclusive, to `to`, exclusive, or to the end.
    ///
    /// # Errors
    ///
    /// If there is no such column. Reading on can fail with each entry.
    pub fn range(
        &self,
        column: Column,
        from: &[u8],
        to: Option<&[u8]>,
        order: Order,
    ) -> Result<Entries<'_>, Error> {
        let db = &self.0;
        let read = bounded(from, to);
        Ok(Entries { db, inner: db.db.iterator_cf_opt(db.column(column)?, read, mode(order)) })
    }

    /// The entries whose keys begin with `prefix`.
    ///
    /// # Errors
    ///
    /// If there is no such column. Reading on can fail with each entry.
    pub fn prefix(&self, column: Column, prefix: &[u8], order: Order) -> Result<Entries<'_>, Error> {
        let db = &self.0;
        Ok(Entries { db, inner: db.db.iterator_cf_opt(db.column(column)?, begins(prefix), mode(order)) })
    }

    /// The entry with the largest key.
    ///
    /// # Errors
    ///
    /// If there is no such column, or the disk fails.
    pub fn last(&self, column: Column) -> Result<Option<KeyValue>, Error> {
        self.range(column, &[], None, Order::Descending)?.next().transpose()
    }

    /// Gives the space of deleted entries with keys below `to` back to the file system. It blocks.
    ///
    /// # Errors
    ///
    /// If there is no such column, or the disk fails.
    pub fn reclaim(&self, column: Column, to: &[u8]) -> Result<(), Error> {
        let (db, column) = (&self.0.db, self.0.column(column)?);
        // Files that hold nothing else go at once; what shares a file with entries that stay is rewritten.
        db.delete_file_in_range_cf(column, &[][..], to).map_err(|error| self.0.error(&error))?;
        db.compact_range_cf(column, None::<&[u8]>, Some(to));
        Ok(())
    }

    /// The database as it is now, whatever is written while the view is held.
    ///
    /// A view keeps old versions on disk: hold it no longer than it is needed.
    pub fn view(&self) -> View<'_> {
        View { db: &self.0, snapshot: self.0.db.snapshot() }
    }
}

/// A fixed state of a database.
pub struct View<'a> {
    db: &'a Inner,
    snapshot: SnapshotWithThreadMode<'a, DB>,
}

impl View<'_> {
    /// The value of `key` in this view.
    ///
    /// # Errors
    ///
    /// As [`Database::get`].
    pub fn get(&self, column: Column, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Error> {
        self.snapshot.get_cf(self.db.column(column)?, key).map_err(|error| self.db.error(&error))
    }

    /// The entries of this view with keys from `from`, inclusive, to `to`, exclusive, or to the end.
    ///
    /// # Errors
    ///
    /// As [`Database::range`].
    pub fn range(
        &self,
        column: Column,
        from: &[u8],
        to: Option<&[u8]>,
        order: Order,
    ) -> Result<Entries<'_>, Error> {
        let column = self.db.column(column)?;
        let inner = self.snapshot.iterator_cf_opt(column, bounded(from, to), mode(order));
        Ok(Entries { db: self.db, inner })
    }

    /// The entries of this view whose keys begin with `prefix`.
    ///
    /// # Errors
    ///
    /// As [`Database::prefix`].
    pub fn prefix(&self, column: Column, prefix: &[u8], order: Order) -> Result<Entries<'_>, Error> {
        let column = self.db.column(column)?;
        let inner = self.snapshot.iterator_cf_opt(column, begins(prefix), mode(order));
        Ok(Entries { db: self.db, inner })
    }
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("View").field(&self.db.path).finish()
    }
}

/// Entries of one column, read one by one.
pub struct Entries<'a> {
    db: &'a Inner,
    inner: DBIterator<'a>,
}

impl Iterator for Entries<'_> {
    type Item = Result<KeyValue, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.inner.next().map(|entry| entry.map_err(|error| self.db.error(&error)))
    }
}

impl fmt::Debug for Entries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Entries").field(&self.db.path).finish()
    }
}

impl Inner {
    fn column(&self, column: Column) -> Result<&ColumnFamily, Error> {
        let missing = || Error::NoColumn { path: self.path.clone(), column: column.name() };
        self.db.cf_handle(column.name()).ok_or_else(missing)
    }

    fn error(&self, error: &rocksdb::Error) -> Error {
        Error::rocksdb(&self.path, error)
    }
}

impl Sink for Database {
    fn write(&mut self, ops: &mut dyn Iterator<Item = &Ops>, durability: Durability) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        for op in ops.flat_map(Ops::iter) {
            match op {
                Op::Put { column, key, value } => batch.put_cf(self.0.column(*column)?, key, value),
                Op::Delete { column, key } => batch.delete_cf(self.0.column(*column)?, key),
                Op::DeleteRange { column, from, to } => {
                    batch.delete_range_cf(self.0.column(*column)?, from, to);
                }
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Synced);
        self.0.db.write_opt(batch, &options).map_err(|error| self.0.error(&error))
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.0.db.flush_wal(true).map_err(|error| self.0.error(&error))
    }
}

/// The options of each database and column. What is not set here keeps RocksDB's default: checksums are
/// written and verified, and paranoid checks are on.
fn options(memory: &Memory) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&memory.cache);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_bloom_filter(10.0, false);

    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_manager(&memory.buffers);
    options.set_write_buffer_size(8 << 20);
    options.set_max_open_files(256);
    // A column that is seldom written would otherwise keep every log file since its last flush.
    options.set_max_total_wal_size(64 << 20);
    // After a crash the torn end of the log is dropped: nobody was told that it was saved. Anything else
    // that does not fit is damage, and the database does not open: what was acknowledged is never dropped.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options
}

fn bounded(from: &[u8], to: Option<&[u8]>) -> ReadOptions {
    let mut read = ReadOptions::default();
    read.set_iterate_lower_bound(from);
    if let Some(to) = to {
        read.set_iterate_upper_bound(to);
    }
    read
}

fn begins(prefix: &[u8]) -> ReadOptions {
    let mut read = ReadOptions::default();
    read.set_iterate_range(PrefixRange(prefix));
    read
}

const fn mode(order: Order) -> IteratorMode<'static> {
    match order {
        Order::Ascending => IteratorMode::Start,
        Order::Descending => IteratorMode::End,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const A: Column = Column::new("a");
    const B: Column = Column::new("b");

    fn open(path: &Path) -> Result<Database, Error> {
        Database::open(path, &[A, B], &Memory::new(8 << 20))
    }

    fn write(db: &Database, fill: impl FnOnce(&mut Ops)) -> Result<(), Error> {
        let mut ops = Ops::new();
        fill(&mut ops);
        db.clone().write(&mut [&ops].into_iter(), Durability::Synced)
    }

    fn keys(entries: Entries<'_>) -> Vec<Vec<u8>> {
        entries.map(|entry| entry.unwrap().0.into_vec()).collect()
    }

    #[test]
    fn ranges_prefixes_and_ends_are_exact_in_both_orders() {
        let dir = tempfile::tempdir().unwrap();
        let db = open(&dir.path().join("db")).unwrap();
        write(&db, |ops| {
            for key in [b"a1", b"a2", b"b1", b"b2"] {
                ops.put(A, key, vec![1]);
            }
            ops.put(B, b"zz", vec![2]);
        })
        .unwrap();
        let ascending = keys(db.range(A, b"a2", Some(b"b2"), Order::Ascending).unwrap());
        assert_eq!(ascending, [b"a2", b"b1"]);
        let descending = keys(db.range(A, b"a2", None, Order::Descending).unwrap());
        assert_eq!(descending, [b"b2", b"b1", b"a2"]);
        assert_eq!(keys(db.prefix(A, b"a", Order::Descending).unwrap()), [b"a2", b"a1"]);
        assert_eq!(db.last(A).unwrap().unwrap().0.as_ref(), b"b2");
        assert_eq!(db.get(A, b"zz").unwrap(), None);
    }

    #[test]
    fn operations_take_effect_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let db = open(&dir.path().join("db")).unwrap();
        write(&db, |ops| {
            ops.put(A, [1], vec![1]).put(A, [2], vec![2]).put(A, [3], vec![3]);
            ops.delete_range(A, [1], [3]).put(A, [2], vec![9]).delete(A, [3]);
        })
        .unwrap();
        let all: Vec<_> = db.range(A, &[], None, Order::Ascending).unwrap().map(Result::unwrap).collect();
        assert_eq!(all, [(Box::from([2]), Box::from([9]))]);
    }

    #[test]
    fn a_view_does_not_see_what_is_written_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let db = open(&dir.path().join("db")).unwrap();
        write(&db, |ops| _ = ops.put(A, b"k", vec![1])).unwrap();
        let view = db.view();
        write(&db, |ops| _ = ops.put(A, b"k", vec![2]).put(A, b"l", vec![2])).unwrap();
        assert_eq!(view.get(A, b"k").unwrap(), Some(vec![1]));
        assert_eq!(keys(view.range(A, &[], None, Order::Ascending).unwrap()), [b"k"]);
        assert_eq!(keys(view.prefix(A, b"l", Order::Ascending).unwrap()), Vec::<Vec<u8>>::new());
        assert_eq!(db.get(A, b"k").unwrap(), Some(vec![2]));
    }

    #[test]
    fn a_batch_for_an_unknown_column_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let db = open(&dir.path().join("db")).unwrap();
        let unknown = Column::new("c");
        let written = write(&db, |ops| _ = ops.put(A, b"k", vec![1]).put(unknown, b"k", vec![1]));
        assert_eq!(written, Err(Error::NoColumn { path: db.path().to_owned(), column: "c" }));
        assert_eq!(db.get(A, b"k").unwrap(), None);
    }

    #[test]
    fn a_database_opens_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let _first = open(&path).unwrap();
        assert_eq!(open(&path).unwrap_err(), Error::InUse { path });
    }

    #[test]
    fn damage_before_the_end_of_the_log_is_told_and_not_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let db = open(&path).unwrap();
        for key in 0..100_u8 {
            write(&db, |ops| _ = ops.put(A, [key], vec![key; 1000])).unwrap();
        }
        drop(db);
        let log = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
        let log = log.filter(|file| file.extension().is_some_and(|ext| ext == "log")).max().unwrap();
        let mut bytes = fs::read(&log).unwrap();
        assert!(bytes.len() > 100_000, "the log file holds the values");
        bytes[50_000] ^= 1;
        fs::write(&log, bytes).unwrap();
        let error = open(&path).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    }

    #[test]
    fn a_torn_end_of_the_log_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let db = open(&path).unwrap();
        for key in 0..10_u8 {
            write(&db, |ops| _ = ops.put(A, [key], vec![key; 1000])).unwrap();
        }
        drop(db);
        let log = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
        let log = log.filter(|file| file.extension().is_some_and(|ext| ext == "log")).max().unwrap();
        let file = fs::OpenOptions::new().write(true).open(&log).unwrap();
        file.set_len(file.metadata().unwrap().len() - 500).unwrap();
        let db = open(&path).unwrap();
        assert_eq!(db.last(A).unwrap().unwrap().0.as_ref(), [8]);
    }
}
