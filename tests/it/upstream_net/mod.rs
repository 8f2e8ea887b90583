//! How bridges get to their brokers: TLS and new certificates, proxies, WebSocket.

mod proxies;
mod renewal;
mod scripted_proxy;
mod tls;
mod websocket;

use crate::support::certificates::Authority;
use crate::support::edgeway::Edgeway;
use crate::support::mosquitto::{Mosquitto, Options};
use crate::support::ports::free_port;

/// A gateway named `edge` whose `bridges` section has these lines.
fn gateway(bridges: &str) -> Edgeway {
    let head = "gateway: { name: edge }\nbroker: { listen: \"mqtt://127.0.0.1:@PORT@\" }\nbridges:\n";
    Edgeway::start(&format!("{head}{bridges}"))
}

/// A mosquitto with a plain listener, where tests look at what arrives, and others for bridges.
struct Cloud {
    broker: Mosquitto,
    authority: Authority,
}

/// The highest version of TLS that a cloud speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Highest {
    Tls12,
    Tls13,
}

impl Cloud {
    /// `listeners` has lines of mosquitto's configuration; `@FOLDER@` holds `ca.crt`, and `NAME.crt` and `NAME.key`
    /// of `server` and `pump`.
    fn start(listeners: &str) -> Self {
        let authority = Authority::new();
        for name in ["server", "pump"] {
            authority.issue(name);
        }
        Self::start_with(authority, listeners, Highest::Tls13)
    }

    fn start_with(authority: Authority, listeners: &str, highest: Highest) -> Self {
        let text = listeners.replace("@FOLDER@", &authority.folder().display().to_string());
        let lines = text.lines().map(str::to_owned).collect();
        let options = Options { lines, old_tls: highest == Highest::Tls12, ..Options::default() };
        let broker = Mosquitto::start_with(&options);
        // The first listener is there before the others.
        broker.peer().stderr().wait_for(" running");
        Self { broker, authority }
    }

    /// The port that tests use.
    fn port(&self) -> u16 {
        self.broker.port
    }
}

/// Lines of a listener with TLS, at its port.
fn tls_listener(more: &str) -> (u16, String) {
    let port = free_port();
    let files = "cafile @FOLDER@/ca.crt\ncertfile @FOLDER@/server.crt\nkeyfile @FOLDER@/server.key";
    (port, format!("listener {port} 127.0.0.1\n{files}\n{more}\n"))
}
