//! A node's certificate through its whole life, over real TLS and on clocks that the test sets.

use everynode_proto::v1::agent_message::Message as Said;
use everynode_proto::v1::coordinator_message::Message;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A machine that has joined.
pub(super) struct Node {
    key: KeyPair,
    pub(super) uid: String,
    chain: Vec<Vec<u8>>,
}

/// Its session, from its side.
pub(super) struct Session {
    say: mpsc::Sender<v1::AgentMessage>,
    hears: Streaming<v1::CoordinatorMessage>,
}

impl Node {
    pub(super) fn identity(&self) -> ClientIdentity {
        let chain = self.chain.iter().cloned().map(CertificateDer::from).collect();
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        ClientIdentity { chain, key }
    }

    fn validity(&self) -> Validity {
        Validity::of_der(&self.chain[0]).unwrap()
    }
}

fn request(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
}

impl Coordinator {
    async fn token(&self, asked: v1::CreateTokenRequest) -> JoinToken {
        let mut tokens = TokensClient::new(self.user(Role::Admin).await);
        tokens.create(asked).await.unwrap().into_inner().secret.parse().unwrap()
    }

    pub(super) async fn join(&self, name: &str) -> Node {
        let token = self.token(v1::CreateTokenRequest::default()).await;
        self.join_with(&token, name, name).await.unwrap()
    }

    async fn join_with(
        &self,
        token: &JoinToken,
        name: &str,
        machine: &str,
    ) -> Result<Node, Status> {
        let key = KeyPair::generate().unwrap();
        let join = v1::JoinRequest {
            token_id: token.id.clone(),
            token_secret: token.secret.clone(),
            certificate_request: request(&key),
            node_name: name.into(),
            machine_id: machine.into(),
            ..Default::default()
        };
        let mut agent = AgentClient::new(self.channel(None).await);
        let joined = agent.join(join).await?.into_inner();
        Ok(Node { key, uid: joined.node_uid, chain: joined.certificate_chain })
    }

    async fn renew_as(&self, node: &Node, key: &KeyPair) -> Result<v1::RenewResponse, Status> {
        let mut agent = AgentClient::new(self.channel(Some(node.identity())).await);
        let asked = v1::RenewRequest { certificate_request: request(key) };
        agent.renew(asked).await.map(tonic::Response::into_inner)
    }

    async fn renew(&self, node: &mut Node) -> Result<v1::RenewResponse, Status> {
        let answer = self.renew_as(node, &node.key).await?;
        node.chain.clone_from(&answer.certificate_chain);
        Ok(answer)
    }

    pub(super) async fn open(&self, node: &Node) -> Result<Session, Status> {
        self.open_with(node, v1::Hello::default()).await
    }

    pub(super) async fn open_with(&self, node: &Node, hello: v1::Hello) -> Result<Session, Status> {
        let mut agent = AgentClient::new(self.channel(Some(node.identity())).await);
        let (say, said) = mpsc::channel(8);
        let hello = v1::Hello { protocol_versions: vec![1], ..hello };
        say.send(v1::AgentMessage { message: Some(Said::Hello(hello)) }).await.unwrap();
        let hears = agent.session(ReceiverStream::new(said)).await?.into_inner();
        Ok(Session { say, hears })
    }

    pub(super) async fn delete(&self, node: &Node) {
        let mut nodes = NodesClient::new(self.user(Role::Admin).await);
        let delete = v1::DeleteNodeRequest { uid: node.uid.clone(), ..Default::default() };
        nodes.delete(delete).await.unwrap();
    }

    /// So much time passes by the date, and by the other clock enough for what is due to be done.
    async fn pass(&self, time: Duration) {
        let millis = i64::try_from(time.as_millis()).unwrap();
        self.clock.set(date(self.clock.now().wall.unix_millis + millis));
        tokio::time::sleep(LOOK + Duration::from_secs(5)).await;
    }

