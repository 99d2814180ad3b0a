//! Finds what is alive or left over, and connects to the supervisors that still live: adoption.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use everynode_agent_core::{Found, PodRef, Supervised};
use everynode_model::PodKey;
use futures_util::future::join_all;

use super::link::{Asker, Link, NoAnswer};
use super::{Inner, sweep};
use crate::error::ListError;
use crate::place::Mark;
use crate::shim::plan::WirePlan;
use crate::shim::protocol::{Account, Message, Request};
use crate::watch::Spot;

/// How long a supervisor may take to give its account before it is listed as silent. All are asked
/// at once, so that only one that hangs costs this much.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

pub(super) async fn list(inner: &Arc<Inner>) -> Result<Vec<Found>, ListError> {
    let mut found = inner.scan()?;
    found.iter().for_each(|found| inner.weigh(found));
    sweep::pods(inner, &found).await;
    join_all(found.iter_mut().filter(|found| found.populated).map(|found| async {
        match inner.word_of(found).await {
            Word::Said(supervised) => found.supervised = Some(supervised),
            Word::Silent => found.silent = true,
            Word::None => {}
        }
    }))
    .await;
    // After the supervisors were heard: an end in between is told now.
    let mut places: BTreeMap<&PodKey, Vec<&Found>> = BTreeMap::new();
    for one in found.iter().filter(|found| found.populated) {
        places.entry(&one.key).or_default().push(one);
    }
    for (key, alive) in places {
        inner.watch.arm(&Spot::Place(key.clone()), inner.root.place(key), None).await;
        for one in alive.iter().filter(|_| alive.len() > 1) {
            inner.watch_pod(one).await;
        }
    }
    Ok(found)
}

/// What came of asking a pod's supervisor.
enum Word {
    Said(Supervised),
    /// It lives, and has not answered yet.
    Silent,
    /// There is none, or none that could be understood.
    None,
}

impl Inner {
    /// What is above a pod weighs what it does: a former agent may have died between the two.
    fn weigh(&self, found: &Found) {
        if let (true, Some(pod), Some(marks)) = (found.populated, found.pod, found.marks) {
            self.controllers.weigh(self.root.pod(&found.key, &Mark { marks, pod }).path());
        }
    }

    /// The end of one of several pods in a place is told.
    async fn watch_pod(&self, found: &Found) {
        let (Some(uid), Some(marks)) = (found.pod, found.marks) else { return };
        let cgroup = self.root.pod(&found.key, &Mark { marks, pod: uid });
        let pod = PodRef { key: found.key.clone(), uid };
        self.watch.arm(&Spot::Pod(pod), cgroup, None).await;
    }

    /// The cgroup tree as it is: kept in the kernel's memory, so reading it waits for nothing.
    fn scan(&self) -> Result<Vec<Found>, ListError> {
        let keys = self.root.places();
        let keys = keys.map_err(|source| ListError::io(self.root.cgroup().path(), source))?;
        let mut found = Vec::new();
        for key in keys {
            self.scan_place(&key, &mut found)?;
        }
        Ok(found)
    }

    fn scan_place(&self, key: &PodKey, found: &mut Vec<Found>) -> Result<(), ListError> {
        let place = self.root.place(key);
        let at = |source| ListError::io(place.path(), source);
        // Before its pods: one that ends meanwhile must not make the rest a stranger's.
        let mut strangers = place.populated().map_err(at)?;
        for (cgroup, mark) in self.root.pods(key).map_err(at)? {
            let populated = cgroup.populated().map_err(at)?;
            strangers &= !populated;
            found.push(Found {
                key: key.clone(),
                pod: mark.map(|mark| mark.pod),
                marks: mark.map(|mark| mark.marks),
                populated,
                supervised: None,
                silent: false,
            });
        }
        if strangers && place.populated().map_err(at)? {
            // Somebody lives in the place itself, under no mark.
            found.push(Found {
                key: key.clone(),
                pod: None,
                marks: None,
                populated: true,
                supervised: None,
                silent: false,
            });
        }
        Ok(())
    }

    /// What the pod's supervisor says; from then on its events flow. One that is silent is sought,
    /// and what becomes of it is told.
    async fn word_of(&self, found: &Found) -> Word {
        let (Some(uid), Some(marks)) = (found.pod, found.marks) else { return Word::None };
        let asker = self.links().get(&uid).filter(|link| link.is_open()).map(Link::asker);
        if let Some(asker) = asker {
            return match tokio::time::timeout(ANSWER_WITHIN, both(&asker)).await {
                Ok(Ok((plan, Message::Account(account)))) => Word::of(&account, &plan),
                Ok(Err(NoAnswer::Silent)) | Err(_) => Word::Silent,
                Ok(Ok(_) | Err(NoAnswer::Lost)) => Word::None,
            };
        }
        // One that is just being created is being connected to by its creator.
        if self.creating.lock().unwrap_or_else(PoisonError::into_inner).contains(&found.key) {
            return Word::Silent;
        }
        let address = self.address(PodRef { key: found.key.clone(), uid }, marks);
        let (word, link) = match address.connect(ANSWER_WITHIN).await {
            Ok(connected) => match Word::of(&connected.account, &connected.plan) {
                Word::None => return Word::None,
                word => (word, Link::new(connected, self.events.clone())),
            },
            Err(error) => {
                tracing::warn!(pod = %address.pod, %error, "its supervisor does not answer");
                if address.is_dead(&error) {
                    return Word::None;
                }
                (Word::Silent, Link::seeking(address, found.clone(), self.events.clone()))
            }
        };
        self.links().insert(uid, link);
        word
    }
}

/// The plan, and what is answered to the question for the account.
async fn both(asker: &Asker) -> Result<(WirePlan, Message), NoAnswer> {
    let plan = match asker.ask(Request::Plan {}).await? {
        Message::Plan(plan) => plan,
        // It is too old to know.
        _ => WirePlan::default(),
    };
    Ok((plan, asker.ask(Request::Account {}).await?))
}

impl Word {
    fn of(account: &Account, plan: &WirePlan) -> Self {
        account.parse(plan).map_or(Self::None, Self::Said)
    }
}
