//! Holds the house to its plan: floors, pure rooms, file headers, dependencies, and the page of normative statements.

#[path = "architecture/conformance.rs"]
mod conformance;
#[path = "architecture/dependencies.rs"]
mod dependencies;
#[path = "architecture/scanner.rs"]
mod scanner;

use scanner::{Scope, SourceFile};
use std::path::{Path, PathBuf};

/// Each floor's modules, lowest first. A module uses floors below its own, and on its own floor only itself.
const FLOORS: [&[&str]; 7] = [
    &["mqtt"],
    &["clock", "store", "mapping", "settings", "net", "health", "metrics"],
    &["broker", "client"],
    &["adapters", "bridge", "admin"],
    &["config"],
    &["gateway"],
    &["main", "cli"],
];

/// What settings are made of, and what time it is: their neighbours on the floor use them too.
const SHARED_ON_THEIR_FLOOR: [&str; 2] = ["settings", "clock"];

/// Files at the top that compose the others and stand on no floor.
const COMPOSERS: [&str; 3] = ["lib.rs", "main.rs", "telemetry.rs"];

/// Uses that the floors would allow and that the plan forbids.
const FORBIDDEN: [(&str, &str, &str); 2] = [
    ("adapters", "broker", "an adapter has one narrow handle and never sees the broker"),
    ("adapters", "client", "an adapter has one narrow handle and never dials a broker"),
];

/// Modules without sockets, clock, locks, tasks and logging. Their tests may have them.
const PURE: [&str; 2] = ["mqtt", "mapping"];

const IMPURE: [&str; 16] = [
    "std::env",
    "std::fs",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::sync::Condvar",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "std::sync::mpsc",
    "std::time::Instant",
    "std::time::SystemTime",
    "log",
    "parking_lot",
    "tokio",
    "tracing",
];

#[test]
fn no_module_uses_a_higher_floor_or_a_neighbour() {
    let modules = top_level_modules();
    report(sources().iter().flat_map(|file| floor_mistakes(file, &modules)));
}

#[test]
fn mqtt_and_mapping_are_pure() {
    report(sources().iter().flat_map(purity_mistakes));
}

#[test]
fn every_file_opens_with_a_sentence_about_itself() {
    report(sources().iter().filter(|file| file.path != Path::new("main.rs")).filter_map(|file| {
        let first = file.text.lines().next().unwrap_or_default();
        let told = first.strip_prefix("//!").is_some_and(|sentence| !sentence.trim().is_empty());
        (!told).then(|| format!("src/{}:1: the first line is not a `//!` sentence", file.path.display()))
    }));
}

fn floor_mistakes(file: &SourceFile, modules: &[String]) -> Vec<String> {
    if COMPOSERS.iter().any(|composer| file.path == Path::new(composer)) {
        return Vec::new();
    }
    let own = file.module();
    let Some(home) = floor(&own) else {
        return vec![format!(
            "src/{}:1: `{own}` stands on no floor; give it one in tests/architecture.rs",
            file.path.display()
        )];
    };
    let mut mistakes = Vec::new();
    for used in file.paths(Scope::WithTests) {
        let Some(target) = used.module_in_crate(&own) else { continue };
        let told = match floor(target) {
            // A macro or a re-export of the crate's root, not a module.
            None if !modules.iter().any(|module| module == target) => continue,
            None if target == "telemetry" => format!("`{own}` uses `telemetry`, which only main and cli may"),
            None => format!("`{target}` stands on no floor; give it one in tests/architecture.rs"),
            Some(_) if target == own || SHARED_ON_THEIR_FLOOR.contains(&target) && home >= 1 => continue,
            Some(there) if there > home => format!("`{own}` (floor {home}) uses `{target}` of floor {there}"),
            Some(there) if there == home => format!("`{own}` uses its neighbour `{target}` on floor {home}"),
            Some(_) => match FORBIDDEN.iter().find(|(from, to, _)| *from == own && *to == target) {
                Some((_, _, why)) => format!("`{own}` uses `{target}`: {why}"),
                None => continue,
            },
        };
        if home == FLOORS.len() - 1 && target == "telemetry" {
            continue;
        }
        mistakes.push(format!("src/{}:{}: {told}", file.path.display(), used.line));
    }
    mistakes
}

