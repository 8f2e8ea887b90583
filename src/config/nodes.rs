//! A YAML file as a tree of nodes that know where they stand.
//!
//! Anchors, aliases and `<<` work; every bound ([`MAX_DEPTH`], [`MAX_NODES`]) is a mistake when it is passed, so that
//! a hostile file costs little. A key that stands twice in one mapping is a mistake that names both places.

use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput, Tag};

use super::mask;
use crate::settings::{Mistake, Place};

/// How deep lists and mappings may stand in each other.
pub const MAX_DEPTH: usize = 64;

/// How many nodes a file may have, those that aliases repeat included.
pub const MAX_NODES: usize = 200_000;

/// A value of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Names the node in the whole configuration; what an alias repeats keeps the id of its anchor.
    pub id: u32,
    /// Where it stands. A value that is not written (`key:`) stands at its key.
    pub place: Place,
    /// What it holds.
    pub content: Content,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A single value.
    Scalar(Scalar),
    /// A list.
    Sequence(Vec<Node>),
    /// Keys and values in the order of the file. Every key is a scalar and stands once.
    Mapping(Vec<(Node, Node)>),
    /// What stood here was a mistake that is said already: as if the key were not there, but nobody misses it.
    Mistaken,
}

/// A single value before anybody asked for its type.
#[derive(Debug, Clone, PartialEq)]
pub struct Scalar {
    /// The text without quotes and escapes.
    pub text: String,
    /// Whether it may be a number, a truth value or nothing, or is text in any case.
    pub style: Style,
    /// Whether `!file` stands before it.
    pub is_file: bool,
}

/// How a scalar was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Without quotes: numbers, `true`, `false` and nothing are what they look like.
    Plain,
    /// Without quotes, and (partly) from the environment: like `Plain`, but never nothing.
    Expanded,
    /// In quotes, as a block, or from a file: always text.
    Text,
}

/// What a scalar is by the core schema of YAML 1.2 (section 10.3.2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number, decimal, `0x` or `0o`.
    Integer(i128),
    /// Any other number.
    Float(f64),
    /// Everything else.
    Text(&'a str),
}

impl Scalar {
    /// The value by its look.
    pub fn value(&self) -> Value<'_> {
        let text = self.text.as_str();
        match (self.style, text) {
            (Style::Text, _) => Value::Text(text),
            (Style::Plain, "" | "~" | "null" | "Null" | "NULL") => Value::Null,
            (_, "true" | "True" | "TRUE") => Value::Bool(true),
            (_, "false" | "False" | "FALSE") => Value::Bool(false),
            _ => match (integer(text), float(text)) {
                (Some(number), _) => Value::Integer(number),
                (None, Some(number)) => Value::Float(number),
                (None, None) => Value::Text(text),
            },
        }
    }
}

impl Node {
    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(scalar) => Some(&scalar.text),
            Content::Sequence(_) | Content::Mapping(_) | Content::Mistaken => None,
        }
    }

    /// Whether nothing stands here: `key:` without a value.
    pub fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar(scalar) if scalar.value() == Value::Null)
    }

    /// The entries of a mapping; none for anything else.
    pub fn entries(&self) -> &[(Node, Node)] {
        match &self.content {
            Content::Mapping(entries) => entries,
            Content::Scalar(_) | Content::Sequence(_) | Content::Mistaken => &[],
        }
    }

    /// The value of `key` in a mapping.
    pub fn child(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(name, _)| name.text() == Some(key)).map(|(_, value)| value)
    }

    fn count(&self) -> usize {
        1 + match &self.content {
            Content::Scalar(_) | Content::Mistaken => 0,
            Content::Sequence(items) => items.iter().map(Self::count).sum(),
            Content::Mapping(entries) => entries.iter().map(|(key, value)| key.count() + value.count()).sum(),
        }
    }
}

/// A file that was read.
#[derive(Debug)]
pub struct Parsed {
    /// The whole; `None` where there is no tree at all.
    pub root: Option<Node>,
    /// Byte ranges of the values of keys that hold secrets: no diagnostic shows them.
    pub secrets: Vec<Range<usize>>,
}

/// Reads `text`, the file number `file`. Ids start at `next_id`, which is moved on.
///
/// What is wrong goes to `mistakes`. An empty file is an empty mapping.
pub fn parse(text: &str, file: u32, next_id: &mut u32, mistakes: &mut Vec<Mistake>) -> Parsed {
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        text,
        byte_offsets: byte_offsets(text),
        file,
        next_id,
        anchors: HashMap::new(),
        nodes: 0,
        secrets: Vec::new(),
        mistakes,
    };
    match reader.document() {
        Ok(root) => Parsed { root: Some(root), secrets: reader.secrets },
        Err(Stop(mistake)) => {
            let mut secrets = reader.secrets;
            secrets.extend(mask::guess_in_line(text, mistake.place.start as usize));
            mistakes.push(mistake);
            Parsed { root: None, secrets }
        }
    }
}

