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
        /// Orders are something else than what the records say.
        OrderNothing,
        /// A node that leaves is given an order.
        OrderWhoLeaves,
        /// Orders are given although they are held.
        OrderWhileHeld,
        /// A node whose grant has changed is not told.
        ForgetToOrder,
        /// A fleet that starts over does not know what was handed out before.
        ForgetGenerations,
        /// Every order is the first.
        RepeatGenerations,
        /// A step takes no heed of the budget.
        IgnoreBudget,
        /// Nor of the registration window.
        IgnoreWindow,
        /// Nor of a pause.
        IgnorePause,
        /// Nor of a target that has failed.
        IgnoreFailure,
        /// Nor of who goes first.
        IgnoreCanaries,
        /// A node that a rollout has moved and that went dark since is one that was away before.
        TakeDarkForAway,
        /// Who is not known is taken for removed.
        TearDownUnknown,
        /// Who is removed is taken for empty.
        RemoveAtOnce,
        /// A newcomer replaces whoever has its name.
        ReplaceUnasked,
        /// A newcomer shares its name with whoever has it.
        TakeNameTwice,
        /// A token is as good as new after each use.
        SpendNoToken,
        /// What nodes report is not counted.
        Miscount,
        /// Nobody who watches is told what a node reports.
        KeepQuiet,
        /// A lease never ends.
        NeverLose,
        /// A node that is heard of is not looked at again.
        ForgetDeadline,
        /// Whenever a lease is looked at, something is stored.
        StoreHeartbeats,
        /// What is not as it should be is called fine.
        HideReason,
        /// A changed set is acknowledged and not stored.
        LoseWrite,
        /// Revisions are dropped that nodes run.
        DropRevisionsInUse,
        /// Exceptions outlive their place.
        KeepStrays,
        /// A chunk of grants that is deleted stays in memory.
        KeepDeletedGrants,
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
