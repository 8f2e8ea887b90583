//! The flags that `pub` and `sub` share: where the broker is, who we are, and our will.

use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use clap::Args;

use crate::client::{Address, Client};
use crate::mqtt::connection::{ConnectOptions, WillOptions};
use crate::mqtt::{MessageBuilder, QoS, TopicName, Version};
use crate::settings::decode_percent;

/// Flags that `pub` and `sub` share.
#[derive(Debug, Args)]
pub(super) struct ConnectionArguments {
    /// Host of the broker.
    #[arg(short = 'h', long, default_value = "localhost", conflicts_with = "url")]
    host: String,
    /// Port of the broker.
    #[arg(short, long, default_value_t = 1883, conflicts_with = "url")]
    port: u16,
    #[arg(short = 'L', long, value_name = "URL", help = "All in one: mqtt://[USER[:PASSWORD]@]HOST[:PORT]/TOPIC")]
    url: Option<Url>,
    /// Client identifier [default: a random one].
    #[arg(short, long, value_name = "ID", conflicts_with = "id_prefix")]
    id: Option<String>,
    /// Client identifier made of this and the process id.
    #[arg(short = 'I', long, value_name = "PREFIX")]
    id_prefix: Option<String>,
    /// User name.
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// Password.
    #[arg(short = 'P', long = "pw", value_name = "PASSWORD")]
    password: Option<String>,
    /// Version: 5 | 311 | mqttv5 | mqttv311 [default: 5, and 311 where the broker refuses it].
    #[arg(short = 'V', long, value_name = "VERSION", value_parser = parse_version)]
    protocol_version: Option<Version>,
    /// QoS, 0 to 2.
    #[arg(short, long, default_value = "0", value_parser = parse_qos)]
    pub qos: QoS,
    /// Seconds between signs of life; 0 is off.
    #[arg(short, long, value_name = "SECONDS", default_value_t = 60)]
    keepalive: u16,
    /// Keep the session when we go (needs -i or -I).
    #[arg(short = 'c', long)]
    disable_clean_session: bool,
    /// Seconds that the session is kept (5.0), -1 is for ever [default: -1 with -c, else 0].
    #[arg(short = 'x', long, value_name = "SECONDS", allow_hyphen_values = true, value_parser = parse_expiry)]
    session_expiry_interval: Option<u32>,
    /// Messages with QoS 1 and 2 under way at a time.
    #[arg(short = 'M', long, value_name = "COUNT", default_value_t = 1000,
          value_parser = clap::value_parser!(u16).range(1..))]
    max_inflight: u16,
    /// Topic of our will.
    #[arg(long, value_name = "TOPIC")]
    will_topic: Option<String>,
    /// Payload of our will.
    #[arg(long, value_name = "PAYLOAD", requires = "will_topic")]
    will_payload: Option<String>,
    /// QoS of our will.
    #[arg(long, value_name = "QOS", default_value = "0", requires = "will_topic", value_parser = parse_qos)]
    will_qos: QoS,
    /// Retain our will.
    #[arg(long, requires = "will_topic")]
    will_retain: bool,
    /// Print what happens, on standard error.
    #[arg(short, long)]
    pub debug: bool,
    /// Print no warnings.
    #[arg(long, conflicts_with = "debug")]
    pub quiet: bool,
    /// Print help.
    #[arg(long, action = clap::ArgAction::HelpShort)]
    help: Option<bool>,
}

impl ConnectionArguments {
    /// The client that these flags ask for, not connected yet. `name` stands in a random client identifier.
    pub(super) fn client(&self, name: &str) -> anyhow::Result<Client> {
        let client = Client::new(self.address(), self.options(name)?);
        Ok(if self.protocol_version.is_none() { client.fall_back_to_3() } else { client })
    }

    /// The topic of `-L`.
    pub(super) fn url_topic(&self) -> Option<&str> {
        self.url.as_ref()?.topic.as_deref()
    }

