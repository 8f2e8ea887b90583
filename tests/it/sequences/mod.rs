//! The packet sequences that the mosquitto project tests its own broker with, played against ours.
//!
//! They are no part of this repository: `make peers` fetches them with the source of mosquitto.

mod notation;
mod play;

use std::path::Path;
use std::sync::Mutex;

use crate::support::edgeway::Edgeway;
use crate::support::peer_folder;
use notation::{Group, Sequence};

/// Brokers at a time; each plays whole files, since sequences of one file may build on each other.
const BROKERS: usize = 4;

/// Releases, the newest first, and how many sequences each has.
const RELEASES: [(&str, usize); 2] = [("2.1.2", 1773), ("2.0.21", 1486)];

/// Sequences of an older release, by a part of their name, in which we do otherwise; with the reason.
const EXCEPTIONS: [(&str, &str, &str); 7] = [
    ("2.0.21", "10 proto ver ", "2.1.2 wants 0x84 in the form of 5.0"),
    ("2.0.21", "v5.0   CONNECT: 10 Client ID with ", "2.1.2 wants 0x85"),
    ("2.0.21", "v5.0   CONNECT: 10 [MQTT-3.1.2-16]", "2.1.2 wants 0x81"),
    ("2.0.21", "v5.0   CONNECT: 10 [MQTT-3.1.2-18]", "2.1.2 wants 0x81"),
    ("2.0.21", "v5.0   PINGRESP: D", "2.1.2 wants 0x81, for the flags"),
    ("2.0.21", "with user-property missing value", "it holds a topic alias instead; 2.1.2 has it right"),
    ("2.0.21", "v5.0   PUBLISH ALLOWED PROPERTIES: subscription-identifier=", "clients send none [MQTT-3.3.4-6]"),
];

#[test]
fn every_packet_sequence_of_the_mosquitto_project_takes_its_course() {
    let folder = peer_folder().join("sequences");
    let mut releases = 0;
    let mut failures = Vec::new();
    for (release, count) in RELEASES {
        let folder = folder.join(release);
        if !folder.is_dir() {
            println!("the packet sequences of mosquitto {release} are not there");
            continue;
        }
        releases += 1;
        let files = files_of(&folder);
        assert_eq!(files.iter().map(Vec::len).sum::<usize>(), count, "sequences of mosquitto {release}");
        let otherwise = play_all(files);
        println!("mosquitto {release}: {} of {count} sequences take another course", otherwise.len());
        for (of, part, _) in EXCEPTIONS {
            let needed = of != release || otherwise.iter().any(|failure| failure.contains(part));
            assert!(needed, "no sequence of mosquitto {of} needs the exception for {part}");
        }
        let is_exception =
            |failure: &String| EXCEPTIONS.iter().any(|(of, part, _)| *of == release && failure.contains(part));
        failures
            .extend(otherwise.into_iter().filter(|failure| !is_exception(failure)).map(|f| format!("{release} {f}")));
    }
    assert!(releases > 0, "no packet sequences at {}: run `make peers`", folder.display());
    failures.sort();
    assert!(failures.is_empty(), "{} sequences took another course:\n{}", failures.len(), failures.join("\n"));
}

/// The sequences of each file.
fn files_of(folder: &Path) -> Vec<Vec<Sequence>> {
    let mut files = Vec::new();
    for entry in folder.read_dir().unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let groups: Vec<Group> = serde_json::from_str(&text).unwrap();
        files.push(groups.into_iter().flat_map(|group| group.sequences().unwrap()).collect());
    }
    files
}

/// Plays every file, each against a broker on which nothing has been said, and gives what went wrong.
fn play_all(files: Vec<Vec<Sequence>>) -> Vec<String> {
    let failures = Mutex::new(Vec::new());
    let files = Mutex::new(files.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..BROKERS {
            scope.spawn(|| {
                loop {
                    let Some(file) = files.lock().unwrap().next() else { break };
                    let broker = Edgeway::start(CONFIGURATION);
                    for sequence in file {
                        let play = || play::play(&sequence, broker.port);
                        // What the one before has left may be over only a moment later; the second time it is.
                        if let Err(error) = play().or_else(|_| play()) {
                            failures.lock().unwrap().push(format!("{}: {error}", sequence.name));
                        }
                    }
                }
            });
        }
    });
    failures.into_inner().unwrap()
}

/// What mosquitto allows by default where sequences speak about it.
const CONFIGURATION: &str =
    "broker: { listen: \"mqtt://127.0.0.1:@PORT@\", limits: { packet: 2000000B, inflight: 20 } }\n";
