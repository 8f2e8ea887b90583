//! A bridge's memory as notes of its session, so that it is there after a restart.
//!
//! | name | value |
//! |---|---|
//! | `version URL` | `3.1.1` or `5`, and when that was learnt |
//! | `maximum_qos URL` | the QoS, and when that was learnt |
//! | `subscribed URL` | `known`, where the session's subscriptions are |
//! | `subscribed URL FILTER` | the QoS of one of them |
//!
//! Times are milliseconds of the gateway's own clock.

use std::collections::BTreeMap;

use super::memory::Memory;
use crate::broker::SessionSlot;
use crate::mqtt::{Millis, QoS, Version};

const VERSION: &str = "version";
const MAXIMUM_QOS: &str = "maximum_qos";
const SUBSCRIBED: &str = "subscribed";
const KNOWN: &str = "known";

/// What was kept of the process before.
pub fn load(slot: &SessionSlot) -> Memory {
    parse(slot.notes().iter())
}

/// Keeps all of `memory`, and nothing else.
pub fn save(slot: &SessionSlot, memory: &Memory) {
    let wanted = render(memory);
    let notes = slot.notes();
    for (key, _) in notes.iter().filter(|(key, _)| is_ours(key) && !wanted.contains_key(*key)) {
        let _ = slot.note(key, "");
    }
    for (key, value) in &wanted {
        if let Err(error) = slot.note(key, value) {
            // It is learnt again after a restart.
            tracing::debug!(client = %slot.client_id(), key, %error, "cannot be kept");
            if key.starts_with(SUBSCRIBED) {
                let server = key.split(' ').nth(1).unwrap_or_default();
                let _ = slot.note(&format!("{SUBSCRIBED} {server}"), "");
            }
        }
    }
}

fn is_ours(key: &str) -> bool {
    let word = key.split(' ').next().unwrap_or_default();
    matches!(word, VERSION | MAXIMUM_QOS | SUBSCRIBED)
}

fn render(memory: &Memory) -> BTreeMap<String, String> {
    let mut notes = BTreeMap::new();
    for (server, known) in &memory.servers {
        if let Some((version, at)) = known.version {
            let version = if version == Version::V3 { "3.1.1" } else { "5" };
            notes.insert(format!("{VERSION} {server}"), format!("{version} {}", at.0));
        }
        if let Some((maximum, at)) = known.maximum_qos {
            notes.insert(format!("{MAXIMUM_QOS} {server}"), format!("{maximum} {}", at.0));
        }
        if let Some(subscribed) = &known.subscribed {
            notes.insert(format!("{SUBSCRIBED} {server}"), KNOWN.into());
            for (filter, qos) in subscribed {
                notes.insert(format!("{SUBSCRIBED} {server} {filter}"), qos.to_string());
            }
        }
    }
    notes
}

fn parse<'a>(notes: impl Iterator<Item = (&'a str, &'a str)>) -> Memory {
    let mut memory = Memory::default();
    // What stands for itself comes before its filters: its name is shorter.
    for (key, value) in notes {
        let mut words = key.splitn(3, ' ');
        let (Some(word), Some(server), filter) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        if !is_ours(word) {
            continue;
        }
        let known = memory.servers.entry(server.to_owned()).or_default();
        let (first, at) = value.split_once(' ').unwrap_or((value, ""));
        let at = at.parse().map(Millis);
        match (word, filter) {
            (VERSION, None) => {
                let version = if first == "3.1.1" { Version::V3 } else { Version::V5 };
                known.version = at.ok().map(|at| (version, at));
            }
            (MAXIMUM_QOS, None) => known.maximum_qos = qos(first).zip(at.ok()),
            (SUBSCRIBED, None) => known.subscribed = Some(BTreeMap::new()),
            (SUBSCRIBED, Some(filter)) => {
                if let Some((subscribed, qos)) = known.subscribed.as_mut().zip(qos(value)) {
                    subscribed.insert(filter.to_owned(), qos);
                }
            }
            _ => {}
        }
    }
    memory
}

fn qos(text: &str) -> Option<QoS> {
    text.parse().ok().and_then(QoS::from_wire)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::memory::Known;

    #[test]
    fn what_is_kept_is_read_again() {
        let subscribed = [("cmd/+ /#".to_owned(), QoS::ExactlyOnce), ("news".to_owned(), QoS::AtMostOnce)];
        let mut memory = Memory::default();
        memory.servers.insert(
            "mqtt://a:1883".into(),
            Known {
                version: Some((Version::V3, Millis(12))),
                maximum_qos: Some((QoS::AtLeastOnce, Millis(13))),
                subscribed: Some(subscribed.into()),
                failures: 0,
            },
        );
        let nothing = Known { subscribed: Some(BTreeMap::new()), ..Known::default() };
        memory.servers.insert("mqtts://b:8883".into(), nothing);
        let notes = render(&memory);
        assert_eq!(parse(notes.iter().map(|(key, value)| (key.as_str(), value.as_str()))), memory);
    }

    #[test]
    fn notes_of_others_and_broken_ones_are_passed_over() {
        let notes = [("retained x", "sent"), ("version mqtt://a", "3.1.1"), ("subscribed mqtt://a x", "1")];
        assert_eq!(parse(notes.into_iter()).servers.get("mqtt://a"), Some(&Known::default()));
    }
}
