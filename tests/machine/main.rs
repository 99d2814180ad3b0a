//! A whole machine: Debian in qemu, with its own kernel, systemd as the first process, nothing but
//! cgroup v2, and the agent as its service. What a network namespace can't show: units and what they
//! inherit, a power cut, a clean shutdown.
//!
//! ```text
//!   tests/machine/run [NAME…]      installs, makes the image, builds, and plays
//! ```
//!
//! Without the image, which that makes, every scenario is ignored, and says so. The coordinator runs
//! on the host, in a namespace of its own as in `e2e`, so that it survives the machine and its clock;
//! qemu runs in the same namespace, and its user network leads there. Everything that is done or seen
//! on the machine goes through a serial port, so that a pulled cable keeps nobody from looking. What
//! runs is seen there in `/proc`, in cgroups and over HTTP.

mod coordinator;
mod debian;
mod guest;
mod guide;
mod leaving;
mod package;
mod power;
mod qemu;
mod runtime;
mod service;

use std::io::Write as _;
use std::process::ExitCode;

use everynode_tests::ground::Ground;
use everynode_tests::runner::{self, Scenario};
use everynode_tests::{Fleet, Outcome};

use debian::Debian;

const SCENARIOS: &[Scenario] = &[
    ("leaving::a_removed_machine_tears_down", leaving::a_removed_machine_tears_down),
    ("power::going_down_ends_pods_in_order", power::going_down_ends_pods_in_order),
    ("power::a_power_cut_needs_no_coordinator", power::a_power_cut_needs_no_coordinator),
    ("service::pods_outlive_the_agent", service::pods_outlive_the_agent),
    ("package::its_whole_life", package::its_whole_life),
    ("guide::from_a_unit_and_back", guide::from_a_unit_and_back),
    ("runtime::its_tests_pass_with_cgroup_v2_alone", runtime::its_tests_pass_with_cgroup_v2_alone),
    ("coordinator::it_is_a_service_too", coordinator::it_is_a_service_too),
];

fn main() -> ExitCode {
    let (line, scenarios) = match qemu::image() {
        Ok(_) => (format!("the machine is {}", qemu::speed()), SCENARIOS),
        Err(why) => {
            (format!("no whole machine here, its scenarios are passed over: {why}"), &[][..])
        }
    };
    let _ = writeln!(std::io::stdout(), "{line}");
    runner::main(scenarios)
}

/// Plays a scenario on a machine that nothing is installed on, with a coordinator.
fn play_bare(
    ground: &Ground,
    scenario: impl FnOnce(&mut Fleet<'_>, &mut Debian) -> Outcome,
) -> Outcome {
    play_on(ground, Debian::bring_tools, scenario)
}

/// Plays a scenario on a machine that is installed and has not joined, with a coordinator.
fn play(ground: &Ground, scenario: impl FnOnce(&mut Fleet<'_>, &mut Debian) -> Outcome) -> Outcome {
    play_on(ground, Debian::install, scenario)
}

fn play_on(
    ground: &Ground,
    bring: fn(&Debian) -> Outcome,
    scenario: impl FnOnce(&mut Fleet<'_>, &mut Debian) -> Outcome,
) -> Outcome {
    Fleet::play(ground, 0, |fleet| {
        let mut machine = Debian::new(ground, fleet)?;
        let played = machine
            .power_on(fleet)
            .and_then(|()| bring(&machine))
            .and_then(|()| scenario(fleet, &mut machine))
            .and_then(|()| machine.bring_witness(&fleet.witness_dir()));
        played.map_err(|failure| failure.with_report(&machine.report()))
    })
}
