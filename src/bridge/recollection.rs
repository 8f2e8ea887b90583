//! What a bridge has learnt of its servers, as notes of its session: a restart does not learn it again.
//!
//! ```text
//! server URL version           3.1.1 at 123456      by the gateway's clock
//! server URL maximum_qos       1
//! server URL filter a/#        1
//! server URL subscribed        1                    how many filters there are; else nothing is known of them
//! ```

use std::collections::BTreeMap;

use super::memory::{Known, Memory};
use crate::broker::SessionSlot;
use crate::mqtt::{Millis, QoS, Version};
use crate::store::Notes;

/// What the notes about servers begin with.
const PREFIX: &str = "server ";

/// What is noted.
pub fn recall(notes: &Notes) -> Memory {
    let mut memory = Memory::default();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (key, value) in notes.iter() {
        let Some((server, what)) = key.strip_prefix(PREFIX).and_then(|rest| rest.split_once(' ')) else {
            continue;
        };
        let known = memory.servers.entry(server.to_owned()).or_default();
        match (what, what.strip_prefix("filter ")) {
            (_, Some(filter)) => {
                if let Some(qos) = qos_of(value) {
                    known.subscribed.get_or_insert_default().insert(filter.to_owned(), qos);
                }
            }
            ("version", _) => known.version = version_of(value),
            ("maximum_qos", _) => known.maximum_qos = qos_of(value),
            ("subscribed", _) => _ = value.parse().map(|count| counts.insert(server, count)),
            _ => {}
        }
    }
    for (server, known) in &mut memory.servers {
        // A crash between leaves some of them.
        let found = known.subscribed.as_ref().map_or(0, BTreeMap::len);
        match counts.get(server.as_str()) {
            Some(&count) if count == found => _ = known.subscribed.get_or_insert_default(),
            _ => known.subscribed = None,
        }
    }
    memory
}

/// Has the notes of `slot` say what `memory` knows.
pub fn keep(memory: &Memory, slot: &SessionSlot) {
    let notes = slot.notes();
    let mut wanted: BTreeMap<String, String> = BTreeMap::new();
    for (server, known) in &memory.servers {
        tell(server, known, &mut wanted);
    }
    let stale = notes.iter().filter(|(key, _)| key.starts_with(PREFIX) && !wanted.contains_key(*key));
    let is_count = |key: &str| key.ends_with(" subscribed");
    let filters_change = |server: &str| {
        let begin = format!("{PREFIX}{server} filter ");
        let of = |key: &str| key.starts_with(&begin);
        let known: Vec<_> = notes.iter().filter(|(key, _)| of(key)).collect();
        let new: Vec<_> = wanted.iter().map(|(key, value)| (&**key, &**value)).filter(|(key, _)| of(key)).collect();
        known != new
    };
    // The count is wrong while the filters change.
    for server in memory.servers.keys().filter(|server| filters_change(server)) {
        let _ = slot.note(&format!("{PREFIX}{server} subscribed"), "");
    }
    for (key, _) in stale {
        let _ = slot.note(key, "");
    }
    let (counts, others): (Vec<_>, Vec<_>) = wanted.iter().partition(|(key, _)| is_count(key));
    // What is beyond the bounds is learnt again after a restart.
    let fits = others.into_iter().fold(true, |fits, (key, value)| slot.note(key, value).is_ok() && fits);
    for (key, value) in counts.into_iter().filter(|_| fits) {
        let _ = slot.note(key, value);
    }
}

fn tell(server: &str, known: &Known, notes: &mut BTreeMap<String, String>) {
    let mut put = |what: &str, value: String| notes.insert(format!("{PREFIX}{server} {what}"), value);
    if let Some((version, at)) = known.version {
        let version = match version {
            Version::V3 => "3.1.1",
            Version::V5 => "5.0",
        };
        put("version", format!("{version} at {}", at.0));
    }
    if let Some(qos) = known.maximum_qos {
        put("maximum_qos", (qos as u8).to_string());
    }
    if let Some(subscribed) = &known.subscribed {
        for (filter, qos) in subscribed {
            put(&format!("filter {filter}"), (*qos as u8).to_string());
        }
        put("subscribed", subscribed.len().to_string());
    }
}

fn version_of(value: &str) -> Option<(Version, Millis)> {
    let (version, at) = value.split_once(" at ")?;
    let version = match version {
        "3.1.1" => Version::V3,
        "5.0" => Version::V5,
        _ => return None,
    };
    Some((version, Millis(at.parse().ok()?)))
}

fn qos_of(value: &str) -> Option<QoS> {
    QoS::from_wire(value.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{Broker, Limits};
    use crate::store::Journal;

    fn memory(servers: &[(&str, Known)]) -> Memory {
        Memory { servers: servers.iter().map(|(server, known)| ((*server).to_owned(), known.clone())).collect() }
    }

    fn subscribed(filters: &[(&str, QoS)]) -> Option<BTreeMap<String, QoS>> {
        Some(filters.iter().map(|(filter, qos)| ((*filter).to_owned(), *qos)).collect())
    }

    #[tokio::test]
    async fn what_was_learnt_is_recalled_and_what_is_forgotten_is_gone() {
        let broker = Broker::start(Limits::default(), Journal::in_memory().into());
        let slot = broker.bridge_slot("cloud", &[], &[]).unwrap();
        slot.note("retained a", "sent").unwrap();
        let first = Known {
            version: Some((Version::V3, Millis(123))),
            maximum_qos: Some(QoS::AtLeastOnce),
            subscribed: subscribed(&[("a b/#", QoS::AtLeastOnce), ("subscribed", QoS::ExactlyOnce)]),
            failures: 0,
        };
        let second = Known { subscribed: subscribed(&[]), ..Known::default() };
        for memory in [
            memory(&[("mqtt://a:1883", first.clone()), ("mqtts://b:8883", second.clone())]),
            memory(&[("mqtt://a:1883", Known { version: None, ..first.clone() })]),
            memory(&[("mqtt://a:1883", Known { subscribed: subscribed(&[("c", QoS::AtMostOnce)]), ..first })]),
            memory(&[("mqtts://b:8883", second)]),
            memory(&[]),
        ] {
            keep(&memory, &slot);
            assert_eq!(recall(&slot.notes()), memory);
        }
        assert_eq!(slot.notes().iter().count(), 1);
    }

    #[tokio::test]
    async fn filters_that_are_not_all_there_are_not_known() {
        let broker = Broker::start(Limits::default(), Journal::in_memory().into());
        let slot = broker.bridge_slot("cloud", &[], &[]).unwrap();
        let known =
            Known { subscribed: subscribed(&[("a", QoS::AtMostOnce), ("b", QoS::AtMostOnce)]), ..Known::default() };
        keep(&memory(&[("mqtt://a:1883", known)]), &slot);
        slot.note("server mqtt://a:1883 filter a", "").unwrap();
        assert_eq!(recall(&slot.notes()).servers["mqtt://a:1883"].subscribed, None);
        // One that is too long to be noted.
        let long = "x".repeat(2000);
        let known =
            Known { subscribed: subscribed(&[("a", QoS::AtMostOnce), (&long, QoS::AtMostOnce)]), ..Known::default() };
        keep(&memory(&[("mqtt://a:1883", known)]), &slot);
        assert_eq!(recall(&slot.notes()).servers["mqtt://a:1883"].subscribed, None);
    }
}
