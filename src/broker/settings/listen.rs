//! Where to listen: URLs become sockets.

use std::fmt;

use crate::settings::{Endpoint, Located, Mistake, NOT_AVAILABLE_YET};

/// The port of `mqtt://`.
pub(super) const MQTT_PORT: u16 = 1883;

/// A socket to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// A name or an address.
    pub host: String,
    /// 0 takes a free one.
    pub port: u16,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint =
            Endpoint { scheme: "mqtt".into(), host: self.host.clone(), port: Some(self.port), path: String::new() };
        endpoint.fmt(f)
    }
}

pub(super) fn listener(url: &Located<String>, welcomes_others: bool) -> Result<Listener, Mistake> {
    let endpoint = match url.strip_prefix("unix://") {
        Some(_) => return Err(url.mistake(format!("`unix://` is {NOT_AVAILABLE_YET}"))),
        None => Endpoint::parse(url)
            .map_err(|error| url.mistake(format!("`{}` is no URL to listen on", url.value)).help(error.to_string()))?,
    };
    match endpoint.scheme.as_str() {
        "mqtt" => {}
        scheme @ ("mqtts" | "ws" | "wss") => {
            return Err(url.mistake(format!("`{scheme}://` is {NOT_AVAILABLE_YET} for listeners")));
        }
        scheme => {
            let mistake = url.mistake(format!("`{scheme}://` is nothing to listen on"));
            return Err(mistake.help("mqtt://ADDRESS:PORT"));
        }
    }
    if !endpoint.path.is_empty() {
        return Err(url.mistake(format!("`{}` has no meaning in `mqtt://`", endpoint.path)));
    }
    if !endpoint.is_loopback() && !welcomes_others {
        let mistake = url.mistake("beyond this machine a listener wants users, `client_ca` or `anonymous`");
        return Err(mistake.help(
            "for example anonymous: { from: 192.168.1.0/24, read: [\"#\"] }, or `anonymous: true` if everybody in the network may connect",
        ));
    }
    Ok(Listener { host: endpoint.host, port: endpoint.port.unwrap_or(MQTT_PORT) })
}
