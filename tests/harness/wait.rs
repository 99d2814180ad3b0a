//! Waiting: a condition is looked at again and again, until it holds or its time is over.

use std::time::{Duration, Instant};

use crate::failure::{Failure, Outcome};

/// For what a healthy fleet does within a second or two; long, because a build machine may be busy.
pub const SOON: Duration = Duration::from_secs(30);

/// Between two looks: short beside a process start, long beside a look at `/proc`.
pub const BETWEEN: Duration = Duration::from_millis(40);

/// Looks until `look` succeeds, for at most [`SOON`].
///
/// # Errors
/// The last failure, when the time is over.
pub fn soon<T>(what: &str, look: impl FnMut() -> Outcome<T>) -> Outcome<T> {
    within(SOON, what, look)
}

/// Looks until `look` succeeds, for at most `time`.
///
/// # Errors
/// The last failure, when the time is over.
pub fn within<T>(time: Duration, what: &str, mut look: impl FnMut() -> Outcome<T>) -> Outcome<T> {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(failure) if begun.elapsed() >= time => {
                return Err(Failure::new(format!("not within {time:?}: {what}: {failure}")));
            }
            Err(_) => pause(),
        }
    }
}

/// Looks for the whole of `time` and wants `look` to succeed every time: for things that must
/// *not* happen.
///
/// # Errors
/// The first failure.
pub fn throughout(time: Duration, what: &str, mut look: impl FnMut() -> Outcome) -> Outcome {
    let begun = Instant::now();
    while begun.elapsed() < time {
        look().map_err(|failure| {
            Failure::new(format!("not throughout {time:?}: {what}: {failure}"))
        })?;
        pause();
    }
    Ok(())
}

/// Lets so much time pass: for moments drawn at random, and for nothing that anybody relies on.
#[expect(clippy::disallowed_methods, reason = "scenarios are plain threads, without a runtime")]
pub fn idle(time: Duration) {
    std::thread::sleep(time);
}

fn pause() {
    idle(BETWEEN);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure;

    #[test]
    fn what_comes_true_is_waited_for_and_what_does_not_is_told() {
        let mut looks = 0;
        let found = within(SOON, "three looks", || {
            looks += 1;
            if looks < 3 { Err(failure!("look {looks}")) } else { Ok(looks) }
        });
        assert_eq!(found, Ok(3));
        let never = within(Duration::ZERO, "never", || -> Outcome { Err(failure!("no")) });
        assert!(never.unwrap_err().to_string().ends_with("never: no"));
    }

    #[test]
    fn what_stops_holding_is_told() {
        let mut looks = 0;
        let held = throughout(SOON, "few looks", || {
            looks += 1;
            if looks < 3 { Ok(()) } else { Err(failure!("look {looks}")) }
        });
        assert!(held.is_err());
    }
}
