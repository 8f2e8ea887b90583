//! Durable sessions that see everything, although their connections are cut now and then.

use super::ledger::Observed;
use crate::support::PATIENCE;
use crate::support::peer::{Happening, Peer};
use crate::support::random::Random;
use edgeway::mqtt::connection::ConnectOptions;
use edgeway::mqtt::{QoS, Version};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// A durable session that sees everything, although its connection is cut now and then.
pub struct Observer {
    pub number: usize,
    peer: Peer,
    pub observed: Observed,
    pub cuts: u64,
}

impl Observer {
    /// Connected, with its subscriptions.
    pub async fn new(port: u16, number: usize) -> Self {
        let mut options = ConnectOptions::new(format!("observer-{number}"));
        options.version = if number.is_multiple_of(2) { Version::V5 } else { Version::V3 };
        options.clean_start = false;
        options.session_expiry_interval = 3600;
        let mut peer = Peer::new(port, options);
        assert!(!peer.connect().await.unwrap().session_present);
        peer.subscribed(&[("soak/#".into(), QoS::ExactlyOnce), ("marker".into(), QoS::ExactlyOnce)]).await;
        Self { peer, observed: Observed::default(), cuts: 0, number }
    }

    /// Reads until the message `marker` comes, which it does after `stop`.
    pub async fn run(mut self, mut random: Random, stop: Arc<AtomicBool>) -> Self {
        // The first is never cut.
        while self.number > 0 && !stop.load(Ordering::Relaxed) {
            let until = Instant::now() + Duration::from_millis(300 + random.below(2000));
            if self.read_until(until).await {
                return self.end().await;
            }
            match random.below(3) {
                0 => self.peer.cut(),
                1 => self.peer.cut_in_a_packet().await,
                _ => self.peer.disconnect().await.unwrap(),
            }
            self.cuts += 1;
            sleep(Duration::from_millis(random.below(300))).await;
            let connected = self.peer.connect().await.unwrap();
            assert!(connected.session_present, "the session of observer {} is gone", self.number);
        }
        loop {
            let before = self.observed.messages;
            if self.read_until(Instant::now() + PATIENCE).await {
                return self.end().await;
            }
            assert!(stop.load(Ordering::Relaxed) || self.observed.messages > before, "an observer sees nothing");
            assert!(self.observed.messages > before, "the marker never came");
        }
    }

    /// Whether the marker came.
    async fn read_until(&mut self, until: Instant) -> bool {
        loop {
            match timeout_at(until, self.peer.next()).await {
                Err(_) => return false,
                Ok(Err(lost)) => panic!("observer {}: {lost}", self.number),
                Ok(Ok(Happening::Message(delivery))) if delivery.message.topic() == "marker" => return true,
                Ok(Ok(Happening::Message(delivery))) => self.observed.note(&delivery),
                Ok(Ok(_)) => {}
            }
        }
    }

    async fn end(mut self) -> Self {
        self.peer.disconnect().await.unwrap();
        self.peer.end_session().await.unwrap();
        self
    }
}
