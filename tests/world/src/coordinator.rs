//! The coordinator's sessions and services around its loop, as the real ones are.

use std::collections::VecDeque;

use everynode_agent_core::{Event, Marks};
use everynode_coordinator_core::{
    Command, EventType, InvolvedObject, NodeStanding, Observation, Outcome, Refusal,
};
use everynode_model::{Labels, NodeUid, SessionNonce};

use crate::desk::{Answer, Asker, Input, Session, Turned};
use crate::names::{CLUSTER, node_name};
use crate::seat::Token;
use crate::wire::{Down, Up};
use crate::world::World;

impl World {
    /// One turn of the loop, and what follows from it.
    pub(crate) fn turn(&mut self) {
        let Self { desk, dice, law, account, log, .. } = self;
        let Some(turned) = desk.turn(self.at, dice, law, account, log) else { return };
        self.steps += 1;
        match turned {
            Turned::Done(answers) => answers.into_iter().for_each(|answer| self.answer(answer)),
            Turned::StartedOver(answers, lost) => {
                for node in lost {
                    if let Some(session) = self.desk.sessions.get_mut(&node) {
                        session.end = Some(Down::End { unknown: false });
                    }
                }
                answers.into_iter().for_each(|answer| self.answer(answer));
            }
            Turned::Died { given, lost } => {
                given.into_iter().for_each(|answer| self.answer(answer));
                for answer in lost {
                    self.answer(Answer { outcome: None, ..answer });
                }
                self.kill_coordinator();
            }
        }
    }

    /// The coordinator's process dies; whoever waited for it waits no more.
    pub(crate) fn kill_coordinator(&mut self) {
        for input in self.desk.die() {
            if let Input::Command(command, asker) = input {
                self.answer(Answer { command, asker, outcome: None });
            }
        }
        self.late_up.clear();
        for stream in self.streams.values_mut() {
            stream.desk_holds = false;
        }
        self.drop_dead_streams();
    }

    /// Somebody gives a command, if nobody else is at that just now.
    pub(crate) fn command(&mut self, command: Command) {
        if self.desk.is_awake(self.at) && self.account.begin(&command) {
            self.desk.inbox.push_back(Input::Command(Box::new(command), Asker::Person));
        }
    }

    /// A machine without an identity, or that is to have another, asks for one, if it has a token.
    pub(crate) fn join(&mut self, seat: usize) {
        let uid = NodeUid::new(self.id());
        let reachable = self.passes(seat) && self.desk.is_awake(self.at);
        let one = &mut self.seats[seat];
        let Some(Token { id, secret }) = one.token.clone() else { return };
        if one.joining || !reachable {
            return;
        }
        one.joining = true;
        let labels = [("tier".to_owned(), ["a", "b"][seat % 2].to_owned())];
        let command = Command::Join {
            token_id: id,
            token_secret: secret,
            uid,
            name: node_name(seat),
            public_key: everynode_model::Digest::of(&one.key.to_be_bytes()),
            machine_id: format!("machine-{seat}"),
            labels: Labels::from(labels),
            taints: Vec::new(),
        };
        let asker = Asker::Joiner { seat, life: one.life };
        self.desk.inbox.push_back(Input::Command(Box::new(command), asker));
    }

    /// The next message of some stream reaches the coordinator, or the stream's end.
    pub(crate) fn coordinator_hears(&mut self) {
        let ids: Vec<u64> = self.streams.keys().copied().collect();
        if let Some(id) = self.dice.pick(&ids) {
            self.hears(id);
        }
    }

