//! Puts names in, checks every rule, and notes all that is wrong.

use serde_json::json;

use super::{PlannedRoute, RouteQos, Will};
use crate::bridge::cloud::{Rules, TakesRetain};
use crate::bridge::settings::{BatchSettings, Priority, Retain, Route, Settings, WillSettings};
use crate::broker::lanes::{LaneKind, LaneSettings, Rank};
use crate::mapping::hop_payload::HopPayload;
use crate::mqtt::{QoS, Remap, TopicFilter, TopicName, remap::RemapError, topic};
use crate::settings::{Duration, Located, Mistake, Template};

const DEFAULT_SESSION: Duration = Duration::from_secs(7 * 86_400);
const DEFAULT_KEEP_ALIVE: Duration = Duration::from_secs(30);
const DEFAULT_ACK_TIMEOUT: Duration = Duration::from_secs(30);

/// The shortest time in which a route sends one message.
const MIN_EVERY: std::time::Duration = std::time::Duration::from_millis(100);
/// The longest.
const MAX_EVERY: std::time::Duration = std::time::Duration::from_secs(86_400);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Send,
    Receive,
}

pub(super) struct Resolver<'a> {
    pub(super) gateway: &'a str,
    pub(super) bridge: &'a str,
    /// Whether all values could be read. If not, what is missing may have been there.
    pub(super) is_complete: bool,
    /// What its cloud takes.
    pub(super) rules: Option<&'static Rules>,
    pub(super) mistakes: Vec<Mistake>,
    /// Lanes of the queue besides the normal one.
    pub(super) lanes: Vec<LaneSettings>,
}

