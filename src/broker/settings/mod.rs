//! The section `broker`: where it listens, who may connect, and how much a client may hold.

mod limits;
mod listen;
mod password_file;
mod tls;
mod users;

use std::ops::RangeInclusive;
use std::path::Path;

use serde::Deserialize;

use super::access::Rules;
use crate::broker;
use crate::settings::{Duration, Located, Mistake, Named, OneOrMany};

pub use limits::Limits;
use listen::Outer;
pub use listen::{Listen, ListenWith, Listener, Mode, Socket, WebSocket};
pub use password_file::PasswordFile;
pub use tls::{ClientCertificate, Tls};
pub use users::{Anonymous, AnonymousFrom, Filter, Password, Range, User};
use users::{Clients, Context};

/// How often `$SYS` may be brought up to date, where it is at all.
const SYS_INTERVALS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// The section `broker`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where to listen, one or a list of URLs `mqtt://`, `mqtts://`, `ws://`, `wss://` and `unix://`, or of maps with
    /// `url` and what is different there. Default `mqtt://127.0.0.1:1883`; port 0 takes a free one.
    pub listen: OneOrMany<Located<Listen>>,
    /// Who may connect without user and password: `loopback`, `true`, `false`, or
    /// `{ from: 192.168.1.0/24, read: ["#"], write: ["sensors/#"] }`. Default `loopback`.
    pub anonymous: Option<Located<Anonymous>>,
    /// Bounds for each client.
    pub limits: Limits,
    /// Certificates of the listeners with TLS.
    pub tls: Option<Located<Tls>>,
    /// Users by name: `ann: { password: "$argon2id$...", read: ["#"], write: ["{gateway}/+/set"] }`.
    pub users: Named<User>,
    /// More users: a password file of mosquitto, `/etc/mosquitto/passwd`, or `{ path: ..., read: ["#"] }`.
    pub password_file: Option<Located<PasswordFile>>,
    /// How often `$SYS` is brought up to date, 1s to 1d; 0 is never, and then there is no `$SYS`. Default `10s`.
    pub sys_interval: Option<Located<Duration>>,
}

/// What follows from the section.
#[derive(Debug, Clone, Default)]
pub struct Resolved {
    /// The listeners.
    pub listeners: Vec<Listener>,
    /// Who may connect to those that have no rules of their own, and do what.
    pub rules: Rules,
}

impl Settings {
    /// How often `$SYS` is brought up to date; 0 is never.
    pub fn sys_interval(&self) -> std::time::Duration {
        self.sys_interval.map_or(std::time::Duration::from_secs(10), |interval| interval.value.0)
    }

    /// The listeners, and who may connect. `gateway` is the gateway's name; relative paths are those of `folder`, and
    /// password files and certificates are read.
    ///
    /// # Errors
    /// All that is wrong in the section.
    pub fn resolve(&self, gateway: &str, folder: &Path) -> Result<Resolved, Vec<Mistake>> {
        self.resolve_with(&Context { gateway, folder, certificates: false, is_whole: true })
    }

    /// What clients are allowed, where their listener does not say otherwise.
    pub fn limits(&self) -> broker::Limits {
        self.limits.over(&broker::Limits::default())
    }

    /// What is wrong in a section of which some values could not be read, as far as the rest shows it.
    pub fn mistakes_of_the_rest(&self, gateway: &str, folder: &Path) -> Vec<Mistake> {
        // Any of them may have been among them, so nothing is said to be missing.
        let context = Context { gateway, folder, certificates: false, is_whole: false };
        self.resolve_with(&context).err().unwrap_or_default()
    }

