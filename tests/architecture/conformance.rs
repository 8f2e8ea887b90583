//! Holds `docs/conformance.md` to the standards' numbered statements and to the tests that it names.

use std::collections::BTreeSet;
use std::path::Path;

/// The numbered statements of each standard: section, and the numbers in it (both appendices B).
const STATEMENTS: [(&str, &str); 2] = [
    (
        "## MQTT 5.0",
        "1.5.4:1-3 1.5.5:1 1.5.7:1 2.1.3:1 2.2.1:2-6 2.2.2:1 3.1.0:1-2 3.1.2:1-30 3.1.3:1-12 3.1.4:1-6 3.2.0:1-2 \
         3.2.2:1-22 3.3.1:1-13 3.3.2:1-20 3.3.4:1-10 3.4.2:1-3 3.5.2:1-3 3.6.1:1 3.6.2:1-3 3.7.2:1-3 3.8.1:1 \
         3.8.3:1-5 3.8.4:1-8 3.9.2:1-2 3.9.3:1-2 3.10.1:1 3.10.3:1-2 3.10.4:1-6 3.11.2:1-2 3.11.3:1-2 3.12.4:1 \
         3.14.0:1 3.14.1:1 3.14.2:1-4 3.14.4:1-3 3.15.1:1 3.15.2:1-3 4.1.0:1-2 4.2.0:1 4.3.1:1 4.3.2:1-5 4.3.3:1-13 \
         4.4.0:1-2 4.5.0:1-2 4.6.0:1-6 4.7.0:1 4.7.1:1-2 4.7.2:1 4.7.3:1-4 4.8.2:1-6 4.9.0:1-3 4.12.0:1-7 4.12.1:1-2 \
         4.13.1:1 4.13.2:1 6.0.0:1-4",
    ),
    (
        "## MQTT 3.1.1",
        "1.5.3:1-3 2.2.2:1-2 2.3.1:1-7 3.1.0:1-2 3.1.2:1-24 3.1.3:1-11 3.1.4:1-5 3.2.0:1 3.2.2:1-6 3.3.1:1-12 \
         3.3.2:1-3 3.3.4:1 3.3.5:1-2 3.6.1:1 3.8.1:1 3.8.3:1-4 3.8.4:1-6 3.9.3:1-2 3.10.1:1 3.10.3:1-2 3.10.4:1-6 \
         3.12.4:1 3.14.1:1 3.14.4:1-3 4.1.0:1-2 4.3.1:1 4.3.2:1-2 4.3.3:1-2 4.4.0:1 4.5.0:1-2 4.6.0:1-6 4.7.1:1-3 \
         4.7.2:1 4.7.3:1-4 4.8.0:1-2 6.0.0:1-4 7.0.0:1-2 7.1.1:1 7.1.2:1",
    ),
];

/// Before the reason why no test shows a statement.
const NOT_SHOWN: &str = "not shown: ";

#[test]
fn every_normative_statement_is_listed_with_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/conformance.md")).expect("docs/conformance.md can be read");
    let mistakes = mistakes(&page, &STATEMENTS, |path| std::fs::read_to_string(root.join(path)).ok());
    assert!(mistakes.is_empty(), "\n{}\n", mistakes.join("\n"));
}

/// What is wrong in `page`, by line. `source` reads a file by its path.
fn mistakes(page: &str, standards: &[(&str, &str)], source: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut missing: Vec<BTreeSet<String>> = standards.iter().map(|(_, statements)| ids(statements)).collect();
    let mut known = Vec::new();
    let mut standard = None;
    for (index, line) in page.lines().enumerate() {
        let mut tell = |text: String| mistakes.push(format!("docs/conformance.md:{}: {text}", index + 1));
        if line.starts_with("## ") {
            standard = standards.iter().position(|(heading, _)| *heading == line);
            known = standard.map(|standard| missing[standard].clone()).into_iter().collect();
            continue;
        }
        let Some(standard) = standard else { continue };
        let row: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let listed: Vec<&str> = match line {
            _ if line.starts_with("| MQTT-") => row[..1].to_vec(),
            _ if line.starts_with("MQTT-") => line.trim_end_matches(['.', ',']).split(", ").collect(),
            _ => continue,
        };
        for id in listed {
            if !missing[standard].remove(id) {
                let known = known.iter().any(|known: &BTreeSet<String>| known.contains(id));
                tell(if known {
                    format!("{id} stands twice")
                } else {
                    format!("{id} is no statement of the standard")
                });
            }
        }
        if !line.starts_with('|') {
            continue;
        }
        let [id, asks, shown] = row[..] else {
            tell("a row has three cells".to_owned());
            continue;
        };
        if asks.is_empty() {
            tell(format!("{id} does not say what it asks"));
        }
        match shown.strip_prefix(NOT_SHOWN) {
            Some("") => tell(format!("{id} does not say why no test shows it")),
            Some(_) => {}
            None => {
                for test in shown.split("<br>") {
                    if let Err(why) = find_test(test.trim_matches('`'), &source) {
                        tell(format!("{id}: {why}"));
                    }
                }
            }
        }
    }
    for ((heading, _), missing) in standards.iter().zip(missing) {
        mistakes.extend(missing.iter().map(|id| format!("docs/conformance.md: {heading} lacks {id}")));
    }
    mistakes
}

