//! The section `broker`: where it listens, who may connect, and how much a client may hold.

mod limits;
mod listen;
mod password_file;
mod users;

use std::ops::RangeInclusive;
use std::path::Path;

use serde::Deserialize;

use super::access::Rules;
use crate::settings::{Duration, Located, Mistake, Named, NotYet, OneOrMany};

pub use limits::Limits;
pub use listen::Listener;
use listen::{MQTT_PORT, listener};
pub use password_file::PasswordFile;
pub use users::{Anonymous, AnonymousFrom, Filter, Password, Range, User};
use users::{Clients, Context};

/// How often `$SYS` may be brought up to date, where it is at all.
const SYS_INTERVALS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// The section `broker`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// URLs to listen on, one or a list. Default `mqtt://127.0.0.1:1883`; port 0 takes a free one.
    pub listen: OneOrMany<Located<String>>,
    /// Who may connect without user and password: `loopback`, `true`, `false`, or
    /// `{ from: 192.168.1.0/24, read: ["#"], write: ["sensors/#"] }`. Default `loopback`.
    pub anonymous: Option<Located<Anonymous>>,
    /// Bounds for each client.
    pub limits: Limits,
    /// Certificates of the listeners.
    pub tls: Option<NotYet>,
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
    /// The sockets to listen on.
    pub listeners: Vec<Listener>,
    /// Who may connect to them, and do what.
    pub rules: Rules,
}

impl Settings {
    /// How often `$SYS` is brought up to date; 0 is never.
    pub fn sys_interval(&self) -> std::time::Duration {
        self.sys_interval.map_or(std::time::Duration::from_secs(10), |interval| interval.value.0)
    }

    /// The sockets to listen on, and who may connect. `gateway` is the gateway's name; relative paths are those of
    /// `folder`, and the password file is read.
    ///
    /// # Errors
    /// All that is wrong in the section.
    pub fn resolve(&self, gateway: &str, folder: &Path) -> Result<Resolved, Vec<Mistake>> {
        self.resolve_with(&Context { gateway, folder, certificates: false, is_whole: true })
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
        let mut listeners = Vec::new();
        let clients = Clients {
            anonymous: self.anonymous.as_ref(),
            users: &self.users,
            password_file: self.password_file.as_ref(),
        };
        let rules = clients.rules(context, &mut mistakes);
        mistakes.extend(clients.nobody_may(&rules).filter(|_| context.is_whole));
        let welcomes_others = clients.welcome_others(&rules) || !context.is_whole;
        for url in self.listen.iter() {
            match listener(url, welcomes_others) {
                Ok(listener) if listener.port != 0 && listeners.contains(&listener) => {
                    mistakes.push(url.mistake(format!("`{}` stands here a second time", url.value)));
                }
                Ok(listener) => listeners.push(listener),
                Err(mistake) => mistakes.push(mistake),
            }
        }
        if self.listen.is_empty() {
            listeners.push(Listener { host: "127.0.0.1".into(), port: MQTT_PORT });
        }
        if mistakes.is_empty() { Ok(Resolved { listeners, rules }) } else { Err(mistakes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker;

    fn resolve(json: &str) -> Result<Vec<String>, Vec<String>> {
        let settings: Settings = serde_json::from_str(json).unwrap();
        settings
            .resolve("edge-01", Path::new(""))
            .map(|resolved| resolved.listeners.iter().map(Listener::to_string).collect())
            .map_err(|mistakes| mistakes.into_iter().map(|mistake| mistake.message).collect())
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
    fn everybody_connects_only_where_that_was_said() {
        for json in [
            r#"{"listen": ["mqtt://0.0.0.0"]}"#,
            r#"{"listen": ["mqtt://192.168.1.1"], "anonymous": "loopback"}"#,
            r#"{"anonymous": false}"#,
            r#"{"listen": ["mqtt://0.0.0.0"], "anonymous": false}"#,
        ] {
            assert!(!resolve(json).unwrap_err().is_empty(), "{json}");
        }
        for json in [
            r##"{"listen": ["mqtt://0.0.0.0"], "users": {"ann": {"password": "x", "read": ["#"]}}}"##,
            r##"{"listen": ["mqtt://0.0.0.0"], "users": {"ann": {"password": "x", "read": ["#"]}}, "anonymous": false}"##,
            r##"{"listen": ["mqtt://0.0.0.0"], "anonymous": {"from": ["10.0.0.0/8"], "read": ["#"]}}"##,
        ] {
            assert!(resolve(json).is_ok(), "{json}");
        }
    }

    #[test]
    fn what_is_not_built_is_refused_in_words() {
        for scheme in ["mqtts", "ws", "wss", "unix"] {
            let mistakes = resolve(&format!(r#"{{"listen": ["{scheme}:///run/x"]}}"#)).unwrap_err();
            let known = mistakes[0].contains("not available yet") || mistakes[0].contains("no URL");
            assert!(known, "{mistakes:?}");
            let mistakes = resolve(&format!(r#"{{"listen": ["{scheme}://127.0.0.1"]}}"#)).unwrap_err();
            assert!(mistakes[0].contains("not available yet"), "{mistakes:?}");
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
