//! Runs a program in a container, through the pod's supervisor.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use everynode_agent_core::PodRef;
use everynode_model::Reason;

use super::Inner;
use super::link::{Asker, Link, NoAnswer};
use crate::error::ExecError;
use crate::shim::protocol::{
    ExecWanted, FIRST_MAX_LINE, Message, NOT_UNDERSTOOD, Request, line, millis,
};
use crate::{ExecRequest, Executed};

/// How long after its timeout the end of a program is waited for: its supervisor kills for ten
/// seconds what it left behind, and may be short of everything.
const END_WITHIN: Duration = Duration::from_secs(20);

pub(super) async fn exec(
    inner: &Arc<Inner>,
    pod: &PodRef,
    container: &str,
    request: ExecRequest,
) -> Result<Executed, ExecError> {
    let asker = inner.links().get(&pod.uid).map(Link::asker);
    let asker = asker.ok_or_else(|| ExecError::NotSupervised(pod.clone()))?;
    let ExecRequest { argv, stdin, stdout, stderr, terminal, timeout } = request;
    let id = inner.execs.fetch_add(1, Ordering::Relaxed);
    let wanted = ExecWanted {
        id,
        container: container.to_owned(),
        argv,
        terminal,
        timeout_millis: timeout.map(millis),
    };
    if line(&Request::Exec(wanted.clone())).len() > FIRST_MAX_LINE {
        return Err(ExecError::Refused(Reason::new("TooLong", "the command is too long")));
    }
    // From before it is asked for: who gives up while it is being started does not want it either.
    let mut running = Running { asker, id, over: false };
    let asked = running.asker.exec(wanted, [stdin, stdout, stderr]).await;
    let end = match asked {
        Ok((Message::Executing { .. }, end)) => end,
        Ok((Message::Refused { code, message }, _)) => {
            running.over = true;
            return Err(ExecError::Refused(refusal(code, message)));
        }
        Err(NoAnswer::Silent) => return Err(ExecError::Silent(pod.clone())),
        Ok(_) | Err(NoAnswer::Lost) => return Err(ExecError::NotSupervised(pod.clone())),
    };
    let within = timeout.map(|timeout| timeout.saturating_add(END_WITHIN));
    let ended = match within {
        Some(within) => tokio::time::timeout(within, end).await,
        None => Ok(end.await),
    };
    match ended {
        Ok(Ok(executed)) => {
            running.over = true;
            Ok(executed)
        }
        Ok(Err(_)) => Err(ExecError::Interrupted(pod.clone())),
        Err(_) => Err(ExecError::Silent(pod.clone())),
    }
}

/// What a supervisor says that is older than this request is no word for people.
fn refusal(code: String, message: String) -> Reason {
    if code == NOT_UNDERSTOOD {
        let line =
            "the pod's supervisor is of an older version: a pod that is made anew has another";
        return Reason::new("NotSupported", line);
    }
    Reason::new(code, message)
}

/// Kills what runs when nobody waits for its end any more.
struct Running {
    asker: Asker,
    id: u64,
    over: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.over {
            self.asker.end_exec(self.id);
        }
    }
}
