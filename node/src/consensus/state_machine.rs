//! Any [`Machine`] as openraft's state machine: openraft's values become opaque bytes here.

use std::fmt;
use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use openraft::{AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot};
use parking_lot::Mutex;

use super::codec::Encode;
use super::machine::{self, Applied, Committed, Machine};
use super::snapshot::{Builder, SnapshotData};
use super::types::{
    Entry, LogId, Outcome, SnapshotMeta, StorageError, StorageIOError, StoredMembership, TypeConfig,
};

/// Drives a machine for openraft. Clones drive the same machine.
pub(super) struct StateMachine<M> {
    machine: Arc<M>,
    /// The newest snapshot. It is not kept on disk: the machine can make it again.
    snapshot: Arc<Mutex<Option<(SnapshotMeta, SnapshotData)>>>,
}

impl<M> Clone for StateMachine<M> {
    fn clone(&self) -> Self {
        Self { machine: Arc::clone(&self.machine), snapshot: Arc::clone(&self.snapshot) }
    }
}

impl<M> fmt::Debug for StateMachine<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateMachine").finish_non_exhaustive()
    }
}

impl<M: Machine> StateMachine<M> {
    pub(super) fn new(machine: Arc<M>) -> Self {
        Self { machine, snapshot: Arc::default() }
    }
}

type Position = (Option<LogId>, StoredMembership);

fn position(applied: Applied) -> Result<Position, machine::Error> {
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
        let fail = |error: AnyError| StorageIOError::write_snapshot(Some(meta.signature()), error);
        let records = snapshot.records().map_err(|error| fail(AnyError::new(&error)))?;
        let encoded = || {
            Ok(Applied {
                position: meta.last_log_id.map(|id| id.encode()).transpose()?,
                membership: Some(meta.last_membership.encode()?),
            })
        };
        let applied = encoded().map_err(|error: super::codec::Error| fail(AnyError::new(&error)))?;
        let installed = self.machine.install(applied, Box::new(records)).await;
        installed.map_err(|error| fail(AnyError::new(&error)))?;
        *self.snapshot.lock() = Some((meta.clone(), *snapshot));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        let snapshot = self.snapshot.lock().clone();
        Ok(snapshot.map(|(meta, data)| Snapshot { meta, snapshot: Box::new(data) }))
    }
}

impl<M: Machine> RaftSnapshotBuilder<TypeConfig> for StateMachine<M> {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let machine = Arc::clone(&self.machine);
        let build = move || {
            let mut builder = Builder::default();
            let mut sink = |record: bytes::Bytes| {
                builder.add(&record).map_err(|error| machine::Error::new("making a snapshot", error))
            };
            let applied = machine.snapshot(&mut sink)?;
            let (last_log_id, last_membership) = position(applied)?;
            // Two snapshots of one state may differ in their bytes, so each has a name of its own.
            let snapshot_id = format!("{}-{:016x}", last_log_id.unwrap_or_default(), rand::random::<u64>());
            Ok((SnapshotMeta { last_log_id, last_membership, snapshot_id }, builder.finish()))
        };
        let built = tokio::task::spawn_blocking(build).await;
        let built = built.unwrap_or_else(|error| Err(machine::Error::new("making a snapshot", error)));
        let (meta, data) = built.map_err(|error| {
            StorageError::from(StorageIOError::read_snapshot(None, AnyError::new(&error)))
        })?;
        *self.snapshot.lock() = Some((meta.clone(), data.clone()));
        Ok(Snapshot { meta, snapshot: Box::new(data) })
    }
}
