//! What happened: a digest of it always, and in words when somebody wants to read it.
//!
//! Words cost most of a walk's time, so a walk is told only when it is walked again, and the digest
//! shows that it is the same one.

use std::collections::BTreeMap;
use std::time::Duration;

/// How many lines are kept: the part of a story that leads to its end.
const KEPT: usize = 4000;

/// The log of one walk.
#[derive(Clone, Debug, Default)]
pub struct Log {
    telling: bool,
    lines: Vec<String>,
    digest: u64,
    faults: BTreeMap<&'static str, u64>,
    pub(crate) now: Duration,
}

impl Log {
    /// A log; `telling` where its lines are wanted.
    pub(crate) fn new(telling: bool) -> Self {
        Self { telling, ..Self::default() }
    }

    /// Something happened: what, in numbers, and in words.
    pub(crate) fn say(&mut self, numbers: &[u64], words: impl FnOnce() -> String) {
        self.mix(u64::try_from(self.now.as_millis()).unwrap_or(u64::MAX));
        numbers.iter().for_each(|number| self.mix(*number));
        if self.telling {
            let line = format!("{:>10.3}  {}", self.now.as_secs_f64(), short(&words()));
            self.lines.push(line);
            if self.lines.len() > 2 * KEPT {
                self.lines.drain(..KEPT);
            }
        }
    }

    /// Something was done to the world.
    pub(crate) fn fault(&mut self, kind: &'static str, at: usize) {
        *self.faults.entry(kind).or_default() += 1;
        kind.bytes().for_each(|byte| self.mix(u64::from(byte)));
        self.say(&[at as u64], || format!("* {kind} ({at})"));
    }

    /// The lines, oldest first.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The same for the same story (FNV-1a over its numbers).
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// How often each kind of thing was done to the world.
    pub fn faults(&self) -> &BTreeMap<&'static str, u64> {
        &self.faults
    }

    fn mix(&mut self, number: u64) {
        for byte in number.to_le_bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
        self.digest ^= self.digest >> 29;
    }
}

/// Ids here are small numbers: without their zeros, and without the word for how they are written.
pub(crate) fn short(text: &str) -> String {
    text.replace("00000000-0000-0000-0000-0000000", "#").replace("Hyphenated(#", "(#")
}
