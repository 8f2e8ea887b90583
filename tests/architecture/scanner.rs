//! Reads the paths (`crate::a::b`, `super::{c, d}`, `std::net::X`) out of Rust source text.

use std::path::PathBuf;

/// A file under `src/`; `path` is relative to it.
pub struct SourceFile {
    pub path: PathBuf,
    pub text: String,
}

/// Whether what stands under `#[cfg(test)]` is read too.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    WithTests,
    WithoutTests,
}

/// A path as it stands in a source, with the module that it stands in.
#[derive(Debug)]
pub struct UsedPath {
    pub line: usize,
    segments: Vec<String>,
    /// Modules from the crate's root down to where the path stands.
    within: Vec<String>,
}

impl SourceFile {
    pub fn new(path: PathBuf, text: String) -> Self {
        Self { path, text }
    }

    /// The module at the crate's root that the file belongs to: `mqtt` for `mqtt/session/mod.rs`.
    pub fn module(&self) -> String {
        let first = self.path.components().next().expect("a path has a component");
        let first = first.as_os_str().to_string_lossy();
        first.strip_suffix(".rs").unwrap_or(&first).to_owned()
    }

    /// Whether the whole file is a test: `tests.rs`, or anything in a folder `tests`.
    pub fn is_test(&self) -> bool {
        self.path.with_extension("").components().any(|part| part.as_os_str() == "tests")
    }

    /// Every path of the file, comments and literals left out.
    pub fn paths(&self, scope: Scope) -> Vec<UsedPath> {
        let mut tokens = tokens(&without_comments_and_literals(&self.text));
        if scope == Scope::WithoutTests {
            tokens = without_tests(&tokens);
        }
        read_paths(&tokens, &self.module_path())
    }

    fn module_path(&self) -> Vec<String> {
        let parts: Vec<String> =
            self.path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
        match parts.split_last() {
            Some((last, rest)) if last == "mod" => rest.to_vec(),
            _ => parts,
        }
    }
}

impl UsedPath {
    /// The module at the crate's root that the path leads to, where it leads into this crate: a path that
    /// starts with `crate`, `edgeway`, `self` or `super`. `own` is where `self` leads.
    pub fn module_in_crate<'a>(&'a self, own: &'a str) -> Option<&'a str> {
        let first = self.segments.first()?.as_str();
        match first {
            "crate" | "edgeway" => self.segments.get(1).map(String::as_str),
            "self" | "super" => {
                let steps = self.segments.iter().take_while(|segment| *segment == "super").count();
                let rest = &self.segments[steps.max(1)..];
                match self.within.len().checked_sub(steps)? {
                    0 => rest.first().map(String::as_str),
                    _ => Some(own),
                }
            }
            _ => None,
        }
    }

    /// Which of `forbidden` the path names, contains or (with `*`) takes in.
    pub fn impurity<'a>(&self, forbidden: &[&'a str]) -> Option<&'a str> {
        forbidden.iter().copied().find(|name| {
            let name: Vec<&str> = name.split("::").collect();
            let common = self.segments.iter().zip(&name).take_while(|(have, want)| have == want).count();
            common == name.len() || self.segments.get(common).is_some_and(|next| next == "*") && common > 0
        })
    }
}

