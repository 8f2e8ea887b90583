//! What the fuzz targets of fuzz/ run on their input. The property tests of tests/robustness.rs run the same.

use std::cell::OnceCell;

use edgeway::broker::trie::Trie;
use edgeway::config::{self, Environment};
use edgeway::mqtt::codec::{CodecError, Framing, split_frame};
use edgeway::mqtt::connection::{Received, Receiver};
use edgeway::mqtt::{Millis, Packet, Publication, Remap, Side, TopicFilter, TopicName, Version, topic};
use tempfile::TempDir;

/// The largest packet that a connection takes here.
const MAX_PACKET_BYTES: usize = 4096;
const TOPIC_ALIASES: u16 = 10;

/// A CONNECT of 5.0 and one of 3.1.1, so that what follows is not lost on an input that cannot guess them.
const HELLOS: [&[u8]; 2] = [b"\x10\x0E\0\x04MQTT\x05\x02\0\0\0\0\x01a", b"\x10\x0D\0\x04MQTT\x04\x02\0\0\0\x01a"];
/// A CONNACK of each.
const WELCOMES: [&[u8]; 2] = [b"\x20\x03\0\0\0", b"\x20\x02\0\0"];

/// One packet behind a byte that chooses the version: what is decoded comes back when it is encoded and decoded again.
pub fn packet(input: &[u8]) {
    let Some((&choice, input)) = input.split_first() else { return };
    let version = if choice & 1 == 0 { Version::V5 } else { Version::V3 };
    let Ok(Framing::Complete(frame, length)) = split_frame(input, MAX_PACKET_BYTES) else { return };
    assert!(length <= input.len() && length <= MAX_PACKET_BYTES);
    let Ok(packet) = Packet::decode(frame, version) else { return };
    let version = match &packet {
        Packet::Connect(connect) => connect.version,
        _ => version,
    };
    match &packet {
        Packet::Publish(publish) => {
            let kept = Publication::from_publish(publish, Millis(0)).keep().clone();
            assert_eq!((kept.topic(), kept.payload()), (publish.topic, publish.payload));
            // They are given per receiver, not with the packet.
            if publish.properties.subscription_identifiers().next().is_some() {
                return;
            }
        }
        // Never written.
        Packet::Connect(connect) if connect.is_3_1 => return,
        _ => {}
    }
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes);
    let Ok(Framing::Complete(frame, length)) = split_frame(&bytes, usize::MAX) else {
        panic!("{packet:?} is no frame")
    };
    assert_eq!(length, bytes.len());
    assert_eq!(Packet::decode(frame, version).as_ref(), Ok(&packet));
}

/// What a peer says on a connection, behind a byte that chooses the side and its beginning: the same packets and the same
/// end come of it in whatever pieces it arrives.
pub fn connection(input: &[u8]) {
    let Some((&choice, input)) = input.split_first() else { return };
    let side = if choice & 1 == 0 { Side::Server } else { Side::Client };
    let version = choice >> 1 & 1;
    let begin: &[u8] = match side {
        _ if choice & 4 != 0 => b"",
        Side::Server => HELLOS[usize::from(version)],
        Side::Client => WELCOMES[usize::from(version)],
    };
    let version = if version == 0 { Version::V5 } else { Version::V3 };
    let input = [begin, input].concat();
    let whole = hear(side, version, &input, input.len().max(1));
    let piece = usize::from(choice >> 4) + 1;
    assert_eq!(whole, hear(side, version, &input, piece), "in pieces of {piece}");
}

/// The packets of `input`, and the error at its end or whether something incomplete is left.
fn hear(side: Side, version: Version, input: &[u8], piece: usize) -> (Vec<String>, Result<bool, CodecError>) {
    let mut receiver = Receiver::new(side, version, MAX_PACKET_BYTES, TOPIC_ALIASES);
    let mut packets = Vec::new();
    let mut buffer: Vec<u8> = Vec::new();
    for piece in input.chunks(piece) {
        buffer.extend_from_slice(piece);
        let mut at = 0;
        loop {
            match receiver.receive(&buffer[at..]) {
                Ok(Received::Packet(packet, length)) => {
                    packets.push(format!("{packet:?}"));
                    at += length;
                }
                Ok(Received::Incomplete { needed }) => {
                    // Room is made for this many bytes.
                    assert!(needed.is_none_or(|needed| needed <= MAX_PACKET_BYTES && needed > buffer.len() - at));
                    break;
                }
                Err(error) => return (packets, Err(error)),
            }
        }
        buffer.drain(..at);
    }
    (packets, Ok(!buffer.is_empty()))
}

