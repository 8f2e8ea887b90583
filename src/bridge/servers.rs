//! Which server is dialled next, and when.
//!
//! Each has pauses of its own, by what was wrong with it. When a link is lost, the first of the list is tried first
//! again, after a pause; when an attempt fails, the next whose pause is over. A server may send us to another one: we
//! follow once, keeping all else of its URL, and come back to the list when that fails or ends.

use std::time::Duration;

use super::backoff::Backoff;
use super::plan::Server;
use super::trouble::Trouble;
use crate::mqtt::Millis;
use crate::settings::Endpoint;

/// With several servers, an attempt at one takes at least this long before the next gets its turn.
const SHARE: Duration = Duration::from_secs(3);

/// The servers of a bridge.
#[derive(Debug)]
pub struct Servers {
    entries: Vec<Entry>,
    /// Where the search for the next begins.
    at: usize,
    /// Where the server at that place has sent us.
    redirect: Option<(Server, usize)>,
    /// Since when there is no good link.
    down_since: Millis,
    has_been_good: bool,
}

#[derive(Debug)]
struct Entry {
    server: Server,
    backoff: Backoff,
    not_before: Millis,
}

/// A server to dial.
#[derive(Debug, Clone)]
pub struct Target {
    /// Which.
    pub server: Server,
    /// How long the attempt may take.
    pub timeout: Duration,
    index: usize,
    is_redirect: bool,
}

impl Servers {
    /// Those servers, in their order; at least one.
    pub fn new(servers: &[Server], now: Millis) -> Self {
        let entry = |server: &Server| Entry { server: server.clone(), backoff: Backoff::default(), not_before: now };
        Self {
            entries: servers.iter().map(entry).collect(),
            at: 0,
            redirect: None,
            down_since: now,
            has_been_good: false,
        }
    }

    /// The server to dial now.
    ///
    /// # Errors
    /// Until when to wait, where there is none now.
    pub fn next(&self, now: Millis) -> Result<Target, Millis> {
        if let Some((server, index)) = &self.redirect {
            let timeout = self.attempt_timeout(*index, now);
            return Ok(Target { server: server.clone(), timeout, index: *index, is_redirect: true });
        }
        let count = self.entries.len();
        let next = (self.at..self.at + count).map(|at| at % count).find(|&at| self.entries[at].not_before <= now);
        match next {
            Some(index) => Ok(Target {
                server: self.entries[index].server.clone(),
                timeout: self.attempt_timeout(index, now),
                index,
                is_redirect: false,
            }),
            None => Err(self.entries.iter().map(|entry| entry.not_before).min().unwrap_or(now)),
        }
    }

    /// Notes that `target` let us in, after `handshake`.
    pub fn connected(&mut self, target: &Target, handshake: Duration) {
        self.entries[target.index].backoff.connected(handshake);
    }

    /// Notes that `target` could not be connected to.
    pub fn failed(&mut self, target: &Target, trouble: Trouble, now: Millis) {
        self.rest(target.index, trouble, now);
        self.redirect = None;
        self.at = (target.index + 1) % self.entries.len();
    }

    /// Notes that the link to `target` ended. A good one ends every earlier outage.
    pub fn lost(&mut self, target: &Target, trouble: Trouble, was_good: bool, now: Millis) {
        if was_good {
            (self.down_since, self.has_been_good) = (now, true);
            self.entries[target.index].backoff.reset();
        }
        self.rest(target.index, trouble, now);
        self.redirect = None;
        self.at = 0;
        let not_before = self.entries[target.index].not_before;
        if matches!(trouble, Trouble::Network | Trouble::Unanswered) {
            // Another takes over when the first in the list does not answer, not when a link breaks.
            for entry in &mut self.entries {
                entry.not_before = entry.not_before.max(not_before);
            }
        }
    }

    /// Has the next attempt begin at once, with `target` where that is known: we come with something new.
    pub fn hurry(&mut self, target: Option<&Target>, now: Millis) {
        for entry in &mut self.entries {
            entry.not_before = entry.not_before.min(now);
        }
        if let Some(target) = target {
            self.at = target.index;
        }
    }

    /// Notes that `target` sends us to another server. Whether we follow to `reference`.
    pub fn moved(&mut self, target: &Target, reference: Option<&str>, now: Millis) -> bool {
        let other = reference.and_then(|reference| refer(&target.server, reference));
        match other.filter(|_| !target.is_redirect) {
            Some(server) => {
                self.redirect = Some((server, target.index));
                true
            }
            None => {
                self.failed(target, Trouble::Busy, now);
                false
            }
        }
    }

    fn rest(&mut self, index: usize, trouble: Trouble, now: Millis) {
        let outage = Duration::from_millis(now.since(self.down_since));
        let entry = &mut self.entries[index];
        let pause = entry.backoff.pause(trouble, outage);
        entry.not_before = Millis(now.0 + pause.as_millis() as u64);
    }

    fn attempt_timeout(&self, index: usize, now: Millis) -> Duration {
        let outage = self.has_been_good.then(|| Duration::from_millis(now.since(self.down_since)));
        let timeout = self.entries[index].backoff.attempt_timeout(outage);
        match self.entries.len() {
            1 => timeout,
            several => timeout.min((timeout / several as u32).max(SHARE)),
        }
    }
}

