//! `edgeway explain`: which way a topic takes: who publishes it, which bridges take it where, and why others do not.

use std::fmt::{Display, Write};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::check::Outcome;
use super::outlook::{Outlook, size, span, tells_time};
use crate::adapters::{Pace, Published};
use crate::bridge::Plan;
use crate::bridge::cloud::{Cloud, TakesRetain};
use crate::bridge::plan::{PlannedRoute, RouteQos};
use crate::bridge::settings::{Retain, Version};
use crate::bridge::way::{Why, way};
use crate::broker::delivery::is_result;
use crate::broker::lanes::{self, LaneKind, Rank};
use crate::config::{self, Configuration, Environment};
use crate::mapping::PayloadFormat;
use crate::mapping::hop_payload::HopPayload;
use crate::mqtt::{QoS, TopicName};
use crate::settings::Place;

/// Say which way a topic takes.
#[derive(Debug, clap::Args)]
pub struct Explain {
    /// A topic of the gateway's broker, without wildcards
    topic: String,
    /// The configuration: a file, or a folder of *.yaml files [default: /etc/edgeway/edgeway.yaml, then
    /// config/edgeway.yaml]
    #[arg(short, long, value_name = "PATH")]
    config: Option<PathBuf>,
}

impl Explain {
    /// Prints what becomes of the topic; 2 where there are mistakes.
    pub fn run(self) -> ExitCode {
        let colour = std::io::stderr().is_terminal();
        let outcome = explain(&self.topic, self.config.as_deref(), &Environment::process(), colour);
        print!("{}", outcome.stdout);
        eprint!("{}", outcome.stderr);
        ExitCode::from(outcome.status)
    }
}

/// Explains `topic` by the configuration at `path`, or at the usual places; `colour` is for mistakes in it.
pub fn explain(topic: &str, path: Option<&Path>, environment: &Environment<'_>, colour: bool) -> Outcome {
    let refused = |stderr| Outcome { status: 2, stdout: String::new(), stderr };
    let topic = match TopicName::new(topic) {
        Ok(topic) => topic,
        Err(error) => return refused(format!("error: `{topic}` is no topic: {error}\n")),
    };
    let read = config::find(path).map_err(config::Refused::from).and_then(|path| config::read(&path, environment));
    match read {
        Ok(configuration) => Outcome { status: 0, stdout: text(&topic, &configuration), stderr: String::new() },
        Err(error) => refused(error.render(colour)),
    }
}

/// What people read.
fn text(topic: &TopicName, configuration: &Configuration) -> String {
    let resolved = &configuration.resolved;
    let published = resolved.adapters.published();
    let mut page = Page(format!("{topic}\n"));
    let mine: Vec<&Published> = published.iter().filter(|published| published.topic == *topic).collect();
    page.origin(topic, &mine, configuration);
    let permitted = resolved.rules.permitted(topic.as_str());
    if !resolved.rules.users.is_empty() {
        let names = |names: &[std::sync::Arc<str>]| {
            if names.is_empty() {
                "no user".into()
            } else {
                names.iter().map(|name| &**name).collect::<Vec<_>>().join(", ")
            }
        };
        page.line("read by", names(&permitted.read));
        page.line("written by", names(&permitted.write));
    }
    let outlook = Outlook::new(&published, &resolved.storage, &resolved.bridges);
    for bridge in &resolved.bridges {
        page.bridge(topic, bridge, mine.first().copied(), &outlook, configuration);
    }
    if resolved.bridges.is_empty() {
        page.line("bridges", "none");
    }
    page.0
}

struct Page(String);

impl Page {
    fn line(&mut self, key: &str, value: impl Display) {
        // Writing into a string does not fail.
        let _ = writeln!(self.0, "{key:<11} {value}");
    }

    /// A line that belongs to the bridge above.
    fn detail(&mut self, key: &str, value: impl Display) {
        let _ = writeln!(self.0, "  {key:<9} {value}");
    }

