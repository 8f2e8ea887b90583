//! A bridge's settings with all names put in and all rules checked: what the bridge runs on.

mod loops;
mod network;
mod resolver;
#[cfg(test)]
mod tests;

use std::path::Path;

use super::cloud::{self, Checked, Cloud, Preset};
use super::settings::{Retain, Settings, Version};
use crate::broker::envelope::SharedEnvelope;
use crate::broker::lanes::{LaneSettings, Throttling};
use crate::mapping::hop_payload::HopPayload;
use crate::mqtt::{QoS, Remap, TopicFilter, TopicName};
use crate::net::client_tls::ClientTlsOptions;
use crate::net::proxy::Proxy;
use crate::settings::{Located, Mistake, Place, Secret};
use crate::store::settings::WhenFull;
pub use loops::loops;
use resolver::{Direction, Resolver};

pub use crate::net::dial::Server;

/// A bridge, ready to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its name in the configuration.
    pub name: String,
    /// The gateway's name.
    pub gateway: String,
    /// Brokers to try in this order; at least one.
    pub servers: Vec<Server>,
    /// User name of the CONNECT.
    pub username: Option<String>,
    /// Password of the CONNECT.
    pub password: Option<Secret>,
    /// Client id of the CONNECT.
    pub client_id: String,
    /// Session expiry in seconds; 0 is a clean session.
    pub session_seconds: u32,
    /// Keep alive in seconds, 1 to 65,535.
    pub keep_alive_seconds: u16,
    /// How long messages in flight may go without any acknowledgement.
    pub ack_timeout: std::time::Duration,
    /// The version to begin with.
    pub version: Version,
    /// Certificates and how TLS is spoken, with the servers that want it.
    pub tls: ClientTlsOptions,
    /// What passes connections on.
    pub proxy: Option<Proxy>,
    /// What goes there; the first that matches.
    pub send: Vec<PlannedRoute>,
    /// What comes from there.
    pub receive: Vec<PlannedRoute>,
    /// What the far broker publishes when we are gone.
    pub will: Option<Will>,
    /// The most bytes that wait; `None` shares what all have.
    pub queue_bytes: Option<u64>,
    /// What happens to a message beyond them; `None` is what happens in all queues.
    pub when_full: Option<WhenFull>,
    /// How long a message waits; `None` is for ever.
    pub expire: Option<std::time::Duration>,
    /// How fast messages go.
    pub throttling: Throttling,
    /// The lanes of its queue besides the normal one.
    pub lanes: Vec<LaneSettings>,
    /// The cloud that it goes to; `None` where that is a plain broker.
    pub cloud: Option<Cloud>,
}

/// A route, ready to be matched.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedRoute {
    /// Which messages, and their topics on the other side.
    pub remap: Remap,
    /// The QoS of the hop.
    pub qos: RouteQos,
    /// RETAIN on the other side.
    pub retain: Retain,
    /// Messages that do not take this route.
    pub except: Vec<TopicFilter>,
    /// On `receive`: the greatest age.
    pub max_age: Option<std::time::Duration>,
    /// On `send`: how the payload is made.
    pub payload: HopPayload,
    /// On `send`: in which lane its messages wait: 0 is the normal one, others are those of [`Plan::lanes`] from 1 on.
    pub lane: u8,
    /// The forms of the cloud.
    pub envelope: Option<SharedEnvelope>,
    /// Where it stands in the configuration.
    pub place: Place,
}

/// The QoS of a hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteQos {
    /// The message's own, at most this.
    AtMost(QoS),
    /// This, whatever the message has.
    Exactly(QoS),
}

impl RouteQos {
    /// The QoS of the hop for a message of `own`.
    pub fn of(self, own: QoS) -> QoS {
        match self {
            Self::AtMost(most) => own.min(most),
            Self::Exactly(qos) => qos,
        }
    }
}

/// A will, and with other payloads the birth message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Its topic on the far broker.
    pub topic: TopicName,
    /// Its payload.
    pub payload: String,
    /// The payload of the birth message.
    pub birth: String,
    /// Its QoS.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
}

