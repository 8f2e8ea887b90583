//! `${NAME}`, `${NAME:-default}` and `!file path` in the values of a file.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::nodes::{Content, Node, Scalar, Style};
use super::sources::Hidden;
use crate::settings::{Mistake, Place};

/// The longest value that a variable or a file may bring, in bytes.
const MAX_VALUE: usize = 64 * 1024;

/// The longest all of them together, in bytes: aliases may repeat them.
const MAX_TOTAL: usize = 16 * 1024 * 1024;

/// What a configuration takes from around it.
pub struct Environment<'a> {
    /// The value of an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The default of `gateway.name`.
    pub host_name: String,
}

impl Environment<'static> {
    /// The environment of this process and the name of this machine.
    pub fn process() -> Self {
        let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host_name = if host_name.trim().is_empty() { "edgeway" } else { host_name.trim() };
        Self { variable: &|name| std::env::var(name).ok(), host_name: host_name.into() }
    }
}

/// Puts in what stands behind every `${}` and `!file` in the values of `root`.
pub struct Expander<'a> {
    /// Where variables come from.
    pub environment: &'a Environment<'a>,
    /// The text of the file.
    pub text: &'a str,
    /// The folder of the file: `!file` is relative to it.
    pub folder: &'a Path,
    /// What was put in, so that no diagnostic shows it.
    pub hidden: &'a mut Vec<Hidden>,
    /// What went wrong.
    pub mistakes: &'a mut Vec<Mistake>,
    /// Bytes put in so far.
    pub total: usize,
}

impl Expander<'_> {
    /// Expands `node` and everything in it.
    pub fn expand(&mut self, node: &mut Node) {
        let place = node.place;
        match &mut node.content {
            Content::Sequence(items) => items.iter_mut().for_each(|item| self.expand(item)),
            Content::Mapping(entries) => {
                for (key, value) in entries {
                    if key.text().is_some_and(|key| key.contains("${")) {
                        self.report(Mistake::new(key.place, "a key is not taken from the environment"));
                    }
                    self.expand(value);
                }
            }
            Content::Scalar(scalar) => {
                let expanded = (!scalar.text.contains("${") || self.variables(scalar, place))
                    && (!scalar.is_file || self.file(scalar, place));
                if !expanded {
                    node.content = Content::Mistaken;
                }
            }
            Content::Mistaken => {}
        }
    }

    /// Puts the variables in; `false` where that was a mistake.
    fn variables(&mut self, scalar: &mut Scalar, place: Place) -> bool {
        let mut out = String::new();
        let mut rest = scalar.text.as_str();
        while let Some(at) = rest.find("${") {
            out.push_str(&rest[..at]);
            let Some(length) = rest[at..].find('}') else {
                self.report(Mistake::new(place, "a `${` without its `}`"));
                return false;
            };
            let written = &rest[at..=at + length];
            rest = &rest[at + length + 1..];
            let inner = &written[2..written.len() - 1];
            let (name, default) = match inner.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (inner, None),
            };
            let here = self.place_of(written, place);
            if !is_variable_name(name) {
                let mistake = Mistake::new(here, format!("`{written}` names no variable"));
                self.report(mistake.help("write ${NAME}, or ${NAME:-default}"));
                return false;
            }
            match ((self.environment.variable)(name).filter(|value| default.is_none() || !value.is_empty()), default) {
                (Some(value), _) => {
                    if !self.take(value.len(), here) {
                        return false;
                    }
                    out.push_str(&value);
                    self.hide(value, written);
                }
                (None, Some(default)) => out.push_str(default),
                (None, None) => {
                    let mistake = Mistake::new(here, format!("the environment variable `{name}` is not set"));
                    self.report(mistake.help(format!("set it, or give a default: ${{{name}:-...}}")));
                    return false;
                }
            }
        }
        out.push_str(rest);
        scalar.text = out;
        if scalar.style == Style::Plain {
            scalar.style = Style::Expanded;
        }
        true
    }

    /// Puts the file in; `false` where that was a mistake.
    fn file(&mut self, scalar: &mut Scalar, place: Place) -> bool {
        let path = self.folder.join(&scalar.text);
        let text = match read_value(&path) {
            Ok(text) => text,
            Err(reason) => {
                self.report(Mistake::new(place, format!("cannot read {}: {reason}", path.display())));
                return false;
            }
        };
        let value = text.trim_end_matches(['\n', '\r']);
        if !self.take(value.len(), place) {
            return false;
        }
        self.hide(value.into(), &format!("!file {}", scalar.text));
        scalar.text = value.into();
        true
    }

    fn take(&mut self, length: usize, place: Place) -> bool {
        self.total += length;
        let fits = length <= MAX_VALUE && self.total <= MAX_TOTAL;
        if !fits {
            self.report(Mistake::new(place, format!("a value of more than {} KB", MAX_VALUE / 1024)));
        }
        fits
    }

    fn hide(&mut self, value: String, written: &str) {
        let hidden = Hidden { value, written: written.into() };
        if !hidden.value.is_empty() && !self.hidden.contains(&hidden) {
            self.hidden.push(hidden);
        }
    }

    /// The place of `written` in the text of its scalar, as far as it stands there literally.
    fn place_of(&self, written: &str, place: Place) -> Place {
        let start = place.start as usize;
        match self.text[start..place.end as usize].find(written) {
            Some(at) => Place { start: (start + at) as u32, end: (start + at + written.len()) as u32, ..place },
            None => place,
        }
    }

    fn report(&mut self, mistake: Mistake) {
        if self.mistakes.len() < 100 && !self.mistakes.contains(&mistake) {
            self.mistakes.push(mistake);
        }
    }
}

