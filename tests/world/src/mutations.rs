//! Which rule of the cores has to be broken for which invariant to be seen red.

use everynode_agent_core::mutation::{self as agent, Mutation as Agent};
use everynode_coordinator_core::mutation::{self as coordinator, Mutation as Coordinator};

use crate::run::{Walked, walk};
use crate::world::Plan;

/// A rule that can be broken.
#[derive(Clone, Copy, Debug)]
pub enum Mutation {
    /// One of the agent's.
    Agent(Agent),
    /// One of the coordinator's.
    Coordinator(Coordinator),
}

use Mutation::{Agent as A, Coordinator as C};

/// By breaking this, that is seen red.
pub const TABLE: &[(Mutation, &str)] = &[
    // The promises, seen from outside.
    (A(Agent::CreateBeforeEmpty), "p1_at_most_one"),
    (A(Agent::NeverRetry), "p2_all_comes_right"),
    (A(Agent::NeverAdopt), "p3_what_fits_is_left_alone"),
    (C(Coordinator::TearDownUnknown), "p4_only_the_removed_leave"),
    (C(Coordinator::ReplaceUnasked), "p4_only_who_was_asked_to_is_removed"),
    (C(Coordinator::RemoveAtOnce), "p4_removed_is_empty"),
    (A(Agent::ConfirmEarly), "p4_removed_is_empty"),
    (A(Agent::WipeEarly), "p4_wiped_is_empty"),
    (A(Agent::AcceptOlder), "p5_accepted_never_falls"),
    (A(Agent::AcceptContradiction), "p5_one_content_per_order"),
    (A(Agent::AcceptUnmeantEmpty), "p5_empty_only_when_meant"),
    (A(Agent::AcceptOtherCluster), "p5_only_its_own_clusters"),
    (A(Agent::FollowBeforeWritten), "p5_acts_only_on_what_is_written"),
    (C(Coordinator::LoseWrite), "p6_what_was_acknowledged_is_there"),
    (C(Coordinator::StoreHeartbeats), "p7_calm_writes_nothing"),
    (A(Agent::ForgetCounts), "p8_counts_never_fall"),
    (A(Agent::RetryRefused), "p9_what_cannot_be_honoured_is_left"),
    // What leaves the coordinator, and what is stored.
    (C(Coordinator::OrderNothing), "c_orders_follow_the_store"),
    (C(Coordinator::OrderWhoLeaves), "c_orders_only_to_who_belongs"),
    (C(Coordinator::RepeatGenerations), "c_generations_never_fall"),
    (C(Coordinator::ForgetGenerations), "c_one_content_per_generation"),
    (C(Coordinator::NeverLose), "c_lost_is_by_lease"),
    (C(Coordinator::StoreHeartbeats), "c_observations_store_only_events"),
    (C(Coordinator::KeepDeletedGrants), "c_a_restart_changes_nothing"),
    (C(Coordinator::IgnoreWindow), "c_no_step_before_nodes_could_call"),
    (C(Coordinator::IgnoreBudget), "c_a_rollout_keeps_its_budget"),
    (C(Coordinator::KeepQuiet), "c_watchers_miss_nothing"),
    (C(Coordinator::SpendNoToken), "c_a_token_admits_no_more_than_it_may"),
    // The coordinator core's own.
    (C(Coordinator::IgnoreBudget), "a_step_keeps_the_budget"),
    (C(Coordinator::IgnoreBudget), "a_step_keeps_the_surge"),
    (C(Coordinator::IgnorePause), "a_step_obeys_its_policy"),
    (C(Coordinator::IgnoreFailure), "a_step_obeys_its_policy"),
    (C(Coordinator::IgnoreCanaries), "a_step_obeys_its_policy"),
    (C(Coordinator::TakeDarkForAway), "a_step_counts_whom_it_lost"),
    (C(Coordinator::Miscount), "counters_equal_a_recount"),
    (C(Coordinator::ForgetToOrder), "no_order_ahead_of_records"),
    (C(Coordinator::OrderWhileHeld), "no_order_while_held"),
    (C(Coordinator::DropRevisionsInUse), "grants_name_kept_revisions"),
    (C(Coordinator::KeepStrays), "grants_name_known_nodes"),
    (C(Coordinator::TakeNameTwice), "names_are_unique"),
    (C(Coordinator::HideReason), "every_no_has_a_reason"),
    (C(Coordinator::ForgetDeadline), "deadlines_are_kept"),
    // The agent core's own.
    (A(Agent::TakeLostForDead), "CreatedInUnprovenPlace"),
    (A(Agent::SurgeUnordered), "MadeBesideOthers"),
    (A(Agent::SurgeUnordered), "p5_acts_only_on_what_is_written"),
    (A(Agent::StopUnstaged), "StoppedForUnstaged"),
    (A(Agent::MakeUnstaged), "MadeUnstaged"),
    (A(Agent::IgnoreStorage), "OutlivedItsLimit"),
    (A(Agent::EvictWithin), "EvictedWithinLimits"),
    (A(Agent::ResizeUnstaged), "ResizedAmiss"),
    (A(Agent::ReplaceForLimits), "ReplacedForLimits"),
    (A(Agent::ForgetDoubt), "DoubtForgotten"),
    (A(Agent::CreateTwice), "CreatedTwice"),
    (A(Agent::StartTwice), "StartedWhatIsNotDown"),
    (A(Agent::StartOutOfTurn), "StartedOutOfTurn"),
    (A(Agent::StartWhileEnding), "StartedWhileEnding"),
    (A(Agent::EndSidecarsFirst), "EndedOutOfTurn"),
    (A(Agent::ProbeBeforeStarted), "TriedInVain"),
    (A(Agent::IgnoreThresholds), "ReadyOrNot"),
    (A(Agent::StartWhileLeaving), "StartedWhileLeaving"),
    (A(Agent::StartWhileGoingDown), "StartedWhileGoingDown"),
    (A(Agent::StartBeforeLooking), "StartedBeforeLooking"),
    (A(Agent::FollowBeforeWritten), "StartedUnordered"),
    (A(Agent::AcceptOlder), "OrderWentBack"),
    (A(Agent::AnswerBeforeWritten), "AcknowledgedUnwritten"),
    (A(Agent::AnswerHoldEarly), "AnsweredUnwritten"),
    (A(Agent::IgnoreHold), "StoppedWhileHeld"),
    (A(Agent::ForgetFormers), "StoppedThoughOrdered"),
    (A(Agent::StopUnordered), "StoppedWithoutOrder"),
    (A(Agent::WriteTwiceAtOnce), "WroteTwiceAtOnce"),
    (A(Agent::StopForeign), "TouchedForeign"),
    (A(Agent::ConfirmEarly), "DepartedTooEarly"),
    (A(Agent::HideReason), "Unexplained"),
    (A(Agent::ForgetToKill), "Stuck"),
    (A(Agent::Disorder), "OutOfOrder"),
    (A(Agent::Panic), "nothing_panics"),
];

/// The first of the seeds below `seeds` whose walk shows `rule` broken while `mutation` is in force.
pub fn first_red(mutation: Mutation, rule: &'static str, seeds: u64, storm: u64) -> Option<Walked> {
    choose(Some(mutation));
    let plan = Plan { steps: storm, telling: false, only: Some(rule) };
    let red = (0..seeds).map(|seed| walk(seed, plan)).find(|walked| walked.broken.is_some());
    choose(None);
    red
}

fn choose(mutation: Option<Mutation>) {
    let (one, other) = match mutation {
        Some(A(mutation)) => (Some(mutation), None),
        Some(C(mutation)) => (None, Some(mutation)),
        None => (None, None),
    };
    agent::choose(one);
    coordinator::choose(other);
}