    /// Who publishes it, and whom it moves.
    fn origin(&mut self, topic: &TopicName, published: &[&Published], configuration: &Configuration) {
        let resolved = &configuration.resolved;
        let gateway = &resolved.gateway;
        let mut is_known = !published.is_empty();
        for published in published {
            self.line("published", publisher(published));
        }
        if topic.as_str() == format!("{gateway}/status") {
            self.line("published", "by the gateway itself: online");
            is_known = true;
        }
        for device in resolved.adapters.devices() {
            for (suffix, what) in [("status", "whether it answers"), ("error", "why it does not answer")] {
                if topic.as_str() == format!("{gateway}/{device}/{suffix}") {
                    self.line("published", format_args!("by {device}: {what}, at qos 1, retained"));
                    is_known = true;
                }
            }
        }
        for command in resolved.adapters.command_topics() {
            let what = match &command.point {
                Some(point) => format!("{point} of {}", command.device),
                None => command.device.clone(),
            };
            if command.topic == *topic {
                let timeout = span(command.timeout);
                self.line(
                    "command",
                    format_args!("writes {what}, within {timeout} or not at all; never if it is retained"),
                );
                self.line("answered", format_args!("on {topic}/result"));
                is_known = true;
            } else if topic.as_str() == format!("{}/result", command.topic) {
                self.line("published", format_args!("as the result of commands to {what}"));
                is_known = true;
            }
        }
        let is_command = resolved.adapters.command_topics().iter().any(|command| command.topic == *topic);
        for bridge in &resolved.bridges {
            if let Some(cloud) = bridge.cloud.as_ref().filter(|cloud| is_command && !cloud.preset.has_topics()) {
                self.line("comes", format_args!("from commands of {} to {}", cloud.rules.name, bridge.name));
            }
            for (route, from) in way(bridge, topic.as_str()).brought {
                let mut line = format!("from {from} of {}, qos {}", bridge.name, qos_words(route.qos, None));
                if let Some(age) = route.max_age {
                    line.push_str(&format!(", at most {} old", span(age)));
                }
                line.push_str(&format!(" ({})", place_words(route, configuration)));
                self.line("comes", line);
                is_known = true;
            }
        }
        if !is_known {
            self.line("published", "by clients only: no device and no bridge has it");
        }
    }

    fn bridge(
        &mut self,
        topic: &TopicName,
        bridge: &Plan,
        published: Option<&Published>,
        outlook: &Outlook<'_>,
        configuration: &Configuration,
    ) {
        let way = way(bridge, topic.as_str());
        let place = |route: &PlannedRoute| format!("{} ({})", route_words(route), place_words(route, configuration));
        self.0.push('\n');
        if let Some((route, remapped)) = &way.out {
            self.line(&format!("to {}", bridge.name), format_args!("as {remapped}"));
            self.detail("route", place(route));
            if let Some(cloud) = &bridge.cloud {
                self.detail("cloud", cloud_words(cloud, remapped));
            }
            let most = bridge.cloud.as_ref().map_or(QoS::ExactlyOnce, |cloud| cloud.rules.max_qos);
            let lowered = match route.qos {
                RouteQos::Exactly(qos) => RouteQos::Exactly(qos.min(most)),
                RouteQos::AtMost(qos) => RouteQos::AtMost(qos.min(most)),
            };
            let mut qos = qos_words(lowered, published);
            if published.map_or(QoS::AtMostOnce, |published| published.qos) == QoS::AtMostOnce
                && route.qos.of(QoS::AtMostOnce) == QoS::AtMostOnce
            {
                qos.push_str("; what goes at qos 0 is not kept while the link is down");
            }
            self.detail("qos", qos);
            self.detail("retain", retain_words(route.retain, published));
            self.detail("payload", payload_words(bridge, route, published));
            self.detail("sent", sent_words(bridge, route, topic));
            if let Some(limits) = limit_words(bridge) {
                self.detail("limits", limits);
            }
            self.detail("waits", waits_words(bridge, configuration));
            if let Some(lasts) = outlook.lasts(bridge) {
                self.detail("lasts", lasts);
            }
        } else if way.passed.is_empty() {
            self.line(&format!("not to {}", bridge.name), "no route matches it");
        } else {
            let _ = writeln!(self.0, "not to {}", bridge.name);
        }
        for (route, why) in &way.passed {
            let why = match why {
                Why::Excepted(except) => format!("`except: {except}`"),
                Why::Command => "a wildcard takes no command out of the gateway; name the topic itself".into(),
                Why::Earlier(_) => "a route before it takes the topic".into(),
                Why::NoTopic => "there is no topic for it on the other side".into(),
            };
            self.detail("not by", format_args!("{}: {why}", place(route)));
        }
    }
}