fn is_variable_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn read_value(path: &PathBuf) -> Result<String, String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("this is no file".into());
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_VALUE as u64 + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() > MAX_VALUE {
        return Err(format!("it is longer than {} KB", MAX_VALUE / 1024));
    }
    String::from_utf8(bytes).map_err(|_| "it is no text (UTF-8)".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::nodes::{Value, parse};

    fn expand(text: &str, folder: &Path) -> (Node, Vec<Mistake>, Vec<Hidden>) {
        let (mut mistakes, mut hidden) = (Vec::new(), Vec::new());
        let mut node = parse(text, 0, &mut 0, &mut mistakes).root.unwrap();
        let environment = Environment {
            variable: &|name| match name {
                "PORT" => Some("1884".into()),
                "PASSWORD" => Some("null".into()),
                "EMPTY" => Some(String::new()),
                _ => None,
            },
            host_name: "edge-01".into(),
        };
        let mut expander = Expander {
            environment: &environment,
            text,
            folder,
            hidden: &mut hidden,
            mistakes: &mut mistakes,
            total: 0,
        };
        expander.expand(&mut node);
        (node, mistakes, hidden)
    }

    #[test]
    fn variables_and_defaults_are_put_in() {
        for (written, expected) in [
            ("${PORT}", Value::Integer(1884)),
            ("'${PORT}'", Value::Text("1884")),
            ("mqtt://a:${PORT}", Value::Text("mqtt://a:1884")),
            ("${PASSWORD}", Value::Text("null")),
            ("${NONE:-7}", Value::Integer(7)),
            ("${NONE:-}", Value::Text("")),
            ("${EMPTY:-x}", Value::Text("x")),
            ("x${EMPTY}y", Value::Text("xy")),
            ("$argon2id$v", Value::Text("$argon2id$v")),
        ] {
            let text = format!("key: {written}\n");
            let (node, mistakes, _) = expand(&text, Path::new("/"));
            assert_eq!(mistakes, [], "{written}");
            match &node.child("key").unwrap().content {
                Content::Scalar(scalar) => assert_eq!(scalar.value(), expected, "{written}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn an_unset_variable_is_a_mistake_where_it_stands() {
        let text = "key: \"a/${NONE}/b\"\n";
        let (_, mistakes, _) = expand(text, Path::new("/"));
        assert_eq!(mistakes[0].message, "the environment variable `NONE` is not set");
        assert_eq!(&text[mistakes[0].place.start as usize..mistakes[0].place.end as usize], "${NONE}");
        for wrong in ["${", "${}", "${a b}", "${1}"] {
            assert_eq!(expand(&format!("key: '{wrong}'\n"), Path::new("/")).1.len(), 1, "{wrong}");
        }
    }

    #[test]
    fn a_file_brings_its_text_without_the_last_line_break() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("password"), "12345\n").unwrap();
        let (node, mistakes, hidden) = expand("key: !file password\n", folder.path());
        assert_eq!(mistakes, []);
        let Content::Scalar(scalar) = &node.child("key").unwrap().content else { panic!("a scalar") };
        assert_eq!(scalar.value(), Value::Text("12345"));
        assert_eq!(hidden, [Hidden { value: "12345".into(), written: "!file password".into() }]);
        let (_, mistakes, _) = expand("key: !file nothing\n", folder.path());
        assert!(mistakes[0].message.contains("cannot read"), "{mistakes:?}");
        assert_eq!(expand("key: !file .\n", folder.path()).1.len(), 1);
    }
}