impl Settings {
    /// Puts the names in and checks every rule; `name` is the bridge's. Relative paths are those of `folder`.
    ///
    /// # Errors
    /// All that is wrong in this bridge, each with its place.
    pub fn resolve(&self, gateway: &str, name: &Located<String>, folder: &Path) -> Result<Plan, Vec<Mistake>> {
        self.plan(gateway, name, folder, true)
    }

    /// What is wrong in a bridge of which some values could not be read, as far as the rest shows it.
    pub fn mistakes_of_the_rest(&self, gateway: &str, name: &Located<String>, folder: &Path) -> Vec<Mistake> {
        self.plan(gateway, name, folder, false).err().unwrap_or_default()
    }

    fn plan(
        &self,
        gateway: &str,
        name: &Located<String>,
        folder: &Path,
        is_complete: bool,
    ) -> Result<Plan, Vec<Mistake>> {
        let bridge = name.value.as_str();
        let preset = self.cloud.as_ref().map(|cloud| cloud.value);
        let rules = preset.map(Preset::rules);
        let lanes = LaneSettings::of_every_bridge();
        let mut resolver = Resolver { gateway, bridge, is_complete, rules, mistakes: Vec::new(), lanes };
        if self.url.is_empty() && is_complete {
            resolver.mistakes.push(name.mistake(format!("`{bridge}` has no `url`")));
        }
        let servers: Vec<Server> = self.url.iter().filter_map(|url| resolver.server(url)).collect();
        let send = resolver.routes(&self.send, Direction::Send);
        let receive = resolver.routes(&self.receive, Direction::Receive);
        let version = self.mqtt.map(|version| version.value).or(rules.and_then(|rules| rules.version));
        let version = version.unwrap_or_default();
        if version == Version::V311 {
            resolver.rules_of_version_3(self, &send, &receive);
        }
        let will = resolver.will(self, &send);
        let client_id = match &self.client_id {
            Some(template) => resolver.client_id(template),
            None => format!("{gateway}-{bridge}"),
        };
        let username = self.username.as_ref().map(|template| resolver.expand(template).unwrap_or_default());
        if let (Some(password), None, true) = (&self.password, &self.username, is_complete) {
            // MQTT 3.1.1 has no password without a user name [MQTT-3.1.2-22].
            resolver.mistakes.push(password.mistake("a `password` wants a `username`"));
        }
        let device = resolver.device(self);
        if let Some(preset) = preset {
            let checked = Checked {
                settings: self,
                preset,
                bridge,
                is_complete,
                servers: &servers,
                send: &send,
                receive: &receive,
                client_id: &client_id,
                device: &device,
                will: will.as_ref(),
            };
            resolver.mistakes.extend(cloud::check(&checked));
        } else {
            resolver.mistakes.extend(cloud::without_cloud(self, is_complete));
        }
        let mut plan = Plan {
            name: bridge.into(),
            gateway: gateway.into(),
            servers,
            username,
            password: self.password.as_ref().map(|password| password.value.clone()),
            client_id,
            session_seconds: resolver.session(self),
            keep_alive_seconds: resolver.keep_alive(self),
            ack_timeout: resolver.ack_timeout(self),
            version,
            tls: self.tls.as_ref().map(|tls| resolver.tls(tls, self, folder)).unwrap_or_default(),
            proxy: self.proxy.as_ref().and_then(|url| resolver.proxy(url)),
            send: send.into_iter().flatten().collect(),
            receive: receive.into_iter().flatten().collect(),
            will,
            queue_bytes: self.queue.limit.map(|limit| limit.0),
            when_full: self.queue.when_full,
            expire: resolver.expire(self),
            throttling: Throttling {
                rate: self.limit.rate.map(|rate| rate.value.0).or(rules.and_then(|rules| rules.rate).map(cloud::below)),
                bandwidth: self
                    .limit
                    .bandwidth
                    .map(|bandwidth| bandwidth.value.0)
                    .or(rules.and_then(|rules| rules.bandwidth).map(cloud::below)),
            },
            lanes: resolver.lanes,
            cloud: None,
        };
        if !resolver.mistakes.is_empty() {
            return Err(resolver.mistakes);
        }
        if let Some(preset) = preset {
            cloud::adapt(&mut plan, preset, self, gateway, &device);
        }
        Ok(plan)
    }
}
