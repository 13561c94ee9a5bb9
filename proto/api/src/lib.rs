//! What goes over the network: the gRPC API, and the pinned TLS that all of it runs on.
//!
//! - [`v1`]: messages, clients and servers, generated from `fairpost/v1/*.proto`. What the `bytes` fields hold is
//!   for `fairpost-proto` to read.
//! - [`tls`]: who is at the other end. Node, SDK and operators' tools share it.
//! - [`limits`]: the largest messages, to be set on clients and servers.

pub mod limits;
pub mod tls;

/// Package `fairpost.v1`.
pub mod v1 {
    tonic::include_proto!("fairpost.v1");
}

/// The metadata that says which Raft a call to `Consensus` is for: the 32 bytes of the cluster's id, or, in a key ceremony, of
/// the proposal's digest.
pub const GROUP: &str = "fairpost-group-bin";

/// The compiled .proto files, for server reflection: a `google.protobuf.FileDescriptorSet`.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("fairpost");

#[cfg(test)]
mod tests {
    use prost::Message as _;

    #[test]
    fn the_descriptors_name_every_service() {
        let set = prost_types::FileDescriptorSet::decode(super::FILE_DESCRIPTOR_SET).unwrap();
        let mut services: Vec<&str> =
            set.file.iter().flat_map(|file| &file.service).map(|service| service.name()).collect();
        services.sort_unstable();
        assert_eq!(services, ["Admin", "Ceremony", "Cluster", "Consensus", "Exchange", "Peer"]);
    }
}