/// The text with comments, strings and characters blanked; lines stay where they were.
fn without_comments_and_literals(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let at = |index: usize| characters.get(index).copied().unwrap_or('\0');
    let mut kept = String::with_capacity(text.len());
    let mut position = 0;
    while position < characters.len() {
        let end = match (at(position), at(position + 1)) {
            ('/', '/') => (position..characters.len()).find(|&i| at(i) == '\n').unwrap_or(characters.len()),
            ('/', '*') => block_comment_end(&characters, position),
            ('"', _) => string_end(&characters, position + 1),
            ('\'', '\\') => {
                (position + 3..characters.len()).find(|&i| at(i) == '\'').map_or(characters.len(), |i| i + 1)
            }
            ('\'', _) if at(position + 2) == '\'' => position + 3,
            ('r', '"' | '#') if !follows_name(&characters, position) => raw_string_end(&characters, position + 1),
            _ => position,
        };
        if end == position {
            kept.push(at(position));
            position += 1;
        } else {
            kept.extend(characters[position..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            position = end;
        }
    }
    kept
}

/// `r` is a raw string's prefix unless it ends a name; `br` and `cr` are prefixes too.
fn follows_name(characters: &[char], position: usize) -> bool {
    let is_name = |index: usize| characters[index].is_alphanumeric() || characters[index] == '_';
    match position.checked_sub(1) {
        Some(before) if matches!(characters[before], 'b' | 'c') => before.checked_sub(1).is_some_and(is_name),
        Some(before) => is_name(before),
        None => false,
    }
}

fn block_comment_end(characters: &[char], start: usize) -> usize {
    let mut depth = 0;
    let mut position = start;
    while position + 1 < characters.len() {
        match (characters[position], characters[position + 1]) {
            ('/', '*') => (depth, position) = (depth + 1, position + 2),
            ('*', '/') if depth == 1 => return position + 2,
            ('*', '/') => (depth, position) = (depth - 1, position + 2),
            _ => position += 1,
        }
    }
    characters.len()
}

fn string_end(characters: &[char], start: usize) -> usize {
    let mut position = start;
    while position < characters.len() {
        match characters[position] {
            '\\' => position += 2,
            '"' => return position + 1,
            _ => position += 1,
        }
    }
    characters.len()
}

/// The end of a raw string whose hashes or quote start at `start`; `start - 1` (nothing) for a raw name (`r#type`).
fn raw_string_end(characters: &[char], start: usize) -> usize {
    let hashes = characters[start..].iter().take_while(|&&c| c == '#').count();
    if characters.get(start + hashes) != Some(&'"') {
        return start - 1;
    }
    let mut position = start + hashes + 1;
    while position < characters.len() {
        let closing = characters[position + 1..].iter().take(hashes).filter(|&&c| c == '#').count();
        if characters[position] == '"' && closing == hashes {
            return position + 1 + hashes;
        }
        position += 1;
    }
    characters.len()
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    line: usize,
    text: String,
}

/// Names, `::`, and every other character by itself.
fn tokens(text: &str) -> Vec<Token> {
    let mut found: Vec<Token> = Vec::new();
    for (index, content) in text.lines().enumerate() {
        let line = index + 1;
        let mut rest = content.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = if first.is_alphanumeric() || first == '_' {
                rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            found.push(Token { line, text: rest[..length].to_owned() });
            rest = rest[length..].trim_start();
        }
    }
    found
}

/// The tokens less each item that follows `#[cfg(test)]`.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let attribute = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::with_capacity(tokens.len());
    let mut position = 0;
    while position < tokens.len() {
        let window = &tokens[position..tokens.len().min(position + attribute.len())];
        if window.iter().map(|token| token.text.as_str()).eq(attribute) {
            position = item_end(tokens, position + attribute.len());
        } else {
            kept.push(tokens[position].clone());
            position += 1;
        }
    }
    kept
}

/// Past the `;` or the closing brace of the item that starts at `start`.
fn item_end(tokens: &[Token], start: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(start) {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            // `use a::{b};` ends at its semicolon, `mod tests { }` at its brace.
            "}" if depth <= 1 => return index + 1 + usize::from(tokens.get(index + 1).is_some_and(|t| t.text == ";")),
            "}" => depth -= 1,
            ";" if depth == 0 => return index + 1,
            _ => {}
        }
    }
    tokens.len()
}

fn read_paths(tokens: &[Token], file_module: &[String]) -> Vec<UsedPath> {
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
    let mut found = Vec::new();
    // Modules written in the file, each with the depth of braces that it opened at.
    let mut inner: Vec<(String, usize)> = Vec::new();
    let mut depth = 0;
    let mut position = 0;
    while position < tokens.len() {
        match text(position) {
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                if inner.last().is_some_and(|(_, opened)| *opened == depth) {
                    inner.pop();
                }
            }
            "mod" if text(position + 2) == "{" => inner.push((text(position + 1).to_owned(), depth)),
            name if is_name(name) && text(position + 1) == "::" => {
                let within = file_module.iter().cloned().chain(inner.iter().map(|(name, _)| name.clone()));
                let within: Vec<String> = within.collect();
                position = read_path(tokens, position, &[], &within, &mut found);
                continue;
            }
            _ => {}
        }
        position += 1;
    }
    found
}

