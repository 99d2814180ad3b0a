//! Why an artifact is not here.

use std::io;

use everynode_model::Digest;

use super::fetch::FetchError;
use super::oci::ImageError;

/// In words for whoever wrote the template, or runs the machine.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    /// It did not come.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The machine does not take it.
    #[error("on this node's disk: {0}")]
    Disk(#[from] io::Error),
    /// Something else came.
    #[error("{from} has another content: its digest is sha256:{is}")]
    Digest {
        /// What was asked.
        from: String,
        /// What came.
        is: Digest,
    },
    /// It is longer or shorter than what names it says.
    #[error("{from} is not of the {size} bytes that its descriptor says")]
    Size {
        /// What was asked.
        from: String,
        /// How many it should have.
        size: u64,
    },
    /// An image that is not for this machine, or not one that can be used.
    #[error("{0}")]
    Image(#[from] ImageError),
    /// The machine has no room.
    #[error(
        "not enough room on this node's disk: {needed} bytes are needed and {free} are free, of \
         which {reserve} have to stay so"
    )]
    Space {
        /// How many.
        needed: u64,
        /// How many there are.
        free: u64,
        /// How many of them are not for this.
        reserve: u64,
    },
    /// The machine takes no file of that size.
    #[error("more than {0} bytes, which is all that this node takes (--artifact-max-size)")]
    TooLarge(u64),
    /// The archive is damaged, or has what it must not have.
    #[error("can't be unpacked: {0}")]
    Unpack(String),
    /// Nobody waits for it any more.
    #[error("nobody waits for it any more")]
    Unwanted,
}

impl Problem {
    /// Whether another place to fetch it from may do better.
    pub(super) const fn is_of_its_source(&self) -> bool {
        matches!(self, Self::Fetch(_) | Self::Digest { .. } | Self::Size { .. })
    }
}
