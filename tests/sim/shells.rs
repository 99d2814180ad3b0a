//! The real shells on simulated hosts: what a supervisor such as systemd would start there.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use everynode_agent::clock::TokioClock;
use everynode_agent::facts::Machine as Facts;
use everynode_agent::identity::Identity;
use everynode_agent::join::{self, Wish};
use everynode_agent::ledger::{LedgerStore as _, MemoryLedger};
use everynode_agent::local::{Question, Request};
use everynode_agent::random::Random;
use everynode_agent::{Outcome, Parts, run};
use everynode_agent_core::{Doubling, Policy};
use everynode_coordinator::accept::Limits;
use everynode_coordinator::boot::{Booted, boot};
use everynode_coordinator::clock::{Clock, SimulatedClock};
use everynode_coordinator::entropy::Entropy;
use everynode_coordinator::serve::{self, Settings, World};
use everynode_coordinator_core::Config;
use everynode_model::{Labels, NodeName, NodeUid, WallTime};
use everynode_store::MemoryStore;
use everynode_transport::{ClientIdentity, JoinToken, Role, Trust};
use rcgen::KeyPair;
use tokio::sync::mpsc;

use crate::log::Log;
use crate::machine::Machine;
use crate::net::{ADDRESS, SimDial, SimListener};
use crate::runtime::SimRuntime;

/// Longer than a tick, so that the world sees every ledger that was ever on disk.
const SYNC: Duration = Duration::from_millis(15);
/// Between attempts at what a supervisor would try again.
const AGAIN: Duration = Duration::from_millis(500);

/// Who the operator is, and whom it believes.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) identity: ClientIdentity,
    pub(crate) trust: Trust,
}

/// A coordinator's host: what survives its crashes.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) store: MemoryStore,
    admin: Arc<Mutex<Option<Admin>>>,
    seed: u64,
    starts: Arc<AtomicU64>,
    log: Log,
}

/// A machine's place in the simulation: what survives its agent's crashes.
#[derive(Clone)]
pub(crate) struct Seat {
    pub(crate) name: String,
    pub(crate) machine: Machine,
    pub(crate) ledger: MemoryLedger,
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
    /// People at the machine speak to the agent through this.
    people: Option<mpsc::Sender<Request>>,
}

impl Desk {
    pub(crate) fn new(seed: u64, log: Log) -> Self {
        let store = MemoryStore::new();
        store.set_latency(SYNC);
        Self { store, admin: Arc::default(), seed, starts: Arc::default(), log }
    }

    /// Who may ask for everything; `None` before the first start.
    pub(crate) fn admin(&self) -> Option<Admin> {
        lock(&self.admin).clone()
    }

