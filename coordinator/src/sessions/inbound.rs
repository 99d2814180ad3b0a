//! The direction from the agent: drained at once, whatever comes.
//!
//! Reports are gathered by place, newest only, until the loop takes them: a loop that waits for a
//! slow disk delays what people see and nothing else; signs of life are noted right here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use everynode_coordinator_core::Observation;
use everynode_model::{NodeCondition, NodeUid, PodKey, PodStatus, Reason, Stamp, carry_log_tails};
use everynode_proto::convert::{required, status};
use everynode_proto::error::Invalid;
use everynode_proto::v1;
use everynode_proto::v1::agent_message::Message;
use tonic::Streaming;

use super::Registration;
use super::farewell;
use super::service::conditions;
use super::session::Session;
use crate::clock::Clock;
use crate::driver::Handle;

/// How many places one node may report on: ten times as many DaemonSets as anybody runs.
pub(super) const MAX_PLACES: usize = 1000;

/// One session's inbound half.
pub(super) struct Inbound {
    pub(super) node: NodeUid,
    pub(super) session: Arc<Session>,
    pub(super) registration: Registration,
    pub(super) handle: Handle,
    pub(super) clock: Arc<dyn Clock>,
}

/// What has come in and was not handed on yet.
#[derive(Default)]
struct Gathered {
    /// The first message after Hello has come, and was not told yet.
    answered: bool,
    places: BTreeMap<PodKey, Vec<PodStatus>>,
    conditions: Option<Vec<NodeCondition>>,
    accepted: Option<Stamp>,
    /// Apart: an old order that is refused says nothing of a newer one that was accepted.
    refused: Option<(Stamp, Reason)>,
}

impl Inbound {
    /// Reads until either side ends; then the node has no session any more.
    pub(super) async fn drain(self, mut stream: Streaming<v1::AgentMessage>) {
        let mut gathered = Gathered::default();
        let mut silent = true;
        loop {
            // What was gathered goes first when there is room for it: news that keeps coming must
            // not keep it back.
            tokio::select! {
                biased;
                () = self.session.closed() => break,
                slot = self.handle.ready_to_observe(), if !gathered.is_empty() => {
                    let Ok(slot) = slot else { break };
                    if let Some(observation) = gathered.next(self.node, &self.session) {
                        slot.observe(observation);
                    }
                }
                message = stream.message() => match message {
                    Ok(Some(message)) => {
                        self.session.touch(self.clock.now().steady);
                        gathered.answered |= std::mem::take(&mut silent);
                        if let Err(invalid) = self.take(message, &mut gathered) {
                            self.session.end(invalid.into());
                            break;
                        }
                    }
                    Ok(None) | Err(_) => break,
                },
            }
        }
        self.end(gathered).await;
    }

    fn take(&self, message: v1::AgentMessage, gathered: &mut Gathered) -> Result<(), Invalid> {
        match required("message", message.message)? {
            Message::Heartbeat(_) => Ok(()),
            Message::ProbeAnswer(_) => {
                self.session.probe_answered();
                Ok(())
            }
            Message::Status(report) => gathered.report(&report),
            Message::Ack(ack) => gathered.acknowledge(&ack),
            Message::Resend(resend) => {
                self.resend(resend);
                Ok(())
            }
            Message::Leave(leave) => {
                self.leave(leave.empty);
                Ok(())
            }
            Message::Hello(_) => Err(Invalid::new("hello", "only the first message may be one")),
        }
    }

    fn resend(&self, resend: v1::Resend) {
        if self.session.resending.swap(true, Ordering::AcqRel) {
            return;
        }
        let reason = resend.reason.as_ref().map(Reason::from);
        tracing::warn!(node = %self.node, ?reason, "the node asks for its whole assignment");
        let (handle, session, node) = (self.handle.clone(), Arc::clone(&self.session), self.node);
        tokio::spawn(async move {
            let order = handle.read(move |fleet, _| fleet.order_of(node).cloned()).await;
            session.resending.store(false, Ordering::Release);
            if let Ok(order) = order {
                session.resend(order);
            }
        });
    }

    /// That it is empty is said once, perhaps while its wish to leave is still being stored, and must
    /// not be passed over.
    fn leave(&self, empty: bool) {
        if self.session.following(empty).swap(true, Ordering::AcqRel) {
            return;
        }
        let (handle, session, node) = (self.handle.clone(), Arc::clone(&self.session), self.node);
        tokio::spawn(async move {
            farewell::leave(handle, Arc::clone(&session), node, empty).await;
            session.following(empty).store(false, Ordering::Release);
        });
    }

    async fn end(self, mut gathered: Gathered) {
        drop(self.registration);
        while let Some(observation) = gathered.next(self.node, &self.session) {
            if self.handle.observe(observation).await.is_err() {
                return;
            }
        }
        let ended = Observation::Disconnected { node: self.node, session: self.session.nonce() };
        // The loop has ended: then it needs no telling.
        let _ = self.handle.observe(ended).await;
    }
}

impl Gathered {
    fn is_empty(&self) -> bool {
        let acknowledged = self.accepted.is_some() || self.refused.is_some();
        let silent = self.places.is_empty() && self.conditions.is_none();
        silent && !acknowledged && !self.answered
    }

    fn report(&mut self, report: &v1::Status) -> Result<(), Invalid> {
        if let Some(said) = &report.conditions {
            self.conditions = Some(conditions(&said.conditions)?);
        }
        for place in &report.places {
            let (key, mut pods) = status::try_place(place)?;
            // What is said once may be in the report that this one replaces.
            carry_log_tails(self.places.get(&key).map_or(&[], Vec::as_slice), &mut pods);
            self.places.insert(key, pods);
        }
        if self.places.len() > MAX_PLACES {
            return Err(Invalid::new("places", format!("more than {MAX_PLACES}")));
        }
        Ok(())
    }

    fn acknowledge(&mut self, ack: &v1::Ack) -> Result<(), Invalid> {
        let stamp = Stamp::try_from(required("stamp", ack.stamp.as_ref())?)?;
        match &ack.refused {
            Some(reason) => self.refused = Some((stamp, reason.into())),
            None => {
                self.refused.take_if(|(refused, _)| *refused == stamp);
                self.accepted = Some(stamp);
            }
        }
        Ok(())
    }

    fn next(&mut self, node: NodeUid, session: &Session) -> Option<Observation> {
        if std::mem::take(&mut self.answered) {
            return Some(Observation::Answered { node, session: session.nonce() });
        }
        if let Some(stamp) = self.accepted.take() {
            return Some(Observation::Acknowledged { node, stamp, refused: None });
        }
        if let Some((stamp, reason)) = self.refused.take() {
            return Some(Observation::Acknowledged { node, stamp, refused: Some(reason) });
        }
        if let Some(conditions) = self.conditions.take() {
            let session = session.nonce();
            return Some(Observation::Conditions { node, session, conditions });
        }
        if self.places.is_empty() {
            return None;
        }
        let places = std::mem::take(&mut self.places).into_iter().collect();
        Some(Observation::Status { node, session: session.nonce(), places })
    }
}
