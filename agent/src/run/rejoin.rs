//! Taken to another coordinator while pods run: the identity first, then everything that speaks in
//! its name. No place is looked at anew, because nothing about any of them has changed.

use everynode_agent_core::{Event, Standing};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::Agent;
use crate::identity::{Identity, IdentityError};
use crate::local::Request;
use crate::session::inbox::Link;
use std::sync::Arc;

type Outcome = Result<Identity, IdentityError>;

/// The step under way, and who waits for it.
#[derive(Default)]
pub(super) struct Rejoining {
    running: Option<(Request, BoxFuture<'static, Outcome>)>,
}

impl Rejoining {
    /// Waits until the step is done; for ever when there is none. May be dropped and called again.
    pub(super) async fn done(&mut self) -> (Request, Outcome) {
        let outcome = match &mut self.running {
            Some((_, running)) => running.await,
            None => return std::future::pending().await,
        };
        match self.running.take() {
            Some((request, _)) => (request, outcome),
            // It was there a moment ago, and nobody else takes it.
            None => std::future::pending().await,
        }
    }
}

impl Agent {
    pub(super) fn rejoin(&mut self, request: Request) {
        if self.node.standing() != Standing::Active || self.node.is_going_down() {
            let line = "this machine is stopping its pods, to leave or to go down: let it finish";
            return request.finish(false, line.into());
        }
        if self.rejoining.running.is_some() {
            return request.finish(false, "this machine is just being taken elsewhere".into());
        }
        self.rejoining.running = Some((request, self.identities.succeed().boxed()));
    }

    /// Whatever is said from now on is said as the new one; whatever the former coordinator still
    /// says is not heard.
    pub(super) fn rejoined(&mut self, request: Request, outcome: Outcome) {
        let identity = match outcome {
            Ok(identity) => identity,
            Err(error) => return request.finish(false, format!("nothing was changed: {error}")),
        };
        tracing::warn!(
            node = %identity.name, uid = %identity.node, cluster = %identity.cluster,
            "this machine was taken to another coordinator; pods run on until it orders",
        );
        if let Some(line) = self.line.take() {
            line.abort();
        }
        self.doer.become_another(&identity);
        self.identity = identity;
        self.shared = Arc::default();
        self.link = Link::Down("not dialled yet".into());
        self.apply(Event::Rejoined(self.identity.marks()));
        self.dial();
        request.finish(true, "the running agent has taken this machine there".into());
    }
}
