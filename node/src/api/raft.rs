//! The service that carries Raft's messages, and this node's side of it.
//!
//! What a message may say is for the consensus layer's guard; here it is made sure who says it.

use std::sync::Arc;

use bytes::Bytes;
use fairpost_api::v1::RaftMessage;
use fairpost_api::v1::consensus_server::Consensus;
use futures::StreamExt as _;
use tonic::{Request, Response, Status, Streaming};

use super::auth::Gate;
use super::peers::Peers;
use crate::consensus;
