//! The `spec-notify` program.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    spec_notify::run(std::env::args_os()).into()
}
