//! The whole configuration: one field for each section, composed of the settings of the modules below.

use serde::Deserialize;

use crate::adapters::registry::Sections;
use crate::mapping::PayloadFormat;
use crate::settings::{Located, Named, NotYet, Qos, Template};
use crate::{adapters, admin, bridge, broker, clock, store};

/// All sections of a configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The gateway itself.
    pub gateway: Gateway,
    /// The broker inside.
    pub broker: Located<broker::settings::Settings>,
    /// What is kept on disk.
    pub storage: Located<store::settings::Settings>,
    /// The listener of `/healthz` and `/metrics`.
    pub admin: Option<Located<admin::Settings>>,
    /// The listener of the hooks under `http`.
    pub webhooks: Webhooks,
    /// What is logged.
    pub log: Log,
    /// Bridges by name.
    pub bridges: Named<bridge::settings::Settings>,

    /// Modbus lines and hosts by name.
    pub modbus: Named<adapters::modbus::Settings>,
    /// Serial devices by name.
    pub serial: Named<adapters::serial::Settings>,
    /// HTTP devices by name.
    pub http: Named<adapters::http::Settings>,
    /// Plugins by name.
    pub exec: Option<NotYet>,
}

impl Settings {
    /// The sections of the adapters.
    pub fn adapters(&self) -> Sections<'_> {
        Sections { modbus: &self.modbus, serial: &self.serial, http: &self.http }
    }
}

/// The section `gateway`: its name, and how points are published unless they say otherwise.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gateway {
    /// The name that `{gateway}` stands for. Default: the host name.
    pub name: Option<Located<String>>,
    /// The topic of a point. Default `{gateway}/{device}/{point}`.
    pub topic: Located<Template>,
    /// `plain`, `json` or `object`. Default `plain`.
    pub payload: PayloadFormat,
    /// QoS of readings. Default 1.
    pub qos: Qos,
    /// Whether readings are retained. Default `true`.
    pub retain: bool,
    /// Whether the system's clock is believed: `auto`, `trusted` or `untrusted`. Default `auto`: once it is synchronised.
    pub clock: clock::Trust,
    /// Announcement of points by MQTT discovery.
    pub homeassistant: Option<NotYet>,
}

impl Default for Gateway {
    fn default() -> Self {
        let topic = Template::parse("{gateway}/{device}/{point}").expect("the default is a template");
        Self {
            name: None,
            topic: Located::nowhere(topic),
            payload: PayloadFormat::Plain,
            qos: Qos(crate::mqtt::QoS::AtLeastOnce),
            retain: true,
            clock: clock::Trust::Auto,
            homeassistant: None,
        }
    }
}

/// The section `webhooks`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Webhooks {
    /// The address to listen on, `127.0.0.1:8081`. Default: none, no hook is served.
    pub listen: Option<Located<String>>,
}

/// The section `log`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`. Default `info`.
    pub level: LogLevel,
    /// `text` or `json`. Default `text`.
    pub format: LogFormat,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What failed for good.
    Error,
    /// What somebody should look at.
    Warn,
    /// Lifecycle: started, connected, stopped.
    #[default]
    Info,
    /// Per connection.
    Debug,
    /// Per packet.
    Trace,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines: one object a line.
    Json,
}
