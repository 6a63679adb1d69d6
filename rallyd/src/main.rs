//! The `rallyd` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    rallyd::cli::main()
}
