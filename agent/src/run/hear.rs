//! What the coordinator said, and what becomes of its orders before the core judges them.
//!
//! ```text
//!   order ─▶ all bodies there? ─▶ written to disk ─▶ the core ─▶ ledger ─▶ acknowledged
//!               └─ no: ask for the whole  └─ not: refuse, ask again later ─┘
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use everynode_agent_core::{Departure, Doubling, Event, Standing};
use everynode_model::{Digest, Intent, Item, Reason, Stamp};

use super::disk::{Done, Told};
use super::{Agent, show};
use crate::session::assemble::Order;
use crate::session::inbox::{News, Opening};

/// Until the whole assignment is asked for again after an order that could not be written: twice as
/// long each time. Soon after somebody has made room, and no burden while nobody has.
const ASK_AGAIN: Doubling =
    Doubling { first: Duration::from_secs(1), cap: Duration::from_secs(30) };

impl Agent {
    /// Takes in what came from the coordinator, in the order in which it is meant.
    pub(super) fn hear(&mut self, news: News) {
        if let Some(link) = news.link {
            self.link = link;
        }
        if let Some(identity) = news.identity {
            self.identity = *identity;
        }
        if let Some(ask) = news.hello {
            // Hello says it all; what waited to be said is in it.
            self.shared.outbox.clear();
            let _ = ask.send(self.opening());
        }
        if let Some(session) = news.welcomed {
            // They were in the Hello.
            self.untold.clear();
            self.apply(Event::Welcomed(session));
            for (key, pods) in show::printed(&self.node, self.clock.now()) {
                self.shared.outbox.report(&key, &pods);
            }
            if self.node.standing() == Standing::Leaving(Departure::Requested)
                && !self.node.is_empty_here()
            {
                self.shared.outbox.leave(false);
            }
        }
        if news.deregistered {
            tracing::warn!("this machine was removed from its cluster: stopping all pods");
            self.apply(Event::Deregistered);
        }
        if let Some(order) = news.order {
            self.take_order(order);
        }
        // One that does not know a node that leaves does not wait to hear of it either.
        let unknown = news.unknown && self.node.standing() != Standing::Active;
        if news.farewell || unknown {
            self.apply(Event::DepartureConfirmed);
        }
    }

    /// Bodies first, then the order that needs them.
    fn take_order(&mut self, order: Order) {
        let there = |item: &&Item| {
            self.held.contains(&item.revision) || order.bodies.contains_key(&item.revision)
        };
        // What is kept or stopped runs, or does not: it needs no body.
        let run = |item: &&Item| item.intent == Intent::Run;
        if let Some(item) = order.assignment.items().filter(run).find(|item| !there(item)) {
            let line = format!("{} needs the body {}", item.key, item.revision);
            self.shared.outbox.ask_for_whole(&Reason::new("BodyMissing", line));
            return;
        }
        self.named = order.assignment.items().map(|item| item.revision).collect();
        self.disk.put_order(order);
    }

    pub(super) fn written(&mut self, done: Done) {
        match done {
            Done::Ledger(Ok(())) => {
                self.unwritten = 0;
                self.apply(Event::Persisted);
                self.drop_unneeded_bodies();
            }
            Done::Ledger(Err(error)) => {
                tracing::error!("cannot write the ledger: {error}");
                self.apply(Event::PersistFailed(Reason::new("WriteFailed", error.to_string())));
            }
            Done::Order(order, Ok(Told { missing: Some(digest), .. })) => {
                self.held.extend(order.bodies.keys());
                let line = format!("a template names the content {digest}");
                self.shared.outbox.ask_for_whole(&Reason::new("BodyMissing", line));
            }
            Done::Order(order, Ok(told)) => {
                self.held.extend(order.bodies.keys());
                let runtimes = self.know(told);
                let runtime =
                    |item: &Item| Some((item.key.clone(), runtimes.get(&item.revision)?.clone()));
                self.apply(Event::Ordered {
                    runtimes: order.assignment.items().filter_map(runtime).collect(),
                    stamp: order.stamp,
                    assignment: order.assignment,
                    empty_is_meant: order.empty_is_meant,
                });
            }
            Done::Order(order, Err(error)) => {
                tracing::error!("cannot write pod templates: {error}");
                let reason = Reason::new("LedgerNotWritten", error.to_string());
                self.refuse(order.stamp, &reason);
            }
            Done::Kept | Done::Mirrored(Ok(())) => {}
            Done::Mirrored(Err(error)) => {
                tracing::warn!("the ledger has only one good copy: {error}");
            }
        }
    }

    /// Refuses an order that the disk would not take, and asks for it again later.
    pub(super) fn refuse(&mut self, stamp: Stamp, reason: &Reason) {
        self.shared.outbox.acknowledge(&stamp, Some(reason));
        let (shared, reason) = (Arc::clone(&self.shared), reason.clone());
        let wait = ASK_AGAIN.nth(self.unwritten);
        self.unwritten = self.unwritten.saturating_add(1);
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            shared.outbox.ask_for_whole(&reason);
        });
    }

    fn opening(&mut self) -> Opening {
        self.drop_unneeded_bodies();
        let now = self.clock.now();
        let conditions = self.conditions.all();
        let said = (self.untold.as_slice(), conditions.as_slice());
        let namespaces = self.doer.makes_namespaces();
        let hello = show::hello(&self.node, &self.machine, &self.held, said, namespaces, now);
        let hello = match &self.streams {
            Some(_) => show::with_streams(hello),
            None => hello,
        };
        Opening { hello, accepted: self.node.ledger().assignment.clone() }
    }

    /// Removes the bodies that nothing names any more. The coordinator takes what its newest order
    /// names for held, and sends all others again; one that took all that it ever sent for held is
    /// asked for the whole.
    fn drop_unneeded_bodies(&mut self) {
        let ledger = self.node.ledger();
        // Nobody knows what is needed, or not yet what the order names that is being stored.
        if ledger.accepted.is_none() || self.disk.stores_order() {
            return;
        }
        let items = ledger.assignment.items().chain(ledger.holds.kept.values());
        let named = items.map(|item| item.revision);
        // A pod that lives may have to be made again as it is, whatever is ordered.
        let living = super::places(&self.node, self.clock.now());
        let living = living.iter().flat_map(|(_, pods)| pods).map(|pod| pod.revision);
        let mut needed: BTreeSet<Digest> =
            named.chain(living).chain(self.named.iter().copied()).collect();
        self.contents.retain(|revision, _| needed.contains(revision));
        self.delivered.forget_all_but(&needed);
        needed.extend(self.contents.values().flatten());
        if !self.held.is_subset(&needed) {
            self.held.retain(|digest| needed.contains(digest));
            self.disk.keep_bodies(needed);
        }
    }
}
