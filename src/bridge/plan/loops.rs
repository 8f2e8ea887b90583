//! What `check` refuses because it could go round for ever: over MQTT 3.1.1 nothing travels with a message that says
//! where it has been.

use super::{Plan, PlannedRoute};
use crate::bridge::settings::Version;
use crate::mqtt::{TopicFilter, topic};
use crate::settings::Mistake;

/// Bridges to one server of which one receives what another sends, and publishes it where the other takes it again.
pub fn loops(plans: &[Plan]) -> Vec<Mistake> {
    let pairs = plans.iter().flat_map(|sender| plans.iter().map(move |receiver| (sender, receiver)));
    pairs.filter(|(sender, receiver)| sender.name != receiver.name).filter_map(between).collect()
}

fn between((sender, receiver): (&Plan, &Plan)) -> Option<Mistake> {
    // Over 5.0 `via` goes all the way.
    let is_marked = sender.version == Version::V5 && receiver.version == Version::V5;
    let is_same = sender
        .servers
        .iter()
        .find(|one| receiver.servers.iter().any(|other| (&one.host, one.port) == (&other.host, other.port)));
    let server = is_same.filter(|_| !is_marked)?;
    let comes_back =
        |received: &PlannedRoute| sender.send.iter().any(|sent| overlap(there(received), sent.remap.from()));
    let mut pairs = receiver.receive.iter().flat_map(|received| sender.send.iter().map(move |sent| (sent, received)));
    let (sent, received) =
        pairs.find(|(sent, received)| overlap(there(sent), received.remap.from()) && comes_back(received))?;
    let (from, other) = (received.remap.from(), &sender.name);
    let message = format!("`{from}` would bring back from {} what the bridge {other} sends there", server.host);
    let help = "with `mqtt: 3.1.1` nobody sees where a message has been; use other topics, or `mqtt: 5` for both";
    Some(Mistake::new(received.place, message).related(sent.place, "sent here").help(help))
}

/// The topics that a route makes, on its other side.
fn there(route: &PlannedRoute) -> &TopicFilter {
    route.remap.to().unwrap_or(route.remap.from())
}

fn overlap(one: &TopicFilter, other: &TopicFilter) -> bool {
    topic::overlap(one.as_str(), other.as_str())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::bridge::settings::Settings;
    use crate::settings::Located;

    fn plan(name: &str, version: &str, url: &str, routes: &str) -> Plan {
        let json = format!(r#"{{"url": ["{url}"], "mqtt": "{version}", "will": false, {routes}}}"#);
        let settings: Settings = serde_json::from_str(&json).unwrap();
        settings.resolve("edge", &Located::nowhere(name.to_owned()), Path::new("/")).unwrap()
    }

    fn refused(plans: &[Plan; 2]) -> Vec<String> {
        loops(plans).into_iter().map(|mistake| mistake.message).collect()
    }

    #[test]
    fn two_bridges_to_one_server_must_not_bring_back_what_they_send_where_3_1_1_is_spoken() {
        let out = |version| plan("out", version, "mqtt://hub", r#""send": [{"from": "a/#", "to": "site/#"}]"#);
        let back = r#""receive": [{"from": "x"}, {"from": "site/+", "to": "a/+"}]"#;
        let message = "`site/+` would bring back from hub what the bridge out sends there";
        for (one, other, is_refused) in
            [("3.1.1", "5", true), ("5", "3.1.1", true), ("3.1.1", "3.1.1", true), ("5", "5", false)]
        {
            let expected = if is_refused { vec![message] } else { vec![] };
            assert_eq!(refused(&[out(one), plan("in", other, "mqtt://hub:1883", back)]), expected, "{one} {other}");
            assert_eq!(refused(&[plan("in", other, "mqtt://hub", back), out(one)]), expected, "{one} {other}");
        }
        let elsewhere = r#""receive": [{"from": "site/+", "to": "b/+"}]"#;
        for (url, routes) in [("mqtt://other", back), ("mqtt://hub:1884", back), ("mqtt://hub", elsewhere)] {
            assert_eq!(refused(&[out("3.1.1"), plan("in", "3.1.1", url, routes)]), [""; 0]);
        }
    }
}
