//! The whole shell against a coordinator and a runtime in memory, on a clock that moves when
//! nothing else does.

mod clocks;
mod coordinator;
mod rejoin;
mod renewal;
mod runtime;

use std::sync::Arc;

use everynode_agent_core::Standing;
use everynode_model::{
    Assignment, ClusterId, Generation, Intent, Item, NodeName, NodeUid, ReignId, SetUid, Stamp,
    Term, WallTime,
};
use everynode_proto::error::refusal;
use everynode_proto::v1;
use everynode_proto::v1::agent_message::Message as Said;
use everynode_proto::v1::coordinator_message::Message;
use everynode_transport::JoinToken;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use std::sync::Mutex;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::{Code, Status};
use uuid::Uuid;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use super::*;
use crate::clock::TokioClock;
use crate::identity::IdentityError;
use crate::join::{JoinError, Wish, join};
use crate::ledger::MemoryLedger;
use crate::local::{Answer, Question, Request, Target};
use crate::stage::AllThere;
use coordinator::{Coordinator, Switch};
use runtime::Machine as TestMachine;

const BODY: &[u8] =
    br#"{"spec":{"containers":[{"command":["/bin/c"],"name":"c"}],"runtimeClassName":"process"}}"#;

/// A machine with its disk, in a cluster with one coordinator.
struct World {
    coordinator: Coordinator,
    machine: TestMachine,
    disk: MemoryLedger,
    identity: Identity,
    /// Identities with a renewed certificate, as they were written down.
    kept: Kept,
    dial: Switch,
    /// Of which everything ordered is.
    set: SetUid,
    clock: TokioClock,
}

/// Where identities are written, and the next one.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Identity>>>, Arc<Mutex<Option<Identity>>>);

impl Kept {
    fn all(&self) -> Vec<Identity> {
        self.0.lock().unwrap().clone()
    }
}

impl IdentityStore for Kept {
    fn save(&self, identity: Identity) -> BoxFuture<'static, Result<(), IdentityError>> {
        self.0.lock().unwrap().push(identity);
        async { Ok(()) }.boxed()
    }

    fn succeed(&self) -> BoxFuture<'static, Result<Identity, IdentityError>> {
        let next = self.1.lock().unwrap().take();
        let none = || IdentityError::NoSuccessor { path: "next".into() };
        async move { next.ok_or_else(none) }.boxed()
    }
}

/// An agent that runs.
struct Running {
    task: JoinHandle<Result<Outcome, RunError>>,
    stop: oneshot::Sender<()>,
    ask: mpsc::Sender<Request>,
}

impl World {
    fn new() -> Self {
        Self::on(Coordinator::new())
    }

    fn on(coordinator: Coordinator) -> Self {
        let (cluster, node) =
            (ClusterId::new(Uuid::from_u128(1)), NodeUid::new(Uuid::from_u128(2)));
        let identity = Identity {
            cluster,
            node,
            name: NodeName::new("n").unwrap(),
            client: coordinator.client(cluster, node),
            authorities: vec![coordinator.authority()],
            addresses: vec!["coordinator:1".into()],
            formers: Vec::new(),
        };
        let (machine, disk) = (TestMachine::default(), MemoryLedger::default());
        let clock = TokioClock::starting_at(WallTime::from_unix_millis(0));
        let (kept, set) = (Kept::default(), SetUid::new(Uuid::from_u128(3)));
        let dial = Switch::to(coordinator.network());
        Self { coordinator, machine, disk, identity, kept, dial, set, clock }
    }

    fn start(&self) -> Running {
        let (parts, ask) = self.parts();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(run(parts, async {
            let _ = stopped.await;
        }));
        Running { task, stop, ask }
    }

    fn parts(&self) -> (Parts, mpsc::Sender<Request>) {
        let (runtime, events) = self.machine.open();
        let (ask, requests) = mpsc::channel(1);
        let parts = Parts {
            dial: Arc::new(self.dial.clone()),
            runtime,
            events,
            stage: Arc::new(AllThere),
            ledger: Arc::new(self.disk.clone()),
            identity: self.identity.clone(),
            identities: Arc::new(self.kept.clone()),
            machine: Machine { hostname: "n".into(), ..Machine::default() },
            policy: Policy::default(),
            random: Random::seeded([1, 2]),
            clock: Arc::new(self.clock.clone()),
            requests: Some(requests),
            streams: None,
            heart: Heart::none(),
            vitals: Vitals::default(),
        };
        (parts, ask)
    }

