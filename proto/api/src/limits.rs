//! The largest messages, in bytes, for `max_decoding_message_size` and `max_encoding_message_size`.
//!
//! gRPC's default of 4 MiB holds where nothing is set, and is right for `Cluster`, `Admin` and all answers to parties.

use fairpost_proto::cose;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// A call to `Exchange`: three signed objects, and what protobuf puts around them.
pub const PARTY_REQUEST: usize = 3 * cose::MAX_BYTES + KIB;

/// A message of `Peer`: 4 MiB of commands, and what protobuf puts around 1,024 of them.
pub const PEER: usize = 4 * MIB + 16 * KIB;

/// A message of `Consensus`: a body of 16 MiB, and what protobuf puts around it.
pub const CONSENSUS: usize = 16 * MIB + KIB;
