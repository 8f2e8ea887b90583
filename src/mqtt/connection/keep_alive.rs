//! Keep alive: when a PINGREQ is due and when the peer counts as gone (section 3.1.2.10).

use crate::mqtt::{Millis, Side};

/// The peer has been silent for too long; the connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer has been silent for longer than the keep alive")]
pub struct PeerSilent;

/// The clockwork of one connection.
///
/// A client asks for a sign of life when nothing was sent, or nothing came, for one keep alive, and gives the answer
/// another one. A server gives its client one and a half [MQTT-3.1.2-22].
#[derive(Debug)]
pub(super) struct KeepAlive {
    side: Side,
    /// Milliseconds; 0 is off.
    interval: u64,
    last_sent: Millis,
    last_received: Millis,
    asked: Option<Millis>,
}

impl KeepAlive {
    pub(super) fn new(side: Side, seconds: u16, now: Millis) -> Self {
        Self { side, interval: u64::from(seconds) * 1000, last_sent: now, last_received: now, asked: None }
    }

    pub(super) fn set_interval(&mut self, seconds: u16) {
        self.interval = u64::from(seconds) * 1000;
    }

    pub(super) fn sent(&mut self, now: Millis) {
        self.last_sent = now;
    }

    /// Bytes came. Any of them show that the peer lives, so they count as the answer to a PINGREQ too.
    pub(super) fn received(&mut self, now: Millis) {
        self.last_received = now;
        self.asked = None;
    }

    pub(super) fn next_timeout(&self) -> Option<Millis> {
        if self.interval == 0 {
            return None;
        }
        Some(match (self.side, self.asked) {
            (Side::Server, _) => Millis(self.last_received.0 + self.interval * 3 / 2),
            (Side::Client, Some(asked)) => Millis(asked.0 + self.interval),
            (Side::Client, None) => Millis(self.last_sent.min(self.last_received).0 + self.interval),
        })
    }

    /// Whether a PINGREQ is due.
    pub(super) fn handle_timeout(&mut self, now: Millis) -> Result<bool, PeerSilent> {
        if self.next_timeout().is_none_or(|due| now < due) {
            return Ok(false);
        }
        if self.side == Side::Server || self.asked.is_some() {
            return Err(PeerSilent);
        }
        self.asked = Some(now);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_asks_after_one_keep_alive_and_gives_up_after_another() {
        let mut keep_alive = KeepAlive::new(Side::Client, 10, Millis(0));
        assert_eq!(keep_alive.handle_timeout(Millis(9_999)), Ok(false));
        keep_alive.sent(Millis(5_000));
        assert_eq!(keep_alive.next_timeout(), Some(Millis(10_000)), "nothing came yet");
        assert_eq!(keep_alive.handle_timeout(Millis(10_000)), Ok(true));
        assert_eq!(keep_alive.next_timeout(), Some(Millis(20_000)));
        assert_eq!(keep_alive.handle_timeout(Millis(20_000)), Err(PeerSilent));
        keep_alive.received(Millis(20_000));
        assert_eq!(keep_alive.next_timeout(), Some(Millis(15_000)), "the last that was sent is older");
    }

    #[test]
    fn a_server_gives_one_and_a_half_keep_alives() {
        let mut keep_alive = KeepAlive::new(Side::Server, 10, Millis(0));
        keep_alive.received(Millis(1_000));
        assert_eq!(keep_alive.handle_timeout(Millis(15_999)), Ok(false));
        assert_eq!(keep_alive.handle_timeout(Millis(16_000)), Err(PeerSilent));
    }

    #[test]
    fn keep_alive_0_is_off() {
        assert_eq!(KeepAlive::new(Side::Client, 0, Millis(0)).next_timeout(), None);
    }
}
