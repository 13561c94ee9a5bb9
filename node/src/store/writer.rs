//! The one thread that writes a database.
//!
//! # Specification
//!
//! The thread takes what is queued, up to [`BATCH_BYTES`], as one batch; writes it; syncs it if one of the
//! writes asked for that; then answers each write, in the order of the queue. Many writers so share one sync.
//!
//! A write that fails leaves the disk in a state nobody can vouch for (after a failed `fsync` the kernel may
//! have dropped the pages), so there is no second try: it and all that is queued fail with the same error, all
//! later writes are refused with it, and `on_fatal` is told, which stops the node.
//!
//! # Guarantees
//!
//! - An answer comes after the write, and after the sync if one was asked for (`run`; test
//!   `nothing_is_answered_before_it_is_written_and_synced`).
//! - Answers come in the order of the queue (same test), and each write is answered once, unless the writer's
//!   thread itself breaks down, which `on_fatal` is told.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock, mpsc as std_mpsc};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::{Database, Error, Ops, Store, metrics};

/// How many writes may wait; whoever comes next waits for a place.
const QUEUE: usize = 1024;
/// A batch is closed once it has so many bytes.
const BATCH_BYTES: usize = 8 << 20;

/// What must have happened to a write before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// It survives a crash of this process, but perhaps not of the machine.
    Buffered,
    /// It is on disk: it survives a crash of the machine.
    Synced,
}

/// Where a writer's batches go: a database, or in tests a disk that is slow or broken.
pub(crate) trait Sink: Send + 'static {
    /// Makes all changes together, in order, and syncs them if `durability` says so.
    fn write(&mut self, ops: &mut dyn Iterator<Item = &Ops>, durability: Durability) -> Result<(), Error>;

    /// Syncs all that was written.
    fn flush(&mut self) -> Result<(), Error>;
}

/// Starts the threads that write.
#[derive(Debug)]
pub struct Writer;

impl Writer {
    /// Starts the thread that writes `database`; it runs until [`Handle::close`], until every handle is
    /// dropped, or until a write fails, and its result says which.
    ///
    /// `on_fatal` is called at most once, on the writer's thread, after a write has failed: it must see to it
    /// that the node stops, and must not block.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
    pub fn start(
        database: Database,
        store: Store,
        on_fatal: impl FnOnce(&Error) + Send + 'static,
    ) -> Result<(Handle, JoinHandle<Result<(), Error>>), Error> {
        let path = database.path().to_owned();
        Self::start_with(database, store, on_fatal).map_err(|error| Error::io(&path, &error))
    }

    /// As [`Writer::start`], into any sink.
    pub(crate) fn start_with(
        mut sink: impl Sink,
        store: Store,
        on_fatal: impl FnOnce(&Error) + Send + 'static,
    ) -> std::io::Result<(Handle, JoinHandle<Result<(), Error>>)> {
        let (queue, mut receiver) = mpsc::channel(QUEUE);
        let failed = Arc::new(OnceLock::new());
        let failed_too = Arc::clone(&failed);
        let (ending, ended) = std_mpsc::channel::<()>();
        let body = move || {
            // The thread must not vanish silently: a panic in a callback stops the node like a failed disk.
            let run = AssertUnwindSafe(|| run(&mut sink, &mut receiver, store, &failed));
            let ended = catch_unwind(run).unwrap_or_else(|_| Err(Error::Panicked { store: store.name() }));
            if let Err(error) = &ended {
                tracing::error!(store = store.name(), %error, "the store cannot write");
                let _ = failed.set(error.clone());
                on_fatal(error);
            }
            // The database is closed before anybody is told that this thread has ended.
            drop((sink, receiver));
            drop(ending);
            ended
        };
        let thread = thread::Builder::new().name(format!("{}-writer", store.name())).spawn(body)?;
        let end = Arc::new(End { ended: Mutex::new(ended), writer: thread.thread().id() });
        Ok((Handle { queue, failed: failed_too, store, _end: end }, thread))
    }
}

/// Queues writes for one database. Clones queue for the same; whoever drops the last waits until what is queued is
/// written and the thread has ended.
#[derive(Clone, Debug)]
pub struct Handle {
    queue: mpsc::Sender<Item>,
    failed: Arc<OnceLock<Error>>,
    store: Store,
    // Behind the queue, so that it is dropped after it.
    _end: Arc<End>,
}

/// Waits, when dropped, for the writer's thread: a process that ends while RocksDB is still being closed aborts.
#[derive(Debug)]
struct End {
    ended: Mutex<std_mpsc::Receiver<()>>,
    writer: ThreadId,
}

impl Drop for End {
    fn drop(&mut self) {
        // An answer may hold the last handle: the thread can't wait for itself.
        if thread::current().id() != self.writer {
            // Nothing is ever sent: this returns when the other side is gone.
            let _ = self.ended.get_mut().recv();
        }
    }
}