fn purity_mistakes(file: &SourceFile) -> Vec<String> {
    let own = file.module();
    if !PURE.contains(&own.as_str()) || file.is_test() {
        return Vec::new();
    }
    let paths = file.paths(Scope::WithoutTests);
    paths
        .iter()
        .filter_map(|used| {
            let name = used.impurity(&IMPURE)?;
            Some(format!("src/{}:{}: `{own}` is pure and uses `{name}`", file.path.display(), used.line))
        })
        .collect()
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|modules| modules.contains(&module))
}

fn report(mistakes: impl Iterator<Item = String>) {
    let mistakes: Vec<String> = mistakes.collect();
    assert!(mistakes.is_empty(), "\n{}\n", mistakes.join("\n"));
}

fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources() -> Vec<SourceFile> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<SourceFile>) {
        for entry in std::fs::read_dir(folder).expect("a folder of sources can be read") {
            let path = entry.expect("a folder of sources can be read").path();
            if path.is_dir() {
                walk(root, &path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source is UTF-8 text");
                let path = path.strip_prefix(root).expect("the walk starts at the root").to_owned();
                found.push(SourceFile::new(path, text));
            }
        }
    }
    let root = source_root();
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no sources under {}", root.display());
    found
}

fn top_level_modules() -> Vec<String> {
    sources().iter().map(SourceFile::module).collect()
}

fn mistakes_of(path: &str, text: &str) -> Vec<String> {
    let modules: Vec<String> = FLOORS.iter().flat_map(|floor| floor.iter().map(ToString::to_string)).collect();
    let file = SourceFile::new(PathBuf::from(path), text.to_owned());
    floor_mistakes(&file, &modules).into_iter().chain(purity_mistakes(&file)).collect()
}

#[test]
fn a_step_up_is_named_with_file_and_line() {
    assert_eq!(
        mistakes_of("mqtt/topic.rs", "//! Topics.\nuse crate::{settings::Duration, mqtt::QoS};\n"),
        ["src/mqtt/topic.rs:2: `mqtt` (floor 0) uses `settings` of floor 1"]
    );
    assert_eq!(
        mistakes_of("broker/link.rs", "fn f() {\n    edgeway::gateway::stop();\n}\n"),
        ["src/broker/link.rs:2: `broker` (floor 2) uses `gateway` of floor 5"]
    );
    assert_eq!(
        mistakes_of("store/mod.rs", "use super::broker::Router;"),
        ["src/store/mod.rs:1: `store` (floor 1) uses `broker` of floor 2"]
    );
}

#[test]
fn neighbours_are_strangers_except_for_settings() {
    assert_eq!(mistakes_of("net/dial.rs", "use crate::settings::Duration;"), [""; 0]);
    assert_eq!(
        mistakes_of("bridge/dial.rs", "use crate::admin::Status;"),
        ["src/bridge/dial.rs:1: `bridge` uses its neighbour `admin` on floor 3"]
    );
}

#[test]
fn an_adapter_never_sees_the_broker() {
    let mistakes = mistakes_of("adapters/handle.rs", "use crate::broker::Router;\nuse crate::mqtt::Message;");
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    assert!(mistakes[0].starts_with("src/adapters/handle.rs:1: `adapters` uses `broker`"), "{mistakes:?}");
}

#[test]
fn a_pure_module_has_clock_and_locks_in_its_tests_only() {
    let text =
        "use std::{sync::Arc, time::{Duration, Instant}};\n#[cfg(test)]\nmod tests {\n use std::sync::Mutex;\n}\n";
    assert_eq!(
        mistakes_of("mqtt/session/mod.rs", text),
        ["src/mqtt/session/mod.rs:1: `mqtt` is pure and uses `std::time::Instant`"]
    );
    assert_eq!(mistakes_of("mqtt/tests/pair.rs", text), [""; 0]);
    assert_eq!(mistakes_of("mapping/value.rs", "use std::sync::*;").len(), 1);
    assert_eq!(mistakes_of("mapping/value.rs", "fn f() { tracing::info!(\"no\"); }").len(), 1);
}

#[test]
fn a_module_of_no_floor_is_asked_for_one() {
    assert_eq!(
        mistakes_of("attic/mod.rs", ""),
        ["src/attic/mod.rs:1: `attic` stands on no floor; give it one in tests/architecture.rs"]
    );
}
