//! When a node's certificate is to be renewed: spread over the fleet, so that machines that joined
//! on one day do not call on one day.
//!
//! ```text
//!   issued ──────── half its time ─── each node at its own moment ─── three quarters ──────── over
//!                                                                        │ later: in a while ──┘
//! ```
//!
//! Only the coordinator's clock is asked, and the answer is a span of time: an agent whose clock is
//! wrong renews as well as any other.

use std::time::Duration;

use everynode_model::{Digest, NodeUid, WallTime};
use everynode_transport::{Validity, is_plausible};

use super::authority::BACKDATED;

/// Over how long those are spread that are late: an hour for 100,000 nodes is 28 signatures a second.
const LATE: Duration = Duration::from_secs(60 * 60);

/// How long until the node is to renew a certificate of this `validity`; `None` when a clock that
/// was never set could only make it worse.
pub fn renew_in(validity: Validity, node: NodeUid, now: WallTime) -> Option<Duration> {
    if !is_plausible(now) {
        return None;
    }
    let now = i128::from(now.unix_millis);
    let [begins, ends] = [validity.not_before, validity.not_after].map(|at| i128::from(at) * 1000);
    let issued = begins + BACKDATED.whole_milliseconds();
    // Given by a clock that was never set, or was ahead.
    let ill_dated = !validity.is_plausible() || now < begins;
    let due = issued + part((ends - issued) / 2, node) / 2 + (ends - issued) / 2;
    if due > now && !ill_dated {
        return Some(millis(due - now));
    }
    let left = if ill_dated { i128::MAX } else { (ends - now) / 2 };
    let late = i128::try_from(LATE.as_millis()).unwrap_or(i128::MAX);
    Some(millis(part(left.clamp(0, late), node)))
}

/// A part of `whole`, the same for one node at all times, and evenly spread over many.
fn part(whole: i128, node: NodeUid) -> i128 {
    let digest = Digest::of(node.uuid().as_bytes());
    let [high, low, ..] = digest.as_bytes();
    whole * i128::from(u16::from_be_bytes([*high, *low])) / (1 << 16)
}

fn millis(span: i128) -> Duration {
    Duration::from_millis(u64::try_from(span).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const DAY: i64 = 24 * 60 * 60;
    /// 2026-11-23.
    const ISSUED: i64 = 1_795_392_000;
    const YEAR: Validity = Validity { not_before: ISSUED - 3600, not_after: ISSUED + 365 * DAY };

    fn node(number: u128) -> NodeUid {
        NodeUid::new(Uuid::from_u128(number))
    }

    fn at(seconds: i64) -> WallTime {
        WallTime::from_unix_millis(seconds * 1000)
    }

    fn days(validity: Validity, number: u128, now: i64) -> f64 {
        renew_in(validity, node(number), at(now)).unwrap().as_secs_f64() / DAY as f64
    }

    #[test]
    fn a_fleet_that_joined_at_once_renews_over_a_quarter_of_the_time() {
        let due: Vec<f64> = (0..1000).map(|number| days(YEAR, number, ISSUED)).collect();
        let (half, end) = (365.0 / 2.0, 365.0 * 0.75);
        assert!(due.iter().all(|due| (half..end).contains(due)));
        // In each tenth of that quarter about a tenth of them.
        for tenth in 0..10 {
            let from = half + (end - half) * f64::from(tenth) / 10.0;
            let within = due.iter().filter(|due| (from..from + 9.125).contains(*due)).count();
            assert!((50..=150).contains(&within), "{within} from day {from}");
        }
    }

    #[test]
    fn time_that_passes_and_a_clock_that_is_off_change_little() {
        let due = days(YEAR, 7, ISSUED);
        assert!((days(YEAR, 7, ISSUED + 10 * DAY) - (due - 10.0)).abs() < 0.001);
        for off in [-600, 600] {
            assert!((days(YEAR, 7, ISSUED + off) - due).abs() < 0.01, "{off}");
        }
    }

    #[test]
    fn who_is_late_calls_within_the_hour_and_while_there_is_time() {
        for number in 0..100 {
            let late = renew_in(YEAR, node(number), at(ISSUED + 300 * DAY)).unwrap();
            assert!(late <= LATE);
            let last = renew_in(YEAR, node(number), at(ISSUED + 365 * DAY - 60)).unwrap();
            assert!(last <= Duration::from_secs(30), "{last:?}");
            let over = renew_in(YEAR, node(number), at(ISSUED + 366 * DAY)).unwrap();
            assert_eq!(over, Duration::ZERO);
        }
    }

    #[test]
    fn what_a_wrong_clock_gave_is_renewed_soon_and_not_by_one() {
        let unset = Validity { not_before: 0, not_after: 365 * DAY };
        let ahead = Validity { not_before: ISSUED + 999 * DAY, not_after: ISSUED + 1999 * DAY };
        for ill_dated in [unset, ahead] {
            assert!(renew_in(ill_dated, node(3), at(ISSUED)).unwrap() <= LATE);
        }
        assert_eq!(renew_in(YEAR, node(3), at(1000)), None);
    }

    #[test]
    fn a_short_life_is_renewed_in_time() {
        let short = Validity { not_before: ISSUED - 3600, not_after: ISSUED + 20 };
        for number in 0..100 {
            let due = renew_in(short, node(number), at(ISSUED)).unwrap();
            assert!((10_000..15_000).contains(&due.as_millis()), "{due:?}");
        }
    }
}
