//! What waits to be told to the coordinator: at most one of each kind, newer news in the place of
//! older. Reports are cumulative, so a skipped one hides nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use everynode_model::{PodKey, PodStatus, Reason, Stamp};
use everynode_proto::convert::status;
use everynode_proto::v1;
use everynode_proto::v1::agent_message::Message;
use tokio::sync::Notify;

/// The most places of one report: some 100 KiB, well under a message's limit.
const PLACES_PER_REPORT: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    probe: Option<u64>,
    ack: Option<v1::Ack>,
    /// Apart: an old order that is refused says nothing of a newer one that was accepted.
    refusal: Option<v1::Ack>,
    resend: Option<v1::Reason>,
    places: BTreeMap<PodKey, v1::Place>,
    leave: Option<bool>,
    heartbeat: bool,
}

impl Outbox {
    /// Answers a probe.
    pub(crate) fn answer_probe(&self, number: u64) {
        self.put(|waiting| waiting.probe = Some(number));
    }

    /// Answers an order.
    pub(crate) fn acknowledge(&self, stamp: &Stamp, refused: Option<&Reason>) {
        let ack = v1::Ack { stamp: Some(stamp.into()), refused: refused.map(Into::into) };
        self.put(|waiting| {
            if ack.refused.is_some() {
                waiting.refusal = Some(ack);
            } else {
                // What was refused and is accepted now is not refused any more.
                waiting.refusal.take_if(|refusal| refusal.stamp == ack.stamp);
                waiting.ack = Some(ack);
            }
        });
    }

    /// Asks for the whole assignment.
    pub(crate) fn ask_for_whole(&self, reason: &Reason) {
        self.put(|waiting| waiting.resend = Some(reason.into()));
    }

    /// Reports a place.
    pub(crate) fn report(&self, key: &PodKey, pods: &[PodStatus]) {
        let place = status::place(key, pods);
        self.put(|waiting| {
            waiting.places.insert(key.clone(), place);
        });
    }

    /// Asks to leave, or says that the machine is empty.
    pub(crate) fn leave(&self, empty: bool) {
        self.put(|waiting| waiting.leave = Some(empty));
    }

    /// Has something said, if there is nothing else to say.
    pub(crate) fn heartbeat(&self) {
        self.put(|waiting| waiting.heartbeat = true);
    }

    /// Forgets everything: a session begins, and its Hello says it all.
    pub(crate) fn clear(&self) {
        *self.lock() = Waiting::default();
    }

    /// Whether there is anything to say.
    pub(crate) fn is_empty(&self) -> bool {
        let waiting = self.lock();
        waiting.probe.is_none()
            && waiting.ack.is_none()
            && waiting.refusal.is_none()
            && waiting.resend.is_none()
            && waiting.places.is_empty()
            && waiting.leave.is_none()
            && !waiting.heartbeat
    }

    /// Waits until something was put in since the last time.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The next thing to say, most urgent first. A report before a leave: who leaves has reported
    /// its empty places.
    pub(crate) fn next(&self) -> Option<v1::AgentMessage> {
        let mut waiting = self.lock();
        let message = if let Some(number) = waiting.probe.take() {
            Message::ProbeAnswer(v1::ProbeAnswer { number })
        } else if let Some(ack) = waiting.ack.take().or_else(|| waiting.refusal.take()) {
            Message::Ack(ack)
        } else if let Some(reason) = waiting.resend.take() {
            Message::Resend(v1::Resend { reason: Some(reason) })
        } else if !waiting.places.is_empty() {
            Message::Status(v1::Status { places: waiting.some_places() })
        } else if let Some(empty) = waiting.leave.take() {
            Message::Leave(v1::Leave { empty })
        } else if std::mem::take(&mut waiting.heartbeat) {
            Message::Heartbeat(v1::Heartbeat {})
        } else {
            return None;
        };
        // Whatever is said is a sign of life.
        waiting.heartbeat = false;
        Some(v1::AgentMessage { message: Some(message) })
    }

    fn put(&self, change: impl FnOnce(&mut Waiting)) {
        change(&mut self.lock());
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn some_places(&mut self) -> Vec<v1::Place> {
        let rest = match self.places.keys().nth(PLACES_PER_REPORT).cloned() {
            Some(key) => self.places.split_off(&key),
            None => BTreeMap::new(),
        };
        std::mem::replace(&mut self.places, rest).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use everynode_model::{ClusterId, Digest, Generation, ReignId, Term};
    use uuid::Uuid;

    fn key(number: usize) -> PodKey {
        PodKey::new("default", &format!("p{number:04}")).unwrap()
    }

    fn said(outbox: &Outbox) -> Vec<Message> {
        std::iter::from_fn(|| outbox.next()).filter_map(|message| message.message).collect()
    }

    #[test]
    fn newer_news_replaces_older_and_the_urgent_goes_first() {
        let outbox = Outbox::default();
        outbox.heartbeat();
        outbox.leave(false);
        outbox.leave(true);
        for _ in 0..100 {
            outbox.report(&key(1), &[]);
        }
        outbox.answer_probe(1);
        outbox.answer_probe(2);
        let said = said(&outbox);
        assert!(matches!(
            said.as_slice(),
            [
                Message::ProbeAnswer(v1::ProbeAnswer { number: 2 }),
                Message::Status(_),
                Message::Leave(v1::Leave { empty: true }),
            ]
        ));
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_refusal_takes_no_acceptance_away() {
        let outbox = Outbox::default();
        let stamp = |generation| Stamp {
            cluster: ClusterId::new(Uuid::nil()),
            term: Term(1),
            reign: ReignId::new(Uuid::nil()),
            generation: Generation(generation),
            digest: Digest::of(b""),
        };
        let stale = Reason::new("StaleOrder", "");
        outbox.acknowledge(&stamp(3), Some(&stale));
        outbox.acknowledge(&stamp(3), None);
        outbox.acknowledge(&stamp(2), Some(&stale));
        let said = said(&outbox);
        let [Message::Ack(accepted), Message::Ack(refused)] = said.as_slice() else {
            panic!("{said:?}")
        };
        assert_eq!((accepted.stamp.clone(), &accepted.refused), (Some((&stamp(3)).into()), &None));
        assert_eq!(refused.stamp, Some((&stamp(2)).into()));
    }

    #[test]
    fn long_reports_are_split_and_complete() {
        let outbox = Outbox::default();
        for number in 0..600 {
            outbox.report(&key(number), &[]);
        }
        let sizes: Vec<usize> = said(&outbox)
            .iter()
            .map(|message| match message {
                Message::Status(status) => status.places.len(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(sizes, [256, 256, 88]);
    }

    #[test]
    fn a_heartbeat_is_only_for_when_there_is_nothing_else_to_say() {
        let outbox = Outbox::default();
        outbox.heartbeat();
        assert!(matches!(said(&outbox).as_slice(), [Message::Heartbeat(_)]));
        outbox.clear();
        assert!(outbox.is_empty());
    }
}
