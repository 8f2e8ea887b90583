//! The command line: a file per command.

pub mod check;
mod connection;
mod demo;
pub mod explain;
mod format;
mod outlook;
mod passwd;
mod payload;
mod publish;
mod run;
mod store;
mod subscribe;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::schema::{LogFormat, LogLevel};
use crate::telemetry;

/// A timeout of the user's own ran out; what mosquitto's commands exit with.
const EXIT_TIMEOUT: u8 = 27;

/// An MQTT gateway for the edge: a broker, device adapters and bridges to the cloud.
#[derive(Debug, Parser)]
#[command(name = "edgeway", version, propagate_version = false)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway.
    Run(run::Run),
    /// Check a configuration: say every mistake, or what would run.
    Check(check::Check),
    /// Say which bridges take a topic where, and why others do not.
    Explain(explain::Explain),
    /// Show the main job with simulated devices and a second broker as the cloud.
    Demo(demo::Demo),
    /// Make the hash of a password for `users`.
    Passwd(passwd::Passwd),
    /// Look at the journal of a gateway that is stopped.
    Store(store::Store),
    /// Publish messages, like mosquitto_pub.
    Pub(Box<publish::Publish>),
    /// Subscribe and print what comes, like mosquitto_sub.
    Sub(Box<subscribe::Subscribe>),
}

impl Cli {
    /// Runs the command to its end and says how the process ends.
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Run(command) => command.run(),
            Command::Check(command) => command.run(),
            Command::Explain(command) => command.run(),
            Command::Demo(command) => command.run(),
            Command::Passwd(command) => command.run(),
            Command::Store(command) => command.run(),
            Command::Pub(command) => {
                start_log(command.connection.debug, command.connection.quiet);
                on_one_thread("pub", command.run())
            }
            Command::Sub(command) => {
                start_log(command.connection.debug, command.connection.quiet);
                on_one_thread("sub", command.run())
            }
        }
    }
}

/// Runs a small client command; its failure is a line on standard error and exit status 1.
fn on_one_thread(name: &str, command: impl Future<Output = anyhow::Result<ExitCode>>) -> ExitCode {
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(command));
    outcome.unwrap_or_else(|error| {
        eprintln!("edgeway {name}: {error:#}");
        ExitCode::FAILURE
    })
}

fn start_log(debug: bool, quiet: bool) {
    let level = match (debug, quiet) {
        (true, _) => LogLevel::Debug,
        (false, true) => LogLevel::Off,
        (false, false) => LogLevel::Warn,
    };
    telemetry::start(level, LogFormat::Text);
}

/// Ctrl-C, or what `kill` and service managers send.
async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                tokio::select! {
                    _ = tokio::signal::ctrl_c() => {}
                    _ = terminate.recv() => {}
                }
                return;
            }
            Err(error) => tracing::warn!(%error, "cannot listen for SIGTERM"),
        }
    }
    // Where signals cannot be listened for, they end the process as usual.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn no_two_flags_contradict_each_other() {
        Cli::command().debug_assert();
    }
}
