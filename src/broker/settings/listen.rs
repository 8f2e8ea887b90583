//! Where to listen: URLs become sockets with TLS, WebSocket and rules of their own.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::tls::{Loaded, Tls};
use super::users::{Clients, Context, User};
use super::{Anonymous, Limits, PasswordFile};
use crate::broker;
use crate::broker::access::Rules;
use crate::net::server_tls::ServerTls;
use crate::settings::{Endpoint, Located, Mistake, Named};

/// The port of `mqtt://`.
const MQTT_PORT: u16 = 1883;
/// The port of `mqtts://`.
const MQTTS_PORT: u16 = 8883;
/// The longest path of a Unix socket on Linux, without the zero at its end.
const MAX_UNIX_PATH_BYTES: usize = 107;
/// Permissions of a Unix socket: owner and group.
const UNIX_MODE: u32 = 0o660;

/// An item of `listen`: a URL, or a map of a URL and what is different there from the section.
#[derive(Debug, Clone)]
pub enum Listen {
    /// `mqtt://0.0.0.0:1883`
    Url(String),
    /// `{ url: mqtts://0.0.0.0:8883, tls: {...}, anonymous: true }`
    With(Box<ListenWith>),
}

/// A listener with rules of its own. What it does not say stands in the section `broker`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenWith {
    /// Where it listens.
    pub url: Located<String>,
    /// Certificates, instead of those of the section.
    pub tls: Option<Located<Tls>>,
    /// Who may connect here without user and password.
    pub anonymous: Option<Located<Anonymous>>,
    /// Bounds for each client that comes in here; those that are not named stand in the section.
    #[serde(default)]
    pub limits: Limits,
    /// Who may connect here, instead of all users of the section and of its password file.
    pub users: Option<Named<User>>,
    /// The password file of those who may connect here, instead of all users of the section and of its password file.
    pub password_file: Option<Located<PasswordFile>>,
    /// Permissions of a Unix socket, octal in quotes. Default `"0660"`.
    pub mode: Option<Located<Mode>>,
}

/// Permissions of a file, `"0660"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode(pub u32);

/// A socket to listen on, and its rules.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Where.
    pub socket: Socket,
    /// Whether MQTT comes over WebSocket.
    pub websocket: Option<WebSocket>,
    /// The certificates of a listener with TLS. Those with the same files share them.
    pub tls: Option<Arc<ServerTls>>,
    /// Who may connect, and do what.
    pub rules: Rules,
    /// Bounds for each client.
    pub limits: broker::Limits,
    /// Whether some of the rules or limits are not those of the section.
    pub has_own_rules: bool,
}

/// The address of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Socket {
    /// TCP.
    Tcp {
        /// A name or an address.
        host: String,
        /// 0 takes a free one.
        port: u16,
    },
    /// A Unix socket.
    Unix {
        /// Its file.
        path: PathBuf,
        /// The permissions of the file.
        mode: u32,
    },
}

/// MQTT over WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSocket {
    /// The path that is served; `None` is any.
    pub path: Option<String>,
}

/// What the section says for all its listeners.
pub(super) struct Outer<'a> {
    pub(super) tls: Option<&'a Located<Tls>>,
    pub(super) clients: Clients<'a>,
    pub(super) rules: Rules,
    pub(super) limits: broker::Limits,
    pub(super) context: Context<'a>,
}

impl Listener {
    /// The listener of a section that names none: this machine's.
    pub(super) fn default_of(outer: &Outer<'_>) -> Self {
        Self {
            socket: Socket::Tcp { host: "127.0.0.1".into(), port: MQTT_PORT },
            websocket: None,
            tls: None,
            rules: outer.rules.clone(),
            limits: outer.limits.clone(),
            has_own_rules: false,
        }
    }

    /// It as a URL, at the address that one of its sockets got.
    pub fn at(&self, address: SocketAddr) -> String {
        let socket = Socket::Tcp { host: address.ip().to_string(), port: address.port() };
        Self { socket, ..self.clone() }.to_string()
    }

