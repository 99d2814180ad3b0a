//! The line to the coordinator: dialled for ever, one session at a time.
//!
//! It carries news and decides nothing: that there is a session, or none, never starts or stops a
//! pod. [`inbox`] and [`outbox`] are all that the loop sees of it.

pub(crate) mod assemble;
pub(crate) mod backoff;
pub(crate) mod inbox;
pub(crate) mod outbox;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use everynode_transport::Dial;

use crate::identity::Identity;
use crate::random::Random;
use backoff::{Backoff, LONG};
use inbox::{Inbox, Link};
use outbox::Outbox;
use stream::{End, Next};

/// A session that lived for so long was a good one: the next dial is a first again.
const GOOD: Duration = Duration::from_secs(60);
/// So many redirects in a row are followed at once; more are a loop.
const REDIRECTS: u32 = 4;

/// Whom to dial, as whom.
pub(crate) struct Line {
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) identity: Identity,
}

/// What the line and the loop share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) inbox: Inbox,
    pub(crate) outbox: Outbox,
}

/// Holds one session after the other; ends when dropped.
pub(crate) async fn keep(line: Line, shared: Arc<Shared>, mut random: Random) {
    let mut backoff = Backoff::default();
    let mut redirected: Option<Vec<String>> = None;
    let mut redirects = 0;
    let mut logged = String::new();
    loop {
        let addresses = redirected.take().unwrap_or_else(|| line.identity.addresses.clone());
        let End { welcomed_for, why, next } =
            stream::hold(&line, &shared, &addresses, &mut random).await;
        if next != Next::Gone && (welcomed_for.is_some() || why != logged) {
            tracing::warn!("no coordinator: {why}");
            logged.clone_from(&why);
        }
        if welcomed_for.is_some_and(|time| time >= GOOD) {
            backoff.reset();
        }
        shared.inbox.put(|news| {
            news.unknown |= next == Next::Unknown;
            news.link = Some(Link::Down(why));
        });
        redirects = if matches!(next, Next::Elsewhere(_)) { redirects + 1 } else { 0 };
        let wait = match next {
            Next::Elsewhere(addresses) => {
                redirected = Some(addresses).filter(|addresses| !addresses.is_empty());
                if redirects <= REDIRECTS { Duration::ZERO } else { backoff.next(&mut random) }
            }
            Next::After(wait) => wait,
            Next::Unknown | Next::InUse => random.below(LONG),
            Next::Dial | Next::Gone => backoff.next(&mut random),
        };
        tokio::time::sleep(wait).await;
    }
}
