//! What a revision needs is brought here and checked before anything makes room for it.
//!
//! ```text
//!                     Stage              Staged: there
//!   ┌─────────┐ ────────────▶ ┌───────┐ ─────────────▶ ┌──────┐  a pod of it is made; what it
//!   │ unknown │               │ asked │                │ done │  replaces is stopped first
//!   └─────────┘ ◀─────┐       └───────┘                └──────┘
//!        ▲            │   Stage ▲ │ Staged: not there      │
//!        │  another is │  (it is │ ▼                        │ a pod of it could not be made
//!        │  wanted     │    due) ┌────────┐                │
//!        │             └──────── │ failed │                │
//!        └───────────────────────└────────┘◀── no: unknown ┘
//! ```
//!
//! A place that waits for it keeps what runs there, and says why: whatever can't be brought stops
//! nothing. How, and from where, is the shell's; so is how long to wait, because waits of many machines
//! must be drawn. Which revisions have something to be staged at all is told by
//! [`crate::Node::know_stages`].

use everynode_model::{Digest, Failure, Intent, Item, LogTail, Now, Reason};

use crate::event::{Action, Unstaged};
use crate::place::{Place, Turn, Wait, Want};
use crate::pod::Pod;
use crate::words::next_try;

/// The longest wait between two tries, whatever the shell says: the kubelet's, for images.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(300);

/// See the drawing.
#[derive(Clone, Debug, Default)]
pub(crate) enum Staging {
    #[default]
    Unknown,
    Asked {
        revision: Digest,
        tries: u32,
        /// How far it is.
        line: Option<String>,
    },
    Done(Digest),
    Failed {
        revision: Digest,
        tries: u32,
        wait: Wait,
    },
}

impl Staging {
    /// Why a pod of this revision can't be made yet, and what is done about that.
    pub(crate) fn hindrance(&mut self, item: &Item, turn: &mut Turn<'_>) -> Option<Wait> {
        let tries = match self {
            Self::Done(revision) if *revision == item.revision => return None,
            Self::Asked { revision, tries, line } if *revision == item.revision => {
                return Some(asked(*tries, line.as_deref()));
            }
            Self::Failed { revision, tries, wait } if *revision == item.revision => {
                if wait.until.is_none_or(|until| until > turn.now.steady) {
                    return Some(wait.clone());
                }
                *tries
            }
            _ => 0,
        };
        let (key, revision) = (item.key.clone(), item.revision);
        *self = Self::Asked { revision, tries, line: None };
        turn.out.push(Action::Stage { key, revision, tries });
        (!mutated!(MakeUnstaged)).then(|| asked(tries, None))
    }

    /// `Staging`.
    fn goes_on(&mut self, of: Digest, now: String) {
        if let Self::Asked { revision, line, .. } = self
            && *revision == of
        {
            *line = Some(now);
        }
    }

    /// `Staged`; what was asked of another revision is no answer.
    fn answered(&mut self, of: Digest, outcome: Result<(), Unstaged>, turn: &Turn<'_>) {
        let Self::Asked { revision, tries, .. } = *self else { return };
        if revision != of {
            return;
        }
        *self = match outcome {
            Ok(()) => Self::Done(revision),
            Err(unstaged) => {
                let wait = wait(unstaged, turn.now);
                Self::Failed { revision, tries: tries.saturating_add(1), wait }
            }
        };
    }

    /// What was there need not be there any more.
    pub(crate) fn forget(&mut self) {
        if matches!(self, Self::Done(_)) {
            *self = Self::Unknown;
        }
    }
}

impl Place {
    /// `Staging`: only what people are told changes.
    pub(crate) fn staging(&mut self, of: Digest, line: String) {
        self.staging.goes_on(of, line);
    }

    /// `Staged`. What went wrong is remembered as a failure of the pod that is to be here.
    pub(crate) fn staged(&mut self, of: Digest, outcome: Result<(), Unstaged>, turn: &Turn<'_>) {
        if let Err(Unstaged { reason, .. }) = &outcome
            && self.memory.identity.is_some_and(|identity| identity.revision == of)
        {
            self.memory.last_failure = Some(Failure {
                container: String::new(),
                exit: None,
                reason: reason.clone(),
                at: turn.now.wall,
                log_tail: LogTail::default(),
            });
        }
        self.staging.answered(of, outcome, turn);
    }

    /// Whether the only pod here stays although another is to take its place, because what that needs is
    /// not here. What was deleted ends, also where another of the same name comes after it.
    pub(crate) fn keeps(&mut self, pod: &Pod, want: &Want<'_>, turn: &mut Turn<'_>) -> bool {
        let Want::Pod { item, stages: true, held: false, .. } = want else { return false };
        if pod.identity.set != item.set || item.intent != Intent::Run {
            return false;
        }
        let wait = self.staging.hindrance(item, turn).filter(|_| !mutated!(StopUnstaged));
        if wait.is_some() {
            self.expect(item, turn);
        }
        self.waits = wait;
        self.waits.is_some()
    }
}

/// Until when the next try waits; for ever where none would help.
fn wait(Unstaged { reason, again }: Unstaged, now: Now) -> Wait {
    let Some(again) = again.map(|again| again.min(LONGEST)) else {
        return Wait { reason, until: None };
    };
    let line = next_try(&reason.message, again, now);
    Wait { reason: Reason::new(reason.code, line), until: Some(now.steady.after(again)) }
}

fn asked(tries: u32, line: Option<&str>) -> Wait {
    let line = line.unwrap_or("what this revision needs is brought here and checked");
    let line = match tries {
        0 => line.into(),
        tries => format!("{line}, try {}", tries + 1),
    };
    Wait { reason: Reason::new("Staging", line), until: None }
}