    /// Whether both would take one address.
    pub(super) fn collides_with(&self, other: &Self) -> bool {
        match (&self.socket, &other.socket) {
            (Socket::Tcp { port: 0, .. }, _) => false,
            (Socket::Unix { path, .. }, Socket::Unix { path: other, .. }) => path == other,
            (socket, other) => socket == other,
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.socket {
            Socket::Unix { path, .. } => write!(f, "unix://{}", path.display()),
            Socket::Tcp { host, port } => {
                let scheme = match (&self.websocket, &self.tls) {
                    (None, None) => "mqtt",
                    (None, Some(_)) => "mqtts",
                    (Some(_), None) => "ws",
                    (Some(_), Some(_)) => "wss",
                };
                let path = self.websocket.as_ref().and_then(|websocket| websocket.path.clone()).unwrap_or_default();
                Endpoint { scheme: scheme.into(), host: host.clone(), port: Some(*port), path }.fmt(f)
            }
        }
    }
}

impl ListenWith {
    fn has_own_users(&self) -> bool {
        self.users.is_some() || self.password_file.is_some()
    }
}

impl Located<Listen> {
    /// The URL and where it stands.
    pub(super) fn url(&self) -> Located<&str> {
        match &self.value {
            Listen::Url(url) => Located { value: url.as_str(), place: self.place },
            Listen::With(with) => Located { value: with.url.value.as_str(), place: with.url.place },
        }
    }

    /// What it has of its own.
    pub(super) fn with(&self) -> Option<&ListenWith> {
        match &self.value {
            Listen::Url(_) => None,
            Listen::With(with) => Some(with),
        }
    }

    /// Whether the certificates of the section are used here.
    pub(super) fn uses_outer_tls(&self) -> bool {
        self.is_tls() && self.with().is_none_or(|with| with.tls.is_none())
    }

    /// Whether the users of the section may come in here by certificates.
    pub(super) fn takes_outer_certificates(&self, outer: Option<&Located<Tls>>) -> bool {
        let has_own_users = self.with().is_some_and(ListenWith::has_own_users);
        !has_own_users && self.names_clients(outer)
    }

    fn is_tls(&self) -> bool {
        let scheme = self.url().value.split("://").next().unwrap_or_default();
        ["mqtts", "wss"].iter().any(|tls| scheme.eq_ignore_ascii_case(tls))
    }

    fn names_clients(&self, outer: Option<&Located<Tls>>) -> bool {
        let tls = self.with().and_then(|with| with.tls.as_ref()).or(outer);
        self.is_tls() && tls.is_some_and(|tls| tls.client_ca.is_some())
    }