/// `1.5.4:1-3` is MQTT-1.5.4-1 to MQTT-1.5.4-3.
fn ids(statements: &str) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for section in statements.split_whitespace() {
        let (section, numbers) = section.split_once(':').expect("a section and its numbers");
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        let [first, last] = [first, last].map(|number| number.parse::<u32>().expect("a number"));
        ids.extend((first..=last).map(|number| format!("MQTT-{section}-{number}")));
    }
    ids
}

/// Whether `path::name` is a test that runs.
fn find_test(test: &str, source: impl Fn(&str) -> Option<String>) -> Result<(), String> {
    let (path, name) = test.rsplit_once("::").ok_or_else(|| format!("`{test}` is no path::test"))?;
    let text = source(path).ok_or_else(|| format!("there is no file {path}"))?;
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let function = format!("fn {name}(");
    let is_function = |line: &&str| line.strip_prefix("async ").unwrap_or(line).starts_with(&function);
    let at = lines.iter().position(is_function).ok_or_else(|| format!("there is no test {test}"))?;
    let attributes = || lines[..at].iter().rev().take_while(|line| line.starts_with(['#', '/']));
    if attributes().any(|line| line.starts_with("#[ignore")) {
        return Err(format!("{test} is not run"));
    }
    let is_test = attributes().any(|line| *line == "#[test]" || line.starts_with("#[tokio::test"));
    if is_test { Ok(()) } else { Err(format!("{test} is no test")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "#[test]\nfn one() {}\nfn helper() {}\n#[tokio::test(start_paused = true)]\nasync fn two() {}\n\
                          #[test]\n#[ignore = \"slow\"]\nfn three() {}\n";

    fn told(rows: &str) -> Vec<String> {
        let page = format!("# Conformance\n## MQTT 5.0\n{rows}");
        let told = mistakes(&page, &[("## MQTT 5.0", "1.1.1:1-2")], |path| (path == "a.rs").then(|| SOURCE.to_owned()));
        told.into_iter().map(|mistake| mistake.trim_start_matches("docs/conformance.md:").to_owned()).collect()
    }

    #[test]
    fn a_page_that_names_each_statement_once_with_its_tests_is_right() {
        assert_eq!(told("| MQTT-1.1.1-1 | a | `a.rs::one`<br>`a.rs::two` |\nMQTT-1.1.1-2.\n"), [""; 0]);
        assert_eq!(told("| MQTT-1.1.1-1 | a | not shown: no way |\nMQTT-1.1.1-2.\n"), [""; 0]);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named_with_its_line() {
        let one = "| MQTT-1.1.1-1 | a | `a.rs::one` |";
        for (rows, expected) in [
            (format!("{one}\n"), " ## MQTT 5.0 lacks MQTT-1.1.1-2"),
            (format!("{one}\nMQTT-1.1.1-2, MQTT-1.1.1-1.\n"), "4: MQTT-1.1.1-1 stands twice"),
            (format!("{one}\nMQTT-1.1.1-2, MQTT-9.1.1-1.\n"), "4: MQTT-9.1.1-1 is no statement of the standard"),
        ] {
            assert_eq!(told(&rows), [expected]);
        }
        for (cell, expected) in [
            ("", "3: MQTT-1.1.1-1: `` is no path::test"),
            ("not shown:", "3: MQTT-1.1.1-1: `not shown:` is no path::test"),
            ("`a.rs::four`", "3: MQTT-1.1.1-1: there is no test a.rs::four"),
            ("`b.rs::one`", "3: MQTT-1.1.1-1: there is no file b.rs"),
            ("`a.rs::helper`", "3: MQTT-1.1.1-1: a.rs::helper is no test"),
            ("`a.rs::three`", "3: MQTT-1.1.1-1: a.rs::three is not run"),
        ] {
            assert_eq!(told(&format!("| MQTT-1.1.1-1 | a | {cell} |\nMQTT-1.1.1-2.\n")), [expected]);
        }
    }
}
