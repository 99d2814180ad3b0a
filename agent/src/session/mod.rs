//! The line to the coordinator: dialled for ever, one session at a time.
//!
//! It carries news and decides nothing: that there is a session, or none, never starts or stops a
//! pod. [`inbox`] and [`outbox`] are all that the loop sees of it.

pub(crate) mod assemble;
pub(crate) mod backoff;
pub(crate) mod inbox;
pub(crate) mod outbox;
mod renew;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use everynode_transport::Dial;

use crate::clock::Clock;
use crate::identity::{Identity, IdentityStore};
use crate::random::Random;
use crate::streams::Door;
use backoff::{Backoff, LONG};
use inbox::{Inbox, Link};
use outbox::Outbox;
use stream::{End, Next};

/// A session that lived for so long was a good one: the next dial is a first again.
const GOOD: Duration = Duration::from_secs(60);
/// So many dials in a row are made at once, after redirects and renewals; more are a loop.
const AT_ONCE: u32 = 4;

/// Whom to dial, as whom.
pub(crate) struct Line {
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) identity: Identity,
    /// Where it is kept when its certificate is renewed.
    pub(crate) store: Arc<dyn IdentityStore>,
    /// For the dates of the coordinator's certificate.
    pub(crate) clock: Arc<dyn Clock>,
    /// For what people elsewhere want to see, where that is served.
    pub(crate) streams: Option<Door>,
}

/// What the line and the loop share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) inbox: Inbox,
    pub(crate) outbox: Outbox,
}

/// Holds one session after the other; ends when dropped.
pub(crate) async fn keep(mut line: Line, shared: Arc<Shared>, mut random: Random) {
    let mut backoff = Backoff::default();
    let mut redirected: Option<Vec<String>> = None;
    let mut at_once = 0;
    let mut logged = String::new();
    loop {
        let addresses = redirected.take().unwrap_or_else(|| line.identity.addresses.clone());
        let End { welcomed_for, why, next } =
            stream::hold(&mut line, &shared, &addresses, &mut random).await;
        let news = !matches!(next, Next::Gone | Next::Renewed);
        if news && (welcomed_for.is_some() || why != logged) {
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
        let soon = matches!(next, Next::Elsewhere(_) | Next::Renewed);
        at_once = if soon { at_once + 1 } else { 0 };
        if let Next::Elsewhere(addresses) = &next {
            redirected = Some(addresses.clone()).filter(|addresses| !addresses.is_empty());
        }
        let wait = match next {
            Next::Elsewhere(_) | Next::Renewed if at_once <= AT_ONCE => Duration::ZERO,
            Next::After(wait) => wait,
            Next::Unknown | Next::InUse => random.below(LONG),
            Next::Dial | Next::Gone | Next::Elsewhere(_) | Next::Renewed => {
                backoff.next(&mut random)
            }
        };
        tokio::time::sleep(wait).await;
    }
}
