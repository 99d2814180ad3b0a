//! A machine's host: the real agent, as a supervisor such as systemd would start it, and what
//! survives its crashes.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use everynode_agent::clock::TokioClock;
use everynode_agent::facts::Machine as Facts;
use everynode_agent::identity::{Identity, IdentityError, IdentityStore};
use everynode_agent::join::{self, Wish};
use everynode_agent::ledger::{LedgerStore as _, MemoryLedger};
use everynode_agent::local::{Question, Request};
use everynode_agent::random::Random;
use everynode_agent::service::Heart;
use everynode_agent::stage::AllThere;
use everynode_agent::{Outcome, Parts, run};
use everynode_agent_core::{Doubling, Policy};
use everynode_model::{Labels, NodeName, NodeUid};
use everynode_transport::JoinToken;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rcgen::KeyPair;
use tokio::sync::mpsc;

use crate::desk::date_at;
use crate::log::Log;
use crate::machine::Machine;
use crate::net::{ADDRESS, SimDial};
use crate::runtime::SimRuntime;

/// Longer than a tick, so that the world sees every ledger that was ever on disk.
const SYNC: Duration = Duration::from_millis(15);
/// Between looks for a token to join with.
const AGAIN: Duration = Duration::from_millis(500);

/// A machine's place in the simulation: what survives its agent's crashes.
#[derive(Clone)]
pub(crate) struct Seat {
    pub(crate) name: String,
    pub(crate) machine: Machine,
    pub(crate) ledger: MemoryLedger,
    /// What its agents dial with.
    pub(crate) dial: SimDial,
    disk: Arc<Mutex<Disk>>,
    starts: Arc<AtomicU64>,
    seed: u64,
    log: Log,
}

#[derive(Default)]
struct Disk {
    /// In PKCS#8.
    key: Option<Vec<u8>>,
    token: Option<JoinToken>,
    identity: Option<Identity>,
    /// Every node that this machine ever was.
    ever: BTreeSet<NodeUid>,
    boot: u64,
    /// How far the date is off here, in milliseconds, and the clock that shows it.
    off: i64,
    clock: Option<TokioClock>,
    /// People at the machine speak to the agent through this.
    people: Option<mpsc::Sender<Request>>,
}

impl Seat {
    pub(crate) fn new(name: String, seed: u64, log: Log) -> Self {
        Self {
            name,
            machine: Machine::default(),
            ledger: syncing_in(SYNC, &MemoryLedger::default()),
            dial: SimDial::default(),
            disk: Arc::default(),
            starts: Arc::default(),
            seed,
            log,
        }
    }

    pub(crate) fn identity(&self) -> Option<Identity> {
        self.disk().identity.clone()
    }

    /// Which node this machine is.
    pub(crate) fn node(&self) -> Option<NodeUid> {
        self.disk().identity.as_ref().map(|identity| identity.node)
    }

    /// Every node that this machine ever was.
    pub(crate) fn ever(&self) -> BTreeSet<NodeUid> {
        self.disk().ever.clone()
    }

    /// As if it had once been this node.
    pub(crate) fn remember(&self, node: NodeUid) {
        self.disk().ever.insert(node);
    }

    pub(crate) fn give_token(&self, token: JoinToken) {
        self.disk().token = Some(token);
    }

    /// What another machine knows of itself, as a copied data directory would.
    pub(crate) fn become_copy(&self, original: &Self) {
        let from = syncing_in(Duration::ZERO, &original.ledger);
        let to = syncing_in(Duration::ZERO, &self.ledger);
        // Without a sync every one of these is done at once.
        let copied = async {
            for digest in from.bodies().await {
                let body = from.body(digest).await.unwrap_or_default();
                to.put_bodies(vec![(digest, body)]).await?;
            }
            match from.synced() {
                Some(ledger) => to.save(ledger).await,
                None => Ok(()),
            }
        };
        assert!(copied.now_or_never().is_some_and(|done| done.is_ok()), "a ledger is copied");
        self.disk().identity = original.identity();
    }

    /// The data directory is lost; what runs, runs.
    pub(crate) fn lose_data(&self) {
        let ledger = syncing_in(Duration::ZERO, &self.ledger);
        // Fails on a disk that fails: then the ledger is one of an earlier identity.
        let _ = ledger.wipe().now_or_never();
        let mut disk = self.disk();
        let Disk { boot, ever, off, .. } = std::mem::take(&mut *disk);
        *disk = Disk { boot, ever, off, ..Disk::default() };
    }

    /// Sets the date here so many milliseconds off, for this agent and those after it.
    pub(crate) fn set_clock(&self, off: i64) {
        let mut disk = self.disk();
        disk.off = off;
        if let Some(clock) = &disk.clock {
            clock.set(date_at(self.log.now(), off));
        }
    }

    fn clock(&self) -> TokioClock {
        let mut disk = self.disk();
        let clock = TokioClock::starting_at(date_at(self.log.now(), disk.off));
        disk.clock = Some(clock.clone());
        clock
    }