/// Lines: a topic name, then filters. The ways in which they are matched agree.
pub fn topics(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut lines = text.split('\n').take(8);
    let Some(Ok(name)) = lines.next().map(TopicName::new) else { return };
    let filters: Vec<TopicFilter> =
        lines.filter_map(|line| TopicFilter::new(line).ok()).filter(|filter| filter.share().is_none()).collect();
    let mut trie = Trie::default();
    for (index, filter) in filters.iter().enumerate() {
        trie.insert(filter.as_str(), index, |_| false);
    }
    let mut found = Vec::new();
    trie.matching(name.as_str(), |indices| found.extend_from_slice(indices));
    found.sort_unstable();
    let expected: Vec<usize> =
        (0..filters.len()).filter(|&index| naive_match(filters[index].as_str(), name.as_str())).collect();
    assert_eq!(found, expected, "{name}: {filters:?}");
    for (one, filter) in filters.iter().enumerate() {
        assert_eq!(filter.matches(name.as_str()), expected.contains(&one), "{filter} {name}");
        for other in &filters {
            let (a, b) = (filter.matches(name.as_str()), other.matches(name.as_str()));
            assert!(!(a && b) || topic::overlap(filter.as_str(), other.as_str()), "{filter} {other} {name}");
            assert!(!(b && filter.covers(other)) || a, "{filter} covers {other}: {name}");
            if let Ok(remap) = Remap::new(filter.clone(), Some(other.clone())) {
                let mut mapped = String::from("kept ");
                let applied = remap.apply(name.as_str(), &mut mapped);
                assert!(a || !applied, "{filter} -> {other}: {name}");
                match mapped.strip_prefix("kept ") {
                    Some(mapped) if applied => topic::validate_name(mapped).expect("a topic name comes of it"),
                    left => assert_eq!(left, Some(""), "{filter} -> {other}: {name}"),
                }
            }
        }
    }
    // Taken out again, nothing is left of them.
    for (index, filter) in filters.iter().enumerate() {
        assert_eq!(trie.remove(filter.as_str(), |&value| value == index), Some(index));
    }
    assert!(trie.is_empty());
}

/// Matching as section 4.7 says it, level by level.
fn naive_match(filter: &str, name: &str) -> bool {
    fn levels(filter: &[&str], name: &[&str]) -> bool {
        match (filter, name) {
            (["#"], _) | ([], []) => true,
            (["+", filter @ ..], [_, name @ ..]) => levels(filter, name),
            ([wanted, filter @ ..], [level, name @ ..]) => wanted == level && levels(filter, name),
            _ => false,
        }
    }
    let hidden = name.starts_with('$') && (filter.starts_with('+') || filter.starts_with('#'));
    !hidden && levels(&filter.split('/').collect::<Vec<_>>(), &name.split('/').collect::<Vec<_>>())
}

/// The text of a configuration: it is taken, or its mistakes can be shown.
pub fn configuration(input: &[u8]) {
    thread_local! {
        static FOLDER: OnceCell<TempDir> = const { OnceCell::new() };
    }
    // It would read what stands on this machine.
    if input.windows(5).any(|window| window == b"!file") {
        return;
    }
    FOLDER.with(|folder| {
        let folder = folder.get_or_init(|| tempfile::tempdir().expect("a temporary folder can be made"));
        let path = folder.path().join("edgeway.yaml");
        std::fs::write(&path, input).expect("the temporary folder can be written");
        let variable = |name: &str| (name != "UNSET").then(|| format!("<{name}>"));
        let environment = Environment { variable: &variable, host_name: "fuzz".into() };
        if let Err(refused) = config::read(&path, &environment) {
            for colour in [true, false] {
                assert!(!refused.render(colour).is_empty());
            }
        }
    });
}
