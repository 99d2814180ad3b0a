//! Some measurements of one thing.

use rustix::time::{ClockId, clock_gettime};

/// Microseconds each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<u64>);

impl Samples {
    pub(crate) fn add(&mut self, from: u64, to: u64) {
        self.push(to.saturating_sub(from));
    }

    pub(crate) fn push(&mut self, micros: u64) {
        self.0.push(micros);
        self.0.sort_unstable();
    }

    /// The upper of the two in the middle, where there are two.
    pub(crate) fn median(&self) -> u64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or_default()
    }

    /// What one in a hundred is above; the greatest of fewer.
    fn last_percent(&self) -> u64 {
        let at = (self.0.len() * 99).div_ceil(100);
        self.0.get(at.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// A row of the table, with the ratio to a bare start.
    pub(crate) fn row(&self, name: &str, bare: u64) -> String {
        let [least, most] = [self.0.first(), self.0.last()].map(|sample| sample.copied());
        let cell = |micros: u64| format!("{:.1} ms", fraction(micros, 1000));
        let (median, least, most) = (self.median(), least.unwrap_or(0), most.unwrap_or(0));
        format!(
            "{name:<42}{:>10}{:>10}{:>10}{:>10}{:>8.1}",
            cell(median),
            cell(least),
            cell(self.last_percent()),
            cell(most),
            fraction(median, bare.max(1)),
        )
    }
}

/// By the clock that the witness writes down.
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec * 1_000_000 + now.tv_nsec / 1_000).unwrap_or_default()
}

pub(crate) fn mebi(bytes: u64) -> f64 {
    fraction(bytes, 1 << 20)
}

#[expect(clippy::cast_precision_loss, reason = "for showing, with one digit after the point")]
pub(crate) fn fraction(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}
