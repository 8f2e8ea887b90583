//! Recorded inputs: tests/corpus, replayed by the bodies of the fuzz targets and against a running broker.

use super::fuzz_bodies;
use super::running_broker::{Kind, with_broker};

/// `first`, `4` or `5`, and the bytes.
fn connections() -> Vec<(&'static str, Vec<u8>)> {
    let lines = include_str!("../corpus/connections.txt").lines().map(str::trim);
    let inputs = lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| {
        let (when, bytes) = line.split_once(' ').unwrap();
        let bytes = bytes.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        assert!(["first", "4", "5"].contains(&when), "{line}");
        (when, bytes)
    });
    inputs.collect()
}

fn hello(when: &str) -> Vec<u8> {
    match when {
        "4" => b"\x10\x0F\0\x04MQTT\x04\x02\0\0\0\x03one".to_vec(),
        "5" => b"\x10\x10\0\x04MQTT\x05\x02\0\0\0\0\x03one".to_vec(),
        _ => Vec::new(),
    }
}

#[test]
fn recorded_connections_come_to_the_same_end_in_whatever_pieces() {
    for (when, bytes) in connections() {
        let whole = [hello(when), bytes.clone()].concat();
        for piece in 0..16 {
            for side in 0..2 {
                // 4: nothing goes before the input.
                fuzz_bodies::connection(&[&[piece << 4 | 4 | side], &whole[..]].concat());
            }
        }
        for version in 0..2 {
            fuzz_bodies::packet(&[&[version], &bytes[..]].concat());
        }
    }
}

#[test]
fn recorded_connections_harm_nobody() {
    with_broker(Some(0), async |world| {
        for kind in [Kind::Tcp, Kind::Stream] {
            for (when, bytes) in connections() {
                world.follow(kind, &[hello(when), bytes.clone()]).await;
                // And byte by byte.
                let course: Vec<Vec<u8>> = hello(when).iter().chain(&bytes).map(|byte| vec![*byte]).collect();
                world.follow(kind, &course).await;
            }
            world.serves_a_pair(kind).await;
            assert_eq!(world.sessions_left().await, 0);
        }
    });
}

#[test]
fn recorded_topics_are_matched_alike_in_all_ways() {
    for case in include_str!("../corpus/topics.txt").split("\n\n").filter(|case| !case.starts_with('#')) {
        fuzz_bodies::topics(case.trim_end().as_bytes());
    }
}
