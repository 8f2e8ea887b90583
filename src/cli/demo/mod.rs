//! `edgeway demo`: the main job with nothing attached, on one screen.
//!
//! ```text
//! simulated devices -> the gateway, from a configuration as anybody writes it -> a second broker as the cloud
//!                          |                                                          |
//!                       observer                                                   observer
//!                          +-------------------> scene -> screen or lines <-----------+
//! ```

mod cloud;
mod configuration;
mod devices;
mod folder;
mod ledger;
mod lines;
mod observer;
mod ports;
mod scene;
mod screen;
mod stage;
mod terminal;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{interrupted, run::runtime};
use crate::config::schema::{LogFormat, LogLevel};
use crate::settings;
use crate::telemetry;
use configuration::Places;
use lines::Lines;
use scene::{Event, Scene};
use screen::{Intro, picture};
use stage::Stage;
use terminal::Terminal;

/// The least time between two pictures.
const REDRAW: Duration = Duration::from_millis(100);

/// Show the main job with simulated devices.
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// End by itself after this time, for example 30s or 2m
    #[arg(long = "for", value_name = "TIME")]
    duration: Option<settings::Duration>,
    /// Leave the cloud there all the time
    #[arg(long)]
    steady: bool,
    /// Print the configuration that it runs, and end
    #[arg(long)]
    config: bool,
}

impl Demo {
    /// Plays until it is told to end, which is no failure.
    pub fn run(self) -> ExitCode {
        if self.config {
            // Whoever read our output has seen enough.
            let _ = io::stdout().write_all(configuration::text(&Places::default()).as_bytes());
            return ExitCode::SUCCESS;
        }
        // The cloud goes away on purpose: that is on the screen, and no news for the log.
        telemetry::start(LogLevel::Off, LogFormat::Text);
        match runtime().map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(self.play())) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("edgeway demo: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    async fn play(self) -> anyhow::Result<()> {
        let ended = CancellationToken::new();
        tokio::spawn(until_told(ended.clone(), self.duration.map(|duration| duration.0)));
        let stage = Stage::set(self.steady).await?;
        let Stage { intro, scene, events, running } = stage;
        let shown = show(&intro, scene, events, &ended).await;
        running.stop().await;
        match shown {
            Ok(scene) => {
                // Whoever read our output has seen enough.
                let _ = lines::summary(&scene, &mut io::stdout().lock());
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(anyhow::Error::from(error).context("cannot write to standard output")),
        }
    }
}

/// Cancels `ended` when the user ends the demo, the terminal is closed, or its time is over.
async fn until_told(ended: CancellationToken, duration: Option<Duration>) {
    let time_is_over = async {
        match duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = interrupted() => {}
        () = hung_up() => {}
        () = time_is_over => {}
    }
    ended.cancel();
}

/// The terminal was closed.
async fn hung_up() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::hangup()) {
        Ok(mut hangup) => drop(hangup.recv().await),
        Err(_) => std::future::pending().await,
    }
}

/// Shows what happens until `ended`, and gives what there was to show.
async fn show(
    intro: &Intro,
    mut scene: Scene,
    mut events: mpsc::Receiver<Event>,
    ended: &CancellationToken,
) -> io::Result<Scene> {
    let started = Instant::now();
    let terminal = Terminal::take()?;
    let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut lines = Lines::new(io::stdout());
    if terminal.is_none() {
        lines.intro(intro)?;
    }
    let mut redraw = tokio::time::interval(REDRAW);
    redraw.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = ended.cancelled() => return Ok(scene),
            Some(event) = events.recv() => {
                let at = started.elapsed();
                let news = scene.handle(&event, at);
                if terminal.is_none() {
                    lines.event(&event, news.as_deref(), at)?;
                }
            }
            _ = redraw.tick() => {
                if let Some(terminal) = &terminal {
                    terminal.draw(&picture(intro, &scene, started.elapsed(), terminal.size(), colours))?;
                }
            }
        }
    }
}
