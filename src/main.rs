//! The binary: reads the command line and runs the command.

use std::process::ExitCode;

use clap::Parser;
use edgeway::cli::Cli;

fn main() -> ExitCode {
    edgeway::net::tls::install_provider();
    Cli::parse().run()
}