    /// Orders these DaemonSets, and waits until their pods run.
    async fn with_pods(&mut self, names: &[&str]) -> (Running, coordinator::Session) {
        let agent = self.start();
        let mut session = self.coordinator.welcomed().await;
        session.say(self.order(1, names, true)).await;
        assert_eq!(session.ack().await.refused, None);
        for _ in 0..600 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if self.machine.running().len() == names.len() {
                return (agent, session);
            }
        }
        panic!("the pods do not run");
    }

    fn order(&self, generation: u64, names: &[&str], with_body: bool) -> Message {
        let items = names.iter().map(|name| self.item(name, BODY, Intent::Run)).collect();
        self.order_of(generation, items, if with_body { &[BODY] } else { &[] })
    }

    fn item(&self, name: &str, body: &[u8], intent: Intent) -> Item {
        Item {
            key: PodKey::new("default", name).unwrap(),
            set: self.set,
            revision: Digest::of(body),
            replace: 0,
            intent,
            after: Vec::new(),
            surge: None,
            labels: Default::default(),
        }
    }

    /// An order of these items, which comes with these bodies.
    fn order_of(&self, generation: u64, items: Vec<Item>, bodies: &[&[u8]]) -> Message {
        let assignment = Assignment::new(items);
        let stamp = Stamp {
            cluster: self.identity.cluster,
            term: Term(1),
            reign: ReignId::new(Uuid::from_u128(4)),
            generation: Generation(generation),
            digest: assignment.digest(),
        };
        let body = |content: &&[u8]| v1::Body {
            digest: Digest::of(content).as_bytes().to_vec(),
            content: content.to_vec(),
        };
        Message::Assignment(v1::Assignment {
            stamp: Some((&stamp).into()),
            last: true,
            items: assignment.items().map(Into::into).collect(),
            bodies: bodies.iter().map(body).collect(),
            empty_is_meant: assignment.is_empty(),
            ..v1::Assignment::default()
        })
    }
}

impl Running {
    async fn stop(self) {
        self.stop.send(()).unwrap();
        assert_eq!(self.task.await.unwrap().unwrap(), Outcome::Stopped);
    }

    async fn ends(self) -> Outcome {
        tokio::time::timeout(Duration::from_secs(600), self.task).await.unwrap().unwrap().unwrap()
    }

    async fn ask(&self, question: Question) -> mpsc::Receiver<Answer> {
        let (request, answers) = Request::new(question);
        self.ask.send(request).await.unwrap();
        answers
    }
}

async fn last(mut answers: mpsc::Receiver<Answer>) -> (bool, String) {
    loop {
        match answers.recv().await.unwrap() {
            Answer::Text(_) => {}
            Answer::End { done, text } => return (done, text),
        }
    }
}

/// A runtime in memory, in which every program succeeds.
pub(crate) fn fake_runtime() -> Arc<dyn everynode_runtime::Runtime> {
    Arc::new(runtime::Machine::default())
}

/// One whose pods have networks of their own, and how many sockets it was asked for.
pub(crate) fn fake_networks() -> (Arc<dyn everynode_runtime::Runtime>, impl Fn() -> usize) {
    let machine = runtime::Machine::default();
    machine.give_networks();
    (Arc::new(machine.clone()), move || machine.sockets())
}

#[tokio::test(start_paused = true)]
async fn an_order_is_written_acknowledged_brought_about_and_reported() {
    let mut world = World::new();
    let agent = world.start();
    let mut session = world.coordinator.welcomed().await;
    assert_eq!((session.hello.accepted.as_ref(), session.hello.places.len()), (None, 0));
    assert!(session.hello.features.contains(&"runtime/process".to_owned()));
    session.say(world.order(1, &["a", "b"], true)).await;
    let ack = session.ack().await;
    assert_eq!((ack.refused, ack.stamp.unwrap().generation), (None, 1));
    assert_eq!(world.disk.synced().unwrap().assignment.len(), 2);
    session.status(|pod| pod.ready && pod.phase() == v1::PodPhase::Running).await;
    let created = world.machine.created();
    assert_eq!(created.len(), 2);
    assert_ne!(created[0].pod.uid, created[1].pod.uid);
    assert_eq!(created[0].spec.containers[0].argv, ["/bin/c"]);
    agent.stop().await;
    assert_eq!(world.machine.running().len(), 2, "pods run on");
}