/// What the cloud takes, and whether that is the topic.
fn cloud_words(cloud: &Cloud, topic: &str) -> String {
    let rules = cloud.rules;
    let mut words = vec![format!("qos {} at most", rules.max_qos)];
    words.extend((rules.retain == TakesRetain::No).then(|| "nothing retained".into()));
    words.extend(rules.packet_bytes.map(|bytes| format!("packets of {}", size(u64::from(bytes)))));
    words.extend(rules.topic_bytes.map(|bytes| format!("topics of {bytes} bytes")));
    words.extend(rules.topic_slashes.map(|slashes| format!("{slashes} slashes in them")));
    words.extend(rules.in_flight.map(|count| format!("{count} in flight")));
    words.extend(rules.rate.map(|rate| format!("{rate} messages/s")));
    words.extend(rules.bandwidth.map(|bytes| format!("{}/s", size(bytes as u64))));
    let mut line = format!("{} takes {}", rules.name, words.join(", "));
    if let Some(refused) = Some(cloud).filter(|cloud| cloud.preset.has_topics()).and_then(|_| rules.refuses(topic)) {
        line.push_str(&format!("; this one is refused: {refused}"));
    }
    line
}

/// Where a route stands.
fn place_words(route: &PlannedRoute, configuration: &Configuration) -> String {
    if route.place == Place::default() { "of the preset".into() } else { configuration.sources.locate(route.place) }
}

fn publisher(published: &Published) -> String {
    let Published { device, point, unit, pace, qos, retain, format, .. } = published;
    let mut line = match point {
        Some(point) => format!("by {point} of {device}"),
        None => format!("by {device}, as a whole"),
    };
    match pace {
        Pace::Every(every) => line.push_str(&format!(", every {}", span(*every))),
        Pace::AtMostEvery(every) => line.push_str(&format!(", every {} at most", span(*every))),
        Pace::Unknown => line.push_str(", when it says something"),
    }
    if let Some(unit) = unit {
        line.push_str(&format!(", in {unit}"));
    }
    let format = format_words(format);
    let retained = if *retain { ", retained" } else { "" };
    format!("{line}, {format}, at qos {qos}{retained}")
}

fn format_words(format: &PayloadFormat) -> String {
    match format {
        PayloadFormat::Plain => "plain".into(),
        PayloadFormat::Json => "json".into(),
        PayloadFormat::Object => "as an object".into(),
        PayloadFormat::Template(template) => format!("as {template}"),
    }
}

fn route_words(route: &PlannedRoute) -> String {
    match route.remap.to() {
        Some(to) => format!("{} -> {to}", route.remap.from()),
        None => route.remap.from().to_string(),
    }
}

fn qos_words(qos: RouteQos, published: Option<&Published>) -> String {
    match (qos, published) {
        (RouteQos::Exactly(qos), _) => qos.to_string(),
        (RouteQos::AtMost(_), Some(published)) => match qos.of(published.qos) {
            lower if lower < published.qos => format!("{lower}, published at {}", published.qos),
            own => format!("{own}, as it is published"),
        },
        (RouteQos::AtMost(QoS::ExactlyOnce), None) => "as it was published".into(),
        (RouteQos::AtMost(most), None) => format!("as it was published, at most {most}"),
    }
}