    /// The listener that it describes. Nothing where there are mistakes.
    pub(super) fn resolve(
        &self,
        outer: &Outer<'_>,
        loaded: &mut Loaded,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<Listener> {
        let known = mistakes.len();
        let (with, context) = (self.with(), outer.context);
        let limits = with.map_or_else(
            || outer.limits.clone(),
            |with| {
                mistakes.extend(with.limits.mistakes());
                with.limits.over(&outer.limits)
            },
        );
        let rules = self.rules(outer, mistakes);
        let (socket, websocket, is_tls) = match self.socket(context.folder) {
            Ok(found) => found,
            Err(mistake) => {
                mistakes.push(mistake);
                return None;
            }
        };
        if let (Socket::Tcp { .. }, Some(mode)) = (&socket, with.and_then(|with| with.mode)) {
            mistakes.push(mode.mistake("a `mode` is of a `unix://` socket"));
        }
        let own_tls = with.and_then(|with| with.tls.as_ref());
        let tls = match (is_tls, own_tls, own_tls.or(outer.tls)) {
            (true, _, Some(tls)) => tls.load(&context, loaded, mistakes),
            (true, _, None) => {
                let mistake = self.url().mistake("a listener with TLS wants `tls`");
                let mistake = mistake.help("for example tls: { cert: server.crt, key: server.key }");
                mistakes.extend(Some(mistake).filter(|_| context.is_whole));
                None
            }
            (false, Some(tls), _) => {
                mistakes.push(tls.mistake("`tls` wants a URL with `mqtts://` or `wss://`"));
                None
            }
            (false, None, _) => None,
        };
        let is_loopback = match &socket {
            Socket::Tcp { host, .. } => crate::settings::is_loopback(host),
            Socket::Unix { .. } => true,
        };
        let clients = self.clients(outer);
        if context.is_whole && !self.names_clients(outer.tls) {
            if let Some(mistake) = clients.nobody_may(&rules) {
                mistakes.push(mistake);
            } else if !is_loopback && !clients.welcome_others(&rules) {
                let mistake =
                    self.url().mistake("beyond this machine a listener wants users, `client_ca` or `anonymous`");
                mistakes.push(mistake.help(
                    "for example anonymous: { from: 192.168.1.0/24, read: [\"#\"] }, or `anonymous: true` if everybody in the network may connect",
                ));
            }
        }
        let has_own_rules = with
            .is_some_and(|with| with.has_own_users() || with.anonymous.is_some() || with.limits != Limits::default());
        (mistakes.len() == known).then_some(Listener { socket, websocket, tls, rules, limits, has_own_rules })
    }

    /// What is said of those who connect here.
    fn clients<'a>(&'a self, outer: &Outer<'a>) -> Clients<'a> {
        let mut clients = outer.clients;
        if let Some(with) = self.with() {
            clients.anonymous = with.anonymous.as_ref().or(clients.anonymous);
            if with.has_own_users() {
                clients.users = with.users.as_ref();
                clients.password_file = with.password_file.as_ref();
            }
        }
        clients
    }

    fn rules(&self, outer: &Outer<'_>, mistakes: &mut Vec<Mistake>) -> Rules {
        let Some(with) = self.with().filter(|with| with.has_own_users() || with.anonymous.is_some()) else {
            return outer.rules.clone();
        };
        if with.has_own_users() {
            let context = Context { certificates: self.names_clients(outer.tls), ..outer.context };
            return self.clients(outer).rules(&context, mistakes);
        }
        // The users of the section stay the same ones: what is known of their passwords is known here too.
        let anonymous = self.clients(outer).anonymous_rules(&outer.context, mistakes);
        Rules { users: Arc::clone(&outer.rules.users), anonymous }
    }

    /// The socket, whether WebSocket is spoken on it, and whether TLS is.
    fn socket(&self, folder: &Path) -> Result<(Socket, Option<WebSocket>, bool), Mistake> {
        let url = self.url();
        if let Some(path) = url.value.strip_prefix("unix://") {
            if path.is_empty() {
                return Err(url.mistake("`unix://` wants the path of a socket").help("unix:///run/edgeway/mqtt.sock"));
            }
            let path = folder.join(path);
            if path.as_os_str().len() > MAX_UNIX_PATH_BYTES {
                let message = format!("the path of a Unix socket has at most {MAX_UNIX_PATH_BYTES} bytes");
                return Err(url.mistake(message).help(format!("this one is {}", path.display())));
            }
            let mode = self.with().and_then(|with| with.mode).map_or(UNIX_MODE, |mode| mode.0);
            return Ok((Socket::Unix { path, mode }, None, false));
        }
        let Endpoint { scheme, host, port, path } = Endpoint::parse(url.value)
            .map_err(|error| url.mistake(format!("`{}` is no URL to listen on", url.value)).help(error.to_string()))?;
        let (default_port, is_websocket, is_tls) = match scheme.as_str() {
            "mqtt" => (Some(MQTT_PORT), false, false),
            "mqtts" => (Some(MQTTS_PORT), false, true),
            "ws" => (None, true, false),
            "wss" => (None, true, true),
            scheme => {
                let mistake = url.mistake(format!("`{scheme}://` is nothing to listen on"));
                return Err(mistake.help("there are mqtt://, mqtts://, ws://, wss:// and unix://"));
            }
        };
        if path.contains('?') || (!is_websocket && !path.is_empty()) {
            return Err(url.mistake(format!("`{path}` has no meaning in `{scheme}://`")));
        }
        let Some(port) = port.or(default_port) else {
            // Servers differ in the port that they take, and browsers mean 80 and 443.
            let mistake = url.mistake(format!("`{scheme}://` wants a port"));
            return Err(mistake.help(format!("for example {scheme}://{host}:{}", if is_tls { 9443 } else { 9001 })));
        };
        let websocket = is_websocket.then(|| WebSocket { path: Some(path).filter(|path| path.len() > 1) });
        Ok((Socket::Tcp { host, port }, websocket, is_tls))
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Item;

        impl<'de> Visitor<'de> for Item {
            type Value = Listen;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL, or a map with url, tls, anonymous, users, password_file, limits and mode")
            }

            fn visit_str<E: Error>(self, url: &str) -> Result<Listen, E> {
                Ok(Listen::Url(url.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Listen, A::Error> {
                ListenWith::deserialize(MapAccessDeserializer::new(map)).map(|with| Listen::With(Box::new(with)))
            }
        }

        deserializer.deserialize_any(Item)
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Octal;

        impl Visitor<'_> for Octal {
            type Value = Mode;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // A bare 0660 is 660 in decimal.
                f.write_str("permissions in octal, in quotes: \"0660\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Mode, E> {
                let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
                mode.map(Mode).ok_or_else(|| E::custom("permissions are three octal digits in quotes: \"0660\""))
            }
        }

        deserializer.deserialize_any(Octal)
    }
}
