//! A store that is damaged, newer than the program, or in use: what is whole comes back, and the rest is said.

use super::{drain, leave_a_session, publish, runtime};
use crate::support::edgeway::{Edgeway, edgeway};
use std::path::{Path, PathBuf};

const GATEWAY: &str = r#"
broker:
  listen: "mqtt://127.0.0.1:@PORT@"
  limits: { queue: 1000000, queue_bytes: 1GB }
storage: { path: "@DIR@/store", limit: 1GB }
log: { level: info }
"#;

/// In the tests of one segment, and of several.
const FEW: u32 = 300;
const MANY: u32 = 9000;
const MESSAGE_BYTES: usize = 1000;
const PAGE: usize = 4096;
/// Of a segment.
const HEADER_BYTES: usize = 64;
/// What 4 KiB can hold of such messages, and the two at their ends.
const MESSAGES_OF_A_PAGE: usize = PAGE / MESSAGE_BYTES + 2;

#[test]
fn without_its_last_page_the_journal_gives_all_that_is_before_it() {
    let mut store = Store::with_messages(FEW);
    let newest = store.segments().pop().unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    bytes.truncate(end_of_records(&bytes) - PAGE);
    std::fs::write(&newest, &bytes).unwrap();
    let (numbers, log) = store.restored();
    let lost = FEW as usize - numbers.len();
    assert!(lost > 0, "something was cut off, and nothing is missing");
    assert!(lost <= MESSAGES_OF_A_PAGE, "{lost} messages are missing");
    assert_eq!(numbers, (0..FEW - lost as u32).collect::<Vec<_>>());
    assert_says_cut(&log);
}

#[test]
fn a_flipped_bit_in_the_last_page_costs_what_it_hit() {
    let mut store = Store::with_messages(FEW);
    let newest = store.segments().pop().unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    let end = end_of_records(&bytes);
    bytes[end - PAGE / 2] ^= 0x10;
    std::fs::write(&newest, &bytes).unwrap();
    let (numbers, log) = store.restored();
    assert_missing(&numbers, FEW, 1);
    assert_eq!(numbers.last(), Some(&(FEW - 1)), "what follows the damage is lost too");
    assert_says_cut(&log);
}

#[test]
fn flipped_bits_in_a_segment_in_the_middle_cost_what_they_hit() {
    let mut store = Store::with_messages(MANY);
    let segments = store.segments();
    assert!(segments.len() >= 3, "{segments:?}");
    let middle = &segments[segments.len() / 2];
    let mut bytes = std::fs::read(middle).unwrap();
    let half = bytes.len() / 2;
    for offset in [half, half + 1, half + 700] {
        bytes[offset] ^= 0xFF;
    }
    std::fs::write(middle, &bytes).unwrap();
    let (numbers, log) = store.restored();
    assert_missing(&numbers, MANY, 2);
    assert_names(&log, middle);
    // The next start finds nothing that was settled.
    let (numbers, _) = store.restored();
    assert!(numbers.is_empty(), "{numbers:?}");
}