fn retain_words(retain: Retain, published: Option<&Published>) -> String {
    match (retain, published) {
        (Retain::Always, _) => "always".into(),
        (Retain::Never, _) => "never".into(),
        (Retain::Keep, None) => "as it was published".into(),
        (Retain::Keep, Some(published)) => {
            format!("{}, as it is published", if published.retain { "yes" } else { "no" })
        }
    }
}

fn payload_words(bridge: &Plan, route: &PlannedRoute, published: Option<&Published>) -> String {
    let mut words = match (&route.payload, published) {
        (HopPayload::AsPublished, Some(published)) => {
            format!("as it is published, {}", format_words(&published.format))
        }
        (HopPayload::Json, Some(published)) if published.format == PayloadFormat::Object => {
            "the object, as it is".into()
        }
        (HopPayload::Json, _) => "json: {topic, value, unit, time, quality}".into(),
        (other, _) => other.to_string(),
    };
    if let Some(published) = published
        && !tells_time(&route.payload, &published.format)
    {
        words.push_str(match bridge.version {
            Version::V5 => "; the time goes as the user property `time`",
            Version::V311 => "; the time is lost: MQTT 3.1.1 has no place for it, `payload: json` keeps it",
        });
    }
    words
}

/// Before what, with what and how fast it is sent.
fn sent_words(bridge: &Plan, route: &PlannedRoute, topic: &TopicName) -> String {
    let lane = if is_result(topic.as_str()) { lanes::HIGH } else { route.lane };
    let lane = usize::from(lane).checked_sub(1).and_then(|index| bridge.lanes.get(index));
    let rank = lane.map_or(Rank::Normal, |lane| lane.rank);
    let mut words = vec![match rank {
        Rank::High => "before others".to_owned(),
        Rank::Normal => "in its turn".to_owned(),
        Rank::Low => "when nothing else waits".to_owned(),
    }];
    match lane.map(|lane| lane.kind) {
        Some(LaneKind::Batch { every, max }) => {
            let every = span(std::time::Duration::from_millis(every));
            words.push(format!("in arrays of at most {max}, {every} after the first at the latest"));
        }
        Some(LaneKind::Newest { every }) => {
            let every = span(std::time::Duration::from_millis(every));
            words.push(format!("the newest only, every {every} at most"));
        }
        Some(LaneKind::Plain | LaneKind::Aside) | None => {}
    }
    words.join(", ")
}

/// How fast the bridge sends.
fn limit_words(bridge: &Plan) -> Option<String> {
    let rate = bridge.throttling.rate.map(|rate| format!("{rate} messages/s"));
    let bandwidth = bridge.throttling.bandwidth.map(|bandwidth| format!("{}/s", size(bandwidth as u64)));
    let limits: Vec<String> = rate.into_iter().chain(bandwidth).collect();
    (!limits.is_empty()).then(|| format!("{} for all that does not go before others", limits.join(" and ")))
}

/// In how much it waits, and for how long.
fn waits_words(bridge: &Plan, configuration: &Configuration) -> String {
    let storage = &configuration.resolved.storage;
    let mut words = match (bridge.queue_bytes, &storage.disk) {
        (Some(bytes), _) => format!("in {} of the bridge's own", size(bytes)),
        (None, Some(_)) => format!("in {} that all queues share", size(storage.limit)),
        (None, None) => format!("in {} of memory", size(storage.limit)),
    };
    if let Some(expire) = bridge.expire {
        words.push_str(&format!(", {} at most", span(expire)));
    }
    words.push_str(&format!(", then {}", bridge.when_full.unwrap_or(storage.when_full)));
    words
}

#[cfg(test)]
mod tests;
