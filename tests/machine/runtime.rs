//! The process runtime's own tests, on a kernel and a hierarchy that the build machine may not have.

use everynode_tests::ground::Ground;
use everynode_tests::{Outcome, ensure};

use crate::debian::{RUNTIME_TESTS, SHIM};
use crate::play;

/// Its contract in both ways of stopping and starting, and all that it promises beside it.
pub(crate) fn its_tests_pass_with_cgroup_v2_alone(ground: &Ground) -> Outcome {
    play(ground, |_, machine| {
        // Where it was built, as the tests know it.
        let shim = ground.program(SHIM);
        let (dir, shim) = (shim.parent().unwrap_or(&shim).display(), shim.display());
        machine.sh(&format!("mkdir -p {dir} && ln -s /usr/bin/{SHIM} {shim}"))?;
        let said = machine.sh(&format!("{RUNTIME_TESTS} --test-threads 2 --nocapture 2>&1"))?;
        ensure!(said.contains("the_contract_on_an_old_kernel ... ok"), "{said}");
        ensure!(!said.contains("skipped:"), "{said}");
        Ok(())
    })
}
