//! The coordinator's host: the real shell, as a supervisor such as systemd would start it, and what
//! survives its crashes.

use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everynode_agent::random::Random;
use everynode_coordinator::accept::Limits;
use everynode_coordinator::boot::{Booted, boot};
use everynode_coordinator::clock::{Clock, SimulatedClock};
use everynode_coordinator::entropy::Entropy;
use everynode_coordinator::serve::{self, Settings, World};
use everynode_coordinator_core::Config;
use everynode_model::WallTime;
use everynode_store::MemoryStore;
use everynode_store::memory::Fault;
use everynode_transport::{ClientIdentity, Role, Trust};

use crate::log::Log;
use crate::net::{ADDRESS, SimListener};

/// Longer than a tick, so that crashes find commits under way.
const SYNC: Duration = Duration::from_millis(15);
/// Few, so that strangers who never finish theirs are in everybody's way.
const HANDSHAKES: usize = 4;
/// So short that certificates are renewed in every walk, and run out on machines that were away.
const LIFETIME: Duration = Duration::from_secs(20);
/// Between attempts at beginning a reign.
const AGAIN: Duration = Duration::from_millis(500);

/// The date, as it is shown here.
#[derive(Default)]
struct Dates {
    off: i64,
    running: Option<SimulatedClock>,
}

impl Dates {
    fn shown(&self, now: Duration) -> WallTime {
        date_at(now, self.off)
    }
}

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
    clock: Arc<Mutex<Dates>>,
    seed: u64,
    starts: Arc<AtomicU64>,
    log: Log,
}

impl Desk {
    pub(crate) fn new(seed: u64, log: Log) -> Self {
        let store = MemoryStore::new();
        let (admin, clock, starts) = Default::default();
        let desk = Self { store, admin, clock, seed, starts, log };
        desk.mend_store();
        desk
    }

    /// The disk is whole and quick again.
    pub(crate) fn mend_store(&self) {
        self.store.set_latency(SYNC);
        self.store.fail_next(0, Fault::Io);
    }

    /// Who may ask for everything; `None` before the first start.
    pub(crate) fn admin(&self) -> Option<Admin> {
        self.admin.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What runs on the coordinator's host.
    pub(crate) async fn software(self) -> turmoil::Result {
        loop {
            let clock: Arc<dyn Clock> = Arc::new(self.start_clock());
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
                limits: Limits { handshakes: HANDSHAKES, ..Limits::for_files(None) },
                node_certificates: LIFETIME,
            },
        };
        serve::run(world, booted, pending()).await?;
        Err("the coordinator ended by itself".into())
    }

    /// Sets the date so many milliseconds off, for this coordinator and those after it.
    pub(crate) fn set_clock(&self, off: i64) {
        let mut dates = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        dates.off = off;
        if let Some(clock) = &dates.running {
            clock.set(dates.shown(self.log.now()));
        }
    }

    fn start_clock(&self) -> SimulatedClock {
        let mut dates = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let clock = SimulatedClock::start(dates.shown(self.log.now()));
        dates.running = Some(clock.clone());
        clock
    }

    fn make_admin(&self, booted: &Booted) -> turmoil::Result {
        let mut admin = self.admin.lock().unwrap_or_else(PoisonError::into_inner);
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

/// Numbers by which a run of minutes sees what a fleet sees in days.
fn timings() -> Config {
    Config {
        heartbeat_interval: Duration::from_secs(1),
        lease: Duration::from_secs(4),
        registration_window: Duration::from_secs(5),
        ..Config::default()
    }
}

/// When every simulation begins: 2026-11-23.
pub(crate) const BEGIN: i64 = 1_795_392_000_000;

/// What a clock shows that is so many milliseconds off, so long after the beginning.
pub(crate) fn date_at(now: Duration, off: i64) -> WallTime {
    let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    WallTime::from_unix_millis(BEGIN.saturating_add(now).saturating_add(off))
}
