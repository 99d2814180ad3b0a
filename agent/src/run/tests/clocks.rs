//! A wrong date here changes nothing but what is shown.

use super::*;

const MINUTES: i64 = 60 * 1000;
/// 2026-11-23.
const NOW: i64 = 1_795_392_000_000;

#[tokio::test(start_paused = true)]
async fn steps_of_the_date_end_no_session_and_restart_no_pod() {
    let mut world = World::new();
    world.clock.set(WallTime::from_unix_millis(NOW));
    let (agent, mut session) = world.with_pods(&["a", "b"]).await;
    let (running, writes) = (world.machine.running(), world.disk.writes());
    let date = |offset: i64| WallTime::from_unix_millis(NOW + offset);
    let steps = [date(-10 * MINUTES), date(10 * MINUTES), WallTime::default(), date(5_000_000)];
    for (number, step) in steps.into_iter().cycle().take(20).enumerate() {
        world.clock.set(step);
        tokio::time::sleep(Duration::from_secs(7)).await;
        session.say(Message::Probe(v1::Probe { number: number as u64 })).await;
        let answer =
            |said| if let Said::ProbeAnswer(answer) = said { Some(answer.number) } else { None };
        assert_eq!(session.next(answer).await, number as u64);
    }
    assert_eq!((world.machine.running(), world.disk.writes()), (running, writes));
    assert_eq!(world.machine.created().len(), 2);
    agent.stop().await;
}

/// The coordinator's certificate was made by a clock that was right, or one that was never set.
#[tokio::test(start_paused = true)]
async fn a_machine_that_wakes_in_1970_or_is_minutes_off_finds_its_coordinator() {
    for made in [NOW, 0] {
        for here in [0, NOW - 10 * MINUTES, NOW, NOW + 10 * MINUTES] {
            let mut world = World::on(Coordinator::with_clock_at(made));
            world.clock.set(WallTime::from_unix_millis(here));
            let agent = world.start();
            let wait = tokio::time::timeout(Duration::from_secs(60), world.coordinator.welcomed());
            wait.await.unwrap_or_else(|_| panic!("no session: made at {made}, here {here}"));
            agent.stop().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_date_that_is_years_off_is_named() {
    let world = World::on(Coordinator::with_clock_at(NOW));
    world.clock.set(WallTime::from_unix_millis(3 * NOW));
    let agent = world.start();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let status = report::status_text(&report(&agent).await);
    assert!(status.contains("not valid by this machine's clock"), "{status}");
    agent.stop().await;
}
