//! Where secrets stand in a file, so that a diagnostic never shows them.

use std::ops::Range;

use super::nodes::{Content, Node, line_around};

const WORDS: [&str; 7] = ["password", "passphrase", "token", "secret", "bearer", "authorization", "key"];

/// Whether what stands under `key` may be a secret. Misspelt keys count too: their line is shown for that very reason.
pub fn is_secret_key(key: &str) -> bool {
    let key = key.to_lowercase();
    let last = key.rsplit(['_', '-', '.', ' ']).next().unwrap_or_default();
    WORDS.iter().any(|word| {
        let slips = if word.len() > 5 { 2 } else { usize::from(word.len() > 3) };
        [key.as_str(), last]
            .into_iter()
            .any(|key| key.len() <= word.len() + slips && strsim::osa_distance(key, word) <= slips)
    })
}

/// Adds the ranges of all scalars in `node`, the value of a secret key, to `ranges`; `text` is the file's.
///
/// `${NAME}` and `!file path` may be seen; a default (`${NAME:-...}`) may not.
pub fn add_values(node: &Node, text: &str, ranges: &mut Vec<Range<usize>>) {
    match &node.content {
        Content::Scalar(_) => {
            let range = node.place.start as usize..node.place.end as usize;
            if !is_reference(&text[range.clone()]) {
                ranges.push(range);
            }
        }
        Content::Mistaken => {}
        Content::Sequence(items) => items.iter().for_each(|item| add_values(item, text, ranges)),
        Content::Mapping(entries) => entries.iter().for_each(|(_, value)| add_values(value, text, ranges)),
    }
}

/// The ranges of secrets in the line at `at` of a file that is no YAML from there on, by its look.
pub fn guess_in_line(text: &str, at: usize) -> Option<Range<usize>> {
    let line = line_around(text, at);
    if let Some(range) = guess_by_key(text, line.clone()) {
        return Some(range);
    }
    // Without any key it may go on with the secret of a line above, such as a private key in PEM.
    let mut above = line.clone();
    while above.start > 0 && !has_key(&text[above.clone()]) {
        above = line_around(text, above.start - 1);
        if guess_by_key(text, above.clone()).is_some() {
            return Some(line);
        }
    }
    None
}

/// The ranges of passwords in URLs (`://user:password@host`) in `line`.
pub fn in_urls(line: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut from = 0;
    while let Some(at) = line[from..].find("://") {
        let start = from + at + 3;
        let end = start + line[start..].find(['/', ' ', '"', '\'', ',']).unwrap_or(line.len() - start);
        if let Some(user_end) = line[start..end].rfind('@')
            && let Some(colon) = line[start..start + user_end].find(':')
        {
            let password = start + colon + 1..start + user_end;
            if !is_reference(&line[password.clone()]) {
                ranges.push(password);
            }
        }
        from = end;
    }
    ranges
}

/// Everything behind the first secret key of the line.
fn guess_by_key(text: &str, line: Range<usize>) -> Option<Range<usize>> {
    let mut from = line.start;
    while let Some(colon) = text[from..line.end].find(':') {
        let key_end = from + colon;
        let before = text[line.start..key_end].trim_end_matches(['"', '\'', ' ']);
        let key = before.rsplit(['{', ',', ' ', '"', '\'', '\t']).next().unwrap_or_default();
        if is_secret_key(key) {
            let value = &text[key_end + 1..line.end];
            let start = key_end + 1 + (value.len() - value.trim_start().len());
            let end = line.start + text[line].trim_end().len();
            return Some(start.min(end)..end);
        }
        from = key_end + 1;
    }
    None
}

fn has_key(line: &str) -> bool {
    line.contains(": ") || line.trim_end().ends_with(':')
}

/// `${NAME}`, or `!file path`, and nothing else.
fn is_reference(written: &str) -> bool {
    let written = written.trim().trim_matches(['"', '\'']);
    let variable = written.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    written.starts_with("!file ")
        || variable.is_some_and(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_keys_are_known_even_misspelt() {
        for key in ["password", "pasword", "Password", "passwort", "token", "tokn", "api_key", "X-Key", "client_secret"]
        {
            assert!(is_secret_key(key), "{key}");
        }
        for key in ["topic", "name", "url", "payload", "keep_alive", "monkey", "qos", "format", "from", "to"] {
            assert!(!is_secret_key(key), "{key}");
        }
    }

    #[test]
    fn a_line_that_is_no_yaml_is_masked_by_its_look() {
        let text = "a: 1\ntls:\n  key: |\n  -----BEGIN\nMIIEvQ\nx: { password: \"hunter\nplain: x: y\n";
        let guess = |needle: &str| guess_in_line(text, text.find(needle).unwrap()).map(|range| &text[range]);
        assert_eq!(guess("MIIE"), Some("MIIEvQ"));
        assert_eq!(guess("hunter"), Some("\"hunter"));
        assert_eq!(guess("plain"), None);
    }

    #[test]
    fn passwords_in_urls_are_found() {
        let line = "url: [mqtt://edge:hunter2@a:1883, \"mqtt://x:${PW}@b\", http://c:80/x@y]";
        let found: Vec<_> = in_urls(line).into_iter().map(|range| &line[range]).collect();
        assert_eq!(found, ["hunter2"]);
    }
}
