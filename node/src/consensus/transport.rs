//! The seam between Raft and the network: bytes to a member, and bytes back.

use std::future::Future;

use bytes::Bytes;
use futures::stream::BoxStream;

use super::types::Member;

/// Why a member gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It could not be reached, or did not answer in time.
    #[error("not reached: {0}")]
    Unreachable(String),
    /// It answered that it will not, or cannot, do this.
    #[error("refused: {0}")]
    Refused(String),
}

/// Who carries Raft's messages.
///
/// # Relies on
///
/// The connection proves to each side who the other is: what comes back is the member's own answer, and the
/// other side's [`Handle`](super::Handle) is given the id of the member that really sent.
///
/// Answers are awaited for a limited time: Raft drops the future when it has waited long enough.
pub trait Transport: Clone + Send + Sync + 'static {
    /// Carries entries, or a heartbeat, to [`Handle::append_entries`](super::Handle::append_entries).
    fn append_entries(
        &self,
        to: u64,
        member: &Member,
        request: Bytes,
    ) -> impl Future<Output = Result<Bytes, Error>> + Send;

    /// Carries a candidate's call to [`Handle::vote`](super::Handle::vote).
    fn vote(
        &self,
        to: u64,
        member: &Member,
        request: Bytes,
    ) -> impl Future<Output = Result<Bytes, Error>> + Send;

    /// Carries a snapshot, in chunks of at most [`CHUNK_BYTES`](super::CHUNK_BYTES), to
    /// [`Handle::install_snapshot`](super::Handle::install_snapshot).
    fn install_snapshot(
        &self,
        to: u64,
        member: &Member,
        chunks: BoxStream<'static, Bytes>,
    ) -> impl Future<Output = Result<Bytes, Error>> + Send;
}
