//! What others may know of Raft on this node, without knowing openraft.

use std::time::Duration;

use openraft::ServerState;
use tokio::time::timeout;

use super::Handle;

/// How Raft is on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// leader, follower, candidate, learner or shutdown.
    pub role: &'static str,
    /// Raft's term.
    pub term: u64,
    /// The number of the leader that this node follows, if it knows one.
    pub leader: Option<u64>,
    /// Index of the last entry in the log; 0 if there is none.
    pub last_log_index: u64,
    /// Index of the last entry that was applied; 0 if there is none.
    pub applied_index: u64,
    /// Index of the last entry that the log has no more; 0 if it was never purged.
    pub purged_index: u64,
}

impl Handle {
    /// How Raft is on this node.
    pub fn status(&self) -> Status {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow();
        Status {
            role: match metrics.state {
                ServerState::Leader => "leader",
                ServerState::Follower => "follower",
                ServerState::Candidate => "candidate",
                ServerState::Learner => "learner",
                ServerState::Shutdown => "shutdown",
            },
            term: metrics.current_term,
            leader: metrics.current_leader,
            last_log_index: metrics.last_log_index.unwrap_or_default(),
            applied_index: metrics.last_applied.map_or(0, |applied| applied.index),
            purged_index: metrics.purged.map_or(0, |purged| purged.index),
        }
    }

    /// Raft's term.
    pub fn term(&self) -> u64 {
        self.raft().metrics().borrow().current_term
    }

    /// Waits until another node leads, or none, but at most so long.
    pub async fn leader_changed(&self, most: Duration) {
        let mut leader = self.watch_leader();
        // Whether it changed or time ran out, or Raft has stopped: the caller looks for itself.
        if let Ok(Err(_)) = timeout(most, leader.changed()).await {
            tokio::time::sleep(most).await;
        }
    }
}
