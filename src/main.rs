//! The `stratagem` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    stratagem::cli::main()
}