#[test]
fn a_store_of_a_newer_format_is_refused_in_words_and_left_as_it_is() {
    let store = Store::with_messages(FEW);
    let newest = store.segments().pop().unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    // The format's number, and the checksum of the header: see src/store/segment.rs.
    bytes[8] += 1;
    let checksum = crc32c::crc32c(&bytes[..HEADER_BYTES - 4]);
    bytes[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    std::fs::write(&newest, &bytes).unwrap();
    let before = store.contents();
    let said = store.refused_start();
    let name = newest.file_name().unwrap().to_str().unwrap();
    assert!(said.contains(name) && said.contains("format 3"), "{said}");
    assert!(store.contents() == before, "the files were changed");
}

#[test]
fn a_second_gateway_on_the_same_store_is_refused_in_words() {
    let mut store = Store::with_messages(FEW);
    store.edgeway.start_again();
    let other = tempfile::tempdir().unwrap();
    let text = GATEWAY.replace("@DIR@", &store.edgeway.folder().display().to_string()).replace(":@PORT@", ":0");
    std::fs::write(other.path().join("edgeway.yaml"), text).unwrap();
    let (status, _, said) = edgeway(&["run", "-c", "edgeway.yaml"], other.path());
    assert!(!status.success());
    assert!(said.contains("in use") || said.contains("another"), "{said}");
    assert!(said.contains("store"), "{said}");
    // The first one does not mind.
    let numbers = runtime().block_on(drain(store.edgeway.port));
    assert_eq!(numbers.len(), FEW as usize);
}

/// The store of a gateway that was killed after it had acknowledged numbered messages for an absent session.
struct Store {
    edgeway: Edgeway,
}

impl Store {
    fn with_messages(count: u32) -> Self {
        let mut edgeway = Edgeway::start(GATEWAY);
        let port = edgeway.port;
        runtime().block_on(async {
            leave_a_session(port).await;
            publish(port, 0..count, MESSAGE_BYTES).await;
        });
        edgeway.kill();
        Self { edgeway }
    }

    fn folder(&self) -> PathBuf {
        self.edgeway.folder().join("store")
    }

    /// Those with records, in the order of their numbers.
    fn segments(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder()).unwrap().map(|entry| entry.unwrap().path());
        let is_segment = |path: &PathBuf| {
            path.extension().is_some_and(|extension| extension == "seg")
                && end_of_records(&std::fs::read(path).unwrap()) > HEADER_BYTES
        };
        let mut segments: Vec<PathBuf> = entries.filter(is_segment).collect();
        segments.sort_unstable();
        segments
    }

    /// Every file with its bytes.
    fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let read = |path: PathBuf| (path.clone(), std::fs::read(path).unwrap());
        let mut contents: Vec<_> =
            std::fs::read_dir(self.folder()).unwrap().map(|entry| read(entry.unwrap().path())).collect();
        contents.sort_unstable();
        contents
    }

    /// Starts the gateway and takes what waits for the session; gives the numbers, and what it logged.
    fn restored(&mut self) -> (Vec<u32>, Vec<String>) {
        self.edgeway.start_again();
        let numbers = runtime().block_on(drain(self.edgeway.port));
        let (status, log) = self.edgeway.terminate();
        assert!(status.success(), "{log:?}");
        (numbers, log)
    }

    /// Starts a gateway that refuses to; gives what it says.
    fn refused_start(&self) -> String {
        let (status, _, said) = edgeway(&["run", "-c", "edgeway.yaml"], self.edgeway.folder());
        assert!(!status.success(), "{said}");
        said
    }
}

/// Behind the last byte that is not zero: the files are filled with zeros when they are made.
fn end_of_records(segment: &[u8]) -> usize {
    segment.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)
}

/// From one to so many of `count` numbers are missing, and the others come once and in order.
fn assert_missing(numbers: &[u32], count: u32, most: usize) {
    assert!(numbers.is_sorted_by(|earlier, later| earlier < later), "not in order, or twice: {numbers:?}");
    let missing: Vec<u32> = (0..count).filter(|number| numbers.binary_search(number).is_err()).collect();
    assert!(!missing.is_empty(), "a record was damaged, and nothing is missing");
    assert!(missing.len() <= most, "missing: {missing:?}");
}

/// The log says that it is damaged, and where.
fn assert_names(log: &[String], file: &Path) {
    let name = file.file_name().unwrap().to_str().unwrap();
    let says = |line: &String| line.contains("the journal is damaged here") && line.contains(name);
    assert!(log.iter().any(says), "nothing is said of {name}: {log:?}");
}

/// The log says that the end of the journal was cut off. Whether a disk lost it or a power cut came in the midst of its
/// write cannot be told.
fn assert_says_cut(log: &[String]) {
    assert!(log.iter().any(|line| line.contains("cut off a commit")), "nothing is said: {log:?}");
}
