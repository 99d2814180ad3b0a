//! People who want something held or released: answered once it is on disk, and who wants it
//! stopped once it is down.

use std::collections::BTreeMap;
use std::time::Duration;

use everynode_agent_core::{Event, HoldChange, Node, Scope, rfc3339};
use everynode_model::{PodKey, Reason, WallTime};

use super::Agent;
use crate::local::{Question, Request, Target};

/// What a person may write of a hold, in characters: a line.
const MAX_WORDS: usize = 200;

/// See the module. Bounded by the local socket, which serves few at a time.
#[derive(Default)]
pub(super) struct Holders {
    last: u64,
    asked: BTreeMap<u64, (Request, HoldChange)>,
    /// Those who want something down, and what; they are told when it is.
    stopping: Vec<(Request, Scope)>,
}

impl Agent {
    /// Hands on what somebody wants of holds.
    pub(super) fn change_holds(&mut self, request: Request) {
        match change_of(&request.question) {
            Ok(change) => {
                let number = self.holders.ask(request, change.clone());
                self.apply(Event::HoldRequested { request: number, change });
            }
            Err(why) => request.finish(false, format!("error: {why}")),
        }
    }
}

impl Holders {
    /// Remembers who asked, and gives the request's number.
    fn ask(&mut self, request: Request, change: HoldChange) -> u64 {
        self.last += 1;
        self.asked.insert(self.last, (request, change));
        self.last
    }

    /// Tells who asked what became of it.
    pub(super) fn answer(&mut self, number: u64, refused: Option<&Reason>, node: &Node) {
        let Some((request, change)) = self.asked.remove(&number) else { return };
        match (refused, &change) {
            (Some(reason), _) if reason.code == "NotHeld" => {
                request.finish(true, reason.message.clone());
            }
            (Some(reason), _) => {
                request.finish(false, format!("error: {} ({})", reason.message, reason.code))
            }
            (None, HoldChange::Release(scope)) => {
                tracing::warn!("released at this machine: {}", name(scope));
                request.finish(true, format!("{} released", name(scope)));
            }
            (None, HoldChange::Hold { scope, stop, by, .. }) => {
                let text = held(scope, node);
                tracing::warn!(by, "held at this machine: {text}");
                if *stop {
                    let heard = request.say(text);
                    self.stopping.extend(heard.then(|| (request, scope.clone())));
                } else {
                    request.finish(true, text);
                }
            }
        }
    }

    /// Tells those who want something down that it is; where it was released meanwhile, that.
    pub(super) fn look(&mut self, node: &Node) {
        for (request, scope) in std::mem::take(&mut self.stopping) {
            let holds = &node.ledger().holds;
            let hold = match &scope {
                Scope::Node => holds.node.as_ref(),
                Scope::Place(key) => holds.of(key),
            };
            let mut keys = node.keys().filter(|key| is_in(key, &scope));
            if !hold.is_some_and(|hold| hold.stop) {
                request.finish(false, format!("{} was released meanwhile", name(&scope)));
            } else if keys.all(|key| node.is_down(key)) {
                request.finish(true, format!("{} stopped", name(&scope)));
            } else {
                self.stopping.push((request, scope));
            }
        }
    }
}

fn change_of(question: &Question) -> Result<HoldChange, String> {
    match question {
        Question::Hold { target, stop, by, reason, seconds } => Ok(HoldChange::Hold {
            scope: scope_of(target)?,
            stop: *stop,
            by: line(by),
            reason: line(reason),
            lasting: seconds.map(Duration::from_secs),
        }),
        Question::Release { target } => Ok(HoldChange::Release(scope_of(target)?)),
        Question::Report | Question::Leave | Question::Shutdown | Question::Rejoin => {
            Err("this is no question of holds".into())
        }
    }
}

fn scope_of(target: &Target) -> Result<Scope, String> {
    match target {
        Target::All => Ok(Scope::Node),
        Target::Pod(namespace, name) => PodKey::new(namespace, name)
            .map(Scope::Place)
            .map_err(|error| format!("{namespace}/{name}: {error}")),
    }
}

/// What people write, as part of a line that goes up to the coordinator.
fn line(words: &str) -> String {
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().take(MAX_WORDS).collect()
}

fn held(scope: &Scope, node: &Node) -> String {
    let holds = &node.ledger().holds;
    let hold = match scope {
        Scope::Node => holds.node.as_ref(),
        Scope::Place(key) => holds.places.get(key),
    };
    let until = hold.and_then(|hold| hold.until);
    let until = until.map(|at: WallTime| format!(" until {}", rfc3339(at))).unwrap_or_default();
    format!("{} held{until}", name(scope))
}

fn name(scope: &Scope) -> String {
    match scope {
        Scope::Node => "everything on this node".into(),
        Scope::Place(key) => key.to_string(),
    }
}

fn is_in(key: &PodKey, scope: &Scope) -> bool {
    match scope {
        Scope::Node => true,
        Scope::Place(only) => only == key,
    }
}
