//! What a container waits between restarts, where its template says so in annotations: Kubernetes has
//! only a setting of each kubelet.

use std::fmt;
use std::time::Duration;

/// The shortest wait but for the first restart, which comes at once.
pub const RESTART_BACKOFF: &str = "everynode.dev/restart-backoff";

/// The longest wait.
pub const RESTART_BACKOFF_MAX: &str = "everynode.dev/restart-backoff-max";

/// What is not less: shorter waits would be a loop.
const SHORTEST: Duration = Duration::from_secs(1);

/// What is not more: a daemon that is away for longer than that is not restarted but forgotten. (A kubelet
/// waits five minutes at most.)
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Not such a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidWait {
    /// It is no duration, or too short or too long.
    OutOfRange,
    /// It is to be the longest, and the shortest is longer.
    ShorterThanFirst,
}

/// The values of both annotations, where they are there: the shortest wait, then the longest.
pub fn restart_waits(
    first: Option<&str>,
    max: Option<&str>,
) -> [Result<Option<Duration>, InvalidWait>; 2] {
    let first = first.map(wait).transpose();
    let max = max.map(wait).transpose();
    match (first, max) {
        (Ok(Some(shortest)), Ok(Some(longest))) if longest < shortest => {
            [first, Err(InvalidWait::ShorterThanFirst)]
        }
        _ => [first, max],
    }
}

fn wait(text: &str) -> Result<Duration, InvalidWait> {
    let wait = humantime::parse_duration(text).map_err(|_| InvalidWait::OutOfRange)?;
    let fits = (SHORTEST..=LONGEST).contains(&wait);
    if fits { Ok(wait) } else { Err(InvalidWait::OutOfRange) }
}

impl fmt::Display for InvalidWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfRange => "must be a duration from 1s to 1h, such as 10s or 5m",
            Self::ShorterThanFirst => "must not be shorter than `everynode.dev/restart-backoff`",
        })
    }
}

impl std::error::Error for InvalidWait {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_from_a_second_to_an_hour() {
        assert_eq!(wait("1s"), Ok(SHORTEST));
        assert_eq!(wait("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(wait("1h"), Ok(LONGEST));
        for text in ["", "0s", "999ms", "soon", "10", "-1s", "1h 1ms", "1000years"] {
            assert_eq!(wait(text), Err(InvalidWait::OutOfRange), "{text}");
        }
    }

    #[test]
    fn the_longest_is_not_shorter_than_the_shortest() {
        let secs = |secs| Ok(Some(Duration::from_secs(secs)));
        assert_eq!(restart_waits(None, Some("2s")), [Ok(None), secs(2)]);
        assert_eq!(restart_waits(Some("2s"), Some("2s")), [secs(2), secs(2)]);
        let shorter = Err(InvalidWait::ShorterThanFirst);
        assert_eq!(restart_waits(Some("3s"), Some("2s")), [secs(3), shorter]);
        let out = || Err(InvalidWait::OutOfRange);
        assert_eq!(restart_waits(Some("2h"), Some("2s")), [out(), secs(2)]);
    }
}
