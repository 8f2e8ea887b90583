//! The files of a configuration as they were written, and what of them must never be shown.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use super::mask;
use super::nodes::line_around;
use crate::settings::Place;

/// All files of a configuration; [`Place::file`] counts them.
#[derive(Debug, Default)]
pub struct Sources {
    /// The files in the order in which they were read.
    pub files: Vec<Source>,
    /// What came from the environment and from secret files.
    pub hidden: Vec<Hidden>,
}

/// One file. `Debug` shows its path alone.
pub struct Source {
    /// Where it is, as the user named it.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// Byte ranges of secrets that are written out in it.
    pub secrets: Vec<Range<usize>>,
}

/// A value that was put in, and what was written in its stead. `Debug` shows the latter alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden {
    /// Never to be shown.
    pub value: String,
    /// `${NAME}` or `!file path`.
    pub written: String,
}

/// One line of a file, ready to be shown.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// The line with `***` for each secret.
    pub text: String,
    /// What of `text` is meant, in bytes.
    pub span: Range<usize>,
    /// The number of the line, from 1.
    pub number: usize,
    /// The column in the file as it was written, in characters from 1.
    pub column: usize,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.path).finish()
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hidden").field(&self.written).finish()
    }
}

impl Sources {
    /// `file:line:column` of a place.
    pub fn locate(&self, place: Place) -> String {
        let (Some(source), Some(line)) = (self.files.get(place.file as usize), self.line(place)) else {
            return "the configuration".into();
        };
        format!("{}:{}:{}", source.path.display(), line.number, line.column)
    }

    /// The line in which `place` begins; `None` where there is no such file.
    pub fn line(&self, place: Place) -> Option<Line> {
        let source = self.files.get(place.file as usize)?;
        let text = source.text.as_str();
        let mut start = (place.start as usize).min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let range = line_around(text, start);
        let line = text[range.clone()].trim_end();
        let end = (place.end as usize).clamp(start, range.start + line.len().max(start - range.start));

        let mut masks: Vec<Range<usize>> = source
            .secrets
            .iter()
            .map(|secret| secret.start.max(range.start)..secret.end.min(range.start + line.len()))
            .filter(|secret| secret.start < secret.end)
            .map(|secret| secret.start - range.start..secret.end - range.start)
            .chain(mask::in_urls(line))
            .collect();
        masks.sort_by_key(|mask| mask.start);

        let mut shown = String::with_capacity(line.len());
        let mut span = start - range.start..end - range.start;
        let written_span = span.clone();
        let mut written = 0;
        for mask in masks {
            if mask.start < written {
                continue;
            }
            shown.push_str(&line[written..mask.start]);
            let stars = shown.len()..shown.len() + 3;
            shown.push_str("***");
            written = mask.end;
            // Offsets behind the mask move with it; those inside go to its ends.
            let shift = |offset: usize, inside: usize| match offset {
                offset if offset <= mask.start => None,
                offset if offset < mask.end => Some(inside),
                offset => Some(stars.end + offset - mask.end),
            };
            span.start = shift(written_span.start, stars.start).unwrap_or(span.start);
            span.end = shift(written_span.end, stars.end).unwrap_or(span.end);
        }
        shown.push_str(line.get(written..).unwrap_or_default());

        let number = text[..range.start].matches('\n').count() + 1;
        let column = text[range.start..start].chars().count() + 1;
        let span = span.start.min(shown.len())..span.end.min(shown.len());
        Some(Line { text: shown, span, number, column })
    }

    /// `text` with what was put in replaced by what was written, and without passwords in URLs.
    pub fn redact(&self, text: &str) -> String {
        let mut hidden: Vec<&Hidden> = self.hidden.iter().collect();
        hidden.sort_by_key(|hidden| std::cmp::Reverse(hidden.value.len()));
        let mut text = text.to_string();
        for password in mask::in_urls(&text).into_iter().rev() {
            text.replace_range(password, "***");
        }
        for Hidden { value, written } in hidden {
            // A short value may be part of an ordinary word; in quotes it is itself.
            if value.len() >= 4 {
                text = text.replace(value, written);
            } else {
                for quote in ['`', '"', '\''] {
                    text = text.replace(&format!("{quote}{value}{quote}"), &format!("{quote}{written}{quote}"));
                }
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(text: &str, secrets: &[&str]) -> Sources {
        let range = |secret: &&str| {
            let start = text.find(*secret).unwrap();
            start..start + secret.len()
        };
        let secrets = secrets.iter().map(range).collect();
        Sources { files: vec![Source { path: "a.yaml".into(), text: text.into(), secrets }], hidden: Vec::new() }
    }

    fn shown(text: &str, secrets: &[&str], at: &str) -> (String, String, usize) {
        let start = text.find(at).unwrap();
        let place = Place { file: 0, start: start as u32, end: (start + at.len()) as u32 };
        let line = sources(text, secrets).line(place).unwrap();
        (line.text[line.span.clone()].to_string(), line.text, line.column)
    }

    #[test]
    fn secrets_are_masked_and_spans_follow() {
        let text = "a: 1\nb: { password: hunter2, qös: 5, token: abc }  \nc: 2\n";
        let line = "b: { password: ***, qös: 5, token: *** }";
        let secrets = ["hunter2", "abc"];
        assert_eq!(shown(text, &secrets, "5"), ("5".into(), line.into(), 30));
        assert_eq!(shown(text, &secrets, "hunter2"), ("***".into(), line.into(), 16));
        assert_eq!(shown(text, &secrets, "password: hunter2,"), ("password: ***,".into(), line.into(), 6));
        assert_eq!(shown(text, &secrets, "b"), ("b".into(), line.into(), 1));
        assert_eq!(shown(text, &["hunter2, qös"], "qös").0, "***");
    }

    #[test]
    fn a_place_over_several_lines_shows_the_first() {
        let text = "x: |\n  one\n  two\n";
        let (span, line, _) = shown(text, &["one\n  two"], "one\n  two");
        assert_eq!((span.as_str(), line.as_str()), ("***", "  ***"));
        let sources = sources("a", &[]);
        assert_eq!(sources.locate(Place { file: 0, start: 900, end: 901 }), "a.yaml:1:2");
        assert_eq!(sources.line(Place { file: 7, start: 0, end: 0 }), None);
    }

    #[test]
    fn what_was_put_in_is_shown_as_it_was_written() {
        let mut sources = sources("", &[]);
        sources.hidden.push(Hidden { value: "hunter2".into(), written: "${PASSWORD}".into() });
        sources.hidden.push(Hidden { value: "a".into(), written: "${SHORT}".into() });
        assert_eq!(sources.redact("`hunter2` and `a` are alike"), "`${PASSWORD}` and `${SHORT}` are alike");
    }
}