    fn address(&self) -> Address {
        match &self.url {
            Some(url) => url.address.clone(),
            None => Address { host: self.host.clone(), port: self.port },
        }
    }

    fn options(&self, name: &str) -> anyhow::Result<ConnectOptions> {
        let version = self.protocol_version.unwrap_or_default();
        let client_id = match (&self.id, &self.id_prefix) {
            (Some(id), _) => id.clone(),
            (None, Some(prefix)) => format!("{prefix}{}", std::process::id()),
            (None, None) => {
                ensure!(!self.disable_clean_session, "-c keeps a session, which needs a client identifier: give -i ID");
                format!("edgeway-{name}-{:08x}", random())
            }
        };
        let from_url = |pick: fn(&Url) -> &Option<String>| self.url.as_ref().and_then(|url| pick(url).clone());
        let username = self.username.clone().or_else(|| from_url(|url| &url.username));
        let password = self.password.clone().or_else(|| from_url(|url| &url.password));
        ensure!(
            version == Version::V5 || username.is_some() || password.is_none(),
            "a password without a user name needs MQTT 5.0: give -u NAME"
        );
        Ok(ConnectOptions {
            version,
            clean_start: !self.disable_clean_session,
            keep_alive: self.keepalive,
            will: self.will()?,
            username,
            password: password.map(String::into_bytes),
            session_expiry_interval: self.session_expiry_interval.unwrap_or(if self.disable_clean_session {
                u32::MAX
            } else {
                0
            }),
            in_flight_maximum: self.max_inflight,
            ..ConnectOptions::new(client_id)
        })
    }

    fn will(&self) -> anyhow::Result<Option<WillOptions>> {
        let Some(topic) = &self.will_topic else {
            return Ok(None);
        };
        let topic = TopicName::new(topic).with_context(|| format!("--will-topic {topic}"))?;
        let payload = self.will_payload.as_deref().unwrap_or_default();
        ensure!(payload.len() <= usize::from(u16::MAX), "--will-payload has more than 65,535 bytes");
        let message =
            MessageBuilder::new(&topic, payload.as_bytes()).qos(self.will_qos).retain(self.will_retain).build();
        Ok(Some(WillOptions { message, delay_interval: 0 }))
    }
}

/// What `-L` says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Url {
    username: Option<String>,
    password: Option<String>,
    address: Address,
    topic: Option<String>,
}

impl FromStr for Url {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let Some(rest) = text.strip_prefix("mqtt://") else {
            if text.starts_with("mqtts://") {
                bail!("TLS is not available yet; mqtt://… is");
            }
            bail!("a URL reads mqtt://[USER[:PASSWORD]@]HOST[:PORT]/TOPIC");
        };
        let (authority, topic) = match rest.split_once('/') {
            Some((authority, topic)) => (authority, Some(topic.to_owned()).filter(|topic| !topic.is_empty())),
            None => (rest, None),
        };
        let (user, address) = match authority.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, authority),
        };
        let (username, password) = match user.map(|user| user.split_once(':').unwrap_or((user, ""))) {
            Some((name, "")) => (Some(decode(name)?), None),
            Some((name, password)) => (Some(decode(name)?), Some(decode(password)?)),
            None => (None, None),
        };
        Ok(Self { username, password, address: address.parse()?, topic })
    }
}

fn decode(text: &str) -> anyhow::Result<String> {
    decode_percent(text).context("user and password of a URL are UTF-8, and `%` is followed by two hexadecimal digits")
}

pub(super) fn parse_qos(text: &str) -> Result<QoS, String> {
    text.parse().ok().and_then(QoS::from_wire).ok_or_else(|| "QoS is 0, 1 or 2".to_owned())
}

fn parse_version(text: &str) -> Result<Version, String> {
    match text {
        "5" | "mqttv5" => Ok(Version::V5),
        "311" | "3.1.1" | "mqttv311" => Ok(Version::V3),
        _ => Err("the version is 5 (mqttv5) or 311 (mqttv311)".to_owned()),
    }
}

