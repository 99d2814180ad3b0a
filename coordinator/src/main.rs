//! The program; everything is in the library.

use std::process::ExitCode;

/// Gives memory back after a whole fleet has left, which the C library's allocator does not.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    everynode_coordinator::main_with_args(std::env::args_os())
}
