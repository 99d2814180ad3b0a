//! Times for people: ages in kubectl's short form, dates as RFC 3339.

use jiff::Timestamp;
use prost_types::Timestamp as ProtoTimestamp;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// Seconds since 1970, now.
pub(crate) fn unix_now() -> i64 {
    Timestamp::now().as_second()
}

/// How long ago `then` was, as kubectl's AGE columns say it; `<unknown>` without a date.
pub(crate) fn age(then: Option<&ProtoTimestamp>, now: i64) -> String {
    then.map_or_else(|| "<unknown>".into(), |then| short(now - then.seconds))
}

/// The same for milliseconds since 1970.
pub(crate) fn age_of_millis(then: i64, now: i64) -> String {
    short(now - then.div_euclid(1000))
}

/// A number of seconds with about two digits' worth of precision (apimachinery's
/// `duration.HumanDuration`): the two largest units while the larger one is small, else one.
pub(crate) fn short(seconds: i64) -> String {
    let two = |large: i64, large_name: &str, small: i64, small_name: &str| match small {
        0 => format!("{large}{large_name}"),
        _ => format!("{large}{large_name}{small}{small_name}"),
    };
    match seconds {
        // A clock that is one second off is no news; one that is further off is.
        ..-1 => "<invalid>".into(),
        -1..0 => "0s".into(),
        _ if seconds < 2 * MINUTE => format!("{seconds}s"),
        _ if seconds < 10 * MINUTE => two(seconds / MINUTE, "m", seconds % MINUTE, "s"),
        _ if seconds < 3 * HOUR => format!("{}m", seconds / MINUTE),
        _ if seconds < 8 * HOUR => two(seconds / HOUR, "h", seconds % HOUR / MINUTE, "m"),
        _ if seconds < 2 * DAY => format!("{}h", seconds / HOUR),
        _ if seconds < 8 * DAY => two(seconds / DAY, "d", seconds % DAY / HOUR, "h"),
        _ if seconds < 2 * YEAR => format!("{}d", seconds / DAY),
        _ if seconds < 8 * YEAR => two(seconds / YEAR, "y", seconds % YEAR / DAY, "d"),
        _ => format!("{}y", seconds / YEAR),
    }
}

/// A date as Kubernetes writes it: RFC 3339 in UTC, whole seconds.
pub(crate) fn rfc3339(at: &ProtoTimestamp) -> String {
    rfc3339_seconds(at.seconds)
}

/// The same for milliseconds since 1970.
pub(crate) fn rfc3339_millis(at: i64) -> String {
    rfc3339_seconds(at.div_euclid(1000))
}

/// The same for seconds since 1970.
pub(crate) fn rfc3339_seconds(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| "<invalid>".into(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_kubectls() {
        for (seconds, expected) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (599, "9m59s"),
            (600, "10m"),
            (659, "10m"),
            (3 * HOUR - 1, "179m"),
            (3 * HOUR, "3h"),
            (3 * HOUR + 61, "3h1m"),
            (8 * HOUR + 61, "8h"),
            (47 * HOUR, "47h"),
            (2 * DAY, "2d"),
            (3 * DAY + 5 * HOUR, "3d5h"),
            (8 * DAY + 5 * HOUR, "8d"),
            (729 * DAY, "729d"),
            (2 * YEAR, "2y"),
            (3 * YEAR + 9 * DAY, "3y9d"),
            (9 * YEAR, "9y"),
        ] {
            assert_eq!(short(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn dates_are_rfc3339() {
        let at = ProtoTimestamp { seconds: 1_795_473_845, nanos: 999 };
        assert_eq!(rfc3339(&at), "2026-11-23T22:44:05Z");
        assert_eq!(age(Some(&at), at.seconds + 61), "61s");
        assert_eq!(age(None, 0), "<unknown>");
        assert_eq!(age_of_millis(-1, 0), "1s");
        assert_eq!(rfc3339(&ProtoTimestamp { seconds: i64::MAX, nanos: 0 }), "<invalid>");
    }
}
