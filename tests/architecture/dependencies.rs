//! Holds the dependencies of the shipped binary to one version each and to licences that permit shipping it.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::process::Command;

/// Crates that stand in the graph in several versions, and why we live with it. One that no longer does must go.
const SEVERAL_VERSIONS: [(&str, &str); 3] = [
    ("nix", "serialport 4.10 holds 0.26, mio-serial 5.0.7 wants 0.31; both only wrap termios calls"),
    ("bitflags", "nix 0.26 of serialport holds 1.x; macros only, no code in the binary twice"),
    ("syn", "serde_json_path's macros hold 2.x; at build time only, nothing of it in the binary"),
];

/// SPDX names of licences under which a dependency may be used.
const LICENCES: [&str; 10] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

/// A licence allowed for one crate alone, and why.
const LICENCE_OF_ONE_CRATE: [(&str, &str, &str); 1] =
    [("serialport", "MPL-2.0", "copyleft by file: its files are used as published, and their source stays available")];

/// The platforms that are built for; what others would need does not count.
const PLATFORMS: [&str; 3] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "armv7-unknown-linux-gnueabihf"];

struct Package {
    name: String,
    version: String,
    licence: Option<String>,
}

#[test]
fn each_dependency_stands_in_one_version() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in normal_dependencies() {
        versions.entry(package.name).or_default().insert(package.version);
    }
    versions.retain(|_, versions| versions.len() > 1);
    let known: BTreeSet<&str> = SEVERAL_VERSIONS.iter().map(|(name, _)| *name).collect();
    for (name, versions) in &versions {
        assert!(known.contains(name.as_str()), "{name} stands in versions {versions:?}: see `cargo tree -d -e normal`");
    }
    for name in known {
        assert!(versions.contains_key(name), "{name} stands in one version now: take it from SEVERAL_VERSIONS");
    }
}

#[test]
fn each_licence_permits_shipping_the_binary() {
    for Package { name, version, licence } in normal_dependencies() {
        let licence = licence.unwrap_or_else(|| panic!("{name} {version} names no licence"));
        let permitted = |one: &str| {
            LICENCES.contains(&one)
                || LICENCE_OF_ONE_CRATE.iter().any(|(crate_, spdx, _)| *crate_ == name && *spdx == one)
        };
        assert!(permits(&licence, &permitted), "{name} {version} stands under {licence}");
    }
}

/// All that the crate needs at run time or to build itself, without what only its tests need.
fn normal_dependencies() -> Vec<Package> {
    let metadata = metadata();
    let id_of = |value: &Value| value.as_str().expect("cargo metadata: an id is a string").to_owned();
    let list = |value: &Value| value.as_array().expect("cargo metadata: a list").clone();
    let nodes: HashMap<String, Value> =
        list(&metadata["resolve"]["nodes"]).into_iter().map(|node| (id_of(&node["id"]), node)).collect();
    let root = id_of(&metadata["resolve"]["root"]);
    let mut reached = BTreeSet::from([root.clone()]);
    let mut open = vec![root.clone()];
    while let Some(id) = open.pop() {
        for dependency in list(&nodes[&id]["deps"]) {
            let normal = list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
            let id = id_of(&dependency["pkg"]);
            if normal && reached.insert(id.clone()) {
                open.push(id);
            }
        }
    }
    reached.remove(&root);
    list(&metadata["packages"])
        .into_iter()
        .filter(|package| reached.contains(&id_of(&package["id"])))
        .map(|package| Package {
            name: id_of(&package["name"]),
            version: id_of(&package["version"]),
            licence: package["license"].as_str().map(str::to_owned),
        })
        .collect()
}

fn metadata() -> Value {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--format-version", "1", "--locked"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    for platform in PLATFORMS {
        command.args(["--filter-platform", platform]);
    }
    let output = command.output().expect("cargo can be run");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

/// Whether an SPDX expression can be satisfied with permitted licences alone. `/` is an old way to write OR.
fn permits(expression: &str, permitted: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut position = 0;
    let satisfied = any_of(&words, &mut position, permitted);
    assert_eq!(position, words.len(), "cannot read the licence expression {expression:?}");
    satisfied
}

fn any_of(words: &[&str], position: &mut usize, permitted: &dyn Fn(&str) -> bool) -> bool {
    let mut satisfied = all_of(words, position, permitted);
    while words.get(*position) == Some(&"OR") {
        *position += 1;
        satisfied |= all_of(words, position, permitted);
    }
    satisfied
}

fn all_of(words: &[&str], position: &mut usize, permitted: &dyn Fn(&str) -> bool) -> bool {
    let mut satisfied = one(words, position, permitted);
    while words.get(*position) == Some(&"AND") {
        *position += 1;
        satisfied &= one(words, position, permitted);
    }
    satisfied
}

fn one(words: &[&str], position: &mut usize, permitted: &dyn Fn(&str) -> bool) -> bool {
    let word = words.get(*position).copied().unwrap_or_default();
    *position += 1;
    if word == "(" {
        let satisfied = any_of(words, position, permitted);
        *position += 1;
        return satisfied;
    }
    if words.get(*position) == Some(&"WITH") {
        let exception = words.get(*position + 1).copied().unwrap_or_default();
        *position += 2;
        return permitted(&format!("{word} WITH {exception}"));
    }
    permitted(word)
}

#[test]
fn a_licence_expression_is_read_by_its_precedence() {
    let permitted = |one: &str| matches!(one, "MIT" | "ISC" | "Apache-2.0 WITH LLVM-exception");
    assert!(permits("MIT OR GPL-3.0-only", &permitted));
    assert!(permits("Apache-2.0/MIT", &permitted));
    assert!(permits("(GPL-3.0-only OR MIT) AND ISC", &permitted));
    assert!(permits("Apache-2.0 WITH LLVM-exception", &permitted));
    assert!(!permits("MIT AND GPL-3.0-only", &permitted));
    assert!(!permits("GPL-3.0-only OR MIT AND Apache-2.0", &permitted));
}