    fn resolve_with(&self, context: &Context<'_>) -> Result<Resolved, Vec<Mistake>> {
        let mut mistakes = self.limits.mistakes();
        let sys_interval = self.sys_interval.filter(|interval| !interval.0.is_zero());
        if let Some(mistake) = sys_interval.and_then(|interval| interval.outside("sys_interval", SYS_INTERVALS)) {
            mistakes.push(mistake.help("0 is never"));
        }
        let clients = Clients {
            anonymous: self.anonymous.as_ref(),
            users: Some(&self.users),
            password_file: self.password_file.as_ref(),
        };
        let certificates = self.listen.iter().any(|item| item.takes_outer_certificates(self.tls.as_ref()));
        let context = Context { certificates, ..*context };
        let rules = clients.rules(&context, &mut mistakes);
        let outer = Outer { tls: self.tls.as_ref(), clients, rules: rules.clone(), limits: self.limits(), context };
        let mut listeners: Vec<Listener> = Vec::new();
        let mut loaded = Vec::new();
        for item in self.listen.iter() {
            let Some(listener) = item.resolve(&outer, &mut loaded, &mut mistakes) else {
                continue;
            };
            if listeners.iter().any(|other| listener.collides_with(other)) {
                mistakes.push(item.url().mistake(format!("`{}` stands here a second time", item.url().value)));
            }
            listeners.push(listener);
        }
        if self.listen.is_empty() {
            mistakes.extend(clients.nobody_may(&rules).filter(|_| context.is_whole));
            listeners.push(Listener::default_of(&outer));
        }
        let is_used = self.listen.iter().any(Located::<Listen>::uses_outer_tls);
        if let Some(tls) = self.tls.as_ref().filter(|_| context.is_whole && !is_used) {
            let mistake = tls.mistake("no listener uses this `tls`");
            mistakes.push(mistake.help("a listener with TLS is `mqtts://` or `wss://`"));
        }
        // What is wrong in the section is wrong once, however many listeners use it.
        let mut told: Vec<Mistake> = Vec::new();
        mistakes.retain(|mistake| {
            let is_new = !told.contains(mistake);
            told.extend(is_new.then(|| mistake.clone()));
            is_new
        });
        if mistakes.is_empty() { Ok(Resolved { listeners, rules }) } else { Err(mistakes) }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use tempfile::TempDir;

    use super::*;
    use crate::broker::access;

    fn listeners(json: &str, folder: &Path) -> Result<Vec<Listener>, Vec<String>> {
        let settings: Settings = serde_json::from_str(json).unwrap();
        let resolved = settings.resolve("edge-01", folder);
        resolved
            .map(|resolved| resolved.listeners)
            .map_err(|mistakes| mistakes.into_iter().map(|mistake| mistake.message).collect())
    }

    fn resolve(json: &str) -> Result<Vec<String>, Vec<String>> {
        listeners(json, Path::new("/nowhere")).map(|listeners| listeners.iter().map(Listener::to_string).collect())
    }

    /// A folder with `cert`, `key`, and the key of another certificate, `other`.
    fn folder() -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let other = generate_simple_self_signed(vec!["localhost".into()]).unwrap().signing_key;
        for (name, content) in
            [("cert", cert.pem()), ("key", signing_key.serialize_pem()), ("other", other.serialize_pem())]
        {
            fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }

    #[test]
    fn it_listens_on_this_machine_unless_told_otherwise() {
        assert_eq!(resolve("{}").unwrap(), ["mqtt://127.0.0.1:1883"]);
        assert_eq!(
            resolve(r#"{"listen": ["mqtt://localhost", "mqtt://[::1]:1884"]}"#).unwrap(),
            ["mqtt://localhost:1883", "mqtt://[::1]:1884"]
        );
        assert_eq!(resolve(r#"{"listen": ["mqtt://0.0.0.0"], "anonymous": true}"#).unwrap(), ["mqtt://0.0.0.0:1883"]);
    }

    #[test]
    fn each_scheme_is_a_kind_of_listener() {
        let folder = folder();
        let json = r#"{
            "listen": ["mqtts://127.0.0.1", "ws://127.0.0.1:9001/", "wss://[::1]:9443/mqtt", "unix:///run/s", "unix://s"],
            "tls": {"cert": "cert", "key": "key"}
        }"#;
        let found = listeners(json, folder.path()).unwrap();
        let urls: Vec<String> = found.iter().map(Listener::to_string).collect();
        let relative = format!("unix://{}", folder.path().join("s").display());
        assert_eq!(
            urls,
            ["mqtts://127.0.0.1:8883", "ws://127.0.0.1:9001", "wss://[::1]:9443/mqtt", "unix:///run/s", &relative]
        );
        assert_eq!(found[3].socket, Socket::Unix { path: "/run/s".into(), mode: 0o660 });
        let tls = |at: usize| found[at].tls.as_ref().unwrap();
        assert!(std::sync::Arc::ptr_eq(tls(0), tls(2)), "the same files are read and watched once");
    }

    #[test]
    fn a_listener_has_rules_of_its_own() {
        let folder = folder();
        let json = r#"{
            "listen": [
                {"url": "mqtt://0.0.0.0:1884", "anonymous": true, "limits": {"inflight": 7}},
                {"url": "mqtts://0.0.0.0", "tls": {"cert": "cert", "key": "key", "client_ca": "cert"}},
                {"url": "unix://s", "mode": "0600"},
                "mqtt://127.0.0.1"
            ],
            "limits": {"inflight": 50, "packet": "2MB"}
        }"#;
        let found = listeners(json, folder.path()).unwrap();
        let inflight: Vec<u16> = found.iter().map(|listener| listener.limits.inflight).collect();
        assert_eq!(inflight, [7, 50, 50, 50]);
        assert_eq!(found[0].limits.packet_bytes, 2 * 1024 * 1024, "what it does not name is the section's");
        assert_eq!(found[0].rules.anonymous, access::Anonymous::Everybody);
        assert_eq!(found[3].rules.anonymous, access::Anonymous::Loopback);
        let own: Vec<bool> = found.iter().map(|listener| listener.has_own_rules).collect();
        assert_eq!(own, [true, false, false, false]);
        assert!(found[1].tls.as_ref().unwrap().names_clients());
        assert!(matches!(found[2].socket, Socket::Unix { mode: 0o600, .. }));
    }

    #[test]
    fn the_users_of_a_listener_stand_instead_of_those_of_the_section() {
        let folder = folder();
        let json = r##"{
            "listen": [
                "mqtt://127.0.0.1",
                {"url": "unix://s", "anonymous": false},
                {"url": "mqtt://0.0.0.0:1884", "users": {"bob": {"password": "y", "read": ["#"]}}},
                {"url": "mqtts://0.0.0.0", "users": {"pump": {"write": ["pump/#"]}},
                 "tls": {"cert": "cert", "key": "key", "client_ca": "cert"}}
            ],
            "users": {"ann": {"password": "x", "read": ["#"]}}
        }"##;
        let found = listeners(json, folder.path()).unwrap();
        let users: Vec<String> =
            found.iter().map(|found| found.rules.users.keys().map(|name| &**name).collect()).collect();
        assert_eq!(users, ["ann", "ann", "bob", "pump"]);
        assert!(std::sync::Arc::ptr_eq(&found[0].rules.users, &found[1].rules.users), "known by one and all");
        // Without a certificate nobody would know that this is the pump.
        let plain = r##"{"listen": [{"url": "mqtt://127.0.0.1", "users": {"pump": {"write": ["pump/#"]}}}]}"##;
        assert_eq!(resolve(plain).unwrap_err(), ["`pump` has no password"]);
    }

    #[test]
    fn everybody_connects_only_where_that_was_said() {
        let folder = folder();
        for json in [
            r#"{"listen": ["mqtt://0.0.0.0"]}"#,
            r#"{"listen": ["mqtt://192.168.1.1"], "anonymous": "loopback"}"#,
            r#"{"listen": ["mqtts://0.0.0.0"], "tls": {"cert": "cert", "key": "key"}}"#,
            r#"{"listen": [{"url": "ws://0.0.0.0:80"}, "mqtt://127.0.0.1"]}"#,
            r#"{"anonymous": false}"#,
            r#"{"listen": [{"url": "unix://s", "anonymous": false}]}"#,
        ] {
            let mistakes = listeners(json, folder.path()).unwrap_err();
            assert!(mistakes.len() == 1 && mistakes[0].contains("connect") | mistakes[0].contains("beyond"), "{json}");
        }
        for json in [
            r##"{"listen": ["mqtt://0.0.0.0"], "users": {"ann": {"password": "x", "read": ["#"]}}}"##,
            r##"{"listen": ["mqtt://0.0.0.0"], "users": {"ann": {"password": "x", "read": ["#"]}}, "anonymous": false}"##,
            r##"{"listen": ["mqtt://0.0.0.0"], "anonymous": {"from": ["10.0.0.0/8"], "read": ["#"]}}"##,
            r##"{"listen": [{"url": "mqtt://0.0.0.0", "users": {"ann": {"password": "x", "read": ["#"]}}}]}"##,
            r#"{"listen": ["mqtts://0.0.0.0"], "tls": {"cert": "cert", "key": "key", "client_ca": "cert"}}"#,
            r#"{"listen": ["mqtts://[::1]"], "anonymous": false,
                "tls": {"cert": "cert", "key": "key", "client_ca": "cert", "client_certificate": "optional"}}"#,
        ] {
            listeners(json, folder.path()).unwrap();
        }
    }

