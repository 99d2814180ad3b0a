//! What pods run that is not on the machine yet: fetched, verified, unpacked, and shown to them
//! read-only.
//!
//! ```text
//!   --artifact-dir ──┐                                             fsync, rename
//!   mirrors ─────────┼─▶ partial/HEX ── SHA-256 ──▶ unpack/NAME ───────────────▶ sha256/NAME
//!   its own address ─┘    (gone on with)            (begun anew)                 (whole, for ever)
//! ```
//!
//! A digest names a directory: what is in `sha256/` is whole and was verified, whenever the agent or
//! the machine died. It comes by one rename and goes by one, into `removed/`, before anything in it is
//! touched. Whoever is root here may change it; nothing watches that, as nothing watches the machine's
//! own programs.
//!
//! - [`fetch`]: one file over HTTP. [`download`]: that file on the disk, gone on with after a break.
//! - [`oci`]: the files that an image of a registry is made of, and whom to ask for them.
//! - [`unpack`]: out of an archive, or of layers. [`store`]: what is here, how it comes here, and
//!   how it goes.
//! - [`kept`]: which of it somebody needs.

mod download;
mod fetch;
mod kept;
mod oci;
mod problem;
mod store;
mod unpack;

use everynode_model::{Artifact, Packing};

pub use kept::Wanted;
pub use oci::Keyring;
pub(crate) use store::FAILED;
pub use store::{Artifacts, Mirror, Settings};

/// The name of the directory of an artifact: the digest of its file, or of an image's index or
/// manifest; and with a file that is not unpacked what that is called there.
pub(crate) fn name(artifact: &Artifact) -> String {
    match (artifact.packing(), &artifact.inside) {
        (Packing::Plain, _) => format!("{}.{}", artifact.digest, plain_name(artifact)),
        (Packing::Image | Packing::Tar | Packing::TarGz, _) => artifact.digest.to_string(),
    }
}

/// What a file that is not unpacked is called in its volume.
fn plain_name(artifact: &Artifact) -> &str {
    artifact.inside.as_deref().unwrap_or_else(|| artifact.file_name())
}
