//! `edgeway run`: runs the gateway until it is told to stop.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use super::interrupted;
use crate::broker::turn;
use crate::config::{self, Environment};
use crate::gateway::Gateway;
use crate::telemetry;

/// The most worker threads: an edge box has few cores, and each costs memory.
const MAX_WORKERS: usize = 4;

/// Run the gateway.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// The configuration: a file, or a folder of *.yaml files [default: /etc/edgeway/edgeway.yaml, then
    /// config/edgeway.yaml; where neither is, a broker for this machine that keeps everything in memory]
    #[arg(short, long, value_name = "PATH")]
    config: Option<PathBuf>,
}

impl Run {
    /// Runs to the end. 2 where the configuration has mistakes, 1 where the gateway cannot start.
    pub fn run(self) -> ExitCode {
        let environment = Environment::process();
        let read = match config::find(self.config.as_deref()) {
            Ok(path) => config::read(&path, &environment),
            // To try it out nobody has to write a file first.
            Err(config::LoadError::Nowhere) => Ok(config::built_in(&environment)),
            Err(error) => Err(error.into()),
        };
        let configuration = match read {
            Ok(configuration) => configuration,
            Err(refused) => {
                eprint!("{}", refused.render(std::io::stderr().is_terminal()));
                return ExitCode::from(2);
            }
        };
        let log = &configuration.settings.log;
        telemetry::start(log.level, log.format);
        match runtime().map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(serve(configuration))) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("edgeway: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}

/// The runtime of a gateway: a worker per core, and at most a few.
pub(super) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    turn::runtime(cores.min(MAX_WORKERS))
}

async fn serve(configuration: config::Configuration) -> anyhow::Result<()> {
    let path = configuration.path.display().to_string();
    let name = configuration.resolved.gateway.clone();
    // From the beginning: whoever ends it while it starts must not cut it off.
    let interruption = tokio::spawn(interrupted());
    let gateway = Gateway::start(configuration).await?;
    tracing::info!(gateway = name, config = path, version = env!("CARGO_PKG_VERSION"), "started");
    if let Err(error) = interruption.await {
        tracing::error!(%error, "cannot wait for signals any more");
    }
    gateway.stop().await;
    Ok(())
}
