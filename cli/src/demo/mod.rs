//! `demo`: a coordinator and some nodes on this machine, what they promise, and nothing left after.
//!
//! ```text
//!   run ── place: where ── fleet: processes ── play: scenes ── (live until Ctrl-C) ── teardown
//!                                 │                │
//!                              census: what the machine itself says runs, counted again and again
//!                                                  └── view: shows it
//! ```
//!
//! Nothing is mocked: the processes are the real coordinator and agents, on real sockets, with real
//! cgroups; each node has a data directory and a root of cgroups of its own.

mod census;
mod fleet;
mod place;
mod play;
mod processes;
mod signals;
mod stage;
mod teardown;
mod view;

use crate::args::DemoArgs;
use crate::error::Error;
use crate::out::Out;
use fleet::Fleet;
use place::Place;
use signals::Signals;
use stage::Stage;

/// How the play ended.
enum Ending {
    Played(Result<(), Error>),
    Interrupted,
}

/// Plays the demo and removes every trace of it, however it ends.
pub(crate) async fn run(args: &DemoArgs, out: &mut Out) -> Result<(), Error> {
    let mut signals = Signals::catch()?;
    let place = Place::prepare(args.dir.as_deref())?;
    let mut fleet = Fleet::new(place);
    let mut stage = Stage::new(&mut fleet, out);
    let ending = tokio::select! {
        played = play::run(&mut stage, args) => Ending::Played(played),
        () = signals.next() => Ending::Interrupted,
    };
    let broken = stage.broken();
    stage.close()?;
    let clean = teardown::run(&mut fleet, &mut signals, out).await;
    match ending {
        Ending::Played(Err(error)) => Err(error),
        _ if !broken.is_empty() => Err(Error::Failed(broken.join("\n"))),
        _ => clean,
    }
}