    /// The next message of this stream reaches the coordinator. Says whether anything did.
    pub(crate) fn hears(&mut self, id: u64) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        let here = stream.desk_holds && stream.desk_life == self.desk.life;
        if !here || self.seats[stream.seat].cut.is_some() || !self.desk.is_awake(self.at) {
            return false;
        }
        let (node, session) = (stream.node, stream.session);
        let Some(up) = stream.up.pop_front() else {
            if !stream.agent_holds {
                self.coordinator_hangs_up(id);
                return true;
            }
            return false;
        };
        let at = self.at;
        if let Some(session) = session.and_then(|nonce| self.desk.session(node, nonce)) {
            session.heard = at;
            if !std::mem::replace(&mut session.answered, true) {
                let session = session.nonce;
                self.observe(Observation::Answered { node, session });
            }
        }
        match (up, session) {
            (Up::Hello(hello), None) => self.admit(id, node, *hello),
            (Up::Status(places), Some(session)) => {
                self.observe(Observation::Status { node, session, places });
            }
            (Up::Ack(stamp, refused), Some(_)) => {
                self.observe(Observation::Acknowledged { node, stamp, refused });
            }
            (Up::Resend, Some(nonce)) => {
                let order = self.desk.fleet.as_ref().and_then(|it| it.order_of(node).cloned());
                if let Some(session) = self.desk.session(node, nonce)
                    && !session.deregistered
                    && session.order.is_none()
                {
                    session.order = order;
                }
            }
            (Up::Leave { empty }, Some(session)) => {
                let uid = node;
                let asker = Asker::Leaver { node, session, empty };
                self.ask(
                    asker,
                    if empty { Command::ConfirmDeparture { uid } } else { Command::Leave { uid } },
                );
            }
            _ => {}
        }
        true
    }

    /// Some session sends the next thing that waits for it.
    pub(crate) fn coordinator_speaks(&mut self) {
        let nodes: Vec<NodeUid> = self.desk.sessions.keys().copied().collect();
        if let Some(node) = self.dice.pick(&nodes) {
            self.speaks(node);
        }
    }

    /// The session of a node sends the next thing that waits. Says whether there was anything.
    pub(crate) fn speaks(&mut self, node: NodeUid) -> bool {
        if !self.desk.is_awake(self.at) {
            return false;
        }
        let Some(session) = self.desk.sessions.get_mut(&node) else { return false };
        let id = session.stream;
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        if let Some(down) = session.control.pop_front() {
            stream.down.push_back(down);
        } else if let Some(end) = session.end.take() {
            stream.down.push_back(end);
            self.coordinator_hangs_up(id);
        } else if let Some(order) = session.order.take() {
            stream.down.push_back(Down::Order(order));
        } else {
            return false;
        }
        true
    }

    /// The coordinator's end of a stream is gone. What had come in is told to the loop, sooner or
    /// later, and then that the session is over.
    pub(crate) fn coordinator_hangs_up(&mut self, id: u64) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.desk_holds = false;
        let (node, rest) = (stream.node, std::mem::take(&mut stream.up));
        if let Some(session) = stream.session.take() {
            if self.desk.session(node, session).is_some() {
                self.desk.sessions.remove(&node);
            }
            let observations = rest.into_iter().filter_map(|up| match up {
                Up::Status(places) => Some(Observation::Status { node, session, places }),
                Up::Ack(stamp, refused) => Some(Observation::Acknowledged { node, stamp, refused }),
                _ => None,
            });
            let over = Observation::Disconnected { node, session };
            let queue = observations.chain([over]).map(Box::new).map(Input::Observation);
            self.late_up.push(queue.collect::<VecDeque<_>>());
        }
        self.drop_dead_streams();
    }

    /// Streams of which nobody holds an end any more are no more.
    pub(crate) fn drop_dead_streams(&mut self) {
        self.streams.retain(|_, stream| stream.agent_holds || stream.desk_holds);
    }

    fn admit(&mut self, id: u64, node: NodeUid, hello: everynode_coordinator_core::Hello) {
        let Some(fleet) = &self.desk.fleet else { return };
        let Some(standing) = fleet.standing(node) else { return self.refuse(id, true) };
        // What a restored store says of a node may be old news, and waits with the orders.
        let must_go = standing != NodeStanding::Active && fleet.hold().is_none();
        if let Some(former) = self.desk.sessions.get(&node).map(|session| session.stream) {
            if self.answers(former) {
                self.observe(Observation::Noticed {
                    about: InvolvedObject {
                        kind: "Node".into(),
                        namespace: String::new(),
                        name: node.to_string(),
                        uid: node.to_string(),
                    },
                    event_type: EventType::Warning,
                    reason: "CloneRefused".into(),
                    message: "a second agent claims to be this node; it was refused".into(),
                });
                return self.refuse(id, false);
            }
            self.coordinator_hangs_up(former);
        }
        let session = SessionNonce::new(self.id());
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.session = Some(session);
        let opened = Session {
            nonce: session,
            stream: id,
            heard: self.at,
            answered: false,
            control: [Down::Welcome(session)].into(),
            order: None,
            deregistered: false,
            end: None,
        };
        self.desk.sessions.insert(node, opened);
        if must_go {
            self.desk.deregister(node);
        }
        self.observe(Observation::Connected { node, session, hello: Box::new(hello) });
    }

    /// Whether the agent at the other end answers a probe; a slow one may be taken for dead.
    fn answers(&mut self, id: u64) -> bool {
        let Some(stream) = self.streams.get(&id) else { return false };
        let one = &self.seats[stream.seat];
        let alive = stream.agent_holds && stream.life == one.life && self.passes(stream.seat);
        alive && !(self.desk.faulty && self.dice.one_in(6))
    }

    fn refuse(&mut self, id: u64, unknown: bool) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.down.push_back(Down::End { unknown });
        }
        self.coordinator_hangs_up(id);
    }

    fn observe(&mut self, observation: Observation) {
        self.desk.inbox.push_back(Input::Observation(Box::new(observation)));
    }

    fn ask(&mut self, asker: Asker, command: Command) {
        self.desk.inbox.push_back(Input::Command(Box::new(command), asker));
    }

    fn answer(&mut self, answer: Answer) {
        let Answer { command, asker, outcome } = answer;
        match asker {
            Asker::Person => self.answer_person(&command, outcome),
            Asker::Joiner { seat, life } if self.seats[seat].life == life => {
                self.answer_joiner(seat, outcome);
            }
            Asker::Joiner { .. } => {}
            Asker::Leaver { node, session, empty } => {
                self.answer_leaver(&command, (node, session, empty), outcome);
            }
        }
    }

    fn answer_person(&mut self, command: &Command, outcome: Option<Result<Outcome, Refusal>>) {
        match &outcome {
            Some(Ok(outcome)) => {
                self.account.acknowledged(command, outcome);
                if let Outcome::Token(token) = outcome {
                    self.hand_over(token);
                }
            }
            Some(Err(_)) => self.account.refused(command),
            None => self.account.unheard(command, &self.desk.store.records, &mut self.law),
        }
        self.log.say(&[6], || match &outcome {
            Some(Ok(_)) => format!("done: {command:?}"),
            other => format!("not done: {command:?}: {other:?}"),
        });
    }

    fn answer_joiner(&mut self, seat: usize, outcome: Option<Result<Outcome, Refusal>>) {
        let lost = !self.passes(seat) || (self.desk.faulty && self.dice.one_in(8));
        let one = &mut self.seats[seat];
        one.joining = false;
        match outcome {
            Some(Ok(Outcome::Joined(record))) if !lost && one.rejoins => {
                let uid = record.uid;
                self.rejoined(seat, uid);
            }
            Some(Ok(Outcome::Joined(record))) if !lost && one.identity.is_none() => {
                one.identity = Some(record.uid);
                one.token = None;
                self.account.joined.insert(record.uid);
                self.log.say(&[7, seat as u64], || format!("node-{seat} is {}", record.uid));
            }
            Some(Err(refusal)) if !lost => {
                self.log.say(&[8, seat as u64], || format!("node-{seat} can't join: {refusal:?}"));
                (one.token, one.rejoins) = (None, false);
            }
            _ => {}
        }
    }

    /// The machine is another node from now on, and keeps what it runs: one rename decides, and the
    /// ledger follows, at once or when the agent starts.
    fn rejoined(&mut self, seat: usize, uid: NodeUid) {
        self.agent_hangs_up(seat);
        self.late_down.retain(|(late, ..)| *late != seat);
        let one = &mut self.seats[seat];
        (one.token, one.rejoins) = (None, false);
        let Some(former) = one.identity.replace(uid) else { return };
        let (before, to) =
            (Marks { cluster: CLUSTER, node: former }, Marks { cluster: CLUSTER, node: uid });
        one.formers = everynode_agent_core::ledger::formers(&one.formers, before, to);
        self.account.joined.insert(uid);
        self.log.say(&[7, seat as u64], || format!("node-{seat} was {former} and is {uid}"));
        let one = &mut self.seats[seat];
        if let Some(agent) = &mut one.agent {
            (agent.order, agent.ask_again) = (None, None);
            // Those were said to another; no stream of this one brings them again.
            agent.heard.clear();
            agent.outbox = crate::seat::Outbox::default();
            self.apply(seat, Event::Rejoined(to));
        }
    }

    /// See `sessions/farewell` of the real shell.
    fn answer_leaver(
        &mut self,
        command: &Command,
        (node, nonce, empty): (NodeUid, SessionNonce, bool),
        outcome: Option<Result<Outcome, Refusal>>,
    ) {
        let asker = Asker::Leaver { node, session: nonce, empty };
        let confirms = matches!(command, Command::ConfirmDeparture { .. });
        let end = match outcome {
            Some(Ok(_)) if confirms => {
                if let Some(session) = self.desk.session(node, nonce) {
                    session.control.push_back(Down::Farewell);
                }
                Down::End { unknown: false }
            }
            Some(Ok(_)) if empty => {
                return self.ask(asker, Command::ConfirmDeparture { uid: node });
            }
            Some(Ok(_)) => {
                if self.desk.session(node, nonce).is_some() {
                    self.desk.deregister(node);
                }
                return;
            }
            Some(Err(Refusal::NodeNotLeaving(_))) if confirms => {
                return self.ask(asker, Command::Leave { uid: node });
            }
            Some(Err(Refusal::NodeUnknown(_))) => Down::End { unknown: true },
            Some(Err(_)) | None => Down::End { unknown: false },
        };
        if let Some(session) = self.desk.session(node, nonce) {
            session.end = Some(end);
        }
    }
}
