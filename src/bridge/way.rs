//! Which way a topic takes over a bridge, and why not another. Pure.

use super::plan::{Plan, PlannedRoute};
use crate::broker::delivery::withholds_command;
use crate::broker::envelope::Sealed;
use crate::mapping::hop_payload::Outgoing;
use crate::mqtt::{Remap, Sampled, TopicFilter, TopicName};

/// What becomes of a topic at a bridge.
#[derive(Debug, Clone, PartialEq)]
pub struct Way<'a> {
    /// The `send` route that it takes, and its topic on the hop.
    pub out: Option<(&'a PlannedRoute, String)>,
    /// The `send` routes whose filter matches it and that it does not take, and why not.
    pub passed: Vec<(&'a PlannedRoute, Why<'a>)>,
    /// The `receive` routes that may bring it, and from which topics of the far broker.
    pub brought: Vec<(&'a PlannedRoute, String)>,
}

/// Why a topic does not take a route.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Why<'a> {
    /// This filter of `except` matches it.
    Excepted(&'a TopicFilter),
    /// It is a command, and a wildcard takes none out of the gateway.
    Command,
    /// It takes this one, which stands before it.
    Earlier(&'a PlannedRoute),
    /// The topic that it would have is none, or the cloud has no form for it.
    NoTopic,
}

/// The way of `topic` over the bridge of `plan`.
pub fn way<'a>(plan: &'a Plan, topic: &str) -> Way<'a> {
    let mut way = Way { out: None, passed: Vec::new(), brought: Vec::new() };
    // A preset has routes of its own for the answers that its cloud waits for: those take nothing else.
    let is_for_it = |route: &&PlannedRoute| {
        route.remap.from().matches(topic) && route.envelope.as_ref().is_none_or(|envelope| envelope.takes(topic, b"0"))
    };
    for route in plan.send.iter().filter(is_for_it) {
        let excepted = route.except.iter().find(|except| except.matches(topic));
        let why = match (&way.out, excepted) {
            (Some((earlier, _)), _) => Why::Earlier(earlier),
            (None, Some(except)) => Why::Excepted(except),
            (None, None) if withholds_command(route.remap.from(), topic) => Why::Command,
            (None, None) => match on_hop(route, topic) {
                Some(remapped) => {
                    way.out = Some((route, remapped));
                    continue;
                }
                None => Why::NoTopic,
            },
        };
        way.passed.push((route, why));
    }
    for (index, route) in plan.receive.iter().enumerate() {
        let Some(from) = origin(route, topic) else {
            continue;
        };
        let takes = |route: &PlannedRoute| {
            route.remap.from().matches(&from) && !route.except.iter().any(|except| except.matches(&from))
        };
        // A filter that sends all to one topic stands for itself: what of it others take is not to be known.
        let is_one = TopicName::new(&from).is_ok();
        if !is_one || (takes(route) && !plan.receive[..index].iter().any(takes)) {
            way.brought.push((route, from));
        }
    }
    way
}

/// The topic of the far broker, or the filter of topics, from which `route` makes `topic`.
fn origin(route: &PlannedRoute, topic: &str) -> Option<String> {
    let from = route.remap.from();
    let to = route.remap.to().unwrap_or(from);
    if !to.matches(topic) {
        return None;
    }
    if !to.has_wildcard() {
        return Some(from.to_string());
    }
    // The wildcards of both are the same: it can be gone backwards.
    let back = Remap::new(to.clone(), Some(from.clone())).ok()?;
    applied(&back, topic)
}

/// The topic that the other side sees: a cloud may have a form of its own.
fn on_hop(route: &PlannedRoute, topic: &str) -> Option<String> {
    let remapped = applied(&route.remap, topic)?;
    let message = Outgoing { topic, payload: b"0", reading: None, time: Sampled::at(0) };
    match route.envelope.as_ref().map(|envelope| envelope.seal(&remapped, message.payload, &message)) {
        None | Some(Sealed::AsItIs) => Some(remapped),
        Some(Sealed::As { topic, .. }) => Some(topic),
        Some(Sealed::Nothing(_)) => None,
    }
}

fn applied(remap: &Remap, topic: &str) -> Option<String> {
    let mut applied = String::new();
    (remap.apply(topic, &mut applied) && TopicName::new(&applied).is_ok()).then_some(applied)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::bridge::settings::Settings;
    use crate::settings::Located;

    fn plan() -> Plan {
        let settings: Settings = serde_json::from_value(json!({
            "url": ["mqtt://c"],
            "send": [
                { "from": "edge/meter/#", "except": ["edge/meter/secret"], "to": "dt/#" },
                { "from": "edge/+/set" },
                { "from": "edge/#", "to": "all/#" },
                { "from": "edge/pump/x/set", "to": "named" },
            ],
            "receive": [
                { "from": "cmd/+/x", "to": "edge/+/set", "except": ["cmd/gps/x"] },
                { "from": "cmd/#", "to": "edge/#" },
                { "from": "news/#", "to": "edge/news" },
            ],
        }))
        .unwrap();
        settings.resolve("edge", &Located::nowhere("cloud".into()), Path::new("")).unwrap()
    }

    #[test]
    fn a_topic_takes_the_first_route_and_the_others_say_why_not() {
        let plan = plan();
        let seen = |topic: &str| {
            let way = way(&plan, topic);
            let index = |route: &PlannedRoute| plan.send.iter().position(|other| std::ptr::eq(other, route)).unwrap();
            let out = way.out.as_ref().map(|(route, topic)| (index(route), topic.clone()));
            let passed = way.passed.iter().map(|(route, why)| {
                let why = match why {
                    Why::Excepted(except) => except.as_str().to_owned(),
                    Why::Command => "command".into(),
                    Why::Earlier(earlier) => format!("after {}", index(earlier)),
                    Why::NoTopic => "no topic".into(),
                };
                (index(route), why)
            });
            (out, passed.collect::<Vec<_>>())
        };
        let (after, all) = (|index: usize| (2, format!("after {index}")), |topic: &str| Some((2, topic.to_owned())));
        assert_eq!(seen("edge/meter/power"), (Some((0, "dt/power".into())), vec![after(0)]));
        assert_eq!(seen("edge/meter/secret"), (all("all/meter/secret"), vec![(0, "edge/meter/secret".into())]));
        assert_eq!(seen("edge/gps"), (all("all/gps"), Vec::new()));
        assert_eq!(seen("edge/pump/set"), (None, vec![(1, "command".into()), (2, "command".into())]));
        assert_eq!(seen("edge/pump/x/set"), (Some((3, "named".into())), vec![(2, "command".into())]));
        assert_eq!(seen("other"), (None, Vec::new()));
    }

    #[test]
    fn what_brings_a_topic_is_found_backwards() {
        let plan = plan();
        let seen = |topic: &str| {
            let brought = way(&plan, topic).brought;
            brought.into_iter().map(|(_, from)| from).collect::<Vec<_>>()
        };
        assert_eq!(seen("edge/pump/set"), ["cmd/pump/x", "cmd/pump/set"]);
        // The first route that matches has it, and that one does not make this topic of it.
        assert_eq!(seen("edge/pump/x"), [""; 0]);
        // The first route leaves it to the second.
        assert_eq!(seen("edge/gps/x"), ["cmd/gps/x"]);
        assert_eq!(seen("edge/gps/set"), ["cmd/gps/set"]);
        assert_eq!(seen("edge/news"), ["cmd/news", "news/#"]);
        assert_eq!(seen("x"), [""; 0]);
    }
}
