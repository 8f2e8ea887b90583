//! A bridge's settings with all names put in and all rules checked: what the bridge runs on.

use std::path::{Path, PathBuf};

use super::settings::{Retain, Route, Settings, Tls, Version, WillSettings};
use crate::mqtt::{QoS, Remap, TopicFilter, TopicName, remap::RemapError, topic};
use crate::settings::{Duration, Endpoint, Located, Mistake, NOT_AVAILABLE_YET, Place, Secret, Template};
use crate::store::settings::WhenFull;

const DEFAULT_SESSION: Duration = Duration::from_secs(7 * 86_400);
const DEFAULT_KEEP_ALIVE: Duration = Duration::from_secs(30);

/// A bridge, ready to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its name in the configuration.
    pub name: String,
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
    /// The version to begin with.
    pub version: Version,
    /// Certificates; `None` means those of the system and none of our own.
    pub tls: Option<TlsFiles>,
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
}

/// A broker to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// A name or an address.
    pub host: String,
    /// 1 to 65,535.
    pub port: u16,
    /// Whether TLS is spoken: `mqtts`.
    pub tls: bool,
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

/// Certificates in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// Our certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
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
        let mut resolver = Resolver { gateway, bridge, is_complete, mistakes: Vec::new() };
        if self.url.is_empty() && is_complete {
            resolver.mistakes.push(name.mistake(format!("`{bridge}` has no `url`")));
        }
        let servers = self.url.iter().filter_map(|url| resolver.server(url)).collect();
        let send = resolver.routes(&self.send, Direction::Send);
        let receive = resolver.routes(&self.receive, Direction::Receive);
        resolver.version_rules(self, &send, &receive);
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
        let plan = Plan {
            name: bridge.into(),
            servers,
            username,
            password: self.password.as_ref().map(|password| password.value.clone()),
            client_id,
            session_seconds: resolver.session(self),
            keep_alive_seconds: resolver.keep_alive(self),
            version: self.mqtt,
            tls: self.tls.as_ref().map(|tls| resolver.tls(tls, self, folder)),
            send: send.into_iter().flatten().collect(),
            receive: receive.into_iter().flatten().collect(),
            will,
            queue_bytes: self.queue.limit.map(|limit| limit.0),
            when_full: self.queue.when_full,
        };
        if resolver.mistakes.is_empty() { Ok(plan) } else { Err(resolver.mistakes) }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Send,
    Receive,
}

struct Resolver<'a> {
    gateway: &'a str,
    bridge: &'a str,
    /// Whether all values could be read. If not, what is missing may have been there.
    is_complete: bool,
    mistakes: Vec<Mistake>,
}