    /// Another boot id from now on.
    pub(crate) fn boot_anew(&self) {
        self.disk().boot += 1;
    }

    /// Somebody at the machine wants it to leave. Says whether an agent was there to hear it.
    pub(crate) fn ask_to_leave(&self) -> bool {
        let people = self.disk().people.clone();
        // The answers are for nobody.
        let (request, _answers) = Request::new(Question::Leave);
        people.is_some_and(|people| people.try_send(request).is_ok())
    }

    /// What runs on this machine's host.
    pub(crate) async fn software(self) -> turmoil::Result {
        let start = self.starts.fetch_add(1, Ordering::Relaxed);
        let mut random = Random::seeded([self.seed, start]);
        loop {
            let identity = self.join(&mut random).await?;
            match run(self.parts(identity, random.fork()), pending()).await? {
                Outcome::Stopped | Outcome::Down => {
                    return Err("the agent stopped by itself".into());
                }
                Outcome::Left => {
                    self.log.say(format_args!("{} has left", self.name));
                    let token = self.disk().token.take();
                    self.lose_data();
                    self.disk().token = token;
                }
            }
        }
    }

    /// As it was, or by joining as soon as there is a token.
    async fn join(&self, random: &mut Random) -> Result<Identity, rcgen::Error> {
        loop {
            if let Some(identity) = self.identity() {
                return Ok(identity);
            }
            let Some(token) = self.disk().token.clone() else {
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            let (clock, wish) = (self.clock(), self.wish(token));
            match join::join(&self.dial, &clock, &wish, &self.key()?, random).await {
                Ok(identity) => {
                    self.log.say(format_args!("{} has joined as {}", self.name, identity.node));
                    let mut disk = self.disk();
                    disk.ever.insert(identity.node);
                    (disk.identity, disk.token) = (Some(identity), None);
                }
                Err(error) => {
                    self.log.say(format_args!("{} {error}", self.name));
                    self.disk().token = None;
                }
            }
        }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self) -> Result<KeyPair, rcgen::Error> {
        let mut disk = self.disk();
        match &disk.key {
            Some(der) => KeyPair::try_from(der.as_slice()),
            None => {
                let key = KeyPair::generate()?;
                disk.key = Some(key.serialize_der());
                Ok(key)
            }
        }
    }

    fn wish(&self, token: JoinToken) -> Wish {
        let tier = if self.seed.is_multiple_of(2) { "a" } else { "b" };
        Wish {
            token,
            // Every seat's name is made of letters, digits and a dash.
            name: NodeName::new(&self.name).unwrap(),
            labels: Labels::from([("tier".into(), tier.into())]),
            taints: Vec::new(),
            machine_id: self.name.clone(),
            addresses: vec![ADDRESS.into()],
        }
    }

    fn parts(&self, identity: Identity, random: Random) -> Parts {
        let (runtime, events) = SimRuntime::on(&self.machine);
        let (people, requests) = mpsc::channel(4);
        let clock = self.clock();
        let mut disk = self.disk();
        disk.people = Some(people);
        Parts {
            dial: Arc::new(self.dial.clone()),
            runtime: Arc::new(runtime),
            events,
            stage: Arc::new(AllThere),
            ledger: Arc::new(self.ledger.clone()),
            identity,
            identities: Arc::new(self.clone()),
            machine: Facts {
                machine_id: self.name.clone(),
                boot_id: format!("{}-boot-{}", self.name, disk.boot),
                hostname: self.name.clone(),
                ..Facts::default()
            },
            policy: policy(),
            random,
            clock: Arc::new(clock),
            streams: None,
            requests: Some(requests),
            heart: Heart::none(),
            vitals: everynode_agent::run::Vitals::default(),
        }
    }
}

impl IdentityStore for Seat {
    fn save(&self, identity: Identity) -> BoxFuture<'static, Result<(), IdentityError>> {
        self.log.say(format_args!("{} has a new certificate", self.name));
        self.disk().identity = Some(identity);
        async { Ok(()) }.boxed()
    }

    fn succeed(&self) -> BoxFuture<'static, Result<Identity, IdentityError>> {
        let none = IdentityError::NoSuccessor { path: self.name.clone().into() };
        async { Err(none) }.boxed()
    }
}

fn policy() -> Policy {
    let secs = Duration::from_secs;
    Policy {
        restart: Doubling { first: secs(1), cap: secs(8) },
        reset_after: secs(20),
        kill: Doubling { first: secs(1), cap: secs(4) },
        write: Doubling { first: secs(1), cap: secs(4) },
    }
}

/// The same disk, through a handle that takes so long to sync.
fn syncing_in(sync: Duration, ledger: &MemoryLedger) -> MemoryLedger {
    let mut ledger = ledger.clone();
    ledger.sync = sync;
    ledger
}
