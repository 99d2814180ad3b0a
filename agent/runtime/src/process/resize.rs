//! Holds a pod that runs to other limits, through its supervisor, which does all of it or nothing.

use std::sync::Arc;

use everynode_agent_core::PodRef;
use everynode_model::Reason;

use super::link::{Link, NoAnswer};
use super::{Inner, blocking};
use crate::ResizeRequest;
use crate::cgroup::Cgroup;
use crate::error::ResizeError;
use crate::limits::Shares;
use crate::shim::protocol::{
    Account, IN_DOUBT, Message, NOT_UNDERSTOOD, Request, ResizeContainer, ResizeWanted,
};

pub(super) async fn resize(
    inner: &Arc<Inner>,
    pod: &PodRef,
    request: ResizeRequest,
) -> Result<(), ResizeError> {
    let asker = inner.links().get(&pod.uid).map(Link::asker);
    let asker = asker.ok_or_else(|| ResizeError::NotSupervised(pod.clone()))?;
    // One that is too old to know the request is not asked: with what it does not understand it drops
    // the descriptors of others that it has just received.
    match asker.ask(Request::Account {}).await {
        Ok(Message::Account(Account { resizes: true, .. })) => {}
        Ok(_) => return Err(ResizeError::SupervisorTooOld),
        Err(NoAnswer::Silent) => return Err(ResizeError::NotAsked(pod.clone())),
        Err(NoAnswer::Lost) => return Err(ResizeError::NotSupervised(pod.clone())),
    }
    let (shared, at) = (Arc::clone(inner), pod.clone());
    let spec = request.spec.clone();
    let (cgroup, shares) = blocking(move || {
        let cgroup = shared.cgroup_of(&at)?;
        let shares = shared.controllers.shares_of(&cgroup, &spec)?;
        Ok::<_, ResizeError>((cgroup, shares))
    })
    .await?;
    match asker.ask(Request::Resize(wanted(&request, shares))).await {
        Ok(Message::Resized {}) => {
            // What its place and namespace weigh follows from it.
            let shared = Arc::clone(inner);
            blocking(move || shared.controllers.weigh(cgroup.path())).await;
            Ok(())
        }
        Ok(Message::Refused { code, .. }) if code == NOT_UNDERSTOOD => {
            Err(ResizeError::SupervisorTooOld)
        }
        Ok(Message::Refused { code, message }) if code == IN_DOUBT => {
            Err(ResizeError::InDoubt(message))
        }
        Ok(Message::Refused { code, message }) => {
            Err(ResizeError::Refused(Reason::new(code, message)))
        }
        Err(NoAnswer::Silent) => Err(ResizeError::Silent(pod.clone())),
        Ok(_) | Err(NoAnswer::Lost) => Err(ResizeError::NotSupervised(pod.clone())),
    }
}

fn wanted(request: &ResizeRequest, shares: Shares) -> ResizeWanted {
    let containers = request.spec.containers.iter().zip(shares.containers);
    let of = |(container, share): (&everynode_agent_core::ContainerSpec, _)| ResizeContainer {
        name: container.name.clone(),
        share,
        oom_score: container.oom_score,
    };
    ResizeWanted {
        set: request.set.to_string(),
        revision: request.revision.to_string(),
        replace: request.replace,
        whole: shares.whole,
        containers: containers.map(of).collect(),
    }
}

impl Inner {
    /// Where a pod that is there lives.
    fn cgroup_of(&self, pod: &PodRef) -> Result<Cgroup, ResizeError> {
        let found = self.root.found(&pod.key, pod.uid);
        let found =
            found.map_err(|source| ResizeError::io(self.root.place(&pod.key).path(), source));
        found?.map(|(cgroup, _)| cgroup).ok_or_else(|| ResizeError::NotSupervised(pod.clone()))
    }
}
