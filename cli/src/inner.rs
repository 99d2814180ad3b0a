use std::ffi::OsString;
use std::process::ExitCode;
pub(crate) fn run(_arguments: &[OsString]) -> Option<ExitCode> { None }
