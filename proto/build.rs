//! Compiles the contract with a protobuf compiler written in Rust: no `protoc` on the machine.

use std::error::Error;
use std::path::PathBuf;

use prost::Message as _;

const FILES: [&str; 4] = [
    "everynode/v1/agent.proto",
    "everynode/v1/streams.proto",
    "everynode/v1/operator.proto",
    "everynode/storage/v1/storage.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=everynode");
    let descriptors = protox::compile(FILES, ["."])?;
    // Kept for reflection; the store's records are nobody's business there.
    let mut public = descriptors.clone();
    public.file.retain(|file| file.package() != "everynode.storage.v1");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("everynode.v1.bin"), public.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_transport(false)
        .codec_path("crate::codec::Codec")
        .compile_fds(descriptors)?;
    Ok(())
}
