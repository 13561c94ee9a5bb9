//! Any [`Machine`] as openraft's state machine: openraft's values become opaque bytes here.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::RaftStateMachine;
use openraft::{AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot};

use super::codec::{self, Encode};
use super::machine::{self, Applied, Committed, Machine, Records, Source, Staged};
use super::snapshot::SnapshotData;
use super::types::{
    Entry, LogId, Outcome, SnapshotMeta, StorageError, StorageIOError, StoredMembership, TypeConfig,
};

/// Drives a machine for openraft. Clones drive the same machine.
pub(super) struct StateMachine<M> {
    machine: Arc<M>,
}

impl<M> Clone for StateMachine<M> {
    fn clone(&self) -> Self {
        Self { machine: Arc::clone(&self.machine) }
    }
}

impl<M> fmt::Debug for StateMachine<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateMachine").finish_non_exhaustive()
    }
}

impl<M: Machine> StateMachine<M> {
    pub(super) fn new(machine: Arc<M>) -> Self {
        Self { machine }
    }

    /// The state as it is now.
    fn now(&self) -> Result<Snapshot<TypeConfig>, machine::Error> {
        let machine::Snapshot { applied, source } = self.machine.snapshot()?;
        let (last_log_id, last_membership) = position(applied)?;
        // Two snapshots of one state are the same records.
        let snapshot_id = last_log_id.unwrap_or_default().to_string();
        let meta = SnapshotMeta { last_log_id, last_membership, snapshot_id };
        Ok(Snapshot { meta, snapshot: Box::new(SnapshotData::Made(source)) })
    }
}

pub(super) type Position = (Option<LogId>, StoredMembership);

pub(super) fn position(applied: Applied) -> Result<Position, machine::Error> {
    let damaged = |source| machine::Error::new("reading how far the ledger has come", source);
    let position = applied.position.map(LogId::decode).transpose().map_err(damaged)?;
    let membership = applied.membership.map(StoredMembership::decode).transpose().map_err(damaged)?;
    Ok((position, membership.unwrap_or_default()))
}

fn committed(entry: Entry) -> Result<Committed, machine::Error> {
    let unfit = |source| machine::Error::new("storing a position", source);
    let log_id = entry.log_id;
    let (proposal, membership) = match entry.payload {
        EntryPayload::Blank => (None, None),
        EntryPayload::Normal(proposal) => (Some(proposal.0), None),
        EntryPayload::Membership(membership) => {
            (None, Some(StoredMembership::new(Some(log_id), membership).encode().map_err(unfit)?))
        }
    };
    let position = log_id.encode().map_err(unfit)?;
    Ok(Committed { index: log_id.index, proposal, position, membership })
}

fn reading(error: &machine::Error) -> StorageError {
    StorageIOError::read_state_machine(AnyError::new(error)).into()
}

impl<M: Machine> RaftStateMachine<TypeConfig> for StateMachine<M> {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<Position, StorageError> {
        self.machine.applied().and_then(position).map_err(|error| reading(&error))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Outcome>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let fail = |error: AnyError| StorageIOError::write_state_machine(error);
        let entries: Vec<Committed> = entries
            .into_iter()
            .map(committed)
            .collect::<Result<_, _>>()
            .map_err(|error| fail(AnyError::new(&error)))?;
        let expected = entries.len();
        let outcomes = self.machine.apply(entries).await.map_err(|error| fail(AnyError::new(&error)))?;
        if outcomes.len() != expected {
            let found = outcomes.len();
            return Err(fail(AnyError::error(format!("{expected} outcomes expected, {found} found"))).into());
        }
        Ok(outcomes.into_iter().map(Outcome).collect())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotData>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<SnapshotData>,
    ) -> Result<(), StorageError> {
        let fail = |error: machine::Error| {
            StorageError::from(StorageIOError::write_snapshot(Some(meta.signature()), AnyError::new(&error)))
        };
        let staged = match *snapshot {
            SnapshotData::Staged(staged) => staged,
            SnapshotData::Made(source) => self.stage(meta, source).await.map_err(fail)?,
            SnapshotData::Nothing => {
                return Err(fail(machine::Error::new("installing a snapshot", "it is empty")));
            }
        };
        staged.install().await.map_err(fail)
    }

    /// Always of this moment: so nothing that was made long ago is sent, and the log behind it is still there.
    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        let now = self.now().map_err(|error| StorageIOError::read_snapshot(None, AnyError::new(&error)))?;
        // Before the first entry there is none.
        Ok(Some(now).filter(|snapshot| snapshot.meta.last_log_id.is_some()))
    }
}

impl<M: Machine> StateMachine<M> {
    /// Takes in another machine's snapshot within one process.
    async fn stage(
        &self,
        meta: &SnapshotMeta,
        source: Arc<dyn Source>,
    ) -> Result<Box<dyn Staged>, machine::Error> {
        let applied = applied(meta).map_err(|error| machine::Error::new("storing a position", error))?;
        let (feed, records) = Records::channel();
        let read = move || {
            source.read(&mut |record| {
                let record = Bytes::copy_from_slice(record);
                feed.blocking_send(Some(record))
                    .map_err(|error| machine::Error::new("taking a snapshot", error))
            })?;
            feed.blocking_send(None).map_err(|error| machine::Error::new("taking a snapshot", error))
        };
        let reading = tokio::task::spawn_blocking(read);
        let staged = self.machine.stage(applied, records).await?;
        reading.await.map_err(|error| machine::Error::new("taking a snapshot", error))??;
        Ok(staged)
    }
}

/// How far a machine has come that has this snapshot.
pub(super) fn applied(meta: &SnapshotMeta) -> Result<Applied, codec::Error> {
    Ok(Applied {
        position: meta.last_log_id.map(|id| id.encode()).transpose()?,
        membership: Some(meta.last_membership.encode()?),
    })
}

impl<M: Machine> RaftSnapshotBuilder<TypeConfig> for StateMachine<M> {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let fail = |error: &machine::Error| {
            StorageError::from(StorageIOError::read_snapshot(None, AnyError::new(error)))
        };
        let snapshot = self.now().map_err(|error| fail(&error))?;
        // The log behind a snapshot may be purged: so what it stands for must be on disk first.
        self.machine.sync().await.map_err(|error| fail(&error))?;
        Ok(snapshot)
    }
}
