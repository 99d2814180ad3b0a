//! The service manager, where there is one: what it is told, and its watchdog (`sd_notify(3)`).

use std::time::Duration;

use sd_notify::NotifyState;

/// Says something to the service manager, where there is one. One that does not listen is no reason
/// not to serve.
pub(crate) fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("can't tell the service manager: {error}");
    }
}

/// Keeps the service manager's watchdog quiet for as long as `beats` grows; for ever. Where no watchdog
/// is set, it only waits.
pub(crate) async fn watchdog(beats: impl Fn() -> u64) {
    match sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) {
        Some(limit) => watch(limit / 2, beats, || tell(&[NotifyState::Watchdog])).await,
        None => std::future::pending().await,
    }
}

async fn watch(every: Duration, beats: impl Fn() -> u64, mut calm: impl FnMut()) {
    let mut heard = None;
    loop {
        let beat = beats();
        if heard.replace(beat) != Some(beat) {
            calm();
        }
        tokio::time::sleep(every).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const EVERY: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn it_is_quiet_while_the_loop_beats_and_no_longer() {
        let (beats, told) = (Cell::new(0), Cell::new(0));
        let mut watched = std::pin::pin!(watch(EVERY, || beats.get(), || told.set(told.get() + 1)));
        let offset = Duration::from_secs(1);
        let _ = tokio::time::timeout(offset, &mut watched).await;
        for turn in 2..=4 {
            beats.set(turn);
            let _ = tokio::time::timeout(EVERY, &mut watched).await;
            assert_eq!(told.get(), turn);
        }
        let told_by_then = told.get();
        let _ = tokio::time::timeout(EVERY * 10, &mut watched).await;
        assert_eq!(told.get(), told_by_then, "a loop that hangs was called alive");
    }
}
