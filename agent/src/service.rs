//! The service manager, where there is one: what it is told, and the heart that its watchdog listens
//! to (`sd_notify(3)`, `WatchdogSec=`).
//!
//! A watchdog is of use only where beats mean that the work goes on: so the agent's one loop beats, on
//! its turns, and no thread or task of its own. A loop that stands still is killed and started again,
//! which its pods don't notice.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::Instant;

/// Says something to the service manager, where there is one. One that does not listen is no reason
/// not to work.
pub(crate) fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("cannot tell the service manager: {error}");
    }
}

/// Beats twice in the time after which the watchdog gives up, when its owner gives it the chance.
#[derive(Debug)]
pub struct Heart {
    /// Between two beats, and when the next is due; without a watchdog there is none.
    beats: Option<(Duration, Instant)>,
}

impl Heart {
    /// Of a service whose watchdog is set, by what the service manager left in the environment.
    pub fn of_service() -> Self {
        Self::within(sd_notify::watchdog_enabled())
    }

    /// One that nobody listens to.
    pub fn none() -> Self {
        Self::within(None)
    }

    fn within(limit: Option<Duration>) -> Self {
        let limit = limit.filter(|limit| !limit.is_zero());
        Self { beats: limit.map(|limit| (limit / 2, Instant::now())) }
    }

    /// Beats if it is time to; for every turn of a loop.
    pub(crate) fn beat(&mut self) {
        if self.take_due(Instant::now()) {
            tell(&[NotifyState::Watchdog]);
        }
    }

    /// Waits until the next beat is due: a loop that has nothing else to do is woken for it.
    pub(crate) async fn due(&self) {
        match self.beats {
            Some((_, at)) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Goes on beating while `work` waits for a disk or a peer: one that hangs is no fault of the
    /// agent, and not mended by starting it again.
    pub(crate) async fn through<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            self.beat();
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = self.due() => {}
            }
        }
    }

    fn take_due(&mut self, now: Instant) -> bool {
        let Some((between, at)) = &mut self.beats else { return false };
        let due = *at <= now;
        if due {
            *at = now + *between;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn it_beats_twice_within_the_limit_and_no_more() {
        let mut heart = Heart::within(Some(LIMIT));
        assert!(heart.take_due(Instant::now()), "the first beat is due at once");
        assert!(!heart.take_due(Instant::now()));
        let before = Instant::now();
        heart.due().await;
        assert_eq!(before.elapsed(), LIMIT / 2);
        assert!(heart.take_due(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn it_beats_while_something_is_waited_for() {
        let mut heart = Heart::within(Some(LIMIT));
        let second = Duration::from_secs(1);
        heart.through(tokio::time::sleep(LIMIT * 3 + second)).await;
        let (_, next) = heart.beats.unwrap();
        assert_eq!(next.duration_since(Instant::now()), LIMIT / 2 - second, "it missed a beat");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_watchdog_nothing_is_ever_due() {
        let mut heart = Heart::none();
        assert!(!heart.take_due(Instant::now()));
        assert!(tokio::time::timeout(LIMIT * 1000, heart.due()).await.is_err());
    }
}
