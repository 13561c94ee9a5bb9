//! Has a leader whose clock is wrong, or that too many suspect, make room for another.
//!
//! openraft has no way to step down. But a leader that sends no heartbeat is replaced as one that died, and it follows
//! the next one as soon as it hears from it.

use fairpost_proto::ids::Timestamp;
use openraft::ServerState;
use tracing::{info, warn};

use super::clocks::Unfit;
use super::handle::Handle;

/// Watches until Raft stops.
pub(super) async fn watch(handle: Handle) {
    let mut metrics = handle.raft().metrics();
    let mut tail = Tail::default();
    let mut held = false;
    loop {
        let unfit = if follows(&handle) { None } else { unfit(&handle, &mut tail) };
        if unfit.is_some() != held {
            held = unfit.is_some();
            match &unfit {
                Some(unfit) => warn!(%unfit, "this node must not lead"),
                None => info!("this node may lead again"),
            }
        }
        let raft = handle.raft().runtime_config();
        raft.heartbeat(unfit.is_none());
        let stands = !matches!(unfit, Some(Unfit::Log { .. })) && handle.recovering().is_none();
        raft.elect(stands && handle.inner().doubts.check_candidate(handle.id(), handle.term()).is_ok());
        tokio::select! {
            _ = metrics.wait_for(|metrics| metrics.state == ServerState::Shutdown) => return,
            () = tokio::time::sleep(handle.options().heartbeat) => {}
        }
    }
}

fn unfit(handle: &Handle, tail: &mut Tail) -> Option<Unfit> {
    let clock = handle.clocks().unfit(tail.latest(handle));
    clock.or_else(|| handle.is_suspected().then_some(Unfit::Suspected))
}

/// Whether another node leads: then it does not matter.
fn follows(handle: &Handle) -> bool {
    handle.leader().is_some_and(|leader| leader.id != handle.id())
}

/// The end of the log that is not applied yet, read once.
#[derive(Default)]
struct Tail {
    read: Option<(u64, Option<u64>, Option<u64>)>,
    latest: Option<Timestamp>,
}

impl Tail {
    /// The latest time in it.
    fn latest(&mut self, handle: &Handle) -> Option<Timestamp> {
        let (now, applied) = {
            let metrics = handle.raft().metrics();
            let metrics = metrics.borrow();
            let applied = metrics.last_applied.map(|applied| applied.index);
            ((metrics.current_term, applied, metrics.last_log_index), applied)
        };
        if self.read != Some(now) {
            let from = applied.map_or(0, |applied| applied.saturating_add(1));
            // A log that can't be read stops the node elsewhere.
            self.latest = handle.log().latest_stamp(from).unwrap_or_default();
            self.read = Some(now);
        }
        self.latest
    }
}
