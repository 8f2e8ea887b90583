//! The section `admin`: where monitoring asks how the gateway is.

use serde::Deserialize;

use crate::settings::{Located, Mistake, NotYet, Secret, is_loopback, split_host};

/// The section `admin`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The address to listen on: `127.0.0.1:8080`.
    pub listen: Located<String>,
    /// The password to ask for, with any user name, by Basic login. Default: none, on this machine alone.
    #[serde(default)]
    pub password: Option<Located<Secret>>,
    /// `true` serves other machines although nothing is encrypted. Default `false`.
    #[serde(default)]
    pub insecure: bool,
    /// Certificates.
    #[serde(default)]
    pub tls: Option<NotYet>,
    /// Whether the page may change everything.
    #[serde(default)]
    pub full: Option<NotYet>,
}

/// The section with its rules checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// A name or an address.
    pub host: String,
    /// 0 takes a free one.
    pub port: u16,
    /// What is asked for.
    pub password: Option<Secret>,
}

impl Settings {
    /// What follows from the section.
    ///
    /// # Errors
    /// All that is wrong in it.
    pub fn resolve(&self) -> Result<Plan, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        if let Some(password) = self.password.as_ref().filter(|password| password.reveal().is_empty()) {
            mistakes.push(password.mistake("the password is empty"));
        }
        let wrong = || self.listen.mistake(format!("`{}` is no address to listen on", self.listen.value));
        let (host, port) = match split_host(&self.listen) {
            _ if self.listen.contains("://") => {
                mistakes.push(wrong().help("an address has no scheme: 127.0.0.1:8080"));
                return Err(mistakes);
            }
            Ok((host, Some(port))) => (host, port),
            Ok(_) => {
                mistakes.push(wrong().help("host and port: 127.0.0.1:8080"));
                return Err(mistakes);
            }
            Err(error) => {
                mistakes.push(wrong().help(error.to_string()));
                return Err(mistakes);
            }
        };
        if !is_loopback(&host) {
            let beyond = |message: &str| self.listen.mistake(format!("beyond this machine it {message}"));
            if self.password.is_none() {
                mistakes.push(beyond("wants a `password`").help("for example password: \"${ADMIN_PASSWORD}\""));
            }
            if !self.insecure {
                let mistake = beyond("is not encrypted: TLS is not available yet");
                mistakes.push(mistake.help("write `insecure: true` where that is what you want"));
            }
        }
        let password = self.password.as_ref().map(|password| password.value.clone());
        if mistakes.is_empty() { Ok(Plan { host, port, password }) } else { Err(mistakes) }
    }
}

impl Plan {
    /// Whether another listener at `host` and `port` would be in its way.
    pub fn is_at(&self, host: &str, port: u16) -> bool {
        port != 0 && port == self.port && host == self.host
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(json: &str) -> Result<Plan, Vec<String>> {
        let settings: Settings = serde_json::from_str(json).unwrap();
        settings.resolve().map_err(|mistakes| mistakes.into_iter().map(|mistake| mistake.message).collect())
    }

    #[test]
    fn on_this_machine_it_wants_no_password_and_beyond_it_all_of_it() {
        let plan = resolve(r#"{"listen": "127.0.0.1:8080"}"#).unwrap();
        assert_eq!(plan, Plan { host: "127.0.0.1".into(), port: 8080, password: None });
        assert!(resolve(r#"{"listen": "[::1]:0", "password": "p"}"#).unwrap().password.is_some());
        assert!(resolve(r#"{"listen": "0.0.0.0:80", "password": "p", "insecure": true}"#).is_ok());
        let open = resolve(r#"{"listen": "0.0.0.0:80"}"#).unwrap_err();
        let wanted = [
            "beyond this machine it wants a `password`",
            "beyond this machine it is not encrypted: TLS is not available yet",
        ];
        assert_eq!(open, wanted);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for (json, wrong) in [
            (r#"{"listen": "8080"}"#, "`8080` is no address to listen on"),
            (r#"{"listen": "http://127.0.0.1:8080"}"#, "`http://127.0.0.1:8080` is no address to listen on"),
            (r#"{"listen": "127.0.0.1:8080", "password": ""}"#, "the password is empty"),
        ] {
            assert_eq!(resolve(json).unwrap_err(), [wrong], "{json}");
        }
    }
}
