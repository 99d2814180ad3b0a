//! Rules broken on purpose, one at a time: by them `tests/world` proves that each invariant sees what
//! it is there for.
//!
//! Only with the feature `mutations`, which nothing that is shipped turns on. Without it `mutated!` is
//! `false` wherever it stands, and nothing is left of it.

/// Whether this very mutation is chosen.
#[cfg(feature = "mutations")]
macro_rules! mutated {
    ($name:ident) => {
        crate::mutation::is(crate::mutation::Mutation::$name)
    };
}

/// Whether this very mutation is chosen: never.
#[cfg(not(feature = "mutations"))]
macro_rules! mutated {
    ($name:ident) => {
        crate::mutation::never()
    };
}

/// The answer of a program that is shipped.
#[cfg(not(feature = "mutations"))]
#[inline(always)]
pub(crate) const fn never() -> bool {
    false
}

#[cfg(feature = "mutations")]
pub use on::{Mutation, choose, is};

#[cfg(feature = "mutations")]
mod on {
    use std::cell::Cell;

    /// A rule that is broken.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Mutation {
        /// A pod is made before the one that is being stopped was seen dead.
        CreateBeforeEmpty,
        /// A pod whose supervisor is lost is taken for dead.
        TakeLostForDead,
        /// A pod is made beside another although nobody has ordered that.
        SurgeUnordered,
        /// A pod is stopped for a revision that is not staged.
        StopUnstaged,
        /// A pod is made of a revision that is not staged.
        MakeUnstaged,
        /// A pod is replaced although only its limits are others.
        ReplaceForLimits,
        /// A pod is held to the limits of a revision that is not staged.
        ResizeUnstaged,
        /// A pod is asked to take other limits while it is taking some.
        ResizeTwiceAtOnce,
        /// A pod that nobody knows the limits of counts as held to its revision's.
        ForgetDoubt,
        /// A pod is made twice.
        CreateTwice,
        /// A container that starts is started again.
        StartTwice,
        /// Containers start without waiting for those before them.
        StartOutOfTurn,
        /// An init container that is done runs again.
        RepeatInits,
        /// A try of a probe begins while another is under way.
        ProbeTwiceAtOnce,
        /// The other probes are tried before the startup probe has passed.
        ProbeBeforeStarted,
        /// One answer is a verdict.
        IgnoreThresholds,
        /// What was ready once stays so.
        ReadyForEver,
        /// Sidecars are told to end with all others.
        EndSidecarsFirst,
        /// In a pod that ends, containers are started.
        StartWhileEnding,
        /// A machine that leaves goes on starting pods.
        StartWhileLeaving,
        /// So does one that goes down.
        StartWhileGoingDown,
        /// Pods are made before the machine was looked at.
        StartBeforeLooking,
        /// An order is followed before it is on disk.
        FollowBeforeWritten,
        /// An order is acknowledged before it is on disk.
        AnswerBeforeWritten,
        /// A hold is said to count before it is on disk.
        AnswerHoldEarly,
        /// What is held is treated as it is ordered.
        IgnoreHold,
        /// A machine that has a new coordinator does not go on with what the former one ordered.
        ForgetFormers,
        /// What runs is stopped although nobody has said what is to run.
        StopUnordered,
        /// A ledger is written while another is on its way.
        WriteTwiceAtOnce,
        /// An order older than the accepted one counts.
        AcceptOlder,
        /// An order of another reign of the same term counts.
        AcceptContradiction,
        /// An empty order counts that is not marked as meant.
        AcceptUnmeantEmpty,
        /// Another cluster's order counts.
        AcceptOtherCluster,
        /// What was found running is never adopted.
        NeverAdopt,
        /// Another cluster's pod is stopped.
        StopForeign,
        /// Departure is confirmed while something lives.
        ConfirmEarly,
        /// The identity is wiped while something lives.
        WipeEarly,
        /// What failed to be made is not tried again.
        NeverRetry,
        /// What can't be honoured is tried again.
        RetryRefused,
        /// What has too much on disk goes on.
        IgnoreStorage,
        /// What has no more on disk than it may is evicted.
        EvictWithin,
        /// Nobody wakes to kill what does not end.
        ForgetToKill,
        /// A place that waits does not say for what.
        HideReason,
        /// Actions come as they were thought of.
        Disorder,
        /// What was counted of a pod is forgotten with the agent.
        ForgetCounts,
        /// A failed kill is a panic.
        Panic,
    }

    thread_local! {
        static CHOSEN: Cell<Option<Mutation>> = const { Cell::new(None) };
    }

    /// Breaks this rule on this thread from now on, and no other.
    pub fn choose(mutation: Option<Mutation>) {
        CHOSEN.set(mutation);
    }

    /// Whether this rule is broken on this thread.
    pub fn is(mutation: Mutation) -> bool {
        CHOSEN.get() == Some(mutation)
    }
}
