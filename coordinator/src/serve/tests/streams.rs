//! Streams from nodes, with agents that are played here.

use everynode_proto::credit::{MAX_PIECE, SMALLEST, WINDOW};
use everynode_proto::v1::coordinator_message::Message;
use everynode_proto::v1::exec_input::Message as Typed;
use everynode_proto::v1::logs_input::Message as Asked;
use everynode_proto::v1::node_input::Message as Heard;
use everynode_proto::v1::node_output::Message as Said;
use everynode_proto::v1::pod_output::Message as Shown;
use everynode_proto::v1::streams_client::StreamsClient;
use everynode_proto::v1::{
    ExecInput, ExecOptions, ExecRequest, LogOptions, LogsInput, LogsRequest, NodeInput, NodeOutput,
    PodOutput, StdinEnd, TerminalSize,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::identity::{Node, Session, reason};
use super::*;

const POD: &str = "00000000-0000-0000-0000-0000000000aa";

/// A machine with a session, on which a pod runs; and a person.
struct World {
    coordinator: Coordinator,
    node: Node,
    session: Session,
    mark: String,
    pods: PodsClient<Channel>,
    pod: String,
}

/// The agent's end of a stream.
struct NodeEnd {
    say: mpsc::Sender<NodeOutput>,
    hears: Streaming<NodeInput>,
}

/// The person's.
struct CallerEnd {
    say: mpsc::Sender<LogsInput>,
    sees: Streaming<PodOutput>,
}

impl World {
    async fn new(features: &[&str]) -> Self {
        let coordinator = coordinator(&MemoryStore::new()).await;
        let channel = coordinator.user(Role::Viewer).await;
        let mut sets = DaemonSetsClient::new(coordinator.user(Role::Admin).await);
        let set = meta(sets.create(put("x", "1")).await.unwrap().into_inner().daemon_set);
        let node = coordinator.join("a").await;
        let hello = v1::Hello {
            features: features.iter().map(|&feature| feature.to_owned()).collect(),
            places: vec![place(&set.uid)],
            ..v1::Hello::default()
        };
        let mut session = coordinator.open_with(&node, hello).await.unwrap();
        let mark = session.welcome().await.session;
        assert!(matches!(session.next().await, Message::Assignment(_)));
        let mut pods = PodsClient::new(channel);
        let all = pods.list(v1::ListRequest::default()).await.unwrap().into_inner().items;
        let pod = all[0].metadata.as_ref().unwrap().name.clone();
        Self { coordinator, node, session, mark, pods, pod }
    }

    /// Asks for the logs of a container; the answer comes when the agent has attached.
    fn ask(&self, container: &str) -> impl Future<Output = Result<CallerEnd, Status>> + use<> {
        let mut pods = self.pods.clone();
        let request = LogsRequest {
            name: self.pod.clone(),
            container: container.into(),
            options: Some(LogOptions { follow: true, ..LogOptions::default() }),
            ..LogsRequest::default()
        };
        async move {
            let (say, said) = mpsc::channel(8);
            say.send(LogsInput { message: Some(Asked::Open(request)) }).await.unwrap();
            let sees = pods.logs(ReceiverStream::new(said)).await?.into_inner();
            Ok(CallerEnd { say, sees })
        }
    }

    async fn asked(&mut self) -> v1::OpenStream {
        match self.session.next().await {
            Message::OpenStream(stream) => stream,
            other => panic!("{other:?}"),
        }
    }

    async fn attach_as(&self, node: &Node, mark: &str, number: u64) -> Result<NodeEnd, Status> {
        let channel = self.coordinator.channel(Some(node.identity())).await;
        let (say, said) = mpsc::channel(64);
        let attach = v1::Attach { session: mark.into(), number };
        say.send(NodeOutput { message: Some(Said::Attach(attach)) }).await.unwrap();
        let hears = StreamsClient::new(channel).attach(ReceiverStream::new(said)).await?;
        Ok(NodeEnd { say, hears: hears.into_inner() })
    }

    /// Both ends of a new stream.
    async fn stream(&mut self) -> (CallerEnd, NodeEnd) {
        let asking = tokio::spawn(self.ask(""));
        let asked = self.asked().await;
        assert_eq!(asked.container, "main", "init containers are not what is meant");
        let node = self.attach_as(&self.node, &self.mark, asked.number).await.unwrap();
        (asking.await.unwrap().unwrap(), node)
    }
}

impl NodeEnd {
    async fn say(&self, message: Said) {
        self.say.send(NodeOutput { message: Some(message) }).await.unwrap();
    }

    async fn granted(&mut self) -> u32 {
        let heard = self.hears.message().await.unwrap().unwrap().message;
        let Some(Heard::Credit(bytes)) = heard else { panic!("{heard:?}") };
        bytes
    }
}

impl CallerEnd {
    async fn grant(&self, bytes: u32) {
        self.say.send(LogsInput { message: Some(Asked::Credit(bytes)) }).await.unwrap();
    }

    async fn sees(&mut self) -> Option<Shown> {
        self.sees.message().await.unwrap().map(|shown| shown.message.unwrap())
    }

    /// Why it is ended. A relay that ends nobody would be waited for without end.
    async fn refused(&mut self) -> String {
        let ended = async {
            loop {
                match self.sees.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => break Ok(()),
                    Err(status) => break Err(status),
                }
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(60), ended).await;
        reason(ended.unwrap_or_else(|_| panic!("nobody ends the stream")))
    }
}

/// A pod that runs, of this DaemonSet.
fn place(set: &str) -> v1::Place {
    let container = |name: &str| v1::ContainerStatus {
        name: name.into(),
        state: Some(v1::container_status::State::Running(v1::container_status::Running::default())),
        ..Default::default()
    };
    let mut done = container("prepare");
    done.set_role(v1::ContainerRole::Init);
    let mut pod = v1::PodStatus {
        uid: POD.into(),
        set_uid: set.into(),
        revision: vec![7; 32],
        containers: vec![done, container("main"), container("side")],
        ..Default::default()
    };
    pod.set_phase(v1::PodPhase::Running);
    let key = v1::PodKey { namespace: "default".into(), name: "x".into() };
    v1::Place { key: Some(key), pods: vec![pod] }
}

#[tokio::test(start_paused = true)]
async fn what_a_node_says_is_handed_on_as_far_as_it_was_granted() {
    let mut world = World::new(&["logs"]).await;
    let asking = tokio::spawn(world.ask("side"));
    let asked = world.asked().await;
    assert_eq!((asked.pod_uid.as_str(), asked.container.as_str()), (POD, "side"));
    assert_eq!((asked.namespace.as_str(), asked.name.as_str()), ("default", "x"));
    let mut node = world.attach_as(&world.node, &world.mark, asked.number).await.unwrap();
    let mut caller = asking.await.unwrap().unwrap();

    caller.grant(SMALLEST).await;
    assert_eq!(node.granted().await, SMALLEST);
    node.say(Said::Stdout(b"one\n".to_vec())).await;
    assert_eq!(caller.sees().await, Some(Shown::Stdout(b"one\n".to_vec())));
    caller.grant(WINDOW).await;
    assert_eq!(node.granted().await, WINDOW);
    node.say(Said::Stderr(vec![b'x'; MAX_PIECE])).await;
    node.say(Said::End(v1::StreamEnd {
        how: Some(v1::stream_end::How::Complete(v1::stream_end::Complete {})),
    }))
    .await;
    assert_eq!(caller.sees().await, Some(Shown::Stderr(vec![b'x'; MAX_PIECE])));
    assert_eq!(caller.sees().await, None);
    assert!(node.hears.message().await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn who_breaks_the_rules_of_credit_is_ended() {
    let mut world = World::new(&["logs"]).await;
    let (mut caller, mut node) = world.stream().await;
    node.say(Said::Stdout(b"x".to_vec())).await;
    assert_eq!(caller.refused().await, "OverCredit");
    assert!(node.hears.message().await.unwrap().is_none());
    let (mut caller, _node) = world.stream().await;
    let again = LogsInput { message: Some(Asked::Open(LogsRequest::default())) };
    caller.say.send(again).await.unwrap();
    assert_eq!(caller.refused().await, "InvalidField");
    for grant in [SMALLEST - 1, WINDOW + 1] {
        let (mut caller, mut node) = world.stream().await;
        caller.grant(grant).await;
        assert_eq!(caller.refused().await, "OverCredit");
        assert!(node.hears.message().await.unwrap().is_none());
    }
}

/// All that was granted waits for a caller who reads nothing, and nobody waits for them.
#[tokio::test(start_paused = true)]
async fn one_who_does_not_read_holds_up_nobody() {
    let mut world = World::new(&["logs"]).await;
    let (mut slow, mut full) = world.stream().await;
    slow.grant(WINDOW).await;
    full.granted().await;
    for _ in 0..WINDOW / SMALLEST {
        full.say(Said::Stdout(b"x".to_vec())).await;
    }
    let (mut caller, mut node) = world.stream().await;
    caller.grant(SMALLEST).await;
    node.granted().await;
    node.say(Said::Stdout(b"quick".to_vec())).await;
    assert_eq!(caller.sees().await, Some(Shown::Stdout(b"quick".to_vec())));
    for _ in 0..WINDOW / SMALLEST {
        assert_eq!(slow.sees().await, Some(Shown::Stdout(b"x".to_vec())));
    }
}

#[tokio::test(start_paused = true)]
async fn when_one_end_is_gone_the_other_ends_and_the_place_is_free() {
    let mut world = World::new(&["logs"]).await;
    for _ in 0..40 {
        let (caller, mut node) = world.stream().await;
        drop(caller);
        assert!(node.hears.message().await.unwrap().is_none());
        let (mut caller, node) = world.stream().await;
        drop(node);
        assert_eq!(caller.refused().await, "NodeGone");
        // One that gives up before the agent has attached.
        let asking = tokio::spawn(world.ask(""));
        let asked = world.asked().await;
        asking.abort();
        let _ = asking.await;
        let late = loop {
            // Until the coordinator has heard of it.
            match world.attach_as(&world.node, &world.mark, asked.number).await {
                Err(status) => break status,
                Ok(mut node) => drop(node.hears.message().await),
            }
        };
        assert_eq!(reason_of(&late).as_deref(), Some("NoSuchStream"));
    }
    let mut held = Vec::new();
    for _ in 0..crate::streams::PER_NODE {
        held.push(world.stream().await);
    }
    assert_eq!(reason(world.ask("").await.map(drop)), "TooManyStreams");
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_shown_is_refused_with_the_reason() {
    let mut world = World::new(&["logs"]).await;
    assert_eq!(reason(world.ask("third").await.map(drop)), "BadRequest");
    let refused = tokio::spawn(world.ask(""));
    let asked = world.asked().await;
    // Neither another node, nor in another session, nor after its time.
    let other = world.coordinator.join("b").await;
    let mut marks = vec![(&other, world.mark.clone()), (&world.node, POD.to_owned())];
    marks.push((&world.node, String::new()));
    for (node, mark) in marks {
        let attached = world.attach_as(node, &mark, asked.number).await;
        assert_eq!(reason(attached.map(drop)), "NoSuchStream");
    }
    assert_eq!(reason(refused.await.unwrap().map(drop)), "NotAttached");
    let late = world.attach_as(&world.node, &world.mark, asked.number).await;
    assert_eq!(reason(late.map(drop)), "NoSuchStream");

    let old = World::new(&[]).await;
    assert_eq!(reason(old.ask("").await.map(drop)), "NotSupported");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_not_connected_is_said_to_be() {
    let world = World::new(&["logs"]).await;
    let asking = world.ask("");
    drop(world.session);
    tokio::time::sleep(Duration::from_secs(300)).await;
    let refused = asking.await.err().unwrap();
    assert_eq!(reason_of(&refused).as_deref(), Some("NodeNotConnected"));
    assert!(refused.message().contains("\"a\" is not connected (last seen "), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn at_shutdown_a_stream_says_so() {
    let mut world = World::new(&["logs"]).await;
    let (mut caller, _node) = world.stream().await;
    world.coordinator.shutdown.cancel();
    assert_eq!(caller.refused().await, "ShuttingDown");
}

/// The end of somebody who runs a program.
struct ExecEnd {
    say: mpsc::Sender<ExecInput>,
    caller: CallerEnd,
}

impl World {
    /// Asks for a program; the answer comes when the agent has attached.
    async fn exec(
        &self,
        role: Role,
        container: &str,
        options: ExecOptions,
    ) -> impl Future<Output = Result<ExecEnd, Status>> + use<> {
        let mut pods = PodsClient::new(self.coordinator.user(role).await);
        let request = ExecRequest {
            name: self.pod.clone(),
            container: container.into(),
            options: Some(options),
            ..ExecRequest::default()
        };
        async move {
            let (say, said) = mpsc::channel(8);
            say.send(ExecInput { message: Some(Typed::Open(request)) }).await.unwrap();
            let sees = pods.exec(ReceiverStream::new(said)).await?.into_inner();
            let (nobody, _) = mpsc::channel(1);
            Ok(ExecEnd { say, caller: CallerEnd { say: nobody, sees } })
        }
    }

    /// Why nothing is run.
    async fn refused(&self, role: Role, container: &str, options: ExecOptions) -> String {
        reason(self.exec(role, container, options).await.await.map(drop))
    }

    /// Both ends of a program that runs.
    async fn program(&mut self) -> (ExecEnd, NodeEnd) {
        let asking = tokio::spawn(self.exec(Role::Admin, "", command(&["sh"])).await);
        let asked = self.asked().await;
        let node = self.attach_as(&self.node, &self.mark, asked.number).await.unwrap();
        (asking.await.unwrap().unwrap(), node)
    }

    /// The events of the pod, as `reason message`, when there are so many.
    async fn events(&self, count: usize) -> Vec<String> {
        let mut events = EventsClient::new(self.coordinator.user(Role::Viewer).await);
        loop {
            let all = events.list(v1::ListRequest::default()).await.unwrap().into_inner().items;
            let all = all.into_iter().filter(|event| event.involved_name == self.pod);
            let all: Vec<String> =
                all.map(|event| format!("{} {}", event.reason, event.message)).collect();
            if all.len() >= count {
                return all;
            }
        }
    }
}

impl ExecEnd {
    async fn says(&self, message: Typed) {
        self.say.send(ExecInput { message: Some(message) }).await.unwrap();
    }
}

impl NodeEnd {
    async fn hears(&mut self) -> Option<Heard> {
        self.hears.message().await.unwrap().map(|heard| heard.message.unwrap())
    }
}

fn command(words: &[&str]) -> ExecOptions {
    let command = words.iter().map(ToString::to_string).collect();
    ExecOptions { command, stdin: true, ..ExecOptions::default() }
}

#[tokio::test(start_paused = true)]
async fn a_programs_input_is_handed_on_as_far_as_it_was_granted() {
    let mut world = World::new(&["exec"]).await;
    let words = command(&["sh", "-c", "echo 'a b'"]);
    let asking = tokio::spawn(world.exec(Role::Admin, "side", words.clone()).await);
    let asked = world.asked().await;
    assert_eq!((asked.pod_uid.as_str(), asked.container.as_str()), (POD, "side"));
    assert_eq!(asked.user, "ada");
    assert_eq!(asked.what, Some(v1::open_stream::What::Exec(words)));
    let mut node = world.attach_as(&world.node, &world.mark, asked.number).await.unwrap();
    let mut person = asking.await.unwrap().unwrap();

    node.say(Said::Credit(3 * SMALLEST)).await;
    assert_eq!(person.caller.sees().await, Some(Shown::Credit(3 * SMALLEST)));
    person.says(Typed::Stdin(b"\0\xff".to_vec())).await;
    assert_eq!(node.hears().await, Some(Heard::Stdin(b"\0\xff".to_vec())));
    let size = TerminalSize { columns: 80, rows: 24 };
    person.says(Typed::Resize(size)).await;
    assert_eq!(node.hears().await, Some(Heard::Resize(size)));
    person.says(Typed::StdinEnd(StdinEnd {})).await;
    assert_eq!(node.hears().await, Some(Heard::StdinEnd(StdinEnd {})));
    person.says(Typed::Credit(WINDOW)).await;
    assert_eq!(node.granted().await, WINDOW);
    node.say(Said::Stderr(b"oh".to_vec())).await;
    let how = v1::stream_end::How::Exited(v1::Exited { code: 3 });
    node.say(Said::End(v1::StreamEnd { how: Some(how) })).await;
    assert_eq!(person.caller.sees().await, Some(Shown::Stderr(b"oh".to_vec())));
    assert_eq!(person.caller.sees().await, Some(Shown::Exited(v1::Exited { code: 3 })));
    assert_eq!(person.caller.sees().await, None);
    let what = r#"sh -c "echo 'a b'" in container side on node a by ada"#;
    let expected = [format!("ExecStarted {what}"), format!("ExecEnded {what}: exit code 3")];
    assert_eq!(world.events(2).await, expected);
}

#[tokio::test(start_paused = true)]
async fn an_input_without_credit_ends_a_program() {
    let mut world = World::new(&["exec"]).await;
    let size = Typed::Resize(TerminalSize::default());
    for typed in [Typed::Stdin(b"x".to_vec()), size] {
        let (mut person, mut node) = world.program().await;
        person.says(typed).await;
        assert_eq!(person.caller.refused().await, "OverCredit");
        assert!(node.hears.message().await.unwrap().is_none());
    }
    let (mut person, node) = world.program().await;
    node.say(Said::Credit(WINDOW)).await;
    person.caller.sees().await;
    person.says(Typed::StdinEnd(StdinEnd {})).await;
    person.says(Typed::Stdin(b"x".to_vec())).await;
    assert_eq!(person.caller.refused().await, "InvalidField");
    let (mut person, node) = world.program().await;
    node.say(Said::Credit(WINDOW + 1)).await;
    assert_eq!(person.caller.refused().await, "OverCredit");
}

#[tokio::test(start_paused = true)]
async fn a_program_is_run_for_admins_only_and_where_it_can_be() {
    let mut world = World::new(&["exec"]).await;
    let ls = || command(&["ls"]);
    assert_eq!(world.refused(Role::Viewer, "", ls()).await, "Forbidden");
    assert_eq!(world.refused(Role::Admin, "third", ls()).await, "BadRequest");
    let long = "x".repeat(32 * 1024 + 1);
    for words in [&[][..], &[""], &["a", "b\0"], &[long.as_str()]] {
        assert_eq!(world.refused(Role::Admin, "", command(words)).await, "InvalidField");
    }
    assert!(world.events(0).await.is_empty(), "nothing was begun");

    // Denied by the machine itself; and one whose caller goes away.
    let (mut person, node) = world.program().await;
    let refused = v1::stream_end::Refused { code: "ExecDenied".into(), message: "no".into() };
    let how = v1::stream_end::How::Refused(refused);
    node.say(Said::End(v1::StreamEnd { how: Some(how) })).await;
    assert_eq!(person.caller.refused().await, "ExecDenied");
    let (person, mut node) = world.program().await;
    drop(person);
    assert!(node.hears.message().await.unwrap().is_none());
    let events = world.events(3).await;
    assert!(events.contains(&"ExecEnded sh in container main on node a by ada: no".into()));
    let gone = "ExecEnded sh in container main on node a by ada: the caller went away";
    assert!(events.contains(&gone.into()), "{events:?}");

    let old = World::new(&["logs"]).await;
    assert_eq!(old.refused(Role::Admin, "", ls()).await, "NotSupported");
    let ended = &old.events(2).await[1];
    assert!(ended.contains("can't do it (exec): it is of an older version"), "{ended}");
}

/// A set whose program reads a label of its node, which agents learnt later than the rest.
fn reads_a_label(name: &str) -> v1::PutDaemonSetRequest {
    let mut put = put(name, "1");
    let set = put.daemon_set.as_mut().unwrap();
    let from = json!({"fieldRef": {"fieldPath": "node.labels['site']"}});
    let spec = json!({
        "selector": {"matchLabels": {"app": name}},
        "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {
                "runtimeClassName": "process", "hostNetwork": true,
                "containers": [{"name": "main", "command": ["/bin/daemon"],
                                "env": [{"name": "SITE", "valueFrom": from}]}],
            },
        },
    });
    set.spec = spec.as_object().map(to_struct);
    put
}

#[tokio::test(start_paused = true)]
async fn an_older_agent_is_asked_for_what_it_can_do_and_the_rest_is_named() {
    let new = everynode_model::NODE_LABELS_FEATURE;
    let known = everynode_model::PROCESS_FEATURES.iter().copied().filter(|known| *known != new);
    let mut world = World::new(&known.collect::<Vec<_>>()).await;
    let admin = world.coordinator.user(Role::Admin).await;
    let mut sets = DaemonSetsClient::new(admin.clone());
    sets.create(reads_a_label("y")).await.unwrap();
    let Message::Assignment(order) = world.session.next().await else { panic!("no order") };
    let ack = v1::Ack { stamp: order.stamp, refused: None };
    world.session.say(v1::agent_message::Message::Ack(ack)).await;

    // One pod waits, and says for what; the other is what it was.
    let lacks = loop {
        let pods = world.pods.list(v1::ListRequest::default()).await.unwrap().into_inner().items;
        let of = |set: &str| {
            let is = |pod: &&v1::Pod| pod.daemon_set.as_ref().is_some_and(|key| key.name == set);
            pods.iter().find(is).unwrap().clone()
        };
        assert_eq!(of("x").status.unwrap().phase(), v1::PodPhase::Running);
        let waits = of("y");
        assert!(waits.status.is_none(), "{waits:?}");
        let reason = waits.reason.unwrap();
        if reason.code != "OrderNotAcknowledged" {
            break reason;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!((lacks.code.as_str(), lacks.message.contains(new)), ("MissingFeature", true));

    let named = |status: Status, feature: &str| {
        assert_eq!(reason_of(&status).as_deref(), Some("NotSupported"));
        assert!(status.message().contains(&format!("({feature})")), "{status}");
    };
    named(world.ask("").await.map(drop).unwrap_err(), "logs");
    let ls = world.exec(Role::Admin, "", command(&["ls"])).await;
    named(ls.await.map(drop).unwrap_err(), "exec");
    let mut figures = NodesClient::new(admin).usage(v1::UsageRequest::default()).await.unwrap();
    let told = figures.get_mut().message().await.unwrap().unwrap();
    let Some(v1::usage_response::What::Unknown(why)) = told.what else { panic!("{told:?}") };
    assert_eq!((why.code.as_str(), why.message.contains("(usage)")), ("NotSupported", true));
}
