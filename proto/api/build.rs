//! Generates the gRPC code from `fairpost/v1/*.proto`, with a compiler written in Rust: nothing to install.

use std::path::Path;
use std::{env, error, fs};

use prost::Message as _;

const FILES: [&str; 6] = [
    "fairpost/v1/admin.proto",
    "fairpost/v1/ceremony.proto",
    "fairpost/v1/cluster.proto",
    "fairpost/v1/consensus.proto",
    "fairpost/v1/exchange.proto",
    "fairpost/v1/peer.proto",
];

fn main() -> Result<(), Box<dyn error::Error>> {
    println!("cargo::rerun-if-changed=fairpost");
    let descriptors = protox::compile(FILES, ["."])?;
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("fairpost.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
