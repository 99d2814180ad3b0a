//! Certificates are renewed by themselves, and nothing else comes of it.

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

impl World {
    fn key(&self) -> KeyPair {
        KeyPair::try_from(&self.identity.client.key).unwrap()
    }

    /// A certificate for this machine, in an answer that also names these authorities.
    fn renewal(&self, authorities: Vec<Vec<u8>>) -> v1::RenewResponse {
        let Identity { cluster, node, .. } = self.identity;
        v1::RenewResponse {
            certificate_chain: vec![
                self.coordinator.certificate(&self.key(), cluster, node).to_vec(),
            ],
            authorities,
            renew_in_millis: Some(u64::try_from((10 * MINUTE).as_millis()).unwrap()),
        }
    }

    fn authority(&self) -> Vec<u8> {
        self.coordinator.authority().to_vec()
    }
}

fn expired() -> Status {
    refusal(Code::Unauthenticated, "CertificateExpired", "too old")
}

async fn alive(session: &mut coordinator::Session, number: u64) {
    session.say(Message::Probe(v1::Probe { number })).await;
    let answer =
        |said| if let Said::ProbeAnswer(answer) = said { Some(answer.number) } else { None };
    while session.next(answer).await != number {}
}

#[tokio::test(start_paused = true)]
async fn it_is_renewed_when_told_and_the_session_goes_on() {
    let mut world = World::new();
    let agent = world.start();
    let mut session = world.coordinator.welcomed_to_renew(Some(MINUTE)).await;
    let (first, second) = (
        world.renewal(vec![b"a later authority".to_vec(), world.authority()]),
        v1::RenewResponse { renew_in_millis: None, ..world.renewal(vec![world.authority()]) },
    );
    world.coordinator.answer_renewals([Ok(first.clone()), Ok(second)]);
    tokio::time::sleep(MINUTE - Duration::from_secs(1)).await;
    assert_eq!(world.coordinator.renewals(), 0, "not before its time");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.coordinator.renewals(), 1);
    alive(&mut session, 1).await;
    let kept = world.kept.all();
    assert_eq!(kept[0].client.chain[0].to_vec(), first.certificate_chain[0]);
    assert_eq!(kept[0].client.key, world.identity.client.key, "the key stays");
    assert_eq!(kept[0].authorities.len(), 2, "and whom to trust is what was said last");
    // And so on: as the answer said, then no more.
    tokio::time::sleep(30 * MINUTE).await;
    assert_eq!(world.coordinator.renewals(), 2);
    alive(&mut session, 2).await;
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn after_months_off_it_is_renewed_first_and_the_session_follows() {
    let mut world = World::new();
    let (agent, session) = world.with_pods(&["a"]).await;
    session.refuse(Status::unavailable("switched off")).await;
    world.coordinator.answer_renewals([Ok(world.renewal(vec![world.authority()]))]);
    world.coordinator.session().await.refuse(expired()).await;
    let began = tokio::time::Instant::now();
    let session = world.coordinator.welcomed().await;
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    assert_eq!((world.coordinator.renewals(), world.kept.all().len()), (1, 1));
    assert_eq!(session.hello.accepted.as_ref().unwrap().generation, 1);
    assert_eq!(world.machine.created().len(), 1, "nothing was restarted for it");
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_a_renewal_runs_on_and_asks_again() {
    let mut world = World::new();
    let (agent, session) = world.with_pods(&["a"]).await;
    session.refuse(Status::unavailable("switched off")).await;
    // The coordinator can't answer now: that is tried again.
    for count in 1..=3 {
        world.coordinator.session().await.refuse(expired()).await;
        while world.coordinator.renewals() < count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let unknown = refusal(Code::FailedPrecondition, "NodeUnknown", "who?");
    world.coordinator.answer_renewals([Err(unknown)]);
    world.coordinator.session().await.refuse(expired()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((world.machine.running().len(), world.kept.all().len()), (1, 0));
    let status = report::status_text(&report(&agent).await);
    assert!(status.contains("could not be renewed: who?"), "{status}");
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_would_lock_it_out_is_not_taken() {
    let mut world = World::new();
    let good = world.renewal(vec![world.authority()]);
    let Identity { cluster, node, .. } = world.identity;
    let chain = |certificate: CertificateDer<'_>| v1::RenewResponse {
        certificate_chain: vec![certificate.to_vec()],
        ..good.clone()
    };
    let (other_key, other_node) = (KeyPair::generate().unwrap(), NodeUid::new(Uuid::nil()));
    let bad = [
        chain(world.coordinator.certificate(&other_key, cluster, node)),
        chain(world.coordinator.certificate(&world.key(), cluster, other_node)),
        v1::RenewResponse { certificate_chain: Vec::new(), ..good.clone() },
        v1::RenewResponse { authorities: Vec::new(), ..good.clone() },
        v1::RenewResponse { authorities: vec![b"another's".to_vec()], ..good.clone() },
    ];
    let count = bad.len();
    world.coordinator.answer_renewals(bad.into_iter().map(Ok).chain([Ok(good)]));
    let agent = world.start();
    let mut session = world.coordinator.welcomed_to_renew(Some(Duration::ZERO)).await;
    while world.coordinator.renewals() <= count {
        assert_eq!(world.kept.all().len(), 0, "after {}", world.coordinator.renewals());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.kept.all().len(), 1, "the good one is taken in the end");
    alive(&mut session, 1).await;
    agent.stop().await;
}
