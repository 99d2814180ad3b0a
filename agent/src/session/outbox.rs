//! What waits to be told to the coordinator: at most one of each kind, newer news in the place of
//! older. Reports are cumulative, so a skipped one hides nothing.
//!
//! What a container printed before it failed is most of a report on it, and is said once in a session.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use everynode_model::{NodeCondition, PodKey, PodStatus, Reason, Stamp};
use everynode_proto::convert::status;
use everynode_proto::v1;
use everynode_proto::v1::agent_message::Message;
use tokio::sync::Notify;

/// The most places of one report: some 100 KiB, well under a message's limit.
const PLACES_PER_REPORT: usize = 256;

/// How many bytes of one report may have been printed by containers, before the next place is left for
/// the next report: with what one place may add, well under a message's limit of 4 MiB.
const PRINTED_PER_REPORT: usize = 256 * 1024;

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
    /// What of the places' was said in this session, by the ids of the texts: no more than each has.
    said: BTreeMap<PodKey, BTreeSet<u64>>,
    conditions: Option<v1::Conditions>,
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

    /// Tells how the machine is doing, all of it.
    pub(crate) fn tell_conditions(&self, conditions: &[NodeCondition]) {
        let conditions = conditions.iter().map(Into::into).collect();
        self.put(|waiting| waiting.conditions = Some(v1::Conditions { conditions }));
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
            && waiting.conditions.is_none()
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
        } else if !waiting.places.is_empty() || waiting.conditions.is_some() {
            let conditions = waiting.conditions.take();
            Message::Status(v1::Status { places: waiting.some_places(), conditions })
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
        let (mut some, mut printed) = (Vec::new(), 0);
        while some.len() < PLACES_PER_REPORT
            && printed < PRINTED_PER_REPORT
            && let Some((key, mut place)) = self.places.pop_first()
        {
            printed += self.say_printed_once(key, &mut place);
            some.push(place);
        }
        some
    }

    /// Leaves out of a place what was said; how much is left.
    fn say_printed_once(&mut self, key: PodKey, place: &mut v1::Place) -> usize {
        let (said, mut now, mut printed) = (self.said.remove(&key), BTreeSet::new(), 0);
        for failure in place.pods.iter_mut().flat_map(status::failures_mut) {
            let id = failure.log_tail_id;
            if !now.insert(id) || said.as_ref().is_some_and(|said| said.contains(&id)) {
                failure.log_tail = String::new();
            }
            printed += failure.log_tail.len();
        }
        now.remove(&0);
        if !now.is_empty() {
            self.said.insert(key, now);
        }
        printed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use everynode_model::{
        ClusterId, Digest, Failure, Generation, LogTail, PodPhase, PodUid, ReignId, SetUid, Term,
        WallTime,
    };
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

    fn failed(text: &str) -> PodStatus {
        PodStatus {
            key: key(1),
            uid: PodUid::new(Uuid::nil()),
            set: SetUid::new(Uuid::nil()),
            revision: Digest::of(b""),
            replace: 0,
            phase: PodPhase::Running,
            reason: None,
            ready: false,
            ready_for: Duration::ZERO,
            started_at: None,
            restarts: 0,
            times_unready: 0,
            last_failure: Some(Failure {
                container: String::new(),
                exit: None,
                reason: Reason::new("Error", ""),
                at: WallTime::default(),
                log_tail: LogTail::of(text),
            }),
            former_failure: None,
            containers: Vec::new(),
        }
    }

    /// The texts that are said, by report.
    fn printed(outbox: &Outbox) -> Vec<Vec<String>> {
        let of = |place: &v1::Place| place.pods[0].last_failure.clone().unwrap().log_tail;
        let said = said(outbox).into_iter().map(|message| match message {
            Message::Status(report) => report.places.iter().map(of).collect(),
            other => panic!("{other:?}"),
        });
        said.collect()
    }

    #[test]
    fn what_was_printed_is_said_once_until_something_else_was() {
        let outbox = Outbox::default();
        let say = |text: &str| {
            outbox.report(&key(1), &[failed(text)]);
            printed(&outbox).concat()
        };
        assert_eq!(say("boom"), ["boom"]);
        assert_eq!(say("boom"), [""], "the id alone says which");
        assert_eq!(say("bang"), ["bang"]);
        assert_eq!(say("boom"), ["boom"], "the coordinator keeps what the last report had");
        outbox.clear();
        outbox.report(&key(1), &[failed("boom")]);
        assert_eq!(printed(&outbox), [["boom"]], "another session knows nothing of it");
    }

    #[test]
    fn reports_full_of_what_was_printed_are_short() {
        let outbox = Outbox::default();
        let line = format!("{}\n", "x".repeat(1000));
        for number in 0..100 {
            outbox.report(&key(number), &[failed(&line.repeat(8))]);
        }
        let said = printed(&outbox);
        let bytes = said.iter().map(|report| report.concat().len());
        assert!(bytes.max().unwrap() < PRINTED_PER_REPORT + 8 * 1024);
        assert_eq!((said.len(), said.concat().len()), (4, 100));
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
