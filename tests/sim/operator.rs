//! The operator: asks for changes through the real API, one after the other, and keeps account of
//! what was acknowledged.
//!
//! ```text
//!   sent ── acknowledged ──▶ it is so, until somebody asks for something else
//!    ├──── refused ────────▶ it is as it was
//!    └──── no answer ──────▶ either way; nothing else is asked for until it can't happen any more
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use everynode_model::NodeUid;
use everynode_transport::{Options, connect};
use tokio::sync::mpsc;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::api::{call, is_refusal};
use crate::desk::{Desk, date_at};
use crate::log::Log;
use crate::net::{ADDRESS, SimDial};
use crate::seat::Seat;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(8);
/// After this, and what the world adds to it, a call without an answer has had its effect or never
/// will: many round trips.
const SETTLING: Duration = Duration::from_secs(3);
/// Between looks for the identity that the coordinator's first start leaves.
const AGAIN: Duration = Duration::from_millis(500);
/// More than a walk asks for.
const WISHES: usize = 256;

/// What a DaemonSet is to be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Content {
    /// Makes its template differ from others'.
    pub(crate) version: u64,
    /// The nodes it is for; all without.
    pub(crate) tier: Option<&'static str>,
    /// How its versions are rolled out.
    pub(crate) care: Care,
    /// Whether new pods start beside old ones.
    pub(crate) surge: bool,
}

/// How carefully a version is rolled out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Care {
    /// One node after the other, as Kubernetes does.
    #[default]
    None,
    /// All at once, unless it fails.
    Hold,
    /// Two at a time, and back if it fails.
    Rollback,
    /// One is watched for a while, and back if it fails.
    Canary,
    /// One node keeps what it has.
    Partition,
    Paused,
}

impl Care {
    pub(crate) const ALL: [Self; 6] =
        [Self::None, Self::Hold, Self::Rollback, Self::Canary, Self::Partition, Self::Paused];

    /// The annotations that ask for it, without what all of them begin with.
    pub(crate) const fn annotations(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::None => &[],
            Self::Hold => &[("progress-deadline-seconds", "8")],
            Self::Rollback => &[("progress-deadline-seconds", "8"), ("on-failure", "rollback")],
            Self::Canary => &[
                ("canary", "1"),
                ("canary-wait", "3s"),
                ("progress-deadline-seconds", "8"),
                ("on-failure", "rollback"),
            ],
            Self::Partition => &[("partition", "1")],
            Self::Paused => &[("paused", "true")],
        }
    }

    /// How many nodes may be without at a time, or with two.
    pub(crate) const fn at_a_time(self) -> &'static str {
        match self {
            Self::Hold => "100%",
            Self::Rollback => "50%",
            _ => "1%",
        }
    }
}