    #[test]
    fn what_is_wrong_with_a_listener_is_said_in_words() {
        let folder = folder();
        for (json, words) in [
            (r#""listen": ["http://127.0.0.1"]"#, "is nothing to listen on"),
            (r#""listen": ["127.0.0.1:1883"]"#, "is no URL to listen on"),
            (r#""listen": ["unix://"]"#, "wants the path of a socket"),
            (r#""listen": ["mqtt://127.0.0.1/mqtt"]"#, "`/mqtt` has no meaning"),
            (r#""listen": ["ws://127.0.0.1:1/a?b"]"#, "`/a?b` has no meaning"),
            (r#""listen": ["ws://127.0.0.1"]"#, "`ws://` wants a port"),
            (r#""listen": ["mqtt://localhost", "ws://localhost:1883"]"#, "a second time"),
            (r#""listen": ["unix://s", "unix://s"]"#, "a second time"),
            (r#""listen": ["mqtts://localhost"]"#, "wants `tls`"),
            (r#""tls": {"cert": "cert", "key": "key"}"#, "no listener uses this `tls`"),
            (r#""listen": [{"url": "ws://localhost:1", "tls": {}}]"#, "`tls` wants a URL with"),
            (r#""listen": [{"url": "mqtt://localhost", "mode": "0600"}]"#, "`mode` is of a `unix://`"),
            (r#""listen": [{"url": "mqtt://localhost", "limits": {"inflight": 0}}]"#, "nothing could be sent"),
            (r#""listen": ["mqtts://localhost"], "tls": {}"#, "TLS wants a `cert` and its `key`"),
            (r#""listen": ["mqtts://localhost"], "tls": {"cert": "cert"}"#, "a `cert` wants its `key`"),
            (r#""listen": ["mqtts://localhost"], "tls": {"key": "key"}"#, "a `key` wants its `cert`"),
            (r#""listen": ["mqtts://localhost"], "tls": {"cert": "cert", "key": "other"}"#, "is not the key of"),
            (
                r#""listen": ["mqtts://localhost", "wss://localhost:1"], "tls": {"cert": "no", "key": "key"}"#,
                "cannot read",
            ),
            (
                r#""listen": ["mqtts://localhost"], "tls": {"cert": "cert", "key": "key", "client_ca": "key"}"#,
                "holds no cert",
            ),
            (
                r#""listen": ["mqtts://localhost"], "tls": {"cert": "cert", "key": "key", "client_certificate": "optional"}"#,
                "`client_certificate` wants `client_ca`",
            ),
        ] {
            let mistakes = listeners(&format!("{{{json}}}"), folder.path()).unwrap_err();
            assert!(mistakes.len() == 1 && mistakes[0].contains(words), "{json}: {mistakes:?}");
        }
        let long = format!(r#"{{"listen": ["unix:///{}"]}}"#, "x".repeat(107));
        assert!(resolve(&long).unwrap_err()[0].contains("at most 107 bytes"));
        for mode in ["660", r#""0999""#, r#""01777""#] {
            let json = format!(r#"{{"listen": [{{"url": "unix://s", "mode": {mode}}}]}}"#);
            assert!(serde_json::from_str::<Settings>(&json).is_err(), "{mode}");
        }
    }

    #[test]
    fn the_broker_tells_of_itself_every_few_seconds_or_never() {
        let interval = |json: &str| serde_json::from_str::<Settings>(json).unwrap().sys_interval();
        assert_eq!(interval("{}").as_secs(), 10);
        assert_eq!(interval(r#"{"sys_interval": "1m"}"#).as_secs(), 60);
        assert!(interval(r#"{"sys_interval": "0"}"#).is_zero());
        assert!(resolve(r#"{"sys_interval": "0"}"#).is_ok());
        for wrong in ["999ms", "25h"] {
            let mistakes = resolve(&format!(r#"{{"sys_interval": "{wrong}"}}"#)).unwrap_err();
            assert_eq!(mistakes, ["`sys_interval` is 1s to 1d"], "{wrong}");
        }
    }

    #[test]
    fn limits_have_bounds() {
        assert_eq!(resolve(r#"{"limits": {"connections": 0, "packet": "1B", "inflight": 0}}"#).unwrap_err().len(), 3);
        assert_eq!(resolve(r#"{"limits": {"keep_alive": "100ms"}}"#).unwrap_err().len(), 1);
        let limits: Limits =
            serde_json::from_str(r#"{"queue_bytes": "1MB", "rate": "60/m", "session_expiry": "1d"}"#).unwrap();
        let limits = limits.over(&broker::Limits::default());
        assert_eq!((limits.queue.bytes, limits.queue.messages), (1024 * 1024, 10_000));
        assert_eq!((limits.rate, limits.session_expiry), (Some(1.0), Some(86_400)));
    }
}