/// The server that a Server Reference names, the first of several: a host with or without a port (section 4.11).
fn refer(from: &Server, reference: &str) -> Option<Server> {
    let reference = reference.split_whitespace().next()?;
    let authority = reference.split_once("://").map_or(reference, |(_, authority)| authority);
    let endpoint = Endpoint::parse(&format!("mqtt://{authority}")).ok()?;
    if endpoint.host.is_empty() || endpoint.port == Some(0) {
        return None;
    }
    // By the same transport: nobody talks us out of TLS.
    Some(Server { host: endpoint.host, port: endpoint.port.unwrap_or(from.port), ..from.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(host: &str) -> Server {
        Server { host: host.into(), port: 8883, tls: true, path: None }
    }

    fn servers(hosts: &[&str]) -> Servers {
        Servers::new(&hosts.iter().map(|host| server(host)).collect::<Vec<_>>(), Millis(0))
    }

    /// Waits, and gives the host of the next with the time.
    fn next(servers: &Servers, now: &mut u64) -> Target {
        loop {
            match servers.next(Millis(*now)) {
                Ok(target) => return target,
                Err(until) => *now = until.0,
            }
        }
    }

    #[test]
    fn all_are_tried_before_any_pause_and_each_rests_as_its_trouble_wants() {
        let mut servers = servers(&["a", "b", "c"]);
        let mut now = 0;
        for (host, trouble) in [("a", Trouble::Credentials), ("b", Trouble::Network), ("c", Trouble::Busy)] {
            let target = next(&servers, &mut now);
            assert_eq!((target.server.host.as_str(), now), (host, 0));
            servers.failed(&target, trouble, Millis(now));
        }
        // Until `c` has rested, only `b` is tried, again and again.
        let mut tried = Vec::new();
        while now < 60_000 {
            let target = next(&servers, &mut now);
            tried.push((target.server.host.clone(), now));
            let trouble = match target.server.host.as_str() {
                "a" => Trouble::Credentials,
                "b" => Trouble::Network,
                _ => Trouble::Busy,
            };
            servers.failed(&target, trouble, Millis(now));
        }
        let count = |host: &str| tried.iter().filter(|(tried, _)| tried == host).count();
        assert!((1..=2).contains(&count("a")) && (3..=8).contains(&count("c")) && count("b") >= 30, "{tried:?}");
    }

    #[test]
    fn a_link_that_is_lost_is_looked_for_from_the_first_on() {
        let mut servers = servers(&["a", "b"]);
        let mut now = 0;
        let a = next(&servers, &mut now);
        servers.failed(&a, Trouble::Network, Millis(now));
        let b = next(&servers, &mut now);
        assert_eq!(b.server.host, "b");
        servers.connected(&b, Duration::from_millis(50));
        now = 3_600_000;
        servers.lost(&b, Trouble::Network, true, Millis(now));
        let target = next(&servers, &mut now);
        assert_eq!(target.server.host, "a");
        assert!((3_600_250..=3_600_500).contains(&now), "{now}");
        servers.failed(&target, Trouble::Network, Millis(now));
        assert_eq!(servers.next(Millis(now)).unwrap().server.host, "b");
    }

    #[test]
    fn a_link_that_ends_at_once_again_and_again_is_no_hot_loop() {
        let mut servers = servers(&["a"]);
        let mut now = 0;
        let mut times = Vec::new();
        while now < 600_000 {
            let target = next(&servers, &mut now);
            times.push(now);
            servers.connected(&target, Duration::from_millis(10));
            servers.lost(&target, Trouble::Network, false, Millis(now));
        }
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 250), "{times:?}");
        assert!(times.iter().filter(|at| **at > 120_000).count() <= 480 / 5, "{}", times.len());
    }

    #[test]
    fn a_server_may_send_us_on_once_and_by_its_own_transport() {
        let mut servers = servers(&["a", "b"]);
        let mut now = 0;
        let a = next(&servers, &mut now);
        assert!(servers.moved(&a, Some("mqtt://other.example.com third.example.com"), Millis(now)));
        let other = next(&servers, &mut now);
        assert_eq!(other.server, server("other.example.com"));
        assert!(!servers.moved(&other, Some("c"), Millis(now)), "one hop");
        let b = next(&servers, &mut now);
        assert_eq!((b.server.host.as_str(), now), ("b", 0));
        assert!(!servers.moved(&b, None, Millis(now)));
        let again = next(&servers, &mut now);
        assert!(now >= 3000, "a pause as of one that is busy");
        assert!(servers.moved(&again, Some("[::1]:1884"), Millis(now)));
        let other = next(&servers, &mut now);
        assert_eq!((other.server.port, other.server.tls), (1884, true));
        servers.connected(&other, Duration::from_millis(50));
        servers.lost(&other, Trouble::Network, true, Millis(now));
        let back = next(&servers, &mut now);
        assert!(!back.is_redirect && ["a", "b"].contains(&back.server.host.as_str()), "back to the list: {back:?}");
    }

    #[test]
    fn who_comes_with_something_new_does_not_wait() {
        let mut servers = servers(&["a", "b"]);
        for trouble in [Trouble::Credentials, Trouble::Busy] {
            let target = servers.next(Millis(0)).unwrap();
            servers.failed(&target, trouble, Millis(0));
        }
        assert!(servers.next(Millis(100)).is_err());
        servers.hurry(None, Millis(100));
        let a = servers.next(Millis(100)).unwrap();
        assert_eq!(a.server.host, "a");
        servers.failed(&a, Trouble::Network, Millis(100));
        let b = servers.next(Millis(100)).unwrap();
        servers.hurry(Some(&b), Millis(100));
        assert_eq!(servers.next(Millis(100)).unwrap().server.host, "b");
    }

    #[test]
    fn several_servers_share_the_time_of_an_attempt() {
        assert_eq!(servers(&["a"]).next(Millis(0)).unwrap().timeout, Duration::from_secs(10));
        assert_eq!(servers(&["a", "b"]).next(Millis(0)).unwrap().timeout, Duration::from_secs(5));
        assert_eq!(servers(&["a", "b", "c", "d", "e"]).next(Millis(0)).unwrap().timeout, SHARE);
    }
}
