//! Randomness, behind one seam: the kernel's in production, a seed's in simulation.
//!
//! Only ids and secrets are drawn here. The keys of certificates always come from the crypto
//! library's own source.

use std::sync::atomic::{AtomicU64, Ordering};

use everynode_model::Digest;
use uuid::Uuid;

/// Where ids and secrets are drawn from.
#[derive(Debug)]
pub struct Entropy(Source);

#[derive(Debug)]
enum Source {
    Kernel,
    /// SHA-256 over the seed and a counter: the same draws in every run with the same seed.
    Seed {
        seed: u64,
        drawn: AtomicU64,
    },
}

/// The kernel gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gives no random numbers")]
pub struct NoEntropy(#[source] getrandom::Error);

impl Entropy {
    /// The kernel's.
    pub const fn system() -> Self {
        Self(Source::Kernel)
    }

    /// One that repeats itself. For simulation only: whoever knows the seed knows every secret.
    pub const fn seeded(seed: u64) -> Self {
        Self(Source::Seed { seed, drawn: AtomicU64::new(0) })
    }

    /// 32 random bytes.
    ///
    /// # Errors
    /// When the kernel gives none.
    pub fn bytes(&self) -> Result<[u8; 32], NoEntropy> {
        match &self.0 {
            Source::Kernel => {
                let mut bytes = [0; 32];
                getrandom::fill(&mut bytes).map_err(NoEntropy)?;
                Ok(bytes)
            }
            Source::Seed { seed, drawn } => {
                let count = drawn.fetch_add(1, Ordering::Relaxed);
                let parts = [seed.to_be_bytes(), count.to_be_bytes()];
                Ok(*Digest::of_parts(parts.iter().map(<[u8; 8]>::as_slice)).as_bytes())
            }
        }
    }

    /// A random UUID (version 4).
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
    pub fn uuid(&self) -> Result<Uuid, NoEntropy> {
        let mut half = [0; 16];
        half.copy_from_slice(&self.bytes()?[..16]);
        Ok(uuid::Builder::from_random_bytes(half).into_uuid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_itself_and_the_kernel_does_not() {
        let draws = |entropy: Entropy| [entropy.uuid().unwrap(), entropy.uuid().unwrap()];
        assert_eq!(draws(Entropy::seeded(7)), draws(Entropy::seeded(7)));
        assert_ne!(draws(Entropy::seeded(7)), draws(Entropy::seeded(8)));
        let [one, other] = draws(Entropy::seeded(7));
        assert_ne!(one, other);
        assert_ne!(draws(Entropy::system()), draws(Entropy::system()));
    }
}