impl Resolver<'_> {
    pub(super) fn expand(&mut self, template: &Located<Template>) -> Option<String> {
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

    pub(super) fn filter(&mut self, template: &Located<Template>) -> Option<TopicFilter> {
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

    /// One for each route, `None` for those with mistakes.
    pub(super) fn routes(&mut self, routes: &[Located<Route>], direction: Direction) -> Vec<Option<PlannedRoute>> {
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
        let lane = self.lane(route, from.as_ref(), direction);
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
                (Some(qos), _) => RouteQos::Exactly(qos.value.0),
                (None, Some(most)) => RouteQos::AtMost(most.0),
                (None, None) => RouteQos::AtMost(self.rules.map_or(QoS::ExactlyOnce, |rules| rules.max_qos)),
            },
            retain: match (route.retain, self.rules.map(|rules| rules.retain)) {
                (Some(retain), _) => retain.value,
                (None, Some(TakesRetain::WhereAsked | TakesRetain::No)) => Retain::Never,
                (None, _) => Retain::default(),
            },
            except,
            max_age: route.max_age.map(|age| age.value.0),
            payload: match &route.payload {
                Some(payload) => payload.value.bound(self.gateway, self.bridge),
                // What goes into an array must be JSON.
                None if route.batch.is_some() => HopPayload::Json,
                None if self.rules.is_some_and(|rules| rules.payload_is_json) && direction == Direction::Send => {
                    HopPayload::Json
                }
                None => HopPayload::default(),
            },
            lane,
            envelope: None,
            place: route.place,
        })
    }

    /// In which lane the messages of a route wait.
    fn lane(&mut self, route: &Located<Route>, from: Option<&TopicFilter>, direction: Direction) -> u8 {
        let only_on_send = [
            ("priority", route.priority.as_ref().map(|priority| priority.place)),
            ("batch", route.batch.as_ref().map(|batch| batch.place)),
            ("every", route.every.as_ref().map(|every| every.place)),
            ("payload", route.payload.as_ref().map(|payload| payload.place)),
        ];
        for (key, place) in only_on_send {
            if let Some(place) = place.filter(|_| direction == Direction::Receive) {
                self.mistakes.push(Mistake::new(place, format!("`{key}` stands in `send` only")));
            }
        }
        let rank = match route.priority.map(|priority| priority.value).unwrap_or_default() {
            Priority::High => Rank::High,
            Priority::Normal => Rank::Normal,
            Priority::Low => Rank::Low,
        };
        let from = from.map(TopicFilter::as_str).unwrap_or_default();
        let lane = match (&route.batch, &route.every) {
            (Some(batch), Some(_)) => {
                let mistake = batch.mistake("a route has `batch` or `every`, not both");
                self.mistakes.push(mistake.help("`batch` sends all in packets, `every` only the newest"));
                return 0;
            }
            (Some(batch), None) => {
                if let Some(qos) = route.qos.or(route.max_qos)
                    && qos.value.0 == QoS::ExactlyOnce
                {
                    self.mistakes.push(batch.mistake("`batch` wants `qos: 0` or `qos: 1`"));
                }
                let (every, max) = (self.batch_every(batch), self.batch_max(batch));
                LaneSettings { name: format!("batch:{from}"), rank, kind: LaneKind::Batch { every, max } }
            }
            (None, Some(every)) => {
                if every.value.0 < MIN_EVERY || every.value.0 > MAX_EVERY {
                    self.mistakes.push(every.mistake("`every` is 100ms to 1d"));
                }
                let every = every.value.0.as_millis() as u64;
                LaneSettings { name: format!("every:{from}"), rank, kind: LaneKind::Newest { every } }
            }
            (None, None) if rank == Rank::Normal => return 0,
            (None, None) => LaneSettings::plain(rank),
        };
        let index = self.lanes.iter().position(|known| known.name == lane.name).unwrap_or_else(|| {
            self.lanes.push(lane);
            self.lanes.len() - 1
        });
        u8::try_from(index + 1).unwrap_or_else(|_| {
            self.mistakes.push(Mistake::new(route.place, "a bridge has at most 250 routes with `batch` or `every`"));
            0
        })
    }

    fn batch_every(&mut self, batch: &Located<BatchSettings>) -> u64 {
        let Some(every) = batch.value.every else {
            return 10_000;
        };
        if every.value.0 < MIN_EVERY || every.value.0 > std::time::Duration::from_secs(3600) {
            self.mistakes.push(every.mistake("`every` of a batch is 100ms to 1h"));
        }
        every.value.0.as_millis() as u64
    }

    fn batch_max(&mut self, batch: &Located<BatchSettings>) -> usize {
        let Some(max) = batch.value.max else {
            return 200;
        };
        if !(2..=1000).contains(&max.value) {
            self.mistakes.push(max.mistake("`max` of a batch is 2 to 1000"));
        }
        usize::from(max.value)
    }

    /// How long a message waits.
    pub(super) fn expire(&mut self, settings: &Settings) -> Option<std::time::Duration> {
        let expire = settings.queue.expire?;
        if expire.value.0 < std::time::Duration::from_secs(1) {
            self.mistakes.push(expire.mistake("`expire` is 1s or more"));
        }
        Some(expire.value.0)
    }

    /// MQTT 3.1.1 knows neither No Local nor Retain As Published.
    pub(super) fn rules_of_version_3(
        &mut self,
        settings: &Settings,
        send: &[Option<PlannedRoute>],
        receive: &[Option<PlannedRoute>],
    ) {
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

    pub(super) fn will(&mut self, settings: &Settings, send: &[Option<PlannedRoute>]) -> Option<Will> {
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
                // The time of a will is not known beforehand, and whoever reads JSON wants it of both.
                let payload = |value: &str| match route.payload {
                    HopPayload::Json => json!({ "topic": status, "value": value }).to_string(),
                    _ => value.to_owned(),
                };
                return Some(Will {
                    topic: TopicName::new(&topic).ok()?,
                    payload: payload("offline"),
                    birth: payload("online"),
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
                birth: "online".into(),
                qos: message.qos.map_or(QoS::AtLeastOnce, |qos| qos.0),
                retain: message.retain.unwrap_or(true),
            }),
            Err(error) => {
                self.mistakes.push(message.topic.mistake(format!("`{topic}` is no topic")).help(error.to_string()));
                None
            }
        }
    }

    pub(super) fn client_id(&mut self, template: &Located<Template>) -> String {
        let client_id = self.expand(template).unwrap_or_else(|| "-".into());
        if client_id.is_empty() || client_id.len() > 65_535 || client_id.contains('\0') {
            self.mistakes.push(template.mistake("a client id has 1 to 65535 characters, none of them U+0000"));
        }
        client_id
    }

    /// Its name in a cloud.
    pub(super) fn device(&mut self, settings: &Settings) -> String {
        let device = settings.device.as_ref().map(|template| self.expand(template).unwrap_or_default());
        device.unwrap_or_else(|| self.gateway.to_owned())
    }

    pub(super) fn session(&mut self, settings: &Settings) -> u32 {
        let session = settings.session.unwrap_or(Located::nowhere(DEFAULT_SESSION));
        u32::try_from(session.value.0.as_secs_f64().ceil() as u64).unwrap_or_else(|_| {
            self.mistakes.push(session.mistake("a session is kept for at most 49710d"));
            0
        })
    }

    pub(super) fn keep_alive(&mut self, settings: &Settings) -> u16 {
        let keep_alive = settings.keep_alive.unwrap_or(Located::nowhere(DEFAULT_KEEP_ALIVE));
        match u16::try_from(keep_alive.value.0.as_secs()) {
            Ok(seconds @ 1..) if keep_alive.value.0.subsec_nanos() == 0 => seconds,
            _ => {
                self.mistakes.push(keep_alive.mistake("`keep_alive` is 1s to 65535s, in whole seconds"));
                0
            }
        }
    }

    pub(super) fn ack_timeout(&mut self, settings: &Settings) -> std::time::Duration {
        let timeout = settings.ack_timeout.unwrap_or(Located::nowhere(DEFAULT_ACK_TIMEOUT));
        if !(1..=3600).contains(&timeout.value.0.as_secs()) || timeout.value.0 > std::time::Duration::from_secs(3600) {
            self.mistakes.push(timeout.mistake("`ack_timeout` is 1s to 1h"));
        }
        timeout.value.0
    }
}

/// Whether `earlier` takes every message of `later`.
fn hides(earlier: &PlannedRoute, later: &PlannedRoute, direction: Direction) -> bool {
    let (earlier, later) = (earlier.remap.from(), later.remap.from());
    // A wildcard does not send commands (`.../set`), so a route that names them is not hidden by one.
    let is_command = later.as_str() == "set" || later.as_str().ends_with("/set");
    earlier == later || (earlier.covers(later) && !(direction == Direction::Send && is_command))
}
