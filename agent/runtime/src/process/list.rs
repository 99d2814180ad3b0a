//! Finds what is alive or left over, and connects to the supervisors that still live: adoption.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use everynode_agent_core::{Found, PodRef, Supervised};
use everynode_model::PodKey;
use futures_util::future::join_all;

use super::Inner;
use super::link::{Address, Link};
use crate::error::ListError;
use crate::shim::protocol::{Message, Request};

/// How long a supervisor may take to give its account. All are asked at once, so that only one that
/// hangs costs this much; a shorter time would give up healthy pods on a machine that is starting
/// everything at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

pub(super) async fn list(inner: &Arc<Inner>) -> Result<Vec<Found>, ListError> {
    let mut found = inner.scan()?;
    join_all(found.iter_mut().filter(|found| found.populated).map(|found| async {
        found.supervised = inner.supervised(found).await;
    }))
    .await;
    // After the supervisors were heard: an end in between is told now.
    let populated = found.iter().filter(|found| found.populated).map(|found| &found.key);
    let places: std::collections::BTreeSet<&PodKey> = populated.collect();
    for key in places {
        inner.watch.arm(key, inner.root.place(key), None).await;
    }
    Ok(found)
}

impl Inner {
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
            });
        }
        if strangers && place.populated().map_err(at)? {
            // Somebody lives in the place itself, under no mark.
            let key = key.clone();
            found.push(Found { key, pod: None, marks: None, populated: true, supervised: None });
        }
        Ok(())
    }

    /// What the pod's supervisor says; from then on its events flow.
    async fn supervised(&self, found: &Found) -> Option<Supervised> {
        let (uid, marks) = (found.pod?, found.marks?);
        let asker = self.links().get(&uid).filter(|link| link.is_open()).map(Link::asker);
        if let Some(asker) = asker {
            let asked = tokio::time::timeout(ANSWER_WITHIN, asker.ask(Request::Account {}));
            return match asked.await {
                Ok(Some(Message::Account(account))) => account.parse().ok(),
                _ => None,
            };
        }
        // One that is just being created is being connected to by its creator.
        if self.creating.lock().unwrap_or_else(PoisonError::into_inner).contains(&found.key) {
            return None;
        }
        let pod = PodRef { key: found.key.clone(), uid };
        let address = Address { directory: self.pod_directory(uid), pod, marks };
        let connected = address.connect(ANSWER_WITHIN).await.inspect_err(|error| {
            tracing::warn!(pod = %address.pod, %error, "its supervisor does not answer");
        });
        let connected = connected.ok()?;
        let supervised = connected.account.parse().ok()?;
        self.links().insert(uid, Link::new(connected, self.events.clone()));
        Some(supervised)
    }
}