#[tokio::test(start_paused = true)]
async fn a_restarted_agent_restarts_nothing_and_says_what_it_holds() {
    let mut world = World::new();
    let (agent, _session) = world.with_pods(&["a"]).await;
    agent.stop().await;
    let agent = world.start();
    let mut session = world.coordinator.welcomed().await;
    let hello = &session.hello;
    assert_eq!(hello.accepted.as_ref().unwrap().generation, 1);
    assert_eq!(hello.places[0].pods[0].uid, world.machine.created()[0].pod.uid.to_string());
    assert_eq!(hello.bodies, [Digest::of(BODY).as_bytes().to_vec()]);
    assert_eq!(hello.last_session, "6ba7b810-9dad-41d1-80b4-00c04fd430c8");
    // The body need not come again.
    session.say(world.order(2, &["a"], false)).await;
    assert_eq!(session.ack().await.refused, None);
    assert_eq!(world.machine.created().len(), 1);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_reboot_without_a_coordinator_everything_comes_back() {
    let mut world = World::new();
    let (agent, _session) = world.with_pods(&["a", "b"]).await;
    agent.stop().await;
    world.coordinator.cut(true);
    world.machine = TestMachine::default();
    let writes = world.disk.writes();
    let agent = world.start();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!((world.machine.created().len(), world.machine.running().len()), (2, 2));
    assert_eq!(world.disk.writes(), writes, "a full disk must not keep them from it");
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_goes_and_comes_changes_nothing() {
    let mut world = World::new();
    let (agent, session) = world.with_pods(&["a"]).await;
    let writes = world.disk.writes();
    world.coordinator.cut(true);
    drop(session);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(world.disk.writes(), writes);
    world.coordinator.cut(false);
    let _session = world.coordinator.welcomed().await;
    assert_eq!(world.machine.created().len(), 1);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_start_that_hangs_keeps_nobody_waiting() {
    let mut world = World::new();
    world.machine.hang();
    let agent = world.start();
    let mut session = world.coordinator.welcomed().await;
    session.say(world.order(1, &["a"], true)).await;
    session.ack().await;
    session.say(Message::Probe(v1::Probe { number: 9 })).await;
    let number =
        |said| if let Said::ProbeAnswer(answer) = said { Some(answer.number) } else { None };
    assert_eq!(session.next(number).await, 9);
    let beat = |said| matches!(said, Said::Heartbeat(_)).then_some(());
    let before = tokio::time::Instant::now();
    session.next(beat).await;
    session.next(beat).await;
    let (low, high) = (Duration::from_secs(9), Duration::from_secs(22));
    assert!((low..high).contains(&before.elapsed()), "{:?}", before.elapsed());
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_created_while_a_kill_in_its_place_goes_on() {
    let mut world = World::new();
    let (agent, _session) = world.with_pods(&["a"]).await;
    let old = world.machine.running();
    world.machine.kill_slowly();
    world.machine.lose_supervisor(&old[0]);
    while world.machine.created().len() < 2 || world.machine.running().is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_ne!(world.machine.running(), old);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_goes_down_stops_everything_and_the_next_boot_brings_it_back() {
    let mut world = World::new();
    let (agent, mut session) = world.with_pods(&["a", "b"]).await;
    let (done, text) = last(agent.ask(Question::Shutdown).await).await;
    assert!(done, "{text}");
    assert!(world.machine.running().is_empty());
    assert_eq!(agent.ends().await, Outcome::Down);
    session.status(|pod| pod.reason.as_ref().is_some_and(|why| why.code == "NodeShutdown")).await;
    assert_eq!(world.disk.synced().unwrap().standing, Standing::Active);
    let agent = world.start();
    while world.machine.running().len() < 2 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_an_agent_left_running_is_stopped_without_it_and_without_a_coordinator() {
    let mut world = World::new();
    let (agent, session) = world.with_pods(&["a", "b"]).await;
    agent.stop().await;
    drop(session);
    world.coordinator.cut(true);
    // One of the two is dead by then: it must not be brought back to be stopped.
    world.machine.die_unseen(&world.machine.running()[0]);
    let (parts, _ask) = world.parts();
    let down = go_down(parts, std::future::pending());
    let down = tokio::time::timeout(Duration::from_secs(600), down).await.unwrap().unwrap();
    assert_eq!(down, Outcome::Down);
    assert!(world.machine.running().is_empty());
    assert_eq!(world.machine.created().len(), 2, "nothing was made only to be stopped");
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_was_removed_stops_says_so_and_ends() {
    let mut world = World::new();
    let (agent, mut session) = world.with_pods(&["a", "b"]).await;
    session.say(Message::Deregister(v1::Deregister {})).await;
    let empty = |said| matches!(said, Said::Leave(v1::Leave { empty: true })).then_some(());
    session.next(empty).await;
    assert!(world.machine.running().is_empty());
    assert_ne!(world.disk.synced().unwrap().standing, Standing::Active);
    session.say(Message::Farewell(v1::Farewell {})).await;
    assert_eq!(agent.ends().await, Outcome::Left);
    assert_eq!(world.disk.synced().unwrap().standing, Standing::Left);
}

#[tokio::test(start_paused = true)]
async fn unknown_is_not_removed_but_nobody_waits_for_a_leaver() {
    let mut world = World::new();
    let (agent, session) = world.with_pods(&["a"]).await;
    drop(session);
    let unknown = || refusal(Code::FailedPrecondition, "NodeUnknown", "who?");
    world.coordinator.session().await.refuse(unknown()).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(world.machine.running().len(), 1);
    let status = report::status_text(&report(&agent).await);
    assert!(status.contains("who? (FailedPrecondition); what runs here runs on"), "{status}");

    let answers = agent.ask(Question::Leave).await;
    let refused = async {
        loop {
            world.coordinator.session().await.refuse(unknown()).await;
        }
    };
    let left = tokio::select! {
        left = agent.ends() => left,
        () = refused => unreachable!(),
    };
    assert_eq!(left, Outcome::Left);
    assert!(world.machine.running().is_empty());
    drop(answers);
}

#[tokio::test(start_paused = true)]
async fn leaving_tells_the_coordinator_and_whoever_asked() {
    let mut world = World::new();
    let (agent, mut session) = world.with_pods(&["a"]).await;
    let answers = agent.ask(Question::Leave).await;
    let (answer, ()) = tokio::join!(last(answers), async {
        let leave = |said| if let Said::Leave(leave) = said { Some(leave.empty) } else { None };
        while !session.next(leave).await {}
        session.say(Message::Farewell(v1::Farewell {})).await;
    });
    assert_eq!(answer, (true, "this machine has left its cluster".into()));
    assert_eq!(agent.ends().await, Outcome::Left);
}

#[tokio::test(start_paused = true)]
async fn leaving_without_a_coordinator_tears_down_says_so_and_confirms_later() {
    let mut world = World::new();
    let (agent, session) = world.with_pods(&["a"]).await;
    world.coordinator.cut(true);
    drop(session);
    let (done, text) = last(agent.ask(Question::Leave).await).await;
    assert!(!done && text.contains("no coordinator is in reach"), "{text}");
    assert!(world.machine.running().is_empty());
    agent.stop().await;
    // It is not forgotten.
    let agent = world.start();
    world.coordinator.cut(false);
    let mut session = world.coordinator.welcomed().await;
    let empty = |said| matches!(said, Said::Leave(v1::Leave { empty: true })).then_some(());
    session.next(empty).await;
    session.say(Message::Farewell(v1::Farewell {})).await;
    assert_eq!(agent.ends().await, Outcome::Left);
    assert_eq!(world.machine.created().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_order_without_its_body_is_asked_for_again() {
    let mut world = World::new();
    let agent = world.start();
    let mut session = world.coordinator.welcomed().await;
    session.say(world.order(1, &["a"], false)).await;
    let resend = |said| if let Said::Resend(resend) = said { resend.reason } else { None };
    assert_eq!(session.next(resend).await.code, "BodyMissing");
    session.say(world.order(1, &["a"], true)).await;
    assert_eq!(session.ack().await.refused, None);
    agent.stop().await;
}

/// The body of a template that reads a ConfigMap, and the content that it names.
fn reader() -> (Vec<u8>, Vec<u8>) {
    let blob = [[b'.'; 32].as_slice(), br#"{"data":{"k":"v"}}"#].concat();
    let from = serde_json::json!({"configMapKeyRef": {"name": "m", "key": "k"}});
    let body = serde_json::json!({
        "config": [{"kind": "ConfigMap", "name": "m", "blob": Digest::of(&blob).to_string()}],
        "spec": {"runtimeClassName": "process", "containers": [
            {"name": "c", "command": ["/bin/c"], "env": [{"name": "K", "valueFrom": from}]}]},
    });
    (body.to_string().into_bytes(), blob)
}

#[tokio::test(start_paused = true)]
async fn what_is_only_kept_needs_no_content() {
    let mut world = World::new();
    let (body, _) = reader();
    let order = world.order_of(1, vec![world.item("a", &body, Intent::Keep)], &[&body]);
    let agent = world.start();
    let mut session = world.coordinator.welcomed().await;
    session.say(order).await;
    assert_eq!(session.ack().await.refused, None);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn content_comes_with_the_body_that_names_it_and_stays_with_it() {
    let mut world = World::new();
    let (body, blob) = reader();
    let item = || vec![world.item("a", &body, Intent::Run)];
    let [lacking, whole] =
        [&[&body[..]][..], &[&body, &blob]].map(|bodies| world.order_of(1, item(), bodies));
    let agent = world.start();
    let mut session = world.coordinator.welcomed().await;
    session.say(lacking).await;
    let resend = |said| if let Said::Resend(resend) = said { resend.reason } else { None };
    assert_eq!(session.next(resend).await.code, "BodyMissing");
    session.say(whole).await;
    assert_eq!(session.ack().await.refused, None);
    session.status(|pod| pod.ready).await;
    agent.stop().await;

    // After a reboot it is made again of what is on the disk.
    world.machine = TestMachine::default();
    let agent = world.start();
    let mut session = world.coordinator.welcomed().await;
    let held: Vec<_> = [&body, &blob].map(|it| Digest::of(it).as_bytes().to_vec()).into();
    assert!(held.iter().all(|digest| session.hello.bodies.contains(digest)));
    session.status(|pod| pod.ready).await;
    let env = world.machine.created()[0].spec.containers[0].env.clone();
    assert!(env.contains(&("K".to_owned(), "v".to_owned())), "{env:?}");
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_template_of_a_pod_that_lives_is_kept_whatever_is_ordered() {
    let mut world = World::new();
    let (agent, mut session) = world.with_pods(&["a"]).await;
    // It keeps what it has, and would get another one now.
    let keep = vec![world.item("a", b"another", Intent::Keep)];
    session.say(world.order_of(2, keep, &[])).await;
    assert_eq!(session.ack().await.refused, None);
    agent.stop().await;
    let agent = world.start();
    let session = world.coordinator.welcomed().await;
    assert_eq!(session.hello.bodies, [Digest::of(BODY).as_bytes().to_vec()]);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn templates_that_nothing_names_any_more_go_within_a_session() {
    let mut world = World::new();
    let (agent, mut session) = world.with_pods(&["a"]).await;
    for generation in 2..20 {
        let body = format!("template {generation}");
        let item = world.item("a", body.as_bytes(), Intent::Run);
        session.say(world.order_of(generation, vec![item], &[body.as_bytes()])).await;
        assert_eq!(session.ack().await.refused, None);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    // That of the pod that lives, and that of the newest order.
    let held = world.disk.bodies().await;
    assert_eq!(held, [Digest::of(BODY), Digest::of(b"template 19")].into());
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_order_that_can_not_be_written_is_refused_and_asked_for_again() {
    let mut world = World::new();
    let (agent, mut session) = world.with_pods(&["a"]).await;
    world.disk.set_failing(true);
    session.say(world.order(2, &[], false)).await;
    assert_eq!(session.ack().await.refused.unwrap().code, "LedgerNotWritten");
    assert_eq!(world.machine.running().len(), 1, "only what is written counts");
    world.disk.set_failing(false);
    let resend = |said| if let Said::Resend(resend) = said { resend.reason } else { None };
    session.next(resend).await;
    session.say(world.order(2, &[], false)).await;
    assert_eq!(session.ack().await.refused, None);
    agent.stop().await;
}

async fn report(agent: &Running) -> report::Report {
    let (done, text) = last(agent.ask(Question::Report).await).await;
    assert!(done);
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(start_paused = true)]
async fn people_are_told_what_runs() {
    let mut world = World::new();
    let (agent, _session) = world.with_pods(&["a"]).await;
    let report = report(&agent).await;
    let status = report::status_text(&report);
    assert!(status.contains("open, with coordinator:1"), "{status}");
    let pods = report::pods_table(report.pods.iter(), false, 0);
    assert!(pods.lines().nth(1).is_some_and(|line| line.starts_with("default     a")), "{pods}");
    assert_eq!(report::why_text(&report), "everything that is to run here runs\n");
    agent.stop().await;
}

fn hold(name: &str, stop: bool) -> Question {
    let target = Target::Pod("default".into(), name.into());
    let (by, reason) = ("root".into(), "a\nlook".into());
    Question::Hold { target, stop, by, reason, seconds: Some(60) }
}

#[tokio::test(start_paused = true)]
async fn what_is_held_follows_no_order_until_it_is_released() {
    let mut world = World::new();
    let (agent, mut session) = world.with_pods(&["a"]).await;
    let before = world.machine.running();
    let (done, text) = last(agent.ask(hold("a", false)).await).await;
    assert!(done && text.starts_with("default/a held until "), "{text}");
    assert_eq!(world.disk.synced().unwrap().holds.places.len(), 1, "said once it is written");
    session.status(|pod| pod.reason.as_ref().is_some_and(|it| it.code == "HeldOnNode")).await;
    let report = report(&agent).await;
    assert!(report::status_text(&report).contains("default/a: held as it is at the node by root"));
    assert!(report.why[0].words.message.ends_with(": a look"), "{:?}", report.why);

    session.say(world.order(2, &[], false)).await;
    assert_eq!(session.ack().await.refused, None, "an order is accepted");
    // Across a restart, too; its template is still there for a reboot.
    agent.stop().await;
    let agent = world.start();
    let session = world.coordinator.welcomed().await;
    assert_eq!(session.hello.bodies.len(), 1);
    assert_eq!(world.machine.running(), before);

    let target = Target::Pod("default".into(), "a".into());
    let (done, text) = last(agent.ask(Question::Release { target }).await).await;
    assert_eq!((done, text.as_str()), (true, "default/a released"));
    while !world.machine.running().is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_stops_is_answered_when_it_is_down() {
    let mut world = World::new();
    let (agent, _session) = world.with_pods(&["a", "b"]).await;
    let (done, text) = last(agent.ask(hold("a", true)).await).await;
    assert_eq!((done, text.as_str()), (true, "default/a stopped"));
    assert_eq!(world.machine.running().len(), 1);
    // It ends by itself.
    while world.machine.running().len() < 2 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_can_not_be_written_or_is_of_nothing_is_refused() {
    let mut world = World::new();
    let (agent, _session) = world.with_pods(&["a"]).await;
    let (done, text) = last(agent.ask(hold("typo", false)).await).await;
    assert!(!done && text.contains("NotFound"), "{text}");
    world.disk.set_failing(true);
    let (done, text) = last(agent.ask(hold("a", true)).await).await;
    assert!(!done && text.contains("LedgerNotWritten"), "{text}");
    assert_eq!(world.machine.running().len(), 1, "and nothing was stopped");
    world.disk.set_failing(false);
    let (done, text) = last(agent.ask(Question::Release { target: Target::All }).await).await;
    assert_eq!((done, text.as_str()), (true, "nothing is held on this node"));
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn joining_is_tried_until_it_is_answered_with_one_key_and_refusals_end_it() {
    let coordinator = Coordinator::new();
    let wish = Wish {
        token: JoinToken {
            id: "0123456789".into(),
            secret: "ab".repeat(32),
            authority: Digest::of(&coordinator.authority()),
        },
        name: NodeName::new("n").unwrap(),
        labels: [("a".to_owned(), "b".to_owned())].into(),
        taints: vec!["a=b:NoExecute".parse().unwrap()],
        machine_id: "m".into(),
        addresses: vec!["coordinator:1".into()],
    };
    let key = KeyPair::generate().unwrap();
    let mut random = Random::seeded([1, 2]);
    let busy = Status::unavailable("starting");
    let answer = v1::JoinResponse {
        node_uid: Uuid::from_u128(2).to_string(),
        cluster_id: Uuid::from_u128(1).to_string(),
        certificate_chain: vec![vec![1]],
        authorities: vec![coordinator.authority().to_vec()],
        node_name: "n".into(),
    };
    coordinator.answer_joins([Err(busy), Ok(answer)]);
    let network = coordinator.network();
    let clock = TokioClock::starting_at(WallTime::default());
    let identity = join(&*network, &clock, &wish, &key, &mut random).await.unwrap();
    assert_eq!((identity.name.as_str(), identity.node.uuid()), ("n", Uuid::from_u128(2)));
    let asked = coordinator.joins();
    let [first, second] = asked.as_slice() else { panic!("two attempts") };
    assert_eq!((first.token_id.as_str(), first.taints.len()), ("0123456789", 1));
    let public_key = |request: &v1::JoinRequest| {
        let request = &request.certificate_request;
        let (_, request) = X509CertificationRequest::from_der(request).unwrap();
        request.certification_request_info.subject_pki.subject_public_key.data.to_vec()
    };
    assert_eq!(public_key(first), public_key(second));

    coordinator.answer_joins([Err(refusal(Code::PermissionDenied, "TokenExpired", "too late"))]);
    let refused = join(&*network, &clock, &wish, &key, &mut random).await.unwrap_err();
    assert!(refused.to_string().contains("too late (TokenExpired): make another"), "{refused}");
    let other = JoinToken { authority: Digest::of(b"x"), ..wish.token.clone() };
    let wish = Wish { token: other, ..wish };
    let refused = join(&*network, &clock, &wish, &key, &mut random).await;
    assert!(matches!(refused, Err(JoinError::Connect(_))), "another CA's coordinator");
}

#[tokio::test(start_paused = true)]
async fn with_no_usable_ledger_what_runs_is_kept_and_the_next_order_counts() {
    let mut world = World::new();
    let (agent, _session) = world.with_pods(&["a", "b"]).await;
    agent.stop().await;
    world.disk.wipe().await.unwrap();
    let before = world.machine.running();
    let agent = world.start();
    let mut session = world.coordinator.welcomed().await;
    assert_eq!(session.hello.accepted, None);
    assert_eq!(session.hello.troubles[0].code, "LedgerMissing");
    assert_eq!(report(&agent).await.troubles[0].reason, "LedgerMissing");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(world.machine.running(), before);
    let kept = world.disk.synced().unwrap();
    let kept: Vec<_> = kept.assignment.items().map(|item| (item.key.name(), item.intent)).collect();
    assert_eq!(kept, [("a", Intent::Keep), ("b", Intent::Keep)], "written, for the next reboot");

    session.say(world.order(7, &["a"], true)).await;
    assert_eq!(session.ack().await.refused, None);
    while world.machine.running().len() > 1 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(world.machine.created().len(), 2);
    agent.stop().await;
    // It was told once.
    let agent = world.start();
    assert!(world.coordinator.welcomed().await.hello.troubles.is_empty());
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_ledger_of_another_machine_is_none() {
    let mut world = World::new();
    let (agent, _session) = world.with_pods(&["a"]).await;
    agent.stop().await;
    let ledger = world.disk.synced().unwrap();
    let node = NodeUid::new(Uuid::from_u128(9));
    world.disk.save(everynode_agent_core::Ledger { node, ..ledger }).await.unwrap();
    let agent = world.start();
    let session = world.coordinator.welcomed().await;
    assert_eq!(session.hello.troubles[0].code, "LedgerOfAnother");
    assert_eq!(world.machine.running().len(), 1);
    agent.stop().await;
}
