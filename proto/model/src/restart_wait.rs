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

/// Not such a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidWait;

/// The value of either annotation.
///
/// # Errors
/// Where it is no duration, or shorter than a second.
pub fn restart_wait(text: &str) -> Result<Duration, InvalidWait> {
    let wait = humantime::parse_duration(text).map_err(|_| InvalidWait)?;
    if wait < SHORTEST { Err(InvalidWait) } else { Ok(wait) }
}

impl fmt::Display for InvalidWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be a duration of a second or more, such as 10s or 5m")
    }
}

impl std::error::Error for InvalidWait {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_a_second_at_least() {
        assert_eq!(restart_wait("1s"), Ok(SHORTEST));
        assert_eq!(restart_wait("1m 30s"), Ok(Duration::from_secs(90)));
        for text in ["", "0s", "999ms", "soon", "10", "-1s"] {
            assert_eq!(restart_wait(text), Err(InvalidWait), "{text}");
        }
    }
}