impl Handle {
    /// Makes the changes, and returns when they are made as durably as asked.
    ///
    /// A future that is dropped after its first poll may still have its changes made.
    ///
    /// # Errors
    ///
    /// The error that stopped the writer, or [`Error::Closed`].
    pub async fn write(&self, ops: Ops, durability: Durability) -> Result<(), Error> {
        let (sender, receiver) = oneshot::channel();
        self.write_then(ops, durability, move |result| _ = sender.send(result)).await?;
        receiver.await.unwrap_or_else(|_| Err(self.ended()))
    }

    /// Queues the changes, waiting only for a place in the queue, and has the writer's thread call `then`
    /// when they are made as durably as asked, or have failed. `then` must not block.
    ///
    /// # Errors
    ///
    /// The error that stopped the writer, or [`Error::Closed`]: then nothing is queued, and `then` is dropped.
    pub async fn write_then(
        &self,
        ops: Ops,
        durability: Durability,
        then: impl FnOnce(Result<(), Error>) + Send + 'static,
    ) -> Result<(), Error> {
        let write = Item::Write(Write { ops, durability, then: Box::new(then) });
        self.queue.send(write).await.map_err(|_| self.ended())
    }

    /// Refuses further writes, has all that is queued written and synced, and ends the thread. Join it to
    /// know that this is done.
    pub async fn close(&self) {
        // If nobody receives, the thread has ended already.
        let _ = self.queue.send(Item::Close).await;
    }

    fn ended(&self) -> Error {
        self.failed.get().cloned().unwrap_or(Error::Closed { store: self.store.name() })
    }
}

enum Item {
    Write(Write),
    Close,
}

struct Write {
    ops: Ops,
    durability: Durability,
    then: Box<dyn FnOnce(Result<(), Error>) + Send>,
}

fn run(
    sink: &mut impl Sink,
    queue: &mut mpsc::Receiver<Item>,
    store: Store,
    failed: &OnceLock<Error>,
) -> Result<(), Error> {
    while let Some(batch) = next_batch(queue) {
        if batch.is_empty() {
            continue;
        }
        let durability = batch.iter().map(|write| write.durability).max().unwrap_or(Durability::Synced);
        let started = Instant::now();
        let written = sink.write(&mut batch.iter().map(|write| &write.ops), durability);
        metrics::wrote(store, durability, started.elapsed());
        if let Err(error) = &written {
            // In this order: whoever learns of the failure finds that later writes are refused.
            let _ = failed.set(error.clone());
            queue.close();
        }
        for write in batch {
            (write.then)(written.clone());
        }
        if let Err(error) = written {
            while let Some(item) = queue.blocking_recv() {
                if let Item::Write(write) = item {
                    (write.then)(Err(error.clone()));
                }
            }
            return Err(error);
        }
    }
    sink.flush()
}