fn parse_expiry(text: &str) -> Result<u32, String> {
    match text {
        "-1" | "∞" => Ok(u32::MAX),
        _ => text.parse().map_err(|_| "seconds from 0 to 4294967295, or -1 for ever".to_owned()),
    }
}

/// Some bits that differ from process to process; a client identifier needs no more.
pub(super) fn random() -> u32 {
    RandomState::new().hash_one(std::process::id()) as u32
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    #[command(disable_help_flag = true)]
    struct Line {
        #[command(flatten)]
        connection: ConnectionArguments,
    }

    fn parse(line: &str) -> ConnectionArguments {
        Line::try_parse_from(std::iter::once("test").chain(line.split(' ').filter(|word| !word.is_empty())))
            .unwrap()
            .connection
    }

    #[test]
    fn without_flags_it_is_localhost_with_a_random_identifier_and_5_0() {
        let arguments = parse("");
        assert_eq!(arguments.address().to_string(), "localhost:1883");
        let options = arguments.options("sub").unwrap();
        assert!(options.client_id.starts_with("edgeway-sub-") && options.client_id.len() <= 23);
        assert_eq!(
            (options.version, options.clean_start, options.keep_alive, options.session_expiry_interval),
            (Version::V5, true, 60, 0)
        );
        assert!(options.will.is_none() && options.username.is_none());
    }

    #[test]
    fn h_is_the_host() {
        assert_eq!(parse("-h ::1 -p 1884").address().to_string(), "[::1]:1884");
    }

    #[test]
    fn versions_have_mosquittos_names() {
        for (word, version) in
            [("5", Version::V5), ("mqttv5", Version::V5), ("311", Version::V3), ("mqttv311", Version::V3)]
        {
            assert_eq!(parse(&format!("-V {word}")).options("t").unwrap().version, version);
        }
        assert!(Line::try_parse_from(["test", "-V", "31"]).is_err());
    }

    #[test]
    fn a_session_is_kept_for_ever_by_c_or_as_long_as_x_says() {
        let options = |line: &str| parse(line).options("t").unwrap();
        assert_eq!(options("-c -i me").session_expiry_interval, u32::MAX);
        assert!(!options("-c -i me").clean_start);
        assert_eq!(options("-c -i me -x 30").session_expiry_interval, 30);
        assert_eq!(options("-x -1 -i me").session_expiry_interval, u32::MAX);
        assert!(parse("-c").options("t").is_err(), "-c without -i");
    }

    #[test]
    fn the_will_is_made_of_its_flags() {
        let will = parse("--will-topic a/b --will-payload gone --will-qos 2 --will-retain").will().unwrap().unwrap();
        assert_eq!((will.message.topic(), will.message.payload()), ("a/b", &b"gone"[..]));
        assert_eq!((will.message.qos, will.message.retain), (QoS::ExactlyOnce, true));
        assert!(parse("--will-topic a/#").will().is_err());
        assert!(Line::try_parse_from(["test", "--will-payload", "x"]).is_err(), "a payload without a topic");
    }

    #[test]
    fn a_url_has_it_all() {
        let url: Url = "mqtt://us%40er:p:w@[::1]:1885/a/b".parse().unwrap();
        assert_eq!(url.username.as_deref(), Some("us@er"));
        assert_eq!(url.password.as_deref(), Some("p:w"));
        assert_eq!(url.address.to_string(), "[::1]:1885");
        assert_eq!(url.topic.as_deref(), Some("a/b"));
        let url: Url = "mqtt://broker/t".parse().unwrap();
        assert_eq!((url.username, url.address.port), (None, 1883));
        for wrong in ["broker", "mqtts://broker/t", "mqtt:///t", "mqtt://a%4@b/t"] {
            assert!(wrong.parse::<Url>().is_err(), "{wrong}");
        }
    }
}