struct Reader<'a, 'm> {
    parser: Parser<'a, StrInput<'a>>,
    text: &'a str,
    /// Byte offset of each character; `None` where they are the same.
    byte_offsets: Option<Vec<u32>>,
    file: u32,
    next_id: &'m mut u32,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    secrets: Vec<Range<usize>>,
    mistakes: &'m mut Vec<Mistake>,
}

/// The mistake behind which nothing more can be read.
struct Stop(Mistake);

impl<'a> Reader<'a, '_> {
    fn document(&mut self) -> Result<Node, Stop> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
                Event::DocumentStart(_) if root.is_some() => {
                    let mistake = Mistake::new(self.place(span), "a second document begins here");
                    return Err(Stop(mistake.help("one file holds one document; remove the `---`")));
                }
                Event::DocumentStart(_) => {}
                Event::StreamEnd => break,
                event => root = Some(self.node(event, span, 0)?),
            }
        }
        Ok(root.unwrap_or_else(|| self.make(Place { file: self.file, start: 0, end: 0 }, Content::Mapping(Vec::new()))))
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Stop> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let start = self.offset(*error.marker());
                let place = Place { file: self.file, start, end: start };
                let mistake = Mistake::new(place, format!("this is no YAML: {}", error.info()));
                Err(Stop(match self.syntax_help(start as usize) {
                    Some(help) => mistake.help(help),
                    None => mistake,
                }))
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    /// The slips of the pen behind most syntax errors.
    fn syntax_help(&self, at: usize) -> Option<&'static str> {
        let line = &self.text[line_around(self.text, at)];
        let value = line.split_once(": ").map_or("", |(_, value)| value.trim_start());
        let is_template = value.starts_with('{') && value.contains('}') && !value.contains(':');
        if line.trim_start_matches(' ').starts_with('\t') {
            Some("indent by spaces, not by tabs")
        } else if is_template || self.text[..at].ends_with('}') {
            Some("put a text that begins with `{` in quotes: \"{gateway}/...\"")
        } else if value.starts_with(['@', '`', '%', '*', '&', '!', '#', '+']) || value.contains(": ") {
            Some("put a text with special characters in quotes")
        } else if self.text[..at].rsplit('\n').next().is_some_and(|before| before.trim_matches([' ', '-']).is_empty()) {
            Some("keys of one map, and items of one list, stand in one column: see the lines above")
        } else {
            None
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Stop> {
        let place = self.place(span);
        if depth > MAX_DEPTH {
            return Err(Stop(Mistake::new(place, format!("more than {MAX_DEPTH} levels deep"))));
        }
        self.charge(1, place)?;
        let (node, anchor) = match event {
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(Stop(Mistake::new(place, "an alias inside its own anchor")));
                };
                self.charge(node.count(), place)?;
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, tag) => {
                let style = if style == ScalarStyle::Plain { Style::Plain } else { Style::Text };
                let mut scalar = Scalar { text: text.into_owned(), style, is_file: false };
                self.apply_tag(&mut scalar, tag.as_deref(), place);
                (self.make(place, Content::Scalar(scalar)), anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.as_deref(), place);
                let mut items = Vec::new();
                let end = loop {
                    let (event, span) = self.next()?;
                    if matches!(event, Event::SequenceEnd | Event::StreamEnd) {
                        break self.offset(span.end);
                    }
                    items.push(self.node(event, span, depth + 1)?);
                };
                (self.make(self.trimmed(place.start, end), Content::Sequence(items)), anchor)
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.as_deref(), place);
                let (entries, end) = self.mapping(depth)?;
                (self.make(self.trimmed(place.start, end), Content::Mapping(entries)), anchor)
            }
            // The parser pairs starts and ends, so nothing else stands where a node is due.
            _ => return Err(Stop(Mistake::new(place, "this is no YAML"))),
        };
        if anchor != 0 {
            self.charge(node.count(), place)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn mapping(&mut self, depth: usize) -> Result<(Vec<(Node, Node)>, u32), Stop> {
        let mut entries: Vec<(Node, Node)> = Vec::new();
        let mut first: HashMap<String, Place> = HashMap::new();
        let mut merged = Vec::new();
        let end = loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd | Event::StreamEnd) {
                break self.offset(span.end);
            }
            let key = self.node(event, span, depth + 1)?;
            let (event, span) = self.next()?;
            let mut value = self.node(event, span, depth + 1)?;
            if value.place.start == value.place.end {
                value.place = key.place;
            }
            let Some(name) = key.text() else {
                self.mistakes.push(Mistake::new(key.place, "a key is a word, not a list or a map"));
                continue;
            };
            if mask::is_secret_key(name) {
                mask::add_values(&value, self.text, &mut self.secrets);
            }
            if name == "<<" {
                merged.push(value);
            } else if let Some(place) = first.get(name) {
                let mistake = Mistake::new(key.place, format!("`{name}` stands here a second time"));
                self.mistakes.push(mistake.related(*place, "first here"));
            } else {
                first.insert(name.into(), key.place);
                entries.push((key, value));
            }
        };
        for source in merged {
            let sources = match source.content {
                Content::Sequence(items) => items,
                _ => vec![source],
            };
            for source in sources {
                let Content::Mapping(inherited) = source.content else {
                    self.mistakes.push(Mistake::new(source.place, "`<<` takes a map, or a list of maps"));
                    continue;
                };
                for (key, value) in inherited {
                    // What is written out wins over what is merged, and the first of several over the later ones.
                    let name = key.text().unwrap_or_default();
                    if !first.contains_key(name) {
                        first.insert(name.into(), key.place);
                        entries.push((key, value));
                    }
                }
            }
        }
        Ok((entries, end))
    }

    fn apply_tag(&mut self, scalar: &mut Scalar, tag: Option<&Tag>, place: Place) {
        match tag {
            Some(tag) if tag.handle == "!" && tag.suffix == "file" => {
                scalar.is_file = true;
                scalar.style = Style::Text;
            }
            // A lone `!` and `!!str` make a text of what looks like a number.
            Some(tag) if tag.handle == "!" && tag.suffix.is_empty() => scalar.style = Style::Text,
            Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => scalar.style = Style::Text,
            tag => self.refuse_tag(tag, place),
        }
    }

    fn refuse_tag(&mut self, tag: Option<&Tag>, place: Place) {
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema()) {
            let mistake = Mistake::new(place, format!("unknown tag `{tag}`"));
            self.mistakes.push(mistake.help("`!file path` reads a value from a file; there are no other tags"));
        }
    }

    fn charge(&mut self, nodes: usize, place: Place) -> Result<(), Stop> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(Stop(Mistake::new(place, format!("more than {MAX_NODES} values in one file"))));
        }
        Ok(())
    }

    fn make(&mut self, place: Place, content: Content) -> Node {
        let id = *self.next_id;
        *self.next_id += 1;
        Node { id, place, content }
    }

    fn place(&self, span: Span) -> Place {
        self.trimmed(self.offset(span.start), self.offset(span.end))
    }

    /// The parser's ends may include line breaks and spaces behind what they end.
    fn trimmed(&self, start: u32, end: u32) -> Place {
        let length = self.text[start as usize..end.max(start) as usize].trim_end().len();
        Place { file: self.file, start, end: start + length as u32 }
    }

    fn offset(&self, marker: Marker) -> u32 {
        let offset = match &self.byte_offsets {
            None => marker.index() as u32,
            Some(offsets) => offsets.get(marker.index()).copied().unwrap_or(u32::MAX),
        };
        let mut offset = (offset as usize).min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset as u32
    }
}

