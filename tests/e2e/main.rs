//! The whole of it: real programs, real processes, machines made of network namespaces.
//!
//! Needs root, and what `tests/run` installs. Each scenario can be played alone:
//!
//! ```text
//!   cargo test -p everynode-tests --test e2e -- NAME [--test-threads 1]
//! ```
//!
//! What runs is seen in `/proc`, in cgroups and over HTTP, not by asking Everynode. Beside the real
//! exporter every fleet can run a lock witness, and no scenario passes in which one met another.

mod artifacts;
mod bad_disks;
mod bad_input;
mod bad_start;
mod breakglass;
mod chaos;
mod clocks;
mod config;
mod daemons;
mod demo;
mod eviction;
mod evidence;
mod exec;
mod frozen;
mod grpc;
mod identity;
mod islands;
mod kills;
mod kubectl;
mod labels;
mod leaving;
mod limits;
mod lives;
mod logs;
mod main_job;
mod namespaces;
mod operations;
mod orphans;
mod recreate;
mod resize;
mod resources;
mod restarts;
mod restored;
mod rollback;
mod settings;
mod surge;
mod top;
mod updates;
mod upkeep;

use std::process::ExitCode;

use everynode_tests::runner::{self, Scenario};

/// The long ones first: they are played some at a time.
const SCENARIOS: &[Scenario] = &[
    ("chaos::everything_is_killed", chaos::everything_is_killed),
    ("leaving::a_removed_machine_tears_down", leaving::a_removed_machine_tears_down),
    ("kills::a_killed_exporter_comes_back", kills::a_killed_exporter_comes_back),
    ("operations::a_day_with_changes", operations::a_day_with_changes),
    ("updates::one_node_at_a_time", updates::one_node_at_a_time),
    (
        "artifacts::programs_are_delivered_and_go_back",
        artifacts::programs_are_delivered_and_go_back,
    ),
    ("artifacts::images_are_pulled_and_go_back", artifacts::images_are_pulled_and_go_back),
    ("config::it_rolls_out_and_back", config::it_rolls_out_and_back),
    ("daemons::a_log_collector", daemons::a_log_collector),
    ("daemons::a_proxy", daemons::a_proxy),
    ("daemons::a_network_agent", daemons::a_network_agent),
    ("rollback::a_bad_version_goes_back_by_itself", rollback::a_bad_version_goes_back_by_itself),
    ("surge::an_old_and_a_new_never_three", surge::an_old_and_a_new_never_three),
    ("demo::it_shows_and_leaves_nothing", demo::it_shows_and_leaves_nothing),
    ("limits::a_machine_without_memory", limits::a_machine_without_memory),
    ("limits::a_machine_without_processes", limits::a_machine_without_processes),
    ("limits::an_agent_without_files", limits::an_agent_without_files),
    ("limits::a_coordinator_without_files", limits::a_coordinator_without_files),
    (
        "bad_disks::one_that_hangs_makes_nobody_look_lost",
        bad_disks::one_that_hangs_makes_nobody_look_lost,
    ),
    ("bad_disks::a_full_node_looks_after_itself", bad_disks::a_full_node_looks_after_itself),
    (
        "bad_disks::a_read_only_node_looks_after_itself",
        bad_disks::a_read_only_node_looks_after_itself,
    ),
    ("bad_disks::a_full_coordinator_says_so", bad_disks::a_full_coordinator_says_so),
    ("bad_disks::a_read_only_coordinator_says_so", bad_disks::a_read_only_coordinator_says_so),
    ("frozen::a_shim_gets_no_rival", frozen::a_shim_gets_no_rival),
    ("frozen::a_coordinator_loses_nobody", frozen::a_coordinator_loses_nobody),
    ("frozen::an_agent_is_lost_and_found", frozen::an_agent_is_lost_and_found),
    ("logs::no_line_is_lost_and_nobody_waits", logs::no_line_is_lost_and_nobody_waits),
    ("logs::they_are_shown_as_kubectl_shows_them", logs::they_are_shown_as_kubectl_shows_them),
    ("logs::a_run_ends_and_the_one_before_is_kept", logs::a_run_ends_and_the_one_before_is_kept),
    ("logs::whoever_goes_leaves_nothing_open", logs::whoever_goes_leaves_nothing_open),
    ("exec::it_ends_with_whoever_wanted_it", exec::it_ends_with_whoever_wanted_it),
    ("exec::nobody_waits_for_a_slow_one", exec::nobody_waits_for_a_slow_one),
    ("exec::a_program_runs_as_its_container_does", exec::a_program_runs_as_its_container_does),
    ("exec::a_terminal_is_one", exec::a_terminal_is_one),
    ("main_job::one_on_every_machine", main_job::one_on_every_machine),
    ("islands::a_cut_off_node_looks_after_itself", islands::a_cut_off_node_looks_after_itself),
    ("islands::a_reboot_needs_no_coordinator", islands::a_reboot_needs_no_coordinator),
    ("kills::a_killed_coordinator_loses_nothing", kills::a_killed_coordinator_loses_nothing),
    ("kills::a_killed_agent_finds_its_pods", kills::a_killed_agent_finds_its_pods),
    ("kills::a_killed_shim_is_no_proof_of_death", kills::a_killed_shim_is_no_proof_of_death),
    ("eviction::who_has_too_much_on_disk_is_ended", eviction::who_has_too_much_on_disk_is_ended),
    ("evidence::of_a_revision_that_was_rolled_back", evidence::of_a_revision_that_was_rolled_back),
    ("restarts::nothing_grows_with_them", restarts::nothing_grows_with_them),
    ("resources::limits_hold_and_leave_nothing", resources::limits_hold_and_leave_nothing),
    ("resize::limits_change_as_they_run", resize::limits_change_as_they_run),
    ("lives::they_start_and_end_in_order", lives::they_start_and_end_in_order),
    ("namespaces::what_is_not_shared_is_its_own", namespaces::what_is_not_shared_is_its_own),
    ("labels::a_pod_reads_its_nodes_labels", labels::a_pod_reads_its_nodes_labels),
    ("top::the_busy_and_the_large_are_told", top::the_busy_and_the_large_are_told),
    ("orphans::run_on_until_they_are_taken_over", orphans::run_on_until_they_are_taken_over),
    ("restored::onto_yesterdays_copy", restored::onto_yesterdays_copy),
    ("settings::a_file_is_as_good_as_flags", settings::a_file_is_as_good_as_flags),
    ("kills::a_full_log_ends_no_agent", kills::a_full_log_ends_no_agent),
    ("recreate::gone_then_one_everywhere", recreate::gone_then_one_everywhere),
    ("clocks::wrong_clocks_change_nothing", clocks::wrong_clocks_change_nothing),
    ("identity::one_agent_per_identity", identity::one_agent_per_identity),
    ("identity::a_lost_data_directory", identity::a_lost_data_directory),
    ("identity::a_rebuilt_coordinator", identity::a_rebuilt_coordinator),
    ("identity::unknown_is_not_removed", identity::unknown_is_not_removed),
    ("identity::certificates_renew_themselves", identity::certificates_renew_themselves),
    ("grpc::grpcurl_does_it_all", grpc::grpcurl_does_it_all),
    ("bad_input::manifests", bad_input::manifests),
    ("kubectl::its_verbs", kubectl::its_verbs),
    ("bad_start::tokens", bad_start::tokens),
    ("breakglass::a_held_pod_waits_and_says_so", breakglass::a_held_pod_waits_and_says_so),
    ("breakglass::a_lost_ledger_stops_nothing", breakglass::a_lost_ledger_stops_nothing),
    ("bad_start::places", bad_start::places),
];

fn main() -> ExitCode {
    runner::main(SCENARIOS)
}