/// Reads one path, with its groups, from `position`; gives the position after it.
fn read_path(
    tokens: &[Token],
    mut position: usize,
    prefix: &[String],
    within: &[String],
    found: &mut Vec<UsedPath>,
) -> usize {
    let mut segments = prefix.to_vec();
    while let Some(token) = tokens.get(position) {
        match token.text.as_str() {
            "{" => {
                position += 1;
                while tokens.get(position).is_some_and(|token| token.text != "}") {
                    position = read_path(tokens, position, &segments, within, found);
                    // Past the comma, an alias (`as Other`) or what is no path at all.
                    while tokens.get(position).is_some_and(|token| token.text != "," && token.text != "}") {
                        position += 1;
                    }
                    position += usize::from(tokens.get(position).is_some_and(|token| token.text == ","));
                }
                return position + 1;
            }
            "self" if !segments.is_empty() => position += 1,
            name if is_name(name) || name == "*" => {
                segments.push(name.to_owned());
                position += 1;
            }
            _ => break,
        }
        if tokens.get(position).is_none_or(|token| token.text != "::") {
            break;
        }
        position += 1;
    }
    let line = tokens.get(position.saturating_sub(1)).map_or(0, |token| token.line);
    found.push(UsedPath { line, segments, within: within.to_vec() });
    position
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths_of(path: &str, text: &str) -> Vec<String> {
        let file = SourceFile::new(PathBuf::from(path), text.to_owned());
        file.paths(Scope::WithTests).iter().map(|used| format!("{}:{}", used.line, used.segments.join("::"))).collect()
    }

    fn modules_of(path: &str, text: &str) -> Vec<String> {
        let file = SourceFile::new(PathBuf::from(path), text.to_owned());
        let own = file.module();
        file.paths(Scope::WithTests).iter().filter_map(|used| used.module_in_crate(&own).map(str::to_owned)).collect()
    }

    #[test]
    fn groups_are_taken_apart_line_by_line() {
        let text = "use crate::{\n    mqtt::{self, QoS as Q, packet::*},\n    store,\n};\nlet x = 1;";
        assert_eq!(
            paths_of("broker/a.rs", text),
            ["2:crate::mqtt", "2:crate::mqtt::QoS", "2:crate::mqtt::packet::*", "3:crate::store"]
        );
    }

    #[test]
    fn comments_strings_and_lifetimes_hold_no_paths() {
        let text = r##"
            // crate::a::b
            /* crate::a /* crate::b */ crate::c */
            fn f<'a>(x: &'a str) -> char { g("crate::d \" crate::e", r#"crate::f " crate::g"#, b'"', '\'', '"') }
            let r#type = crate::h::i;
        "##;
        assert_eq!(paths_of("broker/a.rs", text), ["5:crate::h::i"]);
    }

    #[test]
    fn super_counts_files_and_modules_within_them() {
        assert_eq!(modules_of("mqtt/topic.rs", "use super::QoS;"), ["mqtt"]);
        assert_eq!(modules_of("mqtt/mod.rs", "use super::settings::Size;"), ["settings"]);
        assert_eq!(modules_of("mqtt/topic.rs", "use super::super::settings::Size;"), ["settings"]);
        assert_eq!(
            modules_of("health.rs", "mod tests { use super::*; use super::super::net::dial; }"),
            ["health", "net"]
        );
        assert_eq!(modules_of("health.rs", "mod tests { } use super::net::dial;"), ["net"]);
        assert_eq!(modules_of("mqtt/mod.rs", "pub use self::topic::TopicName; use std::fmt;"), ["mqtt"]);
    }

    #[test]
    fn generic_arguments_and_bodies_are_read_too() {
        let text = "fn f() -> Vec<crate::a::B> { crate::c::d::<crate::e::F>() }";
        assert_eq!(paths_of("broker/a.rs", text), ["1:crate::a::B", "1:crate::c::d", "1:crate::e::F"]);
    }

    #[test]
    fn a_test_item_can_be_left_out() {
        let text = "#[cfg(test)]\nuse std::sync::{Arc, Mutex};\nuse std::fmt::Debug;\n#[cfg(test)]\nmod tests {\n fn f() { a::b(); }\n}\nuse std::io::Read;";
        let file = SourceFile::new(PathBuf::from("mqtt/a.rs"), text.to_owned());
        let left: Vec<usize> = file.paths(Scope::WithoutTests).iter().map(|used| used.line).collect();
        assert_eq!(left, [3, 8]);
    }

    #[test]
    fn a_glob_over_a_forbidden_name_is_found() {
        let file = SourceFile::new(PathBuf::from("mqtt/a.rs"), "use std::time::*; use std::time::Duration;".to_owned());
        let found: Vec<_> =
            file.paths(Scope::WithoutTests).iter().filter_map(|used| used.impurity(&["std::time::Instant"])).collect();
        assert_eq!(found, ["std::time::Instant"]);
    }
}
