//! Names of devices, points and bridges: each is one level of a topic, and some words are taken.

use std::collections::HashMap;

use super::{Located, Mistake, Place};

/// Words that stand where a device's name would stand.
const NO_DEVICES: [&str; 2] = ["bridges", "status"];

/// Words that stand where a point's name would stand.
const NO_POINTS: [&str; 3] = ["set", "status", "error"];

/// Why `name` cannot be a level of a topic; `None` where it can.
pub fn level_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("a name has at least one character")
    } else if name.contains(['/', '+', '#', '\0']) {
        Some("a name is one level of a topic: it has no `/`, `+` or `#`")
    } else if name.starts_with('$') {
        Some("topics that begin with `$` belong to the broker")
    } else if name.len() > 256 {
        Some("a name has at most 256 characters")
    } else {
        None
    }
}

/// Checks the names of all devices of the gateway together: each is a level of a topic, stands once, and is not taken.
pub fn check_device_names<'a>(names: impl IntoIterator<Item = &'a Located<String>>) -> Vec<Mistake> {
    let mut first: HashMap<&str, Place> = HashMap::new();
    let mut mistakes = Vec::new();
    for name in names {
        if let Some(place) = first.get(name.as_str()) {
            let mistake = name.mistake(format!("a device named `{}` stands here a second time", name.value));
            mistakes.push(mistake.related(*place, "first here").help("device names are unique in the gateway"));
            continue;
        }
        first.insert(name, name.place);
        mistakes.extend(check(name, "device", &NO_DEVICES));
    }
    mistakes
}

/// Checks the name of a point.
pub fn check_point_name(name: &Located<String>) -> Option<Mistake> {
    check(name, "point", &NO_POINTS)
}

/// Checks the name of a bridge.
pub fn check_bridge_name(name: &Located<String>) -> Option<Mistake> {
    check(name, "bridge", &[])
}

fn check(name: &Located<String>, what: &str, taken: &[&str]) -> Option<Mistake> {
    if taken.contains(&name.as_str()) {
        let mistake = name.mistake(format!("no {what} can be named `{}`", name.value));
        return Some(mistake.help(format!("{} have a meaning of their own in topics", taken.join(", "))));
    }
    level_problem(name).map(|problem| name.mistake(format!("`{}` is no name of a {what}", name.value)).help(problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, start: u32) -> Located<String> {
        Located { value: name.into(), place: Place { file: 0, start, end: start + 1 } }
    }

    #[test]
    fn a_device_name_twice_names_both_places() {
        let names = [named("meter", 5), named("plug", 10), named("meter", 15), named("status", 20), named("a/b", 25)];
        let mistakes = check_device_names(&names);
        let shown: Vec<_> = mistakes.iter().map(|mistake| (mistake.place.start, mistake.message.as_str())).collect();
        assert_eq!(
            shown,
            [
                (15, "a device named `meter` stands here a second time"),
                (20, "no device can be named `status`"),
                (25, "`a/b` is no name of a device"),
            ]
        );
        assert_eq!(mistakes[0].related.as_ref().unwrap().0.start, 5);
    }

    #[test]
    fn a_point_is_not_named_like_a_command() {
        for name in ["set", "status", "error", "", "a+b"] {
            assert!(check_point_name(&named(name, 0)).is_some(), "{name}");
        }
        assert!(check_point_name(&named("voltage_l1", 0)).is_none());
    }
}
