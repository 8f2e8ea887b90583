//! The bodies of the fuzz targets over inputs that are near to what they take.

use proptest::collection::vec;
use proptest::prelude::*;

use super::fuzz_bodies;
use super::wire::courses;

/// Pieces of configurations, and what may break one.
const YAML: [&str; 28] = [
    "broker:",
    "\n",
    "  ",
    "listen: ",
    "\"mqtt://127.0.0.1:1883\"",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "limits: ",
    "packet: ",
    "64KB",
    "modbus:",
    "bridges:",
    "${X}",
    "${UNSET:-1}",
    "&a ",
    "*a",
    "<<: ",
    "- ",
    "|\n",
    "ä",
    "\t",
    "'",
    "# x\n",
    "anonymous: true",
    "!!binary ",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_a_packet_that_comes_back_or_none(choice: u8, first: u8, body in vec(any::<u8>(), 0..100)) {
        fuzz_bodies::packet(&[&[choice, first, body.len() as u8], &body[..]].concat());
    }

    #[test]
    fn what_a_client_sends_is_a_packet_that_comes_back_or_none(choice: u8, courses in courses()) {
        for said in courses.iter().flatten() {
            fuzz_bodies::packet(&[&[choice], &said[..]].concat());
        }
    }

    #[test]
    fn a_connection_hears_the_same_in_whatever_pieces_it_comes(choice: u8, courses in courses()) {
        for course in courses {
            fuzz_bodies::connection(&[&[choice], &course.concat()[..]].concat());
        }
    }

    #[test]
    fn a_connection_takes_arbitrary_bytes(bytes in vec(any::<u8>(), 0..200)) {
        fuzz_bodies::connection(&bytes);
    }

    #[test]
    fn all_ways_to_match_topics_agree(name in "[$ab/]{1,8}", filters in vec("[$ab+#/]{1,8}", 0..6)) {
        fuzz_bodies::topics(format!("{name}\n{}", filters.join("\n")).as_bytes());
    }

    #[test]
    fn arbitrary_text_is_a_configuration_or_its_mistakes_can_be_shown(text in "\\PC{0,60}") {
        fuzz_bodies::configuration(text.as_bytes());
    }

    #[test]
    fn pieces_of_a_configuration_are_one_or_their_mistakes_can_be_shown(pieces in vec(0..YAML.len(), 0..30)) {
        let text: String = pieces.into_iter().map(|piece| YAML[piece]).collect();
        fuzz_bodies::configuration(text.as_bytes());
    }

    #[test]
    fn a_damaged_example_is_a_configuration_or_its_mistakes_can_be_shown(
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut text = include_bytes!("../../config/edgeway.yaml").to_vec();
        for (index, value) in changes {
            let index = index.index(text.len());
            text[index] = value;
        }
        fuzz_bodies::configuration(&text);
    }
}
