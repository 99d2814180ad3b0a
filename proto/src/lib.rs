//! The contract, as code: what prost and tonic make of the `.proto` files, and the doors through
//! which messages become model types ([`convert`]); and the accounts of streams ([`credit`]).

pub mod codec;
pub mod convert;
pub mod credit;
pub mod error;

/// `everynode.v1`: the agent's stream and the operators' services.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("everynode.v1");

    /// The compiled contract, for server reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/everynode.v1.bin"));
}

/// `everynode.storage.v1`: what a coordinator's store holds.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod storage {
    tonic::include_proto!("everynode.storage.v1");
}