impl Resolver<'_> {
    fn expand(&mut self, template: &Located<Template>) -> Option<String> {
        let expanded = template.expand(|name| match name {
            "gateway" => Some(self.gateway),
            "bridge" => Some(self.bridge),
            _ => None,
        });
        expanded
            .map_err(|error| {
                let mistake = template.mistake(error.to_string());
                self.mistakes.push(mistake.help("in a bridge there are {gateway} and {bridge}"));
            })
            .ok()
    }

    fn filter(&mut self, template: &Located<Template>) -> Option<TopicFilter> {
        let text = self.expand(template)?;
        let filter = TopicFilter::new(&text);
        match filter {
            Ok(filter) if filter.as_str().starts_with("$share/") => {
                self.mistakes.push(template.mistake("a route takes no shared subscription"));
                None
            }
            Ok(filter) => Some(filter),
            Err(error) => {
                self.mistakes.push(template.mistake(format!("`{text}` is no filter")).help(error.to_string()));
                None
            }
        }
    }

    fn server(&mut self, url: &Located<String>) -> Option<Server> {
        let mistake = match Endpoint::parse(url) {
            Err(error) => url.mistake(format!("`{}` is no URL of a broker", url.value)).help(error.to_string()),
            Ok(Endpoint { scheme, .. }) if scheme == "ws" || scheme == "wss" => {
                url.mistake(format!("`{scheme}://` is {NOT_AVAILABLE_YET}"))
            }
            Ok(Endpoint { scheme, .. }) if scheme != "mqtt" && scheme != "mqtts" => {
                url.mistake(format!("`{scheme}://` is no broker")).help("mqtt://HOST or mqtts://HOST")
            }
            Ok(Endpoint { port: Some(0), .. }) => url.mistake("there is no port 0 to dial"),
            Ok(Endpoint { path, .. }) if !path.is_empty() => url.mistake(format!("`{path}` has no meaning here")),
            Ok(endpoint) => {
                let tls = endpoint.scheme == "mqtts";
                let port = endpoint.port.unwrap_or(if tls { 8883 } else { 1883 });
                return Some(Server { host: endpoint.host, port, tls });
            }
        };
        self.mistakes.push(mistake);
        None
    }

    /// One for each route, `None` for those with mistakes.
    fn routes(&mut self, routes: &[Located<Route>], direction: Direction) -> Vec<Option<PlannedRoute>> {
        let mut planned: Vec<Option<PlannedRoute>> = Vec::with_capacity(routes.len());
        for (index, route) in routes.iter().enumerate() {
            let route_plan = self.route(route, direction);
            if let Some(new) = route_plan.as_ref().filter(|_| self.is_complete) {
                let same = |(_, earlier): &(usize, &Option<PlannedRoute>)| {
                    earlier.as_ref().is_some_and(|earlier| earlier.except.is_empty() && hides(earlier, new, direction))
                };
                if let Some((earlier, _)) = planned[..index].iter().enumerate().find(same) {
                    let mistake = route.from.mistake("no message ever takes this route");
                    self.mistakes.push(
                        mistake
                            .related(routes[earlier].from.place, "this one takes them all")
                            .help("a message takes the first route that matches"),
                    );
                }
                if direction == Direction::Receive {
                    self.no_partial_overlap(route, new, routes.iter().zip(&planned));
                }
            }
            planned.push(route_plan);
        }
        planned
    }

    /// A server sends a message once for each subscription that matches it: what two filters share would come twice.
    fn no_partial_overlap<'r>(
        &mut self,
        route: &Located<Route>,
        new: &PlannedRoute,
        mut earlier: impl Iterator<Item = (&'r Located<Route>, &'r Option<PlannedRoute>)>,
    ) {
        let new = new.remap.from();
        let other = earlier.find(|(_, earlier)| {
            let earlier = earlier.as_ref().map(|earlier| earlier.remap.from());
            earlier.is_some_and(|earlier| {
                topic::overlap(earlier.as_str(), new.as_str()) && !earlier.covers(new) && !new.covers(earlier)
            })
        });
        if let Some((other, _)) = other {
            let mistake = route.from.mistake("some messages match this route and another, and would come twice");
            self.mistakes.push(
                mistake
                    .related(other.from.place, "the other one")
                    .help("let one filter hold the other whole, or let them have no topic in common"),
            );
        }
    }

    fn route(&mut self, route: &Located<Route>, direction: Direction) -> Option<PlannedRoute> {
        let from = self.filter(&route.from);
        let to = route.to.as_ref().map(|to| self.filter(to));
        let except: Vec<_> = route.except.iter().filter_map(|except| self.filter(except)).collect();
        if let (Some(_), Some(max_qos)) = (route.qos, route.max_qos) {
            self.mistakes.push(max_qos.mistake("a route has `qos` or `max_qos`, not both"));
        }
        if let Some(max_age) = route.max_age.filter(|_| direction == Direction::Send) {
            self.mistakes.push(max_age.mistake("`max_age` stands in `receive` only"));
        }
        let remap = match (from?, to) {
            (from, None) => Remap::new(from, None),
            (from, Some(to)) => Remap::new(from, Some(to?)),
        };
        let remap = match remap {
            Ok(remap) => remap,
            Err(error) => {
                let place = route.to.as_ref().map_or(route.from.place, |to| to.place);
                self.mistakes.push(match error {
                    RemapError::Wildcards { from, to } => {
                        Mistake::new(place, format!("the wildcards of `{to}` are not those of `{from}`"))
                            .related(route.from.place, "`from`")
                            .help("`+` and `#` of `to` stand for those of `from` in their order; or `to` has none")
                    }
                    RemapError::Topic(error) => Mistake::new(place, error.to_string()),
                });
                return None;
            }
        };
        Some(PlannedRoute {
            remap,
            qos: match (route.qos, route.max_qos) {
                (Some(qos), _) => RouteQos::Exactly(qos.0),
                (None, Some(most)) => RouteQos::AtMost(most.0),
                (None, None) => RouteQos::AtMost(QoS::ExactlyOnce),
            },
            retain: route.retain.map(|retain| retain.value).unwrap_or_default(),
            except,
            max_age: route.max_age.map(|age| age.value.0),
            place: route.place,
        })
    }

    /// MQTT 3.1.1 knows neither No Local nor Retain As Published.
    fn version_rules(&mut self, settings: &Settings, send: &[Option<PlannedRoute>], receive: &[Option<PlannedRoute>]) {
        if settings.mqtt != Version::V311 {
            return;
        }
        for (written, route) in settings.receive.iter().zip(receive) {
            if let Some(retain) = written.retain.filter(|retain| retain.value == Retain::Keep) {
                self.mistakes.push(retain.mistake("`keep` on `receive` wants `mqtt: 5`"));
            }
            let Some(route) = route else { continue };
            let from = route.remap.from().as_str();
            let back = send.iter().flatten().zip(&settings.send).find(|(sent, _)| {
                let to = sent.remap.to().unwrap_or(sent.remap.from());
                topic::overlap(to.as_str(), from)
            });
            if let Some((_, sent)) = back {
                let place = sent.to.as_ref().map_or(sent.from.place, |to| to.place);
                let mistake = written.from.mistake(format!("`{from}` would bring back what this bridge sends"));
                self.mistakes.push(
                    mistake
                        .related(place, "sent here")
                        .help("with `mqtt: 3.1.1` the far broker cannot leave our own messages out; use other topics"),
                );
            }
        }
    }

    fn will(&mut self, settings: &Settings, send: &[Option<PlannedRoute>]) -> Option<Will> {
        let message = match &settings.will {
            WillSettings::None => return None,
            WillSettings::Message(message) => message,
            WillSettings::Status => {
                let status = format!("{}/status", self.gateway);
                let route = send.iter().flatten().find(|route| {
                    route.remap.from().matches(&status) && !route.except.iter().any(|except| except.matches(&status))
                })?;
                let mut topic = String::new();
                route.remap.apply(&status, &mut topic);
                return Some(Will {
                    topic: TopicName::new(&topic).ok()?,
                    payload: "offline".into(),
                    qos: route.qos.of(QoS::AtLeastOnce),
                    retain: route.retain != Retain::Never,
                });
            }
        };
        let topic = self.expand(&message.topic)?;
        match TopicName::new(&topic) {
            Ok(topic) => Some(Will {
                topic,
                payload: message.payload.clone().unwrap_or_else(|| "offline".into()),
                qos: message.qos.map_or(QoS::AtLeastOnce, |qos| qos.0),
                retain: message.retain.unwrap_or(true),
            }),
            Err(error) => {
                self.mistakes.push(message.topic.mistake(format!("`{topic}` is no topic")).help(error.to_string()));
                None
            }
        }
    }

    fn client_id(&mut self, template: &Located<Template>) -> String {
        let client_id = self.expand(template).unwrap_or_else(|| "-".into());
        if client_id.is_empty() || client_id.len() > 65_535 || client_id.contains('\0') {
            self.mistakes.push(template.mistake("a client id has 1 to 65535 characters, none of them U+0000"));
        }
        client_id
    }

    fn session(&mut self, settings: &Settings) -> u32 {
        let session = settings.session.unwrap_or(Located::nowhere(DEFAULT_SESSION));
        u32::try_from(session.value.0.as_secs_f64().ceil() as u64).unwrap_or_else(|_| {
            self.mistakes.push(session.mistake("a session is kept for at most 49710d"));
            0
        })
    }

    fn keep_alive(&mut self, settings: &Settings) -> u16 {
        let keep_alive = settings.keep_alive.unwrap_or(Located::nowhere(DEFAULT_KEEP_ALIVE));
        match u16::try_from(keep_alive.value.0.as_secs()) {
            Ok(seconds @ 1..) if keep_alive.value.0.subsec_nanos() == 0 => seconds,
            _ => {
                self.mistakes.push(keep_alive.mistake("`keep_alive` is 1s to 65535s, in whole seconds"));
                0
            }
        }
    }

    fn tls(&mut self, tls: &Located<Tls>, settings: &Settings, folder: &Path) -> TlsFiles {
        if self.is_complete && settings.url.iter().all(|url| url.to_lowercase().starts_with("mqtt://")) {
            self.mistakes.push(tls.mistake("`tls` wants a URL with `mqtts://`"));
        }
        match (&tls.cert, &tls.key) {
            _ if !self.is_complete => {}
            (Some(cert), None) => self.mistakes.push(cert.mistake("a `cert` wants its `key`")),
            (None, Some(key)) => self.mistakes.push(key.mistake("a `key` wants its `cert`")),
            _ => {}
        }
        let mut path = |file: &Located<String>| {
            let path = folder.join(&file.value);
            if !path.is_file() {
                self.mistakes.push(file.mistake(format!("there is no file {}", path.display())));
            }
            path
        };
        TlsFiles {
            ca: tls.ca.as_ref().map(&mut path),
            identity: tls.cert.as_ref().zip(tls.key.as_ref()).map(|(cert, key)| (path(cert), path(key))),
        }
    }
}