/// Something to ask for.
#[derive(Clone)]
pub(crate) enum Wish {
    Apply(&'static str, Content),
    Create(&'static str, Content),
    DeleteSet(&'static str),
    /// Has the pod on that node replaced.
    DeletePod(&'static str, String),
    Label(String, &'static str),
    DeleteNode {
        name: String,
        uid: NodeUid,
        forget: bool,
    },
    /// A token for that machine, which gets it when there is one.
    Token(Seat),
}

/// What was asked for and answered.
#[derive(Default)]
pub(crate) struct Account {
    /// What each DaemonSet may be now.
    pub(crate) sets: BTreeMap<&'static str, BTreeSet<Option<Content>>>,
    /// Nodes of which the end was asked for, by whomever.
    pub(crate) doomed: BTreeSet<NodeUid>,
    /// Those of which the removal was acknowledged.
    pub(crate) removed: BTreeSet<NodeUid>,
    /// Nodes that were to be forgotten.
    pub(crate) forgotten: BTreeSet<NodeUid>,
    /// How much longer than usual something may have been on its way.
    delay: Duration,
    /// Wishes that were not tried yet.
    waiting: usize,
    /// What the API said and may not.
    pub(crate) violations: Vec<String>,
}

/// The world's side of the operator. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Operator {
    wishes: mpsc::Sender<Wish>,
    account: Arc<Mutex<Account>>,
}

/// The operator's own side.
pub(crate) struct Hands {
    wishes: mpsc::Receiver<Wish>,
    account: Arc<Mutex<Account>>,
    desk: Desk,
    log: Log,
    channel: Option<Channel>,
}

impl Operator {
    pub(crate) fn new(desk: &Desk, log: &Log) -> (Self, Hands) {
        let (sender, wishes) = mpsc::channel(WISHES);
        let operator = Self { wishes: sender, account: Arc::default() };
        let account = Arc::clone(&operator.account);
        let hands = Hands { wishes, account, desk: desk.clone(), log: log.clone(), channel: None };
        (operator, hands)
    }

    /// Asks for something, some time from now.
    pub(crate) fn wish(&self, wish: Wish) {
        let mut account = self.account();
        if self.wishes.try_send(wish).is_ok() {
            account.waiting += 1;
        }
    }

    /// What was asked for may from now on take so much longer.
    pub(crate) fn expect_delay(&self, delay: Duration) {
        let mut account = self.account();
        account.delay = account.delay.max(delay);
    }

    /// Whether everything that was wished for was tried.
    pub(crate) fn is_idle(&self) -> bool {
        self.account().waiting == 0
    }

    pub(crate) fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    fn may_be(&mut self, set: &'static str) -> &mut BTreeSet<Option<Content>> {
        self.sets.entry(set).or_insert_with(|| BTreeSet::from([None]))
    }
}

impl Hands {
    /// What runs on the operator's host.
    pub(crate) async fn software(mut self) -> turmoil::Result {
        while self.desk.admin().is_none() {
            tokio::time::sleep(AGAIN).await;
        }
        while let Some(wish) = self.wishes.recv().await {
            if let Some(channel) = self.channel().await {
                self.try_wish(&wish, channel).await;
            }
            self.account().waiting -= 1;
        }
        Ok(())
    }

    async fn channel(&mut self) -> Option<Channel> {
        if self.channel.is_none() {
            let admin = self.desk.admin();
            let admin = admin?;
            let addresses = [ADDRESS.to_owned()];
            let (trust, identity) = (&admin.trust, Some(&admin.identity));
            let options = Options { date: Some(date_at(self.log.now(), 0)), ..Options::default() };
            match connect(&SimDial::default(), &addresses, trust, identity, options).await {
                Ok(connected) => self.channel = Some(connected.channel),
                Err(error) => self.log.say(format_args!("operator: {error}")),
            }
        }
        self.channel.clone()
    }

    async fn try_wish(&mut self, wish: &Wish, channel: Channel) {
        let before = self.expect(wish);
        let answer = tokio::time::timeout(PATIENCE, call(wish, channel)).await;
        let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
        match answer {
            Ok(said) => {
                self.log.say(format_args!("operator: {} done{said}", wish));
                self.acknowledged(wish);
            }
            Err(status) if is_refusal(&status) => {
                self.log.say(format_args!("operator: {} refused", wish));
                self.refused(wish, before, status.code());
            }
            Err(status) => {
                let code = status.code();
                self.log.say(format_args!("operator: {} unknown ({code:?})", wish));
                self.channel = None;
                let settling = SETTLING + self.account().delay;
                tokio::time::sleep(settling).await;
            }
        }
    }

    /// From now on it may be so. Gives what was known before.
    fn expect(&self, wish: &Wish) -> BTreeSet<Option<Content>> {
        let mut account = self.account();
        match wish {
            Wish::Apply(set, content) | Wish::Create(set, content) => {
                let before = account.may_be(set).clone();
                account.may_be(set).insert(Some(content.clone()));
                before
            }
            Wish::DeleteSet(set) => {
                let before = account.may_be(set).clone();
                account.may_be(set).insert(None);
                before
            }
            Wish::DeleteNode { uid, forget, .. } => {
                if *forget {
                    account.forgotten.insert(*uid);
                } else {
                    account.doomed.insert(*uid);
                }
                BTreeSet::new()
            }
            Wish::Token(seat) => {
                // Who had the name gives way to whoever joins with this.
                account.doomed.extend(seat.ever());
                BTreeSet::new()
            }
            Wish::DeletePod(..) | Wish::Label(..) => BTreeSet::new(),
        }
    }

    fn acknowledged(&self, wish: &Wish) {
        let mut account = self.account();
        match wish {
            Wish::Apply(set, content) | Wish::Create(set, content) => {
                account.sets.insert(set, BTreeSet::from([Some(content.clone())]));
            }
            Wish::DeleteSet(set) => {
                account.sets.insert(set, BTreeSet::from([None]));
            }
            Wish::DeleteNode { uid, forget: false, .. } => {
                account.removed.insert(*uid);
            }
            _ => {}
        }
    }

    /// A refusal has no effect, and says how things are.
    fn refused(&self, wish: &Wish, before: BTreeSet<Option<Content>>, code: Code) {
        let mut account = self.account();
        let (set, fits): (_, fn(&Option<Content>) -> bool) = match (wish, code) {
            (Wish::Create(set, _), Code::AlreadyExists) => (set, Option::is_some),
            (Wish::DeleteSet(set), Code::NotFound) => (set, Option::is_none),
            (Wish::Apply(set, _) | Wish::Create(set, _) | Wish::DeleteSet(set), code) => {
                let line = format!("P6: {} of {set} was refused with {code:?}", wish);
                account.violations.push(line);
                return;
            }
            _ => return,
        };
        let left: BTreeSet<_> = before.iter().filter(|content| fits(content)).cloned().collect();
        if left.is_empty() {
            let line = format!("P6: {}: {code:?}, but it was acknowledged otherwise", wish);
            account.violations.push(line);
        }
        account.sets.insert(set, left);
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apply(set, content) => write!(f, "apply {set} {content:?}"),
            Self::Create(set, content) => write!(f, "create {set} {content:?}"),
            Self::DeleteSet(set) => write!(f, "delete {set}"),
            Self::DeletePod(set, node) => write!(f, "delete pod of {set} on {node}"),
            Self::Label(node, tier) => write!(f, "label {node} tier={tier}"),
            Self::DeleteNode { name, forget: true, .. } => write!(f, "forget {name}"),
            Self::DeleteNode { name, .. } => write!(f, "delete node {name}"),
            Self::Token(seat) => write!(f, "token for {}", seat.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content() -> Content {
        Content { version: 1, tier: None, care: Care::None, surge: false }
    }

    /// What is held against the API when it refuses a wish, where the set was one of these before.
    fn told(wish: &Wish, before: &[Option<Content>], code: Code) -> Vec<String> {
        let log = Log::default();
        let (operator, hands) = Operator::new(&Desk::new(1, log.clone()), &log);
        hands.refused(wish, before.iter().cloned().collect(), code);
        operator.account().violations.clone()
    }

    #[test]
    fn refusals_that_can_not_be_are_seen() {
        let (none, some) = (None, Some(content()));
        let create = Wish::Create("all", content());
        assert_eq!(told(&create, std::slice::from_ref(&some), Code::AlreadyExists), [""; 0]);
        assert_eq!(told(&create, &[none.clone(), some.clone()], Code::AlreadyExists), [""; 0]);
        let wrong = [
            told(&create, std::slice::from_ref(&none), Code::AlreadyExists),
            told(&Wish::DeleteSet("all"), std::slice::from_ref(&some), Code::NotFound),
            told(&Wish::Apply("all", content()), &[some], Code::InvalidArgument),
        ];
        for told in wrong {
            assert!(told.len() == 1 && told[0].starts_with("P6: "), "{told:?}");
        }
        assert_eq!(told(&Wish::DeleteSet("all"), &[none], Code::NotFound), [""; 0]);
    }
}