/// The line of `text` that has the byte `at`, without its line break.
pub fn line_around(text: &str, at: usize) -> Range<usize> {
    let at = at.min(text.len());
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
    start..end.max(start)
}

fn byte_offsets(text: &str) -> Option<Vec<u32>> {
    (!text.is_ascii())
        .then(|| text.char_indices().map(|(offset, _)| offset as u32).chain([text.len() as u32]).collect())
}

fn integer(text: &str) -> Option<i128> {
    let digits = |text: &str, radix| {
        let plain = !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
        plain.then(|| i128::from_str_radix(text, radix).ok()).flatten()
    };
    if let Some(hex) = text.strip_prefix("0x") {
        digits(hex, 16)
    } else if let Some(octal) = text.strip_prefix("0o") {
        digits(octal, 8)
    } else if let Some(negative) = text.strip_prefix('-') {
        digits(negative, 10).map(|number| -number)
    } else {
        digits(text.strip_prefix('+').unwrap_or(text), 10)
    }
}

fn float(text: &str) -> Option<f64> {
    match text.trim_start_matches(['-', '+']) {
        ".inf" | ".Inf" | ".INF" => Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY }),
        ".nan" | ".NaN" | ".NAN" => Some(f64::NAN),
        // `parse` also takes words such as `inf` and `infinity`, which are text in YAML.
        digits if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> (Option<Node>, Vec<Mistake>) {
        let mut mistakes = Vec::new();
        let node = parse(text, 0, &mut 0, &mut mistakes).root;
        (node, mistakes)
    }

    fn value_of(written: &str) -> String {
        let text = format!("key: {written}\n");
        let (node, mistakes) = read(&text);
        assert_eq!(mistakes, [], "{written}");
        match &node.unwrap().child("key").unwrap().content {
            Content::Scalar(scalar) => format!("{:?}", scalar.value()),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn scalars_are_what_they_look_like() {
        for (written, expected) in [
            ("0x1F", "Integer(31)"),
            ("0o17", "Integer(15)"),
            ("-5", "Integer(-5)"),
            ("007", "Integer(7)"),
            ("18446744073709551615", "Integer(18446744073709551615)"),
            ("1.5e3", "Float(1500.0)"),
            ("-.inf", "Float(-inf)"),
            ("true", "Bool(true)"),
            ("off", "Text(\"off\")"),
            ("inf", "Text(\"inf\")"),
            ("3.1.1", "Text(\"3.1.1\")"),
            ("5s", "Text(\"5s\")"),
            ("0x", "Text(\"0x\")"),
            ("\"5\"", "Text(\"5\")"),
            ("'true'", "Text(\"true\")"),
            ("!!str 5", "Text(\"5\")"),
            ("~", "Null"),
            ("", "Null"),
        ] {
            assert_eq!(value_of(written), expected, "{written}");
        }
    }

    #[test]
    fn places_are_those_of_the_text() {
        let text = "# grün\nä: b # c\r\nlist: [x, 'ü y']\nempty:\nmap:\n  k: v\n";
        let root = read(text).0.unwrap();
        let slice = |place: Place| &text[place.start as usize..place.end as usize];
        let shown: Vec<_> = root.entries().iter().map(|(k, v)| (slice(k.place), slice(v.place))).collect();
        assert_eq!(
            shown,
            [("ä", "b"), ("list", "[x, 'ü y']"), ("empty", "empty"), ("map", "k: v")],
            "an empty value stands at its key"
        );
    }

    #[test]
    fn a_key_twice_names_both_places() {
        let (node, mistakes) = read("a: 1\nb: 2\na: 3\n");
        assert_eq!(node.unwrap().entries().len(), 2);
        assert_eq!(mistakes.len(), 1);
        assert_eq!(mistakes[0].message, "`a` stands here a second time");
        assert_eq!(mistakes[0].place.start, 10);
        assert_eq!(mistakes[0].related.as_ref().unwrap().0.start, 0);
    }

    #[test]
    fn aliases_and_merges_repeat_their_anchor() {
        let (node, mistakes) = read("base: &b { x: 1, y: 2 }\nuse: { <<: *b, y: 3 }\nsame: *b\n");
        assert_eq!(mistakes, []);
        let node = node.unwrap();
        let merged = node.child("use").unwrap();
        assert_eq!(merged.child("x").unwrap().text(), Some("1"));
        assert_eq!(merged.child("y").unwrap().text(), Some("3"));
        assert_eq!(merged.entries().len(), 2);
        assert_eq!(node.child("same"), node.child("base"));
    }

    #[test]
    fn a_bomb_of_aliases_is_cut() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        let (node, mistakes) = read(&text);
        assert!(node.is_none());
        assert_eq!(mistakes[0].message, "more than 200000 values in one file");
        let (_, mistakes) = read("a: &a [*a]\n");
        assert_eq!(mistakes[0].message, "an alias inside its own anchor");
        let (_, mistakes) = read(&format!("{}{}", "[".repeat(200), "]".repeat(200)));
        assert_eq!(mistakes[0].message, "more than 64 levels deep");
    }

    #[test]
    fn what_is_no_yaml_is_said_with_the_usual_reason() {
        for (text, help) in [
            ("a:\n\tb: c\n", "indent by spaces, not by tabs"),
            ("a: {gateway}/x\n", "put a text that begins with `{` in quotes: \"{gateway}/...\""),
            ("a: { b: {gateway}/x }\n", "put a text that begins with `{` in quotes: \"{gateway}/...\""),
            (
                "a:\n    - b: c\n      d: e\n   - f\n",
                "keys of one map, and items of one list, stand in one column: see the lines above",
            ),
            ("a: *x\n", "put a text with special characters in quotes"),
        ] {
            let (_, mistakes) = read(text);
            assert_eq!(mistakes.last().and_then(|mistake| mistake.help.as_deref()), Some(help), "{text}");
        }
        assert!(read("a: 1\n---\nb: 2\n").1[0].message.contains("second document"));
        assert!(read("a: !env X\n").1[0].message.contains("unknown tag `!env`"));
    }

    #[test]
    fn an_empty_file_is_an_empty_mapping() {
        for text in ["", "# only a comment\n", "---\n", "\n\n"] {
            let (node, mistakes) = read(text);
            assert_eq!(mistakes, []);
            let node = node.unwrap();
            assert!(node.entries().is_empty() && (node.is_null() || node.content == Content::Mapping(Vec::new())));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,60}|[-:?{}\\[\\],&*!|>'\"%@# \\n\\tab0é~]{0,80}") {
            read(&text);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            read(&String::from_utf8_lossy(&bytes));
        }
    }
}
