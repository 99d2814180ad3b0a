//! Taken to a rebuilt coordinator: another CA, another cluster, other uids; the same pods.

use everynode_agent_core::PodRef;

use super::*;

impl World {
    /// Another coordinator, and who this machine is there.
    fn rebuilt(&self) -> World {
        let mut other = World::on(Coordinator::new());
        let (cluster, node) =
            (ClusterId::new(Uuid::from_u128(11)), NodeUid::new(Uuid::from_u128(12)));
        let identity = Identity {
            cluster,
            node,
            client: other.coordinator.client(cluster, node),
            ..other.identity.clone()
        };
        other.identity = identity.following(&self.identity);
        other.set = SetUid::new(Uuid::from_u128(13));
        // The machine is the same.
        other.machine = self.machine.clone();
        other.disk = self.disk.clone();
        other.kept = self.kept.clone();
        other
    }
}

async fn runs_on(world: &mut World, session: &mut coordinator::Session, pods: &[PodRef]) {
    assert_eq!(session.hello.accepted, None, "nothing of the former coordinator's is told");
    assert_eq!(world.machine.running(), pods);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(world.machine.running(), pods, "however long there is no order");
}

#[tokio::test(start_paused = true)]
async fn a_running_agent_takes_its_pods_along_and_stops_what_is_not_wanted() {
    let mut world = World::new();
    let (agent, old) = world.with_pods(&["a", "b"]).await;
    let pods = world.machine.running();
    let mut rebuilt = world.rebuilt();
    world.dial.point_to(rebuilt.coordinator.network());
    *world.kept.1.lock().unwrap() = Some(rebuilt.identity.clone());
    let (done, said) = last(agent.ask(Question::Rejoin).await).await;
    assert!(done, "{said}");
    // What the former one says is not heard any more.
    old.say_in_vain(Message::Deregister(v1::Deregister {})).await;
    let mut session = rebuilt.coordinator.welcomed().await;
    runs_on(&mut world, &mut session, &pods).await;
    // Its body is held, by whoever's order it came.
    assert!(session.hello.bodies.contains(&Digest::of(BODY).as_bytes().to_vec()));
    session.say(rebuilt.order(1, &["a"], false)).await;
    assert_eq!(session.ack().await.refused, None);
    session
        .status(|pod| pod.uid == pods[0].uid.to_string() && pod.set_uid == rebuilt.set.to_string())
        .await;
    while world.machine.running().len() > 1 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(world.machine.running(), pods[..1]);
    assert_eq!(world.machine.created().len(), 2, "nothing was made anew");
    let status = report::status_text(&report(&agent).await);
    assert!(status.contains(&rebuilt.identity.cluster.to_string()), "{status}");
    agent.stop().await;

    // And it stays so.
    let agent = rebuilt.start();
    let mut session = rebuilt.coordinator.welcomed().await;
    assert_eq!(session.hello.accepted.as_ref().unwrap().generation, 1);
    assert_eq!(session.hello.places[0].pods[0].set_uid, rebuilt.set.to_string());
    session.say(rebuilt.order(2, &["a"], false)).await;
    assert_eq!(session.ack().await.refused, None);
    assert_eq!((world.machine.running().len(), world.machine.created().len()), (1, 2));
    agent.stop().await;
}

/// The identity was written, and the agent died or was not there: the ledger is still the former.
#[tokio::test(start_paused = true)]
async fn an_agent_that_starts_as_another_goes_on_with_the_former_ledger() {
    let mut world = World::new();
    let (agent, _session) = world.with_pods(&["a", "b"]).await;
    agent.stop().await;
    let pods = world.machine.running();
    let mut rebuilt = world.rebuilt();
    for _ in 0..2 {
        let agent = rebuilt.start();
        let mut session = rebuilt.coordinator.welcomed().await;
        runs_on(&mut world, &mut session, &pods).await;
        agent.stop().await;
    }
    let agent = rebuilt.start();
    let mut session = rebuilt.coordinator.welcomed().await;
    session.say(rebuilt.order(1, &["a", "b"], false)).await;
    assert_eq!(session.ack().await.refused, None);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((world.machine.running(), world.machine.created().len()), (pods, 2));
    agent.stop().await;
}

/// Without its ledger it still knows who it was, and keeps what runs.
#[tokio::test(start_paused = true)]
async fn with_no_ledger_what_the_former_one_started_is_kept() {
    let mut world = World::new();
    let (agent, _session) = world.with_pods(&["a"]).await;
    agent.stop().await;
    let pods = world.machine.running();
    let mut rebuilt = world.rebuilt();
    rebuilt.disk.wipe().await.unwrap();
    let agent = rebuilt.start();
    let mut session = rebuilt.coordinator.welcomed().await;
    assert_eq!(session.hello.troubles[0].code, "LedgerMissing");
    assert_eq!(world.machine.running(), pods);
    session.say(rebuilt.order(1, &["a"], true)).await;
    assert_eq!(session.ack().await.refused, None);
    assert_eq!((world.machine.running(), world.machine.created().len()), (pods, 1));
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_stops_its_pods_is_not_taken_elsewhere() {
    let mut world = World::new();
    let (agent, session) = world.with_pods(&["a"]).await;
    let (done, said) = last(agent.ask(Question::Rejoin).await).await;
    assert!(!done && said.contains("nothing was changed"), "there is no next identity: {said}");
    session.say(Message::Deregister(v1::Deregister {})).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    *world.kept.1.lock().unwrap() = Some(world.rebuilt().identity);
    let (done, said) = last(agent.ask(Question::Rejoin).await).await;
    assert!(!done && said.contains("let it finish"), "{said}");
    agent.stop().await;
}