/// Whether `earlier` takes every message of `later`.
fn hides(earlier: &PlannedRoute, later: &PlannedRoute, direction: Direction) -> bool {
    let (earlier, later) = (earlier.remap.from(), later.remap.from());
    // A wildcard does not send commands (`.../set`), so a route that names them is not hidden by one.
    let is_command = later.as_str() == "set" || later.as_str().ends_with("/set");
    earlier == later || (earlier.covers(later) && !(direction == Direction::Send && is_command))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(json: &str) -> Result<Plan, Vec<String>> {
        let settings: Settings = serde_json::from_str(json).unwrap();
        let name = Located::nowhere("cloud".to_string());
        settings
            .resolve("edge-01", &name, Path::new("/nowhere"))
            .map_err(|mistakes| mistakes.into_iter().map(|mistake| mistake.message).collect())
    }

    fn refused(json: &str) -> Vec<String> {
        resolve(json).unwrap_err()
    }

    #[test]
    fn defaults_are_those_of_the_reference() {
        let plan = resolve(r#"{"url": ["mqtts://cloud"], "send": [{"from": "{gateway}/#", "to": "site/#"}]}"#).unwrap();
        assert_eq!(plan.servers, [Server { host: "cloud".into(), port: 8883, tls: true }]);
        assert_eq!(plan.client_id, "edge-01-cloud");
        assert_eq!((plan.session_seconds, plan.keep_alive_seconds, plan.version), (604_800, 30, Version::V5));
        let route = &plan.send[0];
        assert_eq!(route.remap.from().as_str(), "edge-01/#");
        assert_eq!((route.qos, route.retain), (RouteQos::AtMost(QoS::ExactlyOnce), Retain::Keep));
        let will = plan.will.unwrap();
        assert_eq!(
            (will.topic.as_str(), will.payload.as_str(), will.qos, will.retain),
            ("site/status", "offline", QoS::AtLeastOnce, true)
        );
    }

    #[test]
    fn the_will_follows_its_route_or_is_the_users_own() {
        let none = r#"{"url": ["mqtt://a"], "send": [{"from": "{gateway}/meter/#"}]}"#;
        assert_eq!(resolve(none).unwrap().will, None);
        let off = r##"{"url": ["mqtt://a"], "will": false, "send": [{"from": "#"}]}"##;
        assert_eq!(resolve(off).unwrap().will, None);
        let excepted = r##"{"url": ["mqtt://a"], "send": [{"from": "#", "except": ["{gateway}/status"]}]}"##;
        assert_eq!(resolve(excepted).unwrap().will, None);
        let own = r#"{"url": ["mqtt://a"], "will": {"topic": "gone/{bridge}", "qos": 2, "retain": false}}"#;
        let will = resolve(own).unwrap().will.unwrap();
        assert_eq!((will.topic.as_str(), will.qos, will.retain), ("gone/cloud", QoS::ExactlyOnce, false));
        let quiet = r##"{"url": ["mqtt://a"], "send": [{"from": "#", "max_qos": 0, "retain": false}]}"##;
        let will = resolve(quiet).unwrap().will.unwrap();
        assert_eq!((will.qos, will.retain), (QoS::AtMostOnce, false));
    }

    #[test]
    fn a_queue_has_bounds_of_its_own_or_those_of_all() {
        let plan = |queue: &str| resolve(&format!(r#"{{"url": ["mqtt://a"], "queue": {queue}}}"#)).unwrap();
        let shares = plan("{}");
        assert_eq!((shares.queue_bytes, shares.when_full), (None, None));
        let own = plan(r#"{"limit": "100MB", "when_full": "refuse"}"#);
        assert_eq!((own.queue_bytes, own.when_full), (Some(100 * 1024 * 1024), Some(WhenFull::Refuse)));
        let wrong = r#"{"url": ["mqtt://a"], "queue": {"when_full": "drop"}}"#;
        let error = serde_json::from_str::<Settings>(wrong).unwrap_err().to_string();
        assert!(error.contains("drop_oldest") && error.contains("drop_newest") && error.contains("refuse"), "{error}");
    }

    #[test]
    fn a_route_has_a_qos_of_its_own() {
        let exactly = RouteQos::Exactly(QoS::AtLeastOnce);
        let at_most = RouteQos::AtMost(QoS::AtLeastOnce);
        assert_eq!(exactly.of(QoS::AtMostOnce), QoS::AtLeastOnce);
        assert_eq!(at_most.of(QoS::AtMostOnce), QoS::AtMostOnce);
        assert_eq!(at_most.of(QoS::ExactlyOnce), QoS::AtLeastOnce);
    }

    #[test]
    fn routes_that_cannot_work_are_refused() {
        for (route, message) in [
            (r#"{"from": "a/#/b"}"#, "`a/#/b` is no filter"),
            (r#"{"from": "{device}/x"}"#, "`{device}` has no meaning here"),
            (r#"{"from": "a/+", "to": "b/#"}"#, "the wildcards of `b/#` are not those of `a/+`"),
            (r#"{"from": "a", "qos": 1, "max_qos": 1}"#, "a route has `qos` or `max_qos`, not both"),
            (r#"{"from": "a", "max_age": "5s"}"#, "`max_age` stands in `receive` only"),
            (r#"{"from": "$share/g/a"}"#, "a route takes no shared subscription"),
            (r#"{"from": "a", "except": ["a+"]}"#, "`a+` is no filter"),
        ] {
            assert_eq!(refused(&format!(r#"{{"url": ["mqtt://a"], "send": [{route}]}}"#)), [message]);
        }
    }

    #[test]
    fn a_route_behind_one_that_takes_everything_is_refused() {
        let send = |routes: &str| resolve(&format!(r#"{{"url": ["mqtt://a"], "send": [{routes}]}}"#));
        for routes in [
            r##"{"from": "#"}, {"from": "a"}"##,
            r#"{"from": "a/#"}, {"from": "a"}"#,
            r#"{"from": "a/+/c"}, {"from": "a/b/c"}"#,
            r#"{"from": "a"}, {"from": "a"}"#,
        ] {
            assert_eq!(send(routes).unwrap_err(), ["no message ever takes this route"], "{routes}");
        }
        for routes in [
            r##"{"from": "a"}, {"from": "#"}"##,
            r##"{"from": "#"}, {"from": "$SYS/#"}"##,
            r#"{"from": "a/+"}, {"from": "a/#"}"#,
            r#"{"from": "a/#", "except": ["a/b"]}, {"from": "a/b"}"#,
            r#"{"from": "a/#"}, {"from": "a/pump/set"}"#,
        ] {
            assert!(send(routes).is_ok(), "{routes}");
        }
    }

    #[test]
    fn receive_routes_of_which_neither_holds_the_other_have_no_topic_in_common() {
        let receive = |routes: &str| resolve(&format!(r#"{{"url": ["mqtt://a"], "receive": [{routes}]}}"#));
        assert_eq!(
            receive(r#"{"from": "a/+/c"}, {"from": "a/b/+"}"#).unwrap_err(),
            ["some messages match this route and another, and would come twice"]
        );
        assert_eq!(
            receive(r##"{"from": "a/#"}, {"from": "a/set"}"##).unwrap_err(),
            ["no message ever takes this route"]
        );
        for routes in [
            r##"{"from": "a/+/c"}, {"from": "a/#"}"##,
            r##"{"from": "a/#", "except": ["a/x"]}, {"from": "a/x"}"##,
            r#"{"from": "a/+/c"}, {"from": "a/+/d"}"#,
        ] {
            assert!(receive(routes).is_ok(), "{routes}");
        }
    }

    #[test]
    fn a_loop_over_3_1_1_is_refused() {
        let bridge = |version: &str, from: &str| {
            resolve(&format!(
                r#"{{"url": ["mqtt://a"], "mqtt": "{version}", "send": [{{"from": "x/#", "to": "site/#"}}],
                     "receive": [{{"from": "{from}"}}]}}"#
            ))
        };
        assert_eq!(bridge("3.1.1", "site/cmd").unwrap_err(), ["`site/cmd` would bring back what this bridge sends"]);
        assert!(bridge("3.1.1", "cmd/#").is_ok());
        assert!(bridge("5", "site/cmd").is_ok());
    }

    #[test]
    fn what_no_server_would_take_is_refused() {
        for (settings, message) in [
            (r#""url": []"#, "`cloud` has no `url`"),
            (r#""url": ["wss://a"]"#, "`wss://` is not available yet"),
            (r#""url": ["http://a"]"#, "`http://` is no broker"),
            (r#""url": ["a:1883"]"#, "`a:1883` is no URL of a broker"),
            (r#""url": ["mqtt://a"], "keep_alive": "500ms""#, "`keep_alive` is 1s to 65535s, in whole seconds"),
            (r#""url": ["mqtt://a"], "session": "50000d""#, "a session is kept for at most 49710d"),
            (r#""url": ["mqtt://a"], "password": "x""#, "a `password` wants a `username`"),
            (r#""url": ["mqtt://a"], "client_id": """#, "a client id has 1 to 65535 characters, none of them U+0000"),
            (r#""url": ["mqtt://a"], "tls": {}"#, "`tls` wants a URL with `mqtts://`"),
            (r#""url": ["mqtts://a"], "tls": {"ca": "ca.crt"}"#, "there is no file /nowhere/ca.crt"),
        ] {
            assert_eq!(refused(&format!("{{{settings}}}")), [message]);
        }
    }
}