/// All that is queued, up to the size of a batch; none if the queue is closed and empty.
fn next_batch(queue: &mut mpsc::Receiver<Item>) -> Option<Vec<Write>> {
    let (mut batch, mut bytes) = (Vec::new(), 0_usize);
    let mut next = Some(queue.blocking_recv()?);
    while let Some(item) = next {
        match item {
            Item::Write(write) => {
                bytes = bytes.saturating_add(write.ops.size());
                batch.push(write);
            }
            // What was queued before is still received.
            Item::Close => queue.close(),
        }
        next = if bytes < BATCH_BYTES { queue.try_recv().ok() } else { None };
    }
    Some(batch)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as std_mpsc;

    use parking_lot::Mutex;

    use super::*;
    use crate::store::Column;

    const A: Column = Column::new("a");

    #[derive(Clone, Debug, PartialEq)]
    enum Event {
        Wrote(usize, Durability),
        Answered(usize, bool),
        Flushed,
    }

    /// A disk that waits for leave before each write and notes what it did.
    struct Disk {
        leave: std_mpsc::Receiver<Result<(), Error>>,
        events: Arc<Mutex<Vec<Event>>>,
    }

    impl Sink for Disk {
        fn write(
            &mut self,
            ops: &mut dyn Iterator<Item = &Ops>,
            durability: Durability,
        ) -> Result<(), Error> {
            self.leave.recv().unwrap()?;
            self.events.lock().push(Event::Wrote(ops.count(), durability));
            Ok(())
        }

        fn flush(&mut self) -> Result<(), Error> {
            self.events.lock().push(Event::Flushed);
            Ok(())
        }
    }

    struct Bench {
        leave: std_mpsc::Sender<Result<(), Error>>,
        events: Arc<Mutex<Vec<Event>>>,
        fatal: Arc<Mutex<Option<Error>>>,
        handle: Handle,
        thread: JoinHandle<Result<(), Error>>,
    }

    fn bench() -> Bench {
        let (leave, permits) = std_mpsc::channel();
        let (events, fatal) = (Arc::default(), Arc::new(Mutex::new(None)));
        let disk = Disk { leave: permits, events: Arc::clone(&events) };
        let hook = Arc::clone(&fatal);
        let on_fatal = move |error: &Error| *hook.lock() = Some(error.clone());
        let (handle, thread) = Writer::start_with(disk, Store::Log, on_fatal).unwrap();
        Bench { leave, events, fatal, handle, thread }
    }

    impl Bench {
        async fn queue(&self, number: usize, durability: Durability) {
            let mut ops = Ops::new();
            ops.put(A, [0], vec![0]);
            let events = Arc::clone(&self.events);
            let note = move |result: Result<(), Error>| {
                events.lock().push(Event::Answered(number, result.is_ok()));
            };
            self.handle.write_then(ops, durability, note).await.unwrap();
        }
    }

    fn full() -> Error {
        Error::DiskFull { path: "disk".into(), reason: "No space left on device".into() }
    }

    #[tokio::test]
    async fn nothing_is_answered_before_it_is_written_and_synced() {
        let bench = bench();
        for number in 0..5 {
            let synced = number == 3;
            bench.queue(number, if synced { Durability::Synced } else { Durability::Buffered }).await;
        }
        bench.handle.close().await;
        assert_eq!(*bench.events.lock(), [], "the disk has written nothing yet");
        // The first batch has whatever was queued when the thread looked; permits for the worst case.
        for _ in 0..5 {
            bench.leave.send(Ok(())).unwrap();
        }
        bench.thread.join().unwrap().unwrap();

        let (mut written, mut answered, mut synced) = (0, 0, false);
        for event in bench.events.lock().iter() {
            match event {
                Event::Wrote(count, durability) => {
                    written += count;
                    synced |= answered <= 3 && written > 3 && *durability == Durability::Synced;
                }
                Event::Answered(number, ok) => {
                    assert!(*ok && *number == answered && *number < written, "in order, after the write");
                    assert!(*number != 3 || synced, "the synced write was answered before a sync");
                    answered += 1;
                }
                Event::Flushed => assert_eq!((written, answered), (5, 5), "flushed at the end"),
            }
        }
        assert_eq!(bench.events.lock().last(), Some(&Event::Flushed));
    }

    #[tokio::test]
    async fn writes_that_wait_together_share_one_sync() {
        let bench = bench();
        bench.queue(0, Durability::Synced).await;
        // The thread holds the first write before the closed disk; or takes all at once. Either way:
        for number in 1..100 {
            bench.queue(number, Durability::Synced).await;
        }
        bench.handle.close().await;
        bench.leave.send(Ok(())).unwrap();
        bench.leave.send(Ok(())).unwrap();
        let events = Arc::clone(&bench.events);
        drop(bench.leave);
        bench.thread.join().unwrap().unwrap();
        let writes = events.lock().iter().filter(|event| matches!(event, Event::Wrote(..))).count();
        assert!(writes <= 2, "{writes} syncs for 100 writes");
    }

    #[tokio::test]
    async fn after_a_failed_write_nothing_more_is_written() {
        let bench = bench();
        bench.queue(0, Durability::Buffered).await;
        bench.leave.send(Err(full())).unwrap();
        let waiting = bench.handle.write(Ops::new(), Durability::Buffered).await;
        assert_eq!(waiting, Err(full()), "queued behind the failure");
        // The thread has ended, and nobody gave leave for another write.
        assert_eq!(bench.thread.join().unwrap(), Err(full()));
        assert_eq!(bench.handle.write(Ops::new(), Durability::Synced).await, Err(full()));
        assert_eq!(*bench.events.lock(), [Event::Answered(0, false)]);
        assert_eq!(*bench.fatal.lock(), Some(full()), "the node was told to stop");
    }

    #[tokio::test]
    async fn a_panic_in_an_answer_stops_the_node_too() {
        let bench = bench();
        bench.leave.send(Ok(())).unwrap();
        bench.handle.write_then(Ops::new(), Durability::Buffered, |_| panic!("on purpose")).await.unwrap();
        let broken = Error::Panicked { store: "log" };
        assert_eq!(bench.thread.join().unwrap(), Err(broken.clone()));
        assert_eq!(*bench.fatal.lock(), Some(broken.clone()));
        assert_eq!(bench.handle.write(Ops::new(), Durability::Buffered).await, Err(broken));
    }

    #[tokio::test]
    async fn a_closed_writer_says_so() {
        let bench = bench();
        bench.handle.close().await;
        bench.thread.join().unwrap().unwrap();
        let refused = bench.handle.write(Ops::new(), Durability::Buffered).await;
        assert_eq!(refused, Err(Error::Closed { store: "log" }));
        assert_eq!(*bench.fatal.lock(), None, "closing is no failure");
    }
}