    /// What runs on the coordinator's host.
    pub(crate) async fn software(self) -> turmoil::Result {
        loop {
            let clock: Arc<dyn Clock> = Arc::new(SimulatedClock::start(date()));
            let entropy = Arc::new(Entropy::seeded(self.draw()));
            let listener = SimListener::bind().await?;
            match boot(&self.store, timings(), &clock, &entropy).await {
                Ok(booted) => {
                    self.log.say(format_args!("a reign begins: term {}", booted.cluster.term));
                    return self.reign(listener, booted, clock, entropy).await;
                }
                Err(error) => self.log.say(format_args!("no reign begins: {error}")),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn reign(
        &self,
        listener: SimListener,
        booted: Booted,
        clock: Arc<dyn Clock>,
        entropy: Arc<Entropy>,
    ) -> turmoil::Result {
        self.make_admin(&booted)?;
        let world = World {
            listener,
            store: Arc::new(self.store.clone()),
            clock,
            entropy,
            settings: Settings {
                fleet: timings(),
                advertise: vec![ADDRESS.into()],
                limits: Limits::for_files(None),
            },
        };
        serve::run(world, booted, pending()).await?;
        Err("the coordinator ended by itself".into())
    }

    fn make_admin(&self, booted: &Booted) -> turmoil::Result {
        let mut admin = lock(&self.admin);
        if admin.is_none() {
            let issued = booted.pki.issue_user(booted.cluster.id, "admin", Role::Admin)?;
            *admin = Some(Admin {
                identity: ClientIdentity { chain: issued.chain, key: issued.key },
                trust: Trust::Authorities(booted.pki.authorities()),
            });
        }
        Ok(())
    }

    /// Another seed at every start.
    fn draw(&self) -> u64 {
        let start = self.starts.fetch_add(1, Ordering::Relaxed);
        Random::seeded([self.seed, start]).next_u64()
    }
}

impl Seat {
    pub(crate) fn new(name: String, seed: u64, log: Log) -> Self {
        Self {
            name,
            machine: Machine::default(),
            ledger: syncing_in(SYNC, &MemoryLedger::default()),
            disk: Arc::default(),
            starts: Arc::default(),
            seed,
            log,
        }
    }

    pub(crate) fn identity(&self) -> Option<Identity> {
        lock(&self.disk).identity.clone()
    }

    /// Which node this machine is.
    pub(crate) fn node(&self) -> Option<NodeUid> {
        lock(&self.disk).identity.as_ref().map(|identity| identity.node)
    }

    /// Every node that this machine ever was.
    pub(crate) fn ever(&self) -> BTreeSet<NodeUid> {
        lock(&self.disk).ever.clone()
    }

    pub(crate) fn give_token(&self, token: JoinToken) {
        lock(&self.disk).token = Some(token);
    }

    /// What another machine knows of itself, as a copied data directory would.
    pub(crate) fn become_copy(&self, original: &Self) {
        use futures_util::FutureExt as _;
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
        lock(&self.disk).identity = original.identity();
    }

    /// The data directory is lost; what runs, runs.
    pub(crate) fn lose_data(&self) {
        use futures_util::FutureExt as _;
        let ledger = syncing_in(Duration::ZERO, &self.ledger);
        // Fails on a disk that fails: then the ledger is one of an earlier identity.
        let _ = ledger.wipe().now_or_never();
        let mut disk = lock(&self.disk);
        let Disk { boot, ever, .. } = std::mem::take(&mut *disk);
        *disk = Disk { boot, ever, ..Disk::default() };
    }

    /// Another boot id from now on.
    pub(crate) fn boot_anew(&self) {
        lock(&self.disk).boot += 1;
    }

    /// Somebody at the machine wants it to leave. Says whether an agent was there to hear it.
    pub(crate) fn ask_to_leave(&self) -> bool {
        let people = lock(&self.disk).people.clone();
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
                Outcome::Stopped => return Err("the agent stopped by itself".into()),
                Outcome::Left => {
                    self.log.say(format_args!("{} has left", self.name));
                    let token = lock(&self.disk).token.take();
                    self.lose_data();
                    lock(&self.disk).token = token;
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
            let Some(token) = lock(&self.disk).token.clone() else {
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            match join::join(&SimDial, &self.wish(token), &self.key()?, random).await {
                Ok(identity) => {
                    self.log.say(format_args!("{} has joined as {}", self.name, identity.node));
                    let mut disk = lock(&self.disk);
                    disk.ever.insert(identity.node);
                    (disk.identity, disk.token) = (Some(identity), None);
                }
                Err(error) => {
                    self.log.say(format_args!("{} {error}", self.name));
                    lock(&self.disk).token = None;
                }
            }
        }
    }

    fn key(&self) -> Result<KeyPair, rcgen::Error> {
        let mut disk = lock(&self.disk);
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
        let mut disk = lock(&self.disk);
        disk.people = Some(people);
        Parts {
            dial: Arc::new(SimDial),
            runtime: Arc::new(runtime),
            events,
            ledger: Arc::new(self.ledger.clone()),
            identity,
            machine: Facts {
                machine_id: self.name.clone(),
                boot_id: format!("{}-boot-{}", self.name, disk.boot),
                hostname: self.name.clone(),
                ..Facts::default()
            },
            policy: policy(),
            random,
            clock: Arc::new(TokioClock::starting_at(date())),
            requests: Some(requests),
        }
    }
}

/// Numbers by which a run of minutes sees what a fleet sees in days.
fn timings() -> Config {
    Config {
        heartbeat_interval: Duration::from_secs(1),
        lease: Duration::from_secs(4),
        registration_window: Duration::from_secs(5),
        ..Config::default()
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

/// Certificates are looked at by the real date. Nothing else depends on it.
fn date() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime::from_unix_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The same disk, through a handle that takes so long to sync.
fn syncing_in(sync: Duration, ledger: &MemoryLedger) -> MemoryLedger {
    let mut ledger = ledger.clone();
    ledger.sync = sync;
    ledger
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
