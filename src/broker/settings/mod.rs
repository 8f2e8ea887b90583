//! The section `broker`: where it listens, who may connect, and how much a client may hold.

mod limits;
mod listen;
mod users;

use std::ops::RangeInclusive;

use serde::Deserialize;

use crate::settings::{Duration, Located, Mistake, NotYet, OneOrMany};

pub use limits::Limits;
pub use listen::Listener;
use listen::{MQTT_PORT, listener};
pub use users::Anonymous;

/// How often `$SYS` may be brought up to date, where it is at all.
const SYS_INTERVALS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// The section `broker`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// URLs to listen on, one or a list. Default `mqtt://127.0.0.1:1883`; port 0 takes a free one.
    pub listen: OneOrMany<Located<String>>,
    /// Who may connect without user and password. Default `loopback`.
    pub anonymous: Option<Located<Anonymous>>,
    /// Bounds for each client.
    pub limits: Limits,
    /// Certificates of the listeners.
    pub tls: Option<NotYet>,
    /// Users by name.
    pub users: Option<NotYet>,
    /// How often `$SYS` is brought up to date, 1s to 1d; 0 is never, and then there is no `$SYS`. Default `10s`.
    pub sys_interval: Option<Located<Duration>>,
}

impl Settings {
    /// Who may connect without user and password.
    pub fn anonymous(&self) -> Anonymous {
        self.anonymous.map(|anonymous| anonymous.value).unwrap_or_default()
    }

    /// How often `$SYS` is brought up to date; 0 is never.
    pub fn sys_interval(&self) -> std::time::Duration {
        self.sys_interval.map_or(std::time::Duration::from_secs(10), |interval| interval.value.0)
    }

    /// The sockets to listen on.
    ///
    /// # Errors
    /// All that is wrong in the section.
    pub fn resolve(&self) -> Result<Vec<Listener>, Vec<Mistake>> {
        self.listeners(self.anonymous())
    }

    /// What is wrong in a section of which some values could not be read, as far as the rest shows it.
    pub fn mistakes_of_the_rest(&self) -> Vec<Mistake> {
        // `anonymous` may have been among them, so nothing is said that depends on it.
        let anonymous = self.anonymous.map_or(Anonymous::Everybody, |anonymous| anonymous.value);
        self.listeners(anonymous).err().unwrap_or_default()
    }

    fn listeners(&self, anonymous: Anonymous) -> Result<Vec<Listener>, Vec<Mistake>> {
        let mut mistakes = self.limits.mistakes();
        let sys_interval = self.sys_interval.filter(|interval| !interval.0.is_zero());
        if let Some(mistake) = sys_interval.and_then(|interval| interval.outside("sys_interval", SYS_INTERVALS)) {
            mistakes.push(mistake.help("0 is never"));
        }
        let mut listeners = Vec::new();
        if let Some(nobody) = self.anonymous.filter(|anonymous| anonymous.value == Anonymous::Nobody) {
            let mistake = nobody.mistake("nobody could connect: `users` are not available yet");
            mistakes.push(mistake.help("write `loopback` or `true`"));
        }
        for url in self.listen.iter() {
            match listener(url, anonymous) {
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
        if mistakes.is_empty() { Ok(listeners) } else { Err(mistakes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker;

    fn resolve(json: &str) -> Result<Vec<String>, Vec<String>> {
        let settings: Settings = serde_json::from_str(json).unwrap();
        settings
            .resolve()
            .map(|listeners| listeners.iter().map(Listener::to_string).collect())
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
        ] {
            assert_eq!(resolve(json).unwrap_err().len(), 1, "{json}");
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
        let limits: Limits =
            serde_json::from_str(r#"{"queue_bytes": "1MB", "rate": "60/m", "session_expiry": "1d"}"#).unwrap();
        let limits = limits.over(&broker::Limits::default());
        assert_eq!((limits.queue.bytes, limits.queue.messages), (1024 * 1024, 10_000));
        assert_eq!((limits.rate, limits.session_expiry), (Some(1.0), Some(86_400)));
    }
}