    pub(super) async fn events(&self, reason: &str) -> Vec<v1::Event> {
        let mut events = EventsClient::new(self.user(Role::Admin).await);
        let all = events.list(v1::ListRequest::default()).await.unwrap().into_inner().items;
        all.into_iter().filter(|event| event.reason == reason).collect()
    }
}

impl Session {
    pub(super) async fn next(&mut self) -> Message {
        self.hears.message().await.unwrap().unwrap().message.unwrap()
    }

    pub(super) async fn welcome(&mut self) -> v1::Welcome {
        match self.next().await {
            Message::Welcome(welcome) => welcome,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn say(&self, message: Said) {
        self.say.send(v1::AgentMessage { message: Some(message) }).await.unwrap();
    }

    /// Confirms that the machine is empty, and hears that it was noted.
    async fn leave(mut self) {
        assert!(matches!(self.next().await, Message::Deregister(_)));
        self.say(Said::Leave(v1::Leave { empty: true })).await;
        assert!(matches!(self.next().await, Message::Farewell(_)));
        let ended = self.hears.message().await;
        assert!(matches!(&ended, Ok(None)), "{ended:?}");
    }
}

pub(super) fn reason<T>(outcome: Result<T, Status>) -> String {
    outcome.err().and_then(|status| reason_of(&status)).unwrap_or_default()
}

fn renew_in(welcome: &v1::Welcome) -> Duration {
    Duration::from_millis(welcome.renew_in_millis.unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_renewed_in_time_and_again() {
    let coordinator = coordinator(&MemoryStore::new()).await;
    let mut node = coordinator.join("edge-1").await;
    let mut session = coordinator.open(&node).await.unwrap();
    let due = renew_in(&session.welcome().await);
    assert!((YEAR / 2..YEAR * 3 / 4).contains(&due), "{due:?}");
    drop(session);
    coordinator.pass(due).await;
    let before = node.validity();
    let answer = coordinator.renew(&mut node).await.unwrap();
    assert!(node.validity().not_after > before.not_after);
    let next = Duration::from_millis(answer.renew_in_millis.unwrap());
    assert!((YEAR / 2..YEAR * 3 / 4).contains(&next), "{next:?}");
    assert_eq!(answer.authorities, [coordinator.pki.authorities()[0].to_vec()]);
    // Nothing is stored, so it may be asked for again, and the new one is as good as the old.
    coordinator.renew(&mut node).await.unwrap();
    coordinator.open(&node).await.unwrap().welcome().await;
}

#[tokio::test(start_paused = true)]
async fn an_expired_one_is_good_for_its_renewal_only() {
    let coordinator = coordinator(&MemoryStore::new()).await;
    let mut node = coordinator.join("edge-1").await;
    coordinator.pass(YEAR + DAY).await;
    assert_eq!(reason(coordinator.open(&node).await), "CertificateExpired");
    coordinator.renew(&mut node).await.unwrap();
    coordinator.open(&node).await.unwrap().welcome().await;
}

#[tokio::test(start_paused = true)]
async fn the_key_must_be_the_recorded_one_whatever_the_date() {
    let coordinator = coordinator(&MemoryStore::new()).await;
    let node = coordinator.join("edge-1").await;
    let other = KeyPair::generate().unwrap();
    assert_eq!(reason(coordinator.renew_as(&node, &other).await), "OtherKey");
    // The cluster's own authority has signed it, and still it is somebody else's.
    let uid = node.uid.parse().unwrap();
    let issued = coordinator.pki.issue_node(&request(&other), coordinator.cluster, uid, YEAR);
    let chain = issued.unwrap().iter().map(|certificate| certificate.to_vec()).collect();
    let thief = Node { key: other, uid: node.uid.clone(), chain };
    for _ in 0..2 {
        assert_eq!(reason(coordinator.open(&thief).await), "OtherKey");
        assert_eq!(reason(coordinator.renew_as(&thief, &thief.key).await), "OtherKey");
        coordinator.pass(YEAR + DAY).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_removed_machine_hears_it_however_late_and_may_say_again_that_it_is_empty() {
    let coordinator = coordinator(&MemoryStore::new()).await;
    for (name, late) in [("edge-1", false), ("edge-2", true)] {
        let mut node = coordinator.join(name).await;
        coordinator.delete(&node).await;
        // Its tombstone stays for as long as it does not call.
        coordinator.pass(if late { 3 * YEAR } else { DAY }).await;
        assert_eq!(reason(coordinator.renew(&mut node).await), "NodeRemoved");
        let mut session = coordinator.open(&node).await.unwrap();
        session.welcome().await;
        session.leave().await;
        // The confirmation was lost on the way: it is given again.
        for _ in 0..2 {
            let mut session = coordinator.open(&node).await.unwrap();
            session.welcome().await;
            session.leave().await;
        }
        // But not for ever: then it is a stranger, and nobody tells a stranger to tear down.
        coordinator.pass(31 * DAY).await;
        assert_eq!(reason(coordinator.open(&node).await), "NodeUnknown");
        assert_eq!(reason(coordinator.renew(&mut node).await), "NodeUnknown");
    }
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_machine_is_a_stranger() {
    let coordinator = coordinator(&MemoryStore::new()).await;
    let node = coordinator.join("edge-1").await;
    let mut nodes = NodesClient::new(coordinator.user(Role::Admin).await);
    let forget =
        v1::DeleteNodeRequest { name: "edge-1".into(), forget: true, ..Default::default() };
    nodes.delete(forget).await.unwrap();
    assert_eq!(reason(coordinator.open(&node).await), "NodeUnknown");
}

#[tokio::test(start_paused = true)]
async fn a_replaced_machine_leaves_while_the_new_one_has_its_name() {
    let coordinator = coordinator(&MemoryStore::new()).await;
    let old = coordinator.join("edge-1").await;
    let token = coordinator.token(v1::CreateTokenRequest::default()).await;
    assert_eq!(reason(coordinator.join_with(&token, "edge-1", "m").await), "NameTaken");
    let replacing =
        v1::CreateTokenRequest { node_name: "edge-1".into(), replace: true, ..Default::default() };
    let token = coordinator.token(replacing).await;
    let new = coordinator.join_with(&token, "edge-1", "edge-1").await.unwrap();
    let mut nodes = NodesClient::new(coordinator.user(Role::Admin).await);
    let mut shown = async || {
        let all = nodes.list(v1::ListRequest::default()).await.unwrap().into_inner().items;
        let mut shown: Vec<_> = all
            .into_iter()
            .map(|node| {
                let code = node.reason.map(|reason| reason.code).unwrap_or_default();
                (node.metadata.unwrap().uid, node.state, code)
            })
            .collect();
        shown.sort();
        shown
    };
    let row = |node: &Node, state: &str, code: &str| (node.uid.clone(), state.into(), code.into());
    let mut wanted = vec![row(&old, "Leaving", "Replaced"), row(&new, "Unknown", "NodeUnknown")];
    wanted.sort();
    assert_eq!(shown().await, wanted);
    let _new = answering(coordinator.open(&new).await.unwrap());
    let mut session = coordinator.open(&old).await.unwrap();
    session.welcome().await;
    session.leave().await;
    assert_eq!(shown().await, [row(&new, "Ready", "")], "only the new one is left");
}

#[tokio::test(start_paused = true)]
async fn a_replaced_machine_that_never_calls_again_can_be_forgotten_alone() {
    let coordinator = coordinator(&MemoryStore::new()).await;
    let old = coordinator.join("edge-1").await;
    let replacing =
        v1::CreateTokenRequest { node_name: "edge-1".into(), replace: true, ..Default::default() };
    let token = coordinator.token(replacing).await;
    let new = coordinator.join_with(&token, "edge-1", "edge-1").await.unwrap();
    let mut nodes = NodesClient::new(coordinator.user(Role::Admin).await);
    let forget = v1::DeleteNodeRequest {
        name: "edge-1".into(),
        uid: old.uid.clone(),
        forget: true,
        ..Default::default()
    };
    nodes.delete(forget).await.unwrap();
    let left = nodes.list(v1::ListRequest::default()).await.unwrap().into_inner().items;
    let uids: Vec<_> = left.into_iter().map(|node| node.metadata.unwrap().uid).collect();
    assert_eq!(uids, [new.uid]);
    assert_eq!(reason(coordinator.open(&old).await), "NodeUnknown");
}

#[tokio::test(start_paused = true)]
async fn equal_machine_ids_warn_and_no_more() {
    let coordinator = coordinator(&MemoryStore::new()).await;
    let token = coordinator.token(v1::CreateTokenRequest::default()).await;
    for name in ["edge-1", "edge-2"] {
        let node = coordinator.join_with(&token, name, "the same").await.unwrap();
        coordinator.open(&node).await.unwrap().welcome().await;
    }
    let events = coordinator.events("DuplicateMachineId").await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].message.contains("edge-2") && events[0].message.contains("edge-1"));
}

/// Answers every probe.
fn answering(mut session: Session) -> tokio::task::JoinHandle<Session> {
    tokio::spawn(async move {
        loop {
            match session.hears.message().await {
                Ok(Some(v1::CoordinatorMessage { message: Some(Message::Probe(probe)) })) => {
                    session.say(Said::ProbeAnswer(v1::ProbeAnswer { number: probe.number })).await;
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return session,
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn of_two_living_claimants_the_first_stays_and_the_other_is_told() {
    let coordinator = coordinator(&MemoryStore::new()).await;
    let node = coordinator.join("edge-1").await;
    let first = answering(coordinator.open(&node).await.unwrap());
    for _ in 0..3 {
        assert_eq!(reason(coordinator.open(&node).await), "NodeInUse");
    }
    assert!(!first.is_finished(), "the first one noticed nothing");
    assert_eq!(coordinator.events("CloneRefused").await.len(), 1);
    // When it is gone, the other may speak for the node.
    first.abort();
    let _aborted = first.await;
    coordinator.open(&node).await.unwrap().welcome().await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_rebooted_quickly_has_its_place_again_within_two_seconds() {
    let coordinator = coordinator(&MemoryStore::new()).await;
    let node = coordinator.join("edge-1").await;
    // The power failed: nobody reads this any more, and nobody said that it ended.
    let mut half_open = coordinator.open(&node).await.unwrap();
    half_open.welcome().await;
    let began = tokio::time::Instant::now();
    coordinator.open(&node).await.unwrap().welcome().await;
    let took = began.elapsed();
    assert!(took <= Duration::from_millis(2100), "{took:?}");
    let ended = loop {
        match half_open.hears.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ends with a reason"),
            Err(status) => break status,
        }
    };
    assert_eq!(reason_of(&ended).as_deref(), Some("Replaced"), "{ended:?}");
    assert!(coordinator.events("CloneRefused").await.is_empty(), "that is no clone");
}

impl Coordinator {
    /// A session of an agent whose ledger remembers that one; what it writes down then.
    async fn call(&self, node: &Node, remembers: &str, machine: &str, speaks: bool) -> String {
        let hello = v1::Hello {
            last_session: remembers.into(),
            machine_id: machine.into(),
            ..Default::default()
        };
        let mut session = self.open_with(node, hello).await.unwrap();
        let mark = session.welcome().await.session;
        if speaks {
            session.say(Said::Heartbeat(v1::Heartbeat {})).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(session);
        tokio::time::sleep(Duration::from_secs(1)).await;
        mark
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_copy_is_told_by_the_session_it_remembers() {
    let coordinator = coordinator(&MemoryStore::new()).await;
    let node = coordinator.join("edge-1").await;
    let copied = coordinator.call(&node, "", "edge-1", true).await;
    // The original goes on; a link that breaks before its Welcome came is no copy's doing.
    let second = coordinator.call(&node, &copied, "edge-1", true).await;
    coordinator.call(&node, &second, "edge-1", false).await;
    let last = coordinator.call(&node, &second, "edge-1", true).await;
    for reason in ["StaleLedger", "MachineIdChanged"] {
        assert_eq!(coordinator.events(reason).await, [], "the original is as it was");
    }
    // It is switched off, and a copy of how it was before calls, from wherever it is.
    let ahead = coordinator.call(&node, &copied, "another", true).await;
    for reason in ["StaleLedger", "MachineIdChanged"] {
        let told = coordinator.events(reason).await;
        assert_eq!(told.iter().map(|event| event.count).collect::<Vec<_>>(), [1], "{reason}");
        assert!(told[0].r#type == "Warning" && told[0].involved_name == "edge-1");
    }
    // And when the original is back, it is the one that is behind.
    coordinator.call(&node, &last, "edge-1", true).await;
    assert_eq!(coordinator.events("StaleLedger").await[0].count, 2);
    drop(ahead);
}

/// 2026-11-23.
const NOW: i64 = 1_795_392_000_000;

fn date(millis: i64) -> WallTime {
    WallTime::from_unix_millis(millis)
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_steps_here_breaks_nothing_that_goes_on() {
    let coordinator = coordinator(&MemoryStore::new()).await;
    let mut node = coordinator.join("edge-1").await;
    let session = answering(coordinator.open(&node).await.unwrap());
    let mut nodes = NodesClient::new(coordinator.user(Role::Admin).await);
    let offsets = [-600_000, 600_000, -NOW, 0, 86_400_000, -600_000];
    for (number, offset) in offsets.into_iter().enumerate() {
        coordinator.clock.set(date(NOW + offset));
        tokio::time::sleep(Duration::from_secs(10)).await;
        // A second claim has the session probed: it is there, and leases go by another clock.
        assert_eq!(reason(coordinator.open(&node).await), "NodeInUse", "{offset}");
        let state = nodes.get(get("edge-1")).await.unwrap().into_inner().state;
        assert_eq!(state, "Ready", "{offset}");
        coordinator.renew(&mut node).await.unwrap();
        coordinator.join(&format!("new-{number}")).await;
    }
    assert!(!session.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_wakes_in_1970_serves_and_what_it_issued_stays_good() {
    let store = MemoryStore::new();
    let coordinator = started_at(&store, date(0)).await;
    let node = coordinator.join("edge-1").await;
    let admin = coordinator.user(Role::Admin).await;
    let welcome = coordinator.open(&node).await.unwrap().welcome().await;
    assert_eq!(welcome.renew_in_millis, None, "such a clock can only make it worse");

    // Its clock is set. What was issued before counts by its authority, and is soon made anew.
    coordinator.clock.set(date(NOW));
    let welcome = coordinator.open(&node).await.unwrap().welcome().await;
    assert!(renew_in(&welcome) <= Duration::from_secs(3600));
    NodesClient::new(admin).list(v1::ListRequest::default()).await.unwrap();
    let later = coordinator.user(Role::Admin).await;
    NodesClient::new(later).list(v1::ListRequest::default()).await.unwrap();

    // Its own certificate, too: by the time that somebody looks by a right clock.
    let shown = async || {
        let options = Options { date: Some(date(NOW)), ..Options::default() };
        let trust = Trust::Authorities(coordinator.pki.authorities());
        let addresses = ["coordinator.example:7443".to_owned()];
        connect(&coordinator.network, &addresses, &trust, None, options).await.unwrap();
    };
    shown().await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    shown().await;
}

#[test]
fn the_coordinators_own_certificate_is_made_anew_when_it_is_old_or_the_clock_was_set() {
    let stale = |seconds: i64| is_stale(date(NOW), date(NOW + seconds * 1000));
    for seconds in [0, 600, -600, 29 * 86_400] {
        assert!(!stale(seconds), "{seconds}");
    }
    for seconds in [-3600, -NOW / 1000, 30 * 86_400, 400 * 86_400] {
        assert!(stale(seconds), "{seconds}");
    }
}
