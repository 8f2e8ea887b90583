//! The gateway that is killed: its lives, one after the other.

use super::Phase;
use crate::support::edgeway::Edgeway;
use crate::support::peer::Peer;
use crate::support::random::Random;
use edgeway::mqtt::connection::ConnectOptions;
use std::time::Duration;
use tokio::sync::watch;

/// A gateway that is killed at random moments, and started on the same store.
pub struct Victim {
    pub edgeway: Edgeway,
    pub phase: watch::Sender<Phase>,
    random: Random,
    /// Warnings of all lives, with their numbers.
    pub warnings: Vec<String>,
}

impl Victim {
    pub fn start(configuration: &str, seed: u64, phase: watch::Sender<Phase>) -> Self {
        Self { edgeway: Edgeway::start(configuration), phase, random: Random::new(seed), warnings: Vec::new() }
    }

    /// Lives, and is killed so often; at the end it is alive, and the phase the last one. Ends early when `is_over`.
    pub async fn live_and_die(&mut self, kills: super::Life, is_over: impl Fn() -> bool) {
        for life in 1..=kills {
            let length = self.length_of_a_life();
            tokio::time::sleep(length).await;
            self.kill();
            self.phase.send_modify(|phase| phase.life = life);
            self.edgeway.launch();
            let is_short = self.random.chance(15);
            if !is_short || life == kills {
                self.await_answer().await;
            }
            if is_over() {
                break;
            }
        }
        self.await_answer().await;
        self.phase.send_modify(|phase| phase.is_ending = true);
    }

    /// Waits until the gateway answers clients: it listens before it has read its journal.
    async fn await_answer(&mut self) {
        loop {
            self.edgeway.await_listening();
            let mut peer = Peer::new(self.edgeway.port, ConnectOptions::new("ready"));
            if peer.connect().await.is_ok() {
                return;
            }
        }
    }

    /// Some hardly begin.
    fn length_of_a_life(&mut self) -> Duration {
        let most = if self.random.chance(20) { 40 } else { 900 };
        Duration::from_millis(self.random.below(most))
    }

    fn kill(&mut self) {
        self.keep_warnings();
        let life = self.phase.borrow().life;
        assert!(
            self.edgeway.peer().is_running(),
            "edgeway ended by itself in life {life}\n{}",
            self.warnings.join("\n")
        );
        self.edgeway.kill();
    }

    pub fn keep_warnings(&mut self) {
        let life = self.phase.borrow().life;
        let lines = self.edgeway.peer().stderr().lines();
        self.warnings.extend(lines.iter().map(|line| format!("life {life}: {line}")));
    }
}
